"""Vectors of one layer in the coordinates of an orthonormal basis: the discretised forward–backward limit.

A layer of width n = 1/h whose activation is closed on a few coordinates, and has the limit of a whole class of
activations, is one step h of layer time, exactly in law. Each newly revealed vector takes one new basis direction,
with a χ distributed length on it, so that a handful of coordinates stand for vectors of any width.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from covsde._chi import chi
from covsde.activations import AbstractActivation, Identity
from covsde.limits.backward import backward_of
from covsde.limits.expansion import Expansion
from covsde.limits.feature_learning import Layer
from covsde.solvers.neurons import Neurons
from covsde.solvers.revealed import AbstractVectors, Lengths, Vector, pad


class Coordinates(AbstractVectors):
    """Values on the neurons of the layer's even part, then a direction per forward and one per backward label."""

    layer: Layer
    width: Float[Array, ""]

    def __init__(self, layer: Layer):
        self.layer = layer
        self.width = layer.width

    def size(self, labels: int) -> int:
        """M + 2 labels."""
        return self.layer.neurons + 2 * labels

    def grow(self, vectors: Array, labels: int, more: int) -> Array:
        """Zeros behind the forward and behind the backward directions."""
        M = self.layer.neurons
        neurons, forward, backward = jnp.split(vectors, [M, M + labels], axis=-2)
        return jnp.concatenate([neurons, pad(forward, more, -2), pad(backward, more, -2)], axis=-2)

    def directions(self, labels: int) -> int:
        """As many."""
        return self.size(labels)

    def revealed(self, labels: int, forward: Array | int, backward: Array | int) -> Float[Array, " size"]:
        """The neurons, and the directions of the labels so far."""
        label, neurons = jnp.arange(labels), jnp.ones(self.layer.neurons, bool)
        return jnp.concatenate([neurons, label < forward, label < backward]).astype(self.width.dtype)

    def lengths(self, key: PRNGKeyArray, used: Float[Array, " P"], layers: int, paths: int) -> Lengths:
        """χ distributed, with as many degrees of freedom as directions are left."""
        return chi(key, jnp.broadcast_to((self.width - used)[:, None], (layers, used.size, paths)))

    def fresh(
        self, normals: Vector, length: Float[Array, " paths"], revealed: Float[Array, " size"], slot: Array
    ) -> Vector:
        """Normals on the basis so far, and the length of everything beyond it on the new direction."""
        new = (jnp.arange(normals.shape[0]) == self.layer.neurons + slot)[:, None]
        return jnp.where(new, length[None, :], normals * revealed[:, None]) / jnp.sqrt(self.width)

    def activate(self, z: Vector) -> Vector:
        """The activation of the layer."""
        return self.layer.features(z)

    def pull_back(self, z: Vector, r: Vector) -> Vector:
        """Its transposed Jacobian."""
        return self.layer.gradients(z, r)


def limit_vectors(activation: AbstractActivation, width: float, dtype: jnp.dtype) -> AbstractVectors:
    """Layers of this width whose limit is that of an activation.

    Raises:
        TypeError: for an activation without a limit.
    """
    expansion = jax.tree.map(lambda x: jnp.asarray(x, dtype), backward_of(activation).expansion())
    return Coordinates(Layer(jnp.asarray(width, dtype), expansion))


def network_vectors(activation: AbstractActivation, width: int, dtype: jnp.dtype) -> AbstractVectors:
    """Layers of a finite network, exactly in law: in a few coordinates if it is linear, else neuron by neuron."""
    if isinstance(activation, Identity):
        return Coordinates(Layer(jnp.asarray(width, dtype), Expansion(None, jnp.zeros((), dtype))))
    return Neurons(activation, width, dtype)
