"""Comparing results that name their own quantities: training, gradients, velocities, unshaped networks."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from covsde.comparison.laws import Distance, distance_of_laws, z_score
from covsde.comparison.table import AbstractComparison, Row, check_same_problem
from covsde.results.estimate import Estimate, mean, quantiles, variance
from covsde.results.quantity import Curve, Quantity, name_of
from covsde.results.status import FailedPathsWarning, PathStatus


@dataclass(frozen=True)
class CurveComparison(AbstractComparison):
    """Result of `compare` for other results: `print` shows the table, `plot` draws it.

    Args:
        rows: One `Row` per statistic and network, at the end of training or of layer time.
        distances: One `Distance` per quantity and network; none where the limit is deterministic.
        limit: The reference.
        networks: What it was compared with.
        footer: What was left out of the table: nothing.
    """

    @property
    def quantities(self) -> list[Quantity]:
        """Those of the reference."""
        return list(self.limit.quantities())


def compare_curves(limit: Any, networks: Sequence[Any]) -> CurveComparison:
    """Compare results with a reference where the axis of each of its quantities ends.

    Args:
        limit: The reference; what it is compared in are its `quantities`.
        networks: Results in which those quantities can be found.

    Returns:
        Means, variances and medians with z-scores; only means against a deterministic reference.

    Raises:
        ValueError: If a result is of another kind, or of other inputs or updates.

    Warns:
        FailedPathsWarning: Once per result in which paths failed.
    """
    if not hasattr(limit, "quantities"):
        raise ValueError(f"compare needs results of covsde, such as those of simulate or train, got {limit!r}.")
    for network in networks:
        _check_kind(limit, network)
        check_same_problem(limit, network)
    rows: list[Row] = []
    distances: list[Distance] = []
    for quantity in limit.quantities():
        reference = quantity.curve(limit)
        for network in networks:
            try:
                other = quantity.curve(network)
            except (AttributeError, IndexError) as error:
                raise ValueError(
                    f"networks: {network!r} has no {quantity.name}, which {limit!r} has; compare results of one kind "
                    "and of the same inputs."
                ) from error
            if abs(reference.x[-1] - other.x[-1]) > 1e-9:
                raise ValueError(
                    f"networks: {name_of(network)!r} ends at {quantity.axis} {other.x[-1]:.4g} and the limit "
                    f"at {reference.x[-1]:.4g}; run both as far."
                )
            samples = (_end(limit, reference), _end(network, other))
            errors = (reference.standard_error, other.standard_error)
            rows += _rows(quantity.name, name_of(network), samples, errors, limit.deterministic)
            if not limit.deterministic:
                distances.append(distance_of_laws(quantity.name, 1.0, name_of(network), *samples, point=False))
    for e in (limit, *networks):
        failed = e.failures["total"]
        if failed:
            warnings.warn(
                f"{failed} of {e.paths} paths of {name_of(e)!r} failed: means and variances are over the others; "
                "medians and KS distances count those that exploded where a quantity can be infinite, such as a loss.",
                FailedPathsWarning,
                stacklevel=3,
            )
    return CurveComparison(tuple(rows), tuple(distances), limit, tuple(networks), "")


def _check_kind(limit: Any, network: Any) -> None:
    """Refuse a result of another kind than the reference."""
    alike = type(network) is type(limit) or (limit.deterministic and not getattr(network, "deterministic", True))
    if not alike:
        raise ValueError(f"networks: {network!r} is no result to compare with {limit!r}; compare results of one kind.")


def _end(result: Any, curve: Curve) -> NDArray[Any]:
    """The values where the axis ends, NaN on paths that have one but failed."""
    x, status = curve.values[-1], np.asarray(result.status)
    if status.shape != x.shape:
        return np.asarray(x)
    return np.asarray(np.where(np.isfinite(x) & (status != PathStatus.FINE), np.nan, x))


def _rows(
    name: str,
    label: str,
    samples: tuple[NDArray[Any], NDArray[Any]],
    errors: tuple[NDArray[Any] | None, NDArray[Any] | None],
    deterministic: bool,
) -> list[Row]:
    rows = []
    failures = [int(np.sum(~np.isfinite(x))) for x in samples]
    for reduction in ("mean",) if deterministic else ("mean", "variance", "median"):
        a, b = (_estimate(reduction, x, error) for x, error in zip(samples, errors, strict=True))
        value, se, other, other_se = (float(v) for v in (*a, *b))
        z = z_score(other - value, float(np.hypot(se, other_se)))
        rows.append(Row(f"{reduction} {name}", 1.0, label, value, se, other, other_se, z, *failures))
    return rows


def _estimate(reduction: str, samples: NDArray[Any], error: NDArray[Any] | None) -> Estimate:
    if error is not None:
        return Estimate(samples[0], error[-1])
    if reduction == "median":
        found = quantiles(samples[None], 0.5)
        return Estimate(found.value[0], found.standard_error[0])
    return (mean if reduction == "mean" else variance)(samples[np.isfinite(samples)])
