"""The leaderboard's figure: accuracy against training time."""

import numpy as np
from matplotlib.text import Text
from matplotlib.ticker import MaxNLocator, PercentFormatter
from matplotlib.transforms import Bbox

from ferlab.reporting.figures.style import ACCENT, INK, MUTED, figure

MINUTES = (1, 2, 5, 10, 20, 50, 100, 200, 500)  # marks of the axis
GREEN = "#6a994e"
KINDS = {  # of results: (what the legend calls them, colour)
    "text": ("a published system, measured by us", INK),
    "ours": ("our own", ACCENT),
    "yours": ("your workspace and experiments", GREEN),
}
# where a name may stand, in points from its dot, the best place first
PLACES = [
    (side, up)
    for right, up in [
        (9, -3),
        (9, 10),
        (9, -16),
        *((14, up) for d in range(24, 130, 12) for up in (d, -d)),
    ]
    for side in (right, -right)
]


def draw(file, groups):
    """Private accuracy with its interval against seconds of training.

    groups: of ferlab.reporting.leaderboard.groups. Rings are what a text claims of the same split;
    what trained nothing is a dotted line. What lies far below is named at the lower edge.
    """
    timed = [group for group in groups if group["seconds"]]
    with figure(file, 9, 6.6) as (drawn, axes):
        for group in timed:
            _dot(axes, group)
        axes.axhspan(0.6, 0.7, color=MUTED, alpha=0.12, label="people, 65 ± 5 %")
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        axes.yaxis.set_major_locator(MaxNLocator(8, steps=[1, 2, 5, 10]))
        axes.set_xscale("log")
        seconds = [value for group in timed for value, _ in group["seeds"]]
        low, high = min([240, *seconds]) / 2, max([1200, *seconds]) * 1.7
        shown = [m for m in MINUTES if low < 60 * m < high]
        axes.set_xticks([60 * m for m in shown], [f"{m} min" for m in shown])
        axes.minorticks_off()
        axes.set(
            title="Private accuracy on FER2013 against training time",
            xlim=(low, high),
            ylim=_limits(timed),
            xlabel="training",
        )
        _lines(axes, [group for group in groups if not group["seconds"]])
        _name_far(axes, groups)
        handles, labels = axes.get_legend_handles_labels()
        unique = dict(zip(labels, handles, strict=True))
        below = {"frameon": False, "loc": "outside lower center", "ncols": 3}
        drawn.legend(unique.values(), unique.keys(), **below)
        _name_dots(drawn, axes, timed)


def _limits(timed):
    """What of the accuracies is shown: all of what was trained, and the band of people."""
    ends = [0.58, 0.72]
    for group in timed:
        ends += [group["low"], group["high"]]
    return max(min(ends) - 0.03, 0), min(max(ends) + 0.03, 1)


def _lines(axes, untrained):
    for group in untrained:
        if group["accuracy"] > axes.get_ylim()[0]:
            label = "without training a network"
            axes.axhline(group["accuracy"], color=MUTED, linestyle=":", linewidth=1, label=label)
            _write(axes, group["accuracy"] + 0.002, group["name"])


def _name_far(axes, groups):
    """What lies below the axis, in words at its lower edge."""
    low, far = axes.get_ylim()[0], []
    for group in groups:
        if group["accuracy"] <= low:
            far.append(f"{group['name']} {100 * group['accuracy']:.1f} %")
        if group["seconds"] and group["published"] and group["published"] <= low:
            far.append(f"{group['name']} as published {100 * group['published']:.1f} %")
    if far:
        _write(axes, low + 0.002, f"↓ {', '.join(far)}")


def _write(axes, height, words):
    look = {"va": "bottom", "fontsize": 8, "color": MUTED}
    axes.text(0.005, height, words, transform=axes.get_yaxis_transform(), **look)


def _dot(axes, group):
    label, colour = KINDS[group["kind"]]
    if len(group["seeds"]) > 1:
        small = {"color": colour, "alpha": 0.35, "markersize": 4, "linestyle": "none"}
        axes.plot(*zip(*group["seeds"], strict=True), marker="o", label="one seed of it", **small)
    spread = [[group["accuracy"] - group["low"]], [group["high"] - group["accuracy"]]]
    look = {"fmt": "o", "color": colour, "markersize": 6, "linewidth": 1.2}
    label += ", 95 % interval"
    axes.errorbar(group["seconds"], group["accuracy"], yerr=spread, label=label, **look)
    if group["published"]:
        ring = {"markerfacecolor": "none", "markeredgecolor": INK, "markersize": 10}
        label = "what the text claims (private)"
        axes.plot(group["seconds"], group["published"], "o", label=label, **ring)


def _name_dots(drawn, axes, timed):
    """Each name beside its dot, where it covers no dot, ring or other name, or else the fewest.

    A line leads to the names that stand further away; it crosses as few names as it can.
    """
    drawn.draw_without_rendering()
    taken = [[box] for group in timed for box in _marks(axes, group)]  # lists of boxes
    names = []
    for group in timed:
        found = []
        for number, place in enumerate(PLACES):
            name = _annotate(axes, group, place)
            box, line = _words(name), _line(axes, group, name)
            name.remove()
            is_inside = axes.bbox.x0 < box.x0 < box.x1 < axes.bbox.x1
            is_inside = is_inside and axes.bbox.y0 < box.y0 < box.y1 < axes.bbox.y1
            covered = sum(_overlap([box], other) for other in taken)
            covered += sum(_overlap(line, [other]) for other in names)
            found.append((not is_inside, covered, number))
            if found[-1][:2] == (False, 0):
                break
        name = _annotate(axes, group, PLACES[min(found)[2]])
        names.append(_words(name))
        taken += [[names[-1]], _line(axes, group, name)]


def _overlap(boxes, others):
    return any(box.overlaps(other) for box in boxes for other in others)


def _marks(axes, group):
    """Where a dot with its bar, its seeds and its ring stand, in pixels."""
    low, high = (
        axes.transData.transform((group["seconds"], group[end])) for end in ("low", "high")
    )
    boxes = [Bbox([low - (6, 2), high + (6, 2)])]
    for point in group["seeds"]:
        place = axes.transData.transform(point)
        boxes.append(Bbox([place - 4, place + 4]))
    if group["published"]:
        ring = axes.transData.transform((group["seconds"], group["published"]))
        boxes.append(Bbox([ring - 9, ring + 9]))
    return boxes


def _annotate(axes, group, place):
    side, up = place
    line = {"arrowstyle": "-", "color": MUTED, "linewidth": 0.7, "shrinkB": 4}
    return axes.annotate(
        group["name"],
        (group["seconds"], group["accuracy"]),
        place,
        fontsize=8,
        textcoords="offset points",
        arrowprops=line if abs(up) > 20 else None,
        ha="left" if side > 0 else "right",
    )


def _line(axes, group, name):
    """Where the line to a name passes, as small boxes; none where the name has no line."""
    if not name.arrowprops:
        return []
    dot = axes.transData.transform((group["seconds"], group["accuracy"]))
    box = _words(name)
    end = np.array([box.x0 if box.x0 > dot[0] else box.x1, (box.y0 + box.y1) / 2])
    return [
        Bbox([place - 1, place + 1])
        for place in dot + np.linspace(0.1, 0.9, 40)[:, None] * (end - dot)
    ]


def _words(name):
    """Where an annotation's words stand, without its line, and a little room."""
    name.get_window_extent()  # moves it to its place
    return Text.get_window_extent(name).padded(2)
