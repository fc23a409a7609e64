"""The mean-field network as commands offer it."""

from collections.abc import Mapping
from typing import Any

from covsde.activations import PLAIN
from covsde.architectures.family import Family, Option
from covsde.architectures.mean_field.architecture import MeanFieldMLP


def _make(given: Mapping[str, Any]) -> MeanFieldMLP:
    return MeanFieldMLP(given.get("activation", "tanh"), given.get("layers", 2))


FAMILY = Family(
    "mean-field",
    MeanFieldMLP,
    (
        Option("activation", str, "plain (default: tanh)", choices=tuple(PLAIN)),
        Option("layers", int, "hidden layers (default: 2)", metavar="L"),
    ),
    _make,
    (
        Option("richness", float, "γ₀, small is lazy (default: 1)", metavar="GAMMA"),
        Option("train_input", bool, "let the input layer learn (default here)"),
        Option("train_readout", bool, "let the readout learn (default here)"),
    ),
)
