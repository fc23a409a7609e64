"""`covsde compare`: the limit and finite networks on a user's inputs, at initialization."""

import argparse

from covsde.architectures.registry import FAMILIES
from covsde.cli.architectures import add_architecture, make_architecture
from covsde.cli.inputs import add_inputs, read_inputs
from covsde.cli.session import Part, Size, add_run, check_run, depth_note, hold_against_networks
from covsde.drivers.simulate import sample_networks, simulate
from covsde.inputs.arguments import positive_int
from covsde.numerics.keys import network_key

_FULL = Size(widths=[50, 200], paths=10_000, draws=2_000)
_QUICK = Size(widths=[50], paths=1_000, draws=300)


def add(parser: argparse.ArgumentParser) -> None:
    """The options."""
    add_inputs(parser.add_argument)
    add_architecture(parser.add_argument, FAMILIES)
    add_run(parser.add_argument, full=_FULL, quick=_QUICK, out="covsde-compare")


def run(args: argparse.Namespace) -> int:
    """Refuse all that can be refused, then compute and write."""
    inputs = read_inputs(args)
    check_run(args, _FULL, _QUICK)
    architecture, V0, notes = make_architecture(args, FAMILIES), inputs.V0, list(inputs.notes)
    plan = simulate.plan(architecture, V0, paths=args.paths, key=args.seed, steps=args.steps, dtype=args.dtype)
    deterministic = plan.metadata["deterministic"]
    what = f"limit: {'' if deterministic else f'{args.paths} paths, '}{plan.metadata['steps']} steps"
    networks = []
    for width in args.widths:
        depth = architecture.depth(width) if args.depth is None else positive_int("--depth", args.depth)
        sample = sample_networks.plan(
            architecture,
            V0,
            width=width,
            depth=depth,
            draws=args.draws,
            key=network_key(args.seed, width),
            method=args.method,
            dtype=args.dtype,
        )
        sample.rehearse()
        notes += depth_note(width, depth, architecture.depth_to_width)
        networks.append(Part(f"networks of width {width}, depth {depth}: {args.draws} draws", f"width-{width}", sample))
    return hold_against_networks(args, architecture, notes, Part(what, "limit", plan), networks)
