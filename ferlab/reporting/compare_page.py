"""`python -m ferlab compare`: a comparison as text on the terminal and as one HTML page."""

import os
from pathlib import Path

import numpy as np

from ferlab import files, recipes
from ferlab.reporting import comparison, pages
from ferlab.tracking import artifacts, lookup, sync

SHOWN = 24  # faces of each disagreement
OUT = Path("reports/compare.html")
FETCH = {  # dataset: what brings its faces here
    "fer2013": "export FER2013=<your copy of FER2013>",
    "fer2013-jpeg": "dvc --cd recipes repro download_jpeg",
}


def write(names, out=OUT, report=print):
    """Compare results by name: report the text, write the page, and add it to their MLflow runs.

    Raises UserError where a name is unknown or nothing can be compared.
    """
    if len(names) < 2:
        raise files.UserError(
            "name at least two results; `python -m ferlab compare speedrun speedrun-s1`"
        )
    results = [lookup.find(name) for name in names]
    compared = comparison.compare(results, _other_seeds(names))
    ids = {id for rows in compared["disagree"] for id in rows.index[:SHOWN]}
    faces, why = _faces(results[0].details, ids)
    files.write_text(out, page(compared, results, faces, why))
    report(text(compared))
    if why:
        report(f"\n{why}")
    report(f"\nwrote {out}")
    with sync.best_effort("warning: the page", "", report):
        artifacts.log_page(names, out)


def _other_seeds(names):
    """The committed results of the same recipes as those named, with other seeds."""
    keys = recipes.with_result()
    wanted = {recipes.recipe_of(name)[0] for name in names if name in keys}
    others = [key for key in keys if recipes.recipe_of(key)[0] in wanted and key not in names]
    return [lookup.find(key) for key in others]


def verdict(entry, pair):
    """An entry of `significance` in words. pair: the entry of `recipes` of the same two results."""
    two = "these two trained networks" if pair["trained"] else "these two results"
    if entry["p_holm"] < 0.05:
        word = f"{two} differ by more than the luck of the images"
    else:
        word = f"between {two} that may be the luck of the images"
    return f"{_points(entry)}, McNemar {_p(entry)}: {word}"


def recipe_verdict(pair):
    """An entry of `recipes` in words, empty where a result has no seed of its own."""
    if pair["same"]:
        luck = "one recipe, trained twice: what differs is luck, of the seed too, whatever p says"
        return "this is the same result twice" if pair["equal"] else luck
    if not pair["trained"]:
        return ""
    test, (first, second) = pair["test"], pair["seeds"]
    if not test:
        return (
            "of the recipes that says nothing: another seed may turn it round; two seeds or more "
            f"of each are needed (known: {second} against {first})"
        )
    means = [f"{100 * mean:.2f} %" for mean in test["means"]]
    word = "more than" if test["p_holm"] < 0.05 else "may be"
    return (
        f"the recipes, {second} seeds (mean {means[1]}) against {first} ({means[0]}): "
        f"{_points(test)}, {_p(test)}: {word} the luck of seeds and images"
    )


def _points(entry):
    # adding zero makes no -0.00 of what is a little less than nothing
    value, low, high = (round(100 * entry[key], 2) + 0 for key in ("difference", "low", "high"))
    return f"{value:+.2f} points ({low:+.2f} to {high:+.2f})"


def _p(entry):
    """p as it is, and corrected where there are several tests."""

    def shown(p):
        return f"= {p:.2g}" if p > 1e-16 else "< 1e-16"

    if entry["tests"] == 1:
        return f"p {shown(entry['p'])}"
    return f"p {shown(entry['p'])} (Holm over {entry['tests']} tests: p {shown(entry['p_holm'])})"


def text(compared):
    """Plain lines for a terminal. compared: of comparison.compare."""
    names = compared["names"]
    folded = ", disgust counted as angry" if compared["folded"] else ""
    head = f"{compared['split']} of {compared['dataset']}, {compared['n']:,} images{folded}"
    lines = [head, *[compared["note"]] * bool(compared["note"]), ""]
    lines += [*_accuracies(compared), *_differences(compared), ""]
    scores = [
        (label, [f"{each['per_class'][label]['f1']:.3f}" for each in compared["scores"]])
        for label in compared["classes"]
    ]
    lines += [*_table("F1 by class", names, scores), ""]
    settings = [(key, [f"{value!s:.40}" for value in row]) for key, row in compared["differing"]]
    lines += (
        _table("set differently", names, settings) if settings else ["  set differently: nothing"]
    )
    return "\n".join(lines)


def _table(title, names, rows):
    """Lines of a table with a column for each name. rows: (words, a text for each name)."""
    cells = zip(names, *(row[1] for row in rows), strict=True)
    widths = [max(16, *map(len, column)) for column in cells]
    return [
        f"  {words:<24}" + "".join(f"  {c:>{w}}" for c, w in zip(texts, widths, strict=True))
        for words, texts in [(title, names), *rows]
    ]


