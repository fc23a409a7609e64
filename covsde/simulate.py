"""The ensemble driver: keys, chunks, progress, checkpoints and path status, for limits and for networks."""

import dataclasses
import hashlib
import itertools
import json
import platform
import sys
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray

from covsde._check import instance_of, positive_int, recorded_key, typed_key
from covsde._files import atomic_write
from covsde.architectures import AbstractArchitecture
from covsde.ensemble import Ensemble
from covsde.inputs import check_gram
from covsde.solvers import solve
from covsde.solvers.ensemble import as_arrays
from covsde.status import PathStatus

# Entries (times, m(m+1)/2, paths) and status (paths,), stop (paths,) of one chunk.
Chunk = tuple[np.ndarray, np.ndarray, np.ndarray]


def versions() -> dict[str, str]:
    """Versions that decide a result, for metadata and `covsde doctor`."""
    import importlib.metadata

    names = ("covsde", "jax", "jaxlib", "diffrax", "equinox", "numpy")
    found = {}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return {"python": platform.python_version(), **found}


def _dtype(dtype: Any) -> np.dtype:
    try:
        resolved = np.dtype(np.float64 if dtype is None else dtype)
    except TypeError as error:
        raise ValueError(f"dtype must be float32 or float64, got {dtype!r}.") from error
    if resolved not in (np.dtype(np.float32), np.dtype(np.float64)):
        raise ValueError(f"dtype must be float32 or float64, got {resolved}.")
    return resolved


def _save_times(save_at: Sequence[float | int]) -> np.ndarray:
    try:
        times = np.unique(np.asarray(save_at, np.float64).ravel())
    except (TypeError, ValueError) as error:
        raise ValueError("save_at must hold layer times in [0, 1], e.g. [0, 0.5, 1].") from error
    if times.size == 0 or not np.all(np.isfinite(times)) or times[0] < 0 or times[-1] > 1:
        raise ValueError("save_at must hold layer times in [0, 1], e.g. [0, 0.5, 1].")
    return np.union1d(times, [0.0, 1.0])


def time_grid(steps: int, save_at: Sequence[float | int] | None) -> tuple[np.ndarray, int]:
    """Solver grid on [0, 1] and how many steps lie between two saves.

    Args:
        steps: least number of steps over unit layer time.
        save_at: layer times to save, or None: every step up to 20 steps, else tenths.

    Returns:
        Increasing grid from 0 to 1, float64, and `every`: saves happen at grid[::every].
    """
    if save_at is None:
        if steps <= 20:
            return np.linspace(0, 1, steps + 1), 1
        save_at = np.linspace(0, 1, 11).tolist()
    times = _save_times(save_at)
    every = int(np.ceil(np.max(np.diff(times)) * steps - 1e-9))
    pieces = [np.linspace(a, b, every + 1)[:-1] for a, b in itertools.pairwise(times)]
    return np.concatenate([*pieces, [1.0]]), every


def _progress(chunks: int, show: bool | None, label: str) -> Callable[[Iterator[int]], Iterator[int]]:
    if show is None:
        show = chunks > 1 and sys.stderr.isatty()
    if not show:
        return lambda items: items
    try:
        from tqdm import tqdm
    except ImportError as error:
        raise ImportError('progress=True needs tqdm: pip install "covsde[plot]".') from error
    return lambda items: tqdm(items, total=chunks, desc=label, delay=1.0, leave=False)


