"""The limit's drift: against one exact layer of a wide network, and its flow against accurate ODE solutions."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reference import mlp as problems
from scipy.integrate import solve_ivp

from covsde import MLP, Identity, LeakyReLU, ShapedReLU
from covsde.covariance.drifts import AbstractDrift, ReLUDrift, SmoothDrift, drift_of
from covsde.moments.arccos import sin_minus_angle_cos

WIDE = 10**6


def entries(x: float) -> Any:
    return jnp.asarray(x, jnp.float64)


# --- one layer of a wide network ----------------------------------------------------------------------------------


def mean_of_one_layer(problem: problems.Problem, i: int, j: int, width: int) -> float:
    """c E φ_s(z^α)φ_s(z^β) for z ~ N(0, V), by a tensor Gauss–Hermite rule with 80² nodes."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    weights = weights / weights.sum()
    L = np.linalg.cholesky(problem.gram)
    z = [L[k, 0] * nodes[:, None] + L[k, 1] * nodes[None, :] for k in range(2)]
    phi = problem.activation.at_width(width)
    product = np.asarray(phi(jnp.asarray(z[i]))) * np.asarray(phi(jnp.asarray(z[j])))
    return problem.activation.normalisation(width) * float(weights @ product @ weights)


@pytest.mark.parametrize("problem", problems.ONE_LAYER_DRIFT, ids=lambda p: p.slug)
def test_the_smooth_drift_is_n_times_the_mean_change_over_one_wide_layer(problem: problems.Problem) -> None:
    drift, V = drift_of(problem.activation), problem.gram
    for i, j in ((0, 0), (0, 1), (1, 1)):
        rate = float(drift.rate(entries(V[i, i]), entries(V[j, j]), entries(V[i, j])))
        assert rate == pytest.approx(problem.exact[f"b{i + 1}{j + 1}"], abs=1e-12)
        layer = WIDE * (mean_of_one_layer(problem, i, j, WIDE) - V[i, j])
        assert layer == pytest.approx(rate, abs=3e-4)  # the next order is O(1/n), n = 10⁶


def test_at_moderate_width_the_layer_departs_from_the_smooth_drift_by_order_one_over_n() -> None:
    for problem in problems.ONE_LAYER_DRIFT:
        gap = [
            n * (mean_of_one_layer(problem, 0, 1, n) - problem.gram[0, 1]) - problem.exact["b12"] for n in (2000, 4000)
        ]
        assert gap[0] / gap[1] == pytest.approx(2, rel=0.02)


@pytest.mark.parametrize(("slopes", "quoted"), problems.ONE_LAYER_DRIFT_RELU)
def test_the_shaped_relu_drift_is_n_times_the_mean_change_over_one_wide_layer(
    slopes: tuple[float, float], quoted: float
) -> None:
    activation = ShapedReLU(*slopes)
    rho = 0.3
    # E φ(x)φ(y) over the quadrants of a bivariate normal, from the arc-cosine kernel of Cho and Saul (2009).
    plus, minus = activation.slopes(WIDE)

    def arc_cosine(r: float) -> float:
        return (math.sqrt(1 - r * r) + (math.pi - math.acos(r)) * r) / (2 * math.pi)

    second_moment = (plus**2 + minus**2) * arc_cosine(rho) - 2 * plus * minus * arc_cosine(-rho)
    layer = WIDE * (activation.normalisation(WIDE) * second_moment - rho)
    assert layer == pytest.approx(quoted, abs=1e-6)
    va, vb = 2.0, 0.5
    rate = float(drift_of(activation).rate(entries(va), entries(vb), entries(rho * math.sqrt(va * vb))))
    # The slopes' sum enters at relative order 1/√n: 2/(s₊² + s₋²) = 1 - (c₊ + c₋)/√n + …
    correction = 2 / (plus**2 + minus**2)
    assert layer == pytest.approx(rate / math.sqrt(va * vb) * correction, rel=2e-5)


