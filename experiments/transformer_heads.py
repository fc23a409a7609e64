"""One head against 32 at large width: an infinitely wide transformer with one head is still random.

Depth-shaped attention (width 2048, 64 layers): quantile bands of log V over layer time for networks, their limit, and
the ODE of infinitely many heads. Source of the limit: Noci et al. (2023), arXiv 2306.17759.
"""

import argparse
import math
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import covsde as cs
from covsde._files import atomic_write

V0 = np.array([[1.5, 0.3, -0.4], [0.3, 0.8, 0.5], [-0.4, 0.5, 2.0]])
GAMMA, TAU0, TOKEN = math.sqrt(0.5), 2.0, 0
BAND = [0.1, 0.25, 0.5, 0.75, 0.9]


def bands(e: cs.Ensemble) -> np.ndarray:
    """Quantiles of log V, (times, 5); runaway paths count as +∞."""
    return np.asarray(e.quantile(lambda V: np.log(V[..., TOKEN, TOKEN]), np.asarray(BAND)).value)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("figures"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="fewer networks and paths, half the width")
    options = parser.parse_args(argv)
    width, depth = (1024, 32) if options.quick else (2048, 64)
    draws, paths = (300, 2000) if options.quick else (2000, 20_000)
    options.out.mkdir(parents=True, exist_ok=True)

    def transformer(heads: float, ratio: float) -> cs.Transformer:
        return cs.Transformer(GAMMA, TAU0, heads, shaping="depth", depth_to_width=ratio, key_size=32)

    ode = cs.simulate(transformer(math.inf, 0.0), V0, paths=64, steps=100, key=options.seed)
    figure, axes = plt.subplots(1, 2, figsize=(10, 4.2), sharey=True, layout="constrained")
    plt.close(figure)
    data = {"ode": np.log(ode.V[:, 0, TOKEN, TOKEN]), "ode_tau": ode.tau, "quantiles": np.asarray(BAND)}
    for ax, heads in zip(axes, (1, 32), strict=True):
        faces = {
            f"networks, n = {width}": cs.sample_networks(
                transformer(heads, depth / width), V0, width=width, depth=depth, draws=draws, key=options.seed + 1
            ),
            "limit, same L/n": cs.simulate(transformer(heads, depth / width), V0, paths=paths, key=options.seed + 2),
            "limit, n = ∞": cs.simulate(transformer(heads, 0.0), V0, paths=paths, key=options.seed + 3),
        }
        styles = {f"networks, n = {width}": "C0", "limit, same L/n": "k", "limit, n = ∞": "C1"}
        for name, e in faces.items():
            q, colour = bands(e), styles[name]
            if name.startswith("networks"):
                ax.fill_between(e.tau, q[:, 0], q[:, 4], color=colour, alpha=0.2, lw=0)
                ax.fill_between(
                    e.tau, q[:, 1], q[:, 3], color=colour, alpha=0.35, lw=0, label=f"{name}: 10–90, 25–75 %"
                )
            else:
                for k in range(5):
                    ax.plot(
                        e.tau,
                        q[:, k],
                        color=colour,
                        lw=1,
                        ls="--" if "∞" in name else "-",
                        label=name if k == 0 else None,
                    )
            data[f"{'H1' if heads == 1 else 'H32'} {name}"] = q
            runaway = int(np.sum(~e.alive[-1]))
            print(
                f"H = {heads}, {name}: quantiles at the end {np.round(np.exp(q[-1]), 3)}, runaway {runaway}/{e.paths}"
            )
        ax.plot(ode.tau, data["ode"], color="C3", lw=2, ls=":", label="ODE, H = ∞")
        ax.set(title=f"H = {heads} head{'s' if heads > 1 else ''}", xlabel="layer time τ = ℓ/L")
        ax.legend(fontsize=8, loc="upper left")
    axes[0].set_ylabel("log V of token 0")
    figure.suptitle(
        f"Shaped attention, γ² = 1/2, τ₀ = {TAU0:g}: width removes randomness only with many heads", fontsize=11
    )
    with atomic_write(options.out / "transformer_heads.png") as temporary:
        figure.savefig(temporary, dpi=150)
    with atomic_write(options.out / "transformer_heads.npz") as temporary:
        np.savez(temporary, **data)


if __name__ == "__main__":
    main()