def _run_chunks(
    dispatch: Callable[[PRNGKeyArray, int], Any],
    finish: Callable[[Any], Chunk],
    *,
    key: PRNGKeyArray,
    total: int,
    chunk: int,
    progress: bool | None,
    label: str,
    checkpoint: str | Path | None,
    fingerprint: dict[str, Any],
) -> Chunk:
    # Chunk c always uses fold_in(key, c) and its full size, so a result depends on neither the machine nor on
    # how often it was interrupted; surplus paths of the last chunk are cut. JAX computes a dispatched chunk while the
    # one before it is brought to its final form here.
    chunks = -(-total // chunk)
    folder = None if checkpoint is None else _checkpoint_folder(Path(checkpoint), fingerprint)
    parts: list[Chunk] = []
    running: list[tuple[Any, Path | None]] = []

    def collect() -> None:
        for pending, file in running:
            part = finish(pending)
            if file is not None:
                with atomic_write(file) as temporary:
                    np.savez(temporary, entries=part[0], status=part[1], stop=part[2])
            parts.append(part)
        running.clear()

    for c in _progress(chunks, progress, label)(iter(range(chunks))):
        file = None if folder is None else folder / f"chunk-{c:06d}.npz"
        if file is not None and file.exists():
            try:
                with np.load(file, allow_pickle=False) as stored:
                    part = (stored["entries"], stored["status"], stored["stop"])
                collect()
                parts.append(part)
                continue
            except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
                pass  # a damaged chunk is computed again
        ahead = dispatch(jax.random.fold_in(key, c), chunk)
        collect()
        running.append((ahead, file))
    collect()
    entries = np.concatenate([p[0] for p in parts], axis=-1)[..., :total]
    status = np.concatenate([p[1] for p in parts])[:total]
    stop = np.concatenate([p[2] for p in parts])[:total]
    return entries, status, stop


def _checkpoint_folder(folder: Path, fingerprint: dict[str, Any]) -> Path:
    text = json.dumps(fingerprint, sort_keys=True, default=str)
    identity = hashlib.sha256(text.encode()).hexdigest()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"checkpoint={str(folder)!r} cannot be made a folder: choose another path.") from error
    marker = folder / "run.json"
    if marker.exists():
        try:
            found = json.loads(marker.read_text()).get("identity")
        except (OSError, ValueError, AttributeError):
            found = None
        if found != identity:
            raise ValueError(
                f"checkpoint={str(folder)!r} belongs to a run with other settings: use a new folder or delete it."
            )
    else:
        with atomic_write(marker) as temporary:
            Path(temporary).write_text(json.dumps({"identity": identity, "settings": json.loads(text)}, indent=1))
    return folder


def _to_matrices(entries: np.ndarray, m: int) -> np.ndarray:
    rows, columns = np.tril_indices(m)
    V = np.empty((entries.shape[0], entries.shape[2], m, m), entries.dtype)
    for k, (i, j) in enumerate(zip(rows, columns, strict=True)):
        V[:, :, i, j] = V[:, :, j, i] = entries[:, k]
    return V


def _limit_chunk(entries: np.ndarray, clock: np.ndarray, tau: np.ndarray, m: int, ceiling: float) -> Chunk:
    # Variances are watched at every step, covariances here: a path ends at its last save without a NaN.
    clean = np.all(~np.isnan(entries), axis=1) | (tau[:, None] > clock[None] + 1e-5)
    broken = ~np.all(clean, axis=0)
    last_clean = tau[np.maximum(np.argmin(clean, axis=0) - 1, 0)]
    clock = np.where(broken, np.minimum(clock, last_clean), clock)
    stopped = clock < 1 - 1e-5
    if not np.any(stopped):
        return entries, np.full(clock.shape, PathStatus.FINE, np.int8), np.ones(clock.shape)
    diagonal = np.array([i == j for i, j in zip(*np.tril_indices(m), strict=True)])
    final = entries[-1]
    with np.errstate(invalid="ignore"):
        blown = np.isposinf(final[diagonal]) | (final[diagonal] > ceiling)
    exploded = stopped & np.any(blown, axis=0) & np.isfinite(ceiling)
    broken = stopped & ~exploded & ~np.all(np.isfinite(final[diagonal]), axis=0)
    status = np.full(clock.shape, PathStatus.FINE, np.int8)
    status[stopped] = PathStatus.LOST_PSD
    status[exploded] = PathStatus.EXPLODED
    status[broken] = PathStatus.NOT_FINITE
    # The clock adds up steps in the dtype of the run: bring it back to the saved layer time it means.
    nearest = tau[np.argmin(np.abs(tau[:, None] - clock[None]), axis=0)]
    clock = np.where(np.abs(nearest - clock) < 1e-5, nearest, clock.astype(np.float64))
    stop = np.where(stopped, clock, 1.0)
    after = (tau[:, None] > stop[None])[:, None, :]
    known = np.full(entries.shape, np.nan, entries.dtype)
    infinite = np.zeros(final.shape, bool)
    infinite[diagonal] = blown & exploded
    known[:, infinite] = np.inf
    return np.where(after, known, entries), status, stop


