"""A tiny dataset, and what people keep such data in: class folders, CSVs, folders, zips, tars."""

import io
import tarfile
import zipfile

import numpy as np
from PIL import Image

from ferlab.data.classes import CLASSES
from ferlab.data.dataset import assemble

CODES = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")  # 0 to 6 in the CSV
USAGE = {
    "train": "Training",
    "public": "PublicTest",
    "private": "PrivateTest",
    "validation": "Validation",
    "test": "Test",
}
FOLDER = {"train": "train", "public": "test", "private": "test"}


def tiny(train=3, splits=("public", "private"), classes=CLASSES, official=True, seed=0):
    """A Dataset of smooth random patches: per class `train` training images, and one image in each
    of `splits`."""
    rows = [
        (label, split)
        for split in ("train", *splits)
        for label in classes
        for _ in range(train if split == "train" else 1)
    ]
    coarse = np.random.default_rng(seed).integers(0, 256, (len(rows), 6, 6), dtype=np.uint8)
    faces = coarse.repeat(8, axis=1).repeat(8, axis=2)
    ids = [
        f"{USAGE[split]}_{row:05}" if official else f"{split}/{label}/{row:05}"
        for row, (label, split) in enumerate(rows)
    ]
    return assemble("tiny", classes, faces, ids, *zip(*rows, strict=True))


def image(face, format="PNG", mode="L", size=None):
    """The bytes of an image file."""
    file = io.BytesIO()
    picture = Image.fromarray(face).convert(mode)
    (picture.resize(size) if size else picture).save(file, format)
    return file.getvalue()


def images(data, folders=FOLDER, top="", spell=str):
    """Class folders as {name: bytes}.

    folders: split -> its folder, where that has another name. spell: how a class is written.
    """

    def name(row):
        folder, stem = folders.get(row.split, row.split), row.id.rsplit("/", 1)[-1]
        return f"{top}{folder}/{spell(row.label)}/{stem}.png"

    return {
        name(row): image(face)
        for face, row in zip(data.faces, data.table.itertuples(), strict=True)
    }


def csv_text(data, columns=("emotion", "pixels", "Usage")):
    """A FER2013 CSV with the given header; names may bear spaces, as in icml_face_data.csv."""
    lines = [",".join(columns)]
    for face, row in zip(data.faces, data.table.itertuples(), strict=True):
        cells = {
            "emotion": CODES.index(row.label),
            "pixels": " ".join(map(str, face.ravel().tolist())),
            "usage": USAGE[row.split],
            "id": row.id,
        }
        lines.append(",".join(str(cells[name.strip().lower()]) for name in columns))
    return "\n".join(lines) + "\n"


def folder(path, files):
    """A folder at `path` that holds {name: bytes}; returns the path, as the next two do."""
    for name, content in files.items():
        file = path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    return path


def zipped(path, files):
    """A zip of {name: bytes}."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def tarred(path, files, mode="w:gz"):
    """A tar of {name: bytes}, packed as `mode` says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def about(dataset, digest="0" * 64, parameters=7):
    """The content of about.json of a network called small, as stages/predict.py writes it."""
    return {"name": "small", "parameters": parameters, "dataset": dataset, "digest": digest}


def usable(classes=CLASSES, equalize=False):
    """What a model's file says of its use, as ferlab.training.model_file.about does."""
    seen = {"labels": "fer2013", "dataset": "x", "digest": "0" * 64}
    return {"classes": list(classes), "equalize": equalize} | seen
