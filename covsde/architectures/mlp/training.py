"""Feature learning of shaped MLPs: the settings that only they have, and what their limit and networks have room for.

The equations are in `feature_learning`, the engine that runs them in `covsde.descent.householder`.
"""

import math
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np

from covsde.activations import AbstractActivation
from covsde.architectures.mlp.feature_learning import limit_vectors
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


def check_limit(activation: AbstractActivation, depth_to_width: float, task: Task, sizes: Sizes) -> None:
    """Refuse steps that are too few.

    Raises:
        ValueError: naming the number that would do.
    """
    width = sizes.depth / depth_to_width
    directions = limit_vectors(activation, width, jnp.dtype(np.float32)).directions(task.pairs)
    if width <= directions:
        need = math.floor(directions * depth_to_width) + 1
        raise ValueError(
            f"steps={sizes.depth} is too few: a step is a layer of width steps/T, in which the {directions} vectors "
            f"that training meets must be independent; use steps >= {need}."
        )


def check_networks(task: Task, sizes: Sizes) -> None:
    """Refuse networks that are too narrow, or an unknown method.

    Raises:
        ValueError: naming the width that would do.
    """
    width, pairs = sizes.width, task.pairs
    if sizes.method not in ("law", "weights"):
        raise ValueError(f"method must be 'law' or 'weights', got {sizes.method!r}.")
    if sizes.method == "law" and width <= 2 * pairs:
        raise ValueError(
            f"width={width} is too small for method='law' with {pairs} (input, training step) pairs, forward and "
            f"backward: use width > {2 * pairs}, or method='weights'."
        )
    if width < task.inputs:
        raise ValueError(f"width={width} is smaller than the number of inputs P={task.inputs}: widen it.")
