"""What all pages share: templates, pictures inlined into HTML, and a few words."""

import base64
import io
import tempfile
from pathlib import Path

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from PIL import Image


def template(name):
    """A page of ferlab/reporting/templates, with the filters `percent` and `inline`."""
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
    }
    return environment.get_template(name)


def drawn(draw):
    """The figures that `draw` writes into a folder, as {name without ending: PNG bytes}."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        draw(folder)
        return {file.stem: file.read_bytes() for file in sorted(folder.glob("*.png"))}


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
    moved = f"averaged over each face and {shift} pixels to its four corners"
    return moved + (", all these mirrored as well" if flip else "")
