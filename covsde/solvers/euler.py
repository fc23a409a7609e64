"""Plain Euler–Maruyama through Diffrax's own solver: the textbook scheme, kept to show what it costs."""

from typing import Any

import diffrax
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from covsde.covariance.sde import NeuralCovarianceSDE
from covsde.solvers.layout import AbstractLayout, layout_for
from covsde.solvers.terms import CovarianceState, covariance_terms, healthy, refuse_other_equation


class EulerMaruyama(diffrax.Euler):
    """V + b dt' + L dS(t) Lᵀ.

    At coarse steps it leaves the PSD cone: such paths stop and are counted, never repaired.
    """

    def order(self, terms: object) -> int:
        """Weak order."""
        return 1

    def check(self, sde: Any, m: int, longest: float, where: str) -> None:
        """Any step is allowed; the failures are the message."""
        refuse_other_equation(self, sde, NeuralCovarianceSDE)

    def last_valid(
        self, sde: NeuralCovarianceSDE, layout: AbstractLayout, state: CovarianceState, grid: Float[Array, " times"]
    ) -> Float[Array, " paths"]:
        """The clock runs up to the first state that is no covariance; the last valid one is a step earlier."""
        _, psd = layout.cholesky(state.V)
        valid = psd & healthy(layout, state.V, sde.ceiling)
        reached = jnp.searchsorted(grid, state.clock - 1e-6)
        return jnp.where(valid, state.clock, grid[jnp.maximum(reached - 1, 0)])

    def terms(
        self, sde: NeuralCovarianceSDE, m: int, paths: int, key: Array, dtype: jnp.dtype
    ) -> tuple[AbstractLayout, diffrax.MultiTerm]:
        """Layout and `MultiTerm(drift, noise)` driven by an UnsafeBrownianPath."""
        layout = layout_for(m)
        shape = jax.ShapeDtypeStruct((m * (m + 1) // 2, paths), dtype)
        path = diffrax.UnsafeBrownianPath(shape=shape, key=key)
        return layout, covariance_terms(sde, layout, path)
