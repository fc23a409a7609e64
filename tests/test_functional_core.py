"""The functional core: derivatives of statistics with the random numbers held fixed, and what is known about them."""

import math
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import polygamma

import covsde as cs
from covsde.numerics.keys import typed_key
from covsde.solvers import cone
from covsde.solvers.layout import DenseLayout

KEY = jax.random.key(3)
V2 = np.array([[1.0, 0.3], [0.3, 1.4]])
EXPLODING = cs.MLP(cs.ShapedSmooth("gelu"), 1.5)


def correlation(V: Any) -> Any:
    return V[..., 0, 1] / jnp.sqrt(V[..., 0, 0] * V[..., 1, 1])


def statistic(V: Any) -> Any:
    """A number that every entry of V enters, at two layer times."""
    return jnp.mean(correlation(V[-1]) + jnp.log(V[-1, :, 0, 0]) / 3) + jnp.mean(jnp.tanh(V[1])) / 2


def relu(c_plus: Any, c_minus: Any, T: Any) -> cs.MLP:
    return cs.MLP(cs.ShapedReLU(c_plus, c_minus), T)


def tanh(a: Any, T: Any) -> cs.MLP:
    return cs.MLP(cs.ShapedSmooth("tanh", a), T)


def silu(a: Any, bias: Any, gain: Any) -> cs.MLP:
    return cs.MLP(cs.ShapedSmooth("silu", a), 0.3, bias=bias, gain=gain)


def tapered(c_minus: Any, T: Any) -> cs.MLP:
    return cs.MLP(cs.ShapedReLU(0.5, c_minus), T, width_profile=lambda tau: 1 + tau, shaping_width="common")


def transformer(gamma: Any, tau0: Any, T: Any) -> cs.Transformer:
    return cs.Transformer(gamma, tau0, mlp=cs.ShapedReLU(0.0, -1.0), depth_to_width=T)


def resnet(beta: Any) -> cs.ResNet:
    return cs.ResNet("gelu", beta)


def flat(make: Callable[..., Any], steps: int, solver: Any = None) -> Callable[[Any, Any], Any]:
    """The statistic as a function of the hyperparameters and of V0."""

    def f(parameters: Any, V0: Any) -> Any:
        V = cs.solve(make(*parameters).limit(), V0, KEY, paths=48, steps=steps, save_at=[0.5], solver=solver)
        return statistic(V)

    return f


# --- against differences ------------------------------------------------------------------------------------------

CASES = {
    "relu": (relu, (0.5, -1.0, 0.8), 4, None),
    "tanh": (tanh, (1.2, 0.8), 4, None),
    "silu, bias and gain": (silu, (1.5, 0.3, -0.4), 4, None),
    "unequal widths": (tapered, (-1.0, 0.8), 4, None),
    "euler": (relu, (0.5, -1.0, 0.2), 8, cs.EulerMaruyama()),
    "lamperti": (relu, (0.5, -1.0, 0.8), 8, cs.LampertiEuler()),
    "transformer": (transformer, (0.6, 1.3, 0.8), 4, None),
    "resnet": (resnet, (0.9,), 4, None),
}


# The rest are the same equations in other solvers, or other equations in the same: they wait for `make thorough`.
QUICK = ("relu", "tanh", "transformer")


def beside(cases: Iterable[str]) -> list[Any]:
    """Cases, all but the quick ones marked as thorough."""
    return [case if case in QUICK else pytest.param(case, marks=pytest.mark.thorough) for case in cases]


