"""The command `covsde`: compare, train, list and doctor."""

import argparse
import sys
from collections.abc import Sequence
from typing import NoReturn

import covsde
from covsde.catalogue import EXPERIMENTS
from covsde.cli import compare, train
from covsde.cli.inputs import Refusal


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise Refusal(f"{message} (see {self.prog} --help).")


def parser() -> argparse.ArgumentParser:
    """The parser of the whole command line; it refuses with a sentence."""
    whole = _Parser(prog="covsde", description=covsde.__doc__, allow_abbrev=False)
    whole.add_argument("--version", action="version", version=f"covsde {covsde.__version__}")
    commands = whole.add_subparsers(dest="command", metavar="{compare,train,list,doctor}")

    def command(name: str, text: str) -> argparse.ArgumentParser:
        return commands.add_parser(name, help=text, description=text, allow_abbrev=False)

    compare.add(command("compare", "Simulate the infinite limit and finite networks on your inputs, and compare them."))
    train.add(command("train", "Train the infinite limit and finite networks on your inputs, and compare them."))
    command("list", "List the experiments that come with the repository.")
    command("doctor", "Print versions and check that this machine computes correctly.")
    return whole


def _list() -> int:
    for experiment in EXPERIMENTS:
        print(f"{experiment.name}: {experiment.sentence} ({experiment.source}); run: {experiment.command}")
    return 0


def _doctor() -> int:
    from covsde.doctor import report

    text, good = report()
    print(text)
    return 0 if good else 1


def _run(args: argparse.Namespace) -> int:
    if args.command == "compare":
        return compare.run(args)
    if args.command == "train":
        return train.run(args)
    if args.command == "list":
        return _list()
    return _doctor()


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: arguments after the program name; default: those of the process.

    Returns:
        Exit code: 0 for success, 1 for a failed check of `doctor`, 2 for bad input, 130 when interrupted.
    """
    args = None
    try:
        args = parser().parse_args(argv)
        if args.command is None:
            raise Refusal("name a command: compare, train, list or doctor (see covsde --help).")  # noqa: TRY301
        return _run(args)
    except (Refusal, ValueError, ImportError, OSError) as error:
        print(f"covsde: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        if args is not None and hasattr(args, "resume"):
            if args.resume:
                remedy = f"finished parts are in {args.out / 'checkpoint'}; run the same command again to continue."
            else:
                remedy = "nothing was written; start it with --resume to be able to continue after an interruption."
        else:
            remedy = "run the same command again."
        print(f"\ncovsde: interrupted: {remedy}", file=sys.stderr)
        return 130
