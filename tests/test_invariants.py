"""What holds on every path: symmetry, the cone, exact scaling, reproducibility, degenerate inputs, resumption."""

import json
from pathlib import Path
from typing import Any

import hypothesis
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reference import mlp as problems
from scipy import stats

from covsde import MLP, Ensemble, Identity, LeakyReLU, ShapedReLU, ShapedSmooth, sample_networks, simulate

M, STEPS, PATHS = 3, 4, 64
RELU, SMOOTH = problems.shaped_relu(4), ShapedSmooth(jnp.tanh)


def short(activation: Any, V0: np.ndarray, **settings: Any) -> Ensemble:
    """A few paths of three inputs; shapes are always the same, so that each drift compiles once."""
    settings = {"paths": PATHS, "chunk": PATHS, "steps": STEPS} | settings
    return simulate(MLP(activation, 1.0), V0, **settings)


def networks(activation: Any, V0: np.ndarray, **settings: Any) -> Ensemble:
    """A few small networks, likewise."""
    return sample_networks(MLP(activation), V0, **({"width": 5, "depth": 3, "draws": PATHS, "chunk": PATHS} | settings))


@st.composite
def grams(draw: Any) -> np.ndarray:
    """Gram matrices of three inputs in one to three dimensions, of all sizes."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    x = rng.standard_normal((M, draw(st.integers(1, 3)))) * np.exp(draw(st.floats(-1.5, 1.0)))
    return np.asarray(x @ x.T)


def assert_in_the_cone(V: np.ndarray) -> None:
    np.testing.assert_array_equal(V, np.swapaxes(V, -1, -2))
    d = np.sqrt(np.diagonal(V, axis1=-2, axis2=-1))
    d = np.where(d > 0, d, 1)
    assert np.min(np.linalg.eigvalsh(V / d[..., :, None] / d[..., None, :])) > -1e-12


@pytest.mark.thorough
@hypothesis.settings(max_examples=12)
@given(V0=grams(), activation=st.sampled_from([RELU, SMOOTH, Identity()]), key=st.integers(0, 1000))
def test_every_saved_matrix_of_the_limit_is_a_covariance(V0: np.ndarray, activation: Any, key: int) -> None:
    e = short(activation, V0, key=key)
    assert e.failures == {"total": 0}
    assert e.V.shape == (STEPS + 1, PATHS, M, M)
    np.testing.assert_allclose(e.V[0], np.broadcast_to((V0 + V0.T) / 2, (PATHS, M, M)))
    assert_in_the_cone(e.V)


@hypothesis.settings(max_examples=8)
@given(V0=grams(), activation=st.sampled_from([RELU, SMOOTH, LeakyReLU(0.1)]), key=st.integers(0, 1000))
def test_every_saved_matrix_of_a_network_is_a_covariance(V0: np.ndarray, activation: Any, key: int) -> None:
    for method in ("law", "weights"):
        e = networks(activation, V0, method=method, key=key)
        assert e.failures == {"total": 0}
        V = e.V
        np.testing.assert_array_equal(V, np.swapaxes(V, -1, -2))
        d = np.sqrt(np.diagonal(V, axis1=-2, axis2=-1))
        assert np.min(np.linalg.eigvalsh(V / d[..., :, None] / d[..., None, :])) > -1e-12


@hypothesis.settings(max_examples=12)
@given(V0=grams(), power=st.integers(-6, 6), kappa=st.sampled_from([0.0, 1.0, 4.0]), key=st.integers(0, 1000))
def test_scaling_the_inputs_of_shaped_relu_scales_every_path(
    V0: np.ndarray, power: int, kappa: float, key: int
) -> None:
    # Powers of four leave no rounding in the roots: equality is exact.
    a = 4.0**power
    plain, scaled = (short(problems.shaped_relu(kappa), V, key=key) for V in (V0, a * V0))
    np.testing.assert_allclose(scaled.V, a * plain.V, rtol=1e-12, atol=0)


@hypothesis.settings(max_examples=8)
@given(V0=grams(), activation=st.sampled_from([RELU, SMOOTH]), key=st.integers(0, 1000))
def test_a_key_gives_the_same_bits_again_and_another_key_other_paths(V0: np.ndarray, activation: Any, key: int) -> None:
    first, again, other = (
        short(activation, V0, key=key),
        short(activation, V0, key=key),
        short(activation, V0, key=key + 1),
    )
    np.testing.assert_array_equal(first.V, again.V)
    assert not np.any(first.V[-1, :, 0, 0] == other.V[-1, :, 0, 0])


@pytest.mark.parametrize("what", ["limit", "networks"])
def test_asking_for_more_paths_leaves_the_first_ones_unchanged(what: str) -> None:
    V0 = np.eye(M) + 0.5

    def ask(paths: int) -> np.ndarray:
        if what == "limit":
            return np.asarray(short(RELU, V0, paths=paths, key=3).V)
        return np.asarray(networks(RELU, V0, draws=paths, key=3).V)

    few, many = ask(PATHS + 10), ask(3 * PATHS - 1)
    np.testing.assert_array_equal(few, many[:, : PATHS + 10])
    # Chunks are independent of each other, and so are paths.
    assert np.unique(many[-1, :, 0, 0]).size == 3 * PATHS - 1


def test_paths_steps_and_inputs_use_independent_noise() -> None:
    e = short(Identity(), np.eye(M), paths=64 * PATHS, key=4)
    increments = np.diff(e.log_variance(0), axis=0)
    correlation = np.corrcoef(increments)
    assert np.max(np.abs(correlation - np.eye(STEPS))) < 4 / np.sqrt(64 * PATHS)
    assert abs(np.corrcoef(increments[0][::2], increments[0][1::2])[0, 1]) < 4 / np.sqrt(32 * PATHS)


@pytest.mark.parametrize("activation", [RELU, SMOOTH], ids=["relu", "tanh"])
def test_permuting_the_inputs_permutes_the_law(activation: Any) -> None:
    V0 = np.array([[2.0, 0.9, -0.4], [0.9, 1.0, 0.3], [-0.4, 0.3, 0.5]])
    order = [2, 0, 1]
    plain = short(activation, V0, paths=160 * PATHS, chunk=16 * PATHS, key=5, save_at=[0.0, 1.0], steps=10).V[-1]
    moved = short(
        activation, V0[np.ix_(order, order)], paths=160 * PATHS, chunk=16 * PATHS, key=6, save_at=[0.0, 1.0], steps=10
    ).V[-1]
    for a in range(M):
        assert stats.ks_2samp(np.log(plain[:, order[a], order[a]]), np.log(moved[:, a, a])).pvalue > 1e-3
        for b in range(a):
            (x, sx), (y, sy) = (
                problems.estimate_of("rho", V, i, j) for V, i, j in ((plain, order[a], order[b]), (moved, a, b))
            )
            assert abs(x - y) < 4 * np.hypot(sx, sy)


@pytest.mark.parametrize("activation", [RELU, SMOOTH, Identity()], ids=["relu", "tanh", "linear"])
def test_repeated_inputs_stay_repeated(activation: Any) -> None:
    V0 = np.array([[1.0, 0.3, 1.0], [0.3, 0.7, 0.3], [1.0, 0.3, 1.0]])
    for e in (short(activation, V0, key=7), networks(activation, V0)):
        assert e.failures == {"total": 0}
        np.testing.assert_allclose(e.V[:, :, 2, :], e.V[:, :, 0, :], rtol=1e-9)
        np.testing.assert_allclose(e.correlation(0, 2), 1, atol=1e-12)


@pytest.mark.parametrize("activation", [RELU, SMOOTH, Identity()], ids=["relu", "tanh", "linear"])
def test_a_zero_input_stays_zero(activation: Any) -> None:
    V0 = np.array([[1.0, 0.0, 0.3], [0.0, 0.0, 0.0], [0.3, 0.0, 0.7]])
    for e in (short(activation, V0, key=8), networks(activation, V0)):
        assert e.failures == {"total": 0}
        np.testing.assert_array_equal(e.V[:, :, 1, :], 0)
        assert np.all(e.V[:, :, 0, 0] > 0)


def test_opposite_inputs_stay_opposite_under_odd_activations_only() -> None:
    V0 = np.array([[1.0, 0.3, -1.0], [0.3, 0.7, -0.3], [-1.0, -0.3, 1.0]])
    for activation in (SMOOTH, Identity()):
        np.testing.assert_allclose(short(activation, V0, key=9).correlation(0, 2), -1, atol=1e-12)
    assert np.all(short(RELU, V0, key=9).correlation(0, 2)[-1] > -0.99)


def test_float32_and_float64_paths_share_their_law() -> None:
    V0 = np.eye(M) * 0.7 + 0.3
    # The draws differ by more than rounding (each precision has its own bits), so laws are compared.
    single = short(RELU, V0, paths=160 * PATHS, chunk=16 * PATHS, steps=10, save_at=[0.0, 1.0], dtype=np.float32)
    double = short(RELU, V0, paths=160 * PATHS, chunk=16 * PATHS, steps=10, save_at=[0.0, 1.0], key=1)
    assert single.V.dtype == np.float32
    assert double.V.dtype == np.float64
    assert stats.ks_2samp(single.correlation(0, 2)[-1], double.correlation(0, 2)[-1]).pvalue > 1e-3


# --- checkpoints -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("change", [{"key": 1}, {"steps": 5}, {"paths": 2 * PATHS}, {"dtype": np.float32}], ids=str)
def test_a_checkpoint_of_other_settings_is_refused(change: dict[str, Any], tmp_path: Path) -> None:
    V0 = np.eye(M) + 0.5
    short(RELU, V0, checkpoint=tmp_path)
    with pytest.raises(ValueError, match="other settings"):
        short(RELU, V0, checkpoint=tmp_path, **change)
    with pytest.raises(ValueError, match="other settings"):
        short(ShapedReLU(1.0, -1.5), V0, checkpoint=tmp_path)
    assert json.loads((tmp_path / "run.json").read_text())["settings"]["seed"] == 0