def test_the_drift_of_shaped_relu_at_orthogonal_opposite_and_equal_inputs() -> None:
    kappa = 2.25
    nu = ReLUDrift(kappa).nu
    assert float(nu(entries(0.0))) == pytest.approx(kappa / (2 * math.pi), rel=1e-14)
    assert float(nu(entries(-1.0))) == pytest.approx(kappa / 2, rel=1e-14)
    assert float(nu(entries(1.0))) == 0.0
    v = entries(3.7)
    assert float(ReLUDrift(kappa).rate(v, v, v)) == 0.0


def test_the_identity_has_no_drift_and_unshaped_activations_have_no_limit() -> None:
    one = entries(1.0)
    assert float(drift_of(Identity()).rate(one, one, entries(0.3))) == 0.0
    with pytest.raises(TypeError, match="LeakyReLU is not shaped"):
        MLP(LeakyReLU(), depth_to_width=1.0).limit()


def test_the_drift_of_one_input_is_logistic() -> None:
    drift = SmoothDrift(1.2, -1.6)
    beta = 0.75 * 1.2**2 - 1.6
    for v in (0.1, 1.0, 2.5):
        rate = drift.rate(entries(v), entries(v), entries(v))
        assert float(rate) == pytest.approx(beta * v * (v - 1), abs=1e-14)


# --- the angular factor f(ρ) = √(1-ρ²) - ρ arccos ρ ----------------------------------------------------------------


def angular_factor(rho: np.ndarray) -> np.ndarray:
    """f without cancellation: f(ρ) = sin θ - θ cos θ, by its Taylor series in θ where θ is small."""
    theta = np.arctan2(np.sqrt((1 - rho) * (1 + rho)), rho)
    series = sum((-1) ** (k + 1) * 2 * k * theta ** (2 * k + 1) / math.factorial(2 * k + 1) for k in range(1, 9))
    return np.where(theta < 0.5, series, np.sin(theta) - theta * np.cos(theta))


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 20), (np.float32, 20)])
def test_the_angular_factor_is_accurate_to_rounding_everywhere(dtype: Any, tolerance: float) -> None:
    near_one = 1 - np.logspace(-14 if dtype == np.float64 else -6, -0.5, 200)
    rho = np.unique(np.concatenate([np.linspace(-1, 1, 2001), near_one, -near_one]).astype(dtype))
    value = np.asarray(sin_minus_angle_cos(jnp.asarray(rho)))
    assert value.dtype == dtype
    exact = angular_factor(rho.astype(np.float64))
    # Relative accuracy: `tolerance` units in the last place, near ρ = 1 as anywhere.
    assert np.max(np.abs(value - exact) / np.where(exact > 0, exact, 1)) < tolerance * np.finfo(dtype).eps
    assert value[-1] == 0.0
    assert np.all(value >= 0)


def test_near_equal_inputs_the_angular_factor_is_a_three_halves_power() -> None:
    for distance in (1e-4, 1e-8, 1e-12):
        rho = 1 - distance
        leading = 2 * math.sqrt(2) / 3 * (1 - rho) ** 1.5
        assert float(sin_minus_angle_cos(entries(rho))) == pytest.approx(leading, rel=distance)


def test_reflecting_the_correlation_adds_pi_rho() -> None:
    rho = jnp.linspace(0, 1, 101)
    np.testing.assert_allclose(
        sin_minus_angle_cos(-rho), sin_minus_angle_cos(rho) + math.pi * rho, rtol=1e-14, atol=1e-14
    )


# --- flows of the drift --------------------------------------------------------------------------------------------

V_START = np.array([[1.3, 0.4, -0.3], [0.4, 0.8, 0.25], [-0.3, 0.25, 0.6]])
DRIFTS: dict[str, AbstractDrift] = {
    "relu": ReLUDrift(4.0),
    "tanh": SmoothDrift(0.0, -2.0),
    "cubic": SmoothDrift(1.2, -1.6),
    "softplus": SmoothDrift(0.5, 0.0),
}


