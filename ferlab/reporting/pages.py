"""What all pages share: templates, pictures inlined into HTML, and a few words."""

import base64
import io
from pathlib import Path

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from PIL import Image


def template(name):
    """A page of ferlab/templates, with the filters `percent` and `inline` (PNG bytes as an address)."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "percent": lambda share: f"{100 * share:.1f}\N{NO-BREAK SPACE}%",
        "inline": _inline,
    }
    return environment.get_template(name)


def views(settings):
    """In words, what an evaluation image's probabilities are the mean of. settings: the section `evaluate`, as a dict."""
    moved = (
        f"each face and {settings['shift']} pixels to its four corners"
        if settings["shift"]
        else "each face"
    )
    if settings["flip"]:
        return f"averaged over {moved}" + (
            ", all these mirrored as well" if settings["shift"] else " and its mirror image"
        )
    return f"averaged over {moved}" if settings["shift"] else "those of each face as it is"


def png(face):
    """A face as PNG bytes."""
    with io.BytesIO() as file:
        Image.fromarray(np.asarray(face)).save(file, "png", optimize=True)
        return file.getvalue()


def _inline(png):
    """PNG bytes as an address that carries them."""
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")
