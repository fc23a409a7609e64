"""Exactly solved cases: architectures and input Grams for which a statistic is known in closed form or to all digits.

Each `Problem` fixes an architecture, a clock time, an input Gram matrix and exact values of named statistics. Where a
closed formula exists the values come from it and are checked against digits computed independently beside it.

Statistics by name: "log" and "var log" of V_11; "V^q" for E V_11^q; "V11V22" and "V12^2" for second moments; "logdet"
and "var logdet" of the determinant; "rho", "rho^2", "angle" for means over one pair of inputs.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import digamma, gammainc, gammaln, polygamma

from covsde import MLP, Identity, LeakyReLU, ShapedReLU, ShapedSmooth
from covsde.activations import AbstractActivation

PAPER = "arXiv 2206.02768"


@dataclass(frozen=True)
class Problem:
    """One exactly solved case.

    Attributes:
        slug: its name.
        activation: the activation of every layer.
        depth_to_width: clock time T (limits) or depth / width (finite networks).
        V0: input Gram matrix, as nested tuples.
        exact: statistic name -> exact value.
        width: width of the finite network the values belong to; None for the limit.
        tags: some of `TAGS`.
        source: where the values come from.
    """

    slug: str
    activation: AbstractActivation
    depth_to_width: float
    V0: tuple[tuple[float, ...], ...]
    exact: Mapping[str, float]
    width: int | None = None
    tags: frozenset[str] = field(default_factory=frozenset)
    source: str = PAPER

    @property
    def architecture(self) -> MLP:
        return MLP(self.activation, self.depth_to_width)

    @property
    def gram(self) -> np.ndarray:
        return np.asarray(self.V0)

    @property
    def depth(self) -> int:
        assert self.width is not None
        return round(self.depth_to_width * self.width)


ONE = ((1.0,),)
PAIR = ((1.0, 0.3), (0.3, 1.0))
RHO_0 = 0.3


def shaped_relu(kappa: float) -> ShapedReLU:
    """Symmetric slopes 1 ± √κ/(2√n): the choice for which finite networks approach the limit at rate 1/n."""
    return ShapedReLU(math.sqrt(kappa) / 2, -math.sqrt(kappa) / 2)


# --- linear networks: products of Wishart matrices ---------------------------------------------------------------


def log_chi_square_moments(width: int, depth: int) -> tuple[float, float]:
    """Mean and variance of log ∏ χ²_n/n: sums of digamma and trigamma."""
    return depth * float(digamma(width / 2) - math.log(width / 2)), depth * float(polygamma(1, width / 2))


def chi_square_product_moment(width: int, depth: int, q: float) -> float:
    """E (∏ χ²_n/n)^q = ∏ (2/n)^q Γ(n/2 + q)/Γ(n/2)."""
    return math.exp(depth * float(q * math.log(2 / width) + gammaln(width / 2 + q) - gammaln(width / 2)))


def linear_second_moments(up: float, down: float, V0: tuple[tuple[float, ...], ...]) -> dict[str, float]:
    """E V¹¹V²² and E (V¹²)², from the two eigenvalues of their linear recursion: `up` on A, `down` on B."""
    p, x = V0[0][0] * V0[1][1], V0[0][1] ** 2
    A, B = (p + 2 * x) / 3, (p - x) / 3
    return {"V11V22": A * up + 2 * B * down, "V12^2": A * up - B * down}


def log_determinant_moments(width: int, depth: int, V0: tuple[tuple[float, ...], ...]) -> dict[str, float]:
    """det V_d / det V_0 is a product of independent χ²_{n-k}/n, k < m."""
    m = len(V0)
    start = float(np.linalg.slogdet(np.asarray(V0))[1])
    mean = sum(float(digamma((width - k) / 2) - math.log(width / 2)) for k in range(m))
    variance = sum(float(polygamma(1, (width - k) / 2)) for k in range(m))
    return {"logdet": start + depth * mean, "var logdet": depth * variance}


def log_determinant_moments_of_the_limit(T: float, V0: tuple[tuple[float, ...], ...]) -> dict[str, float]:
    """log det V_T ~ N(log det V_0 - m(m+1)T/2, 2mT) without drift."""
    m = len(V0)
    return {
        "logdet": float(np.linalg.slogdet(np.asarray(V0))[1]) - m * (m + 1) / 2 * T,
        "var logdet": 2 * m * T,
    }


def _one_input(width: int, depth: int, *powers: float) -> Problem:
    mean, variance = log_chi_square_moments(width, depth)
    exact = {"log": mean, "var log": variance}
    exact |= {f"V^{q:g}": chi_square_product_moment(width, depth, q) for q in powers}
    return Problem(
        f"linear-one-input-n{width}-d{depth}",
        Identity(),
        depth / width,
        ONE,
        exact,
        width=width,
        tags=frozenset({"finite", "linear", "one input"}),
        source="log of a product of independent χ²_n/n",
    )


LINEAR_ONE_INPUT = (_one_input(10, 5, 2, 0.5), _one_input(100, 100, 2))

LINEAR_SECOND_MOMENTS = (
    Problem(
        "linear-second-moments-limit",
        Identity(),
        0.5,
        PAIR,
        linear_second_moments(math.exp(2 * 0.5), math.exp(-0.5), PAIR),
        tags=frozenset({"limit", "linear", "moment"}),
        source="moment equations of the SDE without drift",
    ),
    Problem(
        "linear-second-moments-n50-d50",
        Identity(),
        1.0,
        PAIR,
        linear_second_moments((1 + 2 / 50) ** 50, (1 - 1 / 50) ** 50, PAIR),
        width=50,
        tags=frozenset({"finite", "linear", "moment"}),
        source="Wishart second moments, layer by layer",
    ),
    Problem(
        "linear-second-moments-n10-d3",
        Identity(),
        0.3,
        PAIR,
        linear_second_moments((1 + 2 / 10) ** 3, (1 - 1 / 10) ** 3, PAIR),
        width=10,
        tags=frozenset({"finite", "linear", "moment"}),
        source="Wishart second moments, layer by layer",
    ),
)

LINEAR_DETERMINANT = (
    Problem(
        "linear-determinant-limit",
        Identity(),
        1.0,
        PAIR,
        log_determinant_moments_of_the_limit(1.0, PAIR),
        tags=frozenset({"limit", "linear"}),
        source="log det of the SDE without drift is a Brownian motion with drift",
    ),
    Problem(
        "linear-determinant-n50-d50",
        Identity(),
        1.0,
        PAIR,
        log_determinant_moments(50, 50, PAIR),
        width=50,
        tags=frozenset({"finite", "linear"}),
        source="Bartlett's decomposition, layer by layer",
    ),
    Problem(
        "linear-determinant-n3-d5",
        Identity(),
        5 / 3,
        PAIR,
        log_determinant_moments(3, 5, PAIR),
        width=3,
        tags=frozenset({"finite", "linear"}),
        source="Bartlett's decomposition, layer by layer",
    ),
)

# The angle between two inputs of a linear network is a martingale: at every width and depth, and in the limit.
LINEAR_ANGLE = tuple(
    Problem(
        f"linear-angle-{name}",
        Identity(),
        T,
        PAIR,
        {"angle": math.acos(RHO_0)},
        width=width,
        tags=frozenset({"linear", "limit" if width is None else "finite"}),
        source="rotation invariance of Gaussian weights",
    )
    for name, width, T in (("n3-d5", 3, 5 / 3), ("n20-d20", 20, 1.0), ("limit", None, 1.0))
)


# --- piecewise linear networks of one input: mixtures over the number of active neurons -----------------------------


def relu_log_moments(width: int, depth: int) -> tuple[float, float]:
    """Mean and variance of log V if no layer died: a layer multiplies V by (2/n) χ²_K, K ~ Bin(n, 1/2) given K > 0."""
    K = np.arange(1, width + 1)
    log_weight = gammaln(width + 1) - gammaln(K + 1) - gammaln(width - K + 1) - width * math.log(2)
    weight = np.exp(log_weight) / -math.expm1(-width * math.log(2))
    mean = digamma(K / 2) + math.log(2) - math.log(width / 2)
    first = float(weight @ mean)
    return depth * first, depth * float(weight @ (polygamma(1, K / 2) + mean**2) - first**2)


def relu_case(width: int, depth: int) -> Problem:
    mean, variance = relu_log_moments(width, depth)
    exact = {
        "log alive": mean,
        "var log alive": variance,
        "P(dead)": -math.expm1(depth * math.log1p(-(2.0**-width))),
        "V^2": (1 + 5 / width) ** depth,
    }
    return Problem(
        f"relu-one-input-n{width}-d{depth}",
        LeakyReLU(0.0),
        depth / width,
        ONE,
        exact,
        width=width,
        tags=frozenset({"finite", "relu", "one input"}),
        source="mixture of χ² over the number of active neurons",
    )


def second_moment_per_layer(activation: AbstractActivation, width: int) -> float:
    """E V'²/V² = 1 + (M - 1)/n with M = (3/2) c² (s₊⁴ + s₋⁴)."""
    plus, minus = activation.slopes(width) if isinstance(activation, ShapedReLU) else (1.0, 0.0)
    return 1 + (6 * (plus**4 + minus**4) / (plus**2 + minus**2) ** 2 - 1) / width


