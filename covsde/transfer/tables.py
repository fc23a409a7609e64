"""Parameterisations as data: how weights, multipliers and learning rates change with width and depth.

A weight matrix is used as multiplier × W, W ~ N(0, deviation²). Every entry of a table is a pair of exponents: a
quantity changes by the factor (width / base width)^a (depth / base depth)^b, so that at the base shape all
parameterisations are one and the same network, and what they differ in is where they go from there.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from covsde.inputs.arguments import positive_int

Exponents = tuple[float | int, float | int]
_KEPT: Exponents = (0.0, 0.0)


@dataclasses.dataclass(frozen=True)
class Scaling:
    """One kind of weights; every field is (exponent of the width, exponent of the depth).

    Args:
        multiplier: of the factor in front of W.
        deviation: of the standard deviation of W at initialization.
        sgd: of the learning rate of W under (stochastic) gradient descent.
        adam: of the learning rate of W under Adam.
    """

    multiplier: Exponents = _KEPT
    deviation: Exponents = _KEPT
    sgd: Exponents = _KEPT
    adam: Exponents = _KEPT


@dataclasses.dataclass(frozen=True)
class Parameterisation:
    """A rule for changing width and depth.

    Args:
        name: as it is known.
        input: scaling of the input layer.
        hidden: scaling of the matrices of the blocks.
        output: scaling of the readout.
        branch: exponents of the factor in front of every residual branch.
        skip: whether there are skip connections.
        shaping: exponents of s in the activation s φ(x/s); 0 for a plain one.
        source: where it comes from.
    """

    name: str
    input: Scaling
    hidden: Scaling
    output: Scaling
    branch: Exponents = _KEPT
    skip: bool = True
    shaping: Exponents = _KEPT
    source: str = ""


def _sqrt_depth(branch: float, name: str, source: str) -> Parameterisation:
    """Of the maximal update in width, with branches L^{-α}: SGD rates L^{2α-1}, Adam rates L^{α-1}."""
    return Parameterisation(
        name,
        input=Scaling(sgd=(1, 0)),
        hidden=Scaling((-0.5, 0), sgd=(1, 2 * branch - 1), adam=(-0.5, branch - 1)),
        output=Scaling((-1, 0), sgd=(1, 0)),
        branch=(0, -branch),
        source=source,
    )


PARAMETERISATIONS: Mapping[str, Parameterisation] = {
    p.name: p
    for p in (
        Parameterisation(
            "SP",
            input=Scaling(),
            hidden=Scaling(deviation=(-0.5, 0)),
            output=Scaling(deviation=(-0.5, 0)),
            source="LeCun initialization, one learning rate",
        ),
        Parameterisation(
            "NTK",
            input=Scaling(),
            hidden=Scaling((-0.5, 0), adam=(-0.5, 0)),
            output=Scaling((-0.5, 0), adam=(-0.5, 0)),
            source="arXiv 1806.07572; Adam rates: the largest with stable outputs",
        ),
        Parameterisation(
            "μP",
            input=Scaling(sgd=(1, 0)),
            hidden=Scaling((-0.5, 0), sgd=(1, 0), adam=(-0.5, 0)),
            output=Scaling((-1, 0), sgd=(1, 0)),
            source="arXiv 2011.14522",
        ),
        _sqrt_depth(0.5, "√depth-μP", "arXiv 2309.16620, 2310.02244"),
        _sqrt_depth(1.0, "CompleteP", "arXiv 2505.01618"),
        Parameterisation(
            "proportional",
            input=Scaling(),
            hidden=Scaling((-0.5, 0), sgd=(-1, 0)),
            output=Scaling((-0.5, 0), sgd=(-1, 0)),
            skip=False,
            shaping=(0.5, 0),
            source="arXiv 2206.02768: no skip connections, a shaped activation, depth in proportion to width",
        ),
    )
}
"""Parameterisations by name."""


class Factors(NamedTuple):
    """A parameterisation at one shape: factors by kind of weights, relative to the base shape; numbers or JAX scalars.

    Attributes:
        multiplier: of the factors in front of input, hidden and output matrices.
        deviation: of their standard deviations.
        rate: of their learning rates.
        branch: of the residual branches.
        shaping: of s in the activation.
        skip: 1 with skip connections, otherwise 0.
    """

    multiplier: tuple[Any, Any, Any]
    deviation: tuple[Any, Any, Any]
    rate: tuple[Any, Any, Any]
    branch: Any
    shaping: Any
    skip: Any


def factors(
    parameterisation: Parameterisation | str,
    width: int,
    depth: int,
    *,
    base_width: int,
    base_depth: int,
    optimiser: str = "sgd",
) -> Factors:
    """Evaluate a parameterisation at a shape.

    Args:
        parameterisation: one of `PARAMETERISATIONS`, its name, or one of your own.
        width: neurons per layer.
        depth: number of blocks.
        base_width: width at which every factor is 1 …
        base_depth: … and depth.
        optimiser: "sgd" or "adam".

    Returns:
        The factors.

    Raises:
        ValueError: for an unknown name or optimiser, or a shape below 1.
    """
    if isinstance(parameterisation, str):
        if parameterisation not in PARAMETERISATIONS:
            known = ", ".join(PARAMETERISATIONS)
            raise ValueError(f"parameterisation must be one of {known}, got {parameterisation!r}.")
        parameterisation = PARAMETERISATIONS[parameterisation]
    if optimiser not in ("sgd", "adam"):
        raise ValueError(f"optimiser must be 'sgd' or 'adam', got {optimiser!r}.")
    wider = positive_int("width", width) / positive_int("base_width", base_width)
    deeper = positive_int("depth", depth) / positive_int("base_depth", base_depth)

    def at(exponents: Exponents) -> float:
        return math.pow(wider, exponents[0]) * math.pow(deeper, exponents[1])

    kinds = (parameterisation.input, parameterisation.hidden, parameterisation.output)

    def of(field: str) -> tuple[float, float, float]:
        a, b, c = (at(getattr(kind, field)) for kind in kinds)
        return a, b, c

    return Factors(
        of("multiplier"),
        of("deviation"),
        of(optimiser),
        at(parameterisation.branch),
        at(parameterisation.shaping),
        float(parameterisation.skip),
    )


def table(optimiser: str = "sgd") -> str:
    """The exponents of width and depth of every parameterisation, as a Markdown table."""

    def cell(exponents: Any) -> str:
        n, L = exponents
        parts = [f"{letter}^{{{e:g}}}" for letter, e in (("n", n), ("L", L)) if e]
        return " ".join(parts) or "1"

    names = [f"{kind} {what}" for kind in ("input", "hidden", "output") for what in ("multiplier", "deviation", "rate")]
    lines = ["| | branch | " + " | ".join(names) + " |", "|---" * (len(names) + 2) + "|"]
    for p in PARAMETERISATIONS.values():
        cells = [cell(p.branch)]
        for kind in (p.input, p.hidden, p.output):
            cells += [cell(kind.multiplier), cell(kind.deviation), cell(getattr(kind, optimiser))]
        lines.append(f"| {p.name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)
