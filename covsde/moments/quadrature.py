"""Gaussian averages of functions of two correlated normals that may have a kink at 0.

Gauss–Hermite rules converge only algebraically where φ has a kink, and slowly where tanh(√V x) is steep. In polar
coordinates u = a r cos t, v = b r cos(t - ω), cos ω = ρ, the lines u = 0 and v = 0 are rays, so Gauss–Legendre panels
between them see smooth functions only; panels in r graded towards 0 resolve steep ones. As the rays move with ω, the
derivative of the rule is the rule for the derivative.
"""

import functools
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

Pair = Callable[[Array, Array], Array]
# Panels of the radius; e^{-r²/2} is below 10⁻¹⁸ at the end.
_PANELS = (0, 1 / 32, 1 / 8, 1 / 4, 1 / 2, 1, 2, 3, 4, 5, 6.5, 9)


def root(v: Array) -> Array:
    """√v with derivative 0, not infinity, at v = 0."""
    positive = v > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, v, 1)), 0)


@jax.custom_jvp
def angle_of(rho: Array) -> Array:
    """arccos ρ, accurate near ±1, with derivative 0 at ρ = ±1 exactly, where it is infinite.

    Inputs that coincide stay coincident under any change that treats them alike: their angle does not move.
    """
    return jnp.arctan2(jnp.sqrt((1 - rho) * (1 + rho)), rho)


@angle_of.defjvp
def _(primals: Any, tangents: Any) -> Any:
    (rho,), (change,) = primals, tangents
    square = (1 - rho) * (1 + rho)
    inside = square > 0
    slope = jnp.where(inside, -1 / jnp.sqrt(jnp.where(inside, square, 1)), 0)
    return angle_of(rho), slope * change


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def as_correlation(ratio: Array, slack: int = 0) -> Array:
    """ρ in [-1, 1] from V^{αβ}/√(V^{αα}V^{ββ}), which rounding can put above 1: ±1 beyond 1 - slack ε in size."""
    return jnp.where(jnp.abs(ratio) > 1 - slack * jnp.finfo(ratio.dtype).eps, jnp.sign(ratio), ratio)


@as_correlation.defjvp
def _(slack: int, primals: Any, tangents: Any) -> Any:
    # Only the value was rounded. A clip would stop the derivative, and halve it at ±1, where f'(-1) = -π needs it.
    return as_correlation(*primals, slack), tangents[0]


def correlation_of(vi: Array, vj: Array, vij: Array) -> tuple[Array, Array]:
    """ρ in [-1, 1] and √(V^{αα}V^{ββ}); ρ = 0 where an input is zero, and ±1 where it is so to rounding."""
    scale = root(vi) * root(vj)
    # To rounding, ±1 is ±1: arccos would turn 10⁻¹⁶ into 10⁻⁸, other noise at every step of a solver.
    return as_correlation(vij / jnp.where(scale > 0, scale, 1), 64), scale


class PolarRule(eqx.Module):
    """Nodes and weights of the polar rule and of a rule on the line.

    Attributes:
        s: (angles,) Gauss–Legendre nodes on [0, 1].
        s_weight: (angles,) their weights.
        r: (radii,) nodes on [0, 9].
        r_weight: (radii,) their weights times r e^{-r²/2}, summing to 1.
        x_weight: (radii,) their weights times e^{-r²/2}/√(2π), summing to 1/2.
    """

    s: Float[Array, " angles"] | Float[np.ndarray, " angles"]
    s_weight: Float[Array, " angles"] | Float[np.ndarray, " angles"]
    r: Float[Array, " radii"] | Float[np.ndarray, " radii"]
    r_weight: Float[Array, " radii"] | Float[np.ndarray, " radii"]
    x_weight: Float[Array, " radii"] | Float[np.ndarray, " radii"]

    def __init__(self, angles: int, per_panel: int):
        s, w = np.polynomial.legendre.leggauss(angles)
        self.s, self.s_weight = (s + 1) / 2, w / 2
        x, w = np.polynomial.legendre.leggauss(per_panel)
        edges = np.asarray(_PANELS, np.float64)
        half = np.diff(edges) / 2
        self.r = (edges[:-1, None] + half[:, None] * (x + 1)[None, :]).ravel()
        weight = (half[:, None] * w[None, :]).ravel()
        density = np.exp(-(self.r**2) / 2)
        polar, line = weight * self.r * density, weight * density
        self.r_weight, self.x_weight = polar / polar.sum(), line / (2 * line.sum())

    def line(self, F: Callable[[Array], Array], v: Array) -> Array:
        """E F(u), u ~ N(0, v), for v of any shape."""
        r, weight = jnp.asarray(self.r, v.dtype), jnp.asarray(self.x_weight, v.dtype)
        x = root(v)[..., None] * r.reshape((1,) * v.ndim + (-1,))
        return jnp.sum(F(jnp.stack([x, -x])), axis=0) @ weight

    def plane(self, F: Pair, vi: Array, vj: Array, vij: Array) -> Array:
        """E F(u, v), (u, v) ~ N(0, [[vi, vij], [vij, vj]]), for scalar variances."""
        s, s_weight, r, r_weight = (jnp.asarray(x, vi.dtype) for x in (self.s, self.s_weight, self.r, self.r_weight))
        rho, _ = correlation_of(vi, vj, vij)
        omega = angle_of(rho)
        # The sector where u, v > 0, and the one where u > 0 > v; the other two are their mirror images.
        length = jnp.stack([np.pi - omega, omega])
        t = jnp.stack([omega - np.pi / 2, jnp.full_like(omega, -np.pi / 2)])[:, None] + length[:, None] * s[None, :]
        u = (root(vi) * jnp.cos(t))[:, :, None] * r[None, None, :]
        v = (root(vj) * jnp.cos(t - omega))[:, :, None] * r[None, None, :]
        both = F(jnp.stack([u, -u]), jnp.stack([v, -v]))
        return jnp.sum(length / (2 * np.pi) * ((jnp.sum(both, axis=0) @ r_weight) @ s_weight))
