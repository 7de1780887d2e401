"""Figures of a trained model's scores: confusion, curves, F1 by class, robustness."""

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.ticker import MaxNLocator, PercentFormatter

from ferlab.evaluation import tables
from ferlab.evaluation.robustness import UNITS
from ferlab.reporting.figures import face_figures
from ferlab.reporting.figures.style import (
    ACCENT,
    BLUE,
    INK,
    MUTED,
    PALETTE,
    WIDTH,
    figure,
    heading,
    short,
)


def draw(folder, details, history, rows, faces, selection):
    """Write all figures of a result into `folder`.

    details: the content of details.json. history: of the epochs. rows, faces: the mistakes to show.
    selection: the split that chose the epoch.
    """
    name = tables.final(details["splits"])
    where = f"({name}, {short(details['dataset'], 40)})"
    draw_scores(folder, details, name, where)
    learning_curves(folder / "learning_curves.png", history, selection)
    face_figures.mistakes(folder / "mistakes.png", rows, faces)


def draw_scores(folder, details, split, where):
    """Write the figures that need details.json alone.

    where: split and dataset, for the titles.
    """
    scores, classes = details["splits"][split], details["classes"]
    matrix = scores["confusion"]
    confusion_shares(folder / "confusion_shares.png", matrix, classes, f"Of 100 faces {where}")
    confusion_counts(folder / "confusion_counts.png", matrix, classes, f"Faces {where}")
    per_class_f1(folder / "per_class_f1.png", scores["per_class"], f"F1 by class {where}")
    if "robustness" in details:
        title = f"Accuracy on disturbed faces {where}"
        robustness(folder / "robustness.png", details["robustness"], title)


def confusion_shares(path, matrix, classes, title):
    """Heat map: of the images of each class (row), the share given each name (column)."""
    _heat_map(path, matrix, classes, title, lambda share, n: f"{100 * share:.0f}" if n else "·")


def confusion_counts(path, matrix, classes, title):
    """The same with numbers of images; the colour is still the share, so small classes show."""
    _heat_map(path, matrix, classes, title, lambda share, n: f"{n:,}" if n else "·")


def _heat_map(path, matrix, classes, title, text):
    """text: of a cell, from its share of the row and its number of images."""
    matrix = np.asarray(matrix)
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    pairs = zip(shares.flat, matrix.flat, strict=True)
    words = np.reshape([text(*pair) for pair in pairs], matrix.shape)
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
            # seaborn's own choice turns white where it is hard to read
            written.set_color("white" if share > 0.65 else INK)
        axes.set(title=title, xlabel="the network says", ylabel="the label says")
        axes.tick_params(axis="x", rotation=40 if len(classes) > 4 else 0)
        axes.tick_params(axis="y", rotation=0)


def learning_curves(path, history, selection):
    """Loss and accuracy by epoch for train and the split `selection`; marked: the epoch kept."""
    kept = history[history["chosen"] == 1]
    panels = {
        "Accuracy": ("running_accuracy", "selection_accuracy"),
        "Loss (cross-entropy)": ("running_loss", "selection_loss"),
    }
    epochs, dots = history["epoch"], {"marker": "."}
    with figure(path, WIDTH, WIDTH * 0.9, rows=2, sharex=True) as (_, axes):
        for panel, (title, (train, selected)) in zip(axes, panels.items(), strict=True):
            panel.plot(epochs, history[train], color=MUTED, label="train, while learning", **dots)
            panel.plot(epochs, history[selected], color=BLUE, label=selection, **dots)
            mark = {"color": ACCENT, "markersize": 8, "label": "epoch kept"}
            panel.plot(kept["epoch"], kept[selected], "o", **mark)
            panel.set_title(title)
        axes[0].yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        axes[0].legend(frameon=False, loc="lower right")
        axes[1].xaxis.set_major_locator(MaxNLocator(integer=True))
        axes[1].set_xlabel("epoch")


def per_class_f1(path, per_class, title):
    """Bars of F1, best class first, with the number of images.

    per_class: of a split in details.json.
    """
    rows = sorted(per_class.items(), key=lambda item: (-item[1]["f1"], item[0]))
    colours = [PALETTE.get(name, MUTED) for name, _ in rows]
    with figure(path, WIDTH, max(1.6, 0.75 + 0.45 * len(rows))) as (_, axes):
        values = [row["f1"] for _, row in rows]
        bars = axes.barh(range(len(rows)), values, height=0.72, color=colours)
        words = [
            f"{row['f1']:.2f}  ({row['support']:,} image{'' if row['support'] == 1 else 's'})"
            for _, row in rows
        ]
        axes.bar_label(bars, words, padding=4)
        axes.set_yticks(range(len(rows)), [short(name) for name, _ in rows])
        axes.invert_yaxis()
        axes.set(title=title, xlim=(0, 1.3), xticks=np.arange(0, 1.1, 0.2))
        axes.grid(visible=False, axis="y")


def robustness(path, rows, title):
    """One panel per disturbance: accuracy against its strength; dotted: undisturbed faces.

    rows: of details.json.
    """
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
        heading(drawn, title)
