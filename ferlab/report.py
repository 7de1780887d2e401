"""Figures of a trained model, and one self-contained HTML page that a person would rather look at than at a table.

Nothing here knows the time or the machine: equal results give equal bytes.
"""

import base64
import io
import math
from pathlib import Path

import numpy as np
import pandas as pd
import seaborn as sns
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from matplotlib.ticker import MaxNLocator, PercentFormatter
from PIL import Image
from ruamel.yaml import YAML

from ferlab import evaluation
from ferlab.figures import ACCENT, INK, MUTED, PALETTE, figure
from ferlab.robustness import UNITS

BLUE = "#30638e"
WIDTH = 5.6  # inches: on a phone the letters stay readable, on a desk two figures stand side by side
MAIN = {"download": ("dataset",), "balance": ("strategy",),
        "train": ("model", "epochs", "batch_size", "optimizer", "learning_rate", "schedule", "backend", "precision",
                  "seed")}
HUMAN = (0.65, 0.05)  # people's accuracy on FER2013's seven classes: Goodfellow et al. 2013, arXiv:1307.0414


def confusion_shares(path, matrix, classes, title):
    """Heat map: of the images of each class (row), the share given each name (column)."""
    heat_map(path, matrix, classes, title, lambda share, count: f"{100 * share:.0f}" if count else "·")


def confusion_counts(path, matrix, classes, title):
    """The same heat map with the numbers of images; the colour is still the share of the row, so small classes show."""
    heat_map(path, matrix, classes, title, lambda share, count: f"{count:,}" if count else "·")


def heat_map(path, matrix, classes, title, text):
    matrix = np.asarray(matrix)
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    words = np.array([[text(*cell) for cell in zip(*rows, strict=True)] for rows in zip(shares, matrix, strict=True)])
    names = [_short(name) for name in classes]
    with figure(path, WIDTH, WIDTH * 0.9) as (_, axes):
        sns.heatmap(shares, vmin=0, vmax=1, annot=words, fmt="", cmap=sns.light_palette(BLUE, as_cmap=True), cbar=False,
                    square=True, linewidths=1.5, xticklabels=names, yticklabels=names, ax=axes, annot_kws={"size": 11})
        for written, share in zip(axes.texts, shares.flat, strict=True):
            written.set_color("white" if share > 0.65 else INK)  # the default turns white where it is hard to read
        axes.set(title=title, xlabel="the network says", ylabel="the label says")
        axes.tick_params(axis="x", rotation=40 if len(classes) > 4 else 0)
        axes.tick_params(axis="y", rotation=0)


def learning_curves(path, history, selection):
    """Loss and accuracy by epoch for train and the split `selection`; the epoch that was kept is marked."""
    kept = history[history["chosen"] == 1]
    lines = {"accuracy": ("running_accuracy", "selection_accuracy"), "loss (cross-entropy)": ("running_loss", "selection_loss")}
    with figure(path, WIDTH, WIDTH * 0.9, rows=2, sharex=True) as (_, panels):
        for axes, (title, (train, chosen)) in zip(panels, lines.items(), strict=True):
            axes.plot(history["epoch"], history[train], color=MUTED, marker=".", label="train, while learning")
            axes.plot(history["epoch"], history[chosen], color=BLUE, marker=".", label=selection)
            axes.plot(kept["epoch"], kept[chosen], "o", color=ACCENT, markersize=8, label="epoch kept")
            axes.set_title(title.capitalize())
        panels[0].yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        panels[0].legend(frameon=False, loc="lower right")
        panels[1].xaxis.set_major_locator(MaxNLocator(integer=True))
        panels[1].set_xlabel("epoch")


def per_class_f1(path, per_class, title):
    """Bars of F1, best class first, with the number of images."""
    rows = sorted(per_class.items(), key=lambda item: (-item[1]["f1"], item[0]))
    names = [_short(name) for name, _ in rows]
    with figure(path, WIDTH, max(1.6, 0.75 + 0.45 * len(rows))) as (_, axes):
        bars = axes.barh(range(len(rows)), [row["f1"] for _, row in rows], height=0.72,
                         color=[PALETTE.get(name, MUTED) for name, _ in rows])
        axes.bar_label(bars, [f"{row['f1']:.2f}  ({row['support']:,} images)" for _, row in rows], padding=4)
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
        for panel in axes.flat[len(groups):]:
            panel.axis("off")
        drawn.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")


def worst(predictions, count):
    """The `count` most confident mistakes of the final split: its rows, and `share`, the wrong class's probability."""
    parts = evaluation.parts(predictions)
    rows = parts[evaluation.final(parts)]
    rows = rows[rows["label"] != rows["predicted"]]
    highest = rows[[f"p_{name}" for name in evaluation.classes_of(rows)]].max(axis=1)
    return rows.assign(share=highest).sort_values(["share", "id"], ascending=[False, True]).head(count)


