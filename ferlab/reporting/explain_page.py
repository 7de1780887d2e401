"""Figures and page of `explain`: what `ferlab.explain` found, each picture with a sentence on how to read it."""

import numpy as np
from matplotlib.ticker import PercentFormatter

from ferlab.evaluation import tables
from ferlab.reporting import model_figures, pages
from ferlab.reporting.figures import ACCENT, INK, MUTED, figure

READ = {  # figure: (heading, how to read it)
    "right": (
        "What it looks at when it is right",
        "Middle: red is where the evidence for the class stands (Grad-CAM). Bottom: "
        "red is what the probability falls by when a gray square hides the place, blue where hiding helps (occlusion).",
    ),
    "wrong": (
        "What it looks at when it is wrong",
        "The same for the mistake of each class that it is surest of; evidence for "
        "the name it gave. Red on the background or on hair means that it learned something beside the face.",
    ),
    "reliability": (
        "How far to trust its probabilities",
        "On the line, 80 % sure means right in 80 of 100 cases; below it, the "
        "network is surer than it should be. Gray bars: how many images each point stands for.",
    ),
    "maps": (
        "What its layers keep of a face",
        "Each square is one channel, bright where it answers. Early ones show edges and "
        "shadows; late ones are coarse, and stand for parts of the face or for whole expressions.",
    ),
    "label_issues": (
        "Labels to look at again",
        "The training images whose label the network gives less than a tenth, the surest "
        "first. Some are wrong labels, some are hard faces: the network is no judge, but it knows where to look.",
    ),
}


def attention(path, rows, faces, heat, lost, right):
    """Three lines of faces: as they are, with Grad-CAM over them, with occlusion over them. One column per row of `rows`."""
    columns = max(len(rows), 1)
    with figure(path, max(1.5 * columns, 3), 5.1, rows=3, columns=columns, squeeze=False) as (
        _,
        axes,
    ):
        for cell in axes.flat:
            cell.axis("off")
        for column, row in enumerate(rows.itertuples()):
            for line in range(3):
                axes[line, column].imshow(faces[column], cmap="gray", vmin=0, vmax=255)
            axes[1, column].imshow(
                heat[column], cmap="Reds", vmin=0, vmax=1, alpha=0.25 + 0.5 * heat[column]
            )
            most = max(np.abs(lost[column]).max(), 1e-6)
            axes[2, column].imshow(lost[column], cmap="RdBu_r", vmin=-most, vmax=most, alpha=0.55)
            sure = f"{100 * row.share:.0f} %"
            words = (
                f"{row.label}, {sure}" if right else f"{row.label}, said\n{row.predicted} {sure}"
            )
            axes[0, column].set_title(
                words, fontsize=9, loc="center", fontweight="normal", color=INK if right else ACCENT
            )
            axes[2, column].text(
                0.5,
                -0.06,
                f"−{100 * max(lost[column].max(), 0):.0f} points",
                ha="center",
                va="top",
                transform=axes[2, column].transAxes,
                fontsize=8,
                color=MUTED,
            )


def reliability(path, tables, title):
    """tables: {what: table of ferlab.explain.reliability}; the first is drawn boldly."""
    with figure(path, model_figures.WIDTH, model_figures.WIDTH * 0.9) as (_, axes):
        first = next(iter(tables.values()))
        share = first["images"] / first["images"].sum()
        axes.bar(
            (first["low"] + first["high"]) / 2,
            share,
            width=0.09,
            color=MUTED,
            alpha=0.3,
            label="share of the images",
        )
        axes.plot([0, 1], [0, 1], color=MUTED, linestyle=":", label="perfectly calibrated")
        for (name, table), colour in zip(
            tables.items(), (model_figures.BLUE, ACCENT), strict=False
        ):
            axes.plot(table["confidence"], table["accuracy"], color=colour, marker="o", label=name)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(PercentFormatter(1, decimals=0))
        axes.set(
            title=title,
            xlim=(0, 1),
            ylim=(0, 1),
            xlabel="how sure it is",
            ylabel="how often it is right",
        )
        axes.legend(frameon=False, loc="upper left")


def maps(path, face, found, most):
    """One block per layer: its first `most` channels, each scaled for itself."""
    columns = 8
    heights = [int(np.ceil(min(values.shape[2], most) / columns)) for values in found.values()]
    with figure(
        path,
        9,
        1.12 * sum(heights) + 0.35 * len(heights),
        rows=sum(heights),
        columns=columns + 1,
        squeeze=False,
    ) as (_, axes):
        for cell in axes.flat:
            cell.axis("off")
        axes[0, 0].imshow(face, cmap="gray", vmin=0, vmax=255)
        top = 0
        for (name, values), height in zip(found.items(), heights, strict=True):
            for channel in range(min(values.shape[2], most)):
                axes[top + channel // columns, 1 + channel % columns].imshow(
                    values[:, :, channel], cmap="gray"
                )
            axes[top, 1].set_title(
                f"{name}: {' × '.join(map(str, values.shape))}", fontsize=9, fontweight="normal"
            )
            top += height


def label_issues(path, rows, faces):
    model_figures.mistakes(path, rows, faces, "Labels to look at again")


def render(about, tables, pictures):
    """The page as text. about: dataset, network, split, accuracy, calibration; tables: {"errors": rows, "label_issues": rows};
    pictures: PNG bytes by name of READ."""
    return (
        pages.template("explain.html").render(
            about=about, tables=tables, pictures=pictures, read=READ
        )
        + "\n"
    )


def card(details, settings, calibration):
    """The model card (Mitchell et al. 2018, arXiv:1810.03993) as Markdown. details: of details.json; settings: the parameters."""
    split = tables.final(details["splits"])
    return (
        pages.template("model_card.md").render(
            details=details,
            settings=settings,
            calibration=calibration,
            split=split,
            scores=details["splits"][split],
            views=pages.views(settings.evaluate.model_dump()),
        )
        + "\n"
    )
