"""What training takes: a task, and how large the limit or the networks are that do it."""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple, TypeVar, cast

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from covsde.descent.batches import Batches
from covsde.descent.losses import Loss, checked_loss, cross_entropy, in_classes, loss_named
from covsde.descent.optimizers import SGD, AbstractEntrywise, checked_optimizer
from covsde.inputs.arguments import checked_switch, positive_int
from covsde.inputs.data import Data
from covsde.inputs.gram import check_variances
from covsde.numerics.identity import cache_key

Settings = TypeVar("Settings")


class Task(eqx.Module):
    """Data, a loss and the steps of gradient descent: all that decides training, whatever is trained.

    Attributes:
        data: inputs and targets.
        loss: of outputs and targets, (P,) or for several outputs (P, C), summed over the inputs.
        optimizer: a `SGD`; for networks with weights also one of optax.
        updates: recorded steps of gradient descent.
        substeps: gradient steps, of η/substeps each, from one recorded step to the next.
        batches: which inputs are trained at which update.
        centred: whether outputs are counted from what they are at initialization.
        settings: what the family of the architecture adds, such as `MLPTraining`.
        told: what tells loss and optimizer apart, so that no compiled program of others is taken for theirs.
        looked: the updates after which earlier runs of the same paths ended, increasing.
    """

    data: Data
    loss: Loss = eqx.field(static=True)
    optimizer: Any
    updates: int = eqx.field(static=True)
    substeps: int = eqx.field(static=True)
    batches: Batches
    centred: bool = eqx.field(static=True)
    settings: Any = eqx.field(static=True)
    told: str = eqx.field(static=True, default="")
    looked: tuple[int, ...] = eqx.field(static=True, default=())

    def arrays(self, dtype: Any) -> "Task":
        """The same with its numbers as JAX arrays, so that other values do not recompile.

        Raises:
            ValueError: for variances of inputs that the dtype does not hold.
        """
        check_variances(np.asarray(self.data.V0), dtype)

        def array(x: Any) -> Any:
            if isinstance(x, np.ndarray) and np.issubdtype(x.dtype, np.integer):
                return jnp.asarray(x, jnp.int32)
            return jnp.asarray(x, dtype) if eqx.is_inexact_array_like(x) else x

        return jax.tree.map(array, self)

    @property
    def inputs(self) -> int:
        """M, the number of inputs, those of tests included."""
        return self.data.inputs

    @property
    def outputs(self) -> int:
        """C, the number of outputs."""
        return self.data.outputs

    @property
    def V0(self) -> Float[Array, "M M"]:
        """The input Gram matrix, in the arrays of the computation."""
        return cast(Array, self.data.V0)

    @property
    def targets(self) -> Float[Array, "M *C"]:
        """One number, or one row, per input."""
        return cast(Array, self.data.targets)

    @property
    def dtype(self) -> Any:
        """Of the computation."""
        return self.data.V0.dtype

    @property
    def learning_rate(self) -> Any:
        """η₀ of gradient descent at one rate."""
        return self.optimizer.rate

    @property
    def mean_field(self) -> bool:
        """Whether the scaling is mean-field: losses are means over inputs, and Phi is of activations, not features."""
        return bool(getattr(self.settings, "mean_field", False))

    @property
    def steps(self) -> int:
        """Gradient steps."""
        return self.updates * self.substeps

    @property
    def events(self) -> int:
        """Passes of a batch through a network: one per gradient step, and if they are all of one batch a last one."""
        return self.steps + self.batches.constant

    @property
    def pairs(self) -> int:
        """N, the number of (gradient step, input) pairs of these passes."""
        return self.batches.size * self.events

    def owners(self) -> Any:
        """The input of each pair, (N,)."""
        rows = self.batches.indices
        if self.batches.constant:
            return jnp.tile(rows[0], self.events)
        return jnp.repeat(rows, self.substeps, axis=0).ravel()

    def error_signal(self, f: Float[Array, "size *C"], step: Any = 0) -> Float[Array, "size *C"]:
        """Δ = -∂loss/∂f at a gradient step, of outputs of its batch; 0 for what only fills the batch up."""
        update = step // self.substeps
        y, sizes = self.targets[self.batches.row(update)], sorted(set(self.batches.sizes))

        def of(size: int) -> Any:
            def gradient(f: Array, y: Array) -> Array:
                return jnp.zeros_like(f).at[:size].set(-jax.grad(self.loss)(f[:size], y[:size]))

            return gradient

        if len(sizes) == 1:
            return -jax.grad(self.loss)(f, y)
        which = jnp.asarray([sizes.index(size) for size in self.batches.sizes])[update]
        return cast(Array, jax.lax.switch(which, [of(size) for size in sizes], f, y))

    def recorded(self) -> tuple[np.ndarray, np.ndarray]:
        """Which of all pairs, and of all passes, are kept."""
        steps = np.arange(self.updates + self.batches.constant) * self.substeps
        pairs = steps[:, None] * self.batches.size + np.arange(self.batches.size)[None]
        return pairs[self.filled()], steps

    def labels(self) -> np.ndarray:
        """The (update, input) of each pair that is kept, (kept, 2)."""
        rows = np.asarray(self.batches.indices)
        rows = np.tile(rows, (self.updates + 1, 1)) if self.batches.constant else rows
        updates = np.broadcast_to(np.arange(rows.shape[0])[:, None], rows.shape)
        return np.stack([updates, rows], axis=-1)[self.filled()]

    def filled(self) -> np.ndarray:
        """What of the batches of recorded passes is not only there to fill them up, (passes, size)."""
        sizes = np.asarray(self.batches.sizes)
        if self.batches.constant:
            sizes = np.repeat(sizes, self.updates + 1)
        return np.arange(self.batches.size)[None] < sizes[:, None]

    def require_linear(self) -> None:
        """Refuse an optimiser that is not linear in the gradients.

        Raises:
            ValueError: naming the argument.
        """
        if not isinstance(self.optimizer, SGD):
            raise ValueError(
                "optimizer must be a cs.SGD, linear in the gradients, where weights are not drawn: others are for "
                "MLPs with method='weights'."
            )

    def require_plain(self, what: str) -> None:
        """Refuse everything but gradient descent at one rate, on every input, of one output.

        Raises:
            ValueError: naming the argument to drop.
        """
        several = self.outputs > 1
        for name, given in (
            ("batches", not self.batches.whole),
            ("optimizer", not (isinstance(self.optimizer, SGD) and self.optimizer.plain)),
            ("centred", self.centred),
        ):
            if given:
                raise ValueError(f"{what} takes one learning rate and every input at each update: drop {name}.")
        if several:
            raise ValueError(f"targets must be one number per input for {what}, got {self.outputs} columns.")


