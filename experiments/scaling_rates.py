"""Learning rates that are optimal over a horizon, for an easy and a hard task: schedules, and losses against T.

Theory for infinitely many modes, and runs of SGD with the optimal schedule of the shortest horizon.
Source: arXiv 2602.04774 for the question; the optimum is derived in the documentation.
"""

import sys

import common
import numpy as np

import covsde as cs

CAPACITY, NOISE, BATCH = 1.5, 0.25, 4
TASKS = {"easy": 3.0, "hard": 1.25}


def main(argv: list[str] | None = None) -> int:
    """Draw the figure."""
    asked = common.settings(__file__, __doc__, argv, paths=None, draws=(60, 400))
    horizons = asked.pick([50, 100, 200, 400], [100, 200, 400, 800, 1600, 3200])
    figure, axes = common.panels(1, 3)
    kept, rows = {}, []
    for k, (ax, (word, source)) in enumerate(zip(axes[:2], TASKS.items(), strict=True)):
        model = cs.scaling.RandomFeatures(cs.scaling.PowerLaw(source, CAPACITY), noise=NOISE)
        best, constant = [], []
        for T, colour in zip(horizons, common.shades(len(horizons)), strict=True):
            found = cs.scaling.optimal_rates(model, T, BATCH, tolerance=1e-9)
            ax.plot((np.arange(T) + 0.5) / T, found.rates, color=colour, label=f"T = {T}")
            best.append(float(found.losses[-1]))
            constant.append(found.constant_loss)
            kept[f"{word}/{T}"] = found.rates
            drawn: object = "–"
            if not best[1:]:
                # Modes that are cut off act as noise of a size that SGD at this horizon cannot tell.
                cut = cs.scaling.RandomFeatures(cs.scaling.PowerLaw(source, CAPACITY, modes=300), noise=NOISE)
                runs = cs.scaling.train_networks_online(
                    cut, found.rates, BATCH, draws=asked.draws, key=common.key(asked, k)
                )
                z = runs.test[-1].mean() - cs.scaling.online(cut, found.rates, BATCH)[-1]
                drawn = float(z / (runs.test[-1].std(ddof=1) / np.sqrt(asked.draws)))
            rows.append([word, T, best[-1], constant[-1], found.sweeps, drawn])
        ax.set(xlabel="step/T", ylabel="optimal rate η", title=f"{word}: a = {source} (b = {CAPACITY})")
        ax.legend(fontsize=7)
        slopes = [np.polyfit(np.log(horizons), np.log(x), 1)[0] for x in (best, constant)]
        colour = (common.LIMIT, common.COLOURS[0])[k]
        axes[2].loglog(horizons, best, "o-", ms=4, color=colour, label=f"{word}, optimal, slope {slopes[0]:.2f}")
        axes[2].loglog(horizons, constant, "s:", ms=4, color=colour, label=f"{word}, constant, slope {slopes[1]:.2f}")
    axes[2].set(xlabel="horizon T", ylabel="test loss after T steps", title="losses")
    common.ticks(axes[2], horizons)
    axes[2].legend(fontsize=7)
    figure.suptitle(f"Optimal learning rates of online SGD, batch {BATCH}, σ² = {NOISE}")
    return common.write(
        asked,
        figure,
        {"horizons": np.array(horizons), **kept},
        caption="Predicted slopes: easy -2/3 (optimal), -4/7 (constant); hard -1/6 (optimal). Stationary rate by rate; "
        f"z: {asked.draws} runs with the first schedule against its mean loss.",
        columns=("task", "T", "optimal loss", "best constant", "sweeps", "z of runs"),
        rows=rows,
        parameters={"capacity": CAPACITY, "noise": NOISE, "batch": BATCH, **TASKS},
    )


if __name__ == "__main__":
    sys.exit(main())
