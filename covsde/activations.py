"""Activations: the function a network of width n uses, its normalisation c(n), and the constants its limit sees.

Source: Li, Nica, Roy (2022), arXiv 2206.02768, sections 2 and 3.
"""

import abc
import math
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from covsde._check import finite_number


class AbstractActivation(eqx.Module):
    """What a finite layer needs from an activation: the function at width n and its normalisation c(n)."""

    @abc.abstractmethod
    def at_width(self, width: int) -> Callable[[Float[Array, "..."]], Float[Array, "..."]]:
        """The elementwise function φ_s that a layer of this width applies."""

    @abc.abstractmethod
    def normalisation(self, width: int) -> float:
        """c(n) = 1 / E[φ_s(g)²], g ~ N(0, 1), exact at this width."""


def _piecewise_linear(s_plus: float, s_minus: float) -> Callable[[Float[Array, "..."]], Float[Array, "..."]]:
    return lambda x: s_plus * jnp.maximum(x, 0) + s_minus * jnp.minimum(x, 0)


class ShapedReLU(AbstractActivation):
    """φ_s(x) = s₊ max(x, 0) + s₋ min(x, 0) with s± = 1 + c±/√n.

    Args:
        c_plus: slope correction on the positive side (dimensionless).
        c_minus: slope correction on the negative side; (0, -1) bends only the negative side.

    Raises:
        ValueError: if a slope correction is not finite.

    Source: arXiv 2206.02768, equation for shaped ReLU and Theorem on its covariance SDE.
    """

    c_plus: float
    c_minus: float

    def __init__(self, c_plus: float, c_minus: float):
        self.c_plus = finite_number("c_plus", c_plus)
        self.c_minus = finite_number("c_minus", c_minus)
        if max(abs(self.c_plus), abs(self.c_minus)) > 1e4:
            raise ValueError("c_plus and c_minus must be at most 1e4 in size: the limit needs c/√n small.")

    @property
    def kappa(self) -> float:
        """κ = (c₊ - c₋)², the only constant that survives in the limit."""
        return (self.c_plus - self.c_minus) ** 2

    def slopes(self, width: int) -> tuple[float, float]:
        """(s₊, s₋) at this width."""
        root = math.sqrt(width)
        return 1 + self.c_plus / root, 1 + self.c_minus / root

    def at_width(self, width: int) -> Callable[[Float[Array, "..."]], Float[Array, "..."]]:
        """The piecewise linear function at this width."""
        return _piecewise_linear(*self.slopes(width))

    def normalisation(self, width: int) -> float:
        """c(n) = 2 / (s₊² + s₋²)."""
        s_plus, s_minus = self.slopes(width)
        if s_plus == s_minus == 0:
            raise ValueError(
                f"width={width} makes both slopes of ShapedReLU({self.c_plus}, {self.c_minus}) zero: use another width."
            )
        return 2 / (s_plus**2 + s_minus**2)


class LeakyReLU(AbstractActivation):
    """Unshaped φ(x) = max(x, 0) + negative_slope · min(x, 0), the same at every width.

    Args:
        negative_slope: slope for x < 0; 0 is the plain ReLU.

    Raises:
        ValueError: if the slope is not finite.
    """

    negative_slope: float

    def __init__(self, negative_slope: float = 0.0):
        self.negative_slope = finite_number("negative_slope", negative_slope)

    def at_width(self, width: int) -> Callable[[Float[Array, "..."]], Float[Array, "..."]]:
        """The piecewise linear function; the width does not enter."""
        return _piecewise_linear(1.0, self.negative_slope)

    def normalisation(self, width: int) -> float:
        """c = 2 / (1 + negative_slope²)."""
        return 2 / (1 + self.negative_slope**2)


class Identity(AbstractActivation):
    """φ(x) = x: the deep linear network, whose law is known exactly at any width."""

    def at_width(self, width: int) -> Callable[[Float[Array, "..."]], Float[Array, "..."]]:
        """The identity."""
        return lambda x: x

    def normalisation(self, width: int) -> float:
        """c = 1."""
        return 1.0