RELU_ONE_INPUT = (
    relu_case(10, 5),
    relu_case(100, 100),
    Problem(
        "shaped-relu-one-input-n150-d150",
        ShapedReLU(0.0, -1.0),
        1.0,
        ONE,
        {"V^2": second_moment_per_layer(ShapedReLU(0.0, -1.0), 150) ** 150},
        width=150,
        tags=frozenset({"finite", "relu", "one input"}),
        source="second moment of one layer",
    ),
)


# --- shaped ReLU: the correlation alone is a diffusion ------------------------------------------------------------

# E ρ, E ρ², E arccos ρ from ρ_0 = 0.3, by Crank–Nicolson for the backward equation of y = log tan(θ/2) on 6001 points
# and 2000 steps; grid refinement leaves the values at T = 1, κ = 4 and 16 unchanged to 1e-6.
_CORRELATION = {
    (0, 0.5): (0.259444, 0.348055, 1.266104),
    (0, 1.0): (0.240711, 0.492880, 1.266103),
    (1, 0.5): (0.308402, 0.345391, 1.208492),
    (1, 1.0): (0.341551, 0.466179, 1.136944),
    (4, 0.5): (0.427301, 0.365995, 1.071589),
    (4, 1.0): (0.538845, 0.496233, 0.900537),
    (16, 0.5): (0.685111, 0.537192, 0.757539),
    (16, 1.0): (0.824187, 0.724114, 0.516938),
}

