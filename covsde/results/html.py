"""Tables for notebooks."""

import warnings
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

import numpy as np

# Rows of a table that a page has room for.
MOST_ROWS = 24


def paragraph(lines: Iterable[str]) -> str:
    """Lines below each other, as HTML."""
    return f"<p>{'<br>'.join(map(escape, lines))}</p>"


def html_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table as HTML.

    Args:
        header: what stands above the columns.
        rows: cells, as many as the header has.
    """

    def line(cells: Sequence[str], tag: str) -> str:
        return f"<tr>{''.join(f'<{tag}>{escape(cell)}</{tag}>' for cell in cells)}</tr>"

    body = "\n".join(line(row, "td") for row in rows)
    return f"<table>\n<thead>{line(header, 'th')}</thead>\n<tbody>\n{body}\n</tbody>\n</table>"


def numbers(matrix: Any, names: Sequence[str] | None = None) -> str:
    """A matrix of numbers as HTML, of its first rows and columns where it is large.

    Args:
        matrix: (rows, columns).
        names: what stands above the columns; by default their numbers.
    """
    values = np.asarray(matrix)
    shown = values[:MOST_ROWS, :MOST_ROWS]
    header = [*(names or map(str, range(shown.shape[1]))), *(["…"] if shown.shape[1] < values.shape[1] else [])]
    rows = [[*(f"{x:.4g}" for x in row), *(["…"] if len(header) > len(row) else [])] for row in shown]
    if shown.shape[0] < values.shape[0]:
        rows.append(["…"] * len(header))
    return html_table(header, rows)


def _extrapolated(record: Any, name: str) -> list[str]:
    """The mean of the quantity of this name, extrapolated in the steps, and what that added."""
    quantity = next(q for q in record.quantities() if q.name == name)

    def end(r: Any) -> Any:
        return quantity.curve(r).values[-1]

    with warnings.catch_warnings():  # the page says how many paths failed
        warnings.simplefilter("ignore")
        value, error = record.extrapolated(end)
        return [f"{value:.4g} ± {error:.2g} ({record.step_error(end).value:+.2g})"]


def record_page(record: Any) -> str:
    """A result: what it is, and where the paths of its quantities are at the end of their axes.

    Args:
        record: a `Record`.
    """
    rows = []
    for quantity in record.quantities()[:MOST_ROWS]:
        curve = quantity.curve(record)
        known = curve.values[-1][~np.isnan(curve.values[-1])]
        if known.size == 0:
            rows.append((quantity.name, quantity.axis.at(float(curve.x[-1])), "none", ""))
            continue
        low, median, high = np.quantile(known, (0.25, 0.5, 0.75), method="lower")
        spread = "" if record.deterministic else f"{low:.4g} to {high:.4g}"
        rows.append((quantity.name, quantity.axis.at(float(curve.x[-1])), f"{median:.4g}", spread))
    said = [repr(record), str(record.metadata.get("architecture", ""))]
    header = ["quantity", "at", "value" if record.deterministic else "median", "half of the paths"]
    if getattr(record, "coarse", None) is not None:
        header.append("mean, without error of the step")
        rows = [(*row, *_extrapolated(record, row[0])) for row in rows]
    table = html_table(header, rows)
    return "\n".join([paragraph(line for line in said if line), table])
