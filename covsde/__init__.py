"""Infinite depth-and-width limits of neural networks, checked against finite networks."""

from covsde.activations import AbstractActivation as AbstractActivation
from covsde.activations import Identity as Identity
from covsde.activations import LeakyReLU as LeakyReLU
from covsde.activations import ShapedReLU as ShapedReLU
from covsde.activations import ShapedSmooth as ShapedSmooth
from covsde.architectures import MLP as MLP
from covsde.blocks import PostActivation as PostActivation
from covsde.blocks import PreActivation as PreActivation
from covsde.blocks import TwoMatrix as TwoMatrix
from covsde.compare import Comparison as Comparison
from covsde.compare import compare as compare
from covsde.compare import convergence_rate as convergence_rate
from covsde.compare import extrapolate as extrapolate
from covsde.ensemble import Ensemble as Ensemble
from covsde.ensemble import Estimate as Estimate
from covsde.finite_width import Streams as Streams
from covsde.finite_width import ornstein_uhlenbeck_activation as ornstein_uhlenbeck_activation
from covsde.finite_width import simulate_streams as simulate_streams
from covsde.inputs import gram as gram
from covsde.kernels import Kernels as Kernels
from covsde.kernels import kernels as kernels
from covsde.lazy import LazyTraining as LazyTraining
from covsde.lazy import lazy_training as lazy_training
from covsde.resnet import ResNet as ResNet
from covsde.resnet import matching_mlp as matching_mlp
from covsde.simulate import sample_networks as sample_networks
from covsde.simulate import simulate as simulate
from covsde.solvers import EulerMaruyama as EulerMaruyama
from covsde.solvers import RungeKutta as RungeKutta
from covsde.solvers import Strang as Strang
from covsde.solvers import WishartStep as WishartStep
from covsde.status import FailedPathsWarning as FailedPathsWarning
from covsde.status import PathStatus as PathStatus

__version__ = "0.1.0"
