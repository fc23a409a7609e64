"""Diffrax solvers and terms that keep a covariance matrix in the PSD cone; the only place that knows memory layouts."""

from covsde.solvers.ensemble import solve as solve
from covsde.solvers.euler import EulerMaruyama as EulerMaruyama
from covsde.solvers.factors import AbstractTriangularNoise as AbstractTriangularNoise
from covsde.solvers.ode import RungeKutta as RungeKutta
from covsde.solvers.steps import Strang as Strang
from covsde.solvers.steps import WishartStep as WishartStep
from covsde.solvers.terms import covariance_terms as covariance_terms
from covsde.solvers.two_inputs import AngleEuler as AngleEuler
from covsde.solvers.two_inputs import CorrelationEuler as CorrelationEuler
from covsde.solvers.two_inputs import LampertiEuler as LampertiEuler
