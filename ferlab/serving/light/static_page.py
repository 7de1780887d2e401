"""`python -m ferlab demo-static`: the page as a folder of files that any web server serves, which
finds faces and runs the released network in the browser; pictures leave it for nowhere.

onnxruntime-web, which runs the network, is fetched by npm and checked before anything is unpacked.
"""

import base64
import hashlib
import json
import shutil
import subprocess
import tarfile
import tempfile
import xml.etree.ElementTree as XML
from pathlib import Path

import cv2

from ferlab import files
from ferlab.data.dataset import SIZE
from ferlab.evaluation.network.about import read_about
from ferlab.reporting import pages
from ferlab.serving import face_detection, model_lookup, predictor
from ferlab.serving.page import MAX_BYTES

PACKAGE = "onnxruntime-web@1.30.0"
INTEGRITY = (  # as npm states it, of the package's archive
    "sha512-q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
)
RUNTIME = ("ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm")  # of it, in dist/
LIVE = (
    400  # pixels of the webcam's picture that are searched: four times a second on two slow cores
)
NONCE = "page"  # public: nothing but what is written here gets into the page
POLICY = (  # connect-src: what the page loads is its own, and there is no other place to send to
    "default-src 'none'; connect-src 'self'; img-src 'self' data: blob:; "
    f"style-src 'nonce-{NONCE}'; script-src 'self' 'nonce-{NONCE}' 'wasm-unsafe-eval'; "
    "base-uri 'none'; form-action 'none'"
)
CASCADE = "haarcascade_frontalface_default.xml"


def write(out=Path("exports/demo")):
    """Write the folder, and print how it is looked at. Raises UserError; then nothing is written.

    Costs 33 MB of download, which npm keeps, and 18 MB in the folder.
    """
    if out.exists() and not (out / "cascade.json").is_file():
        raise files.UserError(
            f"{out}: exists and is no such page; choose another: "
            "python -m ferlab demo-static --out <folder>"
        )
    network = model_lookup.released("model.onnx")
    classes = read_about(model_lookup.released("model.keras")).classes
    with files.replacing(out) as folder:
        folder.mkdir()
        fetch_runtime(folder)
        shutil.copy(network, folder)
        text = Path(cv2.data.haarcascades, CASCADE).read_text(encoding="utf-8")
        (folder / "cascade.json").write_text(json.dumps(cascade(text)), encoding="utf-8")
        (folder / "index.html").write_text(html(classes), encoding="utf-8")
    size = sum(file.stat().st_size for file in out.iterdir())
    print(f"{out}: {size / 1e6:.1f} MB, for any web server (the webcam needs https, or this one):")
    print(f"python -m http.server --bind 127.0.0.1 --directory {out} 8000")


def html(classes):
    """The text of the page for a network of these classes."""
    constants = {
        "classes": classes,
        "side": SIZE,
        "runtime": RUNTIME,
        "find": {
            "longest": face_detection.MAX_SIDE,
            "live": LIVE,
            "smallest": face_detection.MIN_FACE,
            "step": face_detection.STEP,
            "neighbours": face_detection.NEIGHBOURS,
            "strict": face_detection.STRICT,
            "large": face_detection.LARGE,
            "ghost": face_detection.GHOST,
            "frame": face_detection.FRAME["haar"],
            "cut_out": predictor.MAX_CUT_OUT,
        },
    }
    browser = {"policy": POLICY, "constants": constants}
    return pages.template("page.html").render(
        nonce=NONCE, local=True, most=MAX_BYTES, browser=browser
    )


def cascade(text):
    """OpenCV's XML of a cascade of stumps, as what the page reads, its licence included."""
    root = XML.fromstring(text).find("cascade")
    features = [
        [[float(value) for value in rect.text.split()] for rect in feature.find("rects")]
        for feature in root.find("features")
    ]
    stages = []
    for stage in root.find("stages"):
        trees = []
        for weak in stage.find("weakClassifiers"):
            _, _, number, threshold = weak.find("internalNodes").text.split()
            low, high = map(float, weak.find("leafValues").text.split())
            rects = features[int(number)]
            trees.append({"rects": rects, "threshold": float(threshold), "low": low, "high": high})
        stages.append({"threshold": float(stage.find("stageThreshold").text), "trees": trees})
    licence = text.partition("<!--")[2].partition("-->")[0].strip()
    return {"licence": licence, "side": int(root.find("width").text), "stages": stages}


def fetch_runtime(folder):
    """Put the files of onnxruntime-web into `folder`. Raises UserError where npm is not installed
    or fails, or what it brings is not the pinned package.
    """
    if not shutil.which("npm"):
        raise files.UserError("npm is not installed; it fetches onnxruntime-web (Debian: npm)")
    with tempfile.TemporaryDirectory() as temporary:
        command = ["npm", "pack", PACKAGE, "--silent", "--ignore-scripts"]
        done = subprocess.run(command, cwd=temporary, capture_output=True, text=True)
        archive = next(Path(temporary).glob("*.tgz"), None)
        if done.returncode or not archive:
            reason = files.one_line(done.stderr or "it brought no file", 200)
            raise files.UserError(f"npm pack {PACKAGE}: {reason}; is the registry reachable?")
        unpack(archive, folder)


def unpack(archive, folder):
    """Put the files of RUNTIME into `folder`; UserError where it is not the pinned archive."""
    with open(archive, "rb") as file:
        digest = hashlib.file_digest(file, "sha512").digest()
    actual = f"sha512-{base64.b64encode(digest).decode()}"
    if actual != INTEGRITY:
        raise files.UserError(f"{PACKAGE}: npm brought another package ({actual}); do not use it")
    with tarfile.open(archive) as packed:
        for name in RUNTIME:
            content = packed.extractfile(f"package/dist/{name}")
            (folder / name).write_bytes(content.read())
