"""What all pages share: templates, charts, pictures inlined into HTML, and a few words."""

import base64
import io
import math
from pathlib import Path

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from PIL import Image

from ferlab.data.classes import CLASSES
from ferlab.progress import duration, hardware

LEFT, RIGHT, TOP, BOTTOM = 48, 440, 10, 226  # of a chart's frame in templates/charts.html


def template(name):
    """A page of ferlab/reporting/templates, with the filters `percent`, `inline`,
    `duration` (of seconds), `hardware` (of a run.json's machine) and `short`."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "percent": lambda share: f"{100 * share:.1f}\N{NO-BREAK SPACE}%",
        "inline": inline,
        "duration": duration,
        "hardware": hardware,
        "short": lambda name: name if len(name) <= 12 else f"{name[:11]}…",
    }
    return environment.get_template(name)


def colour(place, name=""):
    """A colour of templates/style.css: a class has its own, others take turns by their place."""
    return f"var(--{name})" if name in CLASSES else f"var(--line-{place % 6})"


def lines(series, xlabel, x, y, percent=(), rules=(), marks=()):
    """A chart for the macro `lines` of templates/charts.html.

    series: [(name, colour, kind, xs, ys)], kind one of dots, plain, dashed; a name that is empty
    stands in no legend. x, y: (lowest, highest) of what is shown. percent: which axes (of "xy") are
    shares. rules: [(x, words)], vertical lines. marks: [(x, y)], rings.
    """

    def across(value):
        return round(LEFT + (RIGHT - LEFT) * (value - x[0]) / (x[1] - x[0]), 1)

    def up(value):
        return round(BOTTOM - (BOTTOM - TOP) * (value - y[0]) / (y[1] - y[0]), 1)

    def written(value, axis):
        return f"{100 * value:.0f} %" if axis in percent else f"{value:g}"

    return {
        "xlabel": xlabel,
        "x": [(across(value), written(value, "x")) for value in ticks(*x, whole=xlabel == "epoch")],
        "y": [(up(value), written(value, "y")) for value in ticks(*y)],
        "rules": [(across(value), words) for value, words in rules],
        "marks": [(across(one), up(other)) for one, other in marks],
        "names": [(name, ink) for name, ink, *_ in series if name],
        "lines": [
            (name, ink, kind, [(across(one), up(other)) for one, other in zip(xs, ys, strict=True)])
            for name, ink, kind, xs, ys in series
        ],
    }


def ticks(low, high, most=6, whole=False):
    """Round numbers between two others, at most `most` of them; whole ones where that is asked."""
    raw = max((high - low) / (most - 1), 1 if whole else 0)
    power = 10 ** math.floor(math.log10(raw))
    units = (1, 2, 5, 10) if whole else (1, 2, 2.5, 5, 10)
    step = next(power * unit for unit in units if power * unit >= raw * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(step * place, 10) for place in range(first, last + 1)]


def around(*values):
    """(lowest, highest) of sequences of numbers, with a little room."""
    together = np.concatenate([np.asarray(list(each), float) for each in values])
    low, high = float(together.min()), float(together.max())
    room = 0.04 * (high - low) or 0.5
    return low - room, high + room


def png(face):
    """A face, uint8 (48, 48) or (48, 48, 3), as PNG bytes."""
    with io.BytesIO() as file:
        Image.fromarray(np.asarray(face)).save(file, "png", optimize=True)
        return file.getvalue()


def inline(png):
    """PNG bytes as the address of an image that the page itself carries."""
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")


def views(settings):
    """In words, what an evaluation image's probabilities are the mean of.

    settings: the section `evaluate`, as a dict.
    """
    shift, flip = settings["shift"], settings["flip"]
    if not shift:
        both = "averaged over each face and its mirror image"
        return both if flip else "those of each face as it is"
    moved = f"the face, and the face moved {shift} pixels to each corner"
    if not flip:
        return f"averaged over five views: {moved}"
    return f"averaged over ten views: {moved}, and the mirror images of these five"
