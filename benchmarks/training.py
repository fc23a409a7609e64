"""What does it cost to know how wide networks learn? The limit against as many real networks, in one run.

The forward–backward limit (2,000 paths) and real networks of width 200, P inputs and a few updates, both float32 and
after compilation. Networks are timed on fewer draws, because each takes as long as the others.

    python benchmarks/training.py [--paths 2000] [--width 200] [--draws 32] [--inputs 2] [--updates 3]
"""

import argparse
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

import covsde as cs

T = 0.5
ACTIVATIONS = {
    "linear": cs.Identity(),
    "tanh": cs.ShapedSmooth(jnp.tanh),
    "κ₂=.5, κ₃=-1": cs.ShapedSmooth(lambda x: x + 0.25 * x**2 - x**3 / 6),
    "ReLU (1, -1)": cs.ShapedReLU(1.0, -1.0),
}


def second_time(call: Callable[[int], cs.Training]) -> tuple[float, cs.Training]:
    """Seconds of a call whose compilation is paid for, and what it gave."""
    call(0)
    began = time.perf_counter()
    result = call(1)
    return time.perf_counter() - began, result


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("paths", 2000), ("width", 200), ("draws", 32), ("inputs", 2), ("updates", 3)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    P = options.inputs
    V0, y = np.full((P, P), 0.3) + 0.7 * np.eye(P), np.resize([1.0, -1.0], P)
    settings: dict = {"targets": y, "updates": options.updates, "save_at": [0, 1], "dtype": np.float32}
    print(f"P = {P}, {options.updates} updates, T = {T}, float32, {jax.default_backend()}; milliseconds per path")
    weights = f"weights, n={options.width}"
    print(f"{'activation':>14} {'limit':>8} {weights:>15} {'in law':>8} | weights/limit  failed paths")
    for name, activation in ACTIVATIONS.items():
        mlp = cs.MLP(activation, T)

        def limit(key: int, mlp: cs.MLP = mlp) -> cs.Training:
            return cs.train(mlp, V0, paths=options.paths, key=key, **settings)

        def networks(key: int, method: str, mlp: cs.MLP = mlp) -> cs.Training:
            return cs.train_networks(
                mlp, V0, width=options.width, draws=options.draws, key=key, method=method, **settings
            )

        seconds, run = second_time(limit)
        one = seconds / options.paths
        real = second_time(lambda key: networks(key, "weights"))[0] / options.draws
        law = second_time(lambda key: networks(key, "law"))[0] / options.draws
        print(
            f"{name:>14} {1e3 * one:>8.2f} {1e3 * real:>15.1f} {1e3 * law:>8.2f} | {real / one:>13.0f}  "
            f"{run.failures['total']} of {run.paths}",
            flush=True,
        )


if __name__ == "__main__":
    main()
