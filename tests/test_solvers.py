"""Solvers: the order at which each approaches the limit, the limit itself, and what is exact at every step size.

Weak errors of Strang are far below the noise of plain Monte Carlo, so the library's own step is fed with scrambled
Sobol points instead of pseudo-random normals; independent scramblings give the standard error.
"""

import functools
import math
from collections.abc import Callable
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import mlp as problems
from scipy import stats
from scipy.special import ndtri

from covsde import (
    MLP,
    Ensemble,
    EulerMaruyama,
    FailedPathsWarning,
    Identity,
    PathStatus,
    ShapedSmooth,
    Strang,
    Transformer,
    WishartStep,
    simulate,
)
from covsde.covariance.clock import UniformClock
from covsde.covariance.drifts import AbstractDrift, drift_of
from covsde.covariance.sde import NeuralCovarianceSDE
from covsde.numerics.gamma import chi
from covsde.solvers import layout as layouts
from covsde.solvers import noise as factors
from covsde.solvers.layout import AbstractLayout, DenseLayout, UnrolledLayout, layout_for
from covsde.solvers.noise import LONGEST
from covsde.solvers.terms import Elapsed

RHO_0 = problems.RHO_0
PIECE = 2**13  # paths that a compiled step moves at a time: one shape, so one compilation, for any number of points


def equicorrelated(m: int) -> np.ndarray:
    return np.full((m, m), RHO_0) + (1 - RHO_0) * np.eye(m)


# --- the library's step on prescribed normals ----------------------------------------------------------------------


@functools.cache
def compiled_step(layout: AbstractLayout) -> Callable[..., Any]:
    """Strang's step with its normals g (m(m+1)/2, paths) as an argument."""

    def step(drift: AbstractDrift, V: Any, g: Any, h: Any) -> Any:
        sde = NeuralCovarianceSDE(drift, UniformClock(1.0), UniformClock(1.0), math.inf)

        def folded(self: DenseLayout, key: Any, rows: int, paths: int, c: Any) -> Any:
            rows_of_normals, X = UnrolledLayout(self.m).normals(key, rows, paths, c)
            return rows_of_normals, (jnp.tril(self.unstack(jnp.stack(X))[0]),)

        with (
            mock.patch.object(layouts, "standard_normals", lambda key, rows, paths, dtype: g[:rows]),
            mock.patch.object(DenseLayout, "normals", folded),
        ):
            return Strang().advance(sde, layout, V, jax.random.key(0), Elapsed(h, h, h))[0]

    return jax.jit(step)


@functools.cache
def compiled_start(layout: AbstractLayout) -> Callable[..., Any]:
    """A state of `PIECE` equal matrices."""
    return jax.jit(lambda V0: layout.constant(V0, PIECE))


@functools.cache
def compiled_stack(layout: AbstractLayout) -> Callable[..., Any]:
    return jax.jit(layout.stack)


def sobol_normals(steps: int, rows: int, log2_points: int, scramble: int) -> np.ndarray:
    """N(0, 1) of shape (steps, rows, 2^log2_points); the first Sobol dimensions move the whole path."""
    points = stats.qmc.Sobol(steps * rows, rng=np.random.default_rng(scramble)).random_base2(log2_points)
    z = ndtri(np.clip(points, 1e-12, 1 - 1e-12)).T.reshape(steps, rows, -1)
    # The principal components of Brownian motion on the grid, as an orthogonal change of its increments.
    grid = np.arange(1, steps + 1)
    _, components = np.linalg.eigh(np.minimum(grid[:, None], grid[None, :]).astype(float))
    rotation = np.linalg.qr(np.diff(components[:, ::-1], axis=0, prepend=0))[0]
    return np.asarray(np.einsum("kj,jrp->krp", rotation, z))


