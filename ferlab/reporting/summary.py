"""What `make repro` prints at the end: the result, whether it is the pinned one, what is next."""

from pathlib import Path

from ferlab import dvc_files, files, params
from ferlab.progress import duration
from ferlab.tracking.provenance import read_run

# images that an epoch costs, in units of a training image: scoring a public image takes a third
EPOCH = {"sample": 2873 + 3589 / 3, "fer2013": 28709 + 3589 / 3, "fer2013-jpeg": 28709 + 3589 / 3}
LOOK = "look:    open reports/report.html; `make ui` (MLflow); `make show` (DVC experiments)"


def text(folder=None):
    """The summary of the finished result in `folder` (default: the working directory), as lines.

    Raises UserError where there is no result.
    """
    folder = Path(folder or ".")
    try:
        details = files.read_json(folder / "reports/details.json")
        metrics = files.read_json(folder / "reports/metrics.json")
    except FileNotFoundError as error:
        raise files.UserError(f"{error.filename}: not found; `make repro` makes it") from None
    settings, run = params.load(folder / "params.yaml"), read_run(folder / "models/model.keras")
    drawn = " (drawn faces, not FER2013)" if details["dataset"] == "sample" else ""
    lines = [
        "",
        f"{settings.train.model} network, balancing: {settings.balance.strategy}, "
        f"on {details['dataset']}{drawn}",
        "",
        *_scores(details),
    ]
    if "disgust_recall" in metrics:
        lines.append(f"  disgust recall {100 * metrics['disgust_recall']:.1f} %")
    if run:
        time, machine = duration(run["train_seconds"]), run["machine"]
        lines.append(
            f"  trained in {time} in {run['precision']} on {machine['cores']} cores, "
            f"{machine['cpu']}"
        )
    return "\n".join([*lines, "", pinned(folder), "", LOOK, *_next(details, settings, run)])


def _scores(details):
    """The table of accuracies."""
    rows = {split.replace("_", " "): scores for split, scores in details["splits"].items()}
    final = "private" if "private" in rows else "test"
    rows[f"{final}, 6 classes"] = details["six_class"][final]
    agreed = details.get("ferplus", {}).get("agreed", {"n": 0})
    rows |= {"FER+ majority": agreed} if agreed["n"] else {}
    lines = [f"  {'split':<20}{'images':>8}{'accuracy':>11}   95 % interval"]
    for split, scores in rows.items():
        low, high = 100 * scores["accuracy_low"], 100 * scores["accuracy_high"]
        accuracy = f"{100 * scores['accuracy']:>9.2f} %   {low:.2f} to {high:.2f} %"
        lines.append(f"  {split:<20}{scores['n']:>8,}{accuracy}")
    return lines


def pinned(folder=Path(".")):
    """ "same bits as pinned", or how the working dvc.lock differs from the committed one."""
    try:
        committed = dvc_files.stages(dvc_files.show(folder, "HEAD", "dvc.lock"))
    except files.UserError:
        return "nothing pinned yet: commit dvc.lock to pin this result"
    working = dvc_files.stages((folder / "dvc.lock").read_text(encoding="utf-8"))
    changes = [
        f"{section}.{key} ({old.get(key)} -> {new.get(key)})"
        for section, old, new in _sections(committed, working)
        for key in {**old, **new}
        if old.get(key) != new.get(key)
    ]
    if changes:
        return "differs from pinned by " + ", ".join(changes)
    old, new = dvc_files.outputs(committed), dvc_files.outputs(working)
    paths = [path for path, md5 in new.items() if old.get(path) != md5]
    if paths:
        return "differs from pinned by the bits of " + ", ".join(paths)
    return "same bits as pinned"


def _sections(committed, working):
    """(section, committed values, working values) of the sections that stages declare whole."""
    old, new = dvc_files.parameters(committed), dvc_files.parameters(working)
    for section in params.SECTIONS:
        yield section, old.get(section, {}), new.get(section, {})


def _next(details, settings, run):
    """What to try next, and on a known dataset how long that takes on this machine."""
    images, cost = EPOCH.get(details["dataset"]), ""
    if run.get("epochs") and images:
        per_image = run["train_seconds"] / len(run["epochs"]) / images
        seconds = per_image * EPOCH["fer2013"] * settings.train.epochs
        cost = f"   (its training alone: about {duration(seconds)} on this machine)"
    if details["dataset"] == "sample":
        return [f"next:    make repro DATA=fer2013{cost}"]
    activate = "source .venv/bin/activate"
    return [f"next:    {activate} && dvc exp run -S balance.strategy=merge{cost}"]
