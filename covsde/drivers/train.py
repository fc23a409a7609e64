"""Training: the limit, and finite networks really trained, as the same result."""

import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray
from numpy.typing import NDArray

from covsde.architectures.base import AbstractTrainable
from covsde.descent.losses import Loss, checked_loss
from covsde.descent.trajectory import KernelTrajectory, Trajectory
from covsde.inputs.arguments import finite_number, instance_of, positive_int, resolve_dtype
from covsde.inputs.data import check_targets
from covsde.inputs.gram import check_gram
from covsde.numerics.keys import typed_key
from covsde.results.status import FailedPathsWarning, PathStatus
from covsde.results.training import TrainedKernels, Training
from covsde.run.checkpoint import Arrays
from covsde.run.chunks import run_chunks
from covsde.run.grid import saved_layers
from covsde.run.memory import even_chunk
from covsde.run.metadata import identity, run_metadata

# Gradient descent that has come this far from its targets will not come back.
_DIVERGED = 1e6
# Where particles share one set of kernels: independent systems, for standard errors, and the fewest in one.
_SYSTEMS = 8
_FEWEST_PARTICLES = 512


def _settings(
    architecture: Any, V0: Any, targets: Any, updates: Any, learning_rate: Any
) -> tuple[np.ndarray, np.ndarray, int, float]:
    example = "an architecture that can be trained, such as MLP(ShapedSmooth(jnp.tanh), depth_to_width=0.5)"
    instance_of("architecture", architecture, AbstractTrainable, example)
    gram = check_gram(V0)
    y = check_targets(targets, gram.shape[0])
    return gram, y, positive_int("updates", updates, least=0), finite_number("learning_rate", learning_rate)


def _finish(trajectory: Trajectory, y: NDArray[Any], loss: Loss) -> Arrays:
    """One chunk of `Training`, NaN from where training diverged."""
    flat, Phi, G, A, ntk = (np.array(x) for x in trajectory)
    P, paths = y.size, flat.shape[1]
    outputs = np.moveaxis(flat.reshape(-1, P, paths), 1, 2)
    with np.errstate(invalid="ignore"):
        ceiling = _DIVERGED * max(1.0, float(np.max(np.abs(y))))
        valid = np.all(np.isfinite(outputs) & (np.abs(outputs).astype(np.float64) <= ceiling), axis=2)
    valid = np.logical_and.accumulate(valid, axis=0)
    outputs[~valid] = np.nan
    ntk[~valid] = np.nan
    gone = np.repeat(~valid, P, axis=0).T  # (paths, N)
    for X in (Phi, G, A):
        X[:, gone[:, :, None] | gone[:, None, :]] = np.nan
    losses = np.asarray(jax.vmap(jax.vmap(lambda f: loss(f, jnp.asarray(y, f.dtype))))(jnp.asarray(outputs)))
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
        "last_update": valid.sum(axis=0) - 1,
        "status": status.astype(np.int8),
    }


