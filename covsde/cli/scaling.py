"""`covsde scaling`: the scaling law of kernel regression on a user's inputs and targets, predicted and measured."""

import argparse
import importlib.util
import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import covsde
from covsde.architectures.base import AbstractWithKernels
from covsde.architectures.registry import FAMILIES
from covsde.cli.architectures import add_architecture, make_architecture
from covsde.cli.inputs import Inputs, Refusal, add_inputs, read_inputs, read_targets
from covsde.cli.session import busy, directory, publish, strict_json
from covsde.comparison.learning_curve import plot_learning_curves
from covsde.drivers.kernels import kernels
from covsde.inputs.arguments import finite_number, positive_int
from covsde.run.lock import locked
from covsde.run.metadata import describe, versions
from covsde.scaling import Exponents, KernelRegression, LossCurves, ScalingLaw, exponents

_FEWEST = 20
_MOST_CLASSES = 100


def _families() -> dict[str, Any]:
    return {name: family for name, family in FAMILIES.items() if issubclass(family.kind, AbstractWithKernels)}


def add(parser: argparse.ArgumentParser) -> None:
    """The options."""
    option = parser.add_argument
    add_inputs(option)
    option("--targets", type=Path, metavar="FILE", help="one number per input, in a file such as those of --inputs")
    option("--classes", action="store_true", help="targets are classes 0, 1, …: learn an indicator of each, centred")
    add_architecture(option, _families())
    option("--kernel", choices=("ntk", "nngp"), default="ntk", help="of infinitely wide networks (default: ntk)")
    option(
        "--penalty",
        type=float,
        default=1.0,
        metavar="RIDGE",
        help="of the regression, in units of the kernel's mean diagonal; 0 interpolates (default: 1)",
    )
    option("--samples", type=int, nargs="+", metavar="P", help="training inputs (default: 8 sizes up to half of all)")
    option("--draws", type=int, help="sets of training inputs (default: 20; 4 with --quick)")
    option("--quick", action="store_true", help="fewer draws, for a first look")
    option("--seed", type=int, default=0, help="(default: 0)")
    option("--out", type=Path, default=Path("covsde-scaling"), metavar="DIR", help="(default: covsde-scaling)")
    option("--quiet", action="store_true", help="print only the table")


def _targets(args: argparse.Namespace, inputs: Inputs) -> tuple[NDArray[np.float64], list[str]]:
    """Targets (n, outputs), centred where they are classes, and what was taken as what."""
    if (args.targets is None) == (inputs.targets is None):
        raise Refusal(
            "give --targets FILE, with one number per input, or --target-column C, a column of --inputs; not both."
        )
    y, taken = (inputs.targets, []) if inputs.targets is not None else read_targets(args.targets, inputs)
    if not args.classes:
        return np.asarray(y, np.float64), taken
    if not np.all((y == np.round(y)) & (y >= 0)) or np.max(y) >= _MOST_CLASSES:
        raise Refusal(f"--classes needs targets 0, 1, … below {_MOST_CLASSES}; leave it out for numbers.")
    one = np.eye(int(np.max(y)) + 1)[y.astype(int)]
    return one - one.mean(axis=0), [*taken, f"targets: indicators of {one.shape[1]} classes, less their means"]


