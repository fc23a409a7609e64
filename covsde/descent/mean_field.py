"""What all engines of mean-field training share: the rule, and how the gradients of one pass act in later passes.

A label is an input in a pass: number pass · size + place in the batch. A matrix is

    W(k) = β_k W(0) + c Σ_{j<k} Ω_kj Σ_{a in batch j} F_a g_a φ_aᵀ

with the coefficients of an optimiser that is linear in the gradients, g the gradient of an output times γ_0 N, and the
force F = Δ/|batch| of a label, Δ = -∂loss/∂f: the loss of an update is the mean over its batch. With several outputs
one covector Σ_c Δ_c w_c per label is pulled back, because an update needs no more, and the force is 1/|batch|.

After the training come inputs that are only read: in no batch, or not in all of them. A pass needs W(0) and the updates
before it, and it does not matter in which order a Gaussian matrix is revealed. Test inputs are read one
by one, or some at a time.

Source: arXiv 2309.16620 (the scaling).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from covsde.descent.householder import put
from covsde.descent.task import Task
from covsde.descent.trajectory import Trajectory
from covsde.numerics.typing import Function


def unchanged(h: Array) -> Array:
    """h."""
    return h


class UpdateRule(eqx.Module):
    """The network h ← skip · h + b N^{-1/2} W φ(h), f = w·ψ(h)/(γ_0 N), and how it is trained, at a learning rate 1.

    Attributes:
        fn: φ.
        scale: b, the size of a branch.
        feature_rate: b² times what the weights' learning rate adds: β² γ_0/L per unit of Δ/|batch|.
        rate: γ_0, the same for the input layer and the readout.
        richness: γ_0.
        train_input: 1 if the input layer learns, otherwise 0.
        train_output: 1 if the readout learns, otherwise 0.
        response: 1 if the backward pass uses the transposes of the forward matrices, 0 if it has its own.
        skip: the weight of a skip connection.
        top: ψ.
    """

    fn: Function = eqx.field(static=True)
    scale: Float[Array, ""]
    feature_rate: Float[Array, ""]
    rate: Float[Array, ""]
    richness: Float[Array, ""]
    train_input: Float[Array, ""]
    train_output: Float[Array, ""]
    response: Float[Array, ""]
    skip: Float[Array, ""]
    top: Function = eqx.field(static=True, default=unchanged)

    def slope(self, h: Array) -> Array:
        """φ'(h)."""
        return jax.jvp(self.fn, (h,), (jnp.ones_like(h),))[1]

    def read(self, h: Array) -> Array:
        """ψ(h), what the readout sees."""
        return self.top(h)

    def pulled(self, h: Array, covectors: Array) -> Array:
        """Covectors of ψ(h) as those of h."""
        return covectors if self.top is unchanged else jax.jvp(self.top, (h,), (jnp.ones_like(h),))[1] * covectors


class Trained(NamedTuple):
    """A network through training; kernels of the labels that are kept, at the saved blocks.

    Attributes:
        outputs: f, (updates + 1, M, C).
        H: ⟨h h⟩, (times, labels, labels).
        Phi: ⟨φ(h) φ(h)⟩, likewise.
        G: ⟨g g⟩ with g = γ_0 N ∂f/∂h, for several outputs of Σ_c Δ_c f_c; likewise.
        A: ⟨h g⟩, likewise.
        ntk: mean over blocks of the tangent kernel on the batch of each recorded pass, over β², (passes, P, P).
        moved: ⟨(h(k) - h(0))²⟩, (updates + 1, times, M).
        ends: what the ends add to the tangent kernel, where they learn, (passes, P, P).
    """

    outputs: Float[Array, "updates M C"]
    H: Float[Array, "times labels labels"]
    Phi: Float[Array, "times labels labels"]
    G: Float[Array, "times labels labels"]
    A: Float[Array, "times labels labels"]
    ntk: Float[Array, "passes P P"]
    moved: Float[Array, "updates times M"]
    ends: Float[Array, "passes P P"]


class Ends(NamedTuple):
    """What is kept of every label at the two ends of a network, zero until its pass.

    Attributes:
        top: ψ(h) below the readout, (labels, n).
        bottom: g above the input layer, (labels, n).
        outputs: f, (labels, C).
        errors: Δ/|batch|, (labels, C).
        forces: F, (labels,).
    """

    top: Float[Array, "labels n"]
    bottom: Float[Array, "labels n"]
    outputs: Float[Array, "labels C"]
    errors: Float[Array, "labels C"]
    forces: Float[Array, " labels"]


# A reading: from inputs (R,), whether they are not trained, and a key to outputs (updates + 1, R, C) and to squared
# movement at the saved blocks, (updates + 1, times, R).
Reading = Callable[[Int[np.ndarray, " R"], bool, PRNGKeyArray], tuple[Array, Array]]


