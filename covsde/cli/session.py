"""What the commands share: a limit, networks, their comparison, and files that are written whole or not at all."""

import argparse
import importlib.util
import json
import math
import os
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import covsde
from covsde.cli.inputs import Refusal
from covsde.comparison.compare import compare
from covsde.comparison.table import CurveComparison
from covsde.inputs.arguments import positive_int
from covsde.results.files import atomic_write, together
from covsde.results.status import FailedPathsWarning, UnresolvedStepWarning
from covsde.run import forecast
from covsde.run.checkpoint import remove_checkpoints
from covsde.run.lock import locked
from covsde.run.metadata import describe
from covsde.run.plan import Plan

_NOTED = (FailedPathsWarning, UnresolvedStepWarning)


@dataclass(frozen=True)
class Size:
    """How much a command computes where the user does not say."""

    widths: list[int]
    paths: int
    draws: int


def add_run(add: Callable[..., Any], *, full: Size, quick: Size, out: str) -> None:
    """The options of every run, with these defaults."""

    def default(name: str) -> str:
        values = [getattr(size, name) for size in (full, quick)]
        texts = [" ".join(map(str, v)) if isinstance(v, list) else str(v) for v in values]
        return f"(default: {texts[0]}; {texts[1]} with --quick)"

    add("--widths", type=int, nargs="+", metavar="N", help=f"of the networks {default('widths')}")
    add("--paths", type=int, help=f"paths of the limit {default('paths')}")
    add("--draws", type=int, help=f"networks of each width {default('draws')}")
    add("--quick", action="store_true", help="fewer paths and networks, for a first look in seconds")
    add("--steps", type=int, help="solver steps of the limit (default: enough for small weak errors)")
    add(
        "--method",
        choices=("law", "weights"),
        default="law",
        help="networks sampled exactly without weights, or with them (default: law)",
    )
    add("--seed", type=int, default=0, help="(default: 0)")
    add("--dtype", choices=("float32", "float64"), default="float64", help="(default: float64)")
    add("--out", type=Path, default=Path(out), metavar="DIR", help=f"(default: {out})")
    add("--resume", action="store_true", help="keep finished parts in DIR/checkpoint and continue from them")
    add("--quiet", action="store_true", help="print only the table")


def check_run(args: argparse.Namespace, full: Size, quick: Size) -> None:
    """Fill in what the user did not say, and refuse what no run can be made with."""
    size = quick if args.quick else full
    for name in ("widths", "paths", "draws"):
        if getattr(args, name) is None:
            setattr(args, name, getattr(size, name))
    if args.steps is not None:
        positive_int("--steps", args.steps)
    # A standard error takes two samples.
    positive_int("--draws", args.draws, least=2)
    positive_int("--paths", args.paths, least=2)
    if not 0 <= args.seed < 2**32:
        raise Refusal(f"--seed must be an integer from 0 to 4294967295, got {args.seed}.")
    if len(set(args.widths)) < len(args.widths):
        raise Refusal("--widths must not repeat a width; leave out the copies.")
    for width in args.widths:
        positive_int("--widths", width)
    if importlib.util.find_spec("matplotlib") is None:
        raise Refusal('the figure needs matplotlib; install it with: pip install "covsde[plot]".')


def depth_note(width: int, depth: int, wanted: float | None) -> list[str]:
    """What to say of networks whose depth/width is not that of the limit."""
    ratio = depth / width
    if wanted is None or abs(ratio / wanted - 1) <= 0.02:
        return []
    return [
        f"Note: networks of width {width} have depth {depth}, that is depth/width {ratio:.3g}, not {wanted:.3g}, so a "
        "difference to the limit is expected."
    ]


@dataclass(frozen=True)
class Part:
    """One result of a command.

    Args:
        what: what is computed, for the user.
        name: of its folder of checkpoints.
        plan: how it is computed.
    """

    what: str
    name: str
    plan: Plan[Any]


