"""Activations: the function a network of width n uses, its normalisation c(n), and the constants its limit sees.

Source: Li, Nica, Roy (2022), arXiv 2206.02768, sections 2 and 3.
"""

import abc
import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from covsde.inputs.arguments import finite_number, hyperparameter, positive_int
from covsde.numerics.identity import told
from covsde.numerics.tracing import is_traced
from covsde.numerics.typing import Hyperparameter

# A number, or a traced scalar where layers of different widths share one loop.
Width = int | Float[Array, ""]


class AbstractActivation(eqx.Module):
    """What a finite layer needs from an activation: the function at width n and its normalisation c(n)."""

    @abc.abstractmethod
    def at_width(self, width: Width) -> Callable[[Float[Array, "..."]], Float[Array, "..."]]:
        """The elementwise function φ_s that a layer of this width applies."""

    @abc.abstractmethod
    def normalisation(self, width: int) -> Hyperparameter:
        """c(n) = 1 / E[φ_s(g)²], g ~ N(0, 1), exact at this width."""


def _shaping_exponent(exponent: Any) -> float:
    p = finite_number("exponent", exponent)
    if not 0 < p <= 4:
        raise ValueError(f"exponent must lie in (0, 4], got {exponent}: 1/2 is the critical shaping of the limit.")
    return p


def _piecewise_linear(s_plus: Any, s_minus: Any) -> Callable[[Float[Array, "..."]], Float[Array, "..."]]:
    return lambda x: s_plus * jnp.maximum(x, 0) + s_minus * jnp.minimum(x, 0)


_TOO_LARGE = "must be at most 1e4 in size, got {}: the limit needs c/√n small."


def _small(c: float) -> bool:
    return abs(c) <= 1e4


