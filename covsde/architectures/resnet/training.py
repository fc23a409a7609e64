"""How depth-scaled ResNets are trained: the settings, and which solver or network serves which block."""

import dataclasses
import functools
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from covsde.architectures.resnet.blocks import AbstractBlock, PreActivation, TwoMatrix
from covsde.architectures.resnet.network.training import train_by_law, train_by_weights
from covsde.descent.hidden_units import exact_units, train_units, unit_normals
from covsde.descent.mean_field import Trained, UpdateRule
from covsde.descent.means import Uniform
from covsde.descent.optimizers import SGD, AbstractEntrywise
from covsde.descent.particles import System
from covsde.descent.passes import solve_pass, sweep
from covsde.descent.sources import AbstractNoise, Coarser, Sources, coarser
from covsde.descent.systems import check_law, check_particles, noise_of, sources_of, train_system
from covsde.descent.task import Sizes, Task
from covsde.descent.trajectory import KernelTrajectory, Trajectory
from covsde.inputs.arguments import checked_switch, finite_number, positive_int
from covsde.moments.shape import is_linear
from covsde.numerics.typing import Function


@dataclasses.dataclass(frozen=True)
class ResNetTraining:
    """What training a ResNet takes besides what every architecture takes.

    Args:
        richness: γ_0 > 0; small is lazy.
        depth: number of blocks of the limit; None for infinite depth. Networks have their own argument.
        response: False for networks whose backward pass has matrices of its own, independent of the forward ones.
        train_input: whether the input layer learns.
        train_readout: whether the readout learns.

    Raises:
        ValueError: for a value out of range.
    """

    mean_field: ClassVar[bool] = True

    richness: float = 1.0
    depth: int | None = None
    response: bool = True
    train_input: bool = False
    train_readout: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "richness", finite_number("richness", self.richness))
        if self.richness <= 0:
            raise ValueError(f"richness must be positive, got {self.richness}: use a small one for lazy training.")
        for name in ("response", "train_input", "train_readout"):
            object.__setattr__(self, name, checked_switch(name, getattr(self, name)))
        if self.depth is not None:
            object.__setattr__(self, "depth", positive_int("depth", self.depth))


def _rule(fn: Function, task: Task, scale: float, feature_rate: Array | float) -> UpdateRule:
    settings, dtype = task.settings, task.dtype
    return UpdateRule(
        fn=fn,
        scale=jnp.asarray(scale, dtype),
        feature_rate=jnp.asarray(feature_rate, dtype),
        rate=jnp.asarray(settings.richness, dtype),
        richness=jnp.asarray(settings.richness, dtype),
        train_input=jnp.asarray(float(settings.train_input), dtype),
        train_output=jnp.asarray(float(settings.train_readout), dtype),
        response=jnp.asarray(float(settings.response), dtype),
        skip=jnp.ones((), dtype),
    )


def one_matrix_rule(fn: Function, beta: float, strength: float, depth: int, task: Task) -> UpdateRule:
    """The rule for blocks of one matrix and total strength s.

    A step of size η_0 γ_0² N/s on the matrices moves h by β² η_0 γ_0/(L P) Σ Δ Φ g per block, whatever s is.
    """
    return _rule(fn, task, beta * float(np.sqrt(strength / depth)), beta**2 * task.settings.richness / depth)


_coarser = eqx.filter_jit(coarser)


@eqx.filter_jit
def _train_units(rule: UpdateRule, task: Task, sizes: Sizes, key: PRNGKeyArray, sampled: bool) -> Trained:
    coordinates, dtype = len(task.batches.trained) + task.outputs, task.dtype
    normals = unit_normals(key, coordinates, sizes.draws, dtype) if sampled else exact_units(coordinates, dtype)
    return train_units(rule, task, sizes, normals, sampled, jax.random.fold_in(key, 1))


def _trajectory(trained: Trained, square: float, task: Task) -> KernelTrajectory:
    moved = None if task.batches.whole else trained.moved
    return KernelTrajectory(*trained[:5], square * trained.ntk, moved)


def step_of_infinite_depth(block: AbstractBlock) -> tuple[str, int]:
    """What `train_block` steps through layer time with at infinite depth, and the order of its error in 1/steps."""
    return ("Heun" if isinstance(block, TwoMatrix) else "LayerStep, extrapolated", 2)


