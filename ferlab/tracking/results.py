"""What makes a finished result, and the key by which its MLflow run is known."""

import contextlib
import hashlib
import json
import tempfile
from pathlib import Path

from ferlab import dvc_files, files, params

WORKSPACE = "workspace"  # the name of the working directory's result
RESULT = ("models/model.keras", "reports/details.json", "reports/metrics.json")  # make the key
SHOWN = (  # what else MLflow's run of an experiment is made from
    "params.yaml",
    "reports/predictions.csv",
    "models/history.csv",
    "reports/report.html",
    "reports/figures",
)


def result_key(settings, model, details, metrics):
    """Hash of the parameters and of what came out: equal results, equal key.

    settings: the parameters as nested dicts, of which `explain` does not count. model, details,
    metrics: md5 of model.keras, details.json, metrics.json.
    """
    deciding = {name: section for name, section in settings.items() if name != "explain"}
    text = json.dumps([deciding, model, details, metrics], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def key_in(folder):
    """The `result_key` of the finished result in a folder laid out as the workspace."""
    hashes = [files.md5(folder / file) for file in RESULT]
    return result_key(params.raw(folder / "params.yaml"), *hashes)


def values_of(folder):
    """The parameters of the result in `folder`, as nested dicts: those that the stages ran with by
    its dvc.lock, since params.yaml may have been changed afterwards.
    """
    values = params.raw(folder / "params.yaml")
    with contextlib.suppress(
        FileNotFoundError, files.UserError
    ):  # else params.yaml is all there is
        for name, value in dvc_files.parameters(dvc_files.locked_stages(folder)).items():
            section, _, key = name.partition(".")
            values[section] = (values.get(section, {}) | {key: value}) if key else value
    return values


def is_finished(root):
    """True where parameters, model and metrics in `root` are those of its dvc.lock.

    They are one result then, not a mixture of two. The stage explain adds nothing to a result: with
    `dvc repro evaluate` it stays behind, at the parameters of an earlier one.
    """
    try:
        stages = dvc_files.stages((root / "dvc.lock").read_text(encoding="utf-8"))
        locked, values = dvc_files.outputs(stages), params.raw(root / "params.yaml")
        values |= {
            f"{section}.{key}": value
            for section, section_values in values.items()
            for key, value in section_values.items()
        }
        used = dvc_files.parameters(
            {name: stage for name, stage in stages.items() if name != "explain"}
        )
        return all(files.md5(root / name) == locked[name] for name in RESULT) and all(
            values.get(name) == value for name, value in used.items()
        )
    except (OSError, KeyError, AttributeError, files.UserError):
        return False


def is_one_of(root, revisions):
    """True where the dvc.lock in `root` is that of an experiment, whose run is then its own too."""
    mine = dvc_files.git("hash-object", "dvc.lock", folder=root).stdout.strip()
    return bool(mine) and mine in dvc_files.hashes(root, revisions, "dvc.lock")


def key_of(root, revision):
    """The `result_key` of a commit, from Git alone. Raises UserError where it has no result."""
    locked = dvc_files.outputs(dvc_files.stages(dvc_files.show(root, revision, "dvc.lock")))
    missing = [name for name in RESULT if name not in locked]
    if missing:
        raise files.UserError(f"dvc.lock: names no {missing[0]}; another version of the project")
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / "params.yaml"
        path.write_text(dvc_files.show(root, revision, "params.yaml"))
        return result_key(params.raw(path), *(locked[name] for name in RESULT))
