"""Training: the limit, and finite networks really trained, as the same result."""

import dataclasses
import warnings
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, SupportsFloat

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray
from numpy.typing import NDArray

from covsde.architectures.base import AbstractTrainable
from covsde.descent.losses import Loss
from covsde.descent.task import Sizes, Task, settings_from
from covsde.descent.trajectory import KernelTrajectory, Trajectory
from covsde.inputs.arguments import instance_of, positive_int, resolve_dtype
from covsde.inputs.data import Data
from covsde.numerics.keys import typed_key
from covsde.results.status import FailedPathsWarning, PathStatus
from covsde.results.training import TrainedKernels, Training
from covsde.run.checkpoint import Arrays
from covsde.run.chunks import Chunks, compiled
from covsde.run.grid import saved_layers
from covsde.run.memory import even_chunk
from covsde.run.metadata import identity, run_metadata
from covsde.run.plan import Plan, precision, question

# Gradient descent that has come this far from its targets will not come back.
_DIVERGED = 1e6
# Where particles share one set of kernels: independent systems, for standard errors, and the fewest in one.
_SYSTEMS = 8
_FEWEST_PARTICLES = 512


@question
def train(
    architecture: AbstractTrainable,
    V0: Any,
    *,
    targets: Any,
    updates: int = 3,
    substeps: int = 1,
    learning_rate: SupportsFloat = 1.0,
    paths: int = 2000,
    key: int | PRNGKeyArray = 0,
    loss: str | Loss = "squared",
    steps: int | None = None,
    save_at: Sequence[float | int] | None = None,
    dtype: Any = None,
    chunk: int | None = None,
    progress: bool | None = None,
    checkpoint: str | Path | None = None,
    output_scale: SupportsFloat | None = None,
    richness: SupportsFloat | None = None,
    depth: int | None = None,
    response: bool | np.bool_ | None = None,
    train_input: bool | np.bool_ | None = None,
    train_readout: bool | np.bool_ | None = None,
) -> Plan[Training]:
    """Train an architecture's limit by gradient descent: for an MLP, the forward–backward SDE of feature learning.

    Args:
        architecture: e.g. MLP(ShapedSmooth(jnp.tanh), depth_to_width=0.5), or ResNet(jnp.tanh).
        V0: Gram matrix of the inputs (P, P), symmetric positive semidefinite.
        targets: one number per input, (P,).
        updates: steps of gradient descent on all inputs; each is recorded.
        substeps: gradient steps per update, of η₀/substeps each: many approach gradient flow for a time η₀ per update.
        learning_rate: η₀, of order one: networks of width n use η₀/n on their hidden matrices. For a ResNet the loss is
            the mean over the inputs, and networks use η₀γ₀²n on it.
        paths: number of independent paths; for a deterministic limit, of particles or hidden units.
        key: int seed or JAX key; the result depends on it and on `chunk`.
        loss: "squared" (½ Σ (f - y)²), "logistic" (y = ±1), or a JAX function of outputs (P,) and targets (P,).
        steps: steps over unit layer time; the weak error is of first order in 1/steps, for a ResNet of second. Default:
            100 per unit of T, for a ResNet 32.
        save_at: layer times at which Phi, G and A are kept, rounded to steps, with 0 and 1; default: fifths.
        dtype: float64 (default) or float32.
        chunk: paths trained at a time; bounds the memory.
        progress: show a bar; default: on a terminal, when there is more than one chunk.
        checkpoint: folder for finished chunks; an interrupted call with the same arguments resumes from it.
        output_scale: of an MLP, the s in f = s w·h/√n; default 1.
        richness: of a ResNet, γ₀ > 0; default 1, small is lazy.
        depth: of a ResNet's limit, its number of blocks; default: infinite.
        response: of a ResNet, False for backward matrices independent of the forward ones; default True.
        train_input: whether the matrix of the inputs moves as well; default False. For an MLP that changes the limit
            only within its error in the step, here and for the readout.
        train_readout: whether the readout moves as well; default False.

    Returns:
        `Training`, with paths whose training diverged counted in `failures`; for a deterministic limit
        `TrainedKernels`, with outputs (updates + 1, P).

    Raises:
        ValueError: for an argument out of range; the message names it.
        TypeError: for an activation or a block without a limit, or an option that the architecture does not have.

    Source: Li, Noci, Hanin, feature learning in the proportional limit (announced; M. Li's lecture notes STAT 946,
    Waterloo, 2025); equations and scheme in covsde/architectures/mlp/feature_learning.py.
    """
    given: dict[str, Any] = {"output_scale": output_scale, "richness": richness, "depth": depth, "response": response}
    given |= {"train_input": train_input, "train_readout": train_readout}
    task = _task(architecture, V0, targets, given, loss, learning_rate, updates, substeps)
    paths, kind = positive_int("paths", paths), resolve_dtype(dtype)
    shared = architecture.training_grid(task)
    if shared is not None and shared.depth is not None:
        if steps is not None:
            raise ValueError("steps has no meaning at a finite depth, whose blocks are the steps: drop one.")
        steps = shared.depth
    steps = architecture.training_steps(task) if steps is None else positive_int("steps", steps)
    layers, tau = saved_layers(save_at, steps, 5)
    sizes = Sizes(steps, layers, paths)
    default = architecture.training_chunk(task, sizes, kind.itemsize)
    if shared is not None:
        default = min(default, max(_FEWEST_PARTICLES, -(-paths // _SYSTEMS)))
    chunk = positive_int("chunk", even_chunk(paths, default) if chunk is None else chunk)
    architecture.check_training(task, sizes)
    settings = run_metadata(
        "limit", architecture, np.asarray(task.data.V0), key, label="limit", steps=steps, paths=paths
    )
    if shared is None:
        settings |= {"solver": "LayerStep", "order": 1}
    elif shared.depth is None:  # blocks of a finite depth are no steps of a solver
        settings |= {"solver": shared.solver, "order": shared.order}
    settings |= _described(task) | {"dtype": kind.name, "chunk": chunk, "save_at": tau.tolist()}
    with precision(kind):
        arrays = task.arrays(kind)

    def dispatch(chunk_key: PRNGKeyArray, size: int) -> Trajectory | KernelTrajectory:
        return architecture.train_limit(arrays, sizes._replace(draws=size), chunk_key)

    if shared is None:
        chunks = Chunks(dispatch, partial(_finish, task), Training.path_axis, typed_key(key), paths, chunk, "limit")
        return _plan(task, tau, chunks, settings, (kind, progress, checkpoint))
    systems = -(-paths // chunk) if shared.sampled else 1
    settings |= {"deterministic": True, "depth": shared.depth, "systems": systems}
    chunks = Chunks(
        lambda system_key, _: dispatch(system_key, chunk),
        _system,
        _SYSTEM_AXES,
        typed_key(key),
        systems,
        1,
        "particles",
    )
    size = (tau.size * 4 * (task.inputs * (task.updates + 1)) ** 2) * 8
    return Plan(chunks, settings, kind, partial(_collect, task, tau, shared.sampled), size, progress, checkpoint)


def _task(
    architecture: Any,
    V0: Any,
    targets: Any,
    given: dict[str, Any],
    loss: Any,
    learning_rate: Any,
    updates: Any,
    substeps: Any,
) -> Task:
    example = "an architecture that can be trained, such as MLP(ShapedSmooth(jnp.tanh), depth_to_width=0.5)"
    instance_of("architecture", architecture, AbstractTrainable, example)
    settings = settings_from(architecture.training_settings, given)
    steps = {"learning_rate": learning_rate, "updates": updates, "substeps": substeps}
    return Task.of(Data(V0, targets), loss=loss, settings=settings, **steps)


def _plan(
    task: Task, tau: NDArray[Any], chunks: Chunks, settings: dict[str, Any], how: tuple[np.dtype, Any, Any]
) -> Plan[Training]:
    """The plan of random paths, or of networks."""
    kind, progress, checkpoint = how
    P, kept = task.inputs, task.inputs * (task.updates + 1)
    size = (3 * tau.size * kept**2 + (task.updates + 1) * (P + P * P + 1)) * kind.itemsize

    def result(found: Arrays, metadata: dict[str, Any]) -> Training:
        return Training(tau=tau, targets=np.asarray(task.data.targets), **found, metadata=metadata)

    return Plan(chunks, settings, kind, result, size, progress, checkpoint)


@question
def train_networks(
    architecture: AbstractTrainable,
    V0: Any,
    *,
    targets: Any,
    updates: int = 3,
    substeps: int = 1,
    learning_rate: SupportsFloat = 1.0,
    width: int,
    draws: int = 2000,
    key: int | PRNGKeyArray = 1,
    method: str = "law",
    depth: int | None = None,
    loss: str | Loss = "squared",
    save_at: Sequence[float | int] | None = None,
    dtype: Any = None,
    chunk: int | None = None,
    progress: bool | None = None,
    checkpoint: str | Path | None = None,
    output_scale: SupportsFloat | None = None,
    richness: SupportsFloat | None = None,
    response: bool | np.bool_ | None = None,
    train_input: bool | np.bool_ | None = None,
    train_readout: bool | np.bool_ | None = None,
) -> Plan[Training]:
    """Train finite networks by gradient descent on their hidden matrices.

    Args:
        architecture: the same object that `train` takes.
        V0: Gram matrix of the inputs (P, P); the inputs have as many dimensions as the layers have neurons.
        targets: one number per input, (P,).
        updates: steps of gradient descent on all inputs; each is recorded.
        substeps: as for `train`.
        learning_rate: η₀; the networks use η₀/n, ResNets η₀γ₀²n on the mean over the inputs of the loss.
        width: neurons per layer, n.
        draws: number of independent networks.
        key: int seed or JAX key.
        method: "law" reveals the weights only where training meets them, exactly in law; "weights" draws and trains
            them.
        depth: number of hidden layers; default round(T n).
        loss: as for `train`.
        save_at: layer times at which Phi, G and A are kept, rounded to layers, with 0 and 1; default: fifths.
        dtype: float64 (default) or float32.
        chunk: networks trained at a time; bounds the memory.
        progress: as for `train`.
        checkpoint: as for `train`.
        output_scale: as for `train`.
        richness: as for `train`.
        response: as for `train`.
        train_input: as for `train`.
        train_readout: as for `train`.

    Returns:
        `Training`, as `train` gives it.

    Raises:
        ValueError: for an argument out of range; the message names it.
    """
    given: dict[str, Any] = {"output_scale": output_scale, "richness": richness, "response": response}
    given |= {"train_input": train_input, "train_readout": train_readout}
    task = _task(architecture, V0, targets, given, loss, learning_rate, updates, substeps)
    width, draws, kind = positive_int("width", width), positive_int("draws", draws), resolve_dtype(dtype)
    depth = architecture.depth(width) if depth is None else positive_int("depth", depth)
    layers, tau = saved_layers(save_at, depth, 5)
    sizes = Sizes(depth, layers, draws, width, method)
    default = architecture.training_chunk(task, sizes, kind.itemsize)
    chunk = positive_int("chunk", even_chunk(draws, default) if chunk is None else chunk)
    architecture.check_training(task, sizes)
    settings = run_metadata("network", architecture, np.asarray(task.data.V0), key, label=f"networks, width {width}")
    settings |= {"width": width, "depth": depth, "paths": draws, "method": method}
    settings |= _described(task) | {"dtype": kind.name, "chunk": chunk, "save_at": tau.tolist()}
    with precision(kind):
        arrays = task.arrays(kind)

    def dispatch(chunk_key: PRNGKeyArray, size: int) -> Trajectory:
        return compiled(architecture.train_networks, arrays, sizes._replace(draws=size), chunk_key)

    finish = partial(_finish, task)
    chunks = Chunks(dispatch, finish, Training.path_axis, typed_key(key), draws, chunk, f"width {width}")
    return _plan(task, tau, chunks, settings, (kind, progress, checkpoint))


def _described(task: Task) -> dict[str, Any]:
    """For metadata: all of a task but its inputs, the settings of the family whole."""
    return {
        "targets": np.asarray(task.data.targets).tolist(),
        "updates": task.updates,
        "substeps": task.substeps,
        "learning_rate": task.learning_rate,
        "loss": getattr(task.loss, "__name__", repr(task.loss)),
        "loss_identity": identity(task.loss),
        **dataclasses.asdict(task.settings),
    }


def _ceiling(task: Task) -> float:
    return _DIVERGED * max(1.0, float(np.max(np.abs(task.data.targets))))


def _finish(task: Task, trajectory: Trajectory) -> Arrays:
    """One chunk of `Training`, NaN from where training diverged."""
    y = np.asarray(task.data.targets)
    flat, Phi, G, A, ntk = (np.array(x) for x in trajectory)
    P, paths = y.size, flat.shape[1]
    outputs = np.moveaxis(flat.reshape(-1, P, paths), 1, 2)
    with np.errstate(invalid="ignore"):
        valid = np.all(np.isfinite(outputs) & (np.abs(outputs).astype(np.float64) <= _ceiling(task)), axis=2)
    valid = np.logical_and.accumulate(valid, axis=0)
    outputs[~valid] = np.nan
    ntk[~valid] = np.nan
    gone = np.repeat(~valid, P, axis=0).T  # (paths, N)
    for X in (Phi, G, A):
        X[:, gone[:, :, None] | gone[:, None, :]] = np.nan
    losses = np.asarray(jax.vmap(jax.vmap(lambda f: task.loss(f, jnp.asarray(y, f.dtype))))(jnp.asarray(outputs)))
    rest = np.all(np.isfinite(Phi) & np.isfinite(G) & np.isfinite(A), axis=(0, 2, 3))
    rest &= np.all(np.isfinite(losses), axis=0)
    status = np.where(valid[-1], np.where(rest, PathStatus.FINE, PathStatus.NOT_FINITE), PathStatus.EXPLODED)
    return {
        "outputs": outputs,
        "losses": losses,
        "Phi": Phi,
        "G": G,
        "A": A,
        "ntk": ntk,
        "status": status.astype(np.int8),
    }


_SYSTEM_AXES = dict.fromkeys(KernelTrajectory._fields, 0)


def _system(found: KernelTrajectory) -> Arrays:
    return {name: np.asarray(x)[None] for name, x in found._asdict().items()}


def _collect(task: Task, tau: NDArray[Any], sampled: bool, stacked: Arrays, metadata: dict[str, Any]) -> TrainedKernels:
    """Mean over independent systems of particles, with standard errors from their spread, and what each adds to it."""
    systems, targets = metadata["systems"], np.asarray(task.data.targets)
    means, errors, replicates = {}, {}, {}
    with np.errstate(invalid="ignore", over="ignore"):
        for name in KernelTrajectory._fields:
            values = stacked[name].astype(np.float64)
            means[name] = values.mean(axis=0)
            spread = values.std(axis=0, ddof=1) / np.sqrt(systems) if systems > 1 else np.full(values.shape[1:], np.nan)
            errors[name] = spread if sampled else np.zeros(values.shape[1:])
            if sampled and systems > 1:
                replicates[name] = (systems * means[name] - values) / (systems - 1)
        good = np.all(np.abs(stacked["outputs"]) <= _ceiling(task), axis=2)
    valid = np.logical_and.accumulate(good.all(axis=0))
    P = targets.size
    gone = np.repeat(~valid, P)
    for part in (means, errors, replicates):
        if part:
            part["outputs"][..., ~valid, :] = np.nan
            part["ntk"][..., ~valid, :, :] = np.nan
            for name in ("H", "Phi", "G", "A"):
                part[name][..., gone[:, None] | gone[None, :]] = np.nan
    finite = all(np.all(np.isfinite(x)) for x in means.values())
    status = PathStatus.FINE if finite else (PathStatus.NOT_FINITE if valid[-1] else PathStatus.EXPLODED)
    if not finite:
        count = int(np.sum(~np.logical_and.accumulate(good, axis=1)[:, -1]))
        warnings.warn(
            f"Training diverged after update {int(valid.sum()) - 1} in {count} of {systems} systems of particles: "
            "everything later is NaN; lower learning_rate or beta.",
            FailedPathsWarning,
            stacklevel=3,
        )

    def losses(outputs: NDArray[Any]) -> NDArray[Any]:
        flat = jnp.asarray(outputs.reshape(-1, P))
        return np.asarray(jax.vmap(lambda f: task.loss(f, jnp.asarray(targets)))(flat)).reshape(outputs.shape[:-1])

    if replicates:
        replicates["losses"] = losses(replicates["outputs"])
    return TrainedKernels(
        tau=np.asarray(tau),
        targets=targets,
        losses=losses(means["outputs"]),
        standard_error=errors,
        status=status,
        metadata=metadata,
        replicates=replicates,
        **means,
    )
