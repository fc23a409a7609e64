"""Holding results against a reference: z-scores of statistics, distances between laws, one figure."""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any, overload

import numpy as np

from covsde.comparison.covariances import Comparison, Statistic, measures_of, selected
from covsde.comparison.curves import REDUCTIONS, Measure, distances_of, rows_of
from covsde.comparison.laws import Distance
from covsde.comparison.table import CurveComparison, Row
from covsde.inputs.arguments import one_line
from covsde.results.ensemble import Ensemble
from covsde.results.quantity import Quantity, name_of
from covsde.results.status import FailedPathsWarning, UnresolvedStepWarning


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
        training), distances between the laws of the same quantities, and `plot`. Against a deterministic limit of
        training there are means only. A limit that was trained in half its steps too (`Training.coarse`) is
        extrapolated to infinitely many steps, and the table says what that adds.

    Raises:
        ValueError: If there is no network, a result is of another kind than the limit, or they are not of the same
            inputs, layer times or updates.

    Warns:
        FailedPathsWarning: Once per result in which paths had stopped.
        UnresolvedStepWarning: If the error of the step of a limit that is extrapolated is well above its noise.
    """
    if not networks:
        raise ValueError("networks must hold at least one result to compare with the limit; pass one after it.")
    if not hasattr(limit, "quantities"):
        raise ValueError(
            f"limit must be a result of covsde, such as those of simulate or train, got {one_line(limit)}."
        )
    for network in networks:
        _check_kind(limit, network)
        _check_same_problem(limit, network)
    if statistics is not None and not isinstance(statistics, Mapping):
        raise ValueError(
            "statistics must map names to functions of V, as in {'V_01': lambda V: V[..., 0, 1]}, got "
            f"{one_line(statistics)}."
        )
    if isinstance(limit, Ensemble):
        default, laws, footer = selected(limit)
        chosen = default if statistics is None else dict(statistics)
        measures = measures_of(chosen)
        return Comparison(*_table(measures, laws, limit, networks), limit, networks, footer, chosen)
    if statistics is not None:
        raise ValueError("statistics are for ensembles of Gram matrices: leave it out, and use .mean of the results.")
    measures, laws = _of_quantities(limit)
    rows, distances = _table(measures, laws, limit, networks)
    return CurveComparison(rows, distances, limit, networks, footer=_of_steps(limit, rows))


def _of_steps(limit: Any, rows: Sequence[Row]) -> str:
    """How the reference is extrapolated in its steps, with a warning where these are too few."""
    if getattr(limit, "coarse", None) is None:
        return ""
    steps, few = limit.metadata["steps"], limit.coarse.metadata["steps"]
    large = sorted({r.statistic for r in rows if _certain(r.step_error, r.step_error_se)})
    if large:
        warnings.warn(
            f"The error of the step is seen beyond {_CERTAIN} standard errors in {one_line(', '.join(large))}: the "
            f"table takes it away to leading order only, so use more than {steps} steps.",
            UnresolvedStepWarning,
            stacklevel=3,  # whoever called compare
        )
    return (
        f'The reference is extrapolated from {few} and {steps} steps; "of step" is what that adds to {steps} steps, '
        "whose laws the distances are of."
    )


def _table(
    measures: Sequence[Measure], laws: Sequence[Quantity], limit: Any, networks: Sequence[Any]
) -> tuple[tuple[Row, ...], tuple[Distance, ...]]:
    """Rows and distances, with a warning for each result in which paths failed."""
    rows, distances = rows_of(measures, limit, networks), distances_of(laws, limit, networks)
    for e in (limit, *networks):
        failed = e.failures["total"]
        if failed:
            warnings.warn(
                f"{failed} of {e.paths} paths of {name_of(e)!r} failed: means and variances are over the others; "
                "medians and KS distances count those that exploded where a quantity can be infinite, such as a "
                "variance or a loss.",
                FailedPathsWarning,
                stacklevel=3,  # whoever called compare
            )
    return tuple(rows), tuple(distances)


def _certain(value: float | None, error: float | None) -> bool:
    return value is not None and error is not None and abs(value) > _CERTAIN * error


def _of_quantities(limit: Any) -> tuple[list[Measure], list[Quantity]]:
    """All statistics and laws of the quantities of a reference; of a deterministic one the means only."""
    quantities = limit.quantities()
    reductions = REDUCTIONS[:1] if limit.deterministic else REDUCTIONS
    measures = [Measure(f"{reduction} {q.name}", reduction, q) for q in quantities for reduction in reductions]
    return measures, [] if limit.deterministic else quantities


def _check_kind(limit: Any, network: Any) -> None:
    """Refuse a result of another kind than the reference, and a limit held against networks."""
    if isinstance(network, list | tuple):
        raise ValueError("networks must be passed one by one: write compare(limit, *networks) for a list of them.")
    if getattr(limit, "kind", None) == "network" and getattr(network, "kind", None) == "limit":
        raise ValueError(
            f"limit must come first, and {name_of(network)!r} comes after {name_of(limit)!r}: call "
            "compare(limit, networks)."
        )
    alike = isinstance(limit, type(network)) or (limit.deterministic and not getattr(network, "deterministic", True))
    if not alike:
        raise ValueError(
            f"networks: {one_line(network)} is no result to compare with {limit!r}; compare results of one kind."
        )


# Standard errors beyond which the error of the step is not chance.
_CERTAIN = 4

# What makes two results answers to one question, where both of them say it; architectures may differ.
_PROBLEM = ("V0", "rho0", "targets", "loss", "learning_rate", "updates", "optimizer", "batches", "centred")
# Of the largest entry: the same inputs in float32 and in float64 are one problem.
_ROUNDING = 1e-6


def _check_same_problem(limit: Any, network: Any) -> None:
    """Refuse a result of other inputs or of another training than the reference, as far as both say what they are of.

    What only one of them says, as hand-made results may, is not held against it.
    """
    inputs = [getattr(e, "m", None) for e in (limit, network)]
    if not _agree(*inputs):
        raise ValueError(
            f"networks: {name_of(network)!r} has m={inputs[1]} inputs and the limit has m={inputs[0]}; sample both on "
            "the same inputs."
        )
    ours, theirs = limit.metadata, network.metadata
    for what in _PROBLEM:
        if not _agree(ours.get(what), theirs.get(what)):
            raise ValueError(f"networks: {name_of(network)!r} has another {what} than the limit; run both on the same.")
    # Functions are known by their compiled code, which is another in every version of Python.
    python = [(metadata.get("versions") or {}).get("python") for metadata in (ours, theirs)]
    if python[0] == python[1] and not _agree(ours.get("loss_identity"), theirs.get("loss_identity")):
        raise ValueError(
            f"networks: {name_of(network)!r} has another loss than the limit, of the same name; pass both the same "
            "function."
        )


def _agree(ours: Any, theirs: Any) -> bool:
    """Whether two entries of metadata are equal up to rounding; an absent one agrees with any."""
    if ours is None or theirs is None or ours == theirs:
        return True
    try:
        a, b = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    except (TypeError, ValueError):  # not numbers
        return False
    if a.shape != b.shape or np.any(np.isnan(a) != np.isnan(b)):
        return False
    a, b = np.nan_to_num(a), np.nan_to_num(b)
    return bool(np.all(np.abs(a - b) <= _ROUNDING * np.max(np.abs(a), initial=0)))
