"""Figures that show faces: samples, mean faces, equal images, mistakes."""

import math

import numpy as np

from ferlab.data.dataset import SIZE
from ferlab.reporting.figures.style import ACCENT, INK, MUTED, bare, figure, heading, short

COLUMNS = 12  # of `duplicates`


def sample_grid(dataset, path, per_class):
    """One row of training faces per class, spread evenly over its ids."""
    gap = 3
    cell = SIZE + gap
    mosaic = np.full((cell * len(dataset.classes) - gap, cell * per_class - gap), 255, np.uint8)
    train = dataset.split("train")
    for row, name in enumerate(dataset.classes):
        own = np.flatnonzero((train.table["label"] == name).to_numpy())
        for column, index in enumerate(own[_spread(len(own), per_class)]):
            top, left = row * cell, column * cell
            mosaic[top : top + SIZE, left : left + SIZE] = train.faces[index]
    height, width = (side / SIZE * 0.62 for side in mosaic.shape)
    with figure(path, width + 1, height + 0.5) as (_, axes):
        axes.imshow(mosaic, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        middles = [row * cell + SIZE / 2 for row in range(len(dataset.classes))]
        axes.set_yticks(middles, dataset.classes)
        axes.set_title(f"Training faces: {dataset.name}")
        bare(axes)


def mean_faces(dataset, path):
    """The mean training face of each class; below, how it differs from the mean of these means."""
    train = dataset.split("train")
    labels, names = train.labels, set(train.table["label"])
    present = [index for index, name in enumerate(dataset.classes) if name in names]
    means = np.stack([train.faces[labels == index].mean(0) for index in present])
    apart = means - means.mean(0)
    limit = max(np.abs(apart).max(), 1)
    panels = {"rows": 2, "columns": len(present), "squeeze": False}
    with figure(path, 1.25 * len(present) + 0.8, 3.0, **panels) as (drawn, axes):
        for column, index in enumerate(present):
            axes[0, column].imshow(means[column], cmap="gray")
            shown = axes[1, column].imshow(apart[column], cmap="RdBu_r", vmin=-limit, vmax=limit)
            axes[0, column].set_title(dataset.classes[index], loc="center", fontsize=9.5)
            for panel in axes[:, column]:
                panel.set_yticks([])
                bare(panel)
        bar = drawn.colorbar(shown, ax=list(axes[1]), shrink=0.85, pad=0.01, label="gray levels")
        bar.outline.set_visible(False)
        heading(drawn, "Mean training face per class; below: minus the mean of all classes")


def duplicates(dataset, audit, path, lines=4):
    """Some groups of equal images side by side, each image above its split and label.

    Contradicting labels come first, then groups across splits, then others, as many as `lines`
    hold. Of a larger group three images are shown. audit: the table of ferlab.data.audit.
    """
    places, height = _placed(audit, lines)
    width = max((left + 1 for left, *_ in places), default=COLUMNS) + 0.3
    with figure(path, 0.95 * width, 0.7 + 1.15 * height) as (_, axes):
        for left, line, image, more in places:
            row, top = audit.iloc[image], 1.4 * line
            extent = (left, left + 0.94, top + 0.94, top)
            axes.imshow(dataset.faces[image], cmap="gray", vmin=0, vmax=255, extent=extent)
            look = {"fontsize": 7, "color": ACCENT if row["conflicting"] else INK}
            words = f"{row['split']}\n{row['label']}"
            axes.text(left + 0.47, top + 0.98, words, ha="center", va="top", **look)
            if more > 0:
                axes.text(left + 1, top + 0.47, f"+{more}", va="center", fontsize=8, color=MUTED)
        if not places:
            axes.text(0, 0.5, "No two images are equal.", fontsize=12)
        title = "Groups of equal images" + (" (contradicting labels in red)" if places else "")
        axes.set(xlim=(0, width), ylim=(1.4 * height, 0), yticks=[], title=title)
        bare(axes)


def _placed(audit, lines):
    """([(left, line, image, how many more)], lines used): groups flow like words in lines."""
    grouped = audit[audit["group"] >= 0]
    kind = 2 * grouped["conflicting"].astype(int) + grouped["across_splits"]
    by_kind = [list(grouped.loc[kind == k, "group"].unique()) for k in (3, 1, 2, 0)]
    groups = [groups[i] for groups in by_kind for i in _spread(len(groups), 2 * lines)]
    places, left, line = [], 0, 0
    for group in groups:
        members = np.flatnonzero((audit["group"] == group).to_numpy())
        what_differs = "label" if audit["conflicting"].iloc[members[0]] else "split"
        repeated = audit[what_differs].iloc[members].duplicated().to_numpy()
        shown = members[np.argsort(repeated, kind="stable")][:3]
        if left + len(shown) > COLUMNS:
            if line + 1 == lines:
                break
            left, line = 0, line + 1
        for i, image in enumerate(shown):
            places.append((left + i, line, image, len(members) - 3 if i == 2 else 0))
        left += len(shown) + 0.4
    return places, line + 1


def mistakes(path, rows, faces, title="Most confident mistakes"):
    """Mosaic of faces with their label, and below it the prediction and its probability.

    rows: of ferlab.evaluation.mistakes. faces: theirs, uint8 (n, 48, 48).
    """
    columns = min(6, max(len(rows), 1))
    lines = max(math.ceil(len(rows) / columns), 1)
    width, height = max(1.2 * columns, 3), 1.5 * lines + 0.3
    with figure(path, width, height, rows=lines, columns=columns, squeeze=False) as (drawn, axes):
        heading(drawn, title if len(rows) else f"{title}: none")
        for cell in axes.flat:
            cell.axis("off")
        for cell, row, face in zip(axes.flat, rows.itertuples(), faces, strict=False):
            cell.imshow(face, cmap="gray", vmin=0, vmax=255)
            label = f"is {short(row.label)}"
            prediction = f"said {short(row.predicted)} {100 * row.share:.0f} %"
            look = {"transform": cell.transAxes, "ha": "center", "va": "top", "fontsize": 8.5}
            cell.text(0.5, -0.05, label, color=INK, **look)
            cell.text(0.5, -0.2, prediction, color=ACCENT, **look)


def _spread(n, count):
    """Up to `count` places spread evenly over range(n)."""
    return np.linspace(0, n - 1, min(n, count)).round().astype(int)
