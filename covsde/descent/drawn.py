"""Gradient descent on weights that are drawn: a stack of square matrices between activations, whatever these are.

    h_0 = E x,    h_{ℓ+1} = φ(W_ℓ h_ℓ/√n),    f_c = (s/√n) w_c·h_d,    W_ℓ ← W_ℓ + (η₀/n) U_ℓ,    U = -n ∂loss/∂W

Finite networks are such stacks, and so are the layers of width 1/step whose training is a step of the limit. A pass
costs n² per matrix and input, whatever the number of labels; gradients are JAX's.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from covsde.descent.rules import Moving, Observed, Rule
from covsde.descent.task import Ends, Sizes, Task
from covsde.descent.trajectory import Trajectory

Activation = Callable[[Float[Array, "P width"]], Float[Array, "P width"]]
Vectors = Float[Array, "layers P width"]


def forward(phi: Activation, now: Moving, x: Float[Array, "P width"], shifts: tuple[Any, Any] | None = None) -> Vectors:
    """h_ℓ, ℓ = 0 … d; with shifts added to every h_ℓ and z_ℓ."""
    n, d = x.shape[1], now.matrices.shape[0]
    dh, dz = (jnp.zeros((d + 1, 1, 1), x.dtype), jnp.zeros((d, 1, 1), x.dtype)) if shifts is None else shifts

    def layer(h: Array, inputs: tuple[Array, Array, Array]) -> tuple[Array, Array]:
        W, dz, dh = inputs
        h = phi(h @ W.T / n**0.5 + dz) + dh
        return h, h

    first = x + dh[0]
    _, later = jax.lax.scan(layer, first, (now.matrices, dz, dh[1:]))
    return jnp.concatenate([first[None], later])


def observe(
    phi: Activation,
    now: Moving,
    rows: Int[Array, " P"],
    output_scale: Float[Array, ""],
    errors: Callable[[Array], Array],
    per_output: bool = False,
) -> Observed:
    """One forward and one backward pass of some inputs.

    Args:
        phi: what acts between matrices, on vectors (P, n).
        now: the weights.
        rows: which inputs.
        output_scale: s.
        errors: Δ (P, C) of outputs s f (P, C).
        per_output: whether the gradients of every output are wanted as well.
    """
    x, C = now.inputs[rows], now.readouts.shape[0]
    n, d = x.shape[1], now.matrices.shape[0]

    def outputs(dh: Array, dz: Array) -> tuple[Float[Array, "P C"], Vectors]:
        h = forward(phi, now, x, (dh, dz))
        return h[-1] @ now.readouts.T / n**0.5, h

    # An input's output depends on its own vectors only, so one pull-back has every gradient in it.
    zeros = (jnp.zeros((d + 1, *x.shape), x.dtype), jnp.zeros((d, *x.shape), x.dtype))
    f, pull, h = jax.vjp(outputs, *zeros, has_aux=True)
    delta, several = errors(output_scale * f), C > 1
    grad_h, grad_z = pull(delta if several else jnp.ones_like(f))
    Phi = jnp.einsum("lai,lbi->lab", h[:-1], h[:-1]) / n
    ntk = jnp.mean(Phi * jnp.einsum("lai,lbi->lab", grad_z, grad_z), axis=0)
    forces, each = jnp.ones_like(delta[:, 0]) if several else delta[:, 0], None
    if per_output:
        unit = jnp.broadcast_to(jnp.eye(C, dtype=f.dtype)[:, None], (C, *f.shape))
        every_h, every_z = (jnp.moveaxis(u, 0, 2) for u in jax.vmap(pull)(unit))
        each = every_h, jnp.einsum("lab,lacn,lbdn->acbd", Phi, every_z, every_z) / d
    return Observed(output_scale * f, delta, forces, h, grad_h, grad_z, ntk, each)


def floats(task: Task, sizes: Sizes) -> int:
    """Numbers that a stack in training takes in memory."""
    per_label = sizes.kernels + task.outputs * sizes.per_output
    vectors = 8 * (sizes.depth + 1) * (task.pairs * per_label + task.inputs) * sizes.width
    return 3 * sizes.depth * sizes.width**2 + vectors


class Stacks(NamedTuple):
    """Independent stacks of matrices.

    Attributes:
        keys: JAX keys, one per stack.
        at_once: so many in memory at a time.
        begun: their snapshot after fewer updates, from which they go on.
    """

    keys: Array
    at_once: int
    begun: Any = None


def train_drawn(
    draw: Callable[[PRNGKeyArray], Moving],
    phi: Activation,
    task: Task,
    sizes: Sizes,
    stacks: Stacks,
    ends: Ends,
    rule: Rule,
) -> Trajectory:
    """Independent stacks, really trained.

    Args:
        draw: weights at initialization and the inputs E x, given a key.
        phi: what acts between matrices, on vectors (P, n).
        task: what is trained, in arrays of the dtype of the computation.
        sizes: width n, number of matrices d, saved layers.
        stacks: which.
        ends: s, and whether E and w move.
        rule: how the optimiser of the task moves the weights.
    """

    keys, at_once, begun = stacks

    def one(k: PRNGKeyArray, begun: _Snapshot | None = None) -> tuple[Any, ...]:
        return _train(phi, (lambda: draw(k)) if begun is None else begun, task, sizes, ends, rule)

    if begun is None:
        found = jax.lax.map(one, keys, batch_size=at_once)
    else:
        found = jax.lax.map(lambda given: one(*given), (keys, begun), batch_size=at_once)
    (outputs, moved, ntk, kept, each), snapshot = found
    none = jnp.zeros((sizes.draws, len(sizes.layers), 0, 0), outputs.dtype)
    Phi, G, A, ntk = (jnp.swapaxes(X, 0, 1) for X in (*(kept or (none, none, none)), ntk))
    per_output = [jnp.swapaxes(X, 0, 1) for X in each] if each else ()
    found = Trajectory(jnp.moveaxis(outputs, 0, -1), Phi, G, A, ntk, jnp.moveaxis(moved, 0, -1), *per_output)
    return found._replace(snapshot=snapshot)


class _Snapshot(NamedTuple):
    """A stack after some updates: weights, the optimiser's state, what was seen before each update, centred f(0)."""

    now: Moving
    state: Any
    kept: Any
    counted: Array | None


