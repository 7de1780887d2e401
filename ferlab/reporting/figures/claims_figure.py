"""The figure of published accuracies beside ours."""

from matplotlib.ticker import PercentFormatter

from ferlab.reporting.claims import CLAIMS, measured
from ferlab.reporting.figures.style import ACCENT, INK, MUTED, figure


def draw(file, rows):
    """Measured accuracy with its interval (dots) and the published one (rings).

    Both are of the split that the text reports; of several seeds their mean, with the interval that
    the table has. rows: of ferlab.reporting.papers, with a result.
    """
    rows = list({row["recipe"]: row for row in reversed(rows)}.values())[::-1]
    with figure(file, 8, 1.2 + 0.32 * len(rows)) as (drawn, axes):
        for line, row in enumerate(rows):
            _row(axes, line, row)
        axes.axvspan(0.6, 0.7, color=MUTED, alpha=0.15, label="people, 65 ± 5 %")
        names = [f"{row['recipe']} ({_split(row)})" for row in rows]
        axes.set_yticks(range(len(rows)), names)
        axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        axes.set(title="Accuracy on FER2013", xlim=(0, 1.02), ylim=(len(rows) - 0.5, -0.5))
        handles, labels = axes.get_legend_handles_labels()
        unique = dict(zip(labels, handles, strict=True))
        below = {"frameon": False, "loc": "outside lower center", "ncols": 4}
        drawn.legend(unique.values(), unique.keys(), **below)


def _split(row):
    return CLAIMS[row["recipe"]][0][0] if row["recipe"] in CLAIMS else "private"


def _row(axes, line, row):
    entries = [details["splits"][_split(row)] for details in row["seeds"]]
    accuracy, low, high = measured(entries, "accuracy")
    look = {"fmt": "o", "color": INK, "capsize": 3, "label": "measured (mean), 95 % interval"}
    axes.errorbar(accuracy, line, xerr=[[accuracy - low], [high - accuracy]], **look)
    if len(entries) > 1:
        marks = {"color": MUTED, "markersize": 14, "label": "each seed"}
        values = [entry["accuracy"] for entry in entries]
        axes.plot(values, [line] * len(values), "|", **marks)
    if row["recipe"] in CLAIMS:
        ring = {"markerfacecolor": "none", "markeredgecolor": ACCENT, "markersize": 11}
        axes.plot(CLAIMS[row["recipe"]][0][2], line, "o", label="published", **ring)
