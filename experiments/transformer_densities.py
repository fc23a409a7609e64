"""Law of the correlation of two tokens after several depths of a shaped transformer: networks against the SDE.

Source: Noci et al. (2023), arXiv 2306.17759, densities at several depth-to-width ratios.
"""

import sys

import common
import numpy as np

import covsde as cs

M, GAMMA = 4, 8**-0.5
V0 = 0.8 * np.eye(M) + 0.2
RATIOS = (0.125, 0.25, 0.5, 1.0)


def main(argv: list[str] | None = None) -> int:
    run = common.settings(__file__, __doc__, argv, paths=(4000, 20_000), draws=(1000, 8192))
    n = run.pick(80, 200)
    transformer = cs.Transformer(
        GAMMA, 1.0, mlp=cs.ShapedReLU(0.0, -1.0), depth_to_width=RATIOS[-1], key_size=min(n, 32)
    )
    save = [0.0, *(T / RATIOS[-1] for T in RATIOS)]
    limit = cs.simulate(transformer, V0, paths=run.paths, save_at=save, key=common.key(run, 0))
    networks = cs.sample_networks(transformer, V0, width=n, draws=run.draws, save_at=save, key=common.key(run, 1))

    figure, axes = common.panels(2, 2, height=3.0, sharex=True)
    bins, rows = np.linspace(-1, 1, run.pick(29, 51)), []
    for k, (T, ax) in enumerate(zip(RATIOS, axes.ravel(), strict=True), 1):
        for name, e, style in (
            ("limit (SDE)", limit, {"color": common.LIMIT, "fill": True}),
            (f"networks, n = {n}", networks, {"color": common.COLOURS[0], "linewidth": 1.8}),
        ):
            rho = e.correlation(0, 1)[k]
            common.histogram(ax, rho, bins, **style, label=name)
            rho = rho[np.isfinite(rho)]
            rows.append([T, name, common.mean(rho), float(rho.std()), f"{np.sum(~e.alive[k])} of {e.paths}"])
        ax.set(ylabel="density", title=f"T = depth/width = {T:g}")
    axes[0, 0].legend(loc="upper left")
    for ax in axes[1]:
        ax.set_xlabel("correlation ρ of tokens 0 and 1")
    return common.write(
        run,
        figure,
        {
            "depth_to_width": RATIOS,
            "limit": limit.correlation(0, 1)[1:],
            "networks": networks.correlation(0, 1)[1:],
        },
        caption=f"{M} tokens, ρ₀ = 0.2, γ² = 1/8, τ₀ = 1, shaped MLP with c± = (0, -1). {run.paths} paths "
        f"({common.stopped(limit)} by T = 1; missing from the area), {run.draws} networks "
        f"({common.stopped(networks)}).",
        columns=("T", "law", "mean ρ", "standard deviation", "stopped before"),
        rows=rows,
        parameters={"tokens": M, "gamma": GAMMA, "tau0": 1.0, "width": n, "c_plus": 0.0, "c_minus": -1.0},
    )


if __name__ == "__main__":
    sys.exit(main())
