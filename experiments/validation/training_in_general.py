"""Training in general: another program's table, and the limit against networks with weights, both at two widths."""

import math
import time
from typing import Any

import jax.numpy as jnp
import numpy as np

import covsde as cs
from validation.common import header, pm, row

T = 0.5
TANH = cs.MLP(cs.ShapedSmooth(jnp.tanh), depth_to_width=T)
V4 = np.array([[1, 0.3, -0.2, 0.5], [0.3, 1, 0.4, 0.2], [-0.2, 0.4, 1, 0.1], [0.5, 0.2, 0.1, 1]])
V5 = np.pad(V4, (0, 1)) + np.diag([0.0, 0, 0, 0, 1])
V5[4, :3] = V5[:3, 4] = (0.1, -0.3, 0.4)
V6 = np.array(
    [
        [1, 0.6, 0.3, 0.1, 0.5, -0.2],
        [0.6, 1, 0.6, 0.3, 0.4, 0.1],
        [0.3, 0.6, 1, 0.6, 0.2, 0.3],
        [0.1, 0.3, 0.6, 1, 0, 0.5],
        [0.5, 0.4, 0.2, 0, 1, 0.1],
        [-0.2, 0.1, 0.3, 0.5, 0.1, 1],
    ]
)
TWO = [[1, 0], [-1, 0.5], [0, -1], [0.5, 0.5]]
LABELS = [1.0, -1.0, 0.5, 0.0]

# By what they have: Gram matrix and settings. Inputs in no batch are tests.
CASES: dict[str, tuple[np.ndarray, dict[str, Any]]] = {
    "A: 3 classes, cross-entropy, 2 tests": (
        V5,
        {"targets": [0, 1, 2, 0, 2], "batches": [0, 1, 2], "loss": "cross_entropy", "learning_rate": 2.0, "updates": 4},
    ),
    "B: 2 outputs, batches, schedule, heavy ball, 1 test": (
        V4,
        {
            "targets": TWO,
            "batches": [[0, 1], [2, 0], [1, 2], [0, 1]],
            "optimizer": cs.SGD([0.8, 0.6, 0.4, 0.3], momentum=0.5),
            "updates": 4,
        },
    ),
    "C: one pass, Nesterov, coupled decay, 2 tests": (
        V6,
        {
            "targets": [1, 0.5, 0, -0.5, np.nan, np.nan],
            "batches": [[0], [1], [2], [3]],
            "optimizer": cs.SGD(0.8, momentum=0.4, nesterov=True, weight_decay=0.8),
            "updates": 4,
        },
    ),
    "3 outputs, squared": (
        V4,
        {"targets": np.eye(4)[:, :3], "batches": [0, 1, 2], "learning_rate": 1.0, "updates": 3},
    ),
    "tests only": (V4, {"targets": LABELS, "batches": [0, 1], "learning_rate": 1.0, "updates": 3}),
    "batches of two sizes": (V4, {"targets": LABELS, "batches": [[0, 1], [2], [1]], "updates": 3}),
    "decoupled decay": (
        V4,
        {"targets": LABELS, "batches": [0, 1, 2], "optimizer": cs.SGD(0.8, weight_decay=0.8, decoupled=True)},
    ),
    "logistic, centred": (
        V4,
        {"targets": [1, -1, 1, -1], "batches": [0, 1, 2], "loss": "logistic", "centred": True, "learning_rate": 2.0},
    ),
    "sign": (V4, {"targets": LABELS, "batches": [0, 1], "optimizer": cs.Sign(1.0)}),
    "Adam": (V4, {"targets": LABELS, "batches": [0, 1], "optimizer": cs.Adam(1.0, 0.9, 0.95)}),
}

# Of another program: case, statistic, (update, input, output), networks fitted in 1/n, limit extrapolated in the step.
TABLE: list[tuple[str, str, tuple[int, int, int], tuple[float, float], tuple[float, float]]] = [
    ("A", "E f", (1, 3, 0), (0.1782, 0.0112), (0.1671, 0.0125)),
    ("A", "E f", (4, 0, 0), (1.2114, 0.0201), (1.1475, 0.0236)),
    ("A", "E f", (4, 3, 0), (0.4327, 0.0195), (0.4368, 0.0227)),
    ("A", "E f", (4, 4, 2), (0.6670, 0.0202), (0.6347, 0.0249)),
    ("A", "E f²", (4, 3, 0), (1.1814, 0.0521), (1.0458, 0.0595)),
    ("A", "E movement", (4, 3, 0), (0.1699, 0.0075), (0.1662, 0.0088)),
    ("B", "E f", (1, 3, 0), (0.0738, 0.0095), (0.1060, 0.0116)),
    ("B", "E f", (4, 0, 0), (0.4419, 0.0107), (0.4770, 0.0132)),
    ("B", "E f", (4, 3, 0), (0.1884, 0.0126), (0.2054, 0.0150)),
    ("B", "E f²", (4, 3, 0), (0.5092, 0.0270), (0.4869, 0.0294)),
    ("B", "E movement", (4, 3, 0), (0.0907, 0.0059), (0.0944, 0.0064)),
    ("C", "E f", (1, 4, 0), (0.1608, 0.0069), (0.1635, 0.0087)),
    ("C", "E f", (4, 4, 0), (0.0523, 0.0022), (0.0545, 0.0028)),
    ("C", "E f", (4, 5, 0), (-0.0272, 0.0022), (-0.0346, 0.0027)),
    ("C", "E f²", (4, 4, 0), (0.0251, 0.0018), (0.0263, 0.0019)),
    ("C", "E movement", (4, 4, 0), (0.5271, 0.0102), (0.5365, 0.0123)),
]

