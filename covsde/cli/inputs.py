"""What the commands read: a user's inputs, and targets for them."""

import argparse
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from covsde.inputs.gram import check_gram, gram
from covsde.inputs.matrices import ARRAYS, Table, read_table, read_vector
from covsde.inputs.text import UnreadableFile

MOST_INPUTS = 8  # taken from a larger file unless --rows says which: the figure and table are made for a few


_FILES = ".npy, .npz of one array, or .csv, .tsv, .txt with an optional header line (also .gz)"


class Refusal(Exception):
    """A sentence for the user; the command ends with exit code 2."""


@dataclass(frozen=True)
class Inputs:
    """Inputs as a command uses them.

    Args:
        V0: Gram matrix of the chosen inputs.
        rows: their rows in the file.
        total: inputs in the file.
        notes: lines that say where they come from.
        targets: of the chosen inputs, if they are a column of the same file.
        tests: how many of the last of them are only tested.
    """

    V0: Float[np.ndarray, "m m"]
    rows: list[int]
    total: int
    notes: list[str]
    targets: Float[np.ndarray, " m"] | None = None
    tests: int = 0


def add_inputs(add: Callable[..., Any]) -> None:
    """The options that choose inputs."""
    add("--inputs", type=Path, metavar="FILE", help=f"inputs, one per row: {_FILES}")
    add("--gram", type=Path, metavar="FILE", help="instead of --inputs: their Gram matrix, in such a file")
    add("--columns", nargs="+", metavar="C", help="which columns are inputs, by name or counted from 0 (default: all)")
    add("--target-column", metavar="C", help="a column of --inputs with targets, which is no input")
    add("--rows", nargs="+", metavar="I", help="which inputs to use, counted from 0, such as 0 3 10-19")
    add(
        "--normalise",
        choices=("unit", "none"),
        default="none",
        help="unit rescales every input to variance 1 (default: none)",
    )


def read_inputs(args: argparse.Namespace, most: int | None = MOST_INPUTS) -> Inputs:
    """The inputs that the arguments name, checked; without --rows the first `most` of them, or all."""
    if (args.inputs is None) == (args.gram is None):
        raise Refusal("give either --inputs FILE or --gram FILE.")
    path: Path = args.inputs or args.gram
    try:
        table = read_table(path)
        matrix, targets, taken = _columns(args, table)
    except UnreadableFile as error:
        raise Refusal(str(error)) from error
    if args.gram and matrix.shape[0] != matrix.shape[1]:
        raise Refusal(
            f"{path} must hold a square Gram matrix, got shape {matrix.shape}; for inputs, one per row, use --inputs."
        )
    try:
        with np.errstate(over="ignore"):  # refused below
            V0 = gram(matrix) if args.inputs else check_gram(matrix)
    except ValueError as error:
        raise Refusal(f"{path}: {error}") from error
    total, notes = len(V0), taken
    tests = _numbers("--test-rows", getattr(args, "test_rows", None) or [], total, path)
    rows = (
        [i for i in range(total) if i not in tests] if args.rows is None else _numbers("--rows", args.rows, total, path)
    )
    if args.rows is None and most is not None and len(rows) > most:
        rows = rows[:most]
        notes.append(f"Using the first {most} of {total} inputs; choose others with --rows.")
    if set(rows) & set(tests):
        raise Refusal(f"--test-rows and --rows share row {min(set(rows) & set(tests))}: train it or test it.")
    if not rows:
        raise Refusal("--test-rows names every input and leaves none to train: leave some out.")
    rows = rows + tests
    V0 = V0[np.ix_(rows, rows)]
    variances = np.diag(V0)
    if not np.all(variances > 0):
        raise Refusal(
            f"{path}: row {rows[int(np.argmin(variances))]} is zero, so it has no correlation with others; "
            "leave it out with --rows."
        )
    if not np.all((variances > 1e-30) & (variances < 1e30)):
        raise Refusal(f"{path}: the variances of the inputs must lie between 1e-30 and 1e30; rescale the inputs.")
    if args.normalise == "unit":
        scale = np.sqrt(variances)
        V0 = V0 / np.outer(scale, scale)
        variances = np.diag(V0)
    what = f"array of shape {matrix.shape}" if args.inputs else f"Gram matrix of {total} inputs"
    chosen = "" if rows == list(range(total)) else f", rows {_some(rows)} (numbered from 0 below)"
    spread = f"variances {variances.min():.3g} to {variances.max():.3g}"
    if len(rows) > 1:
        scale = np.sqrt(variances)
        correlations = (V0 / np.outer(scale, scale))[np.triu_indices(len(rows), 1)]
        spread += f", correlations {correlations.min():.3g} to {correlations.max():.3g}"
    y = None if targets is None else targets[rows]
    return Inputs(V0, rows, total, [f"inputs: {path}: {what}{chosen}; {spread}", *notes], y, len(tests))


