"""Figures of the data: one look for all, deterministic PNG bytes. Those of a trained model stand in report.py."""

from contextlib import contextmanager

import matplotlib
import matplotlib.pyplot as plt  # after the choice of backend: no stage may need a screen
import numpy as np
import seaborn as sns
from matplotlib.ticker import MaxNLocator, PercentFormatter

from ferlab.data.dataset import SIZE

matplotlib.use("Agg")
INK, ACCENT, MUTED = "#22303c", "#d1495b", "#8d99a6"
PALETTE = {
    "angry": "#d1495b",
    "disgust": "#6a994e",
    "fear": "#6d597a",
    "happy": "#edae49",
    "neutral": "#8d99a6",
    "sad": "#30638e",
    "surprise": "#00a6a6",
}


@contextmanager
def figure(path, width=8.0, height=4.5, rows=1, columns=1, **options):
    """Yield (figure, axes) in the house style, saved as PNG at `path`: equal data gives equal bytes, so no date."""
    style = {
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
    with sns.axes_style("whitegrid", rc=style), matplotlib.rc_context(style):
        drawn, axes = plt.subplots(
            rows, columns, figsize=(width, height), layout="constrained", **options
        )
        try:
            yield drawn, axes
            drawn.savefig(path, dpi=140, metadata={"Software": None}, facecolor="white")
        finally:
            plt.close(drawn)


SPLIT_COLOURS = {
    "train": "#30638e",
    "validation": "#6d597a",
    "public": "#00a6a6",
    "private": "#edae49",
    "test": "#d1495b",
}


def class_counts(counts, path, title):
    """Bars of the images per class (rows of `counts`) and split (its columns)."""
    table = (
        counts.rename_axis(index="label", columns="split").stack().rename("images").reset_index()
    )
    with figure(path, 8, 0.6 + 0.22 * len(table) + 0.15 * len(counts)) as (_, axes):
        sns.barplot(
            table,
            y="label",
            x="images",
            hue="split",
            palette=SPLIT_COLOURS,
            ax=axes,
            saturation=1,
            width=0.85,
        )
        _label_bars(axes)
        axes.set(title=title, xlabel="images", ylabel="")
        _legend_below(axes)


def balance_counts(table, path):
    """Bars before and after balancing (ferlab.balance.counts_table), one panel for train and each changed split."""
    changed = table.groupby("split", sort=False).filter(
        lambda rows: rows.name == "train" or (rows["before"] != rows["after"]).any()
    )
    splits = list(changed["split"].unique())
    labels = list(changed["label"].unique())
    with figure(
        path,
        5.2 + 2.6 * (len(splits) - 1),
        1 + 0.5 * len(labels),
        columns=len(splits),
        sharey=True,
        squeeze=False,
    ) as (_, axes):
        for split, ax in zip(splits, axes[0], strict=True):
            rows = changed[changed["split"] == split].melt(
                ["label", "split"], ["before", "after"], "when", "images"
            )
            palette = {"before": "#c3cad1", "after": SPLIT_COLOURS[split]}
            sns.barplot(
                rows,
                y="label",
                x="images",
                hue="when",
                palette=palette,
                ax=ax,
                saturation=1,
                width=0.8,
            )
            _label_bars(ax)
            before, after = (
                rows.loc[rows["when"] == when, "images"].sum() for when in ("before", "after")
            )
            ax.set(title=f"{split}: {before:,} → {after:,} images", xlabel="images", ylabel="")
            _legend_below(ax)


def sample_grid(dataset, path, per_class):
    """One row of training faces per class, spread evenly over its ids."""
    gap = 3
    cell = SIZE + gap
    mosaic = np.full((cell * len(dataset.classes) - gap, cell * per_class - gap), 255, np.uint8)
    train = dataset.split("train")
    for row, name in enumerate(dataset.classes):
        own = np.flatnonzero((train.table["label"] == name).to_numpy())
        for column, index in enumerate(own[_spread(len(own), per_class)]):
            mosaic[row * cell : row * cell + SIZE, column * cell : column * cell + SIZE] = (
                train.faces[index]
            )
    height, width = (side / SIZE * 0.62 for side in mosaic.shape)
    with figure(path, width + 1, height + 0.5) as (_, axes):
        axes.imshow(mosaic, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        axes.set_yticks(
            [row * cell + SIZE / 2 for row in range(len(dataset.classes))], dataset.classes
        )
        axes.set_title(f"Training faces: {dataset.name}")
        _bare(axes)


def mean_faces(dataset, path):
    """The mean training face of each class, and below how it differs from the mean of these means."""
    train = dataset.split("train")
    labels, present = (
        train.labels,
        [i for i, name in enumerate(dataset.classes) if name in set(train.table["label"])],
    )
    means = np.stack([train.faces[labels == index].mean(0) for index in present])
    apart = means - means.mean(0)
    limit = max(np.abs(apart).max(), 1)
    with figure(
        path, 1.25 * len(present) + 0.8, 3.0, rows=2, columns=len(present), squeeze=False
    ) as (drawn, axes):
        for column, index in enumerate(present):
            axes[0, column].imshow(means[column], cmap="gray")
            shown = axes[1, column].imshow(apart[column], cmap="RdBu_r", vmin=-limit, vmax=limit)
            axes[0, column].set_title(dataset.classes[index], loc="center", fontsize=9.5)
            for ax in axes[:, column]:
                ax.set_yticks([])
                _bare(ax)
        drawn.colorbar(
            shown, ax=list(axes[1]), shrink=0.85, pad=0.01, label="gray levels"
        ).outline.set_visible(False)
        drawn.suptitle(
            "Mean training face per class; below: minus the mean of all classes",
            x=0.01,
            ha="left",
            fontsize=11,
            fontweight="bold",
        )


def pixel_statistics(audit, path):
    """Per class, how the images' mean brightness and contrast (standard deviation) are distributed.

    Of each, the middle 99 % of all images are shown: a few blank ones would press the rest together.
    """
    labels = sorted(audit["label"].unique())
    palette = {name: PALETTE.get(name, MUTED) for name in labels}
    with figure(path, 9, 1.1 + 0.42 * len(labels), columns=2, sharey=True) as (_, axes):
        for ax, column, title, unit in zip(
            axes,
            ("mean", "std"),
            ("Brightness of an image", "Contrast of an image"),
            ("mean gray level", "standard deviation of gray levels"),
            strict=True,
        ):
            low, high = audit[column].quantile([0.005, 0.995])
            sns.violinplot(
                audit[audit[column].between(low, high)],
                y="label",
                x=column,
                hue="label",
                order=labels,
                palette=palette,
                legend=False,
                cut=0,
                inner="quart",
                linewidth=0.6,
                saturation=1,
                width=0.9,
                density_norm="width",
                ax=ax,
            )
            for line in ax.lines:
                line.set_color("white")
            ax.set(title=title, ylabel="", xlabel=f"{unit} (middle 99 % of the images)")
            ax.grid(False, axis="y")


def duplicates(dataset, audit, path, lines=4):
    """Some groups of equal images side by side, each image above its split and label: contradicting labels first, then
    groups across splits, then others, as many as `lines` hold. Of a larger group three images are shown."""
    grouped = audit[audit["group"] >= 0]
    kind = 2 * grouped["conflicting"].astype(int) + grouped["across_splits"]
    by_kind = [list(grouped.loc[kind == k, "group"].unique()) for k in (3, 1, 2, 0)]
    columns = 12
    chosen = [groups[i] for groups in by_kind for i in _spread(len(groups), 2 * lines)]
    places, x, y = (
        [],
        0,
        0,
    )  # (left, top, image, how many more) of each image; groups flow like words in lines
    for group in chosen:
        members = np.flatnonzero((audit["group"] == group).to_numpy())
        differing = audit["label" if audit["conflicting"].iloc[members[0]] else "split"].iloc[
            members
        ]
        shown = members[np.argsort(differing.duplicated().to_numpy(), kind="stable")][:3]
        if x + len(shown) > columns:
            if y + 1 == lines:
                break
            x, y = 0, y + 1
        places += [
            (x + i, y, image, len(members) - 3 if i == 2 else 0) for i, image in enumerate(shown)
        ]
        x += len(shown) + 0.4
    used = max((left + 1 for left, *_ in places), default=columns) + 0.3
    with figure(path, 0.95 * used, 0.7 + 1.15 * (y + 1)) as (_, axes):
        for left, top, image, more in places:
            row, head = audit.iloc[image], 1.4 * top
            place = (left, left + 0.94, head + 0.94, head)
            axes.imshow(dataset.faces[image], cmap="gray", vmin=0, vmax=255, extent=place)
            axes.text(
                left + 0.47,
                head + 0.98,
                f"{row['split']}\n{row['label']}",
                ha="center",
                va="top",
                fontsize=7,
                color=ACCENT if row["conflicting"] else INK,
            )
            if more > 0:
                axes.text(left + 1, head + 0.47, f"+{more}", va="center", fontsize=8, color=MUTED)
        if not places:
            axes.text(0, 0.5, "No two images are equal.", fontsize=12)
        axes.set(
            xlim=(0, used),
            ylim=(1.4 * (y + 1), 0),
            yticks=[],
            title="Groups of equal images" + (" (contradicting labels in red)" if places else ""),
        )
        _bare(axes)


AGREEMENT = {
    "agrees": ("#30638e", "agrees"),
    "another": (ACCENT, "another of the seven names"),
    "other": ("#6d597a", "other: contempt, unknown, no face"),
    "unclear": ("#d5dade", "unclear: no majority"),
}  # columns of agreement.counts


def agreement(table, path, title):
    """Stacked bars: what FER+'s majority says of each label (agreement.counts), in shares; beside
    them the images, in columns, since the narrowest parts have no room for a number."""
    names, first, step = list(table.index), 1.13, 0.12
    with figure(path, 9.5, 1.5 + 0.42 * len(names)) as (_, axes):
        left = np.zeros(len(names))
        for place, (key, (colour, words)) in enumerate(AGREEMENT.items()):
            shares = (table[key] / table["images"].clip(lower=1)).to_numpy()
            axes.barh(names, shares, left=left, color=colour, height=0.72, label=words)
            for row, (share, images) in enumerate(zip(shares, table[key], strict=True)):
                if share >= 0.05:
                    axes.text(
                        left[row] + share / 2,
                        row,
                        f"{100 * share:.0f} %",
                        fontsize=8,
                        ha="center",
                        va="center",
                        color=INK if key == "unclear" else "white",
                    )
                axes.text(
                    first + place * step, row, f"{images:,}", fontsize=8.5, ha="right", va="center"
                )
            axes.text(
                first + place * step,
                -0.75,
                key,
                fontsize=8.5,
                fontweight="bold",
                ha="right",
                va="center",
                color=MUTED if key == "unclear" else colour,
            )
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
        _legend_below(axes)


def _spread(n, count):
    """Up to `count` places spread evenly over range(n)."""
    return np.linspace(0, n - 1, min(n, count)).round().astype(int)


def _bare(axes):
    """Pictures need neither frame nor grid nor ticks on x."""
    axes.grid(False)
    axes.set_xticks([])
    axes.tick_params(length=0)
    sns.despine(ax=axes, left=True, bottom=True)


def _legend_below(axes):
    """Under the axes: inside, it would hide a bar of some dataset."""
    axes.legend(
        title=None,
        frameon=False,
        ncols=5,
        loc="upper center",
        bbox_to_anchor=(0.5, -45 / axes.bbox.height),
    )


def _label_bars(axes):
    for bars in axes.containers:
        axes.bar_label(bars, fmt="{:,.0f}", padding=2, fontsize=7.5, color=INK)
    axes.margins(x=0.12)
    axes.grid(False, axis="y")
    axes.tick_params(left=False)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.xaxis.set_major_formatter("{x:,.0f}")
