"""Steps for shaped transformers: attention noise acts on a square root X of V, so V = X Xᵀ cannot leave the cone."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from covsde.architectures.transformer.covariance import TransformerSDE, multiply, transpose
from covsde.numerics.typing import Number, PathsLast
from covsde.solvers.cone import AbstractConeSolver
from covsde.solvers.defaults import default_solver, default_step_count, default_steps, stiffness_of_noise
from covsde.solvers.layout import AbstractLayout, State, standard_normals
from covsde.solvers.noise import SymmetricTriangular, refuse_long_noise
from covsde.solvers.terms import Elapsed, refuse_other_equation


def _full(layout: AbstractLayout, L: State) -> PathsLast:
    """Lower-triangular factors as (m, m, paths)."""
    entries = layout.stack(L)
    rows, columns = jnp.tril_indices(layout.m)
    empty = jnp.zeros((layout.m, layout.m, entries.shape[1]), entries.dtype)
    return empty.at[rows, columns].set(entries)


def _gram(layout: AbstractLayout, X: PathsLast) -> State:
    """X Xᵀ in the form of the layout."""
    rows, columns = jnp.tril_indices(layout.m)
    return layout.unstack(multiply(X, transpose(X))[rows, columns])


def _spread(sde: TransformerSDE, layout: AbstractLayout, V: State, h: Float[Array, ""]) -> State:
    """Clock time h of dV = c V∘N(V), exactly without a mask; +∞ once it has exploded."""
    rows, columns = jnp.tril_indices(layout.m)
    lower = layout.stack(V)
    c = jnp.asarray(sde.spread_rate)

    def symmetric(entries: Array) -> PathsLast:
        empty = jnp.zeros((layout.m, layout.m, entries.shape[1]), entries.dtype)
        return empty.at[rows, columns].set(entries).at[columns, rows].set(entries)

    if sde.without_mask:
        # N is one number per matrix, quadratic in V: V only changes scale, by 1/√(1 - 2chN).
        room = 1 - 2 * c * h * sde.logit_spread(symmetric(lower))[0, 0]
        scale = jnp.where(room > 0, 1 / jnp.sqrt(jnp.where(room > 0, room, 1)), jnp.inf)
        # 0 · ∞ is no covariance: entries that are 0 stay 0.
        return layout.unstack(jnp.where(lower == 0, 0, lower * scale[None]))

    def euler(entries: Array) -> Array:
        W = symmetric(entries)
        return (W + c * h * sde.logit_spread(W) * W)[rows, columns]

    # An average of Euler steps, each of which adds a Schur product of covariances.
    return layout.unstack(0.5 * (lower + euler(euler(lower))))


def _mlp(sde: TransformerSDE, layout: AbstractLayout, V: State, h: Float[Array, ""]) -> State:
    return layout.map(
        lambda v: sde.mlp.variance_flow(v, h), lambda vi, vj, vij: sde.mlp.covariance_flow(vi, vj, vij, h), V
    )


def _explosions(sde: TransformerSDE, layout: AbstractLayout, V: State, psd: Array) -> tuple[State, Array]:
    """Exploded variances as +∞; those that are no numbers are among them, for only polynomials that overflow make NaN.

    Without a mask every token sees every other, so all variances explode together.
    """
    variances = layout.diagonal(V)
    gone = [~(v <= sde.ceiling) for v in variances]
    any_gone = layout.some(gone)
    if sde.without_mask:
        gone = [g | any_gone for g in gone]
    kept = [jnp.where(g, jnp.inf, v) for g, v in zip(gone, variances, strict=True)]
    return layout.with_diagonal(V, kept), psd | any_gone


def _check(sde: TransformerSDE, longest: float, where: str) -> None:
    clock, allowed = sde.drift_clock.fastest(), sde.mlp.longest_step()
    if clock * longest / 2 > allowed * (1 + 1e-9):
        need = math.ceil(clock / (2 * allowed))
        raise ValueError(f"{where} is too few for the MLP's drift to stay in the cone: use steps >= {need}.")


class TransformerStrang(AbstractConeSolver):
    """A palindrome of exact and second-order flows: weak order 2, always PSD. The default for a `Transformer`.

    Half a step each of the MLP's drift, the self-amplification V∘N of attention, and the weights' noise
    (`SymmetricTriangular`); a whole step of attention on the square root X; then the halves in reverse. The attention
    step is the symmetric member of Ninomiya and Ninomiya's family: two flows with Stratonovich drift h/2 each and
    noises ½ΔZ ± ΔZ'/√2, Z' independent, whose commutator has the variance of the Lévy area. Each flow is one classical
    Runge–Kutta step, whose error is odd in the noise and so of weak order 2.

    Source: S. Ninomiya, M. Ninomiya (2009), Finance and Stochastics 13, Theorem 1.5 with u = 3/4.
    """

    def order(self, terms: object) -> int:
        """Weak order."""
        return 2

    def strong_order(self, terms: object) -> float:
        """Not a strong scheme: paths do not follow a prescribed Brownian motion."""
        return 0.5

    def advance(
        self, sde: TransformerSDE, layout: AbstractLayout, V: State, key: Array, h: Elapsed
    ) -> tuple[State, Array]:
        """The palindrome."""
        noise_key, attention_key = jax.random.split(key)
        half, paths = h.drift / 2, layout.diagonal(V)[0].shape[-1]
        noise = SymmetricTriangular()
        # In a loop, so that it compiles once.
        factors = jax.lax.map(
            lambda k: noise.factor(layout, k, sde.kappa * h.noise / 2, paths), jax.random.split(noise_key)
        )
        before, after = jax.tree.map(lambda T: T[0], factors), jax.tree.map(lambda T: T[1], factors)
        V = _spread(sde, layout, _mlp(sde, layout, V, half), half)
        L, psd = layout.cholesky(V)
        X = self._attention(sde, _full(layout, layout.product(L, before)), attention_key, h.drift)
        L, still = layout.cholesky(_gram(layout, X))
        V = layout.gram(layout.product(L, after))
        V = _mlp(sde, layout, _spread(sde, layout, V, half), half)
        return _explosions(sde, layout, V, psd & still)

    def _attention(self, sde: TransformerSDE, X: PathsLast, key: Array, h: Float[Array, ""]) -> PathsLast:
        m, _, paths = X.shape
        if m == 1:  # one token attends to itself
            return X
        g = standard_normals(key, 2 * m * m, paths, X.dtype).reshape(2, m, m, paths)
        Z, area = 0.5 * jnp.sqrt(h) * g[0], jnp.sqrt(h / 2) * g[1]

        def flow(X: PathsLast, S: PathsLast) -> tuple[PathsLast, None]:
            return _runge_kutta(sde, X, S, h / 2), None

        return jax.lax.scan(flow, X, jnp.stack([Z + area, Z - area]))[0]

    def check(self, sde: Any, m: int, longest: float, where: str) -> None:
        """The equation must be a transformer's, and the MLP's half-step must not exceed its longest PSD step."""
        refuse_other_equation(self, sde, TransformerSDE)
        sde.mask.allowed(m)
        _check(sde, longest, where)
        refuse_long_noise(sde.kappa * sde.noise_clock.fastest() * longest / 2, m, longest, where)


def _runge_kutta(sde: TransformerSDE, X: PathsLast, S: PathsLast, h: Number) -> PathsLast:
    """Unit time of dX = g(X, S) + h f(X) by the classical fourth-order step, as a loop so that it compiles once."""
    nodes = jnp.asarray([0.0, 0.5, 0.5, 1.0], X.dtype)
    weights = jnp.asarray([1 / 6, 1 / 3, 1 / 3, 1 / 6], X.dtype)

    def stage(
        carry: tuple[PathsLast, PathsLast], tableau: tuple[Array, Array]
    ) -> tuple[tuple[PathsLast, PathsLast], None]:
        slope, total = carry
        node, weight = tableau
        slope = sde.generator(X + node * slope, S, h)
        return (slope, total + weight * slope), None

    (_, total), _ = jax.lax.scan(stage, (jnp.zeros_like(X), X), (nodes, weights))
    return total


@default_solver.register
def _(limit: TransformerSDE) -> TransformerStrang:
    return TransformerStrang()


@default_steps.register
def _(limit: TransformerSDE, V0: Float[np.ndarray, "m m"]) -> int:
    attention = limit.gamma2 * (limit.inverse_tau0 * float(np.max(np.diag(V0)))) ** 2
    # The weights of an MLP bring κ above 2γ².
    mlp = limit.mlp.stiffness(0.0) if limit.kappa > 2 * limit.gamma2 else 0.0
    drift = limit.drift_clock.fastest() * max(mlp, attention)
    # A step has two of noise, each of half its length and of half the variance per unit of κ.
    noise = limit.noise_clock.fastest() * limit.kappa * max(1.0, stiffness_of_noise(V0.shape[0]) / 4)
    return 2 * default_step_count(float(max(noise, drift)))
