"""Trained ResNets: reference values, real networks at two widths and depths, responses, blocks of two matrices."""

import math
import time

import jax
import jax.numpy as jnp
import numpy as np

import covsde as cs
from validation.common import header, pm, row

ONE = np.eye(1)
PAIR = np.array([[1.0, 0.5], [0.5, 1.0]])
TANH, RELU, LINEAR = cs.ResNet(jnp.tanh, 1.5), cs.ResNet(jax.nn.relu, 1.5), cs.ResNet("linear")
BOTH = {"train_input": True, "train_readout": True}

# Recursion of coefficients, 6 to 9 digits: settings, f(1), f(2), ….
EXACT = {
    "L = 16, η₀ = .5": (
        ONE,
        [1.0],
        {"depth": 16, "learning_rate": 0.5},
        (1.24137812, 0.83338433, 1.05452422, 0.97181704),
    ),
    "the same without responses": (
        ONE,
        [1.0],
        {"depth": 16, "learning_rate": 0.5, "response": False},
        (0.81896425, 1.03258629, 0.9878774, 1.00401844),
    ),
    "L = 16, η₀ = .2": (ONE, [1.0], {"depth": 16, "learning_rate": 0.2}, (0.496551, 0.776689, 0.921523, 0.977084)),
    "L = 32, η₀ = .2": (ONE, [1.0], {"depth": 32, "learning_rate": 0.2}, (0.519174, 0.803794, 0.941137, 0.986105)),
    "L = 64, η₀ = .2": (ONE, [1.0], {"depth": 64, "learning_rate": 0.2}, (0.531169, 0.817862, 0.950548, 0.989827)),
    "L = ∞, η₀ = .2 (steps = 64)": (
        ONE,
        [1.0],
        {"steps": 64, "learning_rate": 0.2},
        (0.54365, 0.83227, 0.9596, 0.99298),
    ),
    "L = ∞, η₀ = .5 (steps = 64)": (
        ONE,
        [1.0],
        {"steps": 64, "learning_rate": 0.5},
        (1.35913, 0.67492, 1.05749, 0.96725),
    ),
    "γ₀ = .01, L = 16, η₀ = .1": (
        ONE,
        [1.0],
        {"depth": 16, "learning_rate": 0.1, "richness": 0.01},
        (0.248276, 0.434911, 0.57521, 0.680677),
    ),
    "two inputs, L = 8, η₀ = .15": (
        PAIR,
        [1.0, -1.0],
        {"depth": 8, "learning_rate": 0.15},
        (0.08553, 0.16495, 0.24053),
    ),
    "the same, trained ends": (
        PAIR,
        [1.0, -1.0],
        {"depth": 8, "learning_rate": 0.15, **BOTH},
        (0.27796, 0.51293, 0.72502),
    ),
    "two inputs, L = 8, η₀ = .5": (PAIR, [1.0, -1.0], {"depth": 8, "learning_rate": 0.5}, (0.28509, 0.5212, 0.73011)),
    "the same, trained ends ": (
        PAIR,
        [1.0, -1.0],
        {"depth": 8, "learning_rate": 0.5, **BOTH},
        (0.92653, 1.07923, 0.89909),
    ),
}
# Another program: 8·10⁴ particles, regression on stored sources; or networks of width 1024 (768): values and errors.
ONE_TANH, TWO_TANH = {"depth": 16, "learning_rate": 0.3}, {"depth": 12, "learning_rate": 1.0}
SAMPLED = {
    "tanh": (TANH, ONE, [1.0], ONE_TANH, (0.4462, 0.6665, 0.7954, 0.8738), (0.0063, 0.0053, 0.0041, 0.0030)),
    "tanh, networks": (TANH, ONE, [1.0], ONE_TANH, (0.4463, 0.6678, 0.7963, 0.8741), (0.0055, 0.0059, 0.0052, 0.0041)),
    "tanh, no responses": (
        TANH,
        ONE,
        [1.0],
        {**ONE_TANH, "response": False},
        (0.304, 0.511, 0.658, 0.762),
        (0.005,) * 4,
    ),
    "tanh, L = 8": (TANH, ONE, [1.0], {**ONE_TANH, "depth": 8}, (0.4208, 0.6481), (0.003,) * 2),
    "tanh, L = 32": (TANH, ONE, [1.0], {**ONE_TANH, "depth": 32}, (0.4554, 0.6735), (0.003,) * 2),
    "tanh, L = 64": (TANH, ONE, [1.0], {**ONE_TANH, "depth": 64}, (0.4587, 0.6743), (0.003,) * 2),
    "ReLU": (RELU, ONE, [1.0], ONE_TANH, (0.881, 1.037, 0.984, 1.006), (0.013, 0.004, 0.002, 0.001)),
    "ReLU, networks": (RELU, ONE, [1.0], ONE_TANH, (0.905, 1.019, 0.992, 1.003), (0.018, 0.005, 0.002, 0.001)),
    "tanh, two inputs": (
        TANH,
        PAIR,
        [1.0, -0.5],
        TWO_TANH,
        ((0.5625, -0.0695), (0.7257, -0.306), (0.8663, -0.4059)),
        (0.0055,) * 3,
    ),
    "tanh, two inputs, networks": (
        TANH,
        PAIR,
        [1.0, -0.5],
        TWO_TANH,
        ((0.5511, -0.0683), (0.7172, -0.3008), (0.8595, -0.4010)),
        (0.012,) * 3,
    ),
    "tanh, two inputs, no responses": (
        TANH,
        PAIR,
        [1.0, -0.5],
        {**TWO_TANH, "response": False},
        ((0.382, -0.027), (0.584, -0.163), (0.737, -0.298)),
        (0.005,) * 3,
    ),
}


