"""One input under smooth shaping: explosion, stationary law, and strong errors along given Brownian paths."""

import math

import numpy as np
import pytest
from reference import mlp as problems
from scipy import stats

import covsde as cs

PATHS = 4000


def brownian(steps: int, T: float, paths: int = PATHS, seed: int = 0) -> np.ndarray:
    increments = np.random.default_rng(seed).standard_normal((steps, paths)) * math.sqrt(T / steps)
    return np.concatenate([np.zeros((1, paths)), np.cumsum(increments, axis=0)])


@pytest.mark.parametrize(
    ("beta", "v0", "exact"),
    [(b, v, p) for b, row in problems.EXPLOSION_DIGITS.items() for v, p in zip((0.5, 1.0, 2.0), row, strict=True)],
)
def test_explosion_probabilities_are_those_of_dufresnes_law(beta: float, v0: float, exact: float) -> None:
    # sinh has ψ''(0) = 0 and ψ'''(0) = 1, so β = 1/a².
    activation = cs.ShapedSmooth("sinh", a=beta**-0.5)
    assert cs.explosion_probability(activation, v0) == pytest.approx(exact, abs=1e-9)
    # Along paths long enough for all but a few explosions: 4 standard errors.
    steps, T = 2000, 20.0
    paths = cs.logistic_paths(activation, v0, np.linspace(0, T, steps + 1), brownian(steps, T))
    share = np.mean(np.isfinite(paths.explosion_time))
    assert abs(share - exact) < 4 * math.sqrt(exact * (1 - exact) / PATHS)


@pytest.mark.parametrize(
    ("beta", "t", "exact"),
    [(1.0, 0.5, 0.027), (1.0, 1.0, 0.143), (1.0, 2.0, 0.237), (2.0, 0.25, 0.007), (2.0, 0.5, 0.117), (2.0, 1.0, 0.263)],
)
def test_explosion_times_along_paths_and_of_the_solver_agree(beta: float, t: float, exact: float) -> None:
    activation = cs.ShapedSmooth("sinh", a=beta**-0.5)
    # The quoted values are Monte Carlo of their own, ± 0.001; 4 standard errors of 20000 paths.
    paths = cs.logistic_paths(activation, 1.0, np.linspace(0, t, 401), brownian(400, t, 20_000, seed=1))
    error = math.sqrt(exact * (1 - exact) / 20_000)
    assert abs(np.mean(np.isfinite(paths.explosion_time)) - exact) < 4 * error + 1e-3
    run = cs.simulate(cs.MLP(activation, t), np.eye(1), paths=20_000, save_at=[0, 1], key=2)
    assert abs(run.failures["EXPLODED"] / run.paths - exact) < 4 * error + 1e-3


def test_variances_are_accurate_path_by_path_to_first_order() -> None:
    activation, T, finest = cs.ShapedSmooth("tanh", a=1.0), 1.0, 4096
    B = brownian(finest, T, 500)
    fine = cs.logistic_paths(activation, 1.0, np.linspace(0, T, finest + 1), B).V[-1]
    errors = []
    for steps in (16, 32, 64, 128):
        coarse = cs.logistic_paths(activation, 1.0, np.linspace(0, T, steps + 1), B[:: finest // steps]).V[-1]
        errors.append(math.sqrt(np.mean((coarse - fine) ** 2)))
    order = -np.polyfit(np.log([16, 32, 64, 128]), np.log(errors), 1)[0]
    assert order == pytest.approx(1.0, abs=0.1)
    assert errors[-1] < 4e-3


def test_explosion_times_are_accurate_path_by_path() -> None:
    activation, T, finest = cs.ShapedSmooth("sinh", a=2**-0.5), 1.0, 8192
    B = brownian(finest, T, 1000)
    fine = cs.logistic_paths(activation, 1.0, np.linspace(0, T, finest + 1), B).explosion_time
    errors = []
    for steps in (64, 256):
        coarse = cs.logistic_paths(activation, 1.0, np.linspace(0, T, steps + 1), B[:: finest // steps]).explosion_time
        both = np.isfinite(fine) & np.isfinite(coarse)
        assert both.sum() > 200
        assert np.mean(np.isfinite(fine) != np.isfinite(coarse)) < 0.02
        errors.append(np.mean(np.abs(fine[both] - coarse[both])))
    assert errors[1] < errors[0] / 3
    assert errors[1] < 3e-3


def test_the_linear_network_is_a_geometric_brownian_motion_exactly() -> None:
    B = brownian(3, 1.0, 5)
    t = np.linspace(0, 1, 4)
    flat = cs.ShapedSmooth("sin", a=1e4)  # β = -1e-8
    V = cs.logistic_paths(flat, 2.0, t, B).V
    np.testing.assert_allclose(V, 2 * np.exp(-t[:, None] + math.sqrt(2) * B), rtol=1e-6)


def test_euler_follows_the_pathwise_solution_at_strong_order_one_half_or_better() -> None:
    # d log V = (β(V-1) - 1) dt + √2 dB has additive noise, so Euler in log V is of strong order 1: an independent check
    # that the formula solves the equation.
    activation, T, finest = cs.ShapedSmooth("tanh", a=1.0), 1.0, 8192
    beta, B = -2.0, brownian(finest, T, 200)
    exact = cs.logistic_paths(activation, 1.5, np.linspace(0, T, finest + 1), B).V[-1]
    errors = []
    for steps in (64, 256, 1024):
        u, h = np.full(200, math.log(1.5)), T / steps
        dB = np.diff(B[:: finest // steps], axis=0)
        for k in range(steps):
            u = u + (beta * (np.exp(u) - 1) - 1) * h + math.sqrt(2) * dB[k]
        errors.append(np.mean(np.abs(np.exp(u) - exact)))
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.25)
    assert errors[1] / errors[2] == pytest.approx(4, rel=0.25)


def test_the_stationary_variance_of_tanh_is_gamma_of_shape_one_and_rate_two() -> None:
    law = cs.stationary_variance(cs.ShapedSmooth("tanh", a=1.0))
    assert law.mean() == pytest.approx(0.5)
    assert law.var() == pytest.approx(0.25)
    run = cs.simulate(cs.MLP(cs.ShapedSmooth("tanh"), 12.0), np.eye(1), paths=20_000, save_at=[0, 1], key=4)
    assert stats.kstest(run.V[-1, :, 0, 0], law.cdf).pvalue > 1e-3


@pytest.mark.parametrize("name", ["sin", "softplus", "silu"])
def test_weak_or_growing_activations_have_no_stationary_variance(name: str) -> None:
    with pytest.raises(ValueError, match="only beta < -1"):
        cs.stationary_variance(cs.ShapedSmooth(name))
    assert cs.explosion_probability(cs.ShapedSmooth("tanh"), 1.0) == 0.0


def test_bad_arguments_are_named() -> None:
    silu = cs.ShapedSmooth("silu")
    with pytest.raises(ValueError, match="v0 must be a positive variance"):
        cs.explosion_probability(silu, -1.0)
    with pytest.raises(ValueError, match="only the critical 1/2"):
        cs.explosion_probability(cs.ShapedSmooth("silu", exponent=0.8), 1.0)
    with pytest.raises(ValueError, match="activation must be a smooth activation"):
        cs.explosion_probability(cs.Identity(), 1.0)
    with pytest.raises(ValueError, match="t must hold increasing clock times"):
        cs.logistic_paths(silu, 1.0, [0.0, 0.0], np.zeros((2, 1)))
    with pytest.raises(ValueError, match="brownian must have shape"):
        cs.logistic_paths(silu, 1.0, [0.0, 1.0], np.zeros(2))
