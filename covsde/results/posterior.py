"""The posterior of outputs and kernel as a weighted sample of covariances, and how far its weights can be trusted."""

import importlib.util
import math
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from covsde.results.estimate import Estimate

FEW = 100
HEAVY = 0.7


class EffectiveSampleSizeWarning(UserWarning):
    """Importance weights rest on so few paths that estimates and their standard errors cannot be trusted."""


@dataclass(frozen=True, eq=False)
class Posterior:
    """Posterior of outputs and kernel, from weighted paths.

    Attributes:
        log_evidence: log E F(V), value and standard error, shape ().
        predictive_mean: posterior mean of f on all m inputs, (m,) or (m, outputs) as the targets.
        kernel: posterior mean of V on all m inputs, (m, m).
        weights: normalised importance weights, shape (paths,), 0 for paths that had stopped.
        effective_sample_size: (Σ weights)²/Σ weights², between 1 and the number of valid paths.
        left_out: number of paths that had stopped; of a filter, at any stage.
        pareto_k: shape of the weights' tail; above 0.7 averages are not to be trusted. NaN without the package
            arviz-stats, or for weights without a tail.
        families: effective number of particles of the first stage that the weights descend from; of independent
            paths the effective sample size.
        stages: layer times at which a filter weighed its particles; 0 for paths of the prior.
        replicates: independent filters, from which the standard errors are; 1 for paths of the prior.
        V: the last covariances of a filter (paths, m, m), which the weights belong to; None for paths of the prior.
    """

    log_evidence: Estimate
    predictive_mean: Estimate
    kernel: Estimate
    weights: NDArray[np.float64]
    effective_sample_size: float
    left_out: int
    pareto_k: float = math.nan
    families: float = math.nan
    stages: int = 0
    replicates: int = 1
    V: NDArray[np.float64] | None = None


def regressions(
    V: NDArray[np.float64], y: NDArray[np.float64], chosen: NDArray[np.int64], noise: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """log F (paths,) and the prediction (paths, m, outputs) given each covariance (paths, m, m)."""
    roots = np.linalg.cholesky(V[:, chosen[:, None], chosen] + noise * np.eye(chosen.size))
    half = np.linalg.solve(roots, np.broadcast_to(y, (V.shape[0], *y.shape)))
    u = np.linalg.solve(np.swapaxes(roots, 1, 2), half)
    log_det = 2 * np.sum(np.log(np.diagonal(roots, axis1=1, axis2=2)), axis=1)
    log_F = -0.5 * (y.shape[1] * (log_det + chosen.size * np.log(2 * np.pi)) + np.sum(half * half, axis=(1, 2)))
    return log_F, V[:, :, chosen] @ u


def pareto_shape(log_weights: NDArray[np.float64]) -> float:
    """Shape k of the generalised Pareto law of the largest weights, by arviz-stats; NaN without it.

    Source: Vehtari, Simpson, Gelman, Yao, Gabry, arXiv 1507.02646.
    """
    if importlib.util.find_spec("arviz_stats") is None:
        return math.nan
    from arviz_stats.base.array import array_stats

    # It takes the logarithm of inverse weights, and fewer than 25 weights have no tail of five.
    finite = np.asarray(log_weights[np.isfinite(log_weights)], np.float64)
    if finite.size < 25 or np.ptp(np.sort(finite)[-max(5, finite.size // 5) :]) < 1e-10:
        return math.nan
    return float(array_stats.psislw(finite.min() - finite)[1])


def warn_of_weights(size: float, k: float, paths: int, remedy: str) -> None:
    """Warn of an effective sample size, or a tail of weights, that no average should rest on."""
    tail = f", whose weights have a tail of Pareto shape k = {k:.2f} > {HEAVY}" if k > HEAVY else ""
    if size < FEW or tail:
        warnings.warn(
            f"the posterior rests on an effective sample of {size:.1f} of {paths} paths{tail}: {remedy}.",
            EffectiveSampleSizeWarning,
            stacklevel=3,
        )


def as_targets(targets: Any, estimate: Estimate) -> Estimate:
    """A prediction (m, outputs) in the form of the targets."""
    return Estimate(*(x[:, 0] for x in estimate)) if np.ndim(targets) == 1 else estimate
