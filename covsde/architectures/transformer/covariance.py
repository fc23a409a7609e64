"""The covariance SDE of shaped transformers at initialization.

Layer time counts blocks (attention, then MLP if there is one). With V = X Xᵀ for any square root X, U the attention of
constant logits, H heads and residual weights λ² + γ² = 1,

    dV = b(V) dt' + √κ X dS(t) Xᵀ + dA V + V dAᵀ,     dA = γ²/(τ₀√H) U∘(dY - rowsum(U∘dY) 1ᵀ),  dY = X dZ(t') Xᵀ

with S symmetric Brownian (variance 2 on, 1 off the diagonal) and Z an m × m matrix of Brownian motions. Both noises act
on X by polynomials, so the attention part is the equation of X itself, dX = dA X + …, whose Gram matrix X Xᵀ is a
covariance whatever the integrator does. The noise dA is that of the m × m logits and does **not** vanish at infinite
width: with one head, an infinitely wide shaped transformer is still random. Only H → ∞ removes it.

Matrices have their two axes first and the ensemble last, (m, m, paths).

Source: Noci et al. (2023), arXiv 2306.17759: the shaped transformer and its covariance SDE.
"""

import functools
import operator

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from covsde.architectures.transformer.attention import AbstractMask, NoMask
from covsde.covariance.clock import AbstractClock
from covsde.covariance.drifts import ReLUDrift
from covsde.covariance.limit import AbstractCovarianceLimit
from covsde.numerics.tracing import is_traced
from covsde.numerics.typing import Number, PathsLast

Scalars = Float[Array, " paths"]

# Up to here products go row by row in a loop: XLA would otherwise recompute one product inside the next.
_ROW_BY_ROW_UP_TO = 6


def multiply(A: PathsLast, B: PathsLast) -> PathsLast:
    """A B on every path."""
    m = B.shape[0]
    if m > _ROW_BY_ROW_UP_TO:
        return jnp.einsum("ikp,kjp->ijp", A, B)
    return jax.lax.map(lambda row: functools.reduce(operator.add, (row[k][None] * B[k] for k in range(m))), A)


def transpose(A: PathsLast) -> PathsLast:
    """Aᵀ on every path."""
    return jnp.swapaxes(A, 0, 1)


def _diagonal(V: PathsLast) -> Float[Array, "m paths"]:
    return jnp.stack([V[i, i] for i in range(V.shape[0])])


def _eye(m: int, dtype: jnp.dtype) -> Float[Array, "m m 1"]:
    return jnp.eye(m, dtype=dtype)[:, :, None]


