"""Distances between the laws of two samples, and z-scores of their means."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from covsde.results.quantity import Quantity


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


@dataclass(frozen=True)
class Distance:
    """Distances between the laws of one quantity in the reference and in one network ensemble.

    `axis` and `at` say where, as in `Row`; `tau` is NaN unless the axis is layer time.

    Exploded paths count as +inf in the Kolmogorov-Smirnov distance of a log-variance; values left out
    (undefined ones there, all that are not finite in the Wasserstein-1 distance) are counted.
    """

    statistic: str
    tau: float
    label: str
    ks: float
    ks_p_value: float
    wasserstein: float
    reference_left_out_ks: int
    network_left_out_ks: int
    reference_left_out_wasserstein: int
    network_left_out_wasserstein: int
    axis: str
    at: float


def z_score(difference: float, se: float) -> float:
    """Return difference/se; 0 for two equal numbers that are known exactly."""
    if se == 0:  # both deterministic, as at τ = 0
        return 0.0 if abs(difference) < 1e-12 else float(np.copysign(np.inf, difference))
    return float(difference / se)


def distance_of_laws(
    quantity: Quantity, at: float, label: str, reference: NDArray[Any], network: NDArray[Any], *, p_value: bool
) -> Distance:
    """Return the distances between two samples of a quantity at a point of its axis."""
    samples = (reference, network)
    defined = [x[~np.isnan(x)] for x in samples]
    finite = [x[np.isfinite(x)] for x in samples]
    ks, p = kolmogorov_smirnov(*defined)
    undefined = [x.size - y.size for x, y in zip(samples, defined, strict=True)]
    infinite = [x.size - y.size for x, y in zip(samples, finite, strict=True)]
    return Distance(
        statistic=quantity.name,
        tau=quantity.axis.layer_time(at),
        label=label,
        ks=ks,
        ks_p_value=p if p_value else np.nan,
        wasserstein=wasserstein(*finite),
        reference_left_out_ks=undefined[0],
        network_left_out_ks=undefined[1],
        reference_left_out_wasserstein=infinite[0],
        network_left_out_wasserstein=infinite[1],
        axis=quantity.axis.symbol,
        at=quantity.axis.point(at),
    )
