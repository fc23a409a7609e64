"""Features that learn improve the exponent of hard tasks and not of easy ones: losses, and the exponent χ(β).

Theory for infinitely many modes, with finite widths beside it. Source: arXiv 2409.17858 for the model; its closed
equation is derived in the documentation.
"""

import sys

import common
import numpy as np

import covsde as cs

CAPACITY = 1.5


def main(argv: list[str] | None = None) -> int:
    """Draw the figure."""
    asked = common.settings(__file__, __doc__, argv, paths=None, draws=None)
    t = np.geomspace(0.3, asked.pick(1e3, 1e4), 40)
    widths = asked.pick([50, 400], [50, 200, 800])
    figure, axes = common.panels(1, 3)
    kept = {}
    for ax, beta, word in zip(axes[:2], (0.4, 1.2), ("hard", "easy"), strict=True):
        spectrum = cs.scaling.PowerLaw(1 + CAPACITY * beta, CAPACITY)
        for N, colour in zip([*widths, np.inf], [*common.shades(len(widths)), common.BLACK], strict=True):
            upto = t if np.isinf(N) else t[t <= 300]
            rich = cs.scaling.LearnedFeatures(spectrum, features=N, rate=1.0).losses(upto)
            lazy = cs.scaling.RandomFeatures(spectrum, features=N).losses(upto)
            name = "N = ∞" if np.isinf(N) else f"N = {N}"
            ax.plot(upto, rich.test, color=colour, label=f"{name}, learned")
            ax.plot(upto, lazy.test, color=colour, ls=":", label=f"{name}, frozen")
            kept[f"{word}/{name}"] = np.stack([upto, rich.test, lazy.test])
        ax.set(xscale="log", yscale="log", xlabel="training time t", ylabel="test loss", title=f"{word}, β = {beta}")
        ax.legend(fontsize=7)
    betas = asked.pick([0.3, 0.5, 0.8, 1.2], [0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.2, 1.5])
    window = np.geomspace(*asked.pick((3e2, 3e3), (1e3, 1e5)), 2)
    slopes, rows = [], []
    for beta in betas:
        spectrum = cs.scaling.PowerLaw(1 + CAPACITY * beta, CAPACITY)
        pair = []
        for gamma in (0.0, 1.0):
            loss = cs.scaling.LearnedFeatures(spectrum, rate=gamma).losses(window).test
            pair.append(float(-np.diff(np.log(loss))[0] / np.diff(np.log(window))[0]))
        slopes.append(pair)
        rows.append([beta, *pair, 2 * beta / (1 + beta) if beta < 1 else beta])
    found, line = np.array(slopes), np.linspace(0.15, 1.6, 100)
    axes[2].plot(line, np.where(line < 1, 2 * line / (1 + line), line), "-", color=common.BLACK, label="χ(β)")
    axes[2].plot(line, line, ":", color=common.BLACK, label="β")
    axes[2].plot(betas, found[:, 1], "o", color=common.LIMIT, label="learned features")
    axes[2].plot(betas, found[:, 0], "s", color=common.COLOURS[0], ms=4, label="frozen features")
    axes[2].set(xlabel="β", ylabel="exponent of the loss in t", title=f"slopes at t = {window[0]:g} … {window[1]:g}")
    axes[2].legend()
    figure.suptitle(f"Learned features, λ ~ k^-{CAPACITY}, target left beyond mode k ~ k^-{CAPACITY}β, P = ∞")
    return common.write(
        asked,
        figure,
        {"betas": np.array(betas), "slopes": found, **kept},
        caption="γ = 1. Slopes over a finite window: they approach χ(β) = 2β/(1 + β), and β from β = 1 on, slowly.",
        columns=("β", "frozen", "learned", "χ(β)"),
        rows=rows,
        parameters={"capacity": CAPACITY, "rate": 1.0},
    )


if __name__ == "__main__":
    sys.exit(main())
