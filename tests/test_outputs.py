"""The law of the outputs: exact densities, and Gaussian mixtures over ensembles."""

import builtins
import dataclasses
import math
from typing import Any

import numpy as np
import pytest
from reference import outputs as problems
from reference.outputs import POINTS, OutputProblem
from scipy import integrate, stats

import covsde as cs

LINEAR, RELU = cs.Identity(), cs.LeakyReLU(0.0)


def moments(density: Any) -> tuple[float, float, float]:
    """∫ p, ∫ f² p and ∫ f⁴ p over the real line, on a grid of log f."""
    x = np.linspace(-30, 9, 391)
    f = np.exp(x)
    p = 2 * density(f) * f
    return tuple(float(integrate.trapezoid(p * f**k, x)) for k in (0, 2, 4))  # type: ignore[return-value]


def mixture(*covariances: Any, repeat: int = 1) -> cs.Ensemble:
    V = np.repeat(np.asarray(covariances, dtype=float), repeat, axis=0)[None]
    return cs.Ensemble(np.array([1.0]), V, np.zeros(V.shape[1]), np.ones(V.shape[1]))


# --- without Monte Carlo -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("p", problems.FINITE, ids=lambda p: p.slug)
def test_densities_at_finite_width_have_their_known_digits(p: OutputProblem) -> None:
    for density in (cs.network_output_density, cs.meijer_output_density):
        np.testing.assert_allclose(density(p.activation, p.widths, POINTS), p.density, rtol=0, atol=p.tolerance)
    assert cs.output_atom(p.activation, p.widths) == pytest.approx(p.atom, abs=1e-15)


@pytest.mark.parametrize("p", problems.LIMIT, ids=lambda p: p.slug)
def test_densities_of_the_limit_have_their_known_digits(p: OutputProblem) -> None:
    for activation in (LINEAR, cs.ShapedReLU(1.0, -1.0)):
        mlp = cs.MLP(activation, p.depth_to_width)
        np.testing.assert_allclose(cs.limit_output_density(mlp, POINTS), p.density, rtol=0, atol=p.tolerance)
        assert cs.limit_kurtosis(mlp) == pytest.approx(p.kurtosis, rel=1e-14)


@pytest.mark.parametrize("p", problems.FINITE, ids=lambda p: p.slug)
def test_densities_at_finite_width_integrate_to_the_mass_off_zero_with_the_exact_moments(p: OutputProblem) -> None:
    mass, second, fourth = moments(lambda f: cs.network_output_density(p.activation, p.widths, f, variance=0.7))
    assert mass == pytest.approx(1 - p.atom, abs=1e-9)
    # He scaling keeps the variance.
    assert second == pytest.approx(0.7, rel=1e-9)
    assert fourth / second**2 == pytest.approx(p.kurtosis, rel=1e-9)
    assert cs.network_kurtosis(p.activation, p.widths) == pytest.approx(p.kurtosis, rel=1e-14)


@pytest.mark.parametrize(
    ("activation", "rate"),
    [(LINEAR, 2.0), (RELU, 5.0), (cs.LeakyReLU(0.2), 6 * 1.0016 / 1.04**2 - 1), (cs.ShapedReLU(0.0, -1.0), 2.0)],
    ids=repr,
)
def test_densities_of_the_limit_integrate_to_one_with_the_exact_moments(activation: Any, rate: float) -> None:
    T = 0.4
    mlp = cs.MLP(activation, T)
    mass, second, fourth = moments(lambda f: cs.limit_output_density(mlp, f, variance=0.7))
    assert mass == pytest.approx(1, abs=1e-9)
    assert second == pytest.approx(0.7, rel=1e-7)
    assert fourth / second**2 == pytest.approx(3 * math.exp(rate * T), rel=1e-6)
    assert cs.limit_kurtosis(mlp) == pytest.approx(3 * math.exp(rate * T), rel=1e-12)


def test_the_limit_density_at_zero_is_the_mean_inverse_root_variance() -> None:
    # E V^{-1/2} = e^{sT/4 + sT/8} for log V ~ N(-sT/2, sT)
    for T in (0.1, 1.0, 4.0):
        exact = math.exp(3 * 5 * T / 8) / math.sqrt(2 * math.pi * 2)
        assert cs.limit_output_density(cs.MLP(RELU, T), 0.0, variance=2.0) == pytest.approx(exact, rel=1e-12)


@pytest.mark.parametrize("activation", [LINEAR, RELU], ids=repr)
def test_the_exact_density_of_wide_networks_approaches_the_limit_like_one_over_n(activation: Any) -> None:
    limit = cs.limit_output_density(cs.MLP(activation, 1.0), POINTS)
    gaps = [cs.network_output_density(activation, [n] * n, POINTS) - limit for n in (40, 80, 160)]
    np.testing.assert_allclose(gaps[1] / gaps[2], 2, rtol=0.15)
    # Richardson's extrapolation to 1/n → 0.
    np.testing.assert_allclose(limit + 2 * gaps[2] - gaps[1], limit, rtol=2e-3)


