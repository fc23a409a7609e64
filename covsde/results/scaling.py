"""Losses of solvable models over training: of the theory, and of finite models that were drawn and trained."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from covsde.results.html import numbers, paragraph
from covsde.results.quantity import UPDATE, Axis, Curve, Quantity
from covsde.results.record import Record

TIME = Axis("training time t", "t")
SAMPLES = Axis("training inputs P", "P")


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class LossCurves(Record):
    """Test and train loss over training; unpacks into both.

    Args:
        status: one `PathStatus` per draw.
        metadata: how it was computed.
        times: t of gradient flow, numbers of updates, or of samples where those are varied, increasing, (times,).
        test: loss on fresh inputs, without the noise of their labels, (times, draws).
        train: mean of (y - f)² over the samples, with their noise, (times, draws).
        weight_norm: |w|² of students that learn features, (times, draws), or None.
    """

    path_axis: ClassVar[Mapping[str, int]] = {"status": 0, "test": 1, "train": 1, "weight_norm": 1}
    _optional: ClassVar[tuple[str, ...]] = ("weight_norm",)

    times: NDArray[Any]
    test: NDArray[Any]
    train: NDArray[Any]
    weight_norm: NDArray[Any] | None = None

    def __iter__(self) -> Iterator[NDArray[Any]]:
        """Test losses, then train losses."""
        return iter((self.test, self.train))

    def _sizes(self) -> str:
        return f"{len(self.times)} times, {self.paths} draws"

    @property
    def axis(self) -> Axis:
        """What `times` count."""
        return {"updates": UPDATE, "samples": SAMPLES}.get(str(self.metadata.get("time")), TIME)

    def curve(self, name: str) -> Curve:
        """One of the arrays, draw by draw."""
        values = getattr(self, name)
        if values is None:
            raise AttributeError(f"{name} is of students that learn features")
        return Curve(self.times, values.reshape(len(self.times), -1))

    def quantities(self) -> list[Quantity]:
        """Losses, and |w|² where features learn."""
        named = {"test": "test loss", "train": "train loss", "weight_norm": "|w|²"}
        return [
            Quantity(
                f"{text} at {self.axis.at(self.times[-1])}",
                text,
                text,
                self.axis,
                lambda r, name=name: r.curve(name),  # type: ignore[misc]
            )
            for name, text in named.items()
            if getattr(self, name) is not None and np.isfinite(getattr(self, name)).any()
        ]


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class ScalingLaw(LossCurves):
    """Losses of the deterministic theory: as those of draws, with arrays (times,), and one status.

    Args:
        effective_time: S(t) = ∫(1 + γ|w|²) dt of students that learn features, (times,), or None.
    """

    path_axis: ClassVar[Mapping[str, int]] = {"status": 0}
    _optional: ClassVar[tuple[str, ...]] = ("weight_norm", "effective_time")

    effective_time: NDArray[Any] | None = None

    def _sizes(self) -> str:
        return f"{len(self.times)} times"

    def _repr_html_(self) -> str:
        """The losses, for notebooks."""
        table = numbers(np.stack([self.times, self.test, self.train], axis=1), ["time", "test", "train"])
        return "\n".join([paragraph([repr(self)]), table])


@dataclasses.dataclass(frozen=True)
class Frontier:
    """The best number of features for each compute budget C = N t.

    Attributes:
        compute: C, (budgets,).
        features: N that minimises the loss, real, (budgets,).
        times: t = C/N, (budgets,).
        losses: the test loss there, (budgets,).
    """

    compute: NDArray[np.float64]
    features: NDArray[np.float64]
    times: NDArray[np.float64]
    losses: NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class OptimalRates:
    """Learning rates that minimise the last loss of online SGD.

    Attributes:
        rates: η_n, (horizon,).
        losses: test loss before each step and after the last, (horizon + 1,).
        sweeps: how many sweeps over the horizon were made.
        converged: whether the last sweep changed the last loss by less than the tolerance.
        constant_rate: the best rate that is the same at every step.
        constant_loss: the last loss with it.
    """

    rates: NDArray[np.float64]
    losses: NDArray[np.float64]
    sweeps: int
    converged: bool
    constant_rate: float
    constant_loss: float
