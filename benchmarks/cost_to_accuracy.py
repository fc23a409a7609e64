"""What does an error of 0.001 cost? Every solver at m = 2, κ = 4, T = 1, against deterministic values, in one run.

Error in E ρ² and in the law of ρ (Kolmogorov–Smirnov distance) against `correlation_law`, and in Var log V against 2T;
cost is the measured time of the whole solve. The cost of an accuracy follows from a fit of error = C steps^-order to
errors well above their noise, times the measured time of a path-step.

    python benchmarks/cost_to_accuracy.py [--paths 1000000] [--target 0.001]
"""

import argparse
import math
import time
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import covsde as cs
from covsde.moments.arccos import sin_minus_angle_cos

KAPPA, RHO_0, CHUNK = 4.0, 0.3, 8192
V0 = np.array([[1.0, RHO_0], [RHO_0, 1.0]])
MLP = cs.MLP(cs.ShapedReLU(1.0, -1.0), depth_to_width=1.0)


class Final(NamedTuple):
    """Samples at τ = 1 and what they cost."""

    rho: np.ndarray
    log_v: np.ndarray
    lost: float
    seconds: float


def library(solver: object) -> Callable[[int, int, int], Final]:
    """`simulate` with one of the package's solvers; failed paths are left out and reported."""

    def run(steps: int, paths: int, seed: int) -> Final:
        def once(key: int, count: int) -> cs.Ensemble:
            return cs.simulate(
                MLP, V0, paths=count, steps=steps, save_at=[0, 1], key=key, solver=solver, chunk=CHUNK, dtype="float32"
            )

        once(seed + 1, CHUNK)  # compilation
        begin = time.perf_counter()
        e = once(seed, paths)
        seconds = time.perf_counter() - begin
        alive = e.alive[-1]
        return Final(e.correlation(0, 1)[-1][alive], e.log_variance(0)[-1][alive], 1 - alive.mean(), seconds)

    return run


