"""ResNets of finite width: networks with real weights, the sampler without them, and the approach to the limit."""

import math
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import covsde as cs
from covsde.cli import main

PAIR = np.array([[1.0, 0.3], [0.3, 1.5]])
BLOCKS = (cs.PreActivation(), cs.PostActivation(), cs.TwoMatrix(0.5))


def estimate(x: np.ndarray) -> tuple[float, float]:
    return float(x.mean()), float(x.std(ddof=1) / math.sqrt(x.size))


# --- the Equinox network --------------------------------------------------------------------------------------------


def forward(network: Any, x: np.ndarray) -> list[np.ndarray]:
    """The residual stream in NumPy, written out block by block."""
    h = x @ np.asarray(network.input_weights).T / math.sqrt(x.shape[1])
    N = h.shape[1]
    stream = [h]
    matrices = [np.asarray(W) for W in network.hidden_weights]
    L = matrices[0].shape[0]
    for layer in range(L):
        W = [matrix[layer] for matrix in matrices]
        if isinstance(network.block, cs.PreActivation):
            h = h + network.beta / math.sqrt(L * N) * np.tanh(h) @ W[0].T
        elif isinstance(network.block, cs.PostActivation):
            z = np.tanh(h @ W[0].T / math.sqrt(N))
            h = h + network.beta / math.sqrt(L) * (z - z.mean(axis=1, keepdims=True))
        else:
            M = W[0].shape[0]
            h = h + network.beta * math.sqrt(N) / (L * M) * np.tanh(h @ W[0].T / math.sqrt(N)) @ W[1].T
        stream.append(h)
    return stream


@pytest.mark.parametrize("block", BLOCKS, ids=lambda b: type(b).__name__)
def test_a_network_is_the_forward_pass_it_says_it_is(block: Any) -> None:
    x = np.random.default_rng(0).standard_normal((3, 4))
    res = cs.ResNet(jnp.tanh, 1.3, block)
    network = res.network(8, depth=5, key=1, in_size=4, out_size=2, richness=0.5)
    h = forward(network, x)
    np.testing.assert_allclose(network.features(x), h, rtol=1e-10)
    np.testing.assert_allclose(network.grams(x), [a @ a.T / 8 for a in h], rtol=1e-10)
    np.testing.assert_allclose(network(x), h[-1] @ np.asarray(network.output_weights).T / (0.5 * 8), rtol=1e-10)
    np.testing.assert_allclose(network(x[0]), network(x)[0], rtol=1e-10)


@pytest.mark.parametrize("block", BLOCKS, ids=lambda b: type(b).__name__)
def test_the_tangent_kernel_of_a_network_is_that_of_its_weight_gradients(block: Any) -> None:
    import equinox as eqx

    x = np.random.default_rng(0).standard_normal((2, 4))
    gamma, N, L = 0.5, 6, 3
    res = cs.ResNet(jnp.tanh, 1.3, block)
    network = res.network(N, depth=L, key=1, in_size=4, richness=gamma)

    def outputs(weights: Any) -> Any:
        return eqx.tree_at(lambda n: n.hidden_weights, network, weights)(x)[:, 0]

    rows = np.concatenate([np.reshape(J, (2, -1)) for J in jax.jacrev(outputs)(network.hidden_weights)], axis=1)
    # Learning rates η_0 γ_0² N for one matrix a block, η_0 γ_0² LM for two.
    rate = gamma**2 * (L * block.hidden(N) if isinstance(block, cs.TwoMatrix) else N)
    k = network.kernels(x)
    np.testing.assert_allclose(k.ntk, rate * rows @ rows.T, rtol=1e-9)
    gradient = jax.jacrev(lambda h: (h @ network.output_weights.T)[:, 0] / (gamma * N))(network.features(x)[-1])
    g = gamma * N * np.asarray(gradient)[np.arange(2), np.arange(2)]
    np.testing.assert_allclose(k.G[-1], g @ g.T / N, rtol=1e-10)
    np.testing.assert_allclose(k.H, network.grams(x), rtol=1e-12)


def test_an_input_layer_drawn_at_call_time_is_the_one_drawn_at_construction() -> None:
    x = np.random.default_rng(0).standard_normal((3, 7))
    res = cs.ResNet(jax.nn.relu)
    lazy, eager = res.network(8, depth=2, key=3), res.network(8, depth=2, key=3, in_size=7)
    np.testing.assert_array_equal(lazy(x), eager(x))
    with pytest.raises(ValueError, match="x has dimension 7, but the network was made with in_size=4"):
        res.network(8, depth=2, key=3, in_size=4)(x)


