"""Unshaped (leaky) ReLU: moments of a layer, the linear SDE of w, networks at ρ → 1, and the first-order chain."""

import dataclasses
import functools
import itertools
import math
from pathlib import Path
from typing import Any

import diffrax
import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest
from reference import mlp as problems
from scipy import integrate, stats

import covsde as cs
from covsde.architectures.mlp.unshaped.equations import SingularSDE, UnshapedReLU
from covsde.architectures.mlp.unshaped.network import pair_layer
from covsde.architectures.mlp.unshaped.steps import LinearSplitting, PairState, run_chain, singular_terms

RELU = cs.MLP(cs.LeakyReLU(0.0), 1.0)
LEAKY = cs.MLP(cs.LeakyReLU(0.2), 0.5)
SLOPES = [(1.0, 0.0), (1.0, 0.2), (1.0, -0.5), (2.0, 0.3)]
K = math.sqrt(2) / (3 * math.pi)
PATHS = 32_768  # one chunk, so that most tests share a compilation

# Quantiles 5, 50, 95 of w; mean and variance of log(q/q₀), q₀ = 9π²/2.
FUNCTIONAL = {
    p.depth_to_width: (
        tuple(p.exact[f"w q{q}"] for q in (5, 50, 95)),
        p.exact["log(q/q0)"],
        p.exact["var log(q/q0)"],
    )
    for p in problems.UNSHAPED_W
}


def angular_moment(theta: float, f: object, degree: int) -> float:
    """E f(x, y) of a homogeneous f of even degree, by polar coordinates: a radial moment times an angular integral."""
    radial = 2 ** (degree / 2) * math.gamma(degree / 2 + 1)
    kinks = sorted(p % (2 * math.pi) for p in (math.pi / 2, -math.pi / 2, theta + math.pi / 2, theta - math.pi / 2))
    edges = [0.0, *kinks, 2 * math.pi]
    total = sum(
        integrate.quad(lambda a: f(math.cos(a), math.cos(a - theta)), lo, hi, epsabs=1e-13)[0]  # type: ignore[operator]
        for lo, hi in itertools.pairwise(edges)
        if hi > lo
    )
    return radial * total / (2 * math.pi)


def phi(slopes: tuple[float, float], x: float) -> float:
    return slopes[0] * max(x, 0) + slopes[1] * min(x, 0)


# --- moments of a layer --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("theta", [0.05, 0.7, 1.5, 2.9])
def test_quadrant_moments_are_gaussian_integrals(theta: float) -> None:
    def r(x: float) -> float:
        return max(x, 0)

    for q, a, b in ((problems.q11, 1, 1), (problems.q22, 2, 2), (problems.q31, 3, 1)):
        exact = angular_moment(theta, lambda x, y, a=a, b=b: r(x) ** a * r(y) ** b, a + b)
        assert float(q(jnp.asarray(theta))) == pytest.approx(exact, abs=1e-11)


@pytest.mark.parametrize("slopes", SLOPES)
@pytest.mark.parametrize("rho", [0.95, 0.3, -0.5, -0.99])
def test_one_layer_moves_the_correlation_as_the_delta_method_says(slopes: tuple[float, float], rho: float) -> None:
    # ρ' is a smooth function of three means of i.i.d. terms: its bias is half the trace of Hessian times covariance.
    theta, layer = math.acos(rho), UnshapedReLU(*slopes)
    c = 2 / (slopes[0] ** 2 + slopes[1] ** 2)

    def moment(i: int, j: int) -> float:
        return c ** ((i + j) / 2) * angular_moment(theta, lambda x, y: phi(slopes, x) ** i * phi(slopes, y) ** j, i + j)

    powers = ((2, 0), (0, 2), (1, 1))
    mean = jnp.array([moment(*p) for p in powers])
    covariance = np.array(
        [[moment(p[0] + s[0], p[1] + s[1]) - moment(*p) * moment(*s) for s in powers] for p in powers]
    )

    def correlation(z: jax.Array) -> jax.Array:
        return z[2] / jnp.sqrt(z[0] * z[1])

    gradient, hessian = np.asarray(jax.grad(correlation)(mean)), np.asarray(jax.hessian(correlation)(mean))
    eps = jnp.asarray(1 - rho)
    assert 1 - float(layer.mean_defect(eps)) == pytest.approx(float(mean[2]), abs=1e-11)
    assert float(layer.mu(eps)) == pytest.approx(0.5 * np.trace(hessian @ covariance), abs=1e-10)
    assert float(layer.sigma(eps)) ** 2 == pytest.approx(gradient @ covariance @ gradient, abs=1e-10)
    with_log_variance = gradient @ covariance[:, 0]
    assert float(layer.covariance_with_log_variance(eps)) == pytest.approx(with_log_variance, abs=1e-10)
    assert float(layer.M) == pytest.approx(moment(4, 0), abs=1e-11)


