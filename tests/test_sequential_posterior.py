"""The posterior at proportional depth and width by a particle filter: exact cases, and ranks of truths in it."""

import functools
import importlib.util
import math
import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import covsde as cs
from covsde.results.posterior import pareto_shape

V0 = cs.gram(np.random.default_rng(0).normal(size=(4, 6)))
PAIR = np.array([[1.0, 0.3], [0.3, 1.0]])
Y = np.array([0.5, -1.0, 0.8])
LINEAR, RELU = cs.MLP(cs.Identity(), 0.5), cs.MLP(cs.ShapedReLU(1.0, -1.0), 0.5)


def within(found: cs.Estimate, exact: Any, sigmas: float = 4.0) -> None:
    np.testing.assert_array_less(np.abs(found.value - exact), sigmas * found.standard_error + 1e-12)


# --- the filter -----------------------------------------------------------------------------------------------------


@functools.cache
def steered() -> cs.Posterior:
    return cs.sequential_posterior(LINEAR, V0, Y, 1e-8, paths=64_000, stages=16, key=1)


def test_the_filter_finds_the_evidence_of_deep_linear_networks() -> None:
    p, exact = steered(), cs.linear_posterior(LINEAR, V0, Y)
    assert 4 * p.log_evidence.standard_error < math.log(1.1)
    within(p.log_evidence, exact.log_evidence)
    within(cs.Estimate(*(x[3:] for x in p.predictive_mean)), exact.predictive_mean[3:])
    within(p.kernel, exact.kernel)
    np.testing.assert_allclose(p.predictive_mean.value[:3], Y, atol=1e-5)


def test_weights_and_covariances_belong_together() -> None:
    p = steered()
    assert p.V is not None
    assert p.V.shape == (64_000, 4, 4)
    assert (p.stages, p.replicates, p.left_out) == (16, 8, 0)
    np.testing.assert_allclose(np.einsum("p,pij->ij", p.weights, p.V), p.kernel.value, rtol=1e-10)
    assert p.effective_sample_size == pytest.approx(1 / np.sum(p.weights**2))
    assert 100 < p.families < p.effective_sample_size


def test_the_filter_agrees_with_importance_weights_where_those_are_good() -> None:
    e = cs.simulate(RELU, PAIR, paths=32_000, steps=10, save_at=[0, 1], key=2)
    for targets in ([1.2], [1.2, -0.4]):
        plain = cs.posterior(e, targets, 0.1)
        p = cs.sequential_posterior(RELU, PAIR, targets, 0.1, paths=16_000, stages=5, steps=10, key=3)
        for a, b in zip(
            (plain.log_evidence, plain.predictive_mean, plain.kernel),
            (p.log_evidence, p.predictive_mean, p.kernel),
            strict=True,
        ):
            error = np.hypot(a.standard_error, b.standard_error)
            assert np.all(np.abs(a.value - b.value) < 4 * error)
            assert np.all(error < 0.05)


def test_two_outputs_share_the_kernel() -> None:
    y = np.array([[1.2, -0.4]])
    p = cs.sequential_posterior(LINEAR, PAIR, y, 0.2, paths=16_000, stages=4, key=4)
    exact = cs.linear_posterior(LINEAR, PAIR, y, 0.2)
    within(p.log_evidence, exact.log_evidence)
    within(p.predictive_mean, exact.predictive_mean)
    within(p.kernel, exact.kernel)


def test_a_small_depth_moves_the_posterior_by_its_slope() -> None:
    # Data three times too large: the evidence gains tens of percent, of which a tenth may be of second order.
    T, y = 0.01, np.array([3.0, -2.5])
    mlp = cs.MLP(cs.ShapedReLU(1.0, -1.0), T)
    first = cs.first_order_posterior(mlp, PAIR, y, 0.1)
    p = cs.sequential_posterior(mlp, PAIR, y, 0.1, paths=16_000, stages=5, steps=10, key=5)
    for found, zero, slope in (
        (p.log_evidence, first.log_evidence, first.log_evidence_slope),
        (p.kernel, first.kernel, first.kernel_slope),
    ):
        change = T * np.asarray(slope)
        assert np.all(np.abs(found.value - zero - change) < 4 * found.standard_error + 0.15 * np.abs(change))
    assert T * first.log_evidence_slope > 8 * p.log_evidence.standard_error


def test_a_deterministic_limit_is_gaussian_process_regression() -> None:
    resnet = cs.ResNet("relu")
    p = cs.sequential_posterior(resnet, PAIR, [0.7], 0.1, stages=4)
    V = cs.simulate(resnet, PAIR).V[-1, 0]
    np.testing.assert_allclose(p.predictive_mean.value, V[:, 0] * 0.7 / (V[0, 0] + 0.1), rtol=1e-3)
    assert p.log_evidence.standard_error == 0
    assert p.weights.shape == (1,)


