"""Two inputs through an unshaped (leaky) ReLU: the moments of a layer, and the singular SDE in its regular form.

With slopes that do not depend on the width the correlation ρ goes to 1, and q = ℓ²(1-ρ_ℓ) follows an SDE in t = ℓ/n
whose drift is singular at t = 0. In w = t/√q = 1/(n√(1-ρ_ℓ)) that SDE is linear and regular:

    dw = (λk + (M/3) w) dt - √(M/3) w dB,   k = √2/(3π),   λ = (s₊-s₋)²/(s₊²+s₋²),   M = (3/2) c² (s₊⁴+s₋⁴)

The moments are functions of ε = 1-ρ and keep their relative precision as ε → 0, where ρ itself has none left.

Source: Li, Nica (2023), arXiv 2310.12079 (singular SDE); Li, Nica, Roy (2022), arXiv 2206.02768 (correlation chain).
"""

import functools
import math

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from covsde.activations import AbstractActivation, LeakyReLU

Values = Float[Array, "..."]


# Near θ = 0 the closed forms below cancel; there they are summed as Taylor series Σ c_k θ^{2k+1}.
_SERIES_BELOW, _TERMS = 0.5, 14


def _coefficients(first: int, numerator: list[float]) -> tuple[int, list[float]]:
    return first, [(-1) ** k * numerator[k] / math.factorial(2 * k + 1) for k in range(first, _TERMS)]


_ANGULAR = _coefficients(1, [-2.0 * k for k in range(_TERMS)])
_OPPOSITE_22 = _coefficients(2, [(k - 1) * 4.0**k / math.pi for k in range(_TERMS)])
_QUARTIC = _coefficients(2, [16.0**k / 8 - 4.0**k / 2 for k in range(_TERMS)])


def _with_series(theta: Values, series: tuple[int, list[float]], closed_form: Values) -> Values:
    first, coefficients = series
    x = jnp.minimum(theta, _SERIES_BELOW)
    total = jnp.full_like(x, coefficients[-1])
    for c in coefficients[-2::-1]:
        total = total * x * x + c
    return jnp.where(theta < _SERIES_BELOW, total * x ** (2 * first + 1), closed_form)


def _angular(theta: Values) -> Values:
    """sin θ - θ cos θ = θ³/3 + …"""
    return _with_series(theta, _ANGULAR, jnp.sin(theta) - theta * jnp.cos(theta))


def _opposite_22(theta: Values) -> Values:
    """Q₂₂(π-θ) = 2θ⁵/15π + …"""
    closed = (theta * (2 + jnp.cos(2 * theta)) - 1.5 * jnp.sin(2 * theta)) / (2 * math.pi)
    return _with_series(theta, _OPPOSITE_22, closed)


def _opposite_31(theta: Values) -> Values:
    """Q₃₁(π-θ) = θ⁵/5π + …, through ∫₀^θ sin⁴."""
    closed = 3 * theta / 8 - jnp.sin(2 * theta) / 4 + jnp.sin(4 * theta) / 32
    quartic = _with_series(theta, _QUARTIC, closed)
    return 4 / math.pi * (jnp.sin(theta) ** 5 / 4 - jnp.cos(theta) * quartic)


def _angle(eps: Values) -> Values:
    return 2 * jnp.arcsin(jnp.sqrt(jnp.clip(eps / 2, 0, 1)))


