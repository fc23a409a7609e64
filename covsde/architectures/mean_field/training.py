"""How mean-field networks of fixed depth are trained: the settings, the rule, and the limit by particles.

    h^1 = W^0 x/√D,   h^{ℓ+1} = W^ℓ φ(h^ℓ)/√N,   f = w·φ(h^L)/(γ_0 N),   weights N(0, 1)

trained at the rate η_0 γ_0² N on the mean of the loss over a batch, in all layers: the ResNet's march with skip 0 and
branches of size 1, from the first hidden layer to the last.

Source: arXiv 2205.09653 (dynamical mean-field theory of training).
"""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import PRNGKeyArray

from covsde.descent.mean_field import UpdateRule
from covsde.descent.means import Uniform
from covsde.descent.particles import System
from covsde.descent.passes import sweep
from covsde.descent.systems import noise_of, sources_of, train_system
from covsde.descent.task import Sizes, Task
from covsde.descent.trajectory import KernelTrajectory
from covsde.inputs.arguments import checked_switch, finite_number
from covsde.numerics.typing import Function


@dataclasses.dataclass(frozen=True)
class MeanFieldTraining:
    """What training a mean-field network takes besides what every architecture takes.

    Args:
        richness: γ_0 > 0; small is lazy.
        response: False for networks whose backward pass has matrices of its own, independent of the forward ones.
        train_input: whether the input layer learns.
        train_readout: whether the readout learns.

    Raises:
        ValueError: for a value out of range.
    """

    mean_field: ClassVar[bool] = True

    richness: float = 1.0
    response: bool = True
    train_input: bool = True
    train_readout: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "richness", finite_number("richness", self.richness))
        if self.richness <= 0:
            raise ValueError(f"richness must be positive, got {self.richness}: use a small one for lazy training.")
        for name in ("response", "train_input", "train_readout"):
            object.__setattr__(self, name, checked_switch(name, getattr(self, name)))


def rule_of(fn: Function, task: Task) -> UpdateRule:
    """The network, and rates of η_0 γ_0² N in every layer."""
    settings = task.settings
    numbers = {
        "scale": 1.0,
        "feature_rate": settings.richness,
        "rate": settings.richness,
        "richness": settings.richness,
        "train_input": float(settings.train_input),
        "train_output": float(settings.train_readout),
        "response": float(settings.response),
        "skip": 0.0,
    }
    return UpdateRule(fn=fn, top=fn, **{name: jnp.asarray(x, task.dtype) for name, x in numbers.items()})


def train_limit(fn: Function, task: Task, sizes: Sizes, key: PRNGKeyArray) -> KernelTrajectory:
    """Gradient descent in causal order, with one matrix between two of the `sizes.depth` hidden layers."""
    blocks = sizes.depth - 1
    noise = noise_of(fn, task, blocks, sizes.draws)
    given = System(sources_of(key, noise, task, blocks), noise, Uniform(), jax.random.fold_in(key, 1))
    found = train_system(rule_of(fn, task), task, given, sizes.layers, sweep)
    moved = None if task.batches.whole else found.moved
    return KernelTrajectory(*found[:5], blocks * found.ntk + found.ends, moved)
