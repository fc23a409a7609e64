"""The likelihood of data at the end, seen from an earlier layer: what a filter weighs unfinished paths by.

With C = V_oo + σ², A = C⁻¹, u = Ay over the observed inputs, the likelihood of the last covariance is
F(V) = |A/2π|^{k/2} e^{-½ tr yᵀAy} for k outputs. For a linear network without noise E[F(V_T) | V_t] depends on V_t
through |V_t| and yᵀV_t⁻¹y, and for one output it is one integral over a log-normal. Here the same integral is taken
with what noise lets shrink: pivots of C and quadratic forms down to those of σ² alone.

Source: Bartlett's decomposition of the covariance SDE, arXiv 2206.02768; for k = 1 and σ = 0, arXiv 2212.14457.
"""

import math
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import logsumexp
from jaxtyping import Array, Float

from covsde.numerics.typing import Number

# Trapezoidal rule for a standard normal, cut at six standard deviations.
_NODES = np.linspace(-6, 6, 25)
_LOG_WEIGHTS = -0.5 * _NODES**2 - math.log(np.sum(np.exp(-0.5 * _NODES**2)))


class Observations(NamedTuple):
    """What was observed.

    Attributes:
        y: targets (P, k).
        chosen: indices (P,) of the observed inputs.
        noise: σ², variance of the noise.
    """

    y: Float[Array | np.ndarray, "P k"]
    chosen: Array | np.ndarray
    noise: Number


@eqx.filter_jit
def log_lookahead(data: Observations, V: Float[Array, "paths m m"], remaining: Number) -> Float[Array, " paths"]:
    """log E[F(V_T) | V] of a linear network to good approximation: the first order in `remaining` up to noise.

    Args:
        data: what was observed.
        V: covariances over all inputs.
        remaining: clock time of the noise still to come; at 0 it is log F(V) itself.

    Returns:
        One number per path; NaN where V + σ² is not positive definite.
    """
    y, o = jnp.asarray(data.y), jnp.asarray(data.chosen)
    P, k = y.shape
    L = jnp.linalg.cholesky(V[:, o[:, None], o] + (data.noise * jnp.eye(P))[None])
    inverse = jax.vmap(lambda c: jax.scipy.linalg.solve_triangular(c, jnp.eye(P), lower=True))(L)
    half = inverse @ y
    u = jnp.swapaxes(inverse, 1, 2) @ half
    pivots = jnp.diagonal(L, axis1=1, axis2=2) ** 2
    log_det = jnp.sum(jnp.log(pivots), axis=1)
    log_F = -0.5 * (k * (log_det + P * math.log(2 * math.pi)) + jnp.sum(half * half, axis=(1, 2)))
    # Determinant: the i-th pivot without noise shrinks by eˣ, x ~ N(-i t, 2t).
    log_weights, spread = jnp.asarray(_LOG_WEIGHTS), jnp.sqrt(2 * remaining) * _NODES
    signal = jnp.maximum(pivots - data.noise, 0.0) / pivots
    x = spread[:, None] - (remaining * jnp.arange(1, P + 1, dtype=V.dtype))[None]
    shrunk = jnp.log1p(signal[:, None] * jnp.expm1(x)[None])
    growth = jnp.sum(logsumexp(log_weights[None, :, None] - 0.5 * k * shrunk, axis=1), axis=1)
    # The number of directions that would give the same without noise.
    p = 0.5 * (jnp.sqrt((1 + k) ** 2 + 16 * growth / (k * jnp.maximum(remaining, 1e-12))) - 1 - k)
    # Quadratic form: each direction of outputs has signal q = uᵀVu and noise σ²|u|², and the signal's variance shrinks.
    S, W = (jnp.swapaxes(x, 1, 2) @ x for x in (half, u))
    total, squares = S[:, 0], W[:, 0]
    if k > 1:
        total, vectors = jnp.linalg.eigh(S)
        squares = jnp.sum(vectors * (W @ vectors), axis=1)
    share = jnp.clip(1 - data.noise * squares / jnp.where(total > 0, total, 1.0), 0.0, 1.0)
    x = spread[None] - ((p + k) * remaining)[:, None]
    loss = -0.5 * total[:, :, None] * (1 / (1 + share[:, :, None] * jnp.expm1(x)[:, None]) - 1)
    return log_F + growth + jnp.sum(logsumexp(log_weights[None, None] + loss, axis=2), axis=1)
