"""A comparison as text, as figures and as one HTML page."""

import os
import tempfile
from pathlib import Path

import numpy as np

from ferlab import files, recipes
from ferlab.reporting import comparison, pages
from ferlab.reporting.figures import ACCENT, INK, figure
from ferlab.tracking import lookup

LINES = ("#30638e", "#d1495b", "#6a994e", "#6d597a", "#edae49", "#00a6a6")


def verdict(one):
    """A noise entry in words."""
    points = f"{100 * one['difference']:+.2f} points ({100 * one['low']:+.2f} to {100 * one['high']:+.2f})"
    p = f"p = {one['p']:.2g}" if one["p"] > 1e-16 else "p < 1e-16"
    return f"{points}, McNemar {p}: " + (
        "more than chance" if one["p"] < 0.05 else "could be chance"
    )


def text(told):
    """Plain lines for a terminal."""
    width = max(14, *(len(name) for name in told["names"]))
    folded = ", disgust counted as angry" if told["folded"] else ""
    lines = [
        f"{told['split']} of {told['dataset']}, {told['n']:,} images{folded}",
        *[told["note"]] * bool(told["note"]),
        "",
        f"  {'accuracy':<{width}}",
    ]
    for name, scores in zip(told["names"], told["scores"], strict=True):
        lines.append(
            f"  {name:<{width}} {100 * scores['accuracy']:6.2f} %  ({100 * scores['accuracy_low']:.2f} to "
            f"{100 * scores['accuracy_high']:.2f})   F1 macro {scores['f1_macro']:.3f}"
        )
    for name, one, rows in zip(told["names"][1:], told["noise"], told["disagree"], strict=True):
        lines += [
            "",
            f"{name} against {told['names'][0]}: {verdict(one)}",
            f"  only {told['names'][0]} is right on {one['only_first']:,}, only {name} on {one['only_second']:,}; "
            f"they disagree on {len(rows):,}, first {', '.join(rows.index[:3])}",
        ]
    lines += ["", f"  {'F1 by class':<24}" + "".join(f"{name[:16]:>18}" for name in told["names"])]
    lines += [
        f"  {label:<24}"
        + "".join(f"{scores['per_class'][label]['f1']:>18.3f}" for scores in told["scores"])
        for label in told["classes"]
    ]
    lines += [
        "",
        f"  {'set differently':<24}" + "".join(f"{name[:16]:>18}" for name in told["names"]),
    ]
    lines += [
        f"  {key:<24}" + "".join(f"{str(value):>18}" for value in values)
        for key, values in told["differing"]
    ]
    return "\n".join(lines if told["differing"] else [*lines, "  nothing"])


