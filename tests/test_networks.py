"""Finite networks: exact statistics at finite width, the sampler without weights, and the approach to the limit."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import mlp as problems
from scipy import stats

from covsde import MLP, Identity, LeakyReLU, ShapedReLU, ShapedSmooth, gram, sample_networks

PAIR = np.asarray(problems.PAIR)
V_UNEQUAL = np.array([[2.0, -0.5], [-0.5, 0.5]])


def last(activation: Any, V0: np.ndarray, **settings: Any) -> np.ndarray:
    """Gram matrices of the last layer, (draws, m, m)."""
    e = sample_networks(MLP(activation), V0, save_at=[0.0, 1.0], **settings)
    assert e.failures["total"] == 0
    return np.asarray(e.V[-1])


# --- exact statistics at finite width ------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["law", "weights"])
def test_one_input_of_a_linear_network_is_a_product_of_chi_squares(method: str) -> None:
    problem = problems.BY_SLUG["linear-one-input-n10-d5"]
    V = last(problem.activation, problem.gram, width=10, depth=5, draws=20_000, method=method, key=1)
    for name in ("log", "var log", "V^0.5", "V^2"):
        value, se = problems.estimate_of(name, V)
        assert abs(value - problem.exact[name]) < 4 * se, name
    # The whole law, against NumPy's χ².
    chi = np.log(np.random.default_rng(0).chisquare(10, (40_000, 5)) / 10).sum(axis=1)
    assert stats.ks_2samp(np.log(V[:, 0, 0]), chi).pvalue > 1e-3


def test_a_wide_and_deep_linear_network_has_almost_the_log_normal_law() -> None:
    problem = problems.BY_SLUG["linear-one-input-n100-d100"]
    V = last(problem.activation, problem.gram, width=100, depth=100, draws=5000, key=2)
    for name in ("log", "var log"):
        value, se = problems.estimate_of(name, V)
        assert abs(value - problem.exact[name]) < 4 * se, name


@pytest.mark.parametrize("method", ["law", "weights"])
def test_second_moments_of_two_inputs_of_a_linear_network(method: str) -> None:
    problem = problems.BY_SLUG["linear-second-moments-n10-d3"]
    V = last(problem.activation, problem.gram, width=10, depth=3, draws=20_000, method=method, key=3)
    for name, exact in problem.exact.items():
        value, se = problems.estimate_of(name, V)
        assert abs(value - exact) < 4 * se, name


@pytest.mark.parametrize(("width", "depth", "draws"), [(3, 5, 50_000), (50, 50, 10_000)])
def test_the_determinant_of_a_linear_network_is_a_product_of_chi_squares(width: int, depth: int, draws: int) -> None:
    problem = problems.BY_SLUG[f"linear-determinant-n{width}-d{depth}"]
    V = last(problem.activation, problem.gram, width=width, depth=depth, draws=draws, key=4)
    # Through the angle: V itself is singular to rounding on some draws of the narrow network.
    for name, exact in problem.exact.items():
        value, se = problems.estimate_of(name, V)
        assert abs(value - exact) < 4 * se, name


@pytest.mark.parametrize(("width", "depth", "draws"), [(3, 5, 100_000), (20, 20, 40_000)])
def test_the_angle_of_a_linear_network_is_a_martingale(width: int, depth: int, draws: int) -> None:
    e = sample_networks(MLP(Identity()), PAIR, width=width, depth=depth, draws=draws, save_at=[0.0, 0.4, 1.0], key=5)
    for angle in e.angle(0, 1)[1:]:
        value, se = problems.estimate(angle)
        assert abs(value - math.acos(0.3)) < 4 * se


def test_the_angle_of_a_linear_network_with_weights_is_a_martingale() -> None:
    # In the shape of the networks whose second moments are known: they are compiled once.
    V = last(Identity(), PAIR, width=10, depth=3, draws=40_000, method="weights", key=6)
    value, se = problems.estimate_of("angle", V)
    assert abs(value - math.acos(0.3)) < 4 * se


@pytest.mark.parametrize("method", ["law", "weights"])
def test_unshaped_relu_networks_die_with_their_exact_probability(method: str) -> None:
    # A layer dies when none of its n neurons is active: P = 1 - (1 - 2⁻ⁿ)^d.
    problem, draws = problems.BY_SLUG["relu-one-input-n10-d5"], 25_000
    V = last(problem.activation, np.eye(1), width=10, depth=5, draws=draws, method=method, key=7)[:, 0, 0]
    dead = problem.exact["P(dead)"]
    assert abs(np.mean(V == 0) - dead) < 4 * math.sqrt(dead / draws)
    logs = np.log(V[V > 0])
    for (value, se), exact in (
        (problems.estimate(logs), problem.exact["log alive"]),
        (problems.variance_estimate(logs), problem.exact["var log alive"]),
        (problems.estimate(V**2), problem.exact["V^2"]),
    ):
        assert abs(value - exact) < 4 * se


@pytest.mark.parametrize("activation", [ShapedReLU(0.0, -1.0), LeakyReLU(0.2), ShapedReLU(0.7, 0.4)], ids=repr)
def test_one_layer_keeps_the_mean_and_has_the_exact_second_moment(activation: Any) -> None:
    # E V = V_0 is what c(n) is for; E V² = V_0² (1 + (M - 1)/n), M = (3/2) c² (s₊⁴ + s₋⁴).
    n = 10
    plus, minus = activation.slopes(n) if isinstance(activation, ShapedReLU) else (1.0, activation.negative_slope)
    M = 6 * (plus**4 + minus**4) / (plus**2 + minus**2) ** 2
    V = last(activation, 2 * np.eye(1), width=n, depth=1, draws=100_000, key=8)[:, 0, 0]
    for (value, se), exact in ((problems.estimate(V), 2), (problems.estimate(V**2), 4 * (1 + (M - 1) / n))):
        assert abs(value - exact) < 4 * se


# --- without weights -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "activation",
    [ShapedReLU(0.5, -1.0), ShapedSmooth(jnp.tanh), ShapedSmooth(jax.nn.silu, a=1.5), LeakyReLU(0.2), Identity()],
    ids=["shaped relu", "tanh", "silu", "leaky relu", "linear"],
)
def test_the_law_of_the_gram_process_is_that_of_networks_with_weights(activation: Any) -> None:
    runs = [
        sample_networks(
            MLP(activation), V_UNEQUAL, width=6, depth=4, draws=8000, method=method, key=key, save_at=[0.5, 1.0]
        )
        for method, key in (("law", 10), ("weights", 11))
    ]
    assert all(e.failures["total"] == 0 for e in runs)
    law, weights = (e.V[-1] for e in runs)
    for f in (
        lambda V: np.log(V[:, 0, 0]),
        lambda V: np.log(V[:, 1, 1]),
        lambda V: problems.correlations(V),
        lambda V: np.log(V[:, 0, 0] / V[:, 1, 1]) * problems.correlations(V),  # joint, not only marginal
    ):
        x, y = f(law), f(weights)
        assert stats.ks_2samp(x, y).pvalue > 1e-3
        (mean_x, se_x), (mean_y, se_y) = problems.estimate(x), problems.estimate(y)
        assert abs(mean_x - mean_y) < 4 * math.hypot(se_x, se_y)
    # Successive layers have the same joint law too.
    (x, se_x), (y, se_y) = (problems.estimate(np.log(e.V[1, :, 0, 0]) * np.log(e.V[2, :, 0, 0])) for e in runs)
    assert abs(x - y) < 4 * math.hypot(se_x, se_y)


def test_fewer_neurons_than_inputs_need_weights() -> None:
    with pytest.raises(ValueError, match="width=2 is smaller than the number of inputs m=3"):
        sample_networks(MLP(Identity()), np.eye(3), width=2, draws=5)
    V = last(Identity(), np.eye(3), width=2, depth=3, draws=50, method="weights")
    assert np.all(np.linalg.matrix_rank(V) == 2)


# --- the Equinox network -------------------------------------------------------------------------------------------


def inputs(m: int, d: int) -> jax.Array:
    return jnp.asarray(np.random.default_rng(0).standard_normal((m, d)))


def test_a_network_maps_inputs_to_outputs_and_layers_to_grams() -> None:
    mlp = MLP(ShapedReLU(0.0, -1.0), depth_to_width=0.5)
    network, x = mlp.network(width=16, key=0, out_size=4), inputs(3, 7)
    assert network(x).shape == (3, 4)
    assert network(x[0]).shape == (4,)
    np.testing.assert_allclose(network(x[0]), network(x)[0], rtol=1e-10)
    grams = network.grams(x)
    assert grams.shape == (1 + 8, 3, 3)  # depth 0.5 · 16, and the inputs
    np.testing.assert_allclose(grams[0], gram(np.asarray(x)), rtol=1e-12)
    np.testing.assert_allclose(grams, jnp.swapaxes(grams, 1, 2), rtol=1e-12, atol=1e-14)
    assert network.hidden_weights.shape == (7, 16, 16)


def test_an_input_layer_drawn_at_call_time_is_the_one_drawn_at_construction() -> None:
    mlp, x = MLP(ShapedSmooth(jnp.tanh)), inputs(3, 7)
    lazy, eager = mlp.network(width=8, key=3), mlp.network(width=8, key=3, in_size=7)
    assert lazy.input_weights is None
    assert eager.input_weights is not None
    np.testing.assert_array_equal(lazy(x), eager(x))
    np.testing.assert_array_equal(lazy(x), lazy(x))
    assert not np.allclose(lazy(x), mlp.network(width=8, key=4)(x))


def test_a_network_is_the_forward_pass_it_says_it_is() -> None:
    network, x = MLP(ShapedReLU(1.0, -0.5)).network(width=5, depth=3, key=1, in_size=4, out_size=2), inputs(2, 4)
    plus, minus = 1 + 1 / math.sqrt(5), 1 - 0.5 / math.sqrt(5)
    c = 2 / (plus**2 + minus**2)

    def phi(z: np.ndarray) -> np.ndarray:
        return plus * np.maximum(z, 0) + minus * np.minimum(z, 0)

    z = np.asarray(x) @ np.asarray(network.input_weights).T / math.sqrt(4)
    V = [np.asarray(x) @ np.asarray(x).T / 4]
    for W in (*np.asarray(network.hidden_weights), np.asarray(network.output_weights)):
        V.append(c / 5 * phi(z) @ phi(z).T)
        z = math.sqrt(c / 5) * phi(z) @ W.T
    np.testing.assert_allclose(network(x), z, rtol=1e-10)
    np.testing.assert_allclose(network.grams(x), V, rtol=1e-10)


def test_outputs_are_gaussian_with_the_last_gram_as_their_covariance() -> None:
    # Given V_L the readouts are independent N(0, V_L): one network with many readouts shows it.
    readouts = 40_000
    network, x = MLP(ShapedSmooth(jnp.tanh)).network(width=12, key=5, out_size=readouts), inputs(2, 3)
    z, V = np.asarray(network(x)), np.asarray(network.grams(x)[-1])
    empirical = z @ z.T / readouts
    se = np.sqrt((V**2 + np.outer(np.diag(V), np.diag(V))) / readouts)
    np.testing.assert_array_less(np.abs(empirical - V), 4 * se)
    for i in range(2):
        assert stats.kstest(z[i] / math.sqrt(V[i, i]), "norm").pvalue > 1e-3


def test_outputs_of_random_networks_have_the_kurtosis_of_a_product_of_chi_squares() -> None:
    # One input, linear: E z⁴ = 3 E V² = 3(1 + 2/n)^d.
    V = last(Identity(), np.eye(1), width=10, depth=5, draws=40_000, key=13)[:, 0, 0]
    z = np.sqrt(V) * np.random.default_rng(1).standard_normal(V.size)
    value, se = problems.estimate(z**4)
    assert abs(value - 3 * 1.2**5) < 4 * se
    keys = jax.random.split(jax.random.key(2), 20_000)

    def output(key: jax.Array) -> jax.Array:
        return MLP(Identity()).network(width=10, depth=5, in_size=1, key=key)(jnp.ones((1, 1)))

    outputs = jax.jit(lambda k: jax.lax.map(output, k))(keys)  # one after the other: as a batch it compiles for long
    assert stats.ks_2samp(np.asarray(outputs).ravel(), z).pvalue > 1e-3


# --- towards the limit ---------------------------------------------------------------------------------------------


def test_finite_networks_approach_the_limit_like_one_over_n() -> None:
    problem = problems.SHAPED_RELU_CORRELATION[4, 0.5]
    gaps = {}
    for n, draws in ((6, 400_000), (24, 200_000)):
        e = sample_networks(
            problem.architecture, problem.gram, width=n, draws=draws, save_at=[0.0, 1.0], dtype=np.float32, key=n
        )
        value, se = problems.estimate_of("rho", e.V[-1])
        gaps[n] = (value - problem.exact["rho"], se)
    (coarse, se_coarse), (fine, se_fine) = gaps[6], gaps[24]
    assert abs(coarse) > 10 * se_coarse
    assert abs(fine) < 0.03
    # Four times the width, a quarter of the gap, up to the next order in 1/n.
    assert abs(fine - coarse / 4) < 0.06 * abs(coarse) + 4 * math.hypot(se_fine, se_coarse / 4)


def test_the_depth_follows_the_aspect_ratio() -> None:
    assert MLP(Identity(), 0.5).depth(50) == 25
    assert MLP(Identity(), 2.0).depth(33) == 66
    assert MLP(Identity(), 0.01).depth(10) == 1


def test_another_slope_does_not_compile_again(monkeypatch: pytest.MonkeyPatch) -> None:
    traced, sample = [], MLP.sample_grams

    def count(*args: Any, **kwargs: Any) -> Any:
        traced.append(1)
        return sample(*args, **kwargs)

    monkeypatch.setattr(MLP, "sample_grams", count)
    means = []
    for slope in (-1.0, -0.5, 0.25):
        mlp = MLP(ShapedReLU(0.0, slope), depth_to_width=0.5)
        means.append(sample_networks(mlp, np.eye(2), width=4, draws=8, method="law").V[-1, :, 0, 1].mean())
    assert len(traced) == 1
    assert len(set(means)) == 3
