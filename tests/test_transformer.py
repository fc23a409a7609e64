"""The covariance SDE of shaped transformers: reference digits, exact laws, and the order of its solver."""

import functools
import math
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import transformer as problems
from scipy import stats
from scipy.special import ndtri

import covsde as cs
from covsde import PathStatus, ShapedReLU, Transformer
from covsde.architectures.transformer import steps as solver_module
from covsde.architectures.transformer.covariance import TransformerSDE, multiply, transpose
from covsde.architectures.transformer.deterministic import drift_flow
from covsde.architectures.transformer.steps import TransformerStrang

GRAM = problems.GRAM
V = jnp.asarray(GRAM)
HALF = math.sqrt(0.5)
# One compiled solve serves every test that keeps these.
SAME: dict[str, Any] = {"paths": 16_000, "steps": 16, "save_at": [0, 1], "chunk": 16_000}


def log_determinant(W: np.ndarray) -> np.ndarray:
    return np.asarray(np.linalg.slogdet(W)[1])


def within(samples: np.ndarray, exact: float, standard_errors: float = 4) -> bool:
    return bool(abs(samples.mean() - exact) < standard_errors * samples.std() / math.sqrt(samples.size))


# --- the equation --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", [d for d in problems.DIGITS if d.quantity != "flow"], ids=lambda d: d.slug)
def test_drift_and_diffusion_have_their_reference_digits(case: problems.Digits) -> None:
    sde = case.transformer.limit()
    if case.quantity == "drift":
        found = np.asarray(sde.rate(V))[problems.UPPER]
    else:
        found = np.einsum("abab->ab", np.asarray(sde.diffusion(V)))[problems.UPPER]
    np.testing.assert_allclose(found, case.values, rtol=0, atol=case.precision)


@pytest.mark.parametrize("case", [d for d in problems.DIGITS if d.quantity == "flow"], ids=lambda d: d.slug)
def test_the_drift_alone_has_the_flow_of_an_independent_runge_kutta(case: problems.Digits) -> None:
    flow = drift_flow(case.transformer.limit().rate, V, jnp.asarray([1.0]))
    np.testing.assert_allclose(np.asarray(flow[0])[problems.UPPER], case.values, rtol=0, atol=case.precision)


@pytest.mark.parametrize("mask", [None, "causal", [[1, 1, 0], [0, 1, 1], [1, 1, 1]]], ids=["none", "causal", "pattern"])
@pytest.mark.parametrize("heads", [1, 4])
def test_the_equation_of_the_square_root_has_the_drift_and_diffusion_of_the_paper(mask: Any, heads: int) -> None:
    # What the solver integrates, in Itô form by automatic differentiation, against the sums over all indices.
    sde = Transformer(HALF, 1.3, heads, mask=mask).limit()
    X = jnp.asarray(np.random.default_rng(0).normal(size=(3, 3)))

    @jax.jit
    def pieces(X: jax.Array) -> tuple[jax.Array, ...]:
        # One path per direction of the noise.
        basis, same = jnp.eye(9).reshape(3, 3, 9), jnp.broadcast_to(X[:, :, None], (3, 3, 9))
        noise = sde.generator(same, basis, 0.0)
        correction = jax.jvp(lambda Y: sde.generator(Y, basis, 0.0), (same,), (noise,))[1]
        f = sde.generator(X[:, :, None], jnp.zeros((3, 3, 1)), 1.0)[:, :, 0] + 0.5 * correction.sum(axis=2)
        W = X @ X.T
        spread = sde.spread_rate * sde.logit_spread(W[:, :, None])[:, :, 0] * W
        drift = f @ X.T + X @ f.T + jnp.einsum("abk,cbk->ac", noise, noise) + spread
        half = jnp.einsum("abk,cb->ack", noise, X)
        moves = half + jnp.swapaxes(half, 0, 1)
        return W, drift, jnp.einsum("abk,cdk->abcd", moves, moves)

    W, drift, diffusion = pieces(X)
    linear = jnp.einsum("ad,bw->abdw", W, W) + jnp.einsum("aw,bd->abdw", W, W)
    np.testing.assert_allclose(drift, sde.attention_drift(W), atol=1e-12)
    np.testing.assert_allclose(diffusion, sde.diffusion(W) - sde.kappa * linear, atol=1e-12)


def test_a_mask_that_allows_everything_is_no_mask() -> None:
    plain, masked = (Transformer(HALF, 1.3, mask=mask).limit() for mask in (None, np.ones((3, 3))))
    X, Z = jnp.asarray(np.random.default_rng(1).normal(size=(2, 3, 3, 2)))
    np.testing.assert_allclose(plain.generator(X, Z, 0.3), masked.generator(X, Z, 0.3), atol=1e-13)
    W = multiply(X, transpose(X))
    np.testing.assert_allclose(plain.logit_spread(W)[0], masked.logit_spread(W)[0, :1], atol=1e-13)


