"""Feature learning: the forward–backward limit against finite networks really trained, at two widths."""

import time

import jax
import jax.numpy as jnp
import numpy as np

import covsde as cs

T = 0.5
V0 = np.array([[1.0, 0.3], [0.3, 1.0]])
Y = np.array([1.0, -1.0])


def cubic(x: jax.Array) -> jax.Array:
    return x + 0.25 * x**2 - x**3 / 6  # κ₂ = .5, κ₃ = -1 at a = 1


CASES = {
    "identity, one input": (cs.Identity(), 1),
    "tanh a=1, one input": (cs.ShapedSmooth(jnp.tanh), 1),
    "tanh a=1, two inputs": (cs.ShapedSmooth(jnp.tanh), 2),
    "κ₂=.5, κ₃=-1, one input": (cs.ShapedSmooth(cubic), 1),
    "κ₂=.5, κ₃=-1, two inputs": (cs.ShapedSmooth(cubic), 2),
    "ReLU (1, -1), two inputs": (cs.ShapedReLU(1.0, -1.0), 2),
}


def statistics(run: cs.Training) -> dict[str, tuple[float, float]]:
    """Means and deviations with their standard errors."""
    P = run.targets.size
    k = int(np.argmin(np.abs(run.tau - 0.5)))
    samples = {f"f({p}) after {u}": run.outputs[u, :, p] for u in range(3) for p in range(P) if u or not p}
    samples |= {f"A½({a},{b})": run.A[k, :, a, b] for a, b in ((0, P), (P, 0), (P, P), (2 * P, P))}
    samples |= {"Φ₁(0,0)": run.Phi[-1, :, 0, 0], "Φ₁ after 2": run.Phi[-1, :, 2 * P, 2 * P]}
    samples |= {"G₀ after 1": run.G[0, :, P, P], "movement": run.movement(2)[-1], "NTK after 1": run.ntk[1, :, 0, 0]}
    out = {}
    for name, x in samples.items():
        x = np.clip(np.nan_to_num(x.astype(float), nan=3.0), -3, 3)
        out[f"E {name}"] = float(x.mean()), float(x.std() / np.sqrt(x.size))
        if name.startswith(("f", "A")):
            deviation = (x - x.mean()) ** 2
            error = deviation.std() / np.sqrt(x.size) / 2 / np.sqrt(deviation.mean())
            out[f"sd {name}"] = float(np.sqrt(deviation.mean())), float(error)
    return out


def section(scale: int) -> list[str]:
    """Markdown lines; scale 1 is the full size, 10 a tenth of the samples."""
    lines = [
        "## Feature learning",
        "",
        f"T = {T}, V₀ = [[1, .3], [.3, 1]], y = (1, -1), loss ½Σ(f-y)², η₀ = s = 1, two updates. "
        f"Limit: {8000 // scale} paths in steps h of 1/100 and 1/52, extrapolated. "
        f"Networks: {4000 // scale} with real weights (float32), width 30 and 60, extrapolated. "
        "Labels of A, Φ and G are P·update + input. z compares the two extrapolations, in standard errors. "
        "Values clipped to [-3, 3], because cubic networks have tails.",
        "",
    ]
    for title, (activation, P) in CASES.items():
        mlp = cs.MLP(activation, T)
        settings: dict = {"targets": Y[:P], "updates": 2, "save_at": [0, 0.5, 1]}
        began = time.perf_counter()
        fine, coarse = (
            statistics(cs.train(mlp, V0[:P, :P], paths=8000 // scale, steps=steps, key=steps, **settings))
            for steps in (50, 26)
        )
        middle = time.perf_counter()
        wide, narrow = (
            statistics(
                cs.train_networks(
                    mlp, V0[:P, :P], width=n, draws=4000 // scale, key=n, method="weights", dtype=np.float32, **settings
                )
            )
            for n in (60, 30)
        )
        ended = time.perf_counter()
        lines += [
            f"{title} ({middle - began:.0f} s for the limit, {ended - middle:.0f} s for the networks)",
            "",
            "| statistic | limit, h = 1/52 | h = 1/100 | extrapolated | n = 30 | n = 60 | extrapolated | z |",
            "|---|---|---|---|---|---|---|---|",
        ]
        for name in fine:
            values = [fine[name], coarse[name], wide[name], narrow[name]]
            ends = []
            for (x, dx), (y, dy), ratio in ((values[0], values[1], 50 / 26), (values[2], values[3], 2)):
                w = 1 / (ratio - 1)
                ends.append((x + w * (x - y), float(np.hypot((1 + w) * dx, w * dy))))
            z = (ends[0][0] - ends[1][0]) / np.hypot(ends[0][1], ends[1][1])
            cells = [f"{v:.3f} ± {e:.3f}" for v, e in (values[1], values[0], ends[0], values[3], values[2], ends[1])]
            lines.append(f"| {name} | {' | '.join(cells)} | {z:+.1f} |")
        lines.append("")
    return lines


if __name__ == "__main__":
    print("\n".join(section(10)))
