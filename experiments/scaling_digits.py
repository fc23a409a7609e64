"""Kernel regression on images of digits: learning curves predicted from a spectrum, at three ridges, and measured.

The kernel is that of an infinitely wide ReLU network of three hidden layers. Sources: arXiv 2402.01092 for the theory;
its form for inputs drawn from a finite pool is derived in the documentation.
"""

import sys

import common
import numpy as np
from sklearn.datasets import load_digits

import covsde as cs


def main(argv: list[str] | None = None) -> int:
    """Draw the figure."""
    asked = common.settings(__file__, __doc__, argv, paths=None, draws=(4, 30))
    images, labels = load_digits(return_X_y=True)
    chosen = np.random.default_rng(asked.seed).permutation(len(images))[: asked.pick(900, len(images))]
    x, y = images[chosen], np.eye(10)[labels[chosen]]
    V0 = cs.gram(x)
    V0 /= np.sqrt(np.outer(np.diag(V0), np.diag(V0)))
    K = np.asarray(cs.kernels(cs.MeanFieldMLP("relu", depth=3), V0).nngp)
    samples = [20, 50, 100, 200, 400] if asked.quick else [20, 50, 100, 200, 500, 1000]
    figure, (spectrum, curves, flow) = common.panels(1, 3)
    regression = cs.scaling.KernelRegression(K, y - y.mean(axis=0))
    modes, fitted = regression.spectrum.modes, cs.scaling.exponents(regression.spectrum)
    k = np.arange(1, len(modes.eigenvalues) + 1)
    spectrum.loglog(k, modes.eigenvalues, color=common.LIMIT, label=f"λ_k, b = {fitted.capacity:.2f}")
    spectrum.loglog(k, modes.energies, ".", ms=2.5, color=common.COLOURS[0], label=f"λ_k w_k², a = {fitted.source:.2f}")
    spectrum.set(xlabel="mode k", title="spectrum")
    spectrum.legend()
    rows, kept = [], []
    for j, relative in enumerate((1.0, 0.1, 0.0)):
        ridge = relative * float(np.trace(K)) / len(K)
        each = cs.scaling.KernelRegression(K, y - y.mean(axis=0), penalty=ridge)
        law, draws = each.predicted(samples), each.measured(samples, asked.draws, common.key(asked, j))
        curves.plot(samples, law.test, color=common.COLOURS[j], label=f"ridge {relative:g}")
        curves.errorbar(
            samples, draws.test.mean(axis=1), draws.test.std(axis=1), fmt="o", ms=4, color=common.COLOURS[j]
        )
        ratio = draws.test.mean(axis=1) / law.test
        kept.append(np.stack([law.test, draws.test.mean(axis=1)]))
        rows.append([f"{relative:g}", *(float(r) for r in ratio)])
    curves.set(xscale="log", yscale="log", xlabel="training inputs P", title="test loss, sum over ten outputs")
    common.ticks(curves, samples)
    curves.legend()
    P, t = 100, np.geomspace(1, 1e6, 16)
    law, draws = regression.predicted_flow(t, P), regression.measured_flow(t, P, asked.draws, common.key(asked, 9))
    for name, colour in (("test", common.LIMIT), ("train", common.COLOURS[0])):
        flow.plot(t, getattr(law, name), color=colour, label=name)
        flow.errorbar(
            t, getattr(draws, name).mean(axis=1), getattr(draws, name).std(axis=1), fmt="o", ms=3, color=colour
        )
    flow.set(xscale="log", yscale="log", xlabel="training time t", title=f"gradient flow, P = {P}", ylim=(1e-3, None))
    flow.legend()
    figure.suptitle(f"Kernel regression on {len(K)} digits")
    return common.write(
        asked,
        figure,
        {"samples": np.array(samples), "losses": np.array(kept), "eigenvalues": modes.eigenvalues},
        caption=f"Lines: theory from the spectrum. Dots: {asked.draws} sets of training inputs, bars one standard "
        "deviation. Ridge in units of the kernel's mean diagonal. Table: measured/predicted.",
        columns=("ridge", *(f"P = {P}" for P in samples)),
        rows=rows,
        parameters={"inputs": len(K), "capacity": fitted.capacity, "source": fitted.source},
    )


if __name__ == "__main__":
    sys.exit(main())
