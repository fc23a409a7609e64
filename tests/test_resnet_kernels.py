"""Kernels of infinitely wide ResNets: exact values, moments against other quadratures, differentiability, explosion."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import resnet as problems
from scipy.integrate import solve_ivp

import covsde as cs
from covsde.moments.of_activation import (
    Erf,
    PiecewiseLinear,
    Polynomial,
    Quadrature,
    QuadratureWarning,
    Sine,
    moments_of,
    second_moment,
    slope_moment,
)
from covsde.moments.quadrature import PolarRule

RELU = cs.ResNet(jax.nn.relu)


# --- exact values ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("problem", problems.KERNELS, ids=lambda p: p.slug)
def test_kernels_have_their_exact_values(problem: problems.KernelProblem) -> None:
    k = cs.kernels(problem.architecture, problem.gram, depth=problem.depth)
    found = {"H": k.H[-1], "G": k.G[0], "K": k.ntk}
    for name, values in problem.exact.items():
        matrix = found[name]
        np.testing.assert_allclose([matrix[0, j] for j in range(len(values))], values, rtol=0, atol=problem.digits)
        np.testing.assert_array_equal(matrix, matrix.T)
    assert k.stop_tau == 1
    np.testing.assert_array_equal(k.G[-1], np.ones_like(problem.gram))


def test_the_error_of_finite_depth_is_one_over_depth_with_its_constant() -> None:
    V0 = np.asarray(problems.AT_ONE_RADIAN)
    limit = cs.kernels(RELU, V0).ntk
    scaled = {L: L * (cs.kernels(RELU, V0, depth=L).ntk - limit) for L in (64, 128)}
    # Richardson in 1/L: what remains is O(1/L²).
    constant = 2 * scaled[128] - scaled[64]
    assert constant[0, 0] == pytest.approx(problems.slope_of_the_depth_error(1.0), rel=1e-4)
    np.testing.assert_allclose(scaled[128], constant, rtol=0.01)


@pytest.mark.parametrize("kappa", sorted(problems.CORRELATION))
def test_a_relu_resnet_and_a_shaped_mlp_of_the_same_kappa_share_one_correlation_ode(kappa: float) -> None:
    V0 = np.array([[1.0, 0.3], [0.3, 1.0]])
    res = cs.ResNet(jax.nn.relu, math.sqrt(kappa))
    H = cs.simulate(res, V0).correlation(0, 1)[-1, 0]
    assert pytest.approx(problems.CORRELATION[kappa], abs=1e-6) == H
    # The MLP with slopes 1 ± c/√depth keeps noise of size √T around the same curve.
    T = 1e-3
    rho = cs.simulate(cs.matching_mlp(res, T), V0, paths=4000, steps=60, key=1).correlation(0, 1)[-1]
    assert abs(rho.mean() - H) < 4 * rho.std() / math.sqrt(4000) + T
    assert rho.std() < 3 * math.sqrt(T)


# --- Gaussian moments -----------------------------------------------------------------------------------------------

V = np.array([[1.0, 0.3, -1.2], [0.3, 2.5, 0.5], [-1.2, 0.5, 1.7]])


def nested_quadrature(f: Callable[[np.ndarray], np.ndarray], vi: float, vj: float, vij: float) -> float:
    """E f(u) f(v) by conditioning on u, with panels that end at the kinks of both."""

    def panels(edges: np.ndarray, per_panel: int = 20) -> tuple[np.ndarray, np.ndarray]:
        x, w = np.polynomial.legendre.leggauss(per_panel)
        half = np.diff(edges, axis=-1)[..., None] / 2
        nodes = edges[..., :-1, None] + half * (x + 1)
        weights = half * w
        shape = (*edges.shape[:-1], -1)
        return nodes.reshape(shape), weights.reshape(shape)

    x, w = panels(np.concatenate([np.linspace(-9, 0, 19), np.linspace(0, 9, 19)[1:]]))
    slope, spread = vij / vi, math.sqrt(vj - vij**2 / vi)
    kink = np.clip(-slope * math.sqrt(vi) * x / spread, -9, 9)  # where v = 0
    parts = np.linspace(0, 1, 13)
    edges = np.concatenate([-9 + (kink[:, None] + 9) * parts, kink[:, None] + (9 - kink[:, None]) * parts[1:]], axis=1)
    y, wy = panels(edges)
    v = slope * math.sqrt(vi) * x[:, None] + spread * y
    inner = np.sum(wy * np.exp(-(y**2) / 2) * f(v), axis=1) / math.sqrt(2 * math.pi)
    return float(np.sum(w * np.exp(-(x**2) / 2) * f(math.sqrt(vi) * x) * inner) / math.sqrt(2 * math.pi))


@pytest.mark.parametrize(
    ("fn", "kind"),
    [
        (lambda x: jax.nn.leaky_relu(x, 0.2), PiecewiseLinear),
        (jax.scipy.special.erf, Erf),
        (jnp.sin, Sine),
        (lambda x: x**3 - 0.5 * x**2 + 1, Polynomial),
        (jnp.tanh, Quadrature),
        (jax.nn.selu, Quadrature),
    ],
    ids=["leaky relu", "erf", "sin", "cubic", "tanh", "selu"],
)
def test_gaussian_moments_agree_with_nested_quadrature(fn: Any, kind: type) -> None:
    moments = moments_of(fn)
    assert isinstance(moments, kind)

    def value(x: np.ndarray) -> np.ndarray:
        return np.asarray(fn(jnp.asarray(x)))

    def slope(x: np.ndarray) -> np.ndarray:
        return np.asarray(jax.jvp(fn, (jnp.asarray(x),), (jnp.ones(x.shape),))[1])

    pairs = ((1, 0), (2, 0), (2, 1))
    phi, dphi = np.asarray(second_moment(moments, jnp.asarray(V))), np.asarray(slope_moment(moments, jnp.asarray(V)))
    for i, j in pairs:
        for found, f in ((phi, value), (dphi, slope)):
            assert found[i, j] == pytest.approx(nested_quadrature(f, V[i, i], V[j, j], V[i, j]), abs=2e-9)
    nodes, weights = np.polynomial.legendre.leggauss(200)
    half = 4.75 * (nodes + 1)
    density = 4.75 * weights * np.exp(-(half**2) / 2) / math.sqrt(2 * math.pi)
    mean = [np.sum(density * (value(s * half) + value(-s * half))) for s in np.sqrt(np.diag(V))]
    np.testing.assert_allclose(moments.mean(jnp.asarray(np.diag(V))), mean, atol=1e-10)


def test_kinks_away_from_zero_are_reported() -> None:
    with pytest.warns(QuadratureWarning, match="accurate only to about"):
        moments_of(lambda x: jnp.clip(x, -1, 1))


def test_what_is_no_elementwise_function_is_refused() -> None:
    for bad in (lambda x: jnp.sum(x), lambda x: jnp.log(x), lambda x: x / 0.0):
        with pytest.raises(ValueError, match="activation must"):
            cs.ResNet(bad)
    with pytest.raises(ValueError, match="activation='swish' is not a known function"):
        cs.ResNet("swish")
    with pytest.raises(ValueError, match="activation must be an elementwise JAX function"):
        cs.ResNet(cs.ShapedReLU(0.0, -1.0))
    with pytest.raises(ValueError, match="beta must be at least 0"):
        cs.ResNet(jnp.tanh, -1.0)
    with pytest.raises(ValueError, match="block must be one of pre-activation"):
        cs.ResNet(jnp.tanh, block="pre")


@pytest.mark.parametrize("rho", [0.4, 1.0, -1.0])
def test_derivatives_of_moments_hold_up_to_coincident_inputs(rho: float) -> None:
    # Along the curve u = x, v = x + ε y in input space, also where ρ = ±1 at ε = 0.
    for moments in (moments_of(jax.nn.relu), Quadrature(jax.nn.relu, PolarRule(24, 12)), moments_of(jnp.tanh)):

        def along(e: Any, moments: Any = moments) -> Any:
            vj = (rho + e * 0.5) ** 2 + (1 - rho**2)
            return moments.product(jnp.asarray(1.0), vj, rho + e * 0.5)

        slope = float(jax.grad(along)(jnp.asarray(0.0)))
        difference = (float(along(jnp.asarray(1e-5))) - float(along(jnp.asarray(-1e-5)))) / 2e-5
        assert slope == pytest.approx(difference, abs=1e-7)


# --- the limit ------------------------------------------------------------------------------------------------------


def test_the_limit_follows_an_accurate_solution_of_its_ode() -> None:
    # Independent of the library's kernels: 40 Gauss–Hermite nodes a side, enough for tanh with variance near 1.
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    weights = weights / weights.sum()
    V0 = np.array([[0.5, 0.2], [0.2, 0.4]])

    def rate(_: float, y: np.ndarray) -> np.ndarray:
        H = y.reshape(2, 2)
        L = np.linalg.cholesky(H)
        z = [L[k, 0] * nodes[:, None] + L[k, 1] * nodes[None, :] for k in range(2)]
        return np.array([weights @ (np.tanh(z[i]) * np.tanh(z[j])) @ weights for i in range(2) for j in range(2)])

    exact = solve_ivp(rate, (0, 1), V0.ravel(), rtol=1e-9, atol=1e-11).y[:, -1].reshape(2, 2)
    res = cs.ResNet(jnp.tanh)
    np.testing.assert_allclose(cs.kernels(res, V0).H[-1], exact, atol=1e-7)
    e = cs.simulate(res, V0)
    assert e.paths == 1
    assert e.deterministic
    np.testing.assert_allclose(e.V[-1, 0], exact, atol=1e-6)
    for estimate in (
        e.mean(lambda V: V[..., 0, 1]),
        e.variance(lambda V: V[..., 0, 1]),
        e.quantile(lambda V: V[..., 0, 1], 0.5),
    ):
        np.testing.assert_array_equal(estimate.standard_error, 0.0)
    np.testing.assert_array_equal(e.variance(lambda V: V[..., 0, 1]).value, 0.0)


def test_the_default_solver_is_of_third_order_and_keeps_the_cone() -> None:
    x = np.random.default_rng(0).standard_normal((4, 2))  # rank 2
    x[3] = -x[0]
    V0 = cs.gram(x)
    coarse, fine = (cs.simulate(RELU, V0, steps=n, save_at=[0, 1]) for n in (1, 2))
    for e in (coarse, fine):
        assert e.failures["total"] == 0
        assert np.linalg.eigvalsh(e.V[-1, 0])[0] > -1e-13
    exact = cs.kernels(RELU, V0).H[-1]
    errors = [np.max(np.abs(e.V[-1, 0] - exact)) for e in (coarse, fine)]
    assert errors[0] / errors[1] > 6  # 8 in the limit of small steps


def test_variances_of_a_quadratic_activation_explode_at_their_exact_time() -> None:
    # E φ² = 3H²: 1/H = 1/H_0 - 3β²τ.
    def square(x: Any) -> Any:
        return x * x

    H0, beta = 1.0, 0.8
    explosion = 1 / (3 * beta**2 * H0)
    res, V0 = cs.ResNet(square, beta), np.full((1, 1), H0)
    with pytest.warns(cs.FailedPathsWarning, match="explode"):
        k = cs.kernels(res, V0, save_at=np.linspace(0, 1, 41))
    assert explosion - 1 / 40 < k.stop_tau <= explosion
    before = k.tau <= k.stop_tau
    np.testing.assert_allclose(k.H[before, 0, 0], 1 / (1 / H0 - 3 * beta**2 * k.tau[before]), rtol=1e-7)
    assert np.all(np.isnan(k.H[~before]))
    assert np.all(np.isnan(k.ntk))
    e = cs.simulate(res, V0, steps=2000)
    assert e.failures == {"EXPLODED": 1, "total": 1}
    assert e.stop_tau[0] == pytest.approx(explosion, abs=0.02)
    assert np.isposinf(e.V[-1, 0, 0, 0])


@pytest.mark.parametrize(("exponent", "at_infinity"), [(0.25, math.inf), (0.5, math.exp(0.5)), (0.75, 1.0), (1.0, 1.0)])
def test_the_branch_exponent_decides_between_no_limit_a_flow_and_no_change(exponent: float, at_infinity: float) -> None:
    res, V0 = cs.ResNet(jax.nn.relu, block=cs.PreActivation(exponent)), np.eye(1)
    H = [cs.kernels(res, V0, depth=L).H[-1, 0, 0] for L in (100, 400)]
    assert H[1] == pytest.approx((1 + 0.5 * 400 ** (-2 * exponent)) ** 400)
    if math.isinf(at_infinity):
        assert H[1] > 50 * H[0]
        with pytest.raises(ValueError, match="below the critical 1/2"):
            res.limit()
        return
    k = cs.kernels(res, V0)
    assert k.H[-1, 0, 0] == pytest.approx(at_infinity)
    # Distance to the limit falls like 1/L at α = 1/2 and like L^{1-2α} above.
    rate = 4.0 if exponent == 0.5 else 4 ** (2 * exponent - 1)
    assert (H[0] - at_infinity) / (H[1] - at_infinity) == pytest.approx(rate, rel=0.1)
    if exponent > 0.5:
        assert k.ntk[0, 0] == pytest.approx(0.5)  # Φ(H_0): nothing moves at initialization, yet training does


def test_two_matrix_blocks_leave_the_covariance_and_have_the_tangent_kernel_of_their_first_update() -> None:
    # K = Φ(1) + Φ'(1): E tanh² + E sech⁴ under N(0, 1), by Gauss–Hermite quadrature.
    nodes, weights = np.polynomial.hermite_e.hermegauss(100)
    exact = weights @ (np.tanh(nodes) ** 2 + np.cosh(nodes) ** -4.0) / math.sqrt(2 * math.pi)
    k = cs.kernels(cs.ResNet(jnp.tanh, block="two-matrix"), np.eye(1))
    np.testing.assert_array_equal(k.H[:, 0, 0], 1.0)
    assert k.ntk[0, 0] == pytest.approx(exact, rel=1e-6)
    linear = cs.kernels(cs.ResNet(problems.identity, block="two-matrix"), np.eye(1))
    assert linear.ntk[0, 0] == pytest.approx(2.0)


def test_post_activation_kernels_of_a_linear_network_are_those_of_a_pre_activation_one() -> None:
    V0 = np.array([[1.0, 0.3], [0.3, 2.0]])
    post, pre = (
        cs.kernels(cs.ResNet(problems.identity, 0.9, block), V0) for block in ("post-activation", "pre-activation")
    )
    np.testing.assert_allclose(post.H, pre.H, rtol=1e-9)
    np.testing.assert_allclose(post.ntk, pre.ntk, rtol=1e-9)


# --- differentiability ----------------------------------------------------------------------------------------------


def test_gradients_with_respect_to_beta_and_inputs_agree_with_finite_differences() -> None:
    x = np.random.default_rng(0).standard_normal((3, 4))
    x[2] = x[0]  # a repeated input: ρ = 1, where arccos has no derivative and turns rounding into 10⁻⁸

    def kernels_of(beta: Any, x: Any, V0: Any) -> Any:
        k = cs.kernels(cs.ResNet(jax.nn.relu, beta), V0, save_at=[0, 1], tolerance=1e-11)
        return k.ntk[0, 1] + k.H[-1, 1, 2] ** 2 + k.G[0, 0, 1] + k.ntk[0, 2]

    def scalar(beta: Any, x: Any) -> Any:
        return kernels_of(beta, x, x @ x.T / 4)

    to_beta, to_x = jax.jit(jax.grad(scalar, (0, 1)))(1.3, jnp.asarray(x))
    h = 1e-5

    def difference(db: float, dx: np.ndarray) -> float:
        return (scalar(1.3 + h * db, x + h * dx) - scalar(1.3 - h * db, x - h * dx)) / (2 * h)

    # Differences err by O(h²) and by what rounding adds to the kernels, 10⁻¹³ or so, over h.
    assert float(to_beta) == pytest.approx(difference(1, np.zeros_like(x)), rel=1e-8)
    direction = np.random.default_rng(1).standard_normal(x.shape)
    direction[2] = direction[0]  # repeated inputs stay repeated
    assert float(np.sum(np.asarray(to_x) * direction)) == pytest.approx(difference(0, direction), rel=1e-8)


@pytest.mark.thorough
@pytest.mark.parametrize("depth", [None, 1000])
def test_kernels_of_proportional_inputs_are_those_of_one_input_with_their_derivatives(depth: int | None) -> None:
    # x and 1.7 x: H = 1.7 v e^{β²/2}, G = e^{β²/2} and K = β²/2 H, though their variances are rounded differently.
    def along(beta: Any, v: Any, c: Any) -> Any:
        x = jnp.stack([jnp.ones_like(c), c])
        k = cs.kernels(cs.ResNet(jax.nn.relu, beta), v * jnp.outer(x, x), depth=depth)
        found = jnp.stack([k.H[-1, 0, 1], k.G[0, 0, 1], k.ntk[0, 1]])
        return found, found

    def exact(beta: Any, v: Any, c: Any) -> Any:
        layer = 1.0 if depth is None else 1 + beta**2 / 2 / depth
        growth = jnp.exp(beta**2 / 2) if depth is None else layer**depth
        return jnp.stack([c * v * growth, growth, beta**2 / 2 * c * v * growth / layer])

    slopes = jax.jit(jax.jacrev(along, (0, 1, 2), has_aux=True))
    for v in (0.3, 0.7):
        at = tuple(map(jnp.asarray, (1.3, v, 1.7)))
        found, values = slopes(*at)
        np.testing.assert_allclose(values, exact(*at), rtol=1e-9)
        np.testing.assert_allclose(found, jax.jacrev(exact, (0, 1, 2))(*at), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("kind", ["closed form", "quadrature"])
def test_relu_moments_of_coincident_and_opposite_inputs_are_exact_with_their_derivatives(kind: str) -> None:
    # E φφ = V^{αβ}/2 and E φ'φ' = 1/2 at ρ = 1, both 0 at ρ = -1, whatever rounding has done to ρ.
    moments = moments_of(jax.nn.relu) if kind == "closed form" else Quadrature(jax.nn.relu, PolarRule(24, 12))

    def both(*V: Any) -> Any:
        found = jnp.stack([moments.product(*V), moments.slope_product(*V)])
        return found, found

    derivatives = jax.jit(jax.jacrev(both, (0, 1, 2), has_aux=True))
    vi, vj = 1.3, 0.7
    for sign, half in ((1, 0.5), (-1, 0.0)):
        for ulps in (-8, -1, 0, 1, 8):
            vij = sign * math.sqrt(vi) * math.sqrt(vj) * (1 + ulps * np.finfo(np.float64).eps)
            found, values = derivatives(*map(jnp.asarray, (vi, vj, vij)))
            np.testing.assert_allclose(values, [half * vij, half], atol=1e-14)
            np.testing.assert_allclose(np.transpose(found), [[0, 0, half], [0, 0, 0]], atol=1e-14)


def test_finite_depth_kernels_are_differentiable_too() -> None:
    def scalar(beta: Any) -> Any:
        return cs.kernels(cs.ResNet(jax.nn.relu, beta), jnp.eye(1), depth=8).ntk[0, 0]

    # K_L = x (1 + x/L)^{L-1}, x = β²/2
    exact = jax.grad(lambda b: b**2 / 2 * (1 + b**2 / 16) ** 7)(1.1)
    assert float(jax.grad(scalar)(1.1)) == pytest.approx(float(exact), rel=1e-10)
