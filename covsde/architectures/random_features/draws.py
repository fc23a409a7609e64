"""Finite models drawn and trained, as results for `compare`: draws are paths."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray

from covsde.architectures.random_features.architecture import (
    AbstractRandomFeatures,
    LearnedFeatures,
    RandomFeatures,
    checked_times,
)
from covsde.architectures.random_features.network import flow
from covsde.architectures.random_features.network.students import Draw, Student, draw_features, draw_samples
from covsde.architectures.random_features.online import checked_model, checked_rates
from covsde.inputs.arguments import finite_number, instance_of, positive_int
from covsde.numerics.keys import recorded_generator, recorded_key, typed_key
from covsde.results.scaling import LossCurves
from covsde.results.status import PathStatus
from covsde.run.checkpoint import Arrays
from covsde.run.chunks import Chunks
from covsde.run.plan import Plan, precision, question

_DOUBLE = np.dtype(np.float64)
_CHUNK = 8
_DIVERGED = 1e12


@question
def train_networks(
    model: AbstractRandomFeatures,
    times: Any,
    *,
    draws: int = 100,
    key: Any = 0,
    rate: float | None = None,
    momentum: float = 0.0,
    progress: bool | None = None,
    checkpoint: str | Path | None = None,
) -> Plan[LossCurves]:
    """Draw features and samples, train a student on them, and take its losses.

    Students on frozen features are trained exactly, by the singular values of their data; the weights w and B of
    students that learn features are integrated, all of them.

    Args:
        model: `RandomFeatures` or `LearnedFeatures`, with a finite spectrum and whole sizes; np.inf for a mean.
        times: as for `losses` of the model.
        draws: how many.
        key: seed or JAX key.
        rate: as for `losses` of `RandomFeatures`.
        momentum: likewise.
        progress: show a bar; None: on a terminal.
        checkpoint: folder for finished parts, to continue from.

    Returns:
        `LossCurves`, (times, draws) each.

    Raises:
        ValueError: for infinitely many modes, sizes that are no whole numbers, or an argument that `losses` refuses.

    Source: arXiv 2402.01092, 2409.17858 for the models.

    Example:
        ```python
        model = cs.scaling.RandomFeatures(cs.scaling.PowerLaw(1.5, 1.25, modes=300), features=80, samples=120)
        print(cs.compare(model.losses([10.0]), cs.scaling.train_networks(model, [10.0], draws=20)))
        ```
    """
    instance_of("model", model, AbstractRandomFeatures, "a RandomFeatures or LearnedFeatures")
    mass, learns = finite_number("momentum", momentum), isinstance(model, LearnedFeatures)
    if learns and (rate is not None or mass):
        raise ValueError("rate and momentum are for frozen features: leave them out for LearnedFeatures.")
    t = checked_times(times, whole=rate is not None, infinite=rate is None and mass == 0 and not learns)
    time = "flow" if rate is None else "updates"
    lam, w, sizes = _whole(model)
    if isinstance(model, LearnedFeatures):
        if np.isinf(model.features):
            raise ValueError("features must be finite for networks that learn them: B is a matrix of that size.")
        one = partial(_learned, t, model.rate)
    else:
        errors = _errors(t, rate, mass)
        one = partial(_frozen, errors)

    # Of the population a student sees the mean of the labels.
    unseen = model.noise if sizes[1] is None else 0.0

    def draw(key: PRNGKeyArray) -> tuple[Any, ...]:
        test, train, *rest = one(lam, w, *_drawn(key, lam, w, sizes, model.noise))
        return test, train + unseen, *rest

    settings = {"time": time, "times": t.tolist(), "rate": rate, "momentum": mass}
    return _plan(model, settings, t, draw, draws, key, (progress, checkpoint))


@question
def train_networks_online(
    model: RandomFeatures,
    rates: Any,
    batch: int,
    *,
    draws: int = 100,
    key: Any = 0,
    progress: bool | None = None,
    checkpoint: str | Path | None = None,
) -> Plan[LossCurves]:
    """Draw features and train a student by SGD on batches of fresh samples.

    Args:
        model: with infinitely many samples.
        rates: η of every step, (steps,).
        batch: B ≥ 1.
        draws: how many, each with features and batches of its own.
        key: seed or JAX key.
        progress: show a bar; None: on a terminal.
        checkpoint: folder for finished parts, to continue from.

    Returns:
        `LossCurves` at the numbers of steps; its train losses are those on the batch of each step, and after the last,
        which has none, what the loss on a batch is in the mean.

    Raises:
        ValueError: for a model with finitely many samples, or an argument that `online` refuses.

    Source: arXiv 2402.01092.
    """
    checked_model(model)
    eta, B = checked_rates(rates), positive_int("batch", batch)
    lam, w, (N, _) = _whole(model)
    sgd = eqx.filter_jit(flow.sgd)

    def draw(key: PRNGKeyArray) -> tuple[Any, ...]:
        features, batches = jax.random.split(key)
        A = None if N is None else draw_features(features, N, len(lam))
        test, train = sgd(batches, jnp.asarray(lam), jnp.asarray(w), A, jnp.asarray(eta), B, model.noise)
        return np.asarray(test), np.append(train, test[-1] + model.noise)

    settings = {"time": "updates", "rates": eta.tolist(), "batch": B}
    return _plan(model, settings, np.arange(len(eta) + 1.0), draw, draws, key, (progress, checkpoint))


def network(model: AbstractRandomFeatures, key: Any = 0) -> Draw:
    """One student with its samples, before training, as Equinox modules in the precision of JAX.

    Args:
        model: `RandomFeatures` or `LearnedFeatures` with finite sizes.
        key: seed or JAX key.

    Returns:
        The student, its inputs and labels.

    Raises:
        ValueError: for infinitely many modes, features or samples.
    """
    instance_of("model", model, AbstractRandomFeatures, "a RandomFeatures or LearnedFeatures")
    lam, w, sizes = _whole(model)
    if None in sizes:
        raise ValueError("model must have finitely many features and samples, which a network is drawn of.")
    A, psi, labels = _drawn(typed_key(key), lam, w, sizes, model.noise)
    B = jnp.eye(len(A)) if isinstance(model, LearnedFeatures) else None
    return Draw(Student(A, jnp.zeros((len(A), *w.shape[1:])), B), psi, labels)


def _whole(model: AbstractRandomFeatures) -> tuple[np.ndarray, np.ndarray, tuple[int | None, int | None]]:
    """λ, w, and the sizes N and P; None for an infinite one."""
    lam, w = model.spectrum.drawable
    N, P = (
        None if np.isinf(size) else positive_int(name, size)
        for name, size in (("features", model.features), ("samples", model.samples))
    )
    return lam, w, (N, P)


@eqx.filter_jit
def _drawn(
    key: PRNGKeyArray, lam: Any, w: Any, sizes: tuple[int | None, int | None], noise: float
) -> tuple[Any, Any, Any]:
    """A, Ψ and labels; None for what is infinite."""
    features, samples = jax.random.split(key)
    N, P = sizes
    A = None if N is None else draw_features(features, N, len(lam))
    if P is None:
        return A, None, None
    return A, *draw_samples(samples, P, jnp.asarray(lam), jnp.asarray(w), noise)


def _errors(times: np.ndarray, rate: float | None, momentum: float) -> flow.Errors:
    if rate is not None:
        return flow.descent(times, finite_number("rate", rate), momentum)
    return flow.momentum_flow(times, momentum) if momentum else flow.flow(times)


def _frozen(errors: flow.Errors, lam: np.ndarray, w: np.ndarray, *drawn: Any) -> tuple[Any, ...]:
    arrays = (None if x is None else np.asarray(x) for x in drawn)
    return flow.losses(flow.Problem(lam, w, *arrays), errors)


_integrated = eqx.filter_jit(flow.learned)


def _learned(
    times: np.ndarray, rate: float, lam: np.ndarray, w: np.ndarray, A: Any, psi: Any, labels: Any
) -> tuple[Any, ...]:
    clock, gamma = jnp.asarray(times), jnp.asarray(rate)
    found = _integrated(jnp.asarray(lam), jnp.asarray(w), A, psi, labels, clock, gamma)
    return tuple(np.asarray(x) for x in found)


def _plan(
    model: AbstractRandomFeatures,
    settings: dict[str, Any],
    times: np.ndarray,
    draw: Callable[[PRNGKeyArray], tuple[Any, ...]],
    draws: int,
    key: Any,
    how: tuple[bool | None, str | Path | None],
) -> Plan[LossCurves]:
    draws, names = positive_int("draws", draws), ("test", "train", "weight_norm")
    label = ", ".join(f"{s}={getattr(model, n):g}" for s, n in (("N", "features"), ("P", "samples")))
    metadata = {"kind": "network", "label": f"draws, {label}"} | model.description | settings
    metadata |= {"seed": recorded_key(key), "generator": recorded_generator(key), "paths": draws, "chunk": _CHUNK}

    def dispatch(chunk_key: PRNGKeyArray, size: int) -> list[tuple[Any, ...]]:
        with np.errstate(over="ignore", invalid="ignore"):  # what diverges is marked
            return [draw(k) for k in jax.random.split(chunk_key, size)]

    def finish(found: list[tuple[Any, ...]]) -> Arrays:
        arrays = {name: np.stack(x, axis=1) for name, x in zip(names, zip(*found, strict=True), strict=False)}
        with np.errstate(invalid="ignore"):
            wild = ~np.all(np.abs(arrays["test"]) < _DIVERGED, axis=0)
        return arrays | {"status": np.where(wild, PathStatus.EXPLODED, PathStatus.FINE)}

    learns = isinstance(model, LearnedFeatures)
    axes = {name: 1 for name in names[: 3 if learns else 2]} | {"status": 0}
    chunks = Chunks(dispatch, finish, axes, typed_key(key), draws, _CHUNK, str(metadata["label"]))

    def result(arrays: Arrays, metadata: dict[str, Any]) -> LossCurves:
        return LossCurves(metadata=metadata, times=times, **arrays)

    with precision(_DOUBLE):
        return Plan(chunks, metadata, _DOUBLE, result, 8 * (len(axes) - 1) * len(times), *how)