def _linear() -> list[str]:
    lines = ["### Linear networks: no Monte Carlo", "", "Largest difference from a recursion of coefficients.", ""]
    lines += header("case", "updates", "largest difference of f", "seconds")
    for name, (V0, y, settings, exact) in EXACT.items():
        run = cs.train(LINEAR, V0, targets=y, updates=len(exact), **settings)
        gap = np.max(np.abs(run.outputs[1:, 0] - exact))
        lines.append(row((name, len(exact), f"{gap:.1e}", f"{run.metadata['seconds']:.1f}")))
    lines += ["", "One step in closed form, L = ∞: f = η₀ y β² e^{β²} H₀; without responses η₀ y H₀ (e^{β²} - 1).", ""]
    lines += header("β, γ₀, η₀, y, H₀", "steps", "f", "closed form", "no responses", "closed form")
    for beta, gamma, rate, y, H0 in ((1.0, 1.0, 0.2, 1.0, 1.0), (1.3, 0.6, 0.3, 0.7, 2.0)):
        a = beta**2
        settings = {"targets": [y], "updates": 1, "learning_rate": rate, "richness": gamma, "steps": 64}
        res, gram = cs.ResNet("linear", beta), [[H0]]
        both = [cs.train(res, gram, response=r, **settings).outputs[1, 0] for r in (True, False)]
        exact = rate * y * a * math.exp(a) * H0, rate * y * H0 * math.expm1(a)
        cells = (f"{beta}, {gamma}, {rate}, {y}, {H0}", 64, f"{both[0]:.6f}", f"{exact[0]:.6f}")
        lines.append(row((*cells, f"{both[1]:.6f}", f"{exact[1]:.6f}")))
    return lines


