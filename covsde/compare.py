"""Comparing a limit with finite networks: z-scores, distances between laws, rates in the width."""

import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from covsde.ensemble import Ensemble, Estimate, MatrixStatistic, angle, correlation, log_variance
from covsde.status import FailedPathsWarning

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Statistic = MatrixStatistic | tuple[str, MatrixStatistic]
"""A function of V, whose mean is compared, or a pair ("mean" | "variance" | "median", function)."""

_REDUCTIONS: dict[str, Callable[[Ensemble, MatrixStatistic], Estimate]] = {
    "mean": Ensemble.mean,
    "variance": Ensemble.variance,
    "median": lambda e, f: e.quantile(f, 0.5),
}


@dataclass(frozen=True)
class Row:
    """One statistic of one network ensemble against the reference, at one layer time.

    `z` is (network - reference) over the root of the summed squared standard errors; the failures count the
    paths that had stopped by that layer time.
    """

    statistic: str
    tau: float
    label: str
    reference: float
    reference_se: float
    network: float
    network_se: float
    z: float
    reference_failures: int
    network_failures: int


@dataclass(frozen=True)
class Distance:
    """Distances between the laws of one quantity in the reference and in one network ensemble.

    Exploded paths count as +inf in the Kolmogorov-Smirnov distance of a log-variance; values left out
    (undefined ones there, all that are not finite in the Wasserstein-1 distance) are counted.
    """

    statistic: str
    tau: float
    label: str
    ks: float
    ks_p_value: float
    wasserstein: float
    reference_left_out_ks: int
    network_left_out_ks: int
    reference_left_out_wasserstein: int
    network_left_out_wasserstein: int


@dataclass(frozen=True)
class Comparison:
    """Result of `compare` at the last layer time: `print` shows the table, `rows` and `distances` hold it.

    Args:
        rows: One `Row` per statistic and network: values, standard errors and z.
        distances: One `Distance` per correlation or log-variance and network: Kolmogorov-Smirnov and Wasserstein-1.
        limit: The reference.
        networks: What it was compared with.
        statistics: The statistics by name.
        footer: What was left out of the table.
    """

    rows: tuple[Row, ...]
    distances: tuple[Distance, ...]
    limit: Ensemble
    networks: tuple[Ensemble, ...]
    statistics: Mapping[str, Statistic]
    footer: str = ""

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

    def to_dict(self) -> dict[str, Any]:
        """Return rows, distances and the metadata and failures of every ensemble, ready for JSON."""

        def describe(e: Ensemble) -> dict[str, Any]:
            return {"label": e.label, "paths": e.paths, "failures": e.failures, "metadata": e.metadata}

        return {
            "limit": describe(self.limit),
            "networks": [describe(e) for e in self.networks],
            "rows": [asdict(r) for r in self.rows],
            "distances": [asdict(d) for d in self.distances],
            "footer": self.footer,
        }

    def plot(self, path: str | os.PathLike[str] | None = None) -> "Figure":
        """Draw the comparison; needs the extra `plot`.

        Args:
            path: Where to save the figure, if anywhere; its suffix chooses the format.

        Returns:
            The matplotlib figure.
        """
        from covsde.plotting import plot_comparison

        return plot_comparison(self, path)

    def __str__(self) -> str:
        """Return the table as aligned text."""
        ensembles = [("reference", self.limit), *(("network", e) for e in self.networks)]
        lines = [f"{role:<9}  {e.label}: {size_text(e)}, {failure_text(e)}" for role, e in ensembles]
        lines.append("")
        lines += _table(
            ("statistic", "τ", "ensemble", "reference", "s.e.", "network", "s.e.", "z"),
            [
                (
                    r.statistic,
                    f"{r.tau:.3g}",
                    r.label,
                    *(f"{x:.4g}" for x in (r.reference, r.reference_se, r.network, r.network_se)),
                    f"{r.z:+.2f}",
                )
                for r in self.rows
            ],
            left=(0, 2),
        )
        if self.distances:
            lines.append("")
            lines += _table(
                ("distance of laws", "τ", "ensemble", "KS", "p", "W1", "not in KS", "not in W1"),
                [
                    (
                        d.statistic,
                        f"{d.tau:.3g}",
                        d.label,
                        *(f"{x:.3g}" for x in (d.ks, d.ks_p_value, d.wasserstein)),
                        f"{d.reference_left_out_ks} + {d.network_left_out_ks}",
                        f"{d.reference_left_out_wasserstein} + {d.network_left_out_wasserstein}",
                    )
                    for d in self.distances
                ],
                left=(0, 2),
            )
            lines.append("Values not in a distance are counted as reference + network.")
        if self.footer:
            lines += ["", self.footer]
        return "\n".join(lines)