@pytest.mark.parametrize("case", beside(CASES))
def test_pathwise_derivatives_are_differences_of_common_random_numbers(case: str) -> None:
    make, parameters, steps, solver = CASES[case]
    f = flat(make, steps, solver)
    at = jnp.asarray(parameters)
    value, (by_parameters, by_V0) = jax.jit(jax.value_and_grad(f, argnums=(0, 1)))(at, V2)
    # The same program without its derivative; h is where rounding h⁻¹10⁻¹⁶ and curvature h² meet.
    plain, h = jax.jit(f), 1e-5
    assert float(value) == pytest.approx(float(plain(at, V2)), rel=1e-13)
    for k, e in enumerate(np.eye(len(parameters))):
        difference = (plain(at + h * e, V2) - plain(at - h * e, V2)) / (2 * h)
        assert float(by_parameters[k]) == pytest.approx(float(difference), rel=1e-6, abs=1e-8)
    direction = np.array([[0.7, -0.4], [-0.4, 0.2]])
    difference = (plain(at, V2 + h * direction) - plain(at, V2 - h * direction)) / (2 * h)
    assert float(jnp.sum(by_V0 * direction)) == pytest.approx(float(difference), rel=1e-6, abs=1e-8)
    assert np.array_equal(by_V0, by_V0.T)


@pytest.mark.thorough
def test_derivatives_forwards_are_those_backwards() -> None:
    f = flat(relu, 4)
    at = (0.5, -1.0, 0.8)
    backwards = jax.grad(f, argnums=(0, 1))(at, V2)
    forwards = jax.jacfwd(f, argnums=(0, 1))(at, V2)
    for one, other in zip(jax.tree.leaves(backwards), jax.tree.leaves(forwards), strict=True):
        assert np.allclose(one, other, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("case", beside(["relu", "silu, bias and gain"]))
def test_repeated_and_zero_inputs_have_derivatives_that_keep_them_so(case: str) -> None:
    make, parameters, steps, _ = CASES[case]
    x = np.array([[1.0, 0.2], [1.0, 0.2], [0.0, 0.0]])

    def f(parameters: Any, scale: Any) -> Any:
        V = cs.solve(make(*parameters).limit(), scale * x @ x.T / 2, KEY, paths=16, steps=steps)
        return jnp.mean(jnp.tanh(V[-1]) * np.arange(9.0).reshape(1, 3, 3))

    at, h = jnp.asarray(parameters), 1e-5
    plain = jax.jit(f)
    slope, by_scale = jax.jit(jax.grad(f, argnums=(0, 1)))(at, 1.0)
    for k, e in enumerate(np.eye(len(parameters))):
        difference = (plain(at + h * e, 1.0) - plain(at - h * e, 1.0)) / (2 * h)
        assert float(slope[k]) == pytest.approx(float(difference), rel=1e-6, abs=1e-7)
    difference = (plain(at, 1 + h) - plain(at, 1 - h)) / (2 * h)
    assert float(by_scale) == pytest.approx(float(difference), rel=1e-6)


def test_in_the_layout_of_many_inputs_derivatives_are_differences_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cone, "layout_for", DenseLayout)

    def f(c: Any) -> Any:
        # A number of paths of its own: a program compiled for the other layout must not be found again.
        return statistic(cs.solve(relu(0.0, c, 0.5).limit(), V2, KEY, paths=23, steps=2))

    plain, h = jax.jit(f), 1e-5
    difference = (plain(-1 + h) - plain(-1 - h)) / (2 * h)
    assert float(jax.jit(jax.grad(f))(-1.0)) == pytest.approx(float(difference), rel=1e-6)


# --- against what is known exactly --------------------------------------------------------------------------------


def mean_and_error(samples: Any) -> tuple[float, float]:
    samples = np.asarray(samples)
    return float(samples.mean()), float(samples.std(ddof=1) / math.sqrt(samples.size))


def test_the_mean_of_log_V_moves_by_minus_the_clock_and_with_log_V0() -> None:
    # log(V_T/V_0) ~ N(-T, 2T) for shaped ReLU, at every step size.
    def log_V(T: Any, scale: Any) -> Any:
        V0 = scale * jnp.asarray(V2)
        return jnp.log(cs.solve(relu(0.0, -1.0, T).limit(), V0, KEY, paths=8000, steps=4)[-1, :, 0, 0])

    _, by_T = jax.jvp(log_V, (0.8, 1.0), (1.0, 0.0))
    slope, error = mean_and_error(by_T)
    assert abs(slope + 1) < 4 * error < 0.05
    _, by_scale = jax.jvp(log_V, (0.8, 2.0), (0.0, 1.0))
    assert np.allclose(by_scale, 1 / 2, rtol=1e-12)  # on every path: the equation is linear in scale