def strang_means(
    activation: Any,
    V0: np.ndarray,
    T: float,
    steps: int,
    statistic: Callable[[np.ndarray], np.ndarray],
    replicates: int = 8,
    log2_points: int = 13,
) -> tuple[np.ndarray, np.ndarray]:
    """Means of a statistic (matrices (paths, m, m) -> (k, paths)) after `steps` steps, with standard errors."""
    m = V0.shape[0]
    layout, rows = layout_for(m), m * (m + 1) // 2
    drift = jax.tree.map(jnp.asarray, drift_of(activation))
    step, start, stack = compiled_step(layout), compiled_start(layout), compiled_stack(layout)
    h = np.asarray(T / steps)
    means = []
    for r in range(replicates):
        g = sobol_normals(steps, rows, log2_points, r)
        ends = []
        for first in range(0, g.shape[2], PIECE):
            V = start(V0)
            for k in range(steps):
                V = step(drift, V, g[k, :, first : first + PIECE], h)
            ends.append(np.asarray(stack(V)))
        lower = np.concatenate(ends, axis=1)
        W = np.empty((g.shape[2], m, m))
        i, j = np.tril_indices(m)
        W[:, i, j] = W[:, j, i] = lower.T
        means.append(statistic(W).mean(axis=1))
    table = np.stack(means)
    return table.mean(axis=0), table.std(axis=0, ddof=1) / math.sqrt(replicates)


def pair_statistics(V: np.ndarray, i: int = 0, j: int = 1) -> np.ndarray:
    rho = problems.correlations(V, i, j)
    return np.stack([rho, rho**2, np.arccos(rho)])


def exact_pair(problem: problems.Problem) -> np.ndarray:
    return np.array([problem.exact[name] for name in ("rho", "rho^2", "angle")])


# --- Strang --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("problem", problems.SHAPED_RELU_CORRELATION.values(), ids=lambda p: p.slug)
def test_strang_reaches_the_law_of_the_correlation(problem: problems.Problem) -> None:
    steps = max(2, round(8 * problem.depth_to_width * max(1, problem.activation.kappa / 4)))
    value, se = strang_means(
        problem.activation, problem.gram, problem.depth_to_width, steps, pair_statistics, log2_points=15
    )
    assert np.all(se < 4e-4)
    np.testing.assert_array_less(np.abs(value - exact_pair(problem)), 0.001 + 4 * se)


def test_strang_reaches_the_law_of_every_pair_of_four_inputs() -> None:
    problem = problems.SHAPED_RELU_CORRELATION[4, 1.0]
    pairs = [(i, j) for i in range(4) for j in range(i)]

    def all_pairs(V: np.ndarray) -> np.ndarray:
        return np.concatenate([pair_statistics(V, i, j) for i, j in pairs])

    value, se = strang_means(problem.activation, equicorrelated(4), 1.0, 8, all_pairs, log2_points=14)
    assert np.all(se < 1e-3)
    np.testing.assert_array_less(np.abs(value - np.tile(exact_pair(problem), len(pairs))), 0.0015 + 4 * se)


@pytest.mark.parametrize("kappa", [0, 4, 16])
def test_strang_has_weak_order_two_for_shaped_relu(kappa: int) -> None:
    problem = problems.SHAPED_RELU_CORRELATION[kappa, 1.0]
    exact = problem.exact["rho^2"]
    coarse, fine = (4, 8) if kappa == 16 else (2, 4)
    errors, ses = [], []
    for steps in (coarse, fine):
        value, se = strang_means(
            problem.activation, problem.gram, 1.0, steps, lambda V: pair_statistics(V)[1:2], log2_points=17
        )
        errors.append(float(value[0]) - exact)
        ses.append(float(se[0]))
    # Halving the step divides the error by 4, up to the next order in h; by 2 or 8 it would be another scheme.
    ratio = errors[0] / errors[1]
    spread = ratio * math.hypot(ses[0] / errors[0], ses[1] / errors[1])
    assert spread < 0.25
    assert abs(ratio - 4) < 0.8 + 4 * spread


@pytest.mark.parametrize("m", [3, 4])
def test_strang_has_weak_order_two_for_the_farthest_pair_of_more_inputs(m: int) -> None:
    # Without drift the only error is in the commutators of the noise, which the pair (1, m) feels most.
    exact = problems.SHAPED_RELU_CORRELATION[0, 1.0].exact["rho^2"]

    def farthest(V: np.ndarray) -> np.ndarray:
        return pair_statistics(V, 0, m - 1)[1:2]

    errors = {}
    for steps in (2, 4):
        value, se = strang_means(Identity(), equicorrelated(m), 1.0, steps, farthest, log2_points=15)
        errors[steps] = (float(value[0]) - exact, float(se[0]))
    # A first-order error would at best halve: |e(4)| ≥ |e(2)|/2.
    assert abs(errors[4][0]) < abs(errors[2][0]) / 2.8 + 4 * errors[4][1]
    assert abs(errors[4][0]) < 0.004


