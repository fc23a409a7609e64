"""Unequal widths, biases, gain and the shaping exponent: networks against the limit, the limit against exact values."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp

import covsde as cs
from covsde.covariance.clock import TabulatedClock, UniformClock
from covsde.covariance.drifts import Affine, ReLUDrift, SmoothDrift

PAIR = np.array([[1.0, 0.3], [0.3, 1.0]])


def mean(samples: np.ndarray) -> tuple[float, float]:
    return float(samples.mean()), float(samples.std() / math.sqrt(samples.size))


def assert_close(a: np.ndarray, b: np.ndarray, *, sigmas: float = 4, bias: float = 0.0) -> None:
    (u, su), (v, sv) = mean(a), mean(b)
    assert abs(u - v) < sigmas * math.hypot(su, sv) + bias, (u, su, v, sv)


# --- clocks --------------------------------------------------------------------------------------------------------


def test_a_tabulated_clock_integrates_its_rate() -> None:
    clock = TabulatedClock(np.array([1.0, 3.0, 2.0, 2.0]))
    assert float(clock.elapsed(0.0, 1.0)) == pytest.approx(2.0)
    assert float(clock.elapsed(0.125, 0.5)) == pytest.approx(0.125 + 0.75)
    assert float(clock.rate(jnp.asarray(0.3))) == 3.0
    assert clock.fastest() == 3.0
    assert float(UniformClock(0.7).elapsed(0.25, 0.75)) == pytest.approx(0.35)


def test_repeated_widths_run_the_clock_of_their_harmonic_mean() -> None:
    mlp = cs.MLP(cs.Identity(), 0.8, width_profile=(2 / 3, 2.0))
    assert float(mlp.limit().noise_clock.elapsed(0.0, 1.0)) == pytest.approx(0.8 * (1.5 + 0.5) / 2)
    assert mlp.layers(150, 4).widths == (100, 300, 100, 300)


def test_linear_networks_of_unequal_widths_have_the_log_variance_of_their_clock() -> None:
    # log V_1 ~ N(-t, 2t) with t = T ∫ dτ / w(τ); w = 1 / (1 + τ) gives t = 3T/2, and 5T/8 at τ = 1/2.
    mlp = cs.MLP(cs.Identity(), 0.4, width_profile=lambda tau: 1 / (1 + tau))
    run = cs.simulate(mlp, np.eye(1), paths=40_000, steps=10, save_at=[0, 0.5, 1], key=0)
    for k, t in ((1, 0.25), (2, 0.6)):
        x = run.log_variance(0)[k]
        assert abs(x.mean() + t) < 4 * math.sqrt(2 * t / x.size)
        assert x.var() == pytest.approx(2 * t, rel=4 * math.sqrt(2 / x.size))


@pytest.mark.parametrize("shaping", ["local", "common"])
def test_networks_of_alternating_widths_follow_the_limit_on_both_clocks(shaping: str) -> None:
    # Widths 100 and 300 alternate over 120 layers: noise clock 0.8, drift clock 0.8 (local) or 120/150 (common) too,
    # so the base width is chosen to tell them apart: n = 200 has widths 133 and 400, T = 0.6.
    mlp = cs.MLP(cs.ShapedReLU(1.0, -1.0), 0.6, width_profile=(2 / 3, 2.0), shaping_width=shaping)
    limit = cs.simulate(mlp, PAIR, paths=40_000, save_at=[0, 1], key=1)
    networks = cs.sample_networks(mlp, PAIR, width=100, draws=2500, save_at=[0, 1], key=2)
    # At this width the bias is of order κ/n (measured below .01).
    for f in (lambda e: e.correlation(0, 1)[-1], lambda e: e.log_variance(0)[-1]):
        assert_close(f(limit), f(networks), bias=0.01)


def test_the_two_clocks_differ_when_widths_do() -> None:
    # All layers of width n/2: noise 2T; local shaping κ·2T, common shaping κ·T.
    V0 = PAIR
    runs = {}
    for shaping in ("local", "common"):
        mlp = cs.MLP(cs.ShapedReLU(1.0, -1.0), 0.5, width_profile=(0.5,), shaping_width=shaping)
        runs[shaping] = cs.simulate(mlp, V0, paths=100_000, save_at=[0, 1], key=3).correlation(0, 1)[-1]
    # The deterministic law is that of shaped ReLU with κ and κ/2 at T = 1.
    for shaping, kappa in (("local", 4.0), ("common", 2.0)):
        half = math.sqrt(kappa) / 2
        exact = cs.correlation_law(cs.MLP(cs.ShapedReLU(half, -half), 1.0), 0.3).mean[-1]
        value, error = mean(runs[shaping])
        assert abs(value - exact) < 4 * error + 1e-3


@pytest.mark.parametrize("solver", [cs.WishartStep(), cs.EulerMaruyama()])
def test_every_solver_runs_on_both_clocks(solver: Any) -> None:
    # E log V11 = -t for ReLU whatever the drift; E ρ from the deterministic law.
    mlp = cs.MLP(cs.ShapedReLU(0.5, -0.5), 0.4, width_profile=lambda tau: 1 / (1 + tau), shaping_width="common")
    run = cs.simulate(mlp, PAIR, paths=20_000, steps=80, save_at=[0, 1], key=4, solver=solver)
    fine = run.alive[-1]
    assert fine.mean() > 0.99
    law = cs.correlation_law(mlp, 0.3)
    value, error = mean(run.correlation(0, 1)[-1][fine])
    assert abs(value - law.mean[-1]) < 4 * error + 8e-3
    value, error = mean(run.log_variance(0)[-1][fine])
    assert abs(value + 0.6) < 4 * error + 8e-3


@pytest.mark.parametrize("method", ["law", "weights"])
def test_narrow_layers_of_a_padded_network_have_the_exact_log_variance(method: str) -> None:
    # Linear: log V = Σ log χ²_n/n over widths 6, 12, 6, 12: digamma, whatever the padding.
    from scipy.special import digamma

    mlp = cs.MLP(cs.Identity(), 0.5, width_profile=(0.75, 1.5))
    run = cs.sample_networks(mlp, PAIR, width=8, depth=4, draws=20_000, method=method, save_at=[0, 1], key=5)
    exact = 2 * sum(digamma(n / 2) - math.log(n / 2) for n in (6, 12))
    value, error = mean(run.log_variance(0)[-1])
    assert abs(value - exact) < 4 * error


# --- bias and gain -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("inner", [ReLUDrift(4.0), SmoothDrift(1.2, -1.6)])
@pytest.mark.parametrize(("bias", "gain"), [(0.5, 0.0), (0.0, -0.7), (0.8, 0.6)])
def test_the_affine_flow_solves_its_equation_to_second_order(inner: Any, bias: float, gain: float) -> None:
    drift = Affine(inner, bias, gain)

    def rate(_: float, y: np.ndarray) -> list[float]:
        a, b, c = (jnp.asarray(v) for v in y)
        return [float(drift.rate(*e)) for e in ((a, a, a), (a, c, b), (c, c, c))]

    start = np.array([1.3, 0.4, 0.8])
    errors = []
    for h in (0.04, 0.02):
        exact = solve_ivp(rate, (0, h), start, rtol=1e-11, atol=1e-12).y[:, -1]
        a, b, c, dt = (jnp.asarray(v) for v in (*start, h))
        moved = [drift.variance_flow(a, dt), drift.covariance_flow(a, c, b, dt), drift.variance_flow(c, dt)]
        errors.append(np.abs(np.asarray(moved, float) - exact).max())
    assert errors[0] / errors[1] == pytest.approx(8, rel=0.15) or errors[0] < 1e-12


def test_bias_and_gain_alone_move_the_mean_along_an_affine_equation() -> None:
    # Linear network: dE V = (γ E V + β_b) dt, exactly at every width with (1 + γ/n)^L.
    mlp = cs.MLP(cs.Identity(), 0.25, bias=0.8, gain=0.6)
    run = cs.simulate(mlp, PAIR, paths=200_000, steps=10, save_at=[0, 1], key=6)
    grown = math.exp(0.6 * 0.25)
    exact = grown * PAIR + 0.8 * (grown - 1) / 0.6
    for i, j in ((0, 0), (0, 1), (1, 1)):
        value, error = mean(run.V[-1, :, i, j])
        assert abs(value - exact[i, j]) < 4 * error
    n, L = 40, 10
    networks = cs.sample_networks(mlp, PAIR, width=n, draws=40_000, save_at=[0, 1], key=7)
    V = PAIR
    for _ in range(L):
        V = (1 + 0.6 / n) * (V + 0.8 / n)
    for i, j in ((0, 0), (0, 1)):
        value, error = mean(networks.V[-1, :, i, j])
        assert abs(value - V[i, j]) < 4 * error


@pytest.mark.parametrize("method", ["law", "weights"])
def test_networks_with_biases_follow_the_limit(method: str) -> None:
    mlp = cs.MLP(cs.ShapedReLU(0.0, -1.0), 1.0, bias=0.5)
    limit = cs.simulate(mlp, PAIR, paths=100_000, save_at=[0, 1], key=8)
    assert mean(limit.correlation(0, 1)[-1])[0] == pytest.approx(0.625, abs=0.01)  # quoted for 150 layers: .627(6)
    width, draws = (80, 2000) if method == "law" else (40, 500)
    networks = cs.sample_networks(mlp, PAIR, width=width, draws=draws, method=method, save_at=[0, 1], key=9)
    # c₊ + c₋ ≠ 0: the bias is of order n^{-1/2}, about κ(2/(s₊²+s₋²) - 1) in κ.
    for f in (lambda e: e.correlation(0, 1)[-1], lambda e: e.log_variance(0)[-1]):
        assert_close(f(limit), f(networks), bias=0.03)


def test_a_biased_network_applies_its_biases() -> None:
    mlp = cs.MLP(cs.Identity(), 1.0, bias=2.0)
    network = mlp.network(width=8, depth=3, in_size=2, key=0, dtype=jnp.float64)
    zero = network.features(np.zeros((1, 2)))
    expected = network.biases[0] * math.sqrt(2.0 / 8)
    np.testing.assert_allclose(zero[0, 0], expected)
    by_hand = network.hidden_weights[0] @ expected / math.sqrt(8) + network.biases[1] * math.sqrt(2.0 / 8)
    np.testing.assert_allclose(zero[1, 0], by_hand)


# --- the shaping exponent ------------------------------------------------------------------------------------------


@pytest.mark.thorough
def test_above_one_half_shaping_leaves_the_linear_limit() -> None:
    weak = cs.MLP(cs.ShapedReLU(1.0, -1.0, exponent=0.8), 0.5)
    assert weak.limit().drift == ReLUDrift(0.0)
    assert cs.MLP(cs.ShapedSmooth("tanh", exponent=0.7), 1.0).limit().drift == ReLUDrift(0.0)
    # At width n the effective κ is 4 n^{1-2p}, so E ρ must be that of the critical limit with this κ: .38 at n = 50,
    # .17 at n = 200.
    for n, draws in ((50, 8000), (200, 2000)):
        nets = cs.sample_networks(weak, PAIR, width=n, draws=draws, save_at=[0, 1], key=n)
        half = n**-0.3
        exact = cs.correlation_law(cs.MLP(cs.ShapedReLU(half, -half), 0.5), 0.3).mean[-1]
        value, error = mean(nets.correlation(0, 1)[-1])
        assert abs(value - exact) < 4 * error + 0.005


def test_below_one_half_correlations_go_to_one_and_there_is_no_limit() -> None:
    strong = cs.MLP(cs.ShapedReLU(1.0, -1.0, exponent=0.25), 1.0)
    for front in (strong.limit, lambda: cs.simulate(strong, PAIR), lambda: cs.correlation_law(strong, 0.3)):
        with pytest.raises(ValueError, match=r"exponent=0.25 is below the critical 1/2"):
            front()
    medians = [
        float(
            np.median(cs.sample_networks(strong, PAIR, width=n, draws=500, save_at=[0, 1], key=n).correlation(0, 1)[-1])
        )
        for n in (50, 200)
    ]
    critical = cs.simulate(cs.MLP(cs.ShapedReLU(1.0, -1.0), 1.0), PAIR, paths=4000, key=1).correlation(0, 1)[-1]
    assert np.median(critical) < medians[0] < medians[1]
    assert medians[1] > 0.95


def test_the_exponent_enters_the_function_the_network_applies() -> None:
    x = jnp.linspace(-2, 2, 5)
    np.testing.assert_allclose(
        cs.ShapedReLU(1.0, -1.0, exponent=0.25).at_width(16)(x), 1.5 * jnp.maximum(x, 0) + 0.5 * jnp.minimum(x, 0)
    )
    scale = 2.0 * 16**0.75
    tanh = cs.ShapedSmooth("tanh", a=2.0, exponent=0.75)
    np.testing.assert_allclose(tanh.at_width(16)(x), scale * np.tanh(x / scale), rtol=1e-12)


# --- names and refusals --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("tanh", -2.0),
        ("arctan", -2.0),
        ("sin", -1.0),
        ("sigmoid", -1 / 2),
        ("erf", -2.0),
        ("softplus", 3 / 16),
        ("silu", 3 / 4),
        ("gelu", 6 / math.pi),
        ("sinh", 1.0),
        ("expm1", 7 / 4),
    ],
)
def test_the_criterion_of_explosion_for_activations_by_name(name: str, value: float) -> None:
    # ¾ψ''(0)² + ψ'''(0) in closed form; ψ = √π/2 erf(x), which is not erf(√π x/2), whose value is -π/2.
    assert cs.ShapedSmooth(name, a=1.0).beta == pytest.approx(value, abs=1e-10)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: cs.ShapedSmooth("swish"), "fn='swish' is not a known activation"),
        (lambda: cs.ShapedSmooth(jnp.abs), "for kinked functions use ShapedReLU"),
        (lambda: cs.MLP(jax.nn.relu, 1.0), "wrap a smooth function as"),
        (lambda: cs.MLP(jnp.sign, 1.0), "one neither piecewise linear nor smooth at 0 has no limit"),
        (lambda: cs.ShapedReLU(1.0, -1.0, exponent=0.0), "exponent must lie in"),
        (lambda: cs.MLP(cs.Identity(), 1.0, bias=-1.0), "bias must be at least 0"),
        (lambda: cs.MLP(cs.Identity(), 1.0, width_profile=(1.0, 0.0)), "width_profile must hold positive"),
        (lambda: cs.MLP(cs.Identity(), 1.0, width_profile=3), "width_profile must be relative widths"),
        (lambda: cs.MLP(cs.Identity(), 1.0, width_profile=lambda t: t - 0.5).limit(), "width_profile must be positive"),
        (lambda: cs.MLP(cs.Identity(), 1.0, shaping_width="global"), "shaping_width must be 'local' or 'common'"),
        (lambda: cs.sample_networks(cs.MLP(cs.Identity(), gain=-50.0), PAIR, width=20), "gain=-50 makes"),
    ],
)
def test_what_has_no_meaning_is_refused_with_the_remedy(make: Any, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence.replace("'", ".")):
        make()


def test_metadata_names_the_extensions() -> None:
    mlp = cs.MLP(cs.ShapedReLU(1.0, -1.0), 0.5, bias=0.5, width_profile=(1.0, 2.0))
    described = cs.simulate(mlp, PAIR, paths=64, steps=2, key=0).metadata["architecture"]
    assert "bias=0.5" in described
    assert "width_profile=(1.0, 2.0)" in described
    assert "gain" not in described
