"""Deterministic limits: an explicit Runge–Kutta method of Diffrax, watched for explosion."""

from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import diffrax
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from covsde.covariance.clock import Time
from covsde.covariance.limit import AbstractFlow, AbstractLayerMap, AbstractLimit
from covsde.solvers.layout import AbstractLayout, DenseLayout
from covsde.solvers.terms import CovarianceState, healthy, running


class Flow(NamedTuple):
    """A deterministic limit, and how its state lies in memory."""

    ode: AbstractLimit
    layout: AbstractLayout


def _accepted(flow: Flow, y0: CovarianceState, H: Float[Array, "m m"], t0: Time, length: Array) -> CovarianceState:
    """The state of the one path after a step to H; once it has failed its clock stands still."""
    ode, layout = flow
    _, psd = layout.cholesky((H[None],))
    alive = running(y0, t0)
    good = alive & psd & healthy(layout, (H[None],), ode.ceiling)
    (variances,) = layout.diagonal((H[None],))
    (before,) = layout.diagonal(y0.V)
    # What stopped the path is remembered: +∞ where a variance blew up.
    unknown = jnp.where(psd, jnp.nan, before)
    blown = (variances > ode.ceiling) | ~jnp.isfinite(variances)
    stopping = jnp.where(blown & jnp.isfinite(ode.ceiling), jnp.inf, unknown)
    kept = [jnp.where(good, variances, jnp.where(alive, stopping, before))]
    V = layout.with_diagonal((jnp.where(good[:, None, None], H[None], y0.V[0]),), kept)
    return CovarianceState(V, y0.clock + jnp.where(good, length, 0))


class FlowTerm(diffrax.AbstractTerm):
    """A deterministic limit as one term, for `RungeKutta` and `LayerByLayer`."""

    flow: Flow

    def vf(self, t: Time, y: CovarianceState, args: object) -> Flow:
        """The equation: it is autonomous."""
        return self.flow

    def contr(self, t0: Time, t1: Time, **_: object) -> Array:
        """The length of the step."""
        return jnp.asarray(t1 - t0)

    def prod(self, vf: object, control: object) -> CovarianceState:
        """Not defined: the solver evaluates the equation itself."""
        raise NotImplementedError("FlowTerm is stepped by RungeKutta; for other solvers use diffrax.ODETerm.")


class RungeKutta(diffrax.AbstractSolver):
    """Steps of an explicit Runge–Kutta method on a deterministic limit, in which exploding variances stop the path.

    The default has non-negative coefficients: as ∂_τ H is PSD wherever H is, every stage and every step adds PSD
    matrices to H and cannot leave the cone, however long the step.

    Attributes:
        method: an explicit Runge–Kutta solver of Diffrax; default Bosh3(), of order 3.
    """

    method: diffrax.AbstractERK = diffrax.Bosh3()
    term_structure: ClassVar = FlowTerm
    interpolation_cls: ClassVar[Callable[..., diffrax.LocalLinearInterpolation]] = diffrax.LocalLinearInterpolation

    def order(self, terms: Any) -> int | None:
        """Order of the method."""
        return self.method.order(terms)

    def check(self, ode: Any, m: int, longest: float, where: str) -> None:
        """Any step of a deterministic limit is allowed."""
        if not isinstance(ode, AbstractFlow):
            raise ValueError(
                f"solver={type(self).__name__}() steps deterministic limits, not {type(ode).__name__}: leave "
                "solver out for the architecture's own."
            )

    def last_valid(
        self, ode: AbstractFlow, layout: AbstractLayout, state: CovarianceState, grid: Float[Array, " times"]
    ) -> Float[Array, " paths"]:
        """The clock only counts steps that succeeded."""
        return state.clock

    def terms(
        self, ode: AbstractFlow, m: int, paths: int, key: Array, dtype: jnp.dtype
    ) -> tuple[AbstractLayout, FlowTerm]:
        """Layout and term; the key is not used."""
        layout = DenseLayout(m)
        return layout, FlowTerm(Flow(ode, layout))

    def init(self, terms: Any, t0: Any, t1: Any, y0: Any, args: Any) -> None:
        """No state between steps."""
        return

    def step(
        self, terms: Any, t0: Any, t1: Any, y0: Any, args: Any, solver_state: None, made_jump: Any
    ) -> tuple[Any, None, Any, None, Any]:
        """One step of the one path."""
        ode, layout = terms.vf(t0, y0, args)
        term = diffrax.ODETerm(lambda t, H, args: ode.rate(H))
        H = y0.V[0][0]
        inner = self.method.init(term, t0, t1, H, args)
        H, *_ = self.method.step(term, t0, t1, H, args, inner, made_jump)
        y1 = _accepted(Flow(ode, layout), y0, H, t0, terms.contr(t0, t1))
        return y1, None, {"y0": y0, "y1": y1}, None, diffrax.RESULTS.successful

    def func(self, terms: Any, t0: Any, y0: Any, args: Any) -> Any:
        """The equation at (t0, y0)."""
        return terms.vf(t0, y0, args)


class LayerByLayer(diffrax.AbstractSolver):
    """A deterministic map from layer to layer; a step is all layers between two saved ones."""

    term_structure: ClassVar = FlowTerm
    interpolation_cls: ClassVar[Callable[..., diffrax.LocalLinearInterpolation]] = diffrax.LocalLinearInterpolation

    def order(self, terms: Any) -> int:
        """Of no consequence: the map is exact."""
        return 1

    def check(self, ode: Any, m: int, longest: float, where: str) -> None:
        """Only maps have layers."""
        if not isinstance(ode, AbstractLayerMap):
            raise ValueError(
                f"solver={type(self).__name__}() is for limits of fixed depth, not {type(ode).__name__}: leave solver "
                "out for the architecture's own."
            )

    def last_valid(
        self, ode: AbstractLayerMap, layout: AbstractLayout, state: CovarianceState, grid: Float[Array, " times"]
    ) -> Float[Array, " paths"]:
        """The clock only counts steps that succeeded."""
        return state.clock

    def terms(
        self, ode: AbstractLayerMap, m: int, paths: int, key: Array, dtype: jnp.dtype
    ) -> tuple[AbstractLayout, FlowTerm]:
        """Layout and term; the key is not used."""
        layout = DenseLayout(m)
        return layout, FlowTerm(Flow(ode, layout))

    def init(self, terms: Any, t0: Any, t1: Any, y0: Any, args: Any) -> None:
        """No state between steps."""
        return

    def step(
        self, terms: Any, t0: Any, t1: Any, y0: Any, args: Any, solver_state: None, made_jump: Any
    ) -> tuple[Any, None, Any, None, Any]:
        """The layers between t0 and t1."""
        ode, layout = terms.vf(t0, y0, args)
        count = jnp.round((t1 - t0) * ode.layers).astype(int)
        H = jax.lax.while_loop(lambda s: s[0] > 0, lambda s: (s[0] - 1, ode.layer(s[1])), (count, y0.V[0][0]))[1]
        y1 = _accepted(Flow(ode, layout), y0, H, t0, terms.contr(t0, t1))
        return y1, None, {"y0": y0, "y1": y1}, None, diffrax.RESULTS.successful

    def func(self, terms: Any, t0: Any, y0: Any, args: Any) -> Any:
        """The map at (t0, y0)."""
        return terms.vf(t0, y0, args)
