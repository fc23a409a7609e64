"""Four images of digits through shaped ReLU networks: their covariance against its limit, in under a minute.

Writes the inputs, a figure of them, and everything that `covsde compare` writes. Source of the limit: Li, Nica,
Roy (2022), arXiv 2206.02768.
"""

import argparse
import sys
from pathlib import Path

import common
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

from covsde.cli import main as covsde

# Two images each of a 3 and an 8: similar enough to interact, and not all pairs alike.
IMAGES = (13, 23, 8, 18)


def draw_inputs(x: np.ndarray, names: list[str], path: Path) -> None:
    """Draw the images side by side, numbered as in the comparison."""
    figure, axes = plt.subplots(1, len(x), figsize=(1.8 * len(x), 2.2), layout="constrained")
    plt.close(figure)
    for k, ax in enumerate(axes):
        ax.imshow(x[k].reshape(8, 8), cmap="gray_r")
        ax.set(title=f"input {k}: {names[k]}", xticks=[], yticks=[])
    common.replace(path, lambda temporary: figure.savefig(temporary, dpi=160))


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("demo"), metavar="DIR", help="(default: demo)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="a tenth of the samples and narrow networks")
    parser.add_argument("--paths", type=int, help="paths of the limit (default: 10000)")
    parser.add_argument("--draws", type=int, help="networks of each width (default: 1000)")
    parser.add_argument("--widths", type=int, nargs="+", help="(default: 50 200)")
    args = parser.parse_args(argv)
    paths = args.paths or (1_000 if args.quick else 10_000)
    draws = args.draws or (100 if args.quick else 1_000)
    widths = args.widths or ([20, 50] if args.quick else [50, 200])

    digits = load_digits()
    x = digits.data[list(IMAGES)] / 16  # pixels in [0, 1], (4, 64)
    names = [f"digit {digits.target[k]}" for k in IMAGES]
    args.out.mkdir(parents=True, exist_ok=True)
    common.replace(args.out / "inputs.npy", lambda temporary: np.save(temporary, x))
    draw_inputs(x, names, args.out / "inputs.png")
    print(f"Inputs: {', '.join(f'{k} is {name}' for k, name in enumerate(names))}; see {args.out / 'inputs.png'}")

    options = ["--inputs", args.out / "inputs.npy", "--out", args.out, "--seed", args.seed]
    options += ["--activation", "relu", "--c-plus=0.5", "--c-minus=-0.5", "--depth-to-width", 1.0]
    options += ["--paths", paths, "--draws", draws, "--widths", *widths]
    return covsde(["compare", *map(str, options)])


if __name__ == "__main__":
    sys.exit(main())
