"""Arguments checked once, with sentences that name the argument and the remedy."""

import math
import numbers
from typing import Any

import jax
import numpy as np


def finite_number(name: str, value: Any) -> float:
    """`value` as a finite float."""
    scalar = isinstance(value, numbers.Real) or (isinstance(value, np.ndarray | jax.Array) and value.ndim == 0)
    if not scalar:
        raise ValueError(f"{name} must be a finite number, got {value!r}.")
    if not _finite(value):
        raise ValueError(f"{name} must be a finite number, got {_short(value)}.")
    return float(value)


def _finite(value: Any) -> bool:
    try:
        return math.isfinite(value)
    except (OverflowError, TypeError, ValueError):  # an integer beyond floating point, an array of no number
        return False


def _short(value: Any) -> str:
    text = str(value) if isinstance(value, numbers.Real) else repr(value)
    return text if len(text) <= 40 else f"{text[:20]}…"


def positive_int(name: str, value: Any, *, least: int = 1) -> int:
    """`value` as an int ≥ least."""
    real = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not real or not _finite(value) or int(value) != value or value < least:
        raise ValueError(f"{name} must be an integer >= {least}, got {_short(value)}.")
    if value >= 2**31:
        raise ValueError(f"{name} must be below 2**31, got {_short(value)}.")
    return int(value)


def instance_of(name: str, value: Any, kind: type, example: str) -> None:
    """Refuse a value of another type, naming an example of the right one."""
    if not isinstance(value, kind):
        raise ValueError(f"{name} must be {example}, got {value!r}.")


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


def is_traced(values: Any) -> bool:
    """Whether values are being traced by a JAX transformation, so that they cannot be checked as numbers."""
    return any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(values))
