"""What does convenience cost? One run, one table, ratios only.

`simulate` (Diffrax, chunks, per-path status, saved result) against
  * a hand-written `lax.scan` of the same scheme, one array per matrix entry, nothing saved, nothing checked;
  * drawing the same number of normals with `jax.random` and nothing else: the floor;
  * what a Diffrax user would first write: `vmap` of `diffeqsolve` with a `VirtualBrownianTree` and Euler.

`simulate` computes a few chunks at a time; the scan and the normals do the same here, so that all have the same cores.

    python benchmarks/against_scan.py [--paths 65536] [--steps 32] [--repeats 15]
"""

import argparse
import functools
import math
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import diffrax
import jax
import jax.numpy as jnp
import numpy as np

import covsde as cs
from covsde.moments.arccos import sin_minus_angle_cos
from covsde.run.chunks import side_by_side

KAPPA = 4.0
CHUNK = 8192


def start(m: int) -> np.ndarray:
    return np.full((m, m), 0.3) + 0.7 * np.eye(m)


def hand_written(key: jax.Array, *, m: int, steps: int, paths: int) -> jax.Array:
    """The Strang scheme written out by hand for κ = 4, T = 1."""
    h, dtype = 1.0 / steps, jnp.float32
    pairs = [(i, j) for i in range(m) for j in range(i + 1)]
    off = [ij for ij in pairs if ij[0] != ij[1]]
    c2 = [0.0]
    for d in range(1, m):
        c2.append(math.expm1(h) * math.exp((d - 1) * h / 2) - sum(c2[k] * c2[d - k] for k in range(1, d)) / 4)

    def drift(V: dict) -> dict:
        def one(e: tuple) -> jax.Array:
            s = jnp.sqrt(e[0] * e[1])
            r = jnp.clip(e[2] / s, -1, 1)
            a = r + h / 2 * KAPPA / (2 * math.pi) * sin_minus_angle_cos(r)
            b = a + h / 2 * KAPPA / (2 * math.pi) * sin_minus_angle_cos(a)
            return 0.5 * (r + b) * s

        stacks = [jnp.stack([V[f(i, j)] for i, j in off]) for f in (lambda i, j: (i, i), lambda i, j: (j, j))]
        moved = jax.lax.map(one, (*stacks, jnp.stack([V[ij] for ij in off])))
        return {**V, **{ij: moved[k] for k, ij in enumerate(off)}}

    def step(flat: tuple, k: jax.Array) -> tuple:
        V = drift(dict(zip(pairs, flat, strict=True)))
        keys = jax.random.split(jax.random.fold_in(key, k), len(pairs))
        g = jax.lax.map(lambda q: jax.random.normal(q, (paths,), dtype), keys)
        L, T, X = {}, {}, {}
        for j in range(m):
            L[j, j] = jnp.sqrt(jnp.maximum(V[j, j] - sum((L[j, q] ** 2 for q in range(j)), start=jnp.zeros(())), 1e-30))
            for i in range(j + 1, m):
                L[i, j] = (V[i, j] - sum((L[i, q] * L[j, q] for q in range(j)), start=jnp.zeros(()))) / L[j, j]
        e = [jnp.exp(math.sqrt(h / 8) * g[i] - (i + 1) * h / 4) for i in range(m)]
        row = iter(range(m, len(pairs)))
        for i in range(m):
            for j in range(i):
                X[i, j] = math.sqrt(c2[i - j]) * g[next(row)]
        for i in range(m):
            T[i, i] = e[i] * e[i]
            for j in range(i):
                T[i, j] = sum((0.5 * X[i, q] * X[q, j] for q in range(j + 1, i)), start=X[i, j]) * e[i] * e[j]
        M = {(i, j): sum((L[i, q] * T[q, j] for q in range(j + 1, i + 1)), start=L[i, j] * T[j, j]) for i, j in pairs}
        V = {(i, j): sum((M[i, q] * M[j, q] for q in range(1, j + 1)), start=M[i, 0] * M[j, 0]) for i, j in pairs}
        return tuple(drift(V).values()), None

    flat = tuple(jnp.full((paths,), start(m)[ij], dtype) for ij in pairs)
    # `drift` keeps the order of `pairs`, because it overwrites the entries of an ordered dictionary.
    return jnp.stack(jax.lax.scan(step, flat, jnp.arange(steps))[0])


