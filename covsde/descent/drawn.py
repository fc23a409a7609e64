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

from covsde.descent.optimizers import SGD
from covsde.descent.task import Ends, Sizes, Task
from covsde.descent.trajectory import Trajectory

Activation = Callable[[Float[Array, "P width"]], Float[Array, "P width"]]
Vectors = Float[Array, "layers P width"]


class Moving(NamedTuple):
    """What training moves: hidden matrices (d, n, n), and if they are trained readouts (C, n) and inputs E x (M, n)."""

    matrices: Array
    readouts: Array
    inputs: Array


class Observed(NamedTuple):
    """A batch before a step: s f (P, C), Δ (P, C), h_ℓ and ∂f/∂h_ℓ (layers, P, width), ∂f/∂z_ℓ and the tangent kernel.

    For several outputs gradients are those of Σ_c Δ_c f_c/s, and `forces` (P,) are 1 instead of Δ.
    """

    outputs: Array
    errors: Array
    forces: Array
    h: Array
    grad_h: Array
    grad_z: Array
    ntk: Array


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
) -> Observed:
    """One forward and one backward pass of some inputs.

    Args:
        phi: what acts between matrices, on vectors (P, n).
        now: the weights.
        rows: which inputs.
        output_scale: s.
        errors: Δ (P, C) of outputs s f (P, C).
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
    kernel = jnp.einsum("lai,lbi->lab", h[:-1], h[:-1]) / n * jnp.einsum("lai,lbi->lab", grad_z, grad_z)
    forces = jnp.ones_like(delta[:, 0]) if several else delta[:, 0]
    return Observed(output_scale * f, delta, forces, h, grad_h, grad_z, jnp.mean(kernel, axis=0))


def slopes(seen: Observed, overlap: Float[Array, "M P"], ends: Ends) -> Moving:
    """U = -n ∂loss/∂W, whose multiple by η₀/n is a step of gradient descent; 0 for ends that are fixed.

    Args:
        seen: the batch.
        overlap: columns of V0 that belong to it.
        ends: s, and whether E and w move.
    """
    root = seen.h.shape[2] ** 0.5
    matrices = jnp.einsum("p,lpi,lpj->lij", seen.forces, seen.grad_z, seen.h[:-1]) * (ends.scale / root)
    readouts = seen.errors.T @ seen.h[-1] * (ends.scale / root)
    # h_0 = E x, and x·x' is V0.
    inputs = ends.scale * overlap @ (seen.forces[:, None] * seen.grad_h[0])
    return Moving(
        matrices, *(u if moves else jnp.zeros_like(u) for u, moves in zip((readouts, inputs), ends[1:], strict=True))
    )


class Rule(NamedTuple):
    """An optimiser: its state at the start, and (moving, state, U, update) -> (moving, state)."""

    init: Callable[[Moving], Any]
    step: Callable[[Moving, Any, Moving, Array], tuple[Moving, Any]]


def rule_of(task: Task, width: int, ends: Ends) -> Rule:
    """The optimiser of a task for stacks of this width."""
    trained = (True, ends.train_readout, ends.train_input)
    if not isinstance(task.optimizer, SGD):
        return _of_optax(task.optimizer, trained)
    optimizer = task.optimizer
    rates = jnp.asarray(optimizer.rates(task.updates), task.dtype) / (task.substeps * width)

    def init(now: Moving) -> Moving:
        return jax.tree.map(jnp.zeros_like, now)

    def step(now: Moving, momentum: Moving, U: Moving, update: Array) -> tuple[Moving, Moving]:
        rate = rates[update]

        def one(w: Array, m: Array, u: Array, moves: bool) -> tuple[Array, Array]:
            return optimizer.moved(w, m, u, rate, optimizer.weight_decay) if moves else (w, m)

        pairs = [one(w, m, u, moves) for w, m, u, moves in zip(now, momentum, U, trained, strict=True)]
        return Moving(*(p[0] for p in pairs)), Moving(*(p[1] for p in pairs))

    return Rule(init, step)


def _of_optax(optimizer: Any, trained: tuple[bool, ...]) -> Rule:
    """Any optimiser of optax, given the gradients of the loss in weights that are N(0, 1) at initialization."""

    def moving(now: Moving) -> list[Array]:
        return [x for x, moves in zip(now, trained, strict=True) if moves]

    def step(now: Moving, state: Any, U: Moving, update: Array) -> tuple[Moving, Any]:
        gradients = jax.tree.map(lambda u: -u, moving(U))
        changes, state = optimizer.update(gradients, state, moving(now))
        change = iter(changes)
        return Moving(*(x + next(change) if m else x for x, m in zip(now, trained, strict=True))), state

    return Rule(lambda now: optimizer.init(moving(now)), step)


def floats(task: Task, sizes: Sizes) -> int:
    """Numbers that a stack in training takes in memory."""
    vectors = 8 * (sizes.depth + 1) * (task.pairs * sizes.kernels + task.inputs) * sizes.width
    return 3 * sizes.depth * sizes.width**2 + vectors


def train_drawn(
    draw: Callable[[PRNGKeyArray], Moving],
    phi: Activation,
    task: Task,
    sizes: Sizes,
    keys: Array,
    at_once: int,
    ends: Ends,
) -> Trajectory:
    """Independent stacks, really trained.

    Args:
        draw: weights at initialization and the inputs E x, given a key.
        phi: what acts between matrices, on vectors (P, n).
        task: what is trained, in arrays of the dtype of the computation.
        sizes: width n, number of matrices d, saved layers.
        keys: JAX keys, one per stack.
        at_once: stacks in memory at a time.
        ends: s, and whether E and w move.
    """

    def one(k: PRNGKeyArray) -> tuple[Any, ...]:
        return _train(phi, draw(k), task, sizes, ends)

    outputs, moved, ntk, kept = jax.lax.map(one, keys, batch_size=at_once)
    none = jnp.zeros((sizes.draws, len(sizes.layers), 0, 0), outputs.dtype)
    Phi, G, A, ntk = (jnp.swapaxes(X, 0, 1) for X in (*(kept or (none, none, none)), ntk))
    return Trajectory(jnp.moveaxis(outputs, 0, -1), Phi, G, A, ntk, jnp.moveaxis(moved, 0, -1))


def _train(phi: Activation, start: Moving, task: Task, sizes: Sizes, ends: Ends) -> tuple[Any, ...]:
    """One stack: outputs (updates + 1, M, C), movement (updates + 1, times, M), tangent kernels; Φ, G, A if kept."""
    batches, chosen, rule = task.batches, jnp.asarray(sizes.layers), rule_of(task, sizes.width, ends)
    # Inputs of a constant batch are seen in training them.
    read = jnp.asarray(batches.tests if batches.constant else range(batches.inputs), jnp.int32)

    def outside(now: Moving, which: Array) -> tuple[Array, Array]:
        h = forward(phi, now, now.inputs[which])
        return ends.scale * h[-1] @ now.readouts.T / sizes.width**0.5, h[chosen]

    counted = outside(start, jnp.arange(task.inputs))[0] if task.centred else None

    def seen(now: Moving, update: Array) -> tuple[Observed, Int[Array, " P"]]:
        rows = batches.row(update)

        def errors(f: Array) -> Array:
            given = f if counted is None else f - counted[rows]
            given = given if task.targets.ndim > 1 else given[:, 0]
            return task.error_signal(given, update * task.substeps).reshape(f.shape)

        return observe(phi, now, rows, ends.scale, errors), rows

    def move(now: Moving, state: Any, seen: Observed, rows: Array, update: Array) -> tuple[Moving, Any]:
        return rule.step(now, state, slopes(seen, task.V0[:, rows], ends), update)

    def record(found: Observed, now: Moving) -> tuple[Any, ...]:
        kept = found.outputs, found.h[chosen], found.grad_h[chosen] if sizes.kernels else None, found.ntk
        return kept, outside(now, read) if read.size else None

    def update(carry: tuple[Moving, Any], k: Array) -> tuple[tuple[Moving, Any], tuple[Any, ...]]:
        found, rows = seen(carry[0], k)

        def again(_: Array, carry: tuple[Moving, Any]) -> tuple[Moving, Any]:
            return move(*carry, *seen(carry[0], k), k)

        moved = move(*carry, found, rows, k)
        return jax.lax.fori_loop(1, task.substeps, again, moved), record(found, carry[0])

    (end, _), kept = jax.lax.scan(update, (start, rule.init(start)), jnp.arange(task.updates))
    last = record(seen(end, jnp.asarray(0))[0], end)
    kept, others = jax.tree.map(lambda a, b: jnp.concatenate([a, b[None]]), kept, last)
    return _assembled(task, kept if batches.constant else jax.tree.map(lambda x: x[:-1], kept), others, read)


def _assembled(task: Task, kept: tuple[Any, ...], others: Any, read: Array) -> tuple[Any, ...]:
    """What `_train` returns, from what was seen of batches, (passes, …), and of other inputs, (updates + 1, …)."""
    f, h, grad_h, ntk = kept
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
    if grad_h is None:
        return outputs, moved, ntk, None
    h, grad_h = (jnp.moveaxis(u, 0, 1).reshape(times, -1, width)[:, filled] for u in (h, grad_h))

    def products(u: Array, v: Array) -> Array:
        return jnp.einsum("tai,tbi->tab", u, v)

    return outputs, moved, ntk, (products(h, h) / width, products(grad_h, grad_h), products(h, grad_h))
