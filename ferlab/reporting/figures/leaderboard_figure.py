"""The leaderboard's figure: accuracy against training time."""

import numpy as np
from matplotlib.text import Text
from matplotlib.ticker import PercentFormatter
from matplotlib.transforms import Bbox

from ferlab.reporting.figures.style import ACCENT, INK, MUTED, figure

MINUTES = (1, 2, 5, 10, 20, 50, 100)  # marks of the axis
# where a name may stand, in points from its dot, the best place first
PLACES = [
    (side, up)
    for right, up in ((8, -3), (8, 9), (8, -15), (12, 24), (12, -30), (12, 38), (12, -44))
    for side in (right, -right)
]


def draw(path, rows):
    """Private accuracy with its interval against seconds of training.

    rows: of ferlab.reporting.leaderboard.rows. Rings are what a paper claims, on the split it
    names; what trained nothing is a dotted line.
    """
    timed = [row for row in rows if row["trained"]]
    with figure(path, 8, 6) as (drawn, axes):
        for row in rows:
            if not row["trained"]:
                _line(axes, row)
        for row in timed:
            _dot(axes, row)
        axes.axhspan(0.6, 0.7, color=MUTED, alpha=0.12)
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        axes.set_xscale("log")
        seconds = [row["seconds"] for row in timed]
        axes.set_xlim(
            min([50, *(0.8 * value for value in seconds)]),
            max([7200, *(1.3 * value for value in seconds)]),
        )
        axes.set_xticks([60 * m for m in MINUTES], [f"{m} min" for m in MINUTES])
        axes.minorticks_off()
        axes.set(
            title="Private accuracy on FER2013 against training time",
            ylim=(0.1, 0.8),
            xlabel=(
                "training; bars: 95 % interval; rings: what the text claims; band: people, 65 ± 5 %"
            ),
        )
        _name_dots(drawn, axes, timed)


def _line(axes, row):
    axes.axhline(row["accuracy"], color=MUTED, linestyle=":", linewidth=1)
    look = {"transform": axes.get_yaxis_transform(), "fontsize": 8, "color": MUTED}
    axes.text(0.005, row["accuracy"] + 0.004, row["key"], **look)


def _dot(axes, row):
    spread = np.array([[row["accuracy"] - row["low"]], [row["high"] - row["accuracy"]]])
    colour = ACCENT if row["key"].startswith(("speedrun", "champion")) else INK
    look = {"fmt": "o", "color": colour, "markersize": 5, "linewidth": 1}
    axes.errorbar(row["seconds"], row["accuracy"], yerr=spread, **look)
    if row["published"] and not _is_seed(row):
        ring = {"markerfacecolor": "none", "markeredgecolor": ACCENT, "markersize": 9}
        axes.plot(row["seconds"], row["published"][2], "o", **ring)


def _is_seed(row):
    return "-s" in row["key"]


def _name_dots(drawn, axes, timed):
    """Each recipe's name beside its dot, where it covers no dot, ring or other name.

    A line leads to the names that stand further away.
    """
    drawn.draw_without_rendering()
    taken = [box for row in timed for box in _marks(axes, row)]
    for row in timed:
        if _is_seed(row):
            continue
        for place in PLACES:
            name = _annotate(axes, row, place)
            box = _words(name)
            is_inside = axes.bbox.x0 < box.x0 and box.x1 < axes.bbox.x1
            if is_inside and not any(box.overlaps(other) for other in taken):
                break
            name.remove()
        else:
            name = _annotate(axes, row, PLACES[0])
        taken.append(_words(name))


def _marks(axes, row):
    """Where a row's dot with its bar, and its ring, stand, in pixels."""
    low, high = (axes.transData.transform((row["seconds"], row[end])) for end in ("low", "high"))
    boxes = [Bbox([low - (5, 0), high + (5, 0)])]
    if row["published"]:
        ring = axes.transData.transform((row["seconds"], row["published"][2]))
        boxes.append(Bbox([ring - 8, ring + 8]))
    return boxes


def _annotate(axes, row, place):
    side, up = place
    line = {"arrowstyle": "-", "color": MUTED, "linewidth": 0.7, "shrinkB": 4}
    return axes.annotate(
        row["key"],
        (row["seconds"], row["accuracy"]),
        place,
        fontsize=8,
        textcoords="offset points",
        arrowprops=line if abs(up) > 20 else None,
        ha="left" if side > 0 else "right",
    )


def _words(name):
    """Where an annotation's words stand, without its line."""
    name.get_window_extent()  # moves it to its place
    return Text.get_window_extent(name)
