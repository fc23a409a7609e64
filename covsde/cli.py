"""The command `covsde`: compare, list and doctor."""

import argparse
import importlib.util
import json
import math
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import jax
import numpy as np
from jaxtyping import Float

import covsde
from covsde._check import positive_int
from covsde._files import atomic_write
from covsde._runs import describe
from covsde.activations import SMOOTH, AbstractActivation, Identity, ShapedReLU, ShapedSmooth
from covsde.architectures import AbstractArchitecture
from covsde.blocks import BLOCKS
from covsde.catalogue import EXPERIMENTS
from covsde.compare import compare
from covsde.compare_ensembles import Comparison
from covsde.ensemble import Ensemble
from covsde.inputs import check_gram, gram
from covsde.matrix_files import UnreadableFile, read_matrix
from covsde.mlp import MLP
from covsde.resnet import ResNet
from covsde.simulate import sample_networks, simulate
from covsde.status import FailedPathsWarning

_ACTIVATIONS = ("relu", *SMOOTH, "linear")

_MOST_INPUTS = 8  # taken from a larger file unless --rows says which: the figure and table are made for a few


class _Refusal(Exception):
    """A sentence for the user; the command ends with exit code 2."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise _Refusal(f"{message} (see {self.prog} --help).")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="covsde", description=covsde.__doc__, allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"covsde {covsde.__version__}")
    commands = parser.add_subparsers(dest="command", metavar="{compare,list,doctor}")

    text = "Simulate the infinite limit and finite networks on your inputs, and compare them."
    add = commands.add_parser("compare", help=text, description=text, allow_abbrev=False).add_argument
    add("--inputs", type=Path, metavar="FILE", help="inputs, one per row: .npy, or .csv with an optional header line")
    add("--gram", type=Path, metavar="FILE", help="instead of --inputs: their Gram matrix, .npy or .csv")
    add("--rows", type=int, nargs="+", metavar="I", help="which inputs to use, counted from 0")
    add(
        "--normalise",
        choices=("unit", "none"),
        default="none",
        help="unit rescales every input to variance 1 (default: none)",
    )
    add("--architecture", choices=_ARCHITECTURES, default="mlp", help="(default: mlp)")
    add(
        "--activation", choices=_ACTIVATIONS, default="relu", help="shaped in an mlp, plain in a resnet (default: relu)"
    )
    add("--c-plus", type=float, metavar="C", help="slope correction of relu for x > 0 (default: 0.5)")
    add("--c-minus", type=float, metavar="C", help="slope correction of relu for x < 0 (default: -0.5)")
    add("--a", type=float, help="inverse strength of shaping of a smooth activation (default: 1)")
    add("--depth-to-width", type=float, metavar="T", help="depth / width of an mlp (default: 1)")
    add("--beta", type=float, help="size of the branches of a resnet (default: 1)")
    add("--block", choices=tuple(BLOCKS), help="residual block of a resnet (default: pre-activation)")
    add("--depth", type=int, metavar="L", help="blocks of the finite resnets (default: their width)")
    add("--widths", type=int, nargs="+", default=[50, 200], metavar="N", help="of the networks (default: 50 200)")
    add("--paths", type=int, default=10_000, help="paths of the limit (default: 10000)")
    add("--draws", type=int, default=2_000, help="networks of each width (default: 2000)")
    add("--steps", type=int, help="solver steps of the limit (default: enough for weak errors below 0.001)")
    add(
        "--method",
        choices=("law", "weights"),
        default="law",
        help="networks sampled exactly without weights, or with them (default: law)",
    )
    add("--seed", type=int, default=0, help="(default: 0)")
    add("--dtype", choices=("float32", "float64"), default="float64", help="(default: float64)")
    add("--out", type=Path, default=Path("covsde-compare"), metavar="DIR", help="(default: covsde-compare)")
    add("--resume", action="store_true", help="keep finished parts in DIR/checkpoint and continue from them")
    add("--quiet", action="store_true", help="print only the table")

    text = "List the experiments that come with the repository."
    commands.add_parser("list", help=text, description=text, allow_abbrev=False)
    text = "Print versions and check that this machine computes correctly."
    commands.add_parser("doctor", help=text, description=text, allow_abbrev=False)
    return parser


def _initial(args: argparse.Namespace) -> tuple[Float[np.ndarray, "m m"], list[str]]:
    """V₀ and lines that say where it comes from."""
    if (args.inputs is None) == (args.gram is None):
        raise _Refusal("give either --inputs FILE or --gram FILE.")
    path: Path = args.inputs or args.gram
    try:
        matrix = read_matrix(path)
    except UnreadableFile as error:
        raise _Refusal(str(error)) from error
    if args.gram and matrix.shape[0] != matrix.shape[1]:
        raise _Refusal(
            f"{path} must hold a square Gram matrix, got shape {matrix.shape}; for inputs, one per row, use --inputs."
        )
    try:
        with np.errstate(over="ignore"):  # refused below
            V0 = gram(matrix) if args.inputs else check_gram(matrix)
    except ValueError as error:
        raise _Refusal(f"{path}: {error}") from error
    total, notes = len(V0), []
    rows = list(range(total)) if args.rows is None else args.rows
    if args.rows is None and total > _MOST_INPUTS:
        rows = rows[:_MOST_INPUTS]
        notes.append(f"Using the first {_MOST_INPUTS} of {total} inputs; choose others with --rows.")
    for row in rows:
        if not 0 <= row < total:
            raise _Refusal(f"--rows: there is no row {row} in {path}; its rows are 0 to {total - 1}.")
    if len(set(rows)) < len(rows):
        raise _Refusal("--rows must not repeat a row; leave out the copies.")
    V0 = V0[np.ix_(rows, rows)]
    variances = np.diag(V0)
    if not np.all(variances > 0):
        raise _Refusal(
            f"{path}: row {rows[int(np.argmin(variances))]} is zero, so it has no correlation with others; "
            "leave it out with --rows."
        )
    if not np.all((variances > 1e-30) & (variances < 1e30)):
        raise _Refusal(f"{path}: the variances of the inputs must lie between 1e-30 and 1e30; rescale the inputs.")
    if args.normalise == "unit":
        scale = np.sqrt(variances)
        V0 = V0 / np.outer(scale, scale)
        variances = np.diag(V0)
    what = f"array of shape {matrix.shape}" if args.inputs else f"Gram matrix of {total} inputs"
    chosen = "" if rows == list(range(total)) else f", rows {' '.join(map(str, rows))} (numbered from 0 below)"
    spread = f"variances {variances.min():.3g} to {variances.max():.3g}"
    if len(rows) > 1:
        scale = np.sqrt(variances)
        correlations = (V0 / np.outer(scale, scale))[np.triu_indices(len(rows), 1)]
        spread += f", correlations {correlations.min():.3g} to {correlations.max():.3g}"
    return V0, [f"inputs: {path}: {what}{chosen}; {spread}", *notes]


def _activation(args: argparse.Namespace) -> AbstractActivation:
    for option, applies in (
        ("c_plus", args.activation == "relu"),
        ("c_minus", args.activation == "relu"),
        ("a", args.activation in SMOOTH),
    ):
        if getattr(args, option) is not None and not applies:
            raise _Refusal(f"--{option.replace('_', '-')} has no meaning for --activation {args.activation}; drop it.")
    if args.activation == "relu":
        return ShapedReLU(0.5 if args.c_plus is None else args.c_plus, -0.5 if args.c_minus is None else args.c_minus)
    if args.activation == "linear":
        return Identity()
    return ShapedSmooth(args.activation, a=1.0 if args.a is None else args.a)


def _mlp(args: argparse.Namespace) -> MLP:
    return MLP(_activation(args), 1.0 if args.depth_to_width is None else args.depth_to_width)


def _resnet(args: argparse.Namespace) -> ResNet:
    return ResNet(args.activation, 1.0 if args.beta is None else args.beta, args.block or "pre-activation")


# How to make each architecture, and the options that it alone understands.
_ARCHITECTURES: dict[str, tuple[Callable[[argparse.Namespace], AbstractArchitecture], tuple[str, ...]]] = {
    "mlp": (_mlp, ("c_plus", "c_minus", "a", "depth_to_width")),
    "resnet": (_resnet, ("beta", "block", "depth")),
}


def _architecture(args: argparse.Namespace) -> AbstractArchitecture:
    make, understood = _ARCHITECTURES[args.architecture]
    for _, options in _ARCHITECTURES.values():
        for option in options:
            if getattr(args, option) is not None and option not in understood:
                raise _Refusal(
                    f"--{option.replace('_', '-')} has no meaning for --architecture {args.architecture}; drop it."
                )
    return make(args)


@dataclass(frozen=True)
class _Plan:
    """What `covsde compare` will compute, checked."""

    V0: np.ndarray
    architecture: AbstractArchitecture
    depths: dict[int, int]
    steps: int
    notes: list[str]


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


def _plan(args: argparse.Namespace) -> _Plan:
    """Everything that can be refused, before anything is computed or written."""
    V0, notes = _initial(args)
    if args.steps is not None:
        positive_int("--steps", args.steps)
    architecture = _architecture(args)
    steps = _steps(args, architecture, V0)
    # A standard error takes two samples.
    positive_int("--draws", args.draws, least=2)
    positive_int("--paths", args.paths, least=2)
    if not 0 <= args.seed < 2**32:
        raise _Refusal(f"--seed must be an integer from 0 to 4294967295, got {args.seed}.")
    if len(set(args.widths)) < len(args.widths):
        raise _Refusal("--widths must not repeat a width; leave out the copies.")
    depths: dict[int, int] = {}
    for width in args.widths:
        positive_int("--widths", width)
        depths[width] = architecture.depth(width) if args.depth is None else positive_int("--depth", args.depth)
        _rehearse(architecture, V0, args, width, depths[width])
        ratio, wanted = depths[width] / width, architecture.depth_to_width
        if wanted is not None and abs(ratio / wanted - 1) > 0.02:
            notes.append(
                f"Note: networks of width {width} have depth {depths[width]}, that is depth/width "
                f"{ratio:.3g}, not {wanted:.3g}, so a difference to the limit is expected."
            )
    if importlib.util.find_spec("matplotlib") is None:
        raise _Refusal('the figure needs matplotlib; install it with: pip install "covsde[plot]".')
    return _Plan(V0, architecture, depths, steps, notes)


@contextmanager
def _directory(path: Path) -> Iterator[None]:
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
            (path / "probe.tmp").unlink()
        except OSError as error:
            reason = "not a directory" if path.exists() and not path.is_dir() else error.strerror or "not writable"
            raise _Refusal(f"--out: {path} cannot be written to ({reason}); choose another directory.") from error
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
    """Collect warnings about failed paths as sentences; let every other warning through."""
    with warnings.catch_warnings():
        warnings.simplefilter("always", FailedPathsWarning)
        show = warnings.showwarning

        def collect(message: Warning | str, category: type[Warning], *rest: Any, **more: Any) -> None:
            if issubclass(category, FailedPathsWarning):
                notes.append(str(message))
            else:
                show(message, category, *rest, **more)

        warnings.showwarning = collect
        yield


def _strict_json(x: Any) -> Any:
    """The same with NaN as null and infinities as strings, for which JSON has no numbers."""
    if isinstance(x, dict):
        return {key: _strict_json(value) for key, value in x.items()}
    if isinstance(x, list | tuple):
        return [_strict_json(value) for value in x]
    if isinstance(x, float) and not math.isfinite(x):
        return None if math.isnan(x) else str(x)
    return x


def _write(comparison: Comparison, out: Path) -> list[str]:
    for suffix in ("png", "pdf"):
        comparison.plot(out / f"comparison.{suffix}")
    with atomic_write(out / "comparison.json") as temporary:
        temporary.write_text(json.dumps(_strict_json(comparison.to_dict()), indent=1, allow_nan=False) + "\n")
    comparison.limit.save(out / "limit.npz")
    names = [f"network-width-{network.metadata['width']}.npz" for network in comparison.networks]
    for name, network in zip(names, comparison.networks, strict=True):
        network.save(out / name)
    return ["comparison.png", "comparison.pdf", "comparison.json", "limit.npz", *names]


def _remove_checkpoints(folder: Path) -> None:
    # By name, so that nothing a user may have put there is lost.
    for part in folder.glob("*"):
        for file in (*part.glob("chunk-*.npz"), part / "run.json"):
            file.unlink(missing_ok=True)
        if part.is_dir() and not any(part.iterdir()):
            part.rmdir()
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def _compare(args: argparse.Namespace) -> int:
    plan = _plan(args)
    say: Callable[[str], None] = (lambda line: None) if args.quiet else (lambda line: print(line, flush=True))
    bar = False if args.quiet or importlib.util.find_spec("tqdm") is None else None
    common: dict[str, Any] = {"dtype": args.dtype, "progress": bar}
    checkpoints = args.out / "checkpoint"
    key = jax.random.key(args.seed)
    with _directory(args.out):
        say(f"covsde {covsde.__version__}: {describe(plan.architecture)}")
        for note in plan.notes:
            say(note)

        def timed(what: str, one: Callable[[], Ensemble]) -> Ensemble:
            say(f"{what} ...")  # a line of its own, because a progress bar erases the line it is on
            start = time.perf_counter()
            ensemble = one()
            say(f"  done in {time.perf_counter() - start:.1f} s")
            return ensemble

        deterministic = plan.architecture.limit().deterministic
        limit = timed(
            f"limit: {'' if deterministic else f'{args.paths} paths, '}{plan.steps} steps",
            lambda: simulate(
                plan.architecture,
                plan.V0,
                paths=args.paths,
                key=args.seed,
                steps=plan.steps,
                checkpoint=checkpoints / "limit" if args.resume else None,
                **common,
            ),
        )
        networks = []
        for width in args.widths:

            def sample(width: int = width) -> Ensemble:
                return sample_networks(
                    plan.architecture,
                    plan.V0,
                    width=width,
                    depth=plan.depths[width],
                    draws=args.draws,
                    # By width, so that a width's networks do not depend on the other widths; 2³¹ on, because
                    # `simulate` numbers its chunks from 0 on the same key.
                    key=jax.random.fold_in(key, np.uint32(2**31 + width)),
                    method=args.method,
                    checkpoint=checkpoints / f"width-{width}" if args.resume else None,
                    **common,
                )

            depth = plan.depths[width]
            networks.append(timed(f"networks of width {width}, depth {depth}: {args.draws} draws", sample))
        notes: list[str] = []
        with _failures_as_notes(notes):
            comparison = compare(limit, *networks)
            files = _write(comparison, args.out)
        if args.resume:
            _remove_checkpoints(checkpoints)
    say("")
    print(comparison)
    for note in notes:
        print(f"Note: {note}")
    say(f"\nWritten to {args.out}{os.sep}: {', '.join(files)}")
    return 0


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
        return _compare(args)
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
        args = _parser().parse_args(argv)
        if args.command is None:
            raise _Refusal("name a command: compare, list or doctor (see covsde --help).")  # noqa: TRY301
        return _run(args)
    except (_Refusal, ValueError, ImportError, OSError) as error:
        print(f"covsde: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        if args is not None and args.command == "compare":
            if args.resume:
                remedy = f"finished parts are in {args.out / 'checkpoint'}; run the same command again to continue."
            else:
                remedy = "nothing was written; start it with --resume to be able to continue after an interruption."
        else:
            remedy = "run the same command again."
        print(f"\ncovsde: interrupted: {remedy}", file=sys.stderr)
        return 130
