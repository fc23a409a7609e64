"""ResNets at finite width and depth: real weights, and their residual stream sampled exactly without them.

    h^0 = D^{-1/2} W_in x,   h^ℓ = h^{ℓ-1} + β √(s/L) F_ℓ(h^{ℓ-1}),   f = w·h^L / (γ_0 N),   all weights N(0, 1)

where F_ℓ is the block's branch, of the variance of its kernel, and s its strength at this width and depth.

Source: arXiv 2309.16620 (pre-activation), 2310.02244 (post-activation), 2509.10167 (two matrices).
"""

import functools
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from covsde.architectures.resnet.blocks import AbstractBlock, PostActivation, PreActivation, TwoMatrix
from covsde.descent.task import Sizes
from covsde.inputs.network import network_inputs
from covsde.numerics.keys import generator
from covsde.numerics.linalg import semidefinite_cholesky
from covsde.numerics.typing import Function
from covsde.run.memory import LIMIT, fitting

Inputs = Float[Array, "*m d"] | Float[np.ndarray, "*m d"]
Weights = tuple[Array, ...]


def _root(V: Float[Array, "draws m m"]) -> Float[Array, "draws m m"]:
    return semidefinite_cholesky(V)[0]


def _gram(h: Float[Array, "... m width"]) -> Float[Array, "... m m"]:
    return h @ jnp.swapaxes(h, -1, -2) / h.shape[-1]


def _centred(h: Float[Array, "... width"]) -> Float[Array, "... width"]:
    return h - jnp.mean(h, axis=-1, keepdims=True)


# --- one branch, by weights and in law --------------------------------------------------------------------------------


def widest(block: AbstractBlock, width: int) -> int:
    """Neurons of the widest layer of a block."""
    return max(width, block.hidden(width)) if isinstance(block, TwoMatrix) else width


@functools.singledispatch
def weight_shapes(block: AbstractBlock, width: int) -> tuple[tuple[int, int], ...]:
    """Shapes of the matrices of one block; new blocks register here, in `branch` and in `branch_law`."""
    raise TypeError(f"block={type(block).__name__} has no network: register it with weight_shapes.register.")


@functools.singledispatch
def branch(block: AbstractBlock, fn: Function, weights: Weights, h: Float[Array, "m width"]) -> Float[Array, "m width"]:
    """F(h) with real weights."""
    raise TypeError(f"block={type(block).__name__} has no network: register it with branch.register.")


@functools.singledispatch
def branch_law(
    block: AbstractBlock, fn: Function, h: Float[Array, "draws m width"], key: PRNGKeyArray
) -> Float[Array, "draws m width"]:
    """F(h) with the weights averaged out: exact in law given h, from m normals per neuron."""
    raise TypeError(f"block={type(block).__name__} has no network: register it with branch_law.register.")


@weight_shapes.register(PreActivation)
@weight_shapes.register(PostActivation)
def _(block: AbstractBlock, width: int) -> tuple[tuple[int, int], ...]:
    return ((width, width),)


@branch.register
def _(block: PreActivation, fn: Function, weights: Weights, h: Float[Array, "m width"]) -> Float[Array, "m width"]:
    return fn(h) @ weights[0].T / h.shape[-1] ** 0.5


@branch_law.register
def _(
    block: PreActivation, fn: Function, h: Float[Array, "draws m width"], key: PRNGKeyArray
) -> Float[Array, "draws m width"]:
    return _root(_gram(fn(h))) @ jax.random.normal(key, h.shape, h.dtype)


@branch.register
def _(block: PostActivation, fn: Function, weights: Weights, h: Float[Array, "m width"]) -> Float[Array, "m width"]:
    return _centred(fn(h @ weights[0].T / h.shape[-1] ** 0.5))


@branch_law.register
def _(
    block: PostActivation, fn: Function, h: Float[Array, "draws m width"], key: PRNGKeyArray
) -> Float[Array, "draws m width"]:
    return _centred(fn(_root(_gram(h)) @ jax.random.normal(key, h.shape, h.dtype)))


@weight_shapes.register
def _(block: TwoMatrix, width: int) -> tuple[tuple[int, int], ...]:
    return (block.hidden(width), width), (width, block.hidden(width))


@branch.register
def _(block: TwoMatrix, fn: Function, weights: Weights, h: Float[Array, "m width"]) -> Float[Array, "m width"]:
    U, V = weights
    return fn(h @ U.T / h.shape[-1] ** 0.5) @ V.T / U.shape[0] ** 0.5


