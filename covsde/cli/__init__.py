"""The command `covsde`: compare, train, scaling, list and doctor."""

import argparse
import os
import re
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import jax

import covsde
from covsde.cli import compare, scaling, train
from covsde.cli.catalogue import EXPERIMENTS
from covsde.cli.inputs import Refusal
from covsde.inputs.text import NUMBER


def _integer(text: str) -> int:
    if not re.fullmatch(r"\s*[+-]?\d+\s*", text, re.ASCII):
        raise argparse.ArgumentTypeError(f"invalid int value: {text!r}, give digits alone")
    return int(text)


def _real(text: str) -> float:
    if not NUMBER.fullmatch(text.strip()):
        raise argparse.ArgumentTypeError(f"invalid float value: {text!r}, give a number such as 0.5 or 1e-3")
    return float(text)


def _path(text: str) -> Path:
    if "\0" in text or not text:
        raise argparse.ArgumentTypeError(f"{text!r} names no file; give a path that is not empty, without NUL bytes")
    return Path(text)


class _Parser(argparse.ArgumentParser):
    def __init__(self, *args: Any, **more: Any):
        super().__init__(*args, **more)
        # What options say is int, float or Path is read by these: Python takes 1_000 and ١ for numbers too.
        for kind, read in ((int, _integer), (float, _real), (Path, _path)):
            self.register("type", kind, read)

    def error(self, message: str) -> NoReturn:
        raise Refusal(f"{message} (see {self.prog} --help).")


def parser() -> argparse.ArgumentParser:
    """The parser of the whole command line; it refuses with a sentence."""
    whole = _Parser(prog="covsde", description=covsde.__doc__, allow_abbrev=False)
    whole.add_argument("--version", action="version", version=f"covsde {covsde.__version__}")
    commands = whole.add_subparsers(dest="command", metavar="{compare,train,scaling,list,doctor}")

    def command(name: str, text: str) -> argparse.ArgumentParser:
        return commands.add_parser(name, help=text, description=text, allow_abbrev=False)

    compare.add(command("compare", "Simulate the infinite limit and finite networks on your inputs, and compare them."))
    train.add(command("train", "Train the infinite limit and finite networks on your inputs, and compare them."))
    scaling.add(
        command("scaling", "Predict and measure how kernel regression on your inputs improves with more of them.")
    )
    command("list", "List the experiments that come with the repository.")
    command("doctor", "Print versions and check that this machine computes correctly.")
    return whole


def _list() -> int:
    for experiment in EXPERIMENTS:
        print(f"{experiment.name}: {experiment.sentence} ({experiment.source}); run: {experiment.command}")
    return 0


def _doctor() -> int:
    from covsde.cli.doctor import report

    text, good = report()
    print(text)
    return 0 if good else 1


def _run(args: argparse.Namespace) -> int:
    if args.command == "compare":
        return compare.run(args)
    if args.command == "train":
        return train.run(args)
    if args.command == "scaling":
        return scaling.run(args)
    if args.command == "list":
        return _list()
    return _doctor()


def _as_options(sentence: str, args: argparse.Namespace | None) -> str:
    """A sentence of the library in the words of the command: what it says of width=2 is said of --widths 2."""

    def spelt(match: re.Match[str]) -> str:
        name = "widths" if match["name"] == "width" else match["name"]
        return f"--{name.replace('_', '-')} {match['value'].strip(chr(39))}" if hasattr(args, name) else match[0]

    return re.sub(r"(?<![\w(])(?P<name>[a-z]\w*)=(?P<value>'[^']*'|[^\s,;:()]+)", spelt, sentence)


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
            raise Refusal("name a command: compare, train, scaling, list or doctor (see covsde --help).")  # noqa: TRY301
        return _run(args)
    except (Refusal, ValueError, ImportError, OSError) as error:
        print(f"covsde: error: {_as_options(' '.join(str(error).split()), args)}", file=sys.stderr)
        return 2
    except (MemoryError, OverflowError, jax.errors.JaxRuntimeError) as error:
        reason = " ".join(str(error).split())[:120]
        print(f"covsde: error: too large for this machine ({reason}); ask for less.", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        remedy = "run the same command again."
        if args is not None and hasattr(args, "resume"):
            if not args.resume:
                remedy = "start it with --resume to be able to continue after an interruption."
            elif any((args.out / "checkpoint").glob("*/chunk-*.npz")):
                remedy = f"finished parts are in {args.out / 'checkpoint'}; run the same command again to continue."
        print(f"\ncovsde: interrupted: {remedy}", file=sys.stderr)
        return 130


def entry() -> NoReturn:
    """The process `covsde`: its exit code is that of `main`."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # `main` knows more to say than an import
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # Greek letters on a terminal that has none
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    if code == 130:
        os._exit(code)  # XLA crashes at the end of a process that was interrupted while it compiled
    sys.exit(code)
