"""Arguments checked once, with sentences that name the argument and the remedy."""

import math
import numbers
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from covsde.numerics.tracing import is_traced
from covsde.numerics.typing import Hyperparameter


def finite_number(name: str, value: Any) -> float:
    """`value` as a finite float."""
    scalar = isinstance(value, numbers.Real) or (isinstance(value, np.ndarray | jax.Array) and value.ndim == 0)
    if not scalar or np.asarray(value).dtype == bool:
        raise ValueError(f"{name} must be a finite number, got {one_line(value)}.")
    if not _finite(value):
        raise ValueError(f"{name} must be a finite number, got {_short(value)}.")
    return float(value)


def hyperparameter(
    name: str, value: Any, allowed: Callable[[float], bool] = math.isfinite, otherwise: str = "must be a finite number"
) -> Hyperparameter:
    """A finite float that is allowed; inside a JAX transformation the traced scalar itself, whose value nobody knows.

    Args:
        name: the argument.
        value: what was passed for it.
        allowed: whether a finite number is in range.
        otherwise: what the error says after the name of the argument, with "{}" for the value.
    """
    if is_traced(value):
        if value.shape != ():
            raise ValueError(f"{name} must be a single number, got an array of shape {value.shape}: use jax.vmap.")
        return value if jnp.issubdtype(value.dtype, jnp.floating) else value.astype(jnp.result_type(float))
    number = finite_number(name, value)
    if not allowed(number):
        raise ValueError(f"{name} {otherwise.format(value)}")
    return number


def _finite(value: Any) -> bool:
    try:
        return math.isfinite(value)
    except (OverflowError, TypeError, ValueError):  # an integer beyond floating point, an array of no number
        return False


def one_line(value: Any, most: int = 80) -> str:
    """A value in an error: short, and on one line."""
    text = " ".join((str(value) if isinstance(value, numbers.Real) else repr(value)).split())
    return text if len(text) <= most else f"{text[: most // 2]}…"


def _short(value: Any) -> str:
    return one_line(value, 40)


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
        raise ValueError(f"{name} must be {example}, got {one_line(value)}.")


def untraced(name: str, value: Any) -> None:
    """Refuse what JAX traces, with what can be traced.

    Raises:
        ValueError: if it does.
    """
    if is_traced(value):
        raise ValueError(
            f"{name} is traced by JAX (jit, grad or vmap), and this function checks numbers and counts paths: call it "
            "outside, or trace covsde.solve(architecture.limit(), V0, key, paths=…), which is a pure function."
        )


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


def checked_switch(name: str, value: Any) -> bool:
    """`value` as a bool.

    Raises:
        ValueError: for anything else.
    """
    if not isinstance(value, bool | np.bool_):
        raise ValueError(f"{name} must be True or False, got {one_line(value)}.")
    return bool(value)
