"""Comparing ensembles of Gram matrices: correlations, angles and log-variances of the inputs."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from covsde.comparison.laws import Distance, distance_of_laws, z_score
from covsde.comparison.table import AbstractComparison, Row, check_same_problem
from covsde.results.ensemble import Ensemble, MatrixStatistic, angle, correlation, log_variance
from covsde.results.estimate import Estimate
from covsde.results.quantity import Curve, Quantity
from covsde.results.status import FailedPathsWarning

Statistic = MatrixStatistic | tuple[str, MatrixStatistic]
"""A function of V, whose mean is compared, or a pair ("mean" | "variance" | "median", function)."""

_REDUCTIONS: dict[str, Callable[[Ensemble, MatrixStatistic], Estimate]] = {
    "mean": Ensemble.mean,
    "variance": Ensemble.variance,
    "median": lambda e, f: e.quantile(f, 0.5),
}


@dataclass(frozen=True)
class Comparison(AbstractComparison):
    """Result of `compare` at the last layer time: `print` shows the table, `rows` and `distances` hold it.

    Args:
        rows: One `Row` per statistic and network: values, standard errors and z.
        distances: One `Distance` per correlation or log-variance and network: Kolmogorov-Smirnov and Wasserstein-1.
        limit: The reference.
        networks: What it was compared with.
        footer: What was left out of the table.
        statistics: The statistics by name.
    """

    statistics: Mapping[str, Statistic]

    @property
    def quantities(self) -> list[Quantity]:
        """Correlations of the most and of the least similar inputs, and the growth of the first variance."""
        return _shown(self.limit)

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
            rows += _rows(_at(self.limit, k), _at(network, nearest), self.statistics)
        return _by_statistic(rows, self.statistics)


def compare_ensembles(
    limit: Ensemble, networks: Sequence[Ensemble], statistics: Mapping[str, Statistic] | None
) -> Comparison:
    """Compare ensembles with a reference at the last layer time.

    Args:
        limit: The reference, of any kind.
        networks: The ensembles to compare with it, of any kind and architecture, on the same inputs.
        statistics: Name to statistic; a function mapping (..., m, m) to (...) is compared in its mean, and a
            pair such as ("median", function) in its "mean", "variance" or "median". By default correlations,
            angles and log-variances.

    Returns:
        The comparison: a table of z-scores, and distances between the laws of correlations and log-variances.

    Raises:
        ValueError: If the inputs or their number differ, or the last layer times differ.

    Warns:
        FailedPathsWarning: Once per ensemble in which paths had stopped.
    """
    for network in networks:
        if network.m != limit.m:
            raise ValueError(
                f"networks: {network.label!r} has m={network.m} inputs and the limit has m={limit.m}; sample "
                "both on the same inputs."
            )
        check_same_problem(limit, network)
    pairs, inputs, footer = _selection(limit)
    chosen = _default_statistics(pairs, inputs) if statistics is None else dict(statistics)
    for name, statistic in chosen.items():
        if isinstance(statistic, tuple) and (len(statistic) != 2 or statistic[0] not in _REDUCTIONS):
            raise ValueError(
                f"statistics: {name!r} must be a function or a pair (one of {list(_REDUCTIONS)}, function)."
            )
    rows: list[Row] = []
    distances: list[Distance] = []
    for network in networks:
        reference, other = _at(limit, -1), _at(network, -1)
        common_times(limit, network)  # raises if the last times differ
        rows += _rows(reference, other, chosen)
        for i, j in pairs:
            distances.append(
                _distance(f"rho_{i}{_comma(limit.m)}{j}", partial(correlation, i=i, j=j), reference, other)
            )
        for i in inputs:
            distances.append(_distance(f"log V_{i}{_comma(limit.m)}{i}", partial(log_variance, i=i), reference, other))
    for e in (limit, *networks):
        stopped = int(np.sum(~e.alive[-1]))
        if stopped:
            warnings.warn(
                f"{stopped} of {e.paths} paths of {e.label!r} had stopped by layer time τ={e.tau[-1]:.4g}: "
                "means and variances are over survivors; rely on medians and on the KS distance.",
                FailedPathsWarning,
                stacklevel=3,
            )
    order = {d.statistic: n for n, d in reversed(list(enumerate(distances)))}
    distances.sort(key=lambda d: order[d.statistic])
    return Comparison(_by_statistic(rows, chosen), tuple(distances), limit, tuple(networks), footer, chosen)


def common_times(reference: Ensemble, network: Ensemble) -> list[tuple[int, int]]:
    """Return the saved times that two ensembles share, up to half a layer.

    Args:
        reference: Ensemble whose times are looked up.
        network: Ensemble in which the nearest time is taken.

    Returns:
        Pairs (index in `reference.tau`, index in `network.tau`), increasing; the last pairs the last times.

    Raises:
        ValueError: If the last times differ by more than half a layer.
    """
    depths = [e.metadata.get("depth") for e in (reference, network)]
    tolerance = max([0.5 / d for d in depths if isinstance(d, int) and d > 0], default=0.0) + 1e-9
    if abs(reference.tau[-1] - network.tau[-1]) > tolerance:
        raise ValueError(
            f"networks: {network.label!r} ends at layer time {network.tau[-1]:.4g} and the limit at "
            f"{reference.tau[-1]:.4g}; save both up to the same layer time."
        )
    pairs = []
    for k, tau in enumerate(reference.tau[:-1]):
        nearest = int(np.argmin(np.abs(network.tau - tau)))
        if abs(network.tau[nearest] - tau) <= tolerance:
            pairs.append((k, nearest))
    return [*pairs, (reference.tau.size - 1, network.tau.size - 1)]


def similar_pairs(e: Ensemble) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return the most and the least similar pair of inputs at the first saved layer time.

    Args:
        e: Ensemble of at least two inputs.

    Returns:
        The pairs (i, j), i < j, of highest and lowest median correlation; equal if all are equally similar.
    """
    pairs = list(combinations(range(e.m), 2))
    first = e.V[0, e.alive[0]][:1000]  # at τ = 0 the paths agree
    if first.shape[0] == 0:
        return pairs[0], pairs[0]
    # Rounded, so that pairs equal up to rounding do not count as more or less similar.
    rho = np.array([np.round(np.median(correlation(first, i, j)), 6) for i, j in pairs])
    return pairs[int(np.argmax(rho))], pairs[int(np.argmin(rho))]


