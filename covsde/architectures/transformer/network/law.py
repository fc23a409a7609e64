"""The Gram process of a finite transformer, exact in law without weights.

Given V = L Lᵀ, a branch whose output has i.i.d. columns N(0, B), B = R Rᵀ, changes V by

    V' = λ²V + λγ (R N Lᵀ + L Nᵀ Rᵀ)/√n + γ² R (N Nᵀ + Wishart_{n-m})Rᵀ/n,      N an m × m Gaussian matrix:

only the branch's components along X and its length matter. The m × m logits need no key of size n_k either. Heads
without an output matrix write to coordinates of their own, whose Gram matrices are then followed one by one.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from covsde.architectures.transformer.network.weights import Block, Blocks, Grams, _token_norms
from covsde.numerics.gamma import gamma_variates
from covsde.numerics.linalg import semidefinite_cholesky

# Up to here an unrolled Cholesky factor is faster than an eigendecomposition; beyond, it takes too long to compile.
_CHOLESKY_UP_TO = 4


def _root(V: Float[Array, "*batch m m"]) -> Float[Array, "*batch m m"]:
    """Some L with L Lᵀ = V; V may be singular."""
    if V.shape[-1] <= _CHOLESKY_UP_TO:
        L, _ = semidefinite_cholesky(V.reshape(-1, *V.shape[-2:]))
        return L.reshape(V.shape)
    values, vectors = jnp.linalg.eigh(V)
    return vectors * jnp.sqrt(jnp.maximum(values, 0))[..., None, :]


def _transposed(A: Array) -> Array:
    return jnp.swapaxes(A, -1, -2)


def draw(
    key: PRNGKeyArray,
    draws: int,
    m: int,
    normals: Sequence[tuple[int, ...]],
    factors: Sequence[tuple[int, int]],
    dtype: jnp.dtype,
) -> tuple[list[Array], list[Array]]:
    """Everything random that one layer needs, in one call of each generator (each call takes long to compile).

    Args:
        key: JAX key.
        draws: leading axis of every array.
        m: number of tokens.
        normals: shapes of arrays of N(0, 1) entries.
        factors: (count, degrees) of factors T with T Tᵀ = Wishart_degrees(I_m): Bartlett's lower triangle, or the
            Gaussian matrix (m, degrees) itself where that is hardly larger.
        dtype: of everything.

    Returns:
        The normals (draws, *shape), and the factors (draws, count, m, m or degrees).
    """
    normal_key, chi_key = jax.random.split(key)
    plain = [(count, m, degrees if degrees <= m else m) for count, degrees in factors]
    shapes = [*normals, *plain]
    sizes = [math.prod(shape) for shape in shapes]
    flat = jax.random.normal(normal_key, (draws, sum(sizes)), dtype)
    arrays, start = [], 0
    for shape, size in zip(shapes, sizes, strict=True):
        arrays.append(flat[:, start : start + size].reshape(draws, *shape))
        start += size
    found, matrices = arrays[: len(normals)], arrays[len(normals) :]
    halves = [
        (degrees - jnp.arange(m, dtype=dtype)[None]) / 2 + jnp.zeros((count, 1), dtype)
        for count, degrees in factors
        if degrees > m
    ]
    if halves:
        together = jnp.concatenate(halves)
        chi = jnp.sqrt(2 * gamma_variates(chi_key, jnp.broadcast_to(together[None], (draws, *together.shape))))
    row = 0
    for index, (count, degrees) in enumerate(factors):
        if degrees > m:
            diagonal = chi[:, row : row + count, :, None] * jnp.eye(m, dtype=dtype)[None, None]
            matrices[index] = jnp.tril(matrices[index], -1) + diagonal
            row += count
    return found, matrices


class Randomness(NamedTuple):
    """The random matrices of one block; None where the block has no such part.

    Attributes:
        query: (draws, heads, m, k) and
        key: (draws, heads, m, k) with query keyᵀ distributed as Z_q Z_kᵀ, k ≤ m.
        values: (draws, heads, m, ·) Wishart factors of the heads' outputs, with an output matrix.
        along: (draws, groups, m, m), the attention branch along X.
        across: (draws, groups, m, ·), Wishart factors of the branch across X.
        hidden: (draws, m, n), the MLP's hidden layer.
        mlp_along: as `along`, of the MLP.
        mlp_across: as `across`, of the MLP.
    """

    query: Array
    key: Array
    values: Array | None
    along: Array
    across: Array
    hidden: Array | None
    mlp_along: Array | None
    mlp_across: Array | None


def draw_block(block: Block, key: PRNGKeyArray, draws: int, m: int, dtype: jnp.dtype) -> Randomness:
    """The random matrices of one block."""
    heads, groups, size = block.heads, block.apart, block.width // block.apart
    rest = (groups, size - m)
    # Z_q Z_kᵀ = (Z_q Q) Tᵀ with Z_k = T Qᵀ, and Z_q Q is again Gaussian.
    normals: list[tuple[int, ...]] = [(heads, m, min(m, block.key_size)), (groups, m, m)]
    factors = [(heads, block.key_size), rest]
    if block.output_matrix:
        factors.append((heads, block.width // heads))
    if block.activation is not None:
        normals += [(m, block.width), (groups, m, m)]
        factors.append(rest)
    found, matrices = draw(key, draws, m, normals, factors, dtype)
    has_mlp = block.activation is not None
    return Randomness(
        query=found[0],
        key=matrices[0],
        values=matrices[2] if block.output_matrix else None,
        along=found[1],
        across=matrices[1],
        hidden=found[2] if has_mlp else None,
        mlp_along=found[3] if has_mlp else None,
        mlp_across=matrices[-1] if has_mlp else None,
    )


def attention_matrices(block: Block, random: Randomness, L: Grams) -> Float[Array, "draws heads m m"]:
    """A of every head, from X W^Q (X W^K)ᵀ/(nτ) = L Z_q Z_kᵀ Lᵀ/τ."""
    product = random.query @ _transposed(random.key)
    logits = L[:, None] @ product @ _transposed(L)[:, None] / block.temperature
    return block.attention.matrix(logits, block.mask)


def _add(block: Block, V: Blocks, R: Blocks, weight: float, along: Array, across: Array) -> Blocks:
    """λX + γ R Z on every group of coordinates, Z with i.i.d. N(0, 1) entries; R may be shared by the groups."""
    # along = Z Qᵀ, the components of Z along X = L Q √n; across Z's Wishart remainder.
    cross = R @ along @ _transposed(_root(V))
    inner = along @ _transposed(along) + across @ _transposed(across)
    V = (
        block.skip**2 * V
        + block.skip * weight / block.width**0.5 * (cross + _transposed(cross))
        + weight**2 / block.width * (R @ inner @ _transposed(R))
    )
    V = (V + _transposed(V)) / 2
    if block.normalisation == "post":
        norms = _token_norms(jnp.sum(V, axis=1, keepdims=True))
        V = V / norms[..., :, None] / norms[..., None, :]
    return V


def _read(block: Block, V: Blocks) -> Grams:
    """The Gram matrix of what a branch reads."""
    total = jnp.sum(V, axis=1)
    if block.normalisation != "pre":
        return total
    norms = _token_norms(total)
    return total / norms[:, :, None] / norms[:, None, :]


def step(block: Block, random: Randomness, V: Blocks) -> Blocks:
    """One block on the Gram matrices of the groups of coordinates that the law keeps apart."""
    L = _root(_read(block, V))
    AL = attention_matrices(block, random, L) @ L[:, None]
    if random.values is not None:
        written = AL @ random.values
        AL = _root(jnp.sum(written @ _transposed(written), axis=1, keepdims=True) / block.width)
    V = _add(block, V, AL, block.attention_weight, random.along, random.across)
    if random.hidden is not None and random.mlp_along is not None and random.mlp_across is not None:
        h = block.features(_root(_read(block, V)) @ random.hidden)
        R = _root(h @ _transposed(h) / block.width)[:, None]
        V = _add(block, V, jnp.broadcast_to(R, V.shape), block.mlp_weight, random.mlp_along, random.mlp_across)
    return V


def _start(block: Block, key: PRNGKeyArray, V0: Float[Array, "m m"], draws: int) -> Blocks:
    """How a random isometric embedding spreads V₀ over the groups of coordinates (a matrix Dirichlet law)."""
    m, groups = V0.shape[0], block.apart
    if groups == 1:
        return jnp.broadcast_to(V0[None, None], (draws, 1, m, m))
    L, _ = semidefinite_cholesky(V0[None])
    _, (Z,) = draw(key, draws, m, [], [(groups, block.width // groups)], V0.dtype)
    total = jnp.linalg.cholesky(jnp.sum(Z @ _transposed(Z), axis=1))
    share = L[:, None] @ (jnp.linalg.inv(total)[:, None] @ Z)
    return share @ _transposed(share)


def sample_grams_law(
    block: Block, V0: Float[Array, "m m"], key: PRNGKeyArray, *, depth: int, draws: int, save: tuple[int, ...]
) -> Float[Array, "times draws m m"]:
    """Gram matrices of independent networks at chosen layers, exact in law.

    Args:
        block: sizes and scalings; width / heads ≥ m unless the heads are mixed by an output matrix.
        V0: input Gram matrix (m, m).
        key: JAX key.
        depth: number of blocks.
        draws: number of independent networks.
        save: layers to return, among 0 … depth.

    Returns:
        (len(save), draws, m, m), dtype of V0.
    """
    m = V0.shape[0]

    def layer(V: Blocks, index: Array) -> tuple[Blocks, Grams]:
        V = step(block, draw_block(block, jax.random.fold_in(key, index), draws, m, V0.dtype), V)
        return V, jnp.sum(V, axis=1)

    start = _start(block, jax.random.fold_in(key, depth), V0, draws)
    _, path = jax.lax.scan(layer, start, jnp.arange(depth))
    first = jnp.broadcast_to(V0[None], (draws, m, m))
    return jnp.concatenate([first[None], path])[jnp.asarray(save)]
