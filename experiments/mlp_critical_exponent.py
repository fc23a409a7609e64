"""Why slopes are shaped by 1/√n: law of the correlation for slopes 1 ± c/n^p, below, at and above p = 1/2.

Below the critical exponent correlations go to 1 as networks grow; above it the activation disappears and the limit is
the linear network's. Source: Li, Nica, Roy (2022), arXiv 2206.02768, proposition on the critical exponent.
"""

import sys

import common
import numpy as np

import covsde as cs

RHO0, C, T = 0.3, 2.0, 1.0
V0 = np.array([[1.0, RHO0], [RHO0, 1.0]])
EXPONENTS = {0.35: "correlations go to 1", 0.5: "critical: its own SDE", 0.65: "the linear network"}


def main(argv: list[str] | None = None) -> int:
    run = common.settings(__file__, __doc__, argv, paths=None, draws=(700, 4000))
    widths = run.pick((15, 40, 110), (25, 100, 400))
    grid = np.linspace(-0.999, 0.999, 400)
    samples = np.zeros((len(EXPONENTS), len(widths), run.draws))
    laws: dict[float, np.ndarray] = {}
    means = {0.35: 1.0}
    stopped = 0
    for i, p in enumerate(EXPONENTS):
        mlp = cs.MLP(cs.ShapedReLU(C, -C, exponent=p), depth_to_width=T)
        for j, n in enumerate(widths):
            e = cs.sample_networks(mlp, V0, width=n, draws=run.draws, save_at=[0, 1], key=common.key(run, i, n))
            stopped += e.failures["total"]
            samples[i, j] = e.correlation(0, 1)[-1]
        if p >= 0.5:
            law = cs.correlation_law(mlp, RHO0, save_at=[0, 1])
            laws[p], means[p] = law.cdf(grid)[-1], float(law.mean[-1])

    figure, axes = common.panels(2, 2, height=3.1)
    axes = axes.ravel()
    rows = []
    levels = (np.arange(run.draws) + 0.5) / run.draws
    for i, (p, title) in enumerate(EXPONENTS.items()):
        ax = axes[i]
        for j, n in enumerate(widths):
            style = {"color": common.shades(3)[j], "linestyle": (":", "--", "-")[j], "linewidth": 1.8}
            ax.plot(np.sort(samples[i, j]), levels, **style, label=f"networks, n = d = {n}")
            rows.append([p, n, common.mean(samples[i, j]), means[p]])
        if p in laws:
            ax.plot(grid, laws[p], color=common.BLACK, linewidth=1, label="limit, exact")
        else:
            ax.plot([-1, 1, 1], [0, 0, 1], color=common.BLACK, linewidth=1, label="limit: ρ = 1")
        ax.set(xlabel="correlation ρ at τ = 1", title=f"p = {p}: {title}", xlim=(-1, 1.02), ylim=(0, 1.02))
        ax.legend(loc="upper left")
        mean, error = np.transpose([common.mean(x) for x in samples[i]])
        axes[3].errorbar(
            widths,
            mean,
            yerr=2 * error,
            fmt=common.MARKERS[i] + "-",
            color=common.COLOURS[i],
            capsize=2,
            markersize=4,
            label=f"p = {p}",
        )
        axes[3].axhline(means[p], color=common.COLOURS[i], linestyle=":", linewidth=1.5)
    for ax in (axes[0], axes[2]):
        ax.set_ylabel("distribution function")
    axes[3].set(xscale="log", xlabel="width n", ylabel="mean ρ at τ = 1", title="means (±2 s.e.), limits dotted")
    axes[3].set_xticks(widths, [str(n) for n in widths])
    axes[3].minorticks_off()
    axes[3].legend(loc=(0.62, 0.12))
    return common.write(
        run,
        figure,
        {
            "exponents": list(EXPONENTS),
            "widths": widths,
            "rho": samples,
            "grid": grid,
            **{f"limit_cdf_{p}": law for p, law in laws.items()},
        },
        caption=f"ReLU with slopes 1 ± {C:g}/n^p, T = {T:g}, ρ₀ = {RHO0}; {run.draws} networks for each point "
        f"({stopped} stopped). Away from p = 1/2 the approach is slow: at p = 0.65 like n^-0.3.",
        columns=("p", "n", "mean ρ", "limit"),
        rows=rows,
        parameters={"c": C, "depth_to_width": T, "rho0": RHO0, "exponents": list(EXPONENTS), "widths": widths},
    )


if __name__ == "__main__":
    sys.exit(main())
