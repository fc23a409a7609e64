"""Shaped transformers against exact laws, one-layer increments and networks: a section of the page."""

import math

import jax
import jax.numpy as jnp
import numpy as np

import covsde as cs
from covsde.architectures.transformer.network.law import _root, attention_matrices, draw_block

GRAM = np.array([[1.5, 0.3, -0.4], [0.3, 0.8, 0.5], [-0.4, 0.5, 2.0]])
HALF = math.sqrt(0.5)
UPPER = np.triu_indices(3)


def _mean(x: np.ndarray) -> str:
    return f"{x.mean():.4f} ± {x.std() / math.sqrt(x.size):.4f}"


def _exact_laws(paths: int) -> list[str]:
    lines = [
        "### Exact laws of the solver",
        "",
        f"m = 3, unequal variances, {paths} paths of `TransformerStrang`. Without attention log V and log det V are "
        "normal; with attention E log det V is the integral of its expected rate (Simpson's rule along the paths).",
        "",
        "| case | steps | quantity | simulated | exact |",
        "|---|---|---|---|---|",
    ]
    for name, settings, kappa in (
        ("attention off", {}, 0.75),
        ("attention off, output matrix, MLP", {"output_matrix": True, "mlp": cs.ShapedReLU(0.5, -0.5)}, 2.0),
    ):
        e = cs.simulate(
            cs.Transformer(HALF, math.inf, depth_to_width=0.5, **settings),
            GRAM,
            paths=paths,
            steps=8,
            save_at=[0, 1],
            key=1,
        )
        log = e.log_variance(2)[-1] - math.log(2)
        lines.append(f"| {name} | 8 | mean log V₃₃/V₀ | {_mean(log)} | {-kappa / 2:.4f} |")
        lines.append(f"| {name} | 8 | variance | {log.var():.4f} | {kappa:.4f} |")
        if "mlp" not in settings:
            change = np.linalg.slogdet(e.V[-1])[1] - np.linalg.slogdet(GRAM)[1]
            lines.append(f"| {name} | 8 | mean log det V/V₀ | {_mean(change)} | {-3 * kappa:.4f} |")
            lines.append(f"| {name} | 8 | variance | {change.var():.4f} | {3 * kappa:.4f} |")
    for steps in (4, 8, 16):
        T, g2, tau0 = 0.2, 0.5, 1.4
        e = cs.simulate(
            cs.Transformer(HALF, tau0, depth_to_width=T),
            GRAM,
            paths=paths,
            steps=steps,
            save_at=[0, 0.25, 0.5, 0.75, 1],
            key=2,
        )
        W = e.V[:, e.alive[-1]]
        C = np.eye(3) - 1 / 3
        K = C @ W @ C
        d = np.einsum("tpaa->tpa", K)
        square = np.sum(K * K, axis=(2, 3))
        rate = (
            g2
            / tau0**2
            * (square / 3 + np.sum(np.einsum("tpaa->tpa", W) * (d - d.mean(axis=2, keepdims=True)), axis=2) / 3)
        )
        rate = rate - g2 * (2 - g2) * 6 - (g2 / (3 * tau0)) ** 2 * 4 * square
        simpson = T * np.tensordot(np.array([1, 4, 2, 4, 1]) / 12, rate, axes=1)
        change = np.linalg.slogdet(W[-1])[1] - np.linalg.slogdet(GRAM)[1]
        lines.append(f"| attention, T = {T} | {steps} | mean log det V/V₀ − ∫ rate | {_mean(change - simpson)} | 0 |")
    return lines


