"""Which inputs are trained at which update, and which are only tested."""

from typing import Any

import equinox as eqx
import numpy as np
from jaxtyping import Array, Int


class Batches(eqx.Module):
    """The inputs of every update.

    Attributes:
        indices: one row for all updates, or one for each, (rows, size); a shorter batch repeats its first input.
        sizes: how many of a row count, one per row.
        trained: inputs that some batch contains, in increasing order.
        inputs: M, the number of all inputs.
    """

    indices: Int[np.ndarray | Array, "rows size"]
    sizes: tuple[int, ...] = eqx.field(static=True)
    trained: tuple[int, ...] = eqx.field(static=True)
    inputs: int = eqx.field(static=True)

    @classmethod
    def of(cls, batches: Any, inputs: int, updates: int) -> "Batches":
        """From what a user gives: None for every input, a list of indices, or one such list per update.

        Raises:
            ValueError: for batches that are empty, not one per update, or hold unknown or repeated inputs.
        """
        rows = [list(range(inputs))] if batches is None else _rows(batches, updates)
        for number, row in enumerate(rows):
            _check(row, f"batches[{number}]" if len(rows) > 1 else "batches", inputs)
        if len(rows) == 1:
            rows = [sorted(rows[0])]
        sizes = tuple(len(row) for row in rows)
        padded = [row + [row[0]] * (max(sizes) - len(row)) for row in rows]
        return cls(np.asarray(padded), sizes, tuple(sorted({i for row in rows for i in row})), inputs)

    @property
    def constant(self) -> bool:
        """Whether all updates have the same batch."""
        return len(self.sizes) == 1

    @property
    def size(self) -> int:
        """Inputs in the largest batch."""
        return int(self.indices.shape[1])

    @property
    def tests(self) -> tuple[int, ...]:
        """Inputs that no batch contains."""
        return tuple(i for i in range(self.inputs) if i not in self.trained)

    @property
    def whole(self) -> bool:
        """Whether every update is on every input."""
        return self.constant and len(self.trained) == self.inputs

    def row(self, update: Any) -> Any:
        """The inputs of an update, (size,)."""
        return self.indices[0] if self.constant else self.indices[update]

    def listed(self) -> list[list[int]] | list[int] | str:
        """As a user would give them, for metadata."""
        if self.whole:
            return "all"
        rows = [np.asarray(row)[:size].tolist() for row, size in zip(self.indices, self.sizes, strict=True)]
        return rows[0] if self.constant else rows


def _rows(batches: Any, updates: int) -> list[list[Any]]:
    try:
        given = [np.asarray(row).tolist() for row in batches]
    except (TypeError, ValueError):
        given = []
    if not given:
        raise ValueError(f"batches must be a list of indices of inputs, or one such list per update, got {batches!r}.")
    if not any(isinstance(row, list) for row in given):
        return [given]
    if not all(isinstance(row, list) for row in given) or len(given) != updates:
        raise ValueError(
            f"batches must be one list of indices, or one for each of the {updates} updates, got {len(given)}: "
            f"set updates={len(given)}, or repeat them."
        )
    return given


def _check(row: list[Any], name: str, inputs: int) -> None:
    if not row:
        raise ValueError(f"{name} is empty: give at least one input to train.")
    if not all(isinstance(i, int) and not isinstance(i, bool) for i in row):
        raise ValueError(f"{name} must hold indices of inputs, got {row!r}.")
    unknown = [i for i in row if not 0 <= i < inputs]
    if unknown:
        raise ValueError(f"{name} names input {unknown[0]}, and V0 has inputs 0 to {inputs - 1}: drop it.")
    if len(set(row)) < len(row):
        raise ValueError(f"{name} repeats an input, {row!r}: drop one, or double its part in a loss of your own.")
