"""The stable face for people who add an architecture, an activation or a block of their own.

What is here keeps its name and meaning; the modules behind it may change.
"""

from covsde.activations import AbstractActivation as AbstractActivation
from covsde.architectures.base import AbstractArchitecture as AbstractArchitecture
from covsde.architectures.base import AbstractTrainable as AbstractTrainable
from covsde.architectures.base import AbstractWithGradients as AbstractWithGradients
from covsde.architectures.base import AbstractWithKernels as AbstractWithKernels
from covsde.architectures.base import AbstractWithVelocities as AbstractWithVelocities
from covsde.architectures.base import InitialKernels as InitialKernels
from covsde.architectures.base import default_step_count as default_step_count
from covsde.architectures.mlp.gradients import backward_of as backward_of
from covsde.architectures.mlp.velocities import velocities_of as velocities_of
from covsde.architectures.resnet.blocks import AbstractBlock as AbstractBlock
from covsde.architectures.resnet.kernels import BlockKernels as BlockKernels
from covsde.architectures.resnet.kernels import block_kernels as block_kernels
from covsde.covariance.backward import AbstractBackward as AbstractBackward
from covsde.covariance.clock import AbstractClock as AbstractClock
from covsde.covariance.clock import TabulatedClock as TabulatedClock
from covsde.covariance.clock import UniformClock as UniformClock
from covsde.covariance.drifts import AbstractDrift as AbstractDrift
from covsde.covariance.drifts import Affine as Affine
from covsde.covariance.drifts import ReLUDrift as ReLUDrift
from covsde.covariance.drifts import SmoothDrift as SmoothDrift
from covsde.covariance.drifts import drift_of as drift_of
from covsde.covariance.expansion import AbstractEvenPart as AbstractEvenPart
from covsde.covariance.expansion import Expansion as Expansion
from covsde.covariance.expansion import Modulus as Modulus
from covsde.covariance.expansion import Quadratic as Quadratic
from covsde.covariance.limit import AbstractCovarianceLimit as AbstractCovarianceLimit
from covsde.covariance.limit import AbstractFlow as AbstractFlow
from covsde.covariance.limit import AbstractLimit as AbstractLimit
from covsde.covariance.sde import NeuralCovarianceSDE as NeuralCovarianceSDE
from covsde.covariance.velocities import AbstractVelocities as AbstractVelocities
from covsde.covariance.velocities import VelocityLimit as VelocityLimit
from covsde.descent.task import Sizes as Sizes
from covsde.descent.task import Task as Task
from covsde.moments.of_activation import AbstractMoments as AbstractMoments
from covsde.moments.of_activation import moments_of as moments_of
from covsde.solvers.defaults import default_solver as default_solver
from covsde.solvers.defaults import default_steps as default_steps