SHAPED_RELU_CORRELATION = {
    (kappa, T): Problem(
        f"shaped-relu-correlation-kappa{kappa}-T{T:g}",
        shaped_relu(kappa),
        T,
        PAIR,
        dict(zip(("rho", "rho^2", "angle"), values, strict=True)),
        tags=frozenset({"limit", "relu"}),
        source=f"backward equation of the correlation SDE, {PAPER}",
    )
    for (kappa, T), values in _CORRELATION.items()
}


# --- smooth shaping: one input is a stochastic logistic equation ---------------------------------------------------

LOGISTIC_TANH = (
    Problem(
        "tanh-logistic-T1",
        ShapedSmooth(jnp.tanh, a=1.0),
        1.0,
        ONE,
        {"V^1": 0.696241, "V^2": 0.786304, "log": -0.674789},
        tags=frozenset({"limit", "smooth", "one input"}),
        source="backward equation of log V by Crank–Nicolson, unchanged to 1e-6 from 4201 to 16801 points",
    ),
    # Gamma(|β| - 1, rate |β|) = Gamma(1, 2): mean 1/2, E V² = 1/2, E log V = ψ(1) - log 2, Var log V = ψ₁(1).
    Problem(
        "tanh-logistic-stationary",
        ShapedSmooth(jnp.tanh, a=1.0),
        12.0,
        ONE,
        {
            "V^1": 0.5,
            "V^2": 0.5,
            "log": float(digamma(1.0)) - math.log(2.0),
            "var log": float(polygamma(1, 1.0)),
        },
        tags=frozenset({"limit", "smooth", "one input", "stationary"}),
        source="stationary density of the logistic SDE",
    ),
)


def explosion_probability(beta: float, variance: float) -> float:
    """P(explosion) = P(β + 1, βV_0), the regularised incomplete gamma function (Dufresne's perpetuity)."""
    return float(gammainc(beta + 1, beta * variance))


# SiLU has ¾ψ''(0)² + ψ'''(0) = 3/4, so a = √(3/4 / β) gives any β > 0.
EXPLOSION = tuple(
    Problem(
        f"explosion-beta{beta:g}-V{variance:g}",
        ShapedSmooth(jax.nn.silu, a=math.sqrt(0.75 / beta)),
        20.0,
        ((variance,),),
        {"P(explosion)": explosion_probability(beta, variance), "beta": beta},
        tags=frozenset({"limit", "smooth", "one input", "explosion"}),
        source="Dufresne's perpetuity",
    )
    for beta, variance in ((0.75, 1.0), (1.0, 0.5), (2.0, 1.0))
)

