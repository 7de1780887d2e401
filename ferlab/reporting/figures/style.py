"""The look of all figures, and how they are saved: equal data give equal PNG bytes."""

from contextlib import contextmanager

import matplotlib
import matplotlib.pyplot as plt
import seaborn as sns

matplotlib.use("Agg")  # no stage may need a screen
INK, ACCENT, MUTED, BLUE = "#22303c", "#d1495b", "#8d99a6", "#30638e"
PALETTE = {
    "angry": "#d1495b",
    "disgust": "#6a994e",
    "fear": "#6d597a",
    "happy": "#edae49",
    "neutral": "#8d99a6",
    "sad": "#30638e",
    "surprise": "#00a6a6",
}
STYLE = {
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.titleweight": "bold",
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "font.size": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": "#e6e9ec",
}
# inches: on a phone the letters stay readable, on a desk two figures stand side by side
WIDTH = 5.6


@contextmanager
def figure(path, width=8.0, height=4.5, rows=1, columns=1, **options):
    """Yield (figure, axes) in the house style; afterwards they are saved as PNG at `path`.

    width, height: in inches. The file holds no date, so that equal data give equal bytes.
    """
    with sns.axes_style("whitegrid", rc=STYLE), matplotlib.rc_context(STYLE):
        drawn, axes = plt.subplots(
            rows, columns, figsize=(width, height), layout="constrained", **options
        )
        try:
            yield drawn, axes
            drawn.savefig(path, dpi=140, metadata={"Software": None}, facecolor="white")
        finally:
            plt.close(drawn)


def heading(drawn, text):
    """A title above all axes of a figure."""
    drawn.suptitle(text, x=0.01, ha="left", fontsize=11, fontweight="bold")


def short(name, limit=12):
    """A name as matplotlib may print it: not too long, and `$` starts no formula."""
    return (name if len(name) <= limit else name[: limit - 1] + "…").replace("$", r"\$")


def legend_below(axes):
    """A legend under the axes: inside, it would hide a bar of some dataset."""
    axes.legend(
        title=None,
        frameon=False,
        ncols=5,
        loc="upper center",
        bbox_to_anchor=(0.5, -45 / axes.bbox.height),
    )


def bare(axes):
    """Take frame, grid and ticks on x away: pictures need none."""
    axes.grid(False)
    axes.set_xticks([])
    axes.tick_params(length=0)
    sns.despine(ax=axes, left=True, bottom=True)
