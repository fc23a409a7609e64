"""Gaussian moments of an activation: E φ(u), E φ(u)φ(v) and E φ'(u)φ'(v) for (u, v) ~ N(0, V).

In closed form for piecewise linear functions (arc-cosine kernels of Cho and Saul, 2009), erf (Williams, 1997), sine and
polynomials, which are recognised by their values; by quadrature for every other function.
"""

import abc
import functools
import math
import warnings
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from covsde.moments.arccos import sin_minus_angle_cos
from covsde.moments.quadrature import PolarRule, angle_of, correlation_of, root
from covsde.numerics.typing import Function

_DEGREE = 8


class QuadratureWarning(UserWarning):
    """The Gaussian moments of an activation are less accurate than the rest of the computation."""


class AbstractMoments(eqx.Module):
    """Gaussian moments entry by entry; variances of any common shape."""

    @abc.abstractmethod
    def mean(self, v: Array) -> Array:
        """E φ(u)."""

    @abc.abstractmethod
    def square(self, v: Array) -> Array:
        """E φ(u)²."""

    @abc.abstractmethod
    def slope_square(self, v: Array) -> Array:
        """E φ'(u)²."""

    @abc.abstractmethod
    def product(self, vi: Array, vj: Array, vij: Array) -> Array:
        """E φ(u)φ(v)."""

    @abc.abstractmethod
    def slope_product(self, vi: Array, vj: Array, vij: Array) -> Array:
        """E φ'(u)φ'(v)."""


def second_moment(moments: AbstractMoments, V: Float[Array, "m m"]) -> Float[Array, "m m"]:
    """Φ(V) = E φ(z)φ(z)ᵀ, z ~ N(0, V); the strict upper triangle of V is not read."""
    return _matrix(moments.square, moments.product, V)


def slope_moment(moments: AbstractMoments, V: Float[Array, "m m"]) -> Float[Array, "m m"]:
    """Φ'(V) = E φ'(z)φ'(z)ᵀ, z ~ N(0, V); the strict upper triangle of V is not read."""
    return _matrix(moments.slope_square, moments.slope_product, V)


def _matrix(on_diagonal: Function, on_pair: Callable[[Array, Array, Array], Array], V: Array) -> Array:
    # The diagonal has formulas of its own: there ρ = 1, where derivatives with respect to ρ alone may not exist.
    v = jnp.diagonal(V)
    out = jnp.diag(on_diagonal(v))
    rows, columns = np.tril_indices(V.shape[0], -1)
    if rows.size == 0:
        return out
    pairs = on_pair(v[rows], v[columns], V[rows, columns])
    return out.at[rows, columns].set(pairs).at[columns, rows].set(pairs)


class PiecewiseLinear(AbstractMoments):
    """φ(x) = s₊ max(x, 0) + s₋ min(x, 0): the arc-cosine kernels."""

    plus: Float[Array, ""] | float
    minus: Float[Array, ""] | float

    @property
    def _half_squares(self) -> Any:
        return (self.plus * self.plus + self.minus * self.minus) / 2

    @property
    def _bend(self) -> Any:
        return (self.plus - self.minus) * (self.plus - self.minus) / (2 * math.pi)

    def mean(self, v: Array) -> Array:
        """(s₊ - s₋) √(v/2π)."""
        return (self.plus - self.minus) / math.sqrt(2 * math.pi) * root(v)

    def square(self, v: Array) -> Array:
        """(s₊² + s₋²) v/2."""
        return self._half_squares * v

    def slope_square(self, v: Array) -> Array:
        """(s₊² + s₋²)/2."""
        return self._half_squares * jnp.ones_like(v)

    def product(self, vi: Array, vj: Array, vij: Array) -> Array:
        """(s₊² + s₋²)/2 V^{αβ} + (s₊ - s₋)²/2π √(V^{αα}V^{ββ}) f(ρ)."""
        rho, scale = correlation_of(vi, vj, vij)
        return self._half_squares * vij + self._bend * scale * sin_minus_angle_cos(rho)

    def slope_product(self, vi: Array, vj: Array, vij: Array) -> Array:
        """(s₊² + s₋²)/2 - (s₊ - s₋)²/2π arccos ρ."""
        rho, _ = correlation_of(vi, vj, vij)
        return self._half_squares - self._bend * angle_of(rho)


