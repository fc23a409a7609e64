"""What solvers need to know of velocities at initialization, run up a stored forward and backward pass."""

import abc

import equinox as eqx
from jaxtyping import Array, Float

from covsde.numerics.typing import PathsFirst

Vectors = Float[Array, "paths m"]
Scalars = Float[Array, " paths"]


class AbstractVelocities(eqx.Module):
    """Rates per unit of clock time, of R, of the regression K of velocities on features, and of the rest C."""

    @abc.abstractmethod
    def push(self, forces: Vectors, Phi: PathsFirst, G: Scalars) -> Vectors:
        """dR/dt, given Δ = -∂loss/∂f."""

    @abc.abstractmethod
    def known(self, r: Vectors, dual: Vectors, G: Scalars) -> tuple[PathsFirst, PathsFirst]:
        """What ∂f/∂h carries upward, of dK/dt and of dC/dt, given r = R - K f and dual = Φ⁻¹f."""

    @abc.abstractmethod
    def lost(self, rank: Scalars) -> Scalars:
        """The number of directions in which a layer puts nothing new, given the rank of Φ."""
