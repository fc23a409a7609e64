"""What a finite network is called on."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from covsde.inputs.gram import real_array
from covsde.numerics.tracing import is_traced


def network_inputs(x: Any, dtype: Any, *, single: bool = False) -> Array:
    """Inputs in the dtype of the weights.

    Args:
        x: (m, d), an array of any real dtype; traced by JAX or not.
        dtype: of the weights.
        single: whether one input (d,) is allowed too.

    Raises:
        ValueError: for what is none.
    """
    wanted = f"inputs of shape (m, d){', or one of shape (d,)' if single else ''}"
    array = x if is_traced(x) else real_array("x", x, wanted)
    if array.ndim != 2 and not (single and array.ndim == 1):
        remedy = {1: ": pass x[None, :]"}.get(array.ndim, ": pass x.reshape(len(x), -1)" if array.ndim > 2 else "")
        raise ValueError(f"x must be {wanted}, got shape {array.shape}{remedy}.")
    if 0 in array.shape:
        raise ValueError(f"x must be {wanted}, got shape {array.shape}, which is empty.")
    if not is_traced(x) and not np.all(np.isfinite(array)):
        raise ValueError("x contains NaN or infinite values: remove or replace them.")
    return jnp.asarray(array, dtype)


def network_dtype(dtype: Any) -> Any:
    """Of the weights of a network; by default JAX's default float.

    Raises:
        ValueError: for what is no floating-point dtype, or one that JAX is not set up for.
    """
    try:
        wanted = jnp.dtype(jnp.result_type(float) if dtype is None else dtype)
    except TypeError as error:
        raise ValueError(f"dtype must be a floating-point dtype such as float32, got {dtype!r}.") from error
    if not jnp.issubdtype(wanted, jnp.floating):
        raise ValueError(f"dtype must be a floating-point dtype such as float32, got {wanted}.")
    if jnp.finfo(wanted).bits > jnp.finfo(jnp.result_type(float)).bits:
        raise ValueError(
            f"dtype={wanted} needs jax.config.update('jax_enable_x64', True) at the start of the program: without it, "
            "networks compute in float32."
        )
    return wanted