def page(told, found, faces=None):
    """The comparison as one self-contained HTML page. faces: {id: uint8 (48, 48)} of the images to show, where at hand."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        _matrices(folder / "confusion.png", told)
        _bars(folder / "f1.png", told)
        _curves(folder / "curves.png", found)
        pictures = {file.stem: file.read_bytes() for file in sorted(folder.glob("*.png"))}
    shown = [
        [
            {
                "id": row.Index,
                "label": row.label,
                "first": row.first,
                "second": row.second,
                "png": pages.png(faces[row.Index]) if faces and row.Index in faces else None,
            }
            for row in rows.head(24).itertuples()
        ]
        for rows in told["disagree"]
    ]
    return (
        pages.template("compare.html").render(
            told=told, pictures=pictures, shown=shown, verdict=verdict
        )
        + "\n"
    )


def write(names, out=Path("reports/compare.html"), report_to=print):
    """Compare by name: prints the text, writes the page, and adds it to the MLflow runs of those that have one."""
    if len(names) < 2:
        raise files.UserError(
            "name at least two results; `python -m ferlab compare workspace silva_2025`"
        )
    found = [lookup.find(name) for name in names]
    told = comparison.compare(found)
    wanted = {id for rows in told["disagree"] for id in rows.index[:24]}
    files.write_text(out, page(told, found, pixels(found[0].details["digest"], wanted)))
    report_to(text(told))
    report_to(f"\nwrote {out}")
    try:
        from ferlab.tracking import runs

        runs.log_page(names, out)
    except Exception as error:  # noqa: BLE001 - best effort: the page is on disk
        report_to(f"warning: not added to MLflow ({type(error).__name__})")


def pixels(digest, wanted):
    """{id: face} of the images with these ids, or rows of fer2013.csv as texts, from a dataset of this digest that lies in
    data/raw or recipes/runs/raw, or is $FER2013."""
    from ferlab.data.dataset import Dataset

    for folder in (Path("data/raw"), recipes.RECIPES / "runs/raw"):
        try:
            if files.read_json(folder / "dataset.json")["digest"] == digest:
                data = Dataset.load(folder)
                return _chosen(data, wanted)
        except (FileNotFoundError, KeyError, files.UserError):
            continue
    return _given(digest, wanted)


def _given(digest, wanted):
    """The same from $FER2013, where it is that dataset."""
    from ferlab.data.readers import sources

    if not os.environ.get("FER2013") or sources.NAMES.get(digest) != "fer2013":
        return {}
    try:
        data, _ = sources.read("fer2013")
    except files.UserError:  # the faces are an extra: no comparison fails for them
        return {}
    return _chosen(data, wanted)


def _chosen(data, wanted):
    for names in (data.table["id"], data.table["official"].astype(str)):
        rows = np.flatnonzero(names.isin(wanted))
        if len(rows):
            return dict(zip(names.iloc[rows], data.faces[rows], strict=True))
    return {}


def _matrices(path, told):
    """A confusion matrix per result, in percent of the class, and the first difference beside them."""
    names, classes = told["names"], [name[:9] for name in told["classes"]]
    matrices = [np.asarray(one["confusion"]) for one in told["scores"]]
    shares = [matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1) for matrix in matrices]
    panels = [(name, share, 0, "Blues") for name, share in zip(names, shares, strict=True)]
    panels += [
        (f"{name} minus {names[0]}", share - shares[0], 1, "RdBu")
        for name, share in zip(names[1:], shares[1:], strict=True)
    ]
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    with figure(path, 4.4 * columns, 4.2 * rows, rows=rows, columns=columns, squeeze=False) as (
        _,
        axes,
    ):
        for axis, (title, values, signed, colours) in zip(axes.flat, panels, strict=False):
            limit = max(np.abs(values).max(), 0.05) if signed else 1
            axis.imshow(values, cmap=colours, vmin=-limit if signed else 0, vmax=limit)
            for (y, x), value in np.ndenumerate(values):
                words = f"{100 * value:+.0f}" if signed else f"{100 * value:.0f}"
                axis.text(
                    x,
                    y,
                    words,
                    ha="center",
                    va="center",
                    fontsize=8,
                    color="white" if abs(value) > 0.65 * limit else INK,
                )
            axis.set_xticks(range(len(classes)), classes, rotation=40, ha="right")
            axis.set_yticks(range(len(classes)), classes)
            axis.grid(visible=False)
            axis.set_title(title[:44])
        for axis in axes.flat[len(panels) :]:
            axis.axis("off")


def _bars(path, told):
    places = np.arange(len(told["classes"]))
    height = 0.8 / len(told["names"])
    with figure(path, 5.6, 1.4 + 0.3 * len(places) * len(told["names"])) as (_, axes):
        for turn, (name, scores) in enumerate(zip(told["names"], told["scores"], strict=True)):
            axes.barh(
                places + (turn - (len(told["names"]) - 1) / 2) * height,
                [scores["per_class"][label]["f1"] for label in told["classes"]],
                height * 0.92,
                label=name[:40],
                color=LINES[turn % len(LINES)],
            )
        axes.set_yticks(places, told["classes"])
        axes.invert_yaxis()
        axes.set(title="F1 by class", xlim=(0, 1))
        axes.grid(visible=False, axis="y")
        axes.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.06), ncols=2)


def _curves(path, found):
    """Accuracy on the selection split against epochs, and against seconds where these were noted."""
    with figure(path, 5.6, 5.2, rows=2) as (_, (epochs, seconds)):
        timed = False
        for turn, one in enumerate(found):
            if one.history is None:
                continue
            line = {"color": LINES[turn % len(LINES)], "label": one.name[:40], "marker": "."}
            epochs.plot(one.history["epoch"], one.history["selection_accuracy"], **line)
            if len(one.seconds) == len(one.history):
                seconds.plot(np.cumsum(one.seconds), one.history["selection_accuracy"], **line)
                timed = True
        epochs.set(title="Accuracy on the selection split", xlabel="epoch")
        seconds.set(xlabel="seconds of training")
        if not timed:
            seconds.text(
                0.5,
                0.5,
                "no seconds were noted",
                transform=seconds.transAxes,
                ha="center",
                color=ACCENT,
            )
        if any(one.history is not None for one in found):
            epochs.legend(frameon=False, loc="lower right")
