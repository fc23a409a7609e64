"""Networks approach the limit: rates in the width, and numbers quoted from independent simulations."""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

import covsde as cs
from validation.common import equicorrelated, header, mean_and_error, pm, row

Statistic = Callable[[cs.Ensemble], np.ndarray]


def entry(i: int, j: int) -> Statistic:
    """V_ij at τ = 1."""
    return lambda e: e.V[-1, :, i, j]


def rho(e: cs.Ensemble) -> np.ndarray:
    """ρ_12 at τ = 1."""
    return e.correlation(0, 1)[-1]


def rho_squared(e: cs.Ensemble) -> np.ndarray:
    """ρ_12² at τ = 1."""
    return e.correlation(0, 1)[-1] ** 2


def log_variance(e: cs.Ensemble) -> np.ndarray:
    """log V_11 at τ = 1."""
    return e.log_variance(0)[-1]


def log_determinant(e: cs.Ensemble) -> np.ndarray:
    """log det V at τ = 1."""
    return np.linalg.slogdet(e.V[-1])[1]


def standard_deviation(f: Statistic, e: cs.Ensemble) -> tuple[float, float]:
    """Standard deviation of a statistic, and its standard error from the fourth moment."""
    x = f(e)
    centred = x - x.mean()
    variance = float(np.mean(centred**2))
    spread = math.sqrt(max(float(np.mean(centred**4)) - variance**2, 0.0) / x.size)
    return math.sqrt(variance), spread / (2 * math.sqrt(variance))


class Case(NamedTuple):
    """An architecture and what independent simulations found for networks of depth n T, 4096 draws, and for the SDE."""

    name: str
    mlp: cs.MLP
    V0: np.ndarray
    quoted_width: int
    rows: dict[str, tuple[Statistic, tuple[float, float] | None, float | None]]


def cubic(a: float) -> cs.ShapedSmooth:
    """φ''(0) = .6, φ'''(0) = -.4."""
    return cs.ShapedSmooth(lambda x: x + 0.3 * x**2 - 0.4 * x**3 / 6, a=a)


PAIR, SKEW = equicorrelated(2), np.array([[2.0, -0.5], [-0.5, 0.5]])
TRIPLE = np.array([[1.0, 0.3, -0.2], [0.3, 1.5, 0.4], [-0.2, 0.4, 0.7]])

