"""What the solvers and the ensemble driver need to know of any limit that evolves a covariance matrix."""

import abc

import equinox as eqx
from jaxtyping import Array, Float

from covsde.limits.clock import AbstractClock


class AbstractCovarianceLimit(eqx.Module):
    """An equation for V on layer time τ ∈ [0, 1].

    Attributes:
        noise_clock: t(τ), the clock of the noise that width alone removes.
        drift_clock: t'(τ), the clock of everything else.
        ceiling: a variance above this counts as exploded; +∞ where explosion is impossible.
    """

    noise_clock: eqx.AbstractVar[AbstractClock]
    drift_clock: eqx.AbstractVar[AbstractClock]
    ceiling: eqx.AbstractVar[Float[Array, ""] | float]

    @property
    @abc.abstractmethod
    def may_explode(self) -> bool:
        """Whether an equation of this kind can send variances to infinity in finite time."""
