"""Width and depth of a ResNet commute: distance to one ODE over both axes, and what narrow deep networks do instead.

Sources: Hayou and Yang (2023), arXiv 2302.00453; Hayou (2022), arXiv 2210.00688.
"""

import argparse
import math
import sys
from pathlib import Path

import jax
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import NullLocator

import covsde as cs
from covsde._files import atomic_write

V0 = np.array([[1.0, 0.3], [0.3, 1.0]])
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00")


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--out", type=Path, default=Path("resnet-commute"), metavar="DIR", help="(default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="fewer and smaller networks")
    args = parser.parse_args(argv)
    widths, depths = ([8, 32, 128], [2, 8, 32]) if args.quick else ([8, 16, 32, 64, 128, 256], [2, 4, 8, 16, 32, 64])
    draws, beta = (300, 2**0.5) if args.quick else (2000, 2**0.5)
    res = cs.ResNet(jax.nn.relu, beta)
    limit = cs.kernels(res, V0).H[-1, 0, 1]
    rms, mean, error = (np.zeros((len(widths), len(depths))) for _ in range(3))
    for i, n in enumerate(widths):
        for j, L in enumerate(depths):
            e = cs.sample_networks(
                res, V0, width=n, depth=L, draws=draws, save_at=[0, 1], key=args.seed + 1000 * n + L, progress=False
            )
            gap = e.V[-1, :, 0, 1] - limit
            rms[i, j], mean[i, j], error[i, j] = np.sqrt(np.mean(gap**2)), gap.mean(), gap.std() / math.sqrt(draws)
    recursion = np.array([cs.kernels(res, V0, depth=L).H[-1, 0, 1] - limit for L in depths])
    in_width = np.polyfit(np.log(widths[1:]), np.log(rms[1:, -1]), 1)[0]
    in_depth = np.polyfit(np.log(depths[1:]), np.log(np.abs(recursion[1:])), 1)[0]
    alone = cs.simulate_streams(
        cs.ResNet(jax.nn.relu), [1.0], paths=draws, steps=200, key=args.seed, save_at=[0.0, 1.0]
    ).X[-1, :, 0, 0]

    figure, axes = plt.subplots(1, 3, figsize=(14.5, 4.4), layout="constrained")
    plt.close(figure)
    for k, j in enumerate(np.unique(np.linspace(0, len(depths) - 1, 4).round().astype(int))):
        axes[0].loglog(widths, rms[:, j], "o-", color=COLOURS[k], label=f"L = {depths[j]}")
    axes[0].loglog(widths, rms[0, -1] * np.sqrt(widths[0] / np.array(widths)), "k:", label="n$^{-1/2}$")
    axes[0].set(xlabel="width n", ylabel="root mean square distance", title=f"fluctuations: slope {in_width:.2f} in n")
    for k, i in enumerate(np.unique(np.linspace(0, len(widths) - 1, 3).round().astype(int))):
        axes[1].errorbar(
            np.array(depths) * 1.04**k,
            -mean[i],
            yerr=error[i],
            fmt="os^"[k],
            color=COLOURS[k],
            label=f"n = {widths[i]}",
        )
    axes[1].loglog(depths, -recursion, "k-", label="n = ∞, exact recursion")
    axes[1].set(
        xlabel="depth L",
        ylabel="limit minus mean",
        title=f"bias: slope {in_depth:.2f} in L, at any width",
        yscale="log",
    )
    logs = np.log(alone[alone > 0])
    grid = np.linspace(-4.5, 3.5, 200)
    axes[2].hist(logs, bins=40, density=True, color=COLOURS[0], alpha=0.35, label="n = 1, L = 200")
    axes[2].plot(grid, np.exp(-((grid + 0.5) ** 2) / 2) / math.sqrt(2 * math.pi), color=COLOURS[0], label="N(-1/2, 1)")
    axes[2].set(xlabel="log X$_1$/X$_0$", ylabel="density", title="one neuron, infinite depth: log-normal (β = 1)")
    for ax, ticks in ((axes[0], widths), (axes[1], depths)):
        ax.set_xticks(ticks, [str(t) for t in ticks])
        ax.xaxis.set_minor_locator(NullLocator())
    for ax in axes:
        ax.grid(alpha=0.25, linewidth=0.6)
        ax.legend(frameon=False, fontsize=8)
    figure.suptitle(
        f"ReLU ResNets, β = {beta:.3g}: distance of H$_{{01}}$(1) to the limit {limit:.4f}, {draws} networks per point"
    )
    args.out.mkdir(parents=True, exist_ok=True)
    with atomic_write(args.out / "resnet_commute.png") as temporary:
        figure.savefig(temporary, dpi=160)
    with atomic_write(args.out / "resnet_commute.npz") as temporary:
        np.savez(
            temporary,
            widths=widths,
            depths=depths,
            rms=rms,
            mean=mean,
            error=error,
            recursion=recursion,
            one_neuron=alone,
        )
    print(f"Slope in n: {in_width:.3f}; slope of the bias in L: {in_depth:.3f}; written to {args.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