def test_one_layer_has_the_tabulated_constants() -> None:
    for slope, rho, mu, variance in (
        (0.0, 0.3, 0.06452, 0.61950),
        (0.0, 0.9, -0.12078, 0.05368),
        (0.2, 0.3, -0.15730, 0.76575),
        (0.2, -0.5, -0.13296, 0.31547),
    ):
        layer, eps = UnshapedReLU(1.0, slope), jnp.asarray(1 - rho)
        assert float(layer.mu(eps)) == pytest.approx(mu, abs=6e-6)
        assert float(layer.sigma(eps)) ** 2 == pytest.approx(variance, abs=6e-6)


def test_a_linear_layer_has_the_drift_and_noise_of_the_correlation_sde() -> None:
    rho = jnp.array([0.9, 0.0, -0.7])
    layer = UnshapedReLU(1.0, 1.0)
    np.testing.assert_allclose(layer.mu(1 - rho), -rho * (1 - rho**2) / 2, atol=1e-14)
    np.testing.assert_allclose(layer.sigma(1 - rho), 1 - rho**2, atol=1e-14)


@pytest.mark.parametrize("slopes", SLOPES)
@pytest.mark.parametrize("eps", [1e-16, 1e-10, 1e-4, 0.1, 0.13, 0.7])
def test_moments_keep_their_relative_precision_as_the_inputs_become_parallel(
    slopes: tuple[float, float], eps: float
) -> None:
    with mp.workdps(60):
        plus, minus = mp.mpf(slopes[0]), mp.mpf(slopes[1])
        rho = 1 - mp.mpf(eps)
        theta, c = mp.acos(rho), 2 / (plus**2 + minus**2)

        def q(t: mp.mpf) -> tuple[mp.mpf, mp.mpf, mp.mpf]:
            rest, s, cos = mp.pi - t, mp.sin(t), mp.cos(t)
            quartic = 3 * rest / 8 + mp.sin(2 * t) / 4 - mp.sin(4 * t) / 32
            return (
                (s + rest * cos) / (2 * mp.pi),
                (3 * s * cos + rest * (1 + 2 * cos**2)) / (2 * mp.pi),
                4 / mp.pi * (cos * quartic + s**5 / 4),
            )

        here, there = q(theta), q(mp.pi - theta)
        M = mp.mpf(3) / 2 * c**2 * (plus**4 + minus**4)
        kernel = c * ((plus**2 + minus**2) * here[0] - 2 * plus * minus * there[0])
        M22 = c**2 * ((plus**4 + minus**4) * here[1] + 2 * plus**2 * minus**2 * there[1])
        M31 = c**2 * ((plus**4 + minus**4) * here[2] - (plus**3 * minus + plus * minus**3) * there[2])
        exact = (
            1 - kernel,
            kernel / 4 * (3 * M + M22) - M31,
            mp.sqrt(kernel**2 / 2 * (M + M22) + M22 - 2 * kernel * M31),
        )
    layer, e = UnshapedReLU(*slopes), jnp.asarray(eps)
    for value, reference in zip((layer.mean_defect(e), layer.mu(e), layer.sigma(e)), exact, strict=True):
        assert float(value) == pytest.approx(float(reference), rel=1e-12, abs=0)


