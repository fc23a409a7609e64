"""Ten classes of digits: training and test curves of a deep network's limit, and of networks of two widths.

Shaped tanh at depth ∝ width, cross-entropy, full-batch gradient descent on 20 images, 100 others tested. Source: Li,
Noci, Hanin, feature learning in the proportional limit (announced; M. Li's lecture notes STAT 946, Waterloo, 2025).
"""

import sys

import common
import jax.numpy as jnp
import numpy as np
from sklearn.datasets import load_digits

import covsde as cs

T = 0.5
RATE = 2.0
WHAT = ("loss on the training images, per image", "loss on the test images", "accuracy on the test images")


def images(train: int, test: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Images with unit norm around their mean, as many of each class for training, then those of tests; classes."""
    digits, rng = load_digits(), np.random.default_rng(seed)
    order = rng.permutation(len(digits.target))
    per_class = [order[digits.target[order] == c][: train // 10] for c in range(10)]
    chosen = np.concatenate(per_class)
    rest = np.setdiff1d(order, chosen, assume_unique=True)
    rows = np.concatenate([chosen, rng.permutation(rest)[:test]])
    x = digits.data[rows] - digits.data.mean(axis=0)
    return x / np.linalg.norm(x, axis=1, keepdims=True) * np.sqrt(x.shape[1]), digits.target[rows]


def curves(run: cs.Training, train: int) -> list[np.ndarray]:
    """The three quantities, each (updates + 1, paths)."""
    return [run.losses / train, run.test_losses, run.accuracy(trained=False)]


def main(argv: list[str] | None = None) -> int:
    run = common.settings(__file__, __doc__, argv, paths=(32, 400), draws=(16, 200))
    train, test, updates = run.pick((10, 30, 6), (20, 100, 40))
    x, y = images(train, test, run.seed)
    V0 = cs.gram(x)
    widths = run.pick((64,), (64, 128))
    mlp = cs.MLP(cs.ShapedSmooth(jnp.tanh), depth_to_width=T)
    same = {"targets": y, "batches": list(range(train)), "loss": "cross_entropy", "learning_rate": RATE}
    same |= {"updates": updates, "kernels": False, "dtype": np.float32, "save_at": [0, 1]}
    limit = cs.train(mlp, V0, paths=run.paths, key=common.key(run, 0), **same)
    networks = {
        n: cs.train_networks(mlp, V0, width=n, draws=run.draws, method="weights", key=common.key(run, n), **same)
        for n in widths
    }
    figure, axes = common.panels(1, 3, width=4.3)
    ours, rows, at = curves(limit, train), [], np.arange(updates + 1)
    theirs = {n: curves(e, train) for n, e in networks.items()}
    for k, ax in enumerate(axes):
        common.band(ax, at, ours[k], common.LIMIT, "limit")
        for which, n in enumerate(widths):
            shift = (0.25 + 0.25 * which) * updates / 40
            common.bars(ax, at, theirs[n][k], which, f"networks, n = {n}, L = {mlp.depth(n)}", shift=shift)
        ax.set(xlabel="update", ylabel=WHAT[k])
    axes[0].legend(fontsize=7)
    averaged = np.exp(limit.outputs) / np.exp(limit.outputs).sum(axis=-1, keepdims=True)
    ensemble = (averaged.mean(axis=1).argmax(axis=-1) == y)[:, train:].mean(axis=1)
    axes[2].plot(at, ensemble, color=common.BLACK, linestyle=":", label="limit, all paths together")
    axes[2].axhline(0.1, color="#888888", linewidth=0.8)
    axes[2].legend(fontsize=7, loc="lower right", handles=axes[2].get_lines()[-2:-1])
    for name, found in (("limit", ours), *((f"n = {n}, L = {mlp.depth(n)}", theirs[n]) for n in widths)):
        rows.append([name, *(common.mean(quantity[-1]) for quantity in found)])
    return common.write(
        run,
        figure,
        {"updates": at, "limit": np.stack(ours), "ensemble": ensemble}
        | {f"networks_{n}": np.stack(found) for n, found in theirs.items()},
        caption=f"Shaped tanh, a = 1, T = {T:g}, η₀ = {RATE:g}, cross-entropy summed over {train} images of 8 × 8 "
        f"pixels ({train // 10} of each digit), {test} others tested; {updates} updates. {run.paths} paths of the "
        f"limit (layers of n' = {round(limit.metadata['steps'] / T)}), {run.draws} networks of each width; bands and "
        f"bars over initializations. Dotted: the class of the mean probability over all paths. "
        f"Limit: {common.stopped(limit)}; networks: {common.stopped(*networks.values())}.",
        columns=("law", *WHAT),
        rows=rows,
        parameters={"activation": "tanh", "a": 1.0, "depth_to_width": T, "learning_rate": RATE, "updates": updates},
    )


if __name__ == "__main__":
    sys.exit(main())
