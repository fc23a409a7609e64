"""Exactly solved cases for the law of one output on one input of unit variance: densities and the atom at 0."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from covsde import Identity, LeakyReLU
from covsde.activations import AbstractActivation

POINTS = (0.25, 0.5, 1.0, 2.0)


@dataclass(frozen=True)
class OutputProblem:
    """One output of a network.

    Attributes:
        slug: its name.
        activation: of every layer.
        widths: of the hidden layers; empty for the limit.
        depth_to_width: clock time of the limit; 0 at finite width.
        density: at `POINTS`, without the atom.
        atom: probability that the output is exactly 0.
        kurtosis: E f⁴/(E f²)².
        tolerance: half a unit of the last digit given.
        source: where the values come from.
    """

    slug: str
    activation: AbstractActivation
    widths: tuple[int, ...]
    depth_to_width: float
    density: Sequence[float]
    atom: float
    kurtosis: float
    tolerance: float = 6e-11
    source: str = "Meijer G functions, arXiv 2104.11734 and 2106.06615"


FINITE = (
    OutputProblem(
        "linear-3",
        Identity(),
        (3,),
        0.0,
        (0.4735381588, 0.3637957115, 0.1913091097, 0.04429279955),
        0.0,
        3 * (1 + 2 / 3),
    ),
    OutputProblem(
        "linear-3-4",
        Identity(),
        (3, 4),
        0.0,
        (0.5207435345, 0.3555102174, 0.1639045186, 0.03811471201),
        0.0,
        3 * (1 + 2 / 3) * (1 + 2 / 4),
    ),
    OutputProblem(
        "linear-5-5-5",
        Identity(),
        (5, 5, 5),
        0.0,
        (0.5284863448, 0.3613059605, 0.1629182484, 0.03683194337),
        0.0,
        3 * (1 + 2 / 5) ** 3,
    ),
    OutputProblem(
        "relu-3",
        LeakyReLU(0.0),
        (3,),
        0.0,
        (0.411536435, 0.2736355379, 0.1374531138, 0.0388977838),
        0.125,
        3 * (1 + 5 / 3),
    ),
    OutputProblem(
        "relu-3-4",
        LeakyReLU(0.0),
        (3, 4),
        0.0,
        (0.3941860881, 0.2225760829, 0.09747044784, 0.02807342967),
        0.1796875,
        3 * (1 + 5 / 3) * (1 + 5 / 4),
    ),
)

LIMIT = tuple(
    OutputProblem(
        f"limit-T{T:g}", Identity(), (), T, density, 0.0, 3 * math.exp(2 * T), 2e-10, "log-normal mixture of Gaussians"
    )
    for T, density in (
        (0.5, (0.5111559714, 0.3796633209, 0.1766767739, 0.0369747798)),
        (1.0, (0.5893738757, 0.3479891881, 0.1322306020, 0.0284523284)),
    )
)
