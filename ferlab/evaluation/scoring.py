"""Scores with 95 % intervals, from tables of predictions: what details.json and metrics.json hold.

Needs no network, so that results can be evaluated again where no model is.
"""

import numpy as np
import pandas as pd
from scipy.stats import binomtest
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from ferlab.data import agreement
from ferlab.data.dataset import SPLITS
from ferlab.evaluation import tables

SCALARS = ("precision_macro", "recall_macro", "f1_macro")  # of the final split, in metrics.json
MIN_PROBABILITY = 1e-7  # what the loss counts at least, as Keras' does
RESAMPLES = 10_000


def interval(correct, n):
    """95 % interval (low, high) of a share, by Wilson's score: it stays within 0 and 1."""
    if not n:
        return 0.0, 1.0
    low, high = binomtest(int(correct), int(n)).proportion_ci(method="wilson")
    return float(low), float(high)


def grouped_interval(right, groups):
    """95 % interval (low, high) of a share whose images come in groups of nearly equal ones.

    By a bootstrap over whole groups (10,000 resamples, always the same ones): three frames of one
    film say hardly more than one. right: bool (N,); groups: N names. Where all groups have the same
    share, a bootstrap knows no spread: then Wilson's, of as many images as there are groups.
    """
    each = pd.DataFrame({"right": np.asarray(right, float), "n": 1.0}).groupby(np.asarray(groups))
    hits, sizes = each.sum().to_numpy().T
    if np.ptp(hits / sizes) == 0:
        return interval(round(hits.sum() / sizes.sum() * len(sizes)), len(sizes))
    random, shares = np.random.Generator(np.random.Philox(0)), []
    for _ in range(RESAMPLES // 100):  # in parts: all at once would be 10,000 x groups numbers
        draws = random.multinomial(len(sizes), np.full(len(sizes), 1 / len(sizes)), 100)
        shares.append(draws @ hits / (draws @ sizes))
    low, high = np.quantile(np.concatenate(shares), (0.025, 0.975))
    return float(low), float(high)


def scores(labels, predicted, classes, groups=None):
    """One split's entry in details.json, from class names.

    groups: N names of groups of nearly equal images, where these are known; then the entry says how
    many there are, and the interval is `grouped_interval`'s.

    Accuracy with its interval; precision, recall and F1 by class, their macro means (every class
    counts) and weighted means; confusion (C, C), rows are labels. Division by zero gives 0.
    """
    labels, predicted, classes = list(labels), list(predicted), list(classes)
    if unknown := {*labels, *predicted} - {*classes}:
        raise KeyError(f"not among the classes: {', '.join(sorted(unknown))}")
    if not labels:
        return _without_images(classes)
    options = {"labels": classes, "zero_division": 0}
    precision, recall, f1, support = precision_recall_fscore_support(labels, predicted, **options)
    by_score = {"precision": precision, "recall": recall, "f1": f1}
    matrix = confusion_matrix(labels, predicted, labels=classes)
    n, correct = len(labels), int(np.trace(matrix))
    low, high = interval(correct, n)
    if groups is not None:
        low, high = grouped_interval(np.equal(labels, predicted), groups)
    return {
        "n": n,
        **({} if groups is None else {"groups": len(set(groups))}),
        "accuracy": correct / n,
        "accuracy_low": low,
        "accuracy_high": high,
        **{f"{name}_macro": float(values.mean()) for name, values in by_score.items()},
        **{f"{name}_weighted": float(values @ support / n) for name, values in by_score.items()},
        "per_class": {
            name: {score: float(values[i]) for score, values in by_score.items()}
            | {"support": int(support[i])}
            for i, name in enumerate(classes)
        },
        "confusion": matrix.tolist(),
    }


def _without_images(classes):
    low, high = interval(0, 0)
    empty = {"precision": 0.0, "recall": 0.0, "f1": 0.0}
    return {
        "n": 0,
        "accuracy": 0.0,
        "accuracy_low": low,
        "accuracy_high": high,
        **{f"{name}_{mean}": 0.0 for mean in ("macro", "weighted") for name in empty},
        "per_class": {name: empty | {"support": 0} for name in classes},
        "confusion": [[0] * len(classes) for _ in classes],
    }


def details(table, about, seen=None, more=None):
    """The content of details.json.

    about: of about.json: the network's `name` and number of `parameters`, the `dataset` and its
    `digest`. seen: of audit.leaked, the private images that train has too. more: as
    `inference.measure` gives it, with what `ferplus` adds.
    """

    def by_split(rows):
        return {name: _scores_of(name, part) for name, part in tables.parts(rows, seen).items()}

    return {
        "dataset": about["dataset"],
        "digest": about["digest"],
        "classes": list(tables.classes_of(table)),
        "model": {"name": about["name"], "parameters": int(about["parameters"])},
        "splits": by_split(table),
        **_six_class(table, by_split),
        **_rounded(more or {}),
    }


def _six_class(table, by_split):
    """{"six_class": as `splits`, with disgust as angry}; {} where a dataset has other classes."""
    if not tables.has_six_classes(tables.classes_of(table)):
        return {}
    return {"six_class": by_split(tables.fold(table))}


def _scores_of(split, part):
    """One split's entry; an image without a group, in a set that has some, is one of its own."""
    groups = part["group"].where(part["group"] != "", "image " + part["id"])
    known = groups if (part["group"] != "").any() else None
    return _rounded(scores(part["label"], part["predicted"], _present(split, part), known))


def _present(split, part):
    """The classes to score by: all; of a further set those that it has or was given."""
    classes = tables.classes_of(part)
    if split in {*SPLITS, *tables.UNSEEN}:
        return classes
    return tuple(name for name in classes if name in {*part["label"], *part["predicted"]})


def cross_entropy(table):
    """Mean cross-entropy (natural logarithm) over the final split."""
    rows = tables.parts(table)
    rows = rows[tables.final(rows)]
    labels = pd.Index(tables.classes_of(rows)).get_indexer(rows["label"])
    true = tables.probabilities(rows)[np.arange(len(rows)), labels]
    return float(-np.log(np.clip(true, MIN_PROBABILITY, 1)).mean())


def metrics(details, loss):
    """The content of metrics.json: at most 15 scalars. What a dataset does not have is left out.

    Without private images the names that begin with private_ begin with test_.
    """
    splits = details["splits"]
    name = tables.final(splits)
    last = splits[name]
    values = {}
    for split in ("train", "public", "private", "private_unseen", "test"):
        if split in splits:
            values[f"{split}_accuracy"] = splits[split]["accuracy"]
        if split == name:
            values |= {
                f"{name}_accuracy_low": last["accuracy_low"],
                f"{name}_accuracy_high": last["accuracy_high"],
            }
    values |= {f"{name}_{key}": last[key] for key in SCALARS}
    disgust = last["per_class"].get("disgust", {"support": 0})
    if disgust["support"]:
        values |= {"disgust_recall": disgust["recall"], "disgust_f1": disgust["f1"]}
    if "six_class" in details:
        values[f"{name}_six_class_accuracy"] = details["six_class"][name]["accuracy"]
    agreed = details.get("ferplus", {}).get("agreed", {"n": 0})
    if agreed["n"]:
        values["ferplus_accuracy"] = agreed["accuracy"]
    return _rounded(values | {"loss": loss})


def ferplus(table):
    """{"ferplus": its part of details.json}, of the final split; {} where FER+ knows none of it.

    split: which; images: known ones; not_known: the others; no_majority: known ones without one.
    agreed: of the n faces that most annotators give one of the network's classes, the share named
      right by their word (`accuracy`) and by the dataset's own label (`label_accuracy`), each with
      its 95 % interval (_low, _high).
    labels: for each class its `agreement.counts` and the share `contradicted`; all: of all labels.
    """
    parts, classes = tables.parts(table), tables.classes_of(table)
    split = tables.final(parts)
    rows = parts[split]
    names = agreement.named(rows["official"], classes)
    known = int((names != "").sum())
    if not known:
        return {}
    clear = np.isin(names, classes)
    n = int(clear.sum())
    agreed = {"n": n}
    for score, truth in (("accuracy", names), ("label_accuracy", rows["label"].to_numpy())):
        right = int((rows["predicted"].to_numpy() == truth)[clear].sum())
        low, high = interval(right, n)
        agreed |= {score: right / n if n else 0.0, f"{score}_low": low, f"{score}_high": high}
    counts = agreement.counts(agreement.confusion(rows["label"], names, classes))
    return {
        "ferplus": {
            "split": split,
            "images": known,
            "not_known": len(rows) - known,
            "no_majority": int(counts["unclear"].sum()),
            "agreed": agreed,
            "labels": {name: _contradicted(row) for name, row in counts.iterrows()},
            "all": _contradicted(counts.sum()),
        }
    }


def _contradicted(row):
    share = float(agreement.contradicted(row))
    return {name: int(count) for name, count in row.items()} | {"contradicted": share}


def _rounded(value):
    """Every float of a nested dict as a plain one with six decimals."""
    if isinstance(value, dict):
        return {key: _rounded(inner) for key, inner in value.items()}
    return round(float(value), 6) if isinstance(value, float) else value
