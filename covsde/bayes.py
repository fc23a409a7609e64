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

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from covsde._check import finite_number, instance_of
from covsde._statistics import Estimate
from covsde.data import check_target_columns
from covsde.inputs import check_gram
from covsde.limits.mlp import drift_of
from covsde.mlp import MLP
from covsde.outputs import valid_covariances

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


@dataclass(frozen=True, eq=False)
class FirstOrderPosterior:
    """The posterior of a network of small depth-to-width ratio T: value at T = 0 and derivative in T there.

    Attributes:
        log_evidence: log F(V₀).
        log_evidence_slope: d/dT of the log evidence.
        predictive_mean: at T = 0, (m,) or (m, outputs): Gaussian-process regression with V₀.
        predictive_mean_slope: its derivative in T.
        kernel: V₀, (m, m).
        kernel_slope: derivative of the posterior mean of V: b + V(uuᵀ - kA)V with u = Ay and k outputs.
    """

    log_evidence: float
    log_evidence_slope: float
    predictive_mean: NDArray[np.float64]
    predictive_mean_slope: NDArray[np.float64]
    kernel: NDArray[np.float64]
    kernel_slope: NDArray[np.float64]


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
    y, chosen, noise = _data(targets, observed, noise_variance, V.shape[1])
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


def first_order_posterior(
    mlp: Any, V0: Any, targets: Any, noise_variance: float, *, observed: Sequence[int] | None = None
) -> FirstOrderPosterior:
    """The posterior to first order in T = depth/width, without Monte Carlo, for any shaped activation.

    With u = Ay and k outputs the log evidence has slope
    ½uᵀbu - (k/2)tr(Ab) + tr(GVGV) + (k/4)[tr(AVAV) + (tr AV)²] - ½[uᵀVAVu + tr(AV) uᵀVu],  G = ½(uuᵀ - kA),
    where matrices are over the observed inputs and u has a column per output (traces understood); for k = 1 the terms
    without b are ¼(uᵀVu - tr AV)² + ½tr(AVAV) - uᵀVAVu.

    Args:
        mlp: MLP with a shaped activation; its depth_to_width does not enter.
        V0: input Gram matrix (m, m) over observed inputs and those to predict.
        targets: y, shape (P,), or (P, outputs).
        noise_variance: σ² > 0.
        observed: indices of the P observed inputs; default: the first P.

    Returns:
        A FirstOrderPosterior: multiply the slopes by T.

    Raises:
        ValueError: if shapes disagree or an argument is out of range.
        TypeError: for an activation without a covariance SDE.

    Source: generator of the covariance SDE applied to the likelihood; arXiv 2605.30860.
    """
    instance_of("mlp", mlp, MLP, "an MLP such as MLP(ShapedReLU(0, -1))")
    mlp.require_plain("the first-order posterior")
    V = check_gram(V0)
    y, o, noise = _data(targets, observed, noise_variance, V.shape[0])
    b = _drift_matrix(mlp, V)
    A = np.linalg.inv(V[np.ix_(o, o)] + noise * np.eye(o.size))
    u, k = A @ y, y.shape[1]
    K, rows, bo = V[np.ix_(o, o)], V[:, o], b[np.ix_(o, o)]
    AK = A @ K
    tr = float(np.trace(AK))
    G = 0.5 * (u @ u.T - k * A)
    slope = 0.5 * np.trace(u.T @ bo @ u) - 0.5 * k * np.trace(A @ bo) + np.trace(G @ K @ G @ K)
    slope += 0.25 * k * (np.trace(AK @ AK) + tr * tr) - 0.5 * np.trace(u.T @ K @ (AK + tr * np.eye(o.size)) @ u)
    mean_slope = b[:, o] @ u - rows @ A @ bo @ u
    mean_slope = mean_slope + noise * rows @ A @ ((u @ u.T - k * A) @ K @ u - A @ K @ u - tr * u)
    log_evidence = -0.5 * (k * (o.size * np.log(2 * np.pi) - np.linalg.slogdet(A)[1]) + float(np.sum(y * u)))
    mean = rows @ u
    if np.ndim(targets) == 1:
        mean, mean_slope = mean[:, 0], mean_slope[:, 0]
    return FirstOrderPosterior(
        log_evidence=float(log_evidence),
        log_evidence_slope=float(slope),
        predictive_mean=mean,
        predictive_mean_slope=mean_slope,
        kernel=V,
        kernel_slope=b + rows @ (u @ u.T - k * A) @ rows.T,
    )


def _drift_matrix(mlp: MLP, V: NDArray[np.float64]) -> NDArray[np.float64]:
    with jax.enable_x64(True):
        v = np.diag(V)
        vi, vj = np.broadcast_arrays(v[:, None], v[None, :])
        rate = drift_of(mlp.activation).rate(jnp.asarray(vi), jnp.asarray(vj), jnp.asarray(V))
        return np.array(rate, dtype=np.float64)


def _data(
    targets: Any, observed: Sequence[int] | None, noise_variance: Any, m: int
) -> tuple[NDArray[np.float64], NDArray[np.int64], float]:
    y = check_target_columns(targets, m)
    chosen = np.arange(y.shape[0]) if observed is None else np.asarray(observed)
    integers = chosen.ndim == 1 and np.issubdtype(chosen.dtype, np.integer)
    if not integers or chosen.size != y.shape[0] or np.unique(chosen).size != chosen.size:
        raise ValueError(f"observed must be P = {y.shape[0]} different indices, one per target, got {observed!r}.")
    if chosen.min() < 0 or chosen.max() >= m:
        raise ValueError(f"observed must be indices of the m = {m} inputs of the covariance, got {chosen.tolist()}.")
    noise = finite_number("noise_variance", noise_variance)
    if noise <= 0:
        raise ValueError(f"noise_variance must be positive, got {noise}: take it small for interpolation.")
    return y, chosen, noise


def _weighted(weights: NDArray[np.float64], x: NDArray[np.float64]) -> Estimate:
    flat = x.reshape(x.shape[0], -1)
    mean = weights @ flat
    error = np.sqrt((weights**2) @ (flat - mean) ** 2)
    return Estimate(mean.reshape(x.shape[1:]), error.reshape(x.shape[1:]))
