"""Density of a network's output on one input: exact at finite width, and the heavy-tailed limit they approach.

Finite linear and ReLU networks have Meijer G densities (for ReLU a mixture over active neurons, and an atom at 0); the
limit is a log-normal mixture of Gaussians. Sources: Zavatone-Veth, Pehlevan (2021), arXiv 2104.11734; Noci et al.
(2021), arXiv 2106.06615; Li, Nica, Roy (2022), arXiv 2206.02768.
"""

import math
import sys

import common
import numpy as np

import covsde as cs

T = 0.5
WIDTHS = (4, 12, 36)


def main(argv: list[str] | None = None) -> int:
    run = common.settings(__file__, __doc__, argv, paths=(4000, 50_000), draws=None)
    f = np.linspace(0.02, 6, 120)
    figure, axes = common.panels(2, 3, width=4.0, height=3.0, sharex=True)
    rows, data = [], {"f": f, "widths": WIDTHS}
    for column, (name, activation) in zip(
        axes.T, {"linear": cs.Identity(), "ReLU": cs.LeakyReLU(0.0)}.items(), strict=False
    ):
        ax, ratio = column
        mlp = cs.MLP(activation, depth_to_width=T)
        limit = cs.limit_output_density(mlp, f)
        ax.plot(f, limit, color=common.BLACK, linewidth=2, label="limit")
        ax.plot(f, np.exp(-(f**2) / 2) / math.sqrt(2 * math.pi), color="0.5", linewidth=1, label="Gaussian (T = 0)")
        data[f"{name}_limit"] = limit
        for k, n in enumerate(WIDTHS):
            layers = (n,) * round(T * n)
            density = cs.network_output_density(activation, layers, f)
            style = {"color": common.shades(3)[k], "linestyle": (":", "--", "-.")[k], "linewidth": 1.6}
            ax.plot(f, density, **style, label=f"networks, n = {n}, d = {len(layers)}")
            ratio.plot(f, density / limit, **style)
            data[f"{name}_{n}"] = density
            at = [density[np.argmin(np.abs(f - x))] for x in (0.5, 2.0)]
            rows.append(
                [name, f"n = {n}", *at, cs.network_kurtosis(activation, layers), cs.output_atom(activation, layers)]
            )
        at = [limit[np.argmin(np.abs(f - x))] for x in (0.5, 2.0)]
        rows.append([name, "limit", *at, cs.limit_kurtosis(mlp), 0.0])
        ax.set(yscale="log", ylim=(1e-4, 2), title=f"{name}, T = d/n = {T:g}")
        ratio.set(xlabel="output f (symmetric)", ylim=(0.6, 1.4))
        ax.legend()
    axes[0, 0].set_ylabel("density")
    axes[1, 0].set_ylabel("density / limit")
    # The same law by Monte Carlo: a Gaussian mixture over paths of the covariance SDE.
    shaped = cs.MLP(cs.ShapedReLU(0.5, -0.5), depth_to_width=T)
    paths = cs.simulate(shaped, np.eye(1), paths=run.paths, save_at=[0, 1], key=common.key(run, 0))
    sampled = cs.OutputLaw(paths).density(f)
    exact = cs.limit_output_density(shaped, f)
    ax, ratio = axes[:, 2]
    ax.plot(f, exact, color=common.BLACK, linewidth=2, label="limit, exact")
    low, high = sampled.value - 2 * sampled.standard_error, sampled.value + 2 * sampled.standard_error
    ax.fill_between(
        f, np.maximum(low, 1e-6), high, color=common.LIMIT, alpha=0.35, linewidth=0, label="mixture over paths, ±2 s.e."
    )
    ratio.fill_between(f, low / exact, high / exact, color=common.LIMIT, alpha=0.35, linewidth=0)
    ratio.set(xlabel="output f (symmetric)", ylim=(0.6, 1.4))
    for ratio in axes[1]:
        ratio.axhline(1, color=common.BLACK, linewidth=1)
    ax.set(yscale="log", ylim=(1e-4, 2), title="shaped ReLU: exact and sampled")
    ax.legend()
    z = (sampled.value - exact) / sampled.standard_error
    k = [int(np.argmin(np.abs(f - x))) for x in (0.5, 2.0)]
    found = [(float(sampled.value[i]), float(sampled.standard_error[i])) for i in k]
    rows.append(["shaped ReLU", "limit, sampled", *found, "", ""])
    rows.append(["shaped ReLU", "limit, exact", *(float(exact[i]) for i in k), cs.limit_kurtosis(shaped), 0.0])
    data |= {"shaped_limit": exact, "shaped_sampled": sampled.value, "shaped_standard_error": sampled.standard_error}
    return common.write(
        run,
        figure,
        data,
        caption="V₀ = 1. Lines are exact, not sampled. ReLU networks also output exactly 0 with the probability in the "
        f"table. Right: {run.paths} paths ({common.stopped(paths)}); largest deviation {np.max(np.abs(z)):.1f} s.e.",
        columns=("network", "law", "density at 0.5", "at 2", "kurtosis", "P(f = 0)"),
        rows=rows,
        parameters={"depth_to_width": T, "widths": WIDTHS},
    )


if __name__ == "__main__":
    sys.exit(main())
