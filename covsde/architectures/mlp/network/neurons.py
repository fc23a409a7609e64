"""Vectors of one layer, neuron by neuron: finite networks exactly in law."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from covsde.activations import AbstractActivation
from covsde.descent.householder import AbstractVectors, Lengths, Room, Vector


class Neurons(AbstractVectors):
    """All n numbers of a vector (divided by √n), under the activation itself: for any activation, exact at width n."""

    activation: AbstractActivation
    neurons: int = eqx.field(static=True)
    width: Float[Array, ""]

    def __init__(self, activation: AbstractActivation, width: int, dtype: jnp.dtype):
        self.activation = activation
        self.neurons = width
        self.width = jnp.asarray(width, dtype)

    def size(self, room: Room) -> int:
        """n."""
        return self.neurons

    def grow(self, vectors: Array, room: Room, more: Room) -> Array:
        """They have all their neurons from the start."""
        return vectors

    def directions(self, room: Room) -> int:
        """One per forward and one per backward label."""
        return sum(room)

    def revealed(self, room: Room, forward: Array | int, backward: Array | int) -> Float[Array, " size"]:
        """All of them: the basis is that of the neurons."""
        return jnp.ones(self.neurons, self.width.dtype)

    def lengths(self, key: PRNGKeyArray, used: Float[Array, "layers P"], paths: int) -> Lengths:
        """None: every neuron has its normal."""
        return jnp.zeros((*used.shape, paths), self.width.dtype)

    def fresh(
        self, normals: Vector, length: Float[Array, " paths"], revealed: Float[Array, " size"], slot: Array
    ) -> Vector:
        """n independent normals of variance 1/n."""
        return normals / jnp.sqrt(self.width)

    def activate(self, z: Vector) -> Vector:
        """√c φ_s(z), neuron by neuron."""
        root = self.neurons**0.5
        return self.activation.at_width(self.neurons)(root * z) * (self._c_root() / root)

    def pull_back(self, z: Vector, r: Vector) -> Vector:
        """√c φ_s'(z) r, neuron by neuron."""
        z = self.neurons**0.5 * z
        _, slope = jax.jvp(self.activation.at_width(self.neurons), (z,), (jnp.ones_like(z),))
        return self._c_root() * slope * r

    def _c_root(self) -> float:
        return self.activation.normalisation(self.neurons) ** 0.5
