"""What a trained model is worth: probabilities -> predictions -> scores with 95 % intervals, as plain tables.

Writes no file. Only `load` and `measure` need Keras; all else works on a table of predictions, so that results can be
judged again where no model is. Cost on two cores, small network: 0.5 s per 1,000 images and view.
"""

import hashlib
import json
import math
import zipfile
from dataclasses import dataclass

import numpy as np
import pandas as pd
from ruamel.yaml import YAML

from ferlab.dataset import SPLITS
from ferlab.files import UserError, root
from ferlab.prepare import prepared

MERGE = ("disgust", "angry")  # the six-class reading of FER2013 counts the first as the second
SCALARS = ("precision_macro", "recall_macro", "f1_macro")  # of the final split, in metrics.json
MOST_BYTES = 2 << 30  # of an unpacked model
Z = 1.959963984540054  # the normal quantile of a two-sided 95 % interval


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
    from ferlab import backend

    if not path.exists():
        raise UserError(f"{path}: not found; `dvc repro` makes it")
    _check_hash(path)
    keras = backend.start(name)
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(member.file_size for member in archive.infolist())
        if unpacked > MOST_BYTES:
            raise ValueError(f"it unpacks to {unpacked >> 20} MiB")
        network = keras.models.load_model(path, compile=False, safe_mode=True)
        network.about = read_about(path)
    except Exception as error:  # damaged files raise nearly anything in Keras
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"{path}: not a usable Keras model ({reason}); `dvc repro` trains one") from None
    if classes and network.output_shape[-1] != classes:
        raise UserError(f"{path}: has {network.output_shape[-1]} classes, the data have {classes}; run `dvc repro`")
    return network


def read_about(path):
    """The About in a `.keras` file; an empty one where the file was not written by ferlab. Needs no Keras."""
    with zipfile.ZipFile(path) as archive:
        if "ferlab.json" not in archive.namelist():
            return About()
        told = json.loads(archive.read("ferlab.json"))
    made = About(**told | {"classes": tuple(told["classes"])})
    if not isinstance(made.equalize, bool) or not all(isinstance(name, str) for name in made.classes):
        raise ValueError("its ferlab.json does not say classes and equalize")
    return made


def prepare(model, faces):
    """The faces uint8 (..., 48, 48) as this network was trained to see them."""
    return prepared(faces, getattr(model, "about", About()).equalize)


def _check_hash(path):
    """UserError where the dvc.lock above `path` names another md5 and this file was not trained here either."""
    found = hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
    lock = next((folder / "dvc.lock" for folder in path.absolute().parents if (folder / "dvc.lock").exists()), None)
    if not lock or (root() / f".ferlab/runs/{found}.json").exists():
        return
    stages = YAML(typ="safe").load(lock.read_text(encoding="utf-8"))["stages"]
    pinned = {out["path"]: out.get("md5") for stage in stages.values() for out in stage.get("outs", [])}
    wanted = pinned.get(path.absolute().relative_to(lock.parent).as_posix())
    if wanted not in (None, found):
        raise UserError(f"{path}: its md5 is {found}, dvc.lock says {wanted}, and it was not trained here; `dvc repro` mends it")


def predict(model, faces, flip=False, shift=0, batch=512):
    """Class probabilities float32 (N, C) of uint8 faces (N, 48, 48) by a Keras model that takes (n, 48, 48, 1).

    With `flip` they are the mean over each face and its mirror image; with `shift` also over the face moved by that many
    pixels towards each corner (ten views with both). Batches are all of one size (the last is filled up with zeros), so
    that a compiling backend compiles once.
    """
    batch = max(1, min(batch, len(faces)))
    found = np.zeros((len(faces), model.output_shape[-1]), np.float32)
    for start in range(0, len(faces), batch):
        part = prepare(model, np.asarray(faces[start:start + batch]))[..., None]
        full = np.zeros((batch, *part.shape[1:]), np.uint8)
        full[:len(part)] = part
        views = list(_views(full, flip, shift))
        probabilities = sum(np.asarray(model.predict_on_batch(view)) for view in views) / len(views)
        found[start:start + batch] = probabilities[:len(part)]
    return found


def _views(faces, flip, shift):
    """The faces, and as wanted their mirror images, and all these moved diagonally; what moves in repeats the edge."""
    height, width = faces.shape[1:3]
    padded = np.pad(faces, ((0, 0), (shift, shift), (shift, shift), (0, 0)), mode="edge")
    steps = [(shift, shift)] + [(y, x) for y in (0, 2 * shift) for x in (0, 2 * shift)] * bool(shift)
    for y, x in steps:
        view = padded[:, y:y + height, x:x + width]
        yield view
        if flip:
            yield view[:, :, ::-1]


