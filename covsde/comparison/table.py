"""What comparisons of results share: rows of a table with z-scores, distances between laws, text, JSON and figure."""

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from covsde.comparison.laws import Distance
from covsde.comparison.text import failure_text, size_text
from covsde.results.quantity import Quantity, name_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Row:
    """One statistic of one network ensemble against the reference, at one layer time.

    `z` is (network - reference) over the root of the summed squared standard errors; the failures count the
    paths that had stopped by that layer time.
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


@dataclass(frozen=True)
class AbstractComparison:
    """A reference and ensembles held against it, at the end of their axes."""

    rows: tuple[Row, ...]
    distances: tuple[Distance, ...]
    limit: Any
    networks: tuple[Any, ...]
    footer: str

    @property
    def quantities(self) -> list[Quantity]:
        """What the figure shows, one column each."""
        raise NotImplementedError

    def to_dict(self) -> dict[str, Any]:
        """Return rows, distances and the metadata and failures of every ensemble, ready for JSON."""

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
        from covsde.comparison.figure import plot_comparison

        return plot_comparison(self, path)

    def __str__(self) -> str:
        """Return the table as aligned text."""
        ensembles = [("reference", self.limit), *(("network", e) for e in self.networks)]
        lines = [f"{role:<9}  {name_of(e)}: {size_text(e)}, {failure_text(e)}" for role, e in ensembles]
        lines.append("")
        lines += _table(
            ("statistic", "τ", "ensemble", "reference", "s.e.", "network", "s.e.", "z"),
            [
                (
                    r.statistic,
                    f"{r.tau:.3g}",
                    r.label,
                    *(f"{x:.4g}" for x in (r.reference, r.reference_se, r.network, r.network_se)),
                    f"{r.z:+.2f}",
                )
                for r in self.rows
            ],
            left=(0, 2),
        )
        if self.distances:
            lines.append("")
            lines += _table(
                ("distance of laws", "τ", "ensemble", "KS", "p", "W1", "not in KS", "not in W1"),
                [
                    (
                        d.statistic,
                        f"{d.tau:.3g}",
                        d.label,
                        *(f"{x:.3g}" for x in (d.ks, d.ks_p_value, d.wasserstein)),
                        f"{d.reference_left_out_ks} + {d.network_left_out_ks}",
                        f"{d.reference_left_out_wasserstein} + {d.network_left_out_wasserstein}",
                    )
                    for d in self.distances
                ],
                left=(0, 2),
            )
            lines.append("Values not in a distance are counted as reference + network.")
        if self.footer:
            lines += ["", self.footer]
        return "\n".join(lines)


# What makes two results answers to one question, where both of them say it; architectures may differ.
_PROBLEM = ("V0", "rho0", "targets", "loss", "learning_rate", "updates")
# Of the largest entry: the same inputs in float32 and in float64 are one problem.
_ROUNDING = 1e-6


def check_same_problem(limit: Any, network: Any) -> None:
    """Refuse a result of other inputs or of another training than the reference, as their metadata say.

    Args:
        limit: The reference.
        network: What is to be compared with it; what only one of them says, as hand-made results may, is not held
            against it.

    Raises:
        ValueError: If they differ in the inputs, the targets, the loss, the learning rate or the updates.
    """
    ours, theirs = limit.metadata, network.metadata
    for what in _PROBLEM:
        if not _agree(ours.get(what), theirs.get(what)):
            raise ValueError(f"networks: {name_of(network)!r} has another {what} than the limit; run both on the same.")
    # Functions are known by their compiled code, which is another in every version of Python.
    python = [(metadata.get("versions") or {}).get("python") for metadata in (ours, theirs)]
    if python[0] == python[1] and not _agree(ours.get("loss_identity"), theirs.get("loss_identity")):
        raise ValueError(
            f"networks: {name_of(network)!r} has another loss than the limit, of the same name; pass both the same "
            "function."
        )


def _agree(ours: Any, theirs: Any) -> bool:
    """Whether two entries of metadata are equal up to rounding; an absent one agrees with any."""
    if ours is None or theirs is None or ours == theirs:
        return True
    try:
        a, b = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    except (TypeError, ValueError):  # not numbers
        return False
    return a.shape == b.shape and bool(np.all(np.abs(a - b) <= _ROUNDING * np.max(np.abs(a), initial=0)))


def _table(header: Sequence[str], rows: Sequence[Sequence[str]], left: Sequence[int]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]

    def line(cells: Sequence[str]) -> str:
        padded = [c.ljust(w) if k in left else c.rjust(w) for k, (c, w) in enumerate(zip(cells, widths, strict=True))]
        return "  ".join(padded).rstrip()

    return [line(header), "  ".join("-" * w for w in widths), *(line(r) for r in rows)]
