"""Which depth/width trains best? Test loss against T = L/n for networks of equal cost n²L, and for the limit.

At every T the learning rate with the least median test loss is taken. Source: Li, Noci, Hanin, feature learning in the
proportional limit (announced; M. Li's lecture notes STAT 946, Waterloo, 2025).
"""

import sys
from typing import Any

import common
import jax.numpy as jnp
import numpy as np
from feature_lr_transfer import QUARTILES
from transfer_of_test_loss import test_losses

import covsde as cs


def main(argv: list[str] | None = None) -> int:
    run = common.settings(__file__, __doc__, argv, paths=(48, 400), draws=(32, 400))
    trained, tested, updates = run.pick((6, 12, 3), (12, 60, 10))
    ratios = run.pick((0.25, 1.0), (0.0625, 0.125, 0.25, 0.5, 1.0, 2.0))
    cost = run.pick(16**3 / 2, 48**3 / 2)
    V0, y = common.teacher(trained, tested, run.seed)
    same: dict[str, Any] = {"targets": y, "batches": list(range(trained)), "updates": updates, "kernels": False}
    same |= {"dtype": np.float32, "save_at": [0, 1]}
    powers = run.pick(np.array([-3.0, -1.0]), np.arange(-5.0, 0.5))
    kept: dict[str, list[tuple[float, np.ndarray]]] = {"limit": [], "networks": []}
    rows = []
    for T in ratios:
        mlp = cs.MLP(cs.ShapedSmooth(jnp.tanh), depth_to_width=T)
        n = max(8, round((cost / T) ** (1 / 3)))
        L = mlp.depth(n)
        # Rates at equal first steps: an update moves outputs by η₀T times the tangent kernel.
        rates = 2.0**powers * 0.5 / T

        def limit(rate: float, mlp: cs.MLP = mlp) -> cs.Training:
            how = {"paths": run.paths, "method": "weights", "key": common.key(run, 0)}
            return cs.train(mlp, V0, learning_rate=rate, step_error=False, **how, **same)

        def networks(rate: float, mlp: cs.MLP = mlp, n: int = n) -> cs.Training:
            how = {"width": n, "draws": run.draws, "method": "weights", "key": common.key(run, n)}
            return cs.train_networks(mlp, V0, learning_rate=rate, **how, **same)

        for law, train in (("limit", limit), ("networks", networks)):
            losses = [test_losses(train(rate)) for rate in rates]
            at = int(np.argmin([np.median(x) for x in losses]))
            kept[law].append((float(rates[at]), losses[at]))
            low, middle, high = common.quantiles(losses[at], QUARTILES)
            name = law if law == "limit" else f"n = {n}, L = {L}"
            gone = f"{np.mean(np.isinf(losses[at])):.1%}"
            rows.append([T, name, float(rates[at]), float(middle), f"{low:.3g} to {high:.3g}", gone])
    figure, axes = common.panels(1, 2, width=4.6)
    nothing = 0.5 * float(np.mean(y[trained:] ** 2))
    values = {law: np.stack([losses for _, losses in found]) for law, found in kept.items()}
    common.band(axes[0], ratios, values["limit"], common.LIMIT, "limit")
    common.bars(axes[0], ratios, values["networks"], 0, f"networks, n²L ≈ {cost:.3g}")
    axes[0].axhline(nothing, color="#888888", linewidth=0.8, linestyle=":", label="of f = 0")
    axes[0].set(xscale="log", yscale="log", xlabel="T = L/n", ylabel=f"test loss after {updates} updates")
    axes[0].set_ylim(0.3 * nothing, 10 * nothing)
    axes[0].legend(fontsize=7, loc="upper left")
    for k, (law, found) in enumerate(kept.items()):
        best = [rate * T for (rate, _), T in zip(found, ratios, strict=True)]
        axes[1].plot(ratios, best, common.MARKERS[k] + "-", color=(common.LIMIT, common.COLOURS[0])[k], label=law)
    axes[1].set(xscale="log", yscale="log", xlabel="T = L/n", ylabel="best η₀ times T")
    axes[1].legend(fontsize=7)
    return common.write(
        run,
        figure,
        {
            "depth_to_width": np.array(ratios),
            **values,
            "best_rates": np.array([[r for r, _ in f] for f in kept.values()]),
        },
        caption=f"Shaped tanh, a = 1; Gaussian inputs of 8 dimensions, y = x₁ + (x₂² - 1)/2, {trained} trained on all "
        f"at each of {updates} updates, {tested} tested, at the rate η₀ with the least median test loss. {run.paths} "
        f"paths of the limit, {run.draws} networks of each size; bands and bars: 10–90% over initializations, training "
        "that diverged counted as an infinite loss.",
        columns=("T", "law", "best η₀", "median test loss", "quartiles", "diverged"),
        rows=rows,
        parameters={"activation": "tanh", "a": 1.0, "updates": updates, "trained": trained, "cost": cost},
    )


if __name__ == "__main__":
    sys.exit(main())
