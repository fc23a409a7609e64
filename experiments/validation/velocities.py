"""Velocities at initialization: the limit of linear networks against networks with real weights, at two widths."""

import numpy as np

import covsde as cs
from validation.common import mean_and_error, pm

T = 0.5
# dW/dt = -(η₀/n) ∂loss/∂W with η₀ = 1/T: the rate 1/d at depth d = T n.
RATE = 1 / T
V0 = np.array([[1.0, 0.3], [0.3, 1.0]])
Y = np.array([1.0, -1.0])
STATISTICS = {
    "E tanh R(1)": lambda v: np.tanh(v.R[-1, :, 1]),
    "E tanh Y(1,0)": lambda v: np.tanh(v.Y[-1, :, 1, 0]),
    "E tanh S(1,0)": lambda v: np.tanh(v.S[-1, :, 1, 0]),
    "E tanh S(0,0)": lambda v: np.tanh(v.S[-1, :, 0, 0]),
    "E tanh f(0) tanh R(0)": lambda v: np.tanh(v.outputs[:, 0]) * np.tanh(v.R[-1, :, 0]),
    "E log Φ₁(0,0) tanh S(0,0)": lambda v: np.log(v.Phi[-1, :, 0, 0]) * np.tanh(v.S[-1, :, 0, 0]),
}
# Of 6000 networks of width 60, and of the equations, by another program.
REFERENCE = {
    "E tanh R(1)": (-0.280, -0.275),
    "E tanh Y(1,0)": (-0.087, -0.084),
    "E tanh S(1,0)": (0.0701, 0.0703),
}


def section(scale: int) -> list[str]:
    """Markdown lines; scale 1 is the full size, 10 a tenth of the samples."""
    lines = [
        "## Velocities when training starts",
        "",
        f"Linear networks, T = {T}, V₀ = [[1, .3], [.3, 1]], y = (1, -1), η₀ = 1/T, at τ = 1: {64_000 // scale} paths "
        f"of the limit, {12_000 // scale} networks with real weights (float32) of each width. z compares their "
        "extrapolation in 1/n with the limit. On the right, the same from another program.",
        "",
        "| statistic | limit | n = 30 | n = 60 | z | there: n = 60 | limit |",
        "|---|---|---|---|---|---|---|",
    ]
    linear = cs.MLP(cs.Identity(), T)
    settings: dict = {"targets": Y, "learning_rate": RATE, "save_at": [0, 1]}
    limit = cs.simulate_velocities(linear, V0, paths=64_000 // scale, steps=40, key=41, **settings)
    networks = [
        cs.sample_network_velocities(
            linear, V0, width=n, draws=12_000 // scale, key=n, dtype=np.float32, chunk=1200 // scale, **settings
        )
        for n in (30, 60)
    ]
    for name, f in STATISTICS.items():
        (a, da), (x, dx), (y, dy) = (mean_and_error(f(r).astype(float)) for r in (limit, *networks))
        z = (2 * y - x - a) / np.sqrt(da**2 + 4 * dy**2 + dx**2)
        there = " | ".join(f"{v:.4f}" for v in REFERENCE[name]) if name in REFERENCE else " | "
        lines.append(f"| {name} | {pm(a, da)} | {pm(x, dx)} | {pm(y, dy)} | {z:+.1f} | {there} |")
    failed = [r.failures["total"] for r in (limit, *networks)]
    return [*lines, "", f"Failed paths: {failed[0]} of the limit, {failed[1]} and {failed[2]} networks.", ""]


if __name__ == "__main__":
    print("\n".join(section(10)))
