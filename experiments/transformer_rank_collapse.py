"""Rank collapse: mean token correlation against depth, for shaped attention and for what it replaces.

Left: the whole block (attention and shaped or plain ReLU MLP), shaped against unshaped, Pre-LN and Post-LN. Right: the
eight combinations of identity, centring and temperature, attention alone. Settings of Noci et al. (2023),
arXiv 2306.17759, as far as they are stated: γ² = 1/8, τ₀ = 1, ρ₀ = 0.2.
"""

import argparse
import itertools
import json
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import covsde as cs
from covsde._files import atomic_write

M, GAMMA = 8, 8**-0.5
V0 = 0.8 * np.eye(M) + 0.2


def mean_correlation(V: np.ndarray) -> np.ndarray:
    """Mean |ρ| over pairs of tokens, (times, draws)."""
    scale = np.sqrt(np.einsum("...aa->...a", V))
    rho = V / scale[..., :, None] / scale[..., None, :]
    i, j = np.triu_indices(M, 1)
    return np.mean(np.abs(rho[..., i, j]), axis=-1)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("figures"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="fewer and narrower networks")
    options = parser.parse_args(argv)
    width, depth, draws = (64, 48, 16) if options.quick else (300, 150, 64)
    options.out.mkdir(parents=True, exist_ok=True)
    unshaped = cs.Attention(identity=False, centred=False, scaled=False)
    T = depth / width
    block = {
        "shaped": cs.Transformer(GAMMA, 1.0, mlp=cs.ShapedReLU(0.0, -1.0), depth_to_width=T),
        "unshaped": cs.Transformer(GAMMA, 1.0, mlp=cs.LeakyReLU(), attention=unshaped),
        "unshaped, Pre-LN": cs.Transformer(GAMMA, 1.0, mlp=cs.LeakyReLU(), attention=unshaped, normalisation="pre"),
        "unshaped, Post-LN": cs.Transformer(GAMMA, 1.0, mlp=cs.LeakyReLU(), attention=unshaped, normalisation="post"),
    }
    save = np.linspace(0, 1, 26)
    figure, axes = plt.subplots(1, 2, figsize=(11, 4.4), layout="constrained")
    plt.close(figure)
    data: dict[str, list] = {}
    for index, (name, transformer) in enumerate(block.items()):
        e = cs.sample_networks(
            transformer, V0, width=width, depth=depth, draws=draws, save_at=save.tolist(), key=options.seed
        )
        low, mid, high = np.quantile(mean_correlation(e.V), [0.25, 0.5, 0.75], axis=1)
        axes[0].plot(e.tau * depth, mid, color=f"C{index}", label=name)
        axes[0].fill_between(e.tau * depth, low, high, color=f"C{index}", alpha=0.25, lw=0)
        data[f"block, {name}"] = mid.tolist()
    limit = cs.simulate(
        block["shaped"], V0, paths=512 if options.quick else 4096, save_at=save.tolist(), key=options.seed
    )
    fine = limit.alive[-1]
    low, mid, high = np.quantile(mean_correlation(limit.V[:, fine]), [0.25, 0.5, 0.75], axis=1)
    axes[0].plot(limit.tau * depth, mid, "k--", lw=1, label=f"shaped, limit ({np.mean(~fine):.1%} ran away)")
    axes[0].plot(limit.tau * depth, low, "k:", limit.tau * depth, high, "k:", lw=0.7)
    data["block, shaped, limit"] = mid.tolist()
    axes[0].set(
        title="Attention and MLP: median and quartiles", xlabel="layer", ylabel="mean |ρ| of tokens", ylim=(0, 1.03)
    )
    axes[0].legend(fontsize=8)

    print("| identity | centred | temperature | mean abs ρ | log10 median V |\n|---|---|---|---|---|")
    for index, switches in enumerate(itertools.product((True, False), repeat=3)):
        transformer = cs.Transformer(GAMMA, 1.0, attention=cs.Attention(*switches))
        e = cs.sample_networks(
            transformer, V0, width=width, depth=depth, draws=draws, save_at=save.tolist(), key=options.seed + 1
        )
        with np.errstate(invalid="ignore"):
            mid = np.nanmedian(mean_correlation(e.V), axis=1)
        size = np.log10(np.nanmedian(e.V[-1, :, 0, 0]))
        label = "".join(letter if on else "–" for letter, on in zip("ICT", switches, strict=True))
        axes[1].plot(
            e.tau * depth, mid, color=f"C{index}", ls="-" if switches[0] else "--", label=f"{label}: V ~ 1e{size:.1f}"
        )
        cells = " | ".join("yes" if on else "no" for on in switches)
        print(f"| {cells} | {mid[-1]:.2f} | {size:.1f} |")
        data[f"ablation, {label}"] = [*mid.tolist(), float(size)]
    axes[1].set(title="Attention alone: I identity, C centred, T temperature", xlabel="layer", ylim=(0, 1.03))
    axes[1].legend(fontsize=7, ncols=2)
    figure.suptitle(f"m = {M} tokens, ρ₀ = 0.2, γ² = 1/8, τ₀ = 1, width {width}, {draws} networks", fontsize=11)
    with atomic_write(options.out / "transformer_rank_collapse.png") as temporary:
        figure.savefig(temporary, dpi=150)
    with atomic_write(options.out / "transformer_rank_collapse.json") as temporary:
        Path(temporary).write_text(json.dumps({"tau": save.tolist(), **data}, indent=1))


if __name__ == "__main__":
    main()
