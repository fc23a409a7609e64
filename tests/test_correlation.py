"""Two inputs: the deterministic law of the correlation, and Euler steps in ρ, θ and y against it."""

import math
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from reference import mlp as problems
from scipy.integrate import trapezoid

import covsde as cs
from covsde.covariance.correlation import correlation_drift, relu_drift_of_y
from covsde.covariance.drifts import ReLUDrift, SmoothDrift
from covsde.solvers.terms import Elapsed

PAIR = np.array([[1.0, 0.3], [0.3, 1.0]])


def relu(kappa: float, T: float, **more: Any) -> cs.MLP:
    return cs.MLP(problems.shaped_relu(kappa), T, **more)


# --- the law -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", problems.SHAPED_RELU_CORRELATION.values(), ids=lambda p: p.slug)
def test_the_law_of_the_correlation_agrees_with_an_independent_backward_solution(case: problems.Problem) -> None:
    law = cs.correlation_law(case.architecture, problems.RHO_0, points=6001, steps=2000, save_at=[0, 1])
    found = {"rho": law.mean[-1], "rho^2": law.second_moment[-1], "angle": law.angle_mean[-1]}
    for name, exact in case.exact.items():
        assert found[name] == pytest.approx(exact, abs=2e-6)  # the catalogue's values are rounded to 1e-6


def test_the_angle_of_a_linear_network_is_a_martingale() -> None:
    law = cs.correlation_law(cs.MLP(cs.Identity(), 2.0), -0.6)
    np.testing.assert_allclose(law.angle_mean, math.acos(-0.6), atol=2e-6)


def test_without_drift_the_correlation_ends_at_one_with_the_probability_of_the_angle() -> None:
    law = cs.correlation_law(cs.MLP(cs.Identity(), 40.0), 0.3, save_at=[0, 1], points=12001, steps=4000)
    limit = 0.5 + math.asin(0.3) / math.pi
    assert 1 - law.cdf(0.0)[-1] == pytest.approx(limit, abs=1e-4)
    assert limit == pytest.approx(0.5969866841, abs=1e-10)


def test_probability_is_conserved_and_never_negative() -> None:
    law = cs.correlation_law(relu(16.0, 1.0), 0.9)
    np.testing.assert_allclose(law.probability.sum(axis=1), 1, atol=1e-10)
    assert law.probability.min() >= -1e-15


def test_the_density_integrates_to_the_distribution_function() -> None:
    law = cs.correlation_law(relu(4.0, 0.5), 0.3, save_at=[0, 1])
    for a, b in ((-0.5, 0.2), (0.2, 0.9)):
        r = np.linspace(a, b, 4001)
        integral = trapezoid(law.density(r)[-1], r)
        assert integral == pytest.approx(law.cdf(b)[-1] - law.cdf(a)[-1], abs=2e-5)
    assert np.isnan(law.density(0.3)[0])


def test_halving_the_grid_divides_the_error_by_four() -> None:
    fine = cs.correlation_law(relu(16.0, 1.0), 0.3, points=6401, steps=3200, save_at=[0, 1]).second_moment[-1]
    errors = [
        abs(cs.correlation_law(relu(16.0, 1.0), 0.3, points=p, steps=s, save_at=[0, 1]).second_moment[-1] - fine)
        for p, s in ((201, 200), (401, 400), (801, 800))
    ]
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.25)
    assert errors[1] / errors[2] == pytest.approx(4, rel=0.25)


def test_odd_smooth_shaping_and_gain_leave_the_correlation_to_the_noise() -> None:
    linear = cs.correlation_law(cs.MLP(cs.Identity(), 1.0), 0.3).mean
    tanh = cs.correlation_law(cs.MLP(cs.ShapedSmooth("tanh"), 1.0, gain=2.0), 0.3).mean
    np.testing.assert_array_equal(linear, tanh)


@pytest.mark.parametrize(
    "architecture", [cs.MLP(cs.ShapedSmooth("silu"), 1.0), cs.MLP(cs.ShapedReLU(1.0, -1.0), 1.0, bias=0.5)]
)
def test_a_correlation_that_depends_on_the_variances_has_no_law_of_its_own(architecture: cs.MLP) -> None:
    with pytest.raises(TypeError, match="no law of its own"):
        cs.correlation_law(architecture, 0.3)


