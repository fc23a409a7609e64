"""The transformer at finite width: real weights, and its Gram process sampled exactly without them.

    X ← λX + γ A X W^V/√n [W^O/√n],     A from the logits X W^Q (X W^K)ᵀ/(nτ),
    X ← λX + γ φ_s(X W^pre/√n) √(c/n) W^post,          V_ℓ = X Xᵀ/n,     λ² + γ² = 1,     W ~ N(0, 1)

with H heads side by side: head h reads all of X and writes n/H of its coordinates.

Source: Noci et al. (2023), arXiv 2306.17759, sections on shaped attention and the shaped transformer.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from covsde.activations import AbstractActivation
from covsde.architectures.transformer.attention import AbstractMask, Attention
from covsde.inputs.network import network_inputs
from covsde.numerics.keys import generator
from covsde.numerics.linalg import semidefinite_cholesky

# Inputs may come straight from NumPy; they are cast to the dtype of the weights.
Inputs = Float[Array, "m d"] | Float[np.ndarray, "m d"]
Grams = Float[Array, "draws m m"]
Blocks = Float[Array, "draws blocks m m"]


class Block(eqx.Module):
    """One block of a transformer of a given width and depth: the same numbers for every layer.

    Attributes:
        width: n.
        skip: λ of the residual branches; 1 where the branches are scaled by depth instead.
        attention_weight: γ of attention.
        mlp_weight: γ of the MLP.
        heads: H, a divisor of n.
        key_size: n_k, columns of each head's W^Q and W^K.
        temperature: τ / √n, what X W^Q (X W^K)ᵀ / n is divided by, times √n.
        shaping: N, the width or depth that shapes the MLP's activation.
        attention: how A is made from the logits.
        mask: which keys tokens attend to.
        output_matrix: whether W^O mixes the heads.
        activation: of the MLP; None without one.
        normalisation: "pre" normalises what each branch reads, "post" what each sub-block returns, None neither;
            tokens are normalised to length √n.
    """

    width: int = eqx.field(static=True)
    skip: float = eqx.field(static=True)
    attention_weight: float = eqx.field(static=True)
    mlp_weight: float = eqx.field(static=True)
    heads: int = eqx.field(static=True)
    key_size: int = eqx.field(static=True)
    temperature: float = eqx.field(static=True)
    shaping: int = eqx.field(static=True)
    attention: Attention
    mask: AbstractMask
    output_matrix: bool = eqx.field(static=True)
    activation: AbstractActivation | None
    normalisation: str | None = eqx.field(static=True)

    @property
    def apart(self) -> int:
        """How many groups of coordinates the law keeps apart: H where each head writes its own, else 1."""
        return 1 if self.output_matrix else self.heads

    def features(self, z: Float[Array, "..."]) -> Float[Array, "..."]:
        """√c φ_s(z), the hidden layer of the MLP."""
        assert self.activation is not None
        c = self.activation.normalisation(self.shaping)
        return c**0.5 * self.activation.at_width(self.shaping)(z)


class Weights(eqx.Module):
    """Weights of one block, or of all with a leading axis (depth,); None where the block has no such matrix."""

    query: Float[Array, "*depth heads width key"]
    key: Float[Array, "*depth heads width key"]
    value: Float[Array, "*depth width width"]
    output: Float[Array, "*depth width width"] | None
    hidden: Float[Array, "*depth width width"] | None
    readout: Float[Array, "*depth width width"] | None


def _token_norms(V: Float[Array, "*batch m m"]) -> Float[Array, "*batch m"]:
    return jnp.sqrt(jnp.diagonal(V, axis1=-2, axis2=-1))


class TransformerNetwork(eqx.Module):
    """A transformer with real weights.

    Attributes:
        block: sizes and scalings.
        weights: of all layers.
        output_weights: (out_size, n).
        embedding_key: draws the isometric embedding of tokens of dimension d ≤ n at call time.
    """

    block: Block
    weights: Weights
    output_weights: Float[Array, "out width"]
    embedding_key: PRNGKeyArray

    def __init__(self, block: Block, *, depth: int, out_size: int, key: PRNGKeyArray, dtype: jnp.dtype):
        self.embedding_key, output_key, key = jax.random.split(key, 3)
        n, H = block.width, block.heads

        def draw(index: int, *shape: int) -> Array:
            return jax.random.normal(jax.random.fold_in(key, index), (depth, *shape), dtype)

        has_mlp = block.activation is not None
        self.block = block
        self.weights = Weights(
            query=draw(0, H, n, block.key_size),
            key=draw(1, H, n, block.key_size),
            value=draw(2, n, n),
            output=draw(3, n, n) if block.output_matrix else None,
            hidden=draw(4, n, n) if has_mlp else None,
            readout=draw(5, n, n) if has_mlp else None,
        )
        self.output_weights = jax.random.normal(output_key, (out_size, n), dtype)

    def embed(self, x: Inputs) -> Float[Array, "m width"]:
        """X_0 with X_0 X_0ᵀ/n = x xᵀ/d exactly: the tokens, turned by a random isometry.

        Raises:
            ValueError: if tokens have more dimensions than the network has neurons.
        """
        x = network_inputs(x, self.output_weights.dtype)
        d, n = x.shape[1], self.block.width
        if d > n:
            raise ValueError(f"x has dimension {d} > width {n}: use a larger width, or project the tokens.")
        with generator():  # drawn when the network is called
            frame, _ = jnp.linalg.qr(jax.random.normal(self.embedding_key, (n, d), x.dtype))
        return x @ frame.T * (n / d) ** 0.5

    def tokens(self, x: Inputs) -> Float[Array, "layers m width"]:
        """The residual stream X_ℓ, ℓ = 0 … depth, for tokens x (m, d)."""

        def step(X: Array, weights: Weights) -> tuple[Array, Array]:
            X = apply_block(self.block, weights, X)
            return X, X

        X = self.embed(x)
        _, later = jax.lax.scan(step, X, self.weights)
        return jnp.concatenate([X[None], later])

    def grams(self, x: Inputs) -> Float[Array, "layers m m"]:
        """V_ℓ = X_ℓ X_ℓᵀ/n for ℓ = 0 … depth; V_0 = x xᵀ/d."""
        X = self.tokens(x)
        return X @ jnp.swapaxes(X, 1, 2) / self.block.width

    def __call__(self, x: Inputs) -> Float[Array, "m out"]:
        """A linear readout of every token, X_L Wᵀ/√n."""
        return self.tokens(x)[-1] @ self.output_weights.T / self.block.width**0.5


def apply_block(block: Block, weights: Weights, X: Float[Array, "m width"]) -> Float[Array, "m width"]:
    """One block, attention and then the MLP, with its weights."""
    n, H = block.width, block.heads

    def read(X: Array) -> Array:
        return X / _token_norms(X @ X.T / n)[:, None] if block.normalisation == "pre" else X

    def add(X: Array, branch: Array, weight: float) -> Array:
        X = block.skip * X + weight * branch
        return X / _token_norms(X @ X.T / n)[:, None] if block.normalisation == "post" else X

    inner = read(X)
    query, key = (jnp.einsum("mi,hik->hmk", inner, W) / n**0.5 for W in (weights.query, weights.key))
    A = block.attention.matrix(query @ jnp.swapaxes(key, 1, 2) / block.temperature, block.mask)
    value = (inner @ weights.value / n**0.5).reshape(X.shape[0], H, n // H)
    branch = jnp.einsum("hab,bhk->ahk", A, value).reshape(X.shape)
    if weights.output is not None:
        branch = branch @ weights.output / n**0.5
    X = add(X, branch, block.attention_weight)
    if weights.hidden is not None and weights.readout is not None:
        hidden = block.features(read(X) @ weights.hidden / n**0.5)
        X = add(X, hidden @ weights.readout / n**0.5, block.mlp_weight)
    return X


def sample_grams_weights(
    block: Block,
    V0: Float[Array, "m m"],
    key: PRNGKeyArray,
    *,
    depth: int,
    draws: int,
    save: tuple[int, ...],
    batch: int,
) -> Float[Array, "times draws m m"]:
    """Gram matrices at chosen layers of independent networks with real weights, `batch` in memory at a time."""
    L, _ = semidefinite_cholesky(V0[None])
    x = L[0] * V0.shape[0] ** 0.5  # tokens of dimension m whose Gram matrix is V0

    def one(k: PRNGKeyArray) -> Array:
        network = TransformerNetwork(block, depth=depth, out_size=1, key=k, dtype=V0.dtype)
        return network.grams(x)[jnp.asarray(save)]

    return jnp.swapaxes(jax.lax.map(one, jax.random.split(key, draws), batch_size=batch), 0, 1)
