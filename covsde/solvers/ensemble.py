"""One chunk of paths through one Diffrax solve."""

from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from covsde.limits.base import AbstractCovarianceLimit
from covsde.solvers.terms import CovarianceState


@eqx.filter_jit
def solve(
    sde: AbstractCovarianceLimit,
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
    solution = diffrax.diffeqsolve(
        terms,
        solver,
        t0=grid[0],
        t1=grid[-1],
        dt0=None,
        y0=y0,
        stepsize_controller=diffrax.StepTo(ts=grid),
        saveat=diffrax.SaveAt(
            subs=[
                diffrax.SubSaveAt(t0=True, steps=every, fn=lambda t, y, args: layout.stack(y.V)),
                diffrax.SubSaveAt(t1=True, fn=lambda t, y, args: solver.last_valid(sde, layout, y, grid)),
            ]
        ),
        # Nothing is differentiated here, so a plain while loop is enough.
        adjoint=diffrax.ForwardMode(),
        max_steps=steps,
    )
    entries, clock = solution.ys
    return entries[: 1 + steps // every], clock[0]


def as_arrays(sde: AbstractCovarianceLimit, dtype: np.dtype) -> AbstractCovarianceLimit:
    """The equation with its constants as JAX arrays, so that new values do not recompile."""
    return jax.tree.map(lambda x: jnp.asarray(x, dtype), sde)
