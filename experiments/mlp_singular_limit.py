"""Plain ReLU networks at large depth: q = ℓ²(1-ρ) against its singular SDE, in time t = ℓ/n.

The limit forgets the inputs: q starts at 9π²/2 whatever ρ₀ was. Networks approach it slowly, at rate log(n)/n; most of
the difference is where they start, which the limit can be given. Source: Li, Nica (2023), arXiv 2310.12079.
"""

import math
import sys

import common
import numpy as np

import covsde as cs

RHO0, TIMES = 0.3, (0.25, 0.5, 1.0)


def main(argv: list[str] | None = None) -> int:
    run = common.settings(__file__, __doc__, argv, paths=(20_000, 100_000), draws=(400, 4000))
    widths = run.pick((50, 200), (200, 800))
    mlp = cs.MLP(cs.LeakyReLU(0.0), depth_to_width=1.0)
    save = np.linspace(0, 1, 41)
    limit = cs.simulate_unshaped(mlp, paths=run.paths, save_at=save, key=common.key(run, 0))
    networks = {
        n: cs.sample_unshaped_networks(mlp, RHO0, width=n, draws=run.draws, save_at=save, key=common.key(run, 1, n))
        for n in widths
    }
    started = {
        n: cs.simulate_unshaped(mlp, RHO0, width=n, paths=run.paths, save_at=save, key=common.key(run, 2, n))
        for n in widths
    }

    figure, axes = common.panels(2, 2, height=3.2)
    axes, rows = axes.ravel(), []
    common.band(axes[0], limit.t, limit.log_q, common.LIMIT, "limit, from 9π²/2")
    for j, (n, e) in enumerate(networks.items()):
        later = np.arange(1, e.tau.size)
        common.bars(axes[0], e.t[later], e.log_q[later], j, f"networks, n = {n}", shift=0.008 * j, most=10)
        median = common.quantiles(started[n].log_q[1:], [0.5])[0]
        axes[0].plot(
            started[n].t[1:], median, color=common.COLOURS[j], linestyle="--", label=f"limit from ρ₀, n = {n}, median"
        )
    axes[0].axhline(math.log(4.5 * math.pi**2), color=common.BLACK, linestyle=":", linewidth=1)
    axes[0].set(xlabel="t = ℓ/n  (T = 1: layer time τ)", ylabel="log q", title="log q over time", ylim=(-5.5, 6.5))
    axes[0].legend(loc="lower left", fontsize=7)
    for ax, t in zip(axes[1:], TIMES, strict=True):
        k = int(np.argmin(np.abs(limit.t - t)))
        low, high = np.quantile(limit.log_q[k], [0.001, 0.999])
        bins = np.linspace(low - 0.7, high + 0.7, run.pick(31, 51))
        common.histogram(ax, limit.log_q[k], bins, color=common.LIMIT, fill=True, label="limit, from 9π²/2")
        rows.append([t, "limit", common.mean(limit.w[k]), *common.quantiles(limit.q[k])])
        for j, (n, e) in enumerate(networks.items()):
            i = int(np.argmin(np.abs(e.t - t)))
            style = {"color": common.COLOURS[j], "linestyle": ("--", "-")[j]}
            common.histogram(ax, e.log_q[i], bins, **style, label=f"networks, n = {n}")
            for what, x, at in (("networks", e, i), (f"limit from ρ₀ = {RHO0},", started[n], k)):
                w = x.w[at][np.isfinite(x.w[at])]
                rows.append([t, f"{what} n = {n}", common.mean(w), *common.quantiles(x.q[at])])
        ax.set(xlabel=f"log q at t = {t:g}", ylabel="density", title=f"t = {t:g}")
    axes[1].legend(loc="upper left", fontsize=7)
    return common.write(
        run,
        figure,
        {
            "t": limit.t,
            "limit_quantiles": common.quantiles(limit.log_q),
            **{f"networks_w_{n}": e.w for n, e in networks.items()},
            **{f"networks_t_{n}": e.t for n, e in networks.items()},
            **{f"started_quantiles_{n}": common.quantiles(e.log_q) for n, e in started.items()},
        },
        caption=f"Plain ReLU, ρ₀ = {RHO0}, d = n. {run.paths} paths ({common.stopped(limit, *started.values())}), "
        f"{run.draws} networks of each width ({common.stopped(*networks.values())}); networks have a dead layer or "
        "parallel inputs with a probability that falls exponentially in n.",
        columns=("t", "law", "mean w = t/√q", "q: 10%", "median", "90%"),
        rows=rows,
        parameters={"activation": "ReLU", "rho0": RHO0, "widths": widths, "depth_to_width": 1.0},
    )


if __name__ == "__main__":
    sys.exit(main())