# --- the limit -----------------------------------------------------------------------------------------------------


def test_w_of_the_limit_has_the_law_of_its_exponential_functional() -> None:
    e = cs.simulate_unshaped(RELU, paths=100_000, save_at=[0, 0.25, 0.5, 1], key=1)
    assert e.failures == {"total": 0}
    value, se = e.quantile(e.w, [0.05, 0.5, 0.95])
    mean, mean_se = e.mean(e.log_q)
    variance, variance_se = e.variance(e.log_q)
    for k, t in enumerate(e.t[1:], start=1):
        quantiles, log_mean, log_variance = FUNCTIONAL[float(t)]
        # The tabulated values come from as many samples as these, and are rounded.
        assert np.all(np.abs(value[k] - quantiles) < 4 * math.sqrt(2) * se[k] + 1e-4)
        assert abs(mean[k] - math.log(9 * math.pi**2 / 2) - log_mean) < 4 * math.sqrt(2) * mean_se[k] + 1e-3
        assert abs(variance[k] - log_variance) < 4 * math.sqrt(2) * variance_se[k] + 1e-3


def test_w_of_the_limit_is_the_integral_of_an_exponential_brownian_motion() -> None:
    t, steps, paths = 1.0, 400, 10_000
    rng = np.random.default_rng(0)
    B = np.cumsum(rng.standard_normal((steps, paths)) * math.sqrt(t / steps), axis=0)
    s = np.linspace(0, t, steps + 1)[:, None]
    w = K * integrate.trapezoid(np.exp(s + math.sqrt(2) * np.vstack([np.zeros(paths), B])), s, axis=0)
    e = cs.simulate_unshaped(RELU, paths=PATHS, save_at=[0, 1], key=2)
    assert stats.ks_2samp(w, e.w[-1]).pvalue > 1e-3


@pytest.mark.parametrize("steps", [1, 16])
@pytest.mark.parametrize("slope", [0.0, 0.2])
def test_the_mean_of_w_is_exact_at_every_step_size(steps: int, slope: float) -> None:
    # E w = w₀ e^{Mt/3} + λk (e^{Mt/3} - 1)/(M/3)
    M, lam = 6 * (1 + slope**4) / (1 + slope**2) ** 2, (1 - slope) ** 2 / (1 + slope**2)
    mlp = cs.MLP(cs.LeakyReLU(slope), 0.5)
    for start in ({}, {"rho0": 0.3, "width": 20}):
        e = cs.simulate_unshaped(mlp, **start, paths=100_000, steps=steps, save_at=[0, 1], key=3)
        w0 = 1 / (20 * math.sqrt(0.7)) if start else 0.0
        exact = w0 * math.exp(M / 6) + lam * K * math.expm1(M / 6) / (M / 3)
        value, se = e.mean(e.w)
        assert value[0] == pytest.approx(w0, abs=1e-15)
        assert abs(value[1] - exact) < 4 * se[1]
        assert se[1] < 0.02 * exact


def test_the_second_moment_of_w_follows_its_moment_equation() -> None:
    # d/dt E w² = 2k E w + 6 E w² for ReLU
    t = 0.5
    e = cs.simulate_unshaped(cs.MLP(cs.LeakyReLU(), t), paths=200_000, save_at=[0, 1], key=4)
    exact = K**2 * ((math.exp(6 * t) - math.exp(2 * t)) / 4 - math.expm1(6 * t) / 6)
    value, se = e.mean(e.w**2)
    assert abs(value[1] - exact) < 4 * se[1]
    assert se[1] < 0.03 * exact


