"""Grids of layer time: solver steps that hit the layer times to save, and layers nearest to them."""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

_ROUNDING, _CLOSEST = 1e-12, 1e-6


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
    times = np.union1d(times, [0.0, 1.0])
    # What differs by rounding is one time, and 1 is 1.
    kept = np.append(0.0, times[1:][np.diff(times) > _ROUNDING])
    kept[-1] = 1.0
    close = np.flatnonzero(np.diff(kept) < _CLOSEST)
    if close.size:
        a, b = kept[close[0]], kept[close[0] + 1]
        raise ValueError(
            f"save_at holds {float(a)!r} and {float(b)!r}, which are too close to be stepped apart: keep one of them."
        )
    return kept


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
