"""Two inputs in coordinates of their own: Euler steps of the correlation, the angle, or y = log tan(θ/2).

The state stays a covariance; a step reads off log V¹¹, log V²² and the coordinate, moves them together and goes back.
Their noises have covariance [[2, 2ρ², ρs], [2ρ², 2, ρs], [ρs, ρs, s²]] dt with s the coordinate's own, up to sign.
"""

import abc
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from covsde.covariance.correlation import correlation_drift
from covsde.covariance.sde import NeuralCovarianceSDE
from covsde.solvers.cone import AbstractConeSolver
from covsde.solvers.layout import AbstractLayout, State, standard_normals
from covsde.solvers.terms import Elapsed, refuse_other_equation


class AbstractTwoInputEuler(AbstractConeSolver):
    """An Euler step of (log V¹¹, log V²², one coordinate of the correlation): weak order 1, m = 2 only."""

    def order(self, terms: object) -> int:
        """Weak order."""
        return 1

    def strong_order(self, terms: object) -> float:
        """Euler's; the increments of a step come from its own key."""
        return 0.5

    @abc.abstractmethod
    def move(
        self, rho: Float[Array, " paths"], nu: Float[Array, " paths"], dW: Float[Array, " paths"], h: Elapsed
    ) -> tuple[Float[Array, " paths"], Array]:
        """The new correlation from ν and the increment that drives dρ = … + (1-ρ²) dW, and where it is one."""

    def check(self, sde: Any, m: int, longest: float, where: str) -> None:
        """Two inputs of an MLP."""
        refuse_other_equation(self, sde, NeuralCovarianceSDE)
        if m != 2:
            raise ValueError(f"solver={type(self).__name__}() is for two inputs, got m={m}: use Strang().")

    def advance(
        self, sde: NeuralCovarianceSDE, layout: AbstractLayout, V: State, key: Array, h: Elapsed
    ) -> tuple[State, Array]:
        """One Euler step in the solver's coordinate and in the log-variances."""
        entries = layout.stack(V)
        v1, v12, v2 = entries[0], entries[1], entries[2]
        rho = jnp.clip(v12 / (jnp.sqrt(v1) * jnp.sqrt(v2)), -1, 1)
        g = standard_normals(key, 3, rho.shape[0], rho.dtype) * jnp.sqrt(h.noise)
        r2 = rho * rho
        # Cov(log V¹¹, log V²²) = 2ρ² dt, and either has covariance ρ dt with the unit noise g[0] of artanh ρ.
        shared = r2 / jnp.sqrt(2 - r2)
        own = jnp.sqrt(4 * (1 - r2) / (2 - r2))
        u1 = rho * g[0] + jnp.sqrt(2 - r2) * g[1]
        u2 = rho * g[0] + shared * g[1] + own * g[2]
        rate = sde.drift.rate
        v1_new = v1 * jnp.exp(u1 - h.noise + h.drift * rate(v1, v1, v1) / v1)
        v2_new = v2 * jnp.exp(u2 - h.noise + h.drift * rate(v2, v2, v2) / v2)
        rho_new, valid = self.move(rho, correlation_drift(sde.drift, v1, v2, v12), g[0], h)
        covariance = rho_new * jnp.sqrt(v1_new) * jnp.sqrt(v2_new)
        return layout.from_entries({(0, 0): v1_new, (1, 0): covariance, (1, 1): v2_new}), valid


def refuse_zero_input(solver: object, V0: Float[np.ndarray, "m m"]) -> None:
    """Refuse an input without a direction for solvers in the coordinates of two."""
    zero = np.diagonal(V0) == 0
    if isinstance(solver, AbstractTwoInputEuler) and np.any(zero):
        raise ValueError(
            f"solver={type(solver).__name__}() is for inputs that are not zero, and input {int(np.argmax(zero))} is: "
            "use Strang()."
        )


class CorrelationEuler(AbstractTwoInputEuler):
    """dρ = [ν - ½ρ(1-ρ²)] dt + (1-ρ²) dB; a path that leaves [-1, 1] is counted as lost."""

    def move(
        self, rho: Float[Array, " paths"], nu: Float[Array, " paths"], dW: Float[Array, " paths"], h: Elapsed
    ) -> tuple[Float[Array, " paths"], Array]:
        """In ρ itself."""
        room = 1 - rho * rho
        new = rho + nu * h.drift - rho * room * h.noise / 2 + room * dW
        return new, jnp.abs(new) <= 1


class AngleEuler(AbstractTwoInputEuler):
    """dθ = -ν/sin θ dt + sin θ dB; a path that leaves [0, π] is counted as lost."""

    def move(
        self, rho: Float[Array, " paths"], nu: Float[Array, " paths"], dW: Float[Array, " paths"], h: Elapsed
    ) -> tuple[Float[Array, " paths"], Array]:
        """In θ = arccos ρ."""
        sine = jnp.sqrt((1 - rho) * (1 + rho))
        theta = jnp.arctan2(sine, rho)
        pull = jnp.where(sine > 0, nu / jnp.where(sine > 0, sine, 1), 0)
        new = theta - pull * h.drift - sine * dW
        return jnp.cos(new), (new >= 0) & (new <= jnp.pi)


class LampertiEuler(AbstractTwoInputEuler):
    """dy = [-ν/(1-ρ²) - ½ρ] dt + dB in y = log tan(θ/2) = -artanh ρ: unit noise, and every y is a correlation."""

    def move(
        self, rho: Float[Array, " paths"], nu: Float[Array, " paths"], dW: Float[Array, " paths"], h: Elapsed
    ) -> tuple[Float[Array, " paths"], Array]:
        """In -y = artanh ρ; ρ = ±1 stays."""
        room = (1 - rho) * (1 + rho)
        inside = room > 0
        step = jnp.where(inside, nu / jnp.where(inside, room, 1), 0) * h.drift + rho * h.noise / 2 + dW
        # tanh(artanh ρ + s) by the addition theorem keeps correlations next to ±1.
        tangent = jnp.tanh(step)
        return jnp.clip((rho + tangent) / (1 + rho * tangent), -1, 1), jnp.ones(rho.shape, bool)
