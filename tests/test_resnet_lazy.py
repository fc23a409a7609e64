"""Lazy training, and ResNets of finite width and infinite depth."""

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import resnet as problems
from scipy.integrate import solve_ivp

import covsde as cs


def estimate(x: np.ndarray) -> tuple[float, float]:
    return float(x.mean()), float(x.std(ddof=1) / math.sqrt(x.size))


def kernel(m: int, rank: int) -> np.ndarray:
    x = np.random.default_rng(0).standard_normal((m, rank))
    return x @ x.T


# --- lazy training --------------------------------------------------------------------------------------------------


def test_the_linear_network_of_depth_16_learns_at_its_quoted_rate() -> None:
    k = cs.kernels(cs.ResNet(problems.identity), np.eye(1), depth=16)
    out = cs.lazy_training(k, [1.0], range(6), learning_rate=0.1, method="descent")
    np.testing.assert_allclose(out.outputs[:, 0, 0], 1 - (1 - 0.1 * (1 + 1 / 16) ** 15) ** np.arange(6), rtol=1e-12)
    # Digits of the full dynamics at γ_0 = 0.01, which differ by order γ_0².
    np.testing.assert_allclose(out.outputs[:, 0, 0], problems.LAZY_LINEAR, atol=1e-5)


@pytest.mark.parametrize("rank", [6, 2])  # 2 < P: directions that are never learned
def test_gradient_flow_and_descent_agree_with_stepping_them(rank: int) -> None:
    m, P, eta, rng = 6, 4, 0.7, np.random.default_rng(1)
    K, y, f0 = kernel(m, rank), rng.standard_normal((P, 2)), rng.standard_normal((m, 2))
    times = [0.0, 0.3, 2.0]
    flow = cs.lazy_training(K, y, times, learning_rate=eta, initial=f0)
    exact = solve_ivp(
        lambda t, f: (eta / P * K[:, :P] @ (y - f.reshape(m, 2)[:P])).ravel(),
        (0, 2),
        f0.ravel(),
        t_eval=times,
        rtol=1e-10,
        atol=1e-12,
    ).y.T.reshape(3, m, 2)
    np.testing.assert_allclose(flow.outputs, exact, atol=1e-7)
    np.testing.assert_allclose(flow.loss, np.sum((exact[:, :P] - y) ** 2, axis=(1, 2)) / (2 * P), rtol=1e-6)
    steps = cs.lazy_training(K, y, [0, 1, 7], learning_rate=eta, method="descent", initial=f0)
    f = f0.copy()
    for t in range(8):
        if t in (0, 1, 7):
            np.testing.assert_allclose(steps.outputs[[0, 1, 7].index(t)], f, rtol=1e-9, atol=1e-10)
        f = f + eta / P * K[:, :P] @ (y - f[:P])


def test_gradient_flow_never_raises_its_loss_and_ends_at_least_squares() -> None:
    # ReLU networks of one feature are homogeneous: of 100 points on a line they see x₊ and x₋, and nothing else.
    x = np.linspace(-10 * np.pi, 10 * np.pi, 100)
    y = (np.sin(x) + np.sin(2 * x))[:80]
    k = cs.kernels(cs.ResNet("relu"), cs.gram(x[:, None]))
    times = [0, 1e4, 1e6, 1e8, 1e12, np.inf]
    out = cs.lazy_training(k, y, times)
    np.testing.assert_allclose(out.loss[[2, -1]], 0.4894009764, rtol=1e-9)
    assert np.all(np.diff(out.loss) <= 0)
    assert np.count_nonzero(out.modes) == 2
    both = np.stack([np.maximum(x, 0), np.minimum(x, 0)], axis=1)
    np.testing.assert_allclose(out.outputs[-1, :, 0], both @ np.linalg.lstsq(both[:80], y)[0], atol=1e-9)
    # The rounding of a kernel is that of its dtype.
    single = cs.lazy_training(k.ntk.astype(np.float32), y, times)
    assert np.all(np.diff(single.loss) <= 0)
    np.testing.assert_allclose(single.loss[-1], 0.4894009764, rtol=1e-4)