def rate_matrix(drift: AbstractDrift, V: np.ndarray) -> np.ndarray:
    """b(V) in NumPy, written out independently of the library."""
    v = np.diag(V)
    outer, total = v[:, None] * v[None, :], v[:, None] + v[None, :]
    if isinstance(drift, ReLUDrift):
        root = np.sqrt(outer)
        rho = np.clip(V / root, -1, 1)
        b = drift.kappa / (2 * np.pi) * (np.sqrt(1 - rho**2) - rho * np.arccos(rho)) * root
        np.fill_diagonal(b, 0)
        return np.asarray(b)
    assert isinstance(drift, SmoothDrift)
    return np.asarray(drift.kappa2**2 / 4 * (outer + 2 * V**2 - 3 * V) + drift.kappa3 / 2 * V * (total - 2))


def exact_flow(drift: AbstractDrift, V: np.ndarray, t: float) -> np.ndarray:
    m = V.shape[0]
    solution = solve_ivp(
        lambda _, y: rate_matrix(drift, y.reshape(m, m)).ravel(),
        (0, t),
        V.ravel(),
        method="DOP853",
        rtol=1e-12,
        atol=1e-13,
    )
    return np.asarray(solution.y[:, -1].reshape(m, m))


def moved(step: Callable[..., Any], on_diagonal: Callable[..., Any], V: np.ndarray, dt: float) -> np.ndarray:
    """One step applied to a batch of matrices (…, m, m), entry by entry."""
    v = np.diagonal(V, axis1=-2, axis2=-1)
    full = np.broadcast_arrays(v[..., :, None], v[..., None, :], V)
    out = np.array(step(*(jnp.asarray(np.ascontiguousarray(x)) for x in full), entries(dt)))
    eye = np.eye(V.shape[-1], dtype=bool)
    diagonal = np.asarray(on_diagonal(jnp.asarray(np.ascontiguousarray(v)), entries(dt)))
    return np.where(eye, diagonal[..., :, None], out)


def flow(drift: AbstractDrift, V: np.ndarray, dt: float) -> np.ndarray:
    return moved(drift.covariance_flow, drift.variance_flow, V, dt)


def euler(drift: AbstractDrift, V: np.ndarray, dt: float) -> np.ndarray:
    return moved(drift.euler, lambda v, h: drift.euler(v, v, v, h), V, dt)


@pytest.mark.parametrize("name", sorted(DRIFTS))
def test_the_drift_agrees_with_its_formula_on_a_matrix(name: str) -> None:
    drift = DRIFTS[name]
    v = jnp.asarray(np.diag(V_START))
    vi, vj = jnp.broadcast_to(v[:, None], (3, 3)), jnp.broadcast_to(v[None, :], (3, 3))
    np.testing.assert_allclose(drift.rate(vi, vj, jnp.asarray(V_START)), rate_matrix(drift, V_START), atol=1e-13)


@pytest.mark.parametrize("name", sorted(DRIFTS))
def test_variances_follow_the_drift_exactly(name: str) -> None:
    for dt in (0.02, 0.3):
        exact = np.diag(exact_flow(DRIFTS[name], V_START, dt))
        np.testing.assert_allclose(np.diag(flow(DRIFTS[name], V_START, dt)), exact, rtol=1e-10)


@pytest.mark.parametrize(("step", "order"), [(flow, 2), (euler, 1)])
@pytest.mark.parametrize("name", sorted(DRIFTS))
def test_one_step_of_the_drift_has_an_error_of_one_order_more_than_its_scheme(
    name: str, step: Callable[..., np.ndarray], order: int
) -> None:
    drift = DRIFTS[name]
    off = ~np.eye(3, dtype=bool)
    sizes = (0.02, 0.01, 0.005)
    errors = np.array([np.max(np.abs(step(drift, V_START, h) - exact_flow(drift, V_START, h))[off]) for h in sizes])
    if name == "tanh" and step is flow:  # without φ'' the correlation does not move: the flow is exact
        assert np.max(errors) < 1e-12
        return
    ratios = errors[:-1] / errors[1:]
    np.testing.assert_allclose(ratios, 2 ** (order + 1), rtol=0.06)


