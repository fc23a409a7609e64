"""Comparing results that name their own quantities: training, gradients, velocities, unshaped networks."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from covsde._statistics import Estimate, mean, quantiles, variance
from covsde.comparison import AbstractComparison, Curve, Distance, Quantity, Row, distance_of_laws, name_of, z_score
from covsde.status import FailedPathsWarning


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
            rows += _rows(quantity.name, name_of(network), reference, other, limit.deterministic)
            if not limit.deterministic:
                samples = (reference.values[-1], other.values[-1])
                distances.append(distance_of_laws(quantity.name, 1.0, name_of(network), *samples, point=False))
    for e in (limit, *networks):
        failed = e.failures["total"]
        if failed:
            warnings.warn(
                f"{failed} of {e.paths} paths of {name_of(e)!r} failed: means and variances are over the others; rely "
                "on medians and on the KS distance.",
                FailedPathsWarning,
                stacklevel=3,
            )
    return CurveComparison(tuple(rows), tuple(distances), limit, tuple(networks), "")


def _rows(name: str, label: str, reference: Curve, network: Curve, deterministic: bool) -> list[Row]:
    rows = []
    failures = [int(np.sum(~np.isfinite(curve.values[-1]))) for curve in (reference, network)]
    for reduction in ("mean",) if deterministic else ("mean", "variance", "median"):
        a, b = (_estimate(reduction, curve) for curve in (reference, network))
        value, se, other, other_se = (float(v) for v in (*a, *b))
        z = z_score(other - value, float(np.hypot(se, other_se)))
        rows.append(Row(f"{reduction} {name}", 1.0, label, value, se, other, other_se, z, *failures))
    return rows


def _estimate(reduction: str, curve: Curve) -> Estimate:
    samples = curve.values[-1]
    if curve.standard_error is not None:
        return Estimate(samples[0], curve.standard_error[-1])
    if reduction == "median":
        found = quantiles(samples[None], 0.5)
        return Estimate(found.value[0], found.standard_error[0])
    return (mean if reduction == "mean" else variance)(samples[np.isfinite(samples)])