def test_gradient_flow_ends_at_the_minimum_norm_predictor_nearest_to_its_start() -> None:
    m, P, rng = 6, 4, np.random.default_rng(1)
    K, y, f0 = kernel(m, 2), rng.standard_normal((P, 2)), rng.standard_normal((m, 2))
    end = cs.lazy_training(K, y, np.inf, initial=f0).outputs[0]
    np.testing.assert_allclose(end, f0 + K[:, :P] @ np.linalg.pinv(K[:P, :P], rcond=1e-10) @ (y - f0[:P]), atol=1e-9)


def test_rates_that_make_descent_diverge_are_named() -> None:
    with pytest.warns(RuntimeWarning, match="learning_rate < 2"):
        out = cs.lazy_training([[1.0]], [1.0], [0, 1, 2, 3], learning_rate=2.5, method="descent")
    np.testing.assert_allclose(1 - out.outputs[:, 0, 0], (-1.5) ** np.arange(4))
    for arguments, sentence in (
        (([[1.0]], [1.0, 2.0], [1.0]), "targets must hold finite numbers of shape"),
        (([[1.0]], [1.0], ["a"]), r"times must be numbers of shape \(times,\); its dtype is <U1"),
        (([[1.0]], [1.0], [-1.0]), "times must have shape"),
        (([[1.0]], [1.0], [np.nan]), "no negative time and no NaN"),
        (([[-1.0]], [1.0], [1.0]), "positive semidefinite"),
    ):
        with pytest.raises(ValueError, match=sentence):
            cs.lazy_training(*arguments)
    with pytest.raises(ValueError, match=r"np\.inf is for method='flow'"):
        cs.lazy_training([[1.0]], [1.0], [np.inf], method="descent")


def test_a_network_of_small_richness_trains_as_its_own_tangent_kernel_says() -> None:
    # Real gradient descent on all hidden matrices; what remains is of the order of γ_0.
    N, L, gamma, eta, updates = 24, 4, 1e-4, 0.8, 6
    x = np.random.default_rng(0).standard_normal((3, 5))
    network = cs.ResNet(jnp.tanh, 1.2).network(N, depth=L, key=0, in_size=5, richness=gamma)
    start = np.asarray(network(x))[:, 0]
    targets = start[:2] + np.array([1.0, -0.5])

    def outputs(weights: Any) -> Any:
        return eqx.tree_at(lambda n: n.hidden_weights, network, weights)(x)[:, 0]

    def loss(weights: Any) -> Any:
        return jnp.mean((outputs(weights)[:2] - targets) ** 2) / 2

    gradient, weights, found = jax.jit(jax.grad(loss)), network.hidden_weights, [start]
    for _ in range(updates):
        weights = jax.tree.map(lambda w, d: w - eta * gamma**2 * N * d, weights, gradient(weights))
        found.append(np.asarray(outputs(weights)))
    theory = cs.lazy_training(
        network.kernels(x).ntk, targets, range(updates + 1), learning_rate=eta, method="descent", initial=start
    )
    moved = np.abs(theory.outputs[-1, :, 0] - start)
    assert np.all(moved > 0.02)  # the third point was not trained on
    np.testing.assert_allclose(np.array(found) - start, theory.outputs[:, :, 0] - start, atol=2e-3)


# --- finite width, infinite depth -----------------------------------------------------------------------------------


def test_a_relu_resnet_of_width_one_is_geometric_brownian_motion_path_by_path() -> None:
    gaps = []
    for steps in (25, 400):
        s = cs.simulate_streams(cs.ResNet(jax.nn.relu, 0.8), [2.0], paths=1000, steps=steps, key=0, save_at=[0, 1])
        exact = 2 * np.exp(0.8 * s.noise[-1, :, 0, 0] - 0.32)
        gaps.append(np.mean(np.abs(s.X[-1, :, 0, 0] - exact)))
    # Strong order 1/2: sixteen times the steps, a quarter of the distance.
    assert gaps[0] / gaps[1] == pytest.approx(4, rel=0.15)
    assert gaps[1] < 0.05
    still = cs.simulate_streams(cs.ResNet(jax.nn.relu), [-2.0], paths=1000, steps=25, save_at=[0, 1])
    np.testing.assert_array_equal(still.X, -2.0)


