"""Infinitely wide networks of fixed depth at initialization: a recursion over layers.

    Φ^0 = K,  Φ^ℓ = E φφᵀ,  Φ'^ℓ = E φ'φ'ᵀ  under N(0, Φ^{ℓ-1});    G^{L+1} = 11ᵀ,  G^ℓ = G^{ℓ+1} ∘ Φ'^ℓ

Pre-activations h^ℓ have the covariance Φ^{ℓ-1}, outputs γ_0 √N f the covariance Φ^L (the neural network Gaussian
process), gradients g^ℓ = γ_0 N ∂f/∂h^ℓ the covariance G^ℓ, and with every layer trained at the rate η_0 γ_0² N the
tangent kernel is Θ = Σ_{ℓ=0}^L G^{ℓ+1} ∘ Φ^ℓ.

Source: arXiv 1711.00165 (Gaussian process), 1806.07572 (tangent kernel).
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from covsde.architectures.base import InitialKernels
from covsde.covariance.limit import AbstractLayerMap
from covsde.moments.of_activation import AbstractMoments, second_moment, slope_moment


class KernelRecursion(AbstractLayerMap):
    """The kernels of so many hidden layers.

    Attributes:
        moments: Gaussian moments of the activation.
        layers: L.
        ceiling: a variance above this counts as exploded; finite only if φ grows faster than linearly.
    """

    moments: AbstractMoments
    layers: int = eqx.field(static=True)
    ceiling: Float[Array, ""] | float

    def layer(self, V: Float[Array, "m m"]) -> Float[Array, "m m"]:
        """Φ^ℓ from Φ^{ℓ-1}."""
        return second_moment(self.moments, V)


def initial_kernels(recursion: KernelRecursion, V0: Float[Array, "m m"]) -> InitialKernels:
    """All kernels of all hidden layers, the tangent kernel that of every layer."""
    return _kernels(jax.tree.map(lambda x: jnp.asarray(x, V0.dtype), recursion), V0)


@eqx.filter_jit
def _kernels(recursion: KernelRecursion, V0: Float[Array, "m m"]) -> InitialKernels:
    def up(H: Array, _: None) -> tuple[Array, tuple[Array, Array, Array]]:
        Phi = recursion.layer(H)
        return Phi, (H, Phi, slope_moment(recursion.moments, H))

    _, (H, Phi, slopes) = jax.lax.scan(up, V0, length=recursion.layers)

    def down(G: Array, slope: Array) -> tuple[Array, Array]:
        return G * slope, G * slope

    first, G = jax.lax.scan(down, jnp.ones_like(V0), slopes, reverse=True)
    above = jnp.concatenate([G[1:], jnp.ones_like(V0)[None]])
    tau = jnp.arange(1, recursion.layers + 1, dtype=V0.dtype) / recursion.layers
    fine = jnp.all(jnp.isfinite(H) & (recursion.ceiling > H), axis=(1, 2))
    reached = jnp.max(jnp.where(fine, tau, 0))
    return InitialKernels(tau, H, G, jnp.sum(above * Phi, axis=0) + first * V0, reached, Phi, Phi[-1])
