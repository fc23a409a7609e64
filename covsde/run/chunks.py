"""Chunks of paths, side by side and the same bits as one after the other, with progress and checkpoints."""

import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jaxtyping import PRNGKeyArray

from covsde.numerics.keys import generator
from covsde.run.checkpoint import Arrays, checkpoint_folder, identity_of, store_chunk, stored_chunks
from covsde.run.progress import shown

# At a time.
_MOST_CHUNKS = 4


@dataclass(frozen=True, eq=False)
class Chunks:
    """A computation of independent paths, chunk by chunk.

    Chunk c always uses fold_in(key, c) and its full size, so a result depends on neither the machine nor on how often
    it was interrupted; surplus paths of the last chunk are cut.

    Args:
        dispatch: starts a chunk, from its key and size.
        finish: brings what `dispatch` returned to named NumPy arrays.
        axes: the axis of paths of each of those arrays.
        key: JAX key of the run.
        total: paths wanted.
        size: paths per chunk.
        label: what the progress bar says.
    """

    dispatch: Callable[[PRNGKeyArray, int], Any]
    finish: Callable[[Any], Arrays]
    axes: Mapping[str, int]
    key: PRNGKeyArray
    total: int
    size: int
    label: str

    @property
    def count(self) -> int:
        """Number of chunks."""
        return -(-self.total // self.size)

    def start(self, c: int) -> Any:
        """Start chunk c, with the library's generator."""
        with generator():
            return self.dispatch(jax.random.fold_in(self.key, c), self.size)

    @contextmanager
    def _enough(self) -> Iterator[None]:
        """Say what to lower if the memory is not enough for a chunk."""
        try:
            yield
        except (MemoryError, ValueError, jax.errors.JaxRuntimeError) as error:
            if not isinstance(error, MemoryError) and "RESOURCE_EXHAUSTED" not in str(error):
                raise
            raise MemoryError(
                f"chunk={self.size} takes more memory than there is, for {self.label!r}: pass a smaller chunk, "
                "dtype='float32', or less to keep in save_at."
            ) from error

    def run(
        self, fingerprint: dict[str, Any], progress: bool | None = None, checkpoint: str | Path | None = None
    ) -> Arrays:
        """Compute all chunks, a few side by side.

        Args:
            fingerprint: settings that decide the result; a folder of checkpoints with others is refused.
            progress: show a bar; None: on a terminal.
            checkpoint: folder for finished chunks, or None.

        Returns:
            The arrays of all chunks, `total` paths long.
        """
        identity = identity_of(fingerprint)
        folder = None if checkpoint is None else checkpoint_folder(Path(checkpoint), fingerprint)
        # JAX keeps these per thread.
        config: Any = jax.config  # some versions type its attributes, some do not
        double, device = config.jax_enable_x64, config.jax_default_device
        precision = config.jax_default_matmul_precision

        def complete(c: int, pending: Any = None) -> Arrays:
            with jax.enable_x64(double), jax.default_device(device), jax.default_matmul_precision(precision):
                part = self.finish(self.start(c) if pending is None else pending)
            if folder is not None:
                store_chunk(folder, identity, c, part)
            return part

        stored = {} if folder is None else stored_chunks(folder, identity, self.count, self.axes)
        missing = [c for c in range(self.count) if c not in stored]
        workers = side_by_side()
        pool = ThreadPoolExecutor(max_workers=workers)
        try:
            with shown(self.label, self.count, progress) as bar, self._enough():
                bar.advance(len(stored))
                # The first call compiles, before the others could do it again.
                running = {c: pool.submit(complete, c, self.start(c)) for c in missing[:1]}
                bar.computes()
                for k, c in enumerate(missing):
                    # Some ahead and not all: a run may have any number of chunks.
                    running |= {
                        later: pool.submit(complete, later)
                        for later in missing[k + 1 : k + 1 + 2 * workers]
                        if later not in running
                    }
                    stored[c] = running[c].result()
                    del running[c]
                    bar.advance(1)
        finally:
            # After an error or an interruption: chunks that run are waited for and kept, others never start.
            pool.shutdown(cancel_futures=True)
        parts = [stored[c] for c in range(self.count)]
        whole = {name: np.concatenate([part[name] for part in parts], axis=axis) for name, axis in self.axes.items()}
        return {
            name: x[(slice(None),) * (self.axes[name] % x.ndim) + (slice(self.total),)] for name, x in whole.items()
        }


def side_by_side() -> int:
    """How many chunks to compute at a time.

    XLA runs the small operations of a scan on one core of a CPU, so chunks share the cores, up to a bound on memory; an
    accelerator computes one while another is brought to its final form.
    """
    if jax.default_backend() != "cpu":
        return 2
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(_MOST_CHUNKS, cores)


@eqx.filter_jit
def compiled(call: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    """Call a method of an architecture as one compiled program, which later calls of the same sizes use again."""
    return call(*args, **kwargs)
