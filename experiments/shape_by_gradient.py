"""An activation shaped by gradient descent so that the mean correlation of two inputs ends where it is asked to.

The slopes c± of a shaped ReLU descend the squared distance of the mean correlation at τ = 1 from a target, along
derivatives of sample paths of the covariance SDE (Li, Nica, Roy 2022, arXiv 2206.02768). Paths of their own, the exact
law of the correlation and finite networks then say where it ends.
"""

import sys

import common
import jax
import jax.numpy as jnp
import numpy as np

import covsde as cs

RHO0, T, TARGET = 0.2, 1.0, 0.6
V0 = np.array([[1.0, RHO0], [RHO0, 1.0]])
START, RATE, ITERATIONS, STEPS = (0.25, -0.25), 3.0, 15, 20


def shaped(shape) -> cs.MLP:
    """The network with slopes 1 + c₊/√n and 1 + c₋/√n."""
    c_plus, c_minus = shape
    return cs.MLP(cs.ShapedReLU(c_plus, c_minus), depth_to_width=T)


def descend(key: jax.Array, paths: int) -> tuple[np.ndarray, np.ndarray]:
    """c± (iterations + 1, 2) and mean correlations at τ = 1 (iterations + 1,), on the same paths at every iteration."""

    def loss(shape):
        V = cs.solve(shaped(shape).limit(), V0, key, paths=paths, steps=STEPS, save_at=[1.0])[-1]
        mean = jnp.mean(V[:, 0, 1] / jnp.sqrt(V[:, 0, 0] * V[:, 1, 1]))
        return (mean - TARGET) ** 2, mean

    shapes, means = [np.array(START)], []
    with jax.enable_x64(True):
        slope = jax.jit(jax.grad(loss, has_aux=True))
        for _ in range(ITERATIONS + 1):
            change, mean = slope(jnp.asarray(shapes[-1]))
            means.append(float(mean))
            shapes.append(shapes[-1] - RATE * np.asarray(change))
    return np.stack(shapes[:-1]), np.asarray(means)


def main(argv: list[str] | None = None) -> int:
    run = common.settings(__file__, __doc__, argv, paths=(4000, 20_000), draws=(4000, 8000))
    widths = run.pick((25, 100), (50, 150))
    shapes, means = descend(common.key(run, 0), run.paths)

    figure, axes = common.panels(1, 3, width=4.0)
    iterations = np.arange(means.size)
    axes[0].axhline(TARGET, color=common.BLACK, linestyle=":", linewidth=1.5, label=f"target {TARGET:g}")
    axes[0].plot(iterations, means, color=common.LIMIT, marker=".", label="limit, the paths of the descent")
    axes[0].set(xlabel="iteration", ylabel="mean correlation at τ = 1", title="descent", ylim=(0, 0.8))
    axes[0].set_xticks(range(0, ITERATIONS + 1, 5))
    bins, rows, arrays = np.linspace(-1, 1, run.pick(25, 61)), [], {"shapes": shapes, "means": means}
    ends = ((0, "before"), (ITERATIONS, "after"))
    for ax, (i, when) in zip(axes[1:], ends, strict=True):
        architecture = shaped(shapes[i])
        law = cs.correlation_law(architecture, RHO0, save_at=[0.0, 1.0])
        limit = cs.simulate(architecture, V0, paths=run.paths, save_at=[0.0, 1.0], key=common.key(run, 1, i))
        found = limit.correlation(0, 1)[-1]
        arrays[f"limit_{when}"] = found
        rows.append([when, "SDE, other paths", common.mean(found)])
        rows.append([when, "SDE, exact", float(law.mean[-1])])
        common.histogram(ax, found, bins, color=common.LIMIT, fill=True, label="limit, other paths")
        for k, n in enumerate(widths):
            networks = cs.sample_networks(
                architecture, V0, width=n, draws=run.draws, save_at=[0.0, 1.0], key=common.key(run, 2, i, n)
            )
            rho = networks.correlation(0, 1)[-1]
            arrays[f"networks_{n}_{when}"] = rho
            rows.append([when, f"networks, n = {n}", common.mean(rho)])
            style = {"color": common.COLOURS[k], "linestyle": ("--", "-")[k], "linewidth": 1.6}
            common.histogram(ax, rho, bins, label=f"networks, n = {n}", **style)
            value, error = common.mean(rho)
            axes[0].errorbar(
                i + 0.5 * (k + 1) * (-1 if when == "before" else 1),
                value,
                yerr=2 * error,
                fmt=common.MARKERS[k],
                color=common.COLOURS[k],
                markersize=5,
                capsize=3,
                label=f"networks, n = {n}, ± 2 s.e." if when == "after" else None,
            )
        ax.axvline(law.mean[-1], color=common.BLACK, linewidth=1.2, label="mean of the limit, exact")
        if when == "after":
            ax.axvline(TARGET, color=common.BLACK, linestyle=":", linewidth=1.8, label=f"target {TARGET:g}")
        ax.set(xlabel="correlation ρ at τ = 1", xlim=(-1, 1), xticks=(-1, -0.5, 0, 0.5, 1))
        ax.set_title(f"{when}: c± = ({shapes[i][0]:+.2f}, {shapes[i][1]:+.2f})")
        ax.legend(loc="upper left")
    axes[1].set_ylabel("density")
    axes[0].legend(loc="lower right")
    return common.write(
        run,
        figure,
        arrays,
        caption=f"Two inputs, ρ₀ = {RHO0}, T = {T:g}; {ITERATIONS} steps of gradient descent on c± at rate {RATE:g}, "
        f"on {run.paths} paths. {run.draws} networks of each width, as deep as wide; the descent saw none "
        "of these samples.",
        columns=("when", "law", "mean ρ at τ = 1"),
        rows=rows,
        parameters={
            "depth_to_width": T,
            "rho0": RHO0,
            "target": TARGET,
            "start": START,
            "rate": RATE,
            "iterations": ITERATIONS,
            "steps": STEPS,
            "widths": widths,
            "found": shapes[-1],
        },
    )


if __name__ == "__main__":
    sys.exit(main())
