"""Learning curves: test loss against the number P of trained inputs, limit and networks, alone and as an ensemble.

Source: Li, Noci, Hanin, feature learning in the proportional limit (announced; M. Li's lecture notes STAT 946,
Waterloo, 2025); ensembles against means over initializations as in arXiv 2305.18411.
"""

import sys
from typing import Any

import common
import jax.numpy as jnp
import numpy as np

import covsde as cs

T = 0.5


def main(argv: list[str] | None = None) -> int:
    run = common.settings(__file__, __doc__, argv, paths=(48, 1000), draws=(24, 500))
    counts, tested, updates = run.pick(((4, 8), 12, 4), ((4, 8, 16, 32, 64), 60, 20))
    widths = run.pick((16,), (32, 64))
    V0, y = common.teacher(max(counts), tested, run.seed)
    mlp = cs.MLP(cs.ShapedSmooth(jnp.tanh), depth_to_width=T)
    same: dict[str, Any] = {"updates": updates, "kernels": False, "dtype": np.float32, "save_at": [0, 1]}
    names = ("limit", *(f"n = {n}, L = {mlp.depth(n)}" for n in widths))
    found: dict[str, list[cs.Training]] = {name: [] for name in names}
    for P in counts:
        rows = [*range(P), *range(max(counts), len(y))]
        # The batch's kernel grows with P: the rate falls with it.
        task = {"targets": y[rows], "batches": list(range(P)), "learning_rate": 2.0 / max(P, 8)} | same
        gram = V0[np.ix_(rows, rows)]
        how: dict[str, Any] = {"method": "weights", "key": common.key(run, 0, P), "step_error": False}
        found["limit"].append(cs.train(mlp, gram, paths=run.paths, **how, **task))
        for name, n in zip(names[1:], widths, strict=True):
            how = {"width": n, "draws": run.draws, "method": "weights", "key": common.key(run, n, P)}
            found[name].append(cs.train_networks(mlp, gram, **how, **task))
    losses = {name: np.stack([r.test_losses[-1] for r in runs]) for name, runs in found.items()}
    ensembles = {name: [r.ensembled(trained=False) for r in runs] for name, runs in found.items()}
    figure, axes = common.panels(1, 2, width=4.6)
    common.band(axes[0], counts, losses["limit"], common.LIMIT, "limit")
    for which, name in enumerate(names[1:]):
        common.bars(axes[0], counts, losses[name], which, f"networks, {name}")
    nothing = 0.5 * float(np.mean(y[max(counts) :] ** 2))
    for k, name in enumerate(names):
        colour, marker = (common.LIMIT, *common.COLOURS)[k], ("", *common.MARKERS)[k]
        value, error = (np.array([e[part][-1] for e in ensembles[name]]) for part in (0, 1))
        axes[1].errorbar(
            counts, value, yerr=2 * error, color=colour, marker=marker, capsize=2, label=f"{name}, ensemble"
        )
        middle = np.median(losses[name], axis=1)
        axes[1].plot(counts, middle, color=colour, marker=marker, linestyle="--", label=f"{name}, one network (median)")
    for ax in axes:
        ax.axhline(nothing, color="#888888", linewidth=0.8, linestyle=":")
        ax.set(xscale="log", yscale="log", xlabel="P, inputs trained on", ylabel=f"test loss after {updates} updates")
        ax.set_xticks(counts, [str(P) for P in counts], minor=False)
        ax.set_xticks([], minor=True)
        ax.legend(fontsize=7)
    rows = []
    for k, P in enumerate(counts):
        for name in names:
            value, error = ensembles[name][k]
            low, middle, high = np.quantile(losses[name][k], (0.25, 0.5, 0.75))
            spread = f"{low:.3g} to {high:.3g}"
            rows.append([P, name, float(middle), spread, (float(value[-1]), float(error[-1]))])
    limits, networks = found["limit"], [r for name in names[1:] for r in found[name]]
    return common.write(
        run,
        figure,
        {"P": np.array(counts)} | {f"test_losses_{k}": losses[name] for k, name in enumerate(names)},
        caption=f"Shaped tanh, a = 1, T = {T:g}; Gaussian inputs of 8 dimensions, y = x₁ + (x₂² - 1)/2, {updates} "
        f"updates on all P inputs at η₀ = 2/max(P, 8), {tested} tested; dotted: the loss of f = 0. {run.paths} paths "
        f"of the limit, {run.draws} networks of each width; left: median and 10–90% over initializations. Ensemble: "
        f"the mean output of infinitely many, with 2 standard errors. Limit: {common.stopped(*limits)}; networks: "
        f"{common.stopped(*networks)}.",
        columns=("P", "law", "median test loss", "quartiles", "test loss of the ensemble"),
        rows=rows,
        parameters={"activation": "tanh", "a": 1.0, "updates": updates, "tested": tested},
    )


if __name__ == "__main__":
    sys.exit(main())
