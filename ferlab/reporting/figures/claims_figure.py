"""The figure of published accuracies beside ours."""

import numpy as np
from matplotlib.ticker import PercentFormatter

from ferlab.reporting.claims import CLAIMS
from ferlab.reporting.figures.style import ACCENT, INK, MUTED, figure


def draw(path, rows):
    """Measured accuracy with its interval (dots) and the published one (rings).

    Both are of the split that the text reports. rows: of ferlab.reporting.papers, with a result.
    """
    seeds = [row for row in rows if row["key"] != row["recipe"]]
    rows = [row for row in rows if row["key"] == row["recipe"]]
    with figure(path, 8, 1.2 + 0.32 * len(rows)) as (drawn, axes):
        for line, row in enumerate(rows):
            _row(axes, line, row, [seed for seed in seeds if seed["recipe"] == row["recipe"]])
        axes.axvspan(0.6, 0.7, color=MUTED, alpha=0.15, label="people, 65 ± 5 %")
        names = [f"{row['key']} ({_split(row)})" for row in rows]
        axes.set_yticks(range(len(rows)), names)
        axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        axes.set(title="Accuracy on FER2013", xlim=(0, 1.02), ylim=(len(rows) - 0.5, -0.5))
        handles, labels = axes.get_legend_handles_labels()
        unique = dict(zip(labels, handles, strict=True))
        below = {"frameon": False, "loc": "outside lower center", "ncols": 4}
        drawn.legend(unique.values(), unique.keys(), **below)


def _split(row):
    return CLAIMS[row["recipe"]][0][0] if row["recipe"] in CLAIMS else "private"


def _row(axes, line, row, seeds):
    split = _split(row)
    scores = row["details"]["splits"][split]
    accuracy, low, high = (scores[f"accuracy{end}"] for end in ("", "_low", "_high"))
    spread = np.array([[accuracy - low], [high - accuracy]])
    look = {"fmt": "o", "color": INK, "capsize": 3, "label": "measured, 95 % interval"}
    axes.errorbar(accuracy, line, xerr=spread, **look)
    others = [seed["details"]["splits"][split]["accuracy"] for seed in seeds]
    if others:
        marks = {"color": MUTED, "markersize": 14, "label": "other seeds"}
        axes.plot(others, [line] * len(others), "|", **marks)
    if row["recipe"] in CLAIMS:
        ring = {"markerfacecolor": "none", "markeredgecolor": ACCENT, "markersize": 11}
        axes.plot(CLAIMS[row["recipe"]][0][2], line, "o", label="published", **ring)