def compare(limit: Ensemble, *networks: Ensemble, statistics: Mapping[str, Statistic] | None = None) -> Comparison:
    """Compare ensembles with a reference at the last layer time.

    Args:
        limit: The reference, of any kind.
        *networks: The ensembles to compare with it, of any kind, with the same number of inputs.
        statistics: Name to statistic; a function mapping (..., m, m) to (...) is compared in its mean, and a
            pair such as ("median", function) in its "mean", "variance" or "median". By default correlations,
            angles and log-variances.

    Returns:
        The comparison: a table of z-scores, and distances between the laws of correlations and log-variances.

    Raises:
        ValueError: If there is no network, the numbers of inputs differ, or the last layer times differ.

    Warns:
        FailedPathsWarning: Once per ensemble in which paths had stopped.
    """
    if not networks:
        raise ValueError("networks must hold at least one ensemble to compare with the limit; pass one after it.")
    for ensemble in (limit, *networks):
        if not isinstance(ensemble, Ensemble):
            raise ValueError(f"compare needs ensembles from simulate or sample_networks, got {ensemble!r}.")
    for network in networks:
        if network.m != limit.m:
            raise ValueError(
                f"networks: {network.label!r} has m={network.m} inputs and the limit has m={limit.m}; sample "
                "both on the same inputs."
            )
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
                stacklevel=2,
            )
    order = {d.statistic: n for n, d in reversed(list(enumerate(distances)))}
    distances.sort(key=lambda d: order[d.statistic])
    return Comparison(_by_statistic(rows, chosen), tuple(distances), limit, tuple(networks), chosen, footer)


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


def kolmogorov_smirnov(x: ArrayLike, y: ArrayLike) -> tuple[float, float]:
    """Return the two-sample Kolmogorov-Smirnov distance and its approximate p-value.

    Args:
        x: First sample, one-dimensional, without NaN; infinite values are ordered as such.
        y: Second sample, likewise.

    Returns:
        The largest distance between the empirical distribution functions, and the p-value by Kolmogorov's
        series with Stephens' correction for finite samples; both NaN if a sample is empty.
    """
    a, b = np.sort(np.asarray(x, np.float64)), np.sort(np.asarray(y, np.float64))
    if a.size == 0 or b.size == 0:
        return np.nan, np.nan
    points = np.concatenate([a, b])
    gaps = np.searchsorted(a, points, "right") / a.size - np.searchsorted(b, points, "right") / b.size
    distance = float(np.abs(gaps).max())
    root = np.sqrt(a.size * b.size / (a.size + b.size))
    scaled = (root + 0.12 + 0.11 / root) * distance
    if scaled < 0.3:  # the p-value is 1 to 5 digits here, and the series converges slowly
        return distance, 1.0
    k = np.arange(1, 101)
    series = 2 * np.sum((-1.0) ** (k - 1) * np.exp(-2 * (k * scaled) ** 2))
    return distance, float(np.clip(series, 0.0, 1.0))


def wasserstein(x: ArrayLike, y: ArrayLike) -> float:
    """Return the Wasserstein-1 distance between two samples: the area between their distribution functions.

    Args:
        x: First sample, one-dimensional, finite.
        y: Second sample, likewise.

    Returns:
        The distance, in the units of the samples; NaN if a sample is empty.
    """
    a, b = np.sort(np.asarray(x, np.float64)), np.sort(np.asarray(y, np.float64))
    if a.size == 0 or b.size == 0:
        return np.nan
    points = np.sort(np.concatenate([a, b]))
    left = points[:-1]
    gaps = np.searchsorted(a, left, "right") / a.size - np.searchsorted(b, left, "right") / b.size
    return float(np.sum(np.abs(gaps) * np.diff(points)))


def convergence_rate(widths: ArrayLike, errors: ArrayLike, standard_errors: ArrayLike) -> tuple[float, float]:
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


def extrapolate(values: ArrayLike, standard_errors: ArrayLike, widths: ArrayLike, power: float = 1.0) -> Estimate:
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
_FREE = {"steps", "seed", "paths", "chunk", "seconds", "versions", "platform"}