def train(
    architecture: AbstractTrainable,
    V0: Any,
    *,
    targets: Any,
    updates: int = 3,
    substeps: int = 1,
    learning_rate: float = 1.0,
    paths: int = 2000,
    key: int | PRNGKeyArray = 0,
    loss: str | Loss = "squared",
    steps: int | None = None,
    save_at: Sequence[float | int] | None = None,
    dtype: Any = None,
    chunk: int | None = None,
    progress: bool | None = None,
    checkpoint: str | Path | None = None,
    **options: Any,
) -> Training | TrainedKernels:
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
        options: what the architecture adds; for an MLP output_scale = 1.0, the s in f = s w·h/√n, and train_input,
            train_readout = False, whether the matrices at the two ends move as well (which changes the limit only
            within its error in the step); for a ResNet the settings of `ResNetTraining`: richness, depth, response,
            train_input, train_readout.

    Returns:
        `Training`, with paths whose training diverged counted in `failures`; for a deterministic limit
        `TrainedKernels`, with outputs (updates + 1, P).

    Raises:
        ValueError: for an argument out of range; the message names it.
        TypeError: for an activation without a limit, or an option the architecture does not know.

    Source: Li, Noci, Hanin, feature learning in the proportional limit (announced; M. Li's lecture notes STAT 946,
    Waterloo, 2025); equations and scheme in covsde/architectures/mlp/feature_learning.py.
    """
    gram, y, updates, rate = _settings(architecture, V0, targets, updates, learning_rate)
    paths, kind, typed = positive_int("paths", paths), resolve_dtype(dtype), typed_key(key)
    function, options = checked_loss(loss, y.size), _plain(options)
    substeps = positive_int("substeps", substeps)
    labels = y.size * (updates * substeps + 1)
    shared = architecture.training_grid(labels, options)
    if shared is not None and shared.depth is not None:
        if steps is not None:
            raise ValueError("steps has no meaning at a finite depth, whose blocks are the steps: drop one.")
        steps = shared.depth
    steps = architecture.training_steps(gram, labels) if steps is None else positive_int("steps", steps)
    layers, tau = saved_layers(save_at, steps, 5)
    default = architecture.training_chunk(labels, steps, None, kind.itemsize)
    if shared is not None:
        default = min(default, max(_FEWEST_PARTICLES, -(-paths // _SYSTEMS)))
    chunk = positive_int("chunk", even_chunk(paths, default) if chunk is None else chunk)
    settings = run_metadata("limit", architecture, gram, key, label="limit", steps=steps, paths=paths)
    if shared is None:
        settings |= {"solver": "LayerStep", "order": 1}
    elif shared.depth is None:  # blocks of a finite depth are no steps of a solver
        settings |= {"solver": shared.solver, "order": shared.order}
    settings |= _described(y, updates, substeps, rate, function, kind, chunk, tau, options)
    start = time.perf_counter()
    with jax.enable_x64(kind == np.float64):

        def dispatch(chunk_key: PRNGKeyArray, size: int) -> Any:
            return architecture.train_limit(
                jnp.asarray(gram, kind),
                jnp.asarray(y, kind),
                chunk_key,
                loss=function,
                learning_rate=jnp.asarray(rate, kind),  # an array, so that sweeping it compiles once
                updates=updates,
                substeps=substeps,
                steps=steps,
                layers=layers,
                paths=size,
                options=options,
            )

        if shared is not None:
            ceiling = _DIVERGED * max(1.0, float(np.max(np.abs(y))))
            settings |= {"deterministic": True, "depth": shared.depth}
            return collect(
                dispatch,
                key=typed,
                systems=-(-paths // chunk) if shared.sampled else 1,
                particles=chunk,
                sampled=shared.sampled,
                tau=tau,
                targets=y,
                loss=function,
                ceiling=ceiling,
                progress=progress,
                checkpoint=checkpoint,
                metadata=settings,
            )
        found = run_chunks(
            dispatch,
            lambda trajectory: _finish(trajectory, y, function),
            axes=Training.path_axis,
            key=typed,
            total=paths,
            chunk=chunk,
            progress=progress,
            label="limit",
            checkpoint=checkpoint,
            fingerprint=settings,
        )
    return Training(tau=tau, targets=y, **found, metadata=settings | {"seconds": time.perf_counter() - start})


def train_networks(
    architecture: AbstractTrainable,
    V0: Any,
    *,
    targets: Any,
    updates: int = 3,
    substeps: int = 1,
    learning_rate: float = 1.0,
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
    **options: Any,
) -> Training:
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
        options: as for `train`.

    Returns:
        `Training`, as `train` gives it.

    Raises:
        ValueError: for an argument out of range; the message names it.
    """
    gram, y, updates, rate = _settings(architecture, V0, targets, updates, learning_rate)
    width, draws = positive_int("width", width), positive_int("draws", draws)
    kind, typed = resolve_dtype(dtype), typed_key(key)
    function, options = checked_loss(loss, y.size), _plain(options)
    substeps = positive_int("substeps", substeps)
    depth = architecture.depth(width) if depth is None else positive_int("depth", depth)
    layers, tau = saved_layers(save_at, depth, 5)
    default = architecture.training_chunk(y.size * (updates * substeps + 1), depth, width, kind.itemsize)
    chunk = positive_int("chunk", even_chunk(draws, default) if chunk is None else chunk)
    settings = run_metadata("network", architecture, gram, key, label=f"networks, width {width}")
    settings |= {"width": width, "depth": depth, "paths": draws, "method": method}
    settings |= _described(y, updates, substeps, rate, function, kind, chunk, tau, options)
    start = time.perf_counter()
    with jax.enable_x64(kind == np.float64):
        sampler = eqx.filter_jit(architecture.train_networks)

        def dispatch(chunk_key: PRNGKeyArray, size: int) -> Trajectory:
            return sampler(
                jnp.asarray(gram, kind),
                jnp.asarray(y, kind),
                chunk_key,
                method=method,
                loss=function,
                learning_rate=jnp.asarray(rate, kind),  # an array, so that sweeping it compiles once
                updates=updates,
                substeps=substeps,
                width=width,
                depth=depth,
                layers=layers,
                draws=size,
                options=options,
            )

        found = run_chunks(
            dispatch,
            lambda trajectory: _finish(trajectory, y, function),
            axes=Training.path_axis,
            key=typed,
            total=draws,
            chunk=chunk,
            progress=progress,
            label=f"width {width}",
            checkpoint=checkpoint,
            fingerprint=settings,
        )
    return Training(tau=tau, targets=y, **found, metadata=settings | {"seconds": time.perf_counter() - start})


