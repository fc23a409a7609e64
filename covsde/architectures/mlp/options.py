"""The shaped MLP as commands offer it."""

from collections.abc import Mapping
from typing import Any

from covsde.architectures.family import ACTIVATION_OPTIONS, SHAPED, Family, Option, shaped_activation
from covsde.architectures.mlp.architecture import MLP

_ACTIVATION = Option("activation", str, "shaped (default: relu; tanh in train)", choices=SHAPED)
_DEPTH = Option("depth_to_width", float, "depth / width (default: 1; 0.5 in train)", metavar="T")


def _make(given: Mapping[str, Any]) -> MLP:
    training = given.get("training", False)
    activation = shaped_activation(given, "tanh" if training else "relu")
    return MLP(activation, given.get("depth_to_width", 0.5 if training else 1.0))


FAMILY = Family(
    "mlp",
    MLP,
    (_ACTIVATION, *ACTIVATION_OPTIONS, _DEPTH),
    _make,
    (
        Option("output_scale", float, "s of the outputs s w·h/√n (default: 1)", metavar="S"),
        Option("train_input", bool, "let the matrix of the inputs learn as well"),
        Option("train_readout", bool, "let the readout learn as well"),
    ),
)
