"""Tables in text files as spreadsheets, data frames and NumPy write them: the unambiguous is read, the rest named."""

import csv
import gzip
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?|[+-]?(nan|inf|infinity)", re.IGNORECASE | re.ASCII)
_MEANT = re.compile(r"[+-]?\d[\d_.,' ]*")  # for a number, but in a way that no format knows
_INTEGER = re.compile(r"\d+", re.ASCII)
_SEPARATORS = {";": "semicolons", "\t": "tabs", ",": "commas", " ": "spaces"}
_MOST_COUNTED = 9  # columns up to which a line 0, 1, 2, … above integers may well be an input


class UnreadableFile(ValueError):
    """A file that holds no matrix of finite numbers."""


@dataclass(frozen=True)
class Line:
    """The cells of one line, without the blanks around them, and its number in the file, counted from 1."""

    number: int
    cells: list[str]


@dataclass(frozen=True)
class Text:
    """A table of text.

    Args:
        path: where it comes from.
        separator: of the cells: one of ; , a tab, or a space for runs of them.
        comma: whether numbers have decimal commas.
        names: of the columns, "" for one without a name; None if the file has no header.
        lines: what lies below the header.
        notes: what was taken as what.
    """

    path: Path
    separator: str
    comma: bool
    names: list[str] | None
    lines: list[Line]
    notes: tuple[str, ...]

    def numbers(self, columns: Sequence[int]) -> Float[np.ndarray, "rows columns"]:
        """These columns as numbers, finite or not.

        Raises:
            UnreadableFile: for a cell that is no number, with its line and column.
        """
        found = np.empty((len(self.lines), len(columns)))
        for row, line in enumerate(self.lines):
            for place, column in enumerate(columns):
                cell = line.cells[column].replace(",", ".") if self.comma else line.cells[column]
                if not NUMBER.fullmatch(cell):
                    raise self._no_number(line, column)
                found[row, place] = float(cell)
        return found

    def counts(self, column: int) -> bool:
        """Whether a column holds 0, 1, 2, … or 1, 2, 3, … from the first line to the last."""
        cells = [line.cells[column] for line in self.lines]
        return any(cells == [str(k) for k in range(start, start + len(cells))] for start in (0, 1))

    def _no_number(self, line: Line, column: int) -> UnreadableFile:
        cell, separator = line.cells[column], _SEPARATORS[self.separator]
        what = f"holds {_short(cell)}, which is not a number" if cell else "is empty"
        if re.fullmatch(r"[+-]?\d*,\d+", cell):
            remedy = (
                f"write decimal points, or separate numbers with decimal commas by semicolons and not by {separator}"
            )
        elif _MEANT.fullmatch(cell):
            remedy = "write digits without separators between them, and one decimal point or, between semicolons, comma"
        elif not cell:
            remedy = f"give a number there (the file was read as separated by {separator})"
        else:
            remedy = (
                f"give numbers separated by commas (the file was read as separated by {separator}), or leave a column "
                "of text out with --columns"
            )
        return UnreadableFile(f"{self.path}: line {line.number}, column {column + 1} {what}; {remedy}.")


def _short(cell: str) -> str:
    return repr(cell if len(cell) <= 40 else f"{cell[:40]}…")


def _cells(line: str, separator: str) -> list[str]:
    delimiter = separator
    if separator == " ":
        line, delimiter = " ".join(line.split()), " "
    return [cell.strip() for cell in next(csv.reader([line], delimiter=delimiter, skipinitialspace=True))]


def _is_number(cell: str, separator: str) -> bool:
    return bool(NUMBER.fullmatch(cell.replace(",", ".") if separator == ";" else cell))


def _separator(line: str) -> str:
    """The separator under which all cells of a line of data are numbers, or else the first under which some are."""
    there = [separator for separator in _SEPARATORS if separator in line and separator != " "]
    if not there:
        return " " if " " in line else ","
    numbers = {s: [_is_number(cell, s) for cell in _cells(line, s)] for s in there}
    return next((s for how in (all, any) for s in there if how(numbers[s])), there[0])


def _lines(path: Path) -> list[tuple[int, str]]:
    """The lines that are not blank, with their numbers, counted from 1."""
    packed = path.suffix.lower() == ".gz"
    with gzip.open(path, "rb") if packed else path.open("rb") as start:
        mark = start.read(2)
    # Spreadsheets put a byte order mark first, in UTF-8 or as "Unicode text" in UTF-16.
    encoding = "utf-16" if mark in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    with gzip.open(path, "rt", encoding=encoding) if packed else path.open(encoding=encoding) as file:
        return [(number, line.strip("\n\r")) for number, line in enumerate(file, 1) if line.strip(" \t\r\n,;")]


