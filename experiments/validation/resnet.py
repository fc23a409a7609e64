"""Depth-scaled ResNets: kernels, their error at finite depth, real networks, and where width and depth commute."""

import math

import jax
import jax.numpy as jnp
import numpy as np

import covsde as cs

ONE_RADIAN = np.array([[1.0, math.cos(1.0)], [math.cos(1.0), 1.0]])
RELU = cs.ResNet(jax.nn.relu)

# H(1), G(0) and the tangent kernel: diagonal and off-diagonal entries, from a fourth-order solution of the ODEs.
KERNELS = {
    ("ReLU", 1.0): ((1.648721, 0.963970), (1.648721, 1.412274), (0.824361, 0.498461)),
    ("ReLU", 2.0): ((7.389056, 5.059851), (7.389056, 4.161895), (14.778112, 7.906744)),
    ("tanh", 1.0): ((1.4278999,), (1.5407738,), (0.5296492,)),
    ("tanh", 1.5): ((2.0441158,), (2.4561950,), (1.6208488,)),
}


def mean_and_error(x: np.ndarray) -> tuple[float, float]:
    return float(x.mean()), float(x.std(ddof=1) / math.sqrt(x.size))


def _kernels() -> list[str]:
    lines = [
        "### Kernels at infinite depth",
        "",
        "Difference from reference values (6 to 7 digits) of diagonal / off-diagonal entries.",
        "",
        "| φ | β | H(1) | G(0) | tangent kernel |",
        "|---|---|---|---|---|",
    ]
    for (name, beta), exact in KERNELS.items():
        res = cs.ResNet(jax.nn.relu if name == "ReLU" else jnp.tanh, beta)
        k = cs.kernels(res, ONE_RADIAN)
        cells = [
            " / ".join(f"{matrix[0, j] - value:+.1e}" for j, value in enumerate(values))
            for matrix, values in zip((k.H[-1], k.G[0], k.ntk), exact, strict=True)
        ]
        lines.append(f"| {name} | {beta:g} | {' | '.join(cells)} |")
    return lines


def _depth() -> list[str]:
    limit, x = cs.kernels(RELU, ONE_RADIAN).ntk, 0.5
    constant = -x * math.exp(x) * (x + x * x / 2)
    lines = [
        "### Finite depth: an error of 1/L",
        "",
        f"L (K_L - K) for ReLU, β = 1; its limit on the diagonal is -x eˣ (x + x²/2) = {constant:.4f}, x = β²/2.",
        "",
        "| L | diagonal | off-diagonal |",
        "|---|---|---|",
    ]
    for L in (16, 32, 64, 128, 256):
        gap = L * (cs.kernels(RELU, ONE_RADIAN, depth=L).ntk - limit)
        lines.append(f"| {L} | {gap[0, 0]:.4f} | {gap[0, 1]:.4f} |")
    return lines


