"""From inputs to the Gram matrix that every limit starts from."""

from typing import Any

import numpy as np
from jaxtyping import Float

from covsde.inputs.arguments import untraced
from covsde.inputs.foreign import as_numpy


def real_array(name: str, value: Any, what: str) -> np.ndarray:
    """`value` as a float64 array, if it holds real numbers; `what` the argument must be, for the sentence if not."""
    untraced(name, value)
    try:
        array = as_numpy(name, value)
    except (TypeError, ValueError) as error:
        if str(error).startswith(f"{name} "):  # it names the remedy
            raise
        raise ValueError(f"{name} must be {what}.") from error
    if array.dtype.kind not in "biuf":
        remedy = f"; if all are numbers, pass {name}.astype(float)" if array.dtype.kind == "O" else ""
        raise ValueError(f"{name} must be {what}; its dtype is {array.dtype}{remedy}.")
    return array.astype(np.float64)


def gram(x: Any) -> Float[np.ndarray, "m m"]:
    """The input Gram matrix V₀ = x xᵀ / d.

    Args:
        x: inputs, one per row, (m, d); a NumPy or JAX array or nested lists, any real dtype.

    Returns:
        V₀ (m, m), float64.

    Raises:
        ValueError: if x is not a finite matrix with at least one row and one column.
    """
    array = real_array("x", x, "an array of real numbers of shape (m, d), one input per row")
    if array.ndim != 2 or 0 in array.shape:
        remedy = {1: ": pass x[None, :] for one input, or x[:, None] for inputs of one number each"}.get(
            array.ndim, ": pass x.reshape(len(x), -1)" if array.ndim > 2 and array.size else ""
        )
        raise ValueError(f"x must have shape (m, d), one input per row, got shape {array.shape}{remedy}.")
    if not np.all(np.isfinite(array)):
        raise ValueError("x contains NaN or infinite values: remove or replace them.")
    if np.max(np.abs(array)) > 1e15:
        raise ValueError("x has entries above 1e15 in size: rescale the inputs, e.g. to unit variance.")
    return array @ array.T / array.shape[1]


def check_gram(V0: Any, dtype: Any = np.float64, name: str = "V0") -> Float[np.ndarray, "m m"]:
    """V₀ as a float64 array, after checking that it is a covariance matrix.

    Symmetry and definiteness are those of its correlations, so that a large input hides nothing of a small one.

    Args:
        V0: array or nested lists (m, m), symmetric positive semidefinite; singular is fine.
        dtype: of the computation, which has to hold the variances.
        name: of the argument.

    Returns:
        V₀ (m, m), float64, exactly symmetric.

    Raises:
        ValueError: if V0 is not square, finite, symmetric and positive semidefinite, or dtype does not hold it.
    """
    array = real_array(name, V0, "an (m, m) Gram matrix of real numbers; make one with covsde.gram(x)")
    if array.ndim != 2 or array.shape[0] != array.shape[1] or array.shape[0] == 0:
        raise ValueError(
            f"{name} must be an (m, m) Gram matrix, got shape {array.shape}; make one with covsde.gram(x)."
        )
    if not np.all(np.isfinite(array)):
        raise ValueError(f"{name} contains NaN or infinite values: clean the inputs before covsde.gram(x).")
    scale = np.max(np.abs(array))
    if scale > 1e30:
        raise ValueError(f"{name} has entries up to {scale:.3g}: rescale the inputs, e.g. to unit variance.")
    _check_definite(array, scale, name)
    check_variances(array, dtype, name)
    array = (array + array.T) / 2
    absent = np.diagonal(array) == 0
    array[absent], array[:, absent] = 0, 0  # rounding of an input that is 0
    return array


def check_variances(V0: Float[np.ndarray, "m m"], dtype: Any, name: str = "V0") -> None:
    """Refuse variances that a floating dtype cannot hold to its precision, as it would take a small one for 0."""
    kind, variances = np.finfo(dtype), np.diagonal(V0)
    lost = (variances != 0) & ((np.abs(variances) < kind.tiny) | (np.abs(variances) > kind.max))
    if np.any(lost):
        i = int(np.argmax(lost))
        remedy = "" if kind.dtype == np.float64 else ", or use dtype='float64'"
        raise ValueError(
            f"{name} has the variance {variances[i]:.3g} of input {i}, which {kind.dtype} cannot hold: rescale the "
            f"inputs, e.g. to unit variance{remedy}."
        )


def _check_definite(V: Float[np.ndarray, "m m"], scale: float, name: str) -> None:
    """Refuse what is no covariance, by its correlations; rounding in float32 is allowed for."""
    remedy, variances = "pass inner products of inputs, e.g. covsde.gram(x).", np.diagonal(V)
    if np.any(variances < 0):
        i = int(np.argmin(variances))
        raise ValueError(f"{name} is not positive semidefinite (input {i} has variance {variances[i]:.3g}): {remedy}")
    roots = np.sqrt(np.where(variances > 0, variances, 1))
    correlations = V / roots[:, None] / roots[None, :]
    absent = variances == 0
    beside = np.max(np.abs(V[absent]), initial=0.0)
    if beside > 16 * np.finfo(np.float64).eps * scale:
        i = int(np.argmax(absent))
        raise ValueError(f"{name} is not positive semidefinite (input {i} has variance 0 and a covariance): {remedy}")
    correlations[absent], correlations[:, absent] = 0, 0
    if np.any(np.abs(correlations - correlations.T) > 1e-6):
        raise ValueError(
            f"{name} is not symmetric: pass a Gram matrix such as covsde.gram(x), or ({name} + {name}.T) / 2."
        )
    smallest = float(np.linalg.eigvalsh((correlations + correlations.T) / 2)[0])
    if smallest < -1e-6 * np.sqrt(len(V)):
        raise ValueError(
            f"{name} is not positive semidefinite (smallest eigenvalue {smallest:.3g} of its correlations): {remedy}"
        )
