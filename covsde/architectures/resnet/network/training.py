"""Finite ResNets trained by gradient descent: with real weights, or in law without them.

    W ← W - η_0 γ_0² N/s · ∂loss/∂W,    loss the mean over the data,    f = w·h^L/(γ_0 N)

for the matrices of blocks of strength s (one matrix) and W ← W - η_0 γ_0² L M ∂loss/∂W for blocks of two matrices of M
hidden units; with η_0 γ_0² N for the input layer and the readout, if they learn. f moves by order one.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from covsde.architectures.resnet.blocks import AbstractBlock, PreActivation, TwoMatrix
from covsde.architectures.resnet.network.weights import ResNetNetwork, _root, branch
from covsde.descent.householder import put
from covsde.descent.particles import UpdateRule, independent_normals, train_particles
from covsde.descent.passes import sweep
from covsde.descent.task import Sizes, Task
from covsde.descent.trajectory import Trajectory
from covsde.run.memory import LIMIT, TRAINING, fitting


@eqx.filter_jit
def train_by_law(rule: UpdateRule, beta: float, task: Task, sizes: Sizes, key: PRNGKeyArray) -> Trajectory:
    """Pre-activation networks whose weights are revealed only where training meets them; exact in law."""
    P, pairs, width, depth = task.inputs, task.pairs, sizes.width, sizes.depth

    def one(k: PRNGKeyArray) -> tuple[Array, ...]:
        sources = independent_normals(k, P, pairs, depth, width, task.dtype)
        m = train_particles(rule, task, sources, sizes.layers, sweep)
        return m.outputs, m.Phi, m.G, m.A, beta**2 * m.ntk

    batch = fitting(6 * depth * pairs * width * task.dtype.itemsize, LIMIT, least=1, most=sizes.draws)
    return _stacked(jax.lax.map(one, jax.random.split(key, sizes.draws), batch_size=batch))


def _stacked(columns: tuple[Array, ...]) -> Trajectory:
    f, Phi, G, A, ntk = columns
    outputs = f.T.reshape(ntk.shape[1], -1, 1, f.shape[0])
    return Trajectory(outputs, *(jnp.swapaxes(X, 0, 1) for X in (Phi, G, A, ntk)))


@eqx.filter_jit
def train_by_weights(
    block: AbstractBlock, rule: UpdateRule, beta: float, task: Task, sizes: Sizes, key: PRNGKeyArray
) -> Trajectory:
    """Independent networks with real weights, really trained; about 256 MiB of weights in memory at a time."""
    P, width, depth, V0 = task.inputs, sizes.width, sizes.depth, task.V0
    x = _root(V0[None])[0] * P**0.5  # inputs of dimension P whose Gram matrix is V0

    def one(k: PRNGKeyArray) -> tuple[Array, ...]:
        draw, other = jax.random.split(k)
        network = ResNetNetwork(
            block,
            rule.fn,
            beta,
            width=width,
            depth=depth,
            richness=1.0,
            out_size=1,
            in_size=P,
            key=draw,
            dtype=V0.dtype,
        )
        if isinstance(block, PreActivation):
            own = None if task.settings.response else jax.random.normal(other, (depth, width, width), V0.dtype)
            return descend_low_rank(network, rule, beta, x, task, sizes.layers, own)
        return descend(network, rule, x, task, sizes.layers)

    hidden = width * (block.hidden(width) if isinstance(block, TwoMatrix) else width)
    batch = fitting(3 * depth * hidden * V0.dtype.itemsize, TRAINING, least=1, most=sizes.draws)
    return _stacked(jax.lax.map(one, jax.random.split(key, sizes.draws), batch_size=batch))


def _products(u: Array, v: Array) -> Array:
    return jnp.einsum("tai,tbi->tab", u, v) / u.shape[-1]


def descend_low_rank(
    network: ResNetNetwork,
    rule: UpdateRule,
    beta: float,
    x: Float[Array, "P d"],
    task: Task,
    layers: tuple[int, ...],
    independent: Float[Array, "depth width width"] | None,
) -> tuple[Array, ...]:
    """Pre-activation blocks: the drawn matrices stay, updates Σ Δ g φ(h)ᵀ are kept as the vectors they are made of.

    Args:
        network: at initialization.
        rule: how it is trained.
        beta: β.
        x: inputs.
        task: what is trained, every gradient step recorded.
        layers: blocks after which kernels are kept.
        independent: matrices for the backward pass, in place of the transposes.

    Returns:
        Outputs (labels,), Phi, G, A (times, labels, labels) and the tangent kernel (steps, P, P).
    """
    assert network.input_weights is not None
    (weights,) = network.hidden_weights
    P, width, dtype = x.shape[0], weights.shape[1], weights.dtype
    depth, labels = weights.shape[0], task.pairs
    backward_weights = weights if independent is None else independent
    h0 = x @ network.input_weights.T / x.shape[1] ** 0.5
    inputs_gram = jnp.tile(task.V0, (1, task.updates + 1))

    def slope(h: Array) -> Array:
        return jax.jvp(rule.fn, (h,), (jnp.ones_like(h),))[1]

    def step(state: tuple[Array, ...], k: Array) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
        phis, gs, bottom, top, forces = state

        def forward(h: Array, layer: tuple[Array, ...]) -> tuple[Array, tuple[Array, Array]]:
            W, old_phi, old_g = layer
            phi = rule.fn(h)
            learned = (rule.feature_rate * (phi @ old_phi.T / width) * forces[None, :]) @ old_g
            return h + rule.scale * phi @ W.T / width**0.5 + learned, (h, phi)

        def backward(g: Array, layer: tuple[Array, ...]) -> tuple[Array, Array]:
            W, old_phi, old_g, h = layer
            learned = (rule.feature_rate * (g @ old_g.T / width) * forces[None, :]) @ old_phi
            return g + slope(h) * (rule.scale * g @ W / width**0.5 + learned), g

        start = h0 + rule.train_input * rule.rate * (inputs_gram * forces[None, :]) @ bottom
        last, (h, phi) = jax.lax.scan(forward, start, (weights, phis, gs))
        readout = network.output_weights[0] + rule.train_output * rule.rate * forces @ top
        f = last @ readout / (rule.richness * width)
        above = jnp.broadcast_to(readout[None], (P, width))
        first, g = jax.lax.scan(backward, above, (backward_weights, phis, gs, h), reverse=True)
        at = k * P
        new = (
            put(phis, phi, at, 1),
            put(gs, g, at, 1),
            put(bottom, first, at, 0),
            put(top, last, at, 0),
            put(forces, task.error_signal(f), at, 0),
        )
        kernel = beta**2 * jnp.mean(_products(phi, phi) * _products(g, g), axis=0)
        saved = jnp.asarray(layers)
        every_h, every_g = jnp.concatenate([h, last[None]])[saved], jnp.concatenate([first[None], g])[saved]
        return new, (f, every_h, every_g, kernel)

    def zeros(*shape: int) -> Array:
        return jnp.zeros((*shape, width), dtype)

    start: tuple[Array, ...] = (
        zeros(depth, labels),
        zeros(depth, labels),
        zeros(labels),
        zeros(labels),
        jnp.zeros(labels, dtype),
    )
    _, (f, h, g, ntk) = jax.lax.scan(step, start, jnp.arange(task.updates + 1))
    h, g = (jnp.moveaxis(u, 0, 1).reshape(len(layers), labels, width) for u in (h, g))
    phi = rule.fn(h)
    return f.reshape(-1), _products(phi, phi), _products(g, g), _products(h, g), ntk


def learning_rates(network: ResNetNetwork, rule: UpdateRule, task: Task) -> tuple[Array | float, Array | float]:
    """The rates of the hidden matrices, and of input layer and readout, for the sum over the data of a loss."""
    depth, width = network.hidden_weights[0].shape[0], network.output_weights.shape[1]
    ends = task.learning_rate * rule.richness**2 * width / task.inputs
    if isinstance(network.block, TwoMatrix):
        hidden = network.hidden_weights[0].shape[1]
        return task.learning_rate * rule.richness**2 * depth * hidden / task.inputs, ends
    return ends / network.block.strength(width, depth), ends


def descend(
    network: ResNetNetwork, rule: UpdateRule, x: Float[Array, "P d"], task: Task, layers: tuple[int, ...]
) -> tuple[Array, ...]:
    """Any block: gradients of the matrices by automatic differentiation; returns what `descend_low_rank` does."""
    P, width = x.shape[0], network.output_weights.shape[1]
    depth = network.hidden_weights[0].shape[0]
    hidden_rate, end_rate = learning_rates(network, rule, task)
    saved = jnp.asarray(layers)
    # Units seen from the top of the last block are its own.
    units_at = jnp.minimum(saved, depth - 1)

    def step(params: tuple[Any, Array, Array], _: None) -> tuple[tuple[Any, Array, Array], tuple[Array, ...]]:
        weights, w_in, w_out = params
        h0 = x @ w_in.T / x.shape[1] ** 0.5

        def forward(h: Array, layer: tuple[Array, ...]) -> tuple[Array, Array]:
            return h + network.scale * branch(network.block, rule.fn, layer, h), h

        last, h = jax.lax.scan(forward, h0, weights)
        f = last @ w_out / (rule.richness * width)
        force = task.error_signal(f)

        def backward(g: Array, layer: tuple[tuple[Array, ...], Array]) -> tuple[Array, tuple[Any, Array, Array]]:
            matrices, before = layer

            def one(row: Array, cotangent: Array) -> tuple[Any, Array]:
                add = lambda m, r: r + network.scale * branch(network.block, rule.fn, m, r[None])[0]  # noqa: E731
                return jax.vjp(add, matrices, row)[1](cotangent)

            gradients, below = jax.vmap(one)(before, g)
            rows = [jnp.reshape(d, (P, -1)) for d in gradients]
            kernel = sum((r @ r.T for r in rows), start=jnp.zeros((P, P), h.dtype))
            change = tuple(jnp.einsum("p,pij->ij", force, d) for d in gradients)
            return below, (change, g, kernel)

        above = jnp.broadcast_to(w_out[None], (P, width))
        first, (change, g, kernel) = jax.lax.scan(backward, above, (weights, h), reverse=True)
        unit = rule.richness * width
        moved = tuple(W + hidden_rate / unit * d for W, d in zip(weights, change, strict=True))
        change_in = jnp.einsum("p,pi,pd->id", force, first, x) / x.shape[1] ** 0.5
        w_in = w_in + rule.train_input * end_rate / unit * change_in
        w_out = w_out + rule.train_output * end_rate / unit * force @ last
        # f moves by (rate/(γ_0 N)²) Σ Δ kernel; its limit is η_0 K Δ/P.
        ntk = hidden_rate * P / (task.learning_rate * unit**2) * jnp.sum(kernel, axis=0)
        every_h, every_g = jnp.concatenate([h, last[None]])[saved], jnp.concatenate([first[None], g])[saved]
        units = jax.vmap(lambda m, r: activations(network.block, rule.fn, m, r))(
            tuple(W[units_at] for W in weights), h[units_at] if isinstance(network.block, TwoMatrix) else every_h
        )
        return (moved, w_in, w_out), (f, every_h, every_g, units, ntk)

    assert network.input_weights is not None
    start = (network.hidden_weights, network.input_weights, network.output_weights[0])
    _, (f, h, g, units, ntk) = jax.lax.scan(step, start, None, length=task.updates + 1)
    h, g, units = (jnp.moveaxis(u, 0, 1).reshape(len(layers), -1, u.shape[-1]) for u in (h, g, units))
    return f.reshape(-1), _products(units, units), _products(g, g), _products(h, g), ntk


def activations(
    block: AbstractBlock, fn: Any, weights: tuple[Array, ...], h: Float[Array, "P width"]
) -> Float[Array, "P units"]:
    """What a block's activation gives on h: φ of its hidden units, or of the stream."""
    return fn(h @ weights[0].T / h.shape[-1] ** 0.5) if isinstance(block, TwoMatrix) else fn(h)
