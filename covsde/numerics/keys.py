"""Random keys: a seed fixes a run, whatever generator JAX is set to use by default."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray

GENERATOR = "threefry2x32"
"""What keys made from an integer use: the same numbers on every device, whatever JAX_DEFAULT_PRNG_IMPL says."""

PARTITIONABLE = True
"""Whether threefry numbers the entries of an array one by one; the value of JAX_THREEFRY_PARTITIONABLE in a run."""

# Networks of a width take this plus the width on a key whose chunks are numbered from 0.
_NETWORKS = 2**31


def typed_key(key: Any) -> Array:
    """A JAX key, from an int seed or a key; a seed, and the words of a threefry key, always mean this generator."""
    if isinstance(key, int | np.integer) and key is not True and key is not False:
        seed = int(key)
        if not -(2**63) <= seed < 2**63:
            raise ValueError(f"key must fit in 64 bits, got {seed}: use a smaller seed.")
        with jax.enable_x64(True):  # otherwise JAX drops all but 32 bits
            return jax.random.key(seed, impl=GENERATOR)
    if not isinstance(key, jax.Array):
        raise ValueError(f"key must be an integer seed or a JAX key, got {key!r}.")
    if not jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        try:
            key = jax.random.wrap_key_data(key, impl=GENERATOR if key.shape == (2,) else None)
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


def recorded_generator(key: Any) -> dict[str, Any]:
    """What draws a run's numbers from its key: part of its metadata and of what a checkpoint must agree with."""
    return {"implementation": str(jax.random.key_impl(typed_key(key))), "partitionable": PARTITIONABLE}


def network_key(key: int | PRNGKeyArray, width: int) -> PRNGKeyArray:
    """A key for networks of this width beside a limit with this key: independent of it and of other widths."""
    return jax.random.fold_in(typed_key(key), np.uint32(_NETWORKS + width))


def coarse_key(key: int | PRNGKeyArray) -> PRNGKeyArray:
    """A key for the same limit in fewer steps, independent of it and of networks of any width."""
    return jax.random.fold_in(typed_key(key), np.uint32(_NETWORKS))


@contextmanager
def generator() -> Iterator[None]:
    """Draw as the library does, in this thread: JAX keeps the setting per thread."""
    with jax.threefry_partitionable(PARTITIONABLE):
        yield