@functools.singledispatch
def train_block(
    block: AbstractBlock, fn: Function, beta: float, task: Task, sizes: Sizes, key: PRNGKeyArray
) -> KernelTrajectory:
    """The limit of training for a block, every gradient step recorded; new blocks register here.

    At infinite depth its error is to be of the order in 1/`steps` that `step_of_infinite_depth` says, for `richardson`.
    """
    raise TypeError(_no_limit(block))


@train_block.register
def _(block: PreActivation, fn: Function, beta: float, task: Task, sizes: Sizes, key: PRNGKeyArray) -> KernelTrajectory:
    """At infinite depth, from grids of L = `steps` and 2 L that see the same noise: an error of order 1/L² is left."""
    steps, infinite = sizes.depth, task.settings.depth is None
    depth = 2 * steps if infinite else steps
    noise, later = noise_of(fn, task, depth, sizes.draws), jax.random.fold_in(key, 1)
    sources = sources_of(key, noise, task, depth)
    strength = block.limiting_strength() if infinite else block.strength(1, steps)

    def of(depth: int, sources: Sources, noise: AbstractNoise) -> KernelTrajectory:
        layers = tuple(layer * depth // steps for layer in sizes.layers)
        rule, given = one_matrix_rule(fn, beta, strength, depth, task), System(sources, noise, Uniform(), later)
        # The blocks of a network are a list; layer time is what Diffrax integrates over.
        through = solve_pass if infinite else sweep
        return _trajectory(train_system(rule, task, given, layers, through), beta**2, task)

    fine = of(depth, sources, noise)
    if not infinite:
        return fine
    coarse = of(steps, _coarser(sources), Coarser(noise, sources, noise.together))
    return jax.tree.map(lambda a, b: 2 * b - a, coarse, fine)


@train_block.register
def _(block: TwoMatrix, fn: Function, beta: float, task: Task, sizes: Sizes, key: PRNGKeyArray) -> KernelTrajectory:
    """Width D and hidden width M → ∞; at infinite depth in steps of second order."""
    rule = _rule(fn, task, beta, task.settings.richness * beta)
    return _trajectory(_train_units(rule, task, sizes, key, not is_linear(fn)), beta**2, task)


def _no_limit(block: AbstractBlock) -> str:
    return (
        f"block={type(block).__name__} has no limit of training: use PreActivation() or TwoMatrix(), or train_networks."
    )


def check_limit(block: AbstractBlock, task: Task, particles: int | None) -> None:
    """Refuse a block whose training has no limit here, and what is only for networks with weights.

    Args:
        block: of the network.
        task: what is trained.
        particles: how many; None where nothing is sampled.

    Raises:
        TypeError: for a block without a limit.
        ValueError: naming the argument.
    """
    if train_block.dispatch(type(block)) is train_block.dispatch(AbstractBlock):
        raise TypeError(_no_limit(block))
    check_particles(task, particles)
    _check_response(block, task)


def _check_response(block: AbstractBlock, task: Task) -> None:
    if task.settings.response:
        return
    if not isinstance(block, PreActivation):
        raise ValueError(f"response=False is for PreActivation blocks, got {type(block).__name__}: leave it out.")
    if not isinstance(task.optimizer, SGD):
        raise ValueError("response=False is for cs.SGD, whose updates are known without gradients: leave it out.")


def check_networks(block: AbstractBlock, task: Task, sizes: Sizes) -> None:
    """Refuse networks that are too narrow, or a method that the block does not have.

    Raises:
        ValueError: naming what would do.
    """
    if sizes.method not in ("law", "weights"):
        raise ValueError(f"method must be 'law' or 'weights', got {sizes.method!r}.")
    if isinstance(task.optimizer, SGD):
        task.optimizer.check_share(task.updates)
    if isinstance(task.optimizer, AbstractEntrywise):
        raise ValueError("optimizer must be a cs.SGD or one of optax for ResNets: cs.Sign and cs.Adam are for MLPs.")
    if sizes.method == "weights":
        _check_response(block, task)
        return
    if not isinstance(block, PreActivation):
        raise ValueError(f"method='law' is for PreActivation blocks, got {type(block).__name__}: use method='weights'.")
    check_law(task, sizes)


def train_drawn(
    block: AbstractBlock, fn: Function, beta: float, task: Task, sizes: Sizes, key: PRNGKeyArray
) -> Trajectory:
    """Finite networks: in law without weights, for blocks of one matrix before the activation, or with real weights."""
    rule = one_matrix_rule(fn, beta, block.strength(sizes.width, sizes.depth), sizes.depth, task)
    if sizes.method == "law":
        return train_by_law(rule, beta, task, sizes, key)
    return train_by_weights(block, rule, beta, task, sizes, key)
