"""Thousands of configurations, many of them extreme: nothing is silently wrong, and what is known exactly comes out."""

import dataclasses
import functools
import itertools
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import covsde as cs
from covsde.results.status import PathStatus
from covsde.run.grid import time_grid
from covsde.run.metadata import describe
from covsde.run.outcome import limit_chunk, to_matrices
from covsde.run.plan import precision
from covsde.solvers.chunk import solve
from validation.common import compiled_side_by_side, header, row
from validation.sweep_draws import PIECEWISE, SMOOTH, STEPS, Case, mlps, transformers
from validation.sweep_laws import Pool, add_laws
from validation.sweep_training import UPDATES
from validation.sweep_training import sweep as sweep_training
from validation.sweep_training import table as training_table

SIZES = {np.dtype(np.float64): (1, 2, 3, 4, 8, 16, 32), np.dtype(np.float32): (2, 4, 16)}
_AFFINE = (2, 4, 16)
_SAVED = (0.0, 0.5, 1.0)
# Of eigenvalues of correlations, in units of m times the dtype's.
_ROUNDING = 64


@dataclasses.dataclass
class Tally:
    """What became of the cases of one row of the table.

    Attributes:
        cases: number of configurations.
        paths: number of paths.
        marked: paths by status.
        failures: sentences about unmarked failures.
        pool: what has an exact law, over all paths.
    """

    cases: int = 0
    paths: int = 0
    marked: Counter = dataclasses.field(default_factory=Counter)
    failures: list[str] = dataclasses.field(default_factory=list)
    pool: Pool = dataclasses.field(default_factory=Pool)

    def add(self, status: np.ndarray) -> None:
        """Count a case by the statuses of its paths."""
        self.cases += 1
        self.paths += status.size
        self.marked.update(PathStatus(s).name for s in status[status != PathStatus.FINE])

    def cells(self) -> list[Any]:
        """The row of the table."""
        marked = [self.marked[s.name] for s in (PathStatus.EXPLODED, PathStatus.LOST_PSD, PathStatus.NOT_FINITE)]
        return [self.cases, self.paths, *marked, len(self.failures), self.pool.cell()]


@dataclasses.dataclass(frozen=True)
class Program:
    """Cases that one compiled program computes.

    Attributes:
        solver: of all of them.
        draw: makes so many cases.
    """

    solver: Any
    draw: Callable[[int, np.random.Generator], list[Case]]
    m: int
    dtype: np.dtype


def _programs() -> Iterator[Program]:
    solvers, transformer = (cs.Strang(), cs.WishartStep(), cs.EulerMaruyama()), cs.Transformer(0.5).default_solver()
    for dtype, m in ((dtype, m) for dtype, sizes in SIZES.items() for m in sizes):
        for solver, kinds in itertools.product(solvers, (PIECEWISE, SMOOTH)):
            yield Program(solver, functools.partial(mlps, solver, kinds, m), m, dtype)
        if m in _AFFINE:
            for kinds in (PIECEWISE, SMOOTH):
                yield Program(cs.Strang(), functools.partial(mlps, cs.Strang(), kinds, m, affine=True), m, dtype)
        for mask in (None, "causal") if dtype == np.float64 else (None,):
            yield Program(transformer, functools.partial(transformers, mask, m), m, dtype)
    for solver, dtype in itertools.product((cs.LampertiEuler(), cs.AngleEuler(), cs.CorrelationEuler()), SIZES):
        for kinds in (PIECEWISE, SMOOTH):
            yield Program(solver, functools.partial(mlps, solver, kinds, 2), 2, dtype)


@functools.partial(jax.jit, static_argnames=("solver", "paths", "every"))
def _solve(sdes: Any, V0: Any, keys: Any, grid: Any, *, solver: Any, paths: int, every: int) -> Any:
    return jax.vmap(lambda sde, V, key: solve(sde, solver, V, key, grid, paths=paths, every=every))(sdes, V0, keys)


def compute(program: Program, cases: list[Case], paths: int, seed: int) -> list[dict[str, np.ndarray]]:
    """Saved matrices (times, paths, m, m) and statuses of every case, as `simulate` makes them."""
    grid, every = time_grid(STEPS, _SAVED)
    limits = [case.architecture.limit() for case in cases]
    for sde in limits:
        program.solver.check(sde, program.m, float(np.max(np.diff(grid))), f"steps={STEPS}")
    with precision(program.dtype):
        # By NumPy: JAX would compile a program for every number of cases.
        stacked = jax.tree.map(lambda *x: jnp.asarray(np.stack(x), program.dtype), *limits)
        V0 = jnp.asarray(np.stack([case.V0 for case in cases]), program.dtype)
        keys = jax.random.split(jax.random.key(seed, impl="threefry2x32"), len(cases))
        entries, clocks = _solve(
            stacked, V0, keys, jnp.asarray(grid, program.dtype), solver=program.solver, paths=paths, every=every
        )
    found = []
    for e, clock, sde in zip(np.asarray(entries), np.asarray(clocks), limits, strict=True):
        part = limit_chunk(e, clock, grid[::every], program.m, float(sde.ceiling))
        found.append(part | {"V": to_matrices(part["entries"], program.m)})
    return found


