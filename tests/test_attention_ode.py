"""Deterministic limits of attention, and the exponents of a block with layer normalisation."""

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import transformer as problems

from covsde import Attention, LeakyReLU
from covsde.architectures.transformer.attention import NoMask
from covsde.architectures.transformer.deterministic import (
    BlockMap,
    ResidualAttention,
    drift_flow,
    relu_correlation,
    uniform_attention,
)
from covsde.architectures.transformer.network.law import sample_grams_law
from covsde.architectures.transformer.network.weights import Block

GRAM = jnp.asarray(problems.GRAM)


def test_uniform_attention_has_its_closed_form() -> None:
    times = jnp.asarray([0.25, 1.0])
    flow = drift_flow(ResidualAttention(beta_attention=1.2).rate, GRAM, times)
    closed = uniform_attention(GRAM, 1.2, times)
    np.testing.assert_allclose(flow, closed, rtol=1e-7, atol=1e-8)
    # The recursion of layers, V ← V + β²/L Ū V Ū, converges to it like 1/L.
    gaps = []
    for depth in (200, 400):
        V = np.asarray(GRAM)
        for _ in range(depth):
            V = V + 1.2**2 / depth * V.mean()
        gaps.append(np.abs(V - np.asarray(closed[1])).max())
    assert gaps[1] < 7e-3
    assert gaps[0] / gaps[1] == pytest.approx(2, rel=0.02)


@pytest.mark.parametrize("normalisation", ["pre", "post"])
def test_exchangeable_tokens_follow_their_two_equations(normalisation: str | None) -> None:
    m, q, rho = 4, 1.0 if normalisation == "post" else 1.7, 0.2
    attention = ResidualAttention(0.9, 0.7, normalisation=normalisation)
    V0 = jnp.asarray(problems.exchangeable(m, q, rho))
    V = np.asarray(drift_flow(attention.rate, V0, jnp.asarray([0.8]))[0])
    steps = 400
    y = np.array([q, rho])

    def rate(y: np.ndarray) -> np.ndarray:
        state = problems.Exchangeable(jnp.asarray(y[0]), jnp.asarray(y[1]))
        return np.asarray(problems.exchangeable_rate(attention, m, state)).astype(float)

    h = 0.8 / steps
    for _ in range(steps):
        y = y + h * rate(y + h / 2 * rate(y))
    np.testing.assert_allclose(V[0, 0], y[0], rtol=1e-5)
    np.testing.assert_allclose(V[0, 1] / V[0, 0], y[1], rtol=1e-5)


def residual_block(width: int, depth: int, beta: float, beta_mlp: float, normalisation: str | None) -> Block:
    """Unshaped attention with branches β/√L; key size 64, so that logits are nearly Gaussian of scale 1."""
    return Block(
        width=width,
        skip=1.0,
        attention_weight=beta / math.sqrt(depth),
        mlp_weight=beta_mlp / math.sqrt(depth),
        heads=32,
        key_size=64,
        temperature=math.sqrt(64),
        shaping=width,
        attention=Attention(False, False, False),
        mask=NoMask(),
        output_matrix=False,
        activation=LeakyReLU(0.0),
        normalisation=normalisation,
    )


@pytest.mark.parametrize("normalisation", ["pre"])
def test_wide_unshaped_networks_with_many_heads_follow_the_residual_equation(normalisation: str | None) -> None:
    width, depth = 1024, 16
    block = residual_block(width, depth, 1.0, 0.8, normalisation)
    sampler = eqx.filter_jit(sample_grams_law)
    V = sampler(block, GRAM, jax.random.key(0), depth=depth, draws=24, save=(depth,))[0]
    logits = jnp.asarray(np.random.default_rng(1).standard_normal((4000, 3, 3)))
    attention = ResidualAttention(1.0, 0.8, logit_scale=1.0, normalisation=normalisation, logits=logits)
    flow = GRAM
    rate = eqx.filter_jit(attention.rate)
    for _ in range(depth):  # the recursion itself, so that only width and heads are finite
        flow = flow + rate(flow) / depth
    rows, columns = problems.UPPER
    found, error = np.mean(V, axis=0)[rows, columns], np.std(V, axis=0)[rows, columns] / math.sqrt(24)
    # Heads without an output matrix split the attention's noise, and key_size=64 bends the logits' law a little.
    assert np.all(np.abs(found - np.asarray(flow)[rows, columns]) < 4 * error + 0.004 * np.abs(found).max())


