"""Bayesian regression with a random network as prior: importance weights and the first order in depth/width."""

import dataclasses
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import covsde as cs

NOISE = 0.25
X = np.random.default_rng(0).normal(size=(4, 6))
V0 = cs.gram(X)


def lognormal_mean(f: Any, T: float) -> float:
    """E f(V_T) for one input of a linear network, V_T = exp(X), X ~ N(-T, 2T), by Gauss–Hermite quadrature."""
    x, w = np.polynomial.hermite_e.hermegauss(80)
    return float(w @ f(np.exp(-T + math.sqrt(2 * T) * x)) / w.sum())


def one_input(y: float, T: float) -> tuple[float, float, float]:
    """Log evidence, predictive mean and kernel for one observed input of a linear network, by quadrature."""

    def F(v: np.ndarray) -> np.ndarray:
        return np.exp(-(y**2) / (2 * (v + NOISE))) / np.sqrt(2 * np.pi * (v + NOISE))

    Z = lognormal_mean(F, T)
    mean = lognormal_mean(lambda v: F(v) * v * y / (v + NOISE), T) / Z
    return math.log(Z), mean, lognormal_mean(lambda v: F(v) * v, T) / Z


# --- first order ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("y", [0.3, 2.0])
def test_first_order_slopes_for_one_input_are_derivatives_of_the_exact_posterior(y: float) -> None:
    r = cs.first_order_posterior(cs.MLP(cs.Identity()), [[1.0]], [y], NOISE)
    zero = np.array([r.log_evidence, r.predictive_mean[0], r.kernel[0, 0]])
    h = 2e-4
    a, b, c = (np.array(one_input(y, k * h)) for k in (1, 2, 3))
    slopes = (-11 * zero + 18 * a - 9 * b + 2 * c) / (6 * h)
    expected = [r.log_evidence_slope, r.predictive_mean_slope[0], r.kernel_slope[0, 0]]
    np.testing.assert_allclose(slopes, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("activation", "outputs"),
    [(cs.Identity(), 1), (cs.ShapedReLU(1.0, -1.0), 1), (cs.ShapedSmooth(jnp.tanh), 2)],
    ids=["linear", "relu", "tanh, two outputs"],
)
def test_first_order_slopes_are_the_generator_applied_to_the_likelihood(activation: Any, outputs: int) -> None:
    # Second directional derivatives by automatic differentiation; no formula of the posterior enters.
    observed = [3, 0, 2]
    y = np.random.default_rng(1).normal(size=(3, outputs))
    index = jnp.ix_(jnp.array(observed), jnp.array(observed))
    mlp = cs.MLP(activation)
    drift = mlp.limit().drift
    v, eye = np.diag(V0), jnp.eye(3)
    b = np.array([[float(drift.rate(*map(jnp.asarray, (v[i], v[j], V0[i, j])))) for j in range(4)] for i in range(4)])

    def F(V: jax.Array) -> jax.Array:
        C = V[index] + NOISE * eye
        quadratic = jnp.sum(y * jnp.linalg.solve(C, jnp.asarray(y)))
        return jnp.exp(-0.5 * outputs * jnp.linalg.slogdet(C)[1] - 0.5 * quadratic)

    def mean(V: jax.Array) -> jax.Array:
        return V[:, jnp.array(observed)] @ jnp.linalg.solve(V[index] + NOISE * eye, jnp.asarray(y))

    L, at = np.linalg.cholesky(V0), jnp.asarray(V0)

    directions = []
    for i in range(4):
        for j in range(i + 1):
            S = np.zeros((4, 4))
            S[i, j] = S[j, i] = math.sqrt(2) if i == j else 1
            directions.append(L @ S @ L.T)

    def generator(f: Any) -> np.ndarray:
        def second(H: jax.Array) -> jax.Array:
            return jax.jvp(lambda V: jax.jvp(f, (V,), (H,))[1], (at,), (H,))[1]

        first = jax.jvp(f, (at,), (jnp.asarray(b),))[1]
        return np.asarray(first + 0.5 * jax.vmap(second)(jnp.asarray(directions)).sum(axis=0))

    F0 = float(F(at))
    slope = generator(F) / F0
    r = cs.first_order_posterior(mlp, V0, y, NOISE, observed=observed)
    assert r.log_evidence_slope == pytest.approx(float(slope), rel=1e-10)
    mean_slope = generator(lambda V: F(V) * mean(V)) / F0 - np.asarray(mean(at)) * slope
    np.testing.assert_allclose(r.predictive_mean_slope, mean_slope, rtol=1e-9, atol=1e-12)
    kernel_slope = generator(lambda V: F(V) * V) / F0 - V0 * slope
    np.testing.assert_allclose(r.kernel_slope, kernel_slope, rtol=1e-9, atol=1e-12)


