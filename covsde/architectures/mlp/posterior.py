"""The posterior of a shaped MLP to first order in depth/width."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from covsde.architectures.mlp.architecture import MLP
from covsde.covariance.drifts import drift_of
from covsde.inputs.arguments import instance_of
from covsde.inputs.data import check_observations
from covsde.inputs.gram import check_gram


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
    y, o, noise = check_observations(targets, observed, noise_variance, V.shape[0])
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
