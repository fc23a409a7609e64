"""Gradients at initialization: the limit against networks with real weights, and against exact values."""

import jax.numpy as jnp
import numpy as np

import covsde as cs

T = 0.5
V0 = np.array([[1.0, 0.3], [0.3, 1.0]])
STATISTICS = {
    "E log G₀(0,0)": lambda r: np.log(r.G[0, :, 0, 0]),
    "E tanh G₀(0,1)": lambda r: np.tanh(r.G[0, :, 0, 1]),
    "E tanh² A₀(0,1)": lambda r: np.tanh(r.A[0, :, 0, 1]) ** 2,
    "E tanh NTK(0,0)": lambda r: np.tanh(r.ntk[:, 0, 0]),
    "E log Φ₁(0,0) log G₀(0,0)": lambda r: np.log(r.Phi[-1, :, 0, 0]) * np.log(r.G[0, :, 0, 0]),
}


def section(scale: int) -> list[str]:
    """Markdown lines; scale 1 is the full size, 10 a tenth of the samples."""
    lines = [
        "## Gradients at initialization",
        "",
        f"T = {T}, V₀ = [[1, .3], [.3, 1]], {100_000 // scale} paths of the limit (20 steps), at least {1600 // scale} "
        "networks with real weights, float32. Slope: of A₀(0,1) on f(0). For the identity E log G₀(0,0) = -T exactly, "
        "and the tangent kernel has mean V₀. ± is one standard error.",
        "",
        "| activation | statistic | limit | n = 16 | n = 64 |",
        "|---|---|---|---|---|",
    ]
    activations = {
        "identity": cs.Identity(),
        "ReLU (1.5, -1.5)": cs.ShapedReLU(1.5, -1.5),
        "tanh(x + .4) a=2": cs.ShapedSmooth(lambda x: jnp.tanh(x + 0.4), a=2.0),
    }
    for name, activation in activations.items():
        mlp = cs.MLP(activation, T)
        runs = [cs.simulate_gradients(mlp, V0, paths=100_000 // scale, steps=20, save_at=[0, 1], key=31)]
        runs += [
            cs.sample_network_gradients(
                mlp, V0, width=n, draws=draws // scale, save_at=[0, 1], key=n, dtype=np.float32, chunk=1600 // scale
            )
            for n, draws in ((16, 16_000), (64, 1600))
        ]
        slopes = [r.slope(lambda r: r.A[0, :, 0, 1], lambda r: r.outputs[:, 0]) for r in runs]
        for label, estimates in {
            **{k: [r.mean(f) for r in runs] for k, f in STATISTICS.items()},
            "slope": slopes,
        }.items():
            cells = " | ".join(f"{float(e.value):.4f} ± {float(e.standard_error):.4f}" for e in estimates)
            lines.append(f"| {name} | {label} | {cells} |")
    return lines


if __name__ == "__main__":
    print("\n".join(section(10)))
