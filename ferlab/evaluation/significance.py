"""Whether results differ by more than luck: the luck of the images, and that of the seed.

Two things are asked, and answered apart. Of two trained networks: McNemar's test, the images being
the unit. Of two recipes, each trained with several seeds: the trained networks being the unit.
"""

import numpy as np
from scipy.stats import binomtest, t

RESAMPLES = 10_000
SCORES = ("precision", "recall", "f1")


def compare(first, second):
    """McNemar's exact test, and the 95 % interval of the difference in accuracy.

    first, second: bool (N,), whether each network is right on each image. The test looks at the
    images that only one of them has right; the interval comes from a paired bootstrap (10,000
    resamples, always the same ones). Both are of these two trained networks: what another seed
    would give is not in them. Returns {"difference", "low", "high", "p", "only_first",
    "only_second"}; the difference is second minus first.
    """
    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    n, discordant = len(first), only_first + only_second
    p = binomtest(only_first, discordant).pvalue if discordant else 1.0
    shares = np.array([only_second, only_first, n - discordant]) / n
    draws = np.random.Generator(np.random.Philox(0)).multinomial(n, shares, RESAMPLES)
    low, high = np.quantile((draws[:, 0] - draws[:, 1]) / n, (0.025, 0.975))
    return {
        "difference": float((only_second - only_first) / n),
        "low": float(low),
        "high": float(high),
        "p": float(p),
        "only_first": only_first,
        "only_second": only_second,
    }


def holm(values):
    """p values of several tests, each raised so that one error in all of them stays below 5 %.

    After Holm 1979: the k-th smallest of m is multiplied by m - k + 1, and none is below a smaller
    one's.
    """
    adjusted, least = [0.0] * len(values), 0.0
    for rank, place in enumerate(np.argsort(values, kind="stable")):
        least = max(least, min(1.0, (len(values) - rank) * values[place]))
        adjusted[place] = float(least)
    return adjusted


def recipes(first, second):
    """Two recipes of several seeds each: the difference of their mean accuracies, seeds as units.

    first, second: bool (seeds, N), which images each trained network has right; two seeds at least.
    The squared error of the difference is s1²/k1 + s2²/k2 + v/N: the variances of the seeds'
    accuracies (Welch's t-test has these two terms), and v, that over the images of the difference
    between the two recipes' shares of seeds that are right. Degrees of freedom are Satterthwaite's.
    Returns {"seeds", "means" (of both), "difference", "low", "high", "p"}, second minus first.
    """
    accuracies = [side.mean(axis=1) for side in (first, second)]
    difference = float(accuracies[1].mean() - accuracies[0].mean())
    per_image = second.mean(axis=0) - first.mean(axis=0)
    variances = [(each.var(ddof=1) / len(each), len(each) - 1) for each in accuracies]
    variances.append((per_image.var(ddof=1) / len(per_image), len(per_image) - 1))
    error, freedom = _error(variances)
    p = 2 * t.sf(abs(difference) / error, freedom) if error else float(difference == 0)
    reach = t.ppf(0.975, freedom) * error
    return {
        "seeds": [len(each) for each in accuracies],
        "means": [float(each.mean()) for each in accuracies],
        "difference": difference,
        "low": float(difference - reach),
        "high": float(difference + reach),
        "p": float(p),
    }


def one_more(scores, variance, n):
    """95 % interval (low, high) of what one more training would be worth on all such faces.

    scores: of k trained networks, two at least, that differ in their seed alone. variance: of one
    network's score by the luck of its n images. The mean of the scores plus and minus
    t · √(s²(1 + 1/k) + variance), s² being the variance between them; degrees of freedom are
    Satterthwaite's. It is the interval to hold the one number of a text against.
    """
    scores = np.asarray(scores, float)
    between = scores.var(ddof=1) * (1 + 1 / len(scores))
    error, freedom = _error([(between, len(scores) - 1), (variance, n - 1)])
    reach = t.ppf(0.975, freedom) * error
    return float(scores.mean() - reach), float(scores.mean() + reach)


def _error(variances):
    """(square root of the sum, Satterthwaite's degrees of freedom) of [(variance, its degrees)]."""
    total = sum(variance for variance, _ in variances)
    terms = sum(variance**2 / degrees for variance, degrees in variances if degrees)
    return float(np.sqrt(total)), float(total**2 / terms) if terms else 1.0


def resampled(confusion):
    """Scores of 10,000 resamples of a split's images, {name: float (10,000,)}; by class (…, C).

    confusion: (C, C) whole numbers, rows are labels: whoever draws images with replacement draws
    its cells, so no predictions are needed. Names: accuracy, precision_macro, recall_weighted and
    so on as in details.json, and precision, recall, f1 by class. Division by zero gives 0.
    """
    cells = np.asarray(confusion)
    n, classes = int(cells.sum()), len(cells)
    draws = np.random.Generator(np.random.Philox(0)).multinomial(n, cells.ravel() / n, RESAMPLES)
    draws = draws.reshape(RESAMPLES, classes, classes)
    right = np.diagonal(draws, axis1=1, axis2=2)
    support, called = draws.sum(axis=2), draws.sum(axis=1)
    by_class = {
        "precision": right / np.maximum(called, 1),
        "recall": right / np.maximum(support, 1),
        "f1": 2 * right / np.maximum(called + support, 1),
    }
    means = {f"{name}_macro": values.mean(axis=1) for name, values in by_class.items()}
    weighted = {
        f"{name}_weighted": (values * support).sum(axis=1) / n for name, values in by_class.items()
    }
    return {"accuracy": right.sum(axis=1) / n} | means | weighted | by_class
