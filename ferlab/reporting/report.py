"""Figures of a trained model, and one self-contained HTML page that a person would rather look at than at a table.

Nothing here knows the time or the machine: equal results give equal bytes.
"""

import io

from ruamel.yaml import YAML

from ferlab.evaluation import tables
from ferlab.reporting import pages

MAIN = {
    "download": ("dataset",),
    "balance": ("strategy",),
    "train": (
        "model",
        "epochs",
        "batch_size",
        "optimizer",
        "learning_rate",
        "schedule",
        "backend",
        "precision",
        "seed",
    ),
}
HUMAN = (
    0.65,
    0.05,
)  # people's accuracy on FER2013's seven classes: Goodfellow et al. 2013, arXiv:1307.0414


def render(details, history, params, rows, faces, pictures, key="", identity=None):
    """The page as text: HTML that needs no other file.

    params: the whole of params.yaml as nested dicts. rows, faces: the mistakes to show, or None where no faces are at hand.
    pictures: PNG bytes by name (confusion_shares, confusion_counts, per_class_f1, learning_curves, balance, samples); what is
    missing is left out. key: of a recipe's result, else it is the bench's. history: None for what was not trained.
    identity: what the data are a copy of (ferlab.identify.describe), where they are one.
    """
    splits, classes = details["splits"], details["classes"]
    name = tables.final(splits)
    scores = splits[name]
    common = max(scores["per_class"], key=lambda key: scores["per_class"][key]["support"])
    references = [
        ("this network", scores["accuracy"], scores["accuracy_low"], scores["accuracy_high"])
    ]
    if details["dataset"].startswith("fer2013") and len(classes) == 7:
        references.append(("people", HUMAN[0], HUMAN[0] - HUMAN[1], HUMAN[0] + HUMAN[1]))
    references.append(
        (f"always “{common}”", scores["per_class"][common]["support"] / scores["n"], None, None)
    )
    text = io.StringIO()
    YAML().dump(params, text)
    wrong = (
        [
            {
                "id": row.id,
                "label": row.label,
                "predicted": row.predicted,
                "share": row.share,
                "png": pages.png(face),
            }
            for row, face in zip(rows.itertuples(), faces, strict=True)
        ]
        if rows is not None
        else None
    )
    kept = history[history["chosen"] == 1]["epoch"].tolist() if history is not None else []
    return (
        pages.template("report.html").render(
            details=details,
            splits=splits,
            final=name,
            scores=scores,
            six=details["six_class"][name],
            references=references,
            epochs=0 if history is None else len(history),
            kept=kept,
            key=key,
            main={
                name: params[section][name]
                for section, names in MAIN.items()
                if section in params
                for name in names
            },
            yaml=text.getvalue(),
            select=params.get("train"),
            views=pages.views(params["evaluate"]) if "evaluate" in params else "its own",
            wrong=wrong,
            pictures=pictures,
            identity=identity,
        )
        + "\n"
    )
