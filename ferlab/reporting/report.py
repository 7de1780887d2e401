"""The page of one result: one self-contained HTML file, easier to read than its tables.

The workspace's page is an output of the pipeline, and equal results give equal bytes: so date,
commit and machine stand in a page of their own, which it shows where it is at hand.
"""

import io

import numpy as np
from ruamel.yaml import YAML

from ferlab.data.dataset import SIZE
from ferlab.evaluation import calibration, tables
from ferlab.evaluation.robustness import UNITS
from ferlab.reporting import pages

MAIN = {  # the parameters shown first
    "download": ("dataset",),
    "balance": ("strategy",),
    "train": (
        *("model", "epochs", "batch_size", "optimizer", "learning_rate", "schedule"),
        *("backend", "precision", "seed"),
    ),
}
# people's accuracy on FER2013's seven classes: Goodfellow et al. 2013, arXiv:1307.0414
HUMAN, HUMAN_SPREAD = 0.65, 0.05


def render(
    details,
    history,
    params,
    table=None,
    wrong=None,
    faces=None,
    samples=(),
    counts=None,
    key="",
    recipe="",
    kind="workspace",
    identity=None,
    run=None,
    note="",
):
    """The page as text: HTML that needs no other file.

    details: the content of details.json. history: of the epochs, None for what was not trained.
    params: all parameters as nested dicts. table: predictions (ferlab.evaluation.tables), of the
    final split at least. wrong, faces: the mistakes to show and their faces uint8 (n, 48, 48), or
    None where no faces are at hand. samples: of `strips`. counts: of reports/balance/counts.csv.
    key: the result's name, for the title; recipe: that it is of. kind: recipe, workspace or
    experiment. identity: what the data are a copy of (ferlab.data.identity), where they are one.
    run: the content of run.json; of the workspace's page, whose bytes are a result, `note` is the
    address of a page with it.
    """
    splits, split = details["splits"], tables.final(details["splits"])
    kept = history[history["chosen"] == 1]["epoch"].tolist() if history is not None else []
    html = pages.template("report.html").render(
        details=details,
        splits=splits,
        final=split,
        scores=splits[split],
        six=details.get("six_class", {}).get(split),
        grouped=any("groups" in scores for scores in splits.values()),
        references=_references(details, splits[split]),
        epochs=0 if history is None else len(history),
        kept=kept,
        small=_small(params, history),
        key=key,
        recipe=recipe,
        kind=kind,
        main=_main(params),
        yaml=_yaml(params),
        select=params.get("train"),
        views=pages.views(params["evaluate"]) if "evaluate" in params else "",
        wrong=None if wrong is None else _mistakes(wrong, faces),
        samples=samples,
        bars=_bars(splits[split]["per_class"]),
        balance=[] if counts is None else _balance(counts),
        curves=_curves(history, params),
        thresholds=_thresholds(table, split),
        robustness=_robustness(details.get("robustness", [])),
        identity=identity,
        run=run,
        note=note,
    )
    return html + "\n"


def about_run(run):
    """The page that the workspace's report shows in itself: when, where, of which commit."""
    return pages.template("run.html").render(run=run) + "\n"


def strips(dataset, count=10):
    """[(class, PNG bytes)]: training faces of each class side by side, evenly over its ids."""
    train = dataset.split("train")
    original = (train.table["origin"] == "original").to_numpy()
    shown = []
    for name in dataset.classes:
        own = np.flatnonzero(original & (train.table["label"] == name).to_numpy())
        if len(own):
            places = np.linspace(0, len(own) - 1, min(len(own), count)).round().astype(int)
            row = np.full((SIZE, count * SIZE), 0, np.uint8)
            alpha = np.zeros_like(row)
            for column, index in enumerate(own[places]):
                part = slice(column * SIZE, (column + 1) * SIZE - 2)
                row[:, part], alpha[:, part] = train.faces[index][:, :-2], 255
            shown.append((name, pages.png(np.dstack([row, row, row, alpha]))))
    return shown


def _bars(per_class):
    """F1 of each class with its images, the best first."""
    rows = sorted(per_class.items(), key=lambda item: (-item[1]["f1"], item[0]))
    return [
        (name, [(row["f1"], f"{row['f1']:.2f} ({row['support']:,} images)")]) for name, row in rows
    ]