def test_the_log_variance_is_gaussian_with_rate_m_minus_1_and_covaries_with_q() -> None:
    for mlp in (RELU, LEAKY):
        slope, T = mlp.activation.negative_slope, mlp.depth_to_width
        M = 6 * (1 + slope**4) / (1 + slope**2) ** 2
        e = cs.simulate_unshaped(mlp, paths=PATHS, steps=64, save_at=np.linspace(0, 1, 65), key=5)
        law = stats.norm(-(M - 1) / 2 * T, math.sqrt((M - 1) * T))
        assert stats.kstest(e.log_variance[-1], law.cdf).pvalue > 1e-3
        # The bracket over τ in [1/2, 1], where each step of log q is small.
        increments = np.diff(e.log_q[32:], axis=0) * np.diff(e.log_variance[32:], axis=0)
        bracket = increments.sum(axis=0)
        assert bracket.mean() == pytest.approx(-2 * M / 3 * T / 2, rel=0.03)


def test_q_starts_from_its_limit_and_diffuses_as_predicted_at_small_times() -> None:
    e = cs.simulate_unshaped(cs.MLP(cs.LeakyReLU(0.2), 0.02), paths=100_000, save_at=[0, 1], key=6)
    lam, M = 0.8**2 / 1.04, 6 * 1.0016 / 1.04**2
    np.testing.assert_allclose(e.q[0], 9 * math.pi**2 / (2 * lam**2))
    # log(q/q₀) has variance (4/9)M t to first order: 8t/3 for ReLU.
    value, se = e.variance(e.log_q)
    assert abs(value[1] - 4 * M / 9 * 0.02) < 4 * se[1] + 0.02 * value[1]


class GivenPath(diffrax.AbstractPath):
    """Brownian motion from a table of its values at multiples of 1/64."""

    table: jax.Array
    t0: float = 0.0
    t1: float = 1.0

    def evaluate(self, t0: jax.Array, t1: jax.Array | None = None, left: bool = True) -> jax.Array:
        first, last = (jnp.round(jnp.asarray(t) * 64).astype(int) for t in (t0, t1))
        return self.table[last] - self.table[first]


@jax.jit
def one_step(table: jax.Array, w: jax.Array, start: Any, end: Any) -> jax.Array:
    sde = jax.tree.map(jnp.asarray, SingularSDE(1.0, 6.0, 1.0))
    y = PairState(w, jnp.zeros_like(w))
    terms = singular_terms(sde, GivenPath(table))
    return LinearSplitting().step(terms, jnp.asarray(start), jnp.asarray(end), y, None, None, False)[0].w


def test_the_splitting_has_weak_order_two() -> None:
    # A step is affine in w; Gauss–Hermite over its increment gives its exact effect on E w and E w².
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    weights = weights / weights.sum()
    exact = K**2 * ((math.exp(6) - math.exp(2)) / 4 - math.expm1(6) / 6)
    errors = []
    for count in (4, 8, 16, 32):
        h = 1 / count
        table = jnp.stack([jnp.zeros((2, 60)), jnp.asarray(np.stack([nodes, 0 * nodes]) * math.sqrt(h))])
        table = jnp.concatenate([table[:1], jnp.repeat(table[1:], 64, axis=0)])
        rest = np.asarray(one_step(table, jnp.zeros(60), 0.0, h))
        slope = np.asarray(one_step(table, jnp.ones(60), 0.0, h)) - rest
        first = second = 0.0
        for _ in range(count):
            first, second = (
                weights @ (slope * first + rest),
                weights @ (slope**2 * second + 2 * slope * rest * first + rest**2),
            )
        assert first == pytest.approx(K / 2 * math.expm1(2), rel=1e-12)
        errors.append(abs(second - exact))
    orders = -np.diff(np.log2(errors))
    np.testing.assert_allclose(orders[1:], 2, atol=0.05)


