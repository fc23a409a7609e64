"""Vectors of one layer in the coordinates of an orthonormal basis: the discretised forward–backward limit.

A layer of width n = 1/h whose activation is closed on inner products, and has the limit of a whole class of
activations, is one step h of layer time, exactly in law. Each newly revealed vector takes one new basis direction,
with a χ distributed length on it, so that a handful of coordinates stand for vectors of any width.
"""

import itertools
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from covsde._chi import chi
from covsde.activations import AbstractActivation, Identity
from covsde.limits.backward import OddBackward, SmoothBackward, backward_of
from covsde.solvers.neurons import Neurons
from covsde.solvers.revealed import AbstractVectors, Lengths, Memory, Normals, Vector, combine, dot, pad, put, split


def _fresh(width: Array, normals: Vector, length: Float[Array, " paths"], revealed: Array, slot: Array) -> Vector:
    """Normals on the basis so far, and the length of everything beyond it on the new direction."""
    new = (jnp.arange(normals.shape[0]) == slot)[:, None]
    return jnp.where(new, length[None, :], normals * revealed[:, None]) / jnp.sqrt(width)


def _grow_blocks(vectors: Array, blocks: int, more: int, axis: int = -2) -> Array:
    """An axis of so many equal blocks, with zeros behind each until it is `more` long."""
    axis %= vectors.ndim
    shape = vectors.shape
    apart = vectors.reshape(*shape[:axis], blocks, shape[axis] // blocks, *shape[axis + 1 :])
    return pad(apart, more, axis + 1).reshape(*shape[:axis], blocks * more, *shape[axis + 1 :])


class RadialCoordinates(AbstractVectors):
    """Odd smooth activations, and the identity (κ₃ = 0): z ↦ z exp[κ₃/2 (|z|²/n - 1)/n]."""

    width: Float[Array, ""]
    kappa3: Float[Array, ""]

    def size(self, labels: int) -> int:
        """One direction per forward and one per backward label."""
        return 2 * labels

    def grow(self, vectors: Array, labels: int, more: int) -> Array:
        """Zeros behind the forward and the backward directions."""
        return _grow_blocks(vectors, 2, more)

    def directions(self, labels: int) -> int:
        """As many."""
        return 2 * labels

    def extra(self, labels: int) -> tuple[int, int]:
        """None."""
        return 0, 0

    def memory(self, labels: int, depth: int, paths: int, dtype: jnp.dtype) -> tuple[()]:
        """None."""
        return ()

    def grow_memory(self, memory: tuple[()], labels: int, more: int) -> tuple[()]:
        """None."""
        return memory

    def revealed(self, labels: int, forward: Array | int, backward: Array | int) -> Float[Array, " size"]:
        """Forward labels first, then backward labels."""
        label = jnp.arange(labels)
        return jnp.concatenate([label < forward, label < backward]).astype(self.width.dtype)

    def lengths(self, key: PRNGKeyArray, used: Float[Array, " P"], layers: int, paths: int) -> Lengths:
        """That of the image of the weights."""
        return chi(key, jnp.broadcast_to((self.width - used)[:, None, None], (layers, used.size, 1, paths)))

    def fresh(self, normals: Vector, lengths: Lengths, revealed: Float[Array, " size"], slot: Array) -> Vector:
        """With a χ distributed part on the new direction."""
        return _fresh(self.width, normals, lengths[0], revealed, slot)

    def activate(
        self, memory: Memory, z: Vector, label: Array, backward: Array, normals: Normals, lengths: Lengths
    ) -> tuple[Vector, Memory]:
        """λ z."""
        return _radial(self.width, self.kappa3, 0.0, z) * z, memory

    def pull_back(
        self,
        memory: Memory,
        z: Vector,
        r: Vector,
        label: Array,
        forward: Array,
        normals: Normals,
        lengths: Lengths,
    ) -> tuple[Vector, Memory]:
        """λ (r + κ₃ (z·r) z/n)."""
        return _radial_pull_back(self.width, self.kappa3, 0.0, z, r), memory


class _Quadratic(NamedTuple):
    """What is known of the quadratic map of a layer, in frames ζ of the z's and ρ of the r's; paths last.

    W_ijk = √n ρ_k·B(ζ_i, ζ_j) is Gaussian: W_ii = w + √2 g_ii, W_ij = g_ij for j < i, independent over k.
    """

    zeta: Array  # frame of the z's
    z: Array  # z = Σ z_i ζ_i, (labels, labels)
    rho: Array  # frame of the r's
    r: Array  # r = Σ r_k ρ_k
    gaussians: Array  # (w, g) of every ρ_k, g row by row: (labels, 1 + labels (labels + 1)/2)
    phi: Array  # frame of the features of B(z, z) on (w, g)
    square: Array  # image of each frame vector of phi
    psi: Array  # frame of the features z ⊗ r of B(z, ·)ᵀ r
    mixed: Array  # image of each frame vector of psi


class QuadraticCoordinates(AbstractVectors):
    """General smooth activations: λz + κ₂ B(z, z)/(2√n), B an isotropic Gaussian quadratic map, fresh in every layer.

    Cov(B_kij, B_ki'j') = (δ_ij δ_i'j' + δ_ii' δ_jj' + δ_ij' δ_ji')/n²: B(z, z) and B(z, ·)ᵀr have the covariances of
    z∘z and z∘r, and nothing else of the quadratic part of an activation survives in the limit.
    """

    width: Float[Array, ""]
    kappa2: Float[Array, ""]
    kappa3: Float[Array, ""]

    def size(self, labels: int) -> int:
        """Per label an image of the weights and one of the quadratic map, forward and backward."""
        return 4 * labels

    def grow(self, vectors: Array, labels: int, more: int) -> Array:
        """Zeros behind each of the four kinds of directions."""
        return _grow_blocks(vectors, 4, more)

    def directions(self, labels: int) -> int:
        """As many."""
        return 4 * labels

    def extra(self, labels: int) -> tuple[int, int]:
        """The normals of W and those of an image: of a slice W_·a·, or of a slice W_··b."""
        return labels * (labels + 1) + self.size(labels), _features(labels) + self.size(labels)

    def memory(self, labels: int, depth: int, paths: int, dtype: jnp.dtype) -> _Quadratic:
        """Nothing is known yet."""
        N, D = labels, self.size(labels)
        sizes = (D, N, D, N, _features(N), _features(N), D, N * N, D)
        return _Quadratic(*(jnp.zeros((depth, N, k, paths), dtype) for k in sizes))

    def grow_memory(self, memory: _Quadratic, labels: int, more: int) -> _Quadratic:
        """Zeros for the labels to come, in every frame and on every axis."""
        frames = {name: self.grow(getattr(memory, name), labels, more) for name in ("zeta", "rho", "square", "mixed")}
        rows = {name: pad(getattr(memory, name), more, -2) for name in ("z", "r")}
        rows |= {name: pad(getattr(memory, name), _features(more), -2) for name in ("gaussians", "phi")}
        # z ⊗ r: a longer row for every z, and more rows.
        wider = _grow_blocks(memory.psi, labels, more)
        memory = _Quadratic(**frames, **rows, psi=pad(wider, more * more, -2))
        return _Quadratic(*(pad(M, more, -3) for M in memory))

    def revealed(self, labels: int, forward: Array | int, backward: Array | int) -> Float[Array, " size"]:
        """Images of the weights, forward then backward, then those of the quadratic map."""
        return self._directions(labels, forward, backward, forward, backward)

    def _directions(
        self, N: int, forward: Array | int, backward: Array | int, squares: Array | int, mixed: Array | int
    ) -> Float[Array, " size"]:
        label = jnp.arange(N)
        used = [label < forward, label < backward, label < squares, label < mixed]
        return jnp.concatenate(used).astype(self.width.dtype)

    def lengths(self, key: PRNGKeyArray, used: Float[Array, " P"], layers: int, paths: int) -> Lengths:
        """That of the image of the weights and, one direction later, that of the quadratic map."""
        freedom = self.width - used[:, None] - jnp.arange(2, dtype=self.width.dtype)[None, :]
        return chi(key, jnp.broadcast_to(freedom[:, :, None], (layers, used.size, 2, paths)))

    def fresh(self, normals: Vector, lengths: Lengths, revealed: Float[Array, " size"], slot: Array) -> Vector:
        """With a χ distributed part on the new direction."""
        return _fresh(self.width, normals, lengths[0], revealed, slot)

    def activate(
        self, memory: _Quadratic, z: Vector, label: Array, backward: Array, normals: Normals, lengths: Lengths
    ) -> tuple[Vector, _Quadratic]:
        """λz + κ₂ B(z, z)/(2√n), B(z, z) conditioned on every B(z_b, ·)ᵀ r_b known."""
        k, a, N, root = memory, label, memory.z.shape[0], jnp.sqrt(self.width)
        index = jnp.arange(N)
        c, norm, direction = split(k.zeta, z)
        coordinates = jnp.where((index == a)[:, None], norm[None, :], c)
        exists = jnp.any(direction != 0, axis=0)[None, :]
        # W_iak for the new ζ_a, i < a: known where it is a component of some B(z_b, ·)ᵀ r_b on ζ_a.
        known = ((index < a)[:, None] & (index < backward)[None, :]).reshape(-1, 1)
        g = jnp.where(known, normals[: N * N], 0)
        W = g + combine(root * dot(k.mixed, direction[None]) - dot(k.psi, g[None]), k.psi)
        W = jnp.where(exists, W, 0).reshape(N, N, -1)
        diagonal = jnp.where((index < backward)[:, None], normals[N * N : N * N + N], 0)
        row = jnp.where((index == a)[None, :, None], diagonal[:, None, :], jnp.swapaxes(W, 0, 1))
        # Row a has a + 1 entries; the zeros behind them fall on rows that are not known yet.
        gaussians = put(k.gaussians, row, 1 + a * (a + 1) // 2, 1)
        # The image of the new feature direction: prescribed on the ρ_k, fresh elsewhere.
        c, norm, feature = split(k.phi, self._squared(coordinates))
        normals = normals[N * N + N :]
        used = self._directions(N, a + 1, backward, a, backward)
        fresh = _fresh(self.width, normals, lengths[1], used, 2 * N + a)
        image = fresh + combine(dot(gaussians, feature[None]) / root - dot(k.rho, fresh[None]), k.rho)
        image = jnp.where(jnp.any(feature != 0, axis=0)[None, :], image, 0)
        B = combine(c, k.square) + norm[None, :] * image
        x = _radial(self.width, self.kappa3, self.kappa2, z) * z + self.kappa2 / (2 * root) * B
        return x, k._replace(
            zeta=put(k.zeta, direction[None], a, 0),
            z=put(k.z, coordinates[None], a, 0),
            gaussians=gaussians,
            phi=put(k.phi, feature[None], a, 0),
            square=put(k.square, image[None], a, 0),
        )

    def pull_back(
        self,
        memory: _Quadratic,
        z: Vector,
        r: Vector,
        label: Array,
        forward: Array,
        normals: Normals,
        lengths: Lengths,
    ) -> tuple[Vector, _Quadratic]:
        """λ (r + κ₃ (z·r) z/n) + κ₂ B(z, ·)ᵀ r/√n, conditioned on every B(z_a, z_a) known."""
        k, b, N, root = memory, label, memory.z.shape[0], jnp.sqrt(self.width)
        index = jnp.arange(N)
        c, norm, direction = split(k.rho, r)
        coordinates = jnp.where((index == b)[:, None], norm[None, :], c)
        exists = jnp.any(direction != 0, axis=0)[None, :]
        rows = np.tril_indices(N)[0]
        mask = jnp.concatenate([jnp.ones(1, bool), jnp.asarray(rows) < forward])[:, None]
        g = jnp.where(mask, normals[: _features(N)], 0)
        new = g + combine(root * dot(k.square, direction[None]) - dot(k.phi, g[None]), k.phi)
        gaussians = put(k.gaussians, jnp.where(exists, new, 0)[None], b, 0)
        # W as a symmetric matrix for every ρ_k, and the image of the new feature direction.
        triangle = _square(gaussians[:, 1:], N)
        eye = jnp.eye(N, dtype=z.dtype)[None, :, :, None]
        off = triangle * (1 - eye)
        W = off + jnp.swapaxes(off, 1, 2) + eye * (2**0.5 * triangle + gaussians[:, 0, None, None, :])
        c, norm, feature = split(k.psi, (k.z[b][:, None, :] * coordinates[None, :, :]).reshape(N * N, -1))
        components = jnp.sum(jnp.swapaxes(feature.reshape(N, N, -1), 0, 1)[:, :, None, :] * W, axis=(0, 1)) / root
        normals = normals[_features(N) :]
        used = self._directions(N, forward, b + 1, forward, b)
        fresh = _fresh(self.width, normals, lengths[1], used, 3 * N + b)
        image = fresh + combine(components - dot(k.zeta, fresh[None]), k.zeta)
        image = jnp.where(jnp.any(feature != 0, axis=0)[None, :], image, 0)
        B = combine(c, k.mixed) + norm[None, :] * image
        below = _radial_pull_back(self.width, self.kappa3, self.kappa2, z, r) + self.kappa2 / root * B
        return below, k._replace(
            rho=put(k.rho, direction[None], b, 0),
            r=put(k.r, coordinates[None], b, 0),
            gaussians=gaussians,
            psi=put(k.psi, feature[None], b, 0),
            mixed=put(k.mixed, image[None], b, 0),
        )

    @staticmethod
    def _squared(z: Float[Array, "labels paths"]) -> Float[Array, "features paths"]:
        """B(z, z) on (w, g): |z|², √2 z_i² and, below the diagonal, 2 z_i z_j."""
        rows = [2 * z[i : i + 1] * z[:i] for i in range(z.shape[0])]
        entries = [piece for i, row in enumerate(rows) for piece in (row, 2**0.5 * z[i : i + 1] * z[i : i + 1])]
        return jnp.concatenate([jnp.sum(z * z, axis=0, keepdims=True), *entries])


def _square(rows: Float[Array, "vectors entries paths"], N: int) -> Float[Array, "vectors N N paths"]:
    """Lower triangles from their rows; slices, because a gather moves one number at a time."""
    starts = [i * (i + 1) // 2 for i in range(N + 1)]
    return jnp.stack([pad(rows[:, a:b], N, 1) for a, b in itertools.pairwise(starts)], axis=1)


def _features(labels: int) -> int:
    """How many (w, g) there are for one ρ_k."""
    return 1 + labels * (labels + 1) // 2


def _radial(width: Array, kappa3: Array, kappa2: Array | float, z: Vector) -> Float[Array, "1 paths"]:
    """λ = exp[(κ₃/2 (|z|²/n - 1) - 3κ₂²/8)/n]."""
    square = jnp.sum(z * z, axis=0, keepdims=True)
    return jnp.exp((kappa3 / 2 * (square - 1) - 0.375 * kappa2 * kappa2) / width)


def _radial_pull_back(width: Array, kappa3: Array, kappa2: Array | float, z: Vector, r: Vector) -> Vector:
    overlap = jnp.sum(z * r, axis=0, keepdims=True)
    return _radial(width, kappa3, kappa2, z) * (r + kappa3 / width * overlap * z)


def limit_vectors(activation: AbstractActivation, width: float, dtype: jnp.dtype) -> AbstractVectors:
    """Layers of this width whose limit is that of an activation, as cheap as the activation allows.

    Raises:
        TypeError: for an activation without a limit.
    """
    equation = backward_of(activation)
    if isinstance(equation, OddBackward):
        return RadialCoordinates(jnp.asarray(width, dtype), jnp.asarray(equation.kappa3, dtype))
    if isinstance(equation, SmoothBackward):
        return QuadraticCoordinates(
            jnp.asarray(width, dtype), jnp.asarray(equation.kappa2, dtype), jnp.asarray(equation.kappa3, dtype)
        )
    # No closed form: the network itself, whose width is an integer, at the width of the step.
    return Neurons(activation, round(width), dtype)


def network_vectors(activation: AbstractActivation, width: int, dtype: jnp.dtype) -> AbstractVectors:
    """Layers of a finite network, exactly in law: in a few coordinates if it is linear, else neuron by neuron."""
    if isinstance(activation, Identity):
        return RadialCoordinates(jnp.asarray(width, dtype), jnp.zeros((), dtype))
    return Neurons(activation, width, dtype)
