"""A ResNet and the shaped MLP of the same correlation ODE: the drift is the same, only the MLP is noisy.

A pre-activation ReLU ResNet with branches β/√d and an MLP with slopes 1 ± c/√d, (c₊ - c₋)² = β², share
dρ/dτ = (β²/2π)(√(1-ρ²) - ρ arccos ρ); the MLP's noise has size √(d/n). Source: Li, Nica (2023), arXiv 2310.12079.
"""

import sys

import common
import jax
import numpy as np

import covsde as cs

RHO0, BETA = 0.3, 2.0
V0 = np.array([[1.0, RHO0], [RHO0, 1.0]])


def main(argv: list[str] | None = None) -> int:
    run = common.settings(__file__, __doc__, argv, paths=(4000, 40_000), draws=(1000, 4000))
    n = d = run.pick(64, 200)
    save = np.linspace(0, 1, 11)
    resnet = cs.ResNet(jax.nn.relu, BETA)
    ode = cs.simulate(resnet, V0, save_at=np.linspace(0, 1, 51))
    residual = cs.sample_networks(resnet, V0, width=n, depth=d, draws=run.draws, save_at=save, key=common.key(run, 0))
    ratios = (0.02, 0.1, 0.5)
    mlps = {T: cs.matching_mlp(resnet, T) for T in ratios}
    limits = {
        T: cs.simulate(mlp, V0, paths=run.paths, save_at=save, steps=40, key=common.key(run, 1, k))
        for k, (T, mlp) in enumerate(mlps.items())
    }
    depth = run.pick(20, 40)
    networks = {
        T: cs.sample_networks(
            mlps[T], V0, width=round(depth / T), depth=depth, draws=run.draws, save_at=save, key=common.key(run, 2, k)
        )
        for k, T in enumerate(ratios)
        if T > 0.05
    }
    line = ode.correlation(0, 1)[:, 0]

    figure, axes = common.panels(1, 3, width=4.2)
    for ax, T in ((axes[0], None), (axes[1], 0.02), (axes[2], 0.5)):
        ax.plot(ode.tau, line, color=common.BLACK, linewidth=2, label="ODE")
        if T is None:
            common.bars(ax, residual.tau, residual.correlation(0, 1), 0, f"ResNets, n = d = {n}")
            ax.set_title("ResNet")
        else:
            common.band(ax, save, limits[T].correlation(0, 1), common.LIMIT, "shaped MLP, SDE", linestyle="--")
            if T in networks:
                e = networks[T]
                label = f"shaped MLPs, n = {round(depth / T)}"
                common.bars(ax, e.tau, e.correlation(0, 1), 1, label)
            ax.set_title(f"shaped MLP, d/n = {T:g}")
        ax.set(xlabel="layer time  τ = ℓ/d", ylim=(-0.6, 1.0))
        ax.legend(loc="lower right")
    axes[0].set_ylabel("correlation ρ")
    rows = [["ODE", float(line[-1]), 0.0]]
    for name, e in (
        (f"ResNets, n = d = {n}", residual),
        *((f"shaped MLP, d/n = {T:g}, SDE", e) for T, e in limits.items()),
        *((f"shaped MLPs, d/n = {T:g}, d = {depth}", e) for T, e in networks.items()),
    ):
        rho = e.correlation(0, 1)[-1]
        rows.append([name, common.mean(rho), float(rho.std())])
    return common.write(
        run,
        figure,
        {
            "tau": ode.tau,
            "ode": line,
            "save": save,
            "resnets": residual.correlation(0, 1),
            **{f"sde_quantiles_{T}": common.quantiles(e.correlation(0, 1)) for T, e in limits.items()},
            **{f"mlps_{T}": e.correlation(0, 1) for T, e in networks.items()},
        },
        caption=f"ReLU, β = {BETA:g}, ρ₀ = {RHO0}; {run.paths} paths ({common.stopped(*limits.values())}), {run.draws} "
        f"networks of each kind ({common.stopped(residual, *networks.values())}). At τ = 0 ResNets have "
        "the spread of their input layer.",
        columns=("law at τ = 1", "mean ρ", "standard deviation"),
        rows=rows,
        parameters={"beta": BETA, "rho0": RHO0, "width": n, "depth": d, "depth_to_width": ratios},
    )


if __name__ == "__main__":
    sys.exit(main())
