"""Mean-field networks of fixed depth: exact values, real networks at two widths, fluctuations, posterior, cost."""

import math
import resource
import time
from typing import Any

import numpy as np

import covsde as cs
from validation.common import header, pm, row

K3 = np.array([[1.0, 0.4, 0.6], [0.4, 1.0, -0.2], [0.6, -0.2, 1.0]])
K4 = np.array([[1, 0.4, 0.6, 0.1], [0.4, 1, -0.2, 0.3], [0.6, -0.2, 1, 0], [0.1, 0.3, 0, 1]])
TWO = np.array([[1, -0.5], [-0.7, 0.4], [0, 0], [0, 0]])
NONE = float("nan")


def _linear() -> list[str]:
    lines = [
        "### Linear networks without sampling",
        "",
        "Largest difference from closed forms, f, N Var f, N shift.",
        "",
    ]
    lines += header("case", "f", "N Var f", "N (E f - limit)", "seconds")
    cases: list[tuple[str, int, Any, dict[str, Any], Any, Any, Any]] = [
        (
            "L = 1, k = 1.3",
            1,
            [[1.3]],
            {"targets": [0.8], "updates": 4, "learning_rate": 0.2, "richness": 0.7},
            (0, 0.416, 0.62049921, 0.71915004, 0.76442834),
            (2.65306122, 0.82656026, 0.33035206, 0.11496490, 0.03454270),
            (0, -0.10816, -0.44756898, -0.49967967, -0.3948217),
        ),
        (
            "L = 3, k = 1",
            3,
            [[1.0]],
            {"targets": [1.0], "updates": 4, "learning_rate": 0.15},
            (0, 0.6, 0.91767413, 1.00223908, 0.99979532),
            (1, 1.65518125, 0.880143508, 0.00860912457, 1.04706542e-4),
            (0, -0.42975, -2.63735701, -1.47897951, 0.06625437),
        ),
    ]
    for name, depth, V0, task, *exact in cases:
        start = time.perf_counter()
        found = cs.fluctuations(cs.MeanFieldMLP("linear", depth), V0, **task)
        seconds = time.perf_counter() - start
        ours = (found.outputs, found.variance, found.shift)
        gaps = [np.max(np.abs(x[:, 0] - e)) for x, e in zip(ours, exact, strict=True)]
        lines.append(row((name, *(f"{gap:.1e}" for gap in gaps), f"{seconds:.1f}")))
    return lines


