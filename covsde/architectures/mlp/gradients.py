"""Gradients of shaped MLPs at initialization: the equations that run down from the output, given the forward path.

With Φ(a, b) = h(a)·h(b)/n the forward covariance, and v(b) = ∂f/∂h the gradient of the output f at input b,

    G(a, b) = v(a)·v(b)   (backward covariance),       A(a, b) = h(a)·v(b)   (overlap),

both of order one. At the top G = 1, A(a, b) = f(a), f | Φ_T ~ N(0, Φ_T). In decreasing clock time t = ℓ/n:

    -dG = (AᵀΦ⁻¹A - rank(Φ) G + κ∘G) dt + L dS Lᵀ,   G = L Lᵀ
    -dA = (B·Φ⁻¹A + C(Φ)A) dt + noise of covariance M_{ab,cd} G_bd dt

AᵀΦ⁻¹A - rank(Φ) G is what the weights' known action on the forward vectors leaves of a fresh Wishart step: on the span
of the h the gradient is known, and only the rest of its square is new. κ, B, C and M come from the activation:
writing φ_s = z + ψ(z)/√n + … (covariance/expansion.py), κ_bd is the drift of E φ_s'(z_b)φ_s'(z_d), and with
q_ab = ψ(z_a) - z_a ψ'(z_b)

    M_{ab,cd} = E[q_ab q_cd],    B_{ab,e} = -E[q_ab ψ(z_e)],    z ~ N(0, Φ)

while C comes from the term of order 1/n. Source: Li, Noci, Hanin, forward–backward limit at initialization, as
announced in M. Li's lecture notes (STAT 946, Waterloo, 2025); the closed Gaussian moments are elementary.
"""

import functools
import math

import jax.numpy as jnp
from jaxtyping import Array, Float

from covsde.activations import AbstractActivation, Identity, ShapedReLU, ShapedSmooth
from covsde.covariance.backward import AbstractBackward
from covsde.covariance.drifts import drift_of
from covsde.covariance.expansion import Expansion, Modulus, Quadratic
from covsde.numerics.typing import Number, PathsFirst


class OddBackward(AbstractBackward):
    """Odd smooth activations (tanh, erf, sin) and, with κ₃ = 0, the identity: A moves by drift alone."""

    kappa3: Number

    def expansion(self) -> Expansion:
        """κ₃ alone."""
        return Expansion(None, self.kappa3)

    def gradient_rate(self, Phi: PathsFirst) -> PathsFirst:
        """κ_bd = κ₃/2 (Φ_bb + Φ_dd - 2)."""
        return self.kappa3 / 2 * (_rows(Phi) + _columns(Phi) - 2)

    def overlap_rate(self, Phi: PathsFirst, A: PathsFirst, weights: PathsFirst) -> PathsFirst:
        """-κ₃/2 [(Φ_aa - Φ_bb) A(a, b) - 2 Φ_ab A(b, b)]."""
        return _cubic_rate(self.kappa3, Phi, A)

    def overlap_covariance(self, Phi: PathsFirst) -> None:
        """None: ψ = 0."""
        return


