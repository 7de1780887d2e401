"""Figures of a comparison: confusion matrices and their differences, F1 by class, curves."""

import numpy as np

from ferlab.reporting.figures.style import ACCENT, INK, WIDTH, figure

LINES = ("#30638e", "#d1495b", "#6a994e", "#6d597a", "#edae49", "#00a6a6")


def matrices(path, comparison):
    """A confusion matrix per result, in percent of the class, and the differences beside them.

    comparison: of ferlab.reporting.comparison.compare.
    """
    names, classes = comparison["names"], [name[:9] for name in comparison["classes"]]
    counts = [np.asarray(scores["confusion"]) for scores in comparison["scores"]]
    shares = [matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1) for matrix in counts]
    panels = [(name, share, False) for name, share in zip(names, shares, strict=True)]
    panels += [
        (f"{name} minus {names[0]}", share - shares[0], True)
        for name, share in zip(names[1:], shares[1:], strict=True)
    ]
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    grid = {"rows": rows, "columns": columns, "squeeze": False}
    with figure(path, 4.4 * columns, 4.2 * rows, **grid) as (_, axes):
        for axis, (title, values, signed) in zip(axes.flat, panels, strict=False):
            _matrix(axis, values, signed)
            axis.set_xticks(range(len(classes)), classes, rotation=40, ha="right")
            axis.set_yticks(range(len(classes)), classes)
            axis.grid(visible=False)
            axis.set_title(title[:44])
        for axis in axes.flat[len(panels) :]:
            axis.axis("off")


def _matrix(axis, values, signed):
    """values: shares, or differences of shares where `signed`."""
    limit = max(np.abs(values).max(), 0.05) if signed else 1
    low, colours = (-limit, "RdBu") if signed else (0, "Blues")
    axis.imshow(values, cmap=colours, vmin=low, vmax=limit)
    for (y, x), value in np.ndenumerate(values):
        words = f"{100 * value:+.0f}" if signed else f"{100 * value:.0f}"
        colour = "white" if abs(value) > 0.65 * limit else INK
        axis.text(x, y, words, ha="center", va="center", fontsize=8, color=colour)


def f1_bars(path, comparison):
    """F1 of each class, a bar per result."""
    names, classes = comparison["names"], comparison["classes"]
    places, height = np.arange(len(classes)), 0.8 / len(names)
    with figure(path, WIDTH, 1.4 + 0.3 * len(places) * len(names)) as (_, axes):
        for turn, (name, scores) in enumerate(zip(names, comparison["scores"], strict=True)):
            axes.barh(
                places + (turn - (len(names) - 1) / 2) * height,
                [scores["per_class"][label]["f1"] for label in classes],
                height * 0.92,
                label=name[:40],
                color=LINES[turn % len(LINES)],
            )
        axes.set_yticks(places, classes)
        axes.invert_yaxis()
        axes.set(title="F1 by class", xlim=(0, 1))
        axes.grid(visible=False, axis="y")
        axes.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.06), ncols=2)


def curves(path, results):
    """Accuracy on the selection split by epoch, and by seconds where these are known.

    results: of ferlab.tracking.lookup.
    """
    with figure(path, WIDTH, 5.2, rows=2) as (_, (epochs, seconds)):
        for turn, result in enumerate(results):
            if result.history is None:
                continue
            accuracy = result.history["selection_accuracy"]
            line = {"color": LINES[turn % len(LINES)], "label": result.name[:40], "marker": "."}
            epochs.plot(result.history["epoch"], accuracy, **line)
            if len(result.seconds) == len(result.history):
                seconds.plot(np.cumsum(result.seconds), accuracy, **line)
        epochs.set(title="Accuracy on the selection split", xlabel="epoch")
        seconds.set(xlabel="seconds of training")
        if not seconds.lines:
            look = {"transform": seconds.transAxes, "ha": "center", "color": ACCENT}
            seconds.text(0.5, 0.5, "no seconds were noted", **look)
        if epochs.lines:
            epochs.legend(frameon=False, loc="lower right")
