"""Steps that cannot leave the PSD cone, as Diffrax solvers."""

import abc
from collections.abc import Callable
from typing import Any, ClassVar

import diffrax
import jax.numpy as jnp
from jaxtyping import Array, Float

from covsde.covariance.limit import AbstractCovarianceLimit
from covsde.covariance.sde import NeuralCovarianceSDE
from covsde.solvers.layout import AbstractLayout, State, layout_for
from covsde.solvers.noise import Bartlett, SymmetricTriangular, refuse_long_noise, smallest_wishart_steps
from covsde.solvers.terms import CovarianceState, CovarianceTerm, Elapsed, healthy, refuse_other_equation, running


class AbstractConeSolver(diffrax.AbstractItoSolver):
    """A Diffrax solver whose step is a map of the PSD cone into itself."""

    term_structure: ClassVar = CovarianceTerm
    interpolation_cls: ClassVar[Callable[..., diffrax.LocalLinearInterpolation]] = diffrax.LocalLinearInterpolation

    @abc.abstractmethod
    def advance(self, sde: Any, layout: AbstractLayout, V: State, key: Array, h: Elapsed) -> tuple[State, Array]:
        """V after a step, and which paths were PSD at the Cholesky factorisation."""

    @abc.abstractmethod
    def check(self, sde: Any, m: int, longest: float, where: str) -> None:
        """Refuse steps (the longest is `longest` in layer time) too long for the scheme's guarantee."""

    def last_valid(
        self, sde: AbstractCovarianceLimit, layout: AbstractLayout, state: CovarianceState, grid: Float[Array, " times"]
    ) -> Float[Array, " paths"]:
        """Layer time of the last state that is a covariance: the clock only counts steps that succeeded."""
        return state.clock

    def terms(
        self, sde: AbstractCovarianceLimit, m: int, paths: int, key: Array, dtype: jnp.dtype
    ) -> tuple[AbstractLayout, CovarianceTerm]:
        """Layout and terms for this solver."""
        layout = layout_for(m)
        return layout, CovarianceTerm(sde, layout, key)

    def init(self, terms: Any, t0: Any, t1: Any, y0: Any, args: Any) -> None:
        """No state between steps."""
        return

    def step(
        self, terms: Any, t0: Any, t1: Any, y0: Any, args: Any, solver_state: None, made_jump: Any
    ) -> tuple[Any, None, Any, None, Any]:
        """One step; the clock of a path that fails stops."""
        sde, layout, key = terms.vf(t0, y0, args)
        elapsed = terms.contr(t0, t1)
        V, psd = self.advance(sde, layout, y0.V, key, elapsed)
        alive = running(y0, t0)
        good = alive & psd & healthy(layout, V, sde.ceiling)

        # A path that explodes is remembered by its variances: +∞ where they blew up, otherwise NaN if the entries were
        # not numbers, or the last values if the matrix was not PSD. Its other entries are never read again.
        def variance(new: Array, old: Array) -> Array:
            unknown = jnp.where(psd, jnp.nan, old)
            stopping = jnp.where((new > sde.ceiling) | jnp.isposinf(new), jnp.inf, unknown)
            return jnp.where(good, new, jnp.where(alive, stopping, old))

        # Where explosion is impossible there is nothing to remember, and the clock says enough.
        if sde.may_explode:
            pairs = zip(layout.diagonal(V), layout.diagonal(y0.V), strict=True)
            V = layout.with_diagonal(V, [variance(new, old) for new, old in pairs])
        y1 = CovarianceState(V, y0.clock + jnp.where(good, elapsed.layer, 0))
        return y1, None, {"y0": y0, "y1": y1}, None, diffrax.RESULTS.successful

    def func(self, terms: Any, t0: Any, y0: Any, args: Any) -> Any:
        """The equation at (t0, y0)."""
        return terms.vf(t0, y0, args)


