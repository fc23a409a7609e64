"""Finite MLPs trained by gradient descent, with real weights.

    f_c = (s/√n) w_c·h_d,    W_ℓ ← W_ℓ - (η₀/n) ∂loss/∂W_ℓ,    ℓ = 0 … d-1

Inputs are as wide as the layers, h_0 = E x with EᵀE = n, so that W_0 is one hidden matrix among the others. E and w are
fixed, or trained by the same rule, which changes the limit by O(1/n) only. With s and η₀ of order one,
outputs, features and their covariances all move by order one at depth ~ width.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from covsde.activations import AbstractActivation
from covsde.architectures.mlp.network.layers import Layers
from covsde.architectures.mlp.network.weights import MLPNetwork
from covsde.descent.drawn import Stacks, floats, train_drawn
from covsde.descent.rules import Moving, of_networks
from covsde.descent.task import Ends, Sizes, Task
from covsde.descent.trajectory import Trajectory
from covsde.numerics.linalg import rows_with_gram
from covsde.run.memory import TRAINING, fitting


def hidden_matrices(network: MLPNetwork) -> tuple[Any, Any]:
    """What training moves: W_0 and W_1 … W_{d-1}."""
    assert network.input_weights is not None
    return network.input_weights, network.hidden_weights


def train_weights(
    activation: AbstractActivation, task: Task, sizes: Sizes, key: PRNGKeyArray, ends: Ends, begun: Any = None
) -> Trajectory:
    """Independent networks with real weights, really trained."""
    width, plan, dtype = sizes.width, Layers.uniform(activation, sizes.width, sizes.depth), task.dtype
    phi, c_root = activation.at_width(width), activation.normalisation(width) ** 0.5
    rows = rows_with_gram(task.V0, task.data.rank) * width**0.5
    x = jnp.pad(rows, ((0, 0), (0, width - rows.shape[1])))

    def draw(k: PRNGKeyArray) -> Moving:
        network = MLPNetwork(plan, out_size=task.outputs, in_size=width, key=k, dtype=dtype)
        first, later = hidden_matrices(network)
        return Moving(jnp.concatenate([first[None], later]), network.output_weights, x)

    def act(z: Array) -> Array:
        return c_root * phi(z)

    keys, rule = jax.random.split(key, sizes.draws), of_networks(task, width, ends)
    at_once = fitting(floats(task, sizes) * dtype.itemsize, TRAINING, least=1, most=sizes.draws)
    return train_drawn(draw, act, task, sizes, Stacks(keys, at_once, begun), ends, rule)