@branch_law.register
def _(
    block: TwoMatrix, fn: Function, h: Float[Array, "draws m width"], key: PRNGKeyArray
) -> Float[Array, "draws m width"]:
    inner, outer = jax.random.split(key)
    units = (*h.shape[:2], block.hidden(h.shape[2]))
    hidden = fn(_root(_gram(h)) @ jax.random.normal(inner, units, h.dtype))
    return _root(_gram(hidden)) @ jax.random.normal(outer, h.shape, h.dtype)


# --- the network ------------------------------------------------------------------------------------------------------


class EmpiricalKernels(NamedTuple):
    """The kernels of one network.

    Attributes:
        H: (depth + 1, m, m) h^ℓ·h^ℓ/N.
        G: (depth + 1, m, m) g^ℓ·g^ℓ/N, with g = γ_0 N ∂f/∂h.
        ntk: (m, m) tangent kernel of the hidden matrices at learning rate 1, normalised as its limit.
    """

    H: Float[Array, "layers m m"]
    G: Float[Array, "layers m m"]
    ntk: Float[Array, "m m"]


class ResNetNetwork(eqx.Module):
    """A ResNet with real weights.

    Attributes:
        block: the residual block.
        fn: φ.
        scale: β √(s/L), the factor before every branch.
        richness: γ_0.
        input_weights: (width, d), or None: then drawn at call time from `input_key`, for inputs of any dimension d.
        hidden_weights: one array per matrix of a block, (depth, rows, columns).
        output_weights: (out, width).
    """

    block: AbstractBlock
    fn: Function = eqx.field(static=True)
    scale: float
    beta: float
    richness: float
    input_weights: Float[Array, "width d"] | None
    hidden_weights: tuple[Float[Array, "depth _ _"], ...]
    output_weights: Float[Array, "out width"]
    input_key: PRNGKeyArray

    def __init__(
        self,
        block: AbstractBlock,
        fn: Function,
        beta: float,
        *,
        width: int,
        depth: int,
        richness: float,
        out_size: int,
        in_size: int | None,
        key: PRNGKeyArray,
        dtype: jnp.dtype,
    ):
        self.input_key, hidden_key, output_key = jax.random.split(key, 3)
        self.block, self.fn, self.richness, self.beta = block, fn, richness, beta
        self.scale = beta * (block.strength(width, depth) / depth) ** 0.5
        self.hidden_weights = tuple(
            jax.random.normal(jax.random.fold_in(hidden_key, k), (depth, *shape), dtype)
            for k, shape in enumerate(weight_shapes(block, width))
        )
        self.output_weights = jax.random.normal(output_key, (out_size, width), dtype)
        self.input_weights = None if in_size is None else self._draw_input(in_size)

    def _draw_input(self, d: int) -> Float[Array, "width d"]:
        width, dtype = self.output_weights.shape[1], self.output_weights.dtype
        with generator():  # drawn when the network is called
            return jax.random.normal(self.input_key, (width, d), dtype)

    def _embed(self, x: Inputs) -> Float[Array, "m width"]:
        x = network_inputs(x, self.output_weights.dtype)
        W = self._draw_input(x.shape[1]) if self.input_weights is None else self.input_weights
        if W.shape[1] != x.shape[1]:
            raise ValueError(f"x has dimension {x.shape[1]}, but the network was made with in_size={W.shape[1]}.")
        return x @ W.T / x.shape[1] ** 0.5

    def _layer(self, weights: Weights, h: Float[Array, "m width"]) -> Float[Array, "m width"]:
        return h + self.scale * branch(self.block, self.fn, weights, h)

    def features(self, x: Inputs) -> Float[Array, "layers m width"]:
        """The residual stream h^ℓ of every layer, ℓ = 0 … depth."""

        def step(h: Array, weights: Weights) -> tuple[Array, Array]:
            return self._layer(weights, h), h

        last, before = jax.lax.scan(step, self._embed(x), self.hidden_weights)
        return jnp.concatenate([before, last[None]])

    def grams(self, x: Inputs) -> Float[Array, "layers m m"]:
        """H^ℓ = h^ℓ·h^ℓ/N for ℓ = 0 … depth."""
        return _gram(self.features(x))

    def __call__(self, x: Inputs) -> Float[Array, "*m out"]:
        """Outputs w·h^L/(γ_0 N), for inputs (m, d) or a single input (d,)."""
        batch = network_inputs(x, self.output_weights.dtype, single=True)
        single = batch.ndim == 1
        h = self.features(batch[None] if single else batch)[-1]
        f = h @ self.output_weights.T / (self.richness * h.shape[1])
        return f[0] if single else f

    def kernels(self, x: Inputs) -> EmpiricalKernels:
        """H, G and the tangent kernel of the hidden matrices for the first output, by automatic differentiation.

        A gradient step of size η_0 γ_0² N on every matrix of the block (η_0 γ_0² LM for two matrices, whose branches
        are smaller, and L^{1-2α} fewer for branches L^{-α}) changes f by η_0 ntk Δ.

        Args:
            x: inputs (m, d).

        Returns:
            The kernels; memory is that of the weight gradients of one layer for m inputs.
        """
        h = self.features(x)
        m, width = h.shape[1:]

        def back(g: Array, layer: tuple[Array, Weights]) -> tuple[Array, tuple[Array, Array]]:
            before, weights = layer

            def one(row: Array, cotangent: Array) -> tuple[Array, Weights]:
                _, pull = jax.vjp(lambda w, r: self._layer(w, r[None])[0], weights, row)
                gradient, g_row = pull(cotangent)
                return g_row, gradient

            g_before, gradients = jax.vmap(one)(before, g)
            rows = [jnp.reshape(d, (m, -1)) for d in gradients]
            return g_before, (g_before, sum((r @ r.T for r in rows), start=jnp.zeros((m, m), h.dtype)))

        last = jnp.broadcast_to(self.output_weights[:1], (m, width))
        _, (g, parts) = jax.lax.scan(back, last, (h[:-1], self.hidden_weights), reverse=True)
        # Weight gradients carry scale², their limit β²/L per layer, whatever the strength of a branch.
        depth = self.hidden_weights[0].shape[0]
        rate = self.beta**2 / (self.scale**2 * depth) if self.scale else 0.0
        G = _gram(jnp.concatenate([g, last[None]]))
        return EmpiricalKernels(_gram(h), G, rate * jnp.sum(parts, axis=0) / width)


