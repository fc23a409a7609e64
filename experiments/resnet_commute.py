"""Width and depth of a ResNet commute: distance to one ODE over both axes, and what narrow deep networks do instead.

Sources: Hayou and Yang (2023), arXiv 2302.00453; Hayou (2022), arXiv 2210.00688.
"""

import math
import sys

import common
import jax
import numpy as np
from matplotlib.ticker import NullLocator

import covsde as cs

V0 = np.array([[1.0, 0.3], [0.3, 1.0]])
BETA = math.sqrt(2)


def main(argv: list[str] | None = None) -> int:
    run = common.settings(__file__, __doc__, argv, paths=(4000, 20_000), draws=(2000, 4000))
    widths, depths = run.pick(([16, 45, 128], [2, 8, 32]), ([8, 16, 32, 64, 128, 256], [2, 4, 8, 16, 32, 64]))
    resnet = cs.ResNet(jax.nn.relu, BETA)
    limit = cs.kernels(resnet, V0).H[-1, 0, 1]
    ensembles = []
    gaps = np.zeros((len(widths), len(depths), run.draws))
    for i, n in enumerate(widths):
        for j, L in enumerate(depths):
            e = cs.sample_networks(
                resnet, V0, width=n, depth=L, draws=run.draws, save_at=[0, 1], key=common.key(run, n, L), progress=False
            )
            ensembles.append(e)
            gaps[i, j] = e.V[-1, :, 0, 1] - limit
    rms, bias, error = np.sqrt(np.mean(gaps**2, 2)), gaps.mean(2), gaps.std(2, ddof=1) / math.sqrt(run.draws)
    recursion = np.array([cs.kernels(resnet, V0, depth=L).H[-1, 0, 1] - limit for L in depths])
    in_width = np.polyfit(np.log(widths), np.log(rms[:, -1]), 1)[0]
    in_depth = np.polyfit(np.log(depths[1:]), np.log(np.abs(recursion[1:])), 1)[0]
    streams = cs.simulate_streams(
        cs.ResNet(jax.nn.relu), [1.0], paths=run.paths, steps=200, key=common.key(run, 0), save_at=[0.0, 1.0]
    )
    alone = streams.X[-1, :, 0, 0]
    logs = np.log(np.where(alone > 0, alone, np.nan))

    figure, axes = common.panels(1, 3, width=4.2)
    shown = np.unique(np.linspace(0, len(depths) - 1, 4).round().astype(int))
    for k, j in enumerate(shown):
        axes[0].loglog(widths, rms[:, j], common.MARKERS[k] + "-", color=common.COLOURS[k], label=f"L = {depths[j]}")
    axes[0].loglog(widths, rms[0, -1] * np.sqrt(widths[0] / np.array(widths)), "k:", label="n$^{-1/2}$")
    axes[0].set(xlabel="width n", ylabel="root mean square distance", title=f"fluctuations: slope {in_width:.2f} in n")
    for k, i in enumerate(np.unique(np.linspace(0, len(widths) - 1, 3).round().astype(int))):
        axes[1].errorbar(
            np.array(depths) * 1.06**k,
            bias[i],
            yerr=2 * error[i],
            fmt=common.MARKERS[k],
            color=common.COLOURS[k],
            markersize=4,
            capsize=2,
            label=f"n = {widths[i]}",
        )
    axes[1].plot(depths, recursion, "k-", label="n = ∞, exact recursion")
    axes[1].axhline(0, color=common.BLACK, linewidth=0.8)
    axes[1].set(
        xscale="log", xlabel="depth L", ylabel="mean distance", title=f"bias: slope {in_depth:.2f} in L, at any width"
    )
    grid = np.linspace(-4.5, 3.5, 200)
    normal = np.exp(-((grid + 0.5) ** 2) / 2) / math.sqrt(2 * math.pi)
    common.histogram(axes[2], logs, np.linspace(-4.5, 3.5, 41), color=common.LIMIT, fill=True, label="n = 1, L = 200")
    axes[2].plot(grid, normal, color=common.BLACK, linestyle="--", label="N(-1/2, 1)")
    axes[2].set(xlabel="log X$_1$/X$_0$", ylabel="density", title="one neuron, infinite depth: log-normal (β = 1)")
    for ax, ticks in ((axes[0], widths), (axes[1], depths)):
        ax.set_xticks(ticks, [str(t) for t in ticks])
        ax.xaxis.set_minor_locator(NullLocator())
    for ax in axes:
        ax.legend()
    return common.write(
        run,
        figure,
        {
            "widths": widths,
            "depths": depths,
            "rms": rms,
            "bias": bias,
            "standard_error": error,
            "recursion": recursion,
            "one_neuron": alone,
        },
        caption=f"ReLU ResNets, β = {BETA:.3g}: distance of H₀₁(1) to the limit {limit:.4f}, {run.draws} networks per "
        f"point (bars ±2 s.e.; {common.stopped(*ensembles)}). Right: {run.paths} streams of width 1, "
        f"{int(np.sum(~(alone > 0)))} of them not positive (a step of finite size can cross 0) and not shown.",
        columns=("n", "L", "root mean square distance", "bias", "bias, n = ∞"),
        rows=[
            [n, L, rms[i, j], (bias[i, j], error[i, j]), recursion[j]]
            for i, n in enumerate(widths)
            for j, L in enumerate(depths)
        ],
        parameters={"beta": BETA, "widths": widths, "depths": depths},
    )


if __name__ == "__main__":
    sys.exit(main())