Means = dict[tuple[str, tuple[int, int, int]], tuple[float, float]]


def means(run: cs.Training) -> Means:
    """E f without the noise of f(0), E f² and E movement at the top, of f clipped to ±3, after every update."""
    f = np.clip(run.outputs.reshape(*run.outputs.shape[:2], run.inputs, -1), -3, 3)
    start = f[0].reshape(run.paths, -1)
    assert run.moved is not None
    found: Means = {}
    for k in range(1, run.updates + 1):
        for p in range(run.inputs):
            for c in range(f.shape[3]):
                x = f[k, :, p, c]
                x = x - start @ np.linalg.lstsq(start, x - x.mean(), rcond=None)[0]
                found["E f", (k, p, c)] = _mean(x)
                found["E f²", (k, p, c)] = _mean(f[k, :, p, c] ** 2)
            found["E movement", (k, p, 0)] = _mean(np.minimum(run.moved[k, -1, :, p], 3))
    return found


def _mean(x: np.ndarray) -> tuple[float, float]:
    return float(x.mean()), float(x.std() / math.sqrt(len(x)))


def extrapolated(widths: tuple[int, int], found: list[Means]) -> Means:
    """To infinite width, statistic by statistic."""
    limit: Means = {}
    for name in found[0]:
        values, errors = zip(*(f[name] for f in found), strict=True)
        value, error = cs.extrapolate(values, errors, widths)
        limit[name] = float(value), float(error)
    return limit


def section(scale: int) -> list[str]:
    """Markdown lines; scale 1 is the full size, 10 a tenth of the samples."""
    widths, layers = (32, 64), (48, 96)
    draws, paths = (3000 // scale, 2000 // scale), (3000 // scale, 2000 // scale)
    lines = [
        "## Training in general",
        "",
        f"Shaped tanh, a = 1, T = {T:g}; the loss summed over a batch; f clipped to ±3. Limit: drawn layers of n' = "
        f"{layers[0]} and {layers[1]}, {paths[0]} and {paths[1]} paths, extrapolated in 1/n'. Networks with real "
        f"weights at n = {widths[0]} and {widths[1]}, {draws[0]} and {draws[1]} draws, extrapolated in 1/n. Values of "
        "one case share draws. z of all E f (with f(0) regressed out), E f² and E movement: all updates and inputs.",
        "",
        *header("case", "values", "rms z", "largest |z|", "E f(1) of input 0: limit", "networks", "seconds"),
    ]
    ours: dict[str, Means] = {}
    theirs: dict[str, Means] = {}
    everything: list[float] = []
    for number, (name, (V0, given)) in enumerate(CASES.items()):
        began, same = (
            time.perf_counter(),
            {"updates": 3, "dtype": "float32", "save_at": [0, 1], "kernels": False} | given,
        )
        drawn = {"method": "weights", "step_error": False}
        limit = [
            means(cs.train(TANH, V0, paths=size, steps=round(T * n), key=100 * number + n, **drawn, **same))
            for n, size in zip(layers, paths, strict=True)
        ]
        networks = [
            means(cs.train_networks(TANH, V0, width=n, draws=size, method="weights", key=100 * number + n + 1, **same))
            for n, size in zip(widths, draws, strict=True)
        ]
        a, b = extrapolated(layers, limit), extrapolated(widths, networks)
        short = name.split(":")[0]
        ours[short], theirs[short] = a, b
        z = [(a[s][0] - b[s][0]) / math.hypot(a[s][1], b[s][1]) for s in a]
        everything += z
        one = "E f", (1, 0, 0)
        lines.append(
            row(
                (
                    name,
                    len(z),
                    f"{np.sqrt(np.mean(np.square(z))):.2f}",
                    f"{np.max(np.abs(z)):.2f}",
                    pm(*a[one]),
                    pm(*b[one]),
                    f"{time.perf_counter() - began:.0f}",
                )
            )
        )
    inside = ", ".join(f"{np.mean(np.abs(everything) < k):.1%} below {k}" for k in (1, 2, 3))
    lines += [
        "",
        f"All {len(everything)} values: rms z {np.sqrt(np.mean(np.square(everything))):.2f}, largest "
        f"{np.max(np.abs(everything)):.2f}; {inside} (of independent normals 68.3%, 95.4%, 99.7%).",
        "",
        "### Another program's values",
        "",
        "Networks n = 32, 64, 128 with a line in 1/n, and revealed layers n' = 50, 100 extrapolated; z of our limit "
        "against each, and of our networks against theirs.",
        "",
        *header("case", "value", "our limit", "their networks", "z", "their limit", "z", "our networks", "z"),
    ]
    for case, what, where, network, revealed in TABLE:
        a, b = ours[case][what, where], theirs[case][what, where]

        def z_of(x: tuple[float, float], y: tuple[float, float]) -> str:
            return f"{(x[0] - y[0]) / math.hypot(x[1], y[1]):.1f}"

        update, p, c = where
        label = f"{what}, update {update}, x{p}" + (f", c{c}" if what != "E movement" and case != "C" else "")
        lines.append(
            row(
                (
                    case,
                    label,
                    pm(*a),
                    pm(*network),
                    z_of(a, network),
                    pm(*revealed),
                    z_of(a, revealed),
                    pm(*b),
                    z_of(b, network),
                )
            )
        )
    return [*lines, ""]