def test_the_splitting_has_strong_order_one() -> None:
    paths = 2000
    steps = np.random.default_rng(7).standard_normal((64, 2, paths)) / 8
    table = jnp.asarray(np.concatenate([np.zeros((1, 2, paths)), np.cumsum(steps, axis=0)]))
    # One Brownian motion for all step sizes.
    ends = []
    for count in (4, 8, 16, 32, 64):
        w = jnp.zeros(paths)
        for k in range(count):
            w = one_step(table, w, k / count, (k + 1) / count)
        ends.append(np.log(np.asarray(w)))
    gaps = [np.sqrt(np.mean((a - b) ** 2)) for a, b in itertools.pairwise(ends)]
    np.testing.assert_allclose(-np.diff(np.log2(gaps)), 1, atol=0.15)


def test_plain_euler_from_diffrax_solves_the_same_equation() -> None:
    e = cs.simulate_unshaped(RELU, paths=20_000, save_at=[0, 1], steps=200, solver=diffrax.Euler(), key=8)
    f = cs.simulate_unshaped(RELU, paths=PATHS, save_at=[0, 1], key=9)
    assert stats.ks_2samp(e.w[-1], f.w[-1]).pvalue > 1e-3


# --- networks ------------------------------------------------------------------------------------------------------


@functools.cache
def layer_of(plus: float, minus: float) -> Any:
    return jax.jit(lambda eps, g: pair_layer(eps, g, plus, minus))


@pytest.mark.parametrize("slopes", [(1.0, 0.0), (1.0, 0.2)])
@pytest.mark.parametrize("eps", [1e-20, 1e-12, 1e-3, 0.7, 1.8])
def test_a_layer_computes_the_new_angle_to_relative_precision(slopes: tuple[float, float], eps: float) -> None:
    g = np.random.default_rng(1).standard_normal((2, 5, 12))
    after, _, _, _ = layer_of(*slopes)(jnp.full(5, eps), jnp.asarray(g))
    with mp.workdps(60):
        e = mp.mpf(eps)
        for draw in range(5):
            x = [mp.mpf(v) for v in g[0, draw]]
            y = [(1 - e) * a + mp.sqrt(e * (2 - e)) * mp.mpf(b) for a, b in zip(x, g[1, draw], strict=True)]
            f, h = ([slopes[0] * max(z, 0) + slopes[1] * min(z, 0) for z in v] for v in (x, y))
            dot = mp.fsum(a * b for a, b in zip(f, h, strict=True))
            rho = dot / mp.sqrt(mp.fsum(a * a for a in f) * mp.fsum(b * b for b in h))
            assert float(after[draw]) == pytest.approx(float(1 - rho), rel=1e-12, abs=0)


@pytest.mark.parametrize("slope", [0.0, 0.2])
def test_pairs_have_the_law_of_the_gram_process(slope: float) -> None:
    mlp = cs.MLP(cs.LeakyReLU(slope), 0.5)
    pairs = cs.sample_unshaped_networks(mlp, -0.4, width=20, draws=5000, save_at=[0, 0.2, 1], key=1)
    V0 = np.array([[1.0, -0.4], [-0.4, 1.0]])
    grams = cs.sample_networks(mlp, V0, width=20, draws=5000, save_at=[0, 0.2, 1], key=2)
    np.testing.assert_array_equal(pairs.tau, grams.tau)
    for k in (1, 2):
        fine = grams.V[k, :, 0, 0] > 0
        assert stats.ks_2samp(np.log(pairs.one_minus_rho[k]), np.log1p(-grams.correlation(0, 1)[k])).pvalue > 1e-3
        assert stats.ks_2samp(pairs.log_variance[k], grams.log_variance(0)[k, fine]).pvalue > 1e-3
        # And jointly: the sum has the right law only if the dependence is right.
        both = pairs.log_variance[k] + np.log(pairs.one_minus_rho[k])
        assert stats.ks_2samp(both, grams.log_variance(0)[k] + np.log1p(-grams.correlation(0, 1)[k])).pvalue > 1e-3