def broken(solver: Any, case: Case, part: dict[str, np.ndarray]) -> str | None:
    """What is wrong with the paths of a case that no status says, or None."""
    V, status = part["V"], part["status"]
    fine = status == PathStatus.FINE
    if not np.all(np.isfinite(V[:, fine])):
        return "not finite"
    times = np.asarray(_SAVED)[:, None] <= part["stop"][None]
    alive = V[times]
    if not np.all(np.isfinite(alive)):
        return "not finite before its stop"
    if np.any(np.isfinite(V[:, ~fine].diagonal(axis1=2, axis2=3)[-1]).all(axis=-1) & (part["stop"][~fine] < 1)):
        return "numbers after its stop"
    variances = np.diagonal(alive, axis1=1, axis2=2).astype(np.float64)
    if np.any(variances < 0):
        return "a negative variance"
    # Below that a variance has lost its digits: it has no correlation.
    held = variances >= np.finfo(V.dtype).tiny
    scale = np.sqrt(np.where(held, variances, 1))
    correlations = np.where(held[:, :, None] & held[:, None, :], alive / scale[:, :, None] / scale[:, None, :], 0)
    smallest = np.linalg.eigvalsh(correlations)[:, 0]
    kind = np.finfo(V.dtype)
    # Sums of products near the smallest number lose digits as well.
    least = np.where(held, variances, 1).min(axis=1, initial=1.0)
    allowed = _ROUNDING * len(case.V0) * (float(kind.eps) + float(kind.tiny) / least)
    if isinstance(solver, cs.EulerMaruyama):  # judged by Cholesky pivots, in which the smallest one magnifies rounding
        allowed = np.sqrt(allowed)
    outside = smallest < -allowed
    if np.any(outside):
        k = int(np.argmax(-smallest * outside))
        return f"outside of the cone by {-smallest[k]:.1e}, where rounding is {allowed[k]:.1e}"
    return None


def sweep(per_program: int, paths: int, every: int) -> dict[tuple[str, str], Tally]:
    """Some programs with so many cases each, by solver and activation."""
    programs = list(enumerate(_programs()))[::every]
    tallies: dict[tuple[str, str], Tally] = {}

    def one(numbered: tuple[int, Program]) -> tuple[Program, list[Case], list[dict[str, np.ndarray]]]:
        number, program = numbered
        cases = program.draw(per_program, np.random.default_rng(number))
        return program, cases, compute(program, cases, paths, number)

    for program, cases, parts in compiled_side_by_side(one, programs):
        for case, part in zip(cases, parts, strict=True):
            name = type(program.solver).__name__
            tally = tallies.setdefault((name, case.name), Tally())
            tally.add(part["status"])
            wrong = broken(program.solver, case, part)
            if wrong:
                where = f"{name}, {describe(case.architecture)}, m = {program.m}, {program.dtype}, {case.start}"
                tally.failures.append(f"{where}: {wrong}")
            add_laws(tally.pool, program.solver, case, part, program.dtype)
    return tallies


def _table(tallies: dict[tuple[str, str], Tally]) -> list[str]:
    names = ("solver", "activation or block", "cases", "paths", "exploded", "left the cone", "not finite")
    lines = header(*names, "unmarked failures", "z")
    total = Tally()
    for key, tally in tallies.items():
        lines.append(row([*key, *tally.cells()]))
        total.cases, total.paths = total.cases + tally.cases, total.paths + tally.paths
        total.marked.update(tally.marked)
        total.failures += tally.failures
    return [*lines, row(["**all**", "", *total.cells()[:-1], ""])]


def section(scale: int) -> list[str]:
    """Markdown lines; scale 1 is the full size, 10 a tenth of the cases."""
    per_program, every = (100, 1) if scale == 1 else (50, 5)
    tallies, trained = sweep(per_program, 64, every), sweep_training(16 if scale == 1 else 8, every)
    failures = [f for tally in (*tallies.values(), *trained.values()) for f in tally.failures]
    cases, training = (sum(t.cases for t in x.values()) for x in (tallies, trained))
    sizes = ", ".join(str(m) for m in SIZES[np.dtype(np.float64)])
    return [
        "## Property sweep",
        "",
        f"{cases} configurations of limits and {training} of training, 64 paths each: every solver with every kind of "
        f"activation, {sizes} inputs in float64 and 2, 4, 16 in float32; generic, repeated, opposite, nearly parallel, "
        "zero and orthogonal inputs, of lengths from 1e-8 to 1e8; T from 1e-6, κ from 1e-8, up to what a solver takes "
        f"in {STEPS} steps.",
        "",
        "Of every path, every saved matrix is finite and a covariance to rounding, or the path has a status, and NaN "
        "or +∞ from its stop on. To rounding: the smallest eigenvalue of its correlations is above "
        f"-{_ROUNDING} m (ε + v/V), V the smallest variance and v the smallest normal number (above the root of that "
        "for `EulerMaruyama`, whose matrices are judged by their pivots). Where means and laws are exact they are "
        "pooled over the cases of a row, in units of their own standard deviation, and z says how far they are off: "
        "log V and its square (linear, shaped ReLU, attention off), E V and log det V (linear), E 1/V (one input, "
        "smooth). `EulerMaruyama` and the Euler steps in ρ and θ leave the cone where steps are coarse: "
        "their paths are marked.",
        "",
        *_table(tallies),
        "",
        f"Training: {UPDATES} updates of rates from 0 to 1e6, targets from 1e-6 to 1e3, squared and logistic loss and "
        "cross-entropy, up to 16 inputs. Outputs, losses, covariances and tangent kernels are finite or the path is "
        "marked; features are covariances to rounding, where the steps resolve the training; a "
        "rate of 0 moves nothing; repeated inputs have one output.",
        "",
        *training_table(trained),
        "",
        f"Unmarked failures: {len(failures)}." + "".join(f"\n- {f}" for f in failures[:20]),
    ]


if __name__ == "__main__":
    print("\n".join(section(10)))
