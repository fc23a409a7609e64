"""What every run shares: keys and chunks, progress, checkpoints, the grid of layer times, metadata."""

import dataclasses
import functools
import hashlib
import itertools
import json
import os
import platform
import sys
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jaxtyping import PRNGKeyArray
from numpy.typing import NDArray

from covsde._files import atomic_write
from covsde._keys import generator, recorded_generator, recorded_key

Arrays = dict[str, NDArray[Any]]

# At a time.
_MOST_CHUNKS = 4


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


def resolve_dtype(dtype: Any) -> np.dtype:
    """float32 or float64 (the default).

    Raises:
        ValueError: for anything else.
    """
    try:
        resolved = np.dtype(np.float64 if dtype is None else dtype)
    except TypeError as error:
        raise ValueError(f"dtype must be float32 or float64, got {dtype!r}.") from error
    if resolved not in (np.dtype(np.float32), np.dtype(np.float64)):
        raise ValueError(f"dtype must be float32 or float64, got {resolved}.")
    return resolved


def save_times(save_at: Any) -> np.ndarray:
    """Increasing layer times, 0 and 1 among them.

    Raises:
        ValueError: if they are not numbers in [0, 1].
    """
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
    times = save_times(save_at)
    every = int(np.ceil(np.max(np.diff(times)) * steps - 1e-9))
    pieces = [np.linspace(a, b, every + 1)[:-1] for a, b in itertools.pairwise(times)]
    return np.concatenate([*pieces, [1.0]]), every


def saved_layers(save_at: Any, depth: int, default: int) -> tuple[tuple[int, ...], NDArray[np.float64]]:
    """Layers nearest to the layer times to keep, and their own layer times ℓ/depth; default: `default` equal parts."""
    times = save_times(np.linspace(0, 1, default + 1).tolist() if save_at is None else save_at)
    layers = tuple(sorted({round(float(t) * depth) for t in times}))
    return layers, np.asarray(layers) / depth


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


