"""Infinite depth-and-width limits of neural networks, checked against finite networks."""

from covsde.activations import AbstractActivation as AbstractActivation
from covsde.activations import Identity as Identity
from covsde.activations import LeakyReLU as LeakyReLU
from covsde.activations import ShapedReLU as ShapedReLU
from covsde.activations import ShapedSmooth as ShapedSmooth
from covsde.architectures import MLP as MLP
from covsde.attention import Attention as Attention
from covsde.compare import Comparison as Comparison
from covsde.compare import compare as compare
from covsde.compare import convergence_rate as convergence_rate
from covsde.compare import extrapolate as extrapolate
from covsde.ensemble import Ensemble as Ensemble
from covsde.ensemble import Estimate as Estimate
from covsde.inputs import gram as gram
from covsde.limits.attention_ode import BlockMap as BlockMap
from covsde.limits.attention_ode import ResidualAttention as ResidualAttention
from covsde.limits.attention_ode import drift_flow as drift_flow
from covsde.limits.attention_ode import uniform_attention as uniform_attention
from covsde.simulate import sample_networks as sample_networks
from covsde.simulate import simulate as simulate
from covsde.solvers import EulerMaruyama as EulerMaruyama
from covsde.solvers import Strang as Strang
from covsde.solvers import WishartStep as WishartStep
from covsde.solvers.transformer import TransformerStrang as TransformerStrang
from covsde.status import FailedPathsWarning as FailedPathsWarning
from covsde.status import PathStatus as PathStatus
from covsde.transformer import Transformer as Transformer

__version__ = "0.1.0"