def test_the_mean_correlation_moves_with_the_shape_as_its_exact_law_does() -> None:
    rho0, h = 0.3, 1e-2

    def rho(c: Any) -> Any:
        V0 = jnp.asarray([[1.0, rho0], [rho0, 1.0]])
        return correlation(cs.solve(relu(0.0, c, 1.0).limit(), V0, KEY, paths=16_000, steps=10)[-1])

    slope, error = mean_and_error(jax.jvp(rho, (-1.0,), (1.0,))[1])
    law = [cs.correlation_law(relu(0.0, c, 1.0), rho0, save_at=[0, 1]).mean[-1] for c in (-1 - h, -1 + h)]
    exact = (law[1] - law[0]) / (2 * h)
    # Strang's weak error at ten steps is below 10⁻³ of the slope, the difference's h².
    assert abs(slope - exact) < 4 * error + 1e-3 * abs(exact)
    assert 4 * error < 0.05 * abs(exact)


def test_wishart_steps_know_that_their_gamma_variates_depend_on_the_width() -> None:
    # A step is a layer of width k/T: E log V_T = k (ψ(k/2T) - log(k/2T)).
    T, k = 0.8, 4

    def log_V(T: Any) -> Any:
        limit = cs.MLP(cs.Identity(), T).limit()
        return jnp.log(cs.solve(limit, V2, KEY, paths=8000, steps=k, solver=cs.WishartStep())[-1, :, 0, 0])

    slope, error = mean_and_error(jax.jvp(log_V, (T,), (1.0,))[1])
    a = k / (2 * T)
    exact = k * (polygamma(1, a) - 1 / a) * -a / T
    assert abs(slope - exact) < 4 * error < 0.06 * abs(exact)


# --- paths that stop ----------------------------------------------------------------------------------------------


@pytest.mark.thorough
def test_the_derivative_of_the_paths_that_live_is_right_beside_paths_that_explode() -> None:
    def V_of(a: Any, scale: Any) -> Any:
        limit = cs.MLP(cs.ShapedSmooth("gelu", a), 1.5).limit()
        return cs.solve(limit, scale * jnp.asarray(V2), KEY, paths=128, steps=8)

    def of_the_living(a: Any, scale: Any) -> Any:
        V = V_of(a, scale)[-1]
        lives = ~jnp.any(jnp.isnan(V), axis=(1, 2))
        # Others are replaced before anything is computed from them: 0 · NaN is NaN.
        return jnp.mean(correlation(jnp.where(lives[:, None, None], V, jnp.asarray(V2)[None])), where=lives)

    V = V_of(1.0, 1.0)
    living = int(jnp.sum(~jnp.isnan(correlation(V[-1]))))
    assert 20 < living < 108
    plain, h = jax.jit(of_the_living), 1e-6
    by_a, by_scale = jax.jit(jax.grad(of_the_living, argnums=(0, 1)))(1.0, 1.0)
    difference = (plain(1 + h, 1.0) - plain(1 - h, 1.0)) / (2 * h)
    assert float(by_a) == pytest.approx(float(difference), rel=1e-5)
    difference = (plain(1.0, 1 + h) - plain(1.0, 1 - h)) / (2 * h)
    assert float(by_scale) == pytest.approx(float(difference), rel=1e-5)
    # A mean over all of them does not exist, and neither does its derivative.
    for f in (lambda a: jnp.mean(correlation(V_of(a, 1.0)[-1])), lambda a: jnp.mean(V_of(a, 1.0))):
        value, slope = jax.jit(jax.value_and_grad(f))(1.0)
        assert np.isnan(value)
        assert not np.isfinite(slope)


