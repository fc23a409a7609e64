"""The distribution of all z-scores of the page, read from its tables."""

import math
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from scipy.stats import norm

from covsde.results.files import atomic_write
from validation.common import header, row

_NUMBER = re.compile(r"[+-]\d+\.\d+")
_RULE = re.compile(r"\|(-+\|)+")


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def z_of(text: str) -> list[float]:
    """The numbers in columns of a section's tables that are headed "z", "z …" or "… z"."""
    found: list[float] = []
    columns: list[int] = []
    lines = text.splitlines()
    for line, after in zip(lines, [*lines[1:], ""], strict=True):
        if _RULE.fullmatch(after.strip()):
            columns = [k for k, name in enumerate(_cells(line)) if re.search(r"^z\b|\bz$", name)]
        elif not line.startswith("|"):
            columns = []
        elif columns:
            cells = _cells(line)
            found += [float(z) for k in columns if k < len(cells) for z in _NUMBER.findall(cells[k])]
    return found


def largest_of_normals(count: int) -> tuple[float, float]:
    """Median and 95 % quantile of the largest |z| of so many independent normals."""
    return tuple(float(norm.isf((1 - p ** (1 / count)) / 2)) for p in (0.5, 0.95))  # type: ignore[return-value]


def draw(z: np.ndarray, file: Path) -> None:
    """A histogram beside the normal density."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 3.2), layout="constrained")
    edge = max(4.0, math.ceil(2 * np.max(np.abs(z))) / 2)
    # Printed to a tenth: every bin has five values, and the middle one is that of 0.
    bins = np.arange(-edge - 0.25, edge + 0.5, 0.5)
    axes.hist(z, bins, color="#7aa6c2", edgecolor="white", linewidth=0.6, label=f"{z.size} z-scores of the page")
    x = np.linspace(-edge, edge, 400)
    axes.plot(x, z.size * 0.5 * norm.pdf(x), color="black", linewidth=1.2, label="as many standard normals")
    axes.set(xlabel="z", ylabel="number", xlim=(-edge - 0.25, edge + 0.25))
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="upper left", fontsize=8)
    with atomic_write(file) as temporary:
        figure.savefig(temporary, dpi=160)
    plt.close(figure)


def section_of(sections: Mapping[str, str], figure: Path) -> list[str]:
    """Markdown lines about the z-scores of other sections, and the figure that they show."""
    scores = {name: z for name, text in sections.items() if (z := np.asarray(z_of(text))).size}
    if not scores:
        return []
    z = np.concatenate(list(scores.values()))
    draw(z, figure)
    median, high = largest_of_normals(z.size)
    beyond = {k: (int(np.sum(np.abs(z) > k)), 2 * norm.sf(k) * z.size) for k in (2, 3)}
    shares = " and ".join(f"{n} beyond {k} where {e:.1f} are expected" for k, (n, e) in beyond.items())
    lines = [
        "## All z-scores",
        "",
        f"{z.size} z-scores stand in columns of this page: mean {z.mean():+.2f}, standard deviation {z.std():.2f}, "
        f"{shares}. The largest |z| is {np.max(np.abs(z)):.1f}; of as many independent normals it would be "
        f"{median:.1f} (median) and below {high:.1f} in 95 of 100 pages. They are not independent: statistics of one "
        "row share their paths, and reference values are used more than once. "
        "*z limit* of networks has their bias of order 1/n in it.",
        "",
        f"![Histogram of the z-scores of this page beside the standard normal density](figures/{figure.name})",
        "",
        *header("section", "number", "mean", "standard deviation", "largest in size", "of normals"),
    ]
    for name, x in [*scores.items(), ("all", z)]:
        cells = (x.size, f"{x.mean():+.2f}", f"{x.std():.2f}", f"{np.max(np.abs(x)):.1f}")
        lines.append(row([name.replace("_", " "), *cells, f"{largest_of_normals(x.size)[0]:.1f}"]))
    return lines
