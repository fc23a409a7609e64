"""Drifts of the neural covariance SDE, one per kind of shaped activation."""

import abc
import functools
import math

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from covsde.activations import AbstractActivation, Identity, ShapedReLU, ShapedSmooth
from covsde.moments.arccos import sin_minus_angle_cos
from covsde.moments.quadrature import as_correlation
from covsde.numerics.linalg import square_root
from covsde.numerics.tracing import is_traced
from covsde.numerics.typing import Entries, Number


class AbstractDrift(eqx.Module):
    """A drift b(V) given entry by entry, with the flow of dV/dt = b(V) in steps that stay in the PSD cone.

    The variances and the covariance of an entry come as arrays that broadcast against each other.
    """

    @property
    @abc.abstractmethod
    def may_explode(self) -> bool:
        """Whether a drift of this kind can send variances to infinity in finite time."""

    @abc.abstractmethod
    def rate(self, vi: Entries, vj: Entries, vij: Entries) -> Entries:
        """b^{αβ} from V^{αα}, V^{ββ}, V^{αβ} (pass the variance three times for a diagonal entry)."""

    @abc.abstractmethod
    def variance_flow(self, v: Entries, dt: Entries) -> Entries:
        """V^{αα} after clock time dt of the drift alone, exactly; +∞ once it has exploded."""

    @abc.abstractmethod
    def covariance_flow(self, vi: Entries, vj: Entries, vij: Entries, dt: Entries) -> Entries:
        """V^{αβ} after clock time dt of the drift alone, to second order, jointly PSD with `variance_flow`."""

    @abc.abstractmethod
    def euler(self, vi: Entries, vj: Entries, vij: Entries, dt: Entries) -> Entries:
        """V^{αβ} + dt b^{αβ} to first order in a form that keeps the whole matrix PSD."""

    @abc.abstractmethod
    def stiffness(self, largest_variance: float) -> float:
        """How many times faster than the noise the drift acts (≥ 1): it sets the default number of steps."""

    @abc.abstractmethod
    def longest_step(self) -> float:
        """The longest clock time over which `covariance_flow` is guaranteed to keep V PSD."""

    @abc.abstractmethod
    def ceiling(self) -> Number:
        """A variance above this has exploded; +∞ where explosion is impossible."""


def _correlation(vi: Entries, vj: Entries, vij: Entries) -> tuple[Entries, Entries]:
    scale = square_root(vi) * square_root(vj)
    # A zero input has no direction and keeps covariance 0.
    return as_correlation(vij / jnp.where(scale > 0, scale, 1)), scale


def _slope_only(where: Array, x: Entries) -> Entries:
    """0 with the derivative of x: the linear term of a series whose value has rounded to its constant."""
    x = jnp.where(where, x, 0)
    return x - jax.lax.stop_gradient(x)


class ReLUDrift(AbstractDrift):
    """b^{αβ} = ν(ρ) √(V^{αα}V^{ββ}),  ν(ρ) = (κ/2π)(√(1-ρ²) - ρ arccos ρ),  κ = (c₊-c₋)²."""

    kappa: Float[Array, ""] | float

    @property
    def may_explode(self) -> bool:
        """False: the SDE is linear in scale."""
        return False

    def nu(self, rho: Entries) -> Entries:
        """ν(ρ), the drift of the correlation."""
        return self.kappa / (2 * math.pi) * sin_minus_angle_cos(rho)

    def rate(self, vi: Entries, vj: Entries, vij: Entries) -> Entries:
        """ν(ρ)√(V^{αα}V^{ββ}); exactly 0 on the diagonal."""
        rho, scale = _correlation(vi, vj, vij)
        return self.nu(rho) * scale

    def variance_flow(self, v: Entries, dt: Entries) -> Entries:
        """Variances do not move: ν(1) = 0."""
        return v

    def covariance_flow(self, vi: Entries, vj: Entries, vij: Entries, dt: Entries) -> Entries:
        """Two-stage strong-stability-preserving Runge–Kutta in ρ.

        It is an average of matrices reached by Euler steps. An Euler step ρ + dt ν(ρ) has a power series in ρ with
        non-negative coefficients when dt κ ≤ 4, so it keeps the cone (Schoenberg), and the cone is convex.
        """
        rho, scale = _correlation(vi, vj, vij)
        once = rho + dt * self.nu(rho)
        twice = once + dt * self.nu(once)
        return 0.5 * (rho + twice) * scale

    def euler(self, vi: Entries, vj: Entries, vij: Entries, dt: Entries) -> Entries:
        """V + dt b(V), PSD when dt κ ≤ 4."""
        return vij + dt * self.rate(vi, vj, vij)

    def stiffness(self, largest_variance: float) -> float:
        """max(1, κ/4), whatever the variances: the drift is scale-free."""
        return max(1.0, float(self.kappa) / 4)

    def longest_step(self) -> float:
        """4/κ, from the power series of `covariance_flow`."""
        return 4 / float(self.kappa) if float(self.kappa) > 0 else math.inf

    def ceiling(self) -> Number:
        """+∞: the SDE is linear in scale and cannot explode."""
        return math.inf


