"""Bayesian regression with a network at initialization as the prior: evidence and predictions.

Observations y = f + noise of variance σ². Given the covariance V the prior is Gaussian, with A = (V_oo + σ²)⁻¹ over the
observed inputs and likelihood F(V) = |A/2π|^{1/2} e^{-yᵀAy/2}. The evidence is E F(V_T), and posterior expectations are
averages over prior paths with weights F(V_T).

Source: Hanin, Jiang (2026), arXiv 2605.30860, for the first order in depth/width.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from covsde.inputs.data import check_observations
from covsde.results.estimate import Estimate
from covsde.results.output_law import valid_covariances
from covsde.results.posterior import Posterior, as_targets, pareto_shape, regressions, warn_of_weights


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
        EffectiveSampleSizeWarning: if the effective sample size is below 100, or the weights' Pareto shape above 0.7.

    Source: Bayes' rule for the Gaussian mixture of `OutputLaw`; arXiv 2605.30860.
    """
    V = valid_covariances(ensemble, tau, "the posterior")
    y, chosen, noise = check_observations(targets, observed, noise_variance, V.shape[1])
    k = int(np.argmin(np.abs(ensemble.tau - tau)))
    log_F, predictions = regressions(V, y, chosen, noise)
    top = log_F.max()
    F = np.exp(log_F - top)
    n = F.size
    weights = F / F.sum()
    size, shape = float(1 / np.sum(weights**2)), pareto_shape(log_F)
    warn_of_weights(size, shape, n, "use sequential_posterior, more paths, or a larger noise_variance")
    error = F.std(ddof=1) / F.mean() / np.sqrt(n) if n > 1 else np.nan
    evidence = Estimate(np.asarray(top + np.log(F.mean())), np.asarray(error))
    prediction = as_targets(targets, _weighted(weights, predictions))
    alive = ensemble.alive[k]
    everywhere = np.zeros(alive.size)
    everywhere[alive] = weights
    stopped = int(np.sum(~alive))
    return Posterior(evidence, prediction, _weighted(weights, V), everywhere, size, stopped, shape, families=size)


def _weighted(weights: NDArray[np.float64], x: NDArray[np.float64]) -> Estimate:
    flat = x.reshape(x.shape[0], -1)
    mean = weights @ flat
    error = np.sqrt((weights**2) @ (flat - mean) ** 2)
    return Estimate(mean.reshape(x.shape[1:]), error.reshape(x.shape[1:]))
