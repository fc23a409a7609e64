"""How features and gradients move in training, and how features align with targets: see `Training`."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def gradient_movement(run: Any, update: int, datum: int) -> NDArray[Any]:
    """See `Training.gradient_movement`."""
    a, b = run.label(update, datum), run.label(0, datum)
    if run.targets.ndim > 1 and run.targets.shape[1] > 1:
        if run.G_outputs is None:
            raise ValueError("gradient_movement of several outputs needs those of each: train with kernels='outputs'.")
        X = np.einsum("...acbc->...ab", run.G_outputs[..., [a, b], :, :, :][..., [a, b], :])
        return np.asarray(X[..., 0, 0] + X[..., 1, 1] - 2 * X[..., 0, 1])
    X = run.G
    return np.asarray(X[..., a, a] + X[..., b, b] - 2 * X[..., a, b])


def movement_per_step(run: Any) -> NDArray[Any]:
    """See `Training.movement_per_step`."""
    if "steps" not in run.metadata:
        raise ValueError("movement_per_step is for limits in continuous layer time: networks have layers.")
    V0 = np.diagonal(np.asarray(run.metadata["V0"], np.float64))
    size = np.where(V0 > 0, V0, 1.0)
    # The distance from the start changes by no more than features move.
    moved = [[run.movement(k, int(p)) / size[p] for p in run.trained] for k in range(run.updates + 1)]
    distance = np.sqrt(np.maximum(np.asarray(moved).max(axis=2), 0)) if moved[0] else np.zeros((1, 1, run.paths))
    found = np.abs(np.diff(np.nan_to_num(distance), axis=0)) * np.isfinite(distance[1:])
    return np.asarray(found.max(axis=(0, 1), initial=0.0) / run.metadata["steps"])


def alignment(run: Any, update: int) -> NDArray[Any]:
    """See `Training.alignment`."""
    chosen = np.flatnonzero(run.labels[:, 0] == update % (run.updates + 1))
    if run.Phi.shape[-1] == 0:
        raise ValueError("kernels of labels were not kept: train with kernels=True.")
    if chosen.size == 0:
        raise ValueError(f"update must be one with a batch, got {update}: see labels.")
    y = run.targets[run.labels[chosen, 1]].reshape(chosen.size, -1)
    X = getattr(run, run.features)[..., chosen[:, None], chosen]
    signal = np.einsum("ac,...ab,bc->...", y, X, y)
    return np.asarray(signal / np.sum(y**2) / np.trace(X, axis1=-2, axis2=-1))
