"""Why branches are scaled by 1/√L: variance and correlation at the last layer for branches β/L^α, against depth.

Below α = 1/2 variances grow without bound, above it nothing happens at initialization, and at 1/2 both have a limit.
Sources: Yang, Yu, Zhu, Hayou (2023), arXiv 2310.02244; Bordelon et al. (2023), arXiv 2309.16620.
"""

import sys

import common
import jax
import numpy as np

import covsde as cs

RHO0, BETA, N = 0.3, 1.0, 128
V0 = np.array([[1.0, RHO0], [RHO0, 1.0]])
EXPONENTS = {0.25: "∞", 0.5: None, 0.75: "H₀", 1.0: "H₀"}


def main(argv: list[str] | None = None) -> int:
    run = common.settings(__file__, __doc__, argv, paths=None, draws=(1000, 4000))
    finite = run.pick((32,), (4, 16, 64))
    depths = run.pick((1, 4, 16, 32, 64, 256), (1, 2, 4, 8, 16, 32, 64, 128, 256))
    figure, axes = common.panels(1, 2)
    ensembles = []
    data, rows = {"depths": depths, "exponents": list(EXPONENTS)}, []
    for k, alpha in enumerate(EXPONENTS):
        resnet = cs.ResNet(jax.nn.relu, BETA, cs.PreActivation(alpha))
        H = np.stack([cs.kernels(resnet, V0, depth=L).H[-1] for L in depths])
        rho = H[:, 0, 1] / H[:, 0, 0]
        data[f"H_{alpha}"] = H
        style = {"color": common.COLOURS[k], "linestyle": ("--", "-", "-.", ":")[k], "linewidth": 1.8}
        axes[0].plot(depths, H[:, 0, 0], **style, label=f"α = {alpha:g}")
        axes[1].plot(depths, rho, **style)
        if alpha >= 0.5:
            limit = cs.kernels(resnet, V0).H[-1]
            text = f"{limit[0, 0]:.4f}, {limit[0, 1] / limit[0, 0]:.4f}"
        else:
            text = "∞, 1"
        found = []
        for L in finite:
            e = cs.sample_networks(
                resnet, V0, width=N, depth=L, draws=run.draws, save_at=[0, 1], key=common.key(run, k, L)
            )
            ensembles.append(e)
            pair = common.mean(e.V[-1, :, 0, 0]), common.mean(e.correlation(0, 1)[-1])
            for ax, (value, error) in zip(axes, pair, strict=True):
                ax.errorbar(
                    [L],
                    value,
                    yerr=2 * error,
                    fmt=common.MARKERS[k],
                    color=common.COLOURS[k],
                    capsize=2,
                    markersize=4.5,
                )
            found += pair
            data[f"networks_{alpha}_{L}"] = e.V[-1]
        at = [depths.index(L) for L in finite if L in depths]
        rows.append([alpha, *(f"{H[i, 0, 0]:.4f}, {rho[i]:.4f}" for i in at), *found, text])
    axes[0].set(xscale="log", yscale="log", xlabel="depth L", ylabel="variance H₀₀(1)", title="variance, from 1")
    axes[1].set(xscale="log", xlabel="depth L", ylabel="correlation ρ(1)", title=f"correlation, from {RHO0}")
    axes[0].legend()
    for ax in axes:
        ax.set_xticks((1, 4, 16, 64, 256), ("1", "4", "16", "64", "256"))
        ax.minorticks_off()
    axes[0].set_yticks((1, 2, 5, 10, 100, 1000), ("1", "2", "5", "10", "100", "1000"))
    both = [f"L = {L}" for L in finite if L in depths]
    return common.write(
        run,
        figure,
        data,
        caption=f"ReLU ResNets with branches β L^-α, β = {BETA:g}. Lines: exact recursion at infinite width. Points: "
        f"mean of {run.draws} networks of width {N} (±2 s.e.; {common.stopped(*ensembles)}). At "
        f"α = 1/2 the variance tends to e^(β²/2) = {np.exp(BETA**2 / 2):.4f}.",
        columns=("α", *both, *(f"{what}, networks L = {L}" for L in finite for what in ("H₀₀", "ρ")), "L = ∞"),
        rows=rows,
        parameters={"beta": BETA, "width": N, "rho0": RHO0, "exponents": list(EXPONENTS)},
    )


if __name__ == "__main__":
    sys.exit(main())