def _one_layer(draws: int) -> list[str]:
    lines = [
        "### One layer of a network against b(V) and Σ(V)",
        "",
        f"γ² = 1/2, τ₀ = 1, unequal variances. The mean, at n = 2000, is exact over W^V and takes logits with both "
        f"signs, {draws} draws; the covariance, at n = 800, is that of networks sampled in law (attention {draws}, "
        f"with an MLP {draws // 4} draws). Errors are relative, in Frobenius norm; the last column is what noise alone "
        "would give the drift.",
        "",
        "| block | error of n·mean against b | error of n·cov against Σ | noise of the mean |",
        "|---|---|---|---|",
    ]
    cases = {
        "attention": {},
        "MLP": {"tau0": math.inf, "mlp": cs.ShapedReLU(0.75, -0.75)},
        "block": {"mlp": cs.ShapedReLU(0.75, -0.75)},
        "8 heads": {"heads": 8},
        "8 heads, W^O": {"heads": 8, "output_matrix": True},
        "causal": {"mask": "causal"},
    }
    n, m = 2000, 3
    means: dict[tuple, tuple[np.ndarray, ...]] = {}
    V = jnp.asarray(GRAM)
    for name, settings in cases.items():
        transformer = cs.Transformer(HALF, **({"tau0": 1.0, "key_size": 16} | settings))
        sde = transformer.limit()
        # One head's logits are enough for the mean.
        block = cs.Transformer(HALF, **({"tau0": 1.0, "key_size": 16} | settings | {"heads": 1})).block(n, 1)

        @jax.jit
        def attention(key: jax.Array, V: jax.Array, block=block) -> tuple[jax.Array, jax.Array]:
            W = jnp.broadcast_to(V[None], (draws, m, m))
            random, total = draw_block(block, key, draws, m, W.dtype), 0.0
            for sign in (1, -1):
                A = attention_matrices(block, random._replace(query=sign * random.query), _root(W))[:, 0]
                total = total + n / 2 * block.attention_weight**2 * (A @ W @ jnp.swapaxes(A, 1, 2) - W)
            return jnp.mean(total, axis=0), jnp.var(total, axis=0) / draws

        kind = (transformer.tau0, transformer.mask)
        if kind not in means:  # neither heads nor an output matrix change the mean
            means[kind] = tuple(np.asarray(x) for x in attention(jax.random.key(3), V))
        mean, variance = means[kind]
        if block.activation is not None:
            z = np.linalg.cholesky(GRAM) @ np.random.default_rng(0).normal(size=(m, 10 * draws))
            plus, minus = (np.asarray(block.features(jnp.asarray(s * z))) for s in (1, -1))
            excess = [(plus[a] * plus[b] + minus[a] * minus[b]) / 2 - z[a] * z[b] for a, b in zip(*UPPER, strict=True)]
            add, noise = np.zeros((m, m)), np.zeros((m, m))
            for (a, b), x in zip(zip(*UPPER, strict=True), excess, strict=True):
                add[a, b] = add[b, a] = n * block.mlp_weight**2 * x.mean()
                noise[a, b] = noise[b, a] = (n * block.mlp_weight**2) ** 2 * x.var() / x.size
            mean, variance = mean + add, variance + noise
        b = np.asarray(sde.rate(V))
        few, chunk = (draws, 20_000) if block.activation is None else (draws // 4, 1000)
        e = cs.sample_networks(
            transformer, GRAM, width=800, depth=1, draws=few, chunk=min(few, chunk), save_at=[0, 1], key=4
        )
        cov = 800 * np.cov(e.V[-1][:, UPPER[0], UPPER[1]].T)
        Sigma = np.asarray(sde.diffusion(V))[UPPER[0], UPPER[1]][:, UPPER[0], UPPER[1]]
        norm = np.linalg.norm(b)
        lines.append(
            f"| {name} | {np.linalg.norm(mean - b) / norm:.4f} | "
            f"{np.linalg.norm(cov - Sigma) / np.linalg.norm(Sigma):.4f} | {math.sqrt(variance.sum()) / norm:.4f} |"
        )
    return lines


def _paths(draws: int, paths: int) -> list[str]:
    lines = [
        "### Path laws: quantiles of networks and of the limit",
        "",
        f"m = 4, V₀ = 0.8 I + 0.2, key size 32, {paths} paths, {draws} networks ({draws // 4} at n = 800). "
        "Quantiles of log V₁₁ (runaway at +∞), correlations of paths that did not run away; a network counts as "
        "runaway once tr V > 400.",
        "",
        "| case | face | runaway | mean ρ | sd ρ | 10 % | 50 % | 90 % |",
        "|---|---|---|---|---|---|---|---|",
    ]
    V0 = 0.8 * np.eye(4) + 0.2
    mlp = cs.ShapedReLU(0.0, -1.0)
    cases = {
        "block, γ² = 1/8, τ₀ = 1, T = .75": (
            cs.Transformer(8**-0.5, 1.0, mlp=mlp, depth_to_width=0.75, key_size=32),
            (200, 800),
        ),
        "attention, γ² = 1/2, τ₀ = 1/2, T = .25": (
            cs.Transformer(HALF, 0.5, depth_to_width=0.25, key_size=32),
            (200, 800),
        ),
        "block, γ² = 1/2, τ₀ = 1, T = .25": (
            cs.Transformer(HALF, 1.0, mlp=mlp, depth_to_width=0.25, key_size=32),
            (200, 800),
        ),
    }
    for name, (transformer, widths) in cases.items():
        faces = {"limit": cs.simulate(transformer, V0, paths=paths, save_at=[0, 1], steps=40, key=5)}
        for n in widths:
            few = draws if n < 800 else draws // 4
            faces[f"n = {n}"] = cs.sample_networks(transformer, V0, width=n, draws=few, save_at=[0, 1], key=n)
        for face, e in faces.items():
            last = e.V[-1]
            with np.errstate(invalid="ignore"):
                size = np.einsum("paa->p", last)
            away = ~e.alive[-1] | (size > 400)
            rho = e.correlation(0, 1)[-1][~away]
            q = e.quantile(lambda V: np.log(V[..., 0, 0]), np.array([0.1, 0.5, 0.9]))
            cells = " | ".join(f"{v:.3f} ± {s:.3f}" for v, s in zip(q.value[-1], q.standard_error[-1], strict=True))
            lines.append(f"| {name} | {face} | {away.mean():.4f} | {_mean(rho)} | {rho.std():.3f} | {cells} |")
    return lines


def _heads(draws: int, paths: int) -> list[str]:
    lines = [
        "### One head is random at infinite width",
        "",
        f"Depth-shaped, γ² = 1/2, τ₀ = 2, n = 2048, L = 64, {draws} networks, {paths} paths: quantiles of V₁₁.",
        "",
        "| heads | face | 10 % | 25 % | 50 % | 75 % | 90 % |",
        "|---|---|---|---|---|---|---|",
    ]
    for heads in (1, 32):
        finite = cs.Transformer(HALF, 2.0, heads, shaping="depth", depth_to_width=64 / 2048, key_size=32)
        infinite = cs.Transformer(HALF, 2.0, heads, shaping="depth", depth_to_width=0.0)
        faces = {
            "networks": cs.sample_networks(finite, GRAM, width=2048, draws=draws, save_at=[0, 1], key=6),
            "limit, L/n = 1/32": cs.simulate(finite, GRAM, paths=paths, steps=40, save_at=[0, 1], key=7),
            "limit, n = ∞": cs.simulate(infinite, GRAM, paths=paths, steps=40, save_at=[0, 1], key=8),
        }
        for face, e in faces.items():
            q = e.quantile(lambda V: V[..., 0, 0], np.array([0.1, 0.25, 0.5, 0.75, 0.9]))
            cells = " | ".join(f"{v:.3f} ± {s:.3f}" for v, s in zip(q.value[-1], q.standard_error[-1], strict=True))
            lines.append(f"| {heads} | {face} | {cells} |")
    return lines


def section(scale: int) -> list[str]:
    """The section of the validation page; `scale` divides the numbers of samples (1 full, 10 quick)."""
    return [
        "## Shaped transformers",
        "",
        "Everything about `Transformer` that has an exact value or a network to be compared with.",
        "",
        *_exact_laws(40_000 // scale),
        "",
        *_one_layer(100_000 // scale),
        "",
        *_paths(4000 // scale, 20_000 // scale),
        "",
        *_heads(1000 // scale, 10_000 // scale),
    ]


if __name__ == "__main__":
    import sys
    import time

    jax.config.update("jax_enable_x64", True)
    began = time.perf_counter()
    print("\n".join(section(int(sys.argv[1]) if len(sys.argv) > 1 else 10)))
    print(f"\nComputed in {time.perf_counter() - began:.0f} s.")
