"""The covariance SDE as Diffrax terms, and the state its solvers evolve."""

from typing import NamedTuple

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from covsde.covariance.clock import Time
from covsde.covariance.limit import AbstractCovarianceLimit
from covsde.covariance.sde import NeuralCovarianceSDE
from covsde.solvers.layout import AbstractLayout, State


class CovarianceState(NamedTuple):
    """An ensemble at one layer time.

    Attributes:
        V: covariances, in the form of the layout.
        clock: (paths,) layer time each path has been alive; it stands still once a path has stopped.
    """

    V: State
    clock: Float[Array, " paths"]


class Elapsed(NamedTuple):
    """The length of a step in layer time and on the two clocks of the equation."""

    layer: Float[Array, ""]
    drift: Float[Array, ""]
    noise: Float[Array, ""]


def refuse_other_equation(solver: object, sde: AbstractCovarianceLimit, kind: type) -> None:
    """Refuse an equation that a solver was not made for."""
    if not isinstance(sde, kind):
        raise ValueError(
            f"solver={type(solver).__name__}() steps {kind.__name__}, not {type(sde).__name__}: leave solver out for "
            "the architecture's own."
        )


def running(state: CovarianceState, t: Time) -> Bool[Array, " paths"]:
    """Paths that had not stopped before layer time t."""
    return state.clock > t - 1e-5


def healthy(layout: AbstractLayout, V: State, ceiling: Float[Array, ""] | float) -> Bool[Array, " paths"]:
    """Paths whose variances are finite and below the ceiling; NaN elsewhere shows at the next Cholesky factor."""
    # A comparison with NaN is false, and infinity is above the largest number.
    return layout.every([(v >= 0) & (v <= jnp.minimum(ceiling, jnp.finfo(v.dtype).max)) for v in layout.diagonal(V)])


class CovarianceTerm(diffrax.AbstractTerm):
    """The whole SDE as one term, for solvers that compose flows instead of adding increments.

    Such schemes need more than Brownian increments, so each step is handed a PRNG key of its own.
    """

    sde: AbstractCovarianceLimit
    layout: AbstractLayout
    key: Array

    def vf(self, t: Time, y: CovarianceState, args: object) -> tuple[AbstractCovarianceLimit, AbstractLayout, Array]:
        """The equation, the layout and the key of the step that starts at t: flows are taken by the solver."""
        bits = jax.lax.bitcast_convert_type(jnp.asarray(t, jnp.float32), jnp.uint32)
        return self.sde, self.layout, jax.random.fold_in(self.key, bits)

    def contr(self, t0: Time, t1: Time, **_: object) -> Elapsed:
        """The length of the step."""
        drift, noise = self.sde.drift_clock.elapsed(t0, t1), self.sde.noise_clock.elapsed(t0, t1)
        return Elapsed(jnp.asarray(t1 - t0), drift, noise)

    def prod(self, vf: object, control: object) -> CovarianceState:
        """Not defined: there is no increment to add."""
        raise NotImplementedError(
            "CovarianceTerm is stepped by solvers that compose flows; for others use covariance_terms."
        )


class _Fluctuation(diffrax.AbstractTerm):
    """L dS(t) Lᵀ, driven by a packed Brownian path of m(m+1)/2 independent components."""

    sde: NeuralCovarianceSDE
    layout: AbstractLayout
    path: diffrax.AbstractPath

    def vf(self, t: Time, y: CovarianceState, args: object) -> tuple[State, Array]:
        """The Cholesky factor, and which paths move."""
        L, psd = self.layout.cholesky(y.V)
        return L, running(y, t) & psd & healthy(self.layout, y.V, self.sde.ceiling)

    def contr(self, t0: Time, t1: Time, **_: object) -> Float[Array, "entries paths"]:
        """dB over the noise clock, one row per entry."""
        increments = self.path.evaluate(t0, t1)
        return increments * jnp.sqrt(self.sde.noise_clock.elapsed(t0, t1) / jnp.asarray(t1 - t0))

    def prod(self, vf: tuple[State, Array], control: Float[Array, "entries paths"]) -> CovarianceState:
        """L dS Lᵀ with variance 2 on the diagonal of S and 1 off it."""
        L, moving = vf
        diagonal = jnp.asarray([2.0**0.5 if i == j else 1.0 for i, j in self.layout.tree()], control.dtype)
        S = self.layout.unstack(control * diagonal[:, None])
        change = self.layout.sandwich(L, S)
        return CovarianceState(
            self.layout.select(moving, change, jax.tree.map(jnp.zeros_like, change)),
            jnp.zeros(moving.shape, control.dtype),
        )


class _Drift(eqx.Module):
    """The drift as a vector field. A module, not a closure, so that JAX sees the numbers it depends on."""

    sde: NeuralCovarianceSDE
    layout: AbstractLayout

    def __call__(self, t: Time, y: CovarianceState, args: object) -> CovarianceState:
        _, psd = self.layout.cholesky(y.V)
        moving = running(y, t) & psd & healthy(self.layout, y.V, self.sde.ceiling)
        drift = self.sde.drift
        rate = self.layout.map(lambda v: drift.rate(v, v, v), drift.rate, y.V)
        change = jax.tree.map(lambda b: self.sde.drift_clock.rate(t) * b, rate)
        still = jax.tree.map(jnp.zeros_like, change)
        return CovarianceState(self.layout.select(moving, change, still), moving.astype(y.clock.dtype))


def covariance_terms(sde: NeuralCovarianceSDE, layout: AbstractLayout, path: diffrax.AbstractPath) -> diffrax.MultiTerm:
    """The SDE as `MultiTerm(drift, noise)` for any Itô solver of Diffrax, e.g. `diffrax.Euler()`.

    Args:
        sde: the equation.
        layout: memory layout, from `layout_for(m)`.
        path: Brownian path whose increments have shape (m(m+1)/2, paths).

    Returns:
        Terms on `CovarianceState`; paths that lose PSD or explode stand still and their clock stops.
    """

    return diffrax.MultiTerm(diffrax.ODETerm(_Drift(sde, layout)), _Fluctuation(sde, layout, path))
