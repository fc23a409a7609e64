"""Training a ResNet with blocks of two matrices and embedding dimension D → ∞, by the hidden units of its blocks.

    h ← h + β √D/(L M) Σ_j V_j φ(p_j),   p_j = D^{-1/2} U_j·h,   k_j = D^{-1/2} V_j·g,   g = γ_0 D ∂f/∂h

The limit has no noise in layer time: the D coordinates of h and g are fixed linear combinations, over updates, of what
the input layer and the readout gave them. In orthonormal coordinates for those (one per input, one for the readout)

    ∂_τ h = β E[V φ(U·h)],   -∂_τ g = β E[U φ'(U·h) (V·g)],   U(0), V(0) ~ N(0, 1) in every coordinate,
    U ← U + (η_0 γ_0 β/P) Σ Δ φ'(p) k h,   V ← V + (η_0 γ_0 β/P) Σ Δ φ(p) g,

which is a residual network of P + 1 neurons with infinitely many hidden units in every block: means E over units, and
nothing else to simulate. Diffrax drives layer time: by Euler steps, each exactly a block of a network of finite depth
(h and g are then taken at its two ends), or by Heun steps of second order for infinite depth.

Source: arXiv 2509.10167, 2603.18168 (the limit); in this form it needs no response functions.
"""

from collections.abc import Callable
from typing import NamedTuple

import diffrax
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from covsde.descent.householder import put
from covsde.descent.particles import Trained, UpdateRule, _inverse
from covsde.descent.task import Sizes, Task
from covsde.numerics.linalg import semidefinite_cholesky


