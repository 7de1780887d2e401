"""Two or more results side by side: parameters, scores, and whether they differ by luck.

All are compared with the first one, on the images that both predicted; six- and seven-class results
on six classes. A result is named as ferlab.tracking.lookup finds it. Results whose parameters
differ in their seeds alone are one recipe; where two recipes have several seeds each, the recipes
are compared too, a trained network being the unit.
"""

import numpy as np
import pandas as pd

from ferlab import files, params
from ferlab.evaluation import scoring, significance, tables

SEEDS = ("train.seed", "balance.seed")  # what alone differs between results of one recipe
TWO_FORMS = (
    "not the same pixels: some of these results are on fer2013, the official ones, some on "
    "fer2013-jpeg, the same faces saved as JPEG"
)


def compare(results, further=()):
    """What is shown of two or more Results, each later one against the first, as a dict.

    further: Results that are not shown, but count as further seeds of a recipe that is.

    names, dataset, note, split, n (images), folded (whether disgust counts as angry), classes,
    scores (of each, as in details.json), differing (see `differing`); of each later one
    significance (of the two trained networks, with p_holm where there are several later ones),
    disagree (see `disagreements`) and recipes (see `_recipes`). Raises UserError where they share
    no evaluation images.
    """
    rows, split, folded = _aligned(results)
    classes = tables.classes_of(rows[0])
    first, *others = _right(rows)
    tests = [significance.compare(first, other) for other in others]
    return {
        "names": [result.name for result in results],
        "dataset": " and ".join(_datasets(results)),
        "note": TWO_FORMS if _are_two_forms(results) else "",
        "split": split,
        "n": len(rows[0]),
        "folded": folded,
        "classes": classes,
        "scores": [scoring.scores(table["label"], table["predicted"], classes) for table in rows],
        "differing": differing([result.values for result in results]),
        "significance": _with_holm(tests),
        "disagree": [disagreements(rows[0], table) for table in rows[1:]],
        "recipes": _recipes(results, further),
    }


def _recipes(results, further):
    """What can be said of the recipes of each later result and the first one, a list of dicts.

    equal: parameters and scores are the same. same: they are one recipe, trained with other seeds.
    trained: both have a seed at all. seeds: how many of each recipe are known. test: of
    significance.recipes, with p_holm, where both have two or more.
    """
    seeds = [_seeds_of(result, [*results, *further]) for result in results]
    pairs = []
    for result, own in zip(results[1:], seeds[1:], strict=True):
        pair = {
            "equal": not differing([results[0].values, result.values])
            and results[0].details == result.details,
            "same": _are_one_recipe(results[0], result),
            "trained": all("train" in each.values for each in (results[0], result)),
            "seeds": [len(seeds[0]), len(own)],
            "test": None,
        }
        if not pair["same"] and pair["trained"] and min(pair["seeds"]) > 1:
            right = np.stack(_right(_aligned([*seeds[0], *own])[0]))
            pair["test"] = significance.recipes(right[: len(seeds[0])], right[len(seeds[0]) :])
        pairs.append(pair)
    tested = [pair for pair in pairs if pair["test"]]
    for pair, test in zip(tested, _with_holm([pair["test"] for pair in tested]), strict=True):
        pair["test"] = test
    return pairs


def _with_holm(tests):
    """The tests with their number, `tests`, and p corrected for it, `p_holm`."""
    adjusted = significance.holm([test["p"] for test in tests])
    count = {"tests": len(tests)}
    return [test | count | {"p_holm": p} for test, p in zip(tests, adjusted, strict=True)]


def _are_one_recipe(first, second):
    """Whether the parameters of two results differ in nothing but their seeds."""
    keys = {key for key, _ in differing([first.values, second.values])}
    return all(key in SEEDS or key.startswith("explain.") for key in keys)


def _seeds_of(result, known):
    """The results of one recipe on one dataset among those known, one for each seed."""
    seeds = {}
    for other in known:
        same_data = other.details["digest"] == result.details["digest"]
        if same_data and _are_one_recipe(result, other):
            seed = [other.values.get(key.split(".")[0], {}).get("seed") for key in SEEDS]
            seeds.setdefault(tuple(seed), other)
    return list(seeds.values())


def _datasets(results):
    return sorted({result.details["dataset"] for result in results})


def _are_two_forms(results):
    """Whether they are of the same faces, saved in two ways: these have other ids, but each still
    has its row of fer2013.csv."""
    return _datasets(results) == ["fer2013", "fer2013-jpeg"]


def _aligned(results):
    """([the rows of each for the images that all have], split, whether disgust counts as angry)."""
    split, two_forms = _final_split(results), _are_two_forms(results)
    rows, folded = _folded(results)
    by_face = [_by_face(*pair, two_forms) for pair in zip(results, rows, strict=True)]
    return _common(results, by_face), split, folded


def _right(rows):
    """[bool (N,)]: where each table is right."""
    return [(table["label"] == table["predicted"]).to_numpy() for table in rows]


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
    """private where a result has it, else test; each must have one of them.

    What one result calls test may hold the public images that chose the other's epoch: only the
    private ones of them are compared then.
    """
    finals = {tables.final(result.details["splits"]) for result in results}
    if not all({"private", "test"} & set(result.details["splits"]) for result in results):
        raise _nothing_in_common(results)
    return "private" if "private" in finals else "test"


def _folded(results):
    """([rows of each one's final split], whether disgust had to be counted as angry)."""
    parts = [tables.parts(result.predictions) for result in results]
    rows = [part[tables.final(part)] for part in parts]
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
