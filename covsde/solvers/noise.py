"""Random triangular factors: the noise of the covariance SDE over a step is V ↦ L T Tᵀ Lᵀ, whatever V = L Lᵀ is.

The exact factor solves dT = T dK, T(0) = I, with K lower triangular: independent entries of variance dt below the
diagonal, and N(-(2i-1)/4 dt, dt/2) on it (i = 1 … m). It is the continuous Bartlett decomposition.
"""

import abc
import math

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from covsde.numerics.gamma import chi
from covsde.solvers.layout import AbstractLayout, State


class AbstractTriangularNoise(eqx.Module):
    """A random lower-triangular T with T Tᵀ distributed (to some order) as the noise over clock time h from V = I."""

    @abc.abstractmethod
    def factor(self, layout: AbstractLayout, key: Array, h: Float[Array, ""], paths: int) -> State:
        """Draw T on every path."""


class SymmetricTriangular(AbstractTriangularNoise):
    """Weak second order from m(m+1)/2 normals, with the diagonal and the mean of T Tᵀ exact.

    T_ii = e^{2a_i}, 2a_i ~ N(-ih/2, h/2): exact, so log V_11 and log det V have their exact laws at every step size.
    T_ij = e^{a_i + a_j} M_ij, M_ij = c_{i-j} g_ij + ½ Σ_{j<k<i} c_{i-k} g_ik c_{k-j} g_kj: half-steps of the diagonal
    on both sides of a unipotent step; c_d absorbs the variance of the missing Lévy areas and of the skipped commutator.
    It is fixed by the exact second moment E T_ij² = e^{-jh}(e^h - 1), which makes E T Tᵀ = I:
        c_d² = (e^h - 1) e^{(d-1)h/2} - ¼ Σ_{0<k<d} c_k² c_{d-k}²,
    with the generating function 1 + ½ Σ c_d² e^{-dh/2} x^d = √(1 + ax/(1-x)), a = 2 sinh(h/2): all are positive while
    a ≤ 2.
    """

    def factor(self, layout: AbstractLayout, key: Array, h: Float[Array, ""], paths: int) -> State:
        """Draw T on every path."""
        g, X = layout.normals(key, layout.m, paths, _roots(h, layout.m))
        steps = zip(layout.numbers(h.dtype), layout.per_input(g), strict=True)
        half = [jnp.exp(jnp.sqrt(h / 8) * x - (i + 1) * h / 4) for i, x in steps]
        return layout.congruence(half, layout.second_order(X))


# Lags whose variance is written out; the others are found in a loop.
_WRITTEN = 8


def _roots(h: Float[Array, ""], m: int) -> list[Float[Array, ""]] | Float[Array, " m"]:
    """c_0 = 0, c_1, …, c_{m-1} of `SymmetricTriangular`."""
    squares = [jnp.zeros_like(h)]
    for d in range(1, min(m, _WRITTEN)):
        lost = sum((squares[k] * squares[d - k] for k in range(1, d)), start=jnp.zeros_like(h))
        squares.append(jnp.expm1(h) * jnp.exp((d - 1) * h / 2) - lost / 4)
    if m <= _WRITTEN:
        return [jnp.sqrt(s) for s in squares]

    def following(known: Array, d: Array) -> tuple[Array, None]:
        # Lags that are not known yet are 0, as is c_0: the sum over all lags is that over 0 < k < d.
        lost = jnp.sum(known * jnp.roll(known[::-1], d + 1))
        return known.at[d].set(jnp.expm1(h) * jnp.exp((d - 1).astype(h.dtype) * h / 2) - lost / 4), None

    start = jnp.concatenate([jnp.stack(squares), jnp.zeros(m - _WRITTEN, h.dtype)])
    return jnp.sqrt(jax.lax.scan(following, start, jnp.arange(_WRITTEN, m))[0])


class Bartlett(AbstractTriangularNoise):
    """T Tᵀ = Wishart(1/h) · h: one linear layer of width 1/h (which need not be an integer), so exact for h = 1/n."""

    def factor(self, layout: AbstractLayout, key: Array, h: Float[Array, ""], paths: int) -> State:
        """Draw T by Bartlett's decomposition: χ²(1/h - i) on the diagonal, normals below."""
        m = layout.m
        normal_key, chi_key = jax.random.split(key)
        _, below = layout.normals(normal_key, 0, paths, [jnp.sqrt(h)] * m)
        freedom = jnp.broadcast_to((1 / h - jnp.arange(m, dtype=h.dtype))[:, None], (m, paths))
        lengths = layout.per_input(jnp.sqrt(h) * chi(chi_key, freedom))
        return layout.with_diagonal(below, lengths)


LONGEST = 2 * math.asinh(1)
"""The longest clock time over which `SymmetricTriangular` is real, whatever the number of inputs."""


def refuse_long_noise(h: float, m: int, longest: float, where: str) -> None:
    """Refuse steps of noise over clock time h for which a variance of `SymmetricTriangular` may be negative.

    Args:
        h: clock time of a step.
        m: number of inputs; two have one variance, which is positive.
        longest: the step in layer time that takes it.
        where: which argument says so.

    Raises:
        ValueError: naming the least number of steps.
    """
    if m > 2 and h > LONGEST * (1 + 1e-9):
        need = math.ceil(h / (longest * LONGEST))
        raise ValueError(
            f"{where} is too few for the noise of this depth_to_width, which takes steps of at most {LONGEST:.3g} in "
            f"clock time: use steps >= {need}."
        )


def smallest_wishart_steps(clock: float, m: int) -> int:
    """The least number of equal steps for which every χ² of `Bartlett` has positive degrees of freedom."""
    return math.floor(clock * (m - 1)) + 1
