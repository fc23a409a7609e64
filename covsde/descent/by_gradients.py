"""Finite networks of any block, with real weights: gradients by automatic differentiation, and any optimiser."""

import abc
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from covsde.descent.mean_field import Trained, UpdateRule, ends_kernel, observed, signal
from covsde.descent.optimizers import SGD
from covsde.descent.task import Task


class Weights(NamedTuple):
    """What training moves: matrices of the blocks, (depth, rows, columns) each, the input layer and the readouts."""

    hidden: tuple[Array, ...]
    inputs: Array
    readouts: Array


class AbstractBlocks(eqx.Module):
    """What is between the ends of a network."""

    @abc.abstractmethod
    def apply(self, matrices: tuple[Array, ...], h: Float[Array, "R width"]) -> Float[Array, "R width"]:
        """One block."""

    @abc.abstractmethod
    def units(
        self, hidden: tuple[Array, ...], h: Float[Array, "layers R width"], saved: Int[Array, " times"]
    ) -> Float[Array, "times R units"]:
        """Activations at the saved layers, of the features at all of them."""

    @abc.abstractmethod
    def rates(self, rule: UpdateRule, width: int) -> tuple[Array | float, Array | float]:
        """The rates of the hidden matrices, and of input layer and readout, over η_0, for the mean of a loss."""


class _Seen(NamedTuple):
    """A batch before a step: f (P, C), h, g and activations at the saved blocks, tangent kernels, -∂loss/∂weights."""

    outputs: Array
    h: Array
    g: Array
    units: Array
    ntk: Array
    ends: Array
    slopes: Weights


