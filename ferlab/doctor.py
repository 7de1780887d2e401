"""`python -m ferlab doctor`: what a bug report needs, and the usual troubles with the command that mends each."""

import json
import os
import re
import shutil
import socket
import subprocess
from importlib import metadata
from pathlib import Path
from urllib.parse import urlsplit

from ferlab import dvc_files, files, params, recipes
from ferlab.tracking.provenance import machine
from ferlab.tracking.store import dead_runs, store
from ferlab.training.backend import fast_bfloat16

FREE_GIB = 5  # the packages and a few experiments on FER2013


def report():
    """(lines about machine and versions, troubles as (what, fix)); looks only, changes nothing."""
    about = (
        machine()
        | {name: _version(name) for name in ("dvc", "mlflow")}
        | {"bfloat16": fast_bfloat16()}
    )
    checks = (
        commit,
        identity,
        head,
        settings,
        packages,
        old_lock,
        missing,
        dvc_locks,
        unfinished,
        dead_mlflow_runs,
        tracking_server,
        remote,
        real_data,
        disk,
    )
    return [f"{name:<12}{value}" for name, value in about.items()], [
        trouble for check in checks for trouble in check()
    ]


def commit():
    if _git("rev-parse", "--verify", "HEAD").returncode:
        yield (
            "no Git repository with a commit; DVC needs one",
            "git init && git add -A && git commit -m start",
        )


def identity():
    if _git("var", "GIT_COMMITTER_IDENT").returncode or _git("config", "user.email").returncode:
        yield (
            "Git knows no name and e-mail of yours; DVC's experiments need them",
            "git config user.name <you> && git config user.email <you@example.org>",
        )


def head():
    if (
        not _git("rev-parse", "--verify", "HEAD").returncode
        and _git("symbolic-ref", "-q", "HEAD").returncode
    ):
        yield (
            "HEAD is detached, as a killed `dvc exp run` leaves it",
            "git checkout -f <your branch> && dvc checkout --allow-missing (drops uncommitted edits)",
        )


def settings():
    try:
        params.load()
    except files.UserError as error:
        yield str(error), "git checkout params.yaml, or mend the line"
    if any(unfinished()) and _git("diff", "--quiet", "HEAD", "--", "params.yaml").returncode == 1:
        yield (
            "params.yaml differs from the last commit; perhaps a killed experiment left it so",
            "git diff params.yaml",
        )


def packages():
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
    """dvc.lock of an earlier version of the pipeline names stages or outputs that dvc.yaml no longer has."""
    locked, declared = _outs("dvc.lock"), _outs("dvc.yaml")
    unknown = sorted(set(locked) - set(declared))
    if declared and unknown:
        yield (
            f"dvc.lock is of another version of the pipeline (it names {unknown[0]})",
            "dvc repro, then commit dvc.lock",
        )


def missing():
    """Outputs that dvc.lock names and that are neither here nor cached; a clone in which nothing was ever run lacks them all."""
    cache = files.root() / ".dvc/cache/files/md5"
    if not cache.exists():
        return
    for path, md5 in sorted(_outs("dvc.lock").items()):
        if not (files.root() / path).exists():
            cached = (cache / md5[:2] / md5[2:]).exists()
            yield (
                f"{path} is missing, though dvc.lock names it",
                "dvc checkout" if cached else "dvc repro makes it again",
            )


def _outs(file):
    """The outputs in dvc.lock or dvc.yaml (dvc_files.outputs); {} where it cannot be read."""
    try:
        return dvc_files.outputs(dvc_files.stages((files.root() / file).read_text(), file))
    except (OSError, ValueError, TypeError, files.UserError):
        return {}


def dead_mlflow_runs():
    if (
        os.environ.get("MLFLOW_TRACKING_URI", "").startswith("http")
        or not (files.root() / "mlflow.db").exists()
    ):
        return
    try:
        with store() as client:
            names = [run.info.run_name for run in dead_runs(client)]
    except files.UserError as error:
        yield str(error), "then run `python -m ferlab doctor` again"
    else:
        if names:
            yield (
                f"MLflow shows {len(names)} runs as running whose processes have ended ({', '.join(names[:3])})",
                "python -m ferlab sync marks them as killed",
            )


def dvc_locks():
    """rwlock names the processes that read and write each path; dead ones are leftovers of a kill."""
    for path in (
        files.root() / ".dvc/tmp/rwlock",
        files.root() / recipes.RECIPES / ".dvc/tmp/rwlock",
    ):
        yield from _dvc_lock(path)


