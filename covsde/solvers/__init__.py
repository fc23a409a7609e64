"""Diffrax solvers and terms that keep a covariance matrix in the PSD cone; the only place that knows memory layouts."""

from covsde.solvers.chunk import solve as solve
from covsde.solvers.cone import Strang as Strang
from covsde.solvers.cone import WishartStep as WishartStep
from covsde.solvers.euler import EulerMaruyama as EulerMaruyama
from covsde.solvers.flow import LayerByLayer as LayerByLayer
from covsde.solvers.flow import RungeKutta as RungeKutta
from covsde.solvers.noise import AbstractTriangularNoise as AbstractTriangularNoise
from covsde.solvers.terms import covariance_terms as covariance_terms
from covsde.solvers.two_inputs import AngleEuler as AngleEuler
from covsde.solvers.two_inputs import CorrelationEuler as CorrelationEuler
from covsde.solvers.two_inputs import LampertiEuler as LampertiEuler
from covsde.solvers.two_inputs import refuse_zero_input as refuse_zero_input
