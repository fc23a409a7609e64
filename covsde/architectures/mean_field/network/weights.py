"""Mean-field networks at finite width: real weights, and their Gram matrices sampled exactly without them.

    h^1 = W^0 x/√D,   h^{ℓ+1} = W^ℓ φ(h^ℓ)/√N,   f = w·φ(h^L)/(γ_0 N),   all weights N(0, 1)

Source: arXiv 2205.09653 (the scaling).
"""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from covsde.descent.task import Sizes
from covsde.inputs.network import network_inputs
from covsde.numerics.keys import generator
from covsde.numerics.linalg import semidefinite_cholesky
from covsde.numerics.typing import Function
from covsde.run.memory import LIMIT, fitting

Inputs = Float[Array, "*m d"] | Float[np.ndarray, "*m d"]


def _gram(u: Float[Array, "... m width"]) -> Float[Array, "... m m"]:
    return u @ jnp.swapaxes(u, -1, -2) / u.shape[-1]


class EmpiricalKernels(NamedTuple):
    """The kernels of one network.

    Attributes:
        H: h^ℓ·h^ℓ/N of every hidden layer, (L, m, m).
        Phi: φ(h^ℓ)·φ(h^ℓ)/N, (L, m, m).
        G: g^ℓ·g^ℓ/N, with g = γ_0 N ∂f/∂h of the first output, (L, m, m).
        ntk: tangent kernel of all layers at learning rate 1, (m, m).
    """

    H: Float[Array, "L m m"]
    Phi: Float[Array, "L m m"]
    G: Float[Array, "L m m"]
    ntk: Float[Array, "m m"]


class MeanFieldNetwork(eqx.Module):
    """A network with real weights.

    Attributes:
        fn: φ.
        richness: γ_0.
        input_weights: (width, d), or None: then drawn at call time from `input_key`, for inputs of any dimension d.
        hidden_weights: (L - 1, width, width).
        output_weights: (out, width).
        input_key: of the input layer.
    """

    fn: Function = eqx.field(static=True)
    richness: float
    input_weights: Float[Array, "width d"] | None
    hidden_weights: Float[Array, "matrices width width"]
    output_weights: Float[Array, "out width"]
    input_key: PRNGKeyArray

    @classmethod
    def draw(
        cls,
        fn: Function,
        richness: float,
        shape: tuple[int, int, int],
        *,
        in_size: int | None,
        key: PRNGKeyArray,
        dtype: jnp.dtype,
    ) -> "MeanFieldNetwork":
        """At initialization, of so many hidden layers, neurons and outputs."""
        layers, width, out = shape
        input_key, hidden_key, output_key = jax.random.split(key, 3)
        hidden = jax.random.normal(hidden_key, (layers - 1, width, width), dtype)
        output = jax.random.normal(output_key, (out, width), dtype)
        inputs = None if in_size is None else jax.random.normal(input_key, (width, in_size), dtype)
        return cls(fn, richness, inputs, hidden, output, input_key)

    @property
    def width(self) -> int:
        """N."""
        return int(self.output_weights.shape[1])

    def _embed(self, x: Float[Array, "m d"]) -> Float[Array, "m width"]:
        W, d = self.input_weights, x.shape[1]
        if W is None:
            with generator():  # drawn when the network is called
                W = jax.random.normal(self.input_key, (self.width, d), self.output_weights.dtype)
        if W.shape[1] != d:
            raise ValueError(f"x has dimension {d}, but the network was made with in_size={W.shape[1]}.")
        return x @ W.T / d**0.5

    def features(self, x: Inputs) -> Float[Array, "L m width"]:
        """Pre-activations h^ℓ of every hidden layer, ℓ = 1 … L."""

        def step(h: Array, W: Array) -> tuple[Array, Array]:
            return self.fn(h) @ W.T / self.width**0.5, h

        last, before = jax.lax.scan(
            step, self._embed(network_inputs(x, self.output_weights.dtype)), self.hidden_weights
        )
        return jnp.concatenate([before, last[None]])

    def grams(self, x: Inputs) -> Float[Array, "layers m m"]:
        """Φ^ℓ: x·x/D of the inputs, then φ(h^ℓ)·φ(h^ℓ)/N for ℓ = 1 … L."""
        inputs = network_inputs(x, self.output_weights.dtype)
        return jnp.concatenate([_gram(inputs)[None], _gram(self.fn(self.features(inputs)))])

    def __call__(self, x: Inputs) -> Float[Array, "*m out"]:
        """Outputs w·φ(h^L)/(γ_0 N), for inputs (m, d) or a single input (d,)."""
        batch = network_inputs(x, self.output_weights.dtype, single=True)
        single = batch.ndim == 1
        top = self.fn(self.features(batch[None] if single else batch)[-1])
        f = top @ self.output_weights.T / (self.richness * self.width)
        return f[0] if single else f

    def kernels(self, x: Inputs) -> EmpiricalKernels:
        """Kernels of the first output; a step of size η_0 γ_0² N on all weights changes f by η_0 ntk Δ.

        Args:
            x: inputs (m, d).
        """
        inputs = network_inputs(x, self.output_weights.dtype)
        h = self.features(inputs)
        Phi, slopes = _gram(self.fn(h)), jax.jvp(self.fn, (h,), (jnp.ones_like(h),))[1]

        def down(g: Array, layer: tuple[Array, Array]) -> tuple[Array, Array]:
            slope, W = layer
            below = slope * (g @ W / self.width**0.5)
            return below, below

        last = slopes[-1] * self.output_weights[:1]
        _, before = jax.lax.scan(down, last, (slopes[:-1], self.hidden_weights), reverse=True)
        G = _gram(jnp.concatenate([before, last[None]]))
        ntk = Phi[-1] + jnp.sum(G[1:] * Phi[:-1], axis=0) + G[0] * _gram(inputs)
        return EmpiricalKernels(_gram(h), Phi, G, ntk)


