"""Matrices in files that users write: what is wrong with them is said in one sentence."""

import csv
from pathlib import Path

import numpy as np
from jaxtyping import Float


class UnreadableFile(ValueError):
    """A file that holds no matrix of finite numbers."""


def _read_csv(path: Path) -> np.ndarray:
    def number(cell: str) -> float | None:
        try:
            return float(cell)
        except ValueError:
            return None

    rows: list[list[float]] = []
    # utf-8-sig: spreadsheets put a byte order mark first.
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.reader(file)
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            values = [number(cell) for cell in cells]
            if not rows and reader.line_num == 1 and all(value is None for value in values):
                continue  # a header
            for column, (cell, value) in enumerate(zip(cells, values, strict=True), 1):
                if value is None:
                    what = f"holds {cell.strip()!r}, which is not a number" if cell.strip() else "is empty"
                    raise UnreadableFile(
                        f"{path}: line {reader.line_num}, column {column} {what}; give numbers separated by commas."
                    )
            row = [value for value in values if value is not None]
            if rows and len(row) != len(rows[0]):
                raise UnreadableFile(
                    f"{path}: line {reader.line_num} has {len(row)} columns and the rows before it have "
                    f"{len(rows[0])}; give every row the same number of columns."
                )
            rows.append(row)
    if not rows:
        raise UnreadableFile(f"{path} holds no numbers; give one input per row.")
    return np.array(rows, np.float64)


def _read_numbers(path: Path) -> np.ndarray:
    """An array of numbers, finite or not, of any shape."""
    if path.suffix not in (".npy", ".csv"):
        raise UnreadableFile(f"{path} must be a .npy or .csv file; save the array with numpy.save or numpy.savetxt.")
    try:
        array = _read_csv(path) if path.suffix == ".csv" else np.load(path, allow_pickle=False)
    except UnreadableFile:
        raise
    except OSError as error:
        raise UnreadableFile(f"{path} cannot be read ({error.strerror or 'damaged'}); check the path.") from error
    except Exception as error:  # a damaged file can fail in any way
        raise UnreadableFile(f"{path} is damaged or not a {path.suffix} file of numbers; write it again.") from error
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "biuf":
        raise UnreadableFile(f"{path} must hold real numbers; convert the array with astype(float) before saving it.")
    return array


def read_matrix(path: Path) -> Float[np.ndarray, "rows columns"]:
    """The matrix in a .npy or .csv file.

    Args:
        path: a file with the suffix .npy, or .csv with one row per line, maybe below a line of names.

    Returns:
        Finite numbers, float64.

    Raises:
        UnreadableFile: with a sentence on what is wrong where, and what to do.
    """
    array = _read_numbers(path)
    if array.ndim != 2 or 0 in array.shape:
        raise UnreadableFile(f"{path} must hold a matrix with at least one row and column, got shape {array.shape}.")
    if not np.all(np.isfinite(array)):
        row, column = np.argwhere(~np.isfinite(array))[0]
        raise UnreadableFile(
            f"{path} holds a NaN or infinite value (row {row}, column {column}, counted from 0): remove or replace it."
        )
    return array.astype(np.float64)


def read_vector(path: Path) -> Float[np.ndarray, " numbers"]:
    """The numbers in a .npy or .csv file: a vector, or a matrix of one column or one row.

    Args:
        path: a file as for `read_matrix`; a .npy file may also hold a vector.

    Returns:
        Finite numbers, float64.

    Raises:
        UnreadableFile: with a sentence on what is wrong where, and what to do.
    """
    array = _read_numbers(path)
    if array.size == 0 or array.size != max(array.shape, default=0):
        raise UnreadableFile(f"{path} must hold one column of numbers, got shape {array.shape}.")
    if not np.all(np.isfinite(array)):
        place = int(np.argmin(np.isfinite(array.ravel())))
        raise UnreadableFile(f"{path} holds a NaN or infinite value (number {place}, counted from 0): replace it.")
    return array.astype(np.float64).ravel()
