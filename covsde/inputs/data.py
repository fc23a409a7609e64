"""Inputs and targets of training and regression, checked once for everything that takes them."""

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import numpy as np
from jaxtyping import Array, Float
from numpy.typing import NDArray

from covsde.inputs.arguments import finite_number, untraced
from covsde.inputs.foreign import as_numpy
from covsde.inputs.gram import check_gram


class Data(eqx.Module):
    """Inputs, those of training and of tests in one Gram matrix, and targets; checked once, on making.

    Args:
        V0: input Gram matrix (M, M), symmetric positive semidefinite; see `gram`.
        targets: one number per input, (M,), or as a column (M, 1); or for C outputs (M, C). A row of NaN is a target
            that is not known, which only inputs of tests may have.

    Raises:
        ValueError: for a V0 that is not a covariance, or targets that are not numbers, or not one row per input.

    Example:
        ```python
        data = cs.Data(cs.gram([[1.0, 0.0], [0.6, 0.8]]), targets=[1.0, -1.0])
        ```
    """

    V0: Float[np.ndarray | Array, "M M"]
    targets: Float[np.ndarray | Array, "M *C"]
    column: bool = eqx.field(static=True)
    rank: int = eqx.field(static=True)

    def __init__(self, V0: Any, targets: Any) -> None:
        self.V0 = check_gram(V0)
        # Dimensions that the inputs need: eigenvalues that are rounding are none.
        eigenvalues = np.linalg.eigvalsh(self.V0)
        self.rank = int(np.sum(eigenvalues > 1e-10 * max(eigenvalues[-1], 0.0)))
        rows = _finite(targets, self._wanted(), unknown=True)
        if rows.ndim not in (1, 2) or rows.shape[0] != self.inputs or rows.size == 0:
            raise ValueError(f"targets must hold {self._wanted()}, got shape {rows.shape}.")
        self.column = rows.ndim == 2 and rows.shape[1] == 1
        self.targets = rows[:, 0] if self.column else rows

    def _wanted(self) -> str:
        M = self.inputs
        return f"one finite number per input, shape ({M},), or for several outputs a row per input, ({M}, outputs)"

    @property
    def inputs(self) -> int:
        """M, the number of inputs."""
        return int(self.V0.shape[0])

    @property
    def outputs(self) -> int:
        """C, the number of outputs of a network."""
        return 1 if self.targets.ndim == 1 else int(self.targets.shape[1])

    def check_known(self, trained: Sequence[int]) -> None:
        """Refuse inputs that are trained on a target that is not known.

        Raises:
            ValueError: naming the first of them.
        """
        unknown = [i for i in trained if np.any(np.isnan(self.targets[i]))]
        if unknown:
            where = f" for input {unknown[0]}, which is trained: leave it out of batches"
            raise ValueError(
                f"targets must hold {self._wanted()}, got NaN or infinite values"
                f"{where if len(trained) < self.inputs else ''}."
            )


def check_target_columns(targets: Any, inputs: int) -> Float[np.ndarray, "P outputs"]:
    """Targets of some of the inputs, for one output or several, as a float64 matrix.

    Args:
        targets: array or list (P,) or (P, outputs), of booleans, integers or floating-point numbers.
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


def _finite(targets: Any, what: str, *, unknown: bool = False) -> np.ndarray:
    """Real numbers, none of them infinite, or NaN unless some may be unknown."""
    untraced("targets", targets)
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
    if not np.all(np.isfinite(array) | (np.isnan(array) if unknown else False)):
        raise ValueError(f"targets must hold {what}, got NaN or infinite values.")
    return array