def _sampled(scale: int) -> list[str]:
    paths = 80_000 // scale
    lines = [
        "### Nonlinear networks: particles",
        "",
        f"β = 1.5, γ₀ = 1, {paths} particles in 8 systems, whose spread gives the errors; reference values by another "
        "program with particles, and by networks of width 1024 (768 for two inputs). z in joint standard errors.",
        "",
        *header("case", "seconds", "f(1) here", "f(1) there", "z for f(1), f(2), …"),
    ]
    largest = 0.0
    for name, (res, V0, y, settings, exact, errors) in SAMPLED.items():
        run = cs.train(res, V0, targets=y, updates=len(exact), paths=paths, key=1, **settings)
        reference = np.reshape(exact, (len(exact), -1))
        spread = np.hypot(run.standard_error["outputs"][1:], np.reshape(errors, (-1, 1)))
        z = (run.outputs[1:] - reference) / spread
        largest = max(largest, float(np.max(np.abs(z))))
        here = ", ".join(pm(f, e) for f, e in zip(run.outputs[1], run.standard_error["outputs"][1], strict=True))
        there = ", ".join(pm(f, errors[0]) for f in reference[0])
        zs = " ".join(f"{v:+.1f}" for v in z.ravel())
        lines.append(row((name, f"{run.metadata['seconds']:.1f}", here, there, zs)))
    return [*lines, "", f"Largest |z|: {largest:.1f}."]