class ShapedSmooth(AbstractActivation):
    """φ_s(x) = s ψ(x / s), s = a√n, where ψ = (fn - fn(0)) / fn'(0) so that ψ(0) = 0 and ψ'(0) = 1.

    Args:
        fn: a scalar JAX function, four times differentiable at 0 (tanh, erf, sin, softplus, silu, …).
        a: inverse strength of the shaping, not 0; a → ∞ is the linear network.

    Raises:
        ValueError: if a is 0 or not finite, or fn is not smooth at 0 with fn'(0) ≠ 0.

    Source: arXiv 2206.02768, smooth case. Derivatives at 0 come from automatic differentiation in float64.
    """

    fn: Callable = eqx.field(static=True)
    a: float
    offset: float
    slope: float
    second: float
    third: float

    def __init__(self, fn: Callable, a: float = 1.0):
        if not callable(fn):
            raise ValueError(f"fn must be a JAX function of one number such as jnp.tanh, got {fn!r}.")
        self.fn = fn
        self.a = finite_number("a", a)
        if abs(self.a) < 1e-4:
            raise ValueError(
                f"a must not be 0 or nearly so, got {a}: it is the inverse strength of shaping; use a=1.0."
            )
        with jax.enable_x64(True):
            derivatives = []
            f = fn
            for _ in range(4):
                try:
                    derivatives.append(float(f(jnp.asarray(0.0, jnp.float64))))
                except Exception as error:
                    raise ValueError(
                        f"fn could not be differentiated at 0 ({type(error).__name__}): pass a JAX function "
                        "of one number such as jnp.tanh or jax.nn.silu."
                    ) from error
                f = jax.grad(f)
            step = jnp.asarray([-1e-7, 1e-7], jnp.float64)
            left, right = (float(v) for v in jax.vmap(jax.grad(fn))(step))
        self.offset, self.slope, second, third = derivatives
        smooth = all(map(math.isfinite, derivatives)) and abs(left - right) < 1e-3 * max(1.0, abs(self.slope))
        if not smooth:
            raise ValueError(
                "fn must be smooth at 0: shaping acts on its derivatives there; for kinked functions use ShapedReLU."
            )
        if abs(self.slope) < 1e-12:
            raise ValueError("fn must have fn'(0) ≠ 0: shaping is an expansion around the linear network.")
        self.second, self.third = second / self.slope, third / self.slope

    @property
    def kappa2(self) -> float:
        """κ₂ = ψ''(0) / a."""
        return self.second / self.a

    @property
    def kappa3(self) -> float:
        """κ₃ = ψ'''(0) / a²."""
        return self.third / self.a**2

    @property
    def beta(self) -> float:
        """β = (¾ψ''(0)² + ψ'''(0)) / a²: variances can explode in finite time exactly when β > 0."""
        return 0.75 * self.kappa2**2 + self.kappa3

    def at_width(self, width: int) -> Callable[[Float[Array, "..."]], Float[Array, "..."]]:
        """x ↦ s ψ(x / s) with s = a√n."""
        scale = self.a * math.sqrt(width)
        return lambda x: (scale / self.slope) * (self.fn(x / scale) - self.offset)

    def normalisation(self, width: int) -> float:
        """c(n) by Gauss–Hermite quadrature (151 nodes, float64)."""
        nodes, weights = np.polynomial.hermite_e.hermegauss(151)
        keep = weights > 1e-30
        # Also when a network is being traced, c(n) is a number.
        with jax.enable_x64(True), jax.ensure_compile_time_eval():
            values = np.asarray(jax.vmap(self.at_width(width))(jnp.asarray(nodes[keep], jnp.float64)))
        second_moment = float(np.sum(weights[keep] * values**2) / math.sqrt(2 * math.pi))
        if not (math.isfinite(second_moment) and second_moment > 0):
            raise ValueError(f"fn overflows at width={width}: E φ(g)² = {second_moment}; use a larger width or a.")
        return 1 / second_moment
