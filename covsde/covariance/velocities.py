"""What solvers need to know of velocities at initialization, run up a stored forward and backward pass."""

import abc
from typing import NamedTuple

import equinox as eqx
from jaxtyping import Array, Float

from covsde.covariance.backward import AbstractBackward
from covsde.covariance.sde import NeuralCovarianceSDE
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


class VelocityLimit(NamedTuple):
    """The three passes of velocities at initialization: up for features, down for gradients, up for velocities.

    Attributes:
        forward: the equation of Φ.
        backward: the equations of gradients along its paths.
        velocities: the equations of velocities along both.
    """

    forward: NeuralCovarianceSDE
    backward: AbstractBackward
    velocities: AbstractVelocities
