"""Bayesian regression with a network at initialization as the prior: evidence and predictions.

Observations y = f + noise of variance σ². Given the covariance V the prior is Gaussian, with A = (V_oo + σ²)⁻¹ over the
observed inputs and likelihood F(V) = |A/2π|^{1/2} e^{-yᵀAy/2}. The evidence is E F(V_T), and posterior expectations are
averages over prior paths with weights F(V_T).

Source: Hanin, Jiang (2026), arXiv 2605.30860, for the first order in depth/width.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from covsde.inputs.data import check_observations
from covsde.results.estimate import Estimate
from covsde.results.output_law import valid_covariances

_FEW = 100


class EffectiveSampleSizeWarning(UserWarning):
    """Importance weights rest on so few paths that estimates and their standard errors cannot be trusted."""


@dataclass(frozen=True, eq=False)
class Posterior:
    """Posterior of outputs and kernel, from importance weights over the paths of an ensemble.

    Attributes:
        log_evidence: log E F(V), value and standard error, shape ().
        predictive_mean: posterior mean of f on all m inputs, (m,) or (m, outputs) as the targets.
        kernel: posterior mean of V on all m inputs, (m, m).
        weights: normalised importance weights, shape (paths,), 0 for paths that had stopped.
        effective_sample_size: (Σ weights)²/Σ weights², between 1 and the number of valid paths.
        left_out: number of paths that had stopped and are not averaged over.
    """

    log_evidence: Estimate
    predictive_mean: Estimate
    kernel: Estimate
    weights: NDArray[np.float64]
    effective_sample_size: float
    left_out: int


def posterior(
    ensemble: Any, targets: Any, noise_variance: float, *, observed: Sequence[int] | None = None, tau: float = 1.0
) -> Posterior:
    """Evidence, predictive mean and posterior-mean kernel by importance weights over an ensemble.

    Args:
        ensemble: from `simulate` or `sample_networks`, over observed inputs and those to predict.
        targets: y, shape (P,), or (P, outputs) for outputs that share the hidden layers.
        noise_variance: σ² > 0.
        observed: indices of the P observed inputs; default: the first P.
        tau: a saved layer time; the outputs are read there.

    Returns:
        A Posterior; standard errors by the delta method.

    Raises:
        ValueError: if shapes disagree, an argument is out of range, or tau was not saved.

    Warns:
        FailedPathsWarning: if paths had stopped: everything is then conditional on survival.
        EffectiveSampleSizeWarning: if the effective sample size is below 100.

    Source: Bayes' rule for the Gaussian mixture of `OutputLaw`; arXiv 2605.30860.
    """
    V = valid_covariances(ensemble, tau, "the posterior")
    y, chosen, noise = check_observations(targets, observed, noise_variance, V.shape[1])
    k = int(np.argmin(np.abs(ensemble.tau - tau)))
    values = np.linalg.cholesky(V[:, chosen[:, None], chosen] + noise * np.eye(chosen.size))
    half = np.linalg.solve(values, np.broadcast_to(y, (V.shape[0], *y.shape)))
    u = np.linalg.solve(np.swapaxes(values, 1, 2), half)
    outputs = y.shape[1]
    log_det = 2 * np.sum(np.log(np.diagonal(values, axis1=1, axis2=2)), axis=1)
    log_F = -0.5 * (outputs * (log_det + chosen.size * np.log(2 * np.pi)) + np.sum(half * half, axis=(1, 2)))
    top = log_F.max()
    F = np.exp(log_F - top)
    n = F.size
    weights = F / F.sum()
    size = float(1 / np.sum(weights**2))
    if size < _FEW:
        warnings.warn(
            f"the posterior rests on an effective sample of {size:.1f} of {n} paths: use more paths, or a larger "
            "noise_variance.",
            EffectiveSampleSizeWarning,
            stacklevel=2,
        )
    error = F.std(ddof=1) / F.mean() / np.sqrt(n) if n > 1 else np.nan
    evidence = Estimate(np.asarray(top + np.log(F.mean())), np.asarray(error))
    prediction = _weighted(weights, V[:, :, chosen] @ u)
    if np.ndim(targets) == 1:
        prediction = Estimate(prediction.value[:, 0], prediction.standard_error[:, 0])
    alive = ensemble.alive[k]
    everywhere = np.zeros(alive.size)
    everywhere[alive] = weights
    return Posterior(evidence, prediction, _weighted(weights, V), everywhere, size, int(np.sum(~alive)))


def _weighted(weights: NDArray[np.float64], x: NDArray[np.float64]) -> Estimate:
    flat = x.reshape(x.shape[0], -1)
    mean = weights @ flat
    error = np.sqrt((weights**2) @ (flat - mean) ** 2)
    return Estimate(mean.reshape(x.shape[1:]), error.reshape(x.shape[1:]))
