"""What does a step of the covariance SDE cost with many inputs, against dense linear algebra that it cannot do without?

The bound is one Cholesky factor, one triangular product L T and one L Lᵀ of XLA, on as many matrices at a time, drawn
and checked beforehand: no normals, no drift, no matrix that may be singular, no status. All cores work in both cases:
`simulate` runs chunks side by side, and the bound is one batch that XLA divides, for two batched Cholesky factors of
XLA at a time can wait for each other for ever on a CPU. Compilation is that of a whole run (0 where the program is
known from a row above); memory is what XLA reserves for a chunk, and what a path takes in the result.

    python benchmarks/many_inputs.py [--inputs 20 50 100] [--steps 20] [--repeats 5]
"""

import argparse
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

import covsde as cs
from covsde.run.chunks import side_by_side
from covsde.run.plan import precision
from covsde.solvers import Strang, solve
from covsde.solvers.chunk import as_arrays

T = 0.5
ACTIVATIONS: dict[str, cs.AbstractActivation] = {
    "relu": cs.ShapedReLU(0.0, -1.0),
    "silu": cs.ShapedSmooth("silu"),
    "linear": cs.Identity(),
}


def start(m: int) -> np.ndarray:
    return np.full((m, m), 0.3) + 0.7 * np.eye(m)


def compilation(mlp: cs.MLP, m: int, steps: int, paths: int, dtype: np.dtype) -> tuple[float, float]:
    """Seconds to compile what `simulate` runs, and MiB that XLA reserves for a chunk."""
    with precision(dtype):
        V0, grid = jnp.asarray(start(m), dtype), jnp.linspace(0, 1, steps + 1, dtype=dtype)
        began = time.perf_counter()
        program = solve.lower(
            as_arrays(mlp.limit(), dtype), Strang(), V0, jax.random.key(0), grid, paths=paths, every=steps
        ).compile()
        seconds = time.perf_counter() - began
        return seconds, program.compiled.memory_analysis().temp_size_in_bytes / 2**20


def bound(m: int, paths: int, steps: int, dtype: np.dtype) -> Callable[[int], object]:
    """That many steps of the bound."""
    rng = np.random.default_rng(0)
    root = np.tril(rng.standard_normal((paths, m, m))) / m**0.5 + 2 * np.eye(m)
    with precision(dtype):
        V, factor = jnp.asarray(root @ np.swapaxes(root, 1, 2), dtype), jnp.asarray(root, dtype)

    @jax.jit
    def step(V: jax.Array, factor: jax.Array) -> jax.Array:
        L = jax.lax.linalg.cholesky(V, symmetrize_input=False) @ factor
        return L @ jnp.swapaxes(L, 1, 2)

    def call(seed: int) -> None:
        with precision(dtype):
            for _ in range(steps):
                step(V, factor).block_until_ready()

    return call


def best_times(calls: list[Callable[[int], object]], repeats: int) -> list[float]:
    """Best of several runs of each after a warm-up, taken in turns so that all meet the same disturbances."""
    times: list[list[float]] = [[] for _ in calls]
    for r in range(repeats + 1):
        for call, taken in zip(calls, times, strict=True):
            began = time.perf_counter()
            call(r)
            taken.append(time.perf_counter() - began)
    return [min(taken[1:]) for taken in times]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, nargs="+", default=[20, 50, 100])
    parser.add_argument("--activations", nargs="+", default=list(ACTIVATIONS), choices=list(ACTIVATIONS))
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    steps, chunks = options.steps, side_by_side()
    print(f"T = {T:g}, {steps} steps, {chunks} chunks at a time, {jax.default_backend()}; microseconds per path-step")
    print(
        f"{'m':>4} {'activation':>10} {'dtype':>8} {'chunk':>6} {'compile, s':>10} {'simulate':>9} {'bound':>8} "
        f"{'ratio':>6} {'MiB/chunk':>10} {'MiB/path':>9}"
    )
    for m in options.inputs:
        for name in options.activations:
            for dtype in (np.dtype(np.float32), np.dtype(np.float64)):
                mlp = cs.MLP(ACTIVATIONS[name], T)
                how = {"steps": steps, "save_at": [0, 1], "dtype": dtype, "progress": False}
                chunk = cs.simulate.plan(mlp, start(m), paths=10**5, **how).chunks.size
                paths = chunk * chunks
                compiled, reserved = compilation(mlp, m, steps, chunk, dtype)

                def whole(seed: int) -> object:
                    return cs.simulate(mlp, start(m), paths=paths, key=seed, chunk=chunk, **how)  # noqa: B023

                ours, least = (
                    t * 1e6 / (paths * steps)
                    for t in best_times([whole, bound(m, paths, steps, dtype)], options.repeats)
                )
                kept = cs.simulate.plan(mlp, start(m), paths=paths, dtype=dtype).path_bytes / 2**20
                print(
                    f"{m:>4} {name:>10} {dtype.name:>8} {chunk:>6} {compiled:>10.1f} {ours:>9.1f} {least:>8.1f} "
                    f"{ours / least:>6.2f} {reserved:>10.1f} {kept:>9.3f}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
