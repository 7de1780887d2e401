"""Two or more results side by side: parameters, scores, and whether they differ by chance.

All are compared with the first one, on the images that both predicted; six- and seven-class results
on six classes. A result is named as ferlab.tracking.lookup finds it.
"""

import pandas as pd

from ferlab import files, params
from ferlab.evaluation import scoring, significance, tables

TWO_FORMS = (
    "not the same pixels: some of these results are on fer2013, the official ones, some on "
    "fer2013-jpeg, the same faces saved as JPEG"
)


def compare(results):
    """What is shown of two or more Results, each later one against the first, as a dict.

    names, dataset, note, split, n (images), folded (whether disgust counts as angry), classes,
    scores (of each, as in details.json), differing (see `differing`), significance (of each later
    one) and disagree (see `disagreements`). Raises UserError where they share no evaluation images.
    """
    datasets = sorted({result.details["dataset"] for result in results})
    # The same faces, saved in another way, have other ids; each still has its row of fer2013.csv.
    two_forms = datasets == ["fer2013", "fer2013-jpeg"]
    split = _final_split(results)
    rows, folded = _folded(results, split)
    rows = _common(
        results, [_by_face(*pair, two_forms) for pair in zip(results, rows, strict=True)]
    )
    classes = tables.classes_of(rows[0])
    right = [(table["label"] == table["predicted"]).to_numpy() for table in rows]
    return {
        "names": [result.name for result in results],
        "dataset": " and ".join(datasets),
        "note": TWO_FORMS if two_forms else "",
        "split": split,
        "n": len(rows[0]),
        "folded": folded,
        "classes": classes,
        "scores": [scoring.scores(table["label"], table["predicted"], classes) for table in rows],
        "differing": differing([result.values for result in results]),
        "significance": [significance.compare(right[0], other) for other in right[1:]],
        "disagree": [disagreements(rows[0], table) for table in rows[1:]],
    }


def differing(values):
    """[(section.key, value of each)] of the parameters that are not the same everywhere.

    values: parameters as nested dicts. What an older result or a recipe does not name has its
    default.
    """
    defaults = {
        f"{section}.{key}": field.default
        for section, model in params.SECTIONS.items()
        for key, field in model.model_fields.items()
        if not field.is_required()
    }
    flat = []
    for sections in values:
        own = {
            f"{section}.{key}": value
            for section, inner in sections.items()
            for key, value in inner.items()
        }
        known = {key: value for key, value in defaults.items() if key.split(".")[0] in sections}
        flat.append(known | own)
    keys = dict.fromkeys(key for each in flat for key in each)
    rows = [(key, [each.get(key, "–") for each in flat]) for key in keys]
    return [(key, row) for key, row in rows if any(value != row[0] for value in row)]


def disagreements(first, second):
    """The rows that two tables predict differently, the surest disagreement first.

    Columns label, first, second (predictions) and sure, indexed by id.
    """
    rows = first.index[first["predicted"].to_numpy() != second["predicted"].to_numpy()]
    sure = sum(tables.probabilities(table.loc[rows]).max(axis=1) for table in (first, second))
    table = pd.DataFrame(
        {
            "label": first.loc[rows, "label"],
            "first": first.loc[rows, "predicted"],
            "second": second.loc[rows, "predicted"],
            "sure": sure,
        }
    )
    return table.sort_values("sure", ascending=False, kind="stable")


def _final_split(results):
    """private or test, whichever all results have."""
    for split in ("private", "test"):
        if all(split in result.details["splits"] for result in results):
            return split
    raise _nothing_in_common(results)


def _folded(results, split):
    """([rows of that split], whether disgust had to be counted as angry)."""
    rows = [tables.parts(result.predictions)[split] for result in results]
    folded = len({tables.classes_of(table) for table in rows}) > 1
    if folded:
        rows = [tables.fold(table) for table in rows]
    if len({tables.classes_of(table) for table in rows}) > 1:
        raise _nothing_in_common(results)
    return rows, folded


def _nothing_in_common(results):
    names = " and ".join(result.name for result in results)
    return files.UserError(f"{names}: not the same classes or splits, nothing to compare")


def _by_face(result, table, two_forms):
    """The table indexed by id, or by the row of fer2013.csv where the forms differ."""
    if not two_forms:
        return table.set_index("id")
    if "official" not in table:
        raise files.UserError(
            f"{result.name}: written before faces were known by their row of fer2013.csv; "
            "evaluate it again"
        )
    return table.set_index(table["official"].astype(str))


def _common(results, rows):
    """The rows of the images that all results have, in one order."""
    common = rows[0].index
    for table in rows[1:]:
        common = common[common.isin(table.index)]
    rows = [table.loc[common] for table in rows]
    if not len(common) or any((table["label"] != rows[0]["label"]).any() for table in rows):
        names = " and ".join(result.name for result in results)
        datasets = ", ".join(sorted({result.details["dataset"] for result in results}))
        raise files.UserError(
            f"{names}: evaluated on different images (datasets {datasets}); nothing to compare"
        )
    return rows
