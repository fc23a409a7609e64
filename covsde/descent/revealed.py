"""Gradient descent on hidden matrices that are revealed where the vectors of training meet them.

Every pass of an input through the network is a label: forward from below, backward from above. A pass needs the matrix
at initialization, whose images of known directions are kept, and the updates so far, whose sum is outer products of
vectors already kept, with the coefficients β and Ω of the optimiser:

    W(k) x = β_k W(0) x + (1/n) Σ_{j<k} Ω_kj U_j x,      U_j = (s/√n) Σ_{b in batch j} Δ_b u_b h_bᵀ

With several outputs one covector Σ_c Δ_c w_c per label is pulled back, whatever their number: it is all that an update
needs, for the backward pass is linear in it. What is only read, test inputs above all, is read after the training and
has no backward labels: the order in which a Gaussian matrix is revealed does not matter, and each pass needs only W(0)
and the updates before it. Each test input is revealed on its own, jointly with the training at all its updates; two of
them are independent given the training. Trained inputs that are not in all batches are read together.
"""

import functools
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from covsde.descent.householder import AbstractVectors, Lengths, Room, Vectors, combine, dot, image_of, pad, put, split
from covsde.descent.passes import Pass
from covsde.descent.rooms import stages
from covsde.descent.task import Ends, Sizes, Task
from covsde.descent.trajectory import Trajectory
from covsde.numerics.linalg import semidefinite_cholesky


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
    outputs: Array  # (labels, C, paths)
    errors: Array  # Δ = -∂loss/∂f, (labels, C, paths)
    forces: Array  # by which a label's outer product counts in updates, (labels, paths)
    readout: Array  # (C, size, paths)
    bottom: Array  # gradients in the inputs, (labels, size, paths)


# Arrays (…, labels, size, paths).
_PER_LABEL = ("e", "m", "h", "v", "gradients", "features", "saved", "bottom")


class _Known(NamedTuple):
    """How many directions are in use on either side before a pass, and the room there is."""

    room: Room
    forward: Array | int
    backward: Array | int


