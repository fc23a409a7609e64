"""Deterministic limits of attention: many heads and width first, then depth.

* Shaped attention, H → ∞: dV/dτ = b(V), the drift of `TransformerSDE` alone (`drift_flow`). With H = 1 there is no such
  limit: the logits' noise remains at infinite width.
* Unshaped attention with residual branches scaled by depth^(-1/2), X += β L^(-1/2) Softmax(Y) X W^V/√n: dV/dτ =
  β² E[A V Aᵀ] over the logits (`ResidualAttention`), in closed form when the logits vanish (`uniform_attention`).
* The angle exponent near ρ = 1 of a transformer block with layer normalisation (`BlockMap`): tokens collapse where
  it is negative.

Sources: arXiv 2206.03126 (rank collapse, depth scaling), 2405.15712 (many heads), 2403.02579 (exponents).
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from covsde.moments.arccos import sin_minus_angle_cos
from covsde.moments.quadrature import as_correlation

Matrix = Float[Array, "m m"]
Real = float | np.floating | np.ndarray


def drift_flow(
    rate: Callable[[Matrix], Matrix], V0: Matrix, times: Float[Array, " times"]
) -> Float[Array, "times m m"]:
    """V at increasing times ≥ 0 along dV/dt = rate(V), by Diffrax's Tsit5 at relative tolerance 10⁻⁹.

    Args:
        rate: b(V), e.g. `transformer.limit().rate`.
        V0: initial covariance (m, m), float64 for that tolerance.
        times: clock times to return.

    Returns:
        V (times, m, m); a solution that explodes before the last time is +∞ or NaN from there on.
    """
    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(lambda t, V, args: rate(V)),
        diffrax.Tsit5(),
        t0=0.0,
        t1=times[-1],
        dt0=None,
        y0=V0,
        saveat=diffrax.SaveAt(ts=times),
        stepsize_controller=diffrax.PIDController(rtol=1e-9, atol=1e-11),
        adjoint=diffrax.ForwardMode(),
        max_steps=100_000,
        throw=False,
    )
    return solution.ys


def uniform_attention(V0: Matrix, beta: float, tau: Float[Array, "..."]) -> Float[Array, "... m m"]:
    """V(τ) = V₀ + (e^{β²τ} - 1) v̄₀ 11ᵀ, v̄₀ the mean entry of V₀: residual attention whose logits vanish.

    Args:
        V0: initial covariance (m, m).
        beta: β, the weight of attention at depth L times √L.
        tau: layer times in [0, 1].

    Returns:
        V, (…, m, m).

    Source: arXiv 2206.03126, uniform attention; Σ V of the mean token grows by e^{β²τ}.
    """
    growth = jnp.expm1(beta**2 * tau)[..., None, None] * jnp.mean(V0)
    return V0[(None,) * tau.ndim] + growth * jnp.ones_like(V0)[(None,) * tau.ndim]


def relu_correlation(rho: Float[Array, "..."], negative_slope: float = 0.0) -> Float[Array, "..."]:
    """κ(ρ) = E φ(x)φ(y) / E φ(x)² of a leaky ReLU: ρ + (1-a)²/(π(1+a²)) (√(1-ρ²) - ρ arccos ρ)."""
    strength = (1 - negative_slope) ** 2 / (math.pi * (1 + negative_slope**2))
    return rho + strength * sin_minus_angle_cos(as_correlation(rho))


class ResidualAttention(eqx.Module):
    """Unshaped residual attention and MLP with branches of size depth^(-1/2), infinitely wide, infinitely many heads.

    Attributes:
        beta_attention: β_A; the branch of attention is β_A/√L Softmax(Y) X W^V/√n.
        beta_mlp: β_M, of the MLP branch; 0 without one.
        logit_scale: σ_a ≥ 0; logits are N(0, σ_a² R ⊗ R), R the Gram matrix it reads; 0 is uniform attention.
        negative_slope: of the MLP's leaky ReLU; 1 is linear.
        normalisation: "pre", "post" or None, as in `Transformer`.
        logits: (draws, m, m) standard normals over which Softmax is averaged; None with uniform attention.

    Source: arXiv 2206.03126 (branches of size 1/√depth), 2405.15712 (many heads).
    """

    beta_attention: float
    beta_mlp: float = 0.0
    logit_scale: float = 0.0
    negative_slope: float = 0.0
    normalisation: str | None = eqx.field(static=True, default=None)
    logits: Float[Array, "draws m m"] | None = None

    def read(self, V: Matrix) -> Matrix:
        """The Gram matrix of what the branches read."""
        if self.normalisation != "pre":
            return V
        scale = jnp.sqrt(jnp.diagonal(V))
        return V / scale[:, None] / scale[None, :]

    def attended(self, R: Matrix) -> Matrix:
        """E[A R Aᵀ] over the logits."""
        if self.logits is None:
            return jnp.full_like(R, 1.0) * jnp.mean(R)
        # Any square root will do; the symmetric one exists for singular R and has a derivative almost everywhere.
        values, vectors = jnp.linalg.eigh(R)
        root = (vectors * jnp.sqrt(jnp.maximum(values, 0))[None]) @ vectors.T
        A = jax.nn.softmax(self.logit_scale * (root[None] @ self.logits @ root[None]), axis=-1)
        return jnp.mean(A @ R[None] @ jnp.swapaxes(A, 1, 2), axis=0)

    def rate(self, V: Matrix) -> Matrix:
        """dV/dτ."""
        R = self.read(V)
        scale = jnp.sqrt(jnp.diagonal(R))
        outer = scale[:, None] * scale[None, :]
        rho = jnp.where(jnp.eye(R.shape[0], dtype=bool), 1, R / outer)
        growth = self.beta_attention**2 * self.attended(R)
        growth = growth + self.beta_mlp**2 * relu_correlation(rho, self.negative_slope) * outer
        if self.normalisation == "post":
            shrink = jnp.diagonal(growth) / jnp.diagonal(V)
            growth = growth - 0.5 * (shrink[:, None] + shrink[None, :]) * V
        return growth


class BlockMap(NamedTuple):
    """A block X ← √(1-α_A²)X + α_A Attn(LN X), X ← √(1-α_M²)X + α_M W₂ tanh(W₁ LN X), with many tokens.

    W₁ has variance σ_w²/d and the others 1/d, so that this is a map of the mean square q of a token and, near collapse,
    of 1 - ρ. Numbers or arrays that broadcast.

    Attributes:
        alpha_attention: α_A ∈ [0, 1].
        alpha_mlp: α_M ∈ [0, 1].
        sigma_w: σ_w ≥ 0.

    Source: Cowsik et al. (2024), arXiv 2403.02579: the block and the exponents.
    """

    alpha_attention: Real
    alpha_mlp: Real
    sigma_w: Real

    def tanh_moments(self) -> tuple[Real, Real]:
        """Q = E tanh(σ_w g)² and χ = σ_w² E tanh'(σ_w g)², by the trapezoidal rule."""
        g = np.linspace(-10, 10, 8001)
        weight = np.exp(-g * g / 2) / math.sqrt(2 * math.pi) * (g[1] - g[0])
        sigma = np.asarray(self.sigma_w, float)
        t = np.tanh(sigma[..., None] * g)
        return np.sum(t * t * weight, axis=-1), sigma**2 * np.sum((1 - t * t) ** 2 * weight, axis=-1)

    def next_q(self, q: Real) -> tuple[Real, Real]:
        """q after attention (tokens collapsed) and after the whole block."""
        Q, _ = self.tanh_moments()
        a, b = np.asarray(self.alpha_attention) ** 2, np.asarray(self.alpha_mlp) ** 2
        middle = (1 - a) * q + a
        return middle, (1 - b) * middle + b * Q

    def fixed_q(self) -> Real:
        """The q that the block leaves alone: (1-b)a + bQ = q (a + b - ab), a = α_A², b = α_M²."""
        Q, _ = self.tanh_moments()
        a, b = np.asarray(self.alpha_attention) ** 2, np.asarray(self.alpha_mlp) ** 2
        moves = a + b - a * b
        return np.where(moves > 0, ((1 - b) * a + b * Q) / np.where(moves > 0, moves, 1), 1.0)

    def gradient_exponent(self, q: Real | None = None) -> Real:
        """λ_g, the log factor by which one block multiplies the squared length of a gradient that differs from token to
        token: log(1-α_A²) + log[(1-α_M²) + α_M² χ/q_A].

        Attention passes on only the mean over tokens of a gradient, a share 1/m of it.

        Args:
            q: mean square of a token entering the block; default: the fixed point, as in a deep network.
        """
        q = self.fixed_q() if q is None else q
        _, chi = self.tanh_moments()
        middle, _ = self.next_q(q)
        a, b = np.asarray(self.alpha_attention) ** 2, np.asarray(self.alpha_mlp) ** 2
        with np.errstate(divide="ignore"):
            return np.log(1 - a) + np.log((1 - b) + b * chi / middle)

    def angle_exponent(self, q: Real | None = None) -> Real:
        """λ_a, the log factor by which one block multiplies 1 - ρ near ρ = 1: negative where tokens collapse.

        It is λ_g + log(q/q'): a difference of tokens grows forwards as a gradient does backwards.

        Args:
            q: as in `gradient_exponent`.
        """
        q = self.fixed_q() if q is None else np.asarray(q, float)
        _, after = self.next_q(q)
        return self.gradient_exponent(q) + np.log(q / after)
