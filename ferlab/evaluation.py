"""What a trained model is worth: probabilities -> predictions -> scores with 95 % intervals, as plain tables.

Reads and writes no file. Only `predict` needs a Keras model; all else works on a table of predictions, so that results
can be judged again where no model is. Cost on two cores, small network: 0.5 s per 1,000 images, twice that with flip.
"""

import math

import numpy as np
import pandas as pd

from ferlab.dataset import SPLITS

MERGE = ("disgust", "angry")  # the six-class reading of FER2013 counts the first as the second
SCALARS = ("precision_macro", "recall_macro", "f1_macro", "f1_weighted")  # of the final split, in metrics.json
Z = 1.959963984540054  # the normal quantile of a two-sided 95 % interval


def predict(model, faces, flip, batch=512):
    """Class probabilities float32 (N, C) of uint8 faces (N, 48, 48) by a Keras model that takes (n, 48, 48, 1).

    With `flip` they are the mean over each face and its mirror image. Batches are all of one size (the last is filled
    up with zeros), so that a compiling backend compiles once.
    """
    batch = max(1, min(batch, len(faces)))
    found = np.zeros((len(faces), model.output_shape[-1]), np.float32)
    for start in range(0, len(faces), batch):
        part = np.asarray(faces[start:start + batch])[..., None]
        full = np.zeros((batch, *part.shape[1:]), np.uint8)
        full[:len(part)] = part
        probabilities = np.asarray(model.predict_on_batch(full))
        if flip:
            probabilities = (probabilities + np.asarray(model.predict_on_batch(full[:, :, ::-1]))) / 2
        found[start:start + batch] = probabilities[:len(part)]
    return found


def predictions(dataset, probabilities):
    """One row per original image (not per augmented one): id, split, label, predicted, and p_<class> for each class.

    probabilities: (N, C), row by row those of `dataset`. Rounded to six decimals first, as they are written: scores of
    the table and scores of its file are then the same.
    """
    original = (dataset.table["origin"] == "original").to_numpy()
    rounded = np.round(np.asarray(probabilities, np.float64)[original], 6)
    return _table(dataset.table.loc[original, ["id", "split", "label"]], rounded, dataset.classes)


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
    return _table(folded[["id", "split", "label"]], folded[[f"p_{name}" for name in kept]].to_numpy(), kept)


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

    `test` is public and private together where a dataset has these.
    """
    split = predictions["split"]
    masks = {name: split == name for name in SPLITS[:-1]}
    masks["private_unseen"] = (split == "private") & ~predictions["id"].isin(seen)
    masks["test"] = split.isin(["public", "private", "test"])
    return {name: predictions[mask] for name, mask in masks.items() if mask.any()}


def details(predictions, dataset, digest, model, parameters, seen=()):
    """The content of details.json.

    dataset, digest: its name and digest. model, parameters: the network's name and its number of weights.
    seen: ids of private images whose very pixels stand in the training split as well.
    """
    def by_split(table):
        return {name: _rounded(scores(part["label"], part["predicted"], classes_of(table)))
                for name, part in parts(table, seen).items()}

    return {"dataset": dataset, "digest": digest, "classes": list(classes_of(predictions)),
            "model": {"name": model, "parameters": int(parameters)},
            "splits": by_split(predictions), "six_class": by_split(fold(predictions))}


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
    return _rounded(wanted | {"loss": loss})


def _rounded(value):
    """Every float of a nested dict as a plain one with six decimals."""
    if isinstance(value, dict):
        return {key: _rounded(inner) for key, inner in value.items()}
    return round(float(value), 6) if isinstance(value, float) else value
