"""Figures of what a network looks at: evidence maps over faces, and the channels of its layers."""

import numpy as np

from ferlab.reporting.figures.style import ACCENT, INK, MUTED, figure

COLUMNS = 8  # of channels


def attention(path, rows, faces, heat, lost, right):
    """Three lines of faces: as they are, with HiResCAM over them, with occlusion over them.

    One column per row of `rows` (ferlab.evaluation.mistakes.examples). faces: uint8 (n, 48, 48).
    heat: HiResCAM from 0 to 1, (n, 48, 48). lost: what the probability falls by where a square
    hides the place, (n, 48, 48). right: whether these predictions are right.
    """
    columns = max(len(rows), 1)
    panels = {"rows": 3, "columns": columns, "squeeze": False}
    with figure(path, max(1.5 * columns, 3), 5.1, **panels) as (_, axes):
        for cell in axes.flat:
            cell.axis("off")
        for column, row in enumerate(rows.itertuples()):
            plain, cam, occluded = axes[:, column]
            for cell in axes[:, column]:
                cell.imshow(faces[column], cmap="gray", vmin=0, vmax=255)
            strength = 0.25 + 0.5 * heat[column]
            cam.imshow(heat[column], cmap="Reds", vmin=0, vmax=1, alpha=strength)
            limit = max(np.abs(lost[column]).max(), 1e-6)
            occluded.imshow(lost[column], cmap="RdBu_r", vmin=-limit, vmax=limit, alpha=0.55)
            _name(plain, row, right)
            points = f"−{100 * max(lost[column].max(), 0):.0f} points"
            look = {"ha": "center", "va": "top", "fontsize": 8, "color": MUTED}
            occluded.text(0.5, -0.06, points, transform=occluded.transAxes, **look)


def _name(axes, row, right):
    """Label, prediction where it is another, and its probability."""
    sure = f"{100 * row.share:.0f} %"
    words = f"{row.label}, {sure}" if right else f"{row.label}, said\n{row.predicted} {sure}"
    colour = INK if right else ACCENT
    axes.set_title(words, fontsize=9, loc="center", fontweight="normal", color=colour)


def maps(path, face, layers, limit):
    """One block per layer: its first `limit` channels, each scaled for itself.

    face: uint8 (48, 48). layers: {name: activations (height, width, channels)}.
    """
    shown = [min(values.shape[2], limit) for values in layers.values()]
    heights = [-(-channels // COLUMNS) for channels in shown]
    panels = {"rows": sum(heights), "columns": COLUMNS + 1, "squeeze": False}
    with figure(path, 9, 1.12 * sum(heights) + 0.35 * len(heights), **panels) as (_, axes):
        for cell in axes.flat:
            cell.axis("off")
        axes[0, 0].imshow(face, cmap="gray", vmin=0, vmax=255)
        top = 0
        for (name, values), channels, height in zip(layers.items(), shown, heights, strict=True):
            for channel in range(channels):
                cell = axes[top + channel // COLUMNS, 1 + channel % COLUMNS]
                cell.imshow(values[:, :, channel], cmap="gray")
            title = f"{name}: {' × '.join(map(str, values.shape))}"
            axes[top, 1].set_title(title, fontsize=9, fontweight="normal")
            top += height
