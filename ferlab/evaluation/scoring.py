"""What a trained model is worth: probabilities -> predictions -> scores with 95 % intervals, as plain tables.

Writes no file. Only `load` and `measure` need Keras; all else works on a table of predictions, so that results can be
judged again where no model is. Cost on two cores, small network: 0.5 s per 1,000 images and view.
"""

import math

import numpy as np
import pandas as pd

from ferlab.data.dataset import SPLITS
from ferlab.evaluation import tables

SCALARS = ("precision_macro", "recall_macro", "f1_macro")  # of the final split, in metrics.json
Z = 1.959963984540054  # the normal quantile of a two-sided 95 % interval


def interval(correct, n):
    """95 % interval (low, high) of a share, by Wilson's score; unlike the textbook one it stays within 0 and 1."""
    if not n:
        return 0.0, 1.0
    share = correct / n
    centre = share + Z * Z / (2 * n)
    spread = Z * math.sqrt(share * (1 - share) / n + Z * Z / (4 * n * n))
    return max(0.0, (centre - spread) / (1 + Z * Z / n)), min(
        1.0, (centre + spread) / (1 + Z * Z / n)
    )


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
    each = {
        "precision": _ratio(hits, matrix.sum(axis=0)),
        "recall": _ratio(hits, support),
        "f1": _ratio(2 * hits, matrix.sum(axis=0) + support),
    }
    low, high = interval(int(hits.sum()), n)
    return {
        "n": n,
        "accuracy": hits.sum() / n if n else 0.0,
        "accuracy_low": low,
        "accuracy_high": high,
        **{f"{name}_macro": float(values.mean()) for name, values in each.items()},
        **{
            f"{name}_weighted": float(values @ support / n) if n else 0.0
            for name, values in each.items()
        },
        "per_class": {
            name: {
                **{key: float(values[i]) for key, values in each.items()},
                "support": int(support[i]),
            }
            for i, name in enumerate(classes)
        },
        "confusion": matrix.tolist(),
    }


def _ratio(above, below):
    return np.divide(above, below, out=np.zeros(len(above)), where=below > 0)


def details(predictions, dataset, digest, model, parameters, seen=(), more=None):
    """The content of details.json.

    dataset, digest: its name and digest. model, parameters: the network's name and its number of weights.
    seen: ids of private images whose very pixels stand in the training split as well.
    more: as `measure` gives it, with what `agreement.judged` adds.
    """

    def by_split(table):
        return {
            name: _rounded(scores(part["label"], part["predicted"], _present(name, part)))
            for name, part in tables.parts(table, seen).items()
        }

    return {
        "dataset": dataset,
        "digest": digest,
        "classes": list(tables.classes_of(predictions)),
        "model": {"name": model, "parameters": int(parameters)},
        "splits": by_split(predictions),
        "six_class": by_split(tables.fold(predictions)),
        **_rounded(more or {}),
    }


def _present(split, part):
    """The classes to score by: all; of a further set only those that it has or was given, as its makers chose them."""
    classes = tables.classes_of(part)
    if split in {*SPLITS, "private_unseen"}:
        return classes
    return tuple(name for name in classes if name in {*part["label"], *part["predicted"]})


def cross_entropy(predictions):
    """Mean cross-entropy (natural logarithm) over the final split; no probability counts as less than 1e-7."""
    rows = tables.parts(predictions)
    rows = rows[tables.final(rows)]
    classes = tables.classes_of(rows)
    given = rows[[f"p_{name}" for name in classes]].to_numpy()
    true = given[np.arange(len(rows)), pd.Index(classes).get_indexer(rows["label"])]
    return float(-np.log(np.clip(true, 1e-7, 1)).mean())


def metrics(details, loss):
    """The content of metrics.json: at most 15 scalars, six decimals. What a dataset does not have is left out.

    Without private images the names that begin with private_ begin with test_.
    """
    splits = details["splits"]
    name = tables.final(splits)
    last = splits[name]
    wanted = {}
    for split in ("train", "public", "private", "private_unseen", "test"):
        if split in splits:
            wanted[f"{split}_accuracy"] = splits[split]["accuracy"]
        if split == name:
            wanted |= {
                f"{name}_accuracy_low": last["accuracy_low"],
                f"{name}_accuracy_high": last["accuracy_high"],
            }
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
