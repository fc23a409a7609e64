"""Checks that every architecture must pass, this library's own and yours.

import pytest
from covsde.testing import checks

@pytest.mark.parametrize("check", checks(MyArchitecture()), ids=str)
def test_my_architecture(check):
    check()
"""

import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from covsde.architectures.base import AbstractArchitecture, AbstractTrainable, AbstractWithGradients
from covsde.comparison.extrapolation import extrapolate
from covsde.drivers.gradients import sample_network_gradients, simulate_gradients
from covsde.drivers.simulate import sample_networks, simulate
from covsde.drivers.train import train, train_networks
from covsde.results.ensemble import correlation
from covsde.results.estimate import Estimate
from covsde.results.status import FailedPathsWarning, PathStatus

# Two samples of the same law differ by more than this many standard errors once in ten million comparisons.
_SIGMAS = 5.5


@dataclass(frozen=True)
class Sample:
    """The small runs that the checks make.

    Args:
        V0: inputs.
        widths: two widths of networks, for the extrapolation to infinite width.
        draws: networks and paths where laws are compared.
        few: paths and networks where bits are compared.
        steps: of the limit; default: what each question takes by itself, 4 for training.
    """

    V0: NDArray[np.float64]
    widths: tuple[int, int] = (16, 32)
    draws: int = 2000
    few: int = 12
    steps: int | None = None


PAIR = Sample(np.array([[1.0, 0.4], [0.4, 0.8]]))


