"""`covsde compare`: the limit and finite networks on a user's inputs, at initialization."""

import argparse
from functools import partial
from typing import Any

import jax
import numpy as np

from covsde.architectures.base import AbstractArchitecture
from covsde.cli.architectures import add_architecture, make_architecture
from covsde.cli.inputs import add_inputs, read_inputs
from covsde.cli.session import Part, add_run, check_run, depth_note, hold_against_networks
from covsde.drivers.simulate import sample_networks, simulate
from covsde.inputs.arguments import positive_int
from covsde.numerics.keys import network_key


def add(parser: argparse.ArgumentParser) -> None:
    """The options."""
    add_inputs(parser.add_argument)
    add_architecture(parser.add_argument)
    add_run(parser.add_argument, widths=[50, 200], paths=10_000, draws=2_000, out="covsde-compare")


def _steps(args: argparse.Namespace, architecture: AbstractArchitecture, V0: np.ndarray) -> int:
    solver: Any = architecture.default_solver()
    sde = architecture.limit()
    if args.steps is not None:
        solver.check(sde, len(V0), 1 / args.steps, f"--steps {args.steps}")
        return int(args.steps)
    return architecture.default_steps(V0)


def _rehearse(
    architecture: AbstractArchitecture, V0: np.ndarray, args: argparse.Namespace, width: int, depth: int
) -> None:
    """Trace the sampler without running it, so that what it would refuse is refused now."""

    def sample(key: Any) -> Any:
        return architecture.sample_grams(
            jax.numpy.asarray(V0), key, method=args.method, width=width, depth=depth, draws=2, save=(0, depth)
        )

    with jax.enable_x64(True):
        jax.eval_shape(sample, jax.random.key(0))


def run(args: argparse.Namespace) -> int:
    """Refuse all that can be refused, then compute and write."""
    inputs = read_inputs(args)
    check_run(args)
    architecture, V0, notes = make_architecture(args), inputs.V0, list(inputs.notes)
    steps = _steps(args, architecture, V0)
    deterministic = architecture.limit().deterministic
    what = f"limit: {'' if deterministic else f'{args.paths} paths, '}{steps} steps"
    limit = Part(what, "limit", partial(simulate, architecture, V0, paths=args.paths, key=args.seed, steps=steps))
    networks = []
    for width in args.widths:
        depth = architecture.depth(width) if args.depth is None else positive_int("--depth", args.depth)
        _rehearse(architecture, V0, args, width, depth)
        notes += depth_note(width, depth, architecture.depth_to_width)
        sample = partial(
            sample_networks,
            architecture,
            V0,
            width=width,
            depth=depth,
            draws=args.draws,
            key=network_key(args.seed, width),
            method=args.method,
        )
        networks.append(Part(f"networks of width {width}, depth {depth}: {args.draws} draws", f"width-{width}", sample))
    return hold_against_networks(args, architecture, notes, limit, networks)