def _samples(args: argparse.Namespace, n: int) -> list[int]:
    if args.samples is None:
        return sorted({round(p) for p in np.geomspace(max(4, min(10, n // 8)), n // 2, 8)})
    chosen = [positive_int("--samples", p) for p in args.samples]
    if sorted(set(chosen)) != chosen or chosen[-1] >= n:
        raise Refusal(f"--samples must increase and stay below the {n} inputs; sort them, without copies.")
    return chosen


def run(args: argparse.Namespace) -> int:
    """Refuse all that can be refused, then compute and write."""
    inputs, families = read_inputs(args, most=None), _families()
    n = len(inputs.V0)
    if n < _FEWEST:
        raise Refusal(f"--inputs must hold at least {_FEWEST} inputs for a spectrum, got {n}.")
    y, taken = _targets(args, inputs)
    samples, draws = _samples(args, n), positive_int("--draws", args.draws or (4 if args.quick else 20), least=2)
    relative = finite_number("--penalty", args.penalty)
    if relative < 0:
        raise Refusal(f"--penalty must be at least 0, got {relative}.")
    if not 0 <= args.seed < 2**32:
        raise Refusal(f"--seed must be an integer from 0 to 4294967295, got {args.seed}.")
    if importlib.util.find_spec("matplotlib") is None:
        raise Refusal('the figure needs matplotlib; install it with: pip install "covsde[plot]".')
    architecture = make_architecture(args, families)
    say: Callable[[str], None] = (lambda line: None) if args.quiet else (lambda line: print(line, flush=True))
    with directory(args.out), locked(args.out, busy(args.out)):
        say(f"covsde {covsde.__version__}: {args.kernel} of {describe(architecture)}")
        for note in (*inputs.notes, *taken):
            say(note)
        say(f"kernel of {n} inputs ...")
        start = time.perf_counter()
        found = kernels(architecture, inputs.V0, save_at=[0.0, 1.0])
        K = np.asarray(found.ntk if args.kernel == "ntk" else found.ntk_readout)
        regression = KernelRegression(K, y, penalty=relative * float(np.trace(K)) / n)
        fitted = exponents(regression.spectrum)
        say(f"  done in {time.perf_counter() - start:.1f} s")
        say(f"regression on up to {samples[-1]} of them, {draws} draws ...")
        bar = False if args.quiet or importlib.util.find_spec("tqdm") is None else None
        learned = regression.predicted(samples), regression.measured(samples, draws, args.seed, bar)
        clock = np.geomspace(0.1, 1e4, 16) / float(regression.spectrum.eigenvalues[0])
        middle = samples[len(samples) // 2]
        flows = (
            regression.predicted_flow(clock, middle),
            regression.measured_flow(clock, middle, draws, args.seed, bar),
        )
        curves = {"training inputs P": learned, f"training time t, P = {middle}": flows}
        files = publish(partial(_write, args, regression, fitted, curves), args.out)
    say("")
    print(_table(regression, fitted, learned))
    say(f"\nWritten to {args.out}/: {', '.join(files)}")
    return 0


def _table(regression: KernelRegression, fitted: Exponents, learned: tuple[ScalingLaw, LossCurves]) -> str:
    law, draws = learned
    error = draws.test.std(axis=1, ddof=1) / np.sqrt(draws.paths)
    power = float(np.sum(regression.targets**2) / len(regression.K))
    lines = [
        f"capacity b = {fitted.capacity:.3f} ± {fitted.capacity_error:.3f} of λ_k ~ k^-b, "
        f"source a = {fitted.source:.3f} ± {fitted.source_error:.3f} of λ_k w_k² ~ k^-a",
        f"loss before training {power:.4g}, of which no mode carries {regression.spectrum.rest:.2g}",
        "",
        f"{'P':>6}  {'predicted':>10}  {'measured':>10}  {'s.e.':>9}  measured/predicted",
    ]
    for P, ours, theirs, se in zip(law.times, law.test, draws.test.mean(axis=1), error, strict=True):
        lines.append(f"{P:6.0f}  {ours:10.4g}  {theirs:10.4g}  {se:9.2g}  {theirs / ours:.3f}")
    return "\n".join(lines)


def _write(
    args: argparse.Namespace,
    regression: KernelRegression,
    fitted: Exponents,
    curves: dict[str, tuple[ScalingLaw, LossCurves]],
    out: Path,
) -> list[str]:
    modes, names = regression.spectrum.modes, ["learning-curve", "training"]
    k = np.arange(10, max(len(modes.eigenvalues) // 10, 20) + 1)
    # Lines of the fitted slopes through the mean of the logarithms.
    lines = {}
    for values, b in ((modes.eigenvalues, fitted.capacity), (modes.energies, fitted.source)):
        level = np.mean(np.log(np.maximum(values[k - 1], 1e-300)) + b * np.log(k))
        lines[f"k^-{b:.2f}"] = (k, np.exp(level) * k**-b)
    title = f"{args.kernel} regression, {len(regression.K)} inputs, {args.inputs or args.gram}"
    for suffix in ("png", "pdf"):
        plot_learning_curves(modes, lines, curves, title, out / f"scaling.{suffix}")
    for name, (law, draws) in zip(names, curves.values(), strict=True):
        law.save(out / f"{name}-theory.npz")
        draws.save(out / f"{name}-measured.npz")
    law, draws = curves["training inputs P"]
    data = {
        "exponents": fitted._asdict(),
        "penalty": regression.penalty,
        "samples": law.times.tolist(),
        "predicted": law.test.tolist(),
        "measured": draws.test.mean(axis=1).tolist(),
        "eigenvalues": modes.eigenvalues.tolist(),
        "energies": modes.energies.tolist(),
        "versions": versions(),
    }
    (out / "scaling.json").write_text(json.dumps(strict_json(data), indent=1, allow_nan=False) + "\n")
    results = [f"{name}-{kind}.npz" for name in names for kind in ("theory", "measured")]
    return ["scaling.png", "scaling.pdf", "scaling.json", *results]
