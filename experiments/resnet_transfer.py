"""Does the best learning rate of a small ResNet carry over to wide and deep ones? Digits, one table of exponents each.

Loss after training against learning rate over widths and over depths, for parameterisations that coincide at the base
shape; then what CompleteP asks of a parameterisation, measured: size of the stream before training, its change by one
step, and how far the change of a block is from its linearisation. Sources: arXiv 2309.16620, 2310.02244, 2505.01618.
"""

import sys
import time
from functools import partial
from typing import NamedTuple

import common
import jax
import jax.numpy as jnp
import numpy as np
from sklearn.datasets import load_digits

from covsde.transfer.network import ScaledNetwork, linearisation_gap, scaled_rates, train_scaled
from covsde.transfer.tables import Factors, factors, table

BASE = {"base_width": 32, "base_depth": 4}
SHOWN = ("SP", "NTK", "μP", "√depth-μP", "CompleteP")
COLOURS = ("#56B4E9", "#0072B2", "#D55E00", "#000000")


class Training(NamedTuple):
    """How the networks are trained."""

    seed: int
    seeds: int
    steps: int
    batch: int
    optimiser: str


def cross_entropy(f: jax.Array, labels: jax.Array) -> jax.Array:
    return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(f), labels[:, None], axis=1))


def digits() -> tuple[np.ndarray, np.ndarray]:
    x, labels = load_digits(return_X_y=True)
    x = (x - x.mean()) / x.std()
    return x.astype(np.float32), labels.astype(np.int32)


