"""What `make repro` says at the end: the result, whether it is the pinned one, where to look, and what to try next."""

import subprocess
from pathlib import Path

from ruamel.yaml import YAML

from ferlab import files, params
from ferlab.progress import duration

# Images that an epoch costs, in units of one training image: scoring one public image takes about a third of that.
EPOCH = {"sample": 2873 + 3589 / 3, "fer2013": 28709 + 3589 / 3, "fer2013-jpeg": 28709 + 3589 / 3}


def text(folder=None):
    """The summary of the finished result in `folder` (default: the working directory) as plain lines."""
    folder = Path(folder or ".")
    try:
        details = files.read_json(folder / "reports/details.json")
        metrics = files.read_json(folder / "reports/metrics.json")
    except FileNotFoundError as error:
        raise files.UserError(f"{error.filename}: not found; `make repro` makes it") from None
    from ferlab.tracking.provenance import read_run

    settings, about = params.load(folder / "params.yaml"), read_run(folder / "models/model.keras")
    named = details["dataset"] + (
        " (drawn faces, not FER2013)" if details["dataset"] == "sample" else ""
    )
    lines = [
        "",
        f"{settings.train.model} network, balancing: {settings.balance.strategy}, on {named}",
        "",
        f"  {'split':<18}{'images':>8}{'accuracy':>11}   95 % interval",
    ]
    rows = {split.replace("_", " "): scores for split, scores in details["splits"].items()}
    told = "private" if "private" in rows else "test"
    rows[f"{told}, 6 classes"] = details["six_class"][told]
    agreed = details.get("ferplus", {}).get("agreed", {"n": 0})
    rows |= {"FER+ majority": agreed} if agreed["n"] else {}
    for split, scores in rows.items():
        lines.append(
            f"  {split:<18}{scores['n']:>8,}{100 * scores['accuracy']:>9.2f} %   "
            f"{100 * scores['accuracy_low']:.2f} to {100 * scores['accuracy_high']:.2f} %"
        )
    if "disgust_recall" in metrics:
        lines.append(f"  disgust recall {100 * metrics['disgust_recall']:.1f} %")
    if about:
        machine = about["machine"]
        lines.append(
            f"  trained in {duration(about['train_seconds'])} on {machine['cores']} cores, {machine['cpu']}"
        )
    lines += [
        "",
        pinned(folder),
        "",
        "look:    open reports/report.html; `make ui` (MLflow); `make show` (DVC experiments)",
    ]
    return "\n".join([*lines, *_next(details, settings, about)])


def pinned(folder=Path(".")):
    """ "same bits as pinned", or what differs between the working dvc.lock and the committed one."""
    yaml = YAML(typ="safe")
    shown = subprocess.run(
        ["git", "show", "HEAD:./dvc.lock"], cwd=folder, capture_output=True, text=True
    )
    if shown.returncode:
        return "nothing pinned yet: commit dvc.lock to pin this result"
    then, now = (
        yaml.load(shown.stdout)["stages"],
        yaml.load((folder / "dvc.lock").read_text())["stages"],
    )
    settings = [
        f"{name}.{key} ({old.get(key)} -> {new.get(key)})"
        for name, old, new in _sections(then, now)
        for key in {**old, **new}
        if old.get(key) != new.get(key)
    ]
    outs = [
        out["path"]
        for name, stage in now.items()
        for out in stage.get("outs", [])
        if out not in then.get(name, {}).get("outs", [])
    ]
    if settings:
        return "differs from pinned by " + ", ".join(settings)
    return (
        "differs from pinned by the bits of " + ", ".join(outs) if outs else "same bits as pinned"
    )


def _sections(then, now):
    """(section, pinned values, current values), each section once, from the stage that bears its name."""
    for name in params.SECTIONS:
        yield (
            name,
            *(
                stages.get(name, {}).get("params", {}).get("params.yaml", {}).get(name, {})
                for stages in (then, now)
            ),
        )


def _next(details, settings, about):
    images, here = EPOCH.get(details["dataset"]), ""
    if about.get("epochs") and images:
        per_image = about["train_seconds"] / len(about["epochs"]) / images
        here = f"   (its training alone: about {duration(per_image * EPOCH['fer2013'] * settings.train.epochs)} on this machine)"
    if details["dataset"] == "sample":
        return [f"next:    make repro DATA=fer2013{here}"]
    return [f"next:    source .venv/bin/activate && dvc exp run -S balance.strategy=merge{here}"]
