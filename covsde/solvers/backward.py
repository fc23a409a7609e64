"""The backward pass at initialization, stepped down a stored forward path."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from covsde.covariance.backward import AbstractBackward
from covsde.covariance.sde import NeuralCovarianceSDE
from covsde.numerics.linalg import semidefinite_cholesky
from covsde.numerics.typing import PathsFirst
from covsde.solvers.chunk import solve
from covsde.solvers.cone import Strang
from covsde.solvers.layout import AbstractLayout, layout_for, standard_normals
from covsde.solvers.noise import SymmetricTriangular

# Inputs up to which the code is written out and the m² × m² covariance of the overlap has room.
MOST_INPUTS = 20


def refuse_many_inputs(m: int, question: str) -> None:
    """Refuse more inputs than the passes down and up can take.

    Raises:
        ValueError: naming the most.
    """
    if m > MOST_INPUTS:
        raise ValueError(
            f"{question} is for at most {MOST_INPUTS} inputs, got m={m}: pass fewer of them, or use simulate, or "
            "networks of finite width, which take more."
        )


def _normals(key: Array, paths: int, rows: int, dtype: jnp.dtype) -> Float[Array, "paths rows"]:
    return standard_normals(key, rows, paths, dtype).T


def _to_dense(layout: AbstractLayout, entries: Float[Array, "entries paths"], *, symmetric: bool) -> PathsFirst:
    rows, columns = jnp.tril_indices(layout.m)
    full = jnp.zeros((entries.shape[1], layout.m, layout.m), entries.dtype).at[:, rows, columns].set(entries.T)
    return full.at[:, columns, rows].set(entries.T) if symmetric else full


def _inverse_root(Phi: PathsFirst) -> PathsFirst:
    """Lower-triangular R with Rᵀ R = Φ⁻¹ on the directions that Φ has, and zero rows for those it lacks."""
    L, _ = semidefinite_cholesky(Phi)
    m = Phi.shape[-1]
    rows: list[Array] = []
    for i in range(m):
        pivot = L[:, i, i, None]
        row = jnp.zeros((Phi.shape[0], m), Phi.dtype).at[:, i].set(1)
        row = row - sum((L[:, i, j, None] * rows[j] for j in range(i)), start=jnp.zeros_like(row))
        rows.append(jnp.where(pivot > 0, row / jnp.where(pivot > 0, pivot, 1), 0))
    return jnp.stack(rows, axis=1)


def _transposed(M: PathsFirst) -> PathsFirst:
    return jnp.swapaxes(M, 1, 2)


def _overlap_step(
    equation: AbstractBackward,
    Phi: PathsFirst,
    root: PathsFirst,
    G: PathsFirst,
    A: PathsFirst,
    h: Float[Array, ""],
    key: Array,
) -> PathsFirst:
    """Drift by Heun's rule, noise by a root of its covariance M∘G (PSD as a Schur product)."""
    paths, m = Phi.shape[:2]
    inverse = _transposed(root) @ root
    rate = equation.overlap_rate(Phi, A, inverse @ A)
    guess = A + h * rate
    moved = A + h / 2 * (rate + equation.overlap_rate(Phi, guess, inverse @ guess))
    M = equation.overlap_covariance(Phi)
    if M is None:
        return moved
    covariance = (M * G[:, None, :, None, :]).reshape(paths, m * m, m * m)
    factor, _ = semidefinite_cholesky(covariance)
    noise = jnp.sum(factor * _normals(key, paths, m * m, Phi.dtype)[:, None, :], axis=-1)
    return moved + jnp.sqrt(h) * noise.reshape(paths, m, m)


