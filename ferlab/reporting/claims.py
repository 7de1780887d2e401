"""What the published texts claim, what ours measured, and the verdict on a claim."""

import functools

import numpy as np

from ferlab.data.classes import CLASSES
from ferlab.evaluation import significance

# (split of details.json, score, published value); the first one is what the figures show
CLAIMS = {
    "ho_2016": [("private", "accuracy", 0.5807), ("public", "accuracy", 0.5734)],
    "ho_2016_fixed": [("private", "accuracy", 0.5807), ("public", "accuracy", 0.5734)],
    "ho_2016_baseline": [("private", "accuracy", 0.15)],
    "silva_2025": [
        ("test", "accuracy", 0.5953),
        ("test", "precision_macro", 0.57),
        ("test", "recall_macro", 0.52),
        ("test", "f1_macro", 0.52),
        ("test", "precision_weighted", 0.58),
        ("test", "f1_weighted", 0.58),
    ],
    "fourlayer_2025": [
        ("test", "accuracy", 0.6208),
        ("test", "precision_weighted", 0.6190),
        ("test", "recall_weighted", 0.6208),
        ("test", "f1_weighted", 0.6197),
    ],
    "fourlayer_2025_plain": [("train", "accuracy", 0.99)],
    "aguilar_2026": [("public", "accuracy", 0.65), ("train", "accuracy", 0.90)],
}
_SILVA = (0.52, 0.23, 0.31, 0.83, 0.56, 0.44, 0.74)
# where a text gives scores of single classes: (split, score, {class: published value})
BY_CLASS = {
    "ho_2016": ("private", "recall", {"happy": 0.767, "surprise": 0.693, "sad": 0.397}),
    "silva_2025": ("test", "f1", dict(zip(CLASSES, _SILVA, strict=True))),
}


def measured(entries, score, place=None):
    """(mean over the seeds, low, high): what a recipe scored, and its 95 % interval.

    entries: the split's scores (as in details.json) of each seed. score: a name there, or with
    `place`, the index of a class, one of its scores by class. One seed: Wilson's interval of an
    accuracy, a bootstrap's (10,000 resamples of the images) of any other score; the luck of the
    seed is not in it. Several: `significance.one_more`, with the luck of both.
    """
    confusions = [tuple(map(tuple, entry["confusion"])) for entry in entries]
    draws = [_draws(confusion, score, place) for confusion in confusions]
    values = [_value(entry, score, place) for entry in entries]
    if len(entries) > 1:
        variance = np.mean([each.var() for each in draws])
        return float(np.mean(values)), *significance.one_more(values, variance, entries[0]["n"])
    if score == "accuracy":
        return values[0], entries[0]["accuracy_low"], entries[0]["accuracy_high"]
    low, high = np.quantile(draws[0], (0.025, 0.975))
    return values[0], float(low), float(high)


def _value(entry, score, place):
    return entry[score] if place is None else list(entry["per_class"].values())[place][score]


def _draws(confusion, score, place):
    values = _resampled(confusion)[score]
    return values if place is None else values[:, place]


@functools.lru_cache(maxsize=64)
def _resampled(confusion):
    return significance.resampled(confusion)


def verdict(value, published, low, high, seeds):
    """`exceeded`, `reproduced` or `not reached`. value, low, high: as `measured` gives them.

    Reproduced where the published value is reached or lies within the interval. Exceeded only where
    the whole interval lies above it and holds the luck of the seed as well: with two seeds at
    least.
    """
    if seeds > 1 and low > published:
        return "exceeded"
    return "reproduced" if max(value, high) >= published else "not reached"
