"""Solvable scaling laws, as covsde.scaling: linear students on random features, and kernel regression on data."""

from covsde.architectures.random_features.architecture import LearnedFeatures as LearnedFeatures
from covsde.architectures.random_features.architecture import RandomFeatures as RandomFeatures
from covsde.architectures.random_features.architecture import UnstableTrainingWarning as UnstableTrainingWarning
from covsde.architectures.random_features.differentiable import losses as losses
from covsde.architectures.random_features.draws import network as network
from covsde.architectures.random_features.draws import train_networks as train_networks
from covsde.architectures.random_features.draws import train_networks_online as train_networks_online
from covsde.architectures.random_features.frontier import TruncatedSpectrumWarning as TruncatedSpectrumWarning
from covsde.architectures.random_features.frontier import frontier as frontier
from covsde.architectures.random_features.learning_rates import optimal_rates as optimal_rates
from covsde.architectures.random_features.online import largest_rate as largest_rate
from covsde.architectures.random_features.online import online as online
from covsde.architectures.random_features.online import online_law as online_law
from covsde.architectures.random_features.pool import Exponents as Exponents
from covsde.architectures.random_features.pool import KernelRegression as KernelRegression
from covsde.architectures.random_features.pool import exponents as exponents
from covsde.architectures.random_features.spectrum import PowerLaw as PowerLaw
from covsde.architectures.random_features.spectrum import Spectrum as Spectrum
from covsde.results.scaling import Frontier as Frontier
from covsde.results.scaling import LossCurves as LossCurves
from covsde.results.scaling import OptimalRates as OptimalRates
from covsde.results.scaling import ScalingLaw as ScalingLaw