SIMULATED = {
    "relu": (relu(0.0, -1.0, 0.8), None, 4),
    "exploding": (EXPLODING, None, 8),
    "losing psd": (cs.MLP(cs.ShapedReLU(0.0, -1.0)), cs.EulerMaruyama(), 4),
    "resnet": (resnet(0.9), None, 4),
}


@pytest.mark.parametrize("case", SIMULATED)
@pytest.mark.filterwarnings("ignore::covsde.FailedPathsWarning")  # their paths are meant to stop
def test_chunk_c_of_a_simulation_is_the_core_with_the_key_folded_by_c(case: str) -> None:
    architecture, solver, steps = SIMULATED[case]
    run = cs.simulate(architecture, V2, paths=128, chunk=64, key=5, steps=steps, save_at=[0.5], solver=solver)
    for c in range(1 if run.deterministic else 2):
        key = jax.random.fold_in(typed_key(5), c)
        V = cs.solve(architecture.limit(), V2, key, paths=64, steps=steps, save_at=[0.5], solver=solver)
        assert np.array_equal(V, run.V[:, 64 * c : 64 * (c + 1)], equal_nan=True)
    if case in ("exploding", "losing psd"):
        assert run.failures["total"] > 0


# --- pure ---------------------------------------------------------------------------------------------------------


def test_it_is_the_same_under_jit_and_vmap_over_shapes_and_keys() -> None:
    def V(c: Any, key: Any) -> Any:
        return cs.solve(relu(0.0, c, 1.0).limit(), V2, key, paths=8)

    shapes, keys = jnp.asarray([-1.0, -2.0]), jax.random.split(KEY, 2)
    one_by_one = jnp.stack([V(float(c), k) for c, k in zip(shapes, keys, strict=True)])
    assert one_by_one.shape == (2, 11, 8, 2, 2)
    assert np.allclose(jax.jit(jax.vmap(V))(shapes, keys), one_by_one, rtol=1e-12)


def test_numbers_are_checked_where_they_are_numbers() -> None:
    limit = relu(0.0, -1.0, 1.0).limit()
    with pytest.raises(ValueError, match="V0 is not positive semidefinite"):
        cs.solve(limit, [[1.0, 2.0], [2.0, 1.0]], KEY, paths=2)
    with pytest.raises(ValueError, match="steps must be given: this limit takes about 500"):
        cs.solve(relu(0.0, -1.0, 50.0).limit(), V2, KEY, paths=2)
    with pytest.raises(ValueError, match="steps=2 is too few"):
        cs.solve(relu(0.0, -9.0, 1.0).limit(), V2, KEY, paths=2, steps=2)
    with pytest.raises(ValueError, match=r"V0 must be an \(m, m\) Gram matrix, got shape \(2,\)"):
        jax.jit(lambda V0: cs.solve(limit, V0, KEY, paths=2))(jnp.ones(2))
    with pytest.raises(ValueError, match=r"c_minus must be a single number, got an array of shape \(2,\)"):
        jax.jit(lambda c: cs.ShapedReLU(0.0, c).kappa)(jnp.ones(2))


def test_constructors_let_traced_scalars_pass() -> None:
    def constants(x: Any) -> Any:
        smooth = cs.ShapedSmooth("silu", x)
        return [
            cs.ShapedReLU(x, 0.0).kappa,
            cs.LeakyReLU(x).negative_slope,
            smooth.kappa2 + smooth.kappa3 + smooth.beta,
            cs.MLP(smooth, x, bias=x, gain=x).limit().ceiling,
            cs.Transformer(x, x, mlp=cs.ShapedReLU(0.0, x), depth_to_width=x).limit().ceiling,
            cs.ResNet("relu", x).beta,
            cs.MLP(cs.Identity(), x, width_profile=lambda tau: 1 + tau).limit().noise_clock.fastest(),
        ]

    for traced, number in zip(jax.jit(constants)(0.5), constants(0.5), strict=True):
        assert float(traced) == pytest.approx(float(number), rel=1e-14)
