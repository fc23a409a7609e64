"""Training a ResNet whose matrices are never drawn, only revealed where the vectors of training meet them.

One block is h ← h + b N^{-1/2} W φ(h). A Gaussian W is known through the images z_i of orthonormal forward vectors e_i
and the images ζ_j of orthonormal backward vectors q_j (all of N numbers, ⟨·,·⟩ their mean product). The image of a new
e is

    z = fresh + Σ_j (⟨e, ζ_j⟩ - ⟨fresh, q_j⟩) q_j,

and backward is the mirror image: given everything before, this is the law of N^{-1/2} W e. Updates of W are outer
products of vectors already kept. So with independent normals as fresh vectors this *is* a network of width N, in law.

It is also the causal solution of the limit N → ∞ by N particles: with φ(h) = Σ_i c_i e_i the fresh parts add up to the
Gaussian process u of covariance ⟨φφ⟩, and ⟨φ(h), ζ_j⟩ is, by Stein's lemma, the response ⟨∂φ(h)/∂ζ_j⟩ of the forward
pass to the noise of the backward pass, whatever kinks φ has. What is left of N are fluctuations, and most of them go if
the fresh vectors are made orthonormal (`matched_normals`): quadratic averages of what is linear in them are then exact.
A linear network needs no sampling at all: any orthonormal vectors will do (`exact_sources`).

Leaving out the responses, z = fresh, gives networks with independent backward matrices.

Labels are (training step, input), number step · P + input. A vector that is not revealed yet is zero, so that sums over
all labels are sums over known ones. Arrays are (labels, particles): particles last.

Sources: arXiv 2309.16620, 2310.02244 (responses); Y. Lu (2021), Householder dice (conditioning on Gaussian matrices).
"""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from covsde.descent.householder import ROUNDING, put
from covsde.descent.passes import Pass
from covsde.descent.task import Task
from covsde.numerics.linalg import semidefinite_cholesky
from covsde.numerics.typing import Function

# Sources made orthonormal together: a Gram matrix of them is factored.
_GROUP = 2048


class Sources(NamedTuple):
    """Everything random in a network: standard normals, or vectors of mean square 1.

    Attributes:
        inputs: for the input layer, (P, particles).
        readout: (particles,).
        forward: fresh images of each block's forward vectors, (depth, labels, particles).
        backward: the same for backward vectors.
    """

    inputs: Float[Array, "P particles"]
    readout: Float[Array, " particles"]
    forward: Float[Array, "depth labels particles"]
    backward: Float[Array, "depth labels particles"]


class UpdateRule(eqx.Module):
    """How networks are trained.

    Attributes:
        fn: φ.
        scale: b, the size of a branch.
        feature_rate: b² times what the weights' learning rate adds: β² η_0 γ_0/(L P) per unit of Δ.
        rate: η_0 γ_0/P, the same for the input layer and the readout.
        richness: γ_0.
        train_input: 1 if the input layer learns, otherwise 0.
        train_output: 1 if the readout learns, otherwise 0.
        response: 1 if the backward pass uses the transposes of the forward matrices, 0 if it has its own.
    """

    fn: Function = eqx.field(static=True)
    scale: Float[Array, ""]
    feature_rate: Float[Array, ""]
    rate: Float[Array, ""]
    richness: Float[Array, ""]
    train_input: Float[Array, ""]
    train_output: Float[Array, ""]
    response: Float[Array, ""]


class Trained(NamedTuple):
    """A network through training; kernels at the saved blocks, means over particles.

    Attributes:
        outputs: f, (labels,).
        H: ⟨h h⟩, (times, labels, labels).
        Phi: ⟨φ(h) φ(h)⟩, likewise.
        G: ⟨g g⟩ with g = γ_0 N ∂f/∂h, likewise.
        A: ⟨h g⟩, likewise.
        ntk: β² mean over blocks of Φ ∘ G, divided by β², (updates + 1, P, P).
    """

    outputs: Float[Array, " labels"]
    H: Float[Array, "times labels labels"]
    Phi: Float[Array, "times labels labels"]
    G: Float[Array, "times labels labels"]
    A: Float[Array, "times labels labels"]
    ntk: Float[Array, "steps P P"]


def source_count(P: int, labels: int, depth: int) -> int:
    """How many sources there are."""
    return P + 1 + 2 * depth * labels


def _as_sources(vectors: Float[Array, "count particles"], P: int, labels: int, depth: int) -> Sources:
    forward, backward = vectors[P + 1 :].reshape(2, depth, labels, -1)
    return Sources(vectors[:P], vectors[P], forward, backward)


def independent_normals(
    key: PRNGKeyArray, P: int, labels: int, depth: int, particles: int, dtype: jnp.dtype
) -> Sources:
    """The sources of a network of this width."""
    count = source_count(P, labels, depth)
    return _as_sources(jax.random.normal(key, (count, particles), dtype), P, labels, depth)