def test_the_log_norm_of_a_linear_resnet_is_normal_with_its_mean_and_variance() -> None:
    n, beta, steps = 4, 1.2, 100
    s = cs.simulate_streams(
        cs.ResNet(problems.identity, beta), np.ones(n), paths=4000, steps=steps, key=1, save_at=[0, 0.5, 1]
    )
    for k, tau in ((1, 0.5), (2, 1.0)):
        logs = np.log(np.linalg.norm(s.X[k, :, 0], axis=1) / math.sqrt(n))
        mean, variance = problems.log_norm_law_of_the_linear_network(n, beta, tau)
        value, se = estimate(logs)
        assert abs(value - mean) < 4 * se + beta**4 / steps  # Euler's bias
        assert abs(logs.var() - variance) < 4 * variance * math.sqrt(2 / 4000) + beta**4 / steps


def test_inputs_share_the_noise_of_a_linear_resnet() -> None:
    # E ⟨X^a, X^b⟩ = e^{β²τ} ⟨x^a, x^b⟩, negative here: independent noise would leave it as it is.
    x = np.array([[1.0, 0.5, -1.0], [0.2, -1.0, 0.8]])
    s = cs.simulate_streams(cs.ResNet(problems.identity), x, paths=10_000, steps=50, key=2, save_at=[0, 1])
    value, se = estimate(np.sum(s.X[-1, :, 0] * s.X[-1, :, 1], axis=1))
    assert abs(value - (1.02**50) * (x[0] @ x[1])) < 4 * se  # Euler has exactly (1 + β²/L)^L
    assert abs(value - x[0] @ x[1]) > 6 * se


def test_the_mean_log_growth_of_relu_streams_counts_their_active_neurons() -> None:
    # d log‖φ(X)‖ has drift (½ #{X_i > 0} - 1)/n: three neurons shrink from half active, four keep their mean.
    n, steps = 4, 100
    grid = np.linspace(0, 1, steps + 1).tolist()
    s = cs.simulate_streams(cs.ResNet(jax.nn.relu), np.ones(n), paths=2000, steps=steps, key=3, save_at=grid)
    positive = np.maximum(s.X[:, :, 0], 0)
    alive = np.all(np.any(positive > 0, axis=2), axis=0)
    drift = ((np.sum(positive > 0, axis=2) / 2 - 1) / n)[:-1].mean(axis=0)
    logs = np.log(np.linalg.norm(positive[-1, alive], axis=1) / math.sqrt(n))
    value, se = estimate(logs - drift[alive])
    assert np.mean(alive) > 0.99
    assert abs(value) < 4 * se + 2 / steps + 0.01
    assert estimate(logs)[0] == pytest.approx(0.2053, abs=4 * estimate(logs)[1])


def test_the_activation_with_an_ornstein_uhlenbeck_stream() -> None:
    a, b, x0 = 0.5, 1.0, 0.5
    phi = cs.ornstein_uhlenbeck_activation(a, b)
    x = jnp.linspace(-50, 50, 101)
    latent = jax.jit(phi.latent)  # type: ignore[attr-defined]
    there_and_back = jax.jit(lambda x: phi.stream(phi.latent(x)))  # type: ignore[attr-defined]
    np.testing.assert_allclose(there_and_back(x), x, rtol=1e-9, atol=1e-12)
    s = cs.simulate_streams(cs.ResNet(phi), [x0], paths=1500, steps=100, key=4, save_at=[0, 1])
    Z = np.asarray(latent(jnp.asarray(s.X[:, :, 0, 0])))
    value, se = estimate(Z[-1])
    variance = b**2 * (1 - math.exp(-2 * a)) / (2 * a)
    assert abs(value - Z[0, 0] * math.exp(-a)) < 4 * se + 0.01
    assert abs(Z[-1].var() - variance) < 4 * variance * math.sqrt(2 / 1500) + 0.02
