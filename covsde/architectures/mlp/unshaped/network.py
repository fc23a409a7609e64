"""Two inputs through finite unshaped (leaky) ReLU networks, exact in law, in coordinates that survive ρ → 1.

The state is ε = 1-ρ, not ρ: once ρ rounds to 1 it says nothing any more. By homogeneity a layer sees unit inputs
x = g and y = g + δ with δ = √(ε(2-ε)) g' - εg, and everything is computed from f = φ(g) and Δ = φ(g+δ) - φ(g), which
is δ times a slope wherever x and y have the same sign. The new angle comes from the part of Δ orthogonal to f:
sin²θ = |Δ - f⟨f,Δ⟩/|f|²|²/|f+Δ|².
"""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from covsde.descent.task import Sizes
from covsde.results.status import PathStatus

PerDraw = Float[Array, " draws"]


def pair_layer(
    eps: PerDraw, g: Float[Array, "2 draws width"], s_plus: float, s_minus: float
) -> tuple[PerDraw, PerDraw, Bool[Array, " draws"], Bool[Array, " draws"]]:
    """One layer on two unit inputs.

    Args:
        eps: 1-ρ of the inputs, in [0, 2].
        g: independent N(0, 1).
        s_plus: slope of the activation for x > 0.
        s_minus: slope for x < 0.

    Returns:
        ε after the layer; |f|²/width of the first input; where a layer is dead (an output is 0); where the outputs are
        parallel to rounding. All (draws,).
    """

    def phi(z: Array) -> Array:
        return s_plus * jnp.maximum(z, 0) + s_minus * jnp.minimum(z, 0)

    x = g[0]
    delta = jnp.sqrt(eps * (2 - eps))[:, None] * g[1] - eps[:, None] * x
    y = x + delta
    f, fy = phi(x), phi(y)
    same = (x > 0) == (y > 0)
    change = jnp.where(same, jnp.where(x > 0, s_plus, s_minus) * delta, fy - f)
    xx, yy, xd = jnp.sum(f * f, axis=1), jnp.sum(fy * fy, axis=1), jnp.sum(f * change, axis=1)
    dead = (xx == 0) | (yy == 0)
    xx_, yy_ = jnp.where(dead, 1, xx), jnp.where(dead, 1, yy)
    orthogonal = change - f * (xd / xx_)[:, None]
    remainder = jnp.sum(orthogonal * orthogonal, axis=1)
    rho = (xx + xd) / jnp.sqrt(xx_ * yy_)
    near = rho > 0
    after = jnp.where(near, remainder / yy_ / (1 + jnp.where(near, rho, 0)), 1 - rho)
    # A single active neuron leaves no orthogonal part, only its rounding.
    rounding = (32 * jnp.finfo(eps.dtype).eps) ** 2 * jnp.sum(change * change, axis=1)
    return jnp.minimum(after, 2), xx / g.shape[2], dead, near & (remainder <= rounding) & ~dead


class Slopes(NamedTuple):
    """A piecewise linear activation: its slopes on both sides of 0, and c = 1/E φ²."""

    plus: float
    minus: float
    normalisation: float


@eqx.filter_jit
def sample_pairs_law(
    eps0: Float[Array, ""], key: PRNGKeyArray, slopes: Slopes, sizes: Sizes
) -> tuple[Float[Array, "times 2 draws"], Int[Array, " draws"], Int[Array, " draws"]]:
    """ε and log V of independent networks at chosen layers, from 2·width normals a layer.

    Returns:
        (ε, log V of the first input relative to its start) at `layers`, frozen after a network stops; how many layers
        each network lived; its PathStatus.
    """
    draws = sizes.draws

    def one(carry: tuple[Array, Array, Array, Array], index: Array) -> tuple[tuple[Array, Array, Array, Array], Array]:
        eps, log_variance, lived, status = carry
        g = jax.lax.map(
            lambda k: jax.random.normal(k, (draws, sizes.width), eps.dtype),
            jax.random.split(jax.random.fold_in(key, index), 2),
        )
        after, mean_square, dead, parallel = pair_layer(eps, g, slopes.plus, slopes.minus)
        fine = status == PathStatus.FINE
        good = fine & ~dead & ~parallel
        now = jnp.where(dead, PathStatus.DEAD, jnp.where(parallel, PathStatus.PARALLEL, PathStatus.FINE))
        moved = log_variance + jnp.log(slopes.normalisation * jnp.where(dead, 1, mean_square))
        carry = (
            jnp.where(good, after, eps),
            jnp.where(good, moved, log_variance),
            lived + good.astype(lived.dtype),
            jnp.where(fine, now, status),
        )
        return carry, jnp.stack(carry[:2])

    zeros = jnp.zeros((draws,), int)
    start = (jnp.broadcast_to(eps0, (draws,)), jnp.zeros((draws,), eps0.dtype), zeros, zeros + PathStatus.FINE)
    (_, _, lived, status), path = jax.lax.scan(one, start, jnp.arange(sizes.depth))
    return jnp.concatenate([jnp.stack(start[:2])[None], path])[jnp.asarray(sizes.layers)], lived, status
