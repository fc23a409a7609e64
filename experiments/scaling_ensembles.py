"""Averaging students or widening one, at the same compute: what ensembles over features and over data remove.

Theory, and students drawn and trained for the loss of one. Source: arXiv 2402.01092.
"""

import sys

import common
import numpy as np

import covsde as cs

SOURCE, CAPACITY, TIME = 1.5, 1.25, 100.0


def main(argv: list[str] | None = None) -> int:
    """Draw the figure."""
    asked = common.settings(__file__, __doc__, argv, paths=None, draws=(12, 60))
    modes, samples, total = asked.pick((400, 150, 320), (2000, 600, 1280))
    spectrum = cs.scaling.PowerLaw(SOURCE, CAPACITY, modes=modes)
    figure, (over, fixed) = common.panels(1, 2)
    t = np.geomspace(0.5, 1e4, asked.pick(30, 60))
    model = cs.scaling.RandomFeatures(spectrum, features=total / 4, samples=samples)
    over.plot(t, model.losses(t).test, color=common.BLACK, label="one student")
    found = {}
    for k, what in enumerate(("features", "samples", "both")):
        found[what] = model.ensemble(t, what)
        text = {"features": "independent features", "samples": "independent data", "both": "both"}[what]
        over.plot(t, found[what], color=common.COLOURS[k], ls=("-", "--", ":")[k], label=f"∞ students, {text}")
    over.set(xscale="log", yscale="log", xlabel="training time t", ylabel="test loss", title=f"N = {total // 4}")
    over.legend()
    members, rows, lines = [1, 2, 4, 8, 16], [], []
    for noise, colour in zip((0.0, 0.3), (common.LIMIT, common.COLOURS[0]), strict=True):
        losses = []
        for E in members:
            one = cs.scaling.RandomFeatures(spectrum, features=total // E, samples=samples, noise=noise)
            losses.append(float(one.ensemble([TIME], "features", members=E)[0]))
            if noise == 0:
                draws = cs.scaling.train_networks(one, [TIME], draws=asked.draws, key=common.key(asked, E))
                rows.append([E, total // E, losses[-1], float(one.losses([TIME]).test[0]), common.mean(draws.test[-1])])
        lines.append(losses)
        fixed.plot(members, losses, "o-", ms=4, color=colour, label=f"noise σ² = {noise:g}")
    fixed.set(xscale="log", xlabel="students E of N/E features each", title=f"E N = {total}, t = {TIME:g}")
    fixed.set_xticks(members, [str(E) for E in members])
    fixed.legend()
    figure.suptitle(f"Ensembles of random features, P = {samples}")
    return common.write(
        asked,
        figure,
        {"times": t, "members": np.array(members), "losses": np.array(lines), **found},
        caption=f"M = {modes} modes, a = {SOURCE}, b = {CAPACITY}. One student of N features beats any ensemble of the "
        f"same total width. {asked.draws} draws of one student in the table; none failed.",
        columns=("E", "N each", "ensemble", "one of them", "drawn"),
        rows=rows,
        parameters={"source": SOURCE, "capacity": CAPACITY, "modes": modes, "samples": samples},
    )


if __name__ == "__main__":
    sys.exit(main())