def test_particles_that_stop_are_counted_and_have_likelihood_zero() -> None:
    mlp = cs.MLP(cs.ShapedSmooth(jnp.expm1), 1.0)
    settings = {"paths": 16_000, "stages": 5, "key": 6}
    with pytest.warns(cs.FailedPathsWarning, match="stopped before the last layer"):
        p = cs.sequential_posterior(mlp, [[1.0]], [0.5], 0.2, **settings)
    assert p.left_out > 0
    e = cs.simulate(mlp, [[1.0]], paths=16_000, save_at=[0, 1], key=7)
    with pytest.warns(cs.FailedPathsWarning, match="conditional on survival"):
        plain = cs.posterior(e, [0.5], 0.2)
    survived = math.log(1 - plain.left_out / 16_000)
    error = math.hypot(float(p.log_evidence.standard_error), float(plain.log_evidence.standard_error), 0.01)
    assert abs(float(p.log_evidence.value) - float(plain.log_evidence.value) - survived) < 4 * error


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"noise_variance": 0.0}, "noise_variance must be positive"),
        ({"targets": [1.0, 1.0, 1.0]}, "P from 1 to the number of inputs"),
        ({"replicates": 1}, "replicates must be"),
        ({"paths": 10}, "paths must be"),
        ({"stages": 0}, "stages must be"),
        ({"stages": [0.5, 2.0]}, r"layer times in \[0, 1\]"),
    ],
)
def test_bad_arguments_of_the_filter_are_named(arguments: dict[str, Any], message: str) -> None:
    settings = {"architecture": RELU, "V0": PAIR, "targets": [1.0], "noise_variance": 0.1} | arguments
    with pytest.raises(ValueError, match=message):
        cs.sequential_posterior(**settings)


# --- are the weights, and is the posterior, right? ------------------------------------------------------------------


def test_the_pareto_shape_of_known_tails() -> None:
    if importlib.util.find_spec("arviz_stats") is None:
        assert math.isnan(pareto_shape(np.zeros(100)))
        return
    for k in (0.3, 0.9):
        weights = k * np.random.default_rng(1).exponential(size=100_000)  # the logarithms of Pareto variables
        assert pareto_shape(weights) == pytest.approx(k, abs=0.1)
    assert math.isnan(pareto_shape(np.zeros(100)))


def test_without_its_package_the_pareto_shape_is_not_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert math.isnan(pareto_shape(np.arange(100.0)))


def calibration(mlp: cs.MLP, draws: np.ndarray, V: np.ndarray, noise: float, paths: int, stages: int) -> np.ndarray:
    """Ranks of log det V, and of the first output without noise, in posteriors of data drawn from them."""
    rng, P, found = np.random.default_rng(8), V.shape[0], []
    for k, true in enumerate(draws):
        f = np.linalg.cholesky(true + 1e-12 * np.eye(P)) @ rng.normal(size=P)
        y = f + math.sqrt(noise) * rng.normal(size=P)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", cs.EffectiveSampleSizeWarning)  # a rank is one of few paths too
            p = cs.sequential_posterior(mlp, V, y, noise, paths=paths, stages=stages, key=k)
        assert p.V is not None
        B = np.linalg.solve(p.V + noise * np.eye(P), p.V[:, :, :1])[..., 0]
        variance = p.V[:, 0, 0] - np.einsum("pi,pi->p", p.V[:, :, 0], B)
        below = stats.norm.cdf((f[0] - B @ y) / np.sqrt(variance))
        found.append([p.weights @ below, p.weights @ (np.linalg.slogdet(p.V)[1] < np.linalg.slogdet(true)[1])])
    return np.asarray(found)


def test_truths_have_uniform_ranks_in_the_posterior() -> None:
    V = cs.gram(np.random.default_rng(9).normal(size=(8, 20)))
    mlp = cs.MLP(cs.ShapedReLU(0.0, -1.0), 0.5)
    draws = cs.sample_networks(mlp, V, width=200, draws=36, save_at=[0, 1], key=10).V[-1]
    ranks = calibration(mlp, draws, V, 0.05, paths=800, stages=16)
    for u in ranks.T:
        assert stats.kstest(u, "uniform").pvalue > 1e-3
        assert abs(u.mean() - 0.5) < 4 / math.sqrt(12 * u.size)


@pytest.mark.thorough
@pytest.mark.parametrize("activation", [cs.Identity(), cs.ShapedReLU(0.0, -1.0)], ids=["linear", "relu"])
@pytest.mark.parametrize("width", [None, 100, 400])
def test_truths_have_uniform_ranks_in_many_posteriors(activation: Any, width: int | None) -> None:
    V = cs.gram(np.random.default_rng(9).normal(size=(8, 20)))
    mlp = cs.MLP(activation, 0.5)
    if width is None:
        draws = cs.simulate(mlp, V, paths=300, steps=64, save_at=[0, 1], key=11).V[-1]
    else:
        draws = cs.sample_networks(mlp, V, width=width, draws=300, save_at=[0, 1], key=11).V[-1]
    ranks = calibration(mlp, draws, V, 0.05, paths=2000, stages=32)
    for u in ranks.T:
        assert stats.chisquare(np.histogram(u, np.linspace(0, 1, 11))[0]).pvalue > 1e-3
    jax.clear_caches()