def _comma(m: int) -> str:
    return "," if m > 10 else ""


def _selection(e: Ensemble) -> tuple[list[tuple[int, int]], list[int], str]:
    """Return the pairs and inputs that the default table shows, and a sentence on what it leaves out."""
    if e.m <= 4:
        return list(combinations(range(e.m), 2)), list(range(e.m)), ""
    most, least = similar_pairs(e)
    pairs = list(dict.fromkeys([(0, 1), most, least]))
    inputs = sorted({i for pair in pairs for i in pair})
    return (
        pairs,
        inputs,
        (
            f"Of {e.m} inputs the default table shows the pair (0, 1), the most similar {most} and the least "
            f"similar {least} at the start, and the variances of inputs {', '.join(map(str, inputs))}; pass "
            "statistics= for others."
        ),
    )


def _default_statistics(pairs: Sequence[tuple[int, int]], inputs: Sequence[int]) -> dict[str, Statistic]:
    largest = max([*inputs, *(j for _, j in pairs)])
    comma = _comma(largest + 1)

    def squared_correlation(V: NDArray[Any], i: int, j: int) -> NDArray[np.float64]:
        return correlation(V, i, j) ** 2

    statistics: dict[str, Statistic] = {}
    for i, j in pairs:
        statistics[f"mean rho_{i}{comma}{j}"] = ("mean", partial(correlation, i=i, j=j))
        statistics[f"mean rho_{i}{comma}{j}^2"] = ("mean", partial(squared_correlation, i=i, j=j))
        statistics[f"mean theta_{i}{comma}{j}"] = ("mean", partial(angle, i=i, j=j))
    for i in inputs:
        for reduction in ("mean", "variance", "median"):
            statistics[f"{reduction} log V_{i}{comma}{i}"] = (reduction, partial(log_variance, i=i))
    return statistics


