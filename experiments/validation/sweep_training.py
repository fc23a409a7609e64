"""The property sweep of training: rates from tiny to divergent, targets, losses, starts that are singular."""

import functools
import itertools
import math
import warnings
from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

import covsde as cs
from covsde.results.status import FailedPathsWarning, PathStatus, UnresolvedStepWarning
from validation.common import compiled_side_by_side, header, row
from validation.sweep_draws import STARTS, start
from validation.sweep_laws import Pool

STEPS, UPDATES, PATHS = 24, 2, 64
_ACTIVATIONS = {
    "identity": cs.Identity(),
    "shaped ReLU": cs.ShapedReLU(1.0, -1.0),
    "smooth, odd": cs.ShapedSmooth("tanh"),
    "smooth with even part": cs.ShapedSmooth("softplus"),
}
_SINGULAR = ("repeated", "correlations ±1")
_RATES = (0.0, 1e-8, 1e-2, 1.0, 30.0, 1e3, 1e6)


class Program(NamedTuple):
    """Trainings that share compiled programs.

    Attributes:
        name: of the activation or family.
        architecture: from T.
        P: number of inputs.
        dtype: of the computation.
        settings: of `train`.
    """

    name: str
    architecture: Any
    P: int
    dtype: str = "float64"
    settings: dict[str, Any] = {}  # noqa: RUF012 (never changed)

    def longest(self) -> float:
        """T for which a step, a layer of width steps/T, has room for all labels and the neurons of an even part."""
        labels = 2 * self.P * (UPDATES + 1) * (2 if self.settings.get("loss") == "cross_entropy" else 1)
        return STEPS / (labels + 12)


def _mlp(name: str) -> Any:
    return functools.partial(cs.MLP, _ACTIVATIONS[name])


def _resnet(fn: str, beta: float) -> cs.ResNet:
    return cs.ResNet(fn, beta=beta)


def _programs() -> Iterator[Program]:
    for name, P in itertools.product(_ACTIVATIONS, (1, 2, 16)):
        yield Program(name, _mlp(name), P, settings={"method": "weights"} if P == 16 else {})
    yield Program("smooth, odd", _mlp("smooth, odd"), 8)
    yield Program("identity", _mlp("identity"), 4)
    for name, loss in (("shaped ReLU", "logistic"), ("smooth, odd", "logistic"), ("identity", "cross_entropy")):
        yield Program(name, _mlp(name), 2, settings={"loss": loss})
    for name in ("shaped ReLU", "smooth with even part"):
        yield Program(name, _mlp(name), 2, "float32")
    for fn in ("tanh", "relu"):
        yield Program("ResNet", functools.partial(_resnet, fn), 2, settings={"steps": 8})


def _targets(program: Program, rng: np.random.Generator) -> np.ndarray:
    match program.settings.get("loss"):
        case "logistic":
            return rng.choice([-1.0, 1.0], program.P)
        case "cross_entropy":
            return np.eye(2)[rng.integers(0, 2, program.P)]
    return rng.choice([1e-6, 1.0, 1e3]) * rng.standard_normal(program.P)


def _case(program: Program, number: int, rng: np.random.Generator) -> tuple[str, dict[str, Any]]:
    """A sentence that names the case, and the arguments of `train`."""
    rate = _RATES[number % len(_RATES)]
    # A program is compiled for a rank: full, or that of repeated or parallel inputs.
    while True:
        kind = str(rng.choice(STARTS if number % 2 else [_SINGULAR[program.P % 3 % 2]]))
        V0, targets = start(kind, program.P, rng), _targets(program, rng)
        if number % 2 == 0 or cs.Data(V0, targets).rank == program.P:
            break
    # A width is a shape where weights are drawn, so it stays.
    fixed = program.P == 16
    T = 0.25 if fixed else float(np.exp(rng.uniform(math.log(1e-4), math.log(program.longest()))))
    T = float(rng.choice([0.1, 1.0, 3.0])) if program.name == "ResNet" else T
    arguments = {"architecture": program.architecture(T), "V0": V0, "targets": targets, "learning_rate": rate}
    where = f"{program.name}, T = {T:.3g}, P = {program.P}, {program.dtype}, {program.settings}, {kind}, rate {rate:g}"
    return where, arguments


