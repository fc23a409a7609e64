"""What is left of an activation in the proportional limit: an even part of order 1/√n and a cubic one of order 1/n.

    √c φ_s(z) = z + ψ(z)/√n + κ₃z³/(6n) + (multiples of z fixed by E|√c φ_s(g)|² = 1) + …

Odd parts of order 1/√n are multiples of z, which the normalisation takes back, so ψ is even: κ₂z²/2 for smooth
activations and (c₊-c₋)|z|/2 for ReLU. Activations with the same ψ and κ₃ have the same limit.
"""

import abc
import math

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from covsde.numerics.typing import Number

Values = Float[Array, "..."]


class AbstractEvenPart(eqx.Module):
    """ψ, a function of pre-activations of unit variance."""

    @abc.abstractmethod
    def value(self, z: Values) -> Values:
        """ψ(z)."""

    @abc.abstractmethod
    def slope(self, z: Values) -> Values:
        """ψ'(z)."""

    @abc.abstractmethod
    def power(self) -> Number:
        """E ψ(g)², g standard normal: the power that the normalisation takes from z in return."""


class Quadratic(AbstractEvenPart):
    """ψ = κ₂z²/2, of smooth activations."""

    kappa2: Number

    def value(self, z: Values) -> Values:
        """κ₂z²/2."""
        return self.kappa2 / 2 * z * z

    def slope(self, z: Values) -> Values:
        """κ₂z."""
        return self.kappa2 * z

    def power(self) -> Number:
        """¾κ₂²."""
        return 0.75 * self.kappa2 * self.kappa2


class Modulus(AbstractEvenPart):
    """ψ = √κ|z|/2 with κ = (c₊-c₋)², of shaped ReLU; its sign is that of the weights, which have none."""

    kappa: Number

    def value(self, z: Values) -> Values:
        """√κ|z|/2."""
        return self._strength() * jnp.abs(z)

    def slope(self, z: Values) -> Values:
        """√κ sgn(z)/2."""
        return self._strength() * jnp.sign(z)

    def power(self) -> Number:
        """κ/4."""
        return self.kappa / 4

    def _strength(self) -> Number:
        return math.sqrt(self.kappa) / 2 if isinstance(self.kappa, float | int) else jnp.sqrt(self.kappa) / 2


class Expansion(eqx.Module):
    """ψ, None if there is none, and κ₃."""

    even: AbstractEvenPart | None
    kappa3: Number
