"""How depth-scaled ResNets are trained: the settings, and which solver or network serves which block."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from covsde.architectures.resnet.blocks import AbstractBlock, PreActivation, TwoMatrix
from covsde.architectures.resnet.network.training import train_by_law, train_by_weights
from covsde.descent.hidden_units import exact_units, march_units, unit_normals
from covsde.descent.losses import Loss
from covsde.descent.particles import March, Rule, Sources, coarser, exact_sources, march, matched_normals
from covsde.descent.passes import solve_pass, sweep
from covsde.descent.trajectory import KernelTrajectory, Trajectory
from covsde.inputs.arguments import finite_number, positive_int
from covsde.moments.of_activation import PiecewiseLinear, moments_of
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
    """

    richness: float = 1.0
    depth: int | None = None
    response: bool = True
    train_input: bool = False
    train_readout: bool = False

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> "ResNetTraining":
        """From the options of `train` and `train_networks`.

        Raises:
            TypeError: for an unknown option.
            ValueError: for a value out of range.
        """
        known = [field.name for field in dataclasses.fields(cls)]
        unknown = sorted(set(options) - set(known))
        if unknown:
            raise TypeError(f"a ResNet has no training option {unknown[0]!r}: it has {', '.join(known)}.")
        richness, depth = finite_number("richness", options.get("richness", 1.0)), options.get("depth")
        if richness <= 0:
            raise ValueError(f"richness must be positive, got {richness}: use a small one for lazy training.")
        switches = {name: options.get(name, name == "response") for name in known[2:]}
        for name, value in switches.items():
            if not isinstance(value, bool | np.bool_):
                raise ValueError(f"{name} must be True or False, got {value!r}.")
        depth = None if depth is None else positive_int("depth", depth)
        return cls(richness, depth, **{name: bool(value) for name, value in switches.items()})


def is_linear(fn: Function) -> bool:
    """Whether φ(x) is a multiple of x."""
    moments = moments_of(fn)
    return isinstance(moments, PiecewiseLinear) and float(moments.plus) == float(moments.minus)


def _rule(
    fn: Function, settings: ResNetTraining, P: int, dtype: Any, scale: float, push: Array | float, rate: Array | float
) -> Rule:
    return Rule(
        fn=fn,
        scale=jnp.asarray(scale, dtype),
        push=jnp.asarray(push, dtype),
        rate=jnp.asarray(rate / P, dtype),
        richness=jnp.asarray(settings.richness, dtype),
        train_input=jnp.asarray(float(settings.train_input), dtype),
        train_output=jnp.asarray(float(settings.train_readout), dtype),
        response=jnp.asarray(float(settings.response), dtype),
    )


def one_matrix_rule(
    fn: Function,
    beta: float,
    strength: float,
    depth: int,
    rate: Array | float,
    P: int,
    settings: ResNetTraining,
    dtype: Any,
) -> Rule:
    """The rule for blocks of one matrix and total strength s, at learning rate η_0.

    A step of size η_0 γ_0² N/s on the matrices moves h by β² η_0 γ_0/(L P) Σ Δ Φ g per block, whatever s is.
    """
    push = beta**2 * rate * settings.richness / (depth * P)
    scale = beta * float(np.sqrt(strength / depth))
    return _rule(fn, settings, P, dtype, scale, push, rate * settings.richness)


@eqx.filter_jit
def _sources(
    key: PRNGKeyArray, P: int, labels: int, depth: int, particles: int | None, dtype: Any, coarse: bool
) -> tuple[Sources, ...]:
    """The noise of this depth; with `coarse`, before it the same noise seen at half the depth."""
    if particles is None:
        fine = exact_sources(P, labels, depth, dtype)
    else:
        fine = matched_normals(key, P, labels, depth, particles, dtype)
    return (coarser(fine), fine) if coarse else (fine,)


@eqx.filter_jit
def _march(
    rule: Rule,
    V0: Float[Array, "P P"],
    targets: Float[Array, " P"],
    sources: Sources,
    square: Float[Array, ""],
    *,
    loss: Loss,
    updates: int,
    layers: tuple[int, ...],
    infinite: bool,
) -> KernelTrajectory:
    # The blocks of a network are a list; layer time is what Diffrax integrates over.
    shape: dict[str, Any] = {"updates": updates, "layers": layers, "sweep": solve_pass if infinite else sweep}
    marched = march(rule, V0, targets, sources, loss=loss, **shape)
    return _trajectory(marched, square, V0.shape[0])


@eqx.filter_jit
def _march_units(
    rule: Rule,
    V0: Float[Array, "P P"],
    targets: Float[Array, " P"],
    key: PRNGKeyArray,
    square: Float[Array, ""],
    *,
    loss: Loss,
    updates: int,
    depth: int,
    layers: tuple[int, ...],
    units: int | None,
    infinite: bool,
) -> KernelTrajectory:
    coordinates = V0.shape[0] + 1
    normals = exact_units(coordinates, V0.dtype) if units is None else unit_normals(key, coordinates, units, V0.dtype)
    marched = march_units(
        rule, V0, targets, normals, loss=loss, updates=updates, depth=depth, layers=layers, infinite=infinite
    )
    return _trajectory(marched, square, V0.shape[0])


def _trajectory(marched: March, square: Float[Array, ""], P: int) -> KernelTrajectory:
    return KernelTrajectory(marched.outputs.reshape(-1, P), *marched[1:5], square * marched.ntk)