def _gradient_step(
    layout: AbstractLayout,
    roots: tuple[PathsFirst, PathsFirst],
    A: PathsFirst,
    G: PathsFirst,
    h: Float[Array, ""],
    key: Array,
) -> PathsFirst:
    """Half of the known part, a Wishart step of what is unknown, the other half; roots of Φ⁻¹ above and below."""

    def known(root: PathsFirst) -> tuple[PathsFirst, Float[Array, "paths 1 1"]]:
        half = root @ A
        rank = jnp.sum(jnp.diagonal(root, axis1=1, axis2=2) > 0, axis=1, dtype=A.dtype)
        return h / 2 * _transposed(half) @ half, jnp.exp(-rank * h / 2)[:, None, None]

    source, kept = known(roots[0])
    L, _ = semidefinite_cholesky((G + source) * kept)
    T = layout.stack(SymmetricTriangular().factor(layout, key, h, G.shape[0]))
    moved = L @ _to_dense(layout, T, symmetric=False)
    source, kept = known(roots[1])
    return moved @ _transposed(moved) * kept + source


@eqx.filter_jit
def solve_gradients(
    sde: NeuralCovarianceSDE,
    equation: AbstractBackward,
    V0: Float[Array, "m m"],
    key: Array,
    grid: Float[Array, " steps_plus_one"],
    *,
    paths: int,
    every: int,
) -> tuple[Array, Array, Array, Array, Array, Array]:
    """Forward paths by `Strang`, then G and A down each of them; G is PSD at every step.

    Down a step: half of the activations, the weights, the other half of the activations.

    Args:
        sde: the forward equation, with arrays of V0's dtype as leaves.
        equation: the backward equations, likewise.
        V0: initial covariance (m, m), possibly singular; its dtype is that of the computation.
        key: JAX key of this chunk.
        grid: increasing layer times from 0 to 1.
        paths: number of paths in the chunk.
        every: saves happen at grid[::every].

    Returns:
        Phi as lower-triangle entries (times, entries, paths) and the clock (paths,) of `solve`; G and A
        (times, paths, m, m); outputs f (paths, m); and ∫₀¹ Φ∘G dτ (paths, m, m) by the trapezoidal rule on the grid.
    """
    m, dtype = V0.shape[0], V0.dtype
    layout = layout_for(m)
    forward_key, output_key, backward_key = jax.random.split(key, 3)
    entries, clock = solve(sde, Strang(), V0, forward_key, grid, paths=paths, every=1)
    top = _to_dense(layout, entries[-1], symmetric=True)
    root, _ = semidefinite_cholesky(top)
    f = jnp.sum(root * _normals(output_key, paths, m, dtype)[:, None, :], axis=-1)
    G = jnp.ones((paths, m, m), dtype)
    A = jnp.broadcast_to(f[:, :, None], (paths, m, m))
    durations = sde.noise_clock.elapsed(grid[:-1], grid[1:])

    steps = durations.shape[0]
    Phi = jax.vmap(lambda e: _to_dense(layout, e, symmetric=True))(entries)
    inverse_roots = _inverse_root(Phi.reshape(-1, m, m)).reshape(Phi.shape)

    def step(
        carry: tuple[Array, Array, Array], inputs: tuple[Array, ...]
    ) -> tuple[tuple[Array, Array, Array], tuple[Array, Array]]:
        G, A, ntk = carry
        Phi1, Phi0, root1, root0, h, dtau, index = inputs
        upper_key, gradient_key, lower_key = jax.random.split(jax.random.fold_in(backward_key, index), 3)
        weight = dtau / 2
        ntk = ntk + weight * Phi1 * G
        # Half a step of activations, a step of weights, half a step of activations.
        A = _overlap_step(equation, Phi1, root1, G, A, h / 2, upper_key)
        G = G * jnp.exp(h / 2 * equation.gradient_rate(Phi1))
        G = _gradient_step(layout, (root1, root0), A, G, h, gradient_key)
        A = _overlap_step(equation, Phi0, root0, G, A, h / 2, lower_key)
        G = G * jnp.exp(h / 2 * equation.gradient_rate(Phi0))
        return (G, A, ntk + weight * Phi0 * G), (G, A)

    inputs = (Phi[1:], Phi[:-1], inverse_roots[1:], inverse_roots[:-1], durations, jnp.diff(grid), jnp.arange(steps))
    (_, _, ntk), (Gs, As) = jax.lax.scan(step, (G, A, jnp.zeros_like(G)), inputs, reverse=True)
    Gs, As = jnp.concatenate([Gs, G[None]]), jnp.concatenate([As, A[None]])
    return entries[::every], clock, Gs[::every], As[::every], f, ntk
