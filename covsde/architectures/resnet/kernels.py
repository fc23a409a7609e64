"""Infinitely wide and deep ResNets at initialization: ordinary differential equations in layer time τ = ℓ/L.

    ∂_τ H = s β² F(H),  H(0) = V_0;    ∂_τ G = -s β² G ∘ Φ'(H),  G(1) = 11ᵀ;    K = β² ∫ G ∘ I(H) dτ

H is the covariance of the residual stream, G that of its gradients, K the neural tangent kernel of the hidden matrices.
With Φ = E φφᵀ, Φ' = E φ'φ'ᵀ and μ = E φ under N(0, H):

    pre-activation   F = Φ,          I = Φ;                 s = 1 for branches of size 1/√L, 0 for smaller ones
    post-activation  F = Φ - μμᵀ,    I = Φ' ∘ H;            the same
    two matrices     F = Φ,          I = Φ + Φ' ∘ H;        s = 0

Source: arXiv 2309.16620 and, for s = 0 or L finite, its recursion over layers; 2310.02244; 2509.10167; 2302.00453.
"""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from covsde.architectures.resnet.blocks import AbstractBlock, PostActivation, PreActivation, TwoMatrix
from covsde.covariance.limit import AbstractFlow
from covsde.moments.of_activation import AbstractMoments, second_moment, slope_moment
from covsde.solvers.defaults import default_steps


class BlockKernels(NamedTuple):
    """The kernels of a block at covariance H, each (m, m) and symmetric.

    Attributes:
        forward: F(H), the covariance of one branch.
        backward: Φ'(H), the factor that a branch adds to the gradients.
        tangent: I(H), the tangent kernel of a block's weights, per unit of G.
    """

    forward: Float[Array, "m m"]
    backward: Float[Array, "m m"]
    tangent: Float[Array, "m m"]


@functools.singledispatch
def block_kernels(block: AbstractBlock, moments: AbstractMoments, H: Float[Array, "m m"]) -> BlockKernels:
    """The kernels of a block; register new blocks with `block_kernels.register`."""
    raise TypeError(f"block={type(block).__name__} has no kernels: register them with block_kernels.register.")


@block_kernels.register
def _(block: PreActivation, moments: AbstractMoments, H: Float[Array, "m m"]) -> BlockKernels:
    phi = second_moment(moments, H)
    return BlockKernels(phi, slope_moment(moments, H), phi)


@block_kernels.register
def _(block: PostActivation, moments: AbstractMoments, H: Float[Array, "m m"]) -> BlockKernels:
    mean, slope = moments.mean(jnp.diagonal(H)), slope_moment(moments, H)
    return BlockKernels(second_moment(moments, H) - mean[:, None] * mean[None, :], slope, slope * H)


@block_kernels.register
def _(block: TwoMatrix, moments: AbstractMoments, H: Float[Array, "m m"]) -> BlockKernels:
    phi, slope = second_moment(moments, H), slope_moment(moments, H)
    return BlockKernels(phi, slope, phi + slope * H)


class KernelState(NamedTuple):
    """Everything that the kernels need from one forward pass.

    Attributes:
        H: covariance of the residual stream.
        growth: A = s β² ∫_0^τ Φ'(H), so that G(τ) = exp(A(1) - A(τ)).
        tangent: β² ∫_0^τ e^{-A} ∘ I(H), so that K = e^{A(1)} ∘ tangent(1).
    """

    H: Float[Array, "m m"]
    growth: Float[Array, "m m"]
    tangent: Float[Array, "m m"]


class KernelODE(AbstractFlow):
    """The kernel equations.

    Attributes:
        block: the residual block.
        moments: Gaussian moments of the activation.
        beta: β, the size of a branch.
        strength: s.
        ceiling: a variance above this counts as exploded; finite only if φ grows faster than linearly.
    """

    block: AbstractBlock
    moments: AbstractMoments
    beta: Float[Array, ""] | float
    strength: Float[Array, ""] | float
    ceiling: Float[Array, ""] | float

    def rate(self, H: Float[Array, "m m"]) -> Float[Array, "m m"]:
        """∂_τ H."""
        return self.strength * self.beta * self.beta * block_kernels(self.block, self.moments, H).forward

    def kernel_rate(self, state: KernelState) -> KernelState:
        """∂_τ of H and of both integrals."""
        kernels = block_kernels(self.block, self.moments, state.H)
        square = self.beta * self.beta
        return KernelState(
            self.strength * square * kernels.forward,
            self.strength * square * kernels.backward,
            square * jnp.exp(-state.growth) * kernels.tangent,
        )

    def finish(self, path: KernelState) -> tuple[Float[Array, "times m m"], Float[Array, "m m"]]:
        """G at every saved time, and K, from a path of states that ends at τ = 1."""
        total = path.growth[-1]
        return jnp.exp(total[None] - path.growth), jnp.exp(total) * path.tangent[-1]

    def start(self, V0: Float[Array, "m m"]) -> KernelState:
        """The state at τ = 0."""
        return KernelState(V0, jnp.zeros_like(V0), jnp.zeros_like(V0))

    def recursion(
        self, V0: Float[Array, "m m"], depth: int
    ) -> tuple[Float[Array, "layers m m"], Float[Array, "layers m m"], Float[Array, "m m"]]:
        """H and G of every layer 0 … depth and the tangent kernel of an infinitely wide network of finite depth.

        H^ℓ = H^{ℓ-1} + s β²/L F(H^{ℓ-1}), G^{ℓ-1} = G^ℓ ∘ (1 + s β²/L Φ'(H^{ℓ-1})), K = β²/L Σ_ℓ G^ℓ ∘ I(H^{ℓ-1}).
        """
        square, strength = self.beta * self.beta / depth, self.strength

        def layer(H: Array, _: None) -> tuple[Array, tuple[Array, Array, Array]]:
            kernels = block_kernels(self.block, self.moments, H)
            return H + strength * square * kernels.forward, (H, kernels.backward, kernels.tangent)

        last, (H, backward, tangent) = jax.lax.scan(layer, V0, length=depth)

        def back(G: Array, kernels: tuple[Array, Array]) -> tuple[Array, tuple[Array, Array]]:
            slope, weight = kernels
            before = G * (1 + strength * square * slope)
            return before, (before, square * G * weight)

        _, (G, parts) = jax.lax.scan(back, jnp.ones_like(V0), (backward, tangent), reverse=True)
        return jnp.concatenate([H, last[None]]), jnp.concatenate([G, jnp.ones_like(V0)[None]]), jnp.sum(parts, axis=0)


_MOST_STEPS = 100_000


@default_steps.register
def _(limit: KernelODE, V0: Float[np.ndarray, "m m"]) -> int:
    # 40 steps per unit of the largest relative growth rate, at least 20.
    with jax.enable_x64(True), jax.ensure_compile_time_eval():
        growth = np.diag(np.asarray(limit.rate(jnp.asarray(V0)))) / np.maximum(np.diag(V0), 1e-30)
    # Growth from a vanishing variance is fast but short.
    fastest = float(np.max(np.minimum(growth, 10 * max(1.0, float(limit.beta) ** 2))))
    steps = 10 * math.ceil(max(2.0, 4 * fastest) - 1e-9)
    if not steps <= _MOST_STEPS:
        raise ValueError(f"the limit would need about {steps} steps: lower beta, or pass steps yourself.")
    return steps
