"""How long a shaped transformer stays stable: median stopping time over γ and τ₀, for networks and for the limit.

t* is the first layer time (blocks over width, at most 1) at which an eigenvalue of V leaves [10⁻⁴, 10⁴]. Inputs are
large on purpose: token norms 10√n, so that eigenvalues of V₀ are about 100. Where τ₀ is small against V the limit
explodes at once and networks do not: their softmax saturates, which the expansion behind the limit cannot see.
After the stopping-time figure of Noci et al. (2023), arXiv 2306.17759.
"""

import sys

import common
import numpy as np

import covsde as cs

M = 4
V0 = 100 * (0.8 * np.eye(M) + 0.2)
TIMES = np.linspace(0, 1, 51)


def stopping_times(e: cs.Ensemble) -> np.ndarray:
    """Per path the first saved time with an eigenvalue outside the window, else 1; a path that stopped has left it."""
    V = np.where(np.isfinite(e.V), e.V, 0.0)
    eigenvalues = np.linalg.eigvalsh(V)
    outside = (eigenvalues[..., 0] < 1e-4) | (eigenvalues[..., -1] > 1e4) | ~e.alive
    return np.where(outside.any(axis=0), e.tau[np.argmax(outside, axis=0)], 1.0)


def main(argv: list[str] | None = None) -> int:
    run = common.settings(__file__, __doc__, argv, paths=(200, 500), draws=(40, 100))
    points, width = run.pick((3, 50), (6, 200))
    gammas, taus = np.linspace(0.1, 0.9, points), np.geomspace(1, 300, points)
    maps = {name: np.zeros((points, points)) for name in ("networks", "limit")}
    exploded = np.zeros((points, points))
    for i, gamma in enumerate(gammas):
        for j, tau0 in enumerate(taus):
            transformer = cs.Transformer(float(gamma), float(tau0), depth_to_width=1.0, key_size=32)
            net = cs.sample_networks(
                transformer, V0, width=width, draws=run.draws, save_at=TIMES, key=common.key(run, 0, i, j)
            )
            # The default step resolves the drift; paths this violent leave the window whatever the step.
            limit = cs.simulate(transformer, V0, paths=run.paths, steps=50, save_at=TIMES, key=common.key(run, 1, i, j))
            maps["networks"][i, j] = np.median(stopping_times(net))
            maps["limit"][i, j] = np.median(stopping_times(limit))
            exploded[i, j] = np.mean(limit.status != 0)

    figure, axes = common.panels(1, 2, sharey=True)
    for ax, (name, values) in zip(axes, maps.items(), strict=True):
        ax.grid(visible=False)
        image = ax.imshow(values, vmin=0, vmax=1, cmap="viridis", origin="lower", aspect="auto")
        ax.set(xlabel="temperature τ₀", title=name if name == "limit" else f"networks, n = {width}")
        ax.set_xticks(range(points), [f"{tau0:.3g}" for tau0 in taus])
        ax.set_yticks(range(points), [f"{gamma:.2g}" for gamma in gammas])
        for i, j in np.ndindex(points, points):
            colour = "k" if values[i, j] > 0.6 else "w"
            more = f"\n{exploded[i, j]:.0%}" if name == "limit" and exploded[i, j] else ""
            text = f"{values[i, j]:.2f}{more}"
            ax.text(j, i, text, ha="center", va="center", fontsize=8, color=colour)
    axes[0].set_ylabel("residual weight γ")
    figure.colorbar(image, ax=axes, label="median stopping time t*, at most 1")
    return common.write(
        run,
        figure,
        {"gammas": gammas, "taus": taus, **maps, "exploded": exploded},
        caption="First layer time at which an eigenvalue of V leaves [10⁻⁴, 10⁴], from V₀ = 100 (0.8 I + 0.2), four "
        f"tokens, depth = width: medians of {run.draws} networks and of {run.paths} paths of the limit (in per cent: "
        "paths that exploded, which have left the window). At small τ₀ the softmax of networks saturates, which the "
        "limit cannot see.",
        columns=("γ", "law", *(f"τ₀ = {tau0:.3g}" for tau0 in taus)),
        rows=[[f"{gamma:.2f}", name, *maps[name][i]] for i, gamma in enumerate(gammas) for name in maps],
        parameters={"tokens": M, "width": width, "gammas": gammas, "tau0": taus},
    )


if __name__ == "__main__":
    sys.exit(main())
