"""Feature learning of shaped MLPs: the settings that only they have, and what their limit and networks have room for.

The equations are in `feature_learning`, the engine that runs them in `covsde.descent.revealed`.
"""

import math
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np

from covsde.activations import AbstractActivation
from covsde.architectures.mlp.feature_learning import limit_vectors
from covsde.descent.optimizers import SGD, AbstractEntrywise
from covsde.descent.rooms import check_revealed, room_for
from covsde.descent.task import Ends, Sizes, Task
from covsde.inputs.arguments import checked_switch, finite_number


@dataclass(frozen=True)
class MLPTraining:
    """What training an MLP takes besides what every architecture takes.

    Args:
        output_scale: s of the outputs f = s w·h/√n.
        train_input: whether the input matrix moves as well, which changes the limit only within its error in the step.
        train_readout: the same for the readout w.

    Raises:
        ValueError: for a value out of range.
    """

    output_scale: float = 1.0
    train_input: bool = False
    train_readout: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "output_scale", finite_number("output_scale", self.output_scale))
        for name in ("train_input", "train_readout"):
            object.__setattr__(self, name, checked_switch(name, getattr(self, name)))

    def ends(self, dtype: Any) -> Ends:
        """The same for the engine; s is an array, so that sweeping it compiles once."""
        return Ends(jnp.asarray(self.output_scale, dtype), self.train_input, self.train_readout)


# Labels, forward and backward, beyond which the weights of a limit's layers are drawn: see benchmarks/many_labels.py.
_FEW = 48
# The width of drawn layers, from which one is taken that fits the depth, and that can be halved as the depth can.
_WIDTHS = range(64, 97, 2)


def checked_method(task: Task, method: str | None) -> str:
    """How the limit is computed.

    Raises:
        ValueError: for an unknown method.
    """
    if method not in (None, "law", "weights"):
        raise ValueError(f"method must be 'law', 'weights' or None, which chooses, got {method!r}.")
    few = isinstance(task.optimizer, SGD) and sum(room_for(task)) <= _FEW
    return method or ("law" if few else "weights")


def drawn_layers(depth_to_width: float, task: Task) -> tuple[int, int]:
    """Depth and width of drawn layers, of a ratio as close to T as few of them allow."""
    least = 2 * math.ceil(max(_WIDTHS.start, task.data.rank, 1 / depth_to_width) / 2)

    def depth(width: int) -> int:
        return 2 * max(1, round(depth_to_width * width / 2))

    widths = range(least, least + len(_WIDTHS) * _WIDTHS.step, _WIDTHS.step)
    width = min(widths, key=lambda n: (round(abs(depth(n) / n - depth_to_width), 6), n))
    return depth(width), width


def check_limit(activation: AbstractActivation, depth_to_width: float, task: Task, sizes: Sizes) -> None:
    """Refuse steps that are too few.

    Raises:
        ValueError: naming the number that would do.
    """
    width = sizes.depth / depth_to_width
    if sizes.method == "weights" and round(width) < task.data.rank:
        raise ValueError(
            f"steps={sizes.depth} is too few: a step is a layer of width steps/T, in which the inputs span "
            f"{task.data.rank} dimensions; use steps >= {math.ceil(task.data.rank * depth_to_width)}."
        )
    if sizes.method == "law":
        check_revealed(task, sizes)
    elif not isinstance(task.optimizer, SGD | AbstractEntrywise):
        raise ValueError(
            f"optimizer must be cs.SGD, cs.Sign or cs.Adam for the limit, got {type(task.optimizer).__name__}: others "
            "are for train_networks with method='weights'."
        )
    _check_optimizer(task, width, sizes.depth)
    if sizes.method == "weights":
        return
    directions = limit_vectors(activation, width, jnp.dtype(np.float32)).directions(room_for(task))
    if width <= directions:
        need = math.floor(directions * depth_to_width) + 1
        raise ValueError(
            f"steps={sizes.depth} is too few: a step is a layer of width steps/T, in which the {directions} vectors "
            f"that training meets must be independent; use steps >= {need}, or method='weights'."
        )


def _check_optimizer(task: Task, width: float | int, depth: int) -> None:
    if isinstance(task.optimizer, SGD):
        task.optimizer.check_decay(task.updates, width, depth)
    elif isinstance(task.optimizer, AbstractEntrywise):
        for name in ("train_input", "train_readout"):
            if getattr(task.settings, name):
                raise ValueError(f"{name}=True is for cs.SGD: cs.Sign and cs.Adam move the hidden matrices, drop it.")


def check_networks(task: Task, sizes: Sizes) -> None:
    """Refuse networks that are too narrow, or an unknown method.

    Raises:
        ValueError: naming the width that would do.
    """
    width, need = sizes.width, sum(room_for(task))
    if sizes.method not in ("law", "weights"):
        raise ValueError(f"method must be 'law' or 'weights', got {sizes.method!r}.")
    if sizes.method == "law":
        check_revealed(task, sizes)
    if sizes.method == "law" and width <= need:
        raise ValueError(
            f"width={width} is too small for method='law' with {task.pairs} (input, training step) pairs, forward and "
            f"backward: use width > {need}, or method='weights'."
        )
    _check_optimizer(task, width, sizes.depth)
    if width < task.data.rank:
        raise ValueError(
            f"width={width} is smaller than the {task.data.rank} dimensions that the inputs span: widen it."
        )