class _Machine(eqx.Module):
    """What one compiled training is made of; sums over labels are sums over those revealed so far."""

    space: AbstractVectors
    task: Task
    ends: Ends
    root: Float[Array, "M M"]  # a square root of V0: its rows are the inputs
    beta: Float[Array, " steps"]
    push: Float[Array, "steps steps"]  # s Ω/n^{3/2}
    sweep: Pass = eqx.field(static=True)
    depth: int = eqx.field(static=True)
    layers: tuple[int, ...] = eqx.field(static=True)
    paths: int = eqx.field(static=True)

    def room(self, passes: int) -> Room:
        """Directions of the labels of so many passes; all inputs and all readouts are directions from the start."""
        labels = self.task.batches.size * passes
        return Room(max(labels, self.task.inputs), max(labels, self.task.outputs))

    def drive(self, s: _State, k: Array) -> Float[Array, "labels paths"]:
        """By which each label's outer product stands in the updates before step k."""
        label = jnp.arange(s.forces.shape[0]) // self.task.batches.size
        return self.push[k][label][:, None] * s.forces

    def inputs(self, s: _State, which: Int[Array, " R"], k: Array) -> Vectors:
        """The vectors of layer 0 at step k, (R, size, paths)."""
        size, rows = s.readout.shape[1], self.root[which]
        first = jnp.pad(rows, ((0, 0), (0, size - rows.shape[1])))[:, :, None]
        first = jnp.broadcast_to(first, (*first.shape[:2], self.paths))
        if not self.ends.train_input:
            return first
        owners = self.task.owners()[: s.forces.shape[0]]
        overlap = self.task.V0[which][:, owners]
        return self.beta[k] * first + jnp.einsum("ac,cr,cdr->adr", overlap, self.drive(s, k), s.bottom)

    def readouts(self, s: _State, k: Array) -> Float[Array, "C size paths"]:
        """The readouts at step k."""
        if not self.ends.train_readout:
            return s.readout
        label = jnp.arange(s.forces.shape[0]) // self.task.batches.size
        moved = jnp.einsum("a,acr,adr->cdr", self.push[k][label], s.errors, s.features[-1])
        return self.beta[k] * s.readout + moved

    def drawn(
        self, key: PRNGKeyArray, known: Array, back: Array, room: Room
    ) -> tuple[Float[Array, "layers P size paths"], Lengths]:
        """Normals, and lengths beyond the directions in use, (layers, P) forward and backward."""
        normal_key, length_key = jax.random.split(key)
        used = jax.vmap(jax.vmap(lambda f, b: jnp.sum(self.space.revealed(room, f, b))))(known, back)
        shape = (*known.shape, self.space.size(room), self.paths)
        return jax.random.normal(normal_key, shape, self.root.dtype), self.space.lengths(length_key, used, self.paths)

    def up(self, s: _State, x: Vectors, k: Array, row: Array, known: _Known, key: PRNGKeyArray) -> tuple[Any, ...]:
        """A forward pass of new labels: directions, images, z and features, each (depth, R, size, paths)."""
        room, R = known.room, x.shape[0]
        # An image is in the layer above; at the top all readouts are known, but before they are drawn.
        top = jnp.where(jnp.asarray(known.backward) > 0, jnp.maximum(known.backward, self.task.outputs), 0)
        back = jnp.where(jnp.arange(self.depth) == self.depth - 1, top, known.backward)
        forward = known.forward + jnp.arange(R)
        known_forward, known_back = jnp.broadcast_arrays(forward[None], back[:, None])
        normals, lengths = self.drawn(key, known_forward, known_back, room)
        drive, beta = self.drive(s, k), self.beta[k]

        def layer(x: Vectors, inputs: tuple[Any, ...]) -> tuple[Vectors, tuple[Any, ...]]:
            e, m, h, v, gradients, features, normals, lengths, back = inputs

            def reveal(carry: tuple[Array, ...], new: tuple[Array, ...]) -> tuple[Any, tuple[Array, ...]]:
                (e, m), (p, x, normals, length) = carry, new
                a = known.forward + p
                c, norm, direction = split(e, x)
                fresh = self.space.fresh(normals, length, self.space.revealed(room, a, back), a)
                image = image_of(fresh, direction, h, v)
                z = beta * (combine(c, m) + norm[None, :] * image)
                z = z + combine(drive * dot(features, x[None]), gradients)
                e, m = put(e, direction[None], row + p, 0), put(m, image[None], row + p, 0)
                return (e, m), (direction, image, z, self.space.activate(z))

            _, kept = jax.lax.scan(reveal, (e, m), (jnp.arange(R), x, normals, lengths))
            return kept[-1], kept

        xs = (s.e, s.m, s.h, s.v, s.gradients, s.features[:-1], normals, lengths, back)
        return tuple(self.sweep(layer, x, xs, downward=False))

    def down(
        self, s: _State, top: Vectors, z_below: Array, k: Array, row: Array, known: _Known, key: PRNGKeyArray
    ) -> tuple[Any, ...]:
        """A backward pass of the same labels: directions, images, gradients in h and z, Φ∘G of the labels."""
        room, R = known.room, top.shape[0]
        bottom = jnp.maximum(known.forward, self.task.inputs)
        forward = jnp.where(jnp.arange(self.depth) == 0, bottom, known.forward)
        known_forward, known_back = jnp.broadcast_arrays(forward[:, None], known.backward + jnp.arange(R)[None])
        normals, lengths = self.drawn(key, known_forward, known_back, room)
        drive, beta = self.drive(s, k), self.beta[k]

        def layer(g: Vectors, inputs: tuple[Any, ...]) -> tuple[Vectors, tuple[Any, ...]]:
            e, m, h, v, gradients, features, z_below, normals, lengths, forward = inputs

            def reveal(carry: tuple[Array, ...], new: tuple[Array, ...]) -> tuple[Any, tuple[Array, ...]]:
                (h, v), (p, g, z, normals, length) = carry, new
                b = known.backward + p
                c, norm, direction = split(h, g)
                fresh = self.space.fresh(normals, length, self.space.revealed(room, forward, b), room.forward + b)
                image = image_of(fresh, direction, e, m)
                r = beta * (combine(c, v) + norm[None, :] * image)
                r = r + combine(drive * dot(gradients, g[None]), features)
                h, v = put(h, direction[None], row + p, 0), put(v, image[None], row + p, 0)
                return (h, v), (direction, image, r, self.space.pull_back(z, r))

            _, kept = jax.lax.scan(reveal, (h, v), (jnp.arange(R), g, z_below, normals, lengths))
            directions, images, r, below = kept
            x = jax.lax.dynamic_slice_in_dim(features, row, R)
            kernel = dot(x[:, None], x[None, :]) * dot(g[:, None], g[None, :])
            return below, (directions, images, r, g, kernel)

        xs = (s.e, s.m, s.h, s.v, s.gradients, s.features[:-1], z_below, normals, lengths, forward)
        return tuple(self.sweep(layer, top, xs, downward=True))

    def outputs(self, x: Vectors, readouts: Float[Array, "C size paths"]) -> Float[Array, "R C paths"]:
        """f = s √n x·w of vectors divided by √n."""
        return self.ends.scale * jnp.sqrt(self.space.width) * dot(x[:, None], readouts[None])

    def errors(self, f: Float[Array, "R C paths"], k: Array) -> Float[Array, "R C paths"]:
        """Δ = -∂loss/∂f on every path."""
        if self.task.targets.ndim > 1:
            return jax.vmap(self.task.error_signal, in_axes=(2, None), out_axes=2)(f, k)
        return jax.vmap(self.task.error_signal, in_axes=(1, None), out_axes=1)(f[:, 0], k)[:, None]

    def step(self, key: PRNGKeyArray, room: Room, s: _State, k: Array) -> tuple[_State, Array]:
        """One pass of a batch, up and down."""
        up, down = jax.random.split(jax.random.fold_in(key, k))
        batch, size = self.task.batches.row(k // self.task.substeps), self.task.batches.size
        at = k * size
        inputs, readouts = self.inputs(s, batch, k), self.readouts(s, k)
        directions, images, z, x = self.up(s, inputs, k, at, _Known(room, at, at), up)
        f = self.outputs(x[-1], readouts)
        s = s._replace(
            e=put(s.e, directions, at, 1),
            m=put(s.m, images, at, 1),
            features=put(s.features, jnp.concatenate([inputs[None], x]), at, 1),
            outputs=put(s.outputs, f, at, 0),
        )
        errors = self.errors(f - s.outputs[:size] if self.task.centred else f, k)
        if self.task.outputs == 1:
            covectors, forces = jnp.broadcast_to(readouts, (size, *readouts.shape[1:])), errors[:, 0]
        else:
            covectors, forces = jnp.einsum("acr,cdr->adr", errors, readouts), jnp.ones_like(errors[:, 0])
        top = jnp.stack([self.space.pull_back(z[-1, p], covectors[p]) for p in range(size)])
        # Nothing acts on the inputs: what is done at layer 0 is not used.
        z_below = jnp.concatenate([inputs[None], z[:-1]])
        # The forces of this step act from the next step on.
        known = _Known(room, at + size, at)
        directions, images, r, g, kernel = self.down(s, top, z_below, k, at, known, down)
        s = s._replace(
            h=put(s.h, directions, at, 1),
            v=put(s.v, images, at, 1),
            gradients=put(s.gradients, g, at, 1),
            saved=put(s.saved, jnp.concatenate([r, covectors[None]])[jnp.asarray(self.layers)], at, 1),
            errors=put(s.errors, errors, at, 0),
            forces=put(s.forces, forces, at, 0),
            bottom=put(s.bottom, r[0], at, 0),
        )
        return s, jnp.moveaxis(jnp.mean(kernel, axis=0), -1, 0)

    def begin(self, passes: int, readout_key: PRNGKeyArray, length_key: PRNGKeyArray) -> _State:
        """Nothing revealed but the readouts; the first batch and its features at the top are there before them."""
        room, labels, C = self.room(passes), self.task.batches.size * passes, self.task.outputs
        size, first = self.space.size(room), self.task.batches.size
        known = [self.space.revealed(room, first, c) for c in range(C)]
        normals = jax.random.normal(readout_key, (C, size, self.paths), self.root.dtype)
        lengths = self.space.lengths(length_key, jnp.sum(jnp.stack(known), axis=1)[None], self.paths)[0]
        readout = [self.space.fresh(normals[c], lengths[c], known[c], jnp.asarray(room.forward + c)) for c in range(C)]

        def zeros(*shape: int) -> Array:
            return jnp.zeros((*shape, self.paths), self.root.dtype)

        per_layer = zeros(self.depth, labels, size)
        return _State(
            e=per_layer,
            m=per_layer,
            h=per_layer,
            v=per_layer,
            gradients=per_layer,
            features=zeros(self.depth + 1, labels, size),
            saved=zeros(len(self.layers), labels, size),
            outputs=zeros(labels, C),
            errors=zeros(labels, C),
            forces=zeros(labels),
            readout=jnp.stack(readout),
            bottom=zeros(labels, size),
        )

    def grow(self, s: _State, room: Room, more: Room) -> _State:
        """The same vectors with room for more directions."""
        vectors = {name: self.space.grow(getattr(s, name), room, more) for name in (*_PER_LABEL, "readout")}
        return s._replace(**vectors)

    def extend(self, s: _State, labels: int) -> _State:
        """The same with room for more labels."""
        per_label = {name: pad(getattr(s, name), labels, -3) for name in (*_PER_LABEL, "outputs", "errors")}
        return s._replace(**per_label, forces=pad(s.forces, labels, 0))

    def read(self, s: _State, room: Room, blocks: Int[Array, "blocks R"], key: PRNGKeyArray) -> tuple[Array, Array]:
        """Outputs (blocks, updates + 1, R, C, paths) and movement (blocks, updates + 1, times, R, paths) of inputs."""
        R, labels = blocks.shape[1], s.forces.shape[0]
        reads = (self.task.updates + 1) * R
        more = Room(room.forward + reads, room.backward)
        s = self.grow(s, room, more)
        s = s._replace(e=pad(s.e, labels + reads, -3), m=pad(s.m, labels + reads, -3))
        layers = jnp.asarray(self.layers)

        def one(given: tuple[Array, PRNGKeyArray]) -> tuple[Array, Array]:
            block, key = given

            def update(now: tuple[Array, Array, Array], r: Array) -> tuple[Any, tuple[Array, Array]]:
                e, m, first = now
                k = r * self.task.substeps
                x0 = self.inputs(s, block, k)
                known = _Known(more, room.forward + r * R, room.backward)
                now_known = s._replace(e=e, m=m)
                directions, images, _, x = self.up(now_known, x0, k, labels + r * R, known, jax.random.fold_in(key, r))
                f = self.outputs(x[-1], self.readouts(s, k))
                features = jnp.concatenate([x0[None], x])[layers]
                first = jnp.where(r == 0, features, first)
                e, m = put(e, directions, labels + r * R, 1), put(m, images, labels + r * R, 1)
                return (e, m, first), (f, jnp.sum((features - first) ** 2, axis=2))

            first = jnp.zeros((len(self.layers), R, s.readout.shape[1], self.paths), s.e.dtype)
            _, kept = jax.lax.scan(update, (s.e, s.m, first), jnp.arange(self.task.updates + 1))
            return kept

        return jax.lax.map(one, (blocks, jax.random.split(key, blocks.shape[0])))


@eqx.filter_jit
def train_revealed(
    space: AbstractVectors,
    task: Task,
    sizes: Sizes,
    key: PRNGKeyArray,
    ends: Ends,
    sweep: Pass,
    begun: tuple[_State, Array] | None = None,
) -> Trajectory:
    """Gradient descent on the hidden matrices of networks f = s w·h_d/√n whose weights are revealed.

    Inputs are h_0 = E x with E as wide as the layers, EᵀE = n; E and the readouts w may be trained by the same rule.

    Args:
        space: how vectors are stored, with the width n.
        task: what is trained, in arrays of the dtype of the computation.
        sizes: depth d, saved layers and the number of independent paths.
        key: JAX key.
        ends: s, and whether E and w move.
        sweep: how a pass goes through the layers.
        begun: the snapshot of the same paths after fewer updates, from which they go on.

    Returns:
        Outputs and movement at the recorded updates, and order parameters of all labels kept.
    """
    n, batches = space.width, task.batches
    table = task.optimizer.table(task.updates, n, task.substeps)
    L, _ = semidefinite_cholesky(task.V0[None])
    push = ends.scale / (n * jnp.sqrt(n)) * jnp.pad(table.Omega, ((0, 0), (0, 1)))
    machine = _Machine(space, task, ends, L[0], table.beta, push, sweep, sizes.depth, sizes.layers, sizes.draws)
    readout_key, length_key, training_key = jax.random.split(key, 3)
    looked = tuple(k * task.substeps + batches.constant for k in task.looked)
    s, room, kernels = None, Room(0, 0), []
    if begun is not None:
        (s, known), room = begun, machine.room(looked[-1])
        kernels = [known]
    for first, last in stages(batches.size, task.events, looked):
        if begun is not None and last <= looked[-1]:
            continue
        more = machine.room(last)
        if s is None:
            s = machine.begin(last, readout_key, length_key)
        else:
            s = machine.extend(machine.grow(s, room, more), batches.size * last)
        room = more
        s, ntk = jax.lax.scan(functools.partial(machine.step, training_key, room), s, jnp.arange(first, last))
        kernels.append(ntk)
    if s is None:
        s = machine.begin(0, readout_key, length_key)
    passed = jnp.concatenate(kernels)
    kept, steps = task.recorded()
    features = s.features[jnp.asarray(sizes.layers)][:, kept]
    x, g = (u if sizes.kernels else u[:, :0] for u in (features, s.saved[:, kept]))

    def products(u: Array, v: Array) -> Array:
        return jnp.einsum("tadr,tbdr->trab", u, v)

    outputs, moved = _read(machine, s, room, jax.random.fold_in(key, 3), features)
    found = Trajectory(outputs, products(x, x), products(g, g), jnp.sqrt(n) * products(x, g), passed[steps], moved)
    return found._replace(snapshot=(s, passed) if sizes.resumable else None)


def _read(machine: _Machine, s: _State, room: Room, key: PRNGKeyArray, x: Array) -> tuple[Array, Array]:
    """Outputs (updates + 1, M, C, paths) and movement (updates + 1, times, M, paths) of all inputs."""
    task = machine.task
    batches, kept = task.batches, task.recorded()[0]
    trained, tests = (jnp.asarray(which, jnp.int32) for which in (batches.trained, batches.tests))
    updates = task.updates + 1
    shape = (updates, batches.inputs, task.outputs, machine.paths)
    outputs = jnp.zeros(shape, s.outputs.dtype)
    moved = jnp.zeros((updates, x.shape[0], batches.inputs, machine.paths), x.dtype)
    if batches.constant:
        outputs = outputs.at[:, trained].set(s.outputs[kept].reshape(updates, -1, *shape[2:]))
        h = x.reshape(x.shape[0], updates, -1, *x.shape[2:])
        moved = moved.at[:, :, trained].set(jnp.moveaxis(jnp.sum((h - h[:, :1]) ** 2, axis=-2), 0, 1))
    for number, blocks in enumerate((trained[None, : 0 if batches.constant else None], tests[:, None])):
        if blocks.size:
            f, distance = machine.read(s, room, blocks, jax.random.fold_in(key, number))
            which = blocks.ravel()
            outputs = outputs.at[:, which].set(jnp.moveaxis(f, 0, 1).reshape(updates, which.size, *shape[2:]))
            distance = jnp.moveaxis(distance, 0, 2).reshape(updates, x.shape[0], which.size, machine.paths)
            moved = moved.at[:, :, which].set(distance)
    return outputs, moved
