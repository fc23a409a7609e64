"""The posterior at proportional depth and width: exact integrals, importance weights and filters, and calibration."""

import warnings
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

import covsde as cs
from validation.common import header, pm, row

T, P, NOISE, BINS = 0.5, 8, 0.05, 10
LINEAR, RELU = cs.Identity(), cs.ShapedReLU(0.0, -1.0)
STATISTICS = ("test output", "output of input 0", "log det V", "V of the test input")


class Data(NamedTuple):
    """A data set drawn from the prior: the last covariance, outputs without noise, and targets of the first P."""

    V: np.ndarray
    f: np.ndarray
    y: np.ndarray


def inputs(observed: int, seed: int = 7) -> np.ndarray:
    """The Gram matrix of so many observed Gaussian inputs and one test input, in 20 dimensions."""
    return cs.gram(np.random.default_rng(seed).normal(size=(observed + 1, 20)))


def data_sets(ensemble: cs.Ensemble, observed: int, noise: float, seed: int) -> Iterator[Data]:
    """One data set per path of the prior that did not stop."""
    rng = np.random.default_rng(seed)
    for V in ensemble.V[-1, ensemble.alive[-1]]:
        values, vectors = np.linalg.eigh(V)
        f = vectors @ (np.sqrt(np.maximum(values, 0)) * rng.normal(size=values.size))
        yield Data(V, f, f[:observed] + np.sqrt(noise) * rng.normal(size=observed))


def ranks(p: cs.Posterior, data: Data, noise: float) -> list[float]:
    """The posterior distribution functions of STATISTICS at the true values: uniform if the posterior is right."""
    V, count = p.V, data.y.size
    C = V[:, :count, :count] + noise * np.eye(count)
    B = np.linalg.solve(C, V[:, :count])
    variance = np.diagonal(V, axis1=1, axis2=2) - np.einsum("pki,pki->pi", V[:, :count], B)
    z = (data.f - np.einsum("pki,k->pi", B, data.y)) / np.sqrt(np.maximum(variance, 1e-12))

    def log_det(V: np.ndarray) -> np.ndarray:
        return np.linalg.slogdet(V[..., :count, :count])[1]

    below = (stats.norm.cdf(z[:, -1]), stats.norm.cdf(z[:, 0]), log_det(V) < log_det(data.V))
    return [float(p.weights @ x) for x in (*below, V[:, -1, -1] < data.V[-1, -1])]


def calibration(
    mlp: cs.MLP, V0: np.ndarray, ensemble: cs.Ensemble, *, paths: int, seed: int, noise: float = NOISE
) -> tuple[np.ndarray, np.ndarray]:
    """Ranks (data sets, statistics) of truths in posteriors of the limit, and their effective sample sizes."""
    found, sizes = [], []
    with warnings.catch_warnings():
        # Part of what is tested: also a posterior of few paths has a rank.
        warnings.simplefilter("ignore", cs.EffectiveSampleSizeWarning)
        for k, data in enumerate(data_sets(ensemble, V0.shape[0] - 1, noise, seed)):
            p = cs.sequential_posterior(mlp, V0, data.y, noise, paths=paths, key=1000 * seed + k)
            found.append(ranks(p, data, noise))
            sizes.append(p.effective_sample_size)
    return np.asarray(found), np.asarray(sizes)


def flatness(u: np.ndarray) -> tuple[np.ndarray, float]:
    """Histogram of ranks in BINS, and the p-value of Kolmogorov's test of uniformity."""
    return np.histogram(u, np.linspace(0, 1, BINS + 1))[0], float(stats.kstest(u, "uniform").pvalue)


