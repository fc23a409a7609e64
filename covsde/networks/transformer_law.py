"""The Gram process of a finite transformer, exact in law without weights.

Given V = L Lᵀ, a branch whose output has i.i.d. columns N(0, B), B = R Rᵀ, changes V by

    V' = λ²V + λγ (L N Rᵀ + R Nᵀ Lᵀ)/√n + γ² R (N Nᵀ + Wishart_{n-m})Rᵀ/n,      N an m × m Gaussian matrix:

only the branch's components along X and its length matter. The m × m logits need no key of size n_k either. Heads
without an output matrix write to coordinates of their own, whose Gram matrices are then followed one by one.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from covsde._linalg import semidefinite_cholesky
from covsde.networks.transformer import Block, Blocks, Grams, _token_norms


def _root(V: Float[Array, "*batch m m"]) -> Float[Array, "*batch m m"]:
    L, _ = semidefinite_cholesky(V.reshape(-1, *V.shape[-2:]))
    return L.reshape(V.shape)


def _transposed(A: Array) -> Array:
    return jnp.swapaxes(A, -1, -2)


def wishart(
    key: PRNGKeyArray, shape: tuple[int, ...], m: int, degrees: int, dtype: jnp.dtype
) -> Float[Array, "*shape m m"]:
    """Z Zᵀ for Z (m, degrees) with N(0, 1) entries: by Bartlett's decomposition where that draws fewer numbers."""
    if degrees < m:
        Z = jax.random.normal(key, (*shape, m, degrees), dtype)
        return Z @ _transposed(Z)
    T = bartlett(key, shape, m, degrees, dtype)
    return T @ _transposed(T)


def bartlett(
    key: PRNGKeyArray, shape: tuple[int, ...], m: int, degrees: int, dtype: jnp.dtype
) -> Float[Array, "*shape m m"]:
    """The lower-triangular T of T Tᵀ = Wishart_degrees(I), degrees ≥ m."""
    normal_key, chi_key = jax.random.split(key)
    below = jnp.tril(jax.random.normal(normal_key, (*shape, m, m), dtype), -1)
    lead = (None,) * len(shape)
    half = ((degrees - jnp.arange(m)) / 2).astype(dtype)[lead]
    chi = jnp.sqrt(2 * jax.random.gamma(chi_key, jnp.broadcast_to(half, (*shape, m)), dtype=dtype))
    return below + chi[..., None] * jnp.eye(m, dtype=dtype)[(*lead, None)][..., 0, :, :]


def _logits(block: Block, key: PRNGKeyArray, L: Grams, heads: int) -> Float[Array, "draws heads m m"]:
    """X W^Q (X W^K)ᵀ/(nτ) = L Z_q Z_kᵀ Lᵀ/τ, where Z_q Z_kᵀ = N Tᵀ with T the Bartlett factor of Z_k."""
    draws, m = L.shape[0], L.shape[1]
    left, right = jax.random.split(key)
    if block.key_size >= m:
        product = jax.random.normal(left, (draws, heads, m, m), L.dtype) @ _transposed(
            bartlett(right, (draws, heads), m, block.key_size, L.dtype)
        )
    else:
        query, keys = (jax.random.normal(k, (draws, heads, m, block.key_size), L.dtype) for k in (left, right))
        product = query @ _transposed(keys)
    return L[:, None] @ product @ _transposed(L)[:, None] / block.temperature


def _add(block: Block, key: PRNGKeyArray, V: Blocks, R: Blocks, weight: float) -> Blocks:
    """λX + γ R Z on every group of coordinates, Z with i.i.d. N(0, 1) entries; R may be shared by the groups."""
    draws, blocks, m, _ = V.shape
    n, size = block.width, block.width // blocks
    along, across = jax.random.split(key)
    N = jax.random.normal(along, (draws, blocks, m, m), V.dtype)
    cross = _root(V) @ N @ _transposed(R)
    inner = N @ _transposed(N) + wishart(across, (draws, blocks), m, size - m, V.dtype)
    V = (
        block.skip**2 * V
        + block.skip * weight / n**0.5 * (cross + _transposed(cross))
        + weight**2 / n * (R @ inner @ _transposed(R))
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


def attention_step(block: Block, key: PRNGKeyArray, V: Blocks) -> Blocks:
    """The attention sub-block on the Gram matrices of the groups of coordinates that the law keeps apart."""
    logit_key, value_key, branch_key = jax.random.split(key, 3)
    L = _root(_read(block, V))
    A = block.attention.matrix(_logits(block, logit_key, L, block.heads), block.mask)
    AL = A @ L[:, None]
    if block.output_matrix:
        draws, m = L.shape[0], L.shape[1]
        sizes = wishart(value_key, (draws, block.heads), m, block.width // block.heads, V.dtype)
        heads = jnp.sum(AL @ sizes @ _transposed(AL), axis=1, keepdims=True) / block.width
        AL = _root((heads + _transposed(heads)) / 2)
    return _add(block, branch_key, V, AL, block.attention_weight)


def mlp_step(block: Block, key: PRNGKeyArray, V: Blocks) -> Blocks:
    """The MLP sub-block; its hidden layer is drawn as m·n normals."""
    hidden_key, branch_key = jax.random.split(key)
    L = _root(_read(block, V))
    draws, m = L.shape[0], L.shape[1]
    h = block.features(L @ jax.random.normal(hidden_key, (draws, m, block.width), V.dtype))
    R = _root(h @ _transposed(h) / block.width)[:, None]
    return _add(block, branch_key, V, jnp.broadcast_to(R, V.shape), block.mlp_weight)


def _start(block: Block, key: PRNGKeyArray, V0: Float[Array, "m m"], draws: int) -> Blocks:
    """How a random isometric embedding spreads V₀ over the groups of coordinates (a matrix Dirichlet law)."""
    m, blocks = V0.shape[0], block.apart
    if blocks == 1:
        return jnp.broadcast_to(V0[None, None], (draws, 1, m, m))
    L, _ = semidefinite_cholesky(V0[None])
    W = wishart(key, (draws, blocks), m, block.width // blocks, V0.dtype)
    T = jnp.linalg.cholesky(jnp.sum(W, axis=1))[:, None]
    solve = partial(jax.scipy.linalg.solve_triangular, lower=True)
    half = jax.vmap(jax.vmap(solve))(jnp.broadcast_to(T, W.shape), W)
    share = jax.vmap(jax.vmap(solve))(jnp.broadcast_to(T, W.shape), _transposed(half))
    share = (share + _transposed(share)) / 2
    return L[:, None] @ share @ _transposed(L)[:, None]


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

    def step(V: Blocks, index: Array) -> tuple[Blocks, Grams]:
        first, second = jax.random.split(jax.random.fold_in(key, index))
        V = attention_step(block, first, V)
        if block.activation is not None:
            V = mlp_step(block, second, V)
        return V, jnp.sum(V, axis=1)

    start = _start(block, jax.random.fold_in(key, depth), V0, draws)
    _, path = jax.lax.scan(step, start, jnp.arange(depth))
    first = jnp.broadcast_to(V0[None], (draws, *V0.shape))
    return jnp.concatenate([first[None], path])[jnp.asarray(save)]
