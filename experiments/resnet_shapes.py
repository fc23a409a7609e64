"""ResNets of all shapes: distance of trained networks with blocks of two matrices to their limit, over D, M and L.

One input, f after training: fluctuations of order D^{-1/2}, a bias of order D/(M L), and one of order 1/L that is that
of the limit's own recursion over L blocks. Sources: arXiv 2509.10167, 2603.18168.
"""

import argparse
import sys
from pathlib import Path

import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import covsde as cs
from covsde._files import atomic_write

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00")
SETTINGS: dict = {"targets": [1.0], "updates": 3, "learning_rate": 0.3, "save_at": [0, 1]}


def resnet(ratio: float = 1.0) -> cs.ResNet:
    return cs.ResNet(jnp.tanh, 1.0, cs.TwoMatrix(ratio))


def slope(x: list, y: list) -> float:
    return float(np.polyfit(np.log(x), np.log(np.abs(y)), 1)[0])


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("resnet-shapes"), metavar="DIR", help="(default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="fewer and smaller networks")
    args = parser.parse_args(argv)
    widths, hidden, depths = (
        ([8, 16, 32, 64], [2, 8, 32], [2, 8])
        if args.quick
        else (
            [8, 16, 32, 64, 128, 256],
            [2, 8, 32, 128, 512],
            [2, 4, 8, 16, 32],
        )
    )
    draws, paths = (60, 16_000) if args.quick else (200, 160_000)
    fine = [2, 4, 8, 16, 32, 64]
    limits = {L: cs.train(resnet(), [[1.0]], depth=L, paths=paths, **SETTINGS).outputs[-1, 0] for L in {*fine, *depths}}
    infinite = cs.train(resnet(), [[1.0]], paths=paths, **SETTINGS).outputs[-1, 0]
    shape = (len(depths), len(hidden), len(widths))
    rms, spread, bias, error = (np.zeros(shape) for _ in range(4))
    for index in np.ndindex(*shape):
        L, M, D = depths[index[0]], hidden[index[1]], widths[index[2]]
        run = cs.train_networks(
            resnet(M / D),
            [[1.0]],
            width=D,
            depth=L,
            draws=draws,
            method="weights",
            dtype=np.float32,
            key=args.seed + 7919 * L + 31 * M + D,
            **SETTINGS,
        )
        f = run.outputs[-1, :, 0]
        mean, error[index] = run.controlled_mean(lambda r: r.outputs[-1, :, 0], lambda r: r.outputs[0, :, 0])
        rms[index], spread[index] = np.sqrt(np.nanmean((f - infinite) ** 2)), np.nanstd(f)
        bias[index] = mean - limits[L]

    figure, axes = plt.subplots(1, 4, figsize=(17, 4.2), layout="constrained")
    plt.close(figure)
    picture = axes[0].pcolormesh(np.log10(rms[-1]), cmap="viridis")
    axes[0].set_xticks(np.arange(len(widths)) + 0.5, [str(D) for D in widths])
    axes[0].set_yticks(np.arange(len(hidden)) + 0.5, [str(M) for M in hidden])
    axes[0].set(xlabel="D", ylabel="M", title=f"log$_{{10}}$ of the rms error of f, L = {depths[-1]}")
    figure.colorbar(picture, ax=axes[0])

    in_width = slope(widths, list(spread[-1, -1]))
    for i, L in enumerate(depths[-2:]):
        axes[1].loglog(widths, spread[len(depths) - 2 + i, -1], "os"[i] + "-", color=COLOURS[i], label=f"L = {L}")
    axes[1].loglog(widths, spread[-1, -1, 0] * np.sqrt(widths[0] / np.array(widths)), "k:", label="D$^{-1/2}$")
    axes[1].set(xlabel="D", ylabel="deviation of f", title=f"fluctuations, M = {hidden[-1]}: slope {in_width:.2f} in D")

    # Where M L is small against D the bias is that of the branches, D/(M L); elsewhere there is one of order 1/D.
    ratio = np.array([[[D / (M * L) for D in widths] for M in hidden] for L in depths])
    seen = (np.abs(bias) > 3 * error) & (ratio < 1.1) & (ratio > 4 / np.array(widths)[None, None, :])
    for i, D in enumerate(widths):
        x, y, e = ratio[..., i].ravel(), -bias[..., i].ravel(), error[..., i].ravel()
        axes[2].errorbar(x, y, yerr=e, fmt="o", ms=4, color=COLOURS[i % 5], label=f"D = {D}")
    title = "bias against D/(M L)"
    exponent = float("nan")
    if seen.sum() >= 3:
        exponent = slope(list(ratio[seen]), list(bias[seen]))
        title += f": slope {exponent:.2f}"
    line = np.geomspace(ratio.min(), 2, 50)
    axes[2].plot(line, line * 0.1, "k:", label="slope 1")
    axes[2].set(
        xscale="log", yscale="log", ylim=(1e-3, 1), xlabel="D/(M L)", ylabel="limit at L minus mean of f", title=title
    )

    gaps = [infinite - limits[L] for L in fine]
    in_depth = slope(fine[2:], gaps[2:])
    axes[3].loglog(fine, np.abs(gaps), "o-", color=COLOURS[0], label="|limit at L - limit at ∞|")
    axes[3].loglog(fine, abs(gaps[-1]) * fine[-1] / np.array(fine), "k:", label="1/L")
    axes[3].set(xlabel="L", ylabel="difference of f", title=f"D, M = ∞: slope {in_depth:.2f} in L")
    for ax in axes[1:]:
        ax.grid(alpha=0.25, linewidth=0.6)
        ax.legend(frameon=False, fontsize=8)
    figure.suptitle(f"tanh blocks of two matrices, f after {SETTINGS['updates']} updates, {draws} networks per shape")
    args.out.mkdir(parents=True, exist_ok=True)
    with atomic_write(args.out / "resnet_shapes.png") as temporary:
        figure.savefig(temporary, dpi=150)
    with atomic_write(args.out / "resnet_shapes.npz") as temporary:
        np.savez(
            temporary,
            widths=widths,
            hidden=hidden,
            depths=depths,
            rms=rms,
            spread=spread,
            bias=bias,
            error=error,
            gaps=gaps,
        )
    print(
        f"Fluctuations: slope {in_width:.2f} in D. Bias: slope {exponent:.2f} in D/(M L). Depth: slope {in_depth:.2f}."
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
