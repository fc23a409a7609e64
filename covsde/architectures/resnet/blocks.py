"""Residual blocks: which function of h a layer adds to h, and how its variance scales with depth and width.

One layer is h ← h + β √(s_L / L) F(h), where F has the variance of the block's own kernel and s_L is the block's
`strength`: 1 for branches of size 1/√L, and otherwise 0 in the limit of infinite depth.
"""

import abc
from collections.abc import Callable, Mapping
from typing import Any

import equinox as eqx

from covsde.inputs.arguments import finite_number


class AbstractBlock(eqx.Module):
    """The hyperparameters of a residual block."""

    @abc.abstractmethod
    def strength(self, width: int, depth: int) -> float:
        """s_L: the variance that all L branches add, in units of β² times the block's kernel."""

    @abc.abstractmethod
    def limiting_strength(self) -> float:
        """The limit of s_L as depth (and width) go to infinity.

        Raises:
            ValueError: if it is infinite, so that there is no limit.
        """


def _branch_exponent(exponent: Any) -> float:
    alpha = finite_number("exponent", exponent)
    if not 0 <= alpha <= 4:
        raise ValueError(f"exponent must lie in [0, 4], got {exponent}: branches are scaled by depth**-exponent.")
    return alpha


def _strength_of(alpha: float, depth: int) -> float:
    return 1.0 if alpha == 0.5 else float(depth) ** (1 - 2 * alpha)


def _limit_of(alpha: float) -> float:
    if alpha < 0.5:
        raise ValueError(
            f"exponent={alpha:g} is below the critical 1/2, so variances grow without bound with depth and there is no "
            "limit: use exponent=0.5, or a finite depth to see it happen."
        )
    return 1.0 if alpha == 0.5 else 0.0


class PreActivation(AbstractBlock):
    """h ← h + β L^{-α} N^{-1/2} W φ(h), W ~ N(0, 1): one matrix per block, the activation before it.

    Args:
        exponent: α; 1/2 is critical. Above it H stays at its initial value, below it variances diverge with depth.

    Raises:
        ValueError: if the exponent is not in [0, 4].

    Source: arXiv 2309.16620.
    """

    exponent: float = 0.5

    def __init__(self, exponent: float = 0.5):
        self.exponent = _branch_exponent(exponent)

    def strength(self, width: int, depth: int) -> float:
        """L^{1-2α}."""
        return _strength_of(self.exponent, depth)

    def limiting_strength(self) -> float:
        """1 at α = 1/2, 0 above."""
        return _limit_of(self.exponent)


class PostActivation(AbstractBlock):
    """x ← x + β L^{-α} MS(φ(N^{-1/2} W x)), MS(v) = v - mean(v): the activation after the matrix.

    Without the mean subtraction a ReLU branch would push every neuron in the same direction at every layer.

    Args:
        exponent: α; 1/2 is critical.

    Raises:
        ValueError: if the exponent is not in [0, 4].

    Source: arXiv 2310.02244.
    """

    exponent: float = 0.5

    def __init__(self, exponent: float = 0.5):
        self.exponent = _branch_exponent(exponent)

    def strength(self, width: int, depth: int) -> float:
        """L^{1-2α}."""
        return _strength_of(self.exponent, depth)

    def limiting_strength(self) -> float:
        """1 at α = 1/2, 0 above."""
        return _limit_of(self.exponent)


class TwoMatrix(AbstractBlock):
    """h ← h + β √D/(LM) V φ(D^{-1/2} U h), U (M, D) and V (D, M) with N(0, 1) entries: an MLP of one hidden layer.

    At the residual scale √D/(LM) the branches add a variance of order D/(LM), which vanishes: at initialization the
    limit is trivial, H = H_0, while every block still learns features.

    Args:
        hidden_to_width: M/D, positive.

    Raises:
        ValueError: if hidden_to_width is not positive.

    Source: arXiv 2509.10167.
    """

    hidden_to_width: float = 1.0

    def __init__(self, hidden_to_width: float = 1.0):
        self.hidden_to_width = finite_number("hidden_to_width", hidden_to_width)
        if self.hidden_to_width <= 0:
            raise ValueError(f"hidden_to_width must be positive, got {hidden_to_width}: it is M/D.")

    def hidden(self, width: int) -> int:
        """M = round(hidden_to_width D), at least 1."""
        return max(1, round(self.hidden_to_width * width))

    def strength(self, width: int, depth: int) -> float:
        """D/(LM)."""
        return width / (depth * self.hidden(width))

    def limiting_strength(self) -> float:
        """0."""
        return 0.0


BLOCKS: Mapping[str, Callable[[], AbstractBlock]] = {
    "pre-activation": PreActivation,
    "post-activation": PostActivation,
    "two-matrix": TwoMatrix,
}
"""Blocks known by name, with their default hyperparameters."""


def block_of(block: Any) -> AbstractBlock:
    """A block from itself or its name.

    Args:
        block: PreActivation(), PostActivation(), TwoMatrix() or a name in `BLOCKS`.

    Returns:
        The block.

    Raises:
        ValueError: if it is neither.
    """
    if isinstance(block, str) and block in BLOCKS:
        return BLOCKS[block]()
    if not isinstance(block, AbstractBlock):
        raise ValueError(
            f"block must be one of {', '.join(BLOCKS)}, or a block such as PreActivation(), got {block!r}."
        )
    return block