def log_and_correlation(V: np.ndarray) -> np.ndarray:
    return np.stack([np.log(V[:, 0, 0]), np.log(V[:, 1, 1]), problems.correlations(V)])


@pytest.mark.parametrize(
    "activation",
    [ShapedSmooth(jnp.tanh), ShapedSmooth(lambda x: x + 0.6 * x**2 / 2 - 0.4 * x**3 / 6, a=0.5)],
    ids=["tanh", "cubic"],
)
def test_strang_has_weak_order_two_for_smooth_shaping(activation: ShapedSmooth) -> None:
    V0 = np.asarray(problems.DRIFT_GRAM)
    values, ses = zip(
        *(strang_means(activation, V0, 0.5, steps, log_and_correlation, log2_points=16) for steps in (2, 4, 8)),
        strict=True,
    )
    first, second = values[0] - values[1], values[1] - values[2]
    noise = np.hypot(ses[0], ses[1]) + 4 * np.hypot(ses[1], ses[2])
    np.testing.assert_array_less(np.abs(first - 4 * second), 0.25 * np.abs(first) + 4 * noise)
    # The tolerance above would not tell order 2 from order 1 unless the differences stand out of the noise.
    assert np.max(np.abs(first) / noise) > 15


def test_one_input_of_a_tanh_network_is_the_logistic_diffusion() -> None:
    problem = problems.LOGISTIC_TANH[0]

    def moments(V: np.ndarray) -> np.ndarray:
        v = V[:, 0, 0]
        return np.stack([v, v**2, np.log(v)])

    value, se = strang_means(problem.activation, problem.gram, 1.0, 40, moments, log2_points=14)
    exact = np.array([problem.exact[name] for name in ("V^1", "V^2", "log")])
    np.testing.assert_array_less(np.abs(value - exact), 0.001 + 4 * se)


def test_one_input_of_a_deep_tanh_network_becomes_stationary() -> None:
    problem = problems.LOGISTIC_TANH[1]
    e = simulate(problem.architecture, problem.gram, paths=32768, steps=400, save_at=[0.0, 1.0], key=5)
    for name, exact in problem.exact.items():
        value, se = problems.estimate_of(name, e.V[-1])
        assert abs(value - exact) < 0.002 + 4 * se, name
    assert stats.kstest(e.V[-1, :, 0, 0], stats.gamma(1, scale=0.5).cdf).pvalue > 1e-3


# --- end to end through `simulate` ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def four_inputs() -> Ensemble:
    problem = problems.SHAPED_RELU_CORRELATION[4, 1.0]
    return simulate(
        problem.architecture, equicorrelated(4), paths=32 * 8192, steps=8, save_at=[0.0, 1.0], dtype=np.float32, key=11
    )


@pytest.mark.parametrize("pair", [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)])
def test_simulate_reaches_the_law_of_every_pair_in_eight_steps(four_inputs: Ensemble, pair: tuple[int, int]) -> None:
    for name, exact in problems.SHAPED_RELU_CORRELATION[4, 1.0].exact.items():
        value, se = problems.estimate_of(name, four_inputs.V[-1], *pair)
        assert abs(value - exact) < 0.0005 + 4 * se, name


def test_simulated_variances_are_log_normal(four_inputs: Ensemble) -> None:
    # V_T/V_0 ~ LogNormal(-T, 2T), whatever κ is.
    for i in range(4):
        logs = four_inputs.log_variance(i)[-1]
        for (value, se), exact in zip(
            (problems.estimate(logs), problems.variance_estimate(logs)), (-1, 2), strict=True
        ):
            assert abs(value - exact) < 0.003 + 4 * se
    # For the first input the law is exact at every step size.
    assert stats.kstest((four_inputs.log_variance(0)[-1] + 1) / math.sqrt(2), "norm").pvalue > 1e-3
    assert four_inputs.failures["total"] == 0