def unit_normals(key: PRNGKeyArray, coordinates: int, units: int, dtype: jnp.dtype) -> Float[Array, "two_d units"]:
    """U(0) and V(0) of the units, a multiple of 4: quasi-random normals, second moments and odd symmetries made exact.

    Points of the additive recurrence with the generalised golden ratio, shifted at random, and ±U(0), ±V(0).
    """
    d = 2 * coordinates
    ratio = 2.0
    for _ in range(60):
        ratio = (1 + ratio) ** (1 / (d + 1))
    alphas = jnp.asarray([ratio ** -(k + 1) for k in range(d)], dtype)
    shift = jax.random.uniform(key, (d, 1), dtype)
    x = (alphas[:, None] * jnp.arange(max(1, units // 4), dtype=dtype)[None, :] + shift) % 1
    tiny = float(jnp.finfo(dtype).eps)
    z = jax.scipy.special.ndtri(jnp.clip(x, tiny, 1 - tiny))
    u, v = z[:coordinates], z[coordinates:]
    z = jnp.concatenate([jnp.concatenate([i * u, j * v]) for i in (1, -1) for j in (1, -1)], axis=1)
    return _inverse(jnp.linalg.cholesky(z @ z.T / z.shape[1])) @ z


def exact_units(coordinates: int, dtype: jnp.dtype) -> Float[Array, "two_d units"]:
    """Units with exact second moments: all that a linear network needs."""
    d = 2 * coordinates
    return jnp.sqrt(jnp.asarray(d, dtype)) * jnp.eye(d, dtype=dtype)


class _State(NamedTuple):
    h: Array  # (depth + 1, labels, coordinates)
    g: Array
    up: Array  # φ(p), (places, labels, units)
    down: Array  # φ'(p) k
    outputs: Array
    forces: Array


def train_units(
    rule: UpdateRule, task: Task, sizes: Sizes, normals: Float[Array, "two_d units"], infinite: bool
) -> Trained:
    """Train by gradient descent; every step needs only what earlier steps left behind.

    Args:
        rule: how; `scale` is β and `feature_rate` is η_0 γ_0 β/P.
        task: what is trained, every gradient step recorded.
        sizes: blocks, or steps in layer time, and which of them are kept.
        normals: U(0) and V(0) of the units, P + 1 coordinates each.
        infinite: whether depth is infinite.

    Returns:
        Outputs and kernels; Phi is the covariance of the activations of the hidden units.
    """
    V0, P, dtype = task.V0, task.inputs, task.dtype
    updates, depth, layers = task.updates, sizes.depth, sizes.layers
    labels, d = P * (updates + 1), P + 1
    xi_u, xi_v = normals[:d], normals[d:]
    units = normals.shape[1]
    root, _ = semidefinite_cholesky(V0[None])
    chi = jnp.pad(root[0], ((0, 0), (0, 1)))
    inputs_gram = jnp.tile(V0, (1, updates + 1))
    first_readout = jnp.zeros(d, dtype).at[-1].set(1)
    # At finite depth a unit acts on h at the lower end of its block and on g at the upper end.
    shift = 0 if infinite else 1
    places = depth + 1 - shift
    solver = diffrax.Heun() if infinite else diffrax.Euler()

    def slope(p: Array) -> Array:
        return jax.jvp(rule.fn, (p,), (jnp.ones_like(p),))[1]

    def at(x: Array, i: Array) -> Array:
        return jax.lax.dynamic_index_in_dim(x, i, keepdims=False)

    def p_of(s: _State, i: Array, h: Array) -> Array:
        return h @ xi_u + rule.feature_rate * ((h @ at(s.h, i).T) * s.forces[None, :]) @ at(s.down, i)

    def k_of(s: _State, i: Array, g: Array) -> Array:
        return g @ xi_v + rule.feature_rate * ((g @ at(s.g, i + shift).T) * s.forces[None, :]) @ at(s.up, i)

    def rate_of_h(s: _State, i: Array, h: Array) -> Array:
        phi = rule.fn(p_of(s, i, h))
        learned = ((phi @ at(s.up, i).T) / units * s.forces[None, :]) @ at(s.g, i + shift)
        return rule.scale / depth * (phi @ xi_v.T / units + rule.feature_rate * learned)

    def rate_of_g(s: _State, i: Array, p: Array, g: Array) -> Array:
        down = slope(p) * k_of(s, i, g)
        learned = ((down @ at(s.down, i).T) / units * s.forces[None, :]) @ at(s.h, i)
        return rule.scale / depth * (down @ xi_u.T / units + rule.feature_rate * learned)

    def drive(rate: Callable[[Array, Array], Array], start: Array) -> Array:
        """All nodes of a solution, the clock counting steps."""
        term = diffrax.ODETerm(lambda t, y, args: rate(jnp.round(t).astype(int), y))
        solution = diffrax.diffeqsolve(
            term,
            solver,
            t0=0,
            t1=depth,
            dt0=1,
            y0=start,
            saveat=diffrax.SaveAt(t0=True, steps=True),
            stepsize_controller=diffrax.ConstantStepSize(),
            adjoint=diffrax.ForwardMode(),
            max_steps=depth,
            throw=False,
        )
        assert solution.ys is not None
        return solution.ys

    def step(s: _State, k: Array) -> tuple[_State, Array]:
        now = k * P
        h = chi + rule.train_input * rule.rate * (inputs_gram * s.forces[None, :]) @ s.g[0]
        h = drive(lambda i, y: rate_of_h(s, i, y), h)
        index = jnp.arange(places)
        p = jax.lax.map(lambda i: p_of(s, i, at(h, i)), index)
        readout = first_readout + rule.train_output * rule.rate * s.forces @ s.h[-1]
        f = h[-1] @ readout / rule.richness
        above = jnp.broadcast_to(readout[None], (P, d))
        g = drive(lambda j, y: rate_of_g(s, depth - j - shift, at(p, depth - j - shift), y), above)[::-1]
        down = jax.lax.map(lambda i: slope(at(p, i)) * k_of(s, i, at(g, i + shift)), index)
        up = rule.fn(p)
        H, G = (jnp.einsum("lad,lbd->lab", x, x) for x in (h[:places], g[shift:]))
        Phi, D = (jnp.einsum("laq,lbq->lab", x, x) / units for x in (up, down))
        kernel = G * Phi + H * D
        # The trapezium rule over nodes, or the mean over blocks.
        kernel = (jnp.sum(kernel, axis=0) - (1 - shift) * (kernel[0] + kernel[-1]) / 2) / depth
        s = s._replace(
            h=put(s.h, h, now, 1),
            g=put(s.g, g, now, 1),
            up=put(s.up, up, now, 1),
            down=put(s.down, down, now, 1),
            outputs=put(s.outputs, f, now, 0),
            forces=put(s.forces, task.error_signal(f), now, 0),
        )
        return s, kernel

    def zeros(*shape: int) -> Array:
        return jnp.zeros(shape, dtype)

    start = _State(
        h=zeros(depth + 1, labels, d),
        g=zeros(depth + 1, labels, d),
        up=zeros(places, labels, units),
        down=zeros(places, labels, units),
        outputs=zeros(labels),
        forces=zeros(labels),
    )
    s, ntk = jax.lax.scan(step, start, jnp.arange(updates + 1))
    saved = jnp.asarray(layers)
    h, g = s.h[saved], s.g[saved]
    up = s.up[jnp.minimum(saved, places - 1)]

    def products(u: Array, v: Array) -> Array:
        return jnp.einsum("tad,tbd->tab", u, v)

    return Trained(s.outputs, products(h, h), products(up, up) / units, products(g, g), products(h, g), ntk)
