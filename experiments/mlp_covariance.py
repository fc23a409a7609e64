"""Laws of a variance and of a covariance in shaped ReLU networks of three widths, against the covariance SDE.

In the limit log V is exactly N(log V₀ - T, 2T). Source: Li, Nica, Roy (2022), arXiv 2206.02768, theorem on the
covariance SDE of the shaped ReLU.
"""

import math
import sys

import common
import numpy as np

import covsde as cs

T = 1.0
V0 = np.array([[1.0, 0.3], [0.3, 1.0]])


def main(argv: list[str] | None = None) -> int:
    run = common.settings(__file__, __doc__, argv, paths=(20_000, 200_000), draws=(2000, 8192))
    widths = run.pick((15, 40, 120), (20, 50, 150))
    mlp = cs.MLP(cs.ShapedReLU(0.0, -1.0), depth_to_width=T)
    limit = cs.simulate(mlp, V0, paths=run.paths, save_at=[0, 1], key=common.key(run, 0))
    networks = [
        cs.sample_networks(mlp, V0, width=n, draws=run.draws, save_at=[0, 1], key=common.key(run, 1, n)) for n in widths
    ]

    figure, axes = common.panels(1, 3, width=4.2)
    log_bins, bins = np.linspace(-6.5, 4, run.pick(43, 64)), np.linspace(-1.0, 2.5, run.pick(43, 64))
    x = np.linspace(-6.5, 4, 400)
    common.histogram(axes[0], limit.log_variance(0)[-1], log_bins, color=common.LIMIT, fill=True, label="limit (SDE)")
    normal = np.exp(-((x + T) ** 2) / (4 * T)) / math.sqrt(4 * math.pi * T)
    axes[0].plot(x, normal, color=common.BLACK, linestyle=":", linewidth=2, label="N(-T, 2T)")
    common.histogram(axes[1], limit.V[-1, :, 0, 1], bins, color=common.LIMIT, fill=True, label="limit (SDE)")
    levels = np.linspace(0.01, 0.99, 99)
    reference = np.quantile(limit.V[-1, :, 0, 1], levels)
    axes[2].plot(reference, reference, color=common.LIMIT, linewidth=1.8, label="limit (SDE)")
    rows = []
    for k, (n, e) in enumerate(zip(widths, networks, strict=True)):
        style = {"color": common.shades(3)[k], "linestyle": (":", "--", "-")[k], "label": f"networks, n = d = {n}"}
        common.histogram(axes[0], e.log_variance(0)[-1], log_bins, **style)
        common.histogram(axes[1], e.V[-1, :, 0, 1], bins, **style)
        axes[2].plot(reference, np.quantile(e.V[-1, :, 0, 1], levels), **style)
    for name, e in zip((*(f"networks, n = {n}" for n in widths), "limit"), (*networks, limit), strict=True):
        logs, V = e.log_variance(0)[-1], e.V[-1]
        rows.append([name, common.mean(logs), float(logs.std()), *common.quantiles(V[:, 0, 1])])
    rows.append(["exact", -T, math.sqrt(2 * T), "", "", ""])
    axes[0].set(xlabel="log V₀₀ at τ = 1", ylabel="density", title="a variance")
    axes[1].set(xlabel="V₀₁ at τ = 1", ylabel="density", title="a covariance")
    axes[2].set(xlabel="quantile of V₀₁, limit", ylabel="quantile of V₀₁", title="its quantiles, 1% to 99%")
    axes[2].set_xscale("symlog", linthresh=0.3)
    axes[2].set_yscale("symlog", linthresh=0.3)
    axes[0].legend(loc="upper left", fontsize=7)
    return common.write(
        run,
        figure,
        {
            "widths": widths,
            "limit": limit.V[-1, :20_000],
            **{f"networks_{n}": e.V[-1] for n, e in zip(widths, networks, strict=True)},
        },
        caption=f"Shaped ReLU, c± = (0, -1), T = {T:g}, V₀ = [[1, 0.3], [0.3, 1]]. {run.paths} paths "
        f"({common.stopped(limit)}), {run.draws} networks of each width "
        f"({common.stopped(*networks)}). Inputs are counted from 0.",
        columns=("law", "mean log V₀₀", "its standard deviation", "V₀₁: 10%", "median", "90%"),
        rows=rows,
        parameters={"c_plus": 0.0, "c_minus": -1.0, "depth_to_width": T, "widths": widths, "V0": V0},
    )


if __name__ == "__main__":
    sys.exit(main())