def _networks(scale: int) -> list[str]:
    lines = [
        "### Networks at two widths",
        "",
        "Two trained inputs, two tests, two outputs, four updates; networks with real weights, f - f(0), extrapolated "
        "in 1/width from 128 and 384. z of f at trained and at test inputs.",
        "",
    ]
    lines += header("φ, L", "f of input 0, limit", "width 128", "width 384", "extrapolated", "z trained", "z tests")
    for activation, depth, rate in (("tanh", 2, 0.5), ("tanh", 4, 0.5), ("relu", 2, 0.3), ("relu", 4, 1.2)):
        mlp = cs.MeanFieldMLP(activation, depth)
        task: dict[str, Any] = {"targets": TWO, "batches": [0, 1], "updates": 4, "learning_rate": rate}
        limit = cs.train(mlp, K4, paths=96_000 // scale, key=1, **task)
        found = []
        for width, draws in ((128, 1000 // scale), (384, 400 // scale)):
            nets = cs.train_networks(
                mlp, K4, width=width, draws=draws, method="weights", centred=True, key=width, **task
            )
            f = nets.outputs[-1] - nets.outputs[0]
            found.append((f.mean(axis=0), f.std(axis=0, ddof=1) / math.sqrt(draws)))
        (small, se_small), (large, se_large) = found
        value, error = 1.5 * large - 0.5 * small, np.hypot(1.5 * se_large, 0.5 * se_small)
        z = (value - limit.outputs[-1]) / np.hypot(error, limit.standard_error["outputs"][-1])
        cells = [pm(x[0, 0], e[0, 0]) for x, e in ((limit.outputs[-1], limit.standard_error["outputs"][-1]), *found)]
        text = [" ".join(f"{s:+.1f}" for s in part.ravel()) for part in (z[:2], z[2:])]
        lines.append(row((f"{activation}, {depth}", *cells, pm(value[0, 0], error[0, 0]), *text)))
    return lines


def _fluctuations(scale: int) -> list[str]:
    lines = [
        "### Fluctuations of nonlinear networks",
        "",
        "N Var f predicted by the derivatives of the particle march, and of networks with real weights; tanh, three "
        "hidden layers, two trained inputs and a test, not centred.",
        "",
    ]
    lines += header("input, update", "predicted", "width 128", "width 384", "z 128", "z 384")
    task: dict[str, Any] = {"targets": [1.0, -0.7, 0.5], "batches": [0, 1], "updates": 4, "learning_rate": 0.8}
    mlp = cs.MeanFieldMLP("tanh", 3)
    around = cs.fluctuations(mlp, K3, paths=18_000 // scale, key=1, **task)
    measured = []
    for width, draws in ((128, 2400 // scale), (384, 1200 // scale)):
        nets = cs.train_networks(mlp, K3, width=width, draws=draws, method="weights", key=width, **task)
        variance = width * nets.outputs.var(axis=1, ddof=1)
        measured.append((variance, variance * math.sqrt(2 / draws)))
    for update in (0, 2, 4):
        for datum in (0, 2):
            at = (update, datum)
            own = (around.variance[at], around.variance_error[at])
            z = [(v[at] - own[0]) / math.hypot(e[at], own[1]) for v, e in measured]
            cells = [pm(*own), *(pm(v[at], e[at]) for v, e in measured)]
            lines.append(row((f"{'test' if datum == 2 else 'trained'}, {update}", *cells, *(f"{s:+.1f}" for s in z))))
    return lines


def _posterior() -> list[str]:
    lines = [
        "### Posterior",
        "",
        "Outputs at two trained inputs and a test; sampled is Hamiltonian Monte Carlo on raw weights at widths from 32 "
        "on, extrapolated in 1/width, by another program.",
        "",
    ]
    lines += header("tanh: L, γ₀, T", "f", "Gaussian process", "sampled", "z")
    cases = (
        ((1, 1.5, 0.25), ((0.71204, 15), (-0.51175, 15), (0.70915, 37))),
        ((2, 1.5, 0.25), ((0.6977, 80), (-0.5416, 90), (0.6773, 160))),
        ((3, 1.2, 0.2), ((0.7063, 100), (-0.5559, 100), (0.6758, 180))),
    )
    for (depth, richness, temperature), sampled in cases:
        found = cs.kernel_posterior(
            cs.MeanFieldMLP("tanh", depth), K3, targets=[1.0, -0.7, NONE], temperature=temperature, richness=richness
        )
        z = [(f - value) / (1e-5 * error) for f, (value, error) in zip(found.outputs, sampled, strict=True)]
        texts = [", ".join(f"{x:.5f}" for x in values) for values in (found.outputs, found.nngp_outputs)]
        theirs = ", ".join(pm(value, 1e-5 * error) for value, error in sampled)
        lines.append(row((f"{depth}, {richness}, {temperature}", *texts, theirs, " ".join(f"{s:+.1f}" for s in z))))
    return lines


def _cost(scale: int) -> list[str]:
    lines = [
        "### Cost",
        "",
        "tanh, four hidden layers, 8 trained inputs and 8 tests, 2·10⁴ particles, one run each, compilation included.",
        "",
    ]
    lines += header("updates", "seconds", "largest s.e. of f", "memory of the process so far")
    x = np.random.default_rng(0).standard_normal((16, 10))
    V = cs.gram(x)
    V = V / np.sqrt(np.outer(np.diag(V), np.diag(V)))
    for updates in (12, 25, 50)[: 3 if scale == 1 else 2]:
        start = time.perf_counter()
        run = cs.train(
            cs.MeanFieldMLP("tanh", 4),
            V,
            targets=np.sign(x[:, 0]),
            batches=list(range(8)),
            updates=updates,
            paths=20_000,
            learning_rate=0.5,
        )
        seconds, memory = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        error = float(np.max(run.standard_error["outputs"][-1]))
        lines.append(row((updates, f"{seconds:.0f}", f"{error:.3f}", f"{memory:.1f} GiB")))
    return lines


def section(scale: int) -> list[str]:
    """Markdown lines."""
    parts = (_linear(), _networks(scale), _fluctuations(scale), _posterior(), _cost(scale))
    return ["## Mean-field networks of fixed depth", "", *(line for part in parts for line in (*part, ""))]
