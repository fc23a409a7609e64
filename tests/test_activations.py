"""Activations: normalisation at finite width, and the derivatives at 0 that the limit sees."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import quad

from covsde import Identity, LeakyReLU, ShapedReLU, ShapedSmooth


def gaussian_second_moment(phi: Callable[[float], float]) -> float:
    """E φ(g)² by adaptive quadrature, split at the kink."""

    def integrand(x: float) -> float:
        return float(phi(x)) ** 2 * math.exp(-x * x / 2) / math.sqrt(2 * math.pi)

    pieces = [quad(integrand, a, b, epsabs=0, epsrel=1e-11)[0] for a, b in ((-12, -3), (-3, 0), (0, 3), (3, 12))]
    return math.fsum(pieces)


# ψ, a NumPy copy of (φ - φ(0))/φ'(0), so that the reference shares no code with the library.
NORMALISED: dict[str, tuple[Any, Callable[[float], float]]] = {
    "tanh": (jnp.tanh, math.tanh),
    "silu": (jax.nn.silu, lambda x: 2 * x / (1 + math.exp(-x))),
    "softplus": (jax.nn.softplus, lambda x: 2 * (math.log1p(math.exp(x)) - math.log(2))),
    "expm1": (jnp.expm1, math.expm1),
}


@pytest.mark.parametrize("width", [7, 200])
@pytest.mark.parametrize("name", sorted(NORMALISED))
def test_c_normalises_the_second_moment_of_smooth_shaped_activations(name: str, width: int) -> None:
    fn, psi = NORMALISED[name]
    a = 1.3
    s = a * math.sqrt(width)
    activation = ShapedSmooth(fn, a=a)
    moment = gaussian_second_moment(lambda x: s * psi(x / s))
    assert activation.normalisation(width) * moment == pytest.approx(1, abs=1e-9)
    x = np.linspace(-3, 3, 7)
    np.testing.assert_allclose(
        activation.at_width(width)(jnp.asarray(x)), [s * psi(v / s) for v in x], rtol=1e-11, atol=1e-13
    )


@pytest.mark.parametrize("width", [7, 200])
@pytest.mark.parametrize(
    ("activation", "slopes"),
    [
        (ShapedReLU(0.0, -1.0), lambda n: (1, 1 - n**-0.5)),
        (ShapedReLU(0.7, 0.4), lambda n: (1 + 0.7 * n**-0.5, 1 + 0.4 * n**-0.5)),
        (LeakyReLU(), lambda n: (1, 0)),
        (LeakyReLU(0.2), lambda n: (1, 0.2)),
        (Identity(), lambda n: (1, 1)),
    ],
    ids=["shaped (0, -1)", "shaped (0.7, 0.4)", "relu", "leaky", "identity"],
)
def test_c_normalises_the_second_moment_of_piecewise_linear_activations(
    activation: Any, slopes: Callable[[int], tuple[float, float]], width: int
) -> None:
    plus, minus = slopes(width)
    moment = gaussian_second_moment(lambda x: plus * max(x, 0) + minus * min(x, 0))
    assert activation.normalisation(width) * moment == pytest.approx(1, abs=1e-9)
    x = jnp.asarray([-2.0, -0.5, 0.0, 1.5])
    np.testing.assert_allclose(activation.at_width(width)(x), plus * np.maximum(x, 0) + minus * np.minimum(x, 0))


def test_c_of_smooth_shaping_departs_from_one_by_minus_beta_over_n() -> None:
    # c(n) = 1 - β/n + O(1/n²)
    for fn, _ in NORMALISED.values():
        activation = ShapedSmooth(fn, a=0.8)
        assert 1e6 * (activation.normalisation(10**6) - 1) == pytest.approx(-activation.beta, rel=1e-3)


@pytest.mark.parametrize(
    ("fn", "beta"),
    [
        (jnp.tanh, -2),
        (jnp.arctan, -2),
        (jnp.sin, -1),
        (jax.nn.sigmoid, -1 / 2),
        (lambda x: jax.scipy.special.erf(math.sqrt(math.pi) * x / 2), -math.pi / 2),
        (jax.nn.softplus, 3 / 16),
        (jax.nn.silu, 3 / 4),
        (lambda x: jax.nn.gelu(x, approximate=False), 6 / math.pi),
        (jnp.sinh, 1),
        (jnp.expm1, 7 / 4),
    ],
    ids=["tanh", "arctan", "sin", "sigmoid", "erf", "softplus", "SiLU", "GELU", "sinh", "expm1"],
)
def test_three_quarters_of_the_square_of_the_second_derivative_plus_the_third(fn: Any, beta: float) -> None:
    assert ShapedSmooth(fn, a=1.0).beta == pytest.approx(beta, abs=1e-12)
    # Shaping divides by a, twice: β is proportional to 1/a².
    assert ShapedSmooth(fn, a=-2.5).beta == pytest.approx(beta / 2.5**2, abs=1e-12)


@pytest.mark.parametrize(
    ("fn", "second", "third"),
    [(jax.nn.softplus, 1 / 2, 0), (jax.nn.silu, 1, 0), (jnp.expm1, 1, 1), (jnp.tanh, 0, -2), (jnp.sin, 0, -1)],
)
def test_normalised_derivatives_at_zero(fn: Any, second: float, third: float) -> None:
    activation = ShapedSmooth(fn, a=0.5)
    assert (activation.second, activation.third) == pytest.approx((second, third), abs=1e-12)
    assert (activation.kappa2, activation.kappa3) == pytest.approx((second / 0.5, third / 0.5**2), abs=1e-12)


def test_normalising_makes_shift_and_scale_of_the_function_irrelevant() -> None:
    plain, moved = ShapedSmooth(jax.nn.silu), ShapedSmooth(lambda x: 5 - 3 * jax.nn.silu(x))
    assert (moved.second, moved.third) == pytest.approx((plain.second, plain.third), abs=1e-12)
    x = jnp.linspace(-4, 4, 9)
    np.testing.assert_allclose(moved.at_width(10)(x), plain.at_width(10)(x), rtol=1e-12, atol=1e-12)
    assert moved.normalisation(10) == pytest.approx(plain.normalisation(10), rel=1e-12)


def test_only_the_difference_of_the_slopes_enters_kappa() -> None:
    assert ShapedReLU(0.7, 0.4).kappa == pytest.approx(0.09)
    assert ShapedReLU(1.0, -1.0).kappa == ShapedReLU(0.0, -2.0).kappa == 4


def test_derivatives_are_double_precision_even_in_single_precision_sessions() -> None:
    with jax.enable_x64(False):
        assert ShapedSmooth(jnp.tanh).third == pytest.approx(-2, abs=1e-14)
        assert ShapedSmooth(jnp.tanh).normalisation(10) == ShapedSmooth(jnp.tanh).normalisation(10)


@pytest.mark.parametrize("kinked", [jax.nn.relu, jax.nn.leaky_relu, jnp.abs])
def test_kinked_functions_are_sent_to_shaped_relu(kinked: Any) -> None:
    with pytest.raises(ValueError, match=r"smooth at 0.*ShapedReLU"):
        ShapedSmooth(kinked)


@pytest.mark.parametrize("a", [0.0, math.nan, math.inf])
def test_the_strength_of_the_shaping_must_be_a_nonzero_number(a: float) -> None:
    with pytest.raises(ValueError, match=r"^a(=0.0| must)"):
        ShapedSmooth(jnp.tanh, a=a)


@pytest.mark.parametrize("slopes", [(math.nan, 0.0), (0.0, math.nan), (math.inf, 0.0)])
def test_slope_corrections_must_be_finite(slopes: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match=r"c_(plus|minus) must be a finite number"):
        ShapedReLU(*slopes)
    if not math.isfinite(slopes[1]):
        with pytest.raises(ValueError, match="negative_slope must be a finite number"):
            LeakyReLU(slopes[1])


@pytest.mark.parametrize("flat", [jnp.cos, lambda x: x**2, lambda x: 0 * x])
def test_a_function_without_linear_part_cannot_be_shaped(flat: Any) -> None:
    with pytest.raises(ValueError, match=r"fn'\(0\)"):
        ShapedSmooth(flat)


@pytest.mark.parametrize("fn", [math.tanh, np.tanh, lambda x: jnp.stack([x, x])], ids=["math", "numpy", "vector"])
def test_only_scalar_jax_functions_can_be_shaped(fn: Any) -> None:
    with pytest.raises(ValueError, match="fn"):
        ShapedSmooth(fn)


def test_slopes_that_both_vanish_at_a_width_are_refused() -> None:
    with pytest.raises(ValueError, match="width=4 makes both slopes"):
        ShapedReLU(-2.0, -2.0).normalisation(4)


def test_a_function_that_overflows_under_gaussian_input_is_refused() -> None:
    with pytest.raises(ValueError, match="width=1"):
        ShapedSmooth(lambda x: jnp.sinh(x**5 + x), a=0.01).normalisation(1)


@pytest.mark.parametrize(("slopes", "width", "exponent"), [((1.0, 0.9), 100, 0.5), ((1.2, 0.7), 37, 1.0)])
def test_slopes_at_a_width_give_the_corrections(slopes: tuple[float, float], width: int, exponent: float) -> None:
    activation = ShapedReLU.from_slopes(*slopes, width=width, exponent=exponent)
    np.testing.assert_allclose(activation.slopes(width), slopes, rtol=1e-15)
    leaky = ShapedReLU.from_slopes(1.0, 0.9, width=100)
    np.testing.assert_allclose([leaky.c_plus, leaky.c_minus], [0.0, -1.0], atol=1e-14)
    np.testing.assert_allclose(leaky.normalisation(100), LeakyReLU(0.9).normalisation(100), rtol=1e-14)


def test_a_slope_may_be_traced() -> None:
    kappa = jax.grad(lambda s: ShapedReLU.from_slopes(1.0, s, width=100).kappa)(0.9)
    np.testing.assert_allclose(kappa, -2 * 0.1 * 100, rtol=1e-5)


@pytest.mark.parametrize(
    ("slopes", "width", "sentence"),
    [
        ((1.0, 0.9), 0, "width must be an integer >= 1, got 0"),
        ((math.nan, 0.9), 10, "s_plus must be a finite number, got nan"),
        ((1.0, -1e5), 10**4, "s_minus must be within 100 of 1 at this width, got -100000.0"),
    ],
)
def test_slopes_far_from_one_are_refused(slopes: tuple[float, float], width: int, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        ShapedReLU.from_slopes(*slopes, width=width)
