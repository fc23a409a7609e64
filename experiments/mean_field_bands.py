"""Networks of two finite widths against the mean-field limit and its predicted bands, and n Var f over the updates.

Two trained inputs and a test; the bands are the limit with its shift and two standard deviations at that width, both of
order 1/n and predicted without a network. Source: arXiv 2304.03408.
"""

import sys
from typing import Any

import common
import jax.numpy as jnp
import numpy as np

import covsde as cs

K3 = np.array([[1.0, 0.4, 0.6], [0.4, 1.0, -0.2], [0.6, -0.2, 1.0]])
DEPTH, UPDATES = 2, 6
TASK: dict[str, Any] = {"targets": [1.0, -0.7, 0.5], "batches": [0, 1], "updates": UPDATES, "learning_rate": 0.7}
NAMES = ("trained, y = 1", "trained, y = -0.7", "test")


def main(argv: list[str] | None = None) -> int:
    """Draw the figure."""
    asked = common.settings(__file__, __doc__, argv, paths=(3000, 24_000), draws=(200, 1000))
    widths, mlp = (32, 256), cs.MeanFieldMLP(jnp.tanh, DEPTH)
    around = cs.fluctuations(mlp, K3, paths=asked.paths, directions=asked.pick(8, 128), key=asked.seed, **TASK)
    figure, (top, bottom) = common.panels(2, 3)
    x, rows, kept = np.arange(UPDATES + 1), [], {}
    measured = {}
    for width in widths:
        nets = cs.train_networks(
            mlp, K3, width=width, draws=asked.draws, method="weights", key=asked.seed + width, **TASK
        )
        f = nets.outputs
        measured[width] = width * f.var(axis=1, ddof=1)
        kept |= {f"mean{width}": f.mean(axis=1), f"nvar{width}": measured[width]}
        for datum in (0, 2):
            own = around.variance[-1, datum], around.variance_error[-1, datum]
            error = measured[width][-1, datum] * np.sqrt(2 / asked.draws)
            z = (measured[width][-1, datum] - own[0]) / np.hypot(own[1], error)
            rows.append([NAMES[datum], width, float(own[0]), float(measured[width][-1, datum]), float(z)])
        mean, spread = around.outputs + around.shift / width, np.sqrt(around.variance / width)
        panel = top[widths.index(width)]
        for datum in (0, 2):
            color, band = common.COLOURS[datum // 2], 2 * spread[:, datum]
            panel.fill_between(x, mean[:, datum] - band, mean[:, datum] + band, color=color, alpha=0.25, lw=0)
            panel.plot(x, around.outputs[:, datum], color=color, label=f"limit, {NAMES[datum]}")
            panel.plot(x, f[:, :6, datum], color=color, lw=0.6, alpha=0.7)
            centre, bars = f.mean(axis=1)[:, datum], 2 * f.std(axis=1)[:, datum]
            panel.errorbar(x, centre, bars, fmt="o", ms=3, color=color, capsize=2)
        panel.set(xlabel="update", ylabel="f", title=f"width {width}: bands predicted, bars measured")
    top[0].legend(loc="lower right")
    for axes, datum in zip(bottom, range(3), strict=True):
        value, error = around.variance[:, datum], np.nan_to_num(around.variance_error[:, datum])
        axes.fill_between(x, value - 2 * error, value + 2 * error, color=common.LIMIT, alpha=0.25, lw=0)
        axes.plot(x, value, color=common.LIMIT, label="predicted")
        for width, color, marker in zip(widths, common.COLOURS, common.MARKERS, strict=False):
            v = measured[width][:, datum]
            axes.errorbar(x, v, v * np.sqrt(2 / asked.draws), fmt=marker, ms=4, color=color, label=f"width {width}")
        axes.set(xlabel="update", ylabel="n Var f", title=NAMES[datum], ylim=(0, None))
    bottom[0].legend()
    losses = around.losses()
    top[2].plot(x, losses.limit, color=common.BLACK, label="limit")
    for width, color in zip(widths, common.COLOURS, strict=False):
        top[2].plot(x, losses.limit + losses.shift / width, color=color, ls="--", label=f"with 1/n, width {width}")
    top[2].set(xlabel="update", ylabel="mean loss", title="bias and variance of the loss", ylim=(0, None))
    top[2].legend()
    figure.suptitle("What a finite width adds to the mean-field limit")
    return common.write(
        asked,
        figure,
        {"predicted": around.variance, "outputs": around.outputs, "shift": around.shift, **kept},
        caption=f"tanh, {DEPTH} hidden layers, γ₀ = 1, η₀ = 0.7; {asked.paths} particles, {asked.draws} networks with "
        "real weights per width, thin lines six of them; bars and bands are two standard deviations above, one and "
        "two standard errors below.",
        columns=("input", "width", "n Var f predicted", "of networks", "z"),
        rows=rows,
        parameters={"depth": DEPTH, "updates": UPDATES, "widths": list(widths)},
    )


if __name__ == "__main__":
    sys.exit(main())