def test_layer_time_runs_on_the_clock_of_a_narrowing_network() -> None:
    # Half the depth at width n, half at n/3: the clock has run a quarter of its way at τ = 1/2.
    narrowing = relu(4.0, 0.5, width_profile=lambda tau: 1.0 if tau < 0.5 else 1 / 3)
    law = cs.correlation_law(narrowing, 0.3, save_at=[0, 0.5, 1])
    early, late = (cs.correlation_law(relu(4.0, T), 0.3, save_at=[0, 1]).mean[-1] for T in (0.25, 1.0))
    np.testing.assert_allclose(law.mean[1:], [early, late], atol=1e-5)


def test_shaping_by_a_common_width_drives_the_drift_on_the_clock_of_the_depth() -> None:
    # Widths n/2 throughout: noise T = 1, drift T' = 1/2, which is κ halved on one clock.
    common = relu(4.0, 0.5, width_profile=(0.5,), shaping_width="common")
    law, halved = cs.correlation_law(common, 0.3), cs.correlation_law(relu(2.0, 1.0), 0.3)
    np.testing.assert_allclose(law.mean, halved.mean, atol=1e-6)


# --- the drift in the three coordinates ------------------------------------------------------------------------------


def test_the_drift_of_y_is_minus_nu_over_one_minus_rho_squared() -> None:
    y = np.linspace(-8, 3, 45)
    rho = -np.tanh(y)
    nu = np.asarray(ReLUDrift(1.0).nu(jnp.asarray(rho)))
    np.testing.assert_allclose(relu_drift_of_y(jnp.asarray(y)), -nu * np.cosh(y) ** 2, rtol=1e-7)
    # Near equal inputs 1 - θ cot θ ~ θ²/3.
    assert float(relu_drift_of_y(jnp.asarray(-20.0))) == pytest.approx(-2 * math.exp(-20) / 3 / (2 * math.pi), rel=1e-6)


def test_the_drift_of_the_correlation_is_itos_formula_for_the_matrix() -> None:
    # ν = d/dt of V12/√(V11 V22) along dV/dt = b(V), by a finite difference of the exact quotient.
    v1, v12, v2, h = 1.7, 0.4, 0.6, 1e-6
    for drift in (ReLUDrift(4.0), SmoothDrift(1.2, -1.6)):
        b1, b12, b2 = (float(drift.rate(*map(jnp.asarray, e))) for e in ((v1, v1, v1), (v1, v2, v12), (v2, v2, v2)))
        moved = (v12 + h * b12) / math.sqrt((v1 + h * b1) * (v2 + h * b2))
        slope = (moved - v12 / math.sqrt(v1 * v2)) / h
        nu = float(correlation_drift(drift, *map(jnp.asarray, (v1, v2, v12))))
        assert nu == pytest.approx(slope, abs=1e-5)


# --- Euler steps ---------------------------------------------------------------------------------------------------

EXACT = problems.SHAPED_RELU_CORRELATION[4, 1.0].exact


def moments(run: cs.Ensemble) -> dict[str, tuple[float, float]]:
    rho, theta = run.correlation(0, 1)[-1], run.angle(0, 1)[-1]
    return {
        name: (x.mean(), x.std() / math.sqrt(x.size)) for name, x in (("rho", rho), ("rho^2", rho**2), ("angle", theta))
    }


def test_a_step_without_noise_is_the_drift_of_its_coordinate() -> None:
    rho, nu, h = jnp.asarray([-0.9, -0.2, 0.3, 0.8]), jnp.asarray([0.5, 0.4, 0.3, 0.1]), 1e-4
    step, still = Elapsed(*(jnp.asarray(h) for _ in range(3))), jnp.zeros(4)
    room, sine = 1 - rho**2, jnp.sqrt(1 - rho**2)
    in_rho, in_angle, in_y = (
        solver.move(rho, nu, still, step)[0] for solver in (cs.CorrelationEuler(), cs.AngleEuler(), cs.LampertiEuler())
    )
    np.testing.assert_allclose((in_rho - rho) / h, nu - rho * room / 2, atol=1e-3)
    np.testing.assert_allclose((jnp.arccos(in_angle) - jnp.arccos(rho)) / h, -nu / sine, atol=1e-3)
    np.testing.assert_allclose((jnp.arctanh(in_y) - jnp.arctanh(rho)) / h, nu / room + rho / 2, atol=1e-3)


def test_euler_in_y_is_within_two_thousandths_after_ten_steps() -> None:
    run = cs.simulate(relu(4.0, 1.0), PAIR, paths=200_000, steps=10, save_at=[0, 1], key=3, solver=cs.LampertiEuler())
    assert run.failures["total"] == 0
    for name, (value, error) in moments(run).items():
        assert abs(value - EXACT[name]) < 2e-3 + 4 * error