def test_the_angle_through_linear_layers_is_a_martingale() -> None:
    e = cs.sample_unshaped_networks(cs.MLP(cs.LeakyReLU(1.0), 1.0), 0.3, width=10, draws=20_000, key=3)
    angle = 2 * np.arcsin(np.sqrt(e.one_minus_rho / 2))
    value, se = e.mean(angle)
    assert np.all(np.abs(value[1:] - math.acos(0.3)) < 4 * se[1:])


def test_almost_parallel_inputs_contract_at_a_rate_that_does_not_depend_on_how_close_they_are() -> None:
    key = jax.random.key(4)
    changes = []
    for eps in (1e-12, 1e-20):
        state = jnp.full(50, eps)
        for index in range(10):
            g = jax.random.normal(jax.random.fold_in(key, index), (2, 50, 20))
            state, _, dead, parallel = layer_of(1.0, 0.0)(state, g)
            assert not bool(jnp.any(dead | parallel))
        changes.append(np.asarray(state) / eps)
    np.testing.assert_allclose(changes[0], changes[1], rtol=1e-4)


def test_one_layer_dies_or_makes_inputs_parallel_with_the_exact_probabilities() -> None:
    n, draws, rho = 4, 100_000, 0.3
    e = cs.sample_unshaped_networks(RELU, rho, width=n, depth=1, draws=draws, key=5)
    both = (math.pi - math.acos(rho)) / (2 * math.pi)
    dead = 2 * 0.5**n - both**n
    parallel = n * both * both ** (n - 1)
    for status, p in ((cs.PathStatus.DEAD, dead), (cs.PathStatus.PARALLEL, parallel)):
        share = e.failures[status.name] / draws
        assert abs(share - p) < 4 * math.sqrt(p * (1 - p) / draws)
    stopped = e.status == cs.PathStatus.PARALLEL
    assert np.all(np.isposinf(e.w[-1, stopped]))
    assert np.all(e.q[-1, stopped] == 0)
    assert np.all(np.isnan(e.w[-1, e.status == cs.PathStatus.DEAD]))
    with pytest.warns(cs.FailedPathsWarning, match="had stopped"):
        assert np.isfinite(e.mean(e.w).value[-1])


def test_dead_networks_are_counted_over_depth() -> None:
    n, d, draws = 6, 8, 20_000
    # Antiparallel inputs: in the first layer either may die; afterwards the first input alone has the known law.
    e = cs.sample_unshaped_networks(RELU, 0.5, width=n, depth=d, draws=draws, key=6)
    alone = 1 - (1 - 2.0**-n) ** d
    share = e.failures["DEAD"] / draws
    # At least one of two dies more often than a given one, and less often than twice that.
    assert alone < share + e.failures["PARALLEL"] / draws
    assert share < 2 * alone


@pytest.mark.parametrize("slope", [0.0, 0.2])
def test_networks_approach_the_limit_in_w(slope: float) -> None:
    mlp = cs.MLP(cs.LeakyReLU(slope), 0.25)
    sde = SingularSDE((1 - slope) ** 2 / (1 + slope**2), 6 * (1 + slope**4) / (1 + slope**2) ** 2, 0.25)
    t = jnp.asarray(0.25)
    plain, started = [], []
    for n, draws in ((50, 4000), (200, 1200)):
        e = cs.sample_unshaped_networks(mlp, 0.3, width=n, draws=draws, save_at=[0, 1], key=n)
        value, se = e.mean(e.w)
        plain.append(value[-1] - float(sde.mean(t)))
        started.append(value[-1] - float(sde.mean(t, 1 / (n * math.sqrt(0.7)))))
        assert se[-1] < 0.3 * plain[-1]
    # O(log n / n): at least a factor 2.8 for four times the width; and w₀ takes up most of it.
    assert plain[1] < plain[0] / 2.8
    assert all(abs(s) < 0.4 * p for s, p in zip(started, plain, strict=True))


