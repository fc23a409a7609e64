"""One chunk of paths through one Diffrax solve."""

from typing import Any, TypeVar

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from covsde.covariance.limit import AbstractLimit
from covsde.solvers.terms import CovarianceState

Limit = TypeVar("Limit", bound=AbstractLimit)


@eqx.filter_jit
def solve(
    sde: AbstractLimit,
    solver: Any,
    V0: Float[Array, "m m"],
    key: Array,
    grid: Float[Array, " steps_plus_one"],
    *,
    paths: int,
    every: int,
) -> tuple[Float[Array, "times entries paths"], Float[Array, " paths"]]:
    """Paths of V on a grid of layer times.

    Args:
        sde: the equation, with arrays of V0's dtype as leaves.
        solver: one of `covsde.solvers` made for this equation.
        V0: initial covariance (m, m); its dtype is the dtype of the computation.
        key: JAX key of this chunk.
        grid: increasing layer times from 0 to 1.
        paths: number of paths in the chunk.
        every: the state is saved at every so many steps.

    Returns:
        Lower-triangle entries (times, m(m+1)/2, paths), row by row, times = 1 + steps/every, and the layer time
        (paths,) up to which each path lived (1 where it never stopped).
    """
    steps = grid.shape[0] - 1
    m = V0.shape[0]
    layout, terms = solver.terms(sde, m, paths, key, V0.dtype)
    y0 = CovarianceState(layout.constant(V0, paths), jnp.zeros((paths,), V0.dtype))

    def between_saves(state: CovarianceState, times: Float[Array, " ends"]) -> tuple[CovarianceState, Array]:
        # One solve per save: inside a solve, Diffrax would assemble what is saved at every step and throw it away.
        solution = diffrax.diffeqsolve(
            terms,
            solver,
            t0=times[0],
            t1=times[-1],
            dt0=None,
            y0=state,
            stepsize_controller=diffrax.StepTo(ts=times),
            saveat=diffrax.SaveAt(t1=True),
            # Nothing is differentiated here, so a plain while loop is enough.
            adjoint=diffrax.ForwardMode(),
            max_steps=every,
        )
        state = jax.tree.map(lambda y: y[0], solution.ys)
        return state, layout.stack(state.V)

    blocks = steps // every
    times = grid[jnp.arange(blocks)[:, None] * every + jnp.arange(every + 1)[None]]
    final, path = jax.lax.scan(between_saves, y0, times)
    entries = jnp.concatenate([layout.stack(y0.V)[None], path])
    return entries, solver.last_valid(sde, layout, final, grid)


def layout_name(solver: Any, sde: AbstractLimit, m: int, key: Array, dtype: np.dtype) -> str:
    """The memory layout of a solver's paths, which belongs to a run as its rounding and its draws depend on it."""
    return type(solver.terms(sde, m, 1, key, dtype)[0]).__name__


def as_arrays(sde: Limit, dtype: np.dtype) -> Limit:
    """The equation with its constants as JAX arrays, so that new values do not recompile."""
    return jax.tree.map(lambda x: jnp.asarray(x, dtype), sde)
