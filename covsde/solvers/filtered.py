"""Paths steered to data: a particle filter in layer time, in one compiled scan."""

from collections.abc import Callable
from typing import Any, NamedTuple

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from covsde.covariance.limit import AbstractLimit
from covsde.solvers.terms import CovarianceState

LogPotential = Callable[[Float[Array, "paths m m"], Float[Array, ""]], Float[Array, " paths"]]


class Filtered(NamedTuple):
    """What a filter leaves.

    Attributes:
        entries: lower triangles (m(m+1)/2, paths) of the last covariances.
        log_weights: (paths,) of the last covariances, -∞ for paths that stopped.
        log_evidence: logarithm of an unbiased estimate of E F.
        family: (paths,) the particle that each path descends from, of those after the first stage.
        sizes: (stages,) effective number of particles before resampling.
        stopped: number of particles that stopped, at any stage.
    """

    entries: Float[Array, "entries paths"]
    log_weights: Float[Array, " paths"]
    log_evidence: Float[Array, ""]
    family: Int[Array, " paths"]
    sizes: Float[Array, " stages"]
    stopped: Int[Array, ""]


class _Particles(NamedTuple):
    V: Float[Array, "entries paths"]
    clock: Float[Array, " paths"]
    log_potential: Float[Array, " paths"]
    log_weights: Float[Array, " paths"]
    log_evidence: Float[Array, ""]
    family: Int[Array, " paths"]
    stopped: Int[Array, ""]


@eqx.filter_jit
def filtered(
    sde: AbstractLimit,
    solver: Any,
    V0: Float[Array, "m m"],
    key: Array,
    times: Float[Array, "stages ends"],
    log_potential: LogPotential,
    *,
    paths: int,
) -> Filtered:
    """Particles that start at V0, diffuse from stage to stage, and are weighed and resampled in between.

    At a stage each particle is weighed by the growth of its potential; where weights have become uneven (an effective
    number below half the particles) they are resampled systematically. A particle that stops has weight 0.

    Args:
        sde: the equation, with arrays of V0's dtype as leaves.
        solver: one of `covsde.solvers` made for this equation.
        V0: initial covariance (m, m).
        key: JAX key.
        times: layer times of the steps of each stage, both ends included.
        log_potential: of covariances (paths, m, m) at a layer time; at 1 it is log F.
        paths: number of particles.

    Returns:
        A Filtered.
    """
    m = V0.shape[0]
    noise, draws = jax.random.split(key)
    layout, terms = solver.terms(sde, m, paths, noise, V0.dtype)
    rows, columns = jnp.tril_indices(m)

    def potential(entries: Array, tau: Array) -> Array:
        V = jnp.zeros((paths, m, m), V0.dtype).at[:, rows, columns].set(entries.T)
        return log_potential(V.at[:, columns, rows].set(entries.T), tau)

    def stage(old: _Particles, now: tuple[Array, Array, Array]) -> tuple[_Particles, Array]:
        grid, uniform, last = now
        state = _diffused(terms, solver, CovarianceState(layout.unstack(old.V), old.clock), grid)
        entries = layout.stack(state.V)
        running = (state.clock > grid[-1] - 1e-5) & jnp.all(jnp.isfinite(entries), axis=0)
        found = potential(jnp.where(running, entries, old.V), grid[-1])
        good = running & jnp.isfinite(found)
        weighed = _Particles(
            V=jnp.where(good, entries, old.V),
            clock=state.clock,
            log_potential=jnp.where(good, found, old.log_potential),
            log_weights=old.log_weights + jnp.where(good, found - old.log_potential, -jnp.inf),
            log_evidence=old.log_evidence,
            family=old.family,
            stopped=old.stopped + jnp.sum(~good & jnp.isfinite(old.log_weights)),
        )
        return _resampled(weighed, uniform, last)

    start = layout.stack(layout.constant(V0, paths))
    first = potential(start, times[0, 0])
    particles = _Particles(
        V=start,
        clock=jnp.full(paths, times[0, 0]),
        log_potential=first,
        log_weights=jnp.zeros(paths, V0.dtype),
        log_evidence=first[0],
        family=jnp.arange(paths),
        stopped=jnp.asarray(0),
    )
    stages = times.shape[0]
    uniforms = jax.random.uniform(draws, (stages,), V0.dtype)
    end, sizes = jax.lax.scan(stage, particles, (times, uniforms, jnp.arange(stages) == stages - 1))
    return Filtered(end.V, end.log_weights, end.log_evidence, end.family, sizes, end.stopped)


def _diffused(terms: Any, solver: Any, state: CovarianceState, grid: Float[Array, " ends"]) -> CovarianceState:
    solution = diffrax.diffeqsolve(
        terms,
        solver,
        t0=grid[0],
        t1=grid[-1],
        dt0=None,
        y0=state,
        stepsize_controller=diffrax.StepTo(ts=grid),
        saveat=diffrax.SaveAt(t1=True),
        adjoint=diffrax.ForwardMode(),
        max_steps=grid.shape[0] - 1,
    )
    return jax.tree.map(lambda y: y[0], solution.ys)


def _resampled(old: _Particles, uniform: Array, last: Array) -> tuple[_Particles, Array]:
    """Systematic resampling where it is due, and the effective number of particles before it."""
    paths, least = old.log_weights.shape[0], jnp.finfo(old.log_weights.dtype).tiny
    top = jnp.max(old.log_weights)
    w = jnp.exp(old.log_weights - jnp.where(jnp.isfinite(top), top, 0.0))
    total = jnp.maximum(jnp.sum(w), least)
    size = total**2 / jnp.maximum(jnp.sum(w * w), least)
    due = (size < 0.5 * paths) & ~last
    places = (jnp.arange(paths, dtype=w.dtype) + uniform) / paths
    drawn = jnp.clip(jnp.searchsorted(jnp.cumsum(w / total), places), 0, paths - 1)
    itself = jnp.arange(paths)
    ancestor = jnp.where(due, drawn.astype(itself.dtype), itself)
    particles = _Particles(
        V=old.V[:, ancestor],
        clock=old.clock[ancestor],
        log_potential=old.log_potential[ancestor],
        log_weights=jnp.where(due, 0.0, old.log_weights),
        log_evidence=old.log_evidence + jnp.where(due | last, top + jnp.log(total / paths), 0.0),
        family=old.family[ancestor],
        stopped=old.stopped,
    )
    return particles, size
