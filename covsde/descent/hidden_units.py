"""Training a ResNet with blocks of two matrices and embedding dimension D → ∞, by the hidden units of its blocks.

    h ← h + β √D/(L M) Σ_j V_j φ(p_j),   p_j = D^{-1/2} U_j·h,   k_j = D^{-1/2} V_j·g,   g = γ_0 D ∂f/∂h

The limit has no noise in layer time: the D coordinates of h and g are fixed linear combinations, over updates, of what
the input layer and the readout gave them. In orthonormal coordinates for those (one per input, one per readout)

    ∂_τ h = β E[V φ(U·h)],   -∂_τ g = β E[U φ'(U·h) (V·g)],   U(0), V(0) ~ N(0, 1) in every coordinate,
    U ← U + (η_0 γ_0 β/P) Σ Δ φ'(p) k h,   V ← V + (η_0 γ_0 β/P) Σ Δ φ(p) g

(or by the coefficients of another optimiser, see `mean_field`), which is a residual network of P + C neurons, C the
number of readouts, with infinitely many hidden units in every block: means E over units, and nothing else to simulate.
Diffrax drives layer time: by Euler steps, each exactly a block of a network of finite depth (h and g are then taken at
its two ends), or by Heun steps of second order for infinite depth.

A test input has a coordinate of its own, in which nothing that is trained has a part: no block moves it, for V has mean
zero given all else in it, and units see it through a normal of its own.

Source: arXiv 2509.10167, 2603.18168 (the limit); in this form it needs no response functions.
"""

from collections.abc import Callable
from typing import NamedTuple

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

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
from covsde.descent.sources import inverse
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
    return inverse(jnp.linalg.cholesky(z @ z.T / z.shape[1])) @ z


def exact_units(coordinates: int, dtype: jnp.dtype) -> Float[Array, "two_d units"]:
    """Units with exact second moments: all that a linear network needs."""
    d = 2 * coordinates
    return jnp.sqrt(jnp.asarray(d, dtype)) * jnp.eye(d, dtype=dtype)


