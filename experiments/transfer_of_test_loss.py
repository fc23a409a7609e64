"""Which learning rate generalises best does not change with width at fixed L/n: gradient descent, momentum, Adam.

The least median test loss over learning rates, for networks of growing width and for the limit. Gradient descent uses
η₀/n on the hidden matrices, Adam η₀/n². Source: Li, Noci, Hanin, feature learning in the proportional limit (announced;
M. Li's lecture notes STAT 946, Waterloo, 2025).
"""

import sys
from typing import Any

import common
import jax.numpy as jnp
import numpy as np
from feature_lr_transfer import QUARTILES, best

import covsde as cs

T = 0.5
# By name: what a rate makes, and log₂ of the rates tried.
OPTIMIZERS: dict[str, tuple[Any, np.ndarray]] = {
    "gradient descent": (lambda rate: cs.SGD(rate), np.arange(-5.0, 1.0)),
    "momentum 0.8": (lambda rate: cs.SGD(rate, momentum=0.8), np.arange(-7.0, -1.0)),
    "Adam": (lambda rate: cs.Adam(rate, 0.9, 0.95), np.arange(-4.0, 2.0)),
}


def test_losses(run: cs.Training) -> np.ndarray:
    """Mean over test inputs after the last update, (paths,); infinite where training diverged."""
    last = np.asarray(run.test_losses)[-1]
    return np.where(np.isfinite(last), last, np.inf)


def main(argv: list[str] | None = None) -> int:
    run = common.settings(__file__, __doc__, argv, paths=(48, 400), draws=(32, 400))
    trained, tested, updates = run.pick((6, 12, 3), (12, 60, 10))
    widths = run.pick((16,), (16, 32, 64))
    V0, y = common.teacher(trained, tested, run.seed)
    mlp = cs.MLP(cs.ShapedSmooth(jnp.tanh), depth_to_width=T)
    same: dict[str, Any] = {"targets": y, "batches": list(range(trained)), "updates": updates, "kernels": False}
    same |= {"dtype": np.float32, "save_at": [0, 1]}
    figure, axes = common.panels(1, len(OPTIMIZERS), width=4.2)
    rows, arrays, rng = [], {"widths": np.array(widths)}, np.random.default_rng(run.seed)
    for ax, (name, (rule, powers)) in zip(axes, OPTIMIZERS.items(), strict=True):
        rates = 2.0 ** powers[:: run.pick(2, 1)]

        def networks(rate: float, n: int, rule: Any = rule) -> cs.Training:
            how = {"width": n, "draws": run.draws, "method": "weights", "key": common.key(run, n)}
            return cs.train_networks(mlp, V0, optimizer=rule(rate), **how, **same)

        def limit(rate: float, rule: Any = rule) -> cs.Training:
            how = {"paths": run.paths, "steps": run.pick(8, 32), "method": "weights", "key": common.key(run, 0)}
            return cs.train(mlp, V0, optimizer=rule(rate), step_error=False, **how, **same)

        found = {"limit": np.array([test_losses(limit(rate)) for rate in rates])}
        for n in widths:
            found[f"n = {n}, L = {mlp.depth(n)}"] = np.array([test_losses(networks(rate, n)) for rate in rates])
        for k, (law, losses) in enumerate(found.items()):
            low, middle, high = common.quantiles(losses, QUARTILES)
            if law == "limit":
                top = np.where(np.isfinite(high), high, 1e9)
                ax.fill_between(rates, low, top, color=common.LIMIT, alpha=0.2, linewidth=0, label="limit, quartiles")
                ax.plot(rates, middle, color=common.LIMIT, linewidth=1.8, label="limit, median")
            else:
                style = {"color": common.COLOURS[k - 1], "linestyle": ("--", "-.", ":")[k - 1]}
                ax.plot(rates * 1.03**k, middle, common.MARKERS[k - 1], markersize=4, label=law, **style)
                bars = np.stack([middle - low, np.where(np.isfinite(high), high, 1e9) - middle])
                ok = np.isfinite(middle)
                ax.errorbar(
                    rates[ok] * 1.03**k, middle[ok], bars[:, ok], fmt="none", color=style["color"], elinewidth=0.8
                )
            optimum, at = best(rates, losses, rng), int(np.argmin(middle))
            gone = f"{np.mean(np.isinf(losses[at])):.1%}, {np.mean(np.isinf(losses[-1])):.1%}"
            rows.append([name, law, optimum, float(middle[at]), f"{low[at]:.3g} to {high[at]:.3g}", gone])
            arrays[f"{name}, {law}".replace(" ", "_")] = losses
        arrays[f"rates_{name}".replace(" ", "_")] = rates
        nothing = 0.5 * float(np.mean(y[trained:] ** 2))
        ax.axhline(nothing, color="#888888", linewidth=0.8, linestyle=":", label="of f = 0")
        ax.set(xscale="log", xlabel="η₀", ylabel=f"test loss after {updates} updates", title=name)
        ax.set_ylim(0.5 * nothing, 4 * nothing)
        ax.set_yscale("log")
    axes[0].legend(fontsize=7, loc="upper left")
    return common.write(
        run,
        figure,
        arrays,
        caption=f"Shaped tanh, a = 1, T = {T:g}; Gaussian inputs of 8 dimensions, y = x₁ + (x₂² - 1)/2, {trained} "
        f"trained on all at each of {updates} updates, {tested} tested. {run.paths} paths of the limit, {run.draws} "
        "networks of each width; bars and band: quartiles over initializations, training that diverged as an infinite "
        "loss.",
        columns=(
            "optimizer",
            "law",
            "log₂ best η₀",
            "median test loss there",
            "quartiles",
            "diverged there, at the largest",
        ),
        rows=rows,
        parameters={"activation": "tanh", "a": 1.0, "depth_to_width": T, "updates": updates, "trained": trained},
    )


if __name__ == "__main__":
    sys.exit(main())