def task_from(
    data: Data,
    *,
    loss: Any,
    updates: Any,
    substeps: Any,
    optimizer: Any,
    settings: Any = None,
    batches: Any = None,
    centred: Any = False,
) -> Task:
    """From what a user gives; a number for an optimizer is the rate of gradient descent.

    Raises:
        ValueError: for an argument out of range; the message names it.
    """
    updates, substeps = positive_int("updates", updates, least=0), positive_int("substeps", substeps)
    chosen = Batches.of(batches, data.inputs, updates)
    data.check_known(chosen.trained)
    if loss_named(loss) is cross_entropy:
        data = Data(data.V0, in_classes(np.asarray(data.targets)))
    rule = checked_optimizer(optimizer)
    if isinstance(rule, SGD | AbstractEntrywise):
        rule.rates(updates)
    if substeps > 1 and not (isinstance(rule, SGD) and rule.momentum == 0):
        raise ValueError("substeps is for gradient descent without momentum: give that as optimizer, or drop it.")
    function = checked_loss(loss, np.asarray(data.targets)[list(chosen.trained)])
    return Task(
        data,
        function,
        rule,
        updates,
        substeps,
        chosen,
        checked_switch("centred", centred),
        settings,
        cache_key((function, None if isinstance(rule, SGD) else rule)),
    )


class Sizes(NamedTuple):
    """How large the limit or the networks are that are trained, and what is kept of them.

    Attributes:
        depth: steps in layer time of a limit, layers of networks.
        layers: steps or layers, from 0 to depth, at which order parameters are kept.
        draws: independent paths or networks, or particles of one system.
        width: neurons per layer of networks; 0 for a limit.
        method: "law" or "weights".
        kernels: whether covariances of labels are kept.
        per_output: whether gradients and tangent kernels of every output are, where there are several.
        resumable: whether a snapshot is kept.
    """

    depth: int
    layers: tuple[int, ...]
    draws: int
    width: int = 0
    method: str = "law"
    kernels: bool = True
    per_output: bool = False
    resumable: bool = False


class Ends(NamedTuple):
    """What happens at the two ends of a network f = s w·h/√n.

    Attributes:
        scale: s.
        train_input: whether the input matrix moves.
        train_readout: whether w moves.
    """

    scale: Float[Array, ""]
    train_input: bool
    train_readout: bool


def settings_from(kind: type[Settings], options: Mapping[str, Any]) -> Settings:
    """The settings of a family from the options that were given: those that are not None.

    Raises:
        TypeError: for an option that the family does not have.
        ValueError: for a value out of range.
    """
    given = {name: _plain(value) for name, value in options.items() if value is not None}
    known = [field.name for field in dataclasses.fields(kind)]  # type: ignore[arg-type]
    for name in given:
        if name not in known:
            raise TypeError(f"the architecture has no training option {name!r}: it has {', '.join(known)}.")
    return kind(**given)


def _plain(value: Any) -> Any:
    """NumPy's and JAX's numbers as Python's, which a program can be compiled for."""
    return value.item() if isinstance(value, np.generic | np.ndarray | jax.Array) and value.ndim == 0 else value
