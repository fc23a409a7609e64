"""Two inputs: the correlation of the neural covariance SDE in three coordinates.

    dρ = [ν - ½ρ(1-ρ²)] dt + (1-ρ²) dB,   dθ = -ν/sin θ dt + sin θ dB,   dy = [-ν/(1-ρ²) - ½ρ] dt + dB

with θ = arccos ρ, y = log tan(θ/2) = -artanh ρ and ν the drift of the correlation,
ν = b^{12}/√(V¹¹V²²) - ½ρ(b^{11}/V¹¹ + b^{22}/V²²). For shaped ReLU ν = (κ/2π)(sin θ - θ cos θ) depends on ρ alone.

Source: arXiv 2206.02768, Theorem on the correlation SDE of shaped ReLU; Itô's formula for the other coordinates.
"""

import functools
import math

import jax.numpy as jnp
from jaxtyping import Array, Float

from covsde.covariance.drifts import AbstractDrift, Affine, ReLUDrift, SmoothDrift
from covsde.numerics.typing import Entries


def correlation_drift(drift: AbstractDrift, vi: Entries, vj: Entries, vij: Entries) -> Entries:
    """ν, the drift of the correlation without the Itô correction of the noise, for any drift and positive variances."""
    scale = jnp.sqrt(vi) * jnp.sqrt(vj)
    relative = drift.rate(vi, vi, vi) / vi + drift.rate(vj, vj, vj) / vj
    return drift.rate(vi, vj, vij) / scale - vij / scale * relative / 2


@functools.singledispatch
def autonomous_kappa(drift: AbstractDrift) -> float:
    """κ of the shaped ReLU whose correlation follows the same equation; 0 where ν vanishes.

    Raises:
        TypeError: if the correlation does not obey an equation of its own.
    """
    raise TypeError(
        f"the correlation under {type(drift).__name__} depends on the variances too, so it has no law of its own: use "
        "simulate on two inputs instead."
    )


@autonomous_kappa.register
def _(drift: ReLUDrift) -> float:
    return float(drift.kappa)


@autonomous_kappa.register
def _(drift: SmoothDrift) -> float:
    if float(drift.kappa2) != 0:
        raise TypeError(
            "activation has a second derivative at 0, so the correlation depends on the variances too and has no "
            "law of its own: use simulate on two inputs, or an odd activation such as tanh."
        )
    return 0.0


@autonomous_kappa.register
def _(drift: Affine) -> float:
    if float(drift.bias) != 0:
        raise TypeError(
            f"bias={float(drift.bias):g} mixes variances into the correlation, which has no law of its own: use "
            "simulate on two inputs, or bias=0."
        )
    return autonomous_kappa(drift.inner)


def relu_drift_of_y(y: Float[Array, "..."]) -> Float[Array, "..."]:
    """-ν/(1-ρ²) at κ = 1 in y = log tan(θ/2): -(1 - θ cot θ)/(2π sin θ), without cancellation at small angles."""
    theta = 2 * jnp.arctan(jnp.exp(y))
    # cot θ = -sinh y and 1/sin θ = cosh y; where y is very negative the series of 1 - θ cot θ replaces it.
    small = theta < 0.1
    t2 = jnp.where(small, theta, 0) ** 2
    series = t2 / 3 + t2**2 / 45 + 2 * t2**3 / 945 + t2**4 / 4725
    safe = jnp.where(small, 0, y)
    direct = 1 + theta * jnp.sinh(safe)
    over_sine = jnp.where(small, series / jnp.where(small, jnp.sin(theta), 1), direct * jnp.cosh(safe))
    return -over_sine / (2 * math.pi)
