"""What training takes: a task, and how large the limit or the networks are that do it."""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple, TypeVar, cast

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from covsde.descent.losses import Loss, checked_loss
from covsde.inputs.arguments import finite_number, positive_int
from covsde.inputs.data import Data
from covsde.inputs.gram import check_variances

Settings = TypeVar("Settings")


class Task(eqx.Module):
    """Data, a loss and the steps of gradient descent: all that decides training, whatever is trained.

    Attributes:
        data: inputs and targets.
        loss: of outputs (P,) and targets (P,), summed over the inputs.
        learning_rate: η₀.
        updates: recorded steps of gradient descent on all inputs.
        substeps: gradient steps, of η₀/substeps each, from one recorded step to the next.
        settings: what the family of the architecture adds, such as `MLPTraining`.
    """

    data: Data
    loss: Loss = eqx.field(static=True)
    learning_rate: Float[Array, ""] | float
    updates: int = eqx.field(static=True)
    substeps: int = eqx.field(static=True)
    settings: Any = eqx.field(static=True)

    @classmethod
    def of(cls, data: Data, *, loss: Any, learning_rate: Any, updates: Any, substeps: Any, settings: Any) -> "Task":
        """From what a user gives.

        Raises:
            ValueError: for an argument out of range; the message names it.
        """
        return cls(
            data,
            checked_loss(loss, np.asarray(data.targets)),
            finite_number("learning_rate", learning_rate),
            positive_int("updates", updates, least=0),
            positive_int("substeps", substeps),
            settings,
        )

    def arrays(self, dtype: Any) -> "Task":
        """The same with its numbers as JAX arrays, so that other values do not recompile.

        Raises:
            ValueError: for variances of inputs that the dtype does not hold.
        """
        check_variances(np.asarray(self.data.V0), dtype)
        return jax.tree.map(lambda x: jnp.asarray(x, dtype), self)

    @property
    def inputs(self) -> int:
        """P, the number of inputs."""
        return self.data.inputs

    @property
    def V0(self) -> Float[Array, "P P"]:
        """The input Gram matrix, in the arrays of the computation."""
        return cast(Array, self.data.V0)

    @property
    def targets(self) -> Float[Array, " P"]:
        """One number per input."""
        return cast(Array, self.data.targets)

    @property
    def dtype(self) -> Any:
        """Of the computation."""
        return self.data.V0.dtype

    @property
    def pairs(self) -> int:
        """N, the number of (gradient step, input) pairs that training meets, those after the last step included."""
        return self.inputs * (self.updates * self.substeps + 1)

    def error_signal(self, f: Float[Array, " P"]) -> Float[Array, " P"]:
        """Δ = -∂loss/∂f."""
        return -jax.grad(self.loss)(f, self.targets)

    def every_step(self) -> "Task":
        """The same task with every gradient step recorded."""
        rate, updates = self.learning_rate / self.substeps, self.updates * self.substeps
        return dataclasses.replace(self, learning_rate=rate, updates=updates, substeps=1)

    def recorded(self) -> tuple[np.ndarray, np.ndarray]:
        """Which of all pairs, and of all gradient steps, are kept."""
        steps = np.arange(self.updates + 1) * self.substeps
        return (steps[:, None] * self.inputs + np.arange(self.inputs)[None]).ravel(), steps


class Sizes(NamedTuple):
    """How large the limit or the networks are that are trained, and what is kept of them.

    Attributes:
        depth: steps in layer time of a limit, layers of networks.
        layers: steps or layers, from 0 to depth, at which order parameters are kept.
        draws: independent paths or networks, or particles of one system.
        width: neurons per layer of networks; 0 for a limit.
        method: "law" or "weights", of networks.
    """

    depth: int
    layers: tuple[int, ...]
    draws: int
    width: int = 0
    method: str = "law"


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