@pytest.mark.parametrize("activation", [LINEAR, RELU], ids=repr)
def test_the_two_ways_to_the_exact_density_agree_in_the_tails(activation: Any) -> None:
    f = np.array([[1e-6, 0.01], [8.0, 60.0]])
    fast = cs.network_output_density(activation, (2, 5), f, variance=3.0)
    np.testing.assert_allclose(
        fast, cs.meijer_output_density(activation, (2, 5), f, variance=3.0, digits=40), rtol=1e-9
    )
    np.testing.assert_array_equal(fast, cs.network_output_density(activation, (2, 5), -f, variance=3.0))


def test_the_exact_density_at_zero_is_continuous_or_infinite() -> None:
    near, at = cs.network_output_density(LINEAR, (3, 4), [1e-7, 0.0], variance=2.0)
    assert near == pytest.approx(at, rel=1e-5)
    assert cs.network_output_density(LINEAR, (3, 1), 0.0) == math.inf
    assert cs.network_output_density(RELU, (3,), 0.0) == math.inf


@pytest.mark.parametrize(("name", "activation"), [("relu", cs.LeakyReLU(0.0)), ("linear", cs.Identity())])
def test_plain_activations_may_be_named(name: str, activation: Any) -> None:
    widths = [3, 4]
    np.testing.assert_array_equal(
        cs.network_output_density(name, widths, [0.5, 1.0]), cs.network_output_density(activation, widths, [0.5, 1.0])
    )
    assert cs.output_atom(name, widths) == cs.output_atom(activation, widths)
    assert cs.network_kurtosis(name, widths) == cs.network_kurtosis(activation, widths)


def test_the_kurtosis_of_leaky_networks_is_that_of_their_gram_process() -> None:
    activation, widths = cs.LeakyReLU(0.2), (10, 10)
    net = cs.sample_networks(cs.MLP(activation, 0.2), [[1.0]], width=10, depth=2, draws=200_000, key=1, save_at=[0, 1])
    value, se = cs.OutputLaw(net).kurtosis()
    assert abs(value - cs.network_kurtosis(activation, widths)) < 4 * se
    assert se < 0.02 * value


def test_mpmath_is_an_extra_with_a_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any) -> Any:
        if name == "mpmath":
            raise ImportError(name)
        return real(name, *args)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r"covsde\[exact\]"):
        cs.meijer_output_density(LINEAR, (3,), 1.0)


# --- mixtures over ensembles ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("p", [problems.FINITE[1], problems.FINITE[4]], ids=lambda p: p.slug)
def test_sampled_networks_have_the_exact_density_and_atom(p: OutputProblem) -> None:
    # Both widths equal, as sample_networks has them: width 4 and depth 2.
    net = cs.sample_networks(cs.MLP(p.activation, 0.5), [[1.0]], width=4, depth=2, draws=100_000, key=2, save_at=[0, 1])
    law = cs.OutputLaw(net)
    value, se = law.density(POINTS)
    assert np.all(np.abs(value - cs.network_output_density(p.activation, (4, 4), POINTS)) < 4 * se)
    assert np.all(se < 0.02 * value)
    atom, atom_se = law.atom()
    assert abs(atom - cs.output_atom(p.activation, (4, 4))) <= 4 * atom_se
    kurtosis, kurtosis_se = law.kurtosis()
    assert abs(kurtosis - cs.network_kurtosis(p.activation, (4, 4))) < 4 * kurtosis_se


def test_simulated_paths_have_the_density_of_the_limit() -> None:
    mlp = cs.MLP(cs.ShapedReLU(0.5, -0.5), 0.5)
    law = cs.OutputLaw(cs.simulate(mlp, [[1.0, 0.3], [0.3, 2.0]], paths=32_768, key=3, save_at=[0, 1]))
    for i, variance in enumerate((1.0, 2.0)):
        value, se = law.density(POINTS, i)
        assert np.all(np.abs(value - cs.limit_output_density(mlp, POINTS, variance)) < 4 * se)
        assert np.all(se < 0.02 * value)
    # Sampled outputs: the probability of |f| < 1, and the sign-free law by integrating the density.
    f = law.sample(2, key=4)
    assert f.shape == (32_768, 2, 2)
    inside = integrate.quad(lambda x: 2 * float(cs.limit_output_density(mlp, x)), 0, 1)[0]
    for k in range(2):
        share = np.mean(np.abs(f[:, 0, k]) < 1)
        assert abs(share - inside) < 4 * math.sqrt(inside * (1 - inside) / f.shape[0])


