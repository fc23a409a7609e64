"""What reusing a matrix in the backward pass does in a deep ResNet: networks and limits with and without responses.

One input, the first output f(1) after one step against depth; and f over updates. Without responses the limit is that
of networks whose backward pass has independent matrices. Sources: arXiv 2310.02244, 2309.16620; 2512.21075 for the
system without responses.
"""

import sys

import common
import jax.numpy as jnp
import numpy as np

import covsde as cs

CASES = {
    "linear, β = 1, η$_0$ = 0.2": (cs.ResNet("linear"), 0.2),
    "tanh, β = 1.5, η$_0$ = 0.3": (cs.ResNet(jnp.tanh, 1.5), 0.3),
}
COLOURS = ("#0072B2", "#D55E00")
UPDATES = 4


def main(argv: list[str] | None = None) -> int:
    """Draw the figure."""
    asked = common.settings(__file__, __doc__, argv, paths=(8000, 80_000), draws=(200, 200))
    depths = asked.pick([2, 8, 32], [1, 2, 4, 8, 16, 32, 64])
    width, draws, paths = asked.pick(128, 512), asked.draws, asked.paths
    settings: dict = {"targets": [1.0], "updates": UPDATES, "save_at": [0, 1]}
    rows, kept = [], {}
    figure, axes = common.panels(2, 2)
    diverged = 0
    for r, (title, (res, rate)) in enumerate(CASES.items()):
        theory, networks, error = (np.zeros((2, len(depths), UPDATES + 1)) for _ in range(3))
        for j, depth in enumerate(depths):
            for i, response in enumerate((True, False)):
                more = settings | {"learning_rate": rate, "response": response}
                theory[i, j] = cs.train(res, [[1.0]], depth=depth, paths=paths, key=asked.seed, **more).outputs[:, 0]
                run = cs.train_networks(
                    res, [[1.0]], width=width, depth=depth, draws=draws, key=asked.seed + 2 * depth + i, **more
                )
                diverged += run.failures["total"]
                estimate = run.controlled_mean(lambda r: r.outputs[1:, :, 0].T, lambda r: r.outputs[0])
                networks[i, j, 1:], error[i, j, 1:] = estimate
        infinite = [
            cs.train(res, [[1.0]], paths=paths, learning_rate=rate, response=response, key=asked.seed, **settings)
            for response in (True, False)
        ]
        left, right = axes[r]
        for i, name in enumerate(("transposes", "independent backward matrices")):
            color, kind = COLOURS[i], ("with", "without")[i]
            left.plot(depths, theory[i, :, 1], "-", color=color, label=f"limit, {kind} responses")
            left.errorbar(
                depths, networks[i, :, 1], yerr=error[i, :, 1], fmt="o", ms=4, color=color, label=f"networks, {name}"
            )
            left.axhline(infinite[i].outputs[1, 0], color=color, ls=":", lw=1)
            right.plot(theory[i, -1], "-", color=color)
            right.errorbar(range(UPDATES + 1), networks[i, -1], yerr=error[i, -1], fmt="o", ms=4, color=color)
        left.set(xscale="log", xlabel="depth L", ylabel="f after one step", title=title)
        left.set_xticks(depths, [str(L) for L in depths], minor=False)
        left.minorticks_off()
        right.set(xlabel="updates", ylabel="f", title=f"L = {depths[-1]}", xticks=range(UPDATES + 1))
        right.legend(*left.get_legend_handles_labels(), frameon=False, fontsize=8, loc="lower right")
        for j, depth in enumerate(depths):
            gap, spread = networks[0, j, 1] - networks[1, j, 1], np.hypot(*error[:, j, 1])
            rows.append([title, str(depth), f"{gap:.4f} ± {spread:.4f}", float(theory[0, j, 1] - theory[1, j, 1])])
        rows.append([title, "∞", "", float(infinite[0].outputs[1, 0] - infinite[1].outputs[1, 0])])
        kept |= {f"theory{r}": theory, f"networks{r}": networks, f"error{r}": error}
    figure.suptitle("Responses survive infinite depth")
    return common.write(
        asked,
        figure,
        {"depths": depths, **kept},
        caption=f"One input, y = 1, limits of {paths} particles; {draws} networks of width {width}, bars one "
        f"standard error, f(0) regressed out; dotted: L = ∞. Networks whose training diverged: {diverged}.",
        columns=("case", "L", "gap of networks", "gap of limits"),
        rows=rows,
        parameters={"width": width, "updates": UPDATES, "targets": [1.0]},
    )


if __name__ == "__main__":
    sys.exit(main())
