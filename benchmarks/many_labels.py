"""What does a path of the limit of feature learning cost, against the number N of (input, update) labels?

Weights revealed where training meets them (method="law"), in the layers that its default asks for, against weights that
are drawn (method="weights"), in layers of width 32 and of the default 64; two inputs, after compilation, in one run.
Memory is that of the arrays that a path keeps over all layers.

    python benchmarks/many_labels.py [--paths 32] [--revealed 48] [--labels 8 16 32 48 128 512 1000]
"""

import argparse
import math
import time
from typing import Any

import jax.numpy as jnp
import numpy as np

import covsde as cs

T = 0.5
MLP = cs.MLP(cs.ShapedSmooth(jnp.tanh), T)
V0 = np.array([[1.0, 0.3], [0.3, 1.0]])


def seconds(paths: int, **settings: Any) -> tuple[float, float, int]:
    """Seconds to compile and run, seconds of a second run per path, and the number of layers."""
    task: dict[str, Any] = {"targets": [1.0, -1.0], "learning_rate": 0.3, "kernels": False, "paths": paths} | settings
    began = time.perf_counter()
    cs.train(MLP, V0, key=0, **task)
    first, began = time.perf_counter() - began, time.perf_counter()
    run = cs.train(MLP, V0, key=1, **task)
    return first, (time.perf_counter() - began) / paths, run.metadata["steps"]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--paths", type=int, default=32)
    parser.add_argument("--revealed", type=int, default=48, help="most labels for which weights are revealed")
    parser.add_argument("--labels", type=int, nargs="+", default=[8, 16, 32, 48, 128, 512, 1000])
    args = parser.parse_args()
    print("P = 2, T = 0.5, cpu; milliseconds per path, exponent from the row above, MiB per path")
    print(f"{'N':>5} {'method':>8} {'dtype':>8} {'width':>6} {'first, s':>9} {'ms/path':>9} {'exponent':>9} {'MiB':>7}")
    before: dict[tuple[str, str, int], tuple[int, float]] = {}
    for labels in args.labels:
        cases = [("weights", "float32", 16), ("weights", "float32", None), ("weights", "float64", None)]
        if labels <= args.revealed:
            cases = [("law", "float32", None), ("law", "float64", None), *cases]
        for method, dtype, steps in cases:
            first, each, layers = seconds(args.paths, updates=labels // 2 - 1, method=method, dtype=dtype, steps=steps)
            width, size = round(layers / T), np.dtype(dtype).itemsize
            numbers = layers * (6 * labels * (2 * labels) if method == "law" else width**2)
            known = before.get((method, dtype, steps or 0))
            power = f"{math.log(each / known[1]) / math.log(labels / known[0]):.2f}" if known else ""
            before[method, dtype, steps or 0] = labels, each
            print(
                f"{labels:5d} {method:>8} {dtype:>8} {width:6d} {first:9.1f} {each * 1e3:9.2f} {power:>9} "
                f"{numbers * size / 2**20:7.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
