"""Velocities at initialization: exact means, two independent solvers of the limit, and real networks."""

import math
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import mlp as problems

import covsde as cs
from covsde.architectures.mlp.network.gradients import embed, hidden_vectors
from covsde.architectures.mlp.network.layers import Layers
from covsde.architectures.mlp.network.training import hidden_matrices
from covsde.architectures.mlp.network.velocities import feature_velocities
from covsde.architectures.mlp.network.weights import MLPNetwork
from covsde.descent.losses import squared
from covsde.descent.task import task_from

PAIR = np.asarray(problems.PAIR)
Y = np.array([1.0, -1.0])
T, RATE = 0.5, 2.0
LINEAR = cs.MLP(cs.Identity(), T)


def close(estimate: Any, exact: float, errors: float = 4.0) -> None:
    assert abs(float(estimate.value) - exact) < errors * float(estimate.standard_error), (estimate, exact)


def agree(x: Any, y: Any, errors: float = 4.0) -> None:
    assert abs(float(x.value - y.value)) < errors * math.hypot(x.standard_error, y.standard_error), (x, y)


def limit(V0: Any = PAIR, **settings: Any) -> cs.Velocities:
    """One shape for every test of the limit: it compiles once."""
    defaults = {"targets": Y, "learning_rate": RATE, "paths": 2048, "chunk": 2048, "steps": 10, "key": 1}
    return cs.simulate_velocities(LINEAR, V0, **(defaults | settings))


@pytest.fixture(scope="module")
def linear() -> cs.Velocities:
    return limit(paths=32_768)


def sample(**settings: Any) -> cs.Velocities:
    """Networks of width 10 and depth 5, likewise."""
    defaults = {"targets": Y, "learning_rate": RATE, "width": 10, "draws": 1024, "chunk": 1024, "key": 2}
    layers = np.linspace(0, 1, 6).tolist()
    return cs.sample_network_velocities(LINEAR, PAIR, save_at=layers, dtype=np.float32, **(defaults | settings))


@pytest.fixture(scope="module")
def narrow() -> cs.Velocities:
    return sample(draws=12_288)


# --- networks: the definition -----------------------------------------------------------------------------------------


def test_velocities_are_those_of_a_small_training_step() -> None:
    n, s, rate, small = 7, 1.5, jnp.asarray(0.7), 1e-5
    x, y = embed(jnp.asarray(PAIR), n), jnp.asarray(Y)
    plan = Layers.uniform(cs.ShapedSmooth(lambda z: jnp.tanh(z + 0.3)), n, 4)
    network = MLPNetwork(plan, out_size=1, in_size=n, key=jax.random.key(0), dtype=jnp.dtype(float))

    task = task_from(cs.Data(PAIR, Y), loss="squared", optimizer=0.7, updates=1, substeps=1)

    @eqx.filter_jit
    def features(network: MLPNetwork, step: jax.Array) -> jax.Array:
        def loss(weights: Any) -> jax.Array:
            return squared(s * eqx.tree_at(hidden_matrices, network, weights)(x)[:, 0], y)

        weights = hidden_matrices(network)
        moved = jax.tree.map(lambda w, g: w - step * rate / n * g, weights, jax.grad(loss)(weights))
        return hidden_vectors(eqx.tree_at(hidden_matrices, network, moved), x)[1]

    forth, back = (features(network, jnp.asarray(sign * small)) for sign in (1, -1))
    moved = eqx.filter_jit(feature_velocities)(network, x, task.arrays(x.dtype), jnp.asarray(s))
    np.testing.assert_allclose((forth - back) / (2 * small), moved, rtol=1e-7, atol=1e-8)
    assert np.max(np.abs(moved)) > 0.1


def test_records_of_networks_are_products_of_their_vectors() -> None:
    r = sample(output_scale=0.5)
    np.testing.assert_allclose(r.tau, np.arange(6) / 5)
    # By the chain rule: what all hidden matrices add to df/dt is the whole of it.
    kernel = np.sum(r.Phi[:-1] * r.G[1:], axis=0) / 10
    expected = 0.25 * RATE * np.einsum("pab,pb->pa", kernel, Y - r.outputs)
    np.testing.assert_allclose(r.output_velocity, expected, rtol=2e-3, atol=1e-4)
    assert np.max(np.abs(r.R[0])) == 0
    assert np.max(np.abs(r.S - np.swapaxes(r.S, 2, 3))) < 1e-5 * np.max(np.abs(r.S))


# --- exact means of linear networks -----------------------------------------------------------------------------------


def mean_overlap(V0: np.ndarray, rate: float, width: int, layers: int) -> np.ndarray:
    """E Y of finite networks after some layers: -(η₀/n²) Σ_k E Φ_k² m₂(layers - k - 1), m₂ = E tr((JJᵀ)²)/n."""
    square, trace = V0 @ V0, V0 * np.trace(V0)  # E Φ² and E Φ tr Φ
    squares = []
    for _ in range(layers):
        squares.append(square)
        square, trace = square * (1 + 1 / width) + trace / width, trace + 2 * square / width
    m2, one, spread = 1.0, 1.0, []
    for _ in range(layers):
        spread.append(m2)
        m2, one = (1 + 1 / width) * m2 + one, one + 2 * m2 / width**2
    return -rate / width**2 * np.asarray(sum(S * m for S, m in zip(squares, reversed(spread), strict=True)))


