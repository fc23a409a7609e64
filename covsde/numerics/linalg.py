"""Small linear algebra on batches of covariance matrices that may be singular."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


def pivot_tolerance(dtype: jnp.dtype, m: int) -> float:
    """Relative size below which a Cholesky pivot is rounding: zero, not evidence of a lost direction."""
    return 16 * m * float(jnp.finfo(dtype).eps)


def semidefinite_cholesky(
    V: Float[Array, "paths m m"],
) -> tuple[Float[Array, "paths m m"], Bool[Array, " paths"]]:
    """Lower-triangular L with L Lᵀ = V for positive *semi*definite V, and which matrices are not.

    Args:
        V: symmetric matrices (paths, m, m); exact collinearity (repeated inputs) is welcome.

    Returns:
        L (paths, m, m), with a zero column where a pivot vanishes, and a mask (paths,): True where V is PSD.
    """
    m = V.shape[-1]
    tolerance = pivot_tolerance(V.dtype, m)
    columns: list[Array] = []
    psd = jnp.ones(V.shape[0], bool)
    # Rounding in a pivot is amplified by the smallest relative pivot before it, so only more than that is a loss.
    smallest = jnp.ones(V.shape[0], V.dtype)
    for j in range(m):
        column = V[:, :, j]
        if columns:
            L = jnp.stack(columns, axis=-1)
            column = column - jnp.sum(L * L[:, j : j + 1, :], axis=-1)
        pivot = column[:, j]
        floor = tolerance * V[:, j, j]
        # `not (pivot >= …)` also catches NaN.
        psd = psd & (pivot * smallest >= -floor)
        positive = pivot > floor
        smallest = jnp.minimum(smallest, jnp.where(positive, pivot / jnp.where(positive, V[:, j, j], 1), 1))
        scale = jnp.where(positive, 1 / jnp.sqrt(jnp.where(positive, pivot, 1)), 0)
        below = (jnp.arange(m) >= j)[None, :]
        columns.append(jnp.where(below, column * scale[:, None], 0))
    return jnp.stack(columns, axis=-1), psd


@jax.custom_jvp
def square_root(v: Float[Array, "..."]) -> Float[Array, "..."]:
    """√v, whose derivative at 0 is taken as 0: an input that is zero stays zero whatever else changes."""
    return jnp.sqrt(v)


@square_root.defjvp
def _(primals: Any, tangents: Any) -> Any:
    (v,), (change,) = primals, tangents
    found = square_root(v)
    positive = found > 0
    return found, jnp.where(positive, 0.5 / jnp.where(positive, found, 1), 0) * change


def rows_with_gram(V0: Float[Array, "m m"], rank: int) -> Float[Array, "m rank"]:
    """Vectors of the dimension `rank` of a Gram matrix that have it."""
    m = V0.shape[0]
    if rank == m:
        L, _ = semidefinite_cholesky(V0[None])
        return L[0]
    eigenvalues, vectors = jnp.linalg.eigh(V0)
    kept = slice(m - rank, None)
    return vectors[:, kept] * jnp.sqrt(jnp.maximum(eigenvalues[kept], 0))[None]
