"""How far probabilities can be trusted: reliability, calibration error, temperature scaling."""

import numpy as np
import pandas as pd

from ferlab.evaluation import tables

BINS = 10


def reliability(rows):
    """Table of a reliability diagram (Guo et al. 2017, arXiv:1706.04599): one line per tenth of confidence that occurs.

    rows: predictions of one split. Columns: low, high, images, confidence (mean), accuracy.
    """
    sure = confidence(rows)
    right = (rows["label"] == rows["predicted"]).to_numpy()
    place = np.clip((sure * BINS).astype(int), 0, BINS - 1)
    lines = [
        {
            "low": one / BINS,
            "high": (one + 1) / BINS,
            "images": int((place == one).sum()),
            "confidence": float(sure[place == one].mean()),
            "accuracy": float(right[place == one].mean()),
        }
        for one in range(BINS)
        if (place == one).any()
    ]
    return pd.DataFrame(lines)


def calibration_error(rows):
    """Expected calibration error from 0 to 1: the mean gap of `reliability`, each tenth weighing as many images as it has."""
    table = reliability(rows)
    return float(
        (table["images"] * (table["confidence"] - table["accuracy"]).abs()).sum()
        / table["images"].sum()
    )


def temperature(rows):
    """The number that the logits are to be divided by, so that these rows become most likely; above 1: overconfident."""
    from scipy.optimize import minimize_scalar

    true = pd.Index(tables.classes_of(rows)).get_indexer(rows["label"])

    def loss(log_temperature):
        given = probabilities(temperature_scaled(rows, np.exp(log_temperature)))
        return -np.log(np.clip(given[np.arange(len(rows)), true], 1e-12, 1)).mean()

    return float(np.exp(minimize_scalar(loss, bounds=(-2, 2), method="bounded").x))


def temperature_scaled(rows, temperature):
    """The same predictions with their logits divided by `temperature`: no chosen class changes, only how sure it is."""
    logits = np.log(np.clip(probabilities(rows), 1e-7, 1)) / temperature
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    odds /= odds.sum(axis=1, keepdims=True)
    return rows.assign(
        **{f"p_{name}": odds[:, index] for index, name in enumerate(tables.classes_of(rows))}
    )


def probabilities(rows):
    return rows[[f"p_{name}" for name in tables.classes_of(rows)]].to_numpy(float)


def confidence(rows):
    return probabilities(rows).max(axis=1)
