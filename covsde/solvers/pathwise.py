"""The same steps as those of `solve`, as a scan that JAX differentiates forwards and backwards, path by path.

The number of steps is known, so a `jax.lax.scan` over Diffrax's own `solver.step` takes the place of its while loop;
paths come out the same to the last bit. The step in which a path stops has no derivative: there it is taken at another,
harmless covariance and multiplied by 0, so that the NaN of one path never reaches the paths beside it. Whoever uses
what a path holds after its end gets a derivative that is infinite or NaN, as the value is.
"""

from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from covsde.covariance.limit import AbstractLimit
from covsde.solvers.layout import AbstractLayout
from covsde.solvers.terms import CovarianceState

# Variances so small that no drift explodes from them within a step.
_HARMLESS = 1e-3


def _take_step(
    solver: Any, terms: Any, layout: AbstractLayout, t0: Array, t1: Array, y0: CovarianceState
) -> CovarianceState:
    y1: CovarianceState
    y1, *_ = solver.step(terms, t0, t1, y0, None, solver.init(terms, t0, t1, y0, None), False)
    return y1


_step = eqx.filter_custom_jvp(_take_step)


@_step.def_jvp
def _(primals: Any, tangents: Any) -> Any:
    solver, terms, layout, t0, t1, y0 = primals
    _, terms_change, _, _, _, change = tangents
    y1 = _step(*primals)
    advanced = y1.clock > y0.clock
    eye = jnp.eye(layout.m, dtype=y0.clock.dtype)
    harmless = CovarianceState(layout.constant(_HARMLESS * eye, y0.clock.shape[0]), y0.clock)
    start = jax.tree.map(lambda y, other: _where(advanced, y, other), y0, harmless)
    _, y1_change = eqx.filter_jvp(
        lambda terms, y: _take_step(solver, terms, layout, t0, t1, y),
        (terms, start),
        (terms_change, _masked(advanced, change)),
    )
    return y1, _masked(advanced, y1_change)


def _where(mask: Bool[Array, " paths"], x: Array, other: Array) -> Array:
    return jnp.where(mask.reshape(mask.shape + (1,) * (x.ndim - 1)), x, other)


def _masked(mask: Bool[Array, " paths"], change: Any) -> Any:
    # None is a derivative that is known to vanish.
    return jax.tree.map(lambda x: _where(mask, x, jnp.zeros_like(x)), change)


def solve_pathwise(
    limit: AbstractLimit,
    solver: Any,
    V0: Float[Array, "m m"],
    key: Array,
    grid: Float[Array, " steps_plus_one"],
    *,
    paths: int,
    every: int,
) -> Float[Array, "times paths m m"]:
    """Paths of V on a grid of layer times, NaN from where they stop, with exploded variances +∞.

    Args:
        limit: the equation, with arrays of V0's dtype as leaves, which may be traced.
        solver: one of `covsde.solvers` made for this equation.
        V0: initial covariance (m, m); its dtype is the dtype of the computation.
        key: JAX key.
        grid: increasing layer times from 0 to 1.
        paths: number of paths.
        every: the state is saved at every so many steps.

    Returns:
        V (times, paths, m, m), times = 1 + steps/every.
    """
    m = V0.shape[0]
    solver = _with_differentiable_loops(solver)
    layout, terms = solver.terms(limit, m, paths, key, V0.dtype)
    y0 = CovarianceState(layout.constant(V0, paths), jnp.zeros((paths,), V0.dtype))

    # A derivative backwards keeps the states and computes what lies between them again.
    @jax.checkpoint
    def step(y: CovarianceState, ends: tuple[Array, Array]) -> tuple[CovarianceState, None]:
        return _step(solver, terms, layout, *ends, y), None

    def between_saves(y: CovarianceState, times: Float[Array, " ends"]) -> tuple[CovarianceState, Array]:
        y, _ = jax.lax.scan(step, y, (times[:-1], times[1:]))
        return y, layout.stack(y.V)

    blocks = (grid.shape[0] - 1) // every
    times = grid[jnp.arange(blocks)[:, None] * every + jnp.arange(every + 1)[None]]
    final, later = jax.lax.scan(between_saves, y0, times)
    entries = jnp.concatenate([layout.stack(y0.V)[None], later])
    clock = jax.lax.stop_gradient(solver.last_valid(limit, layout, final, grid))
    after, known = _ends(entries, clock, grid[::every], layout, limit.ceiling)
    # 0 with an infinite derivative: the largest number twice. By the mask, not a constant, which XLA would square to
    # infinity, and 0 · ∞ would reach those who do not use these entries.
    largest = jnp.where(after, jnp.finfo(V0.dtype).max, 1)
    sensitivity = _zero_that_depends_on((limit, V0)) * largest * largest
    return _matrices(jnp.where(after, known + sensitivity, entries), m)


def _zero_that_depends_on(numbers: Any) -> Float[Array, ""]:
    finite = [jnp.where(jnp.isfinite(x), x, 0) for x in jax.tree.leaves(numbers)]
    total = jnp.sum(jnp.stack([jnp.sum(x) for x in finite]))
    return total - jax.lax.stop_gradient(total)


def _ends(
    entries: Float[Array, "times entries paths"],
    clock: Float[Array, " paths"],
    tau: Float[Array, " times"],
    layout: AbstractLayout,
    ceiling: Any,
) -> tuple[Bool[Array, "times 1 paths"], Float[Array, "1 entries paths"]]:
    """Which times are after a path's end, and what it holds there: NaN, +∞ for variances that ended it.

    The same as `covsde.run.outcome.limit_chunk`, which writes reports too.
    """
    slack = 1e-5
    # Variances are watched at every step, covariances here: a path ends at its last save without a NaN.
    clean = jnp.all(~jnp.isnan(entries), axis=1) | (tau[:, None] > clock[None] + slack)
    last_clean = tau[jnp.maximum(jnp.argmin(clean, axis=0) - 1, 0)]
    clock = jnp.where(jnp.all(clean, axis=0), clock, jnp.minimum(clock, last_clean))
    stopped = clock < 1 - slack
    nearest = tau[jnp.argmin(jnp.abs(tau[:, None] - clock[None]), axis=0)]
    clock = jnp.where(jnp.abs(nearest - clock) < slack, nearest, clock)
    after = stopped[None] & (tau[:, None] > clock[None])
    diagonal = jnp.asarray([i == j for i, j in layout.tree()])[:, None]
    blown = diagonal & (jnp.isposinf(entries[-1]) | (entries[-1] > ceiling)) & jnp.isfinite(ceiling)
    known = jnp.where(blown, jnp.inf, jnp.nan).astype(entries.dtype)
    return after[:, None, :], known[None]


def _matrices(entries: Float[Array, "times entries paths"], m: int) -> Float[Array, "times paths m m"]:
    """Symmetric matrices from their lower triangles."""
    low, high = np.minimum(*np.indices((m, m))), np.maximum(*np.indices((m, m)))
    return jnp.moveaxis(entries[:, high * (high + 1) // 2 + low], -1, 1)


def _with_differentiable_loops(solver: Any) -> Any:
    """Runge–Kutta methods loop over their stages; only this kind of loop has derivatives in both directions."""

    def bounded(part: Any) -> Any:
        if isinstance(part, diffrax.AbstractRungeKutta) and part.scan_kind is None:
            return eqx.tree_at(lambda s: s.scan_kind, part, "bounded", is_leaf=lambda x: x is None)
        return part

    return jax.tree.map(bounded, solver, is_leaf=lambda x: isinstance(x, diffrax.AbstractRungeKutta))