def _some(rows: list[int]) -> str:
    named = rows if len(rows) <= 12 else [*rows[:10], "…", rows[-1]]
    return " ".join(map(str, named))


def _numbers(option: str, given: list[str], total: int, path: Path) -> list[int]:
    """Rows from numbers and ranges such as 10-19.

    Raises:
        Refusal: for what is none, is not in the file, or is repeated.
    """
    rows: list[int] = []
    for part in given:
        found = re.fullmatch(r"(-?\d+)(?:-(\d+))?", part)
        if found is None:
            raise Refusal(f"{option} must be numbers of rows such as 0 3 10-19, got {part!r}.")
        first, last = int(found[1]), int(found[2] or found[1])
        if not 0 <= first <= last < total:
            what = f"no row {part}" if found[2] is None else f"no range {part}"
            raise Refusal(f"{option}: there is {what} in {path}; its rows are 0 to {total - 1}.")
        rows += range(first, last + 1)
    if len(set(rows)) < len(rows):
        raise Refusal(f"{option} must not repeat a row; leave out the copies.")
    return rows


def _columns(args: argparse.Namespace, table: Table) -> tuple[np.ndarray, np.ndarray | None, list[str]]:
    """The inputs of a table, the targets if they are one of its columns, and what was taken as what."""
    for option in ("columns", "target_column"):
        if getattr(args, option) is not None and args.gram:
            raise Refusal(f"--{option.replace('_', '-')} is for the columns of --inputs; drop it, or use --inputs.")
    target = None if args.target_column is None else table.find("--target-column", args.target_column)
    columns = None if args.columns is None else [table.find("--columns", which) for which in args.columns]
    if columns is not None and len(set(columns)) < len(columns):
        raise Refusal("--columns must not repeat a column; leave out the copies.")
    if columns is not None and target in columns:
        raise Refusal(f"--columns must not hold the --target-column {args.target_column}; leave it out of one of them.")
    said = [f"{table.path}: {'; '.join(table.notes)}"] if table.notes else []
    matrix = table.matrix(columns, without=target)
    if target is None:
        return matrix, None, said
    said.append(f"targets: {table.path}: column {args.target_column}, which is no input")
    return matrix, table.matrix([target])[:, 0], said


def read_targets(path: Path, inputs: Inputs) -> tuple[Float[np.ndarray, " m"], list[str]]:
    """The targets of the chosen inputs, from a file with one number per input of the file of inputs, and notes."""
    try:
        y, taken = read_vector(path)
    except UnreadableFile as error:
        raise Refusal(str(error)) from error
    notes = list(taken)
    if y.size == inputs.total + 1 and y[0] == 0 and path.suffix.lower() not in ARRAYS and not notes:
        y = y[1:]
        notes.append("its first line, 0, is taken as a header, because there is one number more than inputs")
    if y.size != inputs.total:
        raise Refusal(
            f"--targets: {path} holds {y.size} numbers for {inputs.total} inputs; give one number per input, also "
            "for those that --rows leaves out."
        )
    return y[inputs.rows], [f"targets: {path}: {'; '.join(notes)}"] if notes else []
