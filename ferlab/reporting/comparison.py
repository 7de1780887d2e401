"""Two or more results side by side: what was set differently, what came out, and whether the difference is noise.

A result is named as a recipe's key, a DVC experiment, an MLflow run (name or id), or `bench` for the working directory. All
are compared with the first one, on the images that both predicted; six- and seven-class results on six classes.
"""

import pandas as pd

from ferlab import files, params
from ferlab.evaluation import scoring, significance, tables

FORMS = (
    "not the same pixels: some of these results are on fer2013, the official ones, some on fer2013-jpeg, the same "
    "faces saved as JPEG"
)


def compare(found):
    """All that is shown, from two or more Results: a dict of tables, each later result against the first.

    Raises UserError where they have no evaluation images in common.
    """
    final = next(
        (
            name
            for name in ("private", "test")
            if all(name in one.details["splits"] for one in found)
        ),
        None,
    )
    judged = [_final(one) for one in found]
    folded = len({tables.classes_of(table) for table in judged}) > 1
    if folded:
        judged = [tables.fold(table) for table in judged]
    if final is None or len({tables.classes_of(table) for table in judged}) > 1:
        raise files.UserError(
            f"{' and '.join(one.name for one in found)}: not the same classes or splits, nothing to compare"
        )
    datasets = sorted({one.details["dataset"] for one in found})
    # The same faces, differently saved, have other ids in the two forms; each still shows its row of fer2013.csv.
    both = datasets == ["fer2013", "fer2013-jpeg"]
    for one, table in zip(found, judged, strict=True):
        if both and "official" not in table:
            raise files.UserError(
                f"{one.name}: written before faces were known by their row of fer2013.csv; evaluate it again"
            )
    judged = [table.set_index(table["official"].astype(str) if both else "id") for table in judged]
    common = judged[0].index
    for table in judged[1:]:
        common = common[common.isin(table.index)]
    judged = [table.loc[common] for table in judged]
    if not len(common) or any((table["label"] != judged[0]["label"]).any() for table in judged):
        raise files.UserError(
            f"{' and '.join(one.name for one in found)}: judged on different images (datasets "
            f"{', '.join(datasets)}); nothing to compare"
        )
    classes = tables.classes_of(judged[0])
    scores = [scoring.scores(table["label"], table["predicted"], classes) for table in judged]
    right = [(table["label"] == table["predicted"]).to_numpy() for table in judged]
    return {
        "names": [one.name for one in found],
        "dataset": " and ".join(datasets),
        "note": FORMS if both else "",
        "split": final,
        "n": len(common),
        "folded": folded,
        "classes": classes,
        "scores": scores,
        "differing": differing([one.values for one in found]),
        "noise": [significance.compare(right[0], other) for other in right[1:]],
        "disagree": [disagreements(judged[0], table) for table in judged[1:]],
    }


def _final(one):
    rows = tables.parts(one.predictions)
    return rows[tables.final(rows)]


def differing(values):
    """[(section.key, value of each)] of the parameters that are not the same everywhere; what an older result or a recipe does
    not name has its default."""
    defaults = {
        f"{section}.{key}": field.default
        for section, model in params.SECTIONS.items()
        for key, field in model.model_fields.items()
        if not field.is_required()
    }
    flat = [
        {name: value for name, value in defaults.items() if name.split(".")[0] in one}
        | {
            f"{section}.{key}": value
            for section, inner in one.items()
            for key, value in inner.items()
        }
        for one in values
    ]
    every = dict.fromkeys(key for one in flat for key in one)
    rows = [(key, [one.get(key, "–") for one in flat]) for key in every]
    return [(key, row) for key, row in rows if any(value != row[0] for value in row)]


def disagreements(first, second):
    """Rows (index: id) on which two tables say different things: label, first, second; the surest disagreement first."""
    rows = first.index[first["predicted"].to_numpy() != second["predicted"].to_numpy()]
    chances = [f"p_{name}" for name in tables.classes_of(first)]
    sure = first.loc[rows, chances].max(axis=1) + second.loc[rows, chances].max(axis=1)
    table = pd.DataFrame(
        {
            "label": first.loc[rows, "label"],
            "first": first.loc[rows, "predicted"],
            "second": second.loc[rows, "predicted"],
            "sure": sure,
        }
    )
    return table.sort_values("sure", ascending=False, kind="stable")
