"""`python -m ferlab compare`: a comparison as text on the terminal and as one HTML page."""

import os
from pathlib import Path

import numpy as np

from ferlab import files, recipes
from ferlab.reporting import comparison, pages
from ferlab.reporting.figures import comparison_figures
from ferlab.tracking import artifacts, lookup, sync

SHOWN = 24  # faces of each disagreement
OUT = Path("reports/compare.html")


def write(names, out=OUT, report=print):
    """Compare results by name: report the text, write the page, and add it to their MLflow runs.

    Raises UserError where a name is unknown or nothing can be compared.
    """
    if len(names) < 2:
        raise files.UserError(
            "name at least two results; `python -m ferlab compare speedrun speedrun-s1`"
        )
    results = [lookup.find(name) for name in names]
    compared = comparison.compare(results)
    ids = {id for rows in compared["disagree"] for id in rows.index[:SHOWN]}
    files.write_text(out, page(compared, results, _faces(results[0].details["digest"], ids)))
    report(text(compared))
    report(f"\nwrote {out}")
    with sync.best_effort("warning: the page", "", report):
        artifacts.log_page(names, out)


def verdict(entry):
    """An entry of `significance` in words."""
    low, high = 100 * entry["low"], 100 * entry["high"]
    points = f"{100 * entry['difference']:+.2f} points ({low:+.2f} to {high:+.2f})"
    p = f"p = {entry['p']:.2g}" if entry["p"] > 1e-16 else "p < 1e-16"
    word = "more than chance" if entry["p"] < 0.05 else "could be chance"
    return f"{points}, McNemar {p}: {word}"


def text(compared):
    """Plain lines for a terminal. compared: of comparison.compare."""
    names = compared["names"]
    folded = ", disgust counted as angry" if compared["folded"] else ""
    head = f"{compared['split']} of {compared['dataset']}, {compared['n']:,} images{folded}"
    lines = [head, *[compared["note"]] * bool(compared["note"]), ""]
    lines += [*_accuracies(compared), *_differences(compared), ""]
    lines += _columns("F1 by class", names)
    lines += [
        f"  {label:<24}"
        + "".join(f"{scores['per_class'][label]['f1']:>18.3f}" for scores in compared["scores"])
        for label in compared["classes"]
    ]
    lines += ["", *_columns("set differently", names)]
    lines += [
        f"  {key:<24}" + "".join(f"{str(value):>18}" for value in values)
        for key, values in compared["differing"]
    ]
    return "\n".join(lines if compared["differing"] else [*lines, "  nothing"])


def _columns(title, names):
    return [f"  {title:<24}" + "".join(f"{name[:16]:>18}" for name in names)]


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
    first, *others = compared["names"]
    lines = []
    for name, entry, rows in zip(
        others, compared["significance"], compared["disagree"], strict=True
    ):
        lines += [
            "",
            f"{name} against {first}: {verdict(entry)}",
            f"  only {first} is right on {entry['only_first']:,}, "
            f"only {name} on {entry['only_second']:,}; "
            f"they disagree on {len(rows):,}, first {', '.join(rows.index[:3])}",
        ]
    return lines


def page(compared, results, faces=None):
    """The comparison as one self-contained HTML page.

    compared: of comparison.compare. results: of lookup. faces: {id: uint8 (48, 48)} of the images
    to show, where at hand.
    """

    def draw(folder):
        comparison_figures.matrices(folder / "confusion.png", compared)
        comparison_figures.f1_bars(folder / "f1.png", compared)
        comparison_figures.curves(folder / "curves.png", results)

    pictures = pages.drawn(draw)
    shown = [
        [_shown(row, (faces or {}).get(row.Index)) for row in rows.head(SHOWN).itertuples()]
        for rows in compared["disagree"]
    ]
    template = pages.template("compare.html")
    return (
        template.render(compared=compared, pictures=pictures, shown=shown, verdict=verdict) + "\n"
    )


def _shown(row, face):
    png = None if face is None else pages.png(face)
    predictions = {"label": row.label, "first": row.first, "second": row.second}
    return {"id": row.Index, **predictions, "png": png}


def _faces(digest, ids):
    """{id: face} of the images with these ids, or rows of fer2013.csv as texts.

    They come from a dataset of this digest in data/raw or recipes/runs/raw, or from $FER2013.
    """
    from ferlab.data.dataset import Dataset

    for folder in (Path("data/raw"), recipes.RECIPES / "runs/raw"):
        try:
            if files.read_json(folder / "dataset.json")["digest"] == digest:
                return _select(Dataset.load(folder), ids)
        except (FileNotFoundError, KeyError, files.UserError):
            continue
    return _official_faces(digest, ids)


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
