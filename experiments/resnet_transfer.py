"""Does the best learning rate of a small ResNet carry over to wide and deep ones? Digits, one table of exponents each.

Loss after training against learning rate over widths and over depths, for parameterisations that coincide at the base
shape; then what CompleteP asks of a parameterisation, measured: size of the stream before training, its change by one
step, and how far the change of a block is from its linearisation. Sources: arXiv 2309.16620, 2310.02244, 2505.01618.
"""

import argparse
import sys
import time
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

from covsde._files import atomic_write
from covsde.networks.scaled import ScaledNetwork, linearisation_gap, scaled_rates, train_scaled
from covsde.parameterisations import Factors, factors, table

BASE = {"base_width": 32, "base_depth": 4}
SHOWN = ("SP", "NTK", "μP", "√depth-μP", "CompleteP")
COLOURS = ("#56B4E9", "#0072B2", "#D55E00", "#000000")


def cross_entropy(f: jax.Array, labels: jax.Array) -> jax.Array:
    return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(f), labels[:, None], axis=1))


def digits() -> tuple[np.ndarray, np.ndarray]:
    x, labels = load_digits(return_X_y=True)
    x = (x - x.mean()) / x.std()
    return x.astype(np.float32), labels.astype(np.int32)


def losses(width: int, depth: int, rates: np.ndarray, args: argparse.Namespace, names: tuple[str, ...]) -> np.ndarray:
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


def desiderata(depths: list[int], args: argparse.Namespace) -> list[str]:
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
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--out", type=Path, default=Path("resnet-transfer"), metavar="DIR", help="(default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--optimiser", choices=("sgd", "adam"), default="adam")
    parser.add_argument("--quick", action="store_true", help="fewer seeds, rates and steps, smaller networks")
    args = parser.parse_args(argv)
    began = time.perf_counter()
    args.seeds, args.steps, args.batch = (2, 40, 64) if args.quick else (5, 150, 128)
    widths = [16, 32, 128] if args.quick else [16, 32, 128, 512]
    depths = [2, 4, 32] if args.quick else [2, 4, 16, 64]
    lowest, highest = (-3, 9) if args.optimiser == "sgd" else (-11, 1)
    rates = 2.0 ** np.arange(lowest, highest + 1)
    shapes = {"width": [(n, BASE["base_depth"]) for n in widths], "depth": [(BASE["base_width"], L) for L in depths]}
    found: dict[tuple[int, int], np.ndarray] = {}
    for shape in dict.fromkeys(shapes["width"] + shapes["depth"]):
        found[shape] = losses(*shape, rates, args, SHOWN)
        print(f"width {shape[0]}, depth {shape[1]}: {time.perf_counter() - began:.0f} s", flush=True)

    figure, axes = plt.subplots(
        2, len(SHOWN), figsize=(3.1 * len(SHOWN), 6), sharey=True, sharex=True, layout="constrained"
    )
    plt.close(figure)
    lines = [f"log₂ of the best learning rate ({args.optimiser}, {args.steps} steps), mean ± deviation over seeds", ""]
    for r, (axis, chosen) in enumerate(shapes.items()):
        sizes = [shape[r] for shape in chosen]
        lines += [f"| {axis} | " + " | ".join(map(str, sizes)) + " | moves by |", "|---" * (len(sizes) + 2) + "|"]
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
            lines.append(f"| {name} | " + " | ".join(cells) + f" | {optima[-1][0] - optima[0][0]:+.2f} |")
            ax.set(xscale="log", yscale="log", title=f"{name}: {axis}", ylim=(3e-2, 6))
            ax.grid(alpha=0.25, linewidth=0.6)
            if r == 1:
                ax.set(xlabel="learning rate")
            if c == 0:
                ax.set(ylabel="loss at the end")
            if c == len(SHOWN) - 1:
                ax.legend(frameon=False, fontsize=8)
        lines.append("")
    with jax.enable_x64(True):
        lines += desiderata([4, 8, 16, 32] if args.quick else [4, 8, 16, 32, 64, 128], args)
    lines += ["", table(args.optimiser)]
    figure.suptitle(
        f"Digits, ReLU ResNets, {args.optimiser}: loss after {args.steps} steps; triangles are the best rates, "
        f"bands the range of {args.seeds} seeds; all coincide at width {BASE['base_width']}, depth {BASE['base_depth']}"
    )
    args.out.mkdir(parents=True, exist_ok=True)
    with atomic_write(args.out / "resnet_transfer.png") as temporary:
        figure.savefig(temporary, dpi=150)
    with atomic_write(args.out / "resnet_transfer.npz") as temporary:
        arrays = {f"width{n}_depth{L}": v for (n, L), v in found.items()}
        np.savez(temporary, rates=rates, names=np.array(SHOWN), **arrays)
    with atomic_write(args.out / "resnet_transfer.md") as temporary:
        Path(temporary).write_text("\n".join(lines) + "\n")
    print("\n".join(lines))
    print(f"{time.perf_counter() - began:.0f} s, written to {args.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