# The digits of P(β + 1, βV_0), computed independently, for V_0 = 1/2, 1, 2.
EXPLOSION_DIGITS = {
    3 / 16: (0.0522508949, 0.1132169149, 0.2338680185),
    0.75: (0.0883982004, 0.2373735086, 0.5233354682),
    1.0: (0.0902040104, 0.2642411177, 0.5939941503),
    2.0: (0.0803013971, 0.3233235838, 0.7618966945),
}


# --- unshaped ReLU: w = t/√q is a functional of one Brownian motion -------------------------------------------------


def _unshaped(t: float, quantiles: tuple[float, float, float], log_mean: float, log_variance: float) -> Problem:
    k = math.sqrt(2) / (3 * math.pi)
    names = ("w q5", "w q50", "w q95", "log(q/q0)", "var log(q/q0)", "w")
    values = (*quantiles, log_mean, log_variance, k / 2 * math.expm1(2 * t))
    return Problem(
        f"unshaped-relu-w-t{t:g}",
        LeakyReLU(0.0),
        t,
        PAIR,
        dict(zip(names, values, strict=True)),
        tags=frozenset({"limit", "unshaped"}),
        source="w_t = k ∫₀ᵗ exp(s + √2 B_s) ds, 10⁵ evaluations; E w in closed form",
    )


UNSHAPED_W = (
    _unshaped(0.25, (0.0229, 0.0437, 0.0912), -0.337, 0.707),
    _unshaped(0.5, (0.0406, 0.1021, 0.3054), -0.679, 1.500),
    _unshaped(1.0, (0.0743, 0.2835, 1.495), -1.392, 3.341),
)


# --- moments of a ReLU at two inputs: r = max(·, 0) of standard normals at angle θ ------------------------------------


def q11(theta: Any) -> Any:
    """Q₁₁ = E r(x)r(y)."""
    return (jnp.sin(theta) + (math.pi - theta) * jnp.cos(theta)) / (2 * math.pi)


def q22(theta: Any) -> Any:
    """Q₂₂ = E r(x)²r(y)²."""
    cos = jnp.cos(theta)
    return (3 * jnp.sin(theta) * cos + (math.pi - theta) * (1 + 2 * cos * cos)) / (2 * math.pi)


def q31(theta: Any) -> Any:
    """Q₃₁ = E r(x)³r(y)."""
    quartic = 3 * (math.pi - theta) / 8 + jnp.sin(2 * theta) / 4 - jnp.sin(4 * theta) / 32
    return 4 / math.pi * (jnp.cos(theta) * quartic + jnp.sin(theta) ** 5 / 4)


# --- one layer: the drift itself ----------------------------------------------------------------------------------

DRIFT_GRAM = ((2.0, -0.5), (-0.5, 0.5))


def _drift(name: str, fn: Any, a: float, b11: float, b12: float, b22: float) -> Problem:
    return Problem(
        f"drift-{name}",
        ShapedSmooth(fn, a=a),
        1.0,
        DRIFT_GRAM,
        {"b11": b11, "b12": b12, "b22": b22},
        tags=frozenset({"one layer", "smooth"}),
        source=f"smooth case of {PAPER}",
    )


ONE_LAYER_DRIFT = (
    _drift("tanh", jnp.tanh, 1.0, -4.0, 1 / 4, 1 / 2),
    _drift("silu", jax.nn.silu, 1.5, 2 / 3, 1 / 3, -1 / 12),
    _drift("softplus", jax.nn.softplus, 1.0, 3 / 8, 3 / 16, -3 / 64),
    _drift("expm1", jnp.expm1, 1.0, 7 / 2, 5 / 8, -7 / 16),
)

# (c₊, c₋), and n(c E φ_s φ_s - ρ) at ρ = 0.3 and n = 10⁶.
ONE_LAYER_DRIFT_RELU = (((0.0, -1.0), 0.091464), ((1.0, -1.0), 0.365488), ((0.7, 0.4), 0.008214))


