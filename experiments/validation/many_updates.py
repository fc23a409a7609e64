"""Whether paths of the feature-learning limit break, and whether its identities hold, after many updates."""

import jax.numpy as jnp
import numpy as np

import covsde as cs
from validation.feature_learning import V0, T, cubic


def section(scale: int) -> list[str]:
    """Markdown lines; scale 1 is the full size, 10 a tenth of the samples."""
    lines = [
        "## Feature learning over many updates: broken paths and exact identities",
        "",
        f"{2000 // scale} paths, h = 1/100, η₀ = s = 1. The identities are A₁(a, b) = f(a)/s for all labels, and "
        "A₀(a, b) = A₀((x_a, update of b), b) where a is of a later update than b and, in the middle, "
        "A(a, b) = f(a)/s for labels of one update (linear) or a = b (ReLU); the largest violation over "
        "all paths, relative to the largest |A|.",
        "",
        "| activation | inputs × updates | broken paths | violated at τ = 1 | at τ = 0 | at τ = ½ | f(0): mean / sd |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, activation, conserved in (
        ("identity", cs.Identity(), "update"),
        ("tanh a=1", cs.ShapedSmooth(jnp.tanh), None),
        ("κ₂=.5, κ₃=-1", cs.ShapedSmooth(cubic), None),
        ("ReLU (1, -1)", cs.ShapedReLU(1.0, -1.0), "label"),
    ):
        for P, updates in ((1, 20), (2, 5)):
            run = cs.train(
                cs.MLP(activation, T),
                V0[:P, :P],
                targets=np.array([1.0, -1.0])[:P],
                updates=updates,
                steps=50,
                paths=2000 // scale,
                save_at=[0, 0.5, 1],
                key=7,
            )
            flat = np.swapaxes(run.outputs, 1, 2).reshape(-1, run.paths).T
            scale_of_A = np.nanmax(np.abs(run.A))
            top = np.nanmax(np.abs(run.A[-1] - flat[:, :, None])) / scale_of_A
            labels = np.arange(flat.shape[1])
            later = labels[:, None] // P > labels[None] // P
            same_input = labels[None] // P * P + labels[:, None] % P
            bottom = np.abs(run.A[0] - run.A[0][:, same_input, labels[None]])[:, later]
            same = (
                np.equal.outer(labels // P, labels // P) if conserved == "update" else np.eye(labels.size, dtype=bool)
            )
            inside = f"{np.nanmax(np.abs(run.A[1] - flat[:, :, None])[:, same]) / scale_of_A:.1e}" if conserved else ""
            last = run.outputs[-1, :, 0]
            lines.append(
                f"| {name} | {P} × {updates} | {run.failures['total']} of {run.paths} | {top:.1e} | "
                f"{np.nanmax(bottom) / scale_of_A:.1e} | {inside} | {np.nanmean(last):.3f} / {np.nanstd(last):.3f} |"
            )
    return [*lines, ""]
