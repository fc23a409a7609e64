"""The depth-scaled ResNet as commands offer it."""

from collections.abc import Mapping
from typing import Any

from covsde.activations import PLAIN
from covsde.architectures.family import Family, Option
from covsde.architectures.resnet.architecture import ResNet
from covsde.architectures.resnet.blocks import BLOCKS


def _make(given: Mapping[str, Any]) -> ResNet:
    default = "tanh" if given.get("training", False) else "relu"
    return ResNet(given.get("activation", default), given.get("beta", 1.0), given.get("block", "pre-activation"))


FAMILY = Family(
    "resnet",
    ResNet,
    (
        Option("activation", str, "plain (default: relu; tanh in train)", choices=tuple(PLAIN)),
        Option("beta", float, "size of the branches (default: 1)"),
        Option("block", str, "residual block (default: pre-activation)", choices=tuple(BLOCKS)),
        Option("depth", int, "blocks of the finite networks (default: their width)", metavar="L"),
    ),
    _make,
    (
        Option("richness", float, "γ₀, small is lazy (default: 1)", metavar="GAMMA"),
        Option("limit_depth", int, "blocks of the limit (default: infinitely many)", metavar="L"),
        Option("train_input", bool, "let the input layer learn as well"),
        Option("train_readout", bool, "let the readout learn as well"),
    ),
)
