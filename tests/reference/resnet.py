"""Depth-scaled ResNets solved in closed form or to all digits: kernels at infinite and at finite depth."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from covsde import ResNet


@dataclass(frozen=True)
class KernelProblem:
    """Exact kernels of one ResNet.

    Attributes:
        slug: its name.
        fn: the activation.
        beta: size of the branches.
        V0: input Gram matrix, as nested tuples.
        exact: "H", "G", "K" -> entries (diagonal, off-diagonal) of H(1), G(0) and the tangent kernel, those known.
        depth: number of blocks; None for infinite depth.
        digits: absolute accuracy of the values.
        source: where they come from.
    """

    slug: str
    fn: Callable[[Any], Any]
    beta: float
    V0: tuple[tuple[float, ...], ...]
    exact: Mapping[str, tuple[float, ...]]
    depth: int | None = None
    digits: float = 1e-9
    source: str = "closed form"

    @property
    def architecture(self) -> ResNet:
        return ResNet(self.fn, self.beta)

    @property
    def gram(self) -> np.ndarray:
        return np.asarray(self.V0)


ONE = ((1.0,),)
AT_ONE_RADIAN = ((1.0, math.cos(1.0)), (math.cos(1.0), 1.0))


def identity(x: Any) -> Any:
    return x


def _relu(beta: float, H: float, G: float, K: float, digits: float) -> KernelProblem:
    # Homogeneity: along the diagonal everything is an exponential. Off it, a fourth-order solution of dc/dτ.
    x = beta**2 / 2
    exact = {"H": (math.exp(x), H), "G": (math.exp(x), G), "K": (x * math.exp(x), K)}
    return KernelProblem(
        f"relu-beta{beta:g}", jax.nn.relu, beta, AT_ONE_RADIAN, exact, digits=digits, source="ODE of c"
    )


def _relu_depth(depth: int, diagonal: float, off: float) -> KernelProblem:
    assert abs(diagonal - 0.5 * (1 + 0.5 / depth) ** (depth - 1)) < 1e-8
    return KernelProblem(
        f"relu-depth{depth}",
        jax.nn.relu,
        1.0,
        AT_ONE_RADIAN,
        {"K": (diagonal, off)},
        depth=depth,
        digits=1e-8,
        source="recursion over layers",
    )


def _linear(beta: float, depth: int | None) -> KernelProblem:
    a = beta**2
    if depth is None:
        exact = {"H": (math.exp(a),), "G": (math.exp(a),), "K": (a * math.exp(a),)}
    else:
        growth = (1 + a / depth) ** depth
        exact = {"H": (growth,), "G": (growth,), "K": (a * (1 + a / depth) ** (depth - 1),)}
    return KernelProblem(f"linear-beta{beta:g}-depth{depth}", identity, beta, ONE, exact, depth=depth)


KERNELS = (
    _relu(1.0, 0.963970, 1.412274, 0.498461, 5e-7),
    _relu(2.0, 5.059851, 4.161895, 7.906744, 5e-7),
    KernelProblem(
        "tanh-beta1", jnp.tanh, 1.0, ONE, {"H": (1.4278999,), "G": (1.5407738,), "K": (0.5296492,)}, digits=6e-8
    ),
    KernelProblem(
        "tanh-beta1.5", jnp.tanh, 1.5, ONE, {"H": (2.0441158,), "G": (2.4561950,), "K": (1.6208488,)}, digits=1e-6
    ),
    _relu_depth(16, 0.79328534, 0.48178319),
    _relu_depth(32, 0.80854625, 0.48998793),
    _relu_depth(64, 0.81638246, 0.49419012),
    _linear(1.3, None),
    _linear(1.3, 7),
)

# ρ(1) from ρ(0) = 0.3 under dρ/dτ = κ/2π (√(1-ρ²) - ρ arccos ρ), shared by shaped MLPs and ResNets with β² = κ.
CORRELATION = {1.0: 0.3829467, 2.0: 0.4516895}

# f(t) for the linear network of depth 16, η_0 = 0.1 and γ_0 = 0.01: all orders in γ_0, by the exact recursion.
LAZY_LINEAR = (0.0, 0.248276, 0.434911, 0.57521, 0.680677, 0.75996)


def slope_of_the_depth_error(beta: float) -> float:
    """lim L (K_L - K) for one ReLU input: -x e^x (x + x²/2), x = β²/2, from the logarithm of (1 + x/L)^{L-1}."""
    x = beta**2 / 2
    return -x * math.exp(x) * (x + x * x / 2)


def log_norm_law_of_the_linear_network(width: int, beta: float, tau: float) -> tuple[float, float]:
    """Mean and variance of log(‖X_τ‖/‖X_0‖), which is normal, for φ(x) = x.

    Args:
        width: n.
        beta: β.
        tau: layer time.

    Returns:
        (1/2 - 1/n) β²τ and β²τ/n.

    Source: arXiv 2210.00688; Itô's formula for log‖X‖.
    """
    return (0.5 - 1 / width) * beta**2 * tau, beta**2 * tau / width
