"""What DVC and Git know of results: dvc.lock, experiments, and their files in the cache."""

import hashlib
import json
import subprocess
import tempfile
from pathlib import Path

from ferlab import files, params
from ferlab.tracking import provenance

RESULT = (
    "models/model.keras",
    "reports/details.json",
    "reports/metrics.json",
)  # what tells one result from another


def result_key(settings, model, details, metrics):
    """Hash of the parameters and of what came out (md5s of model, details.json, metrics.json): equal results, equal key."""
    text = json.dumps([settings, model, details, metrics], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def experiments():
    """(name, commit, baseline commit) of every DVC experiment: refs/exps/<2 digits>/<38 digits of the baseline>/<name>."""
    listed = subprocess.run(
        ["git", "for-each-ref", "refs/exps", "--format=%(refname) %(objectname)"],
        cwd=files.root(),
        capture_output=True,
        text=True,
    )
    rows = [(*line.split()[0].split("/"), line.split()[1]) for line in listed.stdout.splitlines()]
    return [
        (row[4], row[5], row[2] + row[3]) for row in rows if len(row) == 6 and len(row[3]) == 38
    ]


def is_finished(root):
    """True where the workspace's parameters, model and metrics are those of its dvc.lock: one result, not a mixture."""
    try:
        pinned, used = outs((root / "dvc.lock").read_text())
        files_agree = all(provenance.md5(root / name) == pinned[name] for name in RESULT)
        return files_agree and params.parse(used) == params.load(root / "params.yaml")
    except (OSError, KeyError, files.UserError):
        return False


def is_same_result(root, revision):
    """True where the workspace's dvc.lock is the experiment's: its run is then the experiment's."""
    return (root / "dvc.lock").exists() and show(root, revision, "dvc.lock") == (
        root / "dvc.lock"
    ).read_text()


def key_of(root, revision):
    """The `result_key` of a commit, from Git alone."""
    pinned, _ = outs(show(root, revision, "dvc.lock"))
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / "params.yaml"
        path.write_text(show(root, revision, "params.yaml"))
        return result_key(params.raw(path), *(pinned[name] for name in RESULT))


def outs(lock):
    """({path: md5} of every output, the parameters that evaluate declares) of a dvc.lock's text."""
    from ruamel.yaml import YAML

    stages = YAML(typ="safe").load(lock)["stages"]
    outs = {out["path"]: out["md5"] for stage in stages.values() for out in stage.get("outs", [])}
    return outs, stages["evaluate"]["params"]["params.yaml"]


def show(root, revision, file):
    return subprocess.run(
        ["git", "show", f"{revision}:{file}"], cwd=root, capture_output=True, text=True, check=True
    ).stdout


def materialise(root, revision, folder):
    """Bring an experiment's files from Git and DVC's cache into `folder`."""
    from dvc.api import DVCFileSystem

    system = DVCFileSystem(str(root), rev=revision)
    for file in (
        "params.yaml",
        *RESULT,
        "reports/predictions.csv",
        "models/history.csv",
        "reports/report.html",
        "reports/figures",
    ):
        target = folder / file
        target.parent.mkdir(parents=True, exist_ok=True)
        system.get(file, str(target), recursive=file == "reports/figures")