def matched_normals(key: PRNGKeyArray, P: int, labels: int, depth: int, particles: int, dtype: jnp.dtype) -> Sources:
    """Normals made orthonormal over the particles: all of them if there are few, otherwise within groups.

    The groups share the sources of inputs and readout. Bias of order 1/particles, as for the particles themselves.
    """
    count, kept = source_count(P, labels, depth), P + 1
    group = max(1, min(_GROUP, particles // 4) - kept)
    start = jax.random.normal(key, (count, particles), dtype)
    base, parts = start[:kept], []
    for first in range(kept, max(count, kept + 1), group):
        block = jnp.concatenate([base, start[first : first + group]])
        block = _inverse(jnp.linalg.cholesky(block @ block.T / particles)) @ block
        base = block[:kept]
        parts.append(block[kept:])
    return _as_sources(jnp.concatenate([base, *parts]), P, labels, depth)


def exact_sources(P: int, labels: int, depth: int, dtype: jnp.dtype) -> Sources:
    """As many particles as sources, one for each: what linear networks need to be solved without sampling."""
    count = source_count(P, labels, depth)
    return _as_sources(jnp.sqrt(jnp.asarray(count, dtype)) * jnp.eye(count, dtype=dtype), P, labels, depth)


def coarser(sources: Sources) -> Sources:
    """The sources of a network of half the depth that sees the same noise."""

    def pairs(z: Array) -> Array:
        return (z[0::2] + z[1::2]) / jnp.sqrt(jnp.asarray(2, z.dtype))

    return sources._replace(forward=pairs(sources.forward), backward=pairs(sources.backward))


def _mean(u: Float[Array, "a particles"], v: Float[Array, "b particles"]) -> Float[Array, "a b"]:
    return u @ v.T / u.shape[-1]


def _inverse(L: Float[Array, "a a"]) -> Float[Array, "a a"]:
    # Substitution into long rows is two orders slower than the product that follows this.
    return jax.scipy.linalg.solve_triangular(L, jnp.eye(L.shape[0], dtype=L.dtype), lower=True)


def reveal(
    frame: Float[Array, "labels particles"], v: Float[Array, "P particles"], at: Array
) -> tuple[Float[Array, "P labels"], Float[Array, "P particles"]]:
    """Components of new vectors on a frame that they extend, and its new directions (0 where there is none).

    Args:
        frame: orthonormal vectors; rows from `at` on are 0.
        v: new vectors, whose directions will be rows at … at + P - 1 of the frame.
        at: number of rows in use.
    """
    c = _mean(v, frame)
    rest = v - c @ frame
    again = _mean(rest, frame)
    c, rest = c + again, rest - again @ frame
    norm, whole = (jnp.sqrt(jnp.mean(u * u, axis=1)) for u in (rest, v))
    new = norm > ROUNDING * jnp.finfo(v.dtype).eps * whole
    unit = jnp.where(new[:, None], rest / jnp.where(new, norm, 1)[:, None], 0)
    L, _ = semidefinite_cholesky(_mean(unit, unit)[None])
    pivot = jnp.diagonal(L[0])
    L = L[0] + jnp.diag(jnp.where(pivot > 0, 0, 1).astype(v.dtype))
    directions = jnp.where((pivot > 0)[:, None], _inverse(L) @ unit, 0)
    L = jnp.where((pivot > 0)[None, :], L, 0) * norm[:, None]
    return jax.lax.dynamic_update_slice(c, jnp.where(new[:, None], L, 0), (0, at)), directions


def images_of(
    directions: Float[Array, "P particles"],
    fresh: Float[Array, "P particles"],
    frame: Float[Array, "labels particles"],
    images: Float[Array, "labels particles"],
    response: Float[Array, ""],
) -> Float[Array, "P particles"]:
    """N^{-1/2} W e of new directions e, given the other side's frame q and images ζ; 0 where e is."""
    fresh = fresh + response * (_mean(directions, images) - _mean(fresh, frame)) @ frame
    return jnp.where(jnp.any(directions != 0, axis=1)[:, None], fresh, 0)


class _State(NamedTuple):
    # Per block, (depth, labels, particles): frames e, q and their images z, ζ (fresh vectors where not yet revealed).
    e: Array
    z: Array
    q: Array
    zeta: Array
    # Components of φ(h) on e and of g on q, (depth, labels, labels).
    on_e: Array
    on_q: Array
    # Saved blocks, (times, labels, particles), and the fields at both ends (labels, particles).
    h: Array
    g: Array
    top: Array
    bottom: Array
    outputs: Array
    forces: Array


def train_particles(rule: UpdateRule, task: Task, sources: Sources, layers: tuple[int, ...], sweep: Pass) -> Trained:
    """Train by gradient descent; every step needs only what earlier steps left behind.

    Args:
        rule: how.
        task: what is trained, every gradient step recorded.
        sources: everything random.
        layers: blocks after which kernels are kept, 0 … depth.
        sweep: how a pass goes through the blocks.

    Returns:
        The networks' outputs and kernels.
    """
    V0, P, dtype = task.V0, task.inputs, task.dtype
    depth, labels, particles = sources.forward.shape
    root, _ = semidefinite_cholesky(V0[None])
    chi = root[0] @ sources.inputs
    inputs_gram = jnp.tile(V0, (1, task.updates + 1))  # (P, labels)
    saved = jnp.asarray(layers)

    def slope(h: Array) -> Array:
        return jax.jvp(rule.fn, (h,), (jnp.ones_like(h),))[1]

    def forward(h: Array, block: tuple[Array, ...], s: _State, at: Array) -> tuple[Array, tuple[Array, ...]]:
        """A block, and h above it."""
        e, z, q, zeta, on_e, on_q = block
        c, directions = reveal(e, rule.fn(h), at)
        fresh = jax.lax.dynamic_slice_in_dim(z, at, P)
        images = images_of(directions, fresh, q, zeta, rule.response)
        z = put(z, images, at, 0)
        learned = (rule.feature_rate * (c @ on_e.T) * s.forces[None, :]) @ on_q
        h = h + rule.scale * (c @ z) + learned @ q
        return h, (h, c, directions, images)

    def backward(g: Array, block: tuple[Array, ...], s: _State, at: Array) -> tuple[Array, tuple[Array, ...]]:
        """A block, and g below it."""
        e, z, q, zeta, on_e, on_q, h = block
        c, directions = reveal(q, g, at)
        fresh = jax.lax.dynamic_slice_in_dim(zeta, at, P)
        images = images_of(directions, fresh, e, z, rule.response)
        zeta = put(zeta, images, at, 0)
        learned = (rule.feature_rate * (c @ on_q.T) * s.forces[None, :]) @ on_e
        phi, own = (jax.lax.dynamic_slice_in_dim(x, at, P) for x in (on_e, put(on_q, c, at, 0)))
        kernel = (phi @ phi.T) * (own @ own.T)
        g = g + slope(h) * (rule.scale * (c @ zeta) + learned @ e)
        return g, (g, c, directions, images, kernel)

    def step(s: _State, k: Array) -> tuple[_State, Array]:
        at = k * P
        h = chi + rule.train_input * rule.rate * (inputs_gram * s.forces[None, :]) @ s.bottom
        blocks = (s.e, s.z, s.q, s.zeta, s.on_e, s.on_q)
        above, c, directions, images = sweep(lambda h, b: forward(h, b, s, at), h, blocks, downward=False)
        h = jnp.concatenate([h[None], above])
        readout = sources.readout + rule.train_output * rule.rate * s.forces @ s.top
        f = h[-1] @ readout / (rule.richness * particles)
        s = s._replace(
            e=put(s.e, directions, at, 1),
            z=put(s.z, images, at, 1),
            on_e=put(s.on_e, c, at, 1),
            h=put(s.h, h[saved], at, 1),
            top=put(s.top, h[-1], at, 0),
            outputs=put(s.outputs, f, at, 0),
        )
        # The forces of this step act from the next step on.
        g = jnp.broadcast_to(readout[None], (P, particles))
        below, c, directions, images, kernel = sweep(
            lambda g, b: backward(g, b, s, at), g, (s.e, s.z, s.q, s.zeta, s.on_e, s.on_q, h[:-1]), downward=True
        )
        g = jnp.concatenate([below, g[None]])
        s = s._replace(
            q=put(s.q, directions, at, 1),
            zeta=put(s.zeta, images, at, 1),
            on_q=put(s.on_q, c, at, 1),
            g=put(s.g, g[saved], at, 1),
            bottom=put(s.bottom, g[0], at, 0),
            forces=put(s.forces, task.error_signal(f), at, 0),
        )
        return s, jnp.mean(kernel, axis=0)

    def zeros(*shape: int) -> Array:
        return jnp.zeros(shape, dtype)

    start = _State(
        e=zeros(depth, labels, particles),
        z=sources.forward,
        q=zeros(depth, labels, particles),
        zeta=sources.backward,
        on_e=zeros(depth, labels, labels),
        on_q=zeros(depth, labels, labels),
        h=zeros(len(layers), labels, particles),
        g=zeros(len(layers), labels, particles),
        top=zeros(labels, particles),
        bottom=zeros(labels, particles),
        outputs=zeros(labels),
        forces=zeros(labels),
    )
    s, ntk = jax.lax.scan(step, start, jnp.arange(task.updates + 1))
    pairs = jax.vmap(_mean)
    phi = rule.fn(s.h)
    return Trained(s.outputs, pairs(s.h, s.h), pairs(phi, phi), pairs(s.g, s.g), pairs(s.h, s.g), ntk)
