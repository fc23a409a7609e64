"""What the ensemble driver and the solvers need to know of any limit that evolves a covariance matrix."""

import abc

import equinox as eqx
from jaxtyping import Array, Float

from covsde.covariance.clock import AbstractClock


class AbstractLimit(eqx.Module):
    """An equation for the covariance in layer time τ ∈ [0, 1].

    Attributes:
        ceiling: a variance above this counts as exploded; +∞ where explosion is impossible.
    """

    ceiling: eqx.AbstractVar[Float[Array, ""] | float]

    @property
    @abc.abstractmethod
    def deterministic(self) -> bool:
        """Whether there is no noise, so that one path is the whole law."""


class AbstractCovarianceLimit(AbstractLimit):
    """A stochastic equation for the covariance.

    Attributes:
        noise_clock: t(τ), the clock of the noise that width alone removes.
        drift_clock: t'(τ), the clock of everything else.
    """

    noise_clock: eqx.AbstractVar[AbstractClock]
    drift_clock: eqx.AbstractVar[AbstractClock]

    @property
    @abc.abstractmethod
    def may_explode(self) -> bool:
        """Whether an equation of this kind can send variances to infinity in finite time."""


class AbstractFlow(AbstractLimit):
    """A deterministic equation ∂_τ V = rate(V), whose rate is PSD where V is."""

    @abc.abstractmethod
    def rate(self, V: Float[Array, "m m"]) -> Float[Array, "m m"]:
        """∂_τ V."""

    @property
    def deterministic(self) -> bool:
        """True."""
        return True


class AbstractLayerMap(AbstractLimit):
    """A deterministic map from one of so many layers to the next, layer ℓ at τ = ℓ/layers.

    Attributes:
        layers: how many.
    """

    layers: eqx.AbstractVar[int]

    @abc.abstractmethod
    def layer(self, V: Float[Array, "m m"]) -> Float[Array, "m m"]:
        """The covariance after one more layer."""

    @property
    def deterministic(self) -> bool:
        """True."""
        return True
