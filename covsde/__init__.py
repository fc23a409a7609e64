"""Infinite depth-and-width limits of neural networks, checked against finite networks."""

from covsde.activations import AbstractActivation as AbstractActivation
from covsde.activations import Identity as Identity
from covsde.activations import LeakyReLU as LeakyReLU
from covsde.activations import ShapedReLU as ShapedReLU
from covsde.activations import ShapedSmooth as ShapedSmooth
from covsde.architectures import MLP as MLP
from covsde.bayes import EffectiveSampleSizeWarning as EffectiveSampleSizeWarning
from covsde.bayes import FirstOrderPosterior as FirstOrderPosterior
from covsde.bayes import Posterior as Posterior
from covsde.bayes import first_order_posterior as first_order_posterior
from covsde.bayes import posterior as posterior
from covsde.compare import Comparison as Comparison
from covsde.compare import compare as compare
from covsde.compare import convergence_rate as convergence_rate
from covsde.compare import extrapolate as extrapolate
from covsde.ensemble import Ensemble as Ensemble
from covsde.ensemble import Estimate as Estimate
from covsde.inputs import gram as gram
from covsde.output_densities import limit_kurtosis as limit_kurtosis
from covsde.output_densities import limit_output_density as limit_output_density
from covsde.output_densities import meijer_output_density as meijer_output_density
from covsde.output_densities import network_kurtosis as network_kurtosis
from covsde.output_densities import network_output_density as network_output_density
from covsde.output_densities import output_atom as output_atom
from covsde.outputs import OutputLaw as OutputLaw
from covsde.simulate import sample_networks as sample_networks
from covsde.simulate import simulate as simulate
from covsde.solvers import EulerMaruyama as EulerMaruyama
from covsde.solvers import Strang as Strang
from covsde.solvers import WishartStep as WishartStep
from covsde.status import FailedPathsWarning as FailedPathsWarning
from covsde.status import PathStatus as PathStatus
from covsde.unshaped import first_order_chain as first_order_chain
from covsde.unshaped import sample_unshaped_networks as sample_unshaped_networks
from covsde.unshaped import simulate_unshaped as simulate_unshaped
from covsde.unshaped_ensemble import UnshapedEnsemble as UnshapedEnsemble

__version__ = "0.1.0"
