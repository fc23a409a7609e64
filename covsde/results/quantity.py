"""What results say of themselves: quantities along an axis, by which they are compared and drawn, and a name."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from numpy.typing import NDArray


class Axis(NamedTuple):
    """What a quantity is followed along.

    Attributes:
        name: below a column of the figure.
        symbol: what its points are given in, as in "τ = 1".
        integer: whether points are counted.
        backward: whether it runs from 1 to 0 in its symbol, as what comes down from the output does.
    """

    name: str
    symbol: str
    integer: bool = False
    backward: bool = False

    def point(self, x: float) -> float:
        """A point of the axis in terms of its symbol."""
        return 1 - x if self.backward else x

    def at(self, x: float) -> str:
        """A point of the axis in words, such as "τ = 1" or "update 4"."""
        return f"{self.symbol} {'' if self.integer else '= '}{self.point(x):.4g}"

    def layer_time(self, x: float) -> float:
        """The layer time of a point; NaN if this is an axis of something else."""
        return self.point(x) if self.symbol == LAYER_TIME.symbol else math.nan


LAYER_TIME = Axis("layer time  τ = ℓ/L", "τ")
FROM_THE_OUTPUT = Axis("1 - τ", "τ", backward=True)
UPDATE = Axis("update", "update", integer=True)


class Curve(NamedTuple):
    """A quantity along an axis, on every path: NaN where a path has no value, infinite where it exploded.

    Attributes:
        x: points on the axis, increasing, (points,).
        values: (points, paths).
        standard_error: of a deterministic result that was computed with Monte Carlo error, (points,).
        valid: which paths means and variances are over at each point, (points, paths); by default those that are fine
            and have a finite value.
        shared_error: standard error of what all paths of a random result have in common, (points,): of their mean and
            their median, beside what their spread gives.
    """

    x: NDArray[Any]
    values: NDArray[Any]
    standard_error: NDArray[Any] | None = None
    valid: NDArray[Any] | None = None
    shared_error: NDArray[Any] | None = None


class Quantity(NamedTuple):
    """A quantity that results of some kind are compared in.

    Attributes:
        name: in the table, where it is taken at the end of its axis.
        heading: above its column of the figure.
        symbol: on the axes of the figure.
        axis: what `Curve.x` is a point of.
        curve: of a result.
    """

    name: str
    heading: str
    symbol: str
    axis: Axis
    curve: Callable[[Any], Curve]


def name_of(result: Any, *, figure: bool = False) -> str:
    """Return what a result is called in tables, legends and errors.

    Args:
        result: a record, or anything with such metadata.
        figure: whether for a figure, which names the width by its letter and a limit without a label as the SDE.

    Returns:
        Its label or, without one, its kind and width.
    """
    label, kind = result.metadata.get("label"), result.metadata.get("kind", "ensemble")
    width = result.metadata.get("width")
    if figure and kind == "network" and width is not None:
        return f"networks, width n={width}"
    if label:
        return str(label)
    if figure and kind == "limit":
        return "limit (SDE)"
    return str(kind if width is None else f"{kind}, width {width}")
