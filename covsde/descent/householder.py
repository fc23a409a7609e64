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
import functools
import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from covsde.descent.passes import Pass
from covsde.descent.task import Ends, Sizes, Task
from covsde.descent.trajectory import Trajectory
from covsde.numerics.linalg import semidefinite_cholesky

Vector = Float[Array, "size paths"]
Vectors = Float[Array, "labels size paths"]
Scalars = Float[Array, " paths"]
Lengths = Float[Array, "layers P paths"]


# In units of the machine epsilon: a vector whose part beyond known ones is shorter, relative to it, is one of them.
ROUNDING = 16.0


class AbstractVectors(eqx.Module):
    """How the vectors of one layer (divided by √n) are stored, and how the activation acts on them."""

    # The width n; for a discretised limit 1/step, not necessarily an integer.
    width: eqx.AbstractVar[Float[Array, ""]]

    @abc.abstractmethod
    def size(self, labels: int) -> int:
        """Numbers stored per vector."""

    @abc.abstractmethod
    def grow(self, vectors: Array, labels: int, more: int) -> Array:
        """Vectors (…, size(labels), paths) as vectors (…, size(more), paths)."""

    @abc.abstractmethod
    def directions(self, labels: int) -> int:
        """Independent vectors of a layer that training reveals: the width must exceed it."""

    @abc.abstractmethod
    def revealed(self, labels: int, forward: Array | int, backward: Array | int) -> Float[Array, " size"]:
        """1 for the basis directions in use after this many forward and backward labels, 0 for others."""

    @abc.abstractmethod
    def lengths(self, key: PRNGKeyArray, used: Float[Array, " P"], layers: int, paths: int) -> Lengths:
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
    bottom: Array  # gradients in the inputs, (labels, size, paths)


# Arrays (…, labels, size, paths).
_PER_LABEL = ("e", "m", "h", "v", "gradients", "features", "saved", "bottom")


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


def _image(fresh: Vector, direction: Vector, frame: Vectors, images: Vectors) -> Vector:
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