class SmoothBackward(AbstractBackward):
    """General smooth activations, ψ = κ₂z²/2: the overlap has noise of its own, independent of that of G."""

    kappa2: Number
    kappa3: Number

    def expansion(self) -> Expansion:
        """ψ = κ₂z²/2, and κ₃."""
        return Expansion(Quadratic(self.kappa2), self.kappa3)

    def gradient_rate(self, Phi: PathsFirst) -> PathsFirst:
        """κ_bd = κ₂² (Φ_bd - 3/4) + κ₃/2 (Φ_bb + Φ_dd - 2)."""
        cubic = self.kappa3 / 2 * (_rows(Phi) + _columns(Phi) - 2)
        return self.kappa2 * self.kappa2 * (Phi - 0.75) + cubic

    def overlap_rate(self, Phi: PathsFirst, A: PathsFirst, weights: PathsFirst) -> PathsFirst:
        """Isserlis' theorem for B, and the cubic term."""
        variance = jnp.sum(_diagonal(Phi)[:, :, None] * weights, axis=1)  # Σ_e Φ_ee k_e, per b
        projected = Phi[:, :, :, None] * weights[:, None, :, :]  # Φ_ae k_eb
        own = 0.5 * _rows(Phi) * variance[:, None, :] + jnp.sum(Phi[:, :, :, None] * projected, axis=2)
        mixed = Phi * variance[:, None, :] + 2 * jnp.einsum("paeb,pbe->pab", projected, Phi)
        return -self.kappa2 * self.kappa2 / 2 * (own - mixed) + _cubic_rate(self.kappa3, Phi, A)

    def overlap_covariance(self, Phi: PathsFirst) -> Float[Array, "paths m m m m"]:
        """κ₂² E[(z_a²/2 - z_a z_b)(z_c²/2 - z_c z_d)] by Isserlis' theorem."""

        def fourth(i: str, j: str, k: str, l: str) -> Array:
            pairs = ((i + j, k + l), (i + k, j + l), (i + l, j + k))
            return sum(
                (jnp.einsum(f"p{x},p{y}->p{''.join(sorted(set(x + y)))}", Phi, Phi) for x, y in pairs),
                start=jnp.zeros((), Phi.dtype),
            )

        squares = fourth("a", "a", "c", "c")[:, :, None, :, None] / 4
        left = fourth("a", "a", "c", "d")[:, :, None, :, :] / 2
        right = fourth("a", "b", "c", "c")[:, :, :, :, None] / 2
        return self.kappa2 * self.kappa2 * (squares - left - right + fourth("a", "b", "c", "d"))


class ReLUBackward(AbstractBackward):
    """Shaped ReLU, ψ' piecewise constant: A(a, a) is conserved and A(a, b) is driven by differing signs.

    Every moment is closed, for any number of labels: Gaussian integration by parts turns E[s_p s_q z_a z_c] (s the
    signs) into arcsines and conditional standard deviations.
    """

    kappa: Number

    def expansion(self) -> Expansion:
        """ψ = √κ|z|/2."""
        return Expansion(Modulus(self.kappa), 0.0)

    def gradient_rate(self, Phi: PathsFirst) -> PathsFirst:
        """κ_bd = -(κ/2π) arccos ρ_bd, exactly 0 on the diagonal."""
        rho = _correlation(Phi)
        angle = jnp.arccos(rho)
        return -self.kappa / (2 * math.pi) * angle

    def overlap_rate(self, Phi: PathsFirst, A: PathsFirst, weights: PathsFirst) -> PathsFirst:
        """(κ/2) Σ_e E[(1_b - 1_a) z_a |z_e|] (Φ⁻¹A)_eb with 1_a = 1{z_a > 0}."""
        slope, _, _, signs = self._conditional(Phi)
        # E[s_p z_a |z_e|] = Φ_ap E[2δ(z_p)|z_e|] + Φ_ae E[s_p s_e]
        at_zero = slope[:, :, None] * jnp.sqrt(self._residual(Phi))
        moment = Phi[:, :, :, None] * at_zero[:, :, None, :] + signs[:, :, None, :] * Phi[:, None, :, :]
        own = jnp.einsum("paae->pae", moment)  # (p, a, e) from (p, sign label, a, e)
        difference = jnp.swapaxes(moment, 1, 2) - own[:, :, None, :]  # (p, a, b, e)
        rate = self.kappa / 4 * jnp.einsum("pabe,peb->pab", difference, weights)
        return jnp.where(_correlation(Phi) < 1, rate, 0)

    def overlap_covariance(self, Phi: PathsFirst) -> Float[Array, "paths m m m m"]:
        """κ E[(1_b - 1_a)(1_d - 1_c) z_a z_c]."""
        slope, conditional, root, signs = self._conditional(Phi)
        # delta[p, q, c] = E[2δ(z_p) s_q z_c] = (2/π √Φ_pp) Cov(z_c, z_q | z_p) / √Var(z_q | z_p)
        delta = slope[:, :, None, None] * conditional / jnp.where(root > 0, root, 1)[:, :, :, None]
        delta = jnp.where(root[:, :, :, None] > 0, delta, 0)
        # moment[p, q, a, c] = E[s_p s_q z_a z_c] = Φ_ac E[s_p s_q] + Φ_ap delta[p, q, c] + Φ_aq delta[q, p, c]
        moment = signs[:, :, :, None, None] * Phi[:, None, None, :, :]
        moment = moment + Phi[:, :, None, :, None] * delta[:, :, :, None, :]
        moment = moment + Phi[:, None, :, :, None] * jnp.swapaxes(delta, 1, 2)[:, :, :, None, :]
        bd = jnp.einsum("tbdac->tabcd", moment)
        bc = jnp.einsum("tbcac->tabc", moment)[:, :, :, :, None]
        ad = jnp.einsum("tadac->tacd", moment)[:, :, None, :, :]
        ac = jnp.einsum("tacac->tac", moment)[:, :, None, :, None]
        # Inputs that are the same to rounding never differ in sign.
        differ = _correlation(Phi) < 1
        differ = differ[:, :, :, None, None] & differ[:, None, None, :, :]
        return jnp.where(differ, self.kappa / 4 * (bd - bc - ad + ac), 0)

    def _residual(self, Phi: PathsFirst) -> PathsFirst:
        """Var(z_q | z_p), over (p, q); exactly 0 for q = p."""
        variance = _rows(Phi)
        left = _columns(Phi) - Phi * Phi / jnp.where(variance > 0, variance, 1)
        return jnp.where(jnp.abs(_correlation(Phi)) < 1, jnp.maximum(left, 0), 0)

    def _conditional(self, Phi: PathsFirst) -> tuple[Array, Array, PathsFirst, PathsFirst]:
        variance = _diagonal(Phi)
        live = variance > 0
        inverse = jnp.where(live, 1 / jnp.where(live, variance, 1), 0)
        slope = 2 / math.pi * jnp.sqrt(inverse)
        conditional = Phi[:, None, :, :] - inverse[:, :, None, None] * Phi[:, :, :, None] * Phi[:, :, None, :]
        signs = 2 / math.pi * jnp.arcsin(_correlation(Phi))
        return slope, conditional, jnp.sqrt(self._residual(Phi)), signs