class TransformerSDE(AbstractCovarianceLimit):
    """dV = b(V) dt' + noise of the weights on the clock t + noise of the logits on the clock t'.

    Attributes:
        gamma2: γ², the weight of every residual branch.
        inverse_tau0: 1/τ₀; 0 without attention.
        inverse_heads: 1/H; 0 for infinitely many heads, which leaves no noise of the logits.
        kappa: coefficient of the weights' noise: γ²(2-γ²) for attention, 2γ² with an output matrix, and 2γ² more for
            an MLP.
        mlp: the drift γ²ν(ρ)√(V^{αα}V^{ββ}) of the MLP; zero without one.
        noise_clock: t(τ), of the weights' noise.
        drift_clock: t'(τ), of the drift and of the logits' noise: the same when the network is shaped by its width,
            τ itself when it is shaped by its depth.
        ceiling: a variance above this counts as exploded.
        mask: which keys tokens attend to.
    """

    gamma2: Number
    inverse_tau0: Number
    inverse_heads: Number
    kappa: Number
    mlp: ReLUDrift
    noise_clock: AbstractClock
    drift_clock: AbstractClock
    ceiling: Number
    mask: AbstractMask

    @property
    def deterministic(self) -> bool:
        """False: a path is random at any finite width, whatever the number of heads."""
        return False

    @property
    def may_explode(self) -> bool:
        """True: the drift of attention is cubic."""
        return True

    @property
    def without_mask(self) -> bool:
        """Whether the simpler formulas of unmasked attention apply."""
        return isinstance(self.mask, NoMask)

    def _uniform(self, V: PathsLast) -> PathsLast:
        return jnp.broadcast_to(jnp.asarray(self.mask.uniform(V.shape[0]), V.dtype)[:, :, None], V.shape)

    # --- the pieces that solvers compose -----------------------------------------------------------------------------

    def logit_spread(self, V: PathsLast) -> Float[Array, "#m #m paths"]:
        """N with E[A₁ V A₁ᵀ] = V∘N / τ₀², A₁ the first-order attention matrix: its Schur product keeps V PSD.

        Without a mask N = ‖K‖²/m² for every pair, K = CVC.
        """
        if self.without_mask:
            m = V.shape[0]
            K = V - jnp.mean(V, axis=0, keepdims=True)
            K = K - jnp.mean(K, axis=1, keepdims=True)
            return jnp.sum(K * K, axis=(0, 1))[None, None] / (m * m)
        U = self._uniform(V)
        UV = multiply(U, V)
        once = multiply(UV * UV, transpose(U))
        twice = multiply(UV, transpose(U))
        return multiply(multiply(U, V * V), transpose(U)) - once - transpose(once) + twice * twice

    @property
    def spread_rate(self) -> Number:
        """Coefficient of V∘N in the drift of V that the equation of X does not produce by itself: γ²(1-γ²/H)/τ₀²."""
        return self.gamma2 * (1 - self.gamma2 * self.inverse_heads) * self.inverse_tau0 * self.inverse_tau0

    def generator(self, X: PathsLast, Z: PathsLast, h: Number | Array) -> PathsLast:
        """One direction of the attention flow: g(X, Z) + h f(X), with f the Stratonovich drift of X.

        Args:
            X: any square roots of V, (m, m, paths).
            Z: increments of the m × m Brownian motion (m, m, paths), which may be 0.
            h: clock time.

        Returns:
            Velocity of X, the same shape: γ²/(τ₀√H) U∘(Y - rowsum(U∘Y)1ᵀ) X with Y = X Z Xᵀ, plus h times the
            second-order term of the softmax, (γ²/τ₀²) ½ U^{αδ} V^{αα}(q^{αδ} - mean q^{α·}), less half the derivative
            of the noise along itself.
        """
        s = self.gamma2 * self.inverse_tau0 * jnp.sqrt(jnp.asarray(self.inverse_heads, X.dtype))
        second = h * self.gamma2 * self.inverse_tau0 * self.inverse_tau0
        return self._unmasked(X, Z, h, s, second) if self.without_mask else self._masked(X, Z, h, s, second)

    def _unmasked(self, X: PathsLast, Z: PathsLast, h: Number | Array, s: Array, second: Number | Array) -> PathsLast:
        m = X.shape[0]
        c = s / m
        centred = X - jnp.mean(X, axis=0, keepdims=True)
        G = multiply(transpose(centred), centred)
        spread = jnp.sum(centred * centred, axis=1)
        trace = jnp.sum(spread, axis=0)
        # g = c X Z G and Σ_Z Dg[g] = c² X (2G + tr G) G.
        Q = c * Z - h * c * c * (G + 0.5 * trace[None, None] * _eye(m, X.dtype))
        variances = jnp.sum(X * X, axis=1)
        k = spread - (trace / m)[None]
        bend = jnp.sum(k[:, None] * X, axis=0)
        return multiply(X, multiply(Q, G)) + second / (2 * m) * variances[:, None] * bend[None]

    def _masked(self, X: PathsLast, Z: PathsLast, h: Number | Array, s: Array, second: Number | Array) -> PathsLast:
        U = self._uniform(X)
        V = multiply(X, transpose(X))
        v = _diagonal(V)
        Y = multiply(multiply(X, Z), transpose(X))
        first = U * (Y - jnp.sum(U * Y, axis=1, keepdims=True))
        mean = multiply(U, V)
        q = v[None] - 2 * mean
        bend = 0.5 * v[:, None] * U * (q - jnp.sum(U * q, axis=1, keepdims=True))
        return multiply(s * first + second * bend - 0.5 * h * s * s * self._along_itself(U, V, v, mean), X)

    @staticmethod
    def _along_itself(U: PathsLast, V: PathsLast, v: Array, mean: PathsLast) -> PathsLast:
        # Row α of the noise is x_α Z M_α, M_α = Σ_ν U_αν (x_ν - x̄_α)ᵀ(x_ν - x̄_α). Its derivative along itself, summed
        # over Z, has three parts: x_α M_α², and two in which M_α moves.
        W = U * V
        p = jnp.sum(W, axis=1)
        both = multiply(mean, transpose(U))
        right = U * multiply(W - U * p[:, None], V)
        square = right - U * jnp.sum(right, axis=1, keepdims=True)
        traces = jnp.sum(U * v[None], axis=1) - _diagonal(both)
        weighted = W * traces[None]
        moved = weighted - U * jnp.sum(weighted, axis=1, keepdims=True)
        cross = multiply(W, W) - multiply(W, U) * mean - multiply(W * (p[None] - both), U)
        return square + moved + cross

    # --- the equation as the paper writes it -------------------------------------------------------------------------

    def attention_drift(self, V: Float[Array, "m m"]) -> Float[Array, "m m"]:
        """b of attention alone, (γ²/τ₀²)(V∘N + D V + V Dᵀ), per unit of clock time.

        Args:
            V: one covariance (m, m).

        Returns:
            b (m, m), symmetric.
        """
        U = jnp.asarray(self.mask.uniform(V.shape[0]), V.dtype)
        mean = U @ V
        v = jnp.diagonal(V)
        q = v[None] - 2 * mean
        D = 0.5 * v[:, None] * U * (q - jnp.sum(U * q, axis=1, keepdims=True))
        spread = self.logit_spread(V[:, :, None])[:, :, 0] * V
        return self.gamma2 * self.inverse_tau0 * self.inverse_tau0 * (spread + D @ V + (D @ V).T)

    def rate(self, V: Float[Array, "m m"]) -> Float[Array, "m m"]:
        """The whole drift b(V), attention and MLP, per unit of clock time.

        Args:
            V: one covariance (m, m).

        Returns:
            b (m, m), symmetric.
        """
        v = jnp.diagonal(V)
        off = self.mlp.rate(*jnp.broadcast_arrays(v[:, None], v[None, :], V))
        return self.attention_drift(V) + jnp.where(jnp.eye(V.shape[0], dtype=bool), 0, off)

    def diffusion(self, V: Float[Array, "m m"]) -> Float[Array, "m m m m"]:
        """Σ^{αβ,δω}, the covariance of dV^{αβ} and dV^{δω} per unit of clock time (both clocks taken as one).

        Args:
            V: one covariance (m, m).

        Returns:
            κ Σ_lin + γ⁴/(Hτ₀²) 𝒜 as (m, m, m, m): for looking and testing, no solver forms it.
        """
        m = V.shape[0]
        linear = jnp.einsum("ad,bw->abdw", V, V) + jnp.einsum("aw,bd->abdw", V, V)
        U = jnp.asarray(self.mask.uniform(m), V.dtype)
        # e_d - u_a for every row a and key d; then S₁^{ad,bw} = U_ad U_bw V^{ab} (e_d - u_a)ᵀ V (e_w - u_b).
        e = jnp.eye(m, dtype=V.dtype)[None] - U[:, None, :]
        S1 = jnp.einsum("ad,bw,ab,adi,ij,bwj->adbw", U, U, V, e, V, e)
        once = jnp.einsum("ak,dn,bkwn->abdw", V, V, S1)
        once = once + jnp.swapaxes(once, 2, 3)
        logits = once + jnp.swapaxes(once, 0, 1)
        return self.kappa * linear + self.gamma2**2 * self.inverse_heads * self.inverse_tau0**2 * logits


def attention_ceiling(gamma: Number, tau0: Number, clock: Number) -> Number:
    """A variance from which the deterministic explosion would take about 10⁻⁷ of the run: 10⁴ τ₀/(γ√t')."""
    strength = gamma / tau0 * clock**0.5
    if is_traced(strength):
        return jnp.where(strength > 0, 1e4 / jnp.where(strength > 0, strength, 1), jnp.inf)
    return 1e4 / strength if strength > 0 else float("inf")
