"""`covsde train`: feature learning on a user's inputs and targets, in the limit and in finite networks."""

import argparse
from pathlib import Path
from typing import Any

from covsde.cli.architectures import add_architecture, make_architecture, trainable, training_settings
from covsde.cli.inputs import Inputs, Refusal, add_inputs, read_inputs, read_targets
from covsde.cli.session import Part, Size, add_run, check_run, depth_note, hold_against_networks
from covsde.descent.losses import NAMED
from covsde.descent.optimizers import SGD, Adam, Sign
from covsde.drivers.train import train, train_networks
from covsde.inputs.arguments import finite_number, positive_int
from covsde.numerics.keys import network_key

_FULL = Size(widths=[60], paths=2_000, draws=1_000)
_QUICK = Size(widths=[40], paths=500, draws=200)

_OPTIMIZERS: dict[str, Any] = {"sgd": SGD, "sign": Sign, "adam": Adam}


def add(parser: argparse.ArgumentParser) -> None:
    """The options."""
    option = parser.add_argument
    add_inputs(option)
    option("--targets", type=Path, metavar="FILE", help="one number per input, in a file such as those of --inputs")
    add_architecture(option, trainable(), training=True)
    option(
        "--test-rows",
        nargs="+",
        metavar="I",
        help="inputs that are only tested, beside those of --rows, such as 20-119 (default: none)",
    )
    option("--updates", type=int, default=3, help="steps of gradient descent on all inputs (default: 3)")
    option("--substeps", type=int, default=1, help="gradient steps per update, towards gradient flow (default: 1)")
    option(
        "--learning-rate",
        type=float,
        default=1.0,
        metavar="RATE",
        help="of order one; networks of width n scale it as their limit asks (default: 1)",
    )
    option(
        "--optimizer",
        choices=tuple(_OPTIMIZERS),
        default="sgd",
        help="sign and adam move every entry of a matrix by RATE/n², and are for MLPs (default: sgd)",
    )
    option(
        "--momentum", type=float, default=0.0, metavar="MU", help="heavy ball of sgd, from 0 to below 1 (default: 0)"
    )
    option("--loss", choices=tuple(NAMED), default="squared", help="(default: squared)")
    add_run(option, full=_FULL, quick=_QUICK, out="covsde-train")


def _targets(args: argparse.Namespace, inputs: Inputs) -> tuple[Any, list[str], str]:
    """Targets, what was taken as what, and where they come from."""
    if (args.targets is None) == (inputs.targets is None):
        raise Refusal(
            "give --targets FILE, with one number per input, or --target-column C, a column of --inputs; not both."
        )
    if inputs.targets is not None:
        return inputs.targets, [], f"column {args.target_column} of {args.inputs}"
    return *read_targets(args.targets, inputs), str(args.targets)


def _task(args: argparse.Namespace, y: Any, source: str, tests: int) -> dict[str, Any]:
    if args.loss == "logistic" and not set(y) <= {-1.0, 1.0}:
        raise Refusal(f"--loss logistic needs targets +1 or -1, and {source} holds others; use --loss squared.")
    rate, momentum = finite_number("--learning-rate", args.learning_rate), finite_number("--momentum", args.momentum)
    if momentum and args.optimizer != "sgd":
        raise Refusal(f"--momentum is for --optimizer sgd, got {args.optimizer}: drop one of them.")
    general: dict[str, Any] = {"learning_rate": rate}
    if momentum or args.optimizer != "sgd":
        general = {"optimizer": SGD(rate, momentum=momentum) if momentum else _OPTIMIZERS[args.optimizer](rate)}
    if tests:
        general["batches"] = list(range(len(y) - tests))
    return general | {
        "targets": y,
        "updates": positive_int("--updates", args.updates),
        "substeps": positive_int("--substeps", args.substeps),
        "loss": args.loss,
        "dtype": args.dtype,
    }


def run(args: argparse.Namespace) -> int:
    """Refuse all that can be refused, then compute and write."""
    inputs, families = read_inputs(args), trainable()
    y, taken, source = _targets(args, inputs)
    task = _task(args, y, source, inputs.tests)
    check_run(args, _FULL, _QUICK)
    architecture, settings = make_architecture(args, families, training=True), training_settings(args, families)
    limit_depth = settings.pop("limit_depth", None)
    plan = train.plan(
        architecture,
        inputs.V0,
        paths=args.paths,
        key=args.seed,
        steps=args.steps,
        depth=limit_depth,
        **task,
        **settings,
    )
    networks, notes = [], [*inputs.notes, *taken]
    for width in args.widths:
        depth = architecture.depth(width) if args.depth is None else positive_int("--depth", args.depth)
        sample = train_networks.plan(
            architecture,
            inputs.V0,
            width=width,
            depth=depth,
            draws=args.draws,
            key=network_key(args.seed, width),
            method=args.method,
            **task,
            **settings,
        )
        notes += depth_note(width, depth, architecture.depth_to_width)
        networks.append(Part(f"networks of width {width}, depth {depth}: {args.draws} draws", f"width-{width}", sample))
    return hold_against_networks(args, architecture, notes, Part(f"limit: {args.paths} paths", "limit", plan), networks)
