"""The neural covariance SDE."""

from covsde.covariance.clock import AbstractClock, UniformClock
from covsde.covariance.drifts import AbstractDrift
from covsde.covariance.limit import AbstractCovarianceLimit
from covsde.numerics.typing import Number


class NeuralCovarianceSDE(AbstractCovarianceLimit):
    """dV = b(V) dt' + L dS(t) Lᵀ on layer time τ ∈ [0, 1].

    Attributes:
        drift: b, per unit of clock time.
        noise_clock: t(τ), which is T τ for equal widths.
        drift_clock: t'(τ), the same unless layers of unequal widths are shaped by a common width.
        ceiling: a variance above this counts as exploded.
    """

    drift: AbstractDrift
    noise_clock: AbstractClock
    drift_clock: AbstractClock
    ceiling: Number

    @property
    def deterministic(self) -> bool:
        """False."""
        return False

    @property
    def may_explode(self) -> bool:
        """The drift's."""
        return self.drift.may_explode

    @classmethod
    def uniform(cls, drift: AbstractDrift, T: Number) -> "NeuralCovarianceSDE":
        """Equal widths: both clocks are T τ."""
        clock = UniformClock(T)
        return cls(drift=drift, noise_clock=clock, drift_clock=clock, ceiling=drift.ceiling())
