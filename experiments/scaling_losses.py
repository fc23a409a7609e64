"""Test and train loss of random features over training, for several widths: early 1/N, late plateaus.

Theory for an infinite power law cut off at M modes, and finite students drawn and trained on the same modes.
Source: arXiv 2402.01092.
"""

import sys

import common
import numpy as np

import covsde as cs

SOURCE, CAPACITY = 1.5, 1.25


def main(argv: list[str] | None = None) -> int:
    """Draw the figure."""
    asked = common.settings(__file__, __doc__, argv, paths=None, draws=(40, 100))
    modes, samples = asked.pick((400, 200), (2000, 1000))
    widths = asked.pick([20, 50, 120], [30, 100, 300, 800])
    spectrum = cs.scaling.PowerLaw(SOURCE, CAPACITY, modes=modes)
    t, few = np.geomspace(0.1, 1e5, 60), np.geomspace(1, 1e4, 5)
    figure, (test, train, early) = common.panels(1, 3)
    kept, rows = [], []
    infinite = cs.scaling.RandomFeatures(spectrum, samples=samples)
    for k, (N, colour) in enumerate(zip(widths, common.shades(len(widths)), strict=True)):
        model = cs.scaling.RandomFeatures(spectrum, features=N, samples=samples)
        law, draws = model.losses(t), cs.scaling.train_networks(model, few, draws=asked.draws, key=common.key(asked, k))
        at = model.losses(few)
        for ax, name in ((test, "test"), (train, "train")):
            ax.plot(t, getattr(law, name), color=colour, label=f"N = {N}")
            values = getattr(draws, name)
            ax.errorbar(few, values.mean(axis=1), values.std(axis=1, ddof=1), fmt="o", ms=3.5, color=colour)
        kept.append([law.test, law.train])
        mean = draws.test.mean(axis=1)
        error = draws.test.std(axis=1, ddof=1) / np.sqrt(asked.draws)
        z = np.abs((mean - at.test) / error).max()
        rows.append([N, float(at.test[-1]), (float(mean[-1]), float(error[-1])), float(z), model.plateau()[0]])
    for ax, name in ((test, "test loss"), (train, "train loss")):
        ax.set(xscale="log", yscale="log", xlabel="training time t", title=name)
        ax.legend()
    train.set_ylim(bottom=1e-3)
    grid, whole = np.array([100, 200, 400, 800]), cs.scaling.PowerLaw(SOURCE, CAPACITY)
    for time, marker in ((1.0, "o"), (100.0, "s"), (3000.0, "^")):
        end = cs.scaling.RandomFeatures(whole).losses([time]).test[0]
        gaps = [cs.scaling.RandomFeatures(whole, features=N).losses([time]).test[0] - end for N in grid]
        slope = np.polyfit(np.log(grid), np.log(gaps), 1)[0]
        early.loglog(grid, gaps, marker + "-", ms=4, label=f"t = {time:g}, slope {slope:.2f}")
    early.set(xlabel="features N", title="L(t, N) - L(t, ∞), P = ∞, all modes")
    common.ticks(early, grid)
    early.legend()
    figure.suptitle(f"Random features, λ ~ k^-{CAPACITY}, λw² ~ k^-{SOURCE}, P = {samples}")
    return common.write(
        asked,
        figure,
        {"times": t, "features": np.array(widths), "losses": np.array(kept), "infinite": infinite.losses(t).test},
        caption=f"Lines: theory, M = {modes} modes. Dots: {asked.draws} students drawn and trained exactly, bars one "
        "standard deviation; none failed.",
        columns=("N", "test loss, t = 10⁴", "drawn", "largest |z|", "plateau"),
        rows=rows,
        parameters={"source": SOURCE, "capacity": CAPACITY, "modes": modes, "samples": samples},
    )


if __name__ == "__main__":
    sys.exit(main())
