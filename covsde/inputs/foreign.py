"""Arrays of other libraries as NumPy arrays: converted where nothing is lost, else the call that converts is named."""

from typing import Any

import jax.numpy as jnp
import numpy as np


def as_numpy(name: str, value: Any) -> np.ndarray:
    """`value` as an array; of any dtype, but numbers that NumPy does not know itself, such as bfloat16, are float64.

    Raises:
        ValueError: naming the call that makes an array of `value`, if there is one.
        TypeError: if NumPy can make no array of it.
    """
    if isinstance(value, np.ma.MaskedArray):
        if np.ma.getmaskarray(value).any():
            raise ValueError(
                f"{name} has masked entries, which are no numbers: remove them, or pass {name}.filled(0.0)."
            )
        return np.asarray(value.data)
    if callable(getattr(value, "toarray", None)):
        raise ValueError(f"{name} is a sparse matrix: pass {name}.toarray().")
    try:
        array = np.asarray(value)
    except Exception as error:
        if hasattr(value, "detach") and hasattr(value, "cpu"):
            raise ValueError(
                f"{name} is a tensor that NumPy cannot read where it is: pass {name}.detach().cpu().float().numpy()."
            ) from error
        raise
    if array.dtype.kind == "V" and array.dtype.names is None and jnp.issubdtype(array.dtype, jnp.number):
        return array.astype(np.float64)
    if array.dtype.kind == "O" and hasattr(value, "to_numpy"):  # columns that may have missing values
        try:
            return np.asarray(value.to_numpy(dtype=np.float64, na_value=np.nan))
        except Exception:  # text among the columns, or a library that takes other arguments
            return array
    return array
