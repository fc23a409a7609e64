"""Velocities of finite MLPs with real weights under gradient flow, by JAX's own differentiation.

Gradient flow moves every hidden matrix by dW/dt = -(η₀/n) ∂loss/∂W; the features then move by the directional
derivative ȧ_ℓ = dh_ℓ/dt, a forward-mode derivative along that direction. With v_ℓ(a) = ∂f(a)/∂h_ℓ,

    R(a) = ȧ(a)·v(a),    Y(a, b) = ȧ(a)·h(b)/n,    S(a, b) = ȧ(a)·ȧ(b)/n.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from covsde.activations import AbstractActivation
from covsde.architectures.mlp.network.gradients import embed, hidden_vectors
from covsde.architectures.mlp.network.layers import Layers
from covsde.architectures.mlp.network.training import hidden_matrices
from covsde.architectures.mlp.network.weights import MLPNetwork
from covsde.descent.task import Sizes, Task
from covsde.run.memory import LIMIT, fitting

Vectors = Float[Array, "layers m width"]


def feature_velocities(
    network: MLPNetwork,
    x: Float[Array, "m width"],
    task: Task,
    output_scale: Float[Array, ""],
) -> Vectors:
    """ȧ_ℓ = dh_ℓ/dt for ℓ = 0 … d, (depth + 1, m, width); one unit of time is one step of gradient descent.

    Args:
        network: an MLPNetwork of equal widths without biases, with in_size = width and out_size = 1.
        x: inputs (m, width).
        task: targets y (m,), a loss of outputs s f and them, and η₀.
        output_scale: s.
    """
    matrices = hidden_matrices(network)

    def moved(weights: tuple[Array, Array]) -> MLPNetwork:
        return eqx.tree_at(hidden_matrices, network, weights)

    slope = jax.grad(lambda weights: task.loss(output_scale * moved(weights)(x)[:, 0], task.targets))(matrices)
    direction = jax.tree.map(lambda g: -(task.learning_rate / x.shape[1]) * g, slope)
    _, velocities = jax.jvp(lambda weights: moved(weights).features(x), (matrices,), (direction,))
    return jnp.concatenate([jnp.zeros_like(x)[None], velocities])


def sample_velocities_weights(
    activation: AbstractActivation, task: Task, sizes: Sizes, key: PRNGKeyArray, output_scale: Float[Array, ""]
) -> tuple[Array, Array, Array, Array, Array, Array]:
    """Order parameters of independent networks with real weights; about 128 MiB of them in memory at a time.

    Returns:
        f (draws, m), and Φ, G, (len(layers), draws, m, m), R (len(layers), draws, m), Y, S, dtype of V0.
    """
    V0, width, depth = task.V0, sizes.width, sizes.depth
    # Weights, slopes and directions of a network, and its vectors.
    floats = 4 * (depth + 2) * width * width + 12 * (depth + 1) * task.inputs * width
    batch = fitting(floats * V0.dtype.itemsize, LIMIT, least=1, most=sizes.draws)
    x = embed(V0, width)
    chosen = jnp.asarray(sizes.layers)

    def one(k: PRNGKeyArray) -> tuple[Array, ...]:
        plan = Layers.uniform(activation, width, depth)
        network = MLPNetwork(plan, out_size=1, in_size=width, key=k, dtype=V0.dtype)
        f, h, v, _ = hidden_vectors(network, x)
        a = feature_velocities(network, x, task, output_scale)[chosen]
        h, v = h[chosen], v[chosen]

        def products(u: Array, w: Array) -> Array:
            return jnp.einsum("lai,lbi->lab", u, w)

        R = output_scale * jnp.sum(a * v, axis=-1)
        return (
            output_scale * f,
            products(h, h) / width,
            products(v, v),
            R,
            products(a, h) / width,
            products(a, a) / width,
        )

    f, *rest = jax.lax.map(one, jax.random.split(key, sizes.draws), batch_size=batch)
    Phi, G, R, Y, S = (jnp.swapaxes(X, 0, 1) for X in rest)
    return f, Phi, G, R, Y, S
