"""Law of the correlation in plain ReLU networks, early and at the last layer: networks against the first-order chain.

Source: Li, Nica, Roy (2022), arXiv 2206.02768, figure 1, unshaped; the limit of q = ℓ²(1-ρ): Li, Nica (2023),
arXiv 2310.12079.
"""

import sys

import common
import numpy as np
from mlp_unshaped_paths import RHO0, infinite_width

import covsde as cs


def main(argv: list[str] | None = None) -> int:
    run = common.settings(__file__, __doc__, argv, paths=(20_000, 100_000), draws=(2000, 8192))
    n = d = run.pick(100, 150)
    mlp, early = cs.MLP(cs.LeakyReLU(0.0), depth_to_width=1.0), 10
    save = [early / d, 1.0]
    networks = cs.sample_unshaped_networks(mlp, RHO0, width=n, draws=run.draws, save_at=save, key=common.key(run, 0))
    chain = cs.first_order_chain(mlp, RHO0, width=n, paths=run.paths, save_at=save, key=common.key(run, 1))
    limit = cs.simulate_unshaped(mlp, RHO0, width=n, paths=run.paths, save_at=save, key=common.key(run, 2))
    predicted = infinite_width(d)

    figure, axes = common.panels(1, 2)
    rows = []
    for ax, k, layer in ((axes[0], 1, early), (axes[1], 2, d)):
        samples = [np.log10(e.one_minus_rho[k]) for e in (networks, chain, limit)]
        x = samples[0][np.isfinite(samples[0])]
        low, high = np.quantile(x, [0.001, 0.999])
        bins = np.linspace(low - 0.1, high + 0.1, run.pick(31, 46))
        common.histogram(ax, samples[1], bins, color=common.LIMIT, fill=True, label="first-order chain")
        common.histogram(ax, samples[2], bins, color=common.COLOURS[1], linestyle="--", label="limit of q, from w₀")
        common.histogram(ax, samples[0], bins, color=common.COLOURS[0], linewidth=2, label="networks")
        ax.axvline(
            np.log10(predicted[layer]), color=common.BLACK, linestyle=":", linewidth=2, label="infinite width, no noise"
        )
        ax.set(xlabel="log₁₀(1 - ρ)", ylabel="density", title=f"layer {layer}  (τ = {layer / d:.2g})")
        for name, y in zip(("networks", "chain", "limit of q"), samples, strict=True):
            rows.append([layer, name, common.mean(y[np.isfinite(y)]), float(np.std(y[np.isfinite(y)]))])
        rows.append([layer, "infinite width", np.log10(predicted[layer]), 0.0])
    axes[0].legend()
    return common.write(
        run,
        figure,
        {
            "networks": networks.one_minus_rho,
            "chain": chain.one_minus_rho[:, :20_000],
            "limit": limit.one_minus_rho[:, :20_000],
            "layers": [0, early, d],
            "infinite_width": predicted,
        },
        caption=f"Plain ReLU, n = d = {n}, ρ₀ = {RHO0}; {run.draws} networks ({common.stopped(networks)}), "
        f"{run.paths} chains ({common.stopped(chain)}), {run.paths} paths of the singular SDE of ℓ²(1-ρ), "
        f"started from the finite width ({common.stopped(limit)}), which is of use after many layers only.",
        columns=("layer", "law", "mean log₁₀(1-ρ)", "standard deviation"),
        rows=rows,
        parameters={"activation": "ReLU", "width": n, "depth": d, "rho0": RHO0},
    )


if __name__ == "__main__":
    sys.exit(main())