def test_the_first_token_of_a_causal_mask_is_frozen_by_attention() -> None:
    sde = Transformer(HALF, 1.0, mask="causal").limit()
    assert float(sde.attention_drift(V)[0, 0]) == 0
    linear = sde.kappa * 2 * GRAM[0, 0] ** 2
    assert float(sde.diffusion(V)[0, 0, 0, 0]) == pytest.approx(linear, rel=1e-14)


def test_exchangeable_tokens_keep_their_correlation_and_blow_up_at_the_known_time() -> None:
    rate = Transformer(HALF, 1.0).limit().rate
    V0 = jnp.asarray(problems.exchangeable(4))
    assert problems.exchangeable_flow(1.0, 0.2, 4, 0.5, 1.0, 1.0) == pytest.approx(1.0660035817780, abs=1e-13)
    last = problems.blow_up_time(1.0, 0.2, 4, 0.5, 1.0)
    assert last == pytest.approx(25 / 3)
    times = np.array([1.0, 4.0, 0.99 * last])
    flow = np.asarray(drift_flow(rate, V0, jnp.asarray(times)))
    exact = [problems.exchangeable_flow(1.0, 0.2, 4, 0.5, 1.0, s) for s in times]
    np.testing.assert_allclose(flow[:, 0, 0], exact, rtol=1e-6)
    np.testing.assert_allclose(flow[:, 0, 1] / flow[:, 0, 0], 0.2, rtol=1e-6)


def test_log_determinants_have_the_three_known_rates() -> None:
    sde = Transformer(HALF, 1.0, heads=2).limit()
    drift, ito, variation = problems.log_determinant_rates(GRAM, 0.5, 1.0, 2)
    inverse = np.linalg.inv(GRAM)
    Sigma = np.asarray(sde.diffusion(V))
    assert float(np.sum(inverse * np.asarray(sde.rate(V)))) == pytest.approx(drift, rel=1e-12)
    # d log det V = tr(V⁻¹dV) - ½ tr(V⁻¹dV V⁻¹dV).
    assert 0.5 * np.einsum("da,bc,abcd->", inverse, inverse, Sigma) == pytest.approx(ito, rel=1e-12)
    assert np.einsum("ab,cd,abcd->", inverse, inverse, Sigma) == pytest.approx(variation, rel=1e-12)
    assert problems.log_determinant_rates(GRAM, 0.5, 1.0, 1) == pytest.approx((0.89556, 5.0363, 5.0363), abs=6e-5)


# --- the solver ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [{}, {"mlp": ShapedReLU(0.5, -0.5)}, {"output_matrix": True}], ids=str)
def test_without_attention_variances_and_determinants_are_log_normal(settings: dict[str, Any]) -> None:
    transformer = Transformer(HALF, math.inf, depth_to_width=0.5, **settings)
    e = cs.simulate(transformer, GRAM, key=1, **SAME)
    assert e.failures["total"] == 0
    kT = problems.weight_noise(transformer) * 0.5
    log = e.log_variance(1)[-1] - math.log(GRAM[1, 1])
    assert stats.kstest(log, stats.norm(-kT, math.sqrt(2 * kT)).cdf).pvalue > 1e-3
    if transformer.mlp is None:
        change = log_determinant(e.V[-1]) - log_determinant(GRAM)
        assert stats.kstest(change, stats.norm(-6 * kT, math.sqrt(6 * kT)).cdf).pvalue > 1e-3


def test_the_mean_of_log_det_moves_at_its_rate_along_the_paths() -> None:
    # E log det V_T is the integral of the expected rates, which Simpson's rule takes from the paths themselves.
    T, g2, tau0 = 0.2, 0.5, 1.4
    transformer = Transformer(math.sqrt(g2), tau0, depth_to_width=T)
    e = cs.simulate(transformer, GRAM, paths=16_000, chunk=16_000, steps=8, save_at=[0, 0.25, 0.5, 0.75, 1], key=2)
    fine = e.alive[-1]
    assert np.mean(~fine) < 0.002
    W = e.V[:, fine]
    C = np.eye(3) - 1 / 3
    K = C @ W @ C
    diagonal = np.einsum("tpaa->tpa", K)
    k = diagonal - diagonal.mean(axis=2, keepdims=True)
    square = np.sum(K * K, axis=(2, 3))
    drift = g2 / tau0**2 * (square / 3 + np.sum(np.einsum("tpaa->tpa", W) * k, axis=2) / 3)
    ito = g2 * (2 - g2) * 6 + (g2 / (3 * tau0)) ** 2 * 4 * square
    change = log_determinant(W[-1]) - log_determinant(GRAM)
    simpson = T * np.tensordot(np.array([1, 4, 2, 4, 1]) / 12, drift - ito, axes=1)
    assert within(change - simpson, 0.0)
    # The attention terms are seen: without them the identity fails by many standard errors.
    assert not within(change + T * g2 * (2 - g2) * 6, 0.0)


