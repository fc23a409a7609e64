"""How long a shaped transformer stays stable: median stopping time over γ and τ₀, for networks and for the limit.

t* is the first layer time (blocks over width, at most 1) at which an eigenvalue of V leaves [10⁻⁴, 10⁴]. Inputs are
large on purpose: token norms 10√n, so that eigenvalues of V₀ are about 100. Where τ₀ is small against V the limit
explodes at once and networks do not: their softmax saturates, which the expansion behind the limit cannot see.
After the stopping-time figure of Noci et al. (2023), arXiv 2306.17759.
"""

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import covsde as cs
from covsde._files import atomic_write

M = 4
V0 = 100 * (0.8 * np.eye(M) + 0.2)
TIMES = np.linspace(0, 1, 51)


def stopping_times(e: cs.Ensemble) -> np.ndarray:
    """Per path the first saved time with an eigenvalue outside the window, else 1; a path that stopped has left it."""
    V = np.where(np.isfinite(e.V), e.V, 0.0)
    eigenvalues = np.linalg.eigvalsh(V)
    outside = (eigenvalues[..., 0] < 1e-4) | (eigenvalues[..., -1] > 1e4) | ~e.alive
    return np.where(outside.any(axis=0), e.tau[np.argmax(outside, axis=0)], 1.0)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("figures"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="a coarser map from fewer, narrower networks")
    options = parser.parse_args(argv)
    points, width, draws, paths = (3, 50, 50, 200) if options.quick else (6, 200, 100, 500)
    gammas, taus = np.linspace(0.1, 0.9, points), np.geomspace(1, 300, points)
    options.out.mkdir(parents=True, exist_ok=True)
    maps = {name: np.zeros((points, points)) for name in ("networks", "limit")}
    for i, gamma in enumerate(gammas):
        for j, tau0 in enumerate(taus):
            transformer = cs.Transformer(float(gamma), float(tau0), depth_to_width=1.0, key_size=32)
            net = cs.sample_networks(
                transformer, V0, width=width, draws=draws, save_at=TIMES.tolist(), key=options.seed
            )
            # The default step resolves the drift; paths this violent leave the window whatever the step.
            limit = cs.simulate(transformer, V0, paths=paths, steps=100, save_at=TIMES.tolist(), key=options.seed)
            maps["networks"][i, j] = np.median(stopping_times(net))
            maps["limit"][i, j] = np.median(stopping_times(limit))
        print(f"γ = {gamma:.2f}: networks {np.round(maps['networks'][i], 2)}, limit {np.round(maps['limit'][i], 2)}")
    figure, axes = plt.subplots(1, 2, figsize=(9.5, 4), sharey=True, layout="constrained")
    plt.close(figure)
    for ax, (name, values) in zip(axes, maps.items(), strict=True):
        image = ax.imshow(values, vmin=0, vmax=1, cmap="viridis", origin="lower", aspect="auto")
        ax.set(xlabel="temperature τ₀", title=name if name == "limit" else f"networks, n = {width}")
        ax.set_xticks(range(points), [f"{tau0:.3g}" for tau0 in taus])
        ax.set_yticks(range(points), [f"{gamma:.2g}" for gamma in gammas])
        for i, j in np.ndindex(points, points):
            colour = "k" if values[i, j] > 0.6 else "w"
            ax.text(j, i, f"{values[i, j]:.2f}", ha="center", va="center", fontsize=8, color=colour)
    axes[0].set_ylabel("residual weight γ")
    figure.colorbar(image, ax=axes, label="median t*, at most 1")
    figure.suptitle("Time until an eigenvalue of V leaves [10⁻⁴, 10⁴], from V₀ = 100 (0.8 I + 0.2)", fontsize=11)
    with atomic_write(options.out / "transformer_stopping.png") as temporary:
        figure.savefig(temporary, dpi=150)
    with atomic_write(options.out / "transformer_stopping.npz") as temporary:
        np.savez(temporary, gammas=gammas, taus=taus, **maps)


if __name__ == "__main__":
    main()
