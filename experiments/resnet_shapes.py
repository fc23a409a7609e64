"""ResNets of all shapes: distance of trained networks with blocks of two matrices to their limit, over D, M and L.

One input, f after training: root mean square distance to the limit, fitted by √((a (D/(M L))^p)² + (b D^{-q})²) in the
shapes; a published fit of the output error over far more shapes has p = 1 and q = 1/2. At D = M = ∞ what is left is of
order 1/L.
Sources: arXiv 2509.10167, 2603.18168.
"""

import sys

import common
import jax.numpy as jnp
import numpy as np
from scipy.optimize import least_squares

import covsde as cs

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00")
SETTINGS: dict = {"targets": [1.0], "updates": 3, "learning_rate": 0.3, "save_at": [0, 1]}


def resnet(ratio: float = 1.0) -> cs.ResNet:
    return cs.ResNet(jnp.tanh, 1.0, cs.TwoMatrix(ratio))


def slope(x: list, y: list) -> float:
    return float(np.polyfit(np.log(x), np.log(np.abs(y)), 1)[0])


def main(argv: list[str] | None = None) -> int:
    """Draw the figure."""
    asked = common.settings(__file__, __doc__, argv, paths=(16_000, 160_000), draws=(100, 300))
    widths = asked.pick([8, 16, 32, 64], [8, 16, 32, 64, 128, 256])
    hidden = asked.pick([2, 8, 32], [2, 8, 32, 128, 512])
    depths = asked.pick([2, 8], [2, 4, 8, 16, 32])
    draws, paths = asked.draws, asked.paths
    fine = [2, 4, 8, 16, 32, 64]
    limits = {L: cs.train(resnet(), [[1.0]], depth=L, paths=paths, **SETTINGS).outputs[-1, 0] for L in {*fine, *depths}}
    infinite = cs.train(resnet(), [[1.0]], paths=paths, **SETTINGS).outputs[-1, 0]
    shape = (len(depths), len(hidden), len(widths))
    rms, spread, bias, error = (np.zeros(shape) for _ in range(4))
    diverged = 0
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
            key=asked.seed + 7919 * L + 31 * M + D,
            **SETTINGS,
        )
        f = run.outputs[-1, run.status == cs.PathStatus.FINE, 0]
        diverged += run.failures["total"]
        mean, error[index] = run.controlled_mean(lambda r: r.outputs[-1, :, 0], lambda r: r.outputs[0, :, 0])
        rms[index], spread[index] = np.sqrt(np.mean((f - infinite) ** 2)), np.std(f)
        bias[index] = mean - limits[L]

    figure, axes = common.panels(1, 4)
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

    shapes = np.array([[[(D / (M * L), D) for D in widths] for M in hidden] for L in depths], float)
    ratio, width = np.moveaxis(shapes, -1, 0)

    def surface(x: np.ndarray, ratio: np.ndarray, width: np.ndarray) -> np.ndarray:
        return 0.5 * np.log((np.exp(x[0]) * ratio ** x[1]) ** 2 + (np.exp(x[2]) * width ** -x[3]) ** 2)

    fit = least_squares(
        lambda x: (surface(x, ratio, width) - np.log(rms)).ravel(), [np.log(0.05), 1, 0, 0.5], loss="soft_l1"
    ).x
    axes[2].loglog(np.exp(surface(fit, ratio, width)).ravel(), rms.ravel(), "o", ms=4, color=COLOURS[0])
    ends = np.array([rms.min() * 0.8, rms.max() * 1.2])
    axes[2].loglog(ends, ends, "k:", label="equal")
    axes[2].set(xlabel="√((a (D/ML)$^p$)² + (b D$^{-q}$)²)", ylabel="rms error of f")
    a, p, b, q = np.exp(fit[0]), fit[1], np.exp(fit[2]), fit[3]
    axes[2].set_title(f"all shapes: a = {a:.3f}, p = {p:.2f}, b = {b:.2f}, q = {q:.2f}", fontsize=10)

    gaps = [infinite - limits[L] for L in fine]
    in_depth = slope(fine[2:], gaps[2:])
    axes[3].loglog(fine, np.abs(gaps), "o-", color=COLOURS[0], label="|limit at L - limit at ∞|")
    axes[3].loglog(fine, abs(gaps[-1]) * fine[-1] / np.array(fine), "k:", label="1/L")
    axes[3].set(xlabel="L", ylabel="difference of f", title=f"D, M = ∞: slope {in_depth:.2f} in L")
    for ax, ticks in ((axes[1], widths), (axes[3], fine)):
        ax.set_xticks(ticks, [str(t) for t in ticks])
        ax.minorticks_off()
    for ax in axes[1:]:
        ax.legend(frameon=False, fontsize=8)
    figure.suptitle(f"tanh blocks of two matrices, f after {SETTINGS['updates']} updates")
    return common.write(
        asked,
        figure,
        {
            "widths": widths,
            "hidden": hidden,
            "depths": depths,
            "rms": rms,
            "spread": spread,
            "bias": bias,
            "error": error,
            "gaps": gaps,
        },
        caption=f"One input, y = 1; {draws} networks with real weights per shape, {diverged} in all diverged, "
        f"left out; limits of {paths} particles.",
        columns=("what", "fitted", "published"),
        rows=[
            ["a", float(a), ""],
            ["exponent p of D/(ML)", float(p), "1"],
            ["b", float(b), ""],
            ["exponent q of 1/D", float(q), "1/2"],
            ["slope of fluctuations in D", in_width, "-1/2"],
            ["slope of limit at L minus limit at ∞ in L", in_depth, "-1"],
        ],
        parameters={"activation": "tanh", "beta": 1.0, **SETTINGS},
    )


if __name__ == "__main__":
    sys.exit(main())
