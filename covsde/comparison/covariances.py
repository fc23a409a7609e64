"""What ensembles of Gram matrices are compared in: correlations, angles and log-variances of the inputs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from covsde.comparison.curves import REDUCTIONS, Measure, rows_of, tolerance
from covsde.comparison.table import CurveComparison, Row
from covsde.results.ensemble import Ensemble, MatrixStatistic, angle, correlation, log_variance, similar_pairs
from covsde.results.quantity import LAYER_TIME, Curve, Quantity

Statistic = MatrixStatistic | tuple[str, MatrixStatistic]
"""A function of V, whose mean is compared, or a pair ("mean" | "variance" | "median", function)."""


@dataclass(frozen=True, repr=False)
class Comparison(CurveComparison):
    """Result of `compare` for ensembles, at the last layer time: `print` shows the table, `plot` draws it.

    Args:
        rows: One `Row` per statistic and network: values, standard errors and z.
        distances: One `Distance` per correlation or log-variance and network: Kolmogorov-Smirnov and Wasserstein-1.
        limit: The reference.
        networks: What it was compared with.
        footer: What was left out of the table.
        statistics: The statistics by name.
    """

    statistics: Mapping[str, Statistic]

    def rows_at(self, tau: float) -> tuple[Row, ...]:
        """Return the table's rows at another layer time.

        Args:
            tau: Layer time in [0, 1]; the nearest time common to the reference and the network is used.

        Returns:
            One row per statistic and network, as in `rows`.
        """
        rows: list[Row] = []
        for network in self.networks:
            pairs = common_times(self.limit, network)
            k, nearest = min(pairs, key=lambda pair: abs(self.limit.tau[pair[0]] - tau))
            rows += rows_of(measures_of(self.statistics), _at(self.limit, k), [_at(network, nearest)])
        order = list(self.statistics)
        return tuple(sorted(rows, key=lambda r: order.index(r.statistic)))  # networks stay in the order given


def selected(limit: Ensemble) -> tuple[dict[str, Statistic], list[Quantity], str]:
    """What the default table shows of an ensemble.

    Args:
        limit: The reference.

    Returns:
        Statistics by name, the quantities whose laws are compared, and a sentence on what is left out.
    """
    pairs, inputs, footer = list(combinations(range(limit.m), 2)), list(range(limit.m)), ""
    if limit.m > 4:
        most, least = similar_pairs(limit)
        pairs = list(dict.fromkeys([(0, 1), most, least]))
        inputs = sorted({i for pair in pairs for i in pair})
        footer = (
            f"Of {limit.m} inputs the default table shows the pair (0, 1), the most similar {most} and the least "
            f"similar {least} at the start, and the variances of inputs {', '.join(map(str, inputs))}; pass "
            "statistics= for others."
        )
    laws = {f"rho_{i}{_comma(limit.m - 1)}{j}": partial(correlation, i=i, j=j) for i, j in pairs}
    laws |= {f"log V_{i}{_comma(limit.m - 1)}{i}": partial(log_variance, i=i) for i in inputs}
    return _default_statistics(pairs, inputs), [_quantity(name, f) for name, f in laws.items()], footer


def measures_of(statistics: Mapping[str, Statistic]) -> list[Measure]:
    """Statistics of matrices as what rows hold.

    Args:
        statistics: By name.

    Returns:
        The measures, in the same order.

    Raises:
        ValueError: If one is neither a function nor a pair of a known reduction and a function.
    """
    measures = []
    for name, statistic in statistics.items():
        pair = statistic if isinstance(statistic, tuple) else ("mean", statistic)
        if not isinstance(name, str) or len(pair) != 2 or pair[0] not in REDUCTIONS or not callable(pair[1]):
            raise ValueError(
                f"statistics: {name!r} must name a function or a pair (one of {list(REDUCTIONS)}, function)."
            )
        measures.append(Measure(name, pair[0], _quantity(name, pair[1])))
    return measures


def common_times(reference: Ensemble, network: Ensemble) -> list[tuple[int, int]]:
    """Return the saved times that two ensembles share, up to half a layer.

    Args:
        reference: Ensemble whose times are looked up.
        network: Ensemble in which the nearest time is taken, with the same last time.

    Returns:
        Pairs (index in `reference.tau`, index in `network.tau`), increasing; the last pairs the last times.
    """
    pairs = []
    for k, tau in enumerate(reference.tau[:-1]):
        nearest = int(np.argmin(np.abs(network.tau - tau)))
        if abs(network.tau[nearest] - tau) <= tolerance(reference, network):
            pairs.append((k, nearest))
    return [*pairs, (reference.tau.size - 1, network.tau.size - 1)]


def _at(e: Ensemble, k: int) -> Ensemble:
    return Ensemble(e.tau[[k]], e.V[[k]], e.status, e.stop_tau, e.metadata)


def _quantity(name: str, f: MatrixStatistic) -> Quantity:
    """A statistic of the matrices at the last saved time of an ensemble."""

    def curve(e: Ensemble) -> Curve:
        last = _at(e, -1)
        values = last.evaluate(f)
        if values.ndim != 2:
            raise ValueError(f"statistics: {name!r} must map arrays (..., m, m) to (...), one number per matrix.")
        return Curve(last.tau, values, valid=last.alive)

    return Quantity(name, name, name, LAYER_TIME, curve)


def _comma(largest: int) -> str:
    return "," if largest > 9 else ""


def _default_statistics(pairs: Sequence[tuple[int, int]], inputs: Sequence[int]) -> dict[str, Statistic]:
    comma = _comma(max([*inputs, *(j for _, j in pairs)]))
    statistics: dict[str, Statistic] = {}
    for i, j in pairs:
        statistics[f"mean rho_{i}{comma}{j}"] = ("mean", partial(correlation, i=i, j=j))
        statistics[f"mean rho_{i}{comma}{j}^2"] = ("mean", partial(_squared_correlation, i=i, j=j))
        statistics[f"mean theta_{i}{comma}{j}"] = ("mean", partial(angle, i=i, j=j))
    for i in inputs:
        for reduction in REDUCTIONS:
            statistics[f"{reduction} log V_{i}{comma}{i}"] = (reduction, partial(log_variance, i=i))
    return statistics


def _squared_correlation(V: NDArray[Any], i: int, j: int) -> NDArray[np.float64]:
    return correlation(V, i, j) ** 2