class _Machine(eqx.Module):
    """What one training is made of."""

    blocks: AbstractBlocks
    rule: UpdateRule
    task: Task
    x: Float[Array, "M d"]
    width: int = eqx.field(static=True)
    layers: tuple[int, ...] = eqx.field(static=True)

    @property
    def unit(self) -> Array:
        """γ_0 N: f = w·ψ(h) over it."""
        return self.rule.richness * self.width

    def up(self, now: Weights, which: Int[Array, " R"]) -> tuple[Float[Array, "layers R width"], Float[Array, "R C"]]:
        """h at all layers, and f."""
        first = self.x[which] @ now.inputs.T / self.x.shape[1] ** 0.5
        last, h = jax.lax.scan(lambda h, matrices: (self.blocks.apply(matrices, h), h), first, now.hidden)
        return jnp.concatenate([h, last[None]]), self.rule.read(last) @ now.readouts.T / self.unit

    def see(self, now: Weights, k: Array, counted: Float[Array, "M C"] | None) -> _Seen:
        """One pass of a batch, up and down; outputs are counted from these."""
        rows = jnp.asarray(self.task.batches.row(k // self.task.substeps))
        P = rows.shape[0]
        h, f = self.up(now, rows)
        covectors, errors, forces = signal(self.task, f, now.readouts, k, None if counted is None else counted[rows])

        def down(g: Array, layer: tuple[tuple[Array, ...], Array]) -> tuple[Array, tuple[Any, Array, Array]]:
            matrices, before = layer

            def one(row: Array, cotangent: Array) -> tuple[Any, Array]:
                return jax.vjp(lambda m, r: self.blocks.apply(m, r[None])[0], matrices, row)[1](cotangent)

            gradients, below = jax.vmap(one)(before, g)
            flat = [jnp.reshape(d, (P, -1)) for d in gradients]
            kernel = sum((r @ r.T for r in flat), start=jnp.zeros((P, P), h.dtype))
            return below, (tuple(jnp.einsum("p,pij->ij", forces, d) / self.unit for d in gradients), below, kernel)

        above = self.rule.pulled(h[-1], covectors)
        first, (hidden, g, kernel) = jax.lax.scan(down, above, (now.hidden, h[:-1]), reverse=True)
        inputs = jnp.einsum("p,pi,pd->id", forces, first, self.x[rows]) / (self.unit * self.x.shape[1] ** 0.5)
        saved, top = jnp.asarray(self.layers), self.rule.read(h[-1])
        # f moves by (rate/(γ_0 N)²) Σ Δ kernel; its limit is η_0 K Δ/P.
        ntk = self.blocks.rates(self.rule, self.width)[0] / self.unit**2 * jnp.sum(kernel, axis=0)
        ends = ends_kernel(self.rule, self.task, k, (first @ first.T / self.width, top @ top.T / self.width), errors)
        every, units = jnp.concatenate([g, above[None]]), self.blocks.units(now.hidden, h, saved)
        return _Seen(f, h[saved], every[saved], units, ntk, ends, Weights(hidden, inputs, errors.T @ top / self.unit))


class Rule(NamedTuple):
    """An optimiser: its state at the start, and (weights, state, -∂loss/∂weights, update) -> (weights, state)."""

    init: Callable[[Weights], Any]
    step: Callable[[Weights, Any, Weights, Array], tuple[Weights, Any]]


def rule_of(task: Task, rates_over: tuple[Array | float, Array | float]) -> Rule:
    """The optimiser of a task: at the rates of a network, or one of optax at rates of its own."""
    settings, optimizer = task.settings, task.optimizer
    moves = Weights(True, settings.train_input, settings.train_readout)  # type: ignore[arg-type]

    def moving(now: Weights) -> list[Any]:
        return [x for x, given in zip(now, moves, strict=True) if given]

    def after(now: Weights, changed: list[Any]) -> Weights:
        new = iter(changed)
        parts: list[Any] = [next(new) if given else x for x, given in zip(now, moves, strict=True)]
        return Weights(*parts)

    def of_optax(now: Weights, state: Any, slopes: Weights, update: Array) -> tuple[Weights, Any]:
        given = moving(now)
        changes, state = optimizer.update(jax.tree.map(lambda u: -u, moving(slopes)), state, given)
        return after(now, jax.tree.map(lambda x, change: x + change, given, changes)), state

    if not isinstance(optimizer, SGD):
        return Rule(lambda now: optimizer.init(moving(now)), of_optax)
    rates = jnp.asarray(optimizer.rates(task.updates), task.dtype) / task.substeps
    hidden, ends = rates_over

    def of_sgd(now: Weights, state: Any, slopes: Weights, update: Array) -> tuple[Weights, Any]:
        units = Weights(jax.tree.map(lambda u: hidden * u, slopes.hidden), ends * slopes.inputs, ends * slopes.readouts)
        weights, tree = jax.tree.flatten(moving(now))
        steps = [
            optimizer.moved(w, m, u, rates[update], optimizer.weight_decay)
            for w, m, u in zip(weights, jax.tree.leaves(state), jax.tree.leaves(moving(units)), strict=True)
        ]
        return after(now, jax.tree.unflatten(tree, [w for w, _ in steps])), jax.tree.unflatten(
            tree, [m for _, m in steps]
        )

    return Rule(lambda now: jax.tree.map(jnp.zeros_like, moving(now)), of_sgd)


def descend(
    blocks: AbstractBlocks,
    start: Weights,
    rule: UpdateRule,
    x: Float[Array, "M d"],
    task: Task,
    layers: tuple[int, ...],
) -> Trained:
    """Train, step by step.

    Args:
        blocks: of the network.
        start: its weights at initialization.
        rule: how it is trained.
        x: inputs.
        task: what is trained.
        layers: blocks after which kernels are kept.

    Returns:
        Outputs and kernels, the tangent kernel summed over the blocks.
    """
    width, batches = start.readouts.shape[1], task.batches
    machine = _Machine(blocks, rule, task, x, width, layers)
    optimizer = rule_of(task, blocks.rates(rule, width))
    # Inputs of a constant batch are seen in training them.
    read = np.asarray(batches.tests if batches.constant else range(batches.inputs), np.int32)
    counted = machine.up(start, jnp.arange(task.inputs))[1] if task.centred else None

    def outside(now: Weights) -> tuple[Array, Array]:
        h, f = machine.up(now, jnp.asarray(read))
        return f, h[jnp.asarray(layers)]

    def update(carry: tuple[Weights, Any], k: Array) -> tuple[tuple[Weights, Any], Any]:
        def again(j: Array, carry: tuple[Weights, Any]) -> tuple[Weights, Any]:
            return optimizer.step(*carry, machine.see(carry[0], k * task.substeps + j, counted).slopes, k)

        seen = machine.see(carry[0], k * task.substeps, counted)
        moved = optimizer.step(*carry, seen.slopes, k)
        return jax.lax.fori_loop(1, task.substeps, again, moved), (seen[:6], outside(carry[0]))

    (end, _), (kept, others) = jax.lax.scan(update, (start, optimizer.init(start)), jnp.arange(task.updates))
    others = jax.tree.map(lambda a, b: jnp.concatenate([a, b[None]]), others, outside(end))
    if batches.constant:
        last = machine.see(end, jnp.asarray(task.steps), counted)[:6]
        kept = jax.tree.map(lambda a, b: jnp.concatenate([a, b[None]]), kept, last)
    return _assembled(task, kept, others, read)


def _assembled(task: Task, kept: tuple[Array, ...], others: tuple[Array, Array], read: Any) -> Trained:
    """From what was seen of batches, (passes, …), and of the inputs that were read, (updates + 1, …)."""
    filled = np.flatnonzero(task.filled())
    f, *vectors, ntk, ends = kept
    labels = [jnp.moveaxis(u, 0, 1).reshape(u.shape[1], -1, u.shape[-1])[:, filled] for u in vectors]
    h, g, units = labels

    def reading(which: Int[np.ndarray, " R"], own: bool, key: PRNGKeyArray) -> tuple[Array, Array]:
        found, x = others
        place = np.searchsorted(read, which)
        moved = jnp.sum((x - x[:1]) ** 2, axis=-1)
        return found[:, place], moved[:, :, place]

    outputs = f.reshape(-1, f.shape[-1])[filled]
    outputs, moved = observed(task, outputs, h, reading, jax.random.key(0))
    Phi, width = products(units, units), h.shape[2]
    return Trained(outputs, products(h, h), Phi, products(g, g), products(h, g), ntk, moved / width, ends)


def products(u: Float[Array, "layers a width"], v: Float[Array, "layers b width"]) -> Float[Array, "layers a b"]:
    """Mean products at every layer."""
    return jnp.einsum("tai,tbi->tab", u, v) / u.shape[-1]