class UnshapedReLU(eqx.Module):
    """φ(x) = s₊ max(x, 0) + s₋ min(x, 0) with slopes of its own at every width, on two inputs.

    One layer of width n moves the correlation by K(ρ) + μ(ρ)/n + σ(ρ)ξ/√n up to O(n^{-3/2}), ξ of unit variance.
    All methods take ε = 1-ρ in [0, 2].

    Attributes:
        s_plus: slope for x > 0.
        s_minus: slope for x < 0.
    """

    s_plus: Float[Array, ""] | float
    s_minus: Float[Array, ""] | float

    @property
    def c(self) -> Float[Array, ""] | float:
        """c = 2/(s₊² + s₋²)."""
        return 2 / (self.s_plus**2 + self.s_minus**2)

    @property
    def M(self) -> Float[Array, ""] | float:
        """M = c² E φ(g)⁴ = (3/2) c² (s₊⁴ + s₋⁴): 6 for ReLU, 3 for a linear layer."""
        return 1.5 * self.c**2 * (self.s_plus**4 + self.s_minus**4)

    @property
    def lam(self) -> Float[Array, ""] | float:
        """λ = (s₊ - s₋)²/(s₊² + s₋²): 1 for ReLU, 0 for a linear layer."""
        return (self.s_plus - self.s_minus) ** 2 * self.c / 2

    def mean_defect(self, eps: Values) -> Values:
        """1 - K(ρ), where K = c E φ(x)φ(y) is the correlation after one layer of infinite width."""
        return eps - self.lam / math.pi * _angular(_angle(eps))

    def mu(self, eps: Values) -> Values:
        """μ(ρ) = K(3M + M₂₂)/4 - M₃₁."""
        a, _, e, k = self._defects(eps)
        return e / 2 + a / 2 - k * self.M + k * a / 4

    def sigma(self, eps: Values) -> Values:
        """σ(ρ), from σ² = K²(M + M₂₂)/2 + M₂₂ - 2K M₃₁."""
        a, b, e, k = self._defects(eps)
        return jnp.sqrt(jnp.maximum(self.M * k * k + e + k * (a - 2 * b) - k * k * a / 2, 0))

    def covariance_with_log_variance(self, eps: Values) -> Values:
        """n Cov(ρ', log V'^{αα}) over one layer, M₃₁ - K(M + M₂₂)/2."""
        a, b, _, k = self._defects(eps)
        return k * self.M - b + a / 2 - k * a / 2

    def _defects(self, eps: Values) -> tuple[Values, Values, Values, Values]:
        # a = M - M₂₂, b = M - M₃₁, e = 2b - (3/2)a, k = 1 - K: of order ε, ε, ε² and ε as ε → 0. The textbook forms
        # of μ and σ² subtract numbers of order 1 to get ε and ε²; in these four nothing of order 1 is left.
        theta = _angle(eps)
        plus, minus, square = self.s_plus, self.s_minus, self.c**2
        cubic = square * (plus - minus) ** 2 * (plus**2 + plus * minus + minus**2) * _opposite_31(theta)
        quadratic = square * (plus**2 - minus**2) ** 2 * _opposite_22(theta)
        a = self.M * (2 / 3) * eps * (2 - eps) + quadratic
        b = self.M * eps - cubic
        e = self.M * eps * eps - 2 * cubic - 1.5 * quadratic
        return a, b, e, self.mean_defect(eps)


class SingularSDE(eqx.Module):
    """dw = (source + growth w) dt - √growth w dB, with d log V = -(M-1)/2 dt + √(M-1) dB' for either input.

    The two Brownian motions are correlated: d⟨log q, log V⟩ = -(2M/3) dt, hence d⟨log w, log V⟩ = (M/3) dt.
    Layer time τ ∈ [0, 1] is t / clock.

    Attributes:
        lam: λ.
        M: c² E φ(g)⁴.
        clock: T = depth/width.
    """

    lam: Float[Array, ""] | float
    M: Float[Array, ""] | float
    clock: Float[Array, ""] | float

    @property
    def source(self) -> Float[Array, ""] | float:
        """λk with k = √2/(3π); q₀ = 1/source² when w₀ = 0."""
        return self.lam * math.sqrt(2) / (3 * math.pi)

    @property
    def growth(self) -> Float[Array, ""] | float:
        """M/3."""
        return self.M / 3

    def mean(self, t: Values, w0: Float[Array, ""] | float = 0.0) -> Values:
        """E w_t = w₀ e^{Mt/3} + λk (e^{Mt/3} - 1)/(M/3), t in units of the clock."""
        return w0 * jnp.exp(self.growth * t) + self.source * jnp.expm1(self.growth * t) / self.growth


@functools.singledispatch
def unshaped(activation: AbstractActivation) -> UnshapedReLU:
    """The slopes of an activation that is the same at every width; register new ones with `unshaped.register`.

    Raises:
        TypeError: for an activation that is not a fixed piecewise linear function.
    """
    raise TypeError(
        f"activation={type(activation).__name__} is not an unshaped piecewise linear function: use LeakyReLU here, or "
        "simulate and sample_networks for shaped activations."
    )


@unshaped.register
def _(activation: LeakyReLU) -> UnshapedReLU:
    return UnshapedReLU(1.0, activation.negative_slope)