def test_the_map_of_relu_correlations_is_the_gaussian_integral() -> None:
    rng = np.random.default_rng(0)
    for slope in (0.0, 0.3):
        x, y = rng.normal(size=(2, 1_000_000))
        y = 0.4 * x + math.sqrt(1 - 0.16) * y
        f = lambda z, a=slope: np.where(z > 0, z, a * z)  # noqa: E731
        product = f(x) * f(y) / ((1 + slope**2) / 2)
        error = product.std() / 1000
        assert abs(product.mean() - float(relu_correlation(jnp.asarray(0.4), slope))) < 4 * error


def test_relu_correlations_have_slope_one_at_one_and_the_slope_of_the_odd_part_at_minus_one() -> None:
    # κ'(ρ) = 1 - (1-a)²/(π(1+a²)) arccos ρ, and x ↦ ax at ρ = -1 leaves 2a/(1+a²)
    for a in (0.0, 0.3):
        slope = jax.grad(lambda rho, a=a: relu_correlation(rho, a))
        assert float(slope(jnp.asarray(1.0))) == 1
        assert float(slope(jnp.asarray(-1.0))) == pytest.approx(2 * a / (1 + a**2), abs=1e-15)


def test_the_angle_exponent_has_its_reference_values() -> None:
    alpha = 0.4
    # By adaptive quadrature; Gauss–Hermite rules are wrong in the third digit at these slopes.
    for sigma, value in ((2.0, -0.1104220025), (3.5, -0.0125937666)):
        assert float(BlockMap(alpha, alpha, sigma).angle_exponent(q=1.0)) == pytest.approx(value, abs=1e-9)


def _normalised(x: Any) -> Any:
    return x / jnp.sqrt(jnp.mean(x * x, axis=-1, keepdims=True))


def cowsik_block(weights: Any, x: Any, alpha: float) -> Any:
    """One block of arXiv 2403.02579 with real weights, written out."""
    query, key, value, first, second = weights
    keep, d = math.sqrt(1 - alpha**2), x.shape[-1]
    u = _normalised(x)
    A = jax.nn.softmax((u @ query) @ (u @ key).T / math.sqrt(d), axis=-1)
    x = keep * x + alpha * A @ u @ value
    return keep * x + alpha * jnp.tanh(_normalised(x) @ first) @ second


@pytest.mark.parametrize("sigma", [1.5, 3.0])
def test_nearly_equal_tokens_and_their_gradients_move_by_the_exponents(sigma: float) -> None:
    alpha, d, m = 0.5, 512, 48
    rng = np.random.default_rng(0)
    exponents = BlockMap(alpha, alpha, sigma)
    q = float(exponents.fixed_q())

    @jax.jit
    def one(weights: Any, x: Any, seed: Any) -> tuple[Any, Any]:
        y, pull = jax.vjp(lambda z: cowsik_block(weights, z, alpha), x)
        (back,) = pull(seed)

        def distance(z: Any) -> Any:
            centred = z - jnp.mean(z, axis=0, keepdims=True)
            return jnp.sum(centred**2) / jnp.sum(z**2)

        return jnp.log(distance(y) / distance(x)), jnp.log(jnp.sum(back**2) / jnp.sum(seed**2))

    forward, backward = [], []
    for _ in range(40):
        scales = (1, 1, 1, sigma, 1)
        weights = tuple(jnp.asarray(s * rng.normal(size=(d, d)) / math.sqrt(d)) for s in scales)
        base = rng.normal(size=d)
        x = base[None] / np.sqrt(np.mean(base**2)) * math.sqrt(q) + 1e-3 * rng.normal(size=(m, d))
        seed = rng.normal(size=(m, d))
        seed -= seed.mean(axis=0)
        a, g = one(weights, jnp.asarray(x), jnp.asarray(seed))
        forward.append(float(a))
        backward.append(float(g))
    for samples, exact in ((forward, exponents.angle_exponent()), (backward, exponents.gradient_exponent())):
        se = np.std(samples, ddof=1) / math.sqrt(len(samples))
        assert abs(np.mean(samples) - float(exact)) < 4 * se + 0.01
        assert se < 0.02


def test_at_the_fixed_point_both_exponents_agree() -> None:
    block = BlockMap(np.linspace(0.1, 0.9, 5)[:, None], np.full((5, 1), 0.5), np.linspace(1, 4, 4)[None])
    q = block.fixed_q()
    np.testing.assert_allclose(block.next_q(q)[1], q, rtol=1e-12)
    np.testing.assert_allclose(block.angle_exponent(), block.gradient_exponent(), atol=1e-12)
