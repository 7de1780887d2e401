"""Figures of a trained model: equal results give equal PNG bytes."""

import math

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.ticker import MaxNLocator, PercentFormatter

from ferlab.evaluation import tables
from ferlab.evaluation.robustness import UNITS
from ferlab.reporting.figures import ACCENT, INK, MUTED, PALETTE, figure

BLUE = "#30638e"
WIDTH = (
    5.6  # inches: on a phone the letters stay readable, on a desk two figures stand side by side
)


def confusion_shares(path, matrix, classes, title):
    """Heat map: of the images of each class (row), the share given each name (column)."""
    heat_map(
        path, matrix, classes, title, lambda share, count: f"{100 * share:.0f}" if count else "·"
    )


def confusion_counts(path, matrix, classes, title):
    """The same heat map with the numbers of images; the colour is still the share of the row, so small classes show."""
    heat_map(path, matrix, classes, title, lambda share, count: f"{count:,}" if count else "·")


def heat_map(path, matrix, classes, title, text):
    matrix = np.asarray(matrix)
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    words = np.array(
        [
            [text(*cell) for cell in zip(*rows, strict=True)]
            for rows in zip(shares, matrix, strict=True)
        ]
    )
    names = [short(name) for name in classes]
    with figure(path, WIDTH, WIDTH * 0.9) as (_, axes):
        sns.heatmap(
            shares,
            vmin=0,
            vmax=1,
            annot=words,
            fmt="",
            cmap=sns.light_palette(BLUE, as_cmap=True),
            cbar=False,
            square=True,
            linewidths=1.5,
            xticklabels=names,
            yticklabels=names,
            ax=axes,
            annot_kws={"size": 11},
        )
        for written, share in zip(axes.texts, shares.flat, strict=True):
            written.set_color(
                "white" if share > 0.65 else INK
            )  # the default turns white where it is hard to read
        axes.set(title=title, xlabel="the network says", ylabel="the label says")
        axes.tick_params(axis="x", rotation=40 if len(classes) > 4 else 0)
        axes.tick_params(axis="y", rotation=0)


def learning_curves(path, history, selection):
    """Loss and accuracy by epoch for train and the split `selection`; the epoch that was kept is marked."""
    kept = history[history["chosen"] == 1]
    lines = {
        "accuracy": ("running_accuracy", "selection_accuracy"),
        "loss (cross-entropy)": ("running_loss", "selection_loss"),
    }
    with figure(path, WIDTH, WIDTH * 0.9, rows=2, sharex=True) as (_, panels):
        for axes, (title, (train, chosen)) in zip(panels, lines.items(), strict=True):
            axes.plot(
                history["epoch"],
                history[train],
                color=MUTED,
                marker=".",
                label="train, while learning",
            )
            axes.plot(history["epoch"], history[chosen], color=BLUE, marker=".", label=selection)
            axes.plot(
                kept["epoch"], kept[chosen], "o", color=ACCENT, markersize=8, label="epoch kept"
            )
            axes.set_title(title.capitalize())
        panels[0].yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        panels[0].legend(frameon=False, loc="lower right")
        panels[1].xaxis.set_major_locator(MaxNLocator(integer=True))
        panels[1].set_xlabel("epoch")


def per_class_f1(path, per_class, title):
    """Bars of F1, best class first, with the number of images."""
    rows = sorted(per_class.items(), key=lambda item: (-item[1]["f1"], item[0]))
    names = [short(name) for name, _ in rows]
    with figure(path, WIDTH, max(1.6, 0.75 + 0.45 * len(rows))) as (_, axes):
        bars = axes.barh(
            range(len(rows)),
            [row["f1"] for _, row in rows],
            height=0.72,
            color=[PALETTE.get(name, MUTED) for name, _ in rows],
        )
        axes.bar_label(
            bars, [f"{row['f1']:.2f}  ({row['support']:,} images)" for _, row in rows], padding=4
        )
        axes.set_yticks(range(len(rows)), names)
        axes.invert_yaxis()
        axes.set(title=title, xlim=(0, 1.3), xticks=np.arange(0, 1.1, 0.2))
        axes.grid(visible=False, axis="y")


def robustness(path, rows, title):
    """One small panel per disturbance: accuracy against its strength, the dotted line being undisturbed faces."""
    table = pd.DataFrame(rows)
    plain = table.loc[table["disturbance"] == "none", "accuracy"].item()
    groups = list(table[table["disturbance"] != "none"].groupby("disturbance", sort=False))
    with figure(path, 2 * WIDTH, WIDTH * 0.85, rows=2, columns=4, sharey=True) as (drawn, axes):
        for panel, (name, part) in zip(axes.flat, groups, strict=False):
            panel.axhline(plain, color=MUTED, linestyle=":")
            panel.plot(part["strength"], part["accuracy"], color=BLUE, marker=".")
            panel.set(title=name, ylim=(0, 1), xlabel=UNITS[name].split(",")[0])
            panel.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        for panel in axes.flat[len(groups) :]:
            panel.axis("off")
        drawn.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")


def mistakes(path, rows, faces, title="Most confident mistakes"):
    """Mosaic of faces uint8 (n, 48, 48), those of `rows` (see `worst`): what each is, and what the network said."""
    columns = min(6, max(len(rows), 1))
    lines = max(math.ceil(len(rows) / columns), 1)
    width, height = max(1.2 * columns, 3), 1.5 * lines + 0.3
    with figure(path, width, height, rows=lines, columns=columns, squeeze=False) as (drawn, axes):
        drawn.suptitle(
            title if len(rows) else f"{title}: none",
            x=0.01,
            ha="left",
            fontsize=11,
            fontweight="bold",
        )
        for cell in axes.flat:
            cell.axis("off")
        for cell, row, face in zip(axes.flat, rows.itertuples(), faces, strict=False):
            cell.imshow(face, cmap="gray", vmin=0, vmax=255)
            said = f"said {short(row.predicted)} {100 * row.share:.0f} %"
            for y, words, colour in ((-0.05, f"is {short(row.label)}", INK), (-0.2, said, ACCENT)):
                cell.text(
                    0.5,
                    y,
                    words,
                    transform=cell.transAxes,
                    ha="center",
                    va="top",
                    fontsize=8.5,
                    color=colour,
                )


def draw(folder, details, history, rows, faces, selection):
    """Write all figures into `folder`. rows, faces: the mistakes to show. selection: the split that chose the epoch."""
    name = tables.final(details["splits"])
    scores = details["splits"][name]
    matrix, classes, where = (
        scores["confusion"],
        details["classes"],
        f"({name}, {short(details['dataset'], 40)})",
    )
    confusion_shares(folder / "confusion_shares.png", matrix, classes, f"Of 100 faces {where}")
    confusion_counts(folder / "confusion_counts.png", matrix, classes, f"Faces {where}")
    per_class_f1(folder / "per_class_f1.png", scores["per_class"], f"F1 by class {where}")
    learning_curves(folder / "learning_curves.png", history, selection)
    mistakes(folder / "mistakes.png", rows, faces)
    if "robustness" in details:
        robustness(
            folder / "robustness.png", details["robustness"], f"Accuracy on disturbed faces {where}"
        )


def short(name, most=12):
    """A name as matplotlib may print it: not too long, and `$` is no mathematics."""
    return (name if len(name) <= most else name[: most - 1] + "…").replace("$", r"\$")