def mistakes(path, rows, faces, title="Most confident mistakes"):
    """Mosaic of faces uint8 (n, 48, 48), those of `rows` (see `worst`): what each is, and what the network said."""
    columns = min(6, max(len(rows), 1))
    lines = max(math.ceil(len(rows) / columns), 1)
    width, height = max(1.2 * columns, 3), 1.5 * lines + 0.3
    with figure(path, width, height, rows=lines, columns=columns, squeeze=False) as (drawn, axes):
        drawn.suptitle(title if len(rows) else f"{title}: none", x=0.01, ha="left", fontsize=11,
                       fontweight="bold")
        for cell in axes.flat:
            cell.axis("off")
        for cell, row, face in zip(axes.flat, rows.itertuples(), faces, strict=False):
            cell.imshow(face, cmap="gray", vmin=0, vmax=255)
            said = f"said {_short(row.predicted)} {100 * row.share:.0f} %"
            for y, words, colour in ((-0.05, f"is {_short(row.label)}", INK), (-0.2, said, ACCENT)):
                cell.text(0.5, y, words, transform=cell.transAxes, ha="center", va="top", fontsize=8.5, color=colour)


def draw(folder, details, history, rows, faces, selection):
    """Write all figures into `folder`. rows, faces: the mistakes to show. selection: the split that chose the epoch."""
    name = evaluation.final(details["splits"])
    scores = details["splits"][name]
    matrix, classes, where = scores["confusion"], details["classes"], f"({name}, {_short(details['dataset'], 40)})"
    confusion_shares(folder / "confusion_shares.png", matrix, classes, f"Of 100 faces {where}")
    confusion_counts(folder / "confusion_counts.png", matrix, classes, f"Faces {where}")
    per_class_f1(folder / "per_class_f1.png", scores["per_class"], f"F1 by class {where}")
    learning_curves(folder / "learning_curves.png", history, selection)
    mistakes(folder / "mistakes.png", rows, faces)
    if "robustness" in details:
        robustness(folder / "robustness.png", details["robustness"], f"Accuracy on disturbed faces {where}")


def render(details, history, params, rows, faces, pictures, key="", identity=None):
    """The page as text: HTML that needs no other file.

    params: the whole of params.yaml as nested dicts. rows, faces: the mistakes to show, or None where no faces are at hand.
    pictures: PNG bytes by name (confusion_shares, confusion_counts, per_class_f1, learning_curves, balance, samples); what is
    missing is left out. key: of a recipe's result, else it is the bench's. history: None for what was not trained.
    identity: what the data are a copy of (ferlab.identify.describe), where they are one.
    """
    splits, classes = details["splits"], details["classes"]
    name = evaluation.final(splits)
    scores = splits[name]
    common = max(scores["per_class"], key=lambda key: scores["per_class"][key]["support"])
    references = [("this network", scores["accuracy"], scores["accuracy_low"], scores["accuracy_high"])]
    if details["dataset"].startswith("fer2013") and len(classes) == 7:
        references.append(("people", HUMAN[0], HUMAN[0] - HUMAN[1], HUMAN[0] + HUMAN[1]))
    references.append((f"always “{common}”", scores["per_class"][common]["support"] / scores["n"], None, None))
    text = io.StringIO()
    YAML().dump(params, text)
    wrong = [{"id": row.id, "label": row.label, "predicted": row.predicted, "share": row.share, "png": png(face)}
             for row, face in zip(rows.itertuples(), faces, strict=True)] if rows is not None else None
    kept = history[history["chosen"] == 1]["epoch"].tolist() if history is not None else []
    return template("report.html").render(
        details=details, splits=splits, final=name, scores=scores, six=details["six_class"][name],
        references=references, epochs=0 if history is None else len(history), kept=kept, key=key,
        main={name: params[section][name] for section, names in MAIN.items() if section in params for name in names},
        yaml=text.getvalue(), select=params.get("train"), views=views(params["evaluate"]) if "evaluate" in params else "its own",
        wrong=wrong, pictures=pictures, identity=identity) + "\n"


def template(name):
    """A page of ferlab/templates, with the filters `percent` and `inline` (PNG bytes as an address)."""
    environment = Environment(loader=FileSystemLoader(Path(__file__).parent / "templates"), autoescape=True,
                              undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"percent": lambda share: f"{100 * share:.1f}\N{NO-BREAK SPACE}%", "inline": _inline}
    return environment.get_template(name)


def views(settings):
    """In words, what an evaluation image's probabilities are the mean of. settings: the section `evaluate`, as a dict."""
    moved = f"each face and {settings['shift']} pixels to its four corners" if settings["shift"] else "each face"
    if settings["flip"]:
        return f"averaged over {moved}" + (", all these mirrored as well" if settings["shift"] else " and its mirror image")
    return f"averaged over {moved}" if settings["shift"] else "those of each face as it is"


def png(face):
    """A face as PNG bytes."""
    with io.BytesIO() as file:
        Image.fromarray(np.asarray(face)).save(file, "png", optimize=True)
        return file.getvalue()


def _inline(png):
    """PNG bytes as an address that carries them."""
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")


def _short(name, most=12):
    """A name as matplotlib may print it: not too long, and `$` is no mathematics."""
    return (name if len(name) <= most else name[:most - 1] + "…").replace("$", r"\$")
