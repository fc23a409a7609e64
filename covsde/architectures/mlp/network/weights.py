"""The MLP at finite width: real weights, and its Gram process sampled exactly without them.

    z_1 = W_0 x / √d + b_1,   z_{ℓ+1} = √(c/n) W_ℓ φ_s(z_ℓ) + b_{ℓ+1},   V_ℓ = (c/n) φ_s(z_ℓ) φ_s(z_ℓ)ᵀ,   W ~ N(0, 1)

with n the width of layer ℓ and biases N(0, β_b/n), by default absent.

Source: Li, Nica, Roy (2022), arXiv 2206.02768, section 2.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from covsde.architectures.mlp.network.layers import Layer, Layers
from covsde.inputs.network import network_inputs
from covsde.numerics.keys import generator
from covsde.numerics.linalg import semidefinite_cholesky

# Inputs may come straight from NumPy; they are cast to the dtype of the weights.
Inputs = Float[Array, "*m d"] | Float[np.ndarray, "*m d"]


class MLPNetwork(eqx.Module):
    """A shaped MLP with real weights.

    Layers narrower than the widest are padded: their surplus neurons are held at 0.

    Attributes:
        layers: widths, shaping, biases and gain.
        input_weights: (widest, d), or None: then drawn at call time from `input_key`, for inputs of any dimension d.
        hidden_weights: (depth - 1, widest, widest).
        biases: (depth, widest), standard normal; scaled by √(β_b/n).
        output_weights: (out_size, widest).
    """

    layers: Layers
    input_weights: Float[Array, "width d"] | None
    hidden_weights: Float[Array, "hidden width width"]
    biases: Float[Array, "depth width"]
    output_weights: Float[Array, "out width"]
    input_key: PRNGKeyArray

    def __init__(self, layers: Layers, *, out_size: int, in_size: int | None, key: PRNGKeyArray, dtype: jnp.dtype):
        self.input_key, hidden_key, output_key = jax.random.split(key, 3)
        self.layers = layers
        depth, width = layers.depth, layers.widest
        self.hidden_weights = jax.random.normal(hidden_key, (depth - 1, width, width), dtype)
        self.biases = jax.random.normal(jax.random.fold_in(hidden_key, 1), (depth, width), dtype)
        self.output_weights = jax.random.normal(output_key, (out_size, width), dtype)
        self.input_weights = None if in_size is None else self._draw_input(in_size)

    def _draw_input(self, d: int) -> Float[Array, "width d"]:
        with generator():  # drawn when the network is called
            return jax.random.normal(self.input_key, (self.layers.widest, d), self.output_weights.dtype)

    def features(self, x: Inputs) -> Float[Array, "depth m width"]:
        """Post-activations √c φ_s(z_ℓ) of every layer, ℓ = 1 … depth."""
        x = network_inputs(x, self.output_weights.dtype)
        lookup = self.layers.at(x.dtype)
        W0 = self._draw_input(x.shape[1]) if self.input_weights is None else self.input_weights
        if W0.shape[1] != x.shape[1]:
            raise ValueError(f"x has dimension {x.shape[1]}, but the network was made with in_size={W0.shape[1]}.")

        def activate(z: Float[Array, "m width"], layer: Layer, index: Array) -> Float[Array, "m width"]:
            if self.layers.bias:
                z = z + layer.bias**0.5 * self.biases[index][None]
            h = layer.scale**0.5 * layer.phi(z)
            return h if layer.mask is None else h * layer.mask[None]

        def step(h: Float[Array, "m width"], indexed: tuple[Array, Array]) -> tuple[Array, Array]:
            index, W = indexed
            h = activate(h @ W.T / lookup(index - 1).width ** 0.5, lookup(index), index)
            return h, h

        start = jnp.asarray(0)
        first = activate(x @ W0.T / x.shape[1] ** 0.5, lookup(start), start)
        _, later = jax.lax.scan(step, first, (jnp.arange(1, self.layers.depth), self.hidden_weights))
        return jnp.concatenate([first[None], later])

    def grams(self, x: Inputs) -> Float[Array, "layers m m"]:
        """V_ℓ for ℓ = 0 … depth; V_0 = x xᵀ / d is the input Gram."""
        x = network_inputs(x, self.output_weights.dtype)
        h = self.features(x)
        V = jnp.einsum("lai,lbi->lab", h, h) / jnp.asarray(self.layers.widths, h.dtype)[:, None, None]
        return jnp.concatenate([(x @ x.T / x.shape[1])[None], V])

    def __call__(self, x: Inputs) -> Float[Array, "*m out"]:
        """Outputs z_out = √(c/n) W φ_s(z_L), for inputs (m, d) or a single input (d,)."""
        batch = network_inputs(x, self.output_weights.dtype, single=True)
        single = batch.ndim == 1
        h = self.features(batch[None] if single else batch)[-1]
        z = h @ self.output_weights.T / self.layers.widths[-1] ** 0.5
        return z[0] if single else z


def sample_grams_law(
    layers: Layers, V0: Float[Array, "m m"], key: PRNGKeyArray, *, draws: int, save: tuple[int, ...]
) -> Float[Array, "times draws m m"]:
    """Gram matrices of independent networks at chosen layers, exact in law without weights.

    Given V_ℓ the rows of z_{ℓ+1} are i.i.d. N(0, V_ℓ + β_b/n), so m·n normals a layer replace n² weights.

    Returns:
        (len(save), draws, m, m), dtype of V0.
    """
    m = V0.shape[0]
    lookup = layers.at(V0.dtype)

    def step(V: Array, index: Array) -> tuple[Array, Array]:
        layer = lookup(index)
        L, _ = semidefinite_cholesky(V + layer.bias if layers.bias else V)
        g = jax.random.normal(jax.random.fold_in(key, index), (draws, m, layers.widest), V.dtype)
        h = layer.phi(L @ g)
        if layer.mask is not None:
            h = h * layer.mask[None, None]
        V = layer.scale / layer.width * (h @ jnp.swapaxes(h, 1, 2))
        return V, V

    start = jnp.broadcast_to(V0[None], (draws, m, m))
    _, path = jax.lax.scan(step, start, jnp.arange(layers.depth))
    return jnp.concatenate([start[None], path])[jnp.asarray(save)]


def sample_grams_weights(
    layers: Layers, V0: Float[Array, "m m"], key: PRNGKeyArray, *, draws: int, save: tuple[int, ...], batch: int
) -> Float[Array, "times draws m m"]:
    """The same from networks with real weights, `batch` of them in memory at a time.

    Returns:
        (len(save), draws, m, m), dtype of V0.
    """
    m = V0.shape[0]
    L, _ = semidefinite_cholesky(V0[None])
    x = L[0] * m**0.5  # inputs of dimension m whose Gram matrix is V0

    def one(k: PRNGKeyArray) -> Array:
        network = MLPNetwork(layers, out_size=1, in_size=m, key=k, dtype=V0.dtype)
        return network.grams(x)[jnp.asarray(save)]

    return jnp.swapaxes(jax.lax.map(one, jax.random.split(key, draws), batch_size=batch), 0, 1)