@dataclass(frozen=True)
class Check:
    """A statement about an architecture, which calling it tests.

    Args:
        statement: in words.
        function: raises an AssertionError if it is not so.
    """

    statement: str
    function: Callable[[], None]

    def __call__(self) -> None:
        """Test the statement."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FailedPathsWarning)
            self.function()

    def __str__(self) -> str:
        """Return the statement."""
        return self.statement


def check_architecture(architecture: AbstractArchitecture, sample: Sample = PAIR) -> None:
    """Test everything that is asked of an architecture.

    Args:
        architecture: with all its hyperparameters.
        sample: how large the runs are.

    Raises:
        AssertionError: at the first statement that does not hold, with the figures.

    Example:
        ```python
        from covsde.testing import check_architecture

        check_architecture(cs.MLP(cs.ShapedReLU(0.0, -1.0), depth_to_width=0.5))
        ```
    """
    for check in checks(architecture, sample):
        check()


def checks(architecture: AbstractArchitecture, sample: Sample = PAIR) -> list[Check]:
    """All statements about an architecture, according to what it can do, each to be tested on its own."""
    return [Check(statement, function) for statement, function in _statements(architecture, sample)]


def _statements(a: AbstractArchitecture, s: Sample) -> Iterator[tuple[str, Callable[[], None]]]:
    def limit(**more: Any) -> Any:
        return simulate.plan(a, s.V0, **{"paths": s.few, "chunk": 5, "key": 1, "steps": s.steps} | more)

    def networks(**more: Any) -> Any:
        shape = {"width": s.widths[0], "depth": _shallow(a, s.widths[0], 8), "draws": s.few, "chunk": 5, "key": 1}
        return sample_networks.plan(a, s.V0, **shape | more)

    yield "the limit is reproducible and resumable", lambda: _reproducible(limit)
    yield "networks are reproducible and resumable", lambda: _reproducible(networks)
    yield "what cannot be computed is refused in a sentence", lambda: _refused(a, limit, networks)
    yield "inputs beyond any limit end in marked paths or in numbers", lambda: _marked(a, s)
    yield "networks in law agree with networks with weights", lambda: _same_law(a, s)
    yield "networks approach the limit", lambda: _approach(a, s)
    if isinstance(a, AbstractWithGradients):

        def gradients(**more: Any) -> Any:
            return simulate_gradients.plan(a, s.V0, **{"paths": s.few, "chunk": 5, "key": 1, "steps": s.steps} | more)

        def network_gradients(**more: Any) -> Any:
            shape = {"width": s.widths[0], "draws": s.few, "chunk": 5, "key": 1}
            return sample_network_gradients.plan(a, s.V0, **shape | more)

        if _possible(gradients):
            yield "gradients are reproducible and resumable", lambda: _reproducible(gradients)
            yield "gradients of networks are reproducible and resumable", lambda: _reproducible(network_gradients)
    if isinstance(a, AbstractTrainable):
        task: dict[str, Any] = {
            "targets": np.resize([1.0, -1.0], len(s.V0)),
            "updates": 1,
            "learning_rate": 0.5,
            "key": 1,
        }

        few: dict[str, Any] = {"steps": s.steps or 4}
        if not _possible(lambda: train.plan(a, s.V0, **task | few)):
            few = {}  # the architecture has its own

        def training(**more: Any) -> Any:
            return train.plan(a, s.V0, **task | {"paths": s.few, "chunk": 5} | few | more)

        def trained_networks(**more: Any) -> Any:
            shape = {
                "width": s.widths[0],
                "depth": _shallow(a, s.widths[0], 3),
                "draws": s.few,
                "chunk": 5,
                "method": "weights",
            }
            return train_networks.plan(a, s.V0, **task | shape | more)

        if _possible(training):
            yield "training of the limit is reproducible and resumable", lambda: _reproducible(training)
        if _possible(trained_networks):
            yield "training of networks is reproducible and resumable", lambda: _reproducible(trained_networks)


def _shallow(a: AbstractArchitecture, width: int, most: int) -> int:
    """A small depth that networks of this width can have."""
    try:
        return a.network_depth(width, min(most, a.depth(width)))
    except ValueError:
        return a.depth(width)


def _possible(plan: Callable[..., Any]) -> bool:
    try:
        plan()
    except (TypeError, ValueError):  # an activation, a block or a width profile without such a limit
        return False
    return True


def _arrays(result: Any) -> dict[str, NDArray[Any]]:
    return {name: value for name, value in vars(result).items() if isinstance(value, np.ndarray)}


def _equal(found: Any, expected: Any, what: str) -> None:
    for name, value in _arrays(expected).items():
        np.testing.assert_array_equal(getattr(found, name), value, err_msg=f"{what}: {name}")


def _reproducible(plan: Callable[..., Any]) -> None:
    """One key, one result, whatever is interrupted and resumed, saved and loaded."""
    whole = plan().run()
    _equal(plan().run(), whole, "a second run of the same key differs")
    assert plan(key=2).fingerprint != plan().fingerprint, "runs of two keys have one fingerprint"
    assert whole.paths == (1 if whole.deterministic else plan().chunks.total), "the result has another number of paths"
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "run"
        plan().run(checkpoint=place)
        parts = sorted(place.glob("chunk-*.npz"))
        assert len(parts) == plan().chunks.count, "not every chunk was kept"
        for part in parts[::2]:
            part.unlink()
        before = {part: part.stat().st_mtime_ns for part in parts[1::2]}
        _equal(plan().run(checkpoint=place), whole, "a resumed run differs")
        assert all(part.stat().st_mtime_ns == at for part, at in before.items()), "finished chunks were computed again"
        with _refusal("other settings"):
            plan(key=2).run(checkpoint=place)
        whole.save(Path(folder) / "result.npz")
        loaded = type(whole).load(Path(folder) / "result.npz")
        _equal(loaded, whole, "a result that was saved and loaded differs")
        assert loaded.metadata == whole.metadata, "the metadata of a result that was saved and loaded differs"


@contextmanager
def _refusal(part: str) -> Iterator[None]:
    """Expect a ValueError of one sentence that names `part`."""
    try:
        yield
    except ValueError as error:
        text = str(error)
        assert part in text, f"the refusal {text!r} does not name {part!r}"
        assert "\n" not in text, f"the refusal {text!r} is more than a sentence"
        assert text.endswith((".", "?")), f"the refusal {text!r} is not a sentence"
        return
    raise AssertionError(f"nothing was refused where a sentence about {part!r} was due")


def _refused(a: AbstractArchitecture, limit: Callable[..., Any], networks: Callable[..., Any]) -> None:
    for V0 in ([[1.0, 2.0], [2.0, 1.0]], [[1.0, np.nan], [np.nan, 1.0]], [[1.0, 0.0]]):
        with _refusal("V0"):
            simulate.plan(a, V0)
    for name, value in (("paths", 0), ("chunk", 0), ("dtype", "float16"), ("save_at", [2.0]), ("key", True)):
        with _refusal(name):
            limit(**{name: value})
    for name, value in (("width", 0), ("draws", 0), ("depth", 0)):
        with _refusal(name):
            networks(**{name: value})
    with _refusal("method"):
        networks(method="guess").rehearse()


def _marked(a: AbstractArchitecture, s: Sample) -> None:
    try:
        result = simulate(a, 1e12 * s.V0, paths=s.few, chunk=5, steps=simulate.plan(a, s.V0).metadata["steps"])
    except ValueError:
        return  # refused
    fine = result.status == PathStatus.FINE
    assert np.all(np.isfinite(result.V[:, fine])), "a path without a mark holds numbers that are not finite"


def _statistics(result: Any) -> dict[str, Estimate]:
    """Means of log V_00 and of the correlation at τ = 1 over the paths that have them."""
    V = result.V[-1]
    V = V[np.all(np.isfinite(V), axis=(1, 2))]
    with np.errstate(divide="ignore", invalid="ignore"):
        values = {"log V_00": np.log(V[:, 0, 0]), "rho_01": correlation(V, 0, 1)}
    return {name: Estimate(*_mean(x[np.isfinite(x)])) for name, x in values.items()}


def _mean(x: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    error = np.std(x, ddof=1) / np.sqrt(x.size) if x.size > 1 else np.asarray(0.0)
    return np.asarray(x.mean()), np.asarray(error)


def _same_law(a: AbstractArchitecture, s: Sample) -> None:
    shape: dict[str, Any] = {
        "width": s.widths[0],
        "depth": _shallow(a, s.widths[0], 4),
        "draws": 2 * s.draws,
        "save_at": [0.0, 1.0],
    }
    law, weights = (
        _statistics(sample_networks(a, s.V0, method=method, key=key, **shape))
        for method, key in (("law", 3), ("weights", 4))
    )
    for name, here in law.items():
        _agree(here, weights[name], f"{name} of networks in law and with weights")


def _agree(here: Estimate, there: Estimate, what: str, slack: float = 1e-9) -> None:
    difference = float(here.value - there.value)
    error = float(np.hypot(here.standard_error, there.standard_error))
    message = f"{what}: {float(here.value):.5g} and {float(there.value):.5g} differ by {difference:.3g} ± {error:.2g}"
    assert abs(difference) <= _SIGMAS * error + slack, message


def _approach(a: AbstractArchitecture, s: Sample) -> None:
    """Means of two widths, extrapolated in 1/width, are those of the limit."""
    limit = _statistics(simulate(a, s.V0, paths=s.draws, key=5, save_at=[0.0, 1.0]))
    found = [_statistics(sample_networks(a, s.V0, width=w, draws=s.draws, key=w, save_at=[0.0, 1.0])) for w in s.widths]
    for name, expected in limit.items():
        values, errors = ([getattr(f[name], part) for f in found] for part in ("value", "standard_error"))
        if max(errors) == 0:
            continue
        # The quadratic term of the expansion in 1/width is left: at most the linear one of the larger width, squared.
        slack = float(values[0] - values[1]) ** 2
        _agree(
            extrapolate(values, errors, s.widths), expected, f"{name} of networks extrapolated, and of the limit", slack
        )
