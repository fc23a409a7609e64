"""Law of the correlation in shaped ReLU networks at three depths: networks, the SDE's exact law, infinite width.

The law of the SDE comes from its Fokker-Planck equation, without Monte Carlo. Source: Li, Nica, Roy (2022),
arXiv 2206.02768, figure 1, shaped.
"""

import sys

import common
import numpy as np
from mlp_shaped_paths import C_MINUS, C_PLUS, RHO0, V0, T, infinite_width, shaped

import covsde as cs


def main(argv: list[str] | None = None) -> int:
    run = common.settings(__file__, __doc__, argv, paths=(8192, 100_000), draws=(2000, 8192))
    n = d = run.pick(100, 150)
    save = [0.0, 0.2, 0.5, 1.0]
    law = cs.correlation_law(shaped(), RHO0, save_at=save)
    limit = cs.simulate(shaped(), V0, paths=run.paths, save_at=save, key=common.key(run, 0))
    networks = cs.sample_networks(shaped(), V0, width=n, draws=run.draws, save_at=save, key=common.key(run, 1))
    predicted = infinite_width(n, d)
    rho = np.linspace(-0.999, 0.999, 800)
    density = law.density(rho)

    figure, axes = common.panels(1, 3, width=4.0)
    bins, rows = np.linspace(-1, 1, run.pick(41, 61)), []
    for k, ax in enumerate(axes, 1):
        found = networks.correlation(0, 1)[k]
        common.histogram(ax, limit.correlation(0, 1)[k], bins, color=common.LIMIT, fill=True, label="SDE, sampled")
        common.histogram(ax, found, bins, color=common.COLOURS[0], linewidth=1.8, label=f"networks, n = {n}")
        ax.plot(rho, density[k], color=common.BLACK, linewidth=1.2, label="SDE, exact law")
        point = predicted[round(save[k] * d)]
        ax.axvline(point, color=common.BLACK, linestyle=":", linewidth=2, label="infinite width, no noise")
        ax.set(xlabel="correlation ρ", title=f"τ = {save[k]:g}", xlim=(-1, 1), ylim=(0, None))
        ax.set_ylim(top=1.15 * min(density[k].max(), 6 * np.median(density[k])))
        rows.append([save[k], "networks", common.mean(found), common.mean(found**2)])
        sampled = limit.correlation(0, 1)[k]
        rows.append([save[k], "SDE, sampled", common.mean(sampled), common.mean(sampled**2)])
        rows.append([save[k], "SDE, exact", float(law.mean[k]), float(law.second_moment[k])])
        rows.append([save[k], "infinite width", float(point), float(point**2)])
    axes[0].set_ylabel("density")
    axes[0].legend(loc="upper left")
    return common.write(
        run,
        figure,
        {
            "tau": save,
            "rho": rho,
            "density": density,
            "limit": limit.correlation(0, 1)[:, :20_000],
            "networks": networks.correlation(0, 1),
            "infinite_width": predicted,
        },
        caption=f"Shaped ReLU, c± = ({C_PLUS:g}, {C_MINUS:g}), T = {T:g}, ρ₀ = {RHO0}. {run.paths} paths "
        f"({common.stopped(limit)}), {run.draws} networks with n = d = {n} ({common.stopped(networks)}).",
        columns=("τ", "law", "mean ρ", "mean ρ²"),
        rows=rows,
        parameters={"c_plus": C_PLUS, "c_minus": C_MINUS, "depth_to_width": T, "width": n, "depth": d, "rho0": RHO0},
    )


if __name__ == "__main__":
    sys.exit(main())
