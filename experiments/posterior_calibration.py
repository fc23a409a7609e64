"""Ranks of the truth in the Bayesian posterior at proportional depth and width, and how many paths it rests on.

Data drawn from the limit or from finite networks have uniform ranks in a right posterior. Importance weights over paths
of the prior degenerate with the number of data; a particle filter in layer time does not. Sources: Hanin, Jiang (2026),
arXiv 2605.30860; Hanin, Zlokapa (2022), arXiv 2212.14457 for deep linear networks.
"""

import sys
import warnings

import common
import numpy as np
from validation.posterior import NOISE, STATISTICS, T, calibration, data_sets, flatness, inputs

import covsde as cs

OBSERVED = 8


def main(argv: list[str] | None = None) -> int:
    run = common.settings(__file__, __doc__, argv, paths=(400, 4000), draws=(16, 200))
    mlp = cs.MLP(cs.ShapedReLU(0.0, -1.0), depth_to_width=T)
    V0, save = inputs(OBSERVED), [0.0, 1.0]
    sources = {"limit": cs.simulate(mlp, V0, paths=run.draws, steps=64, save_at=save, key=common.key(run, 0))}
    for n in run.pick((100,), (100, 400)):
        key = common.key(run, 1, n)
        sources[f"n = {n}"] = cs.sample_networks(mlp, V0, width=n, draws=run.draws, save_at=save, key=key)
    figure, axes = common.panels(1, 3, width=4.0)
    rows, data = [], {}
    level = np.linspace(0, 1, 101)
    # Kolmogorov's band: the empirical law of uniform ranks stays inside with probability 0.95.
    band = 1.36 / np.sqrt(run.draws)
    for ax, k in ((axes[0], 0), (axes[1], 2)):
        ax.fill_between(level, -band, band, color="0.85", linewidth=0, label="uniform, 95% band")
        ax.set(xlabel="rank", title=STATISTICS[k], ylim=(-2.5 * band, 2.5 * band))
    for which, (name, ensemble) in enumerate(sources.items()):
        u, _ = calibration(mlp, V0, ensemble, paths=run.paths, seed=run.seed + which + 1)
        data[f"ranks {name}"] = u
        for k, statistic in enumerate(STATISTICS):
            counts, p = flatness(u[:, k])
            rows.append([f"data from {name}", statistic, " ".join(map(str, counts)), p])
        for ax, k in ((axes[0], 0), (axes[1], 2)):
            empirical = np.searchsorted(np.sort(u[:, k]), level, side="right") / u.shape[0]
            colour = common.LIMIT if which == 0 else common.COLOURS[which - 1]
            ax.plot(
                level, empirical - level, color=colour, linestyle=("-", "--", ":")[which], label=f"data from {name}"
            )
    axes[0].set_ylabel("empirical law of ranks - uniform")
    axes[0].legend()
    counted = run.pick((2, 8), (1, 2, 4, 8, 12))
    sizes = np.array([[*effective(mlp, P, run)] for P in counted])
    data |= {"observed": counted, "sizes": sizes}
    for k, label in enumerate(("importance weights", "filter", "filter: families")):
        axes[2].plot(counted, sizes[:, k], color=(common.BLACK, common.LIMIT, common.COLOURS[3])[k], label=label)
        axes[2].plot(counted, sizes[:, k], common.MARKERS[k], color=(common.BLACK, common.LIMIT, common.COLOURS[3])[k])
    axes[2].set(yscale="log", xlabel="observed inputs P", title=f"effective sample of {run.paths}", ylim=(1, None))
    axes[2].legend()
    rows += [
        [f"P = {P}", "effective sample", f"weights {a:.1f}, filter {b:.1f}", ""]
        for P, (a, b, _) in zip(counted, sizes, strict=True)
    ]
    return common.write(
        run,
        figure,
        data,
        caption=f"Shaped ReLU (0, -1), T = {T}, σ² = {NOISE}, {OBSERVED} observed inputs and one test input; "
        f"{run.draws} data sets a curve, {run.paths} particles each; paths of the prior: "
        f"{common.stopped(*sources.values())}.",
        columns=("data", "rank of", "counts in tenths", "p of Kolmogorov's test"),
        rows=rows,
        parameters={"depth_to_width": T, "noise_variance": NOISE, "observed": OBSERVED},
    )


def effective(mlp: cs.MLP, observed: int, run: common.Settings) -> np.ndarray:
    """Median effective samples of importance weights and of the filter, and the filter's families."""
    V0, save = inputs(observed), [0.0, 1.0]
    prior = cs.simulate(mlp, V0, paths=run.paths, save_at=save, key=common.key(run, 2, observed))
    some = cs.simulate(mlp, V0, paths=run.pick(1, 20), save_at=save, key=common.key(run, 3, observed))
    found = []
    with warnings.catch_warnings():
        # It is what the figure shows.
        warnings.simplefilter("ignore", cs.EffectiveSampleSizeWarning)
        for k, drawn in enumerate(data_sets(some, observed, NOISE, run.seed)):
            plain = cs.posterior(prior, drawn.y, NOISE)
            p = cs.sequential_posterior(mlp, V0, drawn.y, NOISE, paths=run.paths, key=k)
            found.append([plain.effective_sample_size, p.effective_sample_size, p.families])
    return np.median(found, axis=0)


if __name__ == "__main__":
    sys.exit(main())
