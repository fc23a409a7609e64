"""Inputs and targets of training and regression, checked once for everything that takes them."""

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import numpy as np
from jaxtyping import Array, Float
from numpy.typing import NDArray

from covsde.inputs.arguments import finite_number
from covsde.inputs.foreign import as_numpy
from covsde.inputs.gram import check_gram


class Data(eqx.Module):
    """Inputs, as their Gram matrix, and a target for each of them; checked once, on making.

    Args:
        V0: input Gram matrix (P, P), symmetric positive semidefinite; see `gram`.
        targets: one number per input, (P,), or as a column (P, 1).

    Raises:
        ValueError: for a V0 that is not a covariance, or targets that are not one finite number per input.

    Example:
        ```python
        data = cs.Data(cs.gram([[1.0, 0.0], [0.6, 0.8]]), targets=[1.0, -1.0])
        ```
    """

    V0: Float[np.ndarray | Array, "P P"]
    targets: Float[np.ndarray | Array, " P"]

    def __init__(self, V0: Any, targets: Any) -> None:
        self.V0 = check_gram(V0)
        self.targets = check_targets(targets, self.V0.shape[0])

    @property
    def inputs(self) -> int:
        """P, the number of inputs."""
        return int(self.V0.shape[0])


def check_targets(targets: Any, inputs: int) -> Float[np.ndarray, " m"]:
    """One target per input as a float64 array.

    Args:
        targets: array or list (m,), or a column (m, 1), of booleans, integers or floating-point numbers.
        inputs: m.

    Returns:
        The targets (m,), float64.

    Raises:
        ValueError: if targets are not numbers, not finite, or not one per input.
    """
    what = f"one finite number per input, shape ({inputs},)"
    array = _finite(targets, what)
    if array.shape not in ((inputs,), (inputs, 1)):
        raise ValueError(f"targets must hold {what}, got shape {array.shape}.")
    return array.reshape(inputs)


def check_target_columns(targets: Any, inputs: int) -> Float[np.ndarray, "P outputs"]:
    """Targets of some of the inputs, for one output or several, as a float64 matrix.

    Args:
        targets: array or list (P,) or (P, outputs), of numbers as for `check_targets`.
        inputs: the number of inputs, at least P.

    Returns:
        The targets (P, outputs), float64.

    Raises:
        ValueError: if targets are not numbers, not finite, more than the inputs or none, or have another shape.
    """
    what = f"finite numbers of shape (P,) or (P, outputs), P from 1 to the number of inputs, {inputs}"
    array = _finite(targets, what)
    if array.ndim not in (1, 2) or array.size == 0 or array.shape[0] > inputs:
        raise ValueError(f"targets must hold {what}, got shape {array.shape}.")
    return array.reshape(array.shape[0], -1)


def check_observations(
    targets: Any, observed: Sequence[int] | None, noise_variance: Any, m: int
) -> tuple[NDArray[np.float64], NDArray[np.int64], float]:
    """Targets (P, outputs), the indices (P,) of the inputs they belong to, and the variance of their noise."""
    y = check_target_columns(targets, m)
    chosen = np.arange(y.shape[0]) if observed is None else np.asarray(observed)
    integers = chosen.ndim == 1 and np.issubdtype(chosen.dtype, np.integer)
    if not integers or chosen.size != y.shape[0] or np.unique(chosen).size != chosen.size:
        raise ValueError(f"observed must be P = {y.shape[0]} different indices, one per target, got {observed!r}.")
    if chosen.min() < 0 or chosen.max() >= m:
        raise ValueError(f"observed must be indices of the m = {m} inputs of the covariance, got {chosen.tolist()}.")
    noise = finite_number("noise_variance", noise_variance)
    if noise <= 0:
        raise ValueError(f"noise_variance must be positive, got {noise}: take it small for interpolation.")
    return y, chosen, noise


def _finite(targets: Any, what: str) -> np.ndarray:
    """Real numbers, none of them NaN or infinite."""
    try:
        given = as_numpy("targets", targets)
    except (TypeError, ValueError) as error:
        if str(error).startswith("targets "):  # it names the remedy
            raise
        # rows of unequal length, or what no array can hold
        raise ValueError(f"targets must hold {what}, got a {type(targets).__name__} that is no array.") from error
    if given.dtype.kind not in "biuf":
        raise ValueError(f"targets must hold {what}, got dtype {given.dtype}.")
    array = given.astype(np.float64)
    if not np.all(np.isfinite(array)):
        raise ValueError(f"targets must hold {what}, got NaN or infinite values.")
    return array
