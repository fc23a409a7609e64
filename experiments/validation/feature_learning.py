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
        x = clipped(x)
        out[f"E {name}"] = float(x.mean()), float(x.std() / np.sqrt(x.size))
        if name.startswith(("f", "A")):
            deviation = (x - x.mean()) ** 2
            error = deviation.std() / np.sqrt(x.size) / 2 / np.sqrt(deviation.mean())
            out[f"sd {name}"] = float(np.sqrt(deviation.mean())), float(error)
    return out


def clipped(x: np.ndarray, bound: float = 3.0) -> np.ndarray:
    """Values in [-bound, bound], failed paths at the upper end, in double precision."""
    return np.clip(np.nan_to_num(x.astype(float), nan=bound), -bound, bound)


# What another program found with other algorithms: with about 4,000 paths of the discretised limit at h = 1/n', and
# with networks of width n really trained, about as many. Labels of A and Φ are P·update + input.
REFERENCE_PATHS = 4000
REFERENCE: dict[str, list[tuple[str, int, str, float | None, float | None]]] = {
    # activation, inputs: (what, n' or n, quantity, mean, deviation)
    "identity, one input": [
        ("limit", 100, "f(0) after 0", 0.002, 1.000),
        ("limit", 100, "f(0) after 1", 0.435, 0.718),
        ("limit", 100, "f(0) after 2", 0.547, 0.477),
        ("limit", 100, "Φ₁(1,1)", 0.872, None),
        ("limit", 100, "Φ₁(1,0)", 0.828, None),
        ("limit", 50, "Φ₁(1,1)", 0.862, None),
        ("limit", 50, "Φ₁(1,0)", 0.820, None),
        ("networks", 100, "f(0) after 0", 0.014, 0.962),
        ("networks", 100, "f(0) after 1", 0.434, 0.684),
        ("networks", 100, "f(0) after 2", 0.552, 0.482),
        ("networks", 100, "Φ₁(1,1)", 0.873, None),
        ("networks", 100, "Φ₁(1,0)", 0.845, None),
        ("networks", 50, "Φ₁(1,1)", 0.861, None),
        ("networks", 50, "Φ₁(1,0)", 0.827, None),
    ],
    "tanh a=1, one input": [
        ("limit", 100, "f(0) after 0", -0.001, 0.910),
        ("limit", 100, "f(0) after 1", 0.419, 0.565),
        ("limit", 100, "f(0) after 2", 0.586, 0.399),
        ("limit", 100, "A½(0,0)", None, 0.555),
        ("limit", 100, "A½(0,1)", None, 0.523),
        ("limit", 100, "A½(1,0)", None, 0.431),
        ("limit", 100, "A½(1,1)", None, 0.364),
        ("networks", 100, "f(0) after 0", 0.003, 0.884),
        ("networks", 100, "f(0) after 1", 0.425, 0.557),
        ("networks", 100, "f(0) after 2", 0.592, 0.395),
        ("networks", 100, "A½(0,0)", None, 0.539),
        ("networks", 100, "A½(0,1)", None, 0.505),
        ("networks", 100, "A½(1,0)", None, 0.415),
        ("networks", 100, "A½(1,1)", None, 0.360),
        ("networks", 100, "Φ₁(0,0)", 0.839, None),
        ("networks", 50, "Φ₁(0,0)", 0.851, None),
    ],
    "κ₂=.5, κ₃=-1, one input": [
        ("limit", 400, "f(0) after 0", -0.009, 0.891),
        ("limit", 400, "f(0) after 1", 0.424, 0.548),
        ("limit", 400, "f(0) after 2", 0.566, 0.405),
        ("limit", 400, "A½(0,1)", 0.137, 0.595),
        ("limit", 400, "A½(1,1)", 0.350, 0.488),
        ("limit", 400, "A½(2,1)", 0.417, 0.412),
        ("networks", 100, "f(0) after 0", 0.007, 0.911),
        ("networks", 100, "f(0) after 1", 0.443, 0.552),
        ("networks", 100, "f(0) after 2", 0.586, 0.401),
        ("networks", 100, "A½(0,1)", 0.153, 0.599),
        ("networks", 100, "A½(1,1)", 0.360, 0.484),
        ("networks", 100, "A½(2,1)", 0.429, 0.413),
    ],
    "κ₂=.5, κ₃=-1, two inputs": [
        ("limit", 60, "f(0) after 1", 0.266, 0.549),
        ("limit", 60, "f(1) after 1", -0.289, 0.567),
        ("limit", 60, "f(0) after 2", 0.412, 0.428),
        ("limit", 60, "f(1) after 2", -0.410, 0.447),
        ("limit", 60, "A½(2,0)", 0.148, 0.534),
        ("limit", 60, "A½(2,2)", 0.223, 0.485),
        ("limit", 60, "A½(3,2)", -0.281, 0.592),
        ("networks", 60, "f(0) after 1", 0.284, 0.548),
        ("networks", 60, "f(1) after 1", -0.275, 0.547),
        ("networks", 60, "f(0) after 2", 0.423, 0.434),
        ("networks", 60, "f(1) after 2", -0.407, 0.428),
        ("networks", 60, "A½(2,0)", 0.165, 0.553),
        ("networks", 60, "A½(2,2)", 0.235, 0.485),
        ("networks", 60, "A½(3,2)", -0.271, 0.581),
    ],
}


