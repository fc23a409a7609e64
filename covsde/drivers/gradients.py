"""Gradients at initialization, in the limit and in networks."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray
from numpy.typing import NDArray

from covsde.architectures.base import AbstractWithGradients
from covsde.inputs.arguments import instance_of, positive_int, resolve_dtype, untraced
from covsde.inputs.gram import check_gram
from covsde.numerics.keys import typed_key
from covsde.results.gradients import Gradients
from covsde.results.status import PathStatus
from covsde.run.checkpoint import Arrays
from covsde.run.chunks import Chunks, compiled
from covsde.run.grid import saved_layers, time_grid
from covsde.run.memory import LIMIT, fitting
from covsde.run.metadata import run_metadata
from covsde.run.outcome import limit_chunk, to_matrices
from covsde.run.plan import Plan, precision, question
from covsde.solvers import Strang
from covsde.solvers.backward import refuse_many_inputs, solve_gradients

# Where the paths are in what one chunk gives.
_AXES = {"Phi": 1, "G": 1, "A": 1, "outputs": 0, "ntk": 0, "status": 0}


def _chunk(sampled: tuple[Any, ...], status: NDArray[Any]) -> Arrays:
    """NaN wherever a path is not fine, and a status for paths that have no number somewhere."""
    Phi, G, A, f, ntk = (np.array(x) for x in sampled)
    bad = ~np.all(np.isfinite(Phi) & np.isfinite(G) & np.isfinite(A), axis=(0, 2, 3)) | ~np.all(np.isfinite(f), axis=1)
    status = np.where(bad & (status == PathStatus.FINE), PathStatus.NOT_FINITE, status).astype(np.int8)
    gone = status != PathStatus.FINE
    for array in (Phi, G, A):
        array[:, gone] = np.nan
    f[gone], ntk[gone] = np.nan, np.nan
    return {"Phi": Phi, "G": G, "A": A, "outputs": f, "ntk": ntk, "status": status}


@question
def simulate_gradients(
    architecture: AbstractWithGradients,
    V0: Any,
    *,
    paths: int = 10_000,
    key: int | PRNGKeyArray = 0,
    steps: int | None = None,
    save_at: Sequence[float | int] | None = None,
    dtype: Any = None,
    chunk: int | None = None,
    progress: bool | None = None,
    checkpoint: str | Path | None = None,
) -> Plan[Gradients]:
    """Sample gradients of an architecture's limit at initialization, from the input Gram matrix V0.

    Args:
        architecture: e.g. MLP(ShapedReLU(0, -1), depth_to_width=1.0).
        V0: input Gram matrix (m, m), symmetric positive semidefinite, possibly singular.
        paths: number of independent paths.
        key: int seed or JAX key; the result depends on it and on `chunk`.
        steps: solver steps over unit layer time, down as well as up; default: twice those of `simulate`.
        save_at: layer times to keep, each hit exactly, with 0 and 1; default: every step up to 20 steps, else tenths.
        dtype: float64 (default) or float32.
        chunk: paths solved at a time; bounds the memory.
        progress: show a bar; default: on a terminal.
        checkpoint: folder for finished chunks; an interrupted call with the same arguments resumes from it.

    Returns:
        `Gradients` with a status per path: where the forward path explodes there is no gradient.

    Raises:
        ValueError: for a V0 that is not a covariance, or an argument out of range; the message names it.
        TypeError: for an activation without a limit of this kind.

    Source: step 0 of the forward–backward limit of Li, Noci and Hanin (see `covsde.architectures.mlp.gradients`).
    """
    _check_architecture(architecture)
    kind = resolve_dtype(dtype)
    V0 = check_gram(V0, kind)
    m, paths, typed = V0.shape[0], positive_int("paths", paths), typed_key(key)
    sde, equation = architecture.limit(), architecture.backward()
    refuse_many_inputs(m, "simulate_gradients")
    default = architecture.default_steps(V0) if steps is None else 0
    grid, every = time_grid(2 * default if steps is None else positive_int("steps", steps), save_at)
    Strang().check(sde, m, float(np.max(np.diff(grid))), f"steps={len(grid) - 1}")
    tau = grid[::every]
    most = fitting(8 * m * m * grid.size, LIMIT // 2, least=64, most=2048)
    chunk = positive_int("chunk", min(paths, most) if chunk is None else chunk)
    settings = run_metadata("limit", architecture, V0, key, label="limit", steps=len(grid) - 1, paths=paths)
    settings |= {"dtype": kind.name, "chunk": chunk, "save_at": tau.tolist()}
    with precision(kind):
        sde, equation = jax.tree.map(lambda x: jnp.asarray(x, kind), (sde, equation))
        initial, times = jnp.asarray(V0, kind), jnp.asarray(grid, kind)

    def dispatch(chunk_key: PRNGKeyArray, size: int) -> Any:
        return solve_gradients(sde, equation, initial, chunk_key, times, paths=size, every=every)

    def finish(pending: Any) -> Arrays:
        entries, clock, G, A, f, ntk = pending
        forward = limit_chunk(np.asarray(entries), np.asarray(clock), tau, m, float(sde.ceiling))
        return _chunk((to_matrices(forward["entries"], m), G, A, f, ntk), forward["status"])

    chunks = Chunks(dispatch, finish, _AXES, typed, paths, chunk, "limit")
    size = (3 * tau.size + 1) * m * m * kind.itemsize
    return Plan(chunks, settings, kind, partial(_gradients, tau), size, progress, checkpoint)


def _gradients(tau: np.ndarray, found: Arrays, metadata: dict[str, Any]) -> Gradients:
    return Gradients(tau=tau, **found, metadata=metadata)


@question
def sample_network_gradients(
    architecture: AbstractWithGradients,
    V0: Any,
    *,
    width: int,
    draws: int = 1000,
    key: int | PRNGKeyArray = 1,
    depth: int | None = None,
    save_at: Sequence[float | int] | None = None,
    dtype: Any = None,
    chunk: int | None = None,
    progress: bool | None = None,
    checkpoint: str | Path | None = None,
) -> Plan[Gradients]:
    """Sample gradients of finite networks with real weights, by JAX's own differentiation.

    Args:
        architecture: the same object that `simulate_gradients` takes; unshaped activations are welcome here.
        V0: input Gram matrix (m, m); the inputs are embedded in as many dimensions as the layers have neurons.
        width: neurons per layer, n ≥ m.
        draws: number of independent networks.
        key: int seed or JAX key.
        depth: number of hidden layers; default round(T n).
        save_at: layer times to keep, rounded to layers ℓ/depth; default: tenths. 0 and 1 are always kept.
        dtype: float64 (default) or float32.
        chunk: networks per call; the memory in use at one time is bounded whatever it is.
        progress: as for `simulate_gradients`.
        checkpoint: as for `simulate_gradients`.

    Returns:
        `Gradients` with tau = ℓ/depth; the gradient at layer ℓ is that of the output in its post-activations.

    Raises:
        ValueError: for a V0 that is not a covariance, width < m, or an argument out of range.

    Source: the definitions of `Gradients`, by automatic differentiation.
    """
    _check_architecture(architecture)
    kind = resolve_dtype(dtype)
    V0 = check_gram(V0, kind)
    width, draws, typed = positive_int("width", width), positive_int("draws", draws), typed_key(key)
    depth = architecture.depth(width) if depth is None else positive_int("depth", depth)
    layers, tau = saved_layers(save_at, depth, 10)
    chunk = positive_int("chunk", min(draws, 1024) if chunk is None else chunk)
    settings = run_metadata("network", architecture, V0, key, label=f"networks, width {width}", width=width)
    settings |= {"depth": depth, "paths": draws, "dtype": kind.name, "chunk": chunk, "save_at": tau.tolist()}
    with precision(kind):
        initial = jnp.asarray(V0, kind)

    def dispatch(chunk_key: PRNGKeyArray, size: int) -> Any:
        shape = {"width": width, "depth": depth, "draws": size, "layers": layers}
        return compiled(architecture.sample_gradients, initial, chunk_key, **shape)

    def finish(sampled: Any) -> Arrays:
        return _chunk(sampled, np.full(chunk, PathStatus.FINE))

    chunks = Chunks(dispatch, finish, _AXES, typed, draws, chunk, f"width {width}")
    size = (3 * tau.size + 1) * len(V0) ** 2 * kind.itemsize
    return Plan(chunks, settings, kind, partial(_gradients, tau), size, progress, checkpoint)


def _check_architecture(architecture: Any) -> None:
    example = "an architecture with gradients such as MLP(ShapedReLU(0, -1))"
    instance_of("architecture", architecture, AbstractWithGradients, example)
    untraced("architecture", architecture)
