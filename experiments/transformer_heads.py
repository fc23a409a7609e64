"""One head against 32 at large width: an infinitely wide transformer with one head is still random.

Quantiles of log V over layer time in depth-shaped attention, for networks, for their limit, and for the ODE of
infinitely many heads. Source of the limit: Noci et al. (2023), arXiv 2306.17759.
"""

import math
import sys

import common
import numpy as np

import covsde as cs

V0 = np.array([[1.5, 0.3, -0.4], [0.3, 0.8, 0.5], [-0.4, 0.5, 2.0]])
GAMMA, TAU0, TOKEN = math.sqrt(0.5), 2.0, 0


def main(argv: list[str] | None = None) -> int:
    run = common.settings(__file__, __doc__, argv, paths=(4000, 20_000), draws=(300, 2000))
    width, depth = run.pick((1024, 32), (2048, 64))

    def transformer(heads: float, ratio: float) -> cs.Transformer:
        return cs.Transformer(GAMMA, TAU0, heads, shaping="depth", depth_to_width=ratio, key_size=32)

    ode = cs.simulate(transformer(math.inf, 0.0), V0, paths=64, steps=100, key=common.key(run, 0))
    line = ode.log_variance(TOKEN)[:, 0]
    figure, axes = common.panels(1, 2, sharey=True)
    data, rows, ensembles = {"ode": line, "ode_tau": ode.tau}, [], []
    for ax, heads in zip(axes, (1, 32), strict=True):
        ratio = depth / width
        networks = cs.sample_networks(
            transformer(heads, ratio), V0, width=width, depth=depth, draws=run.draws, key=common.key(run, 1, heads)
        )
        same = cs.simulate(transformer(heads, ratio), V0, paths=run.paths, key=common.key(run, 2, heads))
        wide = cs.simulate(transformer(heads, 0.0), V0, paths=run.paths, key=common.key(run, 3, heads))
        common.band(ax, same.tau, same.log_variance(TOKEN), common.LIMIT, f"limit, L/n = 1/{width // depth}")
        for q, label in zip(common.quantiles(wide.log_variance(TOKEN)), ("", "", None), strict=True):
            style = {"color": common.COLOURS[1], "linestyle": "--", "linewidth": 1.3}
            ax.plot(wide.tau, q, **style, label=label if label is None else "limit, n = ∞: 10, 50, 90%" * (not label))
        common.bars(ax, networks.tau, networks.log_variance(TOKEN), 0, f"networks, n = {width}")
        ax.plot(ode.tau, line, color=common.BLACK, linestyle=":", linewidth=2, label="ODE, infinitely many heads")
        ax.set(title=f"{heads} head{'s' if heads > 1 else ''}", xlabel="layer time  τ = ℓ/L")
        for name, e in (("networks", networks), ("limit, same L/n", same), ("limit, n = ∞", wide)):
            quantiles = common.quantiles(e.V[-1, :, TOKEN, TOKEN], (0.1, 0.25, 0.5, 0.75, 0.9))
            rows.append([heads, name, *quantiles, common.stopped(e)])
            data[f"H{heads} {name}"] = common.quantiles(e.log_variance(TOKEN))
            data[f"H{heads} {name}, tau"] = e.tau
            ensembles.append(e)
    rows.append(["∞", "ODE", *[float(np.exp(line[-1]))] * 5, "none stopped"])
    axes[0].set_ylabel("log V of token 0")
    handles, labels = axes[0].get_legend_handles_labels()
    seen = dict(zip(labels, handles, strict=True))
    axes[0].set_ylim(bottom=-0.4)
    axes[0].legend(seen.values(), seen.keys(), loc="lower left", fontsize=7.5)
    return common.write(
        run,
        figure,
        data,
        caption=f"Depth-shaped attention without MLP, γ² = 1/2, τ₀ = {TAU0:g}, three tokens; L = {depth}, n = {width}. "
        f"{run.paths} paths, {run.draws} networks; {common.stopped(*ensembles)} (at +∞ in quantiles). Width removes "
        "randomness only with many heads.",
        columns=("heads", "law of V₀₀ at τ = 1", "10%", "25%", "50%", "75%", "90%", "stopped"),
        rows=rows,
        parameters={"gamma": GAMMA, "tau0": TAU0, "width": width, "depth": depth, "V0": V0},
    )


if __name__ == "__main__":
    sys.exit(main())
