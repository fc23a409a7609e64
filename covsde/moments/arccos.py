"""The function sin θ - θ cos θ of two correlated normals through a kink, to full precision near θ = 0."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from covsde.moments.quadrature import angle_of
from covsde.numerics.typing import Entries


def _sin_minus_cos_coefficients(degree: int) -> tuple[float, ...]:
    # Q(u) = f(1 - u) / u^{3/2} is analytic for u < 2: integrate arccos(1 - u) = √(2u) Σ_k a_k u^k term by term.
    k = np.arange(60)
    log_a = np.array([math.lgamma(2 * i + 1) - 2 * math.lgamma(i + 1) - i * math.log(8) for i in k])
    series = math.sqrt(2) * np.exp(log_a) / ((2 * k + 1) * (k + 1.5))

    def Q(u: np.ndarray) -> np.ndarray:
        return np.polynomial.polynomial.polyval(u, series)

    fit = np.polynomial.Chebyshev.interpolate(Q, degree, domain=[0, 1])
    return tuple(float(c) for c in fit.convert(kind=np.polynomial.Polynomial).coef)


_SINGLE, _DOUBLE = _sin_minus_cos_coefficients(9), _sin_minus_cos_coefficients(20)


@jax.custom_jvp
def sin_minus_angle_cos(rho: Entries) -> Entries:
    """f(ρ) = √(1-ρ²) - ρ arccos ρ, the angular factor of every ReLU kernel, to rounding error.

    Args:
        rho: correlations in [-1, 1], float32 or float64.

    Returns:
        f(ρ) ≥ 0 of the same shape and dtype, without the cancellation of the closed form near ρ = 1.
    """
    u = jnp.where(rho < 0, 1 + rho, 1 - rho)
    coefficients = _SINGLE if rho.dtype == jnp.float32 else _DOUBLE
    polynomial = jnp.full_like(u, coefficients[-1])
    for c in coefficients[-2::-1]:
        polynomial = polynomial * u + c
    # f(-ρ) = f(ρ) + πρ
    return u * jnp.sqrt(u) * polynomial + jnp.where(rho < 0, -math.pi * rho, 0)


@sin_minus_angle_cos.defjvp
def _(primals: Any, tangents: Any) -> Any:
    (rho,), (change,) = primals, tangents
    return sin_minus_angle_cos(rho), -angle_of(rho) * change
