"""What results say of themselves: quantities on a grid, by which they are compared and drawn."""

from collections.abc import Callable
from typing import Any, NamedTuple

from numpy.typing import NDArray


class Curve(NamedTuple):
    """A quantity along an axis, on every path: NaN where a path has no value, infinite where it exploded.

    Attributes:
        x: points on the axis, increasing, (points,).
        values: (points, paths).
        standard_error: of a deterministic result that was computed with Monte Carlo error, (points,).
    """

    x: NDArray[Any]
    values: NDArray[Any]
    standard_error: NDArray[Any] | None = None


class Quantity(NamedTuple):
    """A quantity that results of some kind are compared in.

    Attributes:
        name: in the table, where it is taken at the end of its axis.
        heading: above its column of the figure.
        symbol: on the axes of the figure.
        axis: what `Curve.x` is.
        curve: of a result.
    """

    name: str
    heading: str
    symbol: str
    axis: str
    curve: Callable[[Any], Curve]


def name_of(e: Any) -> str:
    """Return what a result is called in tables and legends."""
    kind, width = e.metadata.get("kind", "ensemble"), e.metadata.get("width")
    return str(e.metadata.get("label") or (kind if width is None else f"{kind}, width {width}"))