def infinite_depth(block: AbstractBlock) -> tuple[str, int]:
    """What `train_block` steps through layer time with at infinite depth, and the order of its error in 1/steps."""
    return ("Heun" if isinstance(block, TwoMatrix) else "LayerStep, extrapolated", 2)


@functools.singledispatch
def train_block(
    block: AbstractBlock,
    fn: Function,
    beta: float,
    V0: Float[Array, "P P"],
    targets: Float[Array, " P"],
    key: PRNGKeyArray,
    settings: ResNetTraining,
    *,
    loss: Loss,
    learning_rate: Array | float,
    updates: int,
    steps: int,
    layers: tuple[int, ...],
    paths: int | None,
) -> KernelTrajectory:
    """The limit of training for a block; new blocks register here. No paths: a linear network, without sampling.

    At infinite depth its error is to be of the order in 1/`steps` that `infinite_depth` says: `richardson` needs it.
    """
    raise TypeError(
        f"block={type(block).__name__} has no limit of training: use PreActivation() or TwoMatrix(), or train_networks."
    )


@train_block.register
def _(
    block: PreActivation,
    fn: Function,
    beta: float,
    V0: Float[Array, "P P"],
    targets: Float[Array, " P"],
    key: PRNGKeyArray,
    settings: ResNetTraining,
    *,
    loss: Loss,
    learning_rate: Array | float,
    updates: int,
    steps: int,
    layers: tuple[int, ...],
    paths: int | None,
) -> KernelTrajectory:
    """At infinite depth, from grids of L = `steps` and 2 L that see the same noise: an error of order 1/L² is left."""
    P = V0.shape[0]

    def rule_of(depth: int, strength: float) -> Rule:
        return one_matrix_rule(fn, beta, strength, depth, learning_rate, P, settings, V0.dtype)

    if settings.depth is None:
        strength = block.limiting_strength()
        rules: tuple[Rule, ...] = (rule_of(steps, strength), rule_of(2 * steps, strength))
    else:
        rules = (rule_of(steps, block.strength(1, steps)),)
    square = jnp.asarray(beta**2, V0.dtype)
    noise = _sources(key, P, P * (updates + 1), steps * len(rules), paths, V0.dtype, len(rules) == 2)
    found = []
    shape: dict[str, Any] = {"loss": loss, "updates": updates, "infinite": settings.depth is None}
    for k, (rule_here, sources) in enumerate(zip(rules, noise, strict=True)):
        at = tuple((k + 1) * layer for layer in layers)
        found.append(_march(rule_here, V0, targets, sources, square, layers=at, **shape))
    return found[0] if len(found) == 1 else jax.tree.map(lambda a, b: 2 * b - a, *found)


@train_block.register
def _(
    block: TwoMatrix,
    fn: Function,
    beta: float,
    V0: Float[Array, "P P"],
    targets: Float[Array, " P"],
    key: PRNGKeyArray,
    settings: ResNetTraining,
    *,
    loss: Loss,
    learning_rate: Array | float,
    updates: int,
    steps: int,
    layers: tuple[int, ...],
    paths: int | None,
) -> KernelTrajectory:
    """Width D and hidden width M → ∞; at infinite depth in steps of second order."""
    if not settings.response:
        raise ValueError("response=False is for blocks of one matrix: leave it out with TwoMatrix().")
    P = V0.shape[0]
    rate = learning_rate * settings.richness
    rule = _rule(fn, settings, P, V0.dtype, beta, rate * beta / P, rate)
    return _march_units(
        rule,
        V0,
        targets,
        key,
        jnp.asarray(beta**2, V0.dtype),
        loss=loss,
        updates=updates,
        depth=steps,
        layers=layers,
        units=paths,
        infinite=settings.depth is None,
    )


def train_drawn(
    block: AbstractBlock,
    fn: Function,
    beta: float,
    V0: Float[Array, "P P"],
    targets: Float[Array, " P"],
    key: PRNGKeyArray,
    settings: ResNetTraining,
    *,
    method: str,
    loss: Loss,
    learning_rate: Array | float,
    updates: int,
    width: int,
    depth: int,
    layers: tuple[int, ...],
    draws: int,
) -> Trajectory:
    """Finite networks: in law without weights, for blocks of one matrix before the activation, or with real weights."""
    P = V0.shape[0]
    strength = block.strength(width, depth)
    rule = one_matrix_rule(fn, beta, strength, depth, learning_rate, P, settings, V0.dtype)
    shape: dict[str, Any] = {"loss": loss, "updates": updates, "layers": layers, "draws": draws}
    if method == "law":
        if not isinstance(block, PreActivation):
            raise ValueError(
                f"method='law' is for PreActivation blocks, got {type(block).__name__}: use method='weights'."
            )
        labels = P * (updates + 1)
        if width <= 2 * labels:
            raise ValueError(
                f"width={width} is too small for method='law' with {labels} (input, training step) pairs, forward and "
                f"backward: use width > {2 * labels}, or method='weights'."
            )
        return train_by_law(rule, beta, V0, targets, key, width=width, depth=depth, **shape)
    if method == "weights":
        if not (settings.response or isinstance(block, PreActivation)):
            raise ValueError(f"response=False is for PreActivation blocks, got {type(block).__name__}: leave it out.")
        shape["response"] = bool(settings.response)
        return train_by_weights(
            block, rule, beta, V0, targets, key, learning_rate=learning_rate, width=width, depth=depth, **shape
        )
    raise ValueError(f"method must be 'law' or 'weights', got {method!r}.")