class SmoothDrift(AbstractDrift):
    """b^{αβ} = κ₂²/4 (V^{αα}V^{ββ} + 2(V^{αβ})² - 3V^{αβ}) + κ₃/2 V^{αβ}(V^{αα} + V^{ββ} - 2).

    Variances follow dV = βV(V-1)dt + √2 V dB with β = ¾κ₂² + κ₃, which explodes with positive probability iff β > 0.
    """

    kappa2: Float[Array, ""] | float
    kappa3: Float[Array, ""] | float

    @property
    def may_explode(self) -> bool:
        """True: it depends on the sign of β, a number known only at run time."""
        return True

    @property
    def beta(self) -> Float[Array, ""] | float:
        """β = ¾κ₂² + κ₃."""
        return 0.75 * self.kappa2 * self.kappa2 + self.kappa3

    def rate(self, vi: Entries, vj: Entries, vij: Entries) -> Entries:
        """The drift of one entry."""
        quadratic = self.kappa2 * self.kappa2 / 4 * (vi * vj + vij * (2 * vij - 3))
        return quadratic + self.kappa3 / 2 * vij * (vi + vj - 2)

    def variance_flow(self, v: Entries, dt: Entries) -> Entries:
        """Exact logistic flow of dv/dt = βv(v-1)."""
        gone = -jnp.expm1(-self.beta * dt)
        room = 1 - v * gone
        return jnp.where(room > 0, v * jnp.exp(-self.beta * dt) / jnp.where(room > 0, room, 1), jnp.inf)

    def covariance_flow(self, vi: Entries, vj: Entries, vij: Entries, dt: Entries) -> Entries:
        """Exact variances; the correlation by a Schur-product Strang splitting.

        ρ' = κ₂²/4 [√(V^{αα}V^{ββ})(1 + 2ρ²) - (3/2)ρ(V^{αα} + V^{ββ})]: κ₃ moves variances only. Damping multiplies
        by a rank-one matrix, the source adds a PSD matrix (SSP Runge–Kutta), and a last congruence restores ρ_αα = 1.
        """
        rho, _ = _correlation(vi, vj, vij)
        area_i, area_j = self._variance_integral(vi, dt), self._variance_integral(vj, dt)
        strength = self.kappa2 * self.kappa2 / 4

        def moved(q: Entries, a: Entries, b: Entries) -> Entries:
            damping = jnp.exp(-0.75 * strength * (a + b))
            source = strength * square_root(a) * square_root(b)
            q = q * damping
            once = q + source * (1 + 2 * q * q)
            twice = once + source * (1 + 2 * once * once)
            return 0.5 * (q + twice) * damping

        unit = jnp.ones_like(vi)
        shrink = jnp.sqrt(moved(unit, area_i, area_i) * moved(unit, area_j, area_j))
        scale = square_root(self.variance_flow(vi, dt)) * square_root(self.variance_flow(vj, dt))
        return moved(rho, area_i, area_j) / shrink * scale

    def _variance_integral(self, v: Entries, dt: Entries) -> Entries:
        # ∫₀^dt v(s) ds = -log(1 - v(1 - e^{-β dt}))/β along the exact flow; the quotients are written to survive β = 0.
        gone = -jnp.expm1(-self.beta * dt)
        flat = jnp.abs(self.beta * dt) < 1e-8
        ratio = jnp.where(flat, 1 - _slope_only(flat, self.beta * dt) / 2, gone / jnp.where(flat, 1, self.beta * dt))
        x = v * gone
        small = jnp.abs(x) < 1e-8
        log_ratio = -jnp.log1p(-jnp.where(small, 0.5, x)) / jnp.where(small, 1, x)
        log_ratio = jnp.where(small, 1 + _slope_only(small, x) / 2, log_ratio)
        return v * dt * ratio * log_ratio

    def euler(self, vi: Entries, vj: Entries, vij: Entries, dt: Entries) -> Entries:
        """The Schur-product form, equal to V + dt b(V) to first order and PSD for every step."""
        damping = -0.375 * self.kappa2 * self.kappa2
        growth = jnp.exp(dt * (self.kappa3 / 2 * (vi + vj - 2) + 2 * damping))
        return vij * growth + dt * self.kappa2 * self.kappa2 / 4 * (vi * vj + 2 * vij * vij)

    def stiffness(self, largest_variance: float) -> float:
        """Grows with |κ₃|, κ₂² and the largest input variance."""
        strength = abs(float(self.kappa3)) + 0.75 * float(self.kappa2) ** 2
        return max(1.0, strength * max(1.0, largest_variance) / 2)

    def longest_step(self) -> float:
        """+∞: every step of the Schur-product form is PSD."""
        return math.inf

    def ceiling(self) -> Number:
        """10¹⁰ when β > 0 (from there explosion is certain to all digits), else +∞."""
        if is_traced(self.beta):
            return jnp.where(self.beta > 0, 1e10, jnp.inf)
        return 1e10 if float(self.beta) > 0 else math.inf


