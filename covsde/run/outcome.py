"""What a solver returned, as matrices with a status per path."""

import numpy as np

from covsde.results.status import PathStatus
from covsde.run.checkpoint import Arrays


def to_matrices(entries: np.ndarray, m: int) -> np.ndarray:
    """Symmetric matrices (times, paths, m, m) from their lower triangles (times, m(m+1)/2, paths)."""
    rows, columns = np.tril_indices(m)
    V = np.empty((entries.shape[0], entries.shape[2], m, m), entries.dtype)
    for k, (i, j) in enumerate(zip(rows, columns, strict=True)):
        V[:, :, i, j] = V[:, :, j, i] = entries[:, k]
    return V


def limit_chunk(entries: np.ndarray, clock: np.ndarray, tau: np.ndarray, m: int, ceiling: float) -> Arrays:
    """What `solve` returned, with the status of every path and NaN or +∞ after it stopped."""
    # Variances are watched at every step, covariances here: a path ends at its last save without a NaN.
    clean = np.all(~np.isnan(entries), axis=1) | (tau[:, None] > clock[None] + 1e-5)
    broken = ~np.all(clean, axis=0)
    last_clean = tau[np.maximum(np.argmin(clean, axis=0) - 1, 0)]
    clock = np.where(broken, np.minimum(clock, last_clean), clock)
    stopped = clock < 1 - 1e-5
    if not np.any(stopped):
        return {
            "entries": entries,
            "status": np.full(clock.shape, PathStatus.FINE, np.int8),
            "stop": np.ones(clock.shape),
        }
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
    return {"entries": np.where(after, known, entries), "status": status, "stop": stop}