def _metadata(
    kind: str, architecture: AbstractArchitecture, V0: np.ndarray, seed: int | list[int], **more: Any
) -> dict:
    return {
        "kind": kind,
        "architecture": describe(architecture),
        "depth_to_width": architecture.depth_to_width,
        "V0": V0.tolist(),
        "seed": seed,
        "versions": versions(),
        "platform": f"{jax.default_backend()} {platform.machine()}",
        **more,
    }


def describe(module: eqx.Module) -> str:
    """One line that names a module and its hyperparameters, e.g. MLP(ShapedReLU(0.5, -0.5), depth_to_width=1)."""
    if callable(getattr(module, "fn", None)):
        fn = module.fn  # type: ignore[attr-defined]
        name = getattr(fn, "__name__", repr(fn))
        critical = module.exponent == 0.5  # type: ignore[attr-defined]
        more = "" if critical else f", exponent={module.exponent:g}"  # type: ignore[attr-defined]
        return f"{type(module).__name__}({name}, a={module.a:g}{more})"  # type: ignore[attr-defined]
    parts = []
    defaults = {f.name: f.default for f in dataclasses.fields(module)}
    for name, value in vars(module).items():
        if value is None or (not isinstance(value, eqx.Module) and not callable(value) and value == defaults[name]):
            continue
        if isinstance(value, eqx.Module):
            parts.append(describe(value))
        elif callable(value):
            parts.append(str(getattr(value, "__name__", value)))
        elif isinstance(value, float):
            parts.append(f"{name}={value:g}")
        else:
            parts.append(f"{name}={value}")
    return f"{type(module).__name__}({', '.join(parts)})"


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
) -> Ensemble:
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
        progress: show a bar; default: on a terminal, when there is more than one chunk.
        checkpoint: folder for finished chunks; an interrupted call with the same arguments resumes from it.

    Returns:
        An Ensemble with V (times, paths, m, m), status and stop_tau per path.

    Raises:
        ValueError: for a V0 that is not a covariance, or an argument out of range; the message names it.
        TypeError: for an activation without a limit of this kind.
    """
    instance_of("architecture", architecture, AbstractArchitecture, "an architecture such as MLP(ShapedReLU(0, -1))")
    V0 = check_gram(V0)
    m = V0.shape[0]
    paths = positive_int("paths", paths)
    kind = _dtype(dtype)
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
    grid, every = time_grid(steps, save_at)
    solver.check(sde, m, float(np.max(np.diff(grid))), f"steps={steps}")
    tau = grid[::every]
    if chunk is None:
        # A chunk is one set of array operations: large enough to amortise dispatch, small enough for the cache.
        # Multiples of 64 that divide the paths evenly: little is in vain, and similar runs share a compilation.
        most = max(64, min(8192, 2**27 // (kind.itemsize * (m * (m + 1) // 2) * tau.size)))
        chunk = 64 * -(-paths // (64 * -(-paths // most)))
    chunk = 1 if sde.deterministic else positive_int("chunk", chunk)
    start = time.perf_counter()
    settings = _metadata(
        "limit",
        architecture,
        V0,
        recorded_key(key),
        label="limit",
        deterministic=sde.deterministic,
        solver=type(solver).__name__,
        order=solver.order(None),
        steps=len(grid) - 1,
        paths=paths,
        dtype=kind.name,
        chunk=chunk,
        save_at=tau.tolist(),
    )
    with jax.enable_x64(kind == np.float64):
        equation = as_arrays(sde, kind)
        initial, times = jnp.asarray(V0, kind), jnp.asarray(grid, kind)

        def dispatch(chunk_key: PRNGKeyArray, size: int) -> Any:
            return solve(equation, solver, initial, chunk_key, times, paths=size, every=every)

        def finish(pending: Any) -> Chunk:
            return _limit_chunk(np.asarray(pending[0]), np.asarray(pending[1]), tau, m, float(sde.ceiling))

        entries, status, stop = _run_chunks(
            dispatch,
            finish,
            key=typed,
            total=paths,
            chunk=chunk,
            progress=progress,
            label="limit",
            checkpoint=checkpoint,
            fingerprint=settings,
        )
    settings["seconds"] = time.perf_counter() - start
    return Ensemble(tau=tau, V=_to_matrices(entries, m), status=status, stop_tau=stop, metadata=settings)


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
) -> Ensemble:
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
        progress: show a bar; default: on a terminal, when there is more than one chunk.
        checkpoint: folder for finished chunks; an interrupted call with the same arguments resumes from it.

    Returns:
        An Ensemble with tau = ℓ/depth and V (times, draws, m, m); networks whose entries overflow carry a status.

    Raises:
        ValueError: for a V0 that is not a covariance, width < m with method="law", or an argument out of range.
    """
    instance_of("architecture", architecture, AbstractArchitecture, "an architecture such as MLP(ShapedReLU(0, -1))")
    V0 = check_gram(V0)
    m = V0.shape[0]
    width, draws = positive_int("width", width), positive_int("draws", draws)
    depth = architecture.depth(width) if depth is None else positive_int("depth", depth)
    kind = _dtype(dtype)
    typed = typed_key(key)
    times = _save_times(np.linspace(0, 1, 11).tolist() if save_at is None else save_at)
    layers = tuple(sorted({round(float(t) * depth) for t in times}))
    tau = np.asarray(layers) / depth
    if chunk is None:
        chunk = min(draws, architecture.network_chunk(m, width, depth, kind.itemsize))
    chunk = positive_int("chunk", chunk)
    start = time.perf_counter()
    settings = _metadata(
        "network",
        architecture,
        V0,
        recorded_key(key),
        label=f"networks, width {width}",
        width=width,
        depth=depth,
        method=method,
        paths=draws,
        dtype=kind.name,
        chunk=chunk,
        save_at=tau.tolist(),
    )
    with jax.enable_x64(kind == np.float64):
        initial = jnp.asarray(V0, kind)
        sampler = eqx.filter_jit(architecture.sample_grams)

        def dispatch(chunk_key: PRNGKeyArray, size: int) -> Any:
            return sampler(initial, chunk_key, method=method, width=width, depth=depth, draws=size, save=layers)

        def finish(V: Any) -> Chunk:
            rows, columns = np.tril_indices(m)
            entries = np.moveaxis(np.asarray(V)[:, :, rows, columns], 1, 2)
            finite = np.all(np.isfinite(entries), axis=1)
            bad = ~np.all(finite, axis=0)
            first_bad = np.argmin(finite, axis=0)
            stop = np.where(bad, tau[np.maximum(first_bad - 1, 0)], 1.0)
            status = np.where(bad, PathStatus.NOT_FINITE, PathStatus.FINE).astype(np.int8)
            return np.where(finite[:, None], entries, np.nan), status, stop

        entries, status, stop = _run_chunks(
            dispatch,
            finish,
            key=typed,
            total=draws,
            chunk=chunk,
            progress=progress,
            label=f"width {width}",
            checkpoint=checkpoint,
            fingerprint=settings,
        )
    settings["seconds"] = time.perf_counter() - start
    return Ensemble(tau=tau, V=_to_matrices(entries, m), status=status, stop_tau=stop, metadata=settings)
