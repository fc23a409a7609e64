"""The ensemble driver: Gram matrices of limits and of networks, with a status per path."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import diffrax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray

from covsde.activations import with_slopes_as_arrays
from covsde.architectures.base import AbstractArchitecture
from covsde.inputs.arguments import instance_of, positive_int, resolve_dtype, untraced
from covsde.inputs.gram import check_gram
from covsde.numerics.identity import identity
from covsde.numerics.keys import typed_key
from covsde.results.ensemble import Ensemble
from covsde.results.status import PathStatus
from covsde.run.checkpoint import Arrays
from covsde.run.chunks import Chunks, compiled
from covsde.run.grid import saved_layers
from covsde.run.memory import LIMIT, aligned_chunk, fitting
from covsde.run.metadata import run_metadata
from covsde.run.outcome import limit_chunk, to_matrices
from covsde.run.plan import Plan, precision, question
from covsde.solvers import refuse_zero_input, solve
from covsde.solvers.chunk import as_arrays, layout_name
from covsde.solvers.layout import step_numbers

# Entries (times, m(m+1)/2, paths), status (paths,) and stop (paths,) of one chunk.
PATH_AXES = {"entries": -1, "status": 0, "stop": 0}


@question
def simulate(
    architecture: AbstractArchitecture,
    V0: Any,
    *,
    paths: int = 10_000,
    key: int | PRNGKeyArray = 0,
    steps: int | None = None,
    save_at: Sequence[float | int] | None = None,
    solver: diffrax.AbstractSolver | None = None,
    dtype: Any = None,
    chunk: int | None = None,
    progress: bool | None = None,
    checkpoint: str | Path | None = None,
) -> Plan[Ensemble]:
    """Sample paths of an architecture's limit from the input Gram matrix V0.

    Args:
        architecture: e.g. MLP(ShapedReLU(0, -1), depth_to_width=1.0).
        V0: input Gram matrix (m, m), symmetric positive semidefinite, possibly singular; see `gram`.
        paths: number of independent paths; 1 whatever is asked for if the limit is deterministic.
        key: int seed or JAX key; the result depends on it and on `chunk`, not on the number of devices.
        steps: solver steps over unit layer time; default: enough for weak errors below 10⁻³.
        save_at: layer times to keep, each hit exactly, with 0 and 1; default: every step up to 20 steps, else tenths.
        solver: one of `covsde.solvers`; default: the architecture's own, Strang() for an MLP.
        dtype: float64 (default) or float32.
        chunk: paths solved at a time; bounds the memory.
        progress: show a bar; default: on a terminal.
        checkpoint: folder for finished chunks; an interrupted call with the same arguments resumes from it.

    Returns:
        An Ensemble with V (times, paths, m, m), status and stop_tau per path.

    Raises:
        ValueError: for a V0 that is not a covariance, or an argument out of range; the message names it.
        TypeError: for an activation without a limit of this kind.

    Source: that of the architecture; arXiv 2206.02768 for an MLP.
    """
    instance_of("architecture", architecture, AbstractArchitecture, "an architecture such as MLP(ShapedReLU(0, -1))")
    untraced("architecture", architecture)
    kind = resolve_dtype(dtype)
    V0 = check_gram(V0, kind)
    m = V0.shape[0]
    paths = positive_int("paths", paths)
    typed = typed_key(key)
    sde = architecture.limit()
    paths = 1 if sde.deterministic else paths
    solver = architecture.default_solver() if solver is None else solver
    if isinstance(solver, type) or not hasattr(solver, "check"):
        raise ValueError(
            f"solver must be one of covsde.solvers, such as {type(architecture.default_solver()).__name__}(), got "
            f"{solver!r}; for other Diffrax solvers use covsde.solvers.covariance_terms."
        )
    steps = architecture.default_steps(V0) if steps is None else positive_int("steps", steps)
    grid, every = architecture.time_grid(steps, save_at)
    solver.check(sde, m, float(np.max(np.diff(grid))), f"steps={steps}")
    refuse_zero_input(solver, V0)
    tau = grid[::every]
    entries = m * (m + 1) // 2
    if chunk is None:
        # A chunk is one set of array operations: large enough to amortise dispatch, small enough for the cache.
        numbers = entries * tau.size + step_numbers(m)
        chunk = aligned_chunk(paths, fitting(kind.itemsize * numbers, LIMIT, least=64, most=8192))
    chunk = min(positive_int("chunk", chunk), 1 if sde.deterministic else 2**31)
    settings = run_metadata(
        "limit",
        architecture,
        V0,
        key,
        label="limit",
        deterministic=sde.deterministic,
        solver=type(solver).__name__,
        solver_identity=identity(solver),
        order=solver.order(None),
        layout=layout_name(solver, sde, m, typed, kind),
        steps=len(grid) - 1,
        paths=paths,
        dtype=kind.name,
        chunk=chunk,
        save_at=tau.tolist(),
    )
    with precision(kind):
        equation = as_arrays(sde, kind)
        initial, times = jnp.asarray(V0, kind), jnp.asarray(grid, kind)

    def dispatch(chunk_key: PRNGKeyArray, size: int) -> Any:
        return solve(equation, solver, initial, chunk_key, times, paths=size, every=every)

    def finish(pending: Any) -> Arrays:
        return limit_chunk(np.asarray(pending[0]), np.asarray(pending[1]), tau, m, float(sde.ceiling))

    chunks = Chunks(dispatch, finish, PATH_AXES, typed, paths, chunk, "limit")
    return Plan(chunks, settings, kind, _ensemble(tau, m), tau.size * m * m * kind.itemsize, progress, checkpoint)


def _ensemble(tau: np.ndarray, m: int) -> Callable[[Arrays, dict[str, Any]], Ensemble]:
    def collect(found: Arrays, metadata: dict[str, Any]) -> Ensemble:
        V = to_matrices(found["entries"], m)
        return Ensemble(tau=tau, V=V, status=found["status"], stop_tau=found["stop"], metadata=metadata)

    return collect


@question
def sample_networks(
    architecture: AbstractArchitecture,
    V0: Any,
    *,
    width: int,
    draws: int = 2000,
    key: int | PRNGKeyArray = 1,
    depth: int | None = None,
    method: str = "law",
    save_at: Sequence[float | int] | None = None,
    dtype: Any = None,
    chunk: int | None = None,
    progress: bool | None = None,
    checkpoint: str | Path | None = None,
) -> Plan[Ensemble]:
    """Sample the Gram matrices of finite networks, layer by layer, from the input Gram matrix V0.

    Args:
        architecture: the same object that `simulate` takes; unshaped activations are welcome here.
        V0: input Gram matrix (m, m), symmetric positive semidefinite.
        width: neurons per layer, n.
        draws: number of independent networks.
        key: int seed or JAX key.
        depth: number of hidden layers; default round(T n).
        method: "law" samples the Gram process exactly without weights; "weights" draws Equinox networks.
        save_at: layer times to keep, rounded to layers ℓ/depth; default: tenths. 0 and 1 are always kept.
        dtype: float64 (default) or float32.
        chunk: networks sampled at a time; bounds the memory.
        progress: show a bar; default: on a terminal.
        checkpoint: folder for finished chunks; an interrupted call with the same arguments resumes from it.

    Returns:
        An Ensemble with tau = ℓ/depth and V (times, draws, m, m); networks whose entries overflow carry a status.

    Raises:
        ValueError: for a V0 that is not a covariance, width < m with method="law", or an argument out of range.
    """
    instance_of("architecture", architecture, AbstractArchitecture, "an architecture such as MLP(ShapedReLU(0, -1))")
    untraced("architecture", architecture)
    kind = resolve_dtype(dtype)
    V0 = check_gram(V0, kind)
    m = V0.shape[0]
    width, draws = positive_int("width", width), positive_int("draws", draws)
    depth = architecture.network_depth(width, depth)
    typed = typed_key(key)
    layers, tau = saved_layers(save_at, depth, 10)
    largest = architecture.network_chunk(m, width, depth, kind.itemsize)
    if chunk is None:
        # Real weights take long: in a tenth of them at a time, so that one sees how long.
        most = max(16, -(-draws // 10)) if method == "weights" else draws
        chunk = min(draws, most, largest)
    chunk = positive_int("chunk", chunk)
    settings = run_metadata(
        "network",
        architecture,
        V0,
        key,
        label=f"networks, width {width}",
        width=width,
        depth=depth,
        method=method,
        paths=draws,
        dtype=kind.name,
        chunk=chunk,
        save_at=tau.tolist(),
    )
    with precision(kind):
        initial, network = jnp.asarray(V0, kind), with_slopes_as_arrays(architecture, kind)

    def dispatch(chunk_key: PRNGKeyArray, size: int) -> Any:
        shape = {"method": method, "width": width, "depth": depth, "draws": size, "save": layers}
        return compiled(network.sample_grams, initial, chunk_key, **shape)

    chunks = Chunks(dispatch, _network_chunk(tau, m), PATH_AXES, typed, draws, chunk, f"width {width}")
    return Plan(chunks, settings, kind, _ensemble(tau, m), tau.size * m * m * kind.itemsize, progress, checkpoint)


def _network_chunk(tau: np.ndarray, m: int) -> Callable[[Any], Arrays]:
    def finish(V: Any) -> Arrays:
        rows, columns = np.tril_indices(m)
        entries = np.moveaxis(np.asarray(V)[:, :, rows, columns], 1, 2)
        finite = np.all(np.isfinite(entries), axis=1)
        bad = ~np.all(finite, axis=0)
        stop = np.where(bad, tau[np.maximum(np.argmin(finite, axis=0) - 1, 0)], 1.0)
        status = np.where(bad, PathStatus.NOT_FINITE, PathStatus.FINE).astype(np.int8)
        return {"entries": np.where(finite[:, None], entries, np.nan), "status": status, "stop": stop}

    return finish