def limiting_mean_overlap(V0: np.ndarray, rate: float, t: float) -> np.ndarray:
    """The same at infinite width, in clock time: -η₀ ∫₀ᵗ E Φ_s² (e^{2(t-s)} - e^{-(t-s)})/3 ds in closed form."""
    square, trace = V0 @ V0, V0 * np.trace(V0)
    p, q, up, down = (2 * square + trace) / 3, (square - trace) / 3, math.exp(2 * t), math.exp(-t)
    return -rate / 3 * (p * (t * up - (up - down) / 3) + q * ((up - down) / 3 - t * down))


def test_the_mean_overlap_of_wide_networks_is_that_of_the_limit() -> None:
    n = 4000
    np.testing.assert_allclose(mean_overlap(PAIR, 1.0, n, n // 2), limiting_mean_overlap(PAIR, 1.0, T), rtol=2e-3)


def test_networks_have_their_exact_mean_velocities(narrow: cs.Velocities) -> None:
    n = 10
    for k in (2, 5):
        # E[Φ G] = V₀, and outputs are symmetric: E R = (η₀ ℓ/n) V₀ y.
        for a, b in ((0, 0), (0, 1), (1, 0), (1, 1)):
            close(narrow.mean(lambda v, k=k, a=a: v.R[k, :, a]), RATE * k / n * float(PAIR[a] @ Y))
            close(narrow.mean(lambda v, k=k, a=a, b=b: v.Y[k, :, a, b]), mean_overlap(PAIR, RATE, n, k)[a, b])


def test_the_limit_has_its_exact_mean_velocities(linear: cs.Velocities) -> None:
    assert linear.failures["total"] == 0
    for k in (3, 5, 10):
        t = T * linear.tau[k]
        for a, b in ((0, 0), (0, 1), (1, 0), (1, 1)):
            close(linear.mean(lambda v, k=k, a=a: v.R[k, :, a]), RATE * t * float(PAIR[a] @ Y))
            close(linear.mean(lambda v, k=k, a=a, b=b: v.Y[k, :, a, b]), limiting_mean_overlap(PAIR, RATE, t)[a, b])
    # Sharp enough to see a tenth.
    sharp = linear.mean(lambda v: v.Y[5, :, 0, 0])
    assert sharp.standard_error < 0.025 * abs(sharp.value)


def test_outputs_move_by_the_tangent_kernel_path_by_path(linear: cs.Velocities) -> None:
    kernel = np.trapezoid(linear.Phi * linear.G, linear.tau, axis=0)
    expected = RATE * T * np.einsum("pab,pb->pa", kernel, Y - linear.outputs)
    np.testing.assert_allclose(linear.output_velocity, expected, rtol=1e-6, atol=1e-9)
    np.testing.assert_array_equal(linear.dPhi_dt, linear.Y + np.swapaxes(linear.Y, 2, 3))
    # Features and velocities together are vectors: their joint Gram matrix is a covariance.
    top, cross, low = linear.Phi[-1], linear.Y[-1], linear.S[-1]
    joint = np.block([[top, np.swapaxes(cross, 1, 2)], [cross, low]])
    assert np.min(np.linalg.eigvalsh(joint) / np.linalg.norm(joint, axis=(1, 2))[:, None]) > -1e-9


# --- the limit by another solver --------------------------------------------------------------------------------------


STATISTICS = {
    "R": lambda v: np.tanh(v.R[-1, :, 0]),
    "Y": lambda v: np.tanh(v.Y[-1, :, 0, 0]),
    "Y across inputs": lambda v: np.tanh(v.Y[-1, :, 1, 0]),
    "S": lambda v: np.tanh(v.S[-1, :, 0, 0]),
    "S across inputs": lambda v: np.tanh(v.S[-1, :, 1, 0]),
    "log S": lambda v: np.log(v.S[-1, :, 0, 0]),
    "size of Y": lambda v: np.tanh(v.Y[-1, :, 0, 0]) ** 2,
    "f and R": lambda v: np.tanh(v.outputs[:, 0]) * np.tanh(v.R[-1, :, 0]),
    "R and Y": lambda v: np.tanh(v.R[-1, :, 0]) * np.tanh(v.Y[-1, :, 0, 0]),
    "Phi and S": lambda v: np.log(v.Phi[-1, :, 0, 0]) * np.tanh(v.S[-1, :, 0, 0]),
    "Y of both": lambda v: np.tanh(v.Y[-1, :, 0, 1]) * np.tanh(v.Y[-1, :, 1, 0]),
}


@pytest.mark.thorough
def test_a_small_step_of_the_trained_limit_moves_by_the_velocities(linear: cs.Velocities) -> None:
    # `train` is a different program: a forward–backward system over updates, in realisable steps.
    small = 1e-4
    run = cs.train(LINEAR, PAIR, targets=Y, updates=1, learning_rate=small, paths=5120, chunk=512, key=3)
    scale = RATE / small
    old, new = slice(0, 2), slice(2, 4)
    Phi = run.Phi[..., old, old]
    cross = run.Phi[..., new, old] - Phi
    other = cs.Velocities(
        status=run.status,
        metadata={},
        tau=run.tau,
        Phi=Phi,
        G=run.G[..., old, old],
        R=(run.outputs[1] - run.outputs[0])[None] * scale,
        Y=cross * scale,
        S=(run.Phi[..., new, new] - Phi - cross - np.swapaxes(cross, 2, 3)) * scale**2,
        outputs=run.outputs[0],
    )
    for name, f in STATISTICS.items():
        if name != "log S":  # a difference of nearly equal numbers, without the digits for logarithms of small values
            agree(linear.mean(f), other.mean(f))
    sharp = other.mean(STATISTICS["S"])
    assert sharp.standard_error < 0.03 * sharp.value


# --- networks approach the limit --------------------------------------------------------------------------------------


def test_velocities_of_networks_approach_the_limit(linear: cs.Velocities, narrow: cs.Velocities) -> None:
    wide = sample(width=32, draws=2048)
    for name, f in STATISTICS.items():
        x, near, far = linear.mean(f), wide.mean(f), narrow.mean(f)
        error = math.hypot(x.standard_error, near.standard_error)
        # Three times the width, a third of the gap.
        assert abs(near.value - x.value) < abs(far.value - x.value) / 2.5 + 3.5 * error, (name, x, near, far)


def test_velocities_are_those_of_an_independent_program(linear: cs.Velocities) -> None:
    # 6000 networks of width 60 and depth 30, learning rate 1/depth: so η₀ = width/depth = 2. And its solver's values.
    f = [STATISTICS[name] for name in ("Y across inputs", "S across inputs")]
    for statistic, networks, solver in (
        (lambda v: np.tanh(v.R[-1, :, 1]), -0.280, -0.275),
        (f[0], -0.087, -0.084),
        (f[1], 0.0701, 0.0703),
    ):
        x = linear.mean(statistic)
        spread = float(x.standard_error) * math.sqrt(linear.paths / 6000)
        assert abs(x.value - networks) < 3 * spread
        assert abs(x.value - solver) < 3 * spread


# --- other losses, singular inputs, arguments -------------------------------------------------------------------------


def test_only_the_slope_of_the_loss_matters(linear: cs.Velocities) -> None:
    logistic = limit(loss="logistic")
    np.testing.assert_array_equal(logistic.outputs, linear.outputs[:2048])
    kernel = np.trapezoid(logistic.Phi * logistic.G, logistic.tau, axis=0)
    forces = Y / (1 + np.exp(Y * logistic.outputs))
    expected = RATE * T * np.einsum("pab,pb->pa", kernel, forces)
    np.testing.assert_allclose(logistic.output_velocity, expected, rtol=1e-6, atol=1e-9)


def test_a_repeated_input_moves_as_the_first() -> None:
    r = limit(np.ones((2, 2)), targets=[1.0, 1.0], paths=8192)
    assert r.failures["total"] == 0
    for X in (r.Y, r.S):
        assert np.max(np.abs(X - X[:, :, :1, :1])) < 1e-6 * np.max(np.abs(X))
    close(r.mean(lambda v: v.R[5, :, 1]), RATE * T)
    close(r.mean(lambda v: v.Y[5, :, 1, 0]), limiting_mean_overlap(np.ones((2, 2)), RATE, T / 2)[1, 0])


def test_the_result_does_not_depend_on_how_many_paths_are_asked_for(linear: cs.Velocities) -> None:
    np.testing.assert_array_equal(limit(paths=5).S, linear.S[:, :5])


@pytest.mark.parametrize("run", [limit, sample])
def test_a_checkpoint_of_one_loss_does_not_answer_for_another(run: Any, tmp_path: Path) -> None:
    def powers(k: int) -> Any:
        return lambda f, y: jnp.sum((f - y) ** k)

    first = run(loss=powers(2), checkpoint=tmp_path)
    np.testing.assert_array_equal(run(loss=powers(2), checkpoint=tmp_path).R, first.R)
    for other in (powers(4), lambda f, y: jnp.sum(f * y), "squared"):
        with pytest.raises(ValueError, match="belongs to a run with other settings"):
            run(loss=other, checkpoint=tmp_path)


def test_bad_arguments_are_named() -> None:
    with pytest.raises(TypeError, match=r"ShapedSmooth has no velocity equations here.*small learning_rate"):
        cs.simulate_velocities(cs.MLP(cs.ShapedSmooth(jnp.tanh), T), PAIR, targets=Y)
    with pytest.raises(ValueError, match=r"targets must hold one finite number per input, shape \(2,\)"):
        limit(targets=[1.0])
    with pytest.raises(ValueError, match="width=1 is smaller than the number of inputs m=2"):
        cs.sample_network_velocities(LINEAR, PAIR, targets=Y, width=1)