class ShapedReLU(AbstractActivation):
    """φ_s(x) = s₊ max(x, 0) + s₋ min(x, 0) with s± = 1 + c±/n^p.

    Args:
        c_plus: slope correction on the positive side (dimensionless); may be a traced scalar of JAX, as may c_minus.
        c_minus: slope correction on the negative side; (0, -1) bends only the negative side.
        exponent: p > 0; 1/2 is critical. Above it the limit is the linear network; below it correlations jump to 1.

    Raises:
        ValueError: if a slope correction is not finite, or the exponent is not positive.

    Source: arXiv 2206.02768, equation for shaped ReLU, Theorem on its covariance SDE, Proposition on the exponent.
    """

    c_plus: Hyperparameter
    c_minus: Hyperparameter
    exponent: float = 0.5

    def __init__(self, c_plus: Any, c_minus: Any, exponent: float = 0.5):
        self.c_plus = hyperparameter("c_plus", c_plus, _small, _TOO_LARGE)
        self.c_minus = hyperparameter("c_minus", c_minus, _small, _TOO_LARGE)
        self.exponent = _shaping_exponent(exponent)

    @classmethod
    def from_slopes(cls, s_plus: Any, s_minus: Any, *, width: Any, exponent: float = 0.5) -> "ShapedReLU":
        """The activation whose slopes at this width are these: c± = (s± - 1) n^p.

        Args:
            s_plus: slope for x > 0, near 1; it may be a traced scalar of JAX, as may s_minus.
            s_minus: slope for x < 0; a leaky ReLU of slope α has (1, α).
            width: n of the network with these slopes.
            exponent: p, as for the class.

        Raises:
            ValueError: if width is not a positive integer, or a slope is not finite or far from 1.

        Example:
            ```python
            cs.ShapedReLU.from_slopes(1.0, 0.9, width=100)  # c₊ = 0, c₋ = -1
            ```
        """
        root = positive_int("width", width) ** _shaping_exponent(exponent)
        slopes = hyperparameter("s_plus", s_plus), hyperparameter("s_minus", s_minus)
        for name, s in zip(("s_plus", "s_minus"), slopes, strict=True):
            if not is_traced(s) and not _small((s - 1) * root):
                raise ValueError(f"{name} must be within {1e4 / root:.3g} of 1 at this width, got {s}.")
        plus, minus = ((s - 1) * root for s in slopes)
        return cls(plus, minus, exponent)

    @property
    def kappa(self) -> Hyperparameter:
        """κ = lim n (s₊ - s₋)², the only constant that survives: (c₊ - c₋)² at p = 1/2, 0 above, +∞ below."""
        square = (self.c_plus - self.c_minus) ** 2
        if self.exponent >= 0.5:
            return square if self.exponent == 0.5 else 0.0
        return math.inf if is_traced(square) or square != 0 else square

    def slopes(self, width: Width) -> tuple[Any, Any]:
        """(s₊, s₋) at this width."""
        root = width**self.exponent
        return 1 + self.c_plus / root, 1 + self.c_minus / root

    def at_width(self, width: Width) -> Callable[[Float[Array, "..."]], Float[Array, "..."]]:
        """The piecewise linear function at this width."""
        return _piecewise_linear(*self.slopes(width))

    def normalisation(self, width: int) -> Hyperparameter:
        """c(n) = 2 / (s₊² + s₋²)."""
        s_plus, s_minus = self.slopes(width)
        if not is_traced((s_plus, s_minus)) and s_plus == s_minus == 0:
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

    Source: arXiv 2206.02768 and 2310.12079, unshaped networks.
    """

    negative_slope: Hyperparameter

    def __init__(self, negative_slope: Any = 0.0):
        self.negative_slope = hyperparameter("negative_slope", negative_slope)

    def at_width(self, width: Width) -> Callable[[Float[Array, "..."]], Float[Array, "..."]]:
        """The piecewise linear function; the width does not enter."""
        return _piecewise_linear(1.0, self.negative_slope)

    def normalisation(self, width: int) -> Hyperparameter:
        """c = 2 / (1 + negative_slope²)."""
        return 2 / (1 + self.negative_slope**2)


class Identity(AbstractActivation):
    """φ(x) = x: the deep linear network, whose law is known exactly at any width."""

    def at_width(self, width: Width) -> Callable[[Float[Array, "..."]], Float[Array, "..."]]:
        """The identity."""
        return lambda x: x

    def normalisation(self, width: int) -> float:
        """c = 1."""
        return 1.0


def with_slopes_as_arrays(module: Any, dtype: Any) -> Any:
    """An architecture whose shaped ReLU has its slopes as arrays, so that others do not recompile what it computes."""

    def numbers(node: Any) -> Any:
        if not isinstance(node, ShapedReLU):
            return node
        slopes = jnp.asarray(node.c_plus, dtype), jnp.asarray(node.c_minus, dtype)
        return eqx.tree_at(lambda a: (a.c_plus, a.c_minus), node, slopes)

    return jax.tree.map(numbers, module, is_leaf=lambda node: isinstance(node, ShapedReLU))


def _exact_gelu(x: Float[Array, "..."]) -> Float[Array, "..."]:
    return jax.nn.gelu(x, approximate=False)


SMOOTH: Mapping[str, Callable] = MappingProxyType(
    {
        "tanh": jnp.tanh,
        "arctan": jnp.arctan,
        "erf": jax.lax.erf,
        "sin": jnp.sin,
        "sigmoid": jax.nn.sigmoid,
        "softplus": jax.nn.softplus,
        "silu": jax.nn.silu,
        "gelu": _exact_gelu,
        "sinh": jnp.sinh,
        "expm1": jnp.expm1,
    }
)
"""Smooth activations known by name; any other JAX function can be passed itself."""


class ShapedSmooth(AbstractActivation):
    """φ_s(x) = s ψ(x / s), s = a n^p, where ψ = (fn - fn(0)) / fn'(0) so that ψ(0) = 0 and ψ'(0) = 1.

    Args:
        fn: a scalar JAX function, four times differentiable at 0, or a name in `SMOOTH`: tanh, erf, sin, softplus,
            silu, gelu, arctan, sigmoid, sinh or expm1.
        a: inverse strength of the shaping, not 0; a → ∞ is the linear network. May be a traced scalar of JAX.
        exponent: p > 0; 1/2 is critical, above it the limit is the linear network, below it there is none.

    Raises:
        ValueError: if a is 0 or not finite, the exponent is not positive, the name is unknown, or fn is not smooth at 0
            with fn'(0) ≠ 0.

    Source: arXiv 2206.02768, smooth case. Derivatives at 0 come from automatic differentiation in float64.
    """

    fn: Callable = eqx.field(static=True)
    a: Hyperparameter
    offset: float
    slope: float
    second: float
    third: float
    exponent: float = 0.5

    def __init__(self, fn: Callable | str, a: Any = 1.0, exponent: float = 0.5):
        if isinstance(fn, str):
            if fn not in SMOOTH:
                raise ValueError(f"fn={fn!r} is not a known activation: use one of {', '.join(SMOOTH)}, or a function.")
            fn = SMOOTH[fn]
        if not callable(fn):
            raise ValueError(f"fn must be a JAX function of one number such as jnp.tanh, got {fn!r}.")
        self.fn = fn = told(fn)
        self.exponent = _shaping_exponent(exponent)
        not_zero = "must not be 0 or nearly so, got {}: it is the inverse strength of shaping; use a=1.0."
        self.a = hyperparameter("a", a, lambda a: abs(a) >= 1e-4, not_zero)
        # The derivatives are numbers also while a function that shapes an activation is being traced.
        with jax.enable_x64(True), jax.ensure_compile_time_eval():
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
    def kappa2(self) -> Hyperparameter:
        """κ₂ = ψ''(0) / a."""
        return self.second / self.a

    @property
    def kappa3(self) -> Hyperparameter:
        """κ₃ = ψ'''(0) / a²."""
        return self.third / self.a**2

    @property
    def beta(self) -> Hyperparameter:
        """β = (¾ψ''(0)² + ψ'''(0)) / a²: variances can explode in finite time exactly when β > 0."""
        return 0.75 * self.kappa2**2 + self.kappa3

    def at_width(self, width: Width) -> Callable[[Float[Array, "..."]], Float[Array, "..."]]:
        """x ↦ s ψ(x / s) with s = a n^p."""
        scale = self.a * width**self.exponent
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


PLAIN: Mapping[str, Callable] = MappingProxyType({"relu": jax.nn.relu, "linear": lambda x: x, **SMOOTH})
"""Activations that are not shaped, known by name; any other elementwise JAX function can be passed itself."""


def plain_activation(activation: Any, family: str) -> Callable[[Array], Array]:
    """The elementwise function that a name in `PLAIN` stands for, or the function itself.

    Raises:
        ValueError: for what is neither.
    """
    if isinstance(activation, str):
        if activation not in PLAIN:
            raise ValueError(
                f"activation={activation!r} is not a known function: use one of {', '.join(PLAIN)}, or a function."
            )
        found: Callable[[Array], Array] = PLAIN[activation]
        return found
    if not callable(activation) or isinstance(activation, type):
        raise ValueError(
            f"activation must be an elementwise JAX function such as jax.nn.relu or jnp.tanh, got {activation!r}: "
            f"{family} takes plain activations, shaping belongs to MLP."
        )
    function: Callable[[Array], Array] = told(activation)
    return function
