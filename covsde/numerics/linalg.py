"""Small linear algebra on batches of covariance matrices that may be singular."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from covsde.numerics.typing import PathsFirst

Scalars = Float[Array, " paths"]

# Beyond this, columns one by one take too long to compile; the size of blocks is the fastest of benchmarks on a CPU.
_COLUMNS_UP_TO = 16
_BLOCK = 8


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
    if m > _COLUMNS_UP_TO:
        return _cholesky_by_blocks(V)
    tolerance = pivot_tolerance(V.dtype, m)
    columns: list[Array] = []
    psd = jnp.ones(V.shape[0], bool)
    smallest = jnp.ones(V.shape[0], V.dtype)
    for j in range(m):
        column = V[:, :, j]
        if columns:
            L = jnp.stack(columns, axis=-1)
            column = column - jnp.sum(L * L[:, j : j + 1, :], axis=-1)
        pivot = column[:, j]
        positive, fine, smallest = judge_pivot(pivot, V[:, j, j], smallest, tolerance)
        psd = psd & fine
        scale = jnp.where(positive, 1 / jnp.sqrt(jnp.where(positive, pivot, 1)), 0)
        below = (jnp.arange(m) >= j)[None, :]
        columns.append(jnp.where(below, column * scale[:, None], 0))
    return jnp.stack(columns, axis=-1), psd


def judge_pivot(
    pivot: Scalars, variance: Scalars, smallest: Scalars, tolerance: float
) -> tuple[Bool[Array, " paths"], Bool[Array, " paths"], Scalars]:
    """Whether a Cholesky pivot is positive and whether it is that of a PSD matrix, to rounding.

    Rounding in a pivot is amplified by the smallest relative pivot before it, so only more than that is a loss.

    Args:
        pivot: what is left of the variance (paths,).
        variance: the diagonal entry that it was (paths,).
        smallest: the smallest relative pivot so far (paths,).
        tolerance: of `pivot_tolerance`.

    Returns:
        Masks (paths,), positive and PSD, and the new smallest relative pivot.
    """
    floor = tolerance * variance
    # `not (pivot >= …)` also catches NaN.
    psd = pivot * smallest >= -floor
    positive = pivot > floor
    relative = jnp.where(positive, pivot / jnp.where(positive, variance, 1), 1)
    return positive, psd, jnp.minimum(smallest, relative)


def _cholesky_by_blocks(V: PathsFirst) -> tuple[PathsFirst, Bool[Array, " paths"]]:
    """Column by column within a block of the diagonal, and batched products for all that is below it.

    XLA's own batched factor is not for singular matrices, and on a CPU two of them at a time can wait for each other
    for ever (jaxlib 0.10.1), while chunks of paths run side by side.
    """
    m = V.shape[-1]
    psd, smallest = jnp.ones(V.shape[0], bool), jnp.ones(V.shape[0], V.dtype)
    strips: list[Array] = []
    for start in range(0, m, _BLOCK):
        end = min(start + _BLOCK, m)
        panel = V[:, start:, start:end]
        if strips:
            # The strips so far, from this row on.
            before = jnp.concatenate([strip[:, strip.shape[1] - (m - start) :] for strip in strips], axis=2)
            panel = panel - before @ jnp.swapaxes(before[:, : end - start], 1, 2)
        variances = jnp.diagonal(V, axis1=1, axis2=2)[:, start:end]
        root, inverse, fine, smallest = _block(
            panel[:, : end - start], variances, smallest, pivot_tolerance(V.dtype, m)
        )
        psd = psd & fine
        below = panel[:, end - start :]
        solved = below @ jnp.swapaxes(inverse, 1, 2)
        # Once more on what is left: the inverse of an ill-conditioned block alone loses digits.
        solved = solved + (below - solved @ jnp.swapaxes(root, 1, 2)) @ jnp.swapaxes(inverse, 1, 2)
        strips.append(jnp.concatenate([root, solved], axis=1))
    return jnp.concatenate([jnp.pad(s, ((0, 0), (m - s.shape[1], 0), (0, 0))) for s in strips], axis=2), psd


def _block(
    V: Float[Array, "paths b b"], variances: Float[Array, "paths b"], smallest: Scalars, tolerance: float
) -> tuple[Float[Array, "paths b b"], Float[Array, "paths b b"], Bool[Array, " paths"], Scalars]:
    """Root and its inverse (zero rows where a pivot vanishes), in a loop over columns with the paths last."""
    size = V.shape[-1]
    rest, variance = jnp.moveaxis(V, 0, -1), variances.T

    def column(carry: tuple[Array, Array, Array, Array], k: Array) -> tuple[tuple[Array, Array, Array, Array], None]:
        L, R, psd, smallest = carry
        entries = rest[:, k] - jnp.sum(L * L[k][None], axis=1)
        pivot = entries[k]
        positive, fine, smallest = judge_pivot(pivot, variance[k], smallest, tolerance)
        scale = jnp.where(positive, 1 / jnp.sqrt(jnp.where(positive, pivot, 1)), 0)
        entries = jnp.where((jnp.arange(size) >= k)[:, None], entries * scale[None], 0)
        unit = (jnp.arange(size) == k).astype(V.dtype)[:, None]
        inverse = (unit - jnp.sum(L[k][:, None] * R, axis=0)) * scale[None]
        return (L.at[:, k].set(entries), R.at[k].set(inverse), psd & fine, smallest), None

    zero = jnp.zeros_like(rest)
    start = (zero, zero, jnp.ones(smallest.shape, bool), smallest)
    (L, R, psd, smallest), _ = jax.lax.scan(column, start, jnp.arange(size))
    return jnp.moveaxis(L, -1, 0), jnp.moveaxis(R, -1, 0), psd, smallest


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