def test_no_path_of_six_inputs_leaves_the_cone() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((6, 4)) + 0.5  # six inputs of four dimensions: singular to begin with
    e = simulate(MLP(problems.shaped_relu(4), 1.0), x @ x.T / 4, paths=8192, steps=8, key=2)
    assert e.failures == {"total": 0}
    d = np.sqrt(np.diagonal(e.V, axis1=2, axis2=3))
    correlation = e.V / d[..., :, None] / d[..., None, :]
    assert np.min(np.linalg.eigvalsh(correlation[-1])) > -1e-12


# --- the noise, exact at every step size ----------------------------------------------------------------------------


@functools.cache
def compiled_factor(noise: factors.AbstractTriangularNoise, m: int) -> Callable[..., Any]:
    """20000 factors T from a key and the clock time of the step."""
    return jax.jit(lambda key, h: noise.factor(DenseLayout(m), key, h, 20_000)[0])


def one_noise_step(noise: factors.AbstractTriangularNoise, m: int, h: float, paths: int, key: int = 0) -> np.ndarray:
    """V = L T Tᵀ Lᵀ on `paths` paths, a multiple of 20000, from the equicorrelated V_0."""
    draw, keys = compiled_factor(noise, m), jax.random.split(jax.random.key(key), paths // 20_000)
    T = np.concatenate([np.asarray(draw(k, np.asarray(h))) for k in keys])
    LT = np.linalg.cholesky(equicorrelated(m)) @ np.tril(T)
    return np.asarray(LT @ np.swapaxes(LT, 1, 2))


@pytest.mark.parametrize("h", [0.05, 1.0])
@pytest.mark.parametrize("m", [2, 5])
def test_one_step_of_noise_has_the_exact_law_of_the_first_variance_and_of_the_determinant(m: int, h: float) -> None:
    V = one_noise_step(factors.SymmetricTriangular(), m, h, 20_000)
    assert stats.kstest((np.log(V[:, 0, 0]) + h) / math.sqrt(2 * h), "norm").pvalue > 1e-3
    exact = problems.log_determinant_moments_of_the_limit(h, tuple(map(tuple, equicorrelated(m).tolist())))
    z = (np.linalg.slogdet(V)[1] - exact["logdet"]) / math.sqrt(exact["var logdet"])
    assert stats.kstest(z, "norm").pvalue > 1e-3


@pytest.mark.parametrize("m", [2, 5])
@pytest.mark.parametrize("noise", [factors.SymmetricTriangular(), factors.Bartlett()], ids=lambda n: type(n).__name__)
def test_without_drift_the_covariance_is_a_martingale(noise: factors.AbstractTriangularNoise, m: int) -> None:
    paths = 60_000 if isinstance(noise, factors.Bartlett) else 200_000  # χ² draws are slow
    V = one_noise_step(noise, m, 0.2, paths, key=1)
    se = V.std(axis=0) / math.sqrt(V.shape[0])
    assert np.max(se) < 0.006
    np.testing.assert_array_less(np.abs(V.mean(axis=0) - equicorrelated(m)), 4 * se)


@pytest.mark.parametrize("noise", [factors.SymmetricTriangular(), factors.Bartlett()], ids=lambda n: type(n).__name__)
def test_the_covariance_of_a_small_step_is_sigma(noise: factors.AbstractTriangularNoise) -> None:
    # Σ^{αβ,γδ} = V^{αγ}V^{βδ} + V^{αδ}V^{βγ}
    m, h, paths = 3, 0.002, 100_000
    V0 = equicorrelated(m)
    dV = (one_noise_step(noise, m, h, paths, key=2) - V0).reshape(paths, -1) / math.sqrt(h)
    sigma = (np.einsum("ac,bd->abcd", V0, V0) + np.einsum("ad,bc->abcd", V0, V0)).reshape(9, 9)
    products = np.cov(dV.T)
    se = np.sqrt((sigma**2 + np.outer(np.diag(sigma), np.diag(sigma))) / paths)  # Gaussian to leading order
    np.testing.assert_array_less(np.abs(products - sigma), 0.01 + 4 * se)


@pytest.mark.parametrize("m", [2, 3])
def test_bartletts_factor_is_a_linear_layer_of_width_one_over_h(m: int) -> None:
    width = 7
    V = one_noise_step(factors.Bartlett(), m, 1 / width, 20_000, key=3)
    z = np.random.default_rng(0).standard_normal((20_000, m, width))
    layer = np.linalg.cholesky(equicorrelated(m)) @ z
    layer = layer @ np.swapaxes(layer, 1, 2) / width
    for f in (lambda W: W[:, 0, 0], lambda W: W[:, m - 1, 0], lambda W: np.linalg.det(W)):
        assert stats.ks_2samp(f(V), f(layer)).pvalue > 1e-3


@pytest.mark.parametrize("activation", [problems.shaped_relu(4), ShapedSmooth(jax.nn.silu)], ids=["relu", "smooth"])
@pytest.mark.parametrize("m", [3, 9])
def test_the_memory_layout_does_not_change_a_step(activation: Any, m: int) -> None:
    paths = 500
    drift = jax.tree.map(jnp.asarray, drift_of(activation))
    rng = np.random.default_rng(0)
    x = rng.standard_normal((m, m + 2, paths))
    lower = np.stack([np.mean(x[i] * x[j], axis=0) for i in range(m) for j in range(i + 1)])
    g = jnp.asarray(rng.standard_normal((m * (m + 1) // 2, paths)))
    steps = []
    for layout in (UnrolledLayout(m), DenseLayout(m)):
        V = compiled_step(layout)(drift, layout.unstack(jnp.asarray(lower)), g, jnp.asarray(0.1))
        steps.append(np.asarray(layout.stack(V)))
    np.testing.assert_allclose(steps[0], steps[1], rtol=1e-10, atol=1e-12)
    assert layout_for(8) == UnrolledLayout(8)
    assert layout_for(9) == DenseLayout(9)


# --- WishartStep ---------------------------------------------------------------------------------------------------


def test_the_wishart_step_has_weak_order_one() -> None:
    problem = problems.SHAPED_RELU_CORRELATION[4, 1.0]
    errors, ses = [], []
    for steps in (8, 16):
        e = simulate(
            problem.architecture,
            problem.gram,
            paths=60_000,
            steps=steps,
            save_at=[0.0, 1.0],
            solver=WishartStep(),
            dtype=np.float32,
            key=steps,
        )
        assert e.failures["total"] == 0
        value, se = problems.estimate_of("rho^2", e.V[-1])
        errors.append(value - problem.exact["rho^2"])
        ses.append(se)
    ratio = errors[0] / errors[1]
    spread = ratio * math.hypot(ses[0] / errors[0], ses[1] / errors[1])
    assert spread < 0.22
    assert abs(ratio - 2) < 0.1 + 4 * spread
    assert 0 < errors[1] < 0.025


def test_wishart_steps_without_drift_are_a_finite_linear_network() -> None:
    # Three steps over T = 0.3 are three layers of width 10.
    problem = problems.BY_SLUG["linear-second-moments-n10-d3"]
    e = simulate(
        problem.architecture, problem.gram, paths=100_000, steps=3, save_at=[0.0, 1.0], solver=WishartStep(), key=3
    )
    exact = dict(problem.exact) | problems.log_determinant_moments(10, 3, problems.PAIR)
    exact["log"], exact["var log"] = problems.log_chi_square_moments(10, 3)
    exact["angle"] = math.acos(RHO_0)
    for name, value_exact in exact.items():
        value, se = problems.estimate_of(name, e.V[-1])
        assert abs(value - value_exact) < 4 * se, name


def test_too_few_wishart_steps_are_refused() -> None:
    with pytest.raises(ValueError, match="width steps/T, which must exceed m - 1 = 3"):
        simulate(MLP(Identity(), 1.0), equicorrelated(4), paths=10, steps=3, solver=WishartStep())


def test_steps_outside_the_guarantee_of_strang_are_refused() -> None:
    with pytest.raises(ValueError, match="steps >= 8"):
        simulate(MLP(problems.shaped_relu(64), 1.0), problems.SHAPED_RELU_CORRELATION[1, 1.0].gram, paths=10, steps=7)


@pytest.mark.parametrize("m", [3, 9])
def test_steps_longer_than_the_noise_allows_are_refused_and_the_longest_has_its_law(m: int) -> None:
    T = 3 * LONGEST
    with pytest.raises(ValueError, match=r"steps=2 is too few for the noise .*: use steps >= 3\."):
        simulate(MLP(Identity(), T), equicorrelated(m), paths=10, steps=2)
    with pytest.raises(ValueError, match=r"steps=2 is too few for the noise .*: use steps >= 3\."):
        simulate(Transformer(1.0, math.inf, output_matrix=True, depth_to_width=T), equicorrelated(m), paths=10, steps=2)
    e = simulate(MLP(Identity(), T), equicorrelated(m), paths=2000, steps=3, key=5)
    assert e.failures["total"] == 0
    x = np.log(e.V[-1, :, 0, 0]) + T
    assert abs(x.mean()) < 4 * x.std() / math.sqrt(x.size)
    assert simulate(MLP(Identity(), 9.0), equicorrelated(2), paths=10, steps=1).failures["total"] == 0


@pytest.mark.parametrize("m", [2, 8, 20])
def test_variances_of_the_triangular_noise_have_their_generating_function(m: int) -> None:
    h = 0.7
    roots = np.asarray(factors._roots(jnp.asarray(h), m), np.float64)
    a, x = 2 * math.sinh(h / 2), 0.05 * np.exp(2j * np.pi * np.arange(64) / 64)
    function = 2 * (np.sqrt(1 + a * x / (1 - x)) - 1)
    coefficients = np.real(np.fft.fft(function)[:m] / 64) / 0.05 ** np.arange(m)
    scaled = roots**2 * np.exp(-np.arange(m) * h / 2)
    np.testing.assert_allclose(scaled[1:8], coefficients[1:8], rtol=1e-5)
    for d in range(2, m):
        lost = sum(scaled[k] * scaled[d - k] for k in range(1, d))
        assert scaled[d] + lost / 4 == pytest.approx(a, rel=1e-10)


# --- Euler–Maruyama --------------------------------------------------------------------------------------------------


def test_the_variances_of_a_step_of_euler_are_those_of_the_equation() -> None:
    e = simulate(MLP(Identity(), 0.01), np.eye(2), paths=20_000, steps=1, solver=EulerMaruyama(), key=6)
    V = e.V[-1]
    for i, j, expected in ((0, 0, 0.02), (1, 0, 0.01), (1, 1, 0.02)):
        assert V[:, i, j].var() == pytest.approx(expected, rel=0.05)


@pytest.fixture(scope="module")
def coarse_euler() -> Ensemble:
    return simulate(
        MLP(problems.shaped_relu(4), 1.0), equicorrelated(2), paths=4096, steps=10, solver=EulerMaruyama(), key=4
    )


def test_coarse_euler_paths_that_leave_the_cone_are_stopped_and_counted(coarse_euler: Ensemble) -> None:
    lost = coarse_euler.status == PathStatus.LOST_PSD
    assert 0.1 < lost.mean() < 0.9
    assert coarse_euler.failures == {"LOST_PSD": int(lost.sum()), "total": int(lost.sum())}
    stops = coarse_euler.stop_tau[lost]
    np.testing.assert_allclose(stops * 10, np.round(stops * 10), atol=1e-6)
    assert stops.max() < 1
    assert np.all(coarse_euler.stop_tau[~lost] == 1)
    # Up to its stop a path is a covariance; beyond, nothing is reported.
    alive = coarse_euler.alive
    assert np.all(np.isfinite(coarse_euler.V[alive]))
    assert np.all(np.isnan(coarse_euler.V[~alive]))
    before = coarse_euler.tau[:, None] < coarse_euler.stop_tau - 1e-6
    determinant = coarse_euler.V[..., 0, 0] * coarse_euler.V[..., 1, 1] - coarse_euler.V[..., 0, 1] ** 2
    assert np.all(determinant[before] > -1e-12)


def test_no_matrix_that_euler_reports_as_alive_has_left_the_cone(coarse_euler: Ensemble) -> None:
    assert coarse_euler.failures["LOST_PSD"] > 1000
    assert np.linalg.eigvalsh(coarse_euler.V[coarse_euler.alive]).min() > -1e-12
    assert np.isnan(coarse_euler.V[~coarse_euler.alive]).all()


def test_means_over_surviving_paths_warn(coarse_euler: Ensemble) -> None:
    with pytest.warns(FailedPathsWarning, match="survivors"):
        coarse_euler.mean(lambda V: V[..., 0, 1])


def test_fine_euler_approaches_the_limit() -> None:
    problem = problems.SHAPED_RELU_CORRELATION[4, 0.5]
    e = simulate(
        problem.architecture,
        problem.gram,
        paths=40_000,
        steps=200,
        save_at=[0.0, 1.0],
        solver=EulerMaruyama(),
        dtype=np.float32,
        key=6,
    )
    fine = e.status == PathStatus.FINE
    assert fine.mean() > 0.9
    for name, exact in problem.exact.items():
        value, se = problems.estimate_of(name, e.V[-1][fine])
        assert abs(value - exact) < 0.01 + 4 * se, name  # first order: ten steps miss E ρ² by 0.15


# --- explosion -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("beta", sorted(problems.EXPLOSION_DIGITS))
def test_the_explosion_probability_has_its_known_digits(beta: float) -> None:
    for variance, digits in zip((0.5, 1.0, 2.0), problems.EXPLOSION_DIGITS[beta], strict=True):
        assert problems.explosion_probability(beta, variance) == pytest.approx(digits, abs=1e-10)


@pytest.mark.parametrize("problem", problems.EXPLOSION, ids=lambda p: p.slug)
def test_the_probability_of_explosion_is_an_incomplete_gamma_function(problem: problems.Problem) -> None:
    assert problem.activation.beta == pytest.approx(problem.exact["beta"], rel=1e-12)  # type: ignore[attr-defined]
    e = simulate(problem.architecture, problem.gram, paths=16_384, steps=400, save_at=[0.0, 1.0], key=7)
    exploded = e.status == PathStatus.EXPLODED
    assert e.failures["total"] == exploded.sum()
    p = problem.exact["P(explosion)"]
    assert abs(exploded.mean() - p) < 3 * math.sqrt(p * (1 - p) / e.paths)
    assert np.all(np.isposinf(e.V[-1, exploded, 0, 0]))
    assert np.all(np.isfinite(e.V[-1, ~exploded]))


def test_quantiles_of_an_explosive_variance_match_its_pathwise_solution() -> None:
    # V_t = V_0 E_t / (1 - βV_0 ∫_0^t E_s ds),  E_s = exp(-(β+1)s + √2 B_s)
    beta, paths, steps = 0.75, 40_000, 500
    rng = np.random.default_rng(8)
    B, integral, E = np.zeros(paths), np.zeros(paths), np.ones(paths)
    for k in range(1, steps + 1):
        B += math.sqrt(1 / steps) * rng.standard_normal(paths)
        new = np.exp(-(beta + 1) * k / steps + math.sqrt(2) * B)
        integral += 0.5 * (E + new) / steps
        E = new
    room = 1 - beta * integral
    exact = np.where(room > 0, E / np.where(room > 0, room, 1), np.inf)
    e = simulate(MLP(ShapedSmooth(jax.nn.silu), 1.0), np.eye(1), paths=32_768, steps=20, save_at=[0.0, 1.0], key=9)
    share, reference = np.mean(e.status == PathStatus.EXPLODED), np.mean(np.isinf(exact))
    assert abs(share - reference) < 4 * math.sqrt(reference * (1 / paths + 1 / e.paths))
    for q in (0.1, 0.25, 0.5, 0.75, 0.85):
        level = np.quantile(exact, q)
        below = np.mean(e.V[-1, :, 0, 0] <= level)
        assert abs(below - q) < 4 * math.sqrt(q * (1 - q) * (1 / paths + 1 / e.paths)), q


@pytest.mark.parametrize(("slug", "name"), sorted(problems.QUOTED_DIGITS))
def test_closed_formulas_reproduce_their_known_digits(slug: str, name: str) -> None:
    assert problems.BY_SLUG[slug].exact[name] == pytest.approx(problems.QUOTED_DIGITS[slug, name], abs=2e-10)


@pytest.mark.parametrize("freedom", [0.6, 2.0, 89.5])
def test_lengths_of_gaussian_vectors_are_chi_distributed(freedom: float) -> None:
    x = np.asarray(chi(jax.random.key(0), jnp.asarray([[freedom], [3.0]]) * jnp.ones((1, 20000))))
    assert stats.kstest(x[0], stats.chi(freedom).cdf).pvalue > 1e-3
    assert stats.kstest(x[1], stats.chi(3.0).cdf).pvalue > 1e-3
    assert abs(np.corrcoef(x)[0, 1]) < 4 / math.sqrt(20000)
