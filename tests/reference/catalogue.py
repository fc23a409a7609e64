"""All solved cases, by what they are cases of; a case that is in no group is one that no test may find."""

from collections.abc import Sequence
from typing import Any

from reference import mlp, outputs, resnet, trained_resnet, transformer

GROUPS: dict[str, Sequence[Any]] = {
    **mlp.GROUPS,
    "output density, finite": outputs.FINITE,
    "output density, limit": outputs.LIMIT,
    "kernels of a ResNet": resnet.KERNELS,
    "trained linear ResNet": trained_resnet.EXACT,
    "trained ResNet": trained_resnet.SAMPLED,
    "trained ResNet without responses": trained_resnet.DECOUPLED,
    "digits of a transformer": transformer.DIGITS,
}
MODULES = (mlp, outputs, resnet, trained_resnet, transformer)
KINDS = (mlp.Problem, outputs.OutputProblem, resnet.KernelProblem, trained_resnet.TrainingProblem, transformer.Digits)
