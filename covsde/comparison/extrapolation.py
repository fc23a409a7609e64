"""From finite widths to infinite width, and from finite steps to infinitely many."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from covsde.results.estimate import Estimate, to_no_step

# A tuple is not an ArrayLike where annotations are checked at run time.
Column = ArrayLike | Sequence[float | int]


def convergence_rate(widths: Column, errors: Column, standard_errors: Column) -> tuple[float, float]:
    """Fit the power of the width at which errors decay, by weighted least squares of log|error| on log width.

    Args:
        widths: At least two different widths, shape (k,).
        errors: Error at each width, nonzero, shape (k,).
        standard_errors: Standard error of each error, positive, shape (k,).

    Returns:
        The slope (about -1 for errors of order 1/width) and its standard error. Only errors well above their
        standard error carry information: |error| of pure noise is biased upwards.

    Raises:
        ValueError: If shapes differ, widths are not positive and distinct, an error is 0, or a standard
            error is not positive.
    """
    n, error, se = _checked(widths, ("errors", errors), standard_errors)
    if np.any(error == 0):
        raise ValueError("errors must be nonzero to have a logarithm; leave out the widths with a zero error.")
    fit = _weighted_line(np.log(n), np.log(np.abs(error)), se / np.abs(error))
    return fit[1]


def extrapolate(values: Column, standard_errors: Column, widths: Column, power: float = 1.0) -> Estimate:
    """Extrapolate values at finite widths to infinite width, by weighted least squares in 1/width**power.

    Args:
        values: Value at each width, shape (k,).
        standard_errors: Standard error of each value, positive, shape (k,).
        widths: At least two different widths, shape (k,).
        power: Order of the leading correction; 1 except where a 1/sqrt(width) term is known.

    Returns:
        The value at infinite width and its standard error, each of shape (); with two widths this is
        Richardson extrapolation.

    Raises:
        ValueError: If shapes differ, widths are not positive and distinct, or a standard error is not
            positive.
    """
    n, value, se = _checked(widths, ("values", values), standard_errors)
    if power <= 0:
        raise ValueError(f"power must be positive, got {power}; use 1 for corrections of order 1/width.")
    intercept, error = _weighted_line(n**-power, value, se)[0]
    return Estimate(np.asarray(intercept), np.asarray(error))


# What two runs of one limit may differ in when they are extrapolated in the step.
_FREE = {"steps", "unresolved", "seed", "paths", "chunk", "systems", "seconds", "versions", "platform"}


def richardson(coarse: Any, fine: Any, f: Callable[[Any], Any]) -> Estimate:
    """Extrapolate the mean of a statistic to infinitely many solver steps, from two runs of the same limit.

    The leading error is taken to be of the order in 1/steps that the runs record as `metadata["order"]`: 1 for `train`
    of an MLP, 2 for ResNets of infinite depth, whose solver has removed the first order itself. It pays where the error
    of the steps exceeds the Monte Carlo noise: the noise of the difference is added. Of a deterministic limit the value
    is f of the whole result; its error is 0 where nothing is sampled, and NaN for a single system of particles.

    Args:
        coarse: Result of `simulate` or `train` with few steps.
        fine: The same with more steps, saved at the same layer times, and with another key unless nothing is random.
        f: Statistic, as the method `mean` of the result takes it.

    Returns:
        Value and standard error, in the shape that `mean` gives.

    Raises:
        ValueError: If an ensemble is not a limit with steps (networks and limits of finite depth have none), the runs
            differ in more than steps, keys and paths, or the step counts are not increasing.
    """
    for e in (coarse, fine):
        if not {"steps", "order"} <= set(getattr(e, "metadata", ())):
            raise ValueError(
                f"richardson needs two limits with steps, from simulate or train, at infinite depth, got {e!r}."
            )
    settings = ({k: v for k, v in e.metadata.items() if k not in _FREE} for e in (coarse, fine))
    if next(settings) != next(settings):
        raise ValueError("coarse and fine must differ in their steps only: use the same limit, solver and save_at.")
    ratio = fine.metadata["steps"] / coarse.metadata["steps"]
    if ratio <= 1:
        raise ValueError("fine must have more steps than coarse: pass the runs in the other order.")
    a, b = (Estimate(*e.mean(f)) for e in (coarse, fine))
    if np.any([np.any(e.standard_error != 0) for e in (a, b)]):
        if coarse.metadata["seed"] == fine.metadata["seed"]:
            raise ValueError("coarse and fine must be independent for their standard error: use another key.")
        # Particles share kernels that err by a multiple of 1/particles, which must not pass for an error of the steps.
        if coarse.deterministic and coarse.metadata["chunk"] != fine.metadata["chunk"]:
            raise ValueError("coarse and fine must have as many particles per system: use the same chunk.")
    return to_no_step(a, b, ratio, fine.metadata["order"])[0]


def _checked(
    widths: Column, named: tuple[str, Column], standard_errors: Column
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    n, y, se = (np.asarray(x, dtype=np.float64) for x in (widths, named[1], standard_errors))
    if n.ndim != 1 or np.unique(n).size < 2 or np.any(n <= 0):
        raise ValueError("widths must be one-dimensional and hold at least two different positive widths.")
    if y.shape != n.shape or se.shape != n.shape:
        raise ValueError(f"{named[0]} and standard_errors must have one entry per width, shape {n.shape}.")
    if not (np.all(se > 0) and np.all(np.isfinite(se))):
        raise ValueError("standard_errors must be positive and finite; leave out widths without one.")
    return n, y, se


def _weighted_line(
    x: NDArray[np.float64], y: NDArray[np.float64], se: NDArray[np.float64]
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return intercept and slope, each with its standard error, of a line through points of known error."""
    w = se**-2.0
    centre = np.sum(w * x) / np.sum(w)
    spread = np.sum(w * (x - centre) ** 2)
    slope = np.sum(w * (x - centre) * y) / spread
    intercept = np.sum(w * y) / np.sum(w) - slope * centre
    intercept_se = np.sqrt(1 / np.sum(w) + centre**2 / spread)
    return (float(intercept), float(intercept_se)), (float(slope), float(spread**-0.5))