# --- ensembles --------------------------------------------------------------------------------------------------------


def sample_grams_law(
    block: AbstractBlock, fn: Function, beta: float, V0: Float[Array, "m m"], sizes: Sizes, key: PRNGKeyArray
) -> Float[Array, "times draws m m"]:
    """Grams of the residual stream at chosen layers, exact in law without weights.

    Given h, W φ(h) has independent rows N(0, φ(h)φ(h)ᵀ), so the stream of N neurons is a Markov chain.

    Returns:
        (len(sizes.layers), draws, m, m), dtype of V0.
    """
    scale = beta * (block.strength(sizes.width, sizes.depth) / sizes.depth) ** 0.5
    first, rest = jax.random.split(key)
    h0 = _root(V0[None]) @ jax.random.normal(first, (sizes.draws, V0.shape[0], sizes.width), V0.dtype)

    def step(h: Array, index: Array) -> tuple[Array, Array]:
        return h + scale * branch_law(block, fn, h, jax.random.fold_in(rest, index)), _gram(h)

    last, path = jax.lax.scan(step, h0, jnp.arange(sizes.depth))
    return jnp.concatenate([path, _gram(last)[None]])[jnp.asarray(sizes.layers)]


def sample_grams_weights(
    block: AbstractBlock, fn: Function, beta: float, V0: Float[Array, "m m"], sizes: Sizes, key: PRNGKeyArray
) -> Float[Array, "times draws m m"]:
    """The same from networks with real weights; about 128 MiB of them in memory at a time.

    Returns:
        (len(sizes.layers), draws, m, m), dtype of V0.
    """
    m, width, depth = V0.shape[0], sizes.width, sizes.depth
    x = _root(V0[None])[0] * m**0.5  # inputs of dimension m whose Gram matrix is V0
    batch = fitting(depth * width * widest(block, width) * V0.dtype.itemsize, LIMIT, least=1, most=sizes.draws)

    def one(k: PRNGKeyArray) -> Array:
        network = ResNetNetwork(
            block, fn, beta, width=width, depth=depth, richness=1.0, out_size=1, in_size=m, key=k, dtype=V0.dtype
        )
        return network.grams(x)[jnp.asarray(sizes.layers)]

    return jnp.swapaxes(jax.lax.map(one, jax.random.split(key, sizes.draws), batch_size=batch), 0, 1)
