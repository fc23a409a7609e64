"""Statistics of samples (times, paths, ...) with standard errors, and what to do about paths that stopped."""

import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from covsde.results.html import MOST_ROWS, html_table, paragraph
from covsde.results.status import FailedPathsWarning, PathStatus

_TWO = "an Estimate is a value and its standard error: use .value or .standard_error, or unpack it."


class Estimate(NamedTuple):
    """A Monte Carlo estimate and its standard error, both of the same shape.

    Attributes:
        value: The estimate.
        standard_error: Its standard error; 0 for a deterministic limit, NaN or +inf where it cannot be had.
    """

    value: NDArray[np.float64]
    standard_error: NDArray[np.float64]

    def __repr__(self) -> str:
        parts = [np.asarray(part) for part in self]
        if all(part.size == 1 and part.dtype.kind in "biuf" for part in parts):
            return f"Estimate({_with_error(float(parts[0].item()), float(parts[1].item()))})"
        return f"Estimate(value={self.value!r}, standard_error={self.standard_error!r})"

    def _repr_html_(self) -> str:
        """Value ± error, for notebooks."""
        value, error = np.broadcast_arrays(self.value, self.standard_error)
        if value.size == 1:
            return paragraph([_with_error(float(value.item()), float(error.item()))])
        rows = value.reshape(value.shape[0], -1)[:, :MOST_ROWS]
        errors = error.reshape(value.shape[0], -1)[:, :MOST_ROWS]
        cells = [
            [str(k), *(_with_error(float(v), float(e)) for v, e in zip(*pair, strict=True))]
            for k, pair in enumerate(zip(rows[:MOST_ROWS], errors[:MOST_ROWS], strict=True))
        ]
        header = ["", *(map(str, range(rows.shape[1])) if rows.shape[1] > 1 else ["value ± error"])]
        left = [paragraph([f"the first {MOST_ROWS} of {value.shape[0]} rows"])] if value.shape[0] > MOST_ROWS else []
        return "\n".join([html_table(header, cells), *left])

    # What would stack, join or repeat value and error as if they were numbers of one kind:

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        raise TypeError(_TWO)

    def __add__(self, other: Any) -> Any:
        raise TypeError(_TWO)

    def __mul__(self, other: Any) -> Any:
        raise TypeError(_TWO)

    def __rmul__(self, other: Any) -> Any:
        raise TypeError(_TWO)


def _with_error(value: float, error: float) -> str:
    """Value ± error, to two digits of the error."""
    if not (math.isfinite(value) and math.isfinite(error) and error > 0):
        return f"{value:.6g} ± {error:.2g}"
    last = math.floor(math.log10(error)) - 1
    if not -8 <= last <= 0 or abs(value) >= 1e12:
        return f"{value:.6g} ± {error:.2g}"
    return f"{value:.{-last}f} ± {error:.{-last}f}"


def failures(status: NDArray[Any]) -> dict[str, int]:
    """Number of paths per status that is not `FINE` (those that occur), and their "total"."""
    counts = {s.name: int(np.sum(status == s)) for s in PathStatus if s != PathStatus.FINE}
    return {k: n for k, n in counts.items() if n > 0} | {"total": sum(counts.values())}


def alive(status: NDArray[Any], stop_tau: NDArray[Any], tau: NDArray[Any]) -> NDArray[np.bool_]:
    """Whether each path is still valid at each saved time, shape (times, paths)."""
    return np.asarray((status == PathStatus.FINE) | (stop_tau >= tau[:, None]))


def over_survivors(
    samples: Sequence[NDArray[np.float64]],
    valid: NDArray[np.bool_],
    tau: NDArray[Any],
    reduce: Callable[..., Estimate],
    name: str,
) -> Estimate:
    """Reduce samples (times, paths, ...) to (times, ...) over each time's valid paths; warn if some are not."""
    if not valid.all():
        stopped = int(np.sum(~valid[-1]))
        warnings.warn(
            f"{stopped} of {valid.shape[1]} paths had stopped by layer time τ={tau[-1]:.4g}: the {name} "
            "is over survivors; use quantile, which orders exploded paths at +infinity.",
            FailedPathsWarning,
            stacklevel=4,  # whoever called the method of the record
        )
    with np.errstate(invalid="ignore", over="ignore"):
        estimates = [reduce(*(x[k, valid[k]] for x in samples)) for k in range(tau.size)]
    return Estimate(np.stack([e.value for e in estimates]), np.stack([e.standard_error for e in estimates]))


