"""Kernels of depth-scaled ResNets over layer time, features and gradients: the ODE against networks with weights.

Source: Bordelon, Noci, Li, Hanin, Pehlevan (2023), arXiv 2309.16620, lazy limit at initialization.
"""

import sys

import common
import jax
import jax.numpy as jnp
import numpy as np

import covsde as cs

ANGLES = np.pi * np.array([0, 0.6, 0.35])  # three inputs on the circle
X = np.sqrt(2) * np.stack([np.cos(ANGLES), np.sin(ANGLES)], axis=1)
BETA = 1.5


def sample_kernels(resnet: cs.ResNet, width: int, depth: int, keys: jax.Array) -> list[np.ndarray]:
    """H, G (draws, depth + 1, m, m) and tangent kernel (draws, m, m) of networks with real weights."""

    @jax.jit
    def one(k: jax.Array) -> tuple[jax.Array, ...]:
        found = resnet.network(width, depth=depth, key=k, in_size=X.shape[1], dtype=jnp.float32).kernels(X)
        return found.H, found.G, found.ntk

    return [np.stack(part) for part in zip(*map(one, keys), strict=True)]


def main(argv: list[str] | None = None) -> int:
    run = common.settings(__file__, __doc__, argv, paths=None, draws=(300, 1000))
    N, L = run.pick((128, 16), (256, 32))
    rows, data = [], {"x": X, "layer": np.arange(L + 1) / L}
    figure, axes = common.panels(2, 2, height=3.1, sharex=True)
    for k, (name, fn) in enumerate({"ReLU": jax.nn.relu, "tanh": jnp.tanh}.items()):
        resnet = cs.ResNet(fn, BETA)
        limit = cs.kernels(resnet, cs.gram(X))
        recursion = cs.kernels(resnet, cs.gram(X), depth=L)
        H, G, _ = sample_kernels(resnet, N, L, jax.random.split(common.key(run, k), run.draws))
        for ax, exact, found, symbol in ((axes[0, k], limit.H, H, "H"), (axes[1, k], limit.G, G, "G")):
            for i, (a, b) in enumerate(((0, 0), (0, 2), (0, 1))):
                colour, style = common.COLOURS[i], ("-", "--", ":")[i]
                ax.plot(limit.tau, exact[:, a, b], color=colour, linestyle=style, label=f"{symbol}$_{{{a}{b}}}$, ODE")
                exactly = (recursion.H if symbol == "H" else recursion.G)[:, a, b]
                ax.plot(data["layer"], exactly, color="0.4", linewidth=0.8, label=None if i < 2 else f"all, L = {L}")
                mean = found[:, :, a, b].mean(axis=0)
                error = found[:, :, a, b].std(axis=0, ddof=1) / run.draws**0.5
                ax.errorbar(
                    data["layer"], mean, yerr=2 * error, fmt=common.MARKERS[i], color=colour, markersize=3, elinewidth=1
                )
                end, tau = (-1, 1) if symbol == "H" else (0, 0)
                found_at = (mean[end], error[end])
                name_at = f"{symbol}{a}{b} at τ = {tau}"
                rows.append([name, name_at, float(exact[end, a, b]), float(exactly[end]), found_at])
            ax.legend()
            data |= {f"{symbol}_{name}": exact, f"{symbol}_{name}_networks": found}
        axes[0, k].set_title(f"{name}: covariance of the stream")
        axes[1, k].set(title=f"{name}: covariance of its gradients", xlabel="layer time  τ = ℓ/L")
    data["tau"] = limit.tau
    axes[0, 0].set_ylabel("H")
    axes[1, 0].set_ylabel("G")
    return common.write(
        run,
        figure,
        data,
        caption=f"Pre-activation ResNets, β = {BETA:g}, three inputs of variance 1 at angles 0, 0.6π, 0.35π. Lines: "
        f"N = L = ∞, thin: N = ∞, L = {L}. Points: mean of {run.draws} networks with N = {N}, L = {L} (±2 s.e.).",
        columns=("activation", "kernel", "N = L = ∞", f"N = ∞, L = {L}", "networks"),
        rows=rows,
        parameters={"beta": BETA, "width": N, "depth": L, "angles": ANGLES},
    )


if __name__ == "__main__":
    sys.exit(main())