def _networks(scale: int) -> list[str]:
    draws, N, L = max(6, 60 // scale), 768 if scale == 1 else 128, 16
    exact, infinite = cs.kernels(RELU, ONE_RADIAN, depth=L), cs.kernels(RELU, ONE_RADIAN)
    x = np.linalg.cholesky(ONE_RADIAN) * math.sqrt(2)

    @jax.jit
    def one(key: jax.Array) -> tuple[jax.Array, ...]:
        k = RELU.network(N, depth=L, key=key, in_size=2, dtype=jnp.float32).kernels(x)
        return k.H[-1], k.G[0], k.ntk

    found = [np.stack(part) for part in zip(*(one(jax.random.key(i)) for i in range(draws)), strict=True)]
    lines = [
        "### Real networks",
        "",
        f"{draws} ReLU networks with real weights, N = {N}, L = {L}, gradients by automatic differentiation, against "
        "the recursion for infinite width and depth L.",
        "",
        "| kernel | entry | networks | theory, L | z | theory, L = ∞ |",
        "|---|---|---|---|---|---|",
    ]
    rows = (("H(1)", exact.H[-1], infinite.H[-1]), ("G(0)", exact.G[0], infinite.G[0]), ("K", exact.ntk, infinite.ntk))
    for values, (name, finite, limit) in zip(found, rows, strict=True):
        for j, entry in enumerate(("diagonal", "off-diagonal")):
            mean, error = mean_and_error(values[:, 0, j])
            z = (mean - finite[0, j]) / error
            lines.append(
                f"| {name} | {entry} | {mean:.4f} ± {error:.4f} | {finite[0, j]:.4f} | {z:+.1f} | {limit[0, j]:.4f} |"
            )
    return lines


def _commute(scale: int) -> list[str]:
    draws = 4000 // scale
    limit = cs.kernels(RELU, ONE_RADIAN).H[-1, 0, 1]
    lines = [
        "### Width and depth commute",
        "",
        f"ReLU, β = 1, off-diagonal entry of H(1), {draws} networks in law: root mean square distance to the limit "
        f"{limit:.4f}. It falls like n^(-1/2) where L is large, and its mean like 1/L.",
        "",
        "| n | L = 8 | L = 32 | L = 128 | mean error at L = 8 |",
        "|---|---|---|---|---|",
    ]
    rms = []
    for n in (16, 64, 256):
        cells, bias = [], ""
        for L in (8, 32, 128):
            e = cs.sample_networks(RELU, ONE_RADIAN, width=n, depth=L, draws=draws, save_at=[0, 1], key=n + L)
            gap = e.V[-1, :, 0, 1] - limit
            cells.append(math.sqrt(np.mean(gap**2)))
            if L == 8:
                mean, error = mean_and_error(gap)
                bias = f"{mean:+.4f} ± {error:.4f}"
        rms.append(cells[-1])
        lines.append(f"| {n} | {' | '.join(f'{c:.4f}' for c in cells)} | {bias} |")
    slope = math.log(rms[-1] / rms[0]) / math.log(16)
    finite = cs.kernels(RELU, ONE_RADIAN, depth=8).H[-1, 0, 1] - limit
    lines += ["", f"Slope in n at L = 128: {slope:.3f}. Mean error of infinite width at L = 8: {finite:+.4f}."]
    return lines


def _streams(scale: int) -> list[str]:
    paths, steps = 4000 // scale, 200
    lines = [
        "### Finite width, infinite depth",
        "",
        f"Linear network: mean and variance of log(‖X₁‖/‖X₀‖), {paths} paths, {steps} Euler steps.",
        "",
        "| n | mean | 1/2 - 1/n | variance | 1/n |",
        "|---|---|---|---|---|",
    ]
    for n in (4, 16):
        s = cs.simulate_streams(cs.ResNet("linear"), np.ones(n), paths=paths, steps=steps, key=n, save_at=[0, 1])
        logs = np.log(np.linalg.norm(s.X[-1, :, 0], axis=1) / math.sqrt(n))
        mean, error = mean_and_error(logs)
        spread = logs.var() * math.sqrt(2 / paths)
        lines.append(f"| {n} | {mean:.4f} ± {error:.4f} | {0.5 - 1 / n} | {logs.var():.4f} ± {spread:.4f} | {1 / n} |")
    return lines


def _gradients() -> list[str]:
    lines = [
        "### Gradients through the limit",
        "",
        "Derivative of the off-diagonal tangent kernel, by automatic differentiation and by central differences.",
        "",
        "| φ | with respect to | automatic | difference |",
        "|---|---|---|---|",
    ]
    x = np.array([[0.9, -0.3, 0.5], [0.2, 1.1, 0.4]])
    for name, fn in (("ReLU", jax.nn.relu), ("tanh", jnp.tanh)):

        def entry(beta: jax.Array, x: jax.Array, fn=fn) -> jax.Array:
            return cs.kernels(cs.ResNet(fn, beta), x @ x.T / 3, save_at=[0, 1], tolerance=1e-11).ntk[0, 1]

        with jax.enable_x64(True):
            to_beta, to_x = jax.jit(jax.grad(entry, (0, 1)))(1.3, jnp.asarray(x))
        h, step = 1e-5, np.zeros_like(x)
        step[0, 1] = h
        by_beta = (entry(1.3 + h, x) - entry(1.3 - h, x)) / (2 * h)
        by_x = (entry(1.3, x + step) - entry(1.3, x - step)) / (2 * h)
        lines.append(f"| {name} | β | {float(to_beta):.8f} | {by_beta:.8f} |")
        lines.append(f"| {name} | one input coordinate | {float(to_x[0, 1]):.8f} | {by_x:.8f} |")
    return lines


def section(scale: int) -> list[str]:
    """Markdown lines of this section; `scale` 1 is full size, 10 quick."""
    lines = [
        "## Depth-scaled ResNets",
        "",
        "h ← h + β (LN)^(-1/2) W φ(h); the limit is deterministic, so it has no standard error.",
    ]
    for part in (_kernels(), _depth(), _networks(scale), _commute(scale), _streams(scale), _gradients()):
        lines += ["", *part]
    return lines
