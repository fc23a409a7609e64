"""Kernels of depth-scaled ResNets: features and gradients over layer time, the 1/L error, and lazy training.

Source: Bordelon, Noci, Li, Hanin, Pehlevan (2023), arXiv 2309.16620.
"""

import argparse
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import covsde as cs
from covsde._files import atomic_write

ANGLES = np.pi * np.array([0, 0.6, 0.35])  # three inputs on the circle


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--out", type=Path, default=Path("resnet-kernels"), metavar="DIR", help="(default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="fewer and narrower networks")
    args = parser.parse_args(argv)
    draws, N, L = (8, 64, 8) if args.quick else (40, 256, 16)
    beta = 1.5
    x = np.sqrt(2) * np.stack([np.cos(ANGLES), np.sin(ANGLES)], axis=1)
    res, V0 = cs.ResNet(jax.nn.relu, beta), cs.gram(x)
    limit, recursion = cs.kernels(res, V0), cs.kernels(res, V0, depth=L)

    @jax.jit
    def sample(key: jax.Array) -> tuple[jax.Array, ...]:
        k = res.network(N, depth=L, key=key, in_size=2, dtype=jnp.float32).kernels(x)
        return k.H, k.G, k.ntk

    keys = jax.random.split(jax.random.key(args.seed), draws)
    H, G, ntk = (np.stack(part) for part in zip(*map(sample, keys), strict=True))
    depths = [4, 8, 16, 32, 64, 128, 256]
    errors = {}
    for name, fn in (("ReLU", jax.nn.relu), ("tanh", jnp.tanh)):
        other = cs.ResNet(fn, beta)
        exact = cs.kernels(other, V0, save_at=[0, 1]).ntk
        errors[name] = [float(np.linalg.norm(cs.kernels(other, V0, depth=n).ntk - exact)) for n in depths]
    targets, times = np.array([1.0, -1.0]), np.linspace(0, 8, 81)
    lazy = cs.lazy_training(limit, targets, times, learning_rate=0.5)
    nets = [cs.lazy_training(k, targets, times, learning_rate=0.5).outputs[:, 2, 0] for k in ntk]

    figure, axes = plt.subplots(1, 4, figsize=(17, 4.2), layout="constrained")
    plt.close(figure)
    colours = ("#0072B2", "#D55E00", "#009E73")
    layer = np.arange(L + 1) / L
    for ax, exact, found, name in ((axes[0], limit.H, H, "H"), (axes[1], limit.G, G, "G")):
        for colour, (i, j) in zip(colours, ((0, 0), (0, 1), (0, 2)), strict=True):
            ax.plot(limit.tau, exact[:, i, j], color=colour, label=f"{name}$_{{{i}{j}}}$, L = ∞")
            mean, error = found[:, :, i, j].mean(axis=0), found[:, :, i, j].std(axis=0) / draws**0.5
            ax.errorbar(layer, mean, yerr=error, fmt="o", markersize=3, color=colour)
        ax.set(xlabel="layer time  τ = ℓ/L", ylabel=name)
        ax.legend(frameon=False, fontsize=8)
    axes[0].set_title("covariance of the stream")
    axes[1].set_title("covariance of its gradients")
    for colour, (name, error) in zip(colours, errors.items(), strict=False):
        axes[2].loglog(depths, error, "o-", color=colour, label=name)
    axes[2].loglog(depths, errors["ReLU"][0] * depths[0] / np.array(depths), "k:", label="1/L")
    axes[2].set(xlabel="depth L", ylabel="‖K$_L$ - K‖", title="tangent kernel at finite depth")
    axes[2].legend(frameon=False)
    low, high = np.quantile(nets, [0.1, 0.9], axis=0)
    axes[3].fill_between(
        times, low, high, color=colours[2], alpha=0.25, label="test point, tangent kernels of networks"
    )
    for k, name in enumerate(("target 1", "target -1", "test point")):
        axes[3].plot(times, lazy.outputs[:, k, 0], color=colours[k], label=f"{name}, N = L = ∞")
    axes[3].set(xlabel="training time  η$_0$t/2", ylabel="output", title="lazy training")
    axes[3].legend(frameon=False, fontsize=8)
    for ax in axes:
        ax.grid(alpha=0.25, linewidth=0.6)
    figure.suptitle(
        f"ReLU ResNets, β = {beta}: lines N = L = ∞, points {draws} networks with N = {N}, L = {L} (mean ± s.e.)"
    )
    args.out.mkdir(parents=True, exist_ok=True)
    with atomic_write(args.out / "resnet_kernels.png") as temporary:
        figure.savefig(temporary, dpi=160)
    with atomic_write(args.out / "resnet_kernels.npz") as temporary:
        np.savez(
            temporary,
            x=x,
            beta=beta,
            tau=limit.tau,
            H=limit.H,
            G=limit.G,
            ntk=limit.ntk,
            ntk_depth=recursion.ntk,
            network_H=H,
            network_G=G,
            network_ntk=ntk,
            depths=depths,
            times=times,
            lazy=lazy.outputs,
            **{f"error_{name}": error for name, error in errors.items()},
        )
    slope = np.polyfit(np.log(depths[3:]), np.log(errors["ReLU"][3:]), 1)[0]
    print(f"Slope of the tangent kernel's error in L: {slope:.3f}; written to {args.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
