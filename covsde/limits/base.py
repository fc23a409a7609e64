"""What the ensemble driver needs from any limit."""

import abc

import equinox as eqx
from jaxtyping import Array, Float


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