def normals_only(key: jax.Array, *, m: int, steps: int, paths: int) -> jax.Array:
    """The floor: as many normals as the scheme uses, summed so that they must be drawn."""

    def step(total: jax.Array, k: jax.Array) -> tuple:
        g = jax.random.normal(jax.random.fold_in(key, k), (m * (m + 1) // 2, paths), jnp.float32)
        return total + g, None

    zero = jnp.zeros((m * (m + 1) // 2, paths), jnp.float32)
    return jax.lax.scan(step, zero, jnp.arange(steps))[0]


def first_attempt(keys: jax.Array, *, m: int, steps: int) -> jax.Array:
    """vmap over paths of diffeqsolve with a VirtualBrownianTree, on (m, m) matrices."""
    mlp_drift = cs.MLP(cs.ShapedReLU(1.0, -1.0)).limit().drift

    def one(key: jax.Array) -> jax.Array:
        shape = jax.ShapeDtypeStruct((m, m), jnp.float32)
        tree = diffrax.VirtualBrownianTree(0.0, 1.0, tol=0.5 / steps, shape=shape, key=key)

        def drift(t: jax.Array, V: jax.Array, args: object) -> jax.Array:
            v = jnp.diagonal(V)
            return mlp_drift.rate(v[:, None] * jnp.ones((1, m)), v[None, :] * jnp.ones((m, 1)), V)

        def noise(t: jax.Array, V: jax.Array, args: object) -> jax.Array:
            L = jnp.linalg.cholesky(V)
            pair = (L[:, None, :, None] * L[None, :, None, :]).astype(jnp.float32)
            return (pair + jnp.swapaxes(pair, 2, 3)) / math.sqrt(2.0)

        terms = diffrax.MultiTerm(diffrax.ODETerm(drift), diffrax.ControlTerm(noise, tree))
        V0 = jnp.asarray(start(m), jnp.float32)
        return diffrax.diffeqsolve(terms, diffrax.Euler(), 0.0, 1.0, 1.0 / steps, V0, max_steps=steps + 1).ys[-1]

    return jax.vmap(one)(keys)


def best_times(calls: list[Callable[[int], object]], repeats: int) -> list[float]:
    """Best of several runs of each after a warm-up, taken in turns so that all meet the same disturbances."""
    times: list[list[float]] = [[] for _ in calls]
    for r in range(repeats + 1):
        for call, taken in zip(calls, times, strict=True):
            begin = time.perf_counter()
            call(r)
            taken.append(time.perf_counter() - begin)
    return [min(taken[1:]) for taken in times]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--paths", type=int, default=65536)
    parser.add_argument("--steps", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=15)
    options = parser.parse_args()
    steps, chunks = options.steps, max(1, options.paths // CHUNK)
    paths = chunks * CHUNK
    print(f"{paths} paths, {steps} steps, float32, {jax.default_backend()}; nanoseconds per path-step, then ratios")
    print(f"{'m':>3} {'simulate':>10} {'scan':>8} {'normals':>8} {'vmap tree':>10} | /scan  /normals  tree/simulate")
    for m in (2, 4, 8):
        mlp, V0 = cs.MLP(cs.ShapedReLU(1.0, -1.0), depth_to_width=1.0), start(m)
        scan = jax.jit(functools.partial(hand_written, m=m, steps=steps, paths=CHUNK))
        floor = jax.jit(functools.partial(normals_only, m=m, steps=steps, paths=CHUNK))
        naive = jax.jit(functools.partial(first_attempt, m=m, steps=steps))
        few = 256

        def whole(seed: int, mlp: cs.MLP = mlp, V0: np.ndarray = V0) -> object:
            return cs.simulate(
                mlp,
                V0,
                paths=paths,
                steps=steps,
                save_at=[0, 1],
                key=seed,
                dtype="float32",
                chunk=CHUNK,
                progress=False,
            )

        def chunked(fn: Callable) -> Callable[[int], object]:
            def call(seed: int) -> object:
                key = jax.random.key(seed)
                with ThreadPoolExecutor(side_by_side()) as pool:
                    return list(pool.map(lambda chunk: np.asarray(fn(jax.random.fold_in(key, chunk))), range(chunks)))

            return call

        unit = 1e9 / (paths * steps)

        def tree(seed: int, naive: Callable = naive, few: int = few) -> object:
            return jax.block_until_ready(naive(jax.random.split(jax.random.key(seed), few)))

        a, b, c = (t * unit for t in best_times([whole, chunked(scan), chunked(floor)], options.repeats))
        d = best_times([tree], 2)[0] * 1e9 / (few * steps)
        print(
            f"{m:>3} {a:>10.0f} {b:>8.0f} {c:>8.0f} {d:>10.0f} | {a / b:>5.2f}  {a / c:>8.2f}  {d / a:>13.0f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
