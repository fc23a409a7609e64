"""Vectors of one layer in the coordinates of an orthonormal basis: the discretised forward–backward limit."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from covsde.activations import AbstractActivation
from covsde.limits.backward import OddBackward, backward_of
from covsde.solvers.neurons import Neurons
from covsde.solvers.revealed import AbstractVectors, Vector


class RadialCoordinates(AbstractVectors):
    """Odd smooth activations (and the identity, κ₃ = 0): two numbers per label and vector, whatever the width.

    A layer of width 1/h with the radial activation z ↦ z exp[κ₃/2 (|z|²/n - 1)/n] is closed on inner products, and has
    the limit of every odd activation with this κ₃. So one step h of layer time is such a layer, exactly in law: each
    newly revealed vector takes one new basis direction, with a χ distributed length on it.
    """

    width: Float[Array, ""]
    kappa3: Float[Array, ""]

    def size(self, labels: int) -> int:
        """One direction per forward and one per backward label."""
        return 2 * labels

    def fresh(self, normals: Vector, chi_key: PRNGKeyArray, revealed: Float[Array, " size"], slot: Array) -> Vector:
        """Normals on the basis so far, and the length of everything beyond it on the new direction."""
        freedom = self.width - jnp.sum(revealed)
        square = 2 * jax.random.gamma(chi_key, freedom / 2, normals.shape[1:], normals.dtype)
        new = (jnp.arange(normals.shape[0]) == slot)[:, None]
        return jnp.where(new, jnp.sqrt(square)[None, :], normals * revealed[:, None]) / jnp.sqrt(self.width)

    def activate(self, z: Vector) -> Vector:
        """λ z."""
        return self._scale(z) * z

    def pull_back(self, z: Vector, r: Vector) -> Vector:
        """λ (r + κ₃ (z·r) z/n)."""
        overlap = jnp.sum(z * r, axis=0, keepdims=True)
        return self._scale(z) * (r + self.kappa3 / self.width * overlap * z)

    def _scale(self, z: Vector) -> Float[Array, "1 paths"]:
        square = jnp.sum(z * z, axis=0, keepdims=True)
        return jnp.exp(self.kappa3 / 2 * (square - 1) / self.width)


def limit_vectors(activation: AbstractActivation, width: float, dtype: jnp.dtype) -> AbstractVectors:
    """Layers of this width whose limit is that of an activation, as cheap as the activation allows.

    Raises:
        TypeError: for an activation without a limit.
    """
    equation = backward_of(activation)
    if isinstance(equation, OddBackward):
        return RadialCoordinates(jnp.asarray(width, dtype), jnp.asarray(equation.kappa3, dtype))
    # No closed form: the network itself, whose width is an integer, at the width of the step.
    return Neurons(activation, round(width), dtype)
