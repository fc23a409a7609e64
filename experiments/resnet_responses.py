"""What reusing a matrix in the backward pass does in a deep ResNet: networks and limits with and without responses.

One input, the first output f(1) after one step against depth; and f over updates. Without responses the limit is that
of networks whose backward pass has independent matrices. Sources: arXiv 2310.02244, 2309.16620; 2512.21075 for the
system without responses.
"""

import argparse
import sys
from pathlib import Path

import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import covsde as cs
from covsde._files import atomic_write

CASES = {
    "linear, β = 1, η$_0$ = 0.2": (cs.ResNet("linear"), 0.2),
    "tanh, β = 1.5, η$_0$ = 0.3": (cs.ResNet(jnp.tanh, 1.5), 0.3),
}
COLOURS = ("#0072B2", "#D55E00")
UPDATES = 4


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--out", type=Path, default=Path("resnet-responses"), metavar="DIR", help="(default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="fewer and smaller networks")
    args = parser.parse_args(argv)
    depths = [2, 8, 32] if args.quick else [1, 2, 4, 8, 16, 32, 64]
    width, draws, paths = (128, 200, 8000) if args.quick else (512, 200, 80_000)
    settings: dict = {"targets": [1.0], "updates": UPDATES, "save_at": [0, 1]}
    rows, kept = [], {}
    figure, axes = plt.subplots(2, 2, figsize=(10.5, 7.2), layout="constrained")
    plt.close(figure)
    for r, (title, (res, rate)) in enumerate(CASES.items()):
        theory, networks, error = (np.zeros((2, len(depths), UPDATES + 1)) for _ in range(3))
        for j, depth in enumerate(depths):
            for i, response in enumerate((True, False)):
                more = settings | {"learning_rate": rate, "response": response}
                theory[i, j] = cs.train(res, [[1.0]], depth=depth, paths=paths, key=args.seed, **more).outputs[:, 0]
                run = cs.train_networks(
                    res, [[1.0]], width=width, depth=depth, draws=draws, key=args.seed + 2 * depth + i, **more
                )
                estimate = run.controlled_mean(lambda r: r.outputs[1:, :, 0].T, lambda r: r.outputs[0])
                networks[i, j, 1:], error[i, j, 1:] = estimate
        infinite = [
            cs.train(res, [[1.0]], paths=paths, learning_rate=rate, response=response, key=args.seed, **settings)
            for response in (True, False)
        ]
        left, right = axes[r]
        for i, name in enumerate(("transposes", "independent backward matrices")):
            color, kind = COLOURS[i], ("with", "without")[i]
            left.plot(depths, theory[i, :, 1], "-", color=color, label=f"limit, {kind} responses")
            left.errorbar(
                depths, networks[i, :, 1], yerr=error[i, :, 1], fmt="o", ms=4, color=color, label=f"networks, {name}"
            )
            left.axhline(infinite[i].outputs[1, 0], color=color, ls=":", lw=1)
            right.plot(theory[i, -1], "-", color=color)
            right.errorbar(range(UPDATES + 1), networks[i, -1], yerr=error[i, -1], fmt="o", ms=4, color=color)
        left.set(xscale="log", xlabel="depth L", ylabel="f after one step", title=title)
        left.set_xticks(depths, [str(L) for L in depths], minor=False)
        left.minorticks_off()
        right.set(xlabel="updates", ylabel="f", title=f"L = {depths[-1]}", xticks=range(UPDATES + 1))
        right.legend(*left.get_legend_handles_labels(), frameon=False, fontsize=8, loc="lower right")
        for ax in axes[r]:
            ax.grid(alpha=0.25, linewidth=0.6)
        for j, depth in enumerate(depths):
            gap, spread = networks[0, j, 1] - networks[1, j, 1], np.hypot(*error[:, j, 1])
            rows.append(f"| {title} | {depth} | {gap:.4f} ± {spread:.4f} | {theory[0, j, 1] - theory[1, j, 1]:.4f} |")
        rows.append(f"| {title} | ∞ | | {infinite[0].outputs[1, 0] - infinite[1].outputs[1, 0]:.4f} |")
        kept |= {f"theory{r}": theory, f"networks{r}": networks, f"error{r}": error}
    figure.suptitle(f"Responses survive infinite depth: {draws} networks of width {width}; dotted: L = ∞")
    args.out.mkdir(parents=True, exist_ok=True)
    with atomic_write(args.out / "resnet_responses.png") as temporary:
        figure.savefig(temporary, dpi=150)
    with atomic_write(args.out / "resnet_responses.npz") as temporary:
        np.savez(temporary, depths=depths, **kept)
    print("\n".join(["| | L | gap of networks | gap of limits |", "|---|---|---|---|", *rows]))
    print(f"written to {args.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
