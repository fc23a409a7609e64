"""Arguments checked once, with sentences that name the argument and the remedy."""

import math
import numbers
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array


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


def typed_key(key: Any) -> Array:
    """A JAX key, from an int seed or a key."""
    if isinstance(key, int | np.integer) and key is not True and key is not False:
        seed = int(key)
        if not -(2**63) <= seed < 2**63:
            raise ValueError(f"key must fit in 64 bits, got {seed}: use a smaller seed.")
        with jax.enable_x64(True):  # otherwise JAX drops all but 32 bits
            return jax.random.key(seed)
    if not isinstance(key, jax.Array):
        raise ValueError(f"key must be an integer seed or a JAX key, got {key!r}.")
    if not jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        try:
            key = jax.random.wrap_key_data(key)
        except (TypeError, ValueError) as error:
            raise ValueError("key must be an integer seed or a JAX key such as jax.random.key(0).") from error
    if key.shape != ():
        raise ValueError("key must be a single JAX key: take one of jax.random.split(key).")
    return key


def recorded_key(key: Any) -> int | list[int]:
    """The integers that stand for a seed or key in metadata."""
    if isinstance(key, int | np.integer):
        return int(key)
    return [int(word) for word in np.asarray(jax.random.key_data(typed_key(key))).ravel()]


def instance_of(name: str, value: Any, kind: type, example: str) -> None:
    """Refuse a value of another type, naming an example of the right one."""
    if not isinstance(value, kind):
        raise ValueError(f"{name} must be {example}, got {value!r}.")