def test_at_vanishing_noise_the_evidence_of_a_linear_network_depends_on_one_number() -> None:
    # T/4 [(Q-P)² + 2P - 4Q] with Q = yᵀV₀⁻¹y
    y = np.array([0.5, -1.0, 2.0, 0.3])
    Q = float(y @ np.linalg.solve(V0, y))
    r = cs.first_order_posterior(cs.MLP(cs.Identity()), V0, y, 1e-9)
    assert r.log_evidence_slope == pytest.approx(((Q - 4) ** 2 + 8 - 4 * Q) / 4, rel=1e-5)


def test_the_posterior_of_one_wide_layer_follows_the_first_order() -> None:
    # Against simulation with a control variate: F(V_T)/F(V₀) - 1 minus its linear part, whose mean is 0 for b = 0.
    y, T = np.array([0.5, -1.0, 1.5, 0.3]), 0.01
    mlp = cs.MLP(cs.Identity(), T)
    e = cs.sample_networks(mlp, V0, width=100, depth=1, draws=32_768, chunk=4096, save_at=[0, 1], key=1)
    A = np.linalg.inv(V0 + NOISE * np.eye(4))
    u, dV = A @ y, e.V[-1] - V0
    C = e.V[-1] + NOISE * np.eye(4)
    log_ratio = -0.5 * (np.linalg.slogdet(C)[1] + np.linalg.slogdet(A)[1])
    log_ratio += -0.5 * (np.linalg.solve(C, np.broadcast_to(y[:, None], (32_768, 4, 1)))[..., 0] @ y - y @ u)
    remainder = np.expm1(log_ratio) - 0.5 * np.einsum("pab,ab->p", dV, np.outer(u, u) - A)
    value, se = remainder.mean() / T, remainder.std() / math.sqrt(remainder.size) / T
    slope = cs.first_order_posterior(mlp, V0, y, NOISE).log_evidence_slope
    assert 4 * se < 0.1 * abs(slope)
    assert abs(value - slope) < 4 * se + 0.1 * abs(slope)


# --- importance weights --------------------------------------------------------------------------------------------


@functools.cache
def one_input_limit() -> cs.Ensemble:
    return cs.simulate(cs.MLP(cs.Identity(), 0.5), [[1.0]], paths=65_536, steps=1, save_at=[0, 1], key=2)


def test_importance_weights_reproduce_the_exact_posterior_of_one_input() -> None:
    T, y = 0.5, 1.7
    p = cs.posterior(one_input_limit(), [y], NOISE)
    estimates = (p.log_evidence, p.predictive_mean, p.kernel)
    for estimate, exact in zip(estimates, one_input(y, T), strict=True):
        assert abs(estimate.value.item() - exact) < 4 * estimate.standard_error.item()
        assert estimate.standard_error.item() < 0.02 * abs(exact)
    assert p.left_out == 0
    assert p.weights.sum() == pytest.approx(1)
    assert p.effective_sample_size == pytest.approx(1 / np.sum(p.weights**2))


