"""How far probabilities can be trusted: reliability, calibration error, temperature scaling, and
precision against recall.

After Guo et al. 2017, "On calibration of modern neural networks", arXiv:1706.04599. All functions
take rows of one split (ferlab.evaluation.tables).
"""

import numpy as np
import pandas as pd

from ferlab.evaluation import tables

BINS = 10
LOG_BOUNDS = (-2, 2)  # between which the logarithm of the temperature is searched


def confidence(rows):
    """float (N,): the probability of the predicted class."""
    return tables.probabilities(rows).max(axis=1)


def precision_recall(rows, name):
    """(recall, precision, average precision) of one class, as its threshold falls.

    Two float arrays with a place for each threshold: of the images given at least so much to the
    class, the share that is of it (precision), and the share of all of it among them (recall).
    Nothing, 0.0, without images of it.
    """
    given = tables.probabilities(rows)[:, tables.classes_of(rows).index(name)]
    order = np.argsort(-given, kind="stable")
    own, given = (rows["label"] == name).to_numpy()[order], given[order]
    if not own.any():
        return np.zeros(0), np.zeros(0), 0.0
    last = np.append(given[1:] != given[:-1], True)  # equal ones have one threshold
    hits, said = np.cumsum(own)[last], np.flatnonzero(last) + 1
    recall, precision = hits / own.sum(), hits / said
    return recall, precision, float(np.sum(np.diff(recall, prepend=0) * precision))


def reliability(rows):
    """Table of a reliability diagram: one line per tenth of confidence that occurs.

    Columns: low, high (of the tenth), images, confidence (mean), accuracy.
    """
    values = confidence(rows)
    right = (rows["label"] == rows["predicted"]).to_numpy()
    bins = np.clip((values * BINS).astype(int), 0, BINS - 1)
    return pd.DataFrame([
        {
            "low": index / BINS,
            "high": (index + 1) / BINS,
            "images": int((bins == index).sum()),
            "confidence": float(values[bins == index].mean()),
            "accuracy": float(right[bins == index].mean()),
        }
        for index in np.unique(bins)
    ])  # fmt: skip


def calibration_error(rows):
    """Expected calibration error, 0 to 1: the mean gap of `reliability`, weighted by images."""
    table = reliability(rows)
    gaps = (table["confidence"] - table["accuracy"]).abs()
    return float((table["images"] * gaps).sum() / table["images"].sum())


def trust(parts, split, chosen_on=""):
    """How far the probabilities of a split can be trusted: a dict of `split` and `error`.

    parts: rows by split (tables.parts). With the split `chosen_on`, where there is one, also
    `temperature`, chosen there alone, `chosen_on`, and `error_temperature_scaled` of `split`.
    """
    found = {"split": split, "error": round(calibration_error(parts[split]), 6)}
    if chosen_on in parts:
        divisor = round(temperature(parts[chosen_on]), 6)
        scaled = calibration_error(temperature_scaled(parts[split], divisor))
        found |= {
            "temperature": divisor,
            "chosen_on": chosen_on,
            "error_temperature_scaled": round(scaled, 6),
        }
    return found


def temperature(rows):
    """The number to divide the logits by, so that these rows become most likely.

    Above 1: the network is overconfident.
    """
    from scipy.optimize import minimize_scalar

    labels = pd.Index(tables.classes_of(rows)).get_indexer(rows["label"])

    def loss(log_temperature):
        scaled = tables.probabilities(temperature_scaled(rows, np.exp(log_temperature)))
        return -np.log(np.clip(scaled[np.arange(len(rows)), labels], 1e-30, 1)).mean()

    return float(np.exp(minimize_scalar(loss, bounds=LOG_BOUNDS, method="bounded").x))


def temperature_scaled(rows, temperature):
    """The same rows with their logits divided by `temperature`: the predicted classes stay."""
    logits = np.log(tables.probabilities(rows)) / temperature
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    odds /= odds.sum(axis=1, keepdims=True)
    names = tables.classes_of(rows)
    return rows.assign(**{f"p_{name}": odds[:, index] for index, name in enumerate(names)})
