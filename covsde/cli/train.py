"""`covsde train`: feature learning on a user's inputs and targets, in the limit and in finite networks."""

import argparse
from functools import partial
from pathlib import Path

from covsde.architectures.mlp.architecture import MLP
from covsde.cli.architectures import add_activation, make_activation
from covsde.cli.inputs import Refusal, add_inputs, read_inputs, read_targets
from covsde.cli.session import Part, add_run, check_run, depth_note, hold_against_networks
from covsde.descent.losses import NAMED
from covsde.drivers.train import train, train_networks
from covsde.inputs.arguments import finite_number, positive_int
from covsde.numerics.keys import network_key


def add(parser: argparse.ArgumentParser) -> None:
    """The options."""
    option = parser.add_argument
    add_inputs(option)
    option("--targets", type=Path, metavar="FILE", help="one number per input, .npy or .csv")
    add_activation(option, "shaped (default: tanh)")
    parser.set_defaults(activation="tanh")
    option("--depth-to-width", type=float, default=0.5, metavar="T", help="depth / width (default: 0.5)")
    option("--updates", type=int, default=3, help="steps of gradient descent on all inputs (default: 3)")
    option("--substeps", type=int, default=1, help="gradient steps per update, towards gradient flow (default: 1)")
    option(
        "--learning-rate",
        type=float,
        default=1.0,
        metavar="RATE",
        help="of order one; networks use RATE/n on their hidden matrices and the sum of the loss (default: 1)",
    )
    option("--loss", choices=tuple(NAMED), default="squared", help="(default: squared)")
    add_run(option, widths=[60], paths=2_000, draws=1_000, out="covsde-train")


def run(args: argparse.Namespace) -> int:
    """Refuse all that can be refused, then compute and write."""
    inputs = read_inputs(args)
    if args.targets is None:
        raise Refusal("give --targets FILE, with one number per input.")
    y = read_targets(args.targets, inputs)
    if args.loss == "logistic" and not set(y) <= {-1.0, 1.0}:
        raise Refusal(f"--loss logistic needs targets +1 or -1, and {args.targets} holds others; use --loss squared.")
    check_run(args)
    mlp = MLP(make_activation(args), args.depth_to_width)
    task = {
        "targets": y,
        "updates": positive_int("--updates", args.updates),
        "substeps": positive_int("--substeps", args.substeps),
        "learning_rate": finite_number("--learning-rate", args.learning_rate),
        "loss": args.loss,
    }
    limit = Part(
        f"limit: {args.paths} paths",
        "limit",
        partial(train, mlp, inputs.V0, paths=args.paths, key=args.seed, steps=args.steps, **task),
    )
    train.plan(mlp, inputs.V0, paths=args.paths, steps=args.steps, **task)  # refuses what cannot be computed
    networks, notes = [], list(inputs.notes)
    for width in args.widths:
        sample = partial(
            train_networks,
            mlp,
            inputs.V0,
            width=width,
            draws=args.draws,
            key=network_key(args.seed, width),
            method=args.method,
            **task,
        )
        train_networks.plan(mlp, inputs.V0, width=width, draws=args.draws, method=args.method, **task)
        notes += depth_note(width, mlp.depth(width), mlp.depth_to_width)
        what = f"networks of width {width}, depth {mlp.depth(width)}: {args.draws} draws"
        networks.append(Part(what, f"width-{width}", sample))
    return hold_against_networks(args, mlp, notes, limit, networks)
