"""Smooth activations: laws of the variance against networks, heavy tails, and the probability that it explodes.

Where β = (¾φ''(0)² + φ'''(0))/a² is positive, the variance of the limit explodes in finite time with probability
P(β + 1, βV₀), a regularised incomplete gamma function. Networks cannot explode: they leave the regime of the limit at
V ~ n. Source: Li, Nica, Roy (2022), arXiv 2206.02768, theorem on smooth shaping, proposition on explosion.
"""

import sys

import common
import numpy as np

import covsde as cs

SMOOTH = {"tanh": 1.0, "softplus": 1.0, "silu": 1.0}
EXPLOSIVE = {"softplus": 1.0, "silu": 1.0, "expm1": 1.0}
HORIZON = 8.0


def main(argv: list[str] | None = None) -> int:
    run = common.settings(__file__, __doc__, argv, paths=(10_000, 100_000), draws=(1500, 4096))
    n = run.pick(100, 300)
    one = np.eye(1)
    figure, axes = common.panels(2, 2, height=3.2)
    laws, tail, rest, chances = axes.ravel()
    bins = np.linspace(-6, 8, run.pick(43, 71))
    data: dict[str, np.ndarray] = {"tail_R": np.geomspace(0.1, 1e4, 60)}
    rows, notes = [], []
    for k, (name, a) in enumerate(SMOOTH.items()):
        mlp = cs.MLP(cs.ShapedSmooth(name, a), depth_to_width=1.0)
        limit = cs.simulate(mlp, one, paths=run.paths, steps=40, save_at=[0, 1], key=common.key(run, 0, k))
        net = cs.sample_networks(mlp, one, width=n, draws=run.draws, save_at=[0, 1], key=common.key(run, 1, k))
        notes.append(f"{name} {common.stopped(limit)}")
        # An exploded path is larger than anything.
        V = [np.where(np.isnan(e.V[-1, :, 0, 0]), np.inf, e.V[-1, :, 0, 0]) for e in (limit, net)]
        colour, style = common.COLOURS[k], ("-", "--", ":")[k]
        with np.errstate(divide="ignore"):
            common.histogram(laws, np.log(V[0]), bins, color=colour, linestyle=style, label=f"{name}, limit")
            centres, density = (bins[1:] + bins[:-1]) / 2, np.histogram(np.log(V[1]), bins)[0] / V[1].size
        laws.plot(
            centres, density / np.diff(bins), common.MARKERS[k], color=colour, markersize=3.5, label=f"{name}, networks"
        )
        R = data["tail_R"]
        above = [np.mean(v[:, None] > R, axis=0) for v in V]
        tail.loglog(R, above[0], color=colour, linestyle=style, label=f"{name}, limit")
        tail.loglog(R[::3], above[1][::3], common.MARKERS[k], color=colour, markersize=3.5, label=f"{name}, networks")
        quantiles = [common.quantiles(v, (0.1, 0.25, 0.5, 0.75, 0.9)) for v in V]
        rest.plot(quantiles[0], quantiles[1], common.MARKERS[k], color=colour, label=name)
        data |= {f"limit_{name}": V[0][:20_000], f"networks_{name}": V[1]}
        for what, v, q in (("limit", V[0], quantiles[0]), (f"networks, n = {n}", V[1], quantiles[1])):
            rows.append([name, what, *q, common.share(v > 10), common.share(np.isinf(v)), ""])
    start = np.linspace(0.05, 3, 60)
    for k, (name, a) in enumerate(EXPLOSIVE.items()):
        activation = cs.ShapedSmooth(name, a)
        exact = np.array([cs.explosion_probability(activation, v) for v in start])
        colour, style = (*common.COLOURS[1:3], common.COLOURS[3])[k], ("--", ":", "-.")[k]
        chances.plot(start, exact, color=colour, linestyle=style, label=f"{name}, β = {activation.beta:.4g}")
        points = np.array([0.5, 1.0, 1.75, 2.5])
        found = []
        for v in points:
            e = cs.simulate(
                cs.MLP(activation, depth_to_width=HORIZON),
                v * one,
                paths=run.paths // 4,
                steps=800,
                save_at=[0, 1],
                key=common.key(run, 2, k, round(100 * v)),
            )
            found.append(common.share(e.status != 0))
        share, error = np.transpose(found)
        chances.errorbar(points, share, yerr=2 * error, fmt=common.MARKERS[k], color=colour, markersize=4, capsize=2)
        data |= {f"exploded_{name}": share, f"explosion_probability_{name}": exact}
        for v, pair in zip(points, found, strict=True):
            exactly = cs.explosion_probability(activation, v)
            rows.append([name, f"limit to T = {HORIZON:g} from V₀ = {v}", "", "", "", "", "", "", pair, exactly])
    data |= {"start": start, "exploded_from": points}
    diagonal = np.array([2e-2, 300])
    rest.loglog(diagonal, diagonal, color=common.BLACK, linewidth=0.8)
    laws.set(xlabel="log V at τ = 1", ylabel="density", title="laws at T = 1 (exploded paths are beyond)")
    tail.set(
        xlabel="R", ylabel="P(V > R)", title="tails, exploded paths included (legend: left)", ylim=(2 / run.paths, 1.2)
    )
    rest.set(
        xlabel="quantile of V, limit", ylabel="quantile of V, networks", title="quantiles 10, 25, 50, 75, 90% at T = 1"
    )
    chances.set(xlabel="initial variance V₀", ylabel="probability of explosion", title="explosion: exact (lines)")
    for ax in (laws, rest, chances):
        ax.legend()
    return common.write(
        run,
        figure,
        data,
        caption=f"One input, a = 1, V₀ = 1 unless given. {run.paths} paths up to T = 1 ({'; '.join(notes)}), "
        f"{run.draws} networks with n = d = {n}. Explosion: shares of {run.paths // 4} paths up to T = {HORIZON:g} "
        "(±2 s.e.).",
        columns=("activation", "law", "10%", "25%", "median", "75%", "90%", "P(V > 10)", "exploded", "exactly"),
        rows=rows,
        parameters={"smooth": SMOOTH, "explosive": EXPLOSIVE, "width": n, "depth_to_width": 1.0, "horizon": HORIZON},
    )


if __name__ == "__main__":
    sys.exit(main())
