"""Finite transformers: the sampler without weights, the increments of one layer, and the approach to the limit."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import transformer as problems
from scipy import stats

import covsde as cs
from covsde import Attention, ShapedReLU, Transformer
from covsde.architectures.transformer.network.law import _root, attention_matrices, draw_block

GRAM = problems.GRAM
HALF = math.sqrt(0.5)


# --- exactness in law ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings",
    [
        {"heads": 2, "key_size": 2, "mlp": ShapedReLU(0.5, -1.5), "normalisation": "pre", "mask": "causal"},
        {"heads": 2, "output_matrix": True, "normalisation": "post", "attention": Attention(False, False, False)},
    ],
    ids=["causal, heads, mlp, pre-norm", "output matrix, unshaped, post-norm"],
)
def test_the_sampler_without_weights_has_the_law_of_networks_with_weights(settings: dict[str, Any]) -> None:
    transformer = Transformer(0.7, 1.0, **settings)
    law, weights = (
        cs.sample_networks(transformer, GRAM, width=8, depth=2, draws=4000, chunk=4000, method=m, key=k, save_at=[0, 1])
        for m, k in (("law", 1), ("weights", 2))
    )
    np.testing.assert_allclose(weights.V[0], np.broadcast_to(GRAM, weights.V[0].shape), atol=1e-12)
    for f in (
        lambda e: e.V[-1, :, 0, 0] + 1e-6 * e.V[-1, :, 0, 1],  # post-norm fixes the variances
        lambda e: e.V[-1, :, 2, 2] + 1e-6 * e.V[-1, :, 1, 2],
        lambda e: e.correlation(0, 1)[-1],
        lambda e: e.correlation(1, 2)[-1],
        lambda e: np.linalg.slogdet(e.V[-1])[1],
    ):
        assert stats.ks_2samp(f(law), f(weights)).pvalue > 1e-3


# --- one layer -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["attention", "causal"])
def test_the_mean_of_one_attention_layer_moves_by_the_drift(name: str) -> None:
    # The mean over W^V is exact, (λ² - 1)V + γ² E[A V Aᵀ]; logits are drawn from the network's law, with both signs.
    n, draws = 4000, 200_000
    transformer = Transformer(HALF, 1.0, key_size=5, **problems.ONE_LAYER[name])
    block = transformer.block(n, 1)

    @jax.jit
    def increments(key: jax.Array, gram: jax.Array) -> tuple[jax.Array, jax.Array]:
        V = jnp.broadcast_to(gram[None], (draws, 3, 3))
        random = draw_block(block, key, draws, 3, V.dtype)
        both = []
        for sign in (1, -1):
            A = attention_matrices(block, random._replace(query=sign * random.query), _root(V))[:, 0]
            both.append(n * 0.5 * (A @ V @ jnp.swapaxes(A, 1, 2) - V))
        mean = (both[0] + both[1]) / 2
        return jnp.mean(mean, axis=0), jnp.std(mean, axis=0) / draws**0.5

    found, error = (np.asarray(x) for x in increments(jax.random.key(3), jnp.asarray(GRAM)))
    drift = np.asarray(transformer.limit().rate(jnp.asarray(GRAM)))
    assert np.all(np.abs(found - drift) < 0.01 * np.abs(drift).max() + 4 * error)


def test_the_mean_of_one_mlp_layer_moves_by_the_drift() -> None:
    # Both signs of every neuron: with c₊ + c₋ = 0 the terms of order 1/√n cancel.
    n = 100_000
    transformer = Transformer(HALF, math.inf, **{k: v for k, v in problems.ONE_LAYER["mlp"].items() if k != "tau0"})
    block = transformer.block(n, 1)
    z = np.linalg.cholesky(GRAM) @ np.random.default_rng(0).normal(size=(3, 2_000_000))
    plus, minus = (np.asarray(block.features(jnp.asarray(s * z))) for s in (1, -1))
    products = (plus[:, None] * plus[None] + minus[:, None] * minus[None]) / 2 - z[:, None] * z[None]
    found, error = n * 0.5 * products.mean(axis=2), n * 0.5 * products.std(axis=2) / math.sqrt(z.shape[1])
    drift = np.asarray(transformer.limit().rate(jnp.asarray(GRAM)))
    assert np.abs(drift).max() > 0.4
    assert np.all(np.abs(found - drift) < 0.01 * np.abs(drift).max() + 4 * error)


@pytest.mark.parametrize("name", ["heads", "output matrix", "causal"])
def test_the_covariance_of_one_layer_is_the_diffusion(name: str) -> None:
    n, draws = 800, 80_000
    transformer = Transformer(HALF, **({"tau0": 0.5} | problems.ONE_LAYER[name]))
    e = cs.sample_networks(transformer, GRAM, width=n, depth=1, draws=draws, chunk=draws, save_at=[0, 1], key=4)
    rows, columns = problems.UPPER
    found = n * np.cov(e.V[-1][:, rows, columns].T)
    Sigma = np.asarray(transformer.limit().diffusion(jnp.asarray(GRAM)))[rows, columns][:, rows, columns]
    assert np.linalg.norm(found - Sigma) < 0.02 * np.linalg.norm(Sigma)


# --- paths ---------------------------------------------------------------------------------------------------------


def test_networks_approach_the_quantiles_of_the_limit() -> None:
    transformer = Transformer(HALF, 1.0, key_size=8, depth_to_width=0.25)
    limit = cs.simulate(transformer, GRAM, paths=16_000, chunk=16_000, steps=16, save_at=[0, 1], key=5)
    networks = cs.sample_networks(transformer, GRAM, width=96, draws=4000, chunk=4000, save_at=[0, 1], key=6)
    for i in range(3):
        q = [0.1, 0.25, 0.5, 0.75, 0.9]
        a, b = (e.quantile(lambda V, i=i: np.log(V[..., i, i]), np.asarray(q)) for e in (limit, networks))
        gap = np.abs(a.value[-1] - b.value[-1])
        assert np.all(gap < 4 * np.hypot(a.standard_error[-1], b.standard_error[-1]) + 0.02)


def test_one_head_stays_random_at_large_width_and_many_heads_do_not() -> None:
    widths: dict[int, float] = {}
    for heads in (1, 16):
        transformer = Transformer(HALF, 2.0, heads, shaping="depth", depth_to_width=1 / 64)
        e = cs.sample_networks(transformer, GRAM, width=1024, depth=16, draws=1000, chunk=1000, save_at=[0, 1], key=7)
        log = np.log(e.V[-1, :, 2, 2])
        widths[heads] = float(np.subtract(*np.quantile(log, [0.75, 0.25])))
    assert widths[1] > 1.6 * widths[16]


# --- the network itself --------------------------------------------------------------------------------------------


def test_a_network_keeps_the_gram_matrix_of_its_tokens_and_reads_every_token() -> None:
    x = np.random.default_rng(1).normal(size=(5, 7))
    network = Transformer(0.5, heads=2, mlp=ShapedReLU(0.0, -1.0), mask="causal").network(8, key=0, depth=3, out_size=2)
    grams = np.asarray(network.grams(x))
    assert grams.shape == (4, 5, 5)
    np.testing.assert_allclose(grams[0], cs.gram(x), atol=1e-12)
    read = jax.jit(lambda x: network(x))
    before = np.asarray(read(x))
    assert before.shape == (5, 2)
    # Causal: what comes later does not change what came before.
    moved = x.copy()
    moved[3:] += 1
    after = np.asarray(read(moved))
    np.testing.assert_allclose(after[:3], before[:3], atol=1e-12)
    assert not np.allclose(after[3:], before[3:])


def test_sizes_that_do_not_fit_are_named() -> None:
    with pytest.raises(ValueError, match="multiple of heads=3"):
        Transformer(0.5, heads=3).network(8, key=0)
    with pytest.raises(ValueError, match="dimension 9 > width 8"):
        Transformer(0.5).network(8, key=0, depth=1)(np.ones((2, 9)))
    with pytest.raises(ValueError, match="fewer than the number of tokens"):
        cs.sample_networks(Transformer(0.5, heads=4), GRAM, width=8, draws=5)
    with pytest.raises(ValueError, match="heads=inf exists in the limit only"):
        cs.sample_networks(Transformer(0.5, heads=math.inf), GRAM, width=8, draws=5)
    with pytest.raises(ValueError, match="depth must be given"):
        cs.sample_networks(Transformer(0.5, shaping="depth", depth_to_width=0.0), GRAM, width=8, draws=5)
