"""The functional core of `simulate`: one pure function from arrays to arrays, under every transformation of JAX."""

from collections.abc import Sequence
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from covsde.covariance.limit import AbstractLimit
from covsde.inputs.arguments import instance_of, positive_int, resolve_dtype
from covsde.inputs.gram import check_gram
from covsde.numerics.keys import generator, typed_key
from covsde.numerics.tracing import is_traced
from covsde.run.grid import time_grid
from covsde.solvers import refuse_zero_input
from covsde.solvers.chunk import as_arrays
from covsde.solvers.defaults import default_solver, default_steps
from covsde.solvers.pathwise import solve_pathwise

STEPS = 100
"""Default steps of `solve`, whatever the limit: a number that followed traced values could not be pure."""

_solve = eqx.filter_jit(solve_pathwise)


def solve(
    limit: AbstractLimit,
    V0: Any,
    key: int | PRNGKeyArray,
    *,
    paths: int,
    steps: int | None = None,
    save_at: Sequence[float | int] | None = None,
    solver: diffrax.AbstractSolver | None = None,
) -> Float[Array, "times paths m m"]:
    """Sample paths of a limit as a pure function: jit it, vmap it, differentiate it forwards or backwards.

    Derivatives are pathwise, with the random numbers held fixed: with respect to V0 and to every number in `limit`, and
    so to c_plus, c_minus, a, depth_to_width, gamma, beta, … of the architecture that it was made from. Arguments are
    checked where they are numbers; the values of traced ones are not known. A path that has stopped is NaN from there
    on, with +∞ for variances that exploded, as in `simulate`: a mean over all paths, and its derivative, are then not
    finite either. Where such paths are replaced by others before anything is computed from them, as in
    `jnp.where(lives[:, None, None], V, V0)`, the derivative of a mean over those that live is right.

        def mean_correlation(c):
            mlp = cs.MLP(cs.ShapedReLU(c_plus=0.0, c_minus=c), depth_to_width=1.0)
            V = cs.solve(mlp.limit(), V0, jax.random.key(0), paths=2000, steps=10)[-1]
            return jnp.mean(V[:, 0, 1] / jnp.sqrt(V[:, 0, 0] * V[:, 1, 1]))

        jax.value_and_grad(mean_correlation)(-1.0)

    Args:
        limit: the equation, e.g. MLP(ShapedReLU(0, -1)).limit(); a Transformer's or a ResNet's serves as well.
        V0: input Gram matrix (m, m), symmetric positive semidefinite; a float64 one needs jax_enable_x64, for the
            computation runs in its dtype. Only its symmetric part is used.
        key: JAX key or int seed. A run of `simulate` with this key has the paths of fold_in(key, c) in its chunk c.
        paths: number of paths; 1 whatever is asked for if the limit is deterministic.
        steps: solver steps over unit layer time; default 100, and refused where that is known to be too few.
        save_at: layer times to keep, each hit exactly, with 0 and 1; default: every step up to 20 steps, else tenths.
        solver: one of `covsde.solvers`; default: the one of the limit's architecture.

    Returns:
        V (times, paths, m, m) at the layer times kept, in increasing order.

    Raises:
        ValueError: for a V0 that is not a covariance, too few steps, or an argument out of range.

    Source: that of the architecture; arXiv 2206.02768 for an MLP.
    """
    instance_of("limit", limit, AbstractLimit, "an equation such as MLP(ShapedReLU(0, -1)).limit()")
    start = _gram_array(V0)
    m, kind = start.shape[0], start.dtype
    paths = 1 if limit.deterministic else positive_int("paths", paths)
    chosen = default_solver(limit) if solver is None else solver
    if isinstance(chosen, type) or not hasattr(chosen, "check"):
        raise ValueError(f"solver must be one of covsde.solvers, such as Strang(), got {solver!r}.")
    wanted = STEPS if steps is None else positive_int("steps", steps)
    grid, every = time_grid(wanted, save_at)
    # Also where a function around this one is being traced, numbers are numbers.
    with jax.ensure_compile_time_eval():
        if steps is None and solver is None and not is_traced((limit, V0)):
            need = default_steps(limit, np.asarray(V0, np.float64))
            if need > STEPS:
                raise ValueError(f"steps must be given: this limit takes about {need}, more than the default {STEPS}.")
        if not is_traced(limit):
            chosen.check(limit, m, float(np.max(np.diff(grid))), f"steps={wanted}")
        if not is_traced(V0):
            refuse_zero_input(chosen, np.asarray(V0, np.float64))
    with generator():
        return _solve(
            as_arrays(limit, kind), chosen, start, typed_key(key), jnp.asarray(grid, kind), paths=paths, every=every
        )


def _gram_array(V0: Any) -> Float[Array, "m m"]:
    if is_traced(V0):
        start = V0
        if start.ndim != 2 or start.shape[0] != start.shape[1]:
            raise ValueError(f"V0 must be an (m, m) Gram matrix, got shape {start.shape}: use jax.vmap for several.")
    else:
        dtype = V0.dtype if isinstance(V0, jax.Array | np.ndarray) else np.dtype(np.float64)
        floating = jnp.issubdtype(dtype, jnp.floating)
        kind = jnp.result_type(dtype if floating else float)
        start = jnp.asarray(check_gram(V0, resolve_dtype(kind)), kind)
    resolve_dtype(start.dtype)
    # A symmetric matrix stays the same to the last bit, and its gradient is symmetric.
    return (start + start.T) / 2
