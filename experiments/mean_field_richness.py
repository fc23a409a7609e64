"""From lazy to rich: outputs, kernels and alignment of mean-field networks over the richness, and their posterior.

A tanh network of two hidden layers on two inputs and a test, held against networks with real weights at one richness.
Sources: arXiv 2205.09653 for training; 2502.07998 for the posterior.
"""

import sys
from typing import Any

import common
import jax.numpy as jnp
import numpy as np

import covsde as cs

K3 = np.array([[1.0, 0.4, 0.6], [0.4, 1.0, -0.2], [0.6, -0.2, 1.0]])
Y = np.array([1.0, -0.7])
UPDATES, DEPTH, T = 12, 2, 0.25


def alignment(K: np.ndarray) -> float:
    """yᵀKy / (|y|² |K|) of the trained inputs."""
    return float(Y @ K @ Y / (Y @ Y * np.linalg.norm(K)))


def main(argv: list[str] | None = None) -> int:
    """Draw the figure."""
    asked = common.settings(__file__, __doc__, argv, paths=(6000, 48_000), draws=(60, 300))
    richness = asked.pick([0.1, 0.5, 2.0], [0.05, 0.1, 0.25, 0.5, 1.0, 1.5, 2.0, 3.0])
    width, mlp = asked.pick(128, 512), cs.MeanFieldMLP(jnp.tanh, DEPTH)
    task: dict[str, Any] = {"targets": [*Y, np.nan], "batches": [0, 1], "updates": UPDATES, "centred": True}
    figure, (curves, change, bayes) = common.panels(1, 3)
    x, rows, kept = np.arange(UPDATES + 1), [], []
    lazy = cs.lazy_training(cs.kernels(mlp, K3), Y, x, learning_rate=0.5, method="descent").outputs[:, 2, 0]
    curves.plot(x, lazy, color=common.BLACK, ls=":", label="lazy, closed form")
    for k, gamma in enumerate(richness):
        run = cs.train(mlp, K3, learning_rate=0.5, richness=gamma, paths=asked.paths, key=asked.seed, **task)
        nets = cs.train_networks(
            mlp, K3, learning_rate=0.5, richness=gamma, width=width, draws=asked.draws, method="weights", key=k, **task
        )
        f, g = run.outputs - run.outputs[:1], nets.outputs - nets.outputs[:1]
        last = slice(-2, None)
        ours, theirs = alignment(run.Phi[-1][last, last]), [alignment(P[last, last]) for P in nets.Phi[-1]]
        post = cs.kernel_posterior(mlp, K3, targets=[*Y, np.nan], temperature=T, richness=gamma)
        kept.append([gamma, f[-1, 2], ours, float(np.mean(theirs)), post.outputs[2], alignment(post.Phi[-1][:2, :2])])
        rows.append(
            [gamma, float(f[-1, 2]), float(g[-1, :, 2].mean()), ours, float(np.mean(theirs)), float(post.outputs[2])]
        )
        if gamma in (richness[0], richness[1], richness[-1]):
            color = common.COLOURS[(richness[0], richness[1], richness[-1]).index(gamma)]
            curves.plot(x, f[:, 2], color=color, label=f"γ₀ = {gamma:g}")
            spread = g[:, :, 2].std(axis=1) / np.sqrt(asked.draws)
            curves.errorbar(x, g[:, :, 2].mean(axis=1), spread, fmt="o", ms=3, color=color)
    found = np.array(kept)
    curves.set(xlabel="update", ylabel="f of the test input", title="training")
    curves.legend()
    change.plot(found[:, 0], found[:, 2], "-", color=common.LIMIT, label="limit")
    change.plot(found[:, 0], found[:, 3], "o", ms=4, color=common.COLOURS[0], label=f"networks, width {width}")
    change.plot(found[:, 0], found[:, 5], "--", color=common.BLACK, label="posterior")
    change.set(xlabel="richness γ₀", ylabel="alignment of Φ with y", title="features", xscale="log")
    change.legend()
    nngp = cs.kernel_posterior(mlp, K3, targets=[*Y, np.nan], temperature=T, richness=0.0).outputs[2]
    bayes.plot(found[:, 0], found[:, 4], "-", color=common.LIMIT, label="posterior, kernels that adapt")
    bayes.axhline(nngp, color=common.BLACK, ls=":", label="Gaussian process")
    bayes.set(xlabel="richness γ₀", ylabel="f of the test input", title="Bayesian posterior", xscale="log")
    bayes.legend()
    figure.suptitle("From lazy to rich at fixed depth")
    return common.write(
        asked,
        figure,
        {"richness": np.array(richness), "found": found},
        caption=f"tanh, {DEPTH} hidden layers, η₀ = 0.5, {UPDATES} updates, {asked.paths} particles; {asked.draws} "
        f"networks of width {width} with real weights, f - f(0), bars one standard error; posterior at T = {T:g}.",
        columns=("γ₀", "f of the test", "of networks", "alignment", "of networks", "posterior f"),
        rows=rows,
        parameters={"depth": DEPTH, "updates": UPDATES, "width": width, "temperature": T},
    )


if __name__ == "__main__":
    sys.exit(main())
