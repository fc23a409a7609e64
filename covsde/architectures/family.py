"""What a family of architectures says of itself, so that commands can offer it without knowing it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from covsde.activations import SMOOTH, AbstractActivation, Identity, ShapedReLU, ShapedSmooth

SHAPED = ("relu", *SMOOTH, "linear")
"""Names of activations that can be shaped."""


@dataclass(frozen=True)
class Option:
    """A hyperparameter as an option of a command.

    Args:
        name: of the option, with underscores.
        kind: of its value.
        text: what it is, with its default.
        choices: the values it may have, if they are few.
        metavar: what stands for its value.
    """

    name: str
    kind: type
    text: str
    choices: tuple[str, ...] | None = None
    metavar: str | None = None


@dataclass(frozen=True)
class Family:
    """A family of architectures.

    Args:
        name: for users, e.g. "resnet".
        kind: the class.
        options: its hyperparameters.
        make: an architecture from the options that were given.
        training: what its training takes besides a task; empty if it cannot be trained.
    """

    name: str
    kind: type
    options: tuple[Option, ...]
    make: Callable[[Mapping[str, Any]], Any]
    training: tuple[Option, ...] = ()


ACTIVATION_OPTIONS = (
    Option("c_plus", float, "slope correction of a shaped relu for x > 0 (default: 0.5)", metavar="C"),
    Option("c_minus", float, "slope correction of a shaped relu for x < 0 (default: -0.5)", metavar="C"),
    Option("a", float, "inverse strength of shaping of a smooth activation (default: 1)"),
)
"""What a shaped activation takes besides its name."""


def shaped_activation(given: Mapping[str, Any], default: str) -> AbstractActivation:
    """The shaped activation that options describe.

    Raises:
        ValueError: for an option that has no meaning for the activation.
    """
    name = given.get("activation", default)
    for option, applies in (("c_plus", name == "relu"), ("c_minus", name == "relu"), ("a", name in SMOOTH)):
        if option in given and not applies:
            raise ValueError(f"--{option.replace('_', '-')} has no meaning for --activation {name}; drop it.")
    if name == "relu":
        return ShapedReLU(given.get("c_plus", 0.5), given.get("c_minus", -0.5))
    return Identity() if name == "linear" else ShapedSmooth(name, a=given.get("a", 1.0))
