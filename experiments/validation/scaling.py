"""Scaling laws: closed forms, students drawn and trained at two sizes, learned features, online SGD, pools, cost."""

import math
import time
from typing import Any

import numpy as np

import covsde as cs
from validation.common import header, pm, row

S = cs.scaling
INF = math.inf


def _exact() -> list[str]:
    lines = ["### Closed forms", "", "White spectrum, M = 400, w·w = 1; power law a = 1.5, b = 1.25.", ""]
    lines += header("quantity", "theory", "exact", "difference")
    white = S.Spectrum(np.ones(400), np.full(400, 400**-0.5))
    cut = S.PowerLaw(1.5, 1.25, modes=300)
    cases = [
        ("Marchenko–Pastur, N = 100, t = 2", S.RandomFeatures(white, 100).losses([2.0]).test[0], 0.75016936404971),
        ("plateau, P = 200, N = 100", S.RandomFeatures(white, 100, 200).plateau()[0], 1.5),
        ("plateau, P = 100, N = 200", S.RandomFeatures(white, 200, 100).plateau()[0], 1.5),
        ("M = 300, N = 80, t = 1", S.RandomFeatures(cut, 80).losses([1.0]).test[0], 1.27621017171889),
        ("M = 300, N = 80, t = 100", S.RandomFeatures(cut, 80).losses([100.0]).test[0], 0.30819627796832),
    ]
    for name, ours, exact in cases:
        lines.append(row((name, f"{ours:.14f}", f"{exact:.14f}", f"{ours - exact:.1e}")))
    return lines


