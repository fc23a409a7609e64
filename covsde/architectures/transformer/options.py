"""The shaped transformer as commands offer it."""

import math
from collections.abc import Mapping
from typing import Any

from covsde.architectures.family import ACTIVATION_OPTIONS, Family, Option, shaped_activation
from covsde.architectures.transformer.architecture import Transformer

_HYPERPARAMETERS = ("gamma", "tau0", "heads", "mask", "depth_to_width")


def _make(given: Mapping[str, Any]) -> Transformer:
    chosen = {name: given[name] for name in _HYPERPARAMETERS if name in given}
    if chosen.get("heads") == math.inf:
        raise ValueError("--heads inf exists in the limit only, and networks are compared with it: give a number.")
    # The activation is that of the MLP in each block.
    shaped = any(name in given for name in ("c_plus", "c_minus"))
    mlp = shaped_activation(given, "relu") if shaped or "activation" in given else None
    return Transformer(**{"gamma": 0.5, "mlp": mlp, **chosen})


FAMILY = Family(
    "transformer",
    Transformer,
    (
        Option("activation", str, "of the MLP in each block (default: no MLP)", choices=("relu", "linear")),
        *ACTIVATION_OPTIONS[:2],
        Option("depth_to_width", float, "depth / width (default: 1)", metavar="T"),
        Option("gamma", float, "weight of the branches (default: 0.5)"),
        Option("tau0", float, "temperature of attention (default: 1)"),
        Option("heads", int, "heads of attention (default: 1)", metavar="H"),
        Option("mask", str, "which tokens attend to which (default: all to all)", choices=("causal",)),
    ),
    _make,
)
