"""Correlation of two inputs against depth in plain ReLU networks: networks, their first-order chain, infinite width.

Infinite width first predicts ρ → 1 without noise; the Markov chain of mean and fluctuation per layer follows networks.
Source: Li, Nica, Roy (2022), arXiv 2206.02768, figure 1, unshaped.
"""

import sys

import common
import numpy as np

import covsde as cs

RHO0 = 0.3


def infinite_width(depth: int) -> np.ndarray:
    """1 - ρ_ℓ by ρ ↦ (√(1-ρ²) + ρ(π - arccos ρ))/π, (depth + 1,)."""
    rho = [RHO0]
    for _ in range(depth):
        r = min(rho[-1], 1.0)
        rho.append((np.sqrt(1 - r * r) + r * (np.pi - np.arccos(r))) / np.pi)
    return 1 - np.asarray(rho)


def main(argv: list[str] | None = None) -> int:
    run = common.settings(__file__, __doc__, argv, paths=(2000, 10_000), draws=(500, 4000))
    n = d = run.pick(100, 150)
    mlp = cs.MLP(cs.LeakyReLU(0.0), depth_to_width=1.0)
    save = np.linspace(0, 1, d + 1)
    networks = cs.sample_unshaped_networks(mlp, RHO0, width=n, draws=run.draws, save_at=save, key=common.key(run, 0))
    chain = cs.first_order_chain(mlp, RHO0, width=n, paths=run.paths, save_at=save, key=common.key(run, 1))
    layer, predicted = np.arange(d + 1), infinite_width(d)

    figure, axes = common.panels(1, 2)
    for ax, f in ((axes[0], lambda eps: 1 - eps), (axes[1], lambda eps: eps)):
        ax.plot(layer, f(networks.one_minus_rho[:, :8]), color="0.6", linewidth=0.6)
        ax.plot([], [], color="0.6", linewidth=0.6, label="eight networks")
        common.band(ax, layer, f(chain.one_minus_rho), common.LIMIT, f"first-order chain, n = {n}")
        common.bars(ax, layer, f(networks.one_minus_rho), 0, f"networks, n = {n}")
        ax.plot(layer, f(predicted), color=common.BLACK, linestyle=":", linewidth=2, label="infinite width, no noise")
        ax.set(xlabel=f"layer ℓ  (layer time τ = ℓ/{d})")
    axes[0].set(ylabel="correlation ρ", title="correlations go to 1")
    axes[0].legend()
    axes[1].set(ylabel="1 - ρ", yscale="log", title="the same from 1: not at the predicted rate")
    last = [1 - e.one_minus_rho[-1] for e in (networks, chain)]
    rows = [
        [name, common.mean(np.log(1 - rho[np.isfinite(rho)])), *common.quantiles(1 - rho)]
        for name, rho in zip(("networks", "chain"), last, strict=True)
    ]
    rows.append(["infinite width", np.log(predicted[-1]), predicted[-1], predicted[-1], predicted[-1]])
    return common.write(
        run,
        figure,
        {
            "layer": layer,
            "networks": networks.one_minus_rho[:, :500],
            "chain_quantiles": common.quantiles(chain.one_minus_rho),
            "infinite_width": predicted,
        },
        caption=f"Plain ReLU, n = d = {n}, ρ₀ = {RHO0}. {run.draws} networks ({common.stopped(networks)}), "
        f"{run.paths} chains ({common.stopped(chain)}).",
        columns=("at the last layer", "mean log(1-ρ)", "10%", "median 1-ρ", "90%"),
        rows=rows,
        parameters={"activation": "ReLU", "width": n, "depth": d, "rho0": RHO0},
    )


if __name__ == "__main__":
    sys.exit(main())
