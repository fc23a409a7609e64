"""Rewrite docs/validation.md: every number of the package that can be checked, checked.

python experiments/validate.py --out docs/validation.md
"""

import argparse
import itertools
import math
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import gammainc

import covsde as cs
from covsde._files import atomic_write
from covsde.simulate import versions

# Crank–Nicolson solution of the equation of y = log tan(θ/2) (6001 points, 2000 steps), ρ₀ = 0.3: Eρ, Eρ², Eθ.
CORRELATION = {
    (0, 0.5): (0.259444, 0.348055, 1.266104),
    (0, 1.0): (0.240711, 0.492880, 1.266103),
    (1, 0.5): (0.308402, 0.345391, 1.208492),
    (1, 1.0): (0.341551, 0.466179, 1.136944),
    (4, 0.5): (0.427301, 0.365995, 1.071589),
    (4, 1.0): (0.538845, 0.496233, 0.900537),
    (16, 0.5): (0.685111, 0.537192, 0.757539),
    (16, 1.0): (0.824187, 0.724114, 0.516938),
}


def equicorrelated(m: int) -> np.ndarray:
    return np.full((m, m), 0.3) + 0.7 * np.eye(m)


def shaped(kappa: float, T: float) -> cs.MLP:
    half = math.sqrt(kappa) / 2
    return cs.MLP(cs.ShapedReLU(half, -half), depth_to_width=T)


def mean_and_error(samples: np.ndarray) -> tuple[float, float]:
    return float(samples.mean()), float(samples.std() / math.sqrt(samples.size))


def correlation_section(paths: int) -> list[str]:
    lines = [
        "## Shaped ReLU: the correlation against a deterministic PDE",
        "",
        f"Eight Strang steps, {paths} paths, float64, ρ₀ = 0.3. Errors are simulation minus PDE, ± one standard error.",
        "",
        "| m | κ | T | error of E ρ | error of E ρ² | error of E θ |",
        "|---|---|---|---|---|---|",
    ]
    cases = [(2, kappa, T) for kappa, T in CORRELATION] + [(4, 4, 1.0)]
    for m, kappa, T in cases:
        run = cs.simulate(shaped(kappa, T), equicorrelated(m), paths=paths, steps=8, save_at=[0, 1], key=11)
        for i, j in itertools.combinations(range(m), 2):
            rho, theta = run.correlation(i, j)[-1], run.angle(i, j)[-1]
            cells = []
            for samples, exact in zip((rho, rho**2, theta), CORRELATION[kappa, T], strict=True):
                value, error = mean_and_error(samples)
                cells.append(f"{value - exact:+.5f} ± {error:.5f}")
            lines.append(f"| {m}, pair {i}{j} | {kappa} | {T} | {' | '.join(cells)} |")
    return lines


def order_section(paths: int) -> list[str]:
    lines = [
        "## Order of the solvers",
        "",
        f"Error of E ρ² at κ = 4, T = 1, m = 2, {paths} paths. Paths that left the PSD cone are counted in the last "
        "column; the error is that of the survivors, which are not a sample of the limit.",
        "",
        "| solver | steps | error of E ρ² | ± | PSD lost |",
        "|---|---|---|---|---|",
    ]
    cases: list[tuple] = [(cs.Strang(), n) for n in (1, 2, 4, 8, 16)]
    cases += [(cs.WishartStep(), n) for n in (5, 10, 20, 40)]
    cases += [(cs.EulerMaruyama(), n) for n in (10, 20, 50)]
    for solver, steps in cases:
        run = cs.simulate(
            shaped(4, 1.0), equicorrelated(2), paths=paths, steps=steps, save_at=[0, 1], key=12, solver=solver
        )
        fine = run.status == cs.PathStatus.FINE
        value, error = mean_and_error(run.correlation(0, 1)[-1][fine] ** 2)
        gap = value - CORRELATION[4, 1.0][1]
        lines.append(f"| {type(solver).__name__} | {steps} | {gap:+.5f} | {error:.5f} | {100 * np.mean(~fine):.2f} % |")
    return lines


def cone_section(paths: int) -> list[str]:
    lines = [
        "## The PSD cone",
        "",
        f"Strang, m = 8, 8 steps, T = 1, {paths} paths. For the identity log det V - log det V₀ ~ N(-36, 16) exactly.",
        "",
        "| activation | failed paths | determinants ≤ 0 | mean change of log det V | its variance |",
        "|---|---|---|---|---|",
    ]
    cases = {"identity": cs.Identity(), "shaped ReLU κ=4": cs.ShapedReLU(1, -1), "tanh a=1": cs.ShapedSmooth(jnp.tanh)}
    for name, activation in cases.items():
        run = cs.simulate(cs.MLP(activation, 1.0), equicorrelated(8), paths=paths, steps=8, save_at=[0, 1], key=13)
        sign, logdet = np.linalg.slogdet(run.V[-1])
        value, error = mean_and_error(logdet - np.linalg.slogdet(equicorrelated(8))[1])
        lines.append(
            f"| {name} | {run.failures.get('total', 0)} | {int(np.sum(sign <= 0))} | "
            f"{value:.3f} ± {error:.3f} | {logdet.var():.3f} |"
        )
    return lines