def _accuracies(compared):
    width = max(14, *(len(name) for name in compared["names"]))
    lines = [f"  {'accuracy':<{width}}"]
    for name, scores in zip(compared["names"], compared["scores"], strict=True):
        low, high = 100 * scores["accuracy_low"], 100 * scores["accuracy_high"]
        lines.append(
            f"  {name:<{width}} {100 * scores['accuracy']:6.2f} %  ({low:.2f} to {high:.2f})   "
            f"F1 macro {scores['f1_macro']:.3f}"
        )
    return lines


def _differences(compared):
    (first, *others), lines = compared["names"], []
    columns = (compared[key] for key in ("significance", "recipes", "disagree"))
    for name, entry, pair, rows in zip(others, *columns, strict=True):
        lines += [
            "",
            f"{name} against {first}: {verdict(entry, pair)}",
            *[f"  {words}" for words in [recipe_verdict(pair)] if words],
            f"  only {first} is right on {entry['only_first']:,}, "
            f"only {name} on {entry['only_second']:,}; they disagree on "
            f"{len(rows):,}{', first ' * bool(len(rows))}{', '.join(rows.index[:3])}",
        ]
    return lines


def page(compared, results, faces=None, why=""):
    """The comparison as one self-contained HTML page.

    compared: of comparison.compare. results: of lookup. faces: {id: uint8 (48, 48)} of the images
    to show, where at hand; why: what is said where they are not.
    """
    names = [(name, pages.colour(place)) for place, name in enumerate(compared["names"])]
    shown = [
        [_shown(row, (faces or {}).get(row.Index)) for row in rows.head(SHOWN).itertuples()]
        for rows in compared["disagree"]
    ]
    f1 = [[scores["per_class"][name]["f1"] for scores in compared["scores"]]
          for name in compared["classes"]]  # fmt: skip
    html = pages.template("compare.html").render(
        compared=compared,
        legend=names,
        bars=[
            (name, [(value, f"{value:.2f}") for value in values])
            for name, values in zip(compared["classes"], f1, strict=True)
        ],
        curves=_curves(results, names),
        shown=shown,
        why=why,
        verdict=verdict,
        recipe_verdict=recipe_verdict,
    )
    return html + "\n"


def _curves(results, names):
    """[(title, chart)]: accuracy on the selection split by epoch, and by seconds where known."""
    by = {"epoch": [], "seconds of training": []}
    for result, (name, ink) in zip(results, names, strict=True):
        if result.history is None:
            continue
        accuracy = result.history["selection_accuracy"]
        by["epoch"].append((name, ink, "dots", result.history["epoch"], accuracy))
        if len(result.seconds) == len(result.history):
            line = name, ink, "dots", np.cumsum(result.seconds), accuracy
            by["seconds of training"].append(line)
    charts = []
    for label, series in by.items():
        if series:
            across, up = ([line[place] for line in series] for place in (3, 4))
            ends = (0, max(float(max(values)) for values in across) + 0.5)
            chart = pages.lines(series, label, ends, pages.around(*up), "y")
            charts.append((f"Accuracy on the selection split by {label}", chart))
    return charts


def _shown(row, face):
    png = None if face is None else pages.png(face)
    predictions = {"label": row.label, "first": row.first, "second": row.second}
    return {"id": row.Index, **predictions, "png": png}


def _faces(details, ids):
    """({id: face} of the images with these ids, or rows of fer2013.csv as texts; why not, or ""),
    from data/raw, recipes/runs or $FER2013. details: of a result (details.json).
    """
    from ferlab.data.dataset import Dataset

    for folder in (Path("data/raw"), *sorted(recipes.RECIPES.glob("runs/raw*"))):
        try:
            if files.read_json(folder / "dataset.json")["digest"] == details["digest"]:
                return _select(Dataset.load(folder), ids), ""
        except (FileNotFoundError, KeyError, files.UserError):
            continue
    faces = _official_faces(details["digest"], ids)
    if faces or not ids:
        return faces, ""
    fix = FETCH.get(details["dataset"], "make repro DATA=<its place>")
    return {}, (
        f"the faces themselves are not shown: {details['dataset']} is not in data/raw, and "
        f"$FER2013 names no such copy; {fix}"
    )


def _official_faces(digest, ids):
    """The same from $FER2013, where it is that dataset."""
    from ferlab.data.readers import sources

    if not os.environ.get("FER2013") or sources.NAMES.get(digest) != "fer2013":
        return {}
    try:
        data, _ = sources.read("fer2013")
    except files.UserError:  # the faces are an extra: no comparison fails for them
        return {}
    return _select(data, ids)


def _select(data, ids):
    for names in (data.table["id"], data.table["official"].astype(str)):
        rows = np.flatnonzero(names.isin(ids))
        if len(rows):
            return dict(zip(names.iloc[rows], data.faces[rows], strict=True))
    return {}
