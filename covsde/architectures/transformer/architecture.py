"""The shaped transformer: hyperparameters with two faces, a limit and a finite network."""

import math
from typing import Any

import diffrax
import equinox as eqx
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from covsde.activations import AbstractActivation, Identity, LeakyReLU, ShapedReLU
from covsde.architectures.base import AbstractArchitecture
from covsde.architectures.transformer.attention import AbstractMask, Attention, attention_strength, mask_of
from covsde.architectures.transformer.covariance import TransformerSDE, attention_ceiling
from covsde.architectures.transformer.network.law import sample_grams_law
from covsde.architectures.transformer.network.weights import Block, TransformerNetwork, sample_grams_weights
from covsde.architectures.transformer.steps import TransformerStrang
from covsde.covariance.clock import UniformClock
from covsde.covariance.drifts import ReLUDrift, drift_of
from covsde.inputs.arguments import checked_switch, hyperparameter, instance_of, positive_int
from covsde.inputs.network import network_dtype
from covsde.numerics.keys import generator, typed_key
from covsde.numerics.typing import Hyperparameter
from covsde.solvers.defaults import default_steps


class Transformer(AbstractArchitecture):
    """A transformer of blocks X ← λX + γ Attention(X), X ← λX + γ MLP(X), λ² + γ² = 1, with depth ∝ width.

    The state is V = X Xᵀ/n over m tokens. **A single head stays random at infinite width**: its m × m logits do not
    average out, whatever the width and the key size. With shaping="depth" the width may go to infinity first
    (depth_to_width=0), and only heads=math.inf makes that limit deterministic, an ODE.

    Args:
        gamma: γ ∈ [0, 1], the weight of the residual branches. It, tau0 and depth_to_width may be traced scalars.
        tau0: τ₀ > 0, the temperature: attention logits are divided by τ₀√(n n_k). +∞ switches attention off.
        heads: H; they share the width, n/H coordinates each. math.inf in the limit: logits without noise.
        mlp: activation of the MLP in each block, ShapedReLU or Identity (limit and networks) or LeakyReLU (networks
            only); None for attention alone.
        mask: None, "causal", or an (m, m) array of 0 and 1 (1 where the row's token may attend).
        depth_to_width: T = blocks / width; > 0, or ≥ 0 with shaping="depth". Default: 1, which results then
            say was assumed.
        output_matrix: whether heads are mixed by a further matrix W^O.
        shaping: "width": τ = τ₀√(n n_k) and slopes 1 + c/√n; "depth": the same with the number of blocks L for n, and
            layer time itself for the clock of drift and logits.
        key_size: n_k, columns of each head's W^Q and W^K in networks; default n/H. The limit does not depend on it.
        attention: which of the three modifications of shaped attention networks make; the limit needs all.
        normalisation: "pre" or "post" layer normalisation in networks, for comparison; the limit has none.

    Raises:
        ValueError: for an argument out of range.

    Source: arXiv 2306.17759.
    """

    depth_to_width: Hyperparameter
    gamma: Hyperparameter
    tau0: Hyperparameter = 1.0
    heads: float = 1
    mlp: AbstractActivation | None = None
    mask: str | tuple[tuple[bool, ...], ...] | None = eqx.field(static=True, default=None)
    output_matrix: bool = eqx.field(static=True, default=False)
    shaping: str = eqx.field(static=True, default="width")
    key_size: int | None = eqx.field(static=True, default=None)
    attention: Attention = Attention()
    normalisation: str | None = eqx.field(static=True, default=None)
    assumed: bool = eqx.field(static=True, default=False)

    def __init__(
        self,
        gamma: Any,
        tau0: Any = 1.0,
        heads: Any = 1,
        mlp: Any = None,
        mask: Any = None,
        depth_to_width: Any = None,
        *,
        output_matrix: bool = False,
        shaping: str = "width",
        key_size: int | None = None,
        attention: Attention | None = None,
        normalisation: str | None = None,
    ):
        self.gamma, self.tau0 = attention_strength(gamma, tau0)
        self.heads = math.inf if heads == math.inf else positive_int("heads", heads)
        if mlp is not None and not isinstance(mlp, ShapedReLU | LeakyReLU | Identity):
            raise ValueError(f"mlp must be None, ShapedReLU, LeakyReLU or Identity, got {mlp!r}.")
        self.mlp = mlp
        checked = mask_of(mask)
        self.mask = mask if mask is None or isinstance(mask, str) else checked.pattern  # type: ignore[attr-defined]
        if shaping not in ("width", "depth"):
            raise ValueError(f"shaping must be 'width' or 'depth', got {shaping!r}.")
        self.shaping = shaping
        self.assumed = depth_to_width is None
        self.depth_to_width = hyperparameter(
            "depth_to_width",
            1.0 if depth_to_width is None else depth_to_width,
            lambda T: T > 0 or (T == 0 and shaping == "depth"),
            "must be positive, got {}; only with shaping='depth' may it be 0, for a width that goes to infinity first.",
        )
        self.output_matrix = checked_switch("output_matrix", output_matrix)
        self.key_size = None if key_size is None else positive_int("key_size", key_size)
        self.attention = Attention() if attention is None else attention
        instance_of("attention", self.attention, Attention, "an Attention such as Attention(centred=False)")
        if normalisation not in (None, "pre", "post"):
            raise ValueError(f"normalisation must be None, 'pre' or 'post', got {normalisation!r}.")
        self.normalisation = normalisation

    @property
    def pattern(self) -> AbstractMask:
        """Which keys tokens attend to."""
        return mask_of(self.mask if self.mask is None or isinstance(self.mask, str) else np.asarray(self.mask))

    def limit(self) -> TransformerSDE:
        """The covariance SDE of the shaped transformer.

        Raises:
            TypeError: for networks without such a limit: unshaped attention, unshaped MLPs, layer normalisation.
        """
        if not self.attention.shaped or self.normalisation is not None:
            raise TypeError(
                "attention and normalisation: only shaped attention without layer normalisation has this limit; use "
                "attention=Attention() and normalisation=None, or sample_networks for the network itself."
            )
        gamma2 = self.gamma**2
        kappa = 2 * gamma2 if self.output_matrix else gamma2 * (2 - gamma2)
        slope = ReLUDrift(0.0)
        if self.mlp is not None:
            kappa += 2 * gamma2
            drift = drift_of(self.mlp)
            assert isinstance(drift, ReLUDrift)
            slope = ReLUDrift(gamma2 * drift.kappa)
        noise = UniformClock(self.depth_to_width)
        clock = noise if self.shaping == "width" else UniformClock(1.0)
        return TransformerSDE(
            gamma2=gamma2,
            inverse_tau0=1 / self.tau0,
            inverse_heads=1 / self.heads,
            kappa=kappa,
            mlp=slope,
            noise_clock=noise,
            drift_clock=clock,
            ceiling=attention_ceiling(self.gamma, self.tau0, clock.fastest()),
            mask=self.pattern,
        )

    def default_solver(self) -> diffrax.AbstractSolver:
        """The second-order palindrome on square roots."""
        return TransformerStrang()

    def default_steps(self, V0: Float[np.ndarray, "m m"]) -> int:
        """20 steps per unit of clock time, of the MLP's stiffness and of attention's γ²V²/τ₀² at the largest input."""
        return default_steps(self.limit(), V0)

    def depth(self, width: int) -> int:
        """round(T n), at least 1."""
        width = positive_int("width", width)
        if self.depth_to_width == 0:
            raise ValueError("depth must be given: depth_to_width=0 says only that it is small against the width.")
        return max(1, round(self.depth_to_width * width))

    def block(self, width: int, depth: int) -> Block:
        """Sizes and scalings of one block of a finite network."""
        width, depth = positive_int("width", width), positive_int("depth", depth)
        if self.heads == math.inf:
            raise ValueError("heads=inf exists in the limit only: give networks a finite number of heads.")
        heads = int(self.heads)
        if width % heads:
            raise ValueError(f"width={width} must be a multiple of heads={heads}: each writes width/heads neurons.")
        key_size = width // heads if self.key_size is None else self.key_size
        shaping = width if self.shaping == "width" else depth
        return Block(
            width=width,
            skip=math.sqrt(1 - self.gamma**2),
            attention_weight=self.gamma,
            mlp_weight=self.gamma,
            heads=heads,
            key_size=key_size,
            temperature=self.attention.temperature(self.tau0, shaping, key_size),
            shaping=shaping,
            attention=self.attention,
            mask=self.pattern,
            output_matrix=self.output_matrix,
            activation=self.mlp,
            normalisation=self.normalisation,
        )

    def network(
        self,
        width: int,
        *,
        key: int | PRNGKeyArray,
        depth: int | None = None,
        out_size: int = 1,
        dtype: Any = None,
    ) -> TransformerNetwork:
        """The Equinox network itself, with real weights.

        Args:
            width: neurons per token, n; a multiple of the number of heads.
            key: int seed or JAX key.
            depth: number of blocks; default round(T n).
            out_size: outputs per token.
            dtype: of the weights; default JAX's default float, which is float32 unless jax_enable_x64 is set.

        Returns:
            An Equinox module: network(x) maps tokens (m, d), d ≤ n, to (m, out_size); network.grams(x) gives V_ℓ
            (depth + 1, m, m), and network.tokens(x) the residual stream.

        Raises:
            ValueError: for a width, depth or size out of range.
        """
        depth = self.depth(width) if depth is None else positive_int("depth", depth)
        with generator():
            return TransformerNetwork(
                self.block(width, depth),
                depth=depth,
                out_size=positive_int("out_size", out_size),
                key=typed_key(key),
                dtype=network_dtype(dtype),
            )

    def sample_grams(
        self,
        V0: Float[Array, "m m"],
        key: PRNGKeyArray,
        *,
        method: str,
        width: int,
        depth: int,
        draws: int,
        save: tuple[int, ...],
    ) -> Float[Array, "times draws m m"]:
        """By law (m × m matrices, and m·n normals a layer for the MLP) or by real weights (n² a layer)."""
        m, block = V0.shape[0], self.block(width, depth)
        block.mask.allowed(m)
        if width // block.apart < m:
            apart = "" if block.apart == 1 else " per head"
            raise ValueError(
                f"width={width} leaves {width // block.apart} neurons{apart}, fewer than the number of tokens m={m}: "
                "use a larger width or fewer heads."
            )
        if method == "law":
            return sample_grams_law(block, V0, key, depth=depth, draws=draws, save=save)
        if method == "weights":
            matrices = 3 + 2 * (block.activation is not None) + block.output_matrix
            weights = matrices * depth * width * max(width, block.heads * block.key_size) * V0.dtype.itemsize
            batch = max(1, min(draws, 2**28 // weights))
            return sample_grams_weights(block, V0, key, depth=depth, draws=draws, save=save, batch=batch)
        raise ValueError(f"method must be 'law' or 'weights', got {method!r}.")

    def network_chunk(self, m: int, width: int, depth: int, itemsize: int) -> int:
        """Bounded by the hidden layer of one MLP and the saved path."""
        heads = self.block(width, depth).heads
        per_draw = (4 * m * (width if self.mlp else m * heads) + (depth + 1) * m * m) * itemsize
        return max(16, min(1024, 2**27 // per_draw))
