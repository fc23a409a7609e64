"""Architectures and activations as options of a command."""

import argparse
from collections.abc import Callable
from typing import Any

from covsde.activations import SMOOTH, AbstractActivation, Identity, ShapedReLU, ShapedSmooth
from covsde.architectures.base import AbstractArchitecture
from covsde.architectures.mlp.architecture import MLP
from covsde.architectures.resnet.architecture import ResNet
from covsde.architectures.resnet.blocks import BLOCKS
from covsde.cli.inputs import Refusal

ACTIVATIONS = ("relu", *SMOOTH, "linear")


def add_activation(add: Callable[..., Any], text: str) -> None:
    """The options that make a shaped activation."""
    add("--activation", choices=ACTIVATIONS, default="relu", help=text)
    add("--c-plus", type=float, metavar="C", help="slope correction of relu for x > 0 (default: 0.5)")
    add("--c-minus", type=float, metavar="C", help="slope correction of relu for x < 0 (default: -0.5)")
    add("--a", type=float, help="inverse strength of shaping of a smooth activation (default: 1)")


def add_architecture(add: Callable[..., Any]) -> None:
    """The options that choose and make an architecture."""
    add("--architecture", choices=_ARCHITECTURES, default="mlp", help="(default: mlp)")
    add_activation(add, "shaped in an mlp, plain in a resnet (default: relu)")
    add("--depth-to-width", type=float, metavar="T", help="depth / width of an mlp (default: 1)")
    add("--beta", type=float, help="size of the branches of a resnet (default: 1)")
    add("--block", choices=tuple(BLOCKS), help="residual block of a resnet (default: pre-activation)")
    add("--depth", type=int, metavar="L", help="blocks of the finite resnets (default: their width)")


def make_activation(args: argparse.Namespace) -> AbstractActivation:
    """The shaped activation that the options describe."""
    for option, applies in (
        ("c_plus", args.activation == "relu"),
        ("c_minus", args.activation == "relu"),
        ("a", args.activation in SMOOTH),
    ):
        if getattr(args, option) is not None and not applies:
            raise Refusal(f"--{option.replace('_', '-')} has no meaning for --activation {args.activation}; drop it.")
    if args.activation == "relu":
        return ShapedReLU(0.5 if args.c_plus is None else args.c_plus, -0.5 if args.c_minus is None else args.c_minus)
    if args.activation == "linear":
        return Identity()
    return ShapedSmooth(args.activation, a=1.0 if args.a is None else args.a)


def _mlp(args: argparse.Namespace) -> MLP:
    return MLP(make_activation(args), 1.0 if args.depth_to_width is None else args.depth_to_width)


def _resnet(args: argparse.Namespace) -> ResNet:
    return ResNet(args.activation, 1.0 if args.beta is None else args.beta, args.block or "pre-activation")


# How to make each architecture, and the options that it alone understands.
_ARCHITECTURES: dict[str, tuple[Callable[[argparse.Namespace], AbstractArchitecture], tuple[str, ...]]] = {
    "mlp": (_mlp, ("c_plus", "c_minus", "a", "depth_to_width")),
    "resnet": (_resnet, ("beta", "block", "depth")),
}


def make_architecture(args: argparse.Namespace) -> AbstractArchitecture:
    """The architecture that the options describe."""
    make, understood = _ARCHITECTURES[args.architecture]
    for _, options in _ARCHITECTURES.values():
        for option in options:
            if getattr(args, option) is not None and option not in understood:
                raise Refusal(
                    f"--{option.replace('_', '-')} has no meaning for --architecture {args.architecture}; drop it."
                )
    return make(args)
