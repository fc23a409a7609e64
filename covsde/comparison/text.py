"""Sizes and failures in words, for tables and figures; tables for notebooks."""

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any


def size_text(e: Any) -> str:
    """Return how many paths there are, in words.

    Args:
        e: An ensemble, or another result.

    Returns:
        For example "1000 paths", or "deterministic" if one path is the whole law.
    """
    return "deterministic" if e.deterministic else f"{e.paths} paths"


def failure_text(e: Any) -> str:
    """Return how many paths failed and how, in words.

    Args:
        e: An ensemble, or another result.

    Returns:
        For example "3 failed (2 exploded, 1 lost PSD)".
    """
    failures = e.failures
    total = failures.pop("total")
    if total == 0:
        return "0 failed"
    details = ", ".join(f"{n} {name.lower().replace('_', ' ').replace('psd', 'PSD')}" for name, n in failures.items())
    return f"{total} failed ({details})"


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
