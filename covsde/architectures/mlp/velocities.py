"""How fast linear networks learn at initialization: velocities of features, given the forward and the backward pass.

With h the features of width n, v = ∂f/∂h, and ȧ = dh/dt under gradient flow of the hidden matrices at rate η₀/n,

    R(a) = ȧ(a)·v,    Y(a, b) = ȧ(a)·h(b)/n,    S(a, b) = ȧ(a)·ȧ(b)/n,    dΦ/dt = Y + Yᵀ,    df/dt = R at the top,

all of order one. One layer gives ȧ' = W ȧ/√n + (η₀/n) Σ_μ Δ_μ Φ(a, μ) v', with Δ = -∂loss/∂f. Of W the forward pass
knows the image of every h and the backward pass that of v', so split ȧ = K h + ȧ_⊥ on the features, K = YΦ⁻¹: then
W ȧ/√n is K h' + r v'/G on these, r = ȧ_⊥·v = R - K f, and is new, of covariance C = ȧ_⊥ȧ_⊥ᵀ/n, elsewhere. In clock
time t = ℓ/n, from 0 at the inputs,

    dR = η₀ Σ_μ Δ_μ Φ(·, μ) G dt
    dK = (r fᵀ/G dt + dZ) Φ⁻¹,                     cov(dZ_ab, dZ_cd) = C_ac Φ_bd dt
    dC = (r rᵀ/G - (1 + rank Φ) C) dt + noise,     cov(dC_ab, dC_cd) = (C_ac C_bd + C_ad C_bc) dt
    Y = K Φ,   S = K Φ Kᵀ + C.

Nothing is divided by a quantity that vanishes, and C stays a covariance matrix.

Source: velocities as in Li, Noci, Hanin, feature learning in the proportional limit (M. Li's lecture notes STAT 946,
Waterloo, 2025); written here for the regression K and the residual C, which is elementary.
"""

import functools

import jax.numpy as jnp

from covsde.activations import AbstractActivation, Identity
from covsde.covariance.velocities import AbstractVelocities, Scalars, Vectors
from covsde.numerics.typing import Number, PathsFirst


class LinearVelocities(AbstractVelocities):
    """Rates per unit of clock time.

    Attributes:
        learning_rate: η₀; networks of width n use η₀/n.
    """

    learning_rate: Number

    def push(self, forces: Vectors, Phi: PathsFirst, G: Scalars) -> Vectors:
        """dR/dt = η₀ G Σ_μ Φ(·, μ) Δ_μ."""
        return self.learning_rate * G[:, None] * jnp.sum(Phi * forces[:, None, :], axis=-1)

    def known(self, r: Vectors, dual: Vectors, G: Scalars) -> tuple[PathsFirst, PathsFirst]:
        """What v carries upward: r fᵀΦ⁻¹/G of dK/dt and r rᵀ/G of dC/dt, with dual = Φ⁻¹f."""
        scaled = r / G[:, None]
        return scaled[:, :, None] * dual[:, None, :], scaled[:, :, None] * r[:, None, :]

    def lost(self, rank: Scalars) -> Scalars:
        """1 + rank Φ: the directions of v and of the features, in which a layer puts nothing new."""
        return 1 + rank


@functools.singledispatch
def velocities_of(activation: AbstractActivation) -> type[LinearVelocities]:
    """The equations of velocities that an activation leaves in the limit.

    Raises:
        TypeError: for an activation that is not linear.
    """
    raise TypeError(
        f"activation={type(activation).__name__} has no velocity equations here, which are those of linear networks: "
        "use Identity(), or train(..., updates=1) with a small learning_rate and divide what moves by it."
    )


@velocities_of.register
def _(activation: Identity) -> type[LinearVelocities]:
    return LinearVelocities
