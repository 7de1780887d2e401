"""What `make repro` prints at the end: the result, what is next, whether it is the pinned one."""

import math
from pathlib import Path

import numpy as np

from ferlab import files, params
from ferlab.evaluation import tables
from ferlab.progress import counted, duration, hardware
from ferlab.reporting import verdict
from ferlab.tracking import results
from ferlab.tracking.provenance import read_run
from ferlab.training.schedule import step_costs

# images that an epoch costs, in units of a training image: scoring a public image takes a third
# (of the sample half as many as there are to train on are scored, see ferlab.training.loop)
EPOCH = {"sample": 2873 + 2873 / 6, "fer2013": 28709 + 3589 / 3, "fer2013-jpeg": 28709 + 3589 / 3}
LOOK = "look:    open reports/report.html; `make ui` (MLflow); `make show` (all experiments)"
ACTIVATE = "source .venv/bin/activate"
TRY, USE = "python -m ferlab try", "python -m ferlab predict <photo> --model workspace"
FEW_STEPS, SMALL_BATCH = 500, 16  # below that a network hardly learns, and batches may be smaller


def text(folder=None, paths=False):
    """The summary of the finished result in `folder` (default: the working directory), as lines.

    paths: name the outputs whose bits are not the pinned ones. Raises UserError where there is no
    result.
    """
    folder = Path(folder or ".")
    try:
        details = files.read_json(folder / "reports/details.json")
        metrics = files.read_json(folder / "reports/metrics.json")
        run = read_run(folder / "models/model.keras")
    except FileNotFoundError as error:
        raise files.UserError(f"{error.filename}: not found; `make repro` makes it") from None
    values = results.values_of(folder)
    settings, now = params.parse(values), params.raw(folder / "params.yaml")
    drawn = " (drawn faces, not FER2013)" if details["dataset"] == "sample" else ""
    lines = [
        "",
        f"{settings.train.model} network, balancing: {settings.balance.strategy}, "
        f"on {details['dataset']}{drawn}",
        *_changed_since(values, now),
        *_notes(folder / "reports/eda/summary.json"),
        "",
        *_scores(details),
    ]
    if "disgust_recall" in metrics:
        lines.append(f"  disgust recall {100 * metrics['disgust_recall']:.1f} %")
    if run:
        time, machine = duration(run["train_seconds"]), hardware(run["machine"])
        lines.append(f"  trained in {time} in {run['precision']} on {machine}")
    pinned = verdict.lines(folder, details, paths)
    return "\n".join([*lines, "", LOOK, *_next(details, settings, run), "", *pinned])


def _changed_since(values, now):
    """What params.yaml holds that this result was not made with, in a line."""
    if values == now:
        return []
    from ferlab.reporting.comparison import differing  # only here: it loads scikit-learn

    changed = ", ".join(f"{key} {new}" for key, (_, new) in differing([values, now]))
    fix = "`dvc repro` runs it, `git checkout params.yaml` takes it back"
    return [f"params.yaml has changed since: {changed}; {fix}"] if changed else []


def _notes(path):
    """What is to be known of faces of one's own: other classes, a split that was drawn here."""
    return files.read_json(path)["identity"].get("notes", []) if path.exists() else []


def _scores(details):
    """The table of accuracies."""
    splits = details["splits"]
    final = tables.final(splits)
    rows = {
        name.replace("_", " "): scores
        for name, scores in splits.items()
        # where train has none of the private images, these rows would repeat that of private
        if name not in tables.UNSEEN or scores["n"] < splits["private"]["n"]
    }
    if "six_class" in details:
        rows[f"{final}, 6 classes"] = details["six_class"][final]
    agreed = details.get("ferplus", {}).get("agreed", {"n": 0})
    rows |= {"FER+ majority": agreed} if agreed["n"] else {}
    lines = [f"  {'split':<20}{'images':>8}{'accuracy':>11}   95 % interval"]
    for split, scores in rows.items():
        low, high = 100 * scores["accuracy_low"], 100 * scores["accuracy_high"]
        accuracy = f"{100 * scores['accuracy']:>9.2f} %   {low:.2f} to {high:.2f} %"
        lines.append(f"  {split:<20}{scores['n']:>8,}{accuracy}")
    return lines


def _next(details, settings, run):
    """What to try next, and on a known dataset how long that takes on this machine."""
    images, cost, train = EPOCH.get(details["dataset"]), "", settings.train
    if run.get("epochs") and images:
        costs = step_costs(train)
        # the median: compiling, which makes some epochs slow, does not grow with the data
        per_cost = np.median(
            [took / cost for took, cost in zip(run["epochs"], costs, strict=False)]
        )
        seconds = per_cost / images * EPOCH["fer2013"] * sum(costs)
        cost = f"   (its training alone: about {duration(seconds)} on this machine)"
    if details["dataset"] == "sample":
        return [f"next:    make repro DATA=fer2013{cost}"]
    if images:
        return [f"next:    {ACTIVATE} && dvc exp run -S balance.strategy=merge{cost}"]
    return _next_with_own(details, train)


def _next_with_own(details, train):
    """The same with faces of one's own: more steps where they were few, else what to use it for."""
    scores, n = details["splits"][tables.final(details["splits"])], details["splits"]["train"]["n"]
    support = {name: row["support"] for name, row in scores["per_class"].items()}
    common = max(support, key=support.get)
    lines = []
    if scores["accuracy_low"] <= support[common] / scores["n"]:
        lines.append(
            f"careful: no better than always to say {common!r} "
            f"({100 * support[common] / scores['n']:.1f} %) by more than luck"
        )
    steps = math.ceil(n / train.batch_size) * train.epochs
    if steps >= FEW_STEPS:
        return [
            *lines,
            f"next:    {ACTIVATE} && {USE}",
        ]
    batch = min(train.batch_size, SMALL_BATCH)
    epochs = max(math.ceil(2 * FEW_STEPS / math.ceil(n / batch)), train.epochs)
    return [
        *lines,
        f"next:    {ACTIVATE} && {TRY} train.batch_size={batch} train.epochs={epochs}",
        f"         ({counted(n, 'face')} in batches of {train.batch_size}, {train.epochs} times: "
        f"{counted(steps, 'step')}, too few to learn from)",
    ]