def _dvc_lock(path):
    try:
        entries = json.loads(path.read_text() or "{}")
    except (OSError, ValueError):
        return
    kinds = [kind for path in entries.values() for kind in path.values()]
    holders = [holder for kind in kinds for holder in (kind if isinstance(kind, list) else [kind])]
    dead = {holder["pid"] for holder in holders if not files.alive(holder["pid"])}
    if dead:
        yield (
            f"{path.name} is held by processes that have ended ({', '.join(map(str, sorted(dead)))})",
            f"rm {path}",
        )


def unfinished():
    for note in sorted((files.root() / ".ferlab/resume").glob("*/live.json")):
        epochs = files.read_json(note)["epoch"]
        yield (
            f"a training stopped after {epochs} epochs, or still runs",
            f"run the same command again to go on, or give it up: rm -r {note.parent}",
        )


def tracking_server():
    address = os.environ.get("MLFLOW_TRACKING_URI", "")
    if address.startswith("http") and not _answers(address):
        yield (
            f"MLFLOW_TRACKING_URI={address}: nobody answers",
            "start the server or unset it; no result is lost, `python -m ferlab sync` delivers them later",
        )


def remote():
    """Whether DVC's default remote can be used; of S3 also the credentials and the bucket."""
    from dvc.config import Config, ConfigError

    try:
        found = Config.from_cwd()
    except ConfigError as error:
        yield files.one_line(error, 200), "fix .dvc/config, or git checkout .dvc/config"
        return
    name = found["core"].get("remote")
    about = found["remote"].get(name, {})
    endpoint, url = about.get("endpointurl"), str(about.get("url", ""))
    if endpoint and not _answers(endpoint):
        yield (
            f"DVC's remote {name}: nobody answers at {endpoint}",
            f"start it, or dvc remote modify --local {name} endpointurl <address>",
        )
    elif url.startswith("s3://"):
        trouble = _s3(url.removeprefix("s3://").split("/")[0], about)
        if trouble:
            yield f"DVC's remote {name} ({url}): {trouble[0]}", trouble[1]


def _s3(bucket, about):
    """(what, fix) of what keeps a bucket from being used, or None. about: DVC's configuration of the remote."""
    try:
        import botocore.config
        import botocore.exceptions
        import botocore.session
    except ImportError:
        return "dvc-s3 is not installed", "pip install --require-hashes -r requirements-scale.txt"
    os.environ.setdefault(
        "AWS_EC2_METADATA_DISABLED", "true"
    )  # asked last, and for many seconds where there is none
    patience = botocore.config.Config(
        connect_timeout=3, read_timeout=3, retries={"total_max_attempts": 1}
    )
    try:
        session = botocore.session.Session(profile=about.get("profile"))
        if about.get("access_key_id"):
            session.set_credentials(
                about["access_key_id"], about.get("secret_access_key"), about.get("session_token")
            )
        if not session.get_credentials():
            return "no credentials", "export AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        region = about.get("region") or session.get_config_variable("region") or "us-east-1"
        client = session.create_client(
            "s3", region_name=region, endpoint_url=about.get("endpointurl"), config=patience
        )
        client.head_bucket(Bucket=bucket)
    except botocore.exceptions.ClientError as error:
        code = str(error.response.get("Error", {}).get("Code", ""))
        return {
            "404": (
                "there is no such bucket",
                "create it, or correct the address: dvc remote modify",
            ),
            "403": (
                "access is refused",
                "check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and the bucket's rules",
            ),
        }.get(code, (f"answers {code or error}", "ask who runs it"))
    except botocore.exceptions.BotoCoreError as error:
        return files.one_line(error), "check the network"


def _answers(address):
    try:
        parts = urlsplit(address)
        with socket.create_connection(
            (parts.hostname, parts.port or {"https": 443}.get(parts.scheme, 80)), timeout=3
        ):
            return True
    except (OSError, ValueError):  # a port that is no number
        return False


def real_data():
    place = os.environ.get("FER2013")
    if place and not Path(place).expanduser().exists():
        yield (
            f"FER2013={place}: not found",
            "export FER2013=<your copy>, or unset it to fetch from Kaggle",
        )


def disk():
    free = shutil.disk_usage(files.root()).free / 2**30
    if free < FREE_GIB:
        yield (
            f"{free:.1f} GiB free on this disk",
            "make room, or `dvc gc -w -p recipes` to drop results of old experiments",
        )


def _git(*arguments):
    return subprocess.run(["git", *arguments], cwd=files.root(), capture_output=True, text=True)