# Oracles as the literature's exactly solved cases are usually listed, and the cases here that belong to each.
GROUPS: dict[str, tuple[Problem, ...]] = {
    "linear network, one input": LINEAR_ONE_INPUT,
    "ReLU network, one input": RELU_ONE_INPUT,
    "linear network, two inputs": LINEAR_SECOND_MOMENTS,
    "determinant": LINEAR_DETERMINANT,
    "angle martingale": LINEAR_ANGLE,
    "shaped-ReLU correlation": tuple(SHAPED_RELU_CORRELATION.values()),
    "explosion probability": EXPLOSION,
    "logistic equation": LOGISTIC_TANH,
    "unshaped ReLU": UNSHAPED_W,
    "drift of one layer": ONE_LAYER_DRIFT,
}
BY_SLUG = {problem.slug: problem for group in GROUPS.values() for problem in group}
# What makes a case what it is; of finite networks or of the limit, but for the drift of one layer.
TAGS = frozenset(
    {"limit", "finite", "one layer"}
    | {"linear", "relu", "smooth", "unshaped"}
    | {"one input", "moment", "stationary", "explosion"}
)

# Digits computed independently of the formulas above, for the formulas to reproduce.
QUOTED_DIGITS = {
    ("linear-one-input-n10-d5", "log"): -0.5166012200,
    ("linear-one-input-n10-d5", "var log"): 1.1066147787,
    ("linear-one-input-n10-d5", "V^2"): 2.48832,
    ("linear-one-input-n10-d5", "V^0.5"): 0.8826786321,
    ("linear-one-input-n100-d100", "log"): -1.0033332000,
    ("linear-one-input-n100-d100", "var log"): 2.0201333227,
    ("linear-one-input-n100-d100", "V^2"): 7.2446461183,
    ("linear-second-moments-limit", "V11V22"): 1.4371527861,
    ("linear-second-moments-limit", "V12^2"): 0.8852098857,
    ("linear-second-moments-n50-d50", "V11V22"): 3.0162250555,
    ("linear-second-moments-n50-d50", "V12^2"): 2.6848306466,
    ("linear-determinant-n50-d50", "logdet"): -3.1384602060,
    ("linear-determinant-n50-d50", "var logdet"): 4.1235652709,
    ("linear-angle-limit", "angle"): 1.2661036728,
    ("relu-one-input-n10-d5", "log alive"): -1.5373050535,
    ("relu-one-input-n10-d5", "var log alive"): 4.3336712651,
    ("relu-one-input-n10-d5", "P(dead)"): 0.0048732851,
    ("relu-one-input-n10-d5", "V^2"): 7.59375,
    ("relu-one-input-n100-d100", "log alive"): -2.5420885623,
    ("relu-one-input-n100-d100", "var log alive"): 5.1939992149,
    ("shaped-relu-one-input-n150-d150", "V^2"): 7.4495800917,
}


# --- statistics ---------------------------------------------------------------------------------------------------


def correlations(V: np.ndarray, i: int = 0, j: int = 1) -> np.ndarray:
    """ρ of every matrix in a batch, in double precision."""
    W = V.astype(np.float64)
    return np.clip(W[..., i, j] / np.sqrt(W[..., i, i]) / np.sqrt(W[..., j, j]), -1, 1)


def samples_of(statistic: str, V: np.ndarray, i: int = 0, j: int = 1) -> np.ndarray:
    """Samples whose mean is the named statistic ("var …" is tested through `variance_z`), for V (paths, m, m)."""
    W = V.astype(np.float64)
    match statistic.removeprefix("var "):
        case "log":
            return np.log(W[:, i, i])
        case "logdet":
            return np.linalg.slogdet(W)[1]
        case "V11V22":
            return W[:, i, i] * W[:, j, j]
        case "V12^2":
            return W[:, i, j] ** 2
        case "rho":
            return correlations(V, i, j)
        case "rho^2":
            return correlations(V, i, j) ** 2
        case "angle":
            return np.arccos(correlations(V, i, j))
        case name if name.startswith("V^"):
            return W[:, i, i] ** float(name[2:])
    raise ValueError(statistic)


def estimate(x: np.ndarray) -> tuple[float, float]:
    """Mean and its standard error."""
    return float(x.mean()), float(x.std(ddof=1) / math.sqrt(x.size))


def variance_estimate(x: np.ndarray) -> tuple[float, float]:
    """Unbiased variance and its standard error from the fourth moment."""
    variance = float(x.var(ddof=1))
    fourth = float(np.mean((x - x.mean()) ** 4))
    return variance, math.sqrt(max(fourth - variance**2, 0.0) / x.size)


def estimate_of(statistic: str, V: np.ndarray, i: int = 0, j: int = 1) -> tuple[float, float]:
    """Estimate of a named statistic of matrices (paths, m, m), and its standard error."""
    x = samples_of(statistic, V, i, j)
    return variance_estimate(x) if statistic.startswith("var ") else estimate(x)
