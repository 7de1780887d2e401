"""`python -m ferlab doctor`: what a bug report needs, and the usual troubles with the command that
fixes each.
"""

import os
import re
import shlex
import shutil
from importlib import metadata

from ferlab import dvc_files, files, params, secrets
from ferlab.data.readers.archives import local_path
from ferlab.data.readers.sources import VARIABLES
from ferlab.doctor import killed, services
from ferlab.progress import counted
from ferlab.tracking.provenance import machine
from ferlab.training.backend import has_bfloat16
from ferlab.workspace import running

FREE_GIB = 5  # the packages and a few experiments on FER2013


def report():
    """(lines about machine and versions, troubles as (what, fix)); changes no result.

    To look into MLflow's store is to open it, which points the store of a checkout that was moved
    at the files beside it.
    """
    about = machine() | {name: _version(name) for name in ("dvc", "mlflow")}
    about |= {"bfloat16": has_bfloat16()}
    at_work = running.commands()
    if at_work:
        shown = ", ".join(f"{command} (process {pid})" for pid, command in at_work)
        about |= {"at work": f"{shown}; what they have in hand is looked at once they have ended"}
    checks = [check for check in CHECKS if not at_work or check not in IN_HAND]
    troubles = [tuple(map(secrets.masked, trouble)) for check in checks for trouble in check()]
    return [f"{name:<12}{value}" for name, value in about.items()], troubles


def commit():
    """DVC needs a Git repository with a commit, and Git one of this user."""
    if dvc_files.git("rev-parse", "--verify", "HEAD").returncode:
        if "dubious ownership" in (refused := dvc_files.git("log", "-1").stderr):
            yield (
                "this folder belongs to another user, so Git does not read it",
                refused.strip().splitlines()[-1].strip(),
            )
            return
        yield (
            "no Git repository with a commit; DVC needs one",
            "git init && git add -A && git commit -m start",
        )


def identity():
    """DVC's experiments need Git's user.name and user.email."""
    if (
        dvc_files.git("var", "GIT_COMMITTER_IDENT").returncode
        or dvc_files.git("config", "user.email").returncode
    ):
        yield (
            "Git knows no name and e-mail of yours; DVC's experiments need them",
            "git config user.name <you> && git config user.email <you@example.org>",
        )


def head():
    """A killed `dvc exp run` leaves HEAD detached."""
    if (
        not dvc_files.git("rev-parse", "--verify", "HEAD").returncode
        and dvc_files.git("symbolic-ref", "-q", "HEAD").returncode
    ):
        yield (
            "HEAD is detached, as a killed `dvc exp run` leaves it",
            "git checkout -f <your branch> && dvc checkout --allow-missing "
            "(drops uncommitted edits)",
        )


def settings():
    """params.yaml cannot be read."""
    try:
        params.load()
    except files.UserError as error:
        yield str(error), "git diff params.yaml shows what was changed"


def left_changed():
    """params.yaml was left changed by a killed experiment."""
    if (
        any(unfinished())
        and dvc_files.git("diff", "--quiet", "HEAD", "--", "params.yaml").returncode == 1
    ):
        yield (
            "params.yaml differs from the last commit; perhaps a killed experiment left it so",
            "git diff params.yaml",
        )


def packages():
    """Installed versions that are not the pinned ones."""
    pinned = re.findall(r"^([\w.-]+)==(\S+)", (files.root() / "requirements.txt").read_text(), re.M)
    wanted = {name: {version for other, version in pinned if other == name} for name, _ in pinned}
    for name in ("dvc", "keras", "mlflow", "numpy", "pandas", "tensorflow"):
        if _version(name) not in wanted[name]:
            yield (
                f"{name} {_version(name)} is installed, {' or '.join(wanted[name])} pinned",
                "rm -r .venv && make repro",
            )


def _version(name):
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not"


def old_lock():
    """A dvc.lock of an earlier pipeline names outputs that dvc.yaml no longer has."""
    locked, declared = _outs("dvc.lock"), _outs("dvc.yaml")
    unknown = sorted(set(locked) - set(declared))
    if declared and unknown:
        yield (
            f"dvc.lock is of another version of the pipeline (it names {unknown[0]})",
            "dvc repro, then commit dvc.lock",
        )


def missing():
    """Outputs that dvc.lock names and that are not here; none in a clone where nothing ever ran."""
    for path, md5 in sorted(_outs("dvc.lock").items()):
        cached = dvc_files.is_cached(md5)
        if cached is not None and not (files.root() / path).exists():
            yield (
                f"{path} is missing, though dvc.lock names it",
                "dvc checkout" if cached else "dvc repro makes it again",
            )


def dvc_lists():
    """What came from a remote would be written outside the checkout."""
    yield from dvc_files.stray_lists()


def _outs(file):
    """The outputs in dvc.lock or dvc.yaml (dvc_files.outputs); {} where it cannot be read."""
    try:
        return dvc_files.outputs(dvc_files.stages((files.root() / file).read_text(), file))
    except (OSError, ValueError, TypeError, files.UserError):
        return {}


def unfinished():
    """Trainings whose resume state is there."""
    for note in sorted((files.root() / ".ferlab/resume").glob("*/live.json")):
        epochs = files.read_json(note)["epoch"]
        yield (
            f"a training stopped after {counted(epochs, 'epoch')}",
            "run the same command again to go on, or give it up: "
            f"rm -r {shlex.quote(str(note.parent))}",
        )


def real_data():
    """$FER2013, $FER2013_FOLDERS or $CK48 names a file that is not there."""
    for name in (*VARIABLES.values(), "CK48"):
        path = os.environ.get(name, "")
        if path and "://" not in path and not (files.root() / local_path(path)).exists():
            fetched = "" if name == "CK48" else " to fetch from Kaggle"
            yield f"{name}={path}: not found", f"export {name}=<your copy>, or unset it{fetched}"


def disk():
    """Less than FREE_GIB are free."""
    free = shutil.disk_usage(files.root()).free / 2**30
    if free < FREE_GIB:
        yield (
            f"{free:.1f} GiB free on this disk",
            "make room: `dvc exp remove <name>` for experiments that nobody needs, then "
            "`dvc gc --all-branches --all-experiments -p recipes`",
        )


# what DVC and the stages are changing while they work: no trouble then, and no advice
IN_HAND = (
    head,
    left_changed,
    old_lock,
    missing,
    killed.locks,
    killed.git_locks,
    killed.queue,
    killed.folders,
    unfinished,
)
# each yields its troubles
CHECKS = (
    commit,
    identity,
    killed.locks,  # before head and all other advice that needs Git or DVC
    killed.git_locks,
    head,
    settings,
    left_changed,
    packages,
    old_lock,
    missing,
    killed.queue,
    killed.folders,
    dvc_lists,
    unfinished,
    services.tracking,
    services.remote,
    real_data,
    disk,
)
