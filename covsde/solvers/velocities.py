"""Velocities at initialization, stepped up a stored forward and backward pass."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from covsde.covariance.velocities import AbstractVelocities, Vectors, VelocityLimit
from covsde.numerics.linalg import semidefinite_cholesky
from covsde.numerics.typing import PathsFirst
from covsde.solvers.backward import _inverse_root, _normals, _to_dense, solve_gradients
from covsde.solvers.layout import layout_for
from covsde.solvers.noise import SymmetricTriangular

# R, the regression K of the velocities on the features, and the covariance C of what is left.
State = tuple[Vectors, PathsFirst, PathsFirst]


def _apply(M: PathsFirst, v: Vectors) -> Vectors:
    return jnp.sum(M * v[:, None, :], axis=-1)


def _carried(
    equation: AbstractVelocities,
    state: State,
    f: Vectors,
    forces: Vectors,
    passes: tuple[PathsFirst, PathsFirst, Float[Array, " paths"]],
    h: Float[Array, ""],
) -> State:
    """What the passes know, over clock time h, with Φ, a root of its inverse and G held fixed; midpoint rule in r."""
    R, K, C = state
    Phi, root, G = passes
    dual = _apply(jnp.swapaxes(root, 1, 2), _apply(root, f))
    push = equation.push(forces, Phi, G)
    r = R - _apply(K, f)
    fading = jnp.sum(f * dual, axis=1) / G
    r = r + h / 2 * (push - fading[:, None] * r)
    dK, dC = equation.known(r, dual, G)
    return R + h * push, K + h * dK, C + h * dC


@eqx.filter_jit
def solve_velocities(
    limit: VelocityLimit,
    V0: Float[Array, "m m"],
    error_signal: Callable[[Array], Array],
    key: Array,
    grid: Float[Array, " steps_plus_one"],
    *,
    paths: int,
    every: int,
) -> tuple[Array, Array, Array, Array, Array, Array, Array]:
    """Forward and backward passes, then velocities up each of them; C is PSD at every step.

    Up a step: half of what is known at its lower end, the new directions, half of what is known at its upper end.

    Args:
        limit: the equations, with arrays of V0's dtype as leaves.
        V0: initial covariance (m, m), possibly singular; its dtype is that of the computation.
        error_signal: Δ = -∂loss/∂f (m,), of outputs f (m,).
        key: JAX key of this chunk.
        grid: increasing layer times from 0 to 1.
        paths: number of paths in the chunk.
        every: saves happen at grid[::every].

    Returns:
        Phi as lower-triangle entries (times, entries, paths) and the clock (paths,); outputs f (paths, m); G
        (times, paths, m, m), R (times, paths, m), Y and S (times, paths, m, m).
    """
    (sde, backward, equation), m, dtype = limit, V0.shape[0], V0.dtype
    layout = layout_for(m)
    pass_key, velocity_key = jax.random.split(key)
    entries, clock, Gs, _, f, _ = solve_gradients(sde, backward, V0, pass_key, grid, paths=paths, every=1)
    forces = jax.vmap(error_signal)(f)
    Phi = jax.vmap(lambda e: _to_dense(layout, e, symmetric=True))(entries)
    roots = _inverse_root(Phi.reshape(-1, m, m)).reshape(Phi.shape)
    G = Gs[:, :, 0, 0]  # of a linear network, the same for every input

    def step(state: State, inputs: tuple[Array, ...]) -> tuple[State, State]:
        Phi0, Phi1, root0, root1, G0, G1, h, index = inputs
        factor_key, noise_key = jax.random.split(jax.random.fold_in(velocity_key, index))
        R, K, C = _carried(equation, state, f, forces, (Phi0, root0, G0), h / 2)
        rank = jnp.sum(jnp.diagonal(root0, axis1=1, axis2=2) > 0, axis=1, dtype=dtype)
        kept = jnp.exp(-equation.lost(rank) * h / 2)[:, None, None]
        before, _ = semidefinite_cholesky(C * kept)
        T = layout.stack(SymmetricTriangular().factor(layout, factor_key, h, paths))
        after = before @ _to_dense(layout, T, symmetric=False)
        noise = _normals(noise_key, paths, 2 * m * m, dtype).reshape(paths, 2, m, m) * jnp.sqrt(h / 2)
        K = K + before @ noise[:, 0] @ root0 + after @ noise[:, 1] @ root1
        C = after @ jnp.swapaxes(after, 1, 2) * kept
        state = _carried(equation, (R, K, C), f, forces, (Phi1, root1, G1), h / 2)
        return state, state

    durations = sde.noise_clock.elapsed(grid[:-1], grid[1:])
    start = (jnp.zeros_like(f), jnp.zeros((paths, m, m), dtype), jnp.zeros((paths, m, m), dtype))
    inputs = (Phi[:-1], Phi[1:], roots[:-1], roots[1:], G[:-1], G[1:], durations, jnp.arange(durations.shape[0]))
    _, later = jax.lax.scan(step, start, inputs)
    R, K, C = (jnp.concatenate([first[None], rest])[::every] for first, rest in zip(start, later, strict=True))
    Y = K @ Phi[::every]
    return entries[::every], clock, f, Gs[::every], R, Y, Y @ jnp.swapaxes(K, -1, -2) + C
