"""Rank collapse: mean token correlation against depth for shaped transformers and for what they replace.

Attention and MLP blocks: shaped against unshaped, Pre-LN and Post-LN. Source: Noci et al. (2023), arXiv 2306.17759;
their settings as far as they are stated: γ² = 1/8, τ₀ = 1, ρ₀ = 0.2.
"""

import sys

import common
import numpy as np

import covsde as cs

M, GAMMA = 4, 8**-0.5
V0 = 0.8 * np.eye(M) + 0.2
UNSHAPED = cs.Attention(identity=False, centred=False, scaled=False)


def mean_correlation(V: np.ndarray) -> np.ndarray:
    """Mean |ρ| over pairs of tokens, (times, draws); NaN where a path has stopped."""
    with np.errstate(invalid="ignore"):
        scale = np.sqrt(np.einsum("...aa->...a", V))
        rho = V / scale[..., :, None] / scale[..., None, :]
    i, j = np.triu_indices(V.shape[-1], 1)
    return np.mean(np.abs(rho[..., i, j]), axis=-1)


def main(argv: list[str] | None = None) -> int:
    run = common.settings(__file__, __doc__, argv, paths=(1000, 8192), draws=(200, 1000))
    width, depth = run.pick((64, 48), (200, 150))
    save = np.linspace(0, 1, 25)
    plain = {"mlp": cs.LeakyReLU(), "attention": UNSHAPED}
    designs = {
        "shaped": cs.Transformer(GAMMA, 1.0, mlp=cs.ShapedReLU(0.0, -1.0), depth_to_width=depth / width),
        "unshaped": cs.Transformer(GAMMA, 1.0, **plain),
        "unshaped, Pre-LN": cs.Transformer(GAMMA, 1.0, **plain, normalisation="pre"),
        "unshaped, Post-LN": cs.Transformer(GAMMA, 1.0, **plain, normalisation="post"),
    }
    networks = {
        name: cs.sample_networks(
            design, V0, width=width, depth=depth, draws=run.draws, save_at=save, key=common.key(run, k)
        )
        for k, (name, design) in enumerate(designs.items())
    }
    limit = cs.simulate(designs["shaped"], V0, paths=run.paths, save_at=save, key=common.key(run, 9))
    over = {name: mean_correlation(e.V) for name, e in networks.items()} | {"limit": mean_correlation(limit.V)}

    figure, axes = common.panels(1, 2)
    common.band(axes[0], limit.tau * depth, over["limit"], common.LIMIT, "shaped, limit (SDE)")
    for k, (name, e) in enumerate(networks.items()):
        if name == "shaped":
            common.bars(axes[0], e.tau * depth, over[name], 0, "shaped, networks")
            continue
        low, middle, high = common.quantiles(over[name])
        style = {"color": common.COLOURS[k], "linestyle": ("", "--", "-.", ":")[k]}
        axes[0].plot(e.tau * depth, middle, linewidth=2, **style, label=f"{name}, networks, median")
        axes[0].fill_between(e.tau * depth, low, high, color=common.COLOURS[k], alpha=0.15, linewidth=0)
    axes[0].set(
        xlabel=f"block ℓ  (layer time τ = ℓ/{depth})", ylabel="mean |ρ| over pairs of tokens", ylim=(-0.42, 1.03)
    )
    axes[0].set(title="correlation of tokens over depth", yticks=np.linspace(0, 1, 6))
    axes[0].legend(loc="lower right", fontsize=7)
    bins = np.linspace(-1, 1, run.pick(31, 51))
    i, j = np.triu_indices(M, 1)
    pairs = {}
    for name, e in (("limit", limit), *networks.items()):
        with np.errstate(invalid="ignore"):
            last, scale = e.V[-1], np.sqrt(np.einsum("paa->pa", e.V[-1]))
            pairs[name] = (last / scale[:, :, None] / scale[:, None, :])[:, i, j]
    common.histogram(axes[1], pairs["limit"], bins, color=common.LIMIT, fill=True, label="shaped, limit (SDE)")
    common.histogram(axes[1], pairs["shaped"], bins, color=common.COLOURS[0], linewidth=1.8, label="shaped, networks")
    axes[1].axvline(1, color=common.COLOURS[1], linestyle="--", linewidth=2, label="unshaped, networks: ρ → 1")
    axes[1].set(xlabel="correlation ρ of two tokens", ylabel="density", title="law at the last block (all pairs)")
    axes[1].set_ylim(top=1.4 * axes[1].get_ylim()[1])
    axes[1].legend(loc="upper left")
    return common.write(
        run,
        figure,
        {
            "save": save,
            "limit_quantiles": common.quantiles(over["limit"]),
            "limit_pairs": pairs["limit"],
            **{f"networks, {name}": over[name] for name in networks},
            **{f"tau, {name}": e.tau for name, e in networks.items()},
        },
        caption=f"{M} tokens, ρ₀ = 0.2, γ² = 1/8, τ₀ = 1; shaped MLP with c± = (0, -1), otherwise ReLU. {run.draws} "
        f"networks of width {width}, {depth} blocks ({common.stopped(*networks.values())}); {run.paths} paths of the "
        f"limit ({common.stopped(limit)}; these count until they stop). Bands 10–90%.",
        columns=("design", "mean |ρ| at the end: 10%", "median", "90%"),
        rows=[[name, *common.quantiles(x[-1])] for name, x in over.items()],
        parameters={"tokens": M, "gamma": GAMMA, "tau0": 1.0, "width": width, "depth": depth},
    )


if __name__ == "__main__":
    sys.exit(main())