class Strang(AbstractConeSolver):
    """Half a step of drift, a step of noise, half a step of drift: weak order 2, always PSD. The default.

    The drift flow is the limit's own; the noise is the triangular factor of `SymmetricTriangular`.
    """

    def order(self, terms: Any) -> int:
        """Weak order."""
        return 2

    def strong_order(self, terms: Any) -> float:
        """Not a strong scheme: paths do not follow a prescribed Brownian motion."""
        return 0.5

    def advance(
        self, sde: NeuralCovarianceSDE, layout: AbstractLayout, V: State, key: Array, h: Elapsed
    ) -> tuple[State, Array]:
        """drift(h/2) ∘ noise(h) ∘ drift(h/2)."""
        V = self._drift(sde, layout, V, h.drift / 2)
        halfway = layout.diagonal(V)
        L, psd = layout.cholesky(V)
        T = SymmetricTriangular().factor(layout, key, h.noise, halfway[0].shape[-1])
        V = self._drift(sde, layout, layout.gram(layout.product(L, T)), h.drift / 2)
        if not sde.may_explode:
            return V, psd
        # A variance that the first half-step sent to infinity has no root, but it stays infinite.
        infinite = [jnp.isposinf(v) for v in halfway]
        V = layout.with_diagonal(
            V, [jnp.where(i, jnp.inf, v) for i, v in zip(infinite, layout.diagonal(V), strict=True)]
        )
        return V, psd | layout.some(infinite)

    def _drift(self, sde: NeuralCovarianceSDE, layout: AbstractLayout, V: State, h: Float[Array, ""]) -> State:
        return layout.map(
            lambda v: sde.drift.variance_flow(v, h),
            lambda vi, vj, vij: sde.drift.covariance_flow(vi, vj, vij, h),
            V,
        )

    def check(self, sde: Any, m: int, longest: float, where: str) -> None:
        """The half-step must not exceed the drift's longest PSD step, nor the step that of the noise."""
        refuse_other_equation(self, sde, NeuralCovarianceSDE)
        clock, allowed = sde.drift_clock.fastest(), sde.drift.longest_step()
        if clock * longest / 2 > allowed * (1 + 1e-9):
            need = clock / (2 * allowed)
            raise ValueError(
                f"{where} is too few for this drift: the PSD guarantee of Strang needs steps >= {need:.0f}."
            )
        refuse_long_noise(sde.noise_clock.fastest() * longest, m, longest, where)


class WishartStep(AbstractConeSolver):
    """A first-order drift step, then a linear layer of width 1/h: weak order 1, always PSD, exact for b = 0, h = 1/n.

    Source: the finite network itself; Bartlett's decomposition of the Wishart distribution.
    """

    def order(self, terms: Any) -> int:
        """Weak order."""
        return 1

    def strong_order(self, terms: Any) -> float:
        """Not a strong scheme."""
        return 0.5

    def advance(
        self, sde: NeuralCovarianceSDE, layout: AbstractLayout, V: State, key: Array, h: Elapsed
    ) -> tuple[State, Array]:
        """noise(h) ∘ Euler drift(h)."""
        paths = layout.diagonal(V)[0].shape[-1]
        drift, dt = sde.drift, h.drift
        V = layout.map(lambda v: drift.euler(v, v, v, dt), lambda vi, vj, vij: drift.euler(vi, vj, vij, dt), V)
        L, psd = layout.cholesky(V)
        return layout.gram(layout.product(L, Bartlett().factor(layout, key, h.noise, paths))), psd

    def check(self, sde: Any, m: int, longest: float, where: str) -> None:
        """The width 1/h must exceed m - 1, and h κ ≤ 4."""
        refuse_other_equation(self, sde, NeuralCovarianceSDE)
        drift, noise, allowed = sde.drift_clock.fastest(), sde.noise_clock.fastest(), sde.drift.longest_step()
        need = max(smallest_wishart_steps(noise, m), drift / allowed)
        if noise * longest * (m - 1) >= 1 or drift * longest > allowed * (1 + 1e-9):
            raise ValueError(
                f"{where} is too few: WishartStep is a layer of width steps/T, which must exceed m - 1 = {m - 1} and "
                f"keep the drift in the cone; use steps >= {need:.0f}."
            )