def test_euler_in_y_is_exact_in_law_for_the_variances_and_their_correlation_with_rho() -> None:
    # Against Strang with many steps: the joint law of (log V11, log V22, ρ) through its covariances, 4 standard errors.
    law = {}
    for name, solver, steps in (("y", cs.LampertiEuler(), 40), ("strang", cs.Strang(), 20)):
        run = cs.simulate(relu(4.0, 1.0), PAIR, paths=40_000, steps=steps, save_at=[0, 1], key=5, solver=solver)
        a, b, r = run.log_variance(0)[-1], run.log_variance(1)[-1], run.correlation(0, 1)[-1]
        products = [(a + 1) * (b + 1), (a + 1) * r, (a + 1) ** 2, (b + 1) ** 2, a, b]
        law[name] = [(x.mean(), x.std() / math.sqrt(x.size)) for x in products]
    for (u, su), (v, sv) in zip(law["y"], law["strang"], strict=True):
        assert abs(u - v) < 4 * math.hypot(su, sv) + 2e-3


def test_euler_in_y_follows_smooth_drifts_too() -> None:
    cubic = cs.MLP(cs.ShapedSmooth(lambda x: x + 0.3 * x**2 - 0.4 * x**3 / 6, a=0.5), 0.5)
    V0 = np.array([[2.0, -0.5], [-0.5, 0.5]])
    runs = [
        cs.simulate(cubic, V0, paths=40_000, steps=n, save_at=[0, 1], key=7, solver=solver)
        for n, solver in ((40, cs.LampertiEuler()), (20, cs.Strang()))
    ]
    pairs = [(r.correlation(0, 1)[-1], r.log_variance(0)[-1]) for r in runs]
    for u, v in zip(*pairs, strict=True):
        assert abs(u.mean() - v.mean()) < 4 * math.hypot(u.std(), v.std()) / math.sqrt(u.size) + 2e-3


@pytest.mark.parametrize("solver", [cs.AngleEuler(), cs.CorrelationEuler()])
def test_euler_in_the_angle_and_in_rho_approaches_the_law_and_counts_the_paths_it_loses(solver: Any) -> None:
    fine = cs.simulate(relu(4.0, 1.0), PAIR, paths=20_000, steps=200, save_at=[0, 1], key=9, solver=solver)
    assert fine.failures.get("LOST_PSD", 0) < 200
    alive = fine.alive[-1]
    for name, x in (("rho", fine.correlation(0, 1)[-1]), ("angle", fine.angle(0, 1)[-1])):
        assert abs(x[alive].mean() - EXACT[name]) < 4 * x[alive].std() / math.sqrt(x.size) + 4e-3
    coarse = cs.simulate(relu(4.0, 1.0), PAIR, paths=5_000, steps=4, save_at=[0, 1], key=9, solver=solver)
    assert coarse.failures["LOST_PSD"] > 100


def test_steps_in_one_coordinate_are_for_two_inputs() -> None:
    with pytest.raises(ValueError, match="for two inputs, got m=3"):
        cs.simulate(relu(4.0, 1.0), np.eye(3), paths=64, solver=cs.LampertiEuler())


# --- extrapolation in the step ---------------------------------------------------------------------------------------


@pytest.mark.thorough
def test_two_coarse_runs_extrapolate_to_the_exact_moment() -> None:
    def run(steps: int, key: int) -> cs.Ensemble:
        return cs.simulate(relu(4.0, 1.0), PAIR, paths=400_000, steps=steps, save_at=[0, 1], key=key, dtype="float32")

    def square(V: Any) -> Any:
        return V[..., 0, 1] ** 2 / (V[..., 0, 0] * V[..., 1, 1])

    coarse, fine = run(2, 1), run(4, 2)
    best = cs.richardson(coarse, fine, square)
    assert abs(best.value[-1] - EXACT["rho^2"]) < 4 * best.standard_error[-1]
    # Either run alone is off by far more than its noise; the fourth-order remainder is below it.
    assert abs(coarse.mean(square).value[-1] - EXACT["rho^2"]) > 5 * best.standard_error[-1]
    with pytest.raises(ValueError, match="fine must have more steps"):
        cs.richardson(fine, coarse, square)
    with pytest.raises(ValueError, match="must be independent"):
        cs.richardson(coarse, run(4, 1), square)
    with pytest.raises(ValueError, match="differ in their steps only"):
        cs.richardson(coarse, cs.simulate(relu(1.0, 1.0), PAIR, paths=64, steps=4, save_at=[0, 1], key=3), square)