def explosion_section(paths: int) -> list[str]:
    lines = [
        "## Explosion",
        "",
        f"P(T* < ∞) = P(β+1, βV₀), the regularised incomplete gamma function; simulated to T = 40, {paths} paths.",
        "",
        "| β | V₀ | simulated | exact | z |",
        "|---|---|---|---|---|",
    ]
    for activation in (cs.ShapedSmooth(jax.nn.silu), cs.ShapedSmooth(jnp.sinh), cs.ShapedSmooth(jnp.sinh, 0.5**0.5)):
        for v0 in (0.5, 1.0, 2.0):
            run = cs.simulate(cs.MLP(activation, 40.0), np.array([[v0]]), paths=paths, save_at=[0, 1], key=14)
            share = run.failures.get("EXPLODED", 0) / paths
            exact = float(gammainc(activation.beta + 1, activation.beta * v0))
            z = (share - exact) / math.sqrt(exact * (1 - exact) / paths)
            lines.append(f"| {activation.beta:.4g} | {v0} | {share:.4f} | {exact:.4f} | {z:+.1f} |")
    return lines


def network_section(draws: int) -> list[str]:
    lines = [
        "## Networks approach the limit",
        "",
        f"T = 1, V₀ = [[1, .3], [.3, 1]], {draws} networks per width (law sampler), 400000 paths of the limit. The "
        "last column extrapolates the widths to 1/n → 0 and compares with the limit in standard errors.",
        "",
        "| activation | statistic | limit | n = 50 | n = 100 | n = 200 | slope in 1/n | extrapolated z |",
        "|---|---|---|---|---|---|---|---|",
    ]
    activations = {
        "ReLU (.5, -.5)": cs.ShapedReLU(0.5, -0.5),
        "ReLU (2, -2)": cs.ShapedReLU(2.0, -2.0),
        "tanh a=1": cs.ShapedSmooth(jnp.tanh),
        "identity": cs.Identity(),
    }
    statistics = {
        "E ρ": lambda e: e.correlation(0, 1)[-1],
        "E ρ²": lambda e: e.correlation(0, 1)[-1] ** 2,
        "E θ": lambda e: e.angle(0, 1)[-1],
        "E log V₁₁": lambda e: e.log_variance(0)[-1],
        "E (log V₁₁)²": lambda e: e.log_variance(0)[-1] ** 2,
    }
    widths = np.array([50, 100, 200])
    for name, activation in activations.items():
        mlp, V0 = cs.MLP(activation, 1.0), equicorrelated(2)
        limit = cs.simulate(mlp, V0, paths=400_000, save_at=[0, 1], key=15)
        networks = [cs.sample_networks(mlp, V0, width=int(n), draws=draws, save_at=[0, 1], key=int(n)) for n in widths]
        for label, statistic in statistics.items():
            pairs = [mean_and_error(statistic(e)) for e in (limit, *networks)]
            value, error = np.array([p[0] for p in pairs]), np.array([p[1] for p in pairs])
            fit = cs.extrapolate(value[1:], error[1:], widths)
            z = (float(fit.value) - value[0]) / math.hypot(float(fit.standard_error), error[0])
            slope = np.polyfit(1 / widths, value[1:], 1, w=1 / error[1:])[0]
            cells = " | ".join(f"{v:.4f} ± {e:.4f}" for v, e in zip(value, error, strict=True))
            lines.append(f"| {name} | {label} | {cells} | {slope:+.2f} | {z:+.1f} |")
    return lines


def main() -> None:
    """Run every section and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default="docs/validation.md")
    parser.add_argument("--quick", action="store_true", help="a tenth of the samples")
    options = parser.parse_args()
    scale = 10 if options.quick else 1
    began = time.perf_counter()
    page = ["# Validation", "", "Rewritten by `make validate`; nothing here is typed by hand.", ""]
    page.append("Versions: " + ", ".join(f"{k} {v}" for k, v in versions().items()) + ".")
    for section, size in (
        (correlation_section, 1_000_000),
        (order_section, 1_000_000),
        (cone_section, 100_000),
        (explosion_section, 20_000),
        (network_section, 20_000),
    ):
        print(section.__name__, flush=True)
        page += ["", *section(size // scale)]
    page += ["", f"Computed in {time.perf_counter() - began:.0f} s."]
    with atomic_write(Path(options.out)) as temporary:
        Path(temporary).write_text("\n".join(page) + "\n")
    print(f"wrote {options.out}")


if __name__ == "__main__":
    main()
