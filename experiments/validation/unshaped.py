"""Unshaped (leaky) ReLU: the limit against its exponential functional, networks and the chain against the limit."""

import math
import warnings

import numpy as np

import covsde as cs

TIMES = (0.25, 0.5, 1.0)
# Quantiles 5, 50, 95 of w and mean, variance of log(q/q₀), from 10⁵ evaluations of k ∫ exp(s + √2 B_s) ds.
FUNCTIONAL = {
    0.25: ((0.0229, 0.0437, 0.0912), -0.337, 0.707),
    0.5: ((0.0406, 0.1021, 0.3054), -0.679, 1.500),
    1.0: ((0.0743, 0.2835, 1.495), -1.392, 3.341),
}
QUANTILES = (0.05, 0.5, 0.95)
SAVE = [0.0, *TIMES]


def cells(value: np.ndarray, error: np.ndarray) -> str:
    return " | ".join(f"{v:.5f} ± {e:.5f}" for v, e in zip(np.atleast_1d(value), np.atleast_1d(error), strict=True))


def exact_mean(slope: float, t: float, w0: float = 0.0) -> float:
    """E w_t = w₀ e^{Mt/3} + λk (e^{Mt/3} - 1)/(M/3)."""
    M, lam = 6 * (1 + slope**4) / (1 + slope**2) ** 2, (1 - slope) ** 2 / (1 + slope**2)
    return w0 * math.exp(M * t / 3) + lam * math.sqrt(2) / math.pi / M * math.expm1(M * t / 3)


def functional_section(paths: int) -> list[str]:
    relu = cs.MLP(cs.LeakyReLU(0.0), 1.0)
    e = cs.simulate_unshaped(relu, paths=paths, save_at=SAVE, key=31)
    lines = [
        "## Unshaped ReLU: the limit of w = 1/(n√(1-ρ))",
        "",
        f"{paths} paths, {e.metadata['steps']} steps, w₀ = 0. Below each row the exact mean, and quantiles and "
        "log(q/q₀) from 10⁵ evaluations of the exponential functional (last digits uncertain).",
        "",
        "| t | E w | q05 of w | q50 | q95 | E log(q/q₀) | Var log q |",
        "|---|---|---|---|---|---|---|",
    ]
    mean, quantile = e.mean(e.w), e.quantile(e.w, QUANTILES)
    log_q = e.log_q - math.log(9 * math.pi**2 / 2)
    log_mean, log_variance = e.mean(log_q), e.variance(log_q)
    for k, t in enumerate(TIMES, start=1):
        row = [cells(mean.value[k], mean.standard_error[k]), cells(quantile.value[k], quantile.standard_error[k])]
        row += [cells(x.value[k], x.standard_error[k]) for x in (log_mean, log_variance)]
        lines.append(f"| {t} | {' | '.join(row)} |")
        reference, a, b = FUNCTIONAL[t]
        lines.append(f"| exact | {exact_mean(0, t):.5f} | {' | '.join(map(str, reference))} | {a} | {b} |")
    return lines


def order_section(paths: int) -> list[str]:
    lines = [
        "",
        f"Order of the splitting: error of the 50 % quantile of w and of Var log q at t = 1, {paths} paths, against 32 "
        "steps. E w is exact at every step size.",
        "",
        "| steps | E w - exact | q50 of w | Var log q |",
        "|---|---|---|---|",
    ]
    relu = cs.MLP(cs.LeakyReLU(0.0), 1.0)
    for steps in (2, 4, 8, 32):
        e = cs.simulate_unshaped(relu, paths=paths, steps=steps, save_at=[0, 1], key=32)
        mean, median, variance = e.mean(e.w), e.quantile(e.w, 0.5), e.variance(e.log_q)
        row = [f"{mean.value[-1] - exact_mean(0, 1):+.4f} ± {mean.standard_error[-1]:.4f}"]
        row += [cells(x.value[-1], x.standard_error[-1]) for x in (median, variance)]
        lines.append(f"| {steps} | {' | '.join(row)} |")
    return lines


def network_section(scale: int) -> list[str]:
    lines = [
        "",
        "Networks (exact in law, two inputs with ρ₀ = 0.3), the first-order chain, and the limit started from "
        "w₀ = 1/(n√(1-ρ₀)). What is left beyond w₀ is of order log(n)/n. The last column counts paths that stopped: "
        "dead or parallel networks, chains that left [-1, 1].",
        "",
        "| slope | t | paths | E w | q05 of w | q50 | q95 | stopped |",
        "|---|---|---|---|---|---|---|---|",
    ]

    def row(slope: float, name: str, e: cs.UnshapedEnsemble) -> None:
        mean, quantile = e.mean(e.w), e.quantile(e.w, QUANTILES)
        for k, t in enumerate(e.t[1:], start=1):
            lines.append(
                f"| {slope} | {t:g} | {name} | {cells(mean.value[k], mean.standard_error[k])} | "
                f"{cells(quantile.value[k], quantile.standard_error[k])} | {e.failures['total']} of {e.paths} |"
            )

    for slope, sizes in ((0.0, ((200, 3000), (800, 400))), (0.2, ((200, 1500),))):
        mlp = cs.MLP(cs.LeakyReLU(slope), 1.0)
        row(slope, "limit, w₀ = 0", cs.simulate_unshaped(mlp, paths=200_000 // scale, save_at=SAVE, key=33))
        for n, draws in sizes:
            limit = cs.simulate_unshaped(mlp, 0.3, width=n, paths=200_000 // scale, save_at=SAVE, key=34)
            row(slope, f"limit from w₀, n = {n}", limit)
            net = cs.sample_unshaped_networks(mlp, 0.3, width=n, draws=draws // scale, save_at=SAVE, key=35)
            row(slope, f"networks, n = {n}", net)
            chain = cs.first_order_chain(mlp, 0.3, width=n, paths=8192 // scale, save_at=SAVE, key=36)
            row(slope, f"chain, n = {n}", chain)
    return lines


def bracket_section(scale: int) -> list[str]:
    lines = [
        "",
        "Rates over t in [1/4, 1/2], networks: variance of log q (limit 4M/3), of log V (M-1), and their covariation "
        "(-2M/3).",
        "",
        "| n | Var log q | Var log V | Cov |",
        "|---|---|---|---|",
        "| limit | 8 | 5 | -4 |",
    ]
    for n, draws in ((50, 4000), (200, 2000)):
        layers = np.linspace(0, 1, n // 2 + 1)
        mlp = cs.MLP(cs.LeakyReLU(0.0), 0.5)
        e = cs.sample_unshaped_networks(mlp, 0.3, width=n, draws=draws // scale, save_at=layers, key=37)
        dq, dV = (np.diff(x[n // 4 :], axis=0) for x in (e.log_q, e.log_variance))
        dq, dV = (x - x.mean(axis=1, keepdims=True) for x in (dq, dV))
        row = []
        for product in (dq * dq, dV * dV, dq * dV):
            total = product.sum(axis=0) / 0.25
            row.append(f"{total.mean():.3f} ± {total.std() / math.sqrt(total.size):.3f}")
        lines.append(f"| {n} | {' | '.join(row)} |")
    return lines


def section(scale: int) -> list[str]:
    """Markdown lines; scale = 10 takes a tenth of the samples."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", cs.FailedPathsWarning)  # the tables count them
        return [
            *functional_section(400_000 // scale),
            *order_section(200_000 // scale),
            *network_section(scale),
            *bracket_section(scale),
        ]


if __name__ == "__main__":
    import sys

    print("\n".join(section(int(sys.argv[1]) if len(sys.argv) > 1 else 1)))
