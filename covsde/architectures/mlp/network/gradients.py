"""Gradients of finite MLPs with real weights, by JAX's own differentiation.

With h_ℓ the post-activations of MLPNetwork (h_0 the inputs), z_{ℓ+1} = W_ℓ h_ℓ/√n and f the scalar output:

    Φ_ℓ(a, b) = h_ℓ(a)·h_ℓ(b)/n,   G_ℓ(a, b) = ∂f(a)/∂h_ℓ · ∂f(b)/∂h_ℓ,   A_ℓ(a, b) = h_ℓ(a) · ∂f(b)/∂h_ℓ

and the tangent kernel of the hidden weights per layer, (1/d) Σ_ℓ ∂f(a)/∂W_ℓ · ∂f(b)/∂W_ℓ.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from covsde.activations import AbstractActivation
from covsde.architectures.mlp.network.layers import Layers
from covsde.architectures.mlp.network.weights import MLPNetwork
from covsde.numerics.linalg import semidefinite_cholesky

Vectors = Float[Array, "_ m width"]


def embed(V0: Float[Array, "m m"], width: int) -> Float[Array, "m width"]:
    """Inputs of dimension `width` whose Gram matrix x xᵀ/width is V0."""
    L, _ = semidefinite_cholesky(V0[None])
    return jnp.pad(L[0] * width**0.5, ((0, 0), (0, width - V0.shape[0])))


def hidden_vectors(
    network: MLPNetwork, x: Float[Array, "m width"]
) -> tuple[Float[Array, " m"], Vectors, Vectors, Vectors]:
    """One forward and one backward pass of a network with inputs as wide as its layers.

    Args:
        network: an MLPNetwork of equal widths without biases, with in_size = width and out_size = 1.
        x: inputs (m, width).

    Returns:
        f (m,); h_ℓ, ℓ = 0 … d; ∂f/∂h_ℓ, ℓ = 0 … d; ∂f/∂z_ℓ, ℓ = 1 … d; each (layers, m, width).
    """
    width = network.output_weights.shape[1]
    activation = network.layers.activation
    phi, c_root = activation.at_width(width), activation.normalisation(width) ** 0.5
    assert network.input_weights is not None
    weights = jnp.concatenate([network.input_weights[None], network.hidden_weights])

    def outputs(shift_h: Vectors, shift_z: Vectors) -> tuple[Float[Array, ""], tuple[Float[Array, " m"], Vectors]]:
        def layer(h: Array, inputs: tuple[Array, Array, Array]) -> tuple[Array, Array]:
            W, dz, dh = inputs
            h = c_root * phi(h @ W.T / width**0.5 + dz) + dh
            return h, h

        first = x + shift_h[0]
        last, later = jax.lax.scan(layer, first, (weights, shift_z, shift_h[1:]))
        f = (last @ network.output_weights.T)[:, 0] / width**0.5
        return jnp.sum(f), (f, jnp.concatenate([first[None], later]))

    # An input's output depends on its own vectors only, so the gradient of the sum has every gradient in it.
    depth, shape = weights.shape[0], x.shape
    zeros = (jnp.zeros((depth + 1, *shape), x.dtype), jnp.zeros((depth, *shape), x.dtype))
    (grad_h, grad_z), (f, h) = jax.grad(outputs, argnums=(0, 1), has_aux=True)(*zeros)
    return f, h, grad_h, grad_z


def sample_gradients_weights(
    activation: AbstractActivation,
    V0: Float[Array, "m m"],
    key: PRNGKeyArray,
    *,
    width: int,
    depth: int,
    draws: int,
    layers: tuple[int, ...],
    batch: int,
) -> tuple[Array, Array, Array, Array, Array]:
    """Order parameters of independent networks with real weights, `batch` of them in memory at a time.

    Returns:
        Φ, G, A (len(layers), draws, m, m), f (draws, m) and the tangent kernel (draws, m, m), dtype of V0.
    """
    x = embed(V0, width)
    chosen = jnp.asarray(layers)

    def one(k: PRNGKeyArray) -> tuple[Array, ...]:
        plan = Layers.uniform(activation, width, depth)
        network = MLPNetwork(plan, out_size=1, in_size=width, key=k, dtype=V0.dtype)
        f, h, grad_h, grad_z = hidden_vectors(network, x)

        def products(u: Array, v: Array) -> Array:
            return jnp.einsum("lai,lbi->lab", u, v)

        Phi = products(h, h) / width
        ntk = jnp.mean(Phi[:-1] * products(grad_z, grad_z), axis=0)
        return Phi[chosen], products(grad_h, grad_h)[chosen], products(h, grad_h)[chosen], f, ntk

    Phi, G, A, f, ntk = jax.lax.map(one, jax.random.split(key, draws), batch_size=batch)
    return jnp.swapaxes(Phi, 0, 1), jnp.swapaxes(G, 0, 1), jnp.swapaxes(A, 0, 1), f, ntk