def measure(network, dataset, settings):
    """(table of predictions, more): all that judging needs of a network, by `settings` (params.Evaluate).

    Training images are predicted as they are, being a reference only; augmented ones not at all; the others, and further
    sets, with the declared views. more: {"left_out": {set: {reason: images}}, "robustness": rows of ferlab.robustness}.
    """
    from ferlab import extra, robustness  # here: what only judges predictions needs neither

    views = {"flip": settings.flip, "shift": settings.shift}
    others = [extra.read(entry) for entry in settings.extra_datasets]  # first: a wrong path is told before the work
    found = np.zeros((len(dataset.faces), len(dataset.classes)), np.float32)
    train = (dataset.table["split"] == "train").to_numpy()
    original = (dataset.table["origin"] == "original").to_numpy()
    for rows, wanted in ((train & original, {}), (~train, views)):
        found[rows] = predict(network, dataset.faces[rows], **wanted)
    tables, more = [predictions(dataset, found)], {}
    for other in others:
        table, left_out = _further(other, predict(network, other.faces, **views), dataset.classes)
        tables.append(table)
        more.setdefault("left_out", {})[other.name] = left_out
    if settings.robustness:
        told = dataset.split(final(dataset.table["split"].unique()))
        rows = robustness.measure(lambda faces: predict(network, faces, **views).argmax(axis=1), told.faces, told.labels)
        more["robustness"] = rows.round(6).to_dict("records")
    return pd.concat(tables, ignore_index=True), more


def _further(other, probabilities, classes):
    """Predictions of a further set of faces, in the network's classes, and what was left out of it."""
    labels = pd.Series(other.labels)
    if MERGE[0] not in classes:
        labels = labels.replace(*MERGE)
    known = labels.isin(classes).to_numpy()
    left_out = dict(other.left_out)
    for name, count in labels[~known].value_counts().sort_index().items():
        left_out[f"of the class {name}, which this network does not have"] = int(count)
    name = f"{other.name} faces" if other.name in {*SPLITS, "private_unseen"} else other.name
    rows = pd.DataFrame({"id": other.ids, "split": name, "label": labels, "official": -1})[known]
    return _table(rows, np.round(probabilities[known].astype(np.float64), 6), classes), left_out


def predictions(dataset, probabilities):
    """One row per original image (not per augmented one): id, split, label, official, predicted, and p_<class> for each class.

    probabilities: (N, C), row by row those of `dataset`. Rounded to six decimals first, as they are written: scores of
    the table and scores of its file are then the same.
    """
    original = (dataset.table["origin"] == "original").to_numpy()
    rounded = np.round(np.asarray(probabilities, np.float64)[original], 6)
    return _table(dataset.table.loc[original, ["id", "split", "label", "official"]], rounded, dataset.classes)


def classes_of(predictions):
    """Class names of a table of predictions, in its order (alphabetical)."""
    return tuple(name.removeprefix("p_") for name in predictions.columns if name.startswith("p_"))


def fold(predictions):
    """The same table with disgust counted as angry: probabilities summed, the most probable class chosen again.

    A table that does not have both classes is returned as it is.
    """
    gone, into = MERGE
    classes = classes_of(predictions)
    if not set(MERGE) <= set(classes):
        return predictions
    folded = predictions.assign(**{f"p_{into}": predictions[f"p_{into}"] + predictions[f"p_{gone}"],
                                   "label": predictions["label"].replace(gone, into)})
    kept = [name for name in classes if name != gone]
    return _table(folded.loc[:, :"predicted"].drop(columns="predicted"), folded[[f"p_{name}" for name in kept]].to_numpy(), kept)


def _table(rows, probabilities, classes):
    chosen = np.array(classes, dtype=object)[probabilities.argmax(axis=1)]
    columns = {f"p_{name}": column for name, column in zip(classes, probabilities.T, strict=True)}
    return rows.reset_index(drop=True).assign(predicted=chosen, **columns)


def wilson(correct, n):
    """95 % interval (low, high) of a share, by Wilson's score; unlike the textbook one it stays within 0 and 1."""
    if not n:
        return 0.0, 1.0
    share = correct / n
    centre = share + Z * Z / (2 * n)
    spread = Z * math.sqrt(share * (1 - share) / n + Z * Z / (4 * n * n))
    return max(0.0, (centre - spread) / (1 + Z * Z / n)), min(1.0, (centre + spread) / (1 + Z * Z / n))


def confusion(labels, predicted, classes):
    """int64 (C, C): rows are true classes, columns predicted ones. A name that is not in `classes` is a KeyError."""
    place = {name: index for index, name in enumerate(classes)}
    counts = np.zeros((len(classes), len(classes)), np.int64)
    np.add.at(counts, ([place[name] for name in labels], [place[name] for name in predicted]), 1)
    return counts


