"""Training a deep network whose weights are never drawn, only revealed where the vectors of training meet them.

A Gaussian matrix W is known only through W e (forward) and Wᵀ h (backward) for the vectors seen so far. Kept per layer:
orthonormal e_i with images m_i = W e_i/√n, orthonormal h_j with images v_j = Wᵀ h_j/√n. A new forward vector is split
on the e_i; its new direction has an image whose components on the h_j are v_j·e, and which is a fresh Gaussian vector
elsewhere; backward is the mirror image. Updates of the weights are outer products of vectors already kept, and are
added as vectors. Nothing nearly equal is subtracted and no Gram matrix is factored, so a path cannot leave the cone.

Labels are (input, training step) in the order of revelation; a vector that is not revealed yet is zero, so that sums
over all labels are sums over the known ones. Arrays are (labels, size, paths): paths last.

Source: for the algorithm, Y. Lu (2021), Householder dice, for what conditioning on Gaussian matrices allows.
"""

import abc
from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from covsde._linalg import semidefinite_cholesky

Vector = Float[Array, "size paths"]
Vectors = Float[Array, "labels size paths"]
Scalars = Float[Array, " paths"]


class AbstractVectors(eqx.Module):
    """How the vectors of one layer (divided by √n) are stored, and how the activation acts on them."""

    # The width n; for a discretised limit 1/step, not necessarily an integer.
    width: eqx.AbstractVar[Float[Array, ""]]

    @abc.abstractmethod
    def size(self, labels: int) -> int:
        """Numbers stored per vector."""

    @abc.abstractmethod
    def fresh(self, normals: Vector, chi_key: PRNGKeyArray, revealed: Float[Array, " size"], slot: Array) -> Vector:
        """A Gaussian vector of variance 1/n independent of everything, given standard normals.

        Args:
            normals: standard normals.
            chi_key: for what else is random.
            revealed: 1 for the basis directions in use, 0 for others.
            slot: the basis direction free for this vector.
        """

    @abc.abstractmethod
    def activate(self, z: Vector) -> Vector:
        """√c φ_s(z)."""

    @abc.abstractmethod
    def pull_back(self, z: Vector, r: Vector) -> Vector:
        """√c φ_s'(z)ᵀ r."""


class Trajectory(NamedTuple):
    """Training on every path, labels in the order (training step, input).

    Attributes:
        outputs: f, (labels, paths).
        Phi: h·h/n at the saved layers, (times, paths, labels, labels).
        G: ∂f/∂h·∂f/∂h, likewise.
        A: h(a)·∂f(b)/∂h, likewise.
        ntk: tangent kernel of the hidden weights per layer at each training step, (steps, paths, P, P).
    """

    outputs: Float[Array, "labels paths"]
    Phi: Float[Array, "times paths labels labels"]
    G: Float[Array, "times paths labels labels"]
    A: Float[Array, "times paths labels labels"]
    ntk: Float[Array, "steps paths P P"]


class _State(NamedTuple):
    # Per weight matrix, (depth, labels, size, paths): frames e, h, images m, v, gradients at pre-activations above.
    e: Array
    m: Array
    h: Array
    v: Array
    gradients: Array
    # Post-activations (depth + 1, labels, size, paths), and gradients in them at the saved layers.
    features: Array
    saved: Array
    outputs: Array  # (labels, paths)
    forces: Array  # -∂loss/∂f, (labels, paths)
    readout: Array  # (size, paths)


def _dot(u: Array, v: Array) -> Array:
    """Inner products over the size axis; leading axes are labels."""
    return jnp.sum(u * v, axis=-2)


def _combine(c: Array, vectors: Array) -> Vector:
    return jnp.sum(c[:, None, :] * vectors, axis=0)


def _split(frame: Vectors, v: Vector) -> tuple[Array, Scalars, Vector]:
    """Components of v on a frame, the norm of the rest and its direction (0 if there is none); Gram–Schmidt, twice."""
    first = _dot(frame, v[None])
    rest = v - _combine(first, frame)
    second = _dot(frame, rest[None])
    rest = rest - _combine(second, frame)
    norm, whole = jnp.sqrt(_dot(rest, rest)), jnp.sqrt(_dot(v, v))
    new = norm > 1e4 * jnp.finfo(v.dtype).eps * whole
    direction = jnp.where(new[None, :], rest / jnp.where(new, norm, 1)[None, :], 0)
    return first + second, jnp.where(new, norm, 0), direction


