"""Who is measured, how it is installed, and how its worker is asked. Adding a peer is adding one
entry and a worker."""

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ferlab import files
from ferlab.data.classes import CLASSES
from ferlab.data.readers.spellings import CLASS_OF

HERE = Path(__file__).parent
INSTALLED = Path(".ferlab/peers")  # a folder each; never committed


@dataclass(frozen=True)
class Peer:
    """One package. pinned: what decides its answers, a file: the lock, or our model itself."""

    name: str
    title: str
    pinned: Path
    is_node: bool = False

    @property
    def folder(self):
        """Where it is installed, absolute."""
        return files.root() / INSTALLED / self.name

    @property
    def installed(self):
        return (self.folder / "complete").exists()

    @property
    def digest(self):
        """sha256 of what decides its answers: they are asked for anew where it has changed."""
        return files.sha256(self.pinned)

    def packages(self):
        """The folder of its packages."""
        if self.is_node:
            return self.folder / "node_modules"
        return next((self.folder / "lib").glob("python*/site-packages"))


PEERS = (
    Peer("ferlab", "ours, released model (ONNX)", files.root() / "pretrained/model.onnx"),
    Peer("fer", "fer 25.10 (PyPI)", HERE / "fer/requirements.txt"),
    Peer("face-api", "@vladmandic/face-api 1.7.15", HERE / "face-api/package-lock.json", True),
    Peer("human", "@vladmandic/human 3.3.6", HERE / "human/package-lock.json", True),
)
OURS = PEERS[0]
NAMES = tuple(peer.name for peer in PEERS)


def named_peer(name):
    """The Peer of a name on the command line."""
    if name not in NAMES:
        raise argparse.ArgumentTypeError(f"{name}: unknown; known are {', '.join(NAMES)}")
    return PEERS[NAMES.index(name)]


def install(peer):
    """Install a peer's pinned packages into its folder. Raises UserError where that fails."""
    if peer.is_node and not shutil.which("npm"):
        raise files.UserError(f"{peer.name}: npm is not installed; it fetches the packages")
    if peer.name == "fer" and sys.version_info >= (3, 13):
        raise files.UserError("fer: its packages are for Python 3.11 and 3.12; use one of these")
    shutil.rmtree(peer.folder, ignore_errors=True)
    peer.folder.mkdir(parents=True)
    if peer.is_node:
        for name in ("package.json", "package-lock.json"):
            shutil.copy(HERE / peer.name / name, peer.folder)
        commands = [["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--silent"]]
    else:
        light = files.root() / "requirements-predict.txt"
        wanted = light if peer is OURS else peer.pinned
        pip = [str(peer.folder / "bin/python"), "-m", "pip", "install", "--quiet", "--no-compile"]
        pip += ["--require-hashes", "-r", str(wanted)]
        commands = [[sys.executable, "-m", "venv", str(peer.folder)], pip]
    for command in commands:
        done = subprocess.run(command, cwd=peer.folder, stderr=subprocess.PIPE, text=True)
        if done.returncode:
            reason = files.one_line(done.stderr.strip()[-300:], 300)
            raise files.UserError(f"{peer.name}: {' '.join(command[:3])} failed: {reason}")
    (peer.folder / "complete").touch()


def megabytes(peer):
    """What its packages take on disk, in MB: without pip, bytecode, and Python or Node itself; of
    ours with this project's own library and the model."""
    tops = [top for top in peer.packages().iterdir() if not re.match("pip(-|$)", top.name)]
    if peer is OURS:
        tops += [files.root() / "ferlab", peer.pinned]
    found = [path for top in tops for path in ([top] if top.is_file() else top.rglob("*"))]
    kept = [path for path in found if path.suffix != ".pyc" and not path.is_symlink()]
    return sum(path.stat().st_size for path in kept if path.is_file()) / 1e6


def ask(peer, kind, pixels):
    """What a worker writes of `faces`, uint8 (N, 48, 48), or of a `photo`, uint8 (S, S, 3): a dict,
    see fer/worker.py. Raises UserError where it fails."""
    if peer.is_node and not shutil.which("node"):
        raise files.UserError(f"{peer.name}: node is not installed; it runs the packages")
    with tempfile.TemporaryDirectory() as temporary:
        given, out = Path(temporary, "pixels"), Path(temporary, "out.json")
        np.ascontiguousarray(pixels).tofile(given)
        worker = HERE / peer.name / ("worker.js" if peer.is_node else "worker.py")
        program = "node" if peer.is_node else str(peer.folder / "bin/python")
        places = {"NODE_PATH": str(peer.folder / "node_modules"), "PYTHONPATH": ""}
        if peer is OURS:
            places["PYTHONPATH"] = str(files.root())
        done = subprocess.run(
            [program, str(worker), kind, str(given), str(out)],
            cwd=files.root(),
            env=os.environ | places | {"TF_CPP_MIN_LOG_LEVEL": "3"},
            capture_output=True,
            text=True,
        )
        if done.returncode or not out.exists():
            reason = files.one_line(done.stderr.strip()[-300:], 300)
            raise files.UserError(f"{peer.name}: its worker failed: {reason}")
        return json.loads(out.read_text())


def named(made):
    """Names of CLASSES, object (N,), of what a worker wrote of faces: the first of the highest."""
    names = np.array([CLASS_OF[label] for label in made["labels"]], object)
    return names[np.argmax(made["scores"], axis=1)]


def packed(names):
    """Answers as one text: for each the digit of its class in CLASSES."""
    return "".join(str(CLASSES.index(name)) for name in names)


def unpacked(digits):
    """The names, object (N,), of such a text."""
    return np.array(CLASSES, object)[[int(digit) for digit in digits]]


def identity(faces, labels):
    """sha256 of a set of faces with its labels, in this order."""
    content = np.ascontiguousarray(faces).tobytes() + ",".join(labels).encode()
    return hashlib.sha256(content).hexdigest()