def scores(labels, predicted, classes):
    """One split's entry in details.json, from class names. Division by zero gives 0; macro means count every class."""
    matrix = confusion(labels, predicted, classes)
    hits, support, n = np.diag(matrix), matrix.sum(axis=1), int(matrix.sum())
    each = {"precision": _ratio(hits, matrix.sum(axis=0)), "recall": _ratio(hits, support),
            "f1": _ratio(2 * hits, matrix.sum(axis=0) + support)}
    low, high = wilson(int(hits.sum()), n)
    return {
        "n": n, "accuracy": hits.sum() / n if n else 0.0, "accuracy_low": low, "accuracy_high": high,
        **{f"{name}_macro": float(values.mean()) for name, values in each.items()},
        **{f"{name}_weighted": float(values @ support / n) if n else 0.0 for name, values in each.items()},
        "per_class": {name: {**{key: float(values[i]) for key, values in each.items()}, "support": int(support[i])}
                      for i, name in enumerate(classes)},
        "confusion": matrix.tolist()}


def _ratio(above, below):
    return np.divide(above, below, out=np.zeros(len(above)), where=below > 0)


def parts(predictions, seen=()):
    """Rows by split, {name: table}, those present: the splits, private without the ids in `seen`, and test.

    `test` is public and private together where a dataset has these. Further sets of faces come last, by their names.
    """
    split = predictions["split"]
    masks = {name: split == name for name in SPLITS[:-1]}
    masks["private_unseen"] = (split == "private") & ~predictions["id"].isin(seen)
    masks["test"] = split.isin(["public", "private", "test"])
    masks |= {name: split == name for name in split.unique() if name not in SPLITS}
    return {name: predictions[mask] for name, mask in masks.items() if mask.any()}


def details(predictions, dataset, digest, model, parameters, seen=(), more=None):
    """The content of details.json.

    dataset, digest: its name and digest. model, parameters: the network's name and its number of weights.
    seen: ids of private images whose very pixels stand in the training split as well.
    more: as `measure` gives it, with what `agreement.judged` adds.
    """
    def by_split(table):
        return {name: _rounded(scores(part["label"], part["predicted"], _present(name, part)))
                for name, part in parts(table, seen).items()}

    return {"dataset": dataset, "digest": digest, "classes": list(classes_of(predictions)),
            "model": {"name": model, "parameters": int(parameters)},
            "splits": by_split(predictions), "six_class": by_split(fold(predictions)),
            **_rounded(more or {})}


def _present(split, part):
    """The classes to score by: all; of a further set only those that it has or was given, as its makers chose them."""
    classes = classes_of(part)
    if split in {*SPLITS, "private_unseen"}:
        return classes
    return tuple(name for name in classes if name in {*part["label"], *part["predicted"]})


def final(splits):
    """The split a result is judged by: private, or test where a dataset has no private images."""
    return "private" if "private" in splits else "test"


def loss(predictions):
    """Mean cross-entropy (natural logarithm) over the final split; no probability counts as less than 1e-7."""
    rows = parts(predictions)
    rows = rows[final(rows)]
    classes = classes_of(rows)
    given = rows[[f"p_{name}" for name in classes]].to_numpy()
    true = given[np.arange(len(rows)), pd.Index(classes).get_indexer(rows["label"])]
    return float(-np.log(np.clip(true, 1e-7, 1)).mean())


def metrics(details, loss):
    """The content of metrics.json: at most 15 scalars, six decimals. What a dataset does not have is left out.

    Without private images the names that begin with private_ begin with test_.
    """
    splits = details["splits"]
    name = final(splits)
    last = splits[name]
    wanted = {}
    for split in ("train", "public", "private", "private_unseen", "test"):
        if split in splits:
            wanted[f"{split}_accuracy"] = splits[split]["accuracy"]
        if split == name:
            wanted |= {f"{name}_accuracy_low": last["accuracy_low"], f"{name}_accuracy_high": last["accuracy_high"]}
    wanted |= {f"{name}_{key}": last[key] for key in SCALARS}
    disgust = last["per_class"].get("disgust", {"support": 0})
    if disgust["support"]:
        wanted |= {"disgust_recall": disgust["recall"], "disgust_f1": disgust["f1"]}
    wanted[f"{name}_six_class_accuracy"] = details["six_class"][name]["accuracy"]
    agreed = details.get("ferplus", {}).get("agreed", {"n": 0})
    if agreed["n"]:
        wanted["ferplus_accuracy"] = agreed["accuracy"]
    return _rounded(wanted | {"loss": loss})


def _rounded(value):
    """Every float of a nested dict as a plain one with six decimals."""
    if isinstance(value, dict):
        return {key: _rounded(inner) for key, inner in value.items()}
    return round(float(value), 6) if isinstance(value, float) else value