# --- without weights ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("block", BLOCKS, ids=lambda b: type(b).__name__)
def test_the_law_of_the_stream_is_that_of_networks_with_weights(block: Any) -> None:
    res = cs.ResNet(jax.nn.relu, 1.5, block)
    e, f = (
        cs.sample_networks(res, PAIR, width=4, depth=3, draws=15_000, method=method, key=key, save_at=[0, 0.34, 1])
        for method, key in (("law", 10), ("weights", 11))
    )
    np.testing.assert_allclose(e.tau, [0, 1 / 3, 1])
    for k in (0, 1, 2):
        for statistic in (
            lambda V: np.log(V[:, 0, 0]),
            lambda V: V[:, 0, 1],
            lambda V: np.log(V[:, 1, 1] / V[:, 0, 0]),
        ):
            assert stats.ks_2samp(statistic(e.V[k]), statistic(f.V[k])).pvalue > 1e-3
    growth = [np.log(x.V[2, :, 0, 0] / x.V[1, :, 0, 0]) * x.V[1, :, 0, 1] for x in (e, f)]  # joint over layers
    (a, se_a), (b, se_b) = map(estimate, growth)
    assert abs(a - b) < 4 * math.hypot(se_a, se_b)
    # Growth within a path: a branch 10% too large would add a fifth to it.
    (a, se_a), (b, se_b) = (estimate(x.V[2, :, 1, 1] - x.V[0, :, 1, 1]) for x in (e, f))
    assert abs(a - b) < 4 * math.hypot(se_a, se_b)
    assert 0.2 * b > 5 * math.hypot(se_a, se_b)


def test_more_inputs_than_neurons_are_welcome() -> None:
    e = cs.sample_networks(cs.ResNet(jnp.tanh), np.eye(5), width=3, depth=4, draws=50)
    assert e.failures["total"] == 0
    assert np.all(np.linalg.matrix_rank(e.V[-1]) == 3)


# --- towards the limit ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("block", BLOCKS, ids=lambda b: type(b).__name__)
def test_kernels_of_networks_have_the_mean_that_the_recursion_over_layers_predicts(block: Any) -> None:
    # tanh bends, β = 1.3 keeps H, G and K apart; the next correction is O(1/N), below a tenth of the standard errors.
    x = np.random.default_rng(0).standard_normal((2, 4))
    res, N, L = cs.ResNet(jnp.tanh, 1.3, block), 128, 6
    exact = cs.kernels(res, cs.gram(x), depth=L)

    def one(key: Any) -> Any:
        k = res.network(N, depth=L, key=key, in_size=4).kernels(x)
        return k.H[-1], k.G[0], k.ntk

    found = jax.lax.map(one, jax.random.split(jax.random.key(0), 160))
    for values, matrix, name in zip(found, (exact.H[-1], exact.G[0], exact.ntk), "HGK", strict=True):
        for i, j in ((0, 0), (0, 1), (1, 1)):
            mean, se = estimate(np.asarray(values)[:, i, j])
            assert abs(mean - matrix[i, j]) < 3 * se, (name, i, j)
            if i == j:
                assert se < 0.03 * mean


def test_width_and_depth_commute_with_fluctuations_of_order_one_over_width() -> None:
    res = cs.ResNet(jax.nn.relu)
    limit = cs.simulate(res, PAIR)
    spread = {}
    for n, L in ((16, 64), (64, 64), (64, 16)):
        e = cs.sample_networks(res, PAIR, width=n, depth=L, draws=4000, save_at=[0, 1], key=n + L)
        spread[n, L] = e.V[-1, :, 0, 1].var() * n
        bias, se = estimate(e.V[-1, :, 0, 1])
        # The mean is the recursion's at any width to O(1/n), and the limit's to O(1/L).
        assert abs(bias - limit.V[-1, 0, 0, 1]) < 4 * se + 1.5 / L + 1.0 / n
    assert spread[16, 64] == pytest.approx(spread[64, 64], rel=0.25)
    assert spread[64, 16] == pytest.approx(spread[64, 64], rel=0.25)


def test_the_same_drivers_serve_a_resnet(tmp_path: Path) -> None:
    res = cs.ResNet("tanh", 1.5)
    limit = cs.simulate(res, PAIR, paths=5000, save_at=[0, 0.5, 1])
    network = cs.sample_networks(res, PAIR, width=100, draws=400, save_at=[0, 0.5, 1], key=3)
    table = cs.compare(limit, network)
    means = {r.statistic: r for r in table.rows}
    assert "limit: deterministic" in str(table)
    for name in ("mean rho_01", "mean theta_01"):
        assert means[name].reference_se == 0
        assert abs(means[name].z) < 4
    assert all(math.isnan(d.ks_p_value) for d in table.distances)
    limit.save(tmp_path / "limit.npz")
    assert cs.Ensemble.load(tmp_path / "limit.npz").deterministic
    table.plot(tmp_path / "figure.png")
    assert limit.metadata["architecture"] == "ResNet(tanh, beta=1.5, PreActivation())"


def test_the_command_line_serves_a_resnet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", np.random.default_rng(0).standard_normal((2, 5)))
    common = ["compare", "--inputs", "x.npy", "--architecture", "resnet", "--draws", "40"]
    assert main([*common, "--beta", "1.5", "--depth", "6", "--widths", "8", "16", "--out", "out"]) == 0
    out = capsys.readouterr().out
    assert "ResNet(relu, beta=1.5, PreActivation())" in out
    assert "networks of width 16, depth 6" in out
    assert (tmp_path / "out" / "comparison.png").exists()
    for option in (["--a", "1"], ["--depth-to-width", "1"], ["--c-plus", "1"]):
        assert main([*common, *option]) == 2
        assert "has no meaning for --architecture resnet" in capsys.readouterr().err
    assert main(["compare", "--inputs", "x.npy", "--beta", "2"]) == 2
    assert "--beta has no meaning for --architecture mlp" in capsys.readouterr().err
