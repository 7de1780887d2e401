"""Whether two results differ by more than chance."""

import numpy as np
from scipy.stats import binomtest

RESAMPLES = 10_000


def compare(first, second):
    """Whether two networks' hits on the same images (bool, N) differ by more than chance.

    McNemar's exact test on the images that only one has right, and the 95 % interval of the difference in accuracy from a
    paired bootstrap (10,000 resamples, always the same ones).
    """
    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    n = len(first)
    p = binomtest(only_first, only_first + only_second).pvalue if only_first + only_second else 1.0
    shares = np.array([only_second, only_first, n - only_first - only_second]) / n
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
