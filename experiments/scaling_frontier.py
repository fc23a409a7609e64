"""How many features to train for how long: losses against compute C = N t, and their envelope.

Theory for infinitely many modes. Source: arXiv 2402.01092.
"""

import sys

import common
import numpy as np

import covsde as cs

SOURCE, CAPACITY = 1.5, 1.25


def main(argv: list[str] | None = None) -> int:
    """Draw the figure."""
    asked = common.settings(__file__, __doc__, argv, paths=None, draws=None)
    model = cs.scaling.RandomFeatures(cs.scaling.PowerLaw(SOURCE, CAPACITY))
    compute = np.geomspace(1e2, 1e7, asked.pick(6, 16))
    front = cs.scaling.frontier(model, compute)
    figure, (curves, sizes) = common.panels(1, 2)
    widths = [4, 16, 64, 256, 1024, 4096]
    for N, colour in zip(widths, common.shades(len(widths)), strict=True):
        t = np.geomspace(0.5, 1e7 / N, 40)
        loss = cs.scaling.RandomFeatures(model.spectrum, features=N).losses(t).test
        curves.loglog(N * t, loss, color=colour, lw=1.2, label=f"N = {N}")
    curves.loglog(compute, front.losses, "o--", ms=4, color=common.BLACK, label="best N")
    curves.set(xlabel="compute C = N t", ylabel="test loss", title="losses at fixed N and their envelope")
    curves.legend()
    wanted = (1 / (1 + CAPACITY), -(SOURCE - 1) / (1 + CAPACITY))
    slopes = [np.diff(np.log(x)) / np.diff(np.log(compute)) for x in (front.features, front.losses)]
    sizes.loglog(compute, front.features, "o-", ms=4, color=common.LIMIT, label="N*")
    sizes.loglog(compute, front.times, "s-", ms=4, color=common.COLOURS[0], label="t*")
    middle = len(compute) // 2
    for values, exponent, style in ((front.features, wanted[0], ":"), (front.times, 1 - wanted[0], "--")):
        line = values[middle] * (compute / compute[middle]) ** exponent
        sizes.loglog(compute, line, style, color=common.BLACK, lw=1, label=f"C^{exponent:.3f}")
    sizes.set(xlabel="compute C", title="the best width and time")
    sizes.legend()
    figure.suptitle(f"Compute-optimal random features, a = {SOURCE}, b = {CAPACITY}")
    rows = [[float(C), float(N), float(L)] for C, N, L in zip(compute, front.features, front.losses, strict=True)]
    return common.write(
        asked,
        figure,
        {"compute": compute, "features": front.features, "losses": front.losses},
        caption=f"Last local slopes: N* {slopes[0][-1]:.3f} against {wanted[0]:.3f}, L* {slopes[1][-1]:.3f} against "
        f"{wanted[1]:.3f}. N is real, as the theory allows.",
        columns=("C", "N*", "L*"),
        rows=rows,
        parameters={"source": SOURCE, "capacity": CAPACITY},
    )


if __name__ == "__main__":
    sys.exit(main())