def exact_section(scale: int) -> list[str]:
    rng = np.random.default_rng(3)
    V0 = inputs(3)[:4, :4]
    y = rng.normal(size=3)
    lines = [
        "## Posterior of deep linear networks in one integral",
        "",
        f"T = {T}, four inputs, three of them observed without noise; or one observed twice with σ² = 0.1. z-scores of "
        "importance weights over the limit and over networks of width 12 against `linear_posterior`: of the log "
        "evidence, and the largest one of the predictive mean and of the kernel.",
        "",
        *header("case", "log evidence", "exact", "z", "worst of mean", "worst of kernel", "effective sample"),
    ]
    twice = V0[np.ix_([0, 0, 1, 2], [0, 0, 1, 2])]
    for name, V, noise, targets in (("no noise", V0, 0.0, y), ("one input twice", twice, 0.1, y[:2])):
        for width in (None, 12):
            mlp = cs.MLP(LINEAR, T)
            exact = cs.linear_posterior(mlp, V, targets, noise, width=width)
            save = [0.0, 1.0]
            if width is None:
                e = cs.simulate(mlp, V, paths=400_000 // scale, steps=60, save_at=save, key=44)
            else:
                e = cs.sample_networks(mlp, V, width=width, draws=400_000 // scale, save_at=save, key=45)
            # posterior() takes no zero noise: this much moves the log evidence by less than a thousandth.
            p = cs.posterior(e, targets, max(noise, 1e-7))
            z = [
                (found.value - value) / np.maximum(found.standard_error, 1e-5)
                for found, value in zip(
                    (p.log_evidence, p.predictive_mean, p.kernel),
                    (exact.log_evidence, exact.predictive_mean, exact.kernel),
                    strict=True,
                )
            ]
            where = f"{name}, {'limit' if width is None else f'width {width}'}"
            worst = [f"{x.flat[np.argmax(np.abs(x))]:+.1f}" for x in z]
            value = pm(float(p.log_evidence.value), float(p.log_evidence.standard_error))
            lines.append(row([where, value, f"{exact.log_evidence:.4f}", *worst, f"{p.effective_sample_size:.0f}"]))
    return lines


def sizes_section(scale: int) -> list[str]:
    lines = [
        "## Posterior: importance weights against filters",
        "",
        "Effective sample of 4,000 paths of the prior (`posterior`) and of 4,000 particles (`sequential_posterior`): "
        "median over data sets drawn from the prior at T = 1, σ² = 0.05. Families: particles of the first stage that "
        "the filter's weights descend from, a pessimistic count. Spread: standard error of the log evidence.",
        "",
        *header(
            "network", "P", "effective, weights", "effective, filter", "families", "spread, weights", "spread, filter"
        ),
    ]
    count = max(3, 20 // scale)
    for name, activation in (("linear", LINEAR), ("ReLU (0, -1)", RELU)):
        for observed in (2, 4, 8, 10):
            mlp, V0 = cs.MLP(activation, 1.0), inputs(observed)
            prior = cs.simulate(mlp, V0, paths=4000, save_at=[0.0, 1.0], key=46)
            some = cs.simulate(mlp, V0, paths=count, save_at=[0.0, 1.0], key=47)
            numbers = []
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", cs.EffectiveSampleSizeWarning)
                for k, data in enumerate(data_sets(some, observed, NOISE, 48)):
                    plain = cs.posterior(prior, data.y, NOISE)
                    p = cs.sequential_posterior(mlp, V0, data.y, NOISE, key=k)
                    spread = [float(x.log_evidence.standard_error) for x in (plain, p)]
                    numbers.append([plain.effective_sample_size, p.effective_sample_size, p.families, *spread])
            middle = np.median(numbers, axis=0)
            shown = [*(f"{x:.1f}" if x < 100 else f"{x:.0f}" for x in middle[:3]), *(f"{x:.3f}" for x in middle[3:])]
            lines.append(row([name, observed, *shown]))
    return lines


def sources(mlp: cs.MLP, V0: np.ndarray, count: int, widths: Sequence[int]) -> dict[str, cs.Ensemble]:
    """Priors to draw data from: the limit, and networks."""
    save = [0.0, 1.0]
    found = {"limit": cs.simulate(mlp, V0, paths=count, steps=64, save_at=save, key=49)}
    for n in widths:
        found[f"networks, n = {n}"] = cs.sample_networks(mlp, V0, width=n, draws=count, save_at=save, key=50)
    return found


def calibration_section(scale: int) -> list[str]:
    count = 400 // scale
    low, high = stats.binom.ppf([0.005, 0.995], count, 1 / BINS)
    lines = [
        "## Posterior: simulation-based calibration",
        "",
        f"{count} data sets of P = {P} inputs with σ² = {NOISE}, drawn from the limit or from exact finite networks at "
        f"T = {T}; the rank of the truth in the limit's posterior (`sequential_posterior`, 1,000 particles). A right "
        f"posterior has flat histograms: each count lies in {low:.0f} to {high:.0f} with probability 0.99. p: "
        "Kolmogorov's test.",
        "",
        *header("network", "data from", "rank of", "counts in tenths", "p", "effective sample, 10% and median"),
    ]
    V0 = inputs(P)
    for name, activation in (("linear", LINEAR), ("ReLU (0, -1)", RELU)):
        mlp = cs.MLP(activation, T)
        for source, ensemble in sources(mlp, V0, count, (100, 400)).items():
            u, sizes = calibration(mlp, V0, ensemble, paths=1000, seed=51)
            size = " / ".join(f"{x:.0f}" for x in np.quantile(sizes, [0.1, 0.5]))
            for k, statistic in enumerate(STATISTICS):
                counts, p = flatness(u[:, k])
                shown = [name, source, statistic, " ".join(map(str, counts)), f"{p:.2f}", size]
                lines.append(row(shown))
    return lines


def section(scale: int) -> list[str]:
    """Markdown lines; scale = 10 takes a tenth of the samples."""
    return [*exact_section(scale), "", *sizes_section(scale), "", *calibration_section(scale)]


if __name__ == "__main__":
    import sys

    print("\n".join(section(int(sys.argv[1]) if len(sys.argv) > 1 else 1)))