@pytest.mark.parametrize("name", sorted(DRIFTS))
def test_steps_of_length_zero_change_nothing(name: str) -> None:
    np.testing.assert_allclose(flow(DRIFTS[name], V_START, 0.0), V_START, rtol=1e-14)
    np.testing.assert_allclose(euler(DRIFTS[name], V_START, 0.0), V_START, rtol=1e-14)


def test_a_smooth_drift_with_beta_zero_leaves_variances_alone() -> None:
    drift = SmoothDrift(1.2, -0.75 * 1.2**2)
    V = flow(drift, V_START, 0.2)
    np.testing.assert_allclose(np.diag(V), np.diag(V_START), rtol=1e-12)
    np.testing.assert_allclose(V, exact_flow(drift, V_START, 0.2), atol=2e-3)
    near = SmoothDrift(1.2, -0.75 * 1.2**2 + 1e-7)
    np.testing.assert_allclose(flow(near, V_START, 0.2), V, atol=1e-6)


def test_variances_explode_at_the_time_of_the_logistic_equation() -> None:
    # 1/v = 1 + (1/v_0 - 1) e^{βt} vanishes at t = -log(1 - 1/v_0)/β
    drift, v = SmoothDrift(1.0, 0.0), 3.0
    explosion = -math.log(1 - 1 / v) / 0.75
    before, after = (
        drift.variance_flow(entries(v), entries(0.999 * explosion)),
        drift.variance_flow(entries(v), entries(1.001 * explosion)),
    )
    assert 1e2 < float(before) < np.inf
    assert np.isposinf(float(after))
    assert drift.ceiling() < np.inf
    assert SmoothDrift(0.0, -2.0).ceiling() == ReLUDrift(4.0).ceiling() == np.inf


@st.composite
def covariances(draw: Any) -> np.ndarray:
    """A batch of Gram matrices of 4 inputs, rank 1 to 4, with variances over two orders of magnitude."""
    rank = draw(st.integers(1, 4))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    x = rng.standard_normal((64, 4, rank))
    x *= np.exp(draw(st.floats(0, 1.2)) * rng.standard_normal((64, 4, 1)))
    if draw(st.booleans()):
        x[:, 3] = draw(st.sampled_from([-1.0, 0.5, 1.0])) * x[:, 0]  # collinear inputs
    return np.asarray(x @ np.swapaxes(x, 1, 2))


def smallest_eigenvalue(V: np.ndarray) -> np.ndarray:
    """Relative to the variances: of the correlation matrix."""
    d = np.sqrt(np.diagonal(V, axis1=1, axis2=2))
    return np.linalg.eigvalsh(V / d[:, :, None] / d[:, None, :])[:, 0]


@given(V=covariances(), kappa=st.sampled_from([0.3, 4.0, 16.0]), part=st.sampled_from([0.2, 1.0]))
def test_shaped_relu_steps_keep_the_cone_up_to_the_longest_step(V: np.ndarray, kappa: float, part: float) -> None:
    drift = ReLUDrift(kappa)
    dt = part * drift.longest_step()
    assert drift.longest_step() == pytest.approx(4 / kappa)
    for step in (flow, euler):
        assert np.all(smallest_eigenvalue(step(drift, V, dt)) > -1e-13)


@given(
    V=covariances(),
    kappas=st.sampled_from([(0.0, -2.0), (1.2, -1.6), (0.9, 0.0), (2.0, -3.0), (0.0, 1.0)]),
    dt=st.sampled_from([1e-3, 0.02, 0.5]),
)
def test_smooth_steps_keep_the_cone_at_every_length(V: np.ndarray, kappas: tuple[float, float], dt: float) -> None:
    drift = SmoothDrift(*kappas)
    assert drift.longest_step() == math.inf
    W = flow(drift, V, dt)
    alive = np.all(np.isfinite(np.diagonal(W, axis1=1, axis2=2)), axis=1)
    assert np.all(smallest_eigenvalue(W[alive]) > -1e-13)
    with np.errstate(over="ignore"):
        E = euler(drift, V, dt)
    alive = np.all(np.isfinite(E), axis=(1, 2)) & np.all(np.diagonal(E, axis1=1, axis2=2) > 1e-200, axis=1)
    assert np.all(smallest_eigenvalue(E[alive]) > -1e-13)