def _diagonal(Phi: PathsFirst) -> Float[Array, "paths m"]:
    return jnp.diagonal(Phi, axis1=1, axis2=2)


def _rows(Phi: PathsFirst) -> Float[Array, "paths m 1"]:
    return _diagonal(Phi)[:, :, None]


def _columns(Phi: PathsFirst) -> Float[Array, "paths 1 m"]:
    return _diagonal(Phi)[:, None, :]


def _correlation(Phi: PathsFirst) -> PathsFirst:
    # To rounding, ±1 is ±1: arccos would turn 10⁻¹⁶ into 10⁻⁸. A zero input has no direction.
    scale = jnp.sqrt(_rows(Phi)) * jnp.sqrt(_columns(Phi))
    rho = Phi / jnp.where(scale > 0, scale, 1)
    return jnp.where(jnp.abs(rho) > 1 - 64 * jnp.finfo(Phi.dtype).eps, jnp.sign(rho), rho)


def _cubic_rate(kappa3: Number, Phi: PathsFirst, A: PathsFirst) -> PathsFirst:
    return -kappa3 / 2 * ((_rows(Phi) - _columns(Phi)) * A - 2 * Phi * _columns(A))


@functools.singledispatch
def backward_of(activation: AbstractActivation) -> AbstractBackward:
    """The backward equations that an activation leaves in the limit; register new activations with `.register`.

    Raises:
        TypeError: for an activation without a regular limit.
    """
    drift_of(activation)  # says why there is no limit
    raise TypeError(f"activation={type(activation).__name__} has no backward equation: use ShapedReLU or ShapedSmooth.")


@backward_of.register
def _(activation: ShapedReLU) -> AbstractBackward:
    drift_of(activation)  # says why there is no limit
    return ReLUBackward(activation.kappa) if activation.kappa else OddBackward(0.0)


@backward_of.register
def _(activation: Identity) -> AbstractBackward:
    return OddBackward(0.0)


@backward_of.register
def _(activation: ShapedSmooth) -> AbstractBackward:
    drift_of(activation)
    if activation.exponent > 0.5:
        return OddBackward(0.0)
    if abs(activation.kappa2) < 1e-12:
        return OddBackward(activation.kappa3)
    return SmoothBackward(activation.kappa2, activation.kappa3)
