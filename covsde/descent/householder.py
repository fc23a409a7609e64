"""Training a deep network whose weights are never drawn, only revealed where the vectors of training meet them.

A Gaussian matrix W is known only through W e (forward) and Wᵀ h (backward) for the vectors seen so far. Kept per layer:
orthonormal e_i with images m_i = W e_i/√n, orthonormal h_j with images v_j = Wᵀ h_j/√n. A new forward vector is split
on the e_i; its new direction has an image whose components on the h_j are v_j·e, and which is a fresh Gaussian vector
elsewhere; backward is the mirror image. Updates of the weights are outer products of vectors already kept, and are
added as vectors. Nothing nearly equal is subtracted and no Gram matrix is factored, so a path cannot leave the cone.

Labels are (input, training step) in the order of revelation; a vector that is not revealed yet is zero, so that sums
over all labels are sums over the known ones. Arrays are (labels, size, paths): paths last. This file has vectors and
frames; `revealed` trains with them.

Source: for the algorithm, Y. Lu (2021), Householder dice, for what conditioning on Gaussian matrices allows.
"""

import abc
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

Vector = Float[Array, "size paths"]
Vectors = Float[Array, "labels size paths"]
Scalars = Float[Array, " paths"]
Lengths = Float[Array, "layers P paths"]


class Room(NamedTuple):
    """How many directions a layer has room for: those of forward and those of backward labels."""

    forward: int
    backward: int


# In units of the machine epsilon: a vector whose part beyond known ones is shorter, relative to it, is one of them.
ROUNDING = 16.0


class AbstractVectors(eqx.Module):
    """How the vectors of one layer (divided by √n) are stored, and how the activation acts on them."""

    # The width n; for a discretised limit 1/step, not necessarily an integer.
    width: eqx.AbstractVar[Float[Array, ""]]

    @abc.abstractmethod
    def size(self, room: Room) -> int:
        """Numbers stored per vector."""

    @abc.abstractmethod
    def grow(self, vectors: Array, room: Room, more: Room) -> Array:
        """Vectors (…, size(room), paths) as vectors (…, size(more), paths)."""

    @abc.abstractmethod
    def directions(self, room: Room) -> int:
        """Independent vectors of a layer that training reveals: the width must exceed it."""

    @abc.abstractmethod
    def revealed(self, room: Room, forward: Array | int, backward: Array | int) -> Float[Array, " size"]:
        """1 for the basis directions in use after this many forward and backward labels, 0 for others."""

    @abc.abstractmethod
    def lengths(self, key: PRNGKeyArray, used: Float[Array, "layers P"], paths: int) -> Lengths:
        """Lengths, times √n, of fresh Gaussian vectors beyond `used` known directions, (layers, P, paths)."""

    @abc.abstractmethod
    def fresh(
        self, normals: Vector, length: Float[Array, " paths"], revealed: Float[Array, " size"], slot: Array
    ) -> Vector:
        """A Gaussian vector of variance 1/n independent of everything, given standard normals.

        Args:
            normals: standard normals.
            length: what `lengths` drew for it.
            revealed: the basis directions in use.
            slot: the number of the basis direction free for this vector: forward labels, then backward labels.
        """

    @abc.abstractmethod
    def activate(self, z: Vector) -> Vector:
        """√c φ_s(z)."""

    @abc.abstractmethod
    def pull_back(self, z: Vector, r: Vector) -> Vector:
        """√c φ_s'(z)ᵀ r."""


def dot(u: Array, v: Array) -> Array:
    """Inner products over the size axis; leading axes are labels."""
    return jnp.sum(u * v, axis=-2)


def combine(c: Array, vectors: Array) -> Vector:
    """Σ_i c_i v_i."""
    return jnp.sum(c[:, None, :] * vectors, axis=0)


def split(frame: Vectors, v: Vector) -> tuple[Array, Scalars, Vector]:
    """Components of v on a frame, the norm of the rest and its direction (0 if there is none); Gram–Schmidt, twice.

    A rest is none only if it is rounding: features move by 1/n in a layer, and what is small at first is not later.
    """
    first = dot(frame, v[None])
    rest = v - combine(first, frame)
    second = dot(frame, rest[None])
    rest = rest - combine(second, frame)
    norm, whole = jnp.sqrt(dot(rest, rest)), jnp.sqrt(dot(v, v))
    new = norm > ROUNDING * jnp.finfo(v.dtype).eps * whole
    direction = jnp.where(new[None, :], rest / jnp.where(new, norm, 1)[None, :], 0)
    return first + second, jnp.where(new, norm, 0), direction


def image_of(fresh: Vector, direction: Vector, frame: Vectors, images: Vectors) -> Vector:
    """W e/√n for a new direction e: prescribed on the frame of the other side, fresh elsewhere, 0 if e is."""
    known = dot(images, direction[None]) - dot(frame, fresh[None])
    exists = jnp.any(direction != 0, axis=0)
    return jnp.where(exists[None, :], fresh + combine(known, frame), 0)


def pad(whole: Array, more: int, axis: int) -> Array:
    """`whole` with zeros behind it along an axis, `more` long."""
    widths = [(0, 0)] * whole.ndim
    widths[axis] = (0, more - whole.shape[axis])
    return jnp.pad(whole, widths)


def put(whole: Array, block: Array, start: Array, axis: int) -> Array:
    """`whole` with a block written at `start` along an axis."""
    return jax.lax.dynamic_update_slice_in_dim(whole, block, start, axis=axis)