def euler_with_projection(steps: int, paths: int, seed: int) -> Final:
    """Euler on V with the eigenvalues clipped at 0 after every step, by hand, one array per entry, one scan."""
    h, dtype = 1.0 / steps, jnp.float32

    def step(V: tuple, key: jax.Array) -> tuple:
        a, b, c = V  # V11, V12, V22
        g = jax.lax.map(lambda k: jax.random.normal(k, (CHUNK,), dtype), jax.random.split(key, 3)) * math.sqrt(h)
        root = jnp.sqrt(a)
        l21 = b / jnp.maximum(root, 1e-20)
        l22 = jnp.sqrt(jnp.maximum(c - l21 * l21, 0))
        s11, s21, s22 = math.sqrt(2) * g[0], g[1], math.sqrt(2) * g[2]
        scale = jnp.sqrt(a * c)
        rho = jnp.clip(b / jnp.maximum(scale, 1e-20), -1, 1)
        drift = h * KAPPA / (2 * math.pi) * sin_minus_angle_cos(rho) * scale
        a, b, c = (
            a + a * s11,
            b + drift + root * (l21 * s11 + l22 * s21),
            c + l21 * l21 * s11 + 2 * l21 * l22 * s21 + l22 * l22 * s22,
        )
        # The nearest PSD matrix: clip the eigenvalues of a symmetric 2 × 2 matrix.
        middle, half, radius = (a + c) / 2, (a - c) / 2, jnp.sqrt(((a - c) / 2) ** 2 + b * b)
        high, low = middle + radius, middle - radius
        shrink = jnp.where(radius > 0, 0.5 / jnp.maximum(radius, 1e-30), 0)
        up, down = jnp.maximum(high, 0), jnp.maximum(low, 0)
        mean, spread = (up + down) / 2, (up - down) * shrink
        return (mean + spread * half, spread * b, mean - spread * half), None

    @jax.jit
    def chunk(key: jax.Array) -> jax.Array:
        start = tuple(jnp.full((CHUNK,), V0[i, j], dtype) for i, j in ((0, 0), (0, 1), (1, 1)))
        return jnp.stack(jax.lax.scan(step, start, jax.random.split(key, steps))[0])

    np.asarray(chunk(jax.random.key(seed + 1)))
    begin = time.perf_counter()
    parts = [np.asarray(chunk(jax.random.fold_in(jax.random.key(seed), c))) for c in range(-(-paths // CHUNK))]
    seconds = time.perf_counter() - begin
    a, b, c = np.concatenate(parts, axis=1).astype(np.float64)
    inside = (a > 0) & (c > 0)
    rho = np.clip(b[inside] / np.sqrt(a[inside] * c[inside]), -1, 1)
    return Final(rho, np.log(a[inside]), 1 - inside.mean(), seconds)


def ks_distance(rho: np.ndarray, law: cs.CorrelationLaw) -> float:
    """Largest gap between the empirical distribution function and the exact one, on a grid of quantiles."""
    at = np.tanh(np.linspace(-4, 6, 401))
    empirical = np.searchsorted(np.sort(rho), at, side="right") / rho.size
    return float(np.max(np.abs(empirical - law.cdf(at)[-1])))


def main() -> None:
    """Print the errors, then the costs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--paths", type=int, default=1_000_000)
    parser.add_argument("--target", type=float, default=0.001)
    options = parser.parse_args()
    law = cs.correlation_law(MLP, RHO_0, save_at=[0, 1], points=6001, steps=2000)
    exact = law.second_moment[-1]
    cases: list[tuple[str, Callable, tuple[int, ...], int]] = [
        ("Strang", library(cs.Strang()), (2, 3, 4, 8), 2),
        ("WishartStep", library(cs.WishartStep()), (10, 20, 40), 1),
        ("LampertiEuler", library(cs.LampertiEuler()), (5, 10, 20), 1),
        ("AngleEuler", library(cs.AngleEuler()), (20, 50, 100), 1),
        ("CorrelationEuler", library(cs.CorrelationEuler()), (50, 100, 200), 1),
        ("EulerMaruyama", library(cs.EulerMaruyama()), (50, 100, 200), 1),
        ("Euler, projected", euler_with_projection, (50, 100, 200, 400), 1),
    ]
    print(f"κ = {KAPPA:g}, T = 1, m = 2, ρ₀ = {RHO_0}, {options.paths} paths, float32; E ρ² = {exact:.6f} exactly")
    names = ("error E ρ²", "s.e.", "error Var log V", "KS", "lost", "ns/path")
    print(
        f"{'solver':<18}{'steps':>6}" + "".join(f"{n:>{w}}" for n, w in zip(names, (12, 9, 17, 9, 8, 9), strict=True))
    )
    costs: dict[str, tuple[float, float, float]] = {}
    pairs: dict[int, tuple[float, float, float]] = {}
    for name, run, counts, order in cases:
        errors, noises, per_step = [], [], []
        for steps in counts:
            final = run(steps, options.paths, 100 + steps)
            square = final.rho**2
            error, noise = square.mean() - exact, square.std() / math.sqrt(square.size)
            nanoseconds = 1e9 * final.seconds / options.paths
            errors.append(error)
            noises.append(noise)
            per_step.append(nanoseconds / steps)
            if name == "Strang":
                pairs[steps] = (square.mean(), noise, nanoseconds)
            print(
                f"{name:<18}{steps:>6}{error:>+12.5f}{noise:>9.5f}{final.log_v.var() - 2:>+17.4f}"
                f"{ks_distance(final.rho, law):>9.5f}{final.lost:>8.4f}{nanoseconds:>9.0f}",
                flush=True,
            )
        # error = C h^order, by least squares weighted by the noise.
        h = np.asarray(counts, float) ** -order
        w = 1 / np.asarray(noises) ** 2
        C = float(np.sum(w * h * errors) / np.sum(w * h * h))
        needed = max(1.0, (abs(C) / options.target) ** (1 / order))
        costs[name] = (C, needed, needed * min(per_step))
    (v2, s2, t2), (v4, s4, t4) = pairs[2], pairs[4]
    print(
        f"Richardson on Strang, 2 and 4 steps: error {(4 * v4 - v2) / 3 - exact:+.5f} ± "
        f"{math.hypot(4 * s4, s2) / 3:.5f}, {t2 + t4:.0f} ns/path"
    )
    print(f"\nCost of |error in E ρ²| ≤ {options.target:g}, from error = C steps^-order")
    print(f"{'solver':<18}{'C':>9}{'steps':>8}{'ns/path':>10}{'relative to Strang':>20}")
    for name, (C, needed, cost) in costs.items():
        print(f"{name:<18}{C:>+9.3f}{needed:>8.0f}{cost:>10.0f}{cost / costs['Strang'][2]:>20.1f}")


if __name__ == "__main__":
    main()