class Erf(AbstractMoments):
    """φ = erf: the arc-sine kernel."""

    def mean(self, v: Array) -> Array:
        """0: erf is odd."""
        return jnp.zeros_like(v)

    def square(self, v: Array) -> Array:
        """2/π arcsin(2v / (1 + 2v))."""
        return 2 / math.pi * jnp.arcsin(2 * v / (1 + 2 * v))

    def slope_square(self, v: Array) -> Array:
        """4/π (1 + 4v)^{-1/2}."""
        return 4 / math.pi / jnp.sqrt(1 + 4 * v)

    def product(self, vi: Array, vj: Array, vij: Array) -> Array:
        """2/π arcsin(2V^{αβ} / √((1 + 2V^{αα})(1 + 2V^{ββ})))."""
        return 2 / math.pi * jnp.arcsin(2 * vij / jnp.sqrt((1 + 2 * vi) * (1 + 2 * vj)))

    def slope_product(self, vi: Array, vj: Array, vij: Array) -> Array:
        """4/π (1 + 2V^{αα} + 2V^{ββ} + 4 det V)^{-1/2}."""
        return 4 / math.pi / jnp.sqrt(1 + 2 * vi + 2 * vj + 4 * (vi * vj - vij * vij))


class Sine(AbstractMoments):
    """φ = sin."""

    def mean(self, v: Array) -> Array:
        """0: the sine is odd."""
        return jnp.zeros_like(v)

    def square(self, v: Array) -> Array:
        """(1 - e^{-2v})/2."""
        return -jnp.expm1(-2 * v) / 2

    def slope_square(self, v: Array) -> Array:
        """(1 + e^{-2v})/2."""
        return (1 + jnp.exp(-2 * v)) / 2

    def product(self, vi: Array, vj: Array, vij: Array) -> Array:
        """e^{-(V^{αα} + V^{ββ})/2} sinh V^{αβ}."""
        middle = (vi + vj) / 2
        return (jnp.exp(vij - middle) - jnp.exp(-vij - middle)) / 2

    def slope_product(self, vi: Array, vj: Array, vij: Array) -> Array:
        """e^{-(V^{αα} + V^{ββ})/2} cosh V^{αβ}."""
        middle = (vi + vj) / 2
        return (jnp.exp(vij - middle) + jnp.exp(-vij - middle)) / 2


