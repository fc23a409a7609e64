"""Learning-rate transfer at fixed L/n: loss against learning rate for networks of growing width and for the limit.

Networks of width n use η₀/n on their hidden matrices; against η₀ the curves of all widths line up on that of the limit,
against the learning rate itself they drift. Source: Li, Noci, Hanin, feature learning in the proportional limit
(announced; M. Li's lecture notes STAT 946, Waterloo, 2025).
"""

import sys

import common
import jax.numpy as jnp
import numpy as np

import covsde as cs

T = 0.5
V0 = np.array([[1.0, 0.3], [0.3, 1.0]])
Y = np.array([1.0, -1.0])
QUARTILES = (0.25, 0.5, 0.75)


def losses(run: cs.Training) -> np.ndarray:
    """Losses after the last update, (paths,); those of networks that diverged are infinite."""
    last = run.losses[-1]
    return np.where(np.isfinite(last), last, np.inf)


def best(rates: np.ndarray, curves: np.ndarray, rng: np.random.Generator) -> tuple[float, float]:
    """log₂ of the rate with the least median loss, by a parabola in the logarithms; its bootstrap error."""

    def minimum(curve: np.ndarray) -> float:
        k = int(np.clip(np.argmin(curve), 1, curve.size - 2))
        a, b, c = np.log(curve[k - 1 : k + 2])
        bend = a - 2 * b + c
        shift = (a - c) / (2 * bend) if np.isfinite(bend) and bend > 0 else 0.0
        step = np.log2(rates[k + 1] / rates[k])
        return float(np.log2(rates[k]) + step * np.clip(shift, -1, 1))

    draws = curves.shape[1]
    # The same draws at every rate share their initial weights, so they are drawn again together.
    again = [minimum(np.median(curves[:, rng.integers(draws, size=draws)], axis=1)) for _ in range(200)]
    return minimum(np.median(curves, axis=1)), float(np.std(again, ddof=1))


def main(argv: list[str] | None = None) -> int:
    run = common.settings(__file__, __doc__, argv, paths=(512, 4096), draws=(384, 2048))
    widths, updates = run.pick((24, 48), (32, 64, 128)), run.pick(3, 6)
    rates = 2.0 ** run.pick(np.arange(-1, 5), np.arange(-2, 5, 0.5))
    mlp = cs.MLP(cs.ShapedSmooth(jnp.tanh), depth_to_width=T)
    same = {"targets": Y, "updates": updates, "save_at": [0, 1]}
    curves = {
        n: np.array(
            [
                losses(
                    cs.train_networks(
                        mlp,
                        V0,
                        learning_rate=float(rate),
                        width=n,
                        draws=run.draws,
                        chunk=128,
                        key=common.key(run, n),
                        dtype=np.float32,
                        **same,
                    )
                )
                for rate in rates
            ]
        )
        for n in widths
    }
    limit = np.array(
        [
            losses(
                cs.train(mlp, V0, learning_rate=float(r), paths=run.paths, chunk=256, key=common.key(run, 0), **same)
            )
            for r in rates
        ]
    )

    figure, axes = common.panels(1, 3, width=4.2)
    names = {n: f"networks, n = {n}, L = {mlp.depth(n)}" for n in widths}
    for ax, scaled in ((axes[0], True), (axes[1], False)):
        if scaled:
            low, middle, high = common.quantiles(limit, QUARTILES)
            top = np.where(np.isfinite(high), high, 1e9)
            ax.fill_between(rates, low, top, color=common.LIMIT, alpha=0.2, linewidth=0, label="limit, quartiles")
            ax.plot(rates, middle, color=common.LIMIT, linewidth=1.8, label="limit, median")
        for k, n in enumerate(widths):
            low, middle, high = common.quantiles(curves[n], QUARTILES)
            x = rates * (1.03 ** (k + 1) if scaled else 1 / n)
            style = {"color": common.COLOURS[k], "linestyle": ("--", "-.", ":")[k]}
            ax.plot(x, middle, common.MARKERS[k], markersize=4, label=names[n], **style)
            bars = np.stack([middle - low, np.where(np.isfinite(high), high, 1e9) - middle])
            shown = np.isfinite(middle)
            ax.errorbar(
                x[shown], middle[shown], yerr=bars[:, shown], fmt="none", color=common.COLOURS[k], elinewidth=0.8
            )
        ax.set(xscale="log", yscale="log", ylabel=f"loss after {updates} updates", ylim=(3e-3, 30))
        ax.legend(fontsize=7, loc="upper left")
    axes[0].set(xlabel="η₀", title="learning rate η₀/n: one curve")
    axes[1].set(xlabel="learning rate itself, η₀/n", title="the same networks: curves that drift")
    rng = np.random.default_rng(run.seed)
    optima = {n: best(rates, curves[n], rng) for n in widths}
    at_limit = best(rates, limit, rng)
    value, error = at_limit
    axes[2].axhline(value, color=common.LIMIT, label="limit, ±2 s.e.")
    axes[2].axhspan(value - 2 * error, value + 2 * error, color=common.LIMIT, alpha=0.2, linewidth=0)
    for k, n in enumerate(widths):
        axes[2].errorbar(
            n, optima[n][0], yerr=2 * optima[n][1], fmt=common.MARKERS[k], color=common.COLOURS[k], capsize=2
        )
    axes[2].set(xscale="log", xlabel="width n", ylabel="log₂ η₀ of the least median loss", title="best learning rate")
    axes[2].set_ylim(value - 2.5, value + 2.5)
    axes[2].set_xticks(widths, [str(n) for n in widths])
    axes[2].minorticks_off()
    axes[2].legend(loc="upper left")

    everyone = [("limit", limit, at_limit), *((f"n = {n}", curves[n], optima[n]) for n in widths)]
    rows = []
    for name, curve, optimum in everyone:
        low, middle, high = common.quantiles(curve, QUARTILES)
        k = int(np.argmin(middle))
        gone = ", ".join(f"{share:.1%}" for share in np.mean(np.isinf(curve[[k, -1]]), axis=1))
        rows.append([name, optimum, float(rates[k]), float(middle[k]), f"{low[k]:.3g} to {high[k]:.3g}", gone])
    return common.write(
        run,
        figure,
        {"rates": rates, "limit": limit, "widths": widths, **{f"losses_{n}": curves[n] for n in widths}},
        caption=f"Shaped tanh, a = 1, T = {T:g}, V₀ = [[1, 0.3], [0.3, 1]], y = (1, -1), loss ½Σ(f-y)² after "
        f"{updates} steps of gradient descent. {run.paths} paths of the limit, {run.draws} networks of each width; "
        "bars and band: quartiles over draws, with training that diverged counted as an infinite loss.",
        columns=(
            "law",
            "log₂ best η₀",
            "best η₀ tried",
            "median loss there",
            "quartiles",
            "diverged there, at the largest η₀",
        ),
        rows=rows,
        parameters={"activation": "tanh", "a": 1.0, "depth_to_width": T, "V0": V0, "targets": Y, "updates": updates},
    )


if __name__ == "__main__":
    sys.exit(main())
