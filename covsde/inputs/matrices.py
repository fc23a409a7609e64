"""Matrices in files that users write: what is wrong with them is said in one sentence."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from covsde.inputs.text import Text, UnreadableFile, read_text, unnamed

ARRAYS, TEXTS = (".npy", ".npz"), (".csv", ".tsv", ".txt", ".csv.gz", ".tsv.gz", ".txt.gz")


@dataclass(frozen=True)
class Table:
    """A file of numbers with its columns, some of which may be none of them.

    Args:
        path: where it comes from.
        count: its columns, with an index.
        names: of the columns, if it has a header.
        index: whether the first column is the index of a data frame, which is no data.
        notes: what was taken as what.
        numbers: the array of some columns, finite or not.
        doubt: why the first column may be an index, if nobody says which columns to take.
    """

    path: Path
    count: int
    names: list[str] | None
    index: bool
    notes: tuple[str, ...]
    numbers: Callable[[Sequence[int]], np.ndarray]
    doubt: str = ""

    def find(self, option: str, which: str) -> int:
        """The column of this name, or of this number counted from 0.

        Raises:
            UnreadableFile: naming the option, if there is no such column or more than one.
        """
        names = self.names or []
        if names.count(which) > 1:
            raise UnreadableFile(f"{option}: {self.path} has several columns named {which!r}; give the number of one.")
        if which in names:
            return names.index(which)
        # Names that are numbers are names; to count columns beside them would be to guess.
        if which.isascii() and which.isdecimal() and int(which) < self.count and not any(n.isdecimal() for n in names):
            return int(which)
        named = f"named {', '.join(filter(None, names[:12]))}{', …' if len(names) > 12 else ''}" if self.names else ""
        there = named or f"numbered 0 to {self.count - 1}"
        raise UnreadableFile(f"{option}: {self.path} has no column {which!r}; its columns are {there}.")

    def matrix(self, columns: Sequence[int] | None = None, without: int | None = None) -> np.ndarray:
        """Finite numbers, one row per line: the columns asked for, or all but an index and the one to leave out.

        Raises:
            UnreadableFile: with a sentence on what is wrong where, and what to do.
        """
        if columns is None:
            if self.doubt:
                raise UnreadableFile(self.doubt)
            columns = [k for k in range(int(self.index), self.count) if k != without]
        if not columns:
            raise UnreadableFile(f"{self.path} has no columns left that are inputs; choose some with --columns.")
        return _finite(self.path, self.numbers(columns), columns)


def _finite(path: Path, array: np.ndarray, columns: Sequence[int]) -> Float[np.ndarray, "rows columns"]:
    if not np.all(np.isfinite(array)):
        row, place = np.argwhere(~np.isfinite(array))[0]
        raise UnreadableFile(
            f"{path} holds a NaN or infinite value (row {row}, column {columns[place]}, counted from 0): remove or "
            "replace it."
        )
    return array.astype(np.float64)


def _ending(path: Path) -> str:
    suffixes = [suffix.lower() for suffix in path.suffixes]
    return "".join(suffixes[-2:]) if suffixes[-1:] == [".gz"] else "".join(suffixes[-1:])


def _reading(path: Path, how: Callable[[Path], Any]) -> Any:
    """What a reader makes of a file, with a sentence for every way in which it fails."""
    try:
        return how(path)
    except UnreadableFile:
        raise
    except OSError as error:
        raise UnreadableFile(f"{path} cannot be read ({error.strerror or 'damaged'}); check the path.") from error
    except UnicodeDecodeError as error:
        raise UnreadableFile(
            f"{path} is no text in UTF-8 (byte {error.start} is {error.object[error.start]:#04x}): save it as CSV in "
            "UTF-8."
        ) from error
    except Exception as error:  # a damaged file can fail in any way
        if "allow_pickle" in str(error):
            raise UnreadableFile(
                f"{path} holds Python objects, which take pickle to read, and a pickle can run any program; save the "
                "array with astype(float)."
            ) from error
        raise UnreadableFile(f"{path} is damaged or not a {_ending(path)} file of numbers; write it again.") from error


def _load(path: Path) -> np.ndarray:
    found = np.load(path, allow_pickle=False)
    if isinstance(found, np.ndarray):
        return found
    with found:
        if len(found.files) != 1:
            names = f" ({', '.join(found.files[:6])})" if found.files else ""
            raise UnreadableFile(
                f"{path} holds {len(found.files)} arrays{names} and must hold one; save that "
                "one with numpy.save (a sparse matrix after toarray())."
            )
        return np.asarray(found[found.files[0]])


def _read(path: Path) -> np.ndarray | Text:
    ending = _ending(path)
    if ending not in (*ARRAYS, *TEXTS):
        raise UnreadableFile(
            f"{path} must be a .npy or .csv file (or {', '.join((ARRAYS[1], *TEXTS[1:4]))}); save the array with "
            "numpy.save or numpy.savetxt."
        )
    found = _reading(path, _load if ending in ARRAYS else read_text)
    if isinstance(found, np.ndarray) and found.dtype.kind not in "biuf":
        raise UnreadableFile(
            f"{path} must hold real numbers, and its dtype is {found.dtype}; convert the array with astype(float) "
            "before saving it."
        )
    return found


def _of_text(text: Text) -> Table:
    names = text.names
    count = len(text.lines[0].cells)
    nameless = names is not None and count > 1 and unnamed(names[0])
    index = nameless and text.counts(0)
    notes, doubt = list(text.notes), ""
    if index:
        start = text.lines[0].cells[0]
        notes.append(f"the first column has no name and counts from {start}: it is taken as an index and left out")
    elif nameless:
        doubt = (
            f"{text.path}: the first column has no name, as the index of a data frame, but does not count 0, 1, 2, …; "
            "give it a name, or say with --columns which columns are inputs."
        )
    elif count > 1 and len(text.lines) > 1 and text.counts(0):
        notes.append("the first column counts its rows and is taken as a feature; choose others with --columns")
    return Table(text.path, count, names, index, tuple(notes), text.numbers, doubt)


def read_table(path: Path) -> Table:
    """The table in a file: an array of NumPy, or text with one row per line, maybe below a line of names.

    Args:
        path: a file that ends in .npy, .npz (of one array), .csv, .tsv or .txt, the texts maybe with .gz behind.

    Raises:
        UnreadableFile: with a sentence on what is wrong where, and what to do.
    """
    found = _read(path)
    if isinstance(found, Text):
        return _of_text(found)
    if found.ndim != 2 or 0 in found.shape:
        remedy = {
            1: "; save x[None, :] for one input, or x[:, None] for inputs of one number each",
            3: "; save x.reshape(len(x), -1), one input per row",
            4: "; save x.reshape(len(x), -1), one input per row",
        }.get(found.ndim, "")
        raise UnreadableFile(
            f"{path} must hold a matrix with at least one row and column, got shape {found.shape}{remedy}."
        )
    array = found
    return Table(path, array.shape[1], None, False, (), lambda columns: array[:, list(columns)])


def read_matrix(path: Path) -> Float[np.ndarray, "rows columns"]:
    """All numbers of a file as `read_table` takes it, but for an index; finite, float64.

    Raises:
        UnreadableFile: with a sentence on what is wrong where, and what to do.
    """
    return read_table(path).matrix()


def read_vector(path: Path) -> tuple[Float[np.ndarray, " numbers"], tuple[str, ...]]:
    """The numbers in a file: a vector, or a matrix of one column or one row; and what was taken as what.

    Args:
        path: a file as for `read_table`; one of NumPy may also hold a vector.

    Returns:
        Finite numbers, float64, and notes.

    Raises:
        UnreadableFile: with a sentence on what is wrong where, and what to do.
    """
    found = _read(path)
    notes: tuple[str, ...] = ()
    if isinstance(found, Text):
        table = _of_text(found)
        if table.doubt:
            raise UnreadableFile(table.doubt)
        found, notes = table.numbers(range(int(table.index), table.count)), table.notes
    if found.size == 0 or found.size != max(found.shape, default=0):
        raise UnreadableFile(f"{path} must hold one column of numbers, got shape {found.shape}.")
    if not np.all(np.isfinite(found)):
        place = int(np.argmin(np.isfinite(found.ravel())))
        raise UnreadableFile(f"{path} holds a NaN or infinite value (number {place}, counted from 0): replace it.")
    return found.astype(np.float64).ravel(), notes