def even_chunk(total: int, largest: int) -> int:
    """Paths per chunk when none should be larger: equal chunks, so that few paths are computed to be cut.

    Of many paths a multiple of 16, for which vector units have no remainder.
    """
    even = -(-total // -(-total // largest))
    return even if even < 32 else min(total, -(-even // 16) * 16)


def run_chunks(
    dispatch: Callable[[PRNGKeyArray, int], Any],
    finish: Callable[[Any], Arrays],
    *,
    axes: Mapping[str, int],
    key: PRNGKeyArray,
    total: int,
    chunk: int,
    progress: bool | None,
    label: str,
    checkpoint: str | Path | None,
    fingerprint: dict[str, Any],
) -> Arrays:
    """Run paths chunk by chunk, a few chunks side by side, with progress and checkpoints.

    Chunk c always uses fold_in(key, c) and its full size, so a result depends on neither the machine nor on how often
    it was interrupted; surplus paths of the last chunk are cut.

    Args:
        dispatch: starts a chunk, from its key and size.
        finish: brings what `dispatch` returned to named NumPy arrays.
        axes: the axis of paths of each of those arrays.
        key: JAX key of the run.
        total: paths wanted.
        chunk: paths per chunk.
        progress: show a bar; None: on a terminal, when there is more than one chunk.
        label: what the bar says.
        checkpoint: folder for finished chunks, or None.
        fingerprint: settings that decide the result; a folder with others is refused.

    Returns:
        The arrays of all chunks, `total` paths long.
    """
    chunks = -(-total // chunk)
    folder = None if checkpoint is None else _checkpoint_folder(Path(checkpoint), fingerprint)
    # JAX keeps these per thread.
    double, device = jax.config.jax_enable_x64, jax.config.jax_default_device  # type: ignore[attr-defined]
    precision = jax.config.jax_default_matmul_precision  # type: ignore[attr-defined]

    def start(c: int) -> Any:
        with generator():
            return dispatch(jax.random.fold_in(key, c), chunk)

    def complete(c: int, pending: Any = None) -> Arrays:
        with jax.enable_x64(double), jax.default_device(device), jax.default_matmul_precision(precision):
            part = finish(start(c) if pending is None else pending)
        if folder is not None:
            with atomic_write(_chunk_file(folder, c)) as temporary:
                np.savez(temporary, allow_pickle=False, **part)
        return part

    stored = {} if folder is None else _stored_chunks(folder, chunks, chunk, axes)
    missing = [c for c in range(chunks) if c not in stored]
    pool = ThreadPoolExecutor(max_workers=side_by_side())
    try:
        # The first call compiles, before the others could do it again.
        running = {c: pool.submit(complete, c, start(c)) for c in missing[:1]}
        running |= {c: pool.submit(complete, c) for c in missing[1:]}
        numbers = _progress(chunks, progress, label)(iter(range(chunks)))
        parts = [stored[c] if c in stored else running[c].result() for c in numbers]
    finally:
        # After an error or an interruption: chunks that run are waited for and kept, others never start.
        pool.shutdown(cancel_futures=True)
    whole = {name: np.concatenate([part[name] for part in parts], axis=axis) for name, axis in axes.items()}
    return {name: x[(slice(None),) * (axes[name] % x.ndim) + (slice(total),)] for name, x in whole.items()}


def side_by_side() -> int:
    """How many chunks to compute at a time.

    XLA runs the small operations of a scan on one core of a CPU, so chunks share the cores, up to a bound on memory; an
    accelerator computes one while another is brought to its final form.
    """
    if jax.default_backend() != "cpu":
        return 2
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(_MOST_CHUNKS, cores)


def _chunk_file(folder: Path, c: int) -> Path:
    return folder / f"chunk-{c:06d}.npz"


def _stored_chunks(folder: Path, chunks: int, chunk: int, axes: Mapping[str, int]) -> dict[int, Arrays]:
    """The finished chunks of an interrupted run; a damaged one is computed again."""
    found = {}
    for c in range(chunks):
        try:
            # Opened here because np.load leaves a damaged file open.
            with _chunk_file(folder, c).open("rb") as raw, np.load(raw, allow_pickle=False) as stored:
                part = {name: stored[name] for name in axes}
        except Exception:  # a damaged archive can fail in any way
            continue
        if all(x.ndim and x.shape[axes[name] % x.ndim] == chunk for name, x in part.items()):
            found[c] = part
    return found


def _checkpoint_folder(folder: Path, fingerprint: dict[str, Any]) -> Path:
    text = json.dumps(fingerprint, sort_keys=True, default=str)
    identity = hashlib.sha256(text.encode()).hexdigest()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"checkpoint={str(folder)!r} cannot be made a folder: choose another path.") from error
    marker = folder / "run.json"
    if not marker.exists() and any(folder.glob("chunk-*.npz")):
        raise ValueError(
            f"checkpoint={str(folder)!r} holds parts of a run but not its settings, run.json: use a new folder."
        )
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


def run_metadata(kind: str, architecture: Any, V0: np.ndarray, key: Any, **more: Any) -> dict[str, Any]:
    """What decides a result of an architecture with `depth_to_width`, and where it was computed."""
    return {
        "kind": kind,
        "architecture": describe(architecture),
        "identity": identity(architecture),
        "depth_to_width": architecture.depth_to_width,
        "V0": V0.tolist(),
        "seed": recorded_key(key),
        "generator": recorded_generator(key),
        "versions": versions(),
        "platform": f"{jax.default_backend()} {platform.machine()}",
        **more,
    }


def identity(value: Any) -> str:
    """A digest that tells hyperparameters apart to the last digit, and functions by their code."""
    return hashlib.sha256(repr(_exact(value, 6)).encode()).hexdigest()[:16]


def _exact(value: Any, depth: int) -> Any:
    """Something whose repr is the same in every process, and differs where `value` does."""
    if depth == 0:
        return type(value).__qualname__
    if isinstance(value, eqx.Module):
        fields = [(f.name, _exact(getattr(value, f.name), depth - 1)) for f in dataclasses.fields(value)]
        return (type(value).__qualname__, fields)
    if isinstance(value, jax.Array | np.ndarray | np.generic):
        return np.asarray(value).tolist()
    if isinstance(value, tuple | list):
        return [_exact(x, depth - 1) for x in value]
    if isinstance(value, types.CodeType):
        return (value.co_code.hex(), value.co_names, _exact(value.co_consts, depth - 1))
    if isinstance(value, types.FunctionType):
        cells = [cell.cell_contents for cell in value.__closure__ or ()]
        inside = (value.__code__, value.__defaults__ or (), cells)
        return (value.__module__, value.__qualname__, [_exact(x, depth - 1) for x in inside])
    if isinstance(value, functools.partial):
        return _exact((value.func, value.args, sorted(value.keywords.items())), depth)
    if isinstance(value, types.MethodType):
        return [_exact(x, depth - 1) for x in (value.__func__, value.__self__)]
    if callable(value):
        # What jax.jit returns has the name of what it was given, and the code inside.
        names = (type(value).__qualname__, getattr(value, "__module__", ""), getattr(value, "__qualname__", ""))
        inside = getattr(value, "__wrapped__", None)
        return names if inside is None else (*names, _exact(inside, depth - 1))
    return value if isinstance(value, str | bytes | int | float | complex | None) else type(value).__qualname__


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