def _balance(counts):
    """[(title, bars, largest)] of train and of each split that balancing changed."""
    shown = []
    for split, rows in counts.groupby("split", sort=False):
        before, after = rows["before"].sum(), rows["after"].sum()
        if split == "train" or (rows["before"] != rows["after"]).any():
            bars = [
                (row.label, [(row.before, f"{row.before:,}"), (row.after, f"{row.after:,}")])
                for row in rows.itertuples()
            ]
            title = f"{split}: {before:,} → {after:,} images"
            shown.append((title, bars, max(rows["before"].max(), rows["after"].max(), 1)))
    return shown


def _small(params, history):
    """How many epochs trained on faces of 32x32 before they had their full size."""
    share = params.get("train", {}).get("low_resolution", 0) if history is not None else 0
    return min(round(share * params["train"]["epochs"]), len(history)) if share else 0


def _curves(history, params):
    """Charts of accuracy and loss by epoch, with a ring round the epoch that was kept."""
    if history is None:
        return []
    select, epochs, small = params["train"]["select_on"], history["epoch"], _small(params, history)
    kept = history[history["chosen"] == 1]
    rules = [(small + 0.5, "48 × 48 from here")] if 0 < small < len(history) else []
    charts, kept_epochs = [], list(kept["epoch"])
    for title, score in (("Accuracy", "accuracy"), ("Loss (cross-entropy)", "loss")):
        running, chosen = history[f"running_{score}"], history[f"selection_{score}"]
        series = [
            ("train, while learning", "var(--soft)", "dots", epochs, running),
            (select, "var(--blue)", "dots", epochs, chosen),
        ]
        shares, marks = (
            ("y",) * (score == "accuracy"),
            list(zip(kept_epochs, kept[chosen.name], strict=True)),
        )
        width, height = (0.5, len(history) + 0.5), pages.around(running, chosen)
        charts.append((title, pages.lines(series, "epoch", width, height, shares, rules, marks)))
    return charts


def _thresholds(table, split):
    """The chart of precision against recall of each class, None where no predictions are known."""
    if table is None:
        return None
    rows, series = tables.parts(table)[split], []
    for place, name in enumerate(tables.classes_of(rows)):
        recall, precision, average = calibration.precision_recall(rows, name)
        if len(recall):
            shown = np.unique(np.searchsorted(recall, np.linspace(recall[0], 1, 60)))
            words = f"{name} {average:.2f}"
            line = pages.colour(place, name), "plain", recall[shown], precision[shown]
            series.append((words, *line))
    return pages.lines(series, "recall", (0, 1), (0, 1), "xy")


def _robustness(rows):
    """[(disturbance, chart)]: accuracy against strength; dashed: of undisturbed faces."""
    plain = next((row["accuracy"] for row in rows if row["disturbance"] == "none"), None)
    charts = []
    for name in dict.fromkeys(row["disturbance"] for row in rows if row["disturbance"] != "none"):
        own = [row for row in rows if row["disturbance"] == name]
        strengths = [row["strength"] for row in own]
        ends = (0, max(strengths))
        series = [
            ("", "var(--soft)", "dashed", ends, (plain, plain)),
            ("", "var(--blue)", "dots", strengths, [row["accuracy"] for row in own]),
        ]
        charts.append((name, pages.lines(series, UNITS[name].split(",")[0], ends, (0, 1), "y")))
    return charts


def _references(details, scores):
    """[(words, accuracy, low, high)]: this network beside people and the commonest class."""
    measured = scores["accuracy"], scores["accuracy_low"], scores["accuracy_high"]
    references = [("this network", *measured)]
    if details["dataset"].startswith("fer2013") and len(details["classes"]) == 7:
        references.append(("people", HUMAN, HUMAN - HUMAN_SPREAD, HUMAN + HUMAN_SPREAD))
    support = {name: row["support"] for name, row in scores["per_class"].items()}
    common = max(support, key=support.get)
    return [*references, (f"always “{common}”", support[common] / scores["n"], None, None)]


def _main(params):
    sections = ((params[section], names) for section, names in MAIN.items() if section in params)
    return {name: section[name] for section, names in sections for name in names}


def _yaml(params):
    text = io.StringIO()
    YAML().dump(params, text)
    return text.getvalue()


def _mistakes(rows, faces):
    records = rows[["id", "label", "predicted", "share"]].to_dict("records")
    return [row | {"png": pages.png(face)} for row, face in zip(records, faces, strict=True)]
