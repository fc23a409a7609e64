"""Finite MLPs trained by gradient descent, with real weights.

    f = (s/√n) w·h_d,    W_ℓ ← W_ℓ - (η₀/n) ∂loss/∂W_ℓ,    ℓ = 0 … d-1,    w fixed

Inputs are as wide as the layers, so that W_0 is one hidden matrix among the others. With s and η₀ of order one,
outputs, features and their covariances all move by order one at depth ~ width.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from covsde.activations import AbstractActivation
from covsde.networks.backward import embed, hidden_vectors
from covsde.networks.layers import Layers
from covsde.networks.mlp import MLPNetwork
from covsde.solvers.revealed import Trajectory

Loss = Callable[[Array, Array], Array]


def hidden_matrices(network: MLPNetwork) -> tuple[Any, Any]:
    """What training moves: W_0 and W_1 … W_{d-1}."""
    assert network.input_weights is not None
    return network.input_weights, network.hidden_weights


def descend(
    network: MLPNetwork,
    x: Float[Array, "P width"],
    targets: Float[Array, " P"],
    loss: Loss,
    learning_rate: Array,
    output_scale: Array,
) -> tuple[MLPNetwork, tuple[Array, Array, Array, Array]]:
    """One step of gradient descent: the new network; s f (P,), h_ℓ, ∂f/∂h_ℓ and the tangent kernel before it."""
    width = x.shape[1]
    f, h, grad_h, grad_z = hidden_vectors(network, x)
    forces = -jax.grad(loss)(output_scale * f, targets)
    # ∂(s f)/∂W_ℓ = s ∂f/∂z_{ℓ+1} h_ℓᵀ/√n
    change = jnp.einsum("p,lpi,lpj->lij", forces, grad_z, h[:-1]) * (learning_rate * output_scale / width**1.5)
    first, later = hidden_matrices(network)
    network = eqx.tree_at(hidden_matrices, network, (first + change[0], later + change[1:]))
    kernel = jnp.einsum("lai,lbi->lab", h[:-1], h[:-1]) / width * jnp.einsum("lai,lbi->lab", grad_z, grad_z)
    return network, (output_scale * f, h, grad_h, jnp.mean(kernel, axis=0))


def train_weights(
    activation: AbstractActivation,
    V0: Float[Array, "P P"],
    targets: Float[Array, " P"],
    key: PRNGKeyArray,
    *,
    loss: Loss,
    learning_rate: Array,
    output_scale: Array,
    updates: int,
    width: int,
    depth: int,
    layers: tuple[int, ...],
    draws: int,
    batch: int,
) -> Trajectory:
    """Independent networks with real weights, really trained; `batch` of them in memory at a time."""
    x = embed(V0, width)
    chosen = jnp.asarray(layers)

    def one(k: PRNGKeyArray) -> tuple[Array, ...]:
        plan = Layers.uniform(activation, width, depth)
        network = MLPNetwork(plan, out_size=1, in_size=width, key=k, dtype=V0.dtype)
        arrays, static = eqx.partition(network, eqx.is_array)

        def step(arrays: MLPNetwork, _: None) -> tuple[MLPNetwork, tuple[Array, Array, Array, Array]]:
            network, (f, h, grad_h, ntk) = descend(
                eqx.combine(arrays, static), x, targets, loss, learning_rate, output_scale
            )
            return eqx.filter(network, eqx.is_array), (f, h[chosen], grad_h[chosen], ntk)

        _, (f, h, grad_h, ntk) = jax.lax.scan(step, arrays, None, length=updates + 1)
        h, grad_h = (jnp.moveaxis(u, 0, 1).reshape(len(layers), -1, width) for u in (h, grad_h))

        def products(u: Array, v: Array) -> Array:
            return jnp.einsum("tai,tbi->tab", u, v)

        return f.reshape(-1), products(h, h) / width, products(grad_h, grad_h), products(h, grad_h), ntk

    f, Phi, G, A, ntk = jax.lax.map(one, jax.random.split(key, draws), batch_size=batch)
    return Trajectory(f.T, *(jnp.swapaxes(X, 0, 1) for X in (Phi, G, A, ntk)))