def sample_grams_law(
    fn: Function, V0: Float[Array, "m m"], sizes: Sizes, key: PRNGKeyArray
) -> Float[Array, "times draws m m"]:
    """Φ^ℓ at chosen layers, 0 that of the inputs, exact in law: given Φ^{ℓ-1}, the N columns of h^ℓ are N(0, Φ^{ℓ-1}).

    Returns:
        (len(sizes.layers), draws, m, m), dtype of V0.
    """
    start = jnp.broadcast_to(V0, (sizes.draws, *V0.shape))

    def step(V: Array, index: Array) -> tuple[Array, Array]:
        xi = jax.random.normal(jax.random.fold_in(key, index), (*V.shape[:2], sizes.width), V.dtype)
        V = _gram(fn(semidefinite_cholesky(V)[0] @ xi))
        return V, V

    _, path = jax.lax.scan(step, start, jnp.arange(sizes.depth))
    return jnp.concatenate([start[None], path])[jnp.asarray(sizes.layers)]


def inputs_of(V0: Float[Array, "m m"]) -> Float[Array, "m m"]:
    """Inputs of dimension m whose Gram matrix is V0."""
    return semidefinite_cholesky(V0[None])[0][0] * V0.shape[0] ** 0.5


def sample_grams_weights(
    fn: Function, V0: Float[Array, "m m"], sizes: Sizes, key: PRNGKeyArray
) -> Float[Array, "times draws m m"]:
    """The same from networks with real weights; about 128 MiB of them in memory at a time.

    Returns:
        (len(sizes.layers), draws, m, m), dtype of V0.
    """
    x, shape = inputs_of(V0), (sizes.depth, sizes.width, 1)
    batch = fitting(sizes.depth * sizes.width**2 * V0.dtype.itemsize, LIMIT, least=1, most=sizes.draws)

    def one(k: PRNGKeyArray) -> Array:
        network = MeanFieldNetwork.draw(fn, 1.0, shape, in_size=V0.shape[0], key=k, dtype=V0.dtype)
        return network.grams(x)[jnp.asarray(sizes.layers)]

    return jnp.swapaxes(jax.lax.map(one, jax.random.split(key, sizes.draws), batch_size=batch), 0, 1)
