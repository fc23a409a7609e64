"""Distances between the laws of two samples."""

import numpy as np
from numpy.typing import ArrayLike


def kolmogorov_smirnov(x: ArrayLike, y: ArrayLike) -> tuple[float, float]:
    """Return the two-sample Kolmogorov-Smirnov distance and its asymptotic p-value.

    Args:
        x: First sample, one-dimensional, without NaN; infinite values are ordered as such.
        y: Second sample, likewise.

    Returns:
        The largest distance between the empirical distribution functions, and the p-value; both NaN if a sample is
        empty.
    """
    from scipy import stats  # takes half a second, which `covsde --help` should not

    a, b = np.asarray(x, np.float64), np.asarray(y, np.float64)
    if a.size == 0 or b.size == 0:
        return np.nan, np.nan
    found = stats.ks_2samp(a, b, method="asymp")
    return float(found.statistic), float(found.pvalue)


def wasserstein(x: ArrayLike, y: ArrayLike) -> float:
    """Return the Wasserstein-1 distance between two samples: the area between their distribution functions.

    Args:
        x: First sample, one-dimensional, finite.
        y: Second sample, likewise.

    Returns:
        The distance, in the units of the samples; NaN if a sample is empty.
    """
    from scipy import stats

    a, b = np.asarray(x, np.float64), np.asarray(y, np.float64)
    return float(stats.wasserstein_distance(a, b)) if a.size and b.size else np.nan
