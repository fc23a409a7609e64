"""The posterior of deep linear networks in one integral, against Monte Carlo, densities and known limits."""

import math
import warnings
from typing import Any

import numpy as np
import pytest

import covsde as cs

V0 = cs.gram(np.random.default_rng(0).normal(size=(4, 6)))
Y = np.array([0.5, -1.0, 0.8])
LINEAR = cs.MLP(cs.Identity(), 0.5)


def within(found: cs.Estimate, exact: Any, sigmas: float = 4.0) -> None:
    np.testing.assert_array_less(np.abs(found.value - exact), sigmas * found.standard_error + 1e-12)


@pytest.mark.parametrize("width", [None, 12], ids=["limit", "width 12"])
@pytest.mark.parametrize(
    ("repeated", "targets", "noise"),
    [(False, Y[:2], 0.0), (True, Y[:2], 0.2), (True, np.array([[1.0, -0.5], [0.6, 0.3]]), 0.2)],
    ids=["no noise", "one input twice", "two outputs"],
)
def test_the_integral_is_the_average_over_paths(width: Any, repeated: bool, targets: Any, noise: float) -> None:
    V = V0[np.ix_([0, 0, 1], [0, 0, 1])] if repeated else V0[:3, :3]
    exact = cs.linear_posterior(LINEAR, V, targets, noise, width=width)
    if width is None:
        e = cs.simulate(LINEAR, V, paths=100_000, steps=20, save_at=[0, 1], key=1)
    else:
        e = cs.sample_networks(LINEAR, V, width=width, draws=100_000, chunk=20_000, save_at=[0, 1], key=1)
    # The least noise that importance weights take moves these numbers by less than a tenth of their standard errors.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", cs.EffectiveSampleSizeWarning)  # the weights' tail; their mean is finite
        p = cs.posterior(e, targets, max(noise, 1e-8))
    within(p.log_evidence, exact.log_evidence)
    assert p.log_evidence.standard_error < 0.02
    free = slice(2, 3)  # known outputs have no error
    within(cs.Estimate(*(x[free] for x in p.predictive_mean)), exact.predictive_mean[free])
    within(p.kernel, exact.kernel)


def test_the_predictive_variance_is_that_of_the_predictive_density() -> None:
    # p(f | y) is the evidence of the data with f among them, over that of y.
    p = interpolated(Y[:2])
    mean, variance = p.predictive_mean[2], p.predictive_variance[2]
    # f - mean = √variance sinh x, whose tails are wide.
    x = np.linspace(-7, 7, 141)
    f = mean + math.sqrt(variance) * np.sinh(x)
    log_p = np.array([interpolated([*Y[:2], value]).log_evidence for value in f]) - p.log_evidence
    weight = np.exp(log_p) * math.sqrt(variance) * np.cosh(x) * (x[1] - x[0])
    assert weight.sum() == pytest.approx(1, rel=1e-6)
    assert weight @ f == pytest.approx(mean, abs=1e-6)
    assert weight @ (f - mean) ** 2 == pytest.approx(variance, rel=1e-4)


def interpolated(y: Any, **more: Any) -> cs.LinearPosterior:
    return cs.linear_posterior(LINEAR, V0[:3, :3], y, **more)


def test_without_depth_it_is_gaussian_process_regression() -> None:
    p = cs.linear_posterior(cs.MLP(cs.Identity(), 1e-7), V0, Y)
    K = V0[:3, :3]
    log_evidence = -0.5 * (Y @ np.linalg.solve(K, Y) + np.linalg.slogdet(2 * np.pi * K)[1])
    assert p.log_evidence == pytest.approx(log_evidence, abs=1e-5)
    rest = V0[3, 3] - V0[3, :3] @ np.linalg.solve(K, V0[:3, 3])
    np.testing.assert_allclose(p.predictive_variance, [0, 0, 0, rest], atol=1e-5)
    np.testing.assert_allclose(p.kernel, V0, atol=1e-4)


def test_its_slope_in_depth_is_that_of_the_first_order() -> None:
    # d log Z/dT = ¼[(Q - P)² + 2P - 4Q], and the kernel's slope V(uuᵀ - A)V.
    h = 1e-4
    first = cs.first_order_posterior(LINEAR, V0, Y, 1e-9)
    p = cs.linear_posterior(cs.MLP(cs.Identity(), h), V0, Y)
    assert (p.log_evidence - first.log_evidence) / h == pytest.approx(first.log_evidence_slope, rel=5e-3)
    np.testing.assert_allclose((p.kernel - V0) / h, first.kernel_slope, rtol=5e-3, atol=5e-3)


def test_networks_approach_the_limit_at_rate_one_over_width() -> None:
    limit = interpolated(Y)
    gaps = [interpolated(Y, width=n).log_evidence - limit.log_evidence for n in (8, 16, 32, 64)]
    ratios = np.divide(gaps[:-1], gaps[1:])
    assert np.all(np.diff(ratios) < 0)
    assert ratios[-1] == pytest.approx(2, rel=0.15)


def test_one_hidden_layer_of_one_input_is_a_known_integral() -> None:
    # V = χ²_n/n: E N(y; 0, V) is the density of a product of a normal and a chi variable.
    density = cs.network_output_density(cs.Identity(), [7], [0.9])
    p = cs.linear_posterior(LINEAR, [[1.0]], [0.9], width=7, depth=1)
    assert p.log_evidence == pytest.approx(math.log(density[0]), rel=1e-10)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mlp": cs.MLP(cs.ShapedReLU(1.0, -1.0))}, "use sequential_posterior"),
        ({"noise_variance": 0.1}, "rank one on the observed inputs"),
        ({"noise_variance": -0.1}, "noise_variance must be at least 0"),
        ({"targets": np.ones((2, 2))}, "targets must be of one output"),
        ({"V0": np.ones((3, 3))}, "positive definite on the observed inputs"),
        ({"width": 2}, "width=2 is too small"),
        ({"depth": 2}, "pass width too"),
    ],
)
def test_what_is_no_single_integral_is_refused(arguments: dict[str, Any], message: str) -> None:
    settings = {"mlp": LINEAR, "V0": V0[:3, :3], "targets": Y[:2]} | arguments
    with pytest.raises((ValueError, TypeError), match=message):
        cs.linear_posterior(**settings)
