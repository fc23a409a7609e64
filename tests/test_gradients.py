"""Gradients at initialization: the limit and finite networks against exact values and against each other."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import mlp as problems
from scipy import stats

import covsde as cs
from covsde.architectures.mlp.gradients import backward_of
from covsde.covariance.expansion import Modulus, Quadratic

PAIR = np.asarray(problems.PAIR)
RELU = cs.ShapedReLU(1.5, -1.5)
T = 0.5
POINTS = np.array([[1.2, 0.3, -0.4, 0.5], [0.3, 0.8, 0.2, 0.1], [-0.4, 0.2, 1.5, 0.6], [0.5, 0.1, 0.6, 1.0]])


def close(estimate: Any, exact: float, errors: float = 4.0) -> None:
    assert abs(float(estimate.value) - exact) < errors * float(estimate.standard_error), (estimate, exact)


def agree(x: Any, y: Any, errors: float = 4.0) -> None:
    assert abs(float(x.value - y.value)) < errors * math.hypot(x.standard_error, y.standard_error), (x, y)


def log_gradient(r: cs.Gradients) -> np.ndarray:
    return np.log(r.G[0, :, 0, 0])


def test_weaker_shaping_has_the_gradients_of_a_linear_network_and_stronger_none() -> None:
    linear = repr(backward_of(cs.Identity()))
    for shaped in (
        cs.ShapedSmooth("silu", exponent=0.7),
        cs.ShapedReLU(1.0, -1.0, exponent=0.7),
        cs.ShapedReLU(1.0, 1.0),
    ):
        assert repr(backward_of(shaped)) == linear
    for shaped in (cs.ShapedSmooth("silu", exponent=0.3), cs.ShapedReLU(1.0, -1.0, exponent=0.3)):
        with pytest.raises(ValueError, match="exponent"):
            backward_of(shaped)


# --- Gaussian moments of the activations -----------------------------------------------------------------------------


@pytest.mark.parametrize("activation", [RELU, cs.ShapedSmooth(jax.nn.silu, a=1.5)], ids=["relu", "silu"])
def test_overlap_moments_are_those_of_gaussian_preactivations(activation: Any) -> None:
    # The definition M = E q q', B = -E q ψ over 400000 Gaussian neurons, of four inputs at once.
    z = np.random.default_rng(0).multivariate_normal(np.zeros(4), POINTS, 200_000).T
    z = np.concatenate([z, -z], axis=1)
    if activation is RELU:
        half = math.sqrt(activation.kappa) / 2
        psi, slope = half * np.abs(z), half * np.sign(z)
    else:
        psi, slope = activation.kappa2 * z**2 / 2, activation.kappa2 * z
    q = (psi[:, None] - z[:, None] * slope[None]).reshape(16, -1)
    N = z.shape[1] / 2
    equation, Phi = backward_of(activation), jnp.asarray(POINTS)[None]
    M = np.asarray(equation.overlap_covariance(Phi)).reshape(16, 16)
    error = 2 * np.sqrt((q**2 @ (q**2).T / (2 * N)) / N)
    np.testing.assert_array_less(np.abs(q @ q.T / (2 * N) - M), 5 * error + 1e-12)
    # As Φ⁻¹A runs through the unit vectors, the rate runs through B; with κ₃ switched off, nothing else is in it.
    weights = np.eye(4)[:, :, None] * np.ones(4)[None, None, :]
    if activation is not RELU:
        equation = type(equation)(activation.kappa2, 0.0)
    A = jnp.zeros((1, 4, 4))
    B = np.stack([np.asarray(equation.overlap_rate(Phi, A, jnp.asarray(w)[None]))[0].ravel() for w in weights])
    error = np.sqrt((psi**2) @ (q**2).T / (2 * N) / N) * 2
    np.testing.assert_array_less(np.abs(-(psi @ q.T) / (2 * N) - B), 5 * error + 1e-12)


@pytest.mark.parametrize(
    "activation",
    [cs.ShapedSmooth(jnp.tanh), cs.ShapedSmooth(jax.nn.silu, a=1.5), cs.ShapedSmooth(jnp.expm1)],
    ids=["tanh", "silu", "expm1"],
)
def test_the_drift_of_gradients_is_that_of_one_wide_layer(activation: Any) -> None:
    # n(c E φ'(z_1)φ'(z_2) - 1) at n = 10⁶ by Gauss–Hermite quadrature.
    n = 10**6
    nodes, weights = np.polynomial.hermite_e.hermegauss(40)
    grid, w = np.stack(np.meshgrid(nodes, nodes)).reshape(2, -1), np.outer(weights, weights).ravel() / (2 * math.pi)
    V = POINTS[:2, :2]
    z = np.linalg.cholesky(V) @ grid
    derivative = jax.vmap(jax.vmap(jax.grad(activation.at_width(n))))(jnp.asarray(z))
    layer = activation.normalisation(n) * np.asarray((derivative * jnp.asarray(w)[None]) @ derivative.T)
    rate = np.asarray(backward_of(activation).gradient_rate(jnp.asarray(V)[None]))[0]
    np.testing.assert_allclose(n * (layer - 1), rate, atol=2e-4 * max(1, np.max(np.abs(rate))))


def test_the_drift_of_shaped_relu_gradients_is_that_of_one_wide_layer() -> None:
    # c E φ'φ' with P(same sign) = 1 - θ/π, at the symmetric slopes 1 ± √κ/(2√n) for which c = 1/(1 + κ/4n).
    n, theta = 10**7, math.acos(0.3)
    plus, minus = RELU.slopes(n)
    same = (1 - theta / math.pi) * (plus**2 + minus**2) / 2 + theta / math.pi * plus * minus
    rate = np.asarray(backward_of(RELU).gradient_rate(jnp.asarray(PAIR)[None]))[0]
    assert n * (RELU.normalisation(n) * same - 1) == pytest.approx(rate[0, 1], rel=1e-5)
    assert rate[0, 0] == 0


# --- linear networks, known exactly ---------------------------------------------------------------------------------


def test_the_gradient_norm_of_a_linear_network_is_a_product_of_chi_squares() -> None:
    width, depth = 10, 5
    r = cs.sample_network_gradients(cs.MLP(cs.Identity()), PAIR, width=width, depth=depth, draws=20_000, key=1)
    # One factor per layer passed, and one for the readout.
    for layer, factors in ((0, 6), (3, 3), (5, 1)):
        k = int(np.argmin(np.abs(r.tau - layer / depth)))
        mean, variance = problems.log_chi_square_moments(width, factors)
        close(r.mean(lambda g, k=k: np.log(g.G[k, :, 0, 0])), mean)
        close(r.variance(lambda g, k=k: np.log(g.G[k, :, 0, 0])), variance)
        close(r.mean(lambda g, k=k: g.G[k, :, 0, 0]), 1.0)
    assert np.max(np.abs(r.G - r.G[:, :, :1, :1])) < 1e-12  # the gradient does not depend on the input
    assert np.max(np.abs(r.A - r.outputs[None, :, :, None])) < 1e-12  # f(a) = h(a)·v at every layer


@pytest.fixture(scope="module")
def linear() -> cs.Gradients:
    return cs.simulate_gradients(cs.MLP(cs.Identity(), T), PAIR, paths=40_000, steps=10, key=2)


def test_the_gradient_norm_of_the_linear_limit_is_log_normal(linear: cs.Gradients) -> None:
    for k in range(0, 10, 3):
        left = T * (1 - linear.tau[k])
        close(linear.mean(lambda g, k=k: g.G[k, :, 0, 0]), 1.0)
        close(linear.mean(lambda g, k=k: np.log(g.G[k, :, 0, 0])), -left)
        close(linear.variance(lambda g, k=k: np.log(g.G[k, :, 0, 0])), 2 * left)
    assert stats.kstest((log_gradient(linear) + T) / math.sqrt(2 * T), "norm").pvalue > 1e-3
    assert np.max(np.abs(linear.G - linear.G[:, :, :1, :1])) < 1e-9


def test_the_mean_tangent_kernel_of_linear_networks_is_the_input_gram(linear: cs.Gradients) -> None:
    networks = cs.sample_network_gradients(cs.MLP(cs.Identity(), T), PAIR, width=10, draws=20_000, key=4)
    for r in (linear, networks):
        close(r.mean(lambda g: g.ntk[:, 0, 0]), 1.0)
        close(r.mean(lambda g: g.ntk[:, 0, 1]), 0.3)
    assert linear.variance(lambda g: g.ntk[:, 0, 0]).value > 0.5  # and random


def test_the_linear_limit_is_the_same_upside_down(linear: cs.Gradients) -> None:
    # Transposing a linear network exchanges forward and backward, input and readout.
    log_Phi, log_G = np.log(linear.Phi[:, :, 0, 0]), np.log(linear.G[:, :, 0, 0])
    for up, down in ((log_Phi[5] * log_G[0], log_G[5] * log_Phi[10]), (log_Phi[5] * log_Phi[10], log_G[5] * log_G[0])):
        (x, se_x), (y, se_y) = problems.estimate(up), problems.estimate(down)
        assert abs(x - y) < 4 * math.hypot(se_x, se_y)


def test_forward_and_backward_norms_of_a_linear_network_are_correlated_as_in_the_limit(linear: cs.Gradients) -> None:
    def joint(r: cs.Gradients) -> np.ndarray:
        Phi, G = np.log(r.Phi[-1, :, 0, 0]), log_gradient(r)
        return (Phi - Phi.mean()) * (G - G.mean())

    limit = linear.mean(joint)
    gaps = {}
    for n, draws in ((8, 12_000), (32, 4000)):
        networks = cs.sample_network_gradients(
            cs.MLP(cs.Identity(), T), PAIR, width=n, draws=draws, key=n, dtype=np.float32, save_at=[0, 1]
        ).mean(joint)
        gaps[n] = (networks.value - limit.value, math.hypot(networks.standard_error, limit.standard_error))
    # Independence would be a gap as large as the value, and the gap shrinks with 1/n.
    assert limit.value > 10 * limit.standard_error
    assert abs(gaps[32][0]) < abs(gaps[8][0]) / 4 + 3.5 * gaps[32][1]


# --- shaped ReLU -----------------------------------------------------------------------------------------------------


def overlap(r: cs.Gradients) -> np.ndarray:
    return r.A[0, :, 0, 1]


def output(r: cs.Gradients) -> np.ndarray:
    return r.outputs[:, 0]


@pytest.mark.thorough
def test_relu_overlaps_lose_their_memory_of_the_output_as_measured_in_networks() -> None:
    # .587 ± .014 by another solver; networks of width 60 and 120 gave .586 ± .015 and .601 ± .024.
    mlp = cs.MLP(RELU, T)
    limit = cs.simulate_gradients(mlp, PAIR, paths=30_000, steps=10, key=7)
    slope = limit.slope(overlap, output)
    for value, error in ((0.587, 0.014), (0.586, 0.015), (0.601, 0.024)):
        assert abs(slope.value - value) < 3 * math.hypot(error, slope.standard_error)
    close(limit.mean(log_gradient), -0.5)  # along one input it is a linear network
    networks = cs.sample_network_gradients(mlp, PAIR, width=32, draws=4000, key=8, save_at=[0, 1], dtype=np.float32)
    agree(networks.slope(overlap, output), slope)
    for f in (lambda r: r.G[0, :, 0, 1], lambda r: overlap(r) ** 2, lambda r: r.ntk[:, 0, 1]):
        agree(networks.mean(f), limit.mean(f))
    assert np.max(np.abs(np.diagonal(limit.A - limit.A[-1:], axis1=2, axis2=3))) < 1e-12
    scale = np.max(np.abs(networks.outputs))
    assert np.max(np.abs(np.diagonal(networks.A, axis1=2, axis2=3) - networks.outputs[None])) < 1e-5 * scale


# --- smooth activations ----------------------------------------------------------------------------------------------


def test_smooth_gradients_of_networks_approach_the_limit() -> None:
    # A bounded function with κ₂ ≠ 0, so that neither side explodes.
    activation = cs.ShapedSmooth(lambda x: jnp.tanh(x + 0.4), a=2.0)
    assert abs(activation.kappa2) > 0.3
    mlp = cs.MLP(activation, T)
    statistics = {
        "log G": log_gradient,
        "G01": lambda r: np.tanh(r.G[0, :, 0, 1]),
        "A00": lambda r: np.tanh(r.A[0, :, 0, 0]) ** 2,
        "A01": lambda r: np.tanh(r.A[0, :, 0, 1]) ** 2,
        "A00 A01": lambda r: np.tanh(r.A[0, :, 0, 0]) * np.tanh(r.A[0, :, 0, 1]),
        "f A00": lambda r: np.tanh(r.outputs[:, 0]) * np.tanh(r.A[0, :, 0, 0]),
        "joint": lambda r: np.log(r.Phi[-1, :, 0, 0]) * log_gradient(r),
        "A G": lambda r: np.tanh(r.A[0, :, 0, 0] * r.outputs[:, 0]) * np.tanh(r.G[0, :, 0, 0]),
    }
    limit = cs.simulate_gradients(mlp, PAIR, paths=30_720, steps=10, key=9)
    wide, narrow = (
        cs.sample_network_gradients(mlp, PAIR, width=n, draws=draws, key=n, save_at=[0, 1], dtype=np.float32)
        for n, draws in ((32, 3000), (8, 8000))
    )
    for name, f in statistics.items():
        x, near, far = limit.mean(f), wide.mean(f), narrow.mean(f)
        error = math.hypot(x.standard_error, near.standard_error)
        # Four times the width, a quarter of the gap.
        allowed = abs(far.value - x.value) / 3 + 3.5 * error
        assert abs(near.value - x.value) < allowed, (name, x, near, far)
        assert allowed < 0.2, name


# --- singular inputs, failures, arguments ----------------------------------------------------------------------------


@pytest.mark.parametrize("activation", [cs.Identity(), cs.ShapedSmooth(jnp.tanh), cs.ShapedSmooth(jax.nn.silu), RELU])
def test_a_repeated_input_has_the_gradient_of_the_first(activation: Any) -> None:
    r = cs.simulate_gradients(cs.MLP(activation, 0.3), np.ones((2, 2)), paths=2048, steps=10, key=10)
    fine = r.status == cs.PathStatus.FINE
    assert fine.mean() > 0.95
    for X in (r.G[:, fine], r.A[:, fine]):
        size = np.max(np.abs(X), axis=(0, 2, 3))
        assert np.all(np.max(np.abs(X[:, :, 0] - X[:, :, 1]), axis=(0, 2)) < 1e-6 * size)


def test_a_repeated_input_does_not_disturb_the_others() -> None:
    V0 = np.array([[1.0, 1.0, 0.3], [1.0, 1.0, 0.3], [0.3, 0.3, 1.0]])
    mlp = cs.MLP(cs.ShapedSmooth(jnp.tanh), 0.3)
    triple, pair = (cs.simulate_gradients(mlp, V, paths=2048, steps=10, key=10) for V in (V0, PAIR))
    agree(triple.mean(lambda g: np.tanh(g.G[0, :, 2, 2])), pair.mean(lambda g: np.tanh(g.G[0, :, 1, 1])))
    agree(triple.mean(lambda g: np.tanh(g.G[0, :, 1, 2])), pair.mean(lambda g: np.tanh(g.G[0, :, 0, 1])))


@pytest.mark.filterwarnings("ignore::covsde.FailedPathsWarning")
def test_exploded_paths_have_no_gradient_and_are_counted() -> None:
    r = cs.simulate_gradients(cs.MLP(cs.ShapedSmooth(jnp.expm1), 2.0), PAIR, paths=2048, steps=10, key=11)
    assert 0 < r.failures["EXPLODED"] == r.failures["total"] < 2048
    gone = r.status != cs.PathStatus.FINE
    assert np.all(np.isnan(r.G[:, gone]))
    assert np.all(np.isfinite(r.G[:, ~gone]))
    assert np.isfinite(r.mean(log_gradient).value)
    assert "failed" in repr(r)


def test_statistics_say_when_paths_are_missing() -> None:
    r = cs.simulate_gradients(cs.MLP(cs.ShapedSmooth(jnp.expm1), 2.0), PAIR, paths=2048, steps=10, key=11)
    with pytest.warns(cs.FailedPathsWarning, match="of 2048 paths failed"):
        r.mean(log_gradient)


def test_the_result_does_not_depend_on_how_many_paths_are_asked_for() -> None:
    mlp = cs.MLP(cs.Identity(), T)
    few, many = (cs.simulate_gradients(mlp, PAIR, paths=n, chunk=2048, steps=10, key=12) for n in (5, 2100))
    np.testing.assert_array_equal(few.A, many.A[:, :5])


def test_bad_arguments_are_named() -> None:
    mlp = cs.MLP(cs.Identity())
    with pytest.raises(ValueError, match="width=2 is smaller than the number of inputs m=3"):
        cs.sample_network_gradients(mlp, np.eye(3), width=2)
    with pytest.raises(TypeError, match="not shaped"):
        cs.simulate_gradients(cs.MLP(cs.LeakyReLU(0.2)), np.eye(2))
    r = cs.simulate_gradients(mlp, PAIR, paths=2048, steps=10)
    with pytest.raises(TypeError, match="2048 paths first"):
        r.mean(lambda g: g.G)


def test_the_power_of_an_even_part_is_its_second_moment() -> None:
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    for even in (Quadratic(0.7), Modulus(1.3)):
        squares = np.asarray(even.value(jnp.asarray(nodes))) ** 2
        assert float(even.power()) == pytest.approx(squares @ weights / weights.sum(), rel=1e-9)
