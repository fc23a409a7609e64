"""From curves of results to rows and distances: what every comparison is made of."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from covsde.comparison.laws import Distance, distance_of_laws, z_score
from covsde.comparison.table import Row
from covsde.results import estimate
from covsde.results.estimate import Estimate, to_no_step
from covsde.results.quantity import Quantity, name_of
from covsde.results.status import PathStatus

REDUCTIONS = ("mean", "variance", "median")


class Measure(NamedTuple):
    """A statistic of the values of a quantity, where its axis ends: what a row of the table holds.

    Attributes:
        name: in the table.
        reduction: one of `REDUCTIONS`.
        quantity: whose values are reduced.
    """

    name: str
    reduction: str
    quantity: Quantity


class _End(NamedTuple):
    """Where a curve ends: the values of the paths, those that means are over, and the errors that a curve knows of."""

    at: float
    values: NDArray[Any]
    valid: NDArray[Any]
    error: NDArray[Any] | None
    shared: float


def rows_of(measures: Sequence[Measure], limit: Any, networks: Sequence[Any]) -> list[Row]:
    """Hold results against a reference, one row per measure and network.

    Args:
        measures: What to compare.
        limit: The reference.
        networks: Results in which the same quantities can be found.

    Returns:
        The rows, measure by measure.

    Raises:
        ValueError: If a result lacks a quantity, or its axis ends elsewhere.
    """
    rows = []
    for name, reduction, quantity in measures:
        for network, ours, theirs in _ends(quantity, limit, networks):
            own, moved = _of_reference(reduction, quantity, limit, ours)
            value, se = (float(x) for x in own)
            other, other_se = (float(x) for x in _estimate(reduction, network, theirs))
            rows.append(
                Row(
                    statistic=name,
                    tau=quantity.axis.layer_time(ours.at),
                    label=name_of(network),
                    reference=value,
                    reference_se=se,
                    network=other,
                    network_se=other_se,
                    z=z_score(other - value, float(np.hypot(se, other_se))),
                    reference_failures=int(np.sum(~ours.valid)),
                    network_failures=int(np.sum(~theirs.valid)),
                    axis=quantity.axis.symbol,
                    at=quantity.axis.point(ours.at),
                    step_error=None if moved is None else float(moved.value),
                    step_error_se=None if moved is None else float(moved.standard_error),
                )
            )
    return rows


def _of_reference(reduction: str, quantity: Quantity, limit: Any, end: _End) -> tuple[Estimate, Estimate | None]:
    """The statistic of the reference and what the error of its step is found to be, where that is known."""
    fine, coarse = _estimate(reduction, limit, end), getattr(limit, "coarse", None)
    if coarse is None:
        return fine, None
    return to_no_step(
        _estimate(reduction, coarse, _end(quantity, coarse)), fine, limit.refinement, limit.metadata["order"]
    )


def distances_of(quantities: Sequence[Quantity], limit: Any, networks: Sequence[Any]) -> list[Distance]:
    """Distances between the laws of quantities where their axes end, one per quantity and network."""
    return [
        distance_of_laws(
            quantity,
            ours.at,
            name_of(network),
            ours.values,
            theirs.values,
            # The distance to a point is at least 1/2, however close the laws are.
            p_value=not (limit.deterministic or network.deterministic),
        )
        for quantity in quantities
        for network, ours, theirs in _ends(quantity, limit, networks)
    ]


def tolerance(*results: Any) -> float:
    """How far apart points on an axis may be to count as one: half a layer of the least deep network."""
    depths = [e.metadata.get("depth") for e in results]
    return max([0.5 / d for d in depths if isinstance(d, int) and d > 0], default=0.0) + 1e-9


def _ends(quantity: Quantity, limit: Any, networks: Sequence[Any]) -> list[tuple[Any, _End, _End]]:
    ours, found = _end(quantity, limit), []
    for network in networks:
        try:
            theirs = _end(quantity, network)
        except (AttributeError, IndexError) as error:
            raise ValueError(
                f"networks: {network!r} has no {quantity.name}, which {limit!r} has; compare results of one kind "
                "and of the same inputs."
            ) from error
        if abs(ours.at - theirs.at) > tolerance(limit, network):
            raise ValueError(
                f"networks: {name_of(network)!r} ends at {quantity.axis.at(theirs.at)} and the limit at "
                f"{quantity.axis.at(ours.at)}; run both as far, or save both up to the same layer time."
            )
        found.append((network, ours, theirs))
    return found


def _end(quantity: Quantity, result: Any) -> _End:
    curve = quantity.curve(result)
    at, x = float(curve.x[-1]), np.asarray(curve.values[-1])
    error = None if curve.standard_error is None else curve.standard_error[-1]
    shared = 0.0 if curve.shared_error is None else float(curve.shared_error[-1])
    if curve.valid is not None:
        return _End(at, x, curve.valid[-1], error, shared)
    # A path that failed may have a value all the same.
    x = np.where(np.isfinite(x) & (np.asarray(result.status) != PathStatus.FINE), np.nan, x)
    return _End(at, x, np.isfinite(x), error, shared)


def _estimate(reduction: str, result: Any, end: _End) -> Estimate:
    if end.error is not None:
        return Estimate(end.values[0], end.error)
    point = result.deterministic
    with np.errstate(invalid="ignore", over="ignore"):
        if reduction == "median":
            found = Estimate(*(x[0] for x in estimate.quantiles(end.values[None], 0.5)))
            return estimate.without_error(found) if point else _with(found, end.shared)
        if reduction == "variance":
            return (estimate.variance_of_a_point if point else estimate.variance)(end.values[end.valid])
        return _with((estimate.mean_of_a_point if point else estimate.mean)(end.values[end.valid]), end.shared)


def _with(found: Estimate, shared: float) -> Estimate:
    return Estimate(found.value, np.hypot(found.standard_error, shared)) if shared else found