def losses(width: int, depth: int, rates: np.ndarray, args: Training, names: tuple[str, ...]) -> np.ndarray:
    """Mean loss over the last tenth of training, (names, rates, seeds)."""
    x, labels = digits()
    x, labels = jnp.asarray(x), jnp.asarray(labels)

    @jax.jit
    def run(f: Factors, rate: jax.Array, seed: jax.Array) -> jax.Array:
        init, batches = jax.random.split(jax.random.key(seed))
        network = ScaledNetwork(jax.nn.relu, f, init, inputs=x.shape[1], width=width, depth=depth, classes=10, **BASE)
        _, history = train_scaled(
            network,
            scaled_rates(network, f, rate),
            x,
            labels,
            batches,
            loss=cross_entropy,
            steps=args.steps,
            batch=args.batch,
            optimiser=args.optimiser,
        )
        return jnp.mean(history[-max(1, args.steps // 10) :])

    out = np.empty((len(names), len(rates), args.seeds))
    for i, name in enumerate(names):
        f = factors(name, width, depth, optimiser=args.optimiser, **BASE)
        for j, rate in enumerate(rates):
            for k in range(args.seeds):
                out[i, j, k] = run(f, jnp.float32(rate), args.seed + k)
    return np.where(np.isfinite(out), out, np.inf)


def best(rates: np.ndarray, loss: np.ndarray) -> tuple[float, float]:
    """log₂ of the best rate, by a parabola through the lowest point, and its spread over seeds: (rates, seeds)."""

    def one(y: np.ndarray) -> float:
        k = int(np.argmin(y))
        grid = np.log2(rates)
        if 0 < k < len(y) - 1 and np.all(np.isfinite(y[k - 1 : k + 2])):
            left, middle, right = np.log(y[k - 1 : k + 2])
            curve = left - 2 * middle + right
            shift = 0.5 * (left - right) / curve if curve > 0 else 0.0
            return float(grid[k] + np.clip(shift, -0.5, 0.5) * (grid[1] - grid[0]))
        return float(grid[k])

    found = [one(loss[:, s]) for s in range(loss.shape[1])]
    return float(np.mean(found)), float(np.std(found))


def desiderata(depths: list[int], args: Training) -> list[str]:
    """Exponents in the depth of the three quantities: blocks of two matrices, one small step on a batch of digits."""
    x, labels = digits()
    # In double precision: what is beyond the linearisation is small.
    x, labels = jnp.asarray(x[:64], jnp.float64), jnp.asarray(labels[:64])
    width, rate, seeds = 32, 0.03 if args.optimiser == "sgd" else 1e-4, 10
    names, measured = ("μP", "√depth-μP", "CompleteP"), []
    for depth in depths:

        @jax.jit
        @partial(jax.vmap, in_axes=(0, None))
        def one(seed: jax.Array, f: Factors, depth: int = depth) -> jax.Array:
            shape = {"inputs": 64, "width": width, "depth": depth, "classes": 10, "matrices": 2}
            network = ScaledNetwork(jax.nn.relu, f, jax.random.key(seed), **shape, dtype=jnp.float64, **BASE)
            rates = scaled_rates(network, f, jnp.float64(rate))
            frozen = (jnp.zeros_like(rates[0]), rates[1], jnp.zeros_like(rates[2]))
            settings = {"loss": cross_entropy, "steps": 1, "batch": 64, "optimiser": args.optimiser}
            after, _ = train_scaled(network, frozen, x, labels, jax.random.key(0), **settings)
            h, moved = network.features(x), after.features(x)
            gap = linearisation_gap(network, after, h[depth // 2], depth // 2)
            return jnp.stack([jnp.mean(h[-1] ** 2), jnp.mean((moved[-1] - h[-1]) ** 2) ** 0.5, gap])

        chosen = [factors(name, width, depth, optimiser=args.optimiser, **BASE) for name in names]
        measured.append([np.median(one(args.seed + jnp.arange(seeds), f), axis=0) for f in chosen])
    slopes = np.polyfit(np.log(depths), np.log(np.array(measured)).reshape(len(depths), -1), 1)[0].reshape(3, 3)
    lines = [
        "Blocks of two matrices, one small step; exponents of the depth, over L = " + ", ".join(map(str, depths)),
        "",
        "| | stream before, squared | its change | relative change beyond the linearisation of a block |",
        "|---|---|---|---|",
    ]
    return lines + [
        f"| {n} | " + " | ".join(f"{v:+.2f}" for v in row) + " |" for n, row in zip(names, slopes, strict=True)
    ]


def main(argv: list[str] | None = None) -> int:
    """Draw the figure."""
    asked = common.settings(__file__, __doc__, argv, paths=None, draws=(2, 5))
    began, quick = time.perf_counter(), asked.quick
    steps, batch = asked.pick((40, 64), (150, 128))
    args = Training(asked.seed, asked.draws, steps, batch, "adam")
    widths = [16, 32, 128] if quick else [16, 32, 128, 512]
    depths = [2, 4, 32] if quick else [2, 4, 16, 64]
    rates = 2.0 ** np.arange(-11, 2)
    shapes = {"width": [(n, BASE["base_depth"]) for n in widths], "depth": [(BASE["base_width"], L) for L in depths]}
    found: dict[tuple[int, int], np.ndarray] = {}
    for shape in dict.fromkeys(shapes["width"] + shapes["depth"]):
        found[shape] = losses(*shape, rates, args, SHOWN)
        print(f"width {shape[0]}, depth {shape[1]}: {time.perf_counter() - began:.0f} s", flush=True)

    figure, axes = common.panels(2, len(SHOWN), width=3.1, height=2.8, sharey=True, sharex=True)
    rows: list[list[str]] = []
    for r, (axis, chosen) in enumerate(shapes.items()):
        sizes = [shape[r] for shape in chosen]
        for c, name in enumerate(SHOWN):
            ax, optima = axes[r, c], []
            for k, shape in enumerate(chosen):
                y = found[shape][c]
                shown = np.where(np.isfinite(y), y, np.nan)
                with np.errstate(invalid="ignore"):
                    middle = np.mean(shown, axis=1)
                ax.plot(rates, middle, "o-", ms=3, color=COLOURS[k], label=f"{axis} {sizes[k]}")
                ax.fill_between(rates, shown.min(axis=1), shown.max(axis=1), color=COLOURS[k], alpha=0.2, linewidth=0)
                optima.append(best(rates, y))
                ax.plot(2 ** optima[-1][0], np.nanmin(middle), "v", color=COLOURS[k], ms=9)
            cells = [f"{m:.2f} ± {s:.2f}" for m, s in optima]
            moves = f"{optima[-1][0] - optima[0][0]:+.2f}"
            rows.append([name, f"{axis} {sizes[0]} to {sizes[-1]}", ", ".join(cells), moves])
            ax.set(xscale="log", yscale="log", title=f"{name}: {axis}", ylim=(3e-2, 6))
            if r == 1:
                ax.set(xlabel="learning rate")
            if c == 0:
                ax.set(ylabel="loss at the end")
            if c == len(SHOWN) - 1:
                ax.legend(frameon=False, fontsize=8)
    with jax.enable_x64(True):
        lines = desiderata([4, 8, 16, 32] if quick else [4, 8, 16, 32, 64, 128], args)
    lines += ["", table(args.optimiser)]
    print("\n".join(lines) + "\n")
    figure.suptitle(f"Digits, ReLU ResNets, {args.optimiser}: loss after {args.steps} steps against learning rate")
    return common.write(
        asked,
        figure,
        {"rates": rates, "names": np.array(SHOWN), **{f"width{n}_depth{L}": v for (n, L), v in found.items()}},
        caption=f"Triangles: the best rates; bands: range of {args.seeds} seeds; rates at which training diverged are "
        f"left out. All parameterisations coincide at width {BASE['base_width']}, depth {BASE['base_depth']}.",
        columns=("parameterisation", "sizes", "log₂ of the best rate, mean ± deviation over seeds", "moves by"),
        rows=rows,
        parameters={"optimiser": args.optimiser, "steps": args.steps, "batch": args.batch, "desiderata": lines, **BASE},
    )


if __name__ == "__main__":
    sys.exit(main())
