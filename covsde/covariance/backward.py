"""What solvers need to know of gradients at initialization, run down from the output."""

import abc

import equinox as eqx
from jaxtyping import Array, Float

from covsde.covariance.expansion import Expansion
from covsde.numerics.typing import PathsFirst


class AbstractBackward(eqx.Module):
    """What an activation contributes to the backward equations, per unit of decreasing clock time."""

    @abc.abstractmethod
    def expansion(self) -> Expansion:
        """ψ and κ₃, from which everything else follows; training needs nothing else."""

    @abc.abstractmethod
    def gradient_rate(self, Phi: PathsFirst) -> PathsFirst:
        """κ: G gains κ∘G; exp(h κ) entry by entry is PSD for every h ≥ 0, so it keeps the cone."""

    @abc.abstractmethod
    def overlap_rate(self, Phi: PathsFirst, A: PathsFirst, weights: PathsFirst) -> PathsFirst:
        """B·Φ⁻¹A + C(Φ)A, with weights = Φ⁻¹A, (paths, m, m) over (a, b)."""

    @abc.abstractmethod
    def overlap_covariance(self, Phi: PathsFirst) -> Float[Array, "paths m m m m"] | None:
        """M_{ab,cd} over (paths, a, b, c, d), or None where A moves by drift alone."""
