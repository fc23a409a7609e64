"""Correlation of two inputs over layer time in shaped ReLU networks: networks, the covariance SDE, infinite width.

Source: Li, Nica, Roy (2022), arXiv 2206.02768, figure 1, shaped; theorem on the correlation.
"""

import sys

import common
import numpy as np

import covsde as cs

RHO0, C_PLUS, C_MINUS, T = 0.3, 0.0, -1.0, 1.0
V0 = np.array([[1.0, RHO0], [RHO0, 1.0]])


def shaped() -> cs.MLP:
    """The shaped ReLU network of the figure."""
    return cs.MLP(cs.ShapedReLU(C_PLUS, C_MINUS), depth_to_width=T)


def infinite_width(n: int, depth: int) -> np.ndarray:
    """ρ_ℓ by the exact mean of a layer of slopes 1 + c±/√n, without noise, (depth + 1,)."""
    plus, minus = 1 + C_PLUS / n**0.5, 1 + C_MINUS / n**0.5
    bend = (plus - minus) ** 2 / (np.pi * (plus**2 + minus**2))
    rho = [RHO0]
    for _ in range(depth):
        r = rho[-1]
        rho.append(r + bend * (np.sqrt(1 - r * r) - r * np.arccos(r)))
    return np.asarray(rho)


def main(argv: list[str] | None = None) -> int:
    run = common.settings(__file__, __doc__, argv, paths=(4000, 20_000), draws=(500, 4000))
    n = d = run.pick(100, 150)
    save = np.linspace(0, 1, 51)
    limit = cs.simulate(shaped(), V0, paths=run.paths, save_at=save, key=common.key(run, 0))
    networks = cs.sample_networks(shaped(), V0, width=n, draws=run.draws, save_at=save, key=common.key(run, 1))
    predicted = infinite_width(n, d)
    rho = {"limit": limit.correlation(0, 1), "networks": networks.correlation(0, 1)}

    figure, axes = common.panels(1, 2, sharey=True)
    for tau, name, colour in ((networks.tau, "networks", common.COLOURS[0]), (limit.tau, "limit", common.LIMIT)):
        style, what = ("--", "networks") if name == "networks" else ("-", "paths of the limit (SDE)")
        axes[0].plot(tau, rho[name][:, :7], color=colour, linewidth=0.8, linestyle=style)
        axes[0].plot([], [], color=colour, linewidth=0.8, linestyle=style, label=f"seven {what}")
    common.band(axes[1], limit.tau, rho["limit"], common.LIMIT, "limit (SDE)")
    common.bars(axes[1], networks.tau, rho["networks"], 0, f"networks, n = {n}")
    for ax in axes:
        line = {"color": common.BLACK, "linestyle": ":", "linewidth": 2}
        ax.plot(np.arange(d + 1) / d, predicted, **line, label="infinite width, no noise")
        ax.set(xlabel="layer time  τ = ℓ/d", ylim=(-1, 1.02))
        ax.legend(loc="lower left")
    axes[0].set(ylabel="correlation ρ", title="sample paths")
    axes[1].set_title("laws")
    k = [np.argmin(np.abs(networks.tau - t)) for t in (0.25, 0.5, 1.0)]
    rows = []
    for i in k:
        j = np.argmin(np.abs(limit.tau - networks.tau[i]))
        for name, x in (("networks", rho["networks"][i]), ("limit", rho["limit"][j])):
            rows.append([f"{networks.tau[i]:.2f}", name, common.mean(x), common.mean(x**2), *common.quantiles(x)])
        rows.append(
            [f"{networks.tau[i]:.2f}", "infinite width", *[predicted[round(networks.tau[i] * d)]] * 2, "", "", ""]
        )
        rows[-1][3] = rows[-1][2] ** 2
    return common.write(
        run,
        figure,
        {
            "limit_tau": limit.tau,
            "limit_quantiles": common.quantiles(rho["limit"]),
            "network_tau": networks.tau,
            "networks": rho["networks"][:, :500],
            "infinite_width": predicted,
        },
        caption=f"Shaped ReLU, c± = ({C_PLUS:g}, {C_MINUS:g}), T = {T:g}, ρ₀ = {RHO0}. {run.paths} paths "
        f"({common.stopped(limit)}), {run.draws} networks with n = d = {n} ({common.stopped(networks)}).",
        columns=("τ", "law", "mean ρ", "mean ρ²", "10%", "median", "90%"),
        rows=rows,
        parameters={"c_plus": C_PLUS, "c_minus": C_MINUS, "depth_to_width": T, "width": n, "depth": d, "rho0": RHO0},
    )


if __name__ == "__main__":
    sys.exit(main())
