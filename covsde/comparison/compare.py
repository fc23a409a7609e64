"""Holding results against a reference: z-scores of statistics, distances between laws, one figure."""

from collections.abc import Mapping
from typing import Any, overload

from covsde.comparison.covariances import Comparison, Statistic, compare_ensembles
from covsde.comparison.curves import CurveComparison, compare_curves
from covsde.results.ensemble import Ensemble


@overload
def compare(limit: Ensemble, *networks: Ensemble, statistics: Mapping[str, Statistic] | None = None) -> Comparison: ...


@overload
def compare(limit: Any, *networks: Any) -> CurveComparison: ...


def compare(
    limit: Any, *networks: Any, statistics: Mapping[str, Statistic] | None = None
) -> Comparison | CurveComparison:
    """Compare a limit with finite networks, or any results of one kind with a reference.

    Args:
        limit: The reference: from `simulate`, `train`, `simulate_gradients`, `simulate_velocities` or
            `simulate_unshaped`.
        *networks: Results to compare with it, on the same inputs: from `sample_networks`, `train_networks`, ….
        statistics: For ensembles of Gram matrices only. Name to statistic; a function mapping (..., m, m) to (...) is
            compared in its mean, and a pair such as ("median", function) in its "mean", "variance" or "median". By
            default correlations, angles and log-variances.

    Returns:
        The comparison: a table of z-scores at the last layer time (after the last update for outputs and losses of
        training), distances between the laws of the same quantities, and `plot`.

    Raises:
        ValueError: If there is no network, a result is of another kind than the limit, or they are not of the same
            inputs, layer times or updates.

    Warns:
        FailedPathsWarning: Once per result in which paths had stopped.
    """
    if not networks:
        raise ValueError("networks must hold at least one result to compare with the limit; pass one after it.")
    if isinstance(limit, Ensemble):
        for ensemble in networks:
            if not isinstance(ensemble, Ensemble):
                raise ValueError(f"compare needs ensembles from simulate or sample_networks, got {ensemble!r}.")
        return compare_ensembles(limit, networks, statistics)
    if statistics is not None:
        raise ValueError("statistics are for ensembles of Gram matrices: leave it out, and use .mean of the results.")
    return compare_curves(limit, networks)
