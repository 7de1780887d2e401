"""Figures of a dataset's numbers: images per class, balancing, pixels, agreement with FER+."""

import numpy as np
import seaborn as sns
from matplotlib.ticker import MaxNLocator, PercentFormatter

from ferlab.reporting.figures.style import ACCENT, INK, MUTED, PALETTE, figure, legend_below

SPLIT_COLOURS = {
    "train": "#30638e",
    "validation": "#6d597a",
    "public": "#00a6a6",
    "private": "#edae49",
    "test": "#d1495b",
}
AGREEMENT = {  # columns of agreement.counts
    "agrees": ("#30638e", "agrees"),
    "another": (ACCENT, "another of the seven names"),
    "other": ("#6d597a", "other: contempt, unknown, no face"),
    "unclear": ("#d5dade", "unclear: no majority"),
}


def class_counts(counts, path, title):
    """Bars of the images per class (rows of `counts`) and split (its columns)."""
    table = counts.rename_axis(index="label", columns="split").stack()
    table = table.rename("images").reset_index()
    with figure(path, 8, 0.6 + 0.22 * len(table) + 0.15 * len(counts)) as (_, axes):
        _count_bars(axes, table, "split", SPLIT_COLOURS, 0.85)
        axes.set(title=title, xlabel="images", ylabel="")
        legend_below(axes)


def balance_counts(table, path):
    """Bars before and after balancing, one panel for train and each changed split.

    table: of ferlab.data.balance.counts_table.
    """
    changed = table.groupby("split", sort=False).filter(
        lambda rows: rows.name == "train" or (rows["before"] != rows["after"]).any()
    )
    splits, labels = list(changed["split"].unique()), list(changed["label"].unique())
    width, height = 5.2 + 2.6 * (len(splits) - 1), 1 + 0.5 * len(labels)
    panels = {"columns": len(splits), "sharey": True, "squeeze": False}
    with figure(path, width, height, **panels) as (_, axes):
        for split, panel in zip(splits, axes[0], strict=True):
            rows = changed[changed["split"] == split]
            before, after = rows["before"].sum(), rows["after"].sum()
            bars = rows.melt(["label", "split"], ["before", "after"], "when", "images")
            _count_bars(
                panel, bars, "when", {"before": "#c3cad1", "after": SPLIT_COLOURS[split]}, 0.8
            )
            title = f"{split}: {before:,} → {after:,} image{'' if after == 1 else 's'}"
            panel.set(title=title, xlabel="images", ylabel="")
            legend_below(panel)


def _count_bars(axes, table, hue, palette, width):
    """Horizontal bars of the column `images` by `label`, each with its number."""
    sns.barplot(
        table,
        y="label",
        x="images",
        hue=hue,
        palette=palette,
        ax=axes,
        saturation=1,
        width=width,
    )
    for bars in axes.containers:
        axes.bar_label(bars, fmt="{:,.0f}", padding=2, fontsize=7.5, color=INK)
    axes.margins(x=0.12)
    axes.grid(False, axis="y")
    axes.tick_params(left=False)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.xaxis.set_major_formatter("{x:,.0f}")


def pixel_statistics(audit, path):
    """Violins of the images' mean brightness and contrast (standard deviation), per class.

    Of each, the middle 99 % of all images are shown: a few blank ones would press the rest
    together. audit: the table of ferlab.data.audit.
    """
    labels = sorted(audit["label"].unique())
    panels = (
        ("mean", "Brightness of an image", "mean gray level"),
        ("std", "Contrast of an image", "standard deviation of gray levels"),
    )
    with figure(path, 9, 1.1 + 0.42 * len(labels), columns=2, sharey=True) as (_, axes):
        for panel, (column, title, unit) in zip(axes, panels, strict=True):
            low, high = audit[column].quantile([0.005, 0.995])
            _violins(panel, audit[audit[column].between(low, high)], column, labels)
            panel.set(title=title, ylabel="", xlabel=f"{unit} (middle 99 % of the images)")


def _violins(axes, rows, column, labels):
    sns.violinplot(
        rows,
        y="label",
        x=column,
        hue="label",
        order=labels,
        palette={name: PALETTE.get(name, MUTED) for name in labels},
        legend=False,
        cut=0,
        inner="quart",
        linewidth=0.6,
        saturation=1,
        width=0.9,
        density_norm="width",
        ax=axes,
    )
    for line in axes.lines:
        line.set_color("white")
    axes.grid(False, axis="y")


def agreement(table, path, title):
    """Stacked bars: what FER+'s majority says of each label, in shares.

    table: of ferlab.data.agreement.counts. Its images stand beside the bars, in columns,
    since the narrowest parts have no room for a number.
    """
    names, first, step = list(table.index), 1.13, 0.12
    with figure(path, 9.5, 1.5 + 0.42 * len(names)) as (_, axes):
        left = np.zeros(len(names))
        for column, (key, (colour, words)) in enumerate(AGREEMENT.items()):
            shares = (table[key] / table["images"].clip(lower=1)).to_numpy()
            axes.barh(names, shares, left=left, color=colour, height=0.72, label=words)
            _shares(axes, left, shares, INK if key == "unclear" else "white")
            colour = MUTED if key == "unclear" else colour
            _column(axes, first + column * step, key, table[key], colour)
            left += shares
        axes.set(
            title=title,
            xlim=(0, first + 3 * step + 0.01),
            ylim=(len(names) - 0.5, -1.1),
            xticks=np.arange(0, 1.1, 0.2),
            xlabel="share of the images, by the majority of FER+'s ten annotators",
        )
        axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        axes.xaxis.label.set(x=0.5 / axes.get_xlim()[1])  # below the bars, not below the numbers
        axes.grid(visible=False, axis="y")
        axes.tick_params(left=False)
        sns.despine(ax=axes, left=True, bottom=True)
        legend_below(axes)


def _shares(axes, left, shares, colour):
    """Write each share of at least 5 % into its bar."""
    for row, share in enumerate(shares):
        if share >= 0.05:
            place, words = left[row] + share / 2, f"{100 * share:.0f} %"
            axes.text(place, row, words, fontsize=8, ha="center", va="center", color=colour)


def _column(axes, x, heading, images, colour):
    """A column of numbers of images, right-aligned at x, under its heading."""
    for row, count in enumerate(images):
        axes.text(x, row, f"{count:,}", fontsize=8.5, ha="right", va="center")
    look = {"fontsize": 8.5, "fontweight": "bold", "ha": "right", "va": "center"}
    axes.text(x, -0.75, heading, color=colour, **look)
