"""The MLP at finite width: real weights, and its Gram process sampled exactly without them.

    z_1 = W_0 x / √d,   z_{ℓ+1} = √(c/n) W_ℓ φ_s(z_ℓ),   V_ℓ = (c/n) φ_s(z_ℓ) φ_s(z_ℓ)ᵀ,   W ~ N(0, 1) i.i.d.

Source: Li, Nica, Roy (2022), arXiv 2206.02768, section 2.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from covsde._linalg import semidefinite_cholesky
from covsde.activations import AbstractActivation

# Inputs may come straight from NumPy; they are cast to the dtype of the weights.
Inputs = Float[Array, "*m d"] | Float[np.ndarray, "*m d"]


class MLPNetwork(eqx.Module):
    """A shaped MLP with real weights.

    Attributes:
        input_weights: (width, d), or None: then drawn at call time from `input_key`, for inputs of any dimension d.
        hidden_weights: (depth - 1, width, width).
        output_weights: (out_size, width).
        normalisation: c(n).
    """

    activation: AbstractActivation
    input_weights: Float[Array, "width d"] | None
    hidden_weights: Float[Array, "hidden width width"]
    output_weights: Float[Array, "out width"]
    input_key: PRNGKeyArray
    normalisation: float = eqx.field(static=True)

    def __init__(
        self,
        activation: AbstractActivation,
        *,
        width: int,
        depth: int,
        out_size: int,
        in_size: int | None,
        key: PRNGKeyArray,
        dtype: jnp.dtype,
    ):
        self.input_key, hidden_key, output_key = jax.random.split(key, 3)
        self.activation = activation
        self.normalisation = activation.normalisation(width)
        self.hidden_weights = jax.random.normal(hidden_key, (depth - 1, width, width), dtype)
        self.output_weights = jax.random.normal(output_key, (out_size, width), dtype)
        self.input_weights = None if in_size is None else self._draw_input(in_size)

    def _draw_input(self, d: int) -> Float[Array, "width d"]:
        width, dtype = self.output_weights.shape[1], self.output_weights.dtype
        return jax.random.normal(self.input_key, (width, d), dtype)

    def features(self, x: Inputs) -> Float[Array, "depth m width"]:
        """Post-activations √c φ_s(z_ℓ) of every layer, ℓ = 1 … depth."""
        x = jnp.asarray(x, self.output_weights.dtype)
        width = self.output_weights.shape[1]
        phi = self.activation.at_width(width)
        c_root = self.normalisation**0.5
        W0 = self._draw_input(x.shape[1]) if self.input_weights is None else self.input_weights
        if W0.shape[1] != x.shape[1]:
            raise ValueError(f"x has dimension {x.shape[1]}, but the network was made with in_size={W0.shape[1]}.")
        first = c_root * phi(x @ W0.T / x.shape[1] ** 0.5)

        def layer(
            h: Float[Array, "m width"], W: Float[Array, "width width"]
        ) -> tuple[Float[Array, "m width"], Float[Array, "m width"]]:
            h = c_root * phi(h @ W.T / width**0.5)
            return h, h

        _, later = jax.lax.scan(layer, first, self.hidden_weights)
        return jnp.concatenate([first[None], later])

    def grams(self, x: Inputs) -> Float[Array, "layers m m"]:
        """V_ℓ for ℓ = 0 … depth; V_0 = x xᵀ / d is the input Gram."""
        x = jnp.asarray(x, self.output_weights.dtype)
        h = self.features(x)
        V = jnp.einsum("lai,lbi->lab", h, h) / h.shape[2]
        return jnp.concatenate([(x @ x.T / x.shape[1])[None], V])

    def __call__(self, x: Inputs) -> Float[Array, "*m out"]:
        """Outputs z_out = √(c/n) W φ_s(z_L), for inputs (m, d) or a single input (d,)."""
        batch = jnp.asarray(x, self.output_weights.dtype)
        single = batch.ndim == 1
        h = self.features(batch[None] if single else batch)[-1]
        z = h @ self.output_weights.T / h.shape[1] ** 0.5
        return z[0] if single else z


def sample_grams_law(
    activation: AbstractActivation,
    V0: Float[Array, "m m"],
    key: PRNGKeyArray,
    *,
    width: int,
    depth: int,
    draws: int,
    layers: tuple[int, ...],
) -> Float[Array, "times draws m m"]:
    """Gram matrices of independent networks at chosen layers, exact in law without weights.

    Given V_ℓ the rows of z_{ℓ+1} are i.i.d. N(0, V_ℓ), so m·n normals a layer replace n² weights.

    Returns:
        (len(layers), draws, m, m), dtype of V0.
    """
    m = V0.shape[0]
    phi = activation.at_width(width)
    c = activation.normalisation(width)

    def layer(V: Array, index: Array) -> tuple[Array, Array]:
        L, _ = semidefinite_cholesky(V)
        g = jax.random.normal(jax.random.fold_in(key, index), (draws, m, width), V.dtype)
        h = phi(L @ g)
        V = c / width * (h @ jnp.swapaxes(h, 1, 2))
        return V, V

    start = jnp.broadcast_to(V0[None], (draws, m, m))
    _, path = jax.lax.scan(layer, start, jnp.arange(depth))
    return jnp.concatenate([start[None], path])[jnp.asarray(layers)]


def sample_grams_weights(
    activation: AbstractActivation,
    V0: Float[Array, "m m"],
    key: PRNGKeyArray,
    *,
    width: int,
    depth: int,
    draws: int,
    layers: tuple[int, ...],
    batch: int,
) -> Float[Array, "times draws m m"]:
    """The same from networks with real weights, `batch` of them in memory at a time.

    Returns:
        (len(layers), draws, m, m), dtype of V0.
    """
    m = V0.shape[0]
    L, _ = semidefinite_cholesky(V0[None])
    x = L[0] * m**0.5  # inputs of dimension m whose Gram matrix is V0

    def one(k: PRNGKeyArray) -> Array:
        network = MLPNetwork(activation, width=width, depth=depth, out_size=1, in_size=m, key=k, dtype=V0.dtype)
        return network.grams(x)[jnp.asarray(layers)]

    return jnp.swapaxes(jax.lax.map(one, jax.random.split(key, draws), batch_size=batch), 0, 1)
