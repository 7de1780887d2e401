"""`python -m ferlab doctor`: what a bug report needs, and the usual troubles with the command that mends each."""

import json
import os
import re
import shutil
import subprocess
from importlib import metadata
from pathlib import Path

from ferlab import files, params
from ferlab.backend import fast_bfloat16
from ferlab.tracking import dead, machine, store

FREE_GIB = 5  # the packages and a few experiments on FER2013


def report():
    """(lines about machine and versions, troubles as (what, fix)); looks only, changes nothing."""
    about = machine() | {name: metadata.version(name) for name in ("dvc", "mlflow")} | {"bfloat16": fast_bfloat16()}
    checks = (commit, identity, head, settings, packages, old_lock, missing, dvc_locks, unfinished, dead_runs, real_data, disk)
    return [f"{name:<12}{value}" for name, value in about.items()], [trouble for check in checks for trouble in check()]


def commit():
    if _git("rev-parse", "--verify", "HEAD").returncode:
        yield "no Git repository with a commit; DVC needs one", "git init && git add -A && git commit -m start"


def identity():
    if _git("var", "GIT_COMMITTER_IDENT").returncode or _git("config", "user.email").returncode:
        yield ("Git knows no name and e-mail of yours; DVC's experiments need them",
               "git config user.name <you> && git config user.email <you@example.org>")


def head():
    if not _git("rev-parse", "--verify", "HEAD").returncode and _git("symbolic-ref", "-q", "HEAD").returncode:
        yield ("HEAD is detached, as a killed `dvc exp run` leaves it",
               "git checkout -f <your branch> && dvc checkout --allow-missing (drops uncommitted edits)")


def settings():
    try:
        params.load()
    except files.UserError as error:
        yield str(error), "git checkout params.yaml, or mend the line"
    if any(unfinished()) and _git("diff", "--quiet", "HEAD", "--", "params.yaml").returncode == 1:
        yield "params.yaml differs from the last commit; perhaps a killed experiment left it so", "git diff params.yaml"


def packages():
    pinned = re.findall(r"^([\w.-]+)==(\S+)", Path("requirements.txt").read_text(), re.M)
    wanted = {name: {version for other, version in pinned if other == name} for name, _ in pinned}
    for name in ("dvc", "keras", "mlflow", "numpy", "pandas", "tensorflow"):
        if metadata.version(name) not in wanted[name]:
            yield f"{name} {metadata.version(name)} is installed, {' or '.join(wanted[name])} pinned", "rm -r .venv && make repro"


def old_lock():
    """dvc.lock of an earlier version of the pipeline names stages or outputs that dvc.yaml no longer has."""
    locked, declared = _outs("dvc.lock"), _outs("dvc.yaml")
    unknown = sorted(set(locked) - set(declared))
    if declared and unknown:
        yield f"dvc.lock is of another version of the pipeline (it names {unknown[0]})", "dvc repro, then commit dvc.lock"


def missing():
    """Outputs that dvc.lock names and that are neither here nor cached; a clone in which nothing was ever run lacks them all."""
    cache = files.root() / ".dvc/cache/files/md5"
    if not cache.exists():
        return
    for path, md5 in sorted(_outs("dvc.lock").items()):
        if not (files.root() / path).exists():
            cached = (cache / md5[:2] / md5[2:]).exists()
            yield f"{path} is missing, though dvc.lock names it", "dvc checkout" if cached else "dvc repro makes it again"


def _outs(file):
    """{path: md5, empty where there is none} of the outputs and metrics in dvc.lock or dvc.yaml; {} where it cannot be read."""
    try:
        stages = params.raw(files.root() / file)["stages"].values()
        listed = [out for stage in stages for kind in ("outs", "metrics") for out in stage.get(kind, [])]
    except (files.UserError, TypeError, KeyError, AttributeError):
        return {}
    found = {}
    for out in listed:
        about = out if isinstance(out, dict) else {"path": out}
        found[about.get("path") or next(iter(about))] = about.get("md5", "")
    return found


def dead_runs():
    if not (files.root() / "mlflow.db").exists():
        return
    try:
        with store() as client:
            names = [run.info.run_name for run in dead(client)]
    except files.UserError as error:
        yield str(error), "then run `python -m ferlab doctor` again"
    else:
        if names:
            yield (f"MLflow shows {len(names)} runs as running whose processes have ended ({', '.join(names[:3])})",
                   "python -m ferlab sync marks them as killed")


def dvc_locks():
    """rwlock names the processes that read and write each path; dead ones are leftovers of a kill."""
    path = files.root() / ".dvc/tmp/rwlock"
    try:
        entries = json.loads(path.read_text() or "{}")
    except (OSError, ValueError):
        return
    kinds = [kind for path in entries.values() for kind in path.values()]
    holders = [holder for kind in kinds for holder in (kind if isinstance(kind, list) else [kind])]
    dead = {holder["pid"] for holder in holders if not files.alive(holder["pid"])}
    if dead:
        yield f"{path.name} is held by processes that have ended ({', '.join(map(str, sorted(dead)))})", f"rm {path}"


def unfinished():
    for note in sorted((files.root() / ".ferlab/resume").glob("*/live.json")):
        epochs = files.read_json(note)["epoch"]
        yield (f"a training stopped after {epochs} epochs, or still runs",
               f"run the same command again to go on, or give it up: rm -r {note.parent}")


def real_data():
    place = os.environ.get("FER2013")
    if place and not Path(place).expanduser().exists():
        yield f"FER2013={place}: not found", "export FER2013=<your copy>, or unset it to fetch from Kaggle"


def disk():
    free = shutil.disk_usage(files.root()).free / 2**30
    if free < FREE_GIB:
        yield f"{free:.1f} GiB free on this disk", "make room, or `dvc gc -w` to drop results of old experiments"


def _git(*arguments):
    return subprocess.run(["git", *arguments], cwd=files.root(), capture_output=True, text=True)
