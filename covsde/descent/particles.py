"""Training a network whose matrices are never drawn, only revealed where the vectors of training meet them.

One block is h ← κ h + b N^{-1/2} W φ(h). A Gaussian W is known through the images z_i of orthonormal forward vectors
e_i and the images ζ_j of orthonormal backward vectors q_j (all of N numbers, ⟨·,·⟩ their mean product). The image of a
new e is

    z = fresh + Σ_j (⟨e, ζ_j⟩ - ⟨fresh, q_j⟩) q_j,

and backward is the mirror image: given everything before, this is the law of N^{-1/2} W e. Updates of W are outer
products of vectors already kept. So with independent normals as fresh vectors this *is* a network of width N, in law.

It is also the causal solution of the limit N → ∞ by N particles: with φ(h) = Σ_i c_i e_i the fresh parts add up to the
Gaussian process u of covariance ⟨φφ⟩, and ⟨φ(h), ζ_j⟩ is, by Stein's lemma, the response ⟨∂φ(h)/∂ζ_j⟩ of the forward
pass to the noise of the backward pass, whatever kinks φ has. What is left of N are fluctuations, and most of them go if
the fresh vectors are made orthonormal (`sources`).

Leaving out the responses, z = fresh, gives networks with independent backward matrices.

Labels are those of `mean_field`. A vector that is not revealed yet is zero, so that sums over all labels are sums over
known ones. Arrays are (labels, particles): particles last.

Sources: arXiv 2309.16620, 2310.02244 (responses); Y. Lu (2021), Householder dice (conditioning on Gaussian matrices).
"""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from covsde.descent.frames import AbstractFrames, Dropping
from covsde.descent.householder import put
from covsde.descent.mean_field import (
    Ends,
    Passes,
    Trained,
    UpdateRule,
    ends_kernel,
    follow,
    in_groups,
    observed,
    signal,
)
from covsde.descent.means import AbstractMeans
from covsde.descent.passes import Pass
from covsde.descent.sources import AbstractNoise, Shape, Sources
from covsde.descent.task import Task
from covsde.numerics.linalg import semidefinite_cholesky


def source_shape(task: Task, depth: int) -> Shape:
    """How many sources the training of so many blocks takes."""
    return Shape(len(task.batches.trained), task.outputs, depth, task.pairs, task.pairs)


def reading_shapes(task: Task, depth: int, together: int = 1) -> list[Shape]:
    """How many sources the readings after it take: of so many test inputs, and of all trained inputs."""
    updates, batches = task.updates + 1, task.batches
    trained = [] if batches.constant else [Shape(0, 0, depth, updates * len(batches.trained), 0)]
    tests = min(together, len(batches.tests))
    return trained + [Shape(tests, 0, depth, updates * tests, 0)] * bool(tests)


class _Blocks(NamedTuple):
    # Of every block, (depth, labels, particles): frames e, q and their images z, ζ (fresh vectors where not yet
    # revealed); components of φ(h) on e and of g on q, (depth, labels, labels).
    e: Array
    z: Array
    q: Array
    zeta: Array
    on_e: Array
    on_q: Array


class _State(NamedTuple):
    blocks: _Blocks
    # At the saved blocks, (times, labels, particles).
    h: Array
    g: Array
    ends: Ends


