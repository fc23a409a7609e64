"""Chunks of paths, side by side and the same bits as one after the other, with progress and checkpoints."""

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import PRNGKeyArray

from covsde.numerics.keys import generator
from covsde.results.files import atomic_write
from covsde.run.checkpoint import Arrays, _checkpoint_folder, _chunk_file, _stored_chunks

# At a time.
_MOST_CHUNKS = 4


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
