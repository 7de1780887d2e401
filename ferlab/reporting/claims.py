"""What the published texts claim, and the verdict on a claim."""

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
_CLASSES = ("angry", "disgust", "fear", "happy", "neutral", "sad", "surprise")
# where a text gives scores of single classes: (split, score, {class: published value})
BY_CLASS = {
    "ho_2016": ("private", "recall", {"happy": 0.767, "surprise": 0.693, "sad": 0.397}),
    "silva_2025": ("test", "f1", dict(zip(_CLASSES, _SILVA, strict=True))),
}


def verdict(measured, published, low=None, high=None):
    """`exceeded`, `reproduced` or `not reached`. low, high: the 95 % interval of what we measured.

    Exceeded only where chance can be ruled out; reproduced where the published value is reached or
    lies within the interval.
    """
    if low is not None and low > published:
        return "exceeded"
    if measured >= published or (high is not None and high >= published):
        return "reproduced"
    return "not reached"
