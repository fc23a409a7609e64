"""Means over the units of a layer: of particles that count the same, of weighted ones, or as a quadratic form.

A network is a functional of the empirical measure of its units, layer by layer. The derivative with respect to the
weights of the units says how it fluctuates at finite width; where everything is linear in Gaussian sources, those of
the source coordinates say the same without sampling.

Arrays of a `Means` have the layers of the network first; `at` picks some of them.
"""

import abc
from typing import TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

Kind = TypeVar("Kind", bound="AbstractMeans")


class AbstractMeans(eqx.Module):
    """⟨·, ·⟩ on every layer."""

    @abc.abstractmethod
    def products(self, u: Float[Array, "a n"], v: Float[Array, "b n"]) -> Float[Array, "a b"]:
        """⟨u, v⟩ of vectors of one layer."""

    @abc.abstractmethod
    def squares(self, u: Float[Array, "a n"]) -> Float[Array, " a"]:
        """⟨u, u⟩ of each vector of one layer."""

    def at(self: Kind, layers: int | slice | Array) -> Kind:
        """Those of some layers, or of one."""
        return jax.tree.map(lambda x: x[layers], self)


class Uniform(AbstractMeans):
    """Of units that count the same."""

    def products(self, u: Float[Array, "a n"], v: Float[Array, "b n"]) -> Float[Array, "a b"]:
        """Σ u v / n."""
        return u @ v.T / u.shape[-1]

    def squares(self, u: Float[Array, "a n"]) -> Float[Array, " a"]:
        """Σ u² / n."""
        return jnp.mean(u * u, axis=-1)


class Weighted(AbstractMeans):
    """Of units with weights p.

    Attributes:
        weights: (layers, n), each layer adding up to 1.
    """

    weights: Float[Array, "*layers n"]

    def products(self, u: Float[Array, "a n"], v: Float[Array, "b n"]) -> Float[Array, "a b"]:
        """Σ p u v."""
        return (u * self.weights[None, :]) @ v.T

    def squares(self, u: Float[Array, "a n"]) -> Float[Array, " a"]:
        """Σ p u²."""
        return (u * u) @ self.weights


class Quadratic(AbstractMeans):
    """Of vectors in the coordinates of n Gaussian sources, whose covariances over the units are C.

    Attributes:
        form: (layers, n, n); vectors are √n times their coordinates.
    """

    form: Float[Array, "*layers n n"]

    def products(self, u: Float[Array, "a n"], v: Float[Array, "b n"]) -> Float[Array, "a b"]:
        """U C Vᵀ / n."""
        return u @ self.form @ v.T / u.shape[-1]

    def squares(self, u: Float[Array, "a n"]) -> Float[Array, " a"]:
        """The diagonal of U C Uᵀ / n."""
        return jnp.sum((u @ self.form) * u, axis=-1) / u.shape[-1]
