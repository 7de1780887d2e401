"""Whether two trained networks differ by more than chance on the images that both predicted."""

import numpy as np
from scipy.stats import binomtest

RESAMPLES = 10_000


def compare(first, second):
    """McNemar's exact test, and the 95 % interval of the difference in accuracy.

    first, second: bool (N,), whether each network is right on each image. The test looks at the
    images that only one of them has right; the interval comes from a paired bootstrap (10,000
    resamples, always the same ones). Returns {"difference", "low", "high", "p", "only_first",
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
