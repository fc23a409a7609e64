"""Tangent kernel of ResNets against depth, its 1/L error, and lazy training with it.

Source: Bordelon, Noci, Li, Hanin, Pehlevan (2023), arXiv 2309.16620 (tangent kernel in the lazy limit).
"""

import sys

import common
import jax
import jax.numpy as jnp
import numpy as np
from resnet_kernels import BETA, X, sample_kernels

import covsde as cs

TARGETS = np.array([1.0, -1.0])


def main(argv: list[str] | None = None) -> int:
    run = common.settings(__file__, __doc__, argv, paths=None, draws=(300, 1000))
    N, finite = run.pick((128, (4, 16)), (256, (4, 8, 16, 32)))
    depths = run.pick((4, 16, 64, 256), (2, 4, 8, 16, 32, 64, 128, 256))
    V0 = cs.gram(X)
    figure, axes = common.panels(1, 3, width=4.2)
    rows, data = [], {"x": X, "depths": depths}
    for k, (name, fn) in enumerate({"ReLU": jax.nn.relu, "tanh": jnp.tanh}.items()):
        resnet = cs.ResNet(fn, BETA)
        exact = cs.kernels(resnet, V0, save_at=[0, 1]).ntk
        at_depth = np.stack([cs.kernels(resnet, V0, depth=n).ntk for n in depths])
        error = np.linalg.norm(at_depth - exact, axis=(1, 2))
        slope = np.polyfit(np.log(depths[-3:]), np.log(error[-3:]), 1)[0]
        colour, style = common.COLOURS[k], ("-", "--")[k]
        axes[0].plot(depths, at_depth[:, 0, 1], color=colour, linestyle=style, label=f"{name}, N = ∞")
        axes[0].axhline(exact[0, 1], color=colour, linestyle=":", linewidth=1.2)
        axes[1].loglog(
            depths, error, common.MARKERS[k], color=colour, linestyle=style, label=f"{name}, slope {slope:.2f}"
        )
        data |= {f"ntk_{name}": exact, f"ntk_{name}_depth": at_depth}
        samples = {}
        for L in finite if name == "ReLU" else finite[-1:]:
            keys = jax.random.split(common.key(run, k, L), run.draws)
            samples[L] = sample_kernels(resnet, N, L, keys)[2]
            mean, s = common.mean(samples[L][:, 0, 1])
            axes[0].errorbar(
                [L],
                mean,
                yerr=2 * s,
                fmt=common.MARKERS[k],
                color=colour,
                capsize=2,
                label=f"{name}, {run.draws} networks, N = {N}" if finite[-1] == L else None,
            )
            rows.append([name, L, float(at_depth[depths.index(L), 0, 1]), float(exact[0, 1]), (mean, s)])
            data[f"ntk_{name}_networks_{L}"] = samples[L]
        if name == "ReLU":
            limit, networks = exact, samples[finite[-1]]
    axes[1].loglog(depths, 3 * error[0] * depths[0] / np.array(depths), "k:", label="1/L")
    axes[0].set(xscale="log", xlabel="depth L", ylabel="K₀₁", title="tangent kernel (L = ∞ dotted)")
    axes[1].set(xlabel="depth L", ylabel="‖K$_L$ - K‖", title="its distance to infinite depth, N = ∞")

    times = np.linspace(0, 8, 81)
    lazy = cs.lazy_training(limit, TARGETS, times, learning_rate=0.5).outputs[:, :, 0]
    trained = np.stack([cs.lazy_training(K, TARGETS, times, learning_rate=0.5).outputs[:, 2, 0] for K in networks])
    for i, what in enumerate(("training, target 1", "training, target -1", "test")):
        axes[2].plot(times, lazy[:, i], color=common.COLOURS[i], linestyle=("-", "--", "-.")[i], label=f"{what}")
    low, _, high = common.quantiles(trained.T)
    axes[2].fill_between(
        times,
        low,
        high,
        color=common.COLOURS[2],
        alpha=0.3,
        linewidth=0,
        label=f"test, networks, L = {finite[-1]}, 10–90%",
    )
    axes[2].set(xlabel="training time  η₀t", ylabel="output", title="gradient flow with the kernel of ReLU")
    axes[0].legend()
    axes[1].legend()
    axes[2].legend(loc=(0.36, 0.58))
    axes[0].set_xticks((2, 8, 32, 128), ("2", "8", "32", "128"))
    data |= {"times": times, "lazy": lazy, "lazy_networks": trained}
    return common.write(
        run,
        figure,
        data,
        caption=f"Pre-activation ResNets, β = {BETA:g}; three inputs on the circle, the first two trained. "
        "Lines N = ∞; points are means of networks with real weights (±2 s.e.), the band is lazy training with their "
        "kernels.",
        columns=("activation", "L", "K₀₁, N = ∞", "N = L = ∞", f"networks, N = {N}"),
        rows=rows,
        parameters={"beta": BETA, "width": N, "depths": finite, "learning_rate": 0.5, "targets": TARGETS},
    )


if __name__ == "__main__":
    sys.exit(main())