def sample(run: cs.Training, quantity: str) -> np.ndarray:
    """One of the quantities above on every path."""
    name, rest = quantity.split("(")
    numbers = [int(c) for c in rest.replace(") after ", ",").rstrip(")").split(",")]
    if name == "f":
        return run.outputs[numbers[1], :, numbers[0]]
    if name == "A½":
        return run.A[int(np.argmin(np.abs(run.tau - 0.5))), :, numbers[0], numbers[1]]
    return run.Phi[-1, :, numbers[0], numbers[1]]


def against_another_program(scale: int) -> list[str]:
    """The tabulated cases, at the same step or width, so that nothing is left to extrapolation."""
    lines = [
        "### The same numbers from another program",
        "",
        f"Outputs, overlaps in the middle and features at the top, at the same step h = 1/n' or width n. Here "
        f"{16_000 // scale} paths and {12_000 // scale} networks (exactly in law); there about {REFERENCE_PATHS}; "
        "z in combined standard errors. Values clipped to [-3, 3] where κ₂ ≠ 0, here and there: cubic networks have "
        "tails.",
        "",
        "| case | quantity | what | mean | there | z | deviation | there | z |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    largest = []
    for title, references in REFERENCE.items():
        activation, P = CASES[title]
        mlp = cs.MLP(activation, T)
        settings: dict = {"targets": Y[:P], "updates": 2, "save_at": [0, 0.5, 1]}
        runs = {}
        for what, n, quantity, mean, deviation in references:
            if (what, n) not in runs:
                runs[what, n] = (
                    cs.train(mlp, V0[:P, :P], paths=16_000 // scale, steps=round(T * n), key=n, **settings)
                    if what == "limit"
                    else cs.train_networks(mlp, V0[:P, :P], width=n, draws=12_000 // scale, key=n, **settings)
                )
            x = sample(runs[what, n], quantity).astype(float)
            x = clipped(x) if "κ₂" in title else x
            more = np.sqrt(1 / x.size + 1 / REFERENCE_PATHS)
            spread = x.std()
            cells = ["", "", "", "", "", ""]
            if mean is not None:
                z = (x.mean() - mean) / (spread * more)
                cells[:3] = f"{x.mean():.3f}", f"{mean:.3f}", f"{z:+.1f}"
                largest.append(abs(z))
            if deviation is not None:
                z = (spread - deviation) / (np.std((x - x.mean()) ** 2) / 2 / spread * more)
                cells[3:] = f"{spread:.3f}", f"{deviation:.3f}", f"{z:+.1f}"
                largest.append(abs(z))
            at = f"h = 1/{n}" if what == "limit" else f"n = {n}"
            lines.append(f"| {title} | {quantity} | {what}, {at} | {' | '.join(cells)} |")
    over = sum(z > 2 for z in largest)
    return [*lines, "", f"Largest |z| of {len(largest)}: {max(largest):.1f}; {over} beyond 2.", ""]


def error_of_the_step(scale: int) -> list[str]:
    """How far a layer of the scheme, and of a real network as wide, is from the limit."""
    lines = [
        "### Error of the step",
        "",
        f"Shaped ReLU ±1.5, one input, before training, T = {T}: log Φ₁(0,0) and log G₀(0,0) are normal in the limit, "
        f"of mean -T and variance 2T. {64_000 // scale} paths of the limit in steps of 1/n and {16_000 // scale} "
        "networks of width n, in law.",
        "",
        "| n | | E log Φ₁ | Var log Φ₁ | E log G₀ | Var log G₀ |",
        "|---|---|---|---|---|---|",
    ]
    mlp = cs.MLP(cs.ShapedReLU(1.5, -1.5), T)
    settings: dict = {"targets": [1.0], "updates": 0, "save_at": [0, 1]}
    for n in (25, 50, 100):
        for what in ("limit", "networks"):
            run = (
                cs.train(mlp, [[1.0]], paths=64_000 // scale, steps=round(T * n), key=n, **settings)
                if what == "limit"
                else cs.train_networks(
                    mlp, [[1.0]], width=n, depth=round(T * n), draws=16_000 // scale, key=n, **settings
                )
            )
            cells = []
            for x in (np.log(run.Phi[-1, :, 0, 0]), np.log(run.G[0, :, 0, 0])):
                square = (x - x.mean()) ** 2
                cells += [f"{y.mean():.3f} ± {y.std() / np.sqrt(y.size):.3f}" for y in (x, square)]
            lines.append(f"| {n} | {what} | {' | '.join(cells)} |")
    return [*lines, f"| ∞ | exact | {-T} | {2 * T} | {-T} | {2 * T} |", ""]


def section(scale: int) -> list[str]:
    """Markdown lines; scale 1 is the full size, 10 a tenth of the samples."""
    lines = [
        "## Feature learning",
        "",
        *against_another_program(scale),
        *error_of_the_step(scale),
        "### The limit against networks really trained, at two widths",
        "",
        f"T = {T}, V₀ = [[1, .3], [.3, 1]], y = (1, -1), loss ½Σ(f-y)², η₀ = s = 1, two updates. "
        f"Limit: {16_000 // scale} paths in steps h of 1/100 and 1/52, extrapolated. "
        f"Networks: {6000 // scale} with real weights (float32), width 60 and 120, extrapolated. "
        "Labels of A, Φ and G are P·update + input. z compares the two extrapolations, in standard errors. "
        "Values clipped to [-3, 3], because cubic networks have tails.",
        "",
    ]
    for case, (title, (activation, P)) in enumerate(CASES.items()):
        mlp = cs.MLP(activation, T)
        settings: dict = {"targets": Y[:P], "updates": 2, "save_at": [0, 0.5, 1]}
        began = time.perf_counter()
        fine, coarse = (
            statistics(
                cs.train(mlp, V0[:P, :P], paths=16_000 // scale, steps=steps, key=1000 * case + steps, **settings)
            )
            for steps in (50, 26)
        )
        middle = time.perf_counter()
        wide, narrow = (
            statistics(
                cs.train_networks(
                    mlp,
                    V0[:P, :P],
                    width=n,
                    draws=6000 // scale,
                    key=1000 * case + n,
                    method="weights",
                    dtype=np.float32,
                    **settings,
                )
            )
            for n in (120, 60)
        )
        ended = time.perf_counter()
        lines += [
            f"**{title}** ({middle - began:.0f} s for the limit, {ended - middle:.0f} s for the networks)",
            "",
            "| statistic | limit, h = 1/52 | h = 1/100 | extrapolated | n = 60 | n = 120 | extrapolated | z |",
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
