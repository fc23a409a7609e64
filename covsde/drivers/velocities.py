"""Velocities at initialization, in the limit and in finite networks."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from covsde.architectures.base import AbstractWithVelocities
from covsde.descent.losses import Loss
from covsde.descent.optimizers import SGD
from covsde.descent.task import Sizes, Task, settings_from, task_from
from covsde.inputs.arguments import instance_of, positive_int, resolve_dtype, untraced
from covsde.inputs.data import Data
from covsde.numerics.keys import typed_key
from covsde.results.status import PathStatus
from covsde.results.velocities import Velocities
from covsde.run.checkpoint import Arrays
from covsde.run.chunks import Chunks, compiled
from covsde.run.grid import saved_layers, time_grid
from covsde.run.memory import LIMIT, fitting
from covsde.run.metadata import function_metadata, run_metadata
from covsde.run.outcome import limit_chunk, to_matrices
from covsde.run.plan import Plan, precision, question
from covsde.solvers import Strang
from covsde.solvers.backward import refuse_many_inputs
from covsde.solvers.velocities import solve_velocities

# Where the paths are in what one chunk gives.
_AXES = {"Phi": 1, "G": 1, "R": 1, "Y": 1, "S": 1, "outputs": 0, "status": 0}


def _chunk(status: Any, f: Any, Phi: Any, G: Any, R: Any, Y: Any, S: Any) -> Arrays:
    """NaN wherever a path is not fine, and a status for paths that have no number somewhere."""
    status, f, Phi, G, R, Y, S = (np.array(x) for x in (status, f, Phi, G, R, Y, S))
    whole = [np.all(np.isfinite(X), axis=(0, *range(2, X.ndim))) for X in (Phi, G, R, Y, S)]
    bad = ~np.logical_and.reduce([*whole, np.all(np.isfinite(f), axis=1)])
    status = np.where(bad & (status == PathStatus.FINE), PathStatus.NOT_FINITE, status).astype(np.int8)
    gone = status != PathStatus.FINE
    for X in (Phi, G, R, Y, S):
        X[:, gone] = np.nan
    f[gone] = np.nan
    return {"Phi": Phi, "G": G, "R": R, "Y": Y, "S": S, "outputs": f, "status": status}


def _task(architecture: Any, V0: Any, targets: Any, loss: Any, learning_rate: Any, scale: Any = None) -> Task:
    example = "an architecture with velocities such as MLP(Identity(), depth_to_width=0.5)"
    instance_of("architecture", architecture, AbstractWithVelocities, example)
    untraced("architecture", architecture)
    settings = settings_from(architecture.training_settings, {"output_scale": scale})
    steps = {"updates": 0, "substeps": 1}
    task = task_from(Data(V0, targets), loss=loss, optimizer=SGD(learning_rate), settings=settings, **steps)
    task.require_plain("velocities")
    return task


@question
def simulate_velocities(
    architecture: AbstractWithVelocities,
    V0: Any,
    *,
    targets: Any,
    learning_rate: float = 1.0,
    paths: int = 10_000,
    key: int | PRNGKeyArray = 0,
    loss: str | Loss = "squared",
    steps: int | None = None,
    save_at: Sequence[float | int] | None = None,
    dtype: Any = None,
    chunk: int | None = None,
    progress: bool | None = None,
    checkpoint: str | Path | None = None,
) -> Plan[Velocities]:
    """Sample the velocities of a linear network's limit at initialization, from the input Gram matrix V0.

    Args:
        architecture: a linear MLP, MLP(Identity(), depth_to_width=0.5).
        V0: Gram matrix of the inputs (m, m), symmetric positive semidefinite, possibly singular.
        targets: one number per input, (m,).
        learning_rate: η₀, of order one: networks of width n use η₀/n on their hidden matrices.
        paths: number of independent paths.
        key: int seed or JAX key; the result depends on it and on `chunk`.
        loss: "squared" (½ Σ (f - y)²), "logistic" (y = ±1), or a JAX function of outputs (m,) and targets (m,).
        steps: solver steps over unit layer time; the weak error is of second order. Default: twice those of `simulate`.
        save_at: layer times to keep, each hit exactly, with 0 and 1; default: every step up to 20 steps, else tenths.
        dtype: float64 (default) or float32.
        chunk: paths solved at a time; bounds the memory.
        progress: show a bar; default: on a terminal.
        checkpoint: folder for finished chunks; an interrupted call with the same arguments resumes from it.

    Returns:
        `Velocities`, with f as in networks with readout f = w·h/√n.

    Raises:
        ValueError: for a V0 that is not a covariance, or an argument out of range; the message names it.
        TypeError: for an activation that is not linear.

    Source: velocity equations of Li, Noci, Hanin, feature learning in the proportional limit (M. Li's lecture notes
    STAT 946, Waterloo, 2025); see `covsde.architectures.mlp.velocities`.
    """
    task = _task(architecture, V0, targets, loss, learning_rate)
    V0, m, paths, kind = np.asarray(task.data.V0), task.inputs, positive_int("paths", paths), resolve_dtype(dtype)
    limit = architecture.velocity_limit(task.learning_rate)
    refuse_many_inputs(m, "simulate_velocities")
    default = architecture.default_steps(V0) if steps is None else 0
    grid, every = time_grid(2 * default if steps is None else positive_int("steps", steps), save_at)
    Strang().check(architecture.limit(), m, float(np.max(np.diff(grid))), f"steps={len(grid) - 1}")
    tau = grid[::every]
    most = fitting(8 * m * m * grid.size, LIMIT // 2, least=64, most=2048)
    chunk = positive_int("chunk", min(paths, most) if chunk is None else chunk)
    settings = run_metadata("limit", architecture, V0, key, label="limit", steps=len(grid) - 1, paths=paths)
    settings |= _described(task) | {"dtype": kind.name, "chunk": chunk, "save_at": tau.tolist()}
    with precision(kind):
        limit = jax.tree.map(lambda x: jnp.asarray(x, kind), limit)
        arrays, times = task.arrays(kind), jnp.asarray(grid, kind)

    def dispatch(chunk_key: PRNGKeyArray, size: int) -> Any:
        return solve_velocities(limit, arrays.V0, arrays.error_signal, chunk_key, times, paths=size, every=every)

    def finish(pending: Any) -> Arrays:
        entries, clock, f, *others = pending
        forward = limit_chunk(np.asarray(entries), np.asarray(clock), tau, m, float(limit.forward.ceiling))
        return _chunk(forward["status"], f, to_matrices(forward["entries"], m), *others)

    chunks = Chunks(dispatch, finish, _AXES, typed_key(key), paths, chunk, "limit")
    return Plan(chunks, settings, kind, partial(_velocities, tau), _bytes(tau, m, kind), progress, checkpoint)


def _velocities(tau: np.ndarray, found: Arrays, metadata: dict[str, Any]) -> Velocities:
    return Velocities(tau=tau, **found, metadata=metadata)


def _bytes(tau: np.ndarray, m: int, kind: np.dtype) -> int:
    return int((tau.size * (4 * m * m + m) + m) * kind.itemsize)


@question
def sample_network_velocities(
    architecture: AbstractWithVelocities,
    V0: Any,
    *,
    targets: Any,
    learning_rate: float = 1.0,
    width: int,
    draws: int = 1000,
    key: int | PRNGKeyArray = 1,
    depth: int | None = None,
    loss: str | Loss = "squared",
    output_scale: float = 1.0,
    save_at: Sequence[float | int] | None = None,
    dtype: Any = None,
    chunk: int | None = None,
    progress: bool | None = None,
    checkpoint: str | Path | None = None,
) -> Plan[Velocities]:
    """Sample the velocities of finite networks with real weights, by JAX's forward-mode differentiation.

    Args:
        architecture: an MLP; activations without a velocity equation, and unshaped ones, are welcome here.
        V0: Gram matrix of the inputs (m, m); the inputs have as many dimensions as the layers have neurons.
        targets: one number per input, (m,).
        learning_rate: η₀; the networks use η₀/n on their hidden matrices.
        width: neurons per layer, n ≥ m.
        draws: number of independent networks.
        key: int seed or JAX key.
        depth: number of hidden layers; default round(T n).
        loss: as for `simulate_velocities`.
        output_scale: s of f = s w·h/√n; 1/√n is the mean-field readout. G and R are those of f/s and f.
        save_at: layer times to keep, rounded to layers ℓ/depth; default: tenths. 0 and 1 are always kept.
        dtype: float64 (default) or float32.
        chunk: networks per call; the memory in use at one time is bounded whatever it is.
        progress: as for `simulate_velocities`.
        checkpoint: as for `simulate_velocities`.

    Returns:
        `Velocities` with tau = ℓ/depth, of post-activations.

    Raises:
        ValueError: for a V0 that is not a covariance, width < m, or an argument out of range.

    Source: the definitions of `Velocities`, by automatic differentiation.
    """
    task = _task(architecture, V0, targets, loss, learning_rate, output_scale)
    width, draws, kind = positive_int("width", width), positive_int("draws", draws), resolve_dtype(dtype)
    depth = architecture.depth(width) if depth is None else positive_int("depth", depth)
    layers, tau = saved_layers(save_at, depth, 10)
    chunk = positive_int("chunk", min(draws, 1024) if chunk is None else chunk)
    V0 = np.asarray(task.data.V0)
    settings = run_metadata("network", architecture, V0, key, label=f"networks, width {width}", width=width)
    settings |= {"depth": depth, "paths": draws, "output_scale": task.settings.output_scale}
    settings |= _described(task) | {"dtype": kind.name, "chunk": chunk, "save_at": tau.tolist()}
    with precision(kind):
        arrays = task.arrays(kind)

    def dispatch(chunk_key: PRNGKeyArray, size: int) -> tuple[Array, ...]:
        return compiled(architecture.sample_velocities, arrays, Sizes(depth, layers, size, width), chunk_key)

    def finish(sampled: Any) -> Arrays:
        return _chunk(np.full(chunk, PathStatus.FINE), *sampled)

    chunks = Chunks(dispatch, finish, _AXES, typed_key(key), draws, chunk, f"width {width}")
    return Plan(chunks, settings, kind, partial(_velocities, tau), _bytes(tau, len(V0), kind), progress, checkpoint)


def _described(task: Task) -> dict[str, Any]:
    return {
        "targets": np.asarray(task.data.targets).tolist(),
        "learning_rate": task.learning_rate,
        **function_metadata("loss", task.loss),
    }
