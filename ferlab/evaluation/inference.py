"""Loading a trained network and asking it: faces -> probabilities.

Cost on two cores, small network: 0.5 s per 1,000 images and view.
"""

import json
import zipfile
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ferlab import dvc_files
from ferlab.data.dataset import SPLITS
from ferlab.data.prepare import prepared
from ferlab.evaluation import tables
from ferlab.files import UserError, md5, one_line, root

MAX_BYTES = 2 << 30  # of an unpacked model


@dataclass(frozen=True)
class About:
    """What a model's file says of its use (ferlab.training.about). classes: names, empty where the file does not say.
    equalize: whether faces are equalised first. labels, dataset, digest: what it was trained on."""

    classes: tuple = ()
    equalize: bool = False
    labels: str = ""
    dataset: str = ""
    digest: str = ""


def load(path, name, classes=None):
    """The Keras model at `path` on backend `name`, with an `about` (About) that `predict` and others go by.

    Code hidden in the file is refused, as is a wrong hash or class count.
    """
    from ferlab.training import backend

    if not path.exists():
        raise UserError(f"{path}: not found; `dvc repro` makes it")
    _check_hash(path)
    keras = backend.start(name)
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(member.file_size for member in archive.infolist())
        if unpacked > MAX_BYTES:
            raise ValueError(f"it unpacks to {unpacked >> 20} MiB")
        network = keras.models.load_model(path, compile=False, safe_mode=True)
        network.about = read_about(path)
    except Exception as error:  # damaged files raise nearly anything in Keras
        raise UserError(
            f"{path}: not a usable Keras model ({one_line(error)}); `dvc repro` trains one"
        ) from None
    if classes and network.output_shape[-1] != classes:
        raise UserError(
            f"{path}: has {network.output_shape[-1]} classes, the data have {classes}; run `dvc repro`"
        )
    return network


def read_about(path):
    """The About in a `.keras` file; an empty one where the file was not written by ferlab. Needs no Keras."""
    with zipfile.ZipFile(path) as archive:
        if "ferlab.json" not in archive.namelist():
            return About()
        told = json.loads(archive.read("ferlab.json"))
    made = About(**told | {"classes": tuple(told["classes"])})
    if not isinstance(made.equalize, bool) or not all(
        isinstance(name, str) for name in made.classes
    ):
        raise ValueError("its ferlab.json does not say classes and equalize")
    return made


def prepare(model, faces):
    """The faces uint8 (..., 48, 48) as this network was trained to see them."""
    return prepared(faces, getattr(model, "about", About()).equalize)


def _check_hash(path):
    """UserError where the dvc.lock above `path` names another md5 and this file was not trained here either."""
    actual = md5(path)
    folders = path.absolute().parents
    top = next((folder for folder in folders if (folder / "dvc.lock").exists()), None)
    if not top or (root() / f".ferlab/runs/{actual}.json").exists():
        return
    pinned = dvc_files.locked(top).get(path.absolute().relative_to(top).as_posix())
    if pinned not in (None, "", actual):
        raise UserError(
            f"{path}: its md5 is {actual}, dvc.lock says {pinned}, and it was not trained here; "
            "`dvc repro` fixes it"
        )


def predict(model, faces, flip=False, shift=0, batch=512):
    """Class probabilities float32 (N, C) of uint8 faces (N, 48, 48) by a Keras model that takes (n, 48, 48, 1).

    With `flip` they are the mean over each face and its mirror image; with `shift` also over the face moved by that many
    pixels towards each corner (ten views with both). Batches are all of one size (the last is filled up with zeros), so
    that a compiling backend compiles once.
    """
    batch = max(1, min(batch, len(faces)))
    found = np.zeros((len(faces), model.output_shape[-1]), np.float32)
    for start in range(0, len(faces), batch):
        part = prepare(model, np.asarray(faces[start : start + batch]))[..., None]
        full = np.zeros((batch, *part.shape[1:]), np.uint8)
        full[: len(part)] = part
        views = list(_views(full, flip, shift))
        probabilities = sum(np.asarray(model.predict_on_batch(view)) for view in views) / len(views)
        found[start : start + batch] = probabilities[: len(part)]
    return found


def _views(faces, flip, shift):
    """The faces, and as wanted their mirror images, and all these moved diagonally; what moves in repeats the edge."""
    height, width = faces.shape[1:3]
    padded = np.pad(faces, ((0, 0), (shift, shift), (shift, shift), (0, 0)), mode="edge")
    steps = [(shift, shift)] + [(y, x) for y in (0, 2 * shift) for x in (0, 2 * shift)] * bool(
        shift
    )
    for y, x in steps:
        view = padded[:, y : y + height, x : x + width]
        yield view
        if flip:
            yield view[:, :, ::-1]


def measure(network, dataset, settings):
    """(table of predictions, more): all that judging needs of a network, by `settings` (params.Evaluate).

    Training images are predicted as they are, being a reference only; augmented ones not at all; the others, and further
    sets, with the declared views. more: {"left_out": {set: {reason: images}}, "robustness": rows of ferlab.robustness}.
    """
    from ferlab.data.readers import extra
    from ferlab.evaluation import robustness  # here: what only judges predictions needs neither

    views = {"flip": settings.flip, "shift": settings.shift}
    others = [
        extra.read(entry) for entry in settings.extra_datasets
    ]  # first: a wrong path is told before the work
    found = np.zeros((len(dataset.faces), len(dataset.classes)), np.float32)
    train = (dataset.table["split"] == "train").to_numpy()
    original = (dataset.table["origin"] == "original").to_numpy()
    for rows, wanted in ((train & original, {}), (~train, views)):
        found[rows] = predict(network, dataset.faces[rows], **wanted)
    measured, more = [tables.of_dataset(dataset, found)], {}
    for other in others:
        table, left_out = _further(other, predict(network, other.faces, **views), dataset.classes)
        measured.append(table)
        more.setdefault("left_out", {})[other.name] = left_out
    if settings.robustness:
        told = dataset.split(tables.final(dataset.table["split"].unique()))
        rows = robustness.measure(
            lambda faces: predict(network, faces, **views).argmax(axis=1), told.faces, told.labels
        )
        more["robustness"] = rows.round(6).to_dict("records")
    return pd.concat(measured, ignore_index=True), more


def _further(other, probabilities, classes):
    """Predictions of a further set of faces, in the network's classes, and what was left out of it."""
    labels = pd.Series(other.labels)
    if tables.MERGE[0] not in classes:
        labels = labels.replace(*tables.MERGE)
    known = labels.isin(classes).to_numpy()
    left_out = dict(other.left_out)
    for name, count in labels[~known].value_counts().sort_index().items():
        left_out[f"of the class {name}, which this network does not have"] = int(count)
    name = f"{other.name} faces" if other.name in {*SPLITS, "private_unseen"} else other.name
    rows = pd.DataFrame({"id": other.ids, "split": name, "label": labels, "official": -1})[known]
    return tables.make(
        rows, np.round(probabilities[known].astype(np.float64), 6), classes
    ), left_out
