"""Shaped MLPs at initialization: the limit against exact values, and the cone."""

import itertools
import math

import jax.numpy as jnp
import numpy as np
from scipy.special import gammainc

import covsde as cs
from validation.common import equicorrelated, header, mean_and_error, row, shaped


def correlation_section(paths: int) -> list[str]:
    """Eight steps of the default solver against the deterministic law of the correlation."""
    lines = [
        "## Shaped ReLU: the correlation against a deterministic PDE",
        "",
        f"Eight Strang steps, {paths} paths, float64, ρ₀ = 0.3, against `correlation_law`. Errors are simulation minus "
        "PDE, ± one standard error.",
        "",
        *header("m", "κ", "T", "error of E ρ", "error of E ρ²", "error of E θ"),
    ]
    cases = [(2, kappa, T) for kappa in (0, 1, 4, 16) for T in (0.5, 1.0)] + [(4, 4, 1.0)]
    for m, kappa, T in cases:
        mlp = shaped(kappa, T)
        law = cs.correlation_law(mlp, 0.3, save_at=[0, 1], points=6001, steps=2000)
        run = cs.simulate(mlp, equicorrelated(m), paths=paths, steps=8, save_at=[0, 1], key=11)
        for i, j in itertools.combinations(range(m), 2):
            rho, theta = run.correlation(i, j)[-1], run.angle(i, j)[-1]
            cells = []
            exact = (law.mean[-1], law.second_moment[-1], law.angle_mean[-1])
            for samples, value in zip((rho, rho**2, theta), exact, strict=True):
                found, error = mean_and_error(samples)
                cells.append(f"{found - value:+.5f} ± {error:.5f}")
            lines.append(row([f"{m}, pair {i}{j}", kappa, T, *cells]))
    return [*lines, "", _step_or_chance(paths)]


def _step_or_chance(paths: int) -> str:
    """What share of the errors of E ρ at m = 4 is that of eight steps: six pairs of one set of paths are one sample."""
    mlp, m = shaped(4, 1.0), 4
    exact = cs.correlation_law(mlp, 0.3, save_at=[0, 1], points=6001, steps=2000).mean[-1]

    def mean_error(steps: int, keys: tuple[int, ...]) -> tuple[float, float]:
        found = []
        for key in keys:
            run = cs.simulate(mlp, equicorrelated(m), paths=paths, steps=steps, save_at=[0, 1], key=key)
            pairs = itertools.combinations(range(m), 2)
            found.append(np.mean([run.correlation(i, j)[-1] for i, j in pairs], axis=0))
        value, error = mean_and_error(np.concatenate(found))
        return value - exact, error

    (shown, its), (fresh, error), (coarse, of_coarse) = (
        mean_error(steps, keys) for steps, keys in ((8, (11,)), (8, (21, 22)), (4, (23, 24)))
    )
    bias, uncertain = coarse / 4, of_coarse / 4
    z = (shown - bias) / math.hypot(its, uncertain)
    return (
        f"The six rows of m = 4 are of one set of paths: their mean error of E ρ is {shown:+.5f} ± {its:.5f}, and with "
        f"other paths, twice as many, {fresh:+.5f} ± {error:.5f}. With four steps it is {coarse:+.5f} ± "
        f"{of_coarse:.5f}; a quarter of that, {bias:+.5f} ± {uncertain:.5f}, is the bias of eight steps at second "
        f"order, and the rest of what is shown is chance, at {z:+.1f} standard errors."
    )


def order_section(paths: int) -> list[str]:
    """Errors of every solver as steps grow."""
    lines = [
        "## Order of the solvers",
        "",
        f"Error of E ρ² at κ = 4, T = 1, m = 2, {paths} paths. Paths that left the PSD cone are counted in the last "
        "column; the error is that of the survivors, which are not a sample of the limit.",
        "",
        *header("solver", "steps", "error of E ρ²", "±", "PSD lost"),
    ]
    cases: list[tuple] = [(cs.Strang(), n) for n in (1, 2, 4, 8, 16)]
    cases += [(cs.WishartStep(), n) for n in (5, 10, 20, 40)]
    cases += [(cs.LampertiEuler(), n) for n in (5, 10, 20, 50)]
    cases += [(cs.EulerMaruyama(), n) for n in (10, 20, 50)]
    exact = cs.correlation_law(shaped(4, 1.0), 0.3, save_at=[0, 1], points=6001, steps=2000).second_moment[-1]
    for solver, steps in cases:
        run = cs.simulate(
            shaped(4, 1.0), equicorrelated(2), paths=paths, steps=steps, save_at=[0, 1], key=12, solver=solver
        )
        alive = run.alive[-1]
        value, error = mean_and_error(run.correlation(0, 1)[-1][alive] ** 2)
        lost = f"{100 * np.mean(~alive):.2f} %"
        lines.append(row([type(solver).__name__, steps, f"{value - exact:+.5f}", f"{error:.5f}", lost]))
    return lines


def cone_section(paths: int) -> list[str]:
    """No path of the default solver leaves the PSD cone."""
    lines = [
        "## The PSD cone",
        "",
        f"Strang, m = 8, 8 steps, T = 1, {paths} paths. For the identity log det V - log det V₀ ~ N(-36, 16) exactly.",
        "",
        *header("activation", "failed paths", "determinants ≤ 0", "mean change of log det V", "its variance"),
    ]
    cases = {
        "identity": cs.Identity(),
        "shaped ReLU κ=4": cs.ShapedReLU(1.0, -1.0),
        "tanh a=1": cs.ShapedSmooth(jnp.tanh),
    }
    for name, activation in cases.items():
        run = cs.simulate(cs.MLP(activation, 1.0), equicorrelated(8), paths=paths, steps=8, save_at=[0, 1], key=13)
        sign, logdet = np.linalg.slogdet(run.V[-1])
        value, error = mean_and_error(logdet - np.linalg.slogdet(equicorrelated(8))[1])
        failed = run.failures["total"]
        lines.append(row([name, failed, int(np.sum(sign <= 0)), f"{value:.3f} ± {error:.3f}", f"{logdet.var():.3f}"]))
    return lines


def explosion_section(paths: int) -> list[str]:
    """Explosion probabilities of one input."""
    lines = [
        "## Explosion",
        "",
        f"P(T* < ∞) = P(β+1, βV₀), the regularised incomplete gamma function; simulated to T = 40, {paths} paths.",
        "",
        *header("β", "V₀", "simulated", "exact", "z"),
    ]
    for activation in (cs.ShapedSmooth("silu"), cs.ShapedSmooth("sinh"), cs.ShapedSmooth("sinh", 0.5**0.5)):
        for v0 in (0.5, 1.0, 2.0):
            run = cs.simulate(cs.MLP(activation, 40.0), np.array([[v0]]), paths=paths, save_at=[0, 1], key=14)
            share = run.failures.get("EXPLODED", 0) / paths
            exact = float(gammainc(activation.beta + 1, activation.beta * v0))
            z = (share - exact) / math.sqrt(exact * (1 - exact) / paths)
            lines.append(row([f"{activation.beta:.4g}", v0, f"{share:.4f}", f"{exact:.4f}", f"{z:+.1f}"]))
    return lines


def section(scale: int) -> list[str]:
    """All of them."""
    return [
        *correlation_section(1_000_000 // scale),
        "",
        *order_section(1_000_000 // scale),
        "",
        *cone_section(100_000 // scale),
        "",
        *explosion_section(20_000 // scale),
    ]