@given(V=covariances())
def test_repeated_inputs_stay_repeated_under_the_drift(V: np.ndarray) -> None:
    V = V.copy()
    V[:, 3, :3] = V[:, 0, :3]
    V[:, :3, 3] = V[:, :3, 0]
    V[:, 3, 3] = V[:, 3, 0] = V[:, 0, 3] = V[:, 0, 0]
    for drift in (ReLUDrift(4.0), SmoothDrift(1.2, -1.6)):
        for step in (flow, euler):
            W = step(drift, V, 0.1)
            np.testing.assert_allclose(W[:, 3, :], W[:, 0, :], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", sorted(DRIFTS))
def test_a_zero_input_stays_zero_and_does_not_disturb_the_others(name: str) -> None:
    V = np.zeros((1, 4, 4))
    V[0, :3, :3] = V_START
    for step in (flow, euler):
        W = step(DRIFTS[name], V, 0.1)
        if name != "relu" and step is euler:
            W = np.nan_to_num(W)
        np.testing.assert_array_equal(W[0, 3], 0)
        np.testing.assert_allclose(W[0, :3, :3], step(DRIFTS[name], V_START, 0.1), rtol=1e-13)


def test_the_angular_factor_is_differentiable_up_to_coincident_and_opposite_inputs() -> None:
    for rho in (-1.0, -1 + 1e-15, -1 + 1e-9, -0.5, 0.0, 0.25, 0.5, 1 - 1e-9, 1 - 1e-15, 1.0):
        slope = jax.grad(sin_minus_angle_cos)(entries(rho))
        assert float(slope) == pytest.approx(-math.acos(rho), rel=1e-14)  # f' = -arccos
    assert float(sin_minus_angle_cos(entries(1.0))) == 0
    assert float(sin_minus_angle_cos(entries(-1.0))) == math.pi


def gradient(fn: Callable[..., Any], *at: float) -> list[float]:
    return [float(x) for x in jax.grad(fn, (0, 1, 2))(*map(entries, at))]


@pytest.mark.parametrize("excess", [-1e-15, 0.0, 1e-15])
def test_the_shaped_relu_drift_of_coincident_and_opposite_inputs_has_its_derivatives(excess: float) -> None:
    # b = 0 to second order at ρ = 1 and b = -κ/2 V^{αβ} at ρ = -1, also where rounding has put |ρ| beyond 1. Within it,
    # the angle 10⁻¹⁵ away is 5·10⁻⁸.
    vi, vj = 1.3, 0.7
    vij = math.sqrt(vi) * math.sqrt(vj) * (1 + excess)
    drift = ReLUDrift(3.0)
    np.testing.assert_allclose(gradient(drift.rate, vi, vj, vij), [0, 0, 0], atol=1e-7)
    np.testing.assert_allclose(gradient(drift.rate, vi, vj, -vij), [0, 0, -1.5], atol=1e-7)
    flow = lambda *V: drift.covariance_flow(*V, entries(0.1))  # noqa: E731
    np.testing.assert_allclose(gradient(flow, vi, vj, vij), [0, 0, 1], atol=1e-7)


@pytest.mark.parametrize("name", ["tanh", "cubic", "softplus"])
def test_the_smooth_flow_has_continuous_derivatives_up_to_coincident_and_opposite_inputs(name: str) -> None:
    drift, dt = DRIFTS[name], entries(0.1)
    flow = lambda *V: drift.covariance_flow(*V, dt)  # noqa: E731
    for v in (0.25, 1.0):
        for vij in (v, -v):
            np.testing.assert_allclose(gradient(flow, v, v, vij), gradient(flow, v, v, vij * (1 - 1e-9)), atol=1e-8)
        # V^{αα} = V^{ββ} = V^{αβ} stay equal: together they move as the variance does.
        slope = jax.grad(lambda v: drift.variance_flow(v, dt))(entries(v))
        assert sum(gradient(flow, v, v, v)) == pytest.approx(float(slope), rel=1e-12)