def test_scaling_the_tokens_is_scaling_the_temperature() -> None:
    one = cs.simulate(Transformer(HALF, 1.0, depth_to_width=0.5), GRAM, key=3, **SAME)
    big = cs.simulate(Transformer(HALF, 7.0, depth_to_width=0.5), 7 * GRAM, key=3, **SAME)
    np.testing.assert_array_equal(one.status, big.status)
    fine = one.alive[-1]
    np.testing.assert_allclose(big.V[-1, fine], 7 * one.V[-1, fine], rtol=1e-6)


def test_infinitely_many_heads_at_infinite_width_are_deterministic_and_explode_on_time() -> None:
    V0 = problems.exchangeable(3)
    c = problems.blow_up_time(1.0, 0.2, 3, 0.5, 0.3)
    transformer = Transformer(HALF, 0.3, math.inf, depth_to_width=0.0, shaping="depth")
    e = cs.simulate(transformer, V0, key=4, **SAME)
    if c < 1:
        assert np.all(e.status == PathStatus.EXPLODED)
        assert np.all(np.isposinf(e.V[-1, :, 0, 0]))
        assert abs(e.stop_tau[0] - c) < 1 / 16
    slower = Transformer(HALF, 1.0, math.inf, depth_to_width=0.0, shaping="depth")
    last = cs.simulate(slower, V0, key=4, **SAME).V[-1]
    np.testing.assert_allclose(last[:, 0, 0], problems.exchangeable_flow(1, 0.2, 3, 0.5, 1.0, 1.0), rtol=1e-12)
    assert np.ptp(last, axis=0).max() < 1e-12


def test_one_head_is_random_at_infinite_width() -> None:
    # The noise of the logits, γ⁴𝒜/τ₀² per unit of layer time, whatever the width: compare with its first order in time.
    transformer = Transformer(HALF, 8.0, 1, depth_to_width=0.0, shaping="depth")
    e = cs.simulate(transformer, GRAM, key=5, **SAME)
    sde = transformer.limit()
    linear = 2 * GRAM[2, 2] ** 2 * sde.kappa
    variance = float(sde.diffusion(V)[2, 2, 2, 2]) - linear
    assert np.var(np.log(e.V[-1, :, 2, 2])) == pytest.approx(variance / GRAM[2, 2] ** 2, rel=0.06)


def test_duplicated_tokens_stay_duplicates_and_no_path_is_lost() -> None:
    rows = [0, 1, 0]
    e = cs.simulate(Transformer(HALF, 1.0, depth_to_width=0.5), GRAM[np.ix_(rows, rows)], key=6, **SAME)
    assert e.failures.get("LOST_PSD", 0) == 0
    fine = e.alive[-1]
    np.testing.assert_allclose(e.V[-1, fine, 0, 0], e.V[-1, fine, 2, 2], rtol=1e-9)
    np.testing.assert_allclose(e.V[-1, fine, 0, 1], e.V[-1, fine, 2, 1], rtol=1e-9, atol=1e-12)


def test_runaway_paths_are_counted_and_stay_ordered_at_infinity() -> None:
    e = cs.simulate(Transformer(HALF, 0.25, depth_to_width=0.5), GRAM, key=7, **SAME)
    gone = e.status == PathStatus.EXPLODED
    assert 0.02 < np.mean(gone) < 0.9
    assert e.failures["total"] == gone.sum()
    assert np.all(np.isposinf(e.V[-1, gone, 0, 0]))
    assert np.all(e.stop_tau[gone] < 1)


@functools.cache
def attention_step(tau0: float) -> Any:
    """The solver's step of attention alone, with its 18 normals per path as an argument."""
    sde = jax.tree.map(jnp.asarray, Transformer(HALF, tau0).limit())

    def step(sde: TransformerSDE, X: jax.Array, g: jax.Array, h: jax.Array) -> jax.Array:
        def prescribed(key: Any, rows: int, paths: int, dtype: Any) -> jax.Array:
            assert g.shape == (rows, paths)
            return g

        with mock.patch.object(solver_module, "standard_normals", prescribed):
            return TransformerStrang()._attention(sde, X, jax.random.key(0), h)

    return functools.partial(jax.jit(step), sde)


