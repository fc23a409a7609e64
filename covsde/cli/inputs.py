"""What the commands read: a user's inputs, and targets for them."""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from covsde.inputs.gram import check_gram, gram
from covsde.inputs.matrices import UnreadableFile, read_matrix, read_vector

MOST_INPUTS = 8  # taken from a larger file unless --rows says which: the figure and table are made for a few


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
    """

    V0: Float[np.ndarray, "m m"]
    rows: list[int]
    total: int
    notes: list[str]


def add_inputs(add: Callable[..., Any]) -> None:
    """The options that choose inputs."""
    add("--inputs", type=Path, metavar="FILE", help="inputs, one per row: .npy, or .csv with an optional header line")
    add("--gram", type=Path, metavar="FILE", help="instead of --inputs: their Gram matrix, .npy or .csv")
    add("--rows", type=int, nargs="+", metavar="I", help="which inputs to use, counted from 0")
    add(
        "--normalise",
        choices=("unit", "none"),
        default="none",
        help="unit rescales every input to variance 1 (default: none)",
    )


def read_inputs(args: argparse.Namespace) -> Inputs:
    """The inputs that the arguments name, checked."""
    if (args.inputs is None) == (args.gram is None):
        raise Refusal("give either --inputs FILE or --gram FILE.")
    path: Path = args.inputs or args.gram
    try:
        matrix = read_matrix(path)
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
    total, notes = len(V0), []
    rows = list(range(total)) if args.rows is None else args.rows
    if args.rows is None and total > MOST_INPUTS:
        rows = rows[:MOST_INPUTS]
        notes.append(f"Using the first {MOST_INPUTS} of {total} inputs; choose others with --rows.")
    for row in rows:
        if not 0 <= row < total:
            raise Refusal(f"--rows: there is no row {row} in {path}; its rows are 0 to {total - 1}.")
    if len(set(rows)) < len(rows):
        raise Refusal("--rows must not repeat a row; leave out the copies.")
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
    chosen = "" if rows == list(range(total)) else f", rows {' '.join(map(str, rows))} (numbered from 0 below)"
    spread = f"variances {variances.min():.3g} to {variances.max():.3g}"
    if len(rows) > 1:
        scale = np.sqrt(variances)
        correlations = (V0 / np.outer(scale, scale))[np.triu_indices(len(rows), 1)]
        spread += f", correlations {correlations.min():.3g} to {correlations.max():.3g}"
    return Inputs(V0, rows, total, [f"inputs: {path}: {what}{chosen}; {spread}", *notes])


def read_targets(path: Path, inputs: Inputs) -> Float[np.ndarray, " m"]:
    """The targets of the chosen inputs, from a file with one number per input of the file of inputs."""
    try:
        y = read_vector(path)
    except UnreadableFile as error:
        raise Refusal(str(error)) from error
    if y.size != inputs.total:
        raise Refusal(
            f"--targets: {path} holds {y.size} numbers for {inputs.total} inputs; give one number per input, also "
            "for those that --rows leaves out."
        )
    return y[inputs.rows]