class Polynomial(AbstractMoments):
    """φ(x) = Σ_j p_j x^j: kernels are polynomials in the entries of V.

    With φ(√v x) = Σ_k v^{k/2} d_k(v) He_k(x), orthogonality of the He_k gives
    E φ(u)φ(v) = Σ_k k! d_k(V^{αα}) d_k(V^{ββ}) (V^{αβ})^k.
    """

    coefficients: Float[Array, " terms"] | Float[np.ndarray, " terms"]

    def _slopes(self) -> Array:
        p = jnp.asarray(self.coefficients)
        return p[1:] * jnp.arange(1, p.shape[0], dtype=p.dtype) if p.shape[0] > 1 else jnp.zeros_like(p)

    @staticmethod
    def _hermite(p: Array, v: Array) -> list[Array]:
        """d_k(v) for k = 0 … degree."""
        d = [jnp.zeros_like(v) for _ in range(p.shape[0])]
        for j in range(p.shape[0]):
            for half in range(j // 2 + 1):
                k = j - 2 * half
                # x^j = Σ_k j! / (2^h h! k!) He_k, h = (j - k)/2
                number = math.factorial(j) / (2**half * math.factorial(half) * math.factorial(k))
                d[k] = d[k] + number * p[j] * v**half
        return d

    def _kernel(self, p: Array, vi: Array, vj: Array, vij: Array) -> Array:
        terms = zip(self._hermite(p, vi), self._hermite(p, vj), strict=True)
        return sum((math.factorial(k) * a * b * vij**k for k, (a, b) in enumerate(terms)), start=jnp.zeros_like(vij))

    def mean(self, v: Array) -> Array:
        """d_0(v)."""
        return self._hermite(jnp.asarray(self.coefficients), v)[0]

    def square(self, v: Array) -> Array:
        """The kernel at V^{αβ} = v."""
        return self.product(v, v, v)

    def slope_square(self, v: Array) -> Array:
        """The kernel of φ' at V^{αβ} = v."""
        return self.slope_product(v, v, v)

    def product(self, vi: Array, vj: Array, vij: Array) -> Array:
        """Σ_k k! d_k d_k (V^{αβ})^k."""
        return self._kernel(jnp.asarray(self.coefficients), vi, vj, vij)

    def slope_product(self, vi: Array, vj: Array, vij: Array) -> Array:
        """The same for φ'."""
        return self._kernel(self._slopes(), vi, vj, vij)


def _derivative(fn: Function) -> Function:
    return lambda x: jax.jvp(fn, (x,), (jnp.ones_like(x),))[1]


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _product(fn: Function, rule: PolarRule, vi: Array, vj: Array, vij: Array) -> Array:
    return rule.plane(lambda u, v: fn(u) * fn(v), vi, vj, vij)


@_product.defjvp
def _(fn: Function, primals: Any, tangents: Any) -> Any:
    # Price: ∂E/∂V^{αβ} = E φ'φ'. With ρ fixed, 2 V^{αα} ∂E/∂V^{αα} = E u φ'(u) φ(v). Neither needs φ'', nor a
    # derivative of arccos ρ, so both hold up to ρ = ±1.
    (rule, vi, vj, vij), (_, di, dj, dij) = primals, tangents
    slope = _derivative(fn)
    both = rule.plane(lambda u, v: slope(u) * slope(v), vi, vj, vij)
    first = rule.plane(lambda u, v: u * slope(u) * fn(v), vi, vj, vij)
    second = rule.plane(lambda u, v: v * slope(v) * fn(u), vi, vj, vij)
    at_i = jnp.where(vi > 0, (first - vij * both) / (2 * jnp.where(vi > 0, vi, 1)), 0)
    at_j = jnp.where(vj > 0, (second - vij * both) / (2 * jnp.where(vj > 0, vj, 1)), 0)
    return _product(fn, rule, vi, vj, vij), both * dij + at_i * di + at_j * dj


class Quadrature(AbstractMoments):
    """Any function that is smooth away from a possible kink at 0, by the polar rule."""

    fn: Function = eqx.field(static=True)
    rule: PolarRule

    def mean(self, v: Array) -> Array:
        """By the rule on the line."""
        return self.rule.line(self.fn, v)

    def square(self, v: Array) -> Array:
        """By the rule on the line."""
        return self.rule.line(lambda x: self.fn(x) * self.fn(x), v)

    def slope_square(self, v: Array) -> Array:
        """By the rule on the line."""
        slope = _derivative(self.fn)
        return self.rule.line(lambda x: slope(x) * slope(x), v)

    def product(self, vi: Array, vj: Array, vij: Array) -> Array:
        """By the polar rule, one pair at a time."""
        return self._pairs(lambda e: _product(self.fn, self.rule, *e), vi, vj, vij)

    def slope_product(self, vi: Array, vj: Array, vij: Array) -> Array:
        """By the polar rule, one pair at a time."""
        slope = _derivative(self.fn)
        return self._pairs(lambda e: self.rule.plane(lambda u, v: slope(u) * slope(v), *e), vi, vj, vij)

    def _pairs(self, one: Callable[[Any], Array], vi: Array, vj: Array, vij: Array) -> Array:
        flat = jax.lax.map(one, tuple(x.ravel() for x in (vi, vj, vij)))
        return flat.reshape(vij.shape)


def _values(fn: Function, x: np.ndarray) -> np.ndarray:
    """φ at points, also while something else is being traced.

    Points are filled up with zeros to one of two lengths, so that φ is compiled at most twice.
    """
    length = next(n for n in (2**8, 2**18) if x.size <= n)
    filled = np.zeros(length)
    filled[: x.size] = x.ravel()
    with jax.enable_x64(True), jax.ensure_compile_time_eval(), np.errstate(all="ignore"):
        found = np.asarray(jax.jit(fn)(jnp.asarray(filled)), np.float64)
    return found[: x.size].reshape(x.shape) if found.shape == filled.shape else found


def grows_faster_than_linearly(fn: Function) -> bool:
    """Whether |φ(x)|/|x| seems unbounded, so that variances may explode in finite time."""
    near, far = (np.max(np.abs(_values(fn, np.array([-x, x])))) / x for x in (1e2, 1e4))
    return not np.isfinite(far) or bool(far > 2 * near + 1e-3)


@functools.lru_cache(maxsize=256)
def moments_of(fn: Function) -> AbstractMoments:
    """The Gaussian moments of a function, in closed form if it is one with a closed form.

    Args:
        fn: an elementwise JAX function.

    Returns:
        Its moments.

    Raises:
        ValueError: if fn is not an elementwise JAX function, or has no finite Gaussian moments.

    Warns:
        QuadratureWarning: if quadrature is inaccurate, as for kinks away from 0.
    """
    x = np.concatenate([np.logspace(-6, 4, 41), np.linspace(0.05, 8, 60)])
    try:
        right, left = _values(fn, x), _values(fn, -x)
    except Exception as error:
        raise ValueError(
            f"activation could not be evaluated on an array ({type(error).__name__}): pass an elementwise JAX function "
            "such as jax.nn.relu or jnp.tanh."
        ) from error
    if right.shape != x.shape or not np.all(np.isfinite(np.concatenate([right[x <= 8], left[x <= 8]]))):
        raise ValueError("activation must map arrays elementwise to finite real numbers, such as jax.nn.relu does.")
    _check_elementwise(fn, np.concatenate([-x, x])[np.concatenate([x, x]) <= 8])
    plus, minus = float(right[40] / x[40]), float(left[40] / -x[40])
    if np.allclose(right, plus * x, rtol=1e-13, atol=0) and np.allclose(left, -minus * x, rtol=1e-13, atol=0):
        return PiecewiseLinear(plus, minus)
    moderate = np.concatenate([-x, x])[np.concatenate([x, x]) <= 8]
    values = _values(fn, moderate)
    if np.allclose(values, [math.erf(v) for v in moderate], rtol=1e-13, atol=1e-15):
        return Erf()
    if np.allclose(values, np.sin(moderate), rtol=1e-13, atol=1e-15):
        return Sine()
    nodes = 3 * np.cos(np.pi * (np.arange(40) + 0.5) / 40)
    fit = np.polynomial.Chebyshev.fit(nodes, _values(fn, nodes), _DEGREE, domain=[-3, 3])
    if np.allclose(fit(moderate), values, rtol=1e-9, atol=1e-9 * np.max(np.abs(values))):
        p = fit.convert(kind=np.polynomial.Polynomial).coef
        p = np.where(np.abs(p) < 1e-12 * np.max(np.abs(p)), 0.0, p)
        return Polynomial(np.trim_zeros(p, "b") if np.any(p) else np.zeros(1))
    moments = Quadrature(fn, PolarRule(24, 12))
    inaccuracy = _quadrature_error(moments)
    if not inaccuracy < np.inf:
        raise ValueError("activation must have finite Gaussian moments: its values grow too fast.")
    if inaccuracy > 1e-7:
        warnings.warn(
            f"The Gaussian moments of {getattr(fn, '__name__', fn)} are accurate only to about {inaccuracy:.0e}: "
            "quadrature needs an activation that is smooth away from 0.",
            QuadratureWarning,
            stacklevel=2,
        )
    return moments


def _check_elementwise(fn: Function, x: np.ndarray) -> None:
    """Refuse a function whose value depends on the other entries of its array, or on where an entry stands."""
    whole, reversed_, half = _values(fn, x), _values(fn, x[::-1])[::-1], _values(fn, x[: x.size // 2])
    same = np.allclose(whole, reversed_, rtol=1e-9, atol=1e-12) and np.allclose(whole[: half.size], half, 1e-9, 1e-12)
    if not same:
        raise ValueError(
            f"activation must be elementwise, and {getattr(fn, '__name__', fn)} mixes the entries of an array: pass a "
            "function of one number, such as jax.nn.relu or jnp.tanh."
        )


def _quadrature_error(moments: Quadrature) -> float:
    """The largest relative change of a kernel when the rule is refined, in NumPy: only φ is compiled."""
    cases = ((1.0, 1.0, 0.3), (0.3, 2.0, 0.95), (4.0, 3.0, -0.6))
    kernels, slope = [], _derivative(moments.fn)
    for rule in (moments.rule, PolarRule(37, 17)):
        s, w, r, p = (np.asarray(x) for x in (rule.s, rule.s_weight, rule.r, rule.r_weight))
        u, v, weight = [], [], []
        for vi, vj, rho in cases:
            omega = math.acos(rho)
            for start, length in ((omega - np.pi / 2, np.pi - omega), (-np.pi / 2, omega)):
                t = start + length * s
                u.append(math.sqrt(vi) * np.outer(np.cos(t), r))
                v.append(math.sqrt(vj) * np.outer(np.cos(t - omega), r))
                weight.append(length / (2 * np.pi) * np.outer(w, p))
        points = np.stack([np.stack(u), -np.stack(u), np.stack(v), -np.stack(v)])
        for f in (moments.fn, slope):
            a, b, c, d = _values(f, points)
            sectors = np.sum(np.stack(weight) * (a * c + b * d), axis=(1, 2)).reshape(len(cases), 2).sum(axis=1)
            size = np.sum(np.stack(weight) * (a * a + b * b), axis=(1, 2)).reshape(len(cases), 2).sum(axis=1)
            kernels.append((sectors, size))
    half = len(kernels) // 2
    gaps = [np.abs(x[0] - y[0]) / (y[1] + 1e-300) for x, y in zip(kernels[:half], kernels[half:], strict=True)]
    return float(np.max(gaps))