def bounded_means(steps: int, T: float, replicates: int = 8, log2_points: int = 16) -> tuple[np.ndarray, np.ndarray]:
    """Means of 1/(1 + V₃₃) and 1/(1 + ‖V‖) under attention alone, from scrambled Sobol points, and standard errors."""
    step, start = attention_step(1.0), jnp.asarray(np.linalg.cholesky(GRAM))
    means = []
    for r in range(replicates):
        sobol = stats.qmc.Sobol(18 * steps, rng=np.random.default_rng(r)).random_base2(log2_points)
        g = jnp.asarray(ndtri(np.clip(sobol, 1e-12, 1 - 1e-12)).T.reshape(steps, 18, -1))
        X = jnp.broadcast_to(start[:, :, None], (3, 3, g.shape[2]))
        for k in range(steps):
            X = step(X, g[k], jnp.asarray(T / steps))
        W = np.asarray(jnp.einsum("ikp,jkp->ijp", X, X))
        W = np.where(np.isfinite(W) & (np.abs(W) < 1e100), W, 1e100)  # a few runaway paths overflow
        means.append([np.mean(1 / (1 + W[2, 2])), np.mean(1 / (1 + np.linalg.norm(W, axis=(0, 1))))])
    table = np.asarray(means)
    return table.mean(axis=0), table.std(axis=0, ddof=1) / math.sqrt(replicates)


@pytest.mark.thorough
def test_the_step_of_attention_has_weak_order_two() -> None:
    (a, sa), (b, sb), (c, sc) = (bounded_means(steps, 0.18) for steps in (1, 2, 4))
    coarse, fine = a - b, b - c
    error = np.hypot(np.hypot(sa, sb), np.hypot(sb, sc))
    # Each halving divides the change by 4, up to the next order; a scheme of order one would give 2.
    assert np.all(error < 0.35 * np.abs(fine))
    ratio = coarse / fine
    assert np.all((ratio > 2.6) & (ratio < 5.5)), (ratio, coarse, fine, error)


def test_the_noise_of_the_two_flows_of_a_step_has_the_covariances_of_its_scheme() -> None:
    # Of Ninomiya and Ninomiya's family with u = 3/4: variances ¾ of a step and covariance -¼; here of 2 S₁ + S₂.
    h, sde, X = 0.3, Transformer(0.5, depth_to_width=1.0).limit(), jnp.zeros((3, 3, 20_000))
    with mock.patch.object(solver_module, "_runge_kutta", lambda sde, X, S, half: 2 * X + S):
        found = TransformerStrang()._attention(sde, X, jax.random.key(2), jnp.asarray(h))
    assert float(jnp.var(found)) == pytest.approx((5 * 3 / 4 - 4 / 4) * h, rel=0.015)


# --- arguments -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"gamma": 1.5}, "gamma must lie"),
        ({"gamma": 0.5, "tau0": 0.0}, "tau0 must be a positive number"),
        ({"gamma": 0.5, "heads": 1.5}, "heads must be an integer"),
        ({"gamma": 0.5, "mlp": "relu"}, "mlp must be"),
        ({"gamma": 0.5, "mask": "backwards"}, "mask must be None, 'causal'"),
        ({"gamma": 0.5, "mask": [[1, 0], [0, 0]]}, "mask has a row of zeros"),
        ({"gamma": 0.5, "depth_to_width": 0.0}, "depth_to_width must be positive"),
        ({"gamma": 0.5, "shaping": "both"}, "shaping must be"),
        ({"gamma": 0.5, "normalisation": "layer"}, "normalisation must be"),
    ],
)
def test_bad_arguments_are_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Transformer(**settings)


def test_what_has_no_limit_says_so() -> None:
    with pytest.raises(TypeError, match="only shaped attention"):
        cs.simulate(Transformer(0.5, attention=cs.Attention(centred=False)), GRAM)
    with pytest.raises(TypeError, match="not shaped"):
        cs.simulate(Transformer(0.5, mlp=cs.LeakyReLU()), GRAM)
    with pytest.raises(ValueError, match="mask is for 2 tokens"):
        cs.simulate(Transformer(0.5, mask=np.eye(2)), GRAM)
    with pytest.raises(ValueError, match="solver"):
        cs.simulate(Transformer(0.5), GRAM, solver=cs.Strang())
    with pytest.raises(ValueError, match="solver"):
        cs.simulate(cs.MLP(cs.Identity()), GRAM, solver=TransformerStrang())