def hold_against_networks(
    args: argparse.Namespace, architecture: Any, notes: list[str], limit: Part, networks: list[Part]
) -> int:
    """Compute a limit and networks, compare them, write everything to `args.out` and print the table."""
    say: Callable[[str], None] = (lambda line: None) if args.quiet else (lambda line: print(line, flush=True))
    bar = False if args.quiet or importlib.util.find_spec("tqdm") is None else None
    for part in (limit, *networks):
        part.plan.check_room()
    checkpoints = args.out / "checkpoint"
    with directory(args.out), locked(args.out, busy(args.out)):
        say(f"covsde {covsde.__version__}: {describe(architecture)}")
        for note in notes:
            say(note)

        def timed(part: Part) -> Any:
            say(f"{part.what} ...")  # a line of its own, because a progress bar erases the line it is on
            start = time.perf_counter()
            checkpoint = checkpoints / part.name if args.resume else None
            if not (args.quiet or (checkpoint is not None and checkpoint.exists())):
                say(f"  {forecast.in_words(forecast.seconds(part.plan))}, and what it takes to compile")
            found = part.plan.run(checkpoint=checkpoint, progress=bar)
            say(f"  done in {time.perf_counter() - start:.1f} s")
            return found

        failed: list[str] = []
        with _failures_as_notes(failed):
            results = [timed(part) for part in (limit, *networks)]
            comparison = compare(*results)
            files = publish(partial(_write, comparison), args.out)
        if args.resume:
            for part in (limit, *networks):
                folder, coarse = checkpoints / part.name, part.plan.coarse
                if coarse is not None:
                    remove_checkpoints(folder / "coarse", coarse.fingerprint, coarse.chunks.count)
                remove_checkpoints(folder, part.plan.fingerprint, part.plan.chunks.count)
            with suppress(OSError):  # others have something in it
                checkpoints.rmdir()
        notes_of_others = _others(args.out, files)
    say("")
    print(comparison)
    for note in failed:
        print(f"Note: {note}")
    for note in notes_of_others:
        say(note)
    say(f"\nWritten to {args.out}{os.sep}: {', '.join(files)}")
    return 0


def busy(out: Path) -> str:
    """What to say to whoever wants to write where another run does."""
    return f"--out: another covsde is writing to {out}; wait for it, or choose another directory."


@contextmanager
def directory(path: Path) -> Iterator[None]:
    """Make a directory that can be written to; if the block fails, remove what was made and left empty."""
    made = []
    try:
        try:
            for folder in (*reversed(path.parents), path):
                if not folder.exists():
                    folder.mkdir()
                    made.append(folder)
            # Asking for permission is not enough: the file system may be read-only or full.
            with atomic_write(path / "probe.tmp") as probe:
                probe.write_bytes(b"covsde")
            (path / "probe.tmp").unlink(missing_ok=True)
        except OSError as error:
            # os.path, because pathlib raises for a name that is too long.
            reason = (
                "not a directory"
                if os.path.exists(path) and not os.path.isdir(path)
                else error.strerror or "not writable"
            )
            raise Refusal(f"--out: {path} cannot be written to ({reason}); choose another directory.") from error
        yield
    except BaseException:
        for folder in reversed(made):
            try:
                folder.rmdir()
            except OSError:
                break  # it holds checkpoints
        raise


@contextmanager
def _failures_as_notes(notes: list[str]) -> Iterator[None]:
    """Collect warnings about failed and unresolved paths as sentences; let every other warning through."""
    with warnings.catch_warnings():
        for category in _NOTED:
            warnings.simplefilter("always", category)
        show = warnings.showwarning

        def collect(message: Warning | str, category: type[Warning], *rest: Any, **more: Any) -> None:
            if issubclass(category, _NOTED):
                notes.append(str(message))
            else:
                show(message, category, *rest, **more)

        warnings.showwarning = collect
        yield


def strict_json(x: Any) -> Any:
    """The same with NaN as null and infinities as strings, for which JSON has no numbers."""
    if isinstance(x, dict):
        return {key: strict_json(value) for key, value in x.items()}
    if isinstance(x, list | tuple):
        return [strict_json(value) for value in x]
    if isinstance(x, float) and not math.isfinite(x):
        return None if math.isnan(x) else str(x)
    return x


def publish(write: Callable[[Path], list[str]], out: Path) -> list[str]:
    """Write everything, in the place of an earlier run's files only once all of it is there."""
    try:
        with together(out) as folder:
            return write(folder)
    except OSError as error:
        reason = error.strerror or str(error)
        raise Refusal(
            f"--out: the results cannot be written to {out} ({reason}), and its files are those of before; make room, "
            "or choose another directory."
        ) from error


def _others(out: Path, files: list[str]) -> list[str]:
    """What to say of networks of an earlier run, which stay beside these."""
    others = sorted({path.name for path in out.glob("network-width-*.npz")} - set(files))
    return [f"Note: {', '.join(others)} in {out} are of an earlier run."] if others else []


def _write(comparison: CurveComparison, out: Path) -> list[str]:
    for suffix in ("png", "pdf"):
        comparison.plot(out / f"comparison.{suffix}")
    text = json.dumps(strict_json(comparison.to_dict()), indent=1, allow_nan=False)
    (out / "comparison.json").write_text(text + "\n")
    comparison.limit.save(out / "limit.npz")
    names = [f"network-width-{network.metadata['width']}.npz" for network in comparison.networks]
    for name, network in zip(names, comparison.networks, strict=True):
        network.save(out / name)
    return ["comparison.png", "comparison.pdf", "comparison.json", "limit.npz", *names]
