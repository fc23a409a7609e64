"""Feature learning in the proportional limit: outputs, feature movement and laws over updates, against networks.

Gradient descent on the hidden matrices of shaped tanh networks with learning rate η₀/n: outputs, features and their
covariances all move by amounts of order one, and stay random. Source: Li, Noci, Hanin, feature learning in the
proportional limit (announced; M. Li's lecture notes STAT 946, Waterloo, 2025); networks shaped as in arXiv 2206.02768.
"""

import sys

import common
import jax.numpy as jnp
import numpy as np

import covsde as cs

T = 0.5
V0 = np.array([[1.0, 0.3], [0.3, 1.0]])
Y = np.array([1.0, -1.0])


def main(argv: list[str] | None = None) -> int:
    run = common.settings(__file__, __doc__, argv, paths=(1500, 20_000), draws=(1000, 8192))
    n, updates = run.pick((60, 3), (120, 5))
    mlp = cs.MLP(cs.ShapedSmooth(jnp.tanh), depth_to_width=T)
    same = {"targets": Y, "updates": updates, "learning_rate": 1.0, "save_at": np.linspace(0, 1, 6).tolist()}
    limit = cs.train(mlp, V0, paths=run.paths, key=common.key(run, 0), **same)
    networks = cs.train_networks(mlp, V0, width=n, draws=run.draws, key=common.key(run, 1), **same)

    figure, axes = common.panels(2, 2, height=3.2)
    update = np.arange(updates + 1)
    for p, style in ((0, "-"), (1, "--")):
        common.band(
            axes[0, 0], update, limit.outputs[:, :, p], common.LIMIT, f"limit, target {Y[p]:g}", linestyle=style
        )
        common.bars(axes[0, 0], update, networks.outputs[:, :, p], p, f"networks, target {Y[p]:g}", shift=0.08)
    axes[0, 0].set(xlabel="update", ylabel="output f", title="outputs", xticks=update)
    axes[0, 0].legend(fontsize=6.5, ncols=2, loc="lower left")
    axes[0, 0].set_ylim(bottom=-2.7)
    for k, u in enumerate((1, updates)):
        common.band(
            axes[0, 1], limit.tau, limit.movement(u), common.LIMIT, f"limit, update {u}", linestyle=("--", "-")[k]
        )
        common.bars(axes[0, 1], networks.tau, networks.movement(u), k, f"networks, update {u}", shift=0.012 * (k + 1))
    axes[0, 1].set(xlabel="layer time  τ = ℓ/L", ylabel="|h - h₀|²/n", title="movement of the features of input 0")
    axes[0, 1].legend(loc="upper left", fontsize=7.5)
    bins = np.linspace(-2.5, 2.5, run.pick(41, 71))
    for k, u in enumerate((0, 1, updates)):
        style = {"color": common.shades(3)[k], "linestyle": (":", "--", "-")[k]}
        common.histogram(axes[1, 0], limit.outputs[u, :, 0], bins, **style, label=f"limit, update {u}")
        density = np.histogram(networks.outputs[u, :, 0], bins[::2])[0] / run.draws / np.diff(bins[::2])
        axes[1, 0].plot(
            (bins[::2][1:] + bins[::2][:-1]) / 2,
            density,
            common.MARKERS[k],
            color=style["color"],
            markersize=4,
            label=f"networks, update {u}",
        )
    axes[1, 0].set(xlabel="output f on input 0", ylabel="density", title="law of the output, target 1")
    axes[1, 0].legend(loc="upper left")
    aligned = [np.stack([e.alignment(u)[-1] for u in update]) for e in (limit, networks)]
    common.band(axes[1, 1], update, aligned[0], common.LIMIT, "limit")
    common.bars(axes[1, 1], update, aligned[1], 0, f"networks, n = {n}", shift=0.08)
    axes[1, 1].set(xlabel="update", ylabel="yᵀΦy / |y|² tr Φ", title="alignment of last features", xticks=update)
    axes[1, 1].set_ylim(bottom=-0.15)
    axes[1, 1].legend(loc="lower right")
    rows = []
    for u in update:
        for name, e in (("limit", limit), (f"networks, n = {n}", networks)):
            f, moved = e.outputs[u, :, 0], e.movement(u)[-1]
            good = np.isfinite(f)
            rows.append(
                [
                    u,
                    name,
                    common.mean(f[good]),
                    float(f[good].std()),
                    common.mean(moved[good]),
                    common.mean(e.losses[u][good]),
                ]
            )
    return common.write(
        run,
        figure,
        {
            "tau": limit.tau,
            "limit_outputs": limit.outputs,
            "network_outputs": networks.outputs,
            "limit_movement": np.stack([common.quantiles(limit.movement(u)) for u in update]),
            "network_movement": np.stack([common.quantiles(networks.movement(u)) for u in update]),
            "limit_alignment": aligned[0],
            "network_alignment": aligned[1],
        },
        caption=f"Shaped tanh, a = 1, T = {T:g}, V₀ = [[1, 0.3], [0.3, 1]], y = (1, -1), loss ½Σ(f-y)², η₀ = 1. "
        f"{run.paths} paths of the limit ({common.stopped(limit)}), {run.draws} networks with n = {n}, "
        f"L = {round(T * n)} ({common.stopped(networks)}).",
        columns=("update", "law", "mean f(0)", "standard deviation", "mean |h - h₀|²/n at τ = 1", "mean loss"),
        rows=rows,
        parameters={"activation": "tanh", "a": 1.0, "depth_to_width": T, "width": n, "learning_rate": 1.0, "V0": V0},
    )


if __name__ == "__main__":
    sys.exit(main())