def unnamed(name: str) -> bool:
    """Whether a column has no name, or the one that pandas gives it for having none."""
    return name.lower() in ("", "unnamed: 0")


def _header(path: Path, lines: list[Line], separator: str) -> list[str] | None:
    """The names that the first line gives, or None if it is data."""
    first, rest = lines[0].cells, lines[1:]
    numeric = [k for k, cell in enumerate(first) if _is_number(cell, separator)]
    if not numeric:
        return None if any(_MEANT.fullmatch(cell) for cell in first) else first
    if [first[k] for k in numeric] != [str(k) for k in range(len(numeric))]:
        return None
    # Column numbers of a data frame, maybe among names: surely a header above numbers or beside an index.
    below = [[line.cells[k] for line in rest if k < len(line.cells)] for k in range(len(first))]
    texts = [k for k in range(len(first)) if k not in numeric]
    if unnamed(first[0]) or any(all(_is_number(c, separator) for c in below[k]) and below[k] for k in texts):
        return first
    if len(numeric) == 1 or not rest:
        return None
    integers = all(_INTEGER.fullmatch(cell) for k in numeric for cell in below[k])
    if integers and len(numeric) <= _MOST_COUNTED:
        raise UnreadableFile(
            f"{path}: line {lines[0].number} counts 0 to {len(numeric) - 1} as the header of a data frame without "
            "names does, and the numbers below are integers too, so that it may be data as well; name the columns, or "
            "write the numbers with a decimal point."
        )
    return first


def read_text(path: Path) -> Text:
    """The table in a text file: cells separated by commas, semicolons, tabs or spaces, maybe below a header.

    Raises:
        UnreadableFile: for a file without data, or lines of unequal length.
    """
    raw = _lines(path)
    comments = [(number, line.lstrip().lstrip("#")) for number, line in raw if line.lstrip().startswith("#")]
    raw = [(number, line) for number, line in raw if not line.lstrip().startswith("#")]
    if not raw:
        raise UnreadableFile(f"{path} holds no numbers; give one input per row.")
    separator = _separator(raw[-1][1])
    lines = [Line(number, _cells(line, separator)) for number, line in raw]
    names = _header(path, lines, separator)
    notes = [] if separator == "," else [f"separated by {_SEPARATORS[separator]}"]
    if comments:
        notes.append("lines that start with # are left out")
    if names is not None:
        notes.append(f"line {lines.pop(0).number} is taken as a header")
        if not lines:
            raise UnreadableFile(f"{path} holds no numbers below its header; give one input per row.")
    width = len(lines[0].cells)
    if names is not None and len(names) == width - 1:  # as R writes row names
        names = ["", *names]
    if names is not None and len(names) != width:
        raise UnreadableFile(
            f"{path}: line {lines[0].number} has {width} columns and the header has {len(names)}; give every column "
            "one name."
        )
    if names is None and comments:  # as numpy.savetxt writes a header
        said = _cells(comments[-1][1], separator)
        names = said if len(said) == width and comments[-1][0] < lines[0].number else None
    for line in lines:
        if len(line.cells) != width:
            raise UnreadableFile(
                f"{path}: line {line.number} has {len(line.cells)} columns and the rows before it have {width}, "
                f"separated by {_SEPARATORS[separator]}; give every row the same number of columns."
            )
    comma = separator == ";" and _decimal_commas(path, lines)
    return Text(path, separator, comma, names, lines, (*notes, *(["decimal commas"] if comma else [])))


def _decimal_commas(path: Path, lines: list[Line]) -> bool:
    """Whether numbers have decimal commas; refused if others have decimal points."""
    cells = [cell for line in lines for cell in line.cells]
    if not any("," in cell and NUMBER.fullmatch(cell.replace(",", ".")) for cell in cells):
        return False
    for line in lines:
        for column, cell in enumerate(line.cells):
            if "." in cell and NUMBER.fullmatch(cell):
                raise UnreadableFile(
                    f"{path}: line {line.number}, column {column + 1} holds {_short(cell)} with a decimal point, and "
                    "other cells have decimal commas; write all numbers one way."
                )
    return True