def test_networks_have_the_bracket_of_log_q_and_log_variance() -> None:
    n = 100
    e = cs.sample_unshaped_networks(
        cs.MLP(cs.LeakyReLU(), 0.5), 0.3, width=n, draws=2000, save_at=np.linspace(0, 1, n // 2 + 1), key=7
    )
    late = slice(n // 4, None)
    dq, dV = np.diff(e.log_q[late], axis=0), np.diff(e.log_variance[late], axis=0)
    per_path = np.sum((dq - dq.mean(axis=1, keepdims=True)) * (dV - dV.mean(axis=1, keepdims=True)), axis=0) / 0.25
    value, se = per_path.mean(), per_path.std() / math.sqrt(per_path.size)
    assert value == pytest.approx(-4, rel=0.08)
    assert 4 * se < 0.08 * 4


# --- the chain -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rho", [0.3, 0.97])
def test_a_step_of_the_chain_has_the_moments_of_a_layer(rho: float) -> None:
    n, draws = 400, 10_000
    settings = {"width": n, "depth": 1, "save_at": [0, 1]}
    network = cs.sample_unshaped_networks(RELU, rho, draws=draws, key=1, **settings)
    chain = cs.first_order_chain(RELU, rho, paths=200_000, key=2, **settings)
    for statistic in (
        lambda e: e.one_minus_rho[-1],
        lambda e: e.log_variance[-1],
        lambda e: (e.one_minus_rho[-1] - (1 - rho)) ** 2 * n,
        lambda e: (e.one_minus_rho[-1] - np.mean(e.one_minus_rho[-1])) * e.log_variance[-1] * n,
    ):
        a, b = statistic(network), statistic(chain)
        error = math.hypot(a.std() / math.sqrt(a.size), b.std() / math.sqrt(b.size))
        # The next order of the expansion is 1/n beside 1.
        assert abs(a.mean() - b.mean()) < 4 * error + 4 / n * abs(b.mean())


def test_the_chain_of_nearly_parallel_inputs_survives() -> None:
    # The relative step does not depend on ε, so neither do the ratios, and nothing is lost to rounding.
    layer = jax.tree.map(jnp.asarray, UnshapedReLU(1.0, 0.0))
    runs = [
        run_chain(layer, jnp.asarray(eps), jax.random.key(1), width=1000, depth=20, paths=100, layers=(20,))
        for eps in (1e-14, 1e-26)
    ]
    (first, lived), (second, _) = runs
    assert np.all(np.asarray(lived) == 20)
    np.testing.assert_allclose(first[0, 0] / 1e-14, second[0, 0] / 1e-26, rtol=1e-5)


def test_chains_that_leave_the_interval_are_counted_and_marked() -> None:
    e = cs.first_order_chain(RELU, 0.3, width=20, paths=2000, key=3)
    lost = e.status == cs.PathStatus.LOST_PSD
    assert 0 < e.failures["LOST_PSD"] == lost.sum() < 2000
    assert np.all(np.isnan(e.w[-1, lost]))
    assert np.all(np.isfinite(e.w[:, ~lost]))
    assert np.all((e.stop_tau[lost] >= 0) & (e.stop_tau[lost] < 1))
    with pytest.warns(cs.FailedPathsWarning, match="have no value"):
        e.quantile(e.w, 0.5)


def test_the_chain_follows_networks_where_the_width_is_large() -> None:
    settings = {"width": 200, "save_at": [0, 1], "key": 4}
    mlp = cs.MLP(cs.LeakyReLU(0.2), 0.25)
    network = cs.sample_unshaped_networks(mlp, 0.3, draws=1500, **settings)
    chain = cs.first_order_chain(mlp, 0.3, paths=50_000, **settings)
    a, se = network.mean(network.w)
    b, _ = chain.mean(chain.w)
    assert abs(a[-1] - b[-1]) < 4 * se[-1] + 0.03 * b[-1]
    # The norm alone: log V has mean -(M-1)t/2 and variance (M-1)t.
    rate = 6 * 1.0016 / 1.04**2 - 1
    mean, mean_se = chain.mean(chain.log_variance)
    assert abs(mean[-1] + rate * 0.25 / 2) < 4 * mean_se[-1]
    variance, variance_se = chain.variance(chain.log_variance)
    assert abs(variance[-1] - rate * 0.25) < 4 * variance_se[-1]


# --- the front doors -----------------------------------------------------------------------------------------------


def test_results_do_not_depend_on_how_many_paths_are_asked_for() -> None:
    a = cs.simulate_unshaped(RELU, paths=PATHS + 50, save_at=[0, 1], key=5)
    b = cs.simulate_unshaped(RELU, paths=PATHS + 300, save_at=[0, 1], key=5)
    np.testing.assert_array_equal(a.w, b.w[:, : PATHS + 50])
    settings = {"chunk": 100, "save_at": [0, 1], "key": 5}
    c = cs.sample_unshaped_networks(RELU, 0.3, width=10, draws=250, **settings)
    d = cs.sample_unshaped_networks(RELU, 0.3, width=10, draws=300, **settings)
    np.testing.assert_array_equal(c.w, d.w[:, :250])


def test_saved_ensembles_read_back(tmp_path: Path) -> None:
    e = two_paths()
    e.save(tmp_path / "e.npz")
    back = cs.UnshapedEnsemble.load(tmp_path / "e.npz")
    for name in ("tau", "w", "log_variance", "status", "stop_tau"):
        np.testing.assert_array_equal(getattr(back, name), getattr(e, name))
    assert back.metadata == e.metadata
    assert repr(back).startswith("UnshapedEnsemble(ensemble, 2 paths, 2 times, 0 failed)")
    with pytest.raises(ValueError, match="is not an ensemble"):
        cs.Ensemble.load(tmp_path / "e.npz")


def two_paths() -> cs.UnshapedEnsemble:
    tau, ones = np.array([0.0, 1.0]), np.ones((2, 2))
    return cs.UnshapedEnsemble(tau, ones, ones, np.zeros(2), np.ones(2), {"clock": 1.0})


def test_shaped_simulation_refuses_and_points_here() -> None:
    with pytest.raises(TypeError, match="simulate_unshaped"):
        cs.simulate(RELU, np.eye(2))


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda: cs.simulate_unshaped(cs.MLP(cs.ShapedReLU(0.0, -1.0))), TypeError, "not an unshaped"),
        (lambda: cs.simulate_unshaped(cs.MLP(cs.LeakyReLU(1.0))), ValueError, "linear activation"),
        (lambda: cs.simulate_unshaped(RELU, 0.3), ValueError, "rho0 and width must be given together"),
        (lambda: cs.simulate_unshaped(RELU, 1.0, width=10), ValueError, "rho0 must be a correlation"),
        (lambda: cs.simulate_unshaped(RELU, paths=0), ValueError, "paths must be an integer"),
        (lambda: cs.simulate_unshaped("relu"), ValueError, "mlp must be an MLP"),
        (lambda: cs.sample_unshaped_networks(RELU, 1.5, width=10), ValueError, "rho0 must be a correlation"),
        (lambda: cs.sample_unshaped_networks(RELU, 0.5, width=0), ValueError, "width must be an integer"),
        (lambda: cs.first_order_chain(RELU, 0.5, width=10, save_at=[2.0]), ValueError, "save_at must hold"),
        (lambda: two_paths().one_minus_rho, ValueError, "needs a width"),
    ],
)
def test_bad_arguments_are_named(call: object, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        call()  # type: ignore[operator]


def test_an_ensemble_refuses_values_after_the_stop() -> None:
    e = two_paths()
    with pytest.raises(ValueError, match="finite values after"):
        dataclasses.replace(e, status=np.full(2, cs.PathStatus.DEAD), stop_tau=np.full(2, 0.5))
    with pytest.raises(ValueError, match="values must have shape"):
        e.mean(e.w[0])
