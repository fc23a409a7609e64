"""Sharpness over updates against 2/η₀ at three learning rates: the edge of stability at depth ∝ width.

The largest eigenvalue of the Gauss–Newton matrix, of the limit and of networks of two widths. Source: arXiv 2402.17457
for sharpness that does not depend on width; 2103.00065 for the edge of stability.
"""

import sys
from typing import Any

import common
import jax.numpy as jnp
import numpy as np

import covsde as cs

T = 0.5
TRAINED = 8


def main(argv: list[str] | None = None) -> int:
    run = common.settings(__file__, __doc__, argv, paths=(48, 600), draws=(32, 400))
    updates, widths = run.pick(4, 30), run.pick((16,), (32, 64))
    V0, y = common.teacher(TRAINED, 0, run.seed)
    mlp = cs.MLP(cs.ShapedSmooth(jnp.tanh), depth_to_width=T)
    same: dict[str, Any] = {"targets": y, "updates": updates, "kernels": False, "dtype": np.float32, "save_at": [0, 1]}
    rates, at = (0.5, 1.0, 2.0), np.arange(updates + 1)
    figure, axes = common.panels(2, 3, width=4.2, height=3.2, sharex=True)
    rows, arrays = [], {"updates": at}
    for j, rate in enumerate(rates):
        how: dict[str, Any] = {"learning_rate": rate, **same}
        limit = cs.train(
            mlp,
            V0,
            paths=run.paths,
            method="weights",
            steps=run.pick(8, 32),
            key=common.key(run, 0),
            step_error=False,
            **how,
        )
        found = {"limit": limit}
        for n in widths:
            name = f"n = {n}, L = {mlp.depth(n)}"
            found[name] = cs.train_networks(
                mlp, V0, width=n, draws=run.draws, method="weights", key=common.key(run, n), **how
            )
        for k, (law, result) in enumerate(found.items()):
            sharpness = result.sharpness()
            losses = np.where(np.isnan(result.losses), np.inf, result.losses)
            for ax, values in ((axes[0, j], sharpness), (axes[1, j], losses)):
                if law == "limit":
                    common.band(ax, at, values, common.LIMIT, "limit")
                else:
                    common.bars(ax, at, values, k - 1, law, shift=0.25 * k)
            gone = float(np.mean(result.status != cs.PathStatus.FINE))
            start, end = (float(np.nanmedian(sharpness[i])) for i in (0, -1))
            above = [float(np.nanmean(sharpness[i] > 2 / rate)) for i in (0, -1)]
            rows.append([rate, law, start, end, f"{above[0]:.0%}, {above[1]:.0%}", f"{gone:.1%}"])
            arrays[f"sharpness_{rate:g}_{law}".replace(" ", "_")] = sharpness
            arrays[f"losses_{rate:g}_{law}".replace(" ", "_")] = losses
        axes[0, j].axhline(2 / rate, color=common.BLACK, linewidth=1, linestyle="--", label="2/η₀")
        axes[0, j].set(title=f"η₀ = {rate:g}", yscale="log", ylabel="sharpness")
        axes[1, j].set(xlabel="update", ylabel="loss", yscale="log")
    axes[0, 0].legend(fontsize=7)
    return common.write(
        run,
        figure,
        arrays,
        caption=f"Shaped tanh, a = 1, T = {T:g}; squared loss summed over {TRAINED} Gaussian inputs of 8 dimensions, "
        f"y = x₁ + (x₂² - 1)/2. {run.paths} paths of the limit, {run.draws} networks of each width; bands and bars "
        "over initializations, sharpness over those that have not diverged. Below the dashed line a step of gradient "
        "descent is stable to first order.",
        columns=("η₀", "law", "sharpness at first, median", "at last", "share above 2/η₀, first and last", "diverged"),
        rows=rows,
        parameters={"activation": "tanh", "a": 1.0, "depth_to_width": T, "updates": updates, "learning_rates": rates},
    )


if __name__ == "__main__":
    sys.exit(main())