def _train(
    phi: Activation, start: Callable[[], Moving] | _Snapshot, task: Task, sizes: Sizes, ends: Ends, rule: Rule
) -> tuple[tuple[Any, ...], _Snapshot | None]:
    """One stack: outputs (updates + 1, M, C), movement (updates + 1, times, M), tangent kernels; Φ, G, A if kept, and G
    and tangent kernels of every output if asked for. And what it takes to go on.
    """
    batches, chosen = task.batches, jnp.asarray(sizes.layers)
    # Inputs of a constant batch are seen in training them.
    read = jnp.asarray(batches.tests if batches.constant else range(batches.inputs), jnp.int32)

    def outside(now: Moving, which: Array) -> tuple[Array, Array]:
        h = forward(phi, now, now.inputs[which])
        return ends.scale * h[-1] @ now.readouts.T / sizes.width**0.5, h[chosen]

    if isinstance(start, _Snapshot):
        first, state, before, counted = start
    else:
        first, before = start(), None
        state, counted = rule.init(first), outside(first, jnp.arange(task.inputs))[0] if task.centred else None

    def seen(now: Moving, update: Array) -> tuple[Observed, Int[Array, " P"]]:
        rows = batches.row(update)

        def errors(f: Array) -> Array:
            given = f if counted is None else f - counted[rows]
            given = given if task.targets.ndim > 1 else given[:, 0]
            return task.error_signal(given, update * task.substeps).reshape(f.shape)

        return observe(phi, now, rows, ends.scale, errors, sizes.per_output), rows

    def move(now: Moving, state: Any, seen: Observed, rows: Array, update: Array) -> tuple[Moving, Any]:
        return rule.step(now, state, seen, task.V0[:, rows], update)

    def record(found: Observed, now: Moving) -> tuple[Any, ...]:
        kept: tuple[Any, ...] = found.outputs, found.h[chosen], found.grad_h[chosen] if sizes.kernels else None
        each = None if found.each is None else (found.each[0][chosen], found.each[1])
        kept = *kept, found.ntk, each
        return kept, outside(now, read) if read.size else None

    def update(carry: tuple[Moving, Any], k: Array) -> tuple[tuple[Moving, Any], tuple[Any, ...]]:
        found, rows = seen(carry[0], k)

        def again(_: Array, carry: tuple[Moving, Any]) -> tuple[Moving, Any]:
            return move(*carry, *seen(carry[0], k), k)

        moved = move(*carry, found, rows, k)
        return jax.lax.fori_loop(1, task.substeps, again, moved), record(found, carry[0])

    done = 0 if before is None else task.looked[-1]
    (end, state), passed = jax.lax.scan(update, (first, state), jnp.arange(done, task.updates))
    if before is not None:
        passed = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), before, passed)
    last = record(seen(end, jnp.asarray(0))[0], end)
    kept, others = jax.tree.map(lambda a, b: jnp.concatenate([a, b[None]]), passed, last)
    found = _assembled(task, kept if batches.constant else jax.tree.map(lambda x: x[:-1], kept), others, read)
    return found, _Snapshot(end, state, passed, counted) if sizes.resumable else None


def _assembled(task: Task, kept: tuple[Any, ...], others: Any, read: Array) -> tuple[Any, ...]:
    """What `_train` returns, from what was seen of batches, (passes, …), and of other inputs, (updates + 1, …)."""
    f, h, grad_h, ntk, each = kept
    times, width, filled = h.shape[1], h.shape[3], np.flatnonzero(task.filled())
    outputs = jnp.zeros((task.updates + 1, task.inputs, task.outputs), f.dtype)
    moved = jnp.zeros((task.updates + 1, times, task.inputs), f.dtype)

    def distance(h: Array) -> Array:
        return jnp.sum((h - h[:1]) ** 2, axis=-1) / width

    if task.batches.constant:
        trained = jnp.asarray(task.batches.trained)
        outputs, moved = outputs.at[:, trained].set(f), moved.at[:, :, trained].set(distance(h))
    if others is not None:
        outputs, moved = outputs.at[:, read].set(others[0]), moved.at[:, :, read].set(distance(others[1]))

    def listed(u: Array) -> Array:
        # (passes, times, P, …) as (times, labels, …)
        return jnp.moveaxis(u, 0, 1).reshape(times, -1, *u.shape[3:])[:, filled]

    if each is not None:
        every = listed(each[0])
        each = jnp.einsum("tacn,tbdn->tacbd", every, every), each[1]
    if grad_h is None:
        return outputs, moved, ntk, None, each
    h, grad_h = listed(h), listed(grad_h)

    def products(u: Array, v: Array) -> Array:
        return jnp.einsum("tai,tbi->tab", u, v)

    return outputs, moved, ntk, (products(h, h) / width, products(grad_h, grad_h), products(h, grad_h)), each
