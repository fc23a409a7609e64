"""Which prefactor and learning rate make deep, wide networks learn features: lazy, maximal and explosive scalings.

Linear networks with depth d = n/2, readout s w·h/√n and learning rate η₀/n on the hidden matrices; s ∝ n^-p and
η₀ ∝ n^q. Features move at a rate ∝ s η₀ and outputs at a rate ∝ s² η₀, so that both are of order one at p = q = 0 only.
Source: Li, Noci, Hanin, feature learning in the proportional limit (announced; M. Li's lecture notes STAT 946,
Waterloo, 2025); arXiv 2305.07810 for the depth exponent of μP.
"""

import math
import sys
from typing import Any

import common
import numpy as np

import covsde as cs

T = 0.5
V0 = np.array([[1.0, 0.3], [0.3, 1.0]])
Y = np.array([1.0, -1.0])
# Depth (None: n/2), p of the prefactor, and η₀ (the learning rate is η₀/n), as a function of width and depth.
SCALINGS: dict[str, Any] = {
    "readout 1/√n, η = 1/d": (None, 0.0, lambda n, d: n / d),
    "readout 1/n, η = n/d": (None, 0.5, lambda n, d: n**2 / d),
    "readout 1/n, η = n d$^{-3/2}$": (None, 0.5, lambda n, d: n**2 * d**-1.5),
    "readout 1/√n, η = 1/d, d = 8": (8, 0.0, lambda n, d: n / d),
}
# (p, q) of the first three.
PLACES = ((0.0, 0.0), (0.5, 1.0), (0.5, 0.5))


def velocities(run: common.Settings, n: int, d: int, p: float) -> np.ndarray:
    """|dh/dt|²/n of the last features and |df/dt|, of input 0 at η₀ = 1, (2, draws); the same networks for every p."""
    v = cs.sample_network_velocities(
        cs.MLP(cs.Identity(), T),
        V0,
        targets=Y,
        output_scale=n**-p,
        width=n,
        depth=d,
        draws=run.draws,
        chunk=min(run.draws, 256),
        key=common.key(run, 0, n),
        save_at=[0, 1],
        dtype=np.float32,
    )
    return np.stack([v.S[-1, :, 0, 0], np.abs(v.output_velocity[:, 0])]).astype(np.float64)


def median(x: np.ndarray) -> tuple[float, float]:
    """Median and its standard error, from order statistics."""
    x = np.sort(x[np.isfinite(x)])
    spread = 0.5 / math.sqrt(x.size)
    low, middle, high = np.quantile(x, [0.5 - spread, 0.5, 0.5 + spread])
    return float(middle), float(high - low) / 2


def slope(widths: Any, values: np.ndarray) -> np.ndarray:
    """Exponents of values (widths, ...) in the width."""
    flat = np.log(values).reshape(len(widths), -1)
    return np.polyfit(np.log(np.asarray(widths, float)), flat, 1)[0].reshape(values.shape[1:])


