"""Trained ResNets solved exactly or by other programs: outputs before each update and after the last.

The loss is half the squared error, averaged over the inputs; input layer and readout are frozen unless said otherwise.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

import covsde as cs

ONE = ((1.0,),)
PAIR = ((1.0, 0.5), (0.5, 1.0))


@dataclass(frozen=True)
class TrainingProblem:
    """One training run of the limit of infinite width.

    Attributes:
        slug: its name.
        architecture: the network.
        V0: Gram matrix of the inputs.
        targets: y.
        settings: for `train`: learning_rate, depth, richness, ….
        outputs: f(t) for t = 0 … updates, each with one number per input.
        errors: standard errors of the outputs; 0: exact to `digits`.
        stream: ⟨h²⟩ at τ = 1 for the first input, where known.
        digits: absolute accuracy of exact values.
        source: where the values come from.
    """

    slug: str
    architecture: cs.ResNet
    V0: tuple[tuple[float, ...], ...]
    targets: tuple[float, ...]
    settings: Mapping[str, Any]
    outputs: tuple[Any, ...]
    errors: tuple[Any, ...] | float = 0.0
    stream: tuple[float, ...] = ()
    digits: float = 1e-7
    source: str = "recursion of coefficients"


LINEAR = cs.ResNet("linear")
TANH = cs.ResNet(jnp.tanh, 1.5)
RELU = cs.ResNet(jax.nn.relu, 1.5)


def _linear(slug: str, outputs: Any, depth: int = 16, rate: float = 0.5, **more: Any) -> TrainingProblem:
    settings = {"learning_rate": rate, "depth": depth, **more.pop("settings", {})}
    V0, y = more.pop("V0", ONE), more.pop("targets", (1.0,))
    return TrainingProblem(slug, LINEAR, V0, y, settings, outputs, **more)


_BOTH = {"train_input": True, "train_readout": True}
_ANTI: dict[str, Any] = {"depth": 8, "V0": PAIR, "targets": (1.0, -1.0), "digits": 6e-6}

EXACT = (
    _linear(
        "response",
        (0, 1.24137812, 0.83338433, 1.05452422, 0.97181704),
        stream=(2.6379285, 5.03127462, 3.23680124, 4.098027, 3.74827126),
    ),
    _linear(
        "no-response",
        (0, 0.81896425, 1.03258629, 0.9878774, 1.00401844),
        settings={"response": False},
    ),
    _linear("gentle", (0, 0.496551, 0.776689, 0.921523, 0.977084), rate=0.2, digits=6e-7),
    _linear("lazy", (0, 0.248276, 0.434911, 0.57521, 0.680677), rate=0.1, settings={"richness": 0.01}, digits=1e-5),
    _linear("two", (0, 0.08553, 0.16495, 0.24053), rate=0.15, **_ANTI),
    _linear("two-trained-ends", (0, 0.27796, 0.51293, 0.72502), rate=0.15, settings=_BOTH, **_ANTI),
    _linear("two-fast", (0, 0.28509, 0.5212, 0.73011), rate=0.5, **_ANTI),
    _linear("two-fast-trained-ends", (0, 0.92653, 1.07923, 0.89909), rate=0.5, settings=_BOTH, **_ANTI),
)

# Infinite depth, η_0 = 0.2 and 0.5: second-order extrapolation of depths 32, 64, 128.
INFINITE = {
    0.2: ((0, 0.54365, 0.83227, 0.9596, 0.99298), (2.71828, 3.21084, 4.09922, 4.61277, 4.75926)),
    0.5: ((0, 1.35913, 0.67492, 1.05749, 0.96725), (2.71828, 5.79677, 2.5568, 4.0139, 3.6058)),
}
# L (f_L - f_∞) at η_0 = 0.2.
SLOPE_OF_THE_DEPTH_ERROR = (-0.807, -0.928, -0.574, -0.193)


def first_step(rate: float, y: float, beta: float, richness: float, H0: float) -> tuple[float, float, float]:
    """f and ⟨h(1)²⟩ after one step of a linear network of infinite depth, and f without responses."""
    a, kappa = beta**2, rate * richness * y * H0
    square = H0 * math.exp(a) + 2 * a**2 * kappa**2 * math.exp(2 * a) * (0.5 + a / 3)
    return rate * y * a * math.exp(a) * H0, square, rate * y * H0 * math.expm1(a)


def first_step_at(depth: int, rate: float, y: float, beta: float, H0: float) -> float:
    """f after one step at finite depth: η_0 K_L y."""
    return rate * y * beta**2 * H0 * (1 + beta**2 / depth) ** (depth - 1)


_ONE: dict[str, Any] = {"V0": ONE, "targets": (1.0,)}
_TWO: dict[str, Any] = {"V0": PAIR, "targets": (1.0, -0.5)}
_PARTICLES = "8·10⁴ particles, regression on stored sources"
_NETWORKS = "24 networks of width 1024"

SAMPLED = (
    TrainingProblem(
        "tanh",
        TANH,
        settings={"learning_rate": 0.3, "depth": 16},
        outputs=(0, 0.4462, 0.6665, 0.7954, 0.8738),
        errors=(0, 0.0063, 0.0053, 0.0041, 0.0030),
        source=_PARTICLES,
        **_ONE,
    ),
    TrainingProblem(
        "tanh-networks",
        TANH,
        settings={"learning_rate": 0.3, "depth": 16},
        outputs=(0, 0.4463, 0.6678, 0.7963, 0.8741),
        errors=(0, 0.0055, 0.0059, 0.0052, 0.0041),
        source=_NETWORKS,
        **_ONE,
    ),
    TrainingProblem(
        "relu",
        RELU,
        settings={"learning_rate": 0.3, "depth": 16},
        outputs=(0, 0.881, 1.037, 0.984, 1.006),
        errors=(0, 0.013, 0.004, 0.002, 0.001),
        source=_PARTICLES,
        **_ONE,
    ),
    TrainingProblem(
        "relu-networks",
        RELU,
        settings={"learning_rate": 0.3, "depth": 16},
        outputs=(0, 0.905, 1.019, 0.992, 1.003),
        errors=(0, 0.018, 0.005, 0.002, 0.001),
        source=_NETWORKS,
        **_ONE,
    ),
    TrainingProblem(
        "tanh-two",
        TANH,
        settings={"learning_rate": 1.0, "depth": 12},
        outputs=((0, 0), (0.5625, -0.0695), (0.7257, -0.306), (0.8663, -0.4059)),
        errors=0.0055,
        source=_PARTICLES,
        **_TWO,
    ),
)

# Without responses; the values have no stated error, about that of the entries above.
DECOUPLED = (
    TrainingProblem(
        "tanh-no-response",
        TANH,
        settings={"learning_rate": 0.3, "depth": 16, "response": False},
        outputs=(0, 0.304, 0.511, 0.658, 0.762),
        errors=0.005,
        source=_PARTICLES,
        **_ONE,
    ),
    TrainingProblem(
        "tanh-two-no-response",
        TANH,
        settings={"learning_rate": 1.0, "depth": 12, "response": False},
        outputs=((0, 0), (0.382, -0.027), (0.584, -0.163), (0.737, -0.298)),
        errors=0.005,
        source=_PARTICLES,
        **_TWO,
    ),
)

# Blocks of two matrices, one input, y = 1: infinite depth (a program of other authors), and 24 blocks.
TWO_MATRIX_LINEAR = (0, 0.2, 0.37084, 0.52728, 0.66905, 0.78872), (1, 1.04, 1.17087, 1.36461, 1.59792, 1.83581)
TWO_MATRIX_TANH = (0, 0.2486, 0.4218, 0.5534, 0.6560, 0.7362), (1, 1.062, 1.202, 1.359, 1.509, 1.643)