# (statistic, network value and standard error as quoted, SDE value as quoted).
CASES = (
    Case(
        "ReLU (0, -1), T = 1",
        cs.MLP(cs.ShapedReLU(0.0, -1.0), 1.0),
        PAIR,
        150,
        {
            "E V12": (entry(0, 1), (0.399, 0.023), None),
            "E ρ": (rho, (0.365, 0.009), 0.341551),
            "E ρ²": (rho_squared, (0.473, 0.005), 0.466179),
            "E log V11": (log_variance, (-0.976, 0.023), -1.0),
            "sd log V11": (log_variance, (1.456, 0.016), math.sqrt(2)),
        },
    ),
    Case(
        "ReLU (2, -2), T = 1",
        cs.MLP(cs.ShapedReLU(2.0, -2.0), 1.0),
        PAIR,
        150,
        {
            "E V12": (entry(0, 1), (0.776, 0.037), None),
            "E ρ": (rho, (0.814, 0.004), 0.824187),
            "E ρ²": (rho_squared, (0.714, 0.004), 0.724114),
            "E log V11": (log_variance, (-1.149, 0.024), -1.0),
            "sd log V11": (log_variance, (1.539, 0.017), math.sqrt(2)),
        },
    ),
    Case(
        "tanh a = 1, T = 1",
        cs.MLP(cs.ShapedSmooth("tanh"), 1.0),
        PAIR,
        150,
        {
            "E V11": (entry(0, 0), (0.695, 0.009), 0.696241),
            "E V12": (entry(0, 1), (0.191, 0.010), 0.192),
            "E ρ": (rho, (0.250, 0.010), 0.240711),
            "E log V11": (log_variance, (-0.691, 0.014), -0.674789),
            "sd log V11": (log_variance, (0.875, 0.010), 0.848),
        },
    ),
    Case(
        "tanh a = 1, V₀ = (2, -.5, .5), T = .5",
        cs.MLP(cs.ShapedSmooth("tanh"), 0.5),
        SKEW,
        150,
        {
            "E V11": (entry(0, 0), (1.024, 0.010), 1.011),
            "E V12": (entry(0, 1), (-0.384, 0.009), -0.382),
            "E ρ": (rho, (-0.436, 0.008), -0.439),
        },
    ),
    Case(
        "cubic a = .5, V₀ = (2, -.5, .5), T = .5",
        cs.MLP(cubic(0.5), 0.5),
        SKEW,
        150,
        {
            "E V11": (entry(0, 0), (1.399, 0.022), 1.406),
            "E V12": (entry(0, 1), (-0.057, 0.007), -0.052),
            "E ρ": (rho, (-0.095, 0.007), -0.076),
        },
    ),
    Case(
        "three inputs, tanh a = 1, T = .5",
        cs.MLP(cs.ShapedSmooth("tanh"), 0.5),
        TRIPLE,
        300,
        {
            "E V11": (entry(0, 0), (0.818, 0.009), 0.822),
            "E V12": (entry(0, 1), (0.206, 0.010), 0.204),
            "E V13": (entry(0, 2), (-0.179, 0.009), -0.181),
            "E V22": (entry(1, 1), (0.944, 0.010), 0.929),
            "E log det": (log_determinant, (-3.154, 0.020), -3.182),
        },
    ),
    Case(
        "three inputs, cubic a = .7, T = .5",
        cs.MLP(cubic(0.7), 0.5),
        TRIPLE,
        300,
        {
            "E V11": (entry(0, 0), (0.899, 0.016), 0.932),
            "E V12": (entry(0, 1), (0.295, 0.012), 0.326),
            "E V13": (entry(0, 2), (-0.053, 0.007), -0.057),
            "E V22": (entry(1, 1), (1.256, 0.020), 1.285),
            "E log det": (log_determinant, (-2.903, 0.028), -2.862),
        },
    ),
    Case(
        "ReLU (0, -1) with biases, β_b = .5, T = 1",
        cs.MLP(cs.ShapedReLU(0.0, -1.0), 1.0, bias=0.5),
        PAIR,
        150,
        {
            "E V11": (entry(0, 0), (1.52, 0.04), 1.465),
            "E V12": (entry(0, 1), (0.870, 0.028), 0.836),
            "E ρ": (rho, (0.627, 0.006), 0.625),
        },
    ),
    Case(
        "ReLU (1, -1), widths 100/300 alternating, T = .8 (local)",
        cs.MLP(cs.ShapedReLU(1.0, -1.0), 0.8, width_profile=(2 / 3, 2.0)),
        PAIR,
        150,
        {"E ρ": (rho, (0.4981, 0.0071), 0.4972)},
    ),
    Case(
        "ReLU (1, -1), widths 100/300 alternating, T = .8 (common)",
        cs.MLP(cs.ShapedReLU(1.0, -1.0), 0.8, width_profile=(2 / 3, 2.0), shaping_width="common"),
        PAIR,
        150,
        {"E ρ": (rho, (0.5021, 0.0071), 0.5006)},
    ),
)


def table(scale: int) -> list[str]:
    """Every case at the quoted width and at twice that."""
    draws, paths = 4096 // scale, 200_000 // scale
    lines = [
        "## Networks and limit side by side",
        "",
        f"Limit: {paths} paths, default steps. Networks: {draws} draws at the quoted width and twice that. *z limit* "
        "compares the wider networks with the limit; *z quoted* compares the narrower ones with networks simulated "
        "independently at that width, and the limit with the independent SDE value in the last column. The slope is of "
        "(network - limit) in 1/n.",
        "",
        *header("case", "statistic", "limit", "n", "2n", "z limit", "slope in 1/n", "z quoted", "quoted SDE"),
    ]
    for case in CASES:
        limit = cs.simulate(case.mlp, case.V0, paths=paths, save_at=[0, 1], key=21)
        n = case.quoted_width
        networks = [
            cs.sample_networks(case.mlp, case.V0, width=w, draws=draws, save_at=[0, 1], key=w) for w in (n, 2 * n)
        ]
        for name, (f, quoted, sde) in case.rows.items():

            def estimate(e: cs.Ensemble, f: Statistic = f, name: str = name) -> tuple[float, float]:
                return standard_deviation(f, e) if name.startswith("sd ") else mean_and_error(f(e))

            (a, sa), (b, sb), (c, sc) = (estimate(e) for e in (limit, *networks))
            slope = np.polyfit([1 / n, 1 / (2 * n), 0], [b, c, a], 1, w=[1 / sb, 1 / sc, 1 / sa])[0]
            against = "" if quoted is None else f"{(b - quoted[0]) / math.hypot(sb, quoted[1]):+.1f}"
            lines.append(
                row(
                    [
                        case.name,
                        name,
                        pm(a, sa),
                        pm(b, sb),
                        pm(c, sc),
                        f"{(c - a) / math.hypot(sa, sc):+.1f}",
                        f"{slope:+.1f}",
                        against,
                        "" if sde is None else f"{sde:g}",
                    ]
                )
            )
    return lines