def main(argv: list[str] | None = None) -> int:
    run = common.settings(__file__, __doc__, argv, paths=None, draws=(128, 512))
    widths = run.pick((16, 48), (16, 32, 64, 128))
    figure, axes = common.panels(2, 2, width=4.6, height=3.4)

    p, q = np.linspace(0, 1, run.pick(3, 5)), np.linspace(-0.5, 1.5, run.pick(5, 9))
    samples = {(n, None, x): velocities(run, n, n // 2, x) for n in widths for x in p.tolist()}
    samples |= {(n, 8, 0.0): velocities(run, n, 8, 0.0) for n in widths}
    medians = np.array([[np.median(samples[n, None, x], axis=1) for x in p.tolist()] for n in widths])
    # Velocities are proportional to the learning rate, so q shifts the exponents exactly.
    measured = slope(widths, medians)[:, :, None] * np.array([0.5, 1.0])[:, None] + q
    measured = np.moveaxis(measured, 1, 0)
    ax = axes[0, 0]
    colours = ax.pcolormesh(p, q, measured[0].T, cmap="RdBu_r", vmin=-1.5, vmax=1.5, shading="nearest")
    figure.colorbar(colours, ax=ax, label="exponent of the speed of features in n")
    ax.plot(p, p, color="black", linewidth=1.4, label="s η₀ ∝ 1: features")
    ax.plot(p, 2 * p, color="black", linewidth=1.4, linestyle="--", label="s² η₀ ∝ 1: outputs")
    for (a, b), marker, name in zip(PLACES, common.MARKERS, SCALINGS, strict=False):
        ax.plot(a, b, marker, color="black", markerfacecolor="white", markersize=7, label=name, linestyle="none")
    ax.set(xlim=(p[0] - 0.12, p[-1] + 0.12), ylim=(q[0] - 0.25, q[-1] + 0.25))
    ax.set(xlabel="prefactor  s ∝ n$^{-p}$: p", ylabel="learning rate  η₀ ∝ n$^q$: q", title="who learns features")
    ax.legend(fontsize=6.5, loc="lower right", frameon=True, framealpha=0.85)

    rows, data = [], {"p": p, "q": q, "exponents": measured, "widths": widths}
    for k, (name, (depth, prefactor, rate)) in enumerate(SCALINGS.items()):
        speed = np.empty((len(widths), 2, 2))
        for i, n in enumerate(widths):
            x, factor = samples[n, depth, prefactor], rate(n, depth or n // 2)
            speed[i] = [median(factor**2 * x[0]), median(factor * x[1])]
        exponent = slope(widths, speed[:, :, 0])
        for panel, ax in enumerate((axes[0, 1], axes[1, 0])):
            style = {"fmt": common.MARKERS[k], "color": common.COLOURS[k], "linestyle": ("-", "--", "-.", ":")[k]}
            label = f"{name}: n$^{{{exponent[panel]:.2f}}}$"
            ax.errorbar(widths, speed[:, panel, 0], yerr=2 * speed[:, panel, 1], capsize=2, label=label, **style)
        rows += [
            [name, n, tuple(speed[i, 0]), tuple(speed[i, 1]), float(exponent[0]), float(exponent[1])]
            for i, n in enumerate(widths)
        ]
        data[f"speed_{k}"] = speed
    axes[0, 1].set(title="speed of features", ylabel="median |dh/dt|²/n at the top")
    axes[1, 0].set(title="speed of outputs", ylabel="median |df/dt|")

    ax, wide = axes[1, 1], run.pick((24, 48), (32, 64, 128, 256))
    for k, fixed in enumerate((None, 8)):
        moved = np.empty((len(wide), 2))
        for i, n in enumerate(wide):
            d = fixed or n // 2
            trained = cs.train_networks(
                cs.MLP(cs.Identity(), T),
                V0,
                targets=Y,
                updates=3,
                learning_rate=n / d,
                width=n,
                depth=d,
                draws=run.draws,
                chunk=min(run.draws, 256),
                key=common.key(run, 2, n, k),
                save_at=[0, 1],
                dtype=np.float32,
            )
            moved[i] = median(np.where(trained.status == 0, trained.movement(3)[-1], np.inf))
        name = f"readout 1/√n, η = 1/d, d = {fixed or 'n/2'}"
        which = 0 if fixed is None else 3
        ax.errorbar(
            wide,
            moved[:, 0],
            yerr=2 * moved[:, 1],
            fmt=common.MARKERS[which],
            color=common.COLOURS[which],
            linestyle=("-", ":")[k],
            capsize=2,
            label=f"{name}: n$^{{{slope(wide, moved[:, 0]):.2f}}}$",
        )
        data[f"movement_{k}"] = moved
        rows += [[f"{name}, 3 updates", n, tuple(m), "", "", ""] for n, m in zip(wide, moved, strict=True)]
    ax.set(title="movement in three updates", ylabel="median |h(3) - h(0)|²/n")
    for ax in (axes[0, 1], axes[1, 0], axes[1, 1]):
        ax.set(xscale="log", yscale="log", xlabel="width n")
        ticks = wide if ax is axes[1, 1] else widths
        ax.set_xticks(ticks, [str(n) for n in ticks])
        ax.minorticks_off()
        ax.legend(fontsize=7)
    return common.write(
        run,
        figure,
        {**data, "movement_widths": wide},
        caption=f"Linear networks with real weights, d = n/2 unless said, V₀ = [[1, 0.3], [0.3, 1]], y = (1, -1). "
        f"{run.draws} networks of each width {', '.join(map(str, widths))}; bars ±2 s.e. of the median. "
        f"Red: features explode with n; blue: they stop moving (lazy); measured over p, exact over q. "
        f"Last panel: networks in law, widths {', '.join(map(str, wide))}.",
        columns=("scaling", "n", "median |dh/dt|²/n", "median |df/dt|", "its exponent in n", "of |df/dt|"),
        rows=rows,
        parameters={"activation": "linear", "depth_to_width": T, "V0": V0, "targets": Y},
    )


if __name__ == "__main__":
    sys.exit(main())