def _wrong(run: Any, dtype: str, rate: float, repeated: list[tuple[int, int]]) -> str | None:
    """What is wrong with a training that no status says, or None."""
    status = np.atleast_1d(run.status)
    fine = status == PathStatus.FINE
    kernels = isinstance(run, cs.TrainedKernels)
    arrays = {name: np.asarray(getattr(run, name)) for name in ("outputs", "losses", "Phi", "G", "A", "ntk")}
    kept = {n: x if kernels else np.moveaxis(x, cs.Training.path_axis[n], 0)[fine] for n, x in arrays.items()}
    # Steps that do not resolve what they step are said to.
    if kernels and not (fine[0] and run.metadata["unresolved"] == 0):
        return None
    for name, x in kept.items():
        if not np.all(np.isfinite(x)):
            return f"{name} is not finite"
    f = kept["outputs"]
    eps = float(np.finfo(dtype).eps)
    if not kernels and rate == 0 and f.size and np.max(np.abs(f[:, 1:] - f[:, :1])) > 1e4 * eps * np.max(np.abs(f)):
        return "outputs move without a learning rate"
    if not kernels and f.size:
        for i, j in repeated:
            apart = np.max(np.abs(f[:, 0, i] - f[:, 0, j]) / (1e-300 + np.max(np.abs(f[:, 0, [i, j]]))))
            if apart > 100 * math.sqrt(eps):
                return f"a repeated input has another output, by {apart:.1e}"
    Phi = kept["Phi"].astype(np.float64).reshape(-1, *kept["Phi"].shape[-2:])
    if Phi.size:
        variances = np.diagonal(Phi, axis1=1, axis2=2)
        if np.any(variances < 0):
            return "a negative variance"
        scale = np.sqrt(np.where(variances > 0, variances, 1))
        smallest = np.linalg.eigvalsh(Phi / scale[:, :, None] / scale[:, None, :])[:, 0].min()
        if smallest < -64 * Phi.shape[-1] * eps:
            return f"features outside of the cone by {-smallest:.1e}"
    return None


class Row:
    """Counts of one row of the table."""

    def __init__(self) -> None:
        self.cases = self.paths = self.refused = self.unresolved = 0
        self.marked: Counter = Counter()
        self.failures: list[str] = []
        self.pool = Pool()

    def cells(self) -> list[Any]:
        """The row of the table."""
        marked = [self.marked["EXPLODED"], self.marked["NOT_FINITE"], self.unresolved]
        return [self.cases, self.paths, self.refused, *marked, len(self.failures), self.pool.cell()]


def _one(numbered: tuple[int, Program], count: int) -> list[tuple[str, dict[str, Any], Any]]:
    number, program = numbered
    rng, found = np.random.default_rng(1000 + number), []
    for c in range(count):
        where, arguments = _case(program, c + number, rng)
        settings = {"steps": STEPS, "paths": PATHS, "chunk": PATHS, "dtype": program.dtype} | program.settings
        try:
            run = cs.train(
                **arguments, updates=UPDATES, save_at=[0, 0.5, 1], key=number * 100 + c, progress=False, **settings
            )
        except ValueError as error:
            found.append((where, arguments, str(error)))
        else:
            found.append((where, arguments, run))
    return found


def _add_law(row: Row, name: str, run: Any, V0: np.ndarray, T: float) -> None:
    """An untrained output is a Gaussian mixture whose variance has the mean V₀ without a drift of variances."""
    if name not in ("identity", "shaped ReLU") or run.outputs.ndim != 3 or not V0[0, 0] > 0 or T > 0.5:
        return
    f = run.outputs[0][run.status == PathStatus.FINE][:, 0].astype(np.float64) / math.sqrt(V0[0, 0])
    row.pool.add("f", f)
    row.pool.add("f²", f * f - 1)


def sweep(count: int, every: int) -> dict[str, Row]:
    """Some programs with so many cases each, by activation."""
    rows: dict[str, Row] = {}
    programs = list(enumerate(_programs()))[::every]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnresolvedStepWarning)
        warnings.simplefilter("ignore", FailedPathsWarning)
        for (_, program), cases in zip(
            programs, compiled_side_by_side(lambda p: _one(p, count), programs), strict=True
        ):
            tally = rows.setdefault(program.name, Row())
            for where, arguments, run in cases:
                if isinstance(run, str):
                    tally.refused += 1
                    print(f"refused: {where}: {run}", flush=True)
                    continue
                V0 = arguments["V0"]
                pairs = itertools.combinations(range(program.P), 2)
                repeated = [(i, j) for i, j in pairs if np.array_equal(V0[i], V0[j])]
                wrong = _wrong(run, program.dtype, arguments["learning_rate"], repeated)
                if wrong:
                    tally.failures.append(f"training {where}: {wrong}")
                status = np.atleast_1d(run.status)
                tally.unresolved += round(run.metadata["unresolved"] * status.size)
                tally.cases, tally.paths = tally.cases + 1, tally.paths + status.size
                tally.marked.update(PathStatus(s).name for s in status[status != PathStatus.FINE])
                if program.name != "ResNet":
                    _add_law(tally, program.name, run, V0, float(arguments["architecture"].depth_to_width))
    return rows


def table(rows: dict[str, Row]) -> list[str]:
    """Markdown lines."""
    names = (
        "activation",
        "cases",
        "paths",
        "refused",
        "exploded",
        "not finite",
        "unresolved",
        "unmarked failures",
        "z",
    )
    return [*header(*names), *(row([name, *r.cells()]) for name, r in rows.items())]