def heavy_tails(scale: int) -> list[str]:
    """SiLU, whose mean is infinite: quantiles and tail probabilities."""
    mlp, V0 = cs.MLP(cs.ShapedSmooth("silu"), 1.0), np.eye(1)
    limit = cs.simulate(mlp, V0, paths=200_000 // scale, save_at=[0, 1], key=22)
    networks = [cs.sample_networks(mlp, V0, width=n, draws=4096 // scale, save_at=[0, 1], key=n) for n in (150, 600)]
    quoted = {
        "q10": (0.0347, 0.0359, 0.0374),
        "q25": (0.0906, 0.0951, 0.0952),
        "q50": (0.2745, 0.2926, 0.3025),
        "q75": (0.980, 1.101, 1.233),
        "P(V > 10)": (0.098, 0.119, 0.1204),
    }
    lines = [
        "## SiLU: quantiles where means are infinite",
        "",
        f"β = 3/4, T = 1, V₀ = 1: {limit.failures.get('EXPLODED', 0) / limit.paths:.4f} of the paths exploded (quoted "
        ".099) and count as +∞; networks do not explode but cross V ~ n.",
        "",
        *header("statistic", "limit", "quoted SDE", "n = 150", "quoted", "n = 600", "quoted"),
    ]
    for name, (narrow, wide, sde) in quoted.items():
        cells = []
        for e in (limit, *networks):
            x = np.where(np.isnan(e.V[-1, :, 0, 0]), np.inf, e.V[-1, :, 0, 0])
            if name.startswith("q"):
                fit = e.quantile(lambda V: V[..., 0, 0], int(name[1:]) / 100)
                cells.append(pm(float(fit.value[-1]), float(fit.standard_error[-1])))
            else:
                cells.append(pm(float(np.mean(x > 10)), math.sqrt(np.mean(x > 10) * np.mean(x <= 10) / x.size)))
        lines.append(row([name, cells[0], sde, cells[1], narrow, cells[2], wide]))
    return lines


def rates(scale: int) -> list[str]:
    """Three widths, extrapolated."""
    draws = 20_000 // scale
    lines = [
        "## Networks extrapolated to infinite width",
        "",
        f"T = 1, V₀ = [[1, .3], [.3, 1]], {draws} networks per width (law sampler), {400_000 // scale} paths of the "
        "limit. The last column extrapolates the widths to 1/n → 0 and compares with the limit in standard errors.",
        "",
        *header("activation", "statistic", "limit", "n = 50", "n = 100", "n = 200", "slope in 1/n", "extrapolated z"),
    ]
    activations = {
        "ReLU (.5, -.5)": cs.ShapedReLU(0.5, -0.5),
        "ReLU (2, -2)": cs.ShapedReLU(2.0, -2.0),
        "tanh a=1": cs.ShapedSmooth("tanh"),
        "identity": cs.Identity(),
    }
    statistics: dict[str, Statistic] = {
        "E ρ": rho,
        "E ρ²": rho_squared,
        "E θ": lambda e: e.angle(0, 1)[-1],
        "E log V₁₁": log_variance,
        "E (log V₁₁)²": lambda e: log_variance(e) ** 2,
    }
    widths = np.array([50, 100, 200])
    for name, activation in activations.items():
        mlp = cs.MLP(activation, 1.0)
        limit = cs.simulate(mlp, PAIR, paths=400_000 // scale, save_at=[0, 1], key=15)
        networks = [
            cs.sample_networks(mlp, PAIR, width=int(n), draws=draws, save_at=[0, 1], key=int(n)) for n in widths
        ]
        for label, statistic in statistics.items():
            pairs = [mean_and_error(statistic(e)) for e in (limit, *networks)]
            value, error = np.array([p[0] for p in pairs]), np.array([p[1] for p in pairs])
            fit = cs.extrapolate(value[1:], error[1:], widths)
            z = (float(fit.value) - value[0]) / math.hypot(float(fit.standard_error), error[0])
            slope = np.polyfit(1 / widths, value[1:], 1, w=1 / error[1:])[0]
            cells = [pm(v, e) for v, e in zip(value, error, strict=True)]
            lines.append(row([name, label, *cells, f"{slope:+.2f}", f"{z:+.1f}"]))
    return lines


def section(scale: int) -> list[str]:
    """All of them."""
    return [*table(scale), "", *heavy_tails(scale), "", *rates(scale)]