def test_two_outputs_share_the_kernel() -> None:
    # One input, two outputs: the likelihood is the square of the Gaussian factor.
    T, y = 0.5, np.array([[1.7, -0.4]])

    def F(v: np.ndarray) -> np.ndarray:
        return np.exp(-np.sum(y**2) / (2 * (v + NOISE))) / (2 * np.pi * (v + NOISE))

    p = cs.posterior(one_input_limit(), y, NOISE)
    assert abs(p.log_evidence.value - math.log(lognormal_mean(F, T))) < 4 * p.log_evidence.standard_error
    shrink = lognormal_mean(lambda v: F(v) * v / (v + NOISE), T) / lognormal_mean(F, T)
    assert p.predictive_mean.value.shape == (1, 2)
    assert np.all(np.abs(p.predictive_mean.value - shrink * y) < 4 * p.predictive_mean.standard_error)


def test_without_randomness_the_posterior_is_gaussian_process_regression() -> None:
    V = np.repeat(V0[None, None], 200, axis=1)
    e = cs.Ensemble(np.array([1.0]), V, np.zeros(200), np.ones(200))
    y, observed = np.array([1.0, -0.5]), [3, 1]
    p = cs.posterior(e, y, NOISE, observed=observed)
    K = V0[np.ix_(observed, observed)] + NOISE * np.eye(2)
    np.testing.assert_allclose(p.predictive_mean.value, V0[:, observed] @ np.linalg.solve(K, y), rtol=1e-12)
    log_evidence = -0.5 * (y @ np.linalg.solve(K, y) + np.linalg.slogdet(2 * np.pi * K)[1])
    assert p.log_evidence.value == pytest.approx(log_evidence, rel=1e-12)
    assert p.effective_sample_size == pytest.approx(200)
    first = cs.first_order_posterior(cs.MLP(cs.Identity()), V0, y, NOISE, observed=observed)
    assert first.log_evidence == pytest.approx(log_evidence, rel=1e-12)
    np.testing.assert_allclose(first.predictive_mean, p.predictive_mean.value, rtol=1e-12)


def test_weights_survive_likelihoods_that_underflow() -> None:
    V = np.ones((1, 1000, 1, 1))
    V[0, :, 0, 0] = np.linspace(1, 2, 1000)
    e = cs.Ensemble(np.array([1.0]), V, np.zeros(1000), np.ones(1000))
    with pytest.warns(cs.EffectiveSampleSizeWarning, match="effective sample"):
        p = cs.posterior(e, [200.0], 1e-3)
    assert p.log_evidence.value < -9000
    assert np.isfinite(p.predictive_mean.value).all()
    assert p.effective_sample_size < 100


def test_stopped_paths_are_counted_and_carry_no_weight() -> None:
    V = np.ones((2, 300, 1, 1))
    V[1, :20] = np.inf
    status = np.r_[np.full(20, cs.PathStatus.EXPLODED), np.zeros(280)]
    e = cs.Ensemble(np.array([0.0, 1.0]), V, status, np.r_[np.full(20, 0.5), np.ones(280)])
    with pytest.warns(cs.FailedPathsWarning, match="20 of 300 paths had stopped"):
        p = cs.posterior(e, [1.0], NOISE)
    assert p.left_out == 20
    assert np.all(p.weights[:20] == 0)
    assert p.predictive_mean.value == pytest.approx([0.8])
    assert cs.posterior(dataclasses.replace(e), [1.0], NOISE, tau=0.0).left_out == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"targets": [[[1.0]]]}, "targets must hold finite numbers of shape"),
        ({"targets": [math.nan]}, "targets must hold finite numbers"),
        ({"targets": [1.0], "observed": [0, 1]}, "observed must be P = 1 different indices"),
        ({"targets": [1.0, 1.0], "observed": [0, 0]}, "different indices"),
        ({"targets": [1.0], "observed": [4]}, "indices of the m = 4 inputs"),
        ({"targets": [1.0], "noise_variance": 0.0}, "noise_variance must be positive"),
    ],
)
def test_bad_arguments_are_named(arguments: dict[str, Any], message: str) -> None:
    settings = {"noise_variance": NOISE} | arguments
    with pytest.raises(ValueError, match=message):
        cs.first_order_posterior(cs.MLP(cs.Identity()), V0, **settings)
    e = cs.Ensemble(np.array([1.0]), V0[None, None], np.zeros(1), np.ones(1))
    with pytest.raises(ValueError, match=message):
        cs.posterior(e, **settings)