def stages(P: int, steps: int) -> list[tuple[int, int]]:
    """Gradient steps [start, stop) during which arrays keep their size: the room is for the labels of `stop` steps.

    What is not revealed is zero, and costs as much as what is: half as much room for the first half of training saves
    almost half of all work, and more stages, or two for few labels, save less than their compilation costs.
    """
    cuts = sorted({0, (steps + 1) // 2, steps} if P * steps >= 8 else {0, steps})
    return list(itertools.pairwise(cuts))


@eqx.filter_jit
def train_revealed(
    space: AbstractVectors, task: Task, sizes: Sizes, key: PRNGKeyArray, ends: Ends, sweep: Pass
) -> Trajectory:
    """Gradient descent on the hidden matrices, W ← W - (η₀/n) ∂loss/∂W, of networks f = s w·h_d/√n.

    Inputs are h_0 = E x with E as wide as the layers, EᵀE = n; E and the readout w may be trained at the same rate.

    Args:
        space: how vectors are stored, with the width n.
        task: what is trained, in arrays of the dtype of the computation.
        sizes: depth d, saved layers and the number of independent paths.
        key: JAX key.
        ends: s, and whether E and w move.
        sweep: how a pass goes through the layers.

    Returns:
        Outputs and order parameters at the recorded steps; labels = P (updates + 1).
    """
    V0, P, dtype = task.V0, task.inputs, task.dtype
    depth, layers, paths = sizes.depth, sizes.layers, sizes.draws
    n = space.width
    root = jnp.sqrt(n)
    rate = task.learning_rate / task.substeps * ends.scale / (n * root)
    L, _ = semidefinite_cholesky(V0[None])
    error_signal = jax.vmap(task.error_signal, in_axes=1, out_axes=1)

    def drawn(
        key: PRNGKeyArray, size: int, revealed: Callable[[Array], Array]
    ) -> tuple[Float[Array, "layers P size paths"], Lengths]:
        normal_key, length_key = jax.random.split(key)
        used = jnp.sum(jax.vmap(revealed)(jnp.arange(P)), axis=1)
        lengths = space.lengths(length_key, used, depth, paths)
        return jax.random.normal(normal_key, (depth, P, size, paths), dtype), lengths

    def trained_inputs(s: _State, labels: int) -> Vectors:
        first = jnp.pad(L[0], ((0, 0), (0, space.size(labels) - P)))[:, :, None]
        first = jnp.broadcast_to(first, (*first.shape[:2], paths))
        if not ends.train_input:
            return first
        # Which input a label is of: forces of labels not revealed yet are 0.
        overlap = jnp.tile(V0, (1, labels // P))
        return first + rate * jnp.einsum("ac,cr,cdr->adr", overlap, s.forces, s.bottom)

    def trained_readout(s: _State) -> Vector:
        return s.readout + rate * combine(s.forces, s.features[-1]) if ends.train_readout else s.readout

    def forward_pass(s: _State, inputs: Vectors, k: Array, key: PRNGKeyArray, labels: int) -> tuple[Any, ...]:
        normals, lengths = drawn(key, space.size(labels), lambda p: space.revealed(labels, k * P + p, k * P))

        def layer(x: Vectors, inputs: tuple[Any, ...]) -> tuple[Vectors, tuple[Any, ...]]:
            e, m, h, v, gradients, features, normals, lengths = inputs

            def reveal(carry: tuple[Array, ...], new: tuple[Array, ...]) -> tuple[Any, tuple[Array, ...]]:
                (e, m), (p, x, normals, length) = carry, new
                a = k * P + p
                c, norm, direction = split(e, x)
                fresh = space.fresh(normals, length, space.revealed(labels, a, k * P), a)
                image = _image(fresh, direction, h, v)
                push = s.forces * dot(features, x[None])
                z = combine(c, m) + norm[None, :] * image + rate * combine(push, gradients)
                e, m = put(e, direction[None], a, 0), put(m, image[None], a, 0)
                return (e, m), (direction, image, z, space.activate(z))

            _, kept = jax.lax.scan(reveal, (e, m), (jnp.arange(P), x, normals, lengths))
            return kept[-1], kept

        xs = (s.e, s.m, s.h, s.v, s.gradients, s.features[:-1], normals, lengths)
        return tuple(sweep(layer, inputs, xs, downward=False))

    def backward_pass(
        s: _State, inputs: Vectors, z: Array, readout: Vector, k: Array, key: PRNGKeyArray, labels: int
    ) -> tuple[Any, ...]:
        known = (k + 1) * P
        normals, lengths = drawn(key, space.size(labels), lambda p: space.revealed(labels, known, k * P + p))

        def layer(g: Vectors, inputs: tuple[Any, ...]) -> tuple[Vectors, tuple[Any, ...]]:
            e, m, h, v, gradients, features, z_below, normals, lengths = inputs

            def reveal(carry: tuple[Array, ...], new: tuple[Array, ...]) -> tuple[Any, tuple[Array, ...]]:
                (h, v), (p, g, z, normals, length) = carry, new
                b = k * P + p
                c, norm, direction = split(h, g)
                fresh = space.fresh(normals, length, space.revealed(labels, known, b), labels + b)
                image = _image(fresh, direction, e, m)
                push = s.forces * dot(gradients, g[None])
                r = combine(c, v) + norm[None, :] * image + rate * combine(push, features)
                h, v = put(h, direction[None], b, 0), put(v, image[None], b, 0)
                return (h, v), (direction, image, r, space.pull_back(z, r))

            _, kept = jax.lax.scan(reveal, (h, v), (jnp.arange(P), g, z_below, normals, lengths))
            directions, images, r, below = kept
            x = jax.lax.dynamic_slice_in_dim(features, k * P, P)
            kernel = dot(x[:, None], x[None, :]) * dot(g[:, None], g[None, :])
            return below, (directions, images, r, g, kernel)

        top = jnp.stack([space.pull_back(z[-1, p], readout) for p in range(P)])
        # Nothing acts on the inputs: what is done at layer 0 is not used.
        z_below = jnp.concatenate([inputs[None], z[:-1]])
        xs = (s.e, s.m, s.h, s.v, s.gradients, s.features[:-1], z_below, normals, lengths)
        return tuple(sweep(layer, top, xs, downward=True))

    readout_key, length_key, training_key = jax.random.split(key, 3)

    def step(labels: int, s: _State, k: Array) -> tuple[_State, Array]:
        up, down = jax.random.split(jax.random.fold_in(training_key, k))
        at = k * P
        inputs, readout = trained_inputs(s, labels), trained_readout(s)
        directions, images, z, x = forward_pass(s, inputs, k, up, labels)
        f = ends.scale * root * dot(x[-1], readout[None])
        s = s._replace(
            e=put(s.e, directions, at, 1),
            m=put(s.m, images, at, 1),
            features=put(s.features, jnp.concatenate([inputs[None], x]), at, 1),
            outputs=put(s.outputs, f, at, 0),
        )
        # The forces of this step act from the next step on.
        directions, images, r, g, kernel = backward_pass(s, inputs, z, readout, k, down, labels)
        above = jnp.broadcast_to(readout[None, None], (1, *r.shape[1:]))
        s = s._replace(
            h=put(s.h, directions, at, 1),
            v=put(s.v, images, at, 1),
            gradients=put(s.gradients, g, at, 1),
            saved=put(s.saved, jnp.concatenate([r, above])[jnp.asarray(layers)], at, 1),
            forces=put(s.forces, error_signal(f), at, 0),
            bottom=put(s.bottom, r[0], at, 0),
        )
        return s, jnp.moveaxis(jnp.mean(kernel, axis=0), -1, 0)

    def zeros(*shape: int) -> Array:
        return jnp.zeros((*shape, paths), dtype)

    def begin(labels: int) -> _State:
        size = space.size(labels)
        # The inputs and their features at the top are there before the readout.
        known = space.revealed(labels, P, 0)
        readout = space.fresh(
            jax.random.normal(readout_key, (size, paths), dtype),
            space.lengths(length_key, jnp.sum(known)[None], 1, paths)[0, 0],
            known,
            jnp.asarray(labels),
        )
        return _State(
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
            bottom=zeros(labels, size),
        )

    def grow(s: _State, labels: int, more: int) -> _State:
        vectors = {name: space.grow(getattr(s, name), labels, more) for name in _PER_LABEL}
        return s._replace(
            **{name: pad(wider, more, -3) for name, wider in vectors.items()},
            readout=space.grow(s.readout, labels, more),
            outputs=pad(s.outputs, more, 0),
            forces=pad(s.forces, more, 0),
        )

    s, labels, kernels = None, 0, []
    for first, last in stages(P, task.updates * task.substeps + 1):
        s, labels = begin(P * last) if s is None else grow(s, labels, P * last), P * last
        s, ntk = jax.lax.scan(functools.partial(step, labels), s, jnp.arange(first, last))
        kernels.append(ntk)
    assert s is not None
    kept, steps = task.recorded()
    x, g = s.features[jnp.asarray(layers)][:, kept], s.saved[:, kept]

    def products(u: Array, v: Array) -> Array:
        return jnp.einsum("tadr,tbdr->trab", u, v)

    ntk = jnp.concatenate(kernels)[steps]
    return Trajectory(s.outputs[kept], products(x, x), products(g, g), root * products(x, g), ntk)