class Passes(eqx.Module):
    """All passes of a training in order: their batches, and by which coefficients labels act in later ones.

    Attributes:
        rule: how a network is trained.
        task: what is trained.
        beta: β, (steps + 1,).
        Omega: Ω, (steps + 1, steps + 1); the last column is 0.
    """

    rule: UpdateRule
    task: Task
    beta: Float[Array, " k"]
    Omega: Float[Array, "k k"]

    @classmethod
    def of(cls, rule: UpdateRule, task: Task) -> "Passes":
        """Of a rule that is linear in the gradients; a decay λ multiplies weights by 1 - ηλ, whatever the width."""
        table = task.optimizer.table(task.updates, 1, task.substeps)
        return cls(rule, task, table.beta, jnp.pad(table.Omega, ((0, 0), (0, 1))))

    def batch(self, k: Array) -> Int[Array, " size"]:
        """The inputs of pass k."""
        return jnp.asarray(self.task.batches.row(k // self.task.substeps))

    def coefficients(self, k: Array) -> Float[Array, " labels"]:
        """Ω of every label in pass k."""
        return self.Omega[k][jnp.arange(self.task.pairs) // self.task.batches.size]

    def drive(self, ends: Ends, k: Array) -> Float[Array, " labels"]:
        """By which the outer product of every label stands in the updates before pass k."""
        return self.coefficients(k) * ends.forces

    def begin(self, n: int) -> Ends:
        """No label yet."""
        labels, C, dtype = self.task.pairs, self.task.outputs, self.task.dtype
        vectors, outputs = jnp.zeros((labels, n), dtype), jnp.zeros((labels, C), dtype)
        return Ends(vectors, vectors, outputs, outputs, jnp.zeros(labels, dtype))

    def put(self, ends: Ends, k: Array, **new: Array) -> Ends:
        """With what a pass has found."""
        at = k * self.task.batches.size
        return ends._replace(**{name: put(getattr(ends, name), block, at, 0) for name, block in new.items()})

    def inputs(self, ends: Ends, first: Float[Array, "R n"], which: Int[Array, " R"], k: Array) -> Float[Array, "R n"]:
        """h^0 of these inputs in pass k, from what it is at initialization."""
        overlap = self.task.V0[which][:, self.task.owners()]
        learned = self.rule.rate * (overlap * self.drive(ends, k)[None, :]) @ ends.bottom
        return self.kept(self.rule.train_input, k) * first + self.rule.train_input * learned

    def readouts(self, ends: Ends, first: Float[Array, "C n"], k: Array) -> Float[Array, "C n"]:
        """The readouts of pass k, from those at initialization."""
        learned = self.rule.rate * (self.coefficients(k)[:, None] * ends.errors).T @ ends.top
        return self.kept(self.rule.train_output, k) * first + self.rule.train_output * learned

    def kept(self, trained: Array, k: Array) -> Array:
        """What is left in pass k of a weight matrix at one of the ends, which learns or does not."""
        return 1 + trained * (self.beta[k] - 1)

    def start(self, ends: Ends, f: Float[Array, "P C"], k: Array) -> Float[Array, "P C"] | None:
        """Outputs of the batch of pass k at initialization, if those of the training are counted from them.

        In a limit they are 0, which is all that can be said of them where batches change.
        """
        if not (self.task.centred and self.task.batches.constant):
            return None
        return jnp.where(k > 0, ends.outputs[: self.task.batches.size], f)

    def run(self, step: Callable[[Any, Array], tuple[Any, Any]], state: Any) -> tuple[Any, Any]:
        """All passes, and the tangent kernels of those that are recorded."""
        state, kernels = jax.lax.scan(lambda s, k: step(s, k), state, jnp.arange(self.task.events))
        return state, jax.tree.map(lambda x: x[self.task.recorded()[1]], kernels)


def signal(
    task: Task, f: Float[Array, "P C"], readouts: Float[Array, "C n"], k: Array, start: Float[Array, "P C"] | None
) -> tuple[Float[Array, "P n"], Float[Array, "P C"], Float[Array, " P"]]:
    """What is pulled back of pass k, Δ/|batch| and forces; they act from the next pass on.

    Args:
        task: what is trained.
        f: outputs of the batch.
        readouts: of this pass.
        k: which pass.
        start: what outputs are counted from, if they are.
    """
    size, sizes = task.batches.size, jnp.asarray(np.asarray(task.batches.sizes, float), task.dtype)
    given = f if start is None else f - start
    errors = task.error_signal(given if task.targets.ndim > 1 else given[:, 0], k).reshape(f.shape)
    share = 1 / (sizes[0] if task.batches.constant else sizes[k // task.substeps])
    if task.outputs == 1:
        return jnp.broadcast_to(readouts, (size, readouts.shape[1])), share * errors, share * errors[:, 0]
    return errors @ readouts, share * errors, jnp.broadcast_to(share, (size,))


def ends_kernel(
    rule: UpdateRule, task: Task, k: Array, ends: tuple[Array, Array], errors: Float[Array, "P C"]
) -> Float[Array, "P P"]:
    """What the input layer and the readout add to the tangent kernel on the batch of pass k, if they learn.

    Args:
        rule: how the network is trained.
        task: what is trained.
        k: which pass.
        ends: ⟨g g⟩ at the first layer and ⟨ψ(h) ψ(h)⟩ at the last one, (P, P) each.
        errors: Δ/|batch|, as `signal` gives it: several outputs are pulled back together.
    """
    rows, (bottom, top) = jnp.asarray(task.batches.row(k // task.substeps)), ends
    sizes = jnp.asarray(np.asarray(task.batches.sizes, float), task.dtype)
    size = sizes[0] if task.batches.constant else sizes[k // task.substeps]
    share = 1.0 if task.outputs == 1 else size**2 * errors @ errors.T
    return rule.train_input * task.V0[rows][:, rows] * bottom + rule.train_output * share * top


def observed(
    task: Task, outputs: Float[Array, "labels C"], h: Float[Array, "times labels n"], read: Reading, key: PRNGKeyArray
) -> tuple[Float[Array, "updates M C"], Float[Array, "updates times M"]]:
    """Outputs and squared movement of all inputs at all updates: of a constant batch as kept, of others as read.

    Args:
        task: what is trained.
        outputs: of the labels that are kept.
        h: of the labels that are kept.
        read: reads some inputs, jointly with the training and with each other.
        key: a reading needs randomness where nothing is drawn before it is met.
    """
    batches, updates = task.batches, task.updates + 1
    trained, tests = (np.asarray(which, np.int32) for which in (batches.trained, batches.tests))
    if batches.constant:
        every = h.reshape(h.shape[0], updates, -1, h.shape[2])
        moved = jnp.swapaxes(jnp.sum((every - every[:, :1]) ** 2, axis=-1), 0, 1)
        found = [(outputs.reshape(updates, len(trained), -1), moved)]
    else:
        found = [read(trained, False, jax.random.fold_in(key, 0))]
    if tests.size:
        found.append(read(tests, True, jax.random.fold_in(key, 1)))
    order = np.argsort(np.asarray([*batches.trained, *batches.tests]))
    f = jnp.concatenate([f for f, _ in found], axis=1)
    return f[:, order], jnp.concatenate([moved for _, moved in found], axis=2)[:, :, order]


def follow(
    task: Task, update: Callable[[Any, Array], tuple[Any, tuple[Array, Array]]], start: Any
) -> tuple[Array, Array]:
    """Outputs and squared movement over the updates, from a pass after r updates that gives outputs and h."""

    def one(now: tuple[Any, Array], r: Array) -> tuple[tuple[Any, Array], tuple[Array, Array]]:
        carry, first = now
        carry, (f, h) = update(carry, r)
        first = jnp.where(r == 0, h, first)
        return (carry, first), (f, jnp.sum((h - first) ** 2, axis=-1))

    h = jax.eval_shape(update, start, jnp.asarray(0))[1][1]
    return jax.lax.scan(one, (start, jnp.zeros(h.shape, h.dtype)), jnp.arange(task.updates + 1))[1]


def in_groups(
    read: Callable[[Int[Array, " R"], PRNGKeyArray], tuple[Array, Array]],
    which: Int[np.ndarray, " tests"],
    key: PRNGKeyArray,
    size: int = 1,
) -> tuple[Float[Array, "updates tests C"], Float[Array, "updates times tests"]]:
    """Readings of so many inputs at a time; the last group is filled up with its last input."""
    count = which.shape[0]
    groups = -(-count // size)
    keys = jax.random.split(key, groups)
    if groups == 1:
        return read(jnp.asarray(which), keys[0])
    rows = jnp.asarray(np.append(which, [which[-1]] * (groups * size - count)).reshape(groups, size), jnp.int32)
    f, moved = jax.lax.map(lambda given: read(*given), (rows, keys))
    f = jnp.moveaxis(f, 0, 1).reshape(f.shape[1], -1, f.shape[3])
    moved = jnp.moveaxis(moved, 0, 2).reshape(*moved.shape[1:3], -1)
    return f[:, :count], moved[..., :count]


def stacked(found: Trained) -> Trajectory:
    """Networks one after the other, draws first, as paths."""
    Phi, G, A, ntk = (jnp.swapaxes(X, 0, 1) for X in (found.Phi, found.G, found.A, found.ntk))
    return Trajectory(jnp.moveaxis(found.outputs, 0, -1), Phi, G, A, ntk, jnp.moveaxis(found.moved, 0, -1))
