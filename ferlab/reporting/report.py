"""The page of one result: one self-contained HTML file, easier to read than its tables.

Nothing here knows the time or the machine: equal results give equal bytes.
"""

import io

from ruamel.yaml import YAML

from ferlab.evaluation import tables
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


def render(details, history, params, rows, faces, pictures, key="", identity=None):
    """The page as text: HTML that needs no other file.

    details: the content of details.json. history: of the epochs, None for what was not trained.
    params: all parameters as nested dicts. rows, faces: the mistakes to show and their faces uint8
    (n, 48, 48), or None where no faces are at hand. pictures: PNG bytes by name (confusion_shares,
    confusion_counts, per_class_f1, learning_curves, robustness, balance, samples); what is missing
    is left out. key: of a recipe's result, empty for the workspace's. identity: what the data are a
    copy of (ferlab.data.identity), where they are one.
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
        key=key,
        main=_main(params),
        yaml=_yaml(params),
        select=params.get("train"),
        views=pages.views(params["evaluate"]) if "evaluate" in params else "",
        wrong=None if rows is None else _mistakes(rows, faces),
        pictures=pictures,
        identity=identity,
    )
    return html + "\n"


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
