"""The leaderboard's figure: accuracy against training time."""

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
    what trained nothing is a dotted line, or named below the axis where it would be far below.
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
        low, high = min([240, *seconds]) / 1.4, max([1200, *seconds]) * 1.7
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
        handles, labels = axes.get_legend_handles_labels()
        unique = dict(zip(labels, handles, strict=True))
        below = {"frameon": False, "loc": "outside lower center", "ncols": 3}
        drawn.legend(unique.values(), unique.keys(), **below)
        _name_dots(drawn, axes, timed)


def _limits(timed):
    """What of the accuracies is shown: all of what was trained, and the band of people."""
    ends = [0.58, 0.72]
    for group in timed:
        ends += [group["low"], group["high"], *filter(None, [group["published"]])]
    return max(min(ends) - 0.03, 0), min(max(ends) + 0.03, 1)


def _lines(axes, untrained):
    low, far = axes.get_ylim()[0], []
    look = {"transform": axes.get_yaxis_transform(), "fontsize": 8, "color": MUTED}
    for group in untrained:
        if group["accuracy"] > low:
            label = "without training a network"
            axes.axhline(group["accuracy"], color=MUTED, linestyle=":", linewidth=1, label=label)
            axes.text(0.005, group["accuracy"] + 0.002, group["name"], **look)
        else:
            far.append(f"{group['name']} {100 * group['accuracy']:.1f} %")
    if far:
        axes.text(0.005, low, f"↓ {', '.join(far)}", va="bottom", **look)


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

    A line leads to the names that stand further away.
    """
    drawn.draw_without_rendering()
    taken = [box for group in timed for box in _marks(axes, group)]
    for group in timed:
        found = []
        for number, place in enumerate(PLACES):
            name = _annotate(axes, group, place)
            box = _words(name)
            name.remove()
            is_inside = axes.bbox.x0 < box.x0 < box.x1 < axes.bbox.x1
            is_inside = is_inside and axes.bbox.y0 < box.y0 < box.y1 < axes.bbox.y1
            found.append((sum(box.overlaps(other) for other in taken), not is_inside, number))
            if found[-1][:2] == (0, False):
                break
        name = _annotate(axes, group, PLACES[min(found)[2]])
        taken.append(_words(name))


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


def _words(name):
    """Where an annotation's words stand, without its line, and a little room."""
    name.get_window_extent()  # moves it to its place
    return Text.get_window_extent(name).padded(2)