def test_a_joint_density_is_the_mean_of_gaussian_densities_and_marginalises() -> None:
    covariances = np.array([[[1.0, 0.3], [0.3, 2.0]], [[0.5, -0.2], [-0.2, 0.4]]])
    law = cs.OutputLaw(mixture(*covariances))
    f = np.array([[[0.0, 0.0], [1.0, -1.0]], [[0.3, 2.0], [-2.0, 0.1]]])
    parts = np.stack([stats.multivariate_normal(cov=C).pdf(f) for C in covariances])
    value, se = law.joint_density(f)
    np.testing.assert_allclose(value, parts.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(se, parts.std(axis=0, ddof=1) / math.sqrt(2), rtol=1e-12)
    y = np.linspace(-12, 12, 2001)
    line = law.joint_density(np.stack([np.full_like(y, 0.4), y], axis=-1)).value
    assert integrate.trapezoid(line, y) == pytest.approx(float(law.density(0.4).value), rel=1e-10)
    np.testing.assert_allclose(law.joint_density(f[..., :1], [1]).value, law.density(f[..., 0], 1).value, rtol=1e-12)


def test_draws_have_the_covariance_of_their_path_and_independent_outputs() -> None:
    C = np.array([[1.0, 0.8], [0.8, 1.0]])
    f = cs.OutputLaw(mixture(C, repeat=50_000)).sample(2, key=5).reshape(50_000, 4)  # input 0 twice, input 1 twice
    expected = np.kron(C, np.eye(2))
    np.testing.assert_allclose(np.cov(f.T), expected, atol=4 * math.sqrt(2 / 50_000))


def test_singular_covariances_are_counted_and_left_out_of_joint_densities() -> None:
    law = cs.OutputLaw(mixture(np.ones((2, 2)), np.eye(2), np.eye(2), np.eye(2)))
    with pytest.warns(cs.FailedPathsWarning, match="1 of 4 covariances are singular"):
        value, _ = law.joint_density([0.0, 0.0])
    assert value == pytest.approx(0.75 / (2 * math.pi))


def test_stopped_paths_are_announced() -> None:
    e = mixture(np.eye(1), np.eye(1), np.eye(1))
    V = np.concatenate([np.ones((1, 3, 1, 1)), e.V])
    V[1, 0] = np.inf
    stopped = dataclasses.replace(
        e,
        tau=np.array([0.0, 1.0]),
        V=V,
        status=np.array([cs.PathStatus.EXPLODED, 0, 0]),
        stop_tau=np.array([0.5, 1, 1]),
    )
    with pytest.warns(cs.FailedPathsWarning, match="1 of 3 paths had stopped.*conditional on survival"):
        law = cs.OutputLaw(stopped)
    assert law.V.shape == (2, 1, 1)
    assert cs.OutputLaw(stopped, tau=0.0).V.shape == (3, 1, 1)


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda: cs.OutputLaw(np.eye(2)), ValueError, "ensemble must be an Ensemble"),
        (lambda: cs.OutputLaw(mixture(np.eye(1)), tau=0.5), ValueError, "tau=0.5 was not saved"),
        (lambda: cs.OutputLaw(mixture(np.eye(2))).joint_density([1.0]), ValueError, "one coordinate per input"),
        (lambda: cs.limit_output_density(cs.MLP(cs.ShapedSmooth(np.tanh)), 1.0), Exception, "fn"),
        (lambda: cs.network_output_density(cs.LeakyReLU(0.1), (3,), 1.0), TypeError, "no exact output density"),
        (lambda: cs.network_output_density(LINEAR, (0,), 1.0), ValueError, "widths must be an integer >= 1"),
        (lambda: cs.network_output_density(LINEAR, (), 1.0), ValueError, "at least one hidden layer"),
        (lambda: cs.network_output_density(LINEAR, (3,), 1.0, variance=0.0), ValueError, "variance must be positive"),
        (lambda: cs.meijer_output_density(LINEAR, (3,), 0.0), ValueError, "f must not be 0"),
    ],
)
def test_bad_arguments_are_named(call: Any, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        call()


def test_a_smooth_activation_has_no_closed_form() -> None:
    import jax.numpy as jnp

    with pytest.raises(TypeError, match="OutputLaw"):
        cs.limit_output_density(cs.MLP(cs.ShapedSmooth(jnp.tanh)), 1.0)


@pytest.mark.parametrize("more", [{"bias": 0.5}, {"gain": 0.5}, {"width_profile": (0.5,)}], ids=lambda d: next(iter(d)))
def test_what_a_closed_form_does_not_contain_is_refused(more: dict) -> None:
    mlp = cs.MLP(cs.Identity(), 1.0, **more)
    for call in (
        lambda: cs.limit_kurtosis(mlp),
        lambda: cs.limit_output_density(mlp, [0.5]),
        lambda: cs.first_order_posterior(mlp, np.eye(1), [1.0], 0.1),
        lambda: cs.simulate_unshaped(cs.MLP(cs.LeakyReLU(0.0), 1.0, **more)),
        lambda: cs.sample_unshaped_networks(cs.MLP(cs.LeakyReLU(0.0), 1.0, **more), 0.3, width=10),
    ):
        with pytest.raises(ValueError, match="leave these arguments out"):
            call()