def further_normals(key: PRNGKeyArray, normals: Float[Array, "two_d units"]) -> Float[Array, " units"]:
    """One more coordinate of the U(0) of units: it changes its sign with U(0), and is orthogonal to the others."""
    units = normals.shape[1]
    x = jax.random.normal(key, (units // 4,), normals.dtype)
    x = jnp.concatenate([i * x for i in (1, -1) for _ in (1, -1)])
    x = x - (normals @ x / units) @ normals
    return x / jnp.sqrt(jnp.mean(x * x))


class _State(NamedTuple):
    h: Array  # (depth + 1, labels, coordinates)
    g: Array
    up: Array  # φ(p), (places, labels, units)
    down: Array  # φ'(p) k
    ends: Ends


def _at(x: Array, i: Array) -> Array:
    return jax.lax.dynamic_index_in_dim(x, i, keepdims=False)


class _Machine(eqx.Module):
    """What one compiled training is made of.

    Attributes:
        passes: of the training.
        normals: U(0) and V(0) of the units, P + C coordinates each.
        sampled: whether they are; otherwise nothing depends on how units see what is only read.
        depth: blocks, or steps.
        layers: which of them are kept.
        infinite: whether depth is infinite.
    """

    passes: Passes
    normals: Float[Array, "two_d units"]
    sampled: bool = eqx.field(static=True)
    depth: int = eqx.field(static=True)
    layers: tuple[int, ...] = eqx.field(static=True)
    infinite: bool = eqx.field(static=True)

    @property
    def shift(self) -> int:
        """At finite depth a unit acts on h at the lower end of its block and on g at the upper end."""
        return 0 if self.infinite else 1

    @property
    def places(self) -> int:
        """Where there are units."""
        return self.depth + 1 - self.shift

    @property
    def d(self) -> int:
        """Coordinates."""
        return self.normals.shape[0] // 2

    def first(self, every: Int[Array, " R"]) -> tuple[Float[Array, "R d"], Float[Array, " R"]]:
        """h^0 of trained inputs at initialization; if there is one more, the last, its part in its own coordinate."""
        root, _ = semidefinite_cholesky(self.passes.task.V0[every][:, every][None])
        P = len(self.passes.task.batches.trained)
        rows = jnp.pad(root[0][:, :P], ((0, 0), (0, self.d - P)))
        return rows, root[0][:, P:].sum(axis=1)

    def p_of(self, s: _State, i: Array, k: Array, h: Float[Array, "R d"], own: Array) -> Array:
        """What units at place i see of h, (R, units), and of its own part."""
        learned = ((h @ _at(s.h, i).T) * self.passes.drive(s.ends, k)[None, :]) @ _at(s.down, i)
        return self.passes.beta[k] * (h @ self.normals[: self.d] + own) + self.passes.rule.feature_rate * learned

    def k_of(self, s: _State, i: Array, k: Array, g: Float[Array, "P d"]) -> Array:
        """What they see of g."""
        learned = ((g @ _at(s.g, i + self.shift).T) * self.passes.drive(s.ends, k)[None, :]) @ _at(s.up, i)
        return self.passes.beta[k] * g @ self.normals[self.d :] + self.passes.rule.feature_rate * learned

    def rate_of_h(self, s: _State, i: Array, k: Array, h: Array, own: Array) -> Array:
        """∂h per block, from the units at place i."""
        rule, units = self.passes.rule, self.normals.shape[1]
        phi = rule.fn(self.p_of(s, i, k, h, own))
        drive = self.passes.drive(s.ends, k)[None, :]
        learned = ((phi @ _at(s.up, i).T) / units * drive) @ _at(s.g, i + self.shift)
        fixed = self.passes.beta[k] * phi @ self.normals[self.d :].T / units
        return rule.scale / self.depth * (fixed + rule.feature_rate * learned)

    def rate_of_g(self, s: _State, i: Array, k: Array, p: Array, g: Array) -> Array:
        """-∂g per block."""
        rule, units = self.passes.rule, self.normals.shape[1]
        down = rule.slope(p) * self.k_of(s, i, k, g)
        drive = self.passes.drive(s.ends, k)[None, :]
        learned = ((down @ _at(s.down, i).T) / units * drive) @ _at(s.h, i)
        fixed = self.passes.beta[k] * down @ self.normals[: self.d].T / units
        return rule.scale / self.depth * (fixed + rule.feature_rate * learned)

    def drive(self, rate: Callable[[Array, Array], Array], start: Array) -> Array:
        """All nodes of a solution, the clock counting steps."""
        solution = diffrax.diffeqsolve(
            diffrax.ODETerm(lambda t, y, args: rate(jnp.round(t).astype(int), y)),
            diffrax.Heun() if self.infinite else diffrax.Euler(),
            t0=0,
            t1=self.depth,
            dt0=1,
            y0=start,
            saveat=diffrax.SaveAt(t0=True, steps=True),
            stepsize_controller=diffrax.ConstantStepSize(),
            adjoint=diffrax.ForwardMode(),
            max_steps=self.depth,
            throw=False,
        )
        assert solution.ys is not None
        return solution.ys

    def up(self, s: _State, first: Array, which: Array, k: Array, own: Array) -> tuple[Array, Array, Array]:
        """h at all nodes, f and the readouts in pass k."""
        passes = self.passes
        start = passes.inputs(s.ends, first, which, k)
        h = self.drive(lambda i, y: self.rate_of_h(s, i, k, y, own), start)
        C = passes.task.outputs
        readouts = passes.readouts(s.ends, jnp.eye(C, self.d, self.d - C, dtype=h.dtype), k)
        return h, h[-1] @ readouts.T / passes.rule.richness, readouts

    def step(self, chi: Float[Array, "P d"], s: _State, k: Array) -> tuple[_State, tuple[Array, Array]]:
        """One pass of a batch, up and down, and its tangent kernel: of the blocks, and what the ends add."""
        passes, depth, shift, units = self.passes, self.depth, self.shift, self.normals.shape[1]
        batch, now, index = passes.batch(k), k * passes.task.batches.size, jnp.arange(self.places)
        place = jnp.searchsorted(jnp.asarray(passes.task.batches.trained, jnp.int32), batch)
        none = jnp.zeros((1, 1), chi.dtype)
        h, f, readouts = self.up(s, chi[place], batch, k, none)
        p = jax.lax.map(lambda i: self.p_of(s, i, k, _at(h, i), none), index)
        above, errors, forces = signal(passes.task, f, readouts, k, passes.start(s.ends, f, k))
        g = self.drive(lambda j, y: self.rate_of_g(s, depth - j - shift, k, _at(p, depth - j - shift), y), above)[::-1]
        down = jax.lax.map(lambda i: passes.rule.slope(_at(p, i)) * self.k_of(s, i, k, _at(g, i + shift)), index)
        up = passes.rule.fn(p)
        H, G = (jnp.einsum("lad,lbd->lab", x, x) for x in (h[: self.places], g[shift:]))
        Phi, D = (jnp.einsum("laq,lbq->lab", x, x) / units for x in (up, down))
        kernel = G * Phi + H * D
        # The trapezium rule over nodes, or the mean over blocks.
        kernel = (jnp.sum(kernel, axis=0) - (1 - shift) * (kernel[0] + kernel[-1]) / 2) / depth
        ends = passes.put(s.ends, k, top=h[-1], bottom=g[0], outputs=f, errors=errors, forces=forces)
        more = ends_kernel(passes.rule, passes.task, k, (g[0] @ g[0].T, h[-1] @ h[-1].T), errors)
        new = {"h": h, "g": g, "up": up, "down": down}
        return _State(**{name: put(getattr(s, name), x, now, 1) for name, x in new.items()}, ends=ends), (kernel, more)

    def begin(self) -> _State:
        """No label yet."""
        labels, dtype = self.passes.task.pairs, self.normals.dtype
        vectors = jnp.zeros((self.depth + 1, labels, self.d), dtype)
        units = jnp.zeros((self.places, labels, self.normals.shape[1]), dtype)
        return _State(vectors, vectors, units, units, self.passes.begin(self.d))

    def read(self, s: _State, which: Int[Array, " R"], own: bool, key: PRNGKeyArray) -> tuple[Array, Array]:
        """Outputs (updates + 1, R, C) and squared movement (updates + 1, times, R).

        Args:
            s: after the training.
            which: trained inputs, or one that is not.
            own: whether it is not.
            key: of how units see it.
        """
        passes, task = self.passes, self.passes.task
        trained = jnp.asarray(task.batches.trained, jnp.int32)
        rows, part = self.first(jnp.concatenate([trained, which]) if own else trained)
        place = jnp.full(1, -1) if own else jnp.searchsorted(trained, which)
        first, part, seen = rows[place], part[place][:, None], jnp.zeros((1, 1), rows.dtype)
        if own and self.sampled:
            seen = part * further_normals(key, self.normals)[None, :]

        def update(carry: None, r: Array) -> tuple[None, tuple[Array, Array]]:
            k = r * task.substeps
            kept = passes.kept(passes.rule.train_input, k)
            h, f, *_ = self.up(s, first, which, k, kept * seen)
            h = h[jnp.asarray(self.layers)]
            own = jnp.broadcast_to(kept * part, (*h.shape[:2], 1))
            return None, (f, jnp.concatenate([h, own], axis=-1))

        return follow(task, update, None)


def train_units(
    rule: UpdateRule,
    task: Task,
    sizes: Sizes,
    normals: Float[Array, "two_d units"],
    sampled: bool,
    key: PRNGKeyArray,
) -> Trained:
    """Train by gradient descent; every step needs only what earlier steps left behind.

    Args:
        rule: how; `scale` is β and `feature_rate` is γ_0 β.
        task: what is trained.
        sizes: blocks, or steps in layer time, and which of them are kept.
        normals: U(0) and V(0) of the units, P + C coordinates each.
        sampled: whether they are drawn.
        key: of what is drawn for inputs that are read after the training.

    Returns:
        Outputs and kernels; Phi is the covariance of the activations of the hidden units.
    """
    passes = Passes.of(rule, task)
    machine = _Machine(passes, normals, sampled, sizes.depth, sizes.layers, task.settings.depth is None)
    chi, _ = machine.first(jnp.asarray(task.batches.trained, jnp.int32))
    s, (ntk, more) = passes.run(lambda s, k: machine.step(chi, s, k), machine.begin())
    saved, kept = jnp.asarray(sizes.layers), task.recorded()[0]
    h, g = s.h[saved][:, kept], s.g[saved][:, kept]
    up = s.up[jnp.minimum(saved, machine.places - 1)][:, kept]

    def read(which: Int[np.ndarray, " R"], own: bool, key: PRNGKeyArray) -> tuple[Array, Array]:
        if own:
            return in_groups(lambda one, key: machine.read(s, one, True, key), which, key)
        return machine.read(s, jnp.asarray(which), False, key)

    outputs, moved = observed(task, s.ends.outputs[kept], h, read, key)

    def products(u: Array, v: Array) -> Array:
        return jnp.einsum("tad,tbd->tab", u, v)

    Phi = products(up, up) / normals.shape[1]
    return Trained(outputs, products(h, h), Phi, products(g, g), products(h, g), ntk, moved, more)
