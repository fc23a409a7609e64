"""Trainability map: where tokens collapse and gradients vanish in a deep transformer with layer normalisation.

Angle exponent λ_a and gradient exponent λ_g per block, at the fixed point of a token's length, over the residual weight
α (attention and MLP alike) and the weight scale σ_w of the tanh MLP. λ_a = 0 is the edge between collapse and chaos.
After Cowsik et al. (2024), arXiv 2403.02579.
"""

import sys

import common
import numpy as np

import covsde as cs


def main(argv: list[str] | None = None) -> int:
    run = common.settings(__file__, __doc__, argv, paths=None, draws=None)
    points = run.pick(31, 121)
    alpha, sigma = np.linspace(0.02, 0.98, points), np.linspace(1, 4, points)
    block = cs.BlockMap(alpha[:, None], alpha[:, None], sigma[None])
    maps = {
        "deep: λ$_a$ at q = q*, equal to λ$_g$": block.angle_exponent(),
        "first block: λ$_a$ at q = 1": block.angle_exponent(q=1.0),
    }
    figure, axes = common.panels(1, 2, sharey=True)
    edges = {}
    for ax, (name, values) in zip(axes, maps.items(), strict=True):
        ax.grid(visible=False)
        mesh = ax.pcolormesh(
            sigma, alpha, values, vmin=-0.4, vmax=0.05, cmap="cividis", shading="nearest", rasterized=True
        )
        ax.contour(sigma, alpha, values, levels=[0.0], colors="k", linewidths=2)
        lines = ax.contour(sigma, alpha, values, levels=[-0.3, -0.1, -0.03, 0.03, 0.1], colors="k", linewidths=0.5)
        ax.clabel(lines, fontsize=7, fmt="%g")
        ax.set(title=name, xlabel="weight scale σ$_w$ of the MLP")
        # σ_w at which the exponent changes sign, for a few α.
        crossing = [np.interp(0.0, row, sigma) if row[-1] > 0 > row[0] else np.nan for row in values]
        edges[name] = np.asarray(crossing)
    axes[0].set_ylabel("residual weight α")
    figure.colorbar(mesh, ax=axes, label="exponent per block (collapse below 0)", extend="both")
    chosen = [int(np.argmin(np.abs(alpha - a))) for a in (0.1, 0.2, 0.3, 0.4, 0.5)]
    deep, first = maps
    return common.write(
        run,
        figure,
        {
            "alpha": alpha,
            "sigma": sigma,
            "deep": maps[deep],
            "first": maps[first],
            "gradient": block.gradient_exponent(),
        },
        caption="Blocks with layer normalisation, many tokens; nothing here is sampled. Thick line: exponent 0; thin "
        "lines: ±0.03, ±0.1, -0.3 per block.",
        columns=("α", "σ_w of the edge, deep", "σ_w of the edge, first block"),
        rows=[
            [f"{alpha[i]:.2f}", *(e if np.isfinite(e) else "none below 4" for e in (edges[deep][i], edges[first][i]))]
            for i in chosen
        ],
        parameters={"alpha": [0.02, 0.98], "sigma_w": [1, 4], "points": points},
    )


if __name__ == "__main__":
    sys.exit(main())
