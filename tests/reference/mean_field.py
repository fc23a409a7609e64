"""Trained mean-field networks of fixed depth solved exactly, by quadrature or by other programs.

Targets are of the inputs that come first, the last one of `K3` is only tested; the loss is half the squared error,
averaged over the trained inputs, and every layer learns at the rate η₀ γ₀² N. Updates run from 0.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

K3 = ((1.0, 0.4, 0.6), (0.4, 1.0, -0.2), (0.6, -0.2, 1.0))
PAIR = ((1.0, 0.3), (0.3, 1.0))
NONE = float("nan")

# Linear networks of one input, K = 1.3, y = 0.8, γ₀ = 0.7, η₀ = 0.2: f(1), … and ⟨h^L(1)²⟩ by depth L.
LINEAR = {
    1: ((0.416, 0.62049921, 0.71915004, 0.76442834), 1.32119936),
    2: ((0.624, 0.77224886, 0.79671291), 1.4059968),
    3: ((0.832, 0.79349698, 0.80119501), 1.59679104),
    4: ((1.04, 0.65798056, 0.84224054), 1.9359808),
}
# The same with backward matrices of their own.
LINEAR_WITHOUT_RESPONSES = {2: (0.416, 0.63025236, 0.73320036), 4: (0.416, 0.65045921, 0.75962136)}
# N Var f(0 … 4) and N (E f - f_∞) of the first and of L = 3, k = y = γ₀ = 1, η₀ = 0.15.
LINEAR_VARIANCE = (2.65306122, 0.82656026, 0.33035206, 0.11496490, 0.03454270)
LINEAR_SHIFT = (0, -0.10816, -0.44756898, -0.49967967, -0.3948217)
DEEP_OUTPUTS = (0, 0.6, 0.91767413, 1.00223908, 0.99979532)
DEEP_VARIANCE = (1, 1.65518125, 0.880143508, 0.00860912457, 1.04706542e-4)
DEEP_SHIFT = (0, -0.42975, -2.63735701, -1.47897951, 0.06625437)
# Two inputs and a test, L = 3, γ₀ = 1.2, η₀ = 0.12.
THREE = (
    (1, (0.1728, -0.072, 0.1776)),
    (2, (0.32363875, -0.14945633, 0.34027992)),
    (5, (0.73928366, -0.43334224, 0.82545652)),
)
THREE_VARIANCE = (0.69444444, 0.52307241, 0.67205245, 0.87384825, 0.95704756, 0.81055509)
THREE_VARIANCE_OF_TEST = (0.69444444, 0.73711208, 1.07197697, 1.52819179, 1.90774315, 1.99131321)
# Two layers, one input of size 1 and target 1, by quadrature: f(1 … 5) and N Var f(0 … 5).
TWO_LAYERS = {
    "tanh": (
        (1.0, 0.5),
        (0.4010210353, 0.6142789202, 0.7509974539, 0.8404599784, 0.8985375186),
        (0.394294490, 0.258481108, 0.178061535, 0.108992291, 0.060347810, 0.031145532),
    ),
    "erf": (
        (1.5, 0.4),
        (0.3640585934, 0.5620414145, 0.7008734505, 0.7986546297, 0.8660348592),
        (0.206470691, 0.165251560, 0.122785613, 0.079713728, 0.046399331, 0.025122591),
    ),
}
# Θ of L = 3 on `PAIR`, diagonal and off, and Φ³.
LAZY = {
    "relu": ((0.5, 0.175504216), (0.125, 0.084477607)),
    "tanh": ((0.735720934, 0.180951828), (0.166656354, 0.044947186)),
}


@dataclass(frozen=True)
class Trained:
    """A nonlinear network, trained by other programs.

    Attributes:
        activation: φ.
        depth: hidden layers.
        settings: for `train`.
        outputs: (update, values of one output or of two of the three inputs).
        errors: standard errors, of each row.
    """

    activation: str
    depth: int
    settings: dict[str, Any]
    outputs: tuple[tuple[int, Any], ...]
    errors: tuple[Any, ...]


TANH = Trained(
    "tanh",
    2,
    {"targets": [1.0, -0.7, NONE], "batches": [0, 1], "updates": 5, "learning_rate": 1.0},
    ((1, (0.2740, -0.1390, 0.2398)), (3, (0.6416, -0.4712, 0.5920)), (5, (0.8675, -0.6571, 0.8032))),
    ((0.0006, 0.0004, 0.0004), (0.0007, 0.0007, 0.0007), (0.0005, 0.0004, 0.0006)),
)
# Heavy ball of momentum 1/2, decay η₀λ₀ = 0.05, one input per update.
RELU = Trained(
    "relu",
    3,
    {
        "targets": [[1, -0.5], [-0.7, 0.4], [NONE, NONE]],
        "batches": [[0], [1]] * 3,
        "updates": 6,
        "richness": 1.5,
    },
    ((6, ((0.1209, -0.0584), (-0.0114, 0.0068), (0.0883, -0.0422))),),
    (((0.0016, 0.0009), (0.0003, 0.0003), (0.0013, 0.0006)),),
)
# N Var f(0 … 5) of `TANH` not centred, by influences, with standard errors: input 0 and the test.
TANH_VARIANCE = (
    ((0.2313, 0.2200, 0.2826, 0.2661, 0.1619, 0.0749), (0.0030, 0.0043, 0.0016, 0.0023, 0.0030, 0.0023)),
    ((0.2359, 0.2711, 0.3704, 0.3603, 0.2628, 0.1831), (0.0078, 0.0062, 0.0071, 0.0094, 0.0097, 0.0083)),
)


def two_layer_law(width: int, updates: int, draws: int, seed: int) -> np.ndarray:
    """f (updates + 1, draws) of linear networks of one hidden layer: K = 1.3, y = 0.8, γ₀ = 0.7, η₀ = 0.2.

    p± ← p± (1 ± η₀γ₀r(y - f))² from independent χ²_N/N, f = r (p₊ - p₋)/2γ₀, r = √K: exact at every width.
    """
    r, gamma, eta, y = 1.3**0.5, 0.7, 0.2, 0.8
    plus, minus = np.random.default_rng(seed).chisquare(width, (2, draws)) / width
    f = [r * (plus - minus) / (2 * gamma)]
    for _ in range(updates):
        step = eta * gamma * r * (y - f[-1])
        plus, minus = plus * (1 + step) ** 2, minus * (1 - step) ** 2
        f.append(r * (plus - minus) / (2 * gamma))
    return np.stack(f)
