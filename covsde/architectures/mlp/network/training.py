"""Finite MLPs trained by gradient descent, with real weights.

    f = (s/√n) w·h_d,    W_ℓ ← W_ℓ - (η₀/n) ∂loss/∂W_ℓ,    ℓ = 0 … d-1

Inputs are as wide as the layers, h_0 = E x with EᵀE = n, so that W_0 is one hidden matrix among the others. E and w are
fixed, or trained at the same rate, which changes the limit by O(1/n) only. With s and η₀ of order one,
outputs, features and their covariances all move by order one at depth ~ width.
"""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from covsde.activations import AbstractActivation
from covsde.architectures.mlp.network.gradients import embed, hidden_vectors
from covsde.architectures.mlp.network.layers import Layers
from covsde.architectures.mlp.network.weights import MLPNetwork
from covsde.descent.task import Ends, Sizes, Task
from covsde.descent.trajectory import Trajectory
from covsde.run.memory import TRAINING, fitting


def hidden_matrices(network: MLPNetwork) -> tuple[Any, Any]:
    """What training moves: W_0 and W_1 … W_{d-1}."""
    assert network.input_weights is not None
    return network.input_weights, network.hidden_weights


class Observed(NamedTuple):
    """A network before a step: s f (P,), h_ℓ and ∂f/∂h_ℓ (layers, P, width), ∂f/∂z_ℓ and the tangent kernel."""

    outputs: Array
    h: Array
    grad_h: Array
    grad_z: Array
    ntk: Array


def observe(network: MLPNetwork, x: Float[Array, "P width"], output_scale: Array) -> Observed:
    """One forward and one backward pass."""
    f, h, grad_h, grad_z = hidden_vectors(network, x)
    kernel = jnp.einsum("lai,lbi->lab", h[:-1], h[:-1]) / x.shape[1] * jnp.einsum("lai,lbi->lab", grad_z, grad_z)
    return Observed(output_scale * f, h, grad_h, grad_z, jnp.mean(kernel, axis=0))


def descend(
    network: MLPNetwork,
    x: Float[Array, "P width"],
    seen: Observed,
    V0: Float[Array, "P P"],
    forces: Float[Array, " P"],
    rate: Array,
    ends: Ends,
) -> tuple[MLPNetwork, Float[Array, "P width"]]:
    """One step of gradient descent of rate η₀ s/n on f, forces -∂loss/∂f: the new network, the new h_0."""
    width = x.shape[1]
    # ∂f/∂W_ℓ = ∂f/∂z_{ℓ+1} h_ℓᵀ/√n
    change = jnp.einsum("p,lpi,lpj->lij", forces, seen.grad_z, seen.h[:-1]) * (rate / width**0.5)
    first, later = hidden_matrices(network)
    network = eqx.tree_at(hidden_matrices, network, (first + change[0], later + change[1:]))
    if ends.train_readout:
        moved = network.output_weights + rate / width**0.5 * (forces @ seen.h[-1])[None]
        network = eqx.tree_at(lambda net: net.output_weights, network, moved)
    if ends.train_input:
        # h_0 = E x, and x·x' is V0.
        x = x + rate * V0 @ (forces[:, None] * seen.grad_h[0])
    return network, x


def train_weights(
    activation: AbstractActivation, task: Task, sizes: Sizes, key: PRNGKeyArray, ends: Ends
) -> Trajectory:
    """Independent networks with real weights, really trained; about 256 MiB of them in memory at a time."""
    width, depth, layers, V0 = sizes.width, sizes.depth, sizes.layers, task.V0
    floats = 3 * depth * width * width + 8 * (depth + 1) * task.pairs * width
    batch = fitting(floats * V0.dtype.itemsize, TRAINING, least=1, most=sizes.draws)
    start = embed(V0, width)
    chosen = jnp.asarray(layers)
    rate = task.learning_rate / task.substeps * ends.scale / width

    def one(k: PRNGKeyArray) -> tuple[Array, ...]:
        plan = Layers.uniform(activation, width, depth)
        network = MLPNetwork(plan, out_size=1, in_size=width, key=k, dtype=V0.dtype)
        arrays, static = eqx.partition(network, eqx.is_array)

        def substep(_: Array, now: tuple[Any, Array, Observed]) -> tuple[Any, Array, Observed]:
            arrays, x, seen = now
            forces = task.error_signal(seen.outputs)
            network, x = descend(eqx.combine(arrays, static), x, seen, V0, forces, rate, ends)
            return eqx.filter(network, eqx.is_array), x, observe(network, x, ends.scale)

        def record(seen: Observed) -> tuple[Array, ...]:
            return seen.outputs, seen.h[chosen], seen.grad_h[chosen], seen.ntk

        def update(now: tuple[Any, Array, Observed], _: None) -> tuple[Any, tuple[Array, ...]]:
            now = jax.lax.fori_loop(0, task.substeps, substep, now)
            return now, record(now[2])

        seen = observe(network, start, ends.scale)
        _, later = jax.lax.scan(update, (arrays, start, seen), None, length=task.updates)
        f, h, grad_h, ntk = jax.tree.map(lambda a, b: jnp.concatenate([a[None], b]), record(seen), later)
        h, grad_h = (jnp.moveaxis(u, 0, 1).reshape(len(layers), -1, width) for u in (h, grad_h))

        def products(u: Array, v: Array) -> Array:
            return jnp.einsum("tai,tbi->tab", u, v)

        return f.reshape(-1), products(h, h) / width, products(grad_h, grad_h), products(h, grad_h), ntk

    f, Phi, G, A, ntk = jax.lax.map(one, jax.random.split(key, sizes.draws), batch_size=batch)
    return Trajectory(f.T, *(jnp.swapaxes(X, 0, 1) for X in (Phi, G, A, ntk)))