def quantiles_of_all(values: NDArray[np.float64], q: Any, tau: NDArray[Any]) -> Estimate:
    """Quantiles as `quantiles`, with checked probabilities and a warning that counts NaN."""
    refusal = "q must be a probability strictly between 0 and 1, or a sequence of them."
    try:
        probabilities = np.asarray(q, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(refusal) from error
    inside = (probabilities > 0) & (probabilities < 1)
    if probabilities.ndim > 1 or probabilities.size == 0 or not np.all(inside):
        raise ValueError(refusal)
    missing = np.isnan(values).reshape(*values.shape[:2], -1).any(-1).sum(1)
    if missing.max() > 0:
        k = int(missing.argmax())
        warnings.warn(
            f"{missing[k]} of {values.shape[1]} paths have no value (NaN) at layer time τ={tau[k]:.4g}: "
            "the quantile leaves them out.",
            FailedPathsWarning,
            stacklevel=3,
        )
    return quantiles(values, probabilities)


def quantiles(values: NDArray[np.float64], q: float | NDArray[np.float64]) -> Estimate:
    """Return quantiles of samples over their second axis, leaving out NaN and ordering infinities.

    Args:
        values: Samples, shape (times, paths, ...).
        q: Probability in (0, 1), or a one-dimensional array of them.

    Returns:
        Quantile and standard error as in `Ensemble.quantile`, each (times, ...) or (times, len(q), ...).
    """
    probabilities = np.asarray(q, dtype=np.float64)
    times, paths, *trailing = values.shape
    ordered = np.sort(values.reshape(times, paths, -1), axis=1)  # NaN sorts last
    counts = paths - np.isnan(ordered).sum(axis=1)
    value = np.empty((times, probabilities.size, ordered.shape[2]))
    error = np.empty_like(value)
    for k, t, s in np.ndindex(*value.shape):
        x = ordered[k, : counts[k, s], s]
        value[k, t, s], error[k, t, s] = _quantile(x, float(probabilities.flat[t]))
    shape = (times, *probabilities.shape, *trailing)
    return Estimate(value.reshape(shape), error.reshape(shape))


def mean(x: NDArray[np.float64]) -> Estimate:
    """Mean over the first axis."""
    n = x.shape[0]
    nothing = np.full(x.shape[1:], np.nan)
    return Estimate(
        x.mean(axis=0) if n > 0 else nothing,
        x.std(axis=0, ddof=1) / np.sqrt(n) if n > 1 else nothing,
    )


def variance(x: NDArray[np.float64]) -> Estimate:
    """Unbiased variance over the first axis, with its error from the fourth central moment."""
    n = x.shape[0]
    if n < 2:
        nothing = np.full(x.shape[1:], np.nan)
        return Estimate(nothing, nothing)
    variance = x.var(axis=0, ddof=1)
    fourth = np.mean((x - x.mean(axis=0)) ** 4, axis=0)
    # Var(s²) = (μ₄ - σ⁴(n-3)/(n-1))/n exactly, for i.i.d. samples
    return Estimate(variance, np.sqrt(np.maximum(fourth - variance**2 * (n - 3) / (n - 1), 0.0) / n))


def controlled_mean(x: NDArray[np.float64], control: NDArray[np.float64]) -> Estimate:
    """Mean over the first axis after regressing out controls (paths,) or (paths, controls) of mean zero."""
    paths = x.shape[0]
    controls = control.reshape(paths, -1)
    count = controls.shape[1]
    if paths <= count + 2:
        raise ValueError(f"control must hold fewer statistics than there are paths: {count} for {paths} paths.")
    flat = x.reshape(paths, -1)
    slopes = np.linalg.lstsq(controls - controls.mean(axis=0), flat - flat.mean(axis=0), rcond=None)[0]
    rest = flat - controls @ slopes
    error = rest.std(axis=0, ddof=count + 1) / np.sqrt(paths)
    return Estimate(rest.mean(axis=0).reshape(x.shape[1:]), error.reshape(x.shape[1:]))


def slope(y: NDArray[np.float64], x: NDArray[np.float64]) -> Estimate:
    """E[xy]/E[x²] over the first axis, with its linearised error."""
    second = np.mean(x * x)
    value = np.mean(x * y) / second
    return Estimate(np.asarray(value), np.asarray(mean(x * (y - value * x)).standard_error / second))


def to_no_step(coarse: Estimate, fine: Estimate, ratio: float, order: int) -> tuple[Estimate, Estimate]:
    """Richardson's extrapolation of independent estimates, and by how much it moves the finer one.

    Args:
        coarse: of few steps.
        fine: of `ratio` times as many.
        ratio: above 1.
        order: the power of 1/steps in their error.
    """
    weight = 1 / (ratio**order - 1)
    difference = fine.value - coarse.value
    return (
        Estimate(
            fine.value + weight * difference,
            np.hypot((1 + weight) * fine.standard_error, weight * coarse.standard_error),
        ),
        Estimate(weight * difference, weight * np.hypot(fine.standard_error, coarse.standard_error)),
    )


def without_error(estimate: Estimate) -> Estimate:
    """The same value with standard error 0, where there is a value: one path is the whole law."""
    return Estimate(estimate.value, np.where(np.isnan(estimate.value), np.nan, 0.0))


def mean_of_a_point(x: NDArray[np.float64]) -> Estimate:
    """The mean over the one path of a deterministic limit."""
    return without_error(mean(x))


def variance_of_a_point(x: NDArray[np.float64]) -> Estimate:
    """The variance of a deterministic limit: 0 wherever there is a value."""
    value = mean(x).value
    return without_error(Estimate(np.where(np.isnan(value), np.nan, 0.0), value))


def _order_statistic(x: NDArray[np.float64], q: float) -> float:
    """Return the quantile of sorted `x` by linear interpolation that is defined for infinite entries."""
    position = q * (x.size - 1)
    low = int(position)
    weight = position - low
    if weight == 0 or x[low] == x[low + 1] or np.isneginf(x[low]):
        return float(x[low])
    return float(x[low] + weight * (x[low + 1] - x[low]))


def _quantile(x: NDArray[np.float64], q: float) -> tuple[float, float]:
    if x.size == 0:
        return np.nan, np.nan
    spread = np.sqrt(q * (1 - q) / x.size)
    value = _order_statistic(x, q)
    if q - spread < 0 or q + spread > 1 or not np.isfinite(value):
        return value, np.nan
    return value, (_order_statistic(x, q + spread) - _order_statistic(x, q - spread)) / 2
