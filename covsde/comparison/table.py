"""Comparisons: rows of a table with z-scores, distances between laws, text, JSON and figure."""

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from covsde.comparison.figure import plot_comparison
from covsde.comparison.laws import Distance
from covsde.comparison.text import failure_text, size_text
from covsde.results.html import html_table, paragraph
from covsde.results.quantity import LAYER_TIME, Quantity, name_of

_LEFT_OUT = "Values not in a distance are counted as reference + network."
_Cells = tuple[Sequence[str], Sequence[Sequence[str]]]  # a header and rows

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Row:
    """One statistic of one result against the reference, at one point of an axis.

    `axis` and `at` say where: "τ" and a layer time, or "update" and its number; `tau` is NaN unless the axis is layer
    time. `z` is (network - reference) over the root of the summed squared standard errors; the failures count the paths
    that had stopped by then. `step_error` is how far the reference is from what its steps gave, where that is known:
    then it is extrapolated to infinitely many.
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
    axis: str
    at: float
    step_error: float | None = None
    step_error_se: float | None = None


@dataclass(frozen=True, repr=False)
class CurveComparison:
    """Result of `compare`: `print` and the end of a notebook's cell show the table, `plot` draws it.

    Args:
        rows: One `Row` per statistic and network, where the axis of its quantity ends.
        distances: One `Distance` per quantity and network: Kolmogorov-Smirnov and Wasserstein-1.
        limit: The reference.
        networks: What it was compared with.
        footer: What was left out of the table.
    """

    rows: tuple[Row, ...]
    distances: tuple[Distance, ...]
    limit: Any
    networks: tuple[Any, ...]
    footer: str

    @property
    def quantities(self) -> list[Quantity]:
        """What the figure shows, one column each: the quantities of the reference."""
        return list(self.limit.quantities())

    def to_dict(self) -> dict[str, Any]:
        """Return rows, distances and the metadata and failures of every result, ready for JSON."""

        def describe(e: Any) -> dict[str, Any]:
            return {"label": name_of(e), "paths": e.paths, "failures": e.failures, "metadata": e.metadata}

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
        return plot_comparison(self.limit, self.networks, self.quantities, path=path)

    def __str__(self) -> str:
        """Return the table as aligned text."""
        lines = [f"{role:<9}  {sentence}" for role, sentence in self._results()]
        lines += ["", *_table(*self._statistics(), left=(0, 2))]
        if self.distances:
            lines += ["", *_table(*self._laws(), left=(0, 2)), _LEFT_OUT]
        if self.footer:
            lines += ["", self.footer]
        return "\n".join(lines)

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        """The table as notebooks show it."""
        blocks = [
            paragraph(f"{role}: {sentence}" for role, sentence in self._results()),
            html_table(*self._statistics()),
        ]
        if self.distances:
            blocks += [html_table(*self._laws()), paragraph([_LEFT_OUT])]
        if self.footer:
            blocks.append(paragraph([self.footer]))
        return "\n".join(blocks)

    def _results(self) -> list[tuple[str, str]]:
        """Reference and networks, each with its role, its size and its failures."""
        results = [("reference", self.limit), *(("network", e) for e in self.networks)]
        return [(role, f"{name_of(e)}: {', '.join([size_text(e), failure_text(e), *e.notes])}") for role, e in results]

    def _statistics(self) -> _Cells:
        where, points = _places(self.rows)
        stepped = any(r.step_error is not None for r in self.rows)

        def cells(r: Row) -> list[str]:
            step = [] if r.step_error is None else [r.step_error]
            own = [r.reference, r.reference_se, *step, r.network, r.network_se]
            return [*(f"{x:.4g}" for x in own), f"{r.z:+.2f}"]

        header = ["reference", "s.e.", *(["of step"] if stepped else []), "network", "s.e.", "z"]
        return (
            ("statistic", where, "ensemble", *header),
            [(r.statistic, point, r.label, *cells(r)) for r, point in zip(self.rows, points, strict=True)],
        )

    def _laws(self) -> _Cells:
        where, points = _places(self.distances)
        return (
            ("distance of laws", where, "ensemble", "KS", "p", "W1", "not in KS", "not in W1"),
            [
                (
                    d.statistic,
                    point,
                    d.label,
                    *(f"{x:.3g}" for x in (d.ks, d.ks_p_value, d.wasserstein)),
                    f"{d.reference_left_out_ks} + {d.network_left_out_ks}",
                    f"{d.reference_left_out_wasserstein} + {d.network_left_out_wasserstein}",
                )
                for d, point in zip(self.distances, points, strict=True)
            ],
        )


def _places(lines: Sequence[Row] | Sequence[Distance]) -> tuple[str, list[str]]:
    """The heading and the cells of the column that says where a line of the table is."""
    if all(line.axis == LAYER_TIME.symbol for line in lines):
        return LAYER_TIME.symbol, [f"{line.at:.3g}" for line in lines]
    return "at", [f"{line.axis} = {line.at:.3g}" for line in lines]


def _table(header: Sequence[str], rows: Sequence[Sequence[str]], left: Sequence[int]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]

    def line(cells: Sequence[str]) -> str:
        padded = [c.ljust(w) if k in left else c.rjust(w) for k, (c, w) in enumerate(zip(cells, widths, strict=True))]
        return "  ".join(padded).rstrip()

    return [line(header), "  ".join("-" * w for w in widths), *(line(r) for r in rows)]