def _drawn(scale: int) -> list[str]:
    lines = [
        "### Students drawn and trained",
        "",
        "a = 1.5, b = 1.25, M = 300, P = 120, N = 80, σ² = 0.05; every mode once and twice (P, N and M doubled, the "
        "same theory). z of test and train loss.",
        "",
    ]
    lines += header("training", "t", "test, theory", "drawn", "twice the size", "z", "z twice")
    lam, w = S.PowerLaw(1.5, 1.25, modes=300).drawable
    how: tuple[tuple[str, dict[str, Any]], ...] = (
        ("flow", {}),
        ("m = 3", {"momentum": 3.0}),
        ("η = 0.3", {"rate": 0.3}),
        ("η = 0.3, μ = 0.6", {"rate": 0.3, "momentum": 0.6}),
    )
    for k, (name, options) in enumerate(how):
        t, found = [2.0, 20.0, 200.0], []
        for copies in (1, 2):
            spectrum = S.Spectrum(np.repeat(lam, copies), np.repeat(w, copies) / math.sqrt(copies))
            model = S.RandomFeatures(spectrum, 80 * copies, 120 * copies, 0.05)
            law = model.losses(t, **options)
            nets = S.train_networks(model, t, draws=400 // scale, key=10 * k + copies, progress=False, **options)
            parts = []
            for ours, theirs in zip(law, nets, strict=True):
                error = theirs.std(axis=1, ddof=1) / math.sqrt(nets.paths)
                parts.append((theirs.mean(axis=1), error, (theirs.mean(axis=1) - ours) / error))
            found.append(parts)
        for j, at in enumerate(t):
            cells = [pm(parts[0][0][j], parts[0][1][j]) for parts in found]
            z = [f"{parts[0][2][j]:+.1f} {parts[1][2][j]:+.1f}" for parts in found]
            lines.append(row((name, f"{at:g}", f"{law.test[j]:.5f}", *cells, *z)))
    return lines


def _learned(scale: int) -> list[str]:
    lines = ["### Features that learn", "", "All of w and B integrated, ω = w·w; a = 1.5, b = 1.25, M = 300.", ""]
    lines += header("N, P, γ, t", "test, theory", "drawn", "ω, theory", "drawn", "z test, train, ω")
    spectrum = S.PowerLaw(1.5, 1.25, modes=300)
    for k, (N, P, gamma) in enumerate(((80, INF, 1.0), (80, 150, 1.0), (150, 80, 0.3))):
        model = S.LearnedFeatures(spectrum, N, P, rate=gamma)
        t = [1.0, 10.0]
        law, nets = model.losses(t), S.train_networks(model, t, draws=160 // scale, key=k, progress=False)
        for j, at in enumerate(t):
            cells, z = [], []
            for name in ("test", "train", "weight_norm"):
                ours, theirs = getattr(law, name)[j], getattr(nets, name)[j]
                error = theirs.std(ddof=1) / math.sqrt(nets.paths)
                cells.append((f"{ours:.5f}", pm(float(theirs.mean()), float(error))))
                z.append((theirs.mean() - ours) / error)
            text = " ".join(f"{s:+.1f}" for s in z)
            lines.append(row((f"{N}, {P:g}, {gamma}, {at:g}", *cells[0], *cells[2], text)))
    return lines


def _online(scale: int) -> list[str]:
    lines = ["### Online SGD", "", "B = 8, η = 0.3, M = 300, a = 1.5, b = 1.25, σ² = 0.1.", ""]
    lines += header("N", "step", "theory", "runs", "z")
    for N in (80, INF):
        model = S.RandomFeatures(S.PowerLaw(1.5, 1.25, modes=300), N, noise=0.1)
        rates = np.full(200, 0.3)
        loss = S.online(model, rates, 8)
        runs = S.train_networks_online(model, rates, 8, draws=800 // scale, key=4, progress=False)
        for step in (1, 10, 50, 200):
            values = runs.test[step]
            error = values.std(ddof=1) / math.sqrt(runs.paths)
            z = (values.mean() - loss[step]) / error
            cells = (f"{N:g}", str(step), f"{loss[step]:.5f}", pm(float(values.mean()), float(error)), f"{z:+.1f}")
            lines.append(row(cells))
    return lines


def _digits(scale: int) -> list[str]:
    from sklearn.datasets import load_digits

    lines = [
        "### Kernel regression on 1797 digits",
        "",
        "Kernel of an infinitely wide ReLU network of three hidden layers, ten outputs; measured/predicted test loss, "
        "ridge in units of the kernel's mean diagonal.",
        "",
    ]
    samples = [20, 50, 100, 200, 500, 1000]
    lines += header("ridge", *(f"P = {P}" for P in samples))
    x, labels = load_digits(return_X_y=True)
    V = cs.gram(x)
    V /= np.sqrt(np.outer(np.diag(V), np.diag(V)))
    K, y = np.asarray(cs.kernels(cs.MeanFieldMLP("relu", depth=3), V).nngp), np.eye(10)[labels] - 0.1
    for relative in (1.0, 0.1, 0.0):
        regression = S.KernelRegression(K, y, penalty=relative * float(np.trace(K)) / len(K))
        draws = regression.measured(samples, draws=max(4, 40 // scale), key=1, progress=False)
        ratio = draws.test / regression.predicted(samples).test[:, None]
        error = ratio.std(axis=1, ddof=1) / math.sqrt(draws.paths)
        cells = [pm(float(r), float(e)) for r, e in zip(ratio.mean(axis=1), error, strict=True)]
        lines.append(row((f"{relative:g}", *cells)))
    return lines


def _cost() -> list[str]:
    lines = ["### Cost", "", "One run each, compilation included.", ""]
    lines += header("what", "seconds")
    big = S.RandomFeatures(S.PowerLaw(1.5, 1.25, modes=2000), 120, 200)
    tasks = (
        ("losses at 100 times, 2000 modes", lambda: big.losses(np.geomspace(1, 1e7, 100))),
        ("losses at t = 1", lambda: big.losses([1.0])),
        ("losses at t = 10⁷", lambda: big.losses([1e7])),
        ("learned features, N = 80, P = 150, t = 100", lambda: _rich().losses([100.0])),
        ("frontier at four budgets", lambda: S.frontier(S.RandomFeatures(S.PowerLaw(1.8, 2.0)), [1e3, 1e4, 1e5, 1e6])),
        (
            "optimal rates, T = 1600",
            lambda: S.optimal_rates(S.RandomFeatures(S.PowerLaw(3.0, 1.5), noise=0.25), 1600, 4),
        ),
    )
    for name, task in tasks:
        start = time.perf_counter()
        task()
        lines.append(row((name, f"{time.perf_counter() - start:.3f}")))
    return lines


def _rich() -> Any:
    return S.LearnedFeatures(S.PowerLaw(1.5, 1.25, modes=300), 80, 150)


def section(scale: int) -> list[str]:
    """Markdown lines."""
    parts = (_exact(), _drawn(scale), _learned(scale), _online(scale), _digits(scale), _cost())
    return ["## Scaling laws", "", *(line for part in parts for line in (*part, ""))]