def _image(fresh: Vector, direction: Vector, frame: Vectors, images: Vectors) -> Vector:
    """W e/√n for a new direction e: prescribed on the frame of the other side, fresh elsewhere, 0 if e is."""
    known = _dot(images, direction[None]) - _dot(frame, fresh[None])
    exists = jnp.any(direction != 0, axis=0)
    return jnp.where(exists[None, :], fresh + _combine(known, frame), 0)


def _put(whole: Array, block: Array, start: Array, axis: int) -> Array:
    return jax.lax.dynamic_update_slice_in_dim(whole, block, start, axis=axis)


@eqx.filter_jit
def train_revealed(
    space: AbstractVectors,
    V0: Float[Array, "P P"],
    targets: Float[Array, " P"],
    key: PRNGKeyArray,
    *,
    loss: Callable[[Array, Array], Array],
    learning_rate: Float[Array, ""],
    output_scale: Float[Array, ""],
    updates: int,
    depth: int,
    layers: tuple[int, ...],
    paths: int,
) -> Trajectory:
    """Gradient descent on the hidden matrices, W ← W - (η₀/n) ∂loss/∂W, of networks f = s w·h_d/√n.

    Args:
        space: how vectors are stored, with the width n.
        V0: input Gram matrix (P, P); its dtype is that of the computation.
        targets: y (P,).
        key: JAX key.
        loss: maps outputs (P,) and targets (P,) to a number.
        learning_rate: η₀.
        output_scale: s.
        updates: training steps.
        depth: number of layers d.
        layers: layers at which order parameters are saved, 0 … d.
        paths: number of independent paths.

    Returns:
        Outputs and order parameters; labels = P (updates + 1).
    """
    P, dtype = V0.shape[0], V0.dtype
    labels = P * (updates + 1)
    size = space.size(labels)
    n = space.width
    root = jnp.sqrt(n)
    rate = learning_rate * output_scale / (n * root)
    slots = jnp.arange(size)
    L, _ = semidefinite_cholesky(V0[None])
    inputs = jnp.broadcast_to(jnp.pad(L[0], ((0, 0), (0, size - P)))[:, :, None], (P, size, paths))
    negative_gradient = jax.vmap(lambda f: -jax.grad(loss)(f, targets), in_axes=1, out_axes=1)

    def revealed(forward: Array | int, backward: Array | int) -> Array:
        return ((slots < forward) | ((slots >= labels) & (slots < labels + backward))).astype(dtype)

    def forward_pass(s: _State, k: Array, key: PRNGKeyArray) -> tuple[Array, ...]:
        normal_key, chi_key = jax.random.split(key)
        normals = jax.random.normal(normal_key, (depth, P, size, paths), dtype)
        chi_keys = jax.random.split(chi_key, (depth, P))

        def layer(x: Vectors, inputs: tuple[Array, ...]) -> tuple[Vectors, tuple[Array, ...]]:
            e, m, h, v, gradients, features, normals, chi_keys = inputs
            kept: list[tuple[Vector, ...]] = []
            for p in range(P):
                a = k * P + p
                c, norm, direction = _split(e, x[p])
                fresh = space.fresh(normals[p], chi_keys[p], revealed(a, k * P), a)
                image = _image(fresh, direction, h, v)
                push = s.forces * _dot(features, x[p][None])
                z = _combine(c, m) + norm[None, :] * image + rate * _combine(push, gradients)
                e, m = _put(e, direction[None], a, 0), _put(m, image[None], a, 0)
                kept.append((direction, image, z, space.activate(z)))
            directions, images, z, x = (jnp.stack(column) for column in zip(*kept, strict=True))
            return x, (directions, images, z, x)

        xs = (s.e, s.m, s.h, s.v, s.gradients, s.features[:-1], normals, chi_keys)
        return jax.lax.scan(layer, inputs, xs)[1]

    def backward_pass(s: _State, z: Array, k: Array, key: PRNGKeyArray) -> tuple[Array, ...]:
        normal_key, chi_key = jax.random.split(key)
        normals = jax.random.normal(normal_key, (depth, P, size, paths), dtype)
        chi_keys = jax.random.split(chi_key, (depth, P))

        def layer(g: Vectors, inputs: tuple[Array, ...]) -> tuple[Vectors, tuple[Array, ...]]:
            e, m, h, v, gradients, features, z_below, normals, chi_keys = inputs
            kept: list[tuple[Vector, ...]] = []
            for p in range(P):
                b = k * P + p
                c, norm, direction = _split(h, g[p])
                fresh = space.fresh(normals[p], chi_keys[p], revealed((k + 1) * P, b), labels + b)
                image = _image(fresh, direction, e, m)
                push = s.forces * _dot(gradients, g[p][None])
                r = _combine(c, v) + norm[None, :] * image + rate * _combine(push, features)
                h, v = _put(h, direction[None], b, 0), _put(v, image[None], b, 0)
                kept.append((direction, image, r, space.pull_back(z_below[p], r)))
            directions, images, r, below = (jnp.stack(column) for column in zip(*kept, strict=True))
            x = jax.lax.dynamic_slice_in_dim(features, k * P, P)
            kernel = _dot(x[:, None], x[None, :]) * _dot(g[:, None], g[None, :])
            return below, (directions, images, r, g, kernel)

        top = jnp.stack([space.pull_back(z[-1, p], s.readout) for p in range(P)])
        # Nothing acts on the inputs: the pull-back at layer 0 is not used.
        xs = (
            s.e,
            s.m,
            s.h,
            s.v,
            s.gradients,
            s.features[:-1],
            jnp.concatenate([inputs[None], z[:-1]]),
            normals,
            chi_keys,
        )
        return jax.lax.scan(layer, top, xs, reverse=True)[1]

    readout_key, chi_key, training_key = jax.random.split(key, 3)
    readout = space.fresh(
        jax.random.normal(readout_key, (size, paths), dtype), chi_key, revealed(P, 0), jnp.asarray(labels)
    )

    def step(s: _State, k: Array) -> tuple[_State, Array]:
        up, down = jax.random.split(jax.random.fold_in(training_key, k))
        at = k * P
        directions, images, z, x = forward_pass(s, k, up)
        f = output_scale * root * _dot(x[-1], s.readout[None])
        s = s._replace(
            e=_put(s.e, directions, at, 1),
            m=_put(s.m, images, at, 1),
            features=_put(s.features, jnp.concatenate([inputs[None], x]), at, 1),
            outputs=_put(s.outputs, f, at, 0),
        )
        # The forces of this step act from the next step on.
        directions, images, r, g, kernel = backward_pass(s, z, k, down)
        above = jnp.broadcast_to(s.readout[None, None], (1, *r.shape[1:]))
        s = s._replace(
            h=_put(s.h, directions, at, 1),
            v=_put(s.v, images, at, 1),
            gradients=_put(s.gradients, g, at, 1),
            saved=_put(s.saved, jnp.concatenate([r, above])[jnp.asarray(layers)], at, 1),
            forces=_put(s.forces, negative_gradient(f), at, 0),
        )
        return s, jnp.moveaxis(jnp.mean(kernel, axis=0), -1, 0)

    def zeros(*shape: int) -> Array:
        return jnp.zeros((*shape, paths), dtype)

    start = _State(
        e=zeros(depth, labels, size),
        m=zeros(depth, labels, size),
        h=zeros(depth, labels, size),
        v=zeros(depth, labels, size),
        gradients=zeros(depth, labels, size),
        features=zeros(depth + 1, labels, size),
        saved=zeros(len(layers), labels, size),
        outputs=zeros(labels),
        forces=zeros(labels),
        readout=readout,
    )
    s, ntk = jax.lax.scan(step, start, jnp.arange(updates + 1))
    x = s.features[jnp.asarray(layers)]

    def products(u: Array, v: Array) -> Array:
        return jnp.einsum("tadr,tbdr->trab", u, v)

    return Trajectory(s.outputs, products(x, x), products(s.saved, s.saved), root * products(x, s.saved), ntk)
