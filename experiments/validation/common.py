"""What the sections share: estimates with standard errors, and table rows."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import jax
import numpy as np

import covsde as cs
from covsde.run.chunks import side_by_side

Item, Found = TypeVar("Item"), TypeVar("Found")
# Compiled programs that a process keeps: each takes tens of megabytes.
_KEPT = 16


def equicorrelated(m: int, rho: float = 0.3) -> np.ndarray:
    """The Gram matrix of m unit inputs with equal correlations."""
    return np.full((m, m), rho) + (1 - rho) * np.eye(m)


def shaped(kappa: float, T: float) -> cs.MLP:
    """Shaped ReLU with slopes 1 ± √κ/(2√n), for which networks approach the limit at rate 1/n."""
    half = math.sqrt(kappa) / 2
    return cs.MLP(cs.ShapedReLU(half, -half), depth_to_width=T)


def mean_and_error(samples: np.ndarray) -> tuple[float, float]:
    """Mean of samples and its standard error."""
    return float(samples.mean()), float(samples.std() / math.sqrt(samples.size))


def row(cells: Iterable[object]) -> str:
    """One line of a Markdown table."""
    return "| " + " | ".join(str(c) for c in cells) + " |"


def header(*names: str) -> list[str]:
    """The first two lines of a Markdown table."""
    return [row(names), "|" + "---|" * len(names)]


def pm(value: float, error: float, digits: int = 4) -> str:
    """A value and its standard error."""
    return f"{value:.{digits}f} ± {error:.{digits}f}"


def compiled_side_by_side(call: Callable[[Item], Found], items: Sequence[Item]) -> Iterator[Found]:
    """The calls in order, each of which compiles a program of its own, a few at a time."""
    with ThreadPoolExecutor(side_by_side()) as pool:
        for start in range(0, len(items), _KEPT):
            yield from pool.map(call, items[start : start + _KEPT])
            jax.clear_caches()