def _at(e: Ensemble, k: int) -> Ensemble:
    return Ensemble(e.tau[[k]], e.V[[k]], e.status, e.stop_tau, e.metadata)


def _rows(reference: Ensemble, network: Ensemble, statistics: Mapping[str, Statistic]) -> list[Row]:
    rows = []
    failures = [int(np.sum(~e.alive[0])) for e in (reference, network)]
    for name, statistic in statistics.items():
        reduction, f = statistic if isinstance(statistic, tuple) else ("mean", statistic)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FailedPathsWarning)  # rows carry the counts; `compare` warns once
            estimates = [_REDUCTIONS[reduction](e, f) for e in (reference, network)]
        numbers = [x for e in estimates for x in (e.value, e.standard_error)]
        if any(x.size != 1 for x in numbers):
            raise ValueError(f"statistics: {name!r} must map arrays (..., m, m) to (...), one number per matrix.")
        a, a_se, b, b_se = (float(x.item()) for x in numbers)
        rows.append(
            Row(
                name,
                float(reference.tau[0]),
                network.label,
                a,
                a_se,
                b,
                b_se,
                z_score(b - a, np.hypot(a_se, b_se)),
                *failures,
            )
        )
    return rows


def _by_statistic(rows: Sequence[Row], statistics: Mapping[str, Statistic]) -> tuple[Row, ...]:
    order = {name: k for k, name in enumerate(statistics)}
    return tuple(sorted(rows, key=lambda r: order[r.statistic]))  # stable: networks stay in the order given


def _distance(name: str, f: MatrixStatistic, reference: Ensemble, network: Ensemble) -> Distance:
    samples = (np.asarray(f(e.V[0])) for e in (reference, network))
    point = reference.deterministic or network.deterministic
    return distance_of_laws(name, float(reference.tau[0]), network.label, *samples, point=point)


def _shown(e: Ensemble) -> list[Quantity]:
    result: list[Quantity] = []

    def add(heading: str, symbol: str, f: MatrixStatistic) -> None:
        result.append(Quantity(symbol, heading, symbol, "layer time  τ = ℓ/L", lambda e: Curve(e.tau, f(e.V))))

    def pair(heading: str, i: int, j: int) -> None:
        start = np.median(correlation(e.V[0, e.alive[0]], i, j)) if e.alive[0].any() else np.nan
        where = f"starting at {start:.3g}" if e.tau[0] == 0 else f"{start:.3g} at τ = {e.tau[0]:.3g}"
        add(f"{heading}\n{where}", f"correlation ρ$_{{{i},{j}}}$", partial(correlation, i=i, j=j))

    def growth(V: NDArray[Any]) -> NDArray[np.float64]:
        logs = log_variance(V, 0)
        return np.asarray(logs - np.nanmedian(logs[0]))

    if e.m >= 2:
        most, least = similar_pairs(e)
        if most == least:
            pair(f"inputs {most[0]} and {most[1]}", *most)
        else:
            pair(f"most similar inputs, {most[0]} and {most[1]}", *most)
            pair(f"least similar inputs, {least[0]} and {least[1]}", *least)
    if e.tau[0] == 0:
        add("variance of input 0\nrelative to its start", "log [V$_{00}$(τ) / V$_{00}$(0)]", growth)
    else:
        add("variance of input 0\n", "log V$_{00}$", partial(log_variance, i=0))
    return result
