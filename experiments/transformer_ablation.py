"""Which of the three modifications of shaped attention matter: identity, centring, temperature, in all combinations.

Attention alone, with residual branches: the identity keeps tokens apart, centring keeps their size, the temperature
keeps both over a depth of the order of the width. After the ablation of Noci et al. (2023), arXiv 2306.17759.
"""

import itertools
import sys

import common
import numpy as np
from transformer_rank_collapse import GAMMA, mean_correlation

import covsde as cs

LETTERS, M = "ICT", 8
V0 = 0.8 * np.eye(M) + 0.2


def main(argv: list[str] | None = None) -> int:
    run = common.settings(__file__, __doc__, argv, paths=None, draws=(24, 200))
    width, depth = run.pick((96, 48), (300, 150))
    save = np.linspace(0, 1, 25)
    figure, axes = common.panels(1, 2, width=5.0)
    rows, data, ensembles = [], {}, []
    for k, switches in enumerate(itertools.product((True, False), repeat=3)):
        design = cs.Transformer(GAMMA, 1.0, attention=cs.Attention(*switches))
        e = cs.sample_networks(
            design, V0, width=width, depth=depth, draws=run.draws, save_at=save, key=common.key(run, k)
        )
        ensembles.append(e)
        rho = common.quantiles(mean_correlation(e.V))[1]
        with np.errstate(divide="ignore", invalid="ignore"):
            # A network that overflowed is larger than any.
            V = np.where(np.isnan(e.V[..., 0, 0]), np.inf, e.V[..., 0, 0])
            size = np.log10(common.quantiles(V)[1])
        label = "".join(letter if on else "–" for letter, on in zip(LETTERS, switches, strict=True))
        colour = common.shades(4)[k % 4]
        style = {
            "color": colour,
            "linestyle": "-" if switches[0] else "--",
            "marker": "os^Dv*PX"[k],
            "markevery": (k, 8),
            "markersize": 4.5,
        }
        for ax, y in ((axes[0], rho), (axes[1], size)):
            ax.plot(e.tau * depth, np.where(np.isfinite(y), y, np.nan), **style, label=label)
        rows.append([*("yes" if on else "no" for on in switches), float(rho[-1]), float(size[-1]), common.stopped(e)])
        data |= {f"correlation_{k}": rho, f"log10_size_{k}": size, "tau": e.tau}
    for ax, what in ((axes[0], "mean |ρ| over pairs of tokens"), (axes[1], "log₁₀ V of token 0, median")):
        ax.set(xlabel=f"block ℓ  (layer time τ = ℓ/{depth})", ylabel=what)
    axes[0].set(ylim=(0, 1.03), title="correlation of tokens, median of networks")
    axes[1].set_title("size of a token")
    axes[1].legend(title="Identity, Centring, Temperature", ncols=2, title_fontsize=8)
    return common.write(
        run,
        figure,
        data,
        caption=f"{M} tokens, ρ₀ = 0.2, γ² = 1/8, τ₀ = 1. {run.draws} networks of width {width}, {depth} blocks, for "
        f"each of the eight ({common.stopped(*ensembles)}). ICT is shaped attention, ––– is the usual softmax.",
        columns=("identity", "centring", "temperature", "mean |ρ| at the end", "log₁₀ V", "overflow"),
        rows=rows,
        parameters={"tokens": M, "gamma": GAMMA, "tau0": 1.0, "width": width, "depth": depth},
    )


if __name__ == "__main__":
    sys.exit(main())
