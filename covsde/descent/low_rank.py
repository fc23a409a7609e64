"""Finite networks of one matrix per block before the activation, whose drawn matrices stay as they are.

Updates Σ Ω F g φ(h)ᵀ are kept as the vectors they are made of, as in the limit; labels are those of
`covsde.descent.mean_field`.
"""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from covsde.descent.by_gradients import Weights, products
from covsde.descent.householder import put
from covsde.descent.mean_field import Ends, Passes, Trained, UpdateRule, ends_kernel, follow, observed, signal
from covsde.descent.task import Task


class _State(NamedTuple):
    # Of every block, (depth, labels, width).
    phis: Array
    gs: Array
    # At the saved blocks, (times, labels, width).
    h: Array
    g: Array
    ends: Ends


class _Machine(eqx.Module):
    """What one training is made of: drawn matrices for either direction, h^0 of all inputs, and the readouts."""

    passes: Passes
    forward: Float[Array, "depth width width"]
    backward: Float[Array, "depth width width"]
    chi: Float[Array, "M width"]
    readouts: Float[Array, "C width"]
    layers: tuple[int, ...] = eqx.field(static=True)

    @property
    def width(self) -> int:
        """N."""
        return self.chi.shape[1]

    def up(self, s: _State, which: Int[Array, " R"], k: Array) -> tuple[Array, ...]:
        """h at all layers, φ(h) below all blocks, f and the readouts in pass k."""
        rule, drive, beta, n = self.passes.rule, self.passes.drive(s.ends, k), self.passes.beta[k], self.width

        def block(h: Array, given: tuple[Array, ...]) -> tuple[Array, tuple[Array, Array]]:
            W, old_phi, old_g = given
            phi = rule.fn(h)
            learned = (rule.feature_rate * (phi @ old_phi.T / n) * drive[None, :]) @ old_g
            return rule.skip * h + rule.scale * beta * phi @ W.T / n**0.5 + learned, (h, phi)

        start = self.passes.inputs(s.ends, self.chi[which], which, k)
        last, (h, phi) = jax.lax.scan(block, start, (self.forward, s.phis, s.gs))
        readouts = self.passes.readouts(s.ends, self.readouts, k)
        return jnp.concatenate([h, last[None]]), phi, rule.read(last) @ readouts.T / (rule.richness * n), readouts

    def down(self, s: _State, above: Float[Array, "P width"], h: Array, k: Array) -> Float[Array, "layers P width"]:
        """g at all layers."""
        rule, drive, beta, n = self.passes.rule, self.passes.drive(s.ends, k), self.passes.beta[k], self.width

        def block(g: Array, given: tuple[Array, ...]) -> tuple[Array, Array]:
            W, old_phi, old_g, h = given
            learned = (rule.feature_rate * (g @ old_g.T / n) * drive[None, :]) @ old_phi
            below = rule.skip * g + rule.slope(h) * (rule.scale * beta * g @ W / n**0.5 + learned)
            return below, g

        first, g = jax.lax.scan(block, above, (self.backward, s.phis, s.gs, h[:-1]), reverse=True)
        return jnp.concatenate([first[None], g])

    def step(self, counted: Array | None, s: _State, k: Array) -> tuple[_State, tuple[Array, Array]]:
        """One pass of a batch, up and down, and its tangent kernel: of the blocks, and what the ends add.

        Outputs are counted from those of all inputs, if they are given.
        """
        passes, at, saved = self.passes, k * self.passes.task.batches.size, jnp.asarray(self.layers)
        h, phi, f, readouts = self.up(s, passes.batch(k), k)
        covectors, errors, forces = signal(
            passes.task, f, readouts, k, None if counted is None else counted[passes.batch(k)]
        )
        g = self.down(s, passes.rule.pulled(h[-1], covectors), h, k)
        kernels, top = products(phi, phi) * products(g[1:], g[1:]), passes.rule.read(h[-1])
        hidden = jnp.sum(kernels, axis=0) / max(1, kernels.shape[0])
        more = ends_kernel(passes.rule, passes.task, k, (g[0] @ g[0].T / self.width, top @ top.T / self.width), errors)
        new = {"phis": phi, "gs": g[1:], "h": h[saved], "g": g[saved]}
        ends = passes.put(s.ends, k, top=top, bottom=g[0], outputs=f, errors=errors, forces=forces)
        return _State(**{name: put(getattr(s, name), x, at, 1) for name, x in new.items()}, ends=ends), (hidden, more)

    def begin(self) -> _State:
        """No label yet."""

        def zeros(layers: int) -> Array:
            return jnp.zeros((layers, self.passes.task.pairs, self.width), self.chi.dtype)

        depth, times = self.forward.shape[0], len(self.layers)
        return _State(zeros(depth), zeros(depth), zeros(times), zeros(times), self.passes.begin(self.width))

    def read(self, s: _State, which: Int[Array, " R"]) -> tuple[Array, Array]:
        """Outputs (updates + 1, R, C) and squared movement (updates + 1, times, R) of some inputs."""

        def update(carry: None, r: Array) -> tuple[None, tuple[Array, Array]]:
            h, _, f, *_ = self.up(s, which, r * self.passes.task.substeps)
            return None, (f, h[jnp.asarray(self.layers)])

        return follow(self.passes.task, update, None)


def descend_low_rank(
    weights: Weights,
    rule: UpdateRule,
    x: Float[Array, "M d"],
    task: Task,
    layers: tuple[int, ...],
    independent: Float[Array, "depth width width"] | None,
) -> Trained:
    """Train by an optimiser that is linear in the gradients.

    Args:
        weights: at initialization, one matrix per block.
        rule: how it is trained.
        x: inputs.
        task: what is trained.
        layers: blocks after which kernels are kept.
        independent: matrices for the backward pass, in place of the transposes.

    Returns:
        Outputs and kernels.
    """
    (forward,) = weights.hidden
    chi = x @ weights.inputs.T / x.shape[1] ** 0.5
    backward = forward if independent is None else independent
    passes = Passes.of(rule, task)
    machine = _Machine(passes, forward, backward, chi, weights.readouts, layers)
    begun, every = machine.begin(), jnp.arange(task.inputs)
    counted = machine.up(begun, every, jnp.asarray(0))[2] if task.centred else None
    s, (ntk, ends) = passes.run(lambda s, k: machine.step(counted, s, k), begun)
    kept = task.recorded()[0]
    h, g = s.h[:, kept], s.g[:, kept]
    # Nothing is drawn for inputs that are only read.
    outputs, moved = observed(
        task, s.ends.outputs[kept], h, lambda which, own, _: machine.read(s, jnp.asarray(which)), jax.random.key(0)
    )
    phi = rule.fn(h)
    H, Phi, G, A = products(h, h), products(phi, phi), products(g, g), products(h, g)
    return Trained(outputs, H, Phi, G, A, ntk, moved / h.shape[2], ends)