class _Machine(eqx.Module):
    """What one compiled training is made of; sums over labels are sums over those revealed so far."""

    passes: Passes
    sources: Sources
    noise: AbstractNoise
    means: AbstractMeans
    frames: AbstractFrames
    chi: Float[Array, "P particles"]  # h^0 of the trained inputs at initialization
    sweep: Pass = eqx.field(static=True)
    layers: tuple[int, ...] = eqx.field(static=True)

    @property
    def sides(self) -> tuple[AbstractMeans, AbstractMeans]:
        """Means below every block, and above."""
        return self.means.at(slice(0, -1)), self.means.at(slice(1, None))

    def up(self, s: _State, h: Float[Array, "P particles"], k: Array, at: Array) -> tuple[Array, ...]:
        """Pass k of new labels upwards: h above every block, components, directions and images of φ(h)."""
        rule, drive, beta, P = self.passes.rule, self.passes.drive(s.ends, k), self.passes.beta[k], h.shape[0]
        response = self.response(k)

        def block(h: Array, given: tuple[_Blocks, Any]) -> tuple[Array, tuple[Array, ...]]:
            (e, z, q, zeta, on_e, on_q), sides = given
            c, directions = self.frames.reveal(sides[0], e, rule.fn(h), at)
            fresh = jax.lax.dynamic_slice_in_dim(z, at, P)
            images = self.frames.images(sides, directions, fresh, (q, zeta), response[None, :])
            learned = (rule.feature_rate * (c @ on_e.T) * drive[None, :]) @ on_q
            h = rule.skip * h + rule.scale * beta * (c @ put(z, images, at, 0)) + learned @ q
            return h, (h, c, directions, images)

        return tuple(self.sweep(block, h, (s.blocks, self.sides), downward=False))

    def response(self, k: Array) -> Float[Array, " labels"]:
        """Whether features of pass k respond to the noise of the gradients of each label.

        In the limit only to those that have acted: what the others add is noise of the particles, and best left out.
        """
        acted = jnp.where(self.passes.coefficients(k) != 0, 1, 0).astype(self.chi.dtype)
        return self.passes.rule.response * (acted if self.noise.causal else jnp.ones_like(acted))

    def down(self, s: _State, g: Float[Array, "P particles"], h: Array, k: Array, at: Array) -> tuple[Array, ...]:
        """The same labels downwards: g below every block, components, directions and images of g, Φ ∘ G."""
        rule, drive, beta, P = self.passes.rule, self.passes.drive(s.ends, k), self.passes.beta[k], g.shape[0]

        def block(g: Array, given: tuple[_Blocks, Array, Any]) -> tuple[Array, tuple[Array, ...]]:
            (e, z, q, zeta, on_e, on_q), h, (below, above) = given
            c, directions = self.frames.reveal(above, q, g, at)
            fresh = jax.lax.dynamic_slice_in_dim(zeta, at, P)
            images = self.frames.images((above, below), directions, fresh, (e, z), rule.response)
            learned = (rule.feature_rate * (c @ on_q.T) * drive[None, :]) @ on_e
            phi, own = (jax.lax.dynamic_slice_in_dim(x, at, P) for x in (on_e, put(on_q, c, at, 0)))
            kernel = (phi @ phi.T) * (own @ own.T)
            pulled = rule.scale * beta * (c @ put(zeta, images, at, 0)) + learned @ e
            g = rule.skip * g + rule.slope(h) * pulled
            return g, (g, c, directions, images, kernel)

        return tuple(self.sweep(block, g, (s.blocks, h, self.sides), downward=True))

    def outputs(self, top: Float[Array, "R particles"], readouts: Float[Array, "C particles"]) -> Float[Array, "R C"]:
        """f, of ψ(h)."""
        return self.means.at(-1).products(top, readouts) / self.passes.rule.richness

    def first(self, which: Int[Array, " R"], more: Sources) -> Float[Array, "R particles"]:
        """h^0 at initialization of trained inputs, or of others, which have sources of their own."""
        trained = jnp.asarray(self.passes.task.batches.trained, jnp.int32)
        if not more.inputs.shape[0]:
            return self.chi[jnp.searchsorted(trained, which)]
        every = jnp.concatenate([trained, which])
        root, _ = semidefinite_cholesky(self.passes.task.V0[every][:, every][None])
        return root[0][-which.shape[0] :] @ jnp.concatenate([self.sources.inputs, more.inputs])

    def step(self, s: _State, k: Array) -> tuple[_State, tuple[Array, Array]]:
        """One pass of a batch, up and down, and its tangent kernel: of the blocks, and what the ends add."""
        passes, batch, at = self.passes, self.passes.batch(k), k * self.passes.task.batches.size
        saved = jnp.asarray(self.layers)
        place = jnp.searchsorted(jnp.asarray(passes.task.batches.trained, jnp.int32), batch)
        h = passes.inputs(s.ends, self.chi[place], batch, k)
        above, c, directions, images = self.up(s, h, k, at)
        h = jnp.concatenate([h[None], above])
        top, readouts = passes.rule.read(h[-1]), passes.readouts(s.ends, self.sources.readouts, k)
        f = self.outputs(top, readouts)
        blocks = s.blocks._replace(
            e=put(s.blocks.e, directions, at, 1), z=put(s.blocks.z, images, at, 1), on_e=put(s.blocks.on_e, c, at, 1)
        )
        covectors, errors, forces = signal(passes.task, f, readouts, k, passes.start(s.ends, f, k))
        g = passes.rule.pulled(h[-1], covectors)
        below, c, directions, images, kernel = self.down(s._replace(blocks=blocks), g, h[:-1], k, at)
        g = jnp.concatenate([below, g[None]])
        blocks = blocks._replace(
            q=put(blocks.q, directions, at, 1),
            zeta=put(blocks.zeta, images, at, 1),
            on_q=put(blocks.on_q, c, at, 1),
        )
        ends = passes.put(s.ends, k, top=top, bottom=g[0], outputs=f, errors=errors, forces=forces)
        more = ends_kernel(
            passes.rule,
            passes.task,
            k,
            (self.means.at(0).products(g[0], g[0]), self.means.at(-1).products(top, top)),
            errors,
        )
        hidden = jnp.sum(kernel, axis=0) / max(1, kernel.shape[0])
        return _State(blocks, put(s.h, h[saved], at, 1), put(s.g, g[saved], at, 1), ends), (hidden, more)

    def begin(self) -> _State:
        """Nothing revealed."""
        depth, labels, particles = self.sources.forward.shape
        dtype = self.sources.forward.dtype
        frame, components = jnp.zeros((depth, labels, particles), dtype), jnp.zeros((depth, labels, labels), dtype)
        blocks = _Blocks(frame, self.sources.forward, frame, self.sources.backward, components, components)
        saved = jnp.zeros((len(self.layers), labels, particles), dtype)
        return _State(blocks, saved, saved, self.passes.begin(particles))

    def read(self, s: _State, which: Int[Array, " R"], own: bool, key: PRNGKeyArray) -> tuple[Array, Array]:
        """Outputs (updates + 1, R, C) and squared movement (updates + 1, times, R) of some inputs.

        Args:
            s: after the training.
            which: trained inputs, or some that are not.
            own: whether they are not.
            key: of what is drawn for them.
        """
        task, R = self.passes.task, which.shape[0]
        updates, (depth, labels, _) = task.updates + 1, self.sources.forward.shape
        more = self.noise.more(key, self.sources, Shape(R * own, 0, depth, updates * R, 0))
        first, longer = self.first(which, more), ((0, 0), (0, 0), (0, updates * R))
        fresh = jnp.concatenate([self.sources.forward, more.forward], axis=1)
        on_e = jnp.pad(s.blocks.on_e, longer)

        def update(e: Array, r: Array) -> tuple[Array, tuple[Array, Array]]:
            k, at = r * task.substeps, labels + r * R
            h = self.passes.inputs(s.ends, first, which, k)
            blocks = (e, fresh, s.blocks.q, s.blocks.zeta, on_e, s.blocks.on_q)
            above, directions = self.over(s, blocks, h, k, at)
            h = jnp.concatenate([h[None], above])
            f = self.outputs(self.passes.rule.read(h[-1]), self.passes.readouts(s.ends, self.sources.readouts, k))
            return put(e, directions, at, 1), (f, h[jnp.asarray(self.layers)])

        return follow(task, update, jnp.concatenate([s.blocks.e, jnp.zeros_like(more.forward)], axis=1))

    def over(
        self, s: _State, blocks: tuple[Array, ...], h: Float[Array, "R particles"], k: Array, at: Array
    ) -> tuple[Array, Array]:
        """A pass upwards of inputs that are only read: h above every block, directions of φ(h).

        With all that the training has revealed, N^{-1/2} W v = (1 - Σ q qᵀ) Σ_i ⟨v, e_i⟩ fresh_i + Σ_j ⟨v, ζ_j⟩ q_j.
        """
        rule, drive, beta = self.passes.rule, self.passes.drive(s.ends, k), self.passes.beta[k]
        response = self.response(k)

        def block(h: Array, given: tuple[Any, Any]) -> tuple[Array, tuple[Array, Array]]:
            (e, fresh, q, zeta, on_e, on_q), (below, above) = given
            v = rule.fn(h)
            c, directions = self.frames.reveal(below, e, v, at)
            image = c @ fresh
            image = image + (response[None, :] * (below.products(v, zeta) - above.products(image, q))) @ q
            learned = (rule.feature_rate * (c @ on_e.T) * drive[None, :]) @ on_q
            h = rule.skip * h + rule.scale * beta * image + learned @ q
            return h, (h, directions)

        return tuple(self.sweep(block, h, (blocks, self.sides), downward=False))


