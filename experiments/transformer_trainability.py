"""Trainability map: where tokens collapse and gradients vanish in a deep transformer with layer normalisation.

Angle exponent λ_a and gradient exponent λ_g per block, at the fixed point of a token's length, over the residual weight
α (attention and MLP alike) and the weight scale σ_w of the tanh MLP. λ_a = 0 is the edge between collapse and chaos.
After Cowsik et al. (2024), arXiv 2403.02579.
"""

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import covsde as cs
from covsde._files import atomic_write


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("figures"))
    parser.add_argument("--seed", type=int, default=0, help="unused: nothing here is random")
    parser.add_argument("--quick", action="store_true", help="a coarser map")
    options = parser.parse_args(argv)
    points = 25 if options.quick else 101
    options.out.mkdir(parents=True, exist_ok=True)
    alpha, sigma = np.linspace(0.02, 0.98, points), np.linspace(1, 4, points)
    block = cs.BlockMap(alpha[:, None], alpha[:, None], sigma[None])
    maps = {"λ_a, deep (q = q*)": block.angle_exponent(), "λ_a, first block (q = 1)": block.angle_exponent(q=1.0)}
    figure, axes = plt.subplots(1, 2, figsize=(10, 4.2), sharey=True, layout="constrained")
    plt.close(figure)
    for ax, (name, values) in zip(axes, maps.items(), strict=True):
        mesh = ax.pcolormesh(sigma, alpha, values, vmin=-0.3, vmax=0.3, cmap="RdBu_r", shading="nearest")
        ax.contour(sigma, alpha, values, levels=[0.0], colors="k", linewidths=1.5)
        ax.contour(sigma, alpha, values, levels=[-0.3, -0.1, -0.03, 0.03, 0.1], colors="k", linewidths=0.5)
        ax.set(title=name, xlabel="weight scale σ_w of the MLP")
    axes[0].set_ylabel("residual weight α")
    figure.colorbar(mesh, ax=axes, label="exponent per block (tokens collapse below 0)")
    figure.suptitle("Angle exponent (at the fixed point also the gradient exponent λ_g); thick line: 0", fontsize=11)
    with atomic_write(options.out / "transformer_trainability.png") as temporary:
        figure.savefig(temporary, dpi=150)
    with atomic_write(options.out / "transformer_trainability.npz") as temporary:
        np.savez(temporary, alpha=alpha, sigma=sigma, deep=block.angle_exponent(), gradient=block.gradient_exponent())


if __name__ == "__main__":
    main()