def _plain(options: dict[str, Any]) -> dict[str, Any]:
    """NumPy's and JAX's numbers as Python's, which a program can be compiled for."""
    return {
        k: v.item() if isinstance(v, np.generic | np.ndarray | jax.Array) and v.ndim == 0 else v
        for k, v in options.items()
    }


def _described(
    y: np.ndarray,
    updates: int,
    substeps: int,
    rate: float,
    loss: Loss,
    kind: np.dtype,
    chunk: int,
    tau: np.ndarray,
    options: dict[str, Any],
) -> dict[str, Any]:
    name = getattr(loss, "__name__", repr(loss))
    described = {"targets": y.tolist(), "updates": updates, "substeps": substeps, "learning_rate": rate}
    described |= {"loss": name, "loss_identity": identity(loss), "dtype": kind.name}
    return described | {"chunk": chunk, "save_at": tau.tolist(), **{k: repr(v) for k, v in options.items()}}


def collect(
    run: Callable[[PRNGKeyArray, int], KernelTrajectory],
    *,
    key: PRNGKeyArray,
    systems: int,
    particles: int,
    sampled: bool,
    tau: NDArray[Any],
    targets: np.ndarray,
    loss: Loss,
    ceiling: float,
    progress: bool | None,
    checkpoint: str | Path | None,
    metadata: dict[str, Any],
) -> TrainedKernels:
    """Mean over independent systems of particles, with standard errors from their spread, and what each adds to it.

    Args:
        run: one system, from its key and the number of its particles.
        key: system c uses fold_in(key, c).
        systems: their number.
        particles: in each of them.
        sampled: whether anything is random; if not, one system is enough and errors are 0.
        tau: saved layer times.
        targets: y.
        loss: of outputs (P,) and targets (P,).
        ceiling: outputs beyond this have diverged.
        progress: show a bar; None: on a terminal, when there is more than one system.
        checkpoint: folder for finished systems, or None.
        metadata: of the result, and what a checkpoint must agree with.
    """
    start = time.perf_counter()
    stacked = run_chunks(
        lambda system_key, _: run(system_key, particles),
        lambda found: {name: np.asarray(x)[None] for name, x in found._asdict().items()},
        axes=dict.fromkeys(KernelTrajectory._fields, 0),
        key=key,
        total=systems,
        chunk=1,
        progress=progress,
        label="particles",
        checkpoint=checkpoint,
        fingerprint=metadata,
    )
    means, errors, replicates = {}, {}, {}
    with np.errstate(invalid="ignore", over="ignore"):
        for name in KernelTrajectory._fields:
            values = stacked[name].astype(np.float64)
            means[name] = values.mean(axis=0)
            spread = values.std(axis=0, ddof=1) / np.sqrt(systems) if systems > 1 else np.full(values.shape[1:], np.nan)
            errors[name] = spread if sampled else np.zeros(values.shape[1:])
            if sampled and systems > 1:
                replicates[name] = (systems * means[name] - values) / (systems - 1)
        good = np.all(np.abs(stacked["outputs"]) <= ceiling, axis=2)
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
        return np.asarray(jax.vmap(lambda f: loss(f, jnp.asarray(targets)))(flat)).reshape(outputs.shape[:-1])

    if replicates:
        replicates["losses"] = losses(replicates["outputs"])
    metadata = metadata | {"systems": systems, "seconds": time.perf_counter() - start}
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