def _networks(scale: int) -> list[str]:
    rate, updates, paths = 0.3, 3, 80_000 // scale
    settings: dict = {"targets": [1.0], "updates": updates, "learning_rate": rate}
    infinite = cs.train(TANH, ONE, paths=paths, key=2, **settings)
    value = pm(infinite.outputs[-1, 0], infinite.standard_error["outputs"][-1, 0])
    lines = [
        "### Networks at two widths and two depths",
        "",
        f"tanh, β = 1.5, γ₀ = 1, η₀ = {rate}; f after {updates} updates, mean over networks after regressing out their "
        f"f(0). N (networks - limit at depth L) should not depend on N, nor L (limit at L - limit at ∞) on L. Limits: "
        f"{paths} particles; at infinite depth f = {value}.",
        "",
        *header("N", "L", "networks", "f", "limit at L", "N × difference", "L (limit at L - at ∞)"),
    ]
    for L in (8, 32):
        limit = cs.train(TANH, ONE, paths=paths, key=2, depth=L, **settings)
        f, df = limit.outputs[-1, 0], limit.standard_error["outputs"][-1, 0]
        deeper = pm(L * (f - infinite.outputs[-1, 0]), L * math.hypot(df, infinite.standard_error["outputs"][-1, 0]), 2)
        for N in (64, 256):
            draws = 512_000 // N // scale
            run = cs.train_networks(TANH, ONE, width=N, depth=L, draws=draws, key=N + L, save_at=[0, 1], **settings)
            mean, error = run.controlled_mean(lambda r: r.outputs[-1, :, 0], lambda r: r.outputs[0, :, 0])
            difference = pm(N * (float(mean) - f), N * math.hypot(float(error), df), 1)
            lines.append(row((N, L, draws, pm(float(mean), float(error)), pm(f, df), difference, deeper)))
    draws, N, L = max(8, 200 // scale), 128, 8
    law, real = (
        cs.train_networks(
            TANH, ONE, width=N, depth=L, draws=draws, method=method, key=k, save_at=[0, 1], dtype=np.float32, **settings
        ).controlled_mean(lambda r: r.outputs[1:, :, 0].T, lambda r: r.outputs[0, :, 0])
        for method, k in (("law", 1), ("weights", 2))
    )
    lines += [
        "",
        f"The networks above are drawn in law, without weights. {draws} of them against {draws} with real weights "
        f"(float32), N = {N}, L = {L}:",
        "",
        *header("update", "in law", "real weights", "z"),
    ]
    for k in range(updates):
        z = (law.value[k] - real.value[k]) / math.hypot(law.standard_error[k], real.standard_error[k])
        cells = (pm(e.value[k], e.standard_error[k]) for e in (law, real))
        lines.append(row((k + 1, *cells, f"{z:+.1f}")))
    return lines


def _responses(scale: int) -> list[str]:
    N, draws, paths = 512 if scale == 1 else 128, 800 // scale, 80_000 // scale
    lines = [
        "### Responses survive infinite depth",
        "",
        f"f after one step of networks that reuse their matrices in the backward pass, minus that of networks with "
        f"independent backward matrices: {draws} networks of width {N}, and limits with and without responses.",
        "",
        *header("φ", "L", "networks", "limits"),
    ]
    for name, res, rate in (("linear, η₀ = .2", LINEAR, 0.2), ("tanh, η₀ = .3", TANH, 0.3)):
        for L in (2, 8, 32, None):
            settings: dict = {"targets": [1.0], "updates": 1, "learning_rate": rate, "save_at": [0, 1]}
            limits = [
                cs.train(res, ONE, depth=L, response=r, paths=paths, key=3, **settings).outputs[1, 0]
                for r in (True, False)
            ]
            cell = ""
            if L is not None:
                found = [
                    cs.train_networks(
                        res, ONE, width=N, depth=L, draws=draws, response=r, key=L + r, **settings
                    ).controlled_mean(lambda r: r.outputs[1, :, 0], lambda r: r.outputs[0, :, 0])
                    for r in (True, False)
                ]
                spread = math.hypot(*(float(e.standard_error) for e in found))
                cell = pm(float(found[0].value - found[1].value), spread, 3)
            lines.append(row((name, L or "∞", cell, f"{limits[0] - limits[1]:.4f}")))
    return lines


def _two_matrices(scale: int) -> list[str]:
    linear, tanh = cs.ResNet("linear", 1.0, "two-matrix"), cs.ResNet(jnp.tanh, 1.0, cs.TwoMatrix(4.0))
    settings: dict = {"targets": [1.0], "updates": 5}
    lines = [
        "### Blocks of two matrices",
        "",
        "One input, y = 1. Linear, η₀ = .1, L = ∞, against a program of the authors of the limit (digits shown); tanh, "
        f"η₀ = .3, L = 24, against {max(8, 24 // scale)} networks with real weights, D = 96, M = 384 (float32).",
        "",
        *header("", "f(1)", "f(2)", "f(3)", "f(4)", "f(5)"),
    ]
    run = cs.train(linear, ONE, learning_rate=0.1, steps=100, **settings)
    lines.append(row(("linear, steps = 100", *(f"{f:.5f}" for f in run.outputs[1:, 0]))))
    lines.append(row(("linear, reference", 0.2, 0.37084, 0.52728, 0.66905, 0.78872)))
    limit = cs.train(tanh, ONE, learning_rate=0.3, depth=24, paths=80_000 // scale, **settings)
    errors = limit.standard_error["outputs"][1:, 0]
    lines.append(row(("tanh, limit", *(pm(f, e) for f, e in zip(limit.outputs[1:, 0], errors, strict=True)))))
    nets = cs.train_networks(
        tanh,
        ONE,
        learning_rate=0.3,
        width=96,
        depth=24,
        draws=max(8, 24 // scale),
        method="weights",
        dtype=np.float32,
        save_at=[0, 1],
        **settings,
    )
    mean = nets.controlled_mean(lambda r: r.outputs[1:, :, 0].T, lambda r: r.outputs[0, :, 0])
    lines.append(row(("tanh, networks", *(pm(f, e) for f, e in zip(*mean, strict=True)))))
    return lines


def _speed() -> list[str]:
    start = time.perf_counter()
    run = cs.train(TANH, PAIR, targets=[1.0, -0.5], updates=5, learning_rate=0.3, depth=32, paths=20_000)
    seconds = time.perf_counter() - start
    return [
        "### Time",
        "",
        f"Two inputs, 5 updates, L = 32, 20000 particles: {seconds:.1f} s, compilation included; "
        f"f = {', '.join(pm(f, e) for f, e in zip(run.outputs[-1], run.standard_error['outputs'][-1], strict=True))}.",
    ]


def section(scale: int) -> list[str]:
    """Markdown lines of this section; `scale` 1 is full size, 10 quick."""
    lines = [
        "## Trained ResNets",
        "",
        "h ← h + β (LN)^(-1/2) W φ(h), f = w·h/(γ₀N), gradient descent on the mean of ½(f-y)² with rate η₀γ₀²N. The "
        "limit N → ∞ is deterministic: causal in training steps, by particles whose matrices are revealed only where "
        "training meets them.",
    ]
    for part in (
        _linear(),
        _sampled(scale),
        _networks(scale),
        _responses(scale),
        _two_matrices(scale),
        _speed(),
    ):
        lines += ["", *part]
    return lines