def richardson(coarse: Any, fine: Any, f: Callable[[Any], Any]) -> Estimate:
    """Extrapolate the mean of a statistic to infinitely many solver steps, from two runs of the same limit.

    It pays where the error of the steps exceeds the Monte Carlo noise: the noise of the difference is added.

    Args:
        coarse: Result of `simulate` or `train` with few steps.
        fine: The same with more steps and another key, saved at the same layer times.
        f: Statistic, as the method `mean` of the result takes it.

    Returns:
        Value and standard error, in the shape that `mean` gives.

    Raises:
        ValueError: If an ensemble is not a limit, the runs differ in more than steps, keys and paths, or the step
            counts are not increasing.
    """
    for e in (coarse, fine):
        if not {"steps", "order"} <= set(getattr(e, "metadata", ())):
            raise ValueError(f"richardson needs two limits, from simulate or train, got {e!r}.")
    settings = ({k: v for k, v in e.metadata.items() if k not in _FREE} for e in (coarse, fine))
    if next(settings) != next(settings):
        raise ValueError("coarse and fine must differ in their steps only: use the same limit, solver and save_at.")
    if coarse.metadata["seed"] == fine.metadata["seed"]:
        raise ValueError("coarse and fine must be independent for their standard error: use another key.")
    ratio = fine.metadata["steps"] / coarse.metadata["steps"]
    if ratio <= 1:
        raise ValueError("fine must have more steps than coarse: pass the runs in the other order.")
    weight = 1 / (ratio ** fine.metadata["order"] - 1)
    a, b = (Estimate(*e.mean(f)) for e in (coarse, fine))
    value = b.value + weight * (b.value - a.value)
    return Estimate(value, np.hypot((1 + weight) * b.standard_error, weight * a.standard_error))


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
                _z(b - a, np.hypot(a_se, b_se)),
                *failures,
            )
        )
    return rows


def _z(difference: float, se: float) -> float:
    if se == 0:  # both deterministic, as at τ = 0
        return 0.0 if abs(difference) < 1e-12 else float(np.copysign(np.inf, difference))
    return float(difference / se)


def _by_statistic(rows: Sequence[Row], statistics: Mapping[str, Statistic]) -> tuple[Row, ...]:
    order = {name: k for k, name in enumerate(statistics)}
    return tuple(sorted(rows, key=lambda r: order[r.statistic]))  # stable: networks stay in the order given


def _distance(name: str, f: MatrixStatistic, reference: Ensemble, network: Ensemble) -> Distance:
    samples = [np.asarray(f(e.V[0])) for e in (reference, network)]
    defined = [x[~np.isnan(x)] for x in samples]
    finite = [x[np.isfinite(x)] for x in samples]
    ks, p = kolmogorov_smirnov(*defined)
    if reference.deterministic or network.deterministic:
        p = np.nan  # the distance to a point is at least 1/2, however close the laws are
    return Distance(
        name,
        float(reference.tau[0]),
        network.label,
        ks,
        p,
        wasserstein(*finite),
        *(x.size - y.size for x, y in zip(samples, defined, strict=True)),
        *(x.size - y.size for x, y in zip(samples, finite, strict=True)),
    )


def size_text(e: Ensemble) -> str:
    """Return how many paths there are, in words.

    Args:
        e: The ensemble.

    Returns:
        For example "1000 paths", or "deterministic" if one path is the whole law.
    """
    return "deterministic" if e.deterministic else f"{e.paths} paths"


def failure_text(e: Ensemble) -> str:
    """Return how many paths failed and how, in words.

    Args:
        e: The ensemble.

    Returns:
        For example "3 failed (2 exploded, 1 lost PSD)".
    """
    failures = e.failures
    total = failures.pop("total")
    if total == 0:
        return "0 failed"
    details = ", ".join(f"{n} {name.lower().replace('_', ' ').replace('psd', 'PSD')}" for name, n in failures.items())
    return f"{total} failed ({details})"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]], left: Sequence[int]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]

    def line(cells: Sequence[str]) -> str:
        padded = [c.ljust(w) if k in left else c.rjust(w) for k, (c, w) in enumerate(zip(cells, widths, strict=True))]
        return "  ".join(padded).rstrip()

    return [line(header), "  ".join("-" * w for w in widths), *(line(r) for r in rows)]


def _checked(
    widths: ArrayLike, named: tuple[str, ArrayLike], standard_errors: ArrayLike
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