class Affine(AbstractDrift):
    """b + γV + β_b 11ᵀ: the drift of a layer with bias variance β_b/n and gain 1 + γ/n, around that of the activation.

    The affine part has an exact flow in the cone, V ↦ e^{γt} V + β_b (e^{γt} - 1)/γ 11ᵀ; half of it is taken before and
    half after the activation's own flow, so variances too are of second order.
    """

    inner: AbstractDrift
    bias: Float[Array, ""] | float
    gain: Float[Array, ""] | float

    @property
    def may_explode(self) -> bool:
        """The activation's: an affine drift neither causes nor prevents explosion."""
        return self.inner.may_explode

    def _affine(self, v: Entries, dt: Entries) -> Entries:
        grown = jnp.asarray(self.gain * dt)
        moves = jnp.abs(grown) > 1e-8
        mean_growth = jnp.where(moves, jnp.expm1(grown) / jnp.where(moves, grown, 1), 1 + grown / 2)
        return jnp.exp(grown) * v + self.bias * dt * mean_growth

    def rate(self, vi: Entries, vj: Entries, vij: Entries) -> Entries:
        """b + γV + β_b."""
        return self.inner.rate(vi, vj, vij) + self.gain * vij + self.bias

    def variance_flow(self, v: Entries, dt: Entries) -> Entries:
        """Half the affine flow, the activation's, half the affine flow: second order."""
        return self._affine(self.inner.variance_flow(self._affine(v, dt / 2), dt), dt / 2)

    def covariance_flow(self, vi: Entries, vj: Entries, vij: Entries, dt: Entries) -> Entries:
        """The same composition for one covariance."""
        vi, vj, vij = (self._affine(v, dt / 2) for v in (vi, vj, vij))
        return self._affine(self.inner.covariance_flow(vi, vj, vij, dt), dt / 2)

    def euler(self, vi: Entries, vj: Entries, vij: Entries, dt: Entries) -> Entries:
        """The activation's first-order step, then the affine flow."""
        return self._affine(self.inner.euler(vi, vj, vij, dt), dt)

    def stiffness(self, largest_variance: float) -> float:
        """The activation's, |γ|, or how often the bias refills a variance, whichever is most."""
        refill = float(self.bias) / max(largest_variance, 1.0)
        return max(self.inner.stiffness(largest_variance), abs(float(self.gain)), refill)

    def longest_step(self) -> float:
        """The activation's: the affine flow keeps the cone at any length."""
        return self.inner.longest_step()

    def ceiling(self) -> Number:
        """The activation's."""
        return self.inner.ceiling()


@functools.singledispatch
def drift_of(activation: AbstractActivation) -> AbstractDrift:
    """The drift that an activation leaves in the limit; register new activations with `drift_of.register`.

    Raises:
        TypeError: for an activation whose Gram process has no limit of this form.
    """
    raise TypeError(
        f"activation={type(activation).__name__} is not shaped, so its covariance has no regular SDE limit: use "
        "ShapedReLU or ShapedSmooth for the limit, simulate_unshaped for two inputs through LeakyReLU, or "
        "sample_networks for the network itself."
    )


def _refuse_strong_shaping(activation: ShapedReLU | ShapedSmooth) -> None:
    if activation.exponent < 0.5:
        raise ValueError(
            f"exponent={activation.exponent:g} is below the critical 1/2, so the drift accumulated over depth "
            "diverges and the covariance jumps at once: there is no SDE limit; use exponent=0.5, or sample_networks "
            "to see it happen."
        )


@drift_of.register
def _(activation: ShapedReLU) -> AbstractDrift:
    _refuse_strong_shaping(activation)
    return ReLUDrift(activation.kappa)


@drift_of.register
def _(activation: Identity) -> AbstractDrift:
    return ReLUDrift(0.0)


@drift_of.register
def _(activation: ShapedSmooth) -> AbstractDrift:
    _refuse_strong_shaping(activation)
    if activation.exponent > 0.5:
        return ReLUDrift(0.0)
    return SmoothDrift(activation.kappa2, activation.kappa3)
