"""What a model's file says of its use, and faces prepared as it says.

Class names and scaling are never guessed: a file that does not say them needs somebody who does.
"""

import json
import shutil
import zipfile
from dataclasses import asdict, dataclass

import numpy as np

from ferlab.data.prepare import prepared

MEMBER = "ferlab.json"  # of a `.keras` file (ferlab.training.model_file)
# How a network wants the gray levels 0 to 255: name -> (factor, offset)
SCALINGS = {"raw": (1, 0), "unit": (1 / 255, 0), "signed": (1 / 127.5, -1)}


@dataclass(frozen=True)
class About:
    """What a model's file says of its use (ferlab.training.model_file.about).

    classes: names, empty where the file does not say. equalize: whether faces are equalised before
    the network sees them. labels, dataset, digest: what it was trained on. scaling: of SCALINGS;
    networks of this project scale themselves.
    """

    classes: tuple = ()
    equalize: bool = False
    labels: str = ""
    dataset: str = ""
    digest: str = ""
    scaling: str = "raw"


def read_about(path):
    """The About in a `.keras` file; an empty one where ferlab did not write it. Needs no Keras."""
    with zipfile.ZipFile(path) as archive:
        if MEMBER not in archive.namelist():
            return About()
        values = json.loads(archive.read(MEMBER))
    about = About(**values | {"classes": tuple(values["classes"])})
    named = about.classes and all(isinstance(name, str) for name in about.classes)
    if not isinstance(about.equalize, bool) or not named or about.scaling not in SCALINGS:
        raise ValueError(f"its {MEMBER} does not say classes, equalize and scaling")
    return about


def describe(path, about, target):
    """Copy a `.keras` file that says nothing of its use to `target`, where it says `about`."""
    shutil.copyfile(path, target)
    with zipfile.ZipFile(target, "a") as archive:
        archive.writestr(zipfile.ZipInfo(MEMBER), json.dumps(asdict(about)))


def prepare(model, faces):
    """The faces uint8 (..., 48, 48) as this network was trained to see them.

    They stay uint8, unless it wants them scaled: then float32.
    """
    about = getattr(model, "about", About())
    faces, (factor, offset) = prepared(faces, about.equalize), SCALINGS[about.scaling]
    return faces if about.scaling == "raw" else faces * np.float32(factor) + np.float32(offset)