class System(NamedTuple):
    """What a system of particles is made of, besides the rule and the task.

    Attributes:
        sources: everything random in the training.
        noise: where sources of inputs that are read after it come from.
        means: over the particles of every layer.
        key: of those sources.
        frames: how vectors are split on those that are known.
    """

    sources: Sources
    noise: AbstractNoise
    means: AbstractMeans
    key: PRNGKeyArray
    frames: AbstractFrames = Dropping()


def train_particles(rule: UpdateRule, task: Task, given: System, layers: tuple[int, ...], sweep: Pass) -> Trained:
    """Train by gradient descent; every step needs only what earlier steps left behind.

    Args:
        rule: how.
        task: what is trained.
        given: the particles.
        layers: blocks after which kernels are kept, 0 … depth.
        sweep: how a pass goes through the blocks.

    Returns:
        The network's outputs and kernels.
    """
    trained = jnp.asarray(task.batches.trained, jnp.int32)
    root, _ = semidefinite_cholesky(task.V0[trained][:, trained][None])
    passes, (sources, noise, means, key, frames) = Passes.of(rule, task), given
    machine = _Machine(passes, sources, noise, means, frames, root[0] @ sources.inputs, sweep, layers)
    s, (ntk, ends) = passes.run(machine.step, machine.begin())
    kept = task.recorded()[0]
    h, g = s.h[:, kept], s.g[:, kept]

    def read(which: Int[np.ndarray, " R"], own: bool, key: PRNGKeyArray) -> tuple[Array, Array]:
        if own:
            return in_groups(lambda some, key: machine.read(s, some, True, key), which, key, noise.together)
        return machine.read(s, jnp.asarray(which), False, key)

    outputs, moved = observed(task, s.ends.outputs[kept], h, read, key)
    phi, own = rule.fn(h), means.at(jnp.asarray(layers))

    def pairs(u: Array, v: Array) -> Array:
        return jax.vmap(lambda mean, u, v: mean.products(u, v))(own, u, v)

    H, Phi, G, A = pairs(h, h), pairs(phi, phi), pairs(g, g), pairs(h, g)
    return Trained(outputs, H, Phi, G, A, ntk, moved / h.shape[2], ends)
