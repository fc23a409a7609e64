"""Transformers with known answers: reference digits, exact laws, and covariances that are not exchangeable.

Where a value comes from a computation it was made independently of the package: sums over all indices of the paper's
formulas, fourth-order Runge–Kutta steps, closed forms.
"""

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from covsde import ResidualAttention, ShapedReLU, Transformer
from covsde.architectures.transformer.deterministic import relu_correlation

PAPER = "arXiv 2306.17759"

# Unequal variances and mixed signs: the second-order term of the softmax vanishes for exchangeable tokens.
GRAM = np.array([[1.5, 0.3, -0.4], [0.3, 0.8, 0.5], [-0.4, 0.5, 2.0]])
UPPER = np.triu_indices(3)


def exchangeable(m: int, q: float = 1.0, rho: float = 0.2) -> np.ndarray:
    """Variance q, correlation ρ."""
    return q * ((1 - rho) * np.eye(m) + rho)


@dataclass(frozen=True)
class Digits:
    """Reference digits at `GRAM`, γ² = 1/2, for entries 00, 01, 02, 11, 12, 22."""

    slug: str
    settings: dict[str, Any]
    quantity: str
    values: tuple[float, ...]
    precision: float
    source: str = PAPER

    @property
    def transformer(self) -> Transformer:
        return Transformer(math.sqrt(0.5), **self.settings)


DIGITS = (
    Digits(
        "attention-drift",
        {"tau0": 1.0},
        "drift",
        (0.42972222, 0.05986111, -0.06267593, 0.18474074, 0.11085185, 0.60629630),
        1e-8,
    ),
    Digits("causal-drift", {"tau0": 1.0, "mask": "causal"}, "drift", (0, 0, 0.0183, 0.0723, 0.0146, 0.6063), 6e-5),
    Digits("attention-diffusion", {"tau0": 1.0}, "diffusion", (4.022, 1.050, 2.954, 0.968, 1.544, 7.387), 6e-4),
    Digits(
        "mlp-drift",
        {"tau0": math.inf, "mlp": ShapedReLU(0.5, -1.5)},
        "drift",
        (0, 0.212, 0.766, 0, 0.185, 0),
        6e-4,
    ),
    Digits("flow-tau0-1", {"tau0": 1.0}, "flow", (2.27799, 0.40134, -0.47731, 1.12140, 0.69523, 3.14042), 6e-6),
    Digits("flow-tau0-2", {"tau0": 2.0}, "flow", (1.6202, 0.3165, -0.4166, 0.8513, 0.5308, 2.1706), 6e-5),
)
BY_SLUG = {d.slug: d for d in DIGITS}


def exchangeable_flow(q: float, rho: float, m: int, gamma2: float, tau0: float, s: float) -> float:
    """q(s) = q₀/√(1 - 2cq₀²s), c = γ²(m-1)(1-ρ)²/(τ₀²m²): attention keeps ρ and amplifies q."""
    c = gamma2 * (m - 1) * (1 - rho) ** 2 / (tau0 * m) ** 2
    return q / math.sqrt(1 - 2 * c * q * q * s)


def blow_up_time(q: float, rho: float, m: int, gamma2: float, tau0: float) -> float:
    """s* = 1/(2cq₀²)."""
    return 1 / (2 * q * q * gamma2 * (m - 1) * (1 - rho) ** 2 / (tau0 * m) ** 2)


def weight_noise(transformer: Transformer) -> float:
    """κ: γ²(2-γ²) for a branch with one random matrix, 2γ² with two."""
    g2 = transformer.gamma**2
    attention = 2 * g2 if transformer.output_matrix else g2 * (2 - g2)
    return attention + (2 * g2 if transformer.mlp is not None else 0)


def log_determinant_rates(V: np.ndarray, gamma2: float, tau0: float, heads: float) -> tuple[float, float, float]:
    """Drift from b, Itô part and quadratic variation of log det V under unmasked attention, per unit of time."""
    m = V.shape[0]
    C = np.eye(m) - 1 / m
    K = C @ V @ C
    k = np.diag(K) - np.trace(K) / m
    square = np.sum(K * K)
    kappa, ca2 = gamma2 * (2 - gamma2), gamma2**2 / (m * tau0) ** 2 / heads
    drift = gamma2 / tau0**2 * (square / m + np.diag(V) @ k / m)
    return drift, kappa * m * (m + 1) / 2 + ca2 * (m + 1) * square, 2 * kappa * m + 4 * ca2 * square


class Exchangeable(NamedTuple):
    """Tokens that are alike: variance q and correlation ρ of every pair."""

    q: Any
    rho: Any


def exchangeable_rate(attention: ResidualAttention, m: int, state: Exchangeable) -> Exchangeable:
    """dq/dτ and dρ/dτ of m exchangeable tokens under uniform attention.

    With a(ρ) = (1 + (m-1)ρ)/m: ρ' = [β_A² a(1-ρ) + β_M²(κ(ρ)-ρ)]/w and q' = β_A² a q/w + β_M² q/w, where w = 1, or
    w = q with "pre"; q stays where it is with "post".

    Args:
        attention: with logit_scale 0.
        m: number of tokens.
        state: q > 0 and ρ.

    Returns:
        The derivatives, of the same shapes.
    """
    q, rho = state
    a = (1 + (m - 1) * rho) / m
    attended, mlp = attention.beta_attention**2, attention.beta_mlp**2
    turn = attended * a * (1 - rho) + mlp * (relu_correlation(rho, attention.negative_slope) - rho)
    growth = (attended * a + mlp) * (jnp.ones_like(q) if attention.normalisation == "pre" else q)
    if attention.normalisation == "pre":
        turn = turn / q
    return Exchangeable(jnp.zeros_like(q) if attention.normalisation == "post" else growth, turn)


# One-layer increments: every combination whose drift and diffusion are checked against networks.
ONE_LAYER = {
    "attention": {},
    "mlp": {"tau0": math.inf, "mlp": ShapedReLU(0.75, -0.75)},
    "block": {"mlp": ShapedReLU(0.75, -0.75)},
    "heads": {"heads": 4},
    "output matrix": {"heads": 4, "output_matrix": True},
    "causal": {"mask": "causal"},
    "pattern": {"mask": [[1, 1, 0], [0, 1, 1], [1, 1, 1]], "heads": 2},
}
