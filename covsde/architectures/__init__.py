"""Architectures, one folder per family: hyperparameters with two faces, a limit and a finite network."""

from covsde.architectures.base import AbstractArchitecture as AbstractArchitecture
from covsde.architectures.base import AbstractTrainable as AbstractTrainable
from covsde.architectures.base import AbstractWithGradients as AbstractWithGradients
from covsde.architectures.base import default_step_count as default_step_count
