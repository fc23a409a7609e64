"""Training in the proportional limit and in finite networks: exact identities, exact laws, and the approach."""

import dataclasses
import math
import warnings
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import mlp as problems
from scipy import stats

import covsde as cs
from covsde.architectures.mlp.feature_learning import NEURONS, Layer
from covsde.architectures.mlp.gradients import backward_of
from covsde.architectures.mlp.network.gradients import embed
from covsde.architectures.mlp.network.layers import Layers
from covsde.architectures.mlp.network.training import hidden_matrices
from covsde.architectures.mlp.network.weights import MLPNetwork
from covsde.descent.drawn import observe
from covsde.descent.householder import split
from covsde.descent.losses import squared
from covsde.descent.rules import Moving, of_networks
from covsde.descent.task import Ends, task_from

PAIR = np.asarray(problems.PAIR)
ONE = np.eye(1)
TANH = cs.ShapedSmooth(jnp.tanh)
CUBIC = cs.ShapedSmooth(lambda x: x + 0.5 * x**2 - x**3 / 6)  # κ₂ = 1, κ₃ = -1
RELU = cs.ShapedReLU(1.0, -1.0)  # κ = 4
T = 0.5


def close(value: float, error: float, exact: float, exact_error: float = 0.0, errors: float = 4.0) -> None:
    assert abs(value - exact) < errors * math.hypot(error, exact_error), (value, error, exact)


def limit(activation: Any, **settings: Any) -> cs.Training:
    """One shape for every test of the limit: it compiles once."""
    defaults = {"targets": [1.0], "updates": 2, "paths": 4096, "chunk": 512, "save_at": [0, 0.5, 1], "key": 1}
    return cs.train(cs.MLP(activation, T), ONE, **(defaults | settings))


@pytest.fixture(scope="module")
def linear() -> cs.Training:
    return limit(cs.Identity())


@pytest.fixture(scope="module")
def tanh() -> cs.Training:
    return limit(TANH)


# --- networks with real weights -------------------------------------------------------------------------------------


def test_a_training_step_is_gradient_descent_on_the_hidden_matrices() -> None:
    n, s, rate = 6, 1.5, 0.7
    x, y = embed(jnp.asarray(PAIR), n), jnp.asarray([1.0, -1.0])
    plan = Layers.uniform(TANH, n, 3)
    network = MLPNetwork(plan, out_size=1, in_size=n, key=jax.random.key(0), dtype=jnp.dtype(float))

    @eqx.filter_grad
    def gradient(network: MLPNetwork) -> jax.Array:
        return squared(s * network(x)[:, 0], y)

    task = task_from(cs.Data(PAIR, y), loss="squared", optimizer=rate, updates=1, substeps=1)
    ends = Ends(jnp.asarray(s), True, True)
    now = Moving(jnp.concatenate([network.input_weights[None], network.hidden_weights]), network.output_weights, x)
    c_root = TANH.normalisation(n) ** 0.5

    def phi(z: jax.Array) -> jax.Array:
        return c_root * TANH.at_width(n)(z)

    seen = observe(phi, now, jnp.arange(2), ends.scale, lambda f: (y - f[:, 0])[:, None])
    f, ntk = seen.outputs[:, 0], seen.ntk
    np.testing.assert_allclose(f, s * network(x)[:, 0], rtol=1e-12)
    rule = of_networks(task.arrays(np.float64), n, ends)
    after, _ = rule.step(now, rule.init(now), seen, jnp.asarray(PAIR), jnp.asarray(0))
    descent = gradient(network)
    np.testing.assert_allclose(after.readouts, network.output_weights - rate / n * descent.output_weights, rtol=1e-10)
    # The inputs are E a with aᵀa = V0 and E orthogonal; E descends too.
    a = np.linalg.cholesky(PAIR).T
    E = jnp.asarray(np.asarray(x).T @ np.linalg.inv(a))
    slope = jax.grad(lambda E: squared(s * network((E @ a).T)[:, 0], y))(E)
    np.testing.assert_allclose(after.inputs, x - rate / n * (slope @ a).T, rtol=1e-10, atol=1e-14)
    moved = (after.matrices[0], after.matrices[1:])
    for new, old, slope in zip(moved, hidden_matrices(network), hidden_matrices(descent), strict=True):
        np.testing.assert_allclose(new, old - rate / n * slope, rtol=1e-10, atol=1e-14)
    # The kernel is that of the parameters: Σ_W ∂f/∂W · ∂f/∂W, per layer.
    jacobian = eqx.filter_jacrev(lambda net: net(x)[:, 0])(network)
    rows = np.concatenate([np.asarray(J).reshape(2, -1) for J in hidden_matrices(jacobian)], axis=1)
    np.testing.assert_allclose(ntk, rows @ rows.T / 3, rtol=1e-10)


SAME: list[tuple[Any, int, int, dict[str, Any]]] = [
    (cs.ShapedSmooth(lambda x: jnp.tanh(x + 0.5)), 16, 2, {}),
    (cs.ShapedReLU(1.0, -1.0), 12, 1, {}),
    (cs.Identity(), 16, 2, {"train_input": True, "train_readout": True}),
]


@pytest.mark.parametrize(("activation", "width", "P", "ends"), SAME, ids=["smooth", "relu", "linear, all trained"])
def test_networks_without_weights_have_the_law_of_those_with_weights(
    activation: Any, width: int, P: int, ends: dict[str, Any]
) -> None:
    y = [1.0, -1.0][:P]
    mlp = cs.MLP(activation, T)
    settings: dict[str, Any] = {"targets": y, "updates": 2, "width": width, "dtype": np.float32, "save_at": [0, 0.5, 1]}
    settings |= ends
    law, real = (
        cs.train_networks(mlp, PAIR[:P, :P], draws=2000, chunk=2000, method=method, key=3, **settings)
        for method in ("law", "weights")
    )
    statistics = {
        "f after": lambda r: r.outputs[2, :, 0],
        "f joint": lambda r: np.tanh(r.outputs[0, :, 0] * r.outputs[2, :, 0]),
        "Phi": lambda r: np.log(r.Phi[2, :, 2 * P, 2 * P]),
        "Phi across updates": lambda r: r.movement()[2],
        "G": lambda r: np.log(r.G[0, :, P, P]),
        "A up": lambda r: r.A[1, :, 2 * P, 0],
        "A down": lambda r: r.A[1, :, 0, P],
        "ntk": lambda r: np.log(r.ntk[1, :, 0, 0]),
    }
    for name, f in statistics.items():
        x, y_ = f(law), f(real)
        assert stats.ks_2samp(x, y_).pvalue > 1e-3, name


# --- the discretised limit is the exact law of a network --------------------------------------------------------------


def closed_network(
    rng: np.random.Generator, n: int, d: int, even: Any, slope: Any, power: float, kappa3: float, updates: int
) -> np.ndarray:
    """A network whose weights are really drawn, trained in NumPy: f, and overlaps at mid layer.

    Its activation is radial in all n neurons and even in NEURONS of them, each of which feeds the next.
    """
    W, w = rng.standard_normal((d, n, n)), rng.standard_normal(n)
    M, x0 = NEURONS, math.sqrt(n) * np.eye(n)[0]
    f, mid_x, mid_r = [], [], []
    strength = math.sqrt(n / M) / math.sqrt(n)
    c_root, E = (1 + power / n) ** -0.5, math.exp(kappa3 / n)

    def scale(z: np.ndarray) -> float:
        return float((E + (1 - E) * (z @ z) / n) ** -0.5)

    for _ in range(updates + 1):
        x, z = [x0], []
        for l in range(d):
            z.append(W[l] @ x[-1] / math.sqrt(n))
            new = scale(z[-1]) * z[-1]
            for j in range(M):
                new[(j + 1) % M] += strength * even(z[-1][j])
            x.append(c_root * new)
        f.append(w @ x[-1] / math.sqrt(n))
        r = w
        gradients = []
        for l in reversed(range(d)):
            g = scale(z[l]) * r - (1 - E) / n * scale(z[l]) ** 3 * (z[l] @ r) * z[l]
            for j in range(M):
                g[j] += strength * slope(z[l][j]) * r[(j + 1) % M]
            g *= c_root
            gradients.append((l, g))
            r = W[l].T @ g / math.sqrt(n)
            if l == d // 2:
                mid_r.append(r)
        mid_x.append(x[d // 2])
        for l, g in gradients:
            W[l] += (1 / n) * (1 - f[-1]) * np.outer(g, x[l]) / n
    A = np.array(mid_x) @ np.array(mid_r).T / math.sqrt(n)
    return np.concatenate([f, A.ravel()])


# ψ, ψ', E ψ(g)² and κ₃.
CLOSED: dict[str, tuple[Any, tuple[Any, Any, float, float]]] = {
    "odd": (TANH, (lambda z: 0.0, lambda z: 0.0, 0.0, -2.0)),
    "general": (CUBIC, (lambda z: z * z / 2, lambda z: z, 0.75, -1.0)),
    "relu": (RELU, (abs, np.sign, 1.0, 0.0)),
}


@pytest.mark.parametrize("name", CLOSED)
def test_a_step_of_the_limit_is_exactly_a_layer_of_a_network(name: str) -> None:
    n, d, updates = 16, 8, 2
    activation, (even, slope, power, kappa3) = CLOSED[name]
    rng = np.random.default_rng(1)
    with np.errstate(over="ignore", invalid="ignore"):
        real = np.array([closed_network(rng, n, d, even, slope, power, kappa3, updates) for _ in range(3000)])
    run = cs.train(
        cs.MLP(activation, T),
        ONE,
        targets=[1.0],
        updates=updates,
        steps=d,
        paths=8192,
        chunk=4096,
        save_at=[0, 0.5, 1],
    )
    ours = np.concatenate([run.outputs[:, :, 0], np.moveaxis(run.A[1], 0, -1).reshape(9, -1)]).T
    # So narrow a network can diverge: at one place, for both.
    ours, real = (np.where(np.abs(x) < 1e6, x, 1e6) for x in (ours, real))
    for k in range(real.shape[1]):
        assert stats.ks_2samp(ours[:, k], real[:, k]).pvalue > 1e-3, k
    # Joint, not only marginal.
    for i, j in ((0, 2), (1, 7), (2, 11), (3, 5), (4, 9)):
        x, y = np.tanh(ours[:, i] * ours[:, j]), np.tanh(real[:, i] * real[:, j])
        (a, se_a), (b, se_b) = problems.estimate(x), problems.estimate(y)
        close(a, se_a, b, se_b)


@pytest.mark.parametrize("activation", [TANH, CUBIC, RELU], ids=["odd", "general", "relu"])
def test_gradients_of_a_layer_are_those_of_automatic_differentiation(activation: Any) -> None:
    layer = Layer(jnp.asarray(40.0), backward_of(activation).expansion())
    z, r = jax.random.normal(jax.random.key(0), (2, NEURONS + 4, 3))
    _, pull_back = jax.vjp(layer.features, z)
    np.testing.assert_allclose(layer.gradients(z, r), pull_back(r)[0], rtol=1e-12)


@pytest.mark.thorough
def test_features_of_any_size_come_back_as_the_equation_has_it() -> None:
    # Without noise dΦ/dt = κ₃ Φ (Φ - 1), so that 1 - 1/Φ is multiplied by e^{κ₃ t}, in a step of any length.
    for n in (20.0, 200.0):
        layer = Layer(jnp.asarray(n), backward_of(TANH).expansion())
        q = jnp.sum(layer.features(jnp.full((4, 1), 500.0)) ** 2)
        np.testing.assert_allclose(1 - 1 / q, (1 - 1e-6) * math.exp(-2 / n), rtol=1e-12)
    run = cs.train(cs.MLP(TANH, T), [[1e4]], targets=[1.0], updates=1, paths=256, key=5)
    networks = cs.train_networks(cs.MLP(TANH, T), [[1e4]], targets=[1.0], updates=1, width=100, draws=256, key=6)
    assert run.failures["total"] == 0
    assert abs(np.median(run.Phi[-1, :, 0, 0]) / np.median(networks.Phi[-1, :, 0, 0]) - 1) < 0.3


@pytest.mark.thorough
def test_strong_shaping_keeps_its_norm() -> None:
    run = cs.train(cs.MLP(cs.ShapedReLU(10.0, -10.0), T), ONE, targets=[1.0], updates=1, paths=2048, key=5)
    assert run.failures["total"] == 0
    close(*problems.estimate(np.minimum(run.Phi[-1, :, 0, 0], 20)), 1.0, errors=5)


@pytest.mark.parametrize("activation", [pytest.param(CUBIC, marks=pytest.mark.thorough), RELU], ids=["general", "relu"])
def test_before_training_the_even_part_has_the_gradients_of_the_limit_at_initialization(activation: Any) -> None:
    # Another solver, on Grams, with the closed Gaussian moments of the activation: two inputs, where it matters.
    start = cs.simulate_gradients(cs.MLP(activation, T), PAIR, paths=8192, steps=10, key=5)
    run = cs.train(
        cs.MLP(activation, T),
        PAIR,
        targets=[1.0, -1.0],
        updates=0,
        paths=8192,
        chunk=2048,
        steps=100,
        save_at=[0, 0.5, 1],
    )
    both = (
        (run.Phi[-1], run.G[0], run.A[0], run.A[1], run.ntk[0]),
        (start.Phi[-1], start.G[0], start.A[0], start.A[5], start.ntk),
    )
    statistics = {
        "log Phi": lambda Phi, G, A, mid, K: np.log(Phi[:, 0, 0]),
        "rho": lambda Phi, G, A, mid, K: Phi[:, 0, 1] / np.sqrt(Phi[:, 0, 0] * Phi[:, 1, 1]),
        "log G": lambda Phi, G, A, mid, K: np.log(G[:, 0, 0]),
        "G across": lambda Phi, G, A, mid, K: np.tanh(G[:, 0, 1]),
        "A across, mid": lambda Phi, G, A, mid, K: mid[:, 0, 1],
        "A across": lambda Phi, G, A, mid, K: A[:, 0, 1],
        "A moved": lambda Phi, G, A, mid, K: np.tanh(A[:, 0, 1] - mid[:, 0, 0]) * np.sign(mid[:, 0, 0]),
        "A moved, size": lambda Phi, G, A, mid, K: np.abs(A[:, 0, 1] - A[:, 0, 0]),
        # Rounded: a ReLU does not move it at all.
        "A itself moved": lambda Phi, G, A, mid, K: np.round(np.abs(A[:, 0, 0] - mid[:, 0, 0]), 9),
        "ntk": lambda Phi, G, A, mid, K: np.tanh(K[:, 0, 1]),
    }
    for name, f in statistics.items():
        x, y = (f(*(np.asarray(X, float) for X in side)) for side in both)
        assert stats.ks_2samp(x, y).pvalue > 1e-3, name


# --- identities of the limit ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["linear", "tanh"])
def test_overlaps_have_their_boundary_values_exactly(name: str, request: pytest.FixtureRequest) -> None:
    run: cs.Training = request.getfixturevalue(name)
    f = run.outputs[:, :, 0]
    for a in range(3):
        for b in range(3):
            assert np.max(np.abs(run.A[-1, :, a, b] - f[a])) < 1e-9 * np.max(np.abs(f))
            if a > b:
                assert np.max(np.abs(run.A[0, :, a, b] - run.A[0, :, b, b])) < 1e-9 * np.max(np.abs(run.A))


def test_the_overlap_of_a_linear_network_with_itself_does_not_move(linear: cs.Training) -> None:
    for a in range(3):
        assert np.max(np.abs(linear.A[:, :, a, a] - linear.outputs[a, :, 0])) < 1e-9 * np.max(np.abs(linear.outputs))


def test_before_training_it_is_the_limit_at_initialization(linear: cs.Training, tanh: cs.Training) -> None:
    for run in (linear, tanh):
        (a, se_a), (b, se_b) = problems.estimate(run.outputs[0, :, 0] ** 2), problems.estimate(run.Phi[-1, :, 0, 0])
        close(a, se_a, b, se_b)
    close(*problems.estimate(linear.G[0, :, 0, 0]), 1.0)
    close(*problems.estimate(np.log(linear.G[0, :, 0, 0])), -T, 0.02)  # a step is 1/100
    close(*problems.estimate(np.log(linear.Phi[-1, :, 0, 0])), -T, 0.02)
    # Another solver, on Grams: same law of gradients, overlaps and outputs.
    start = cs.simulate_gradients(cs.MLP(TANH, T), ONE, paths=8192, steps=10, key=5)
    for x, y in (
        (np.log(tanh.G[0, :, 0, 0]), np.log(start.G[0, :, 0, 0])),
        (tanh.A[1, :, 0, 0], start.A[5, :, 0, 0]),
        (tanh.ntk[0, :, 0, 0], start.ntk[:, 0, 0]),
        (
            np.log(tanh.Phi[-1, :, 0, 0]) * np.log(tanh.G[0, :, 0, 0]),
            np.log(start.Phi[-1, :, 0, 0] * 1.0) * np.log(start.G[0, :, 0, 0]),
        ),
    ):
        assert stats.ks_2samp(x, y).pvalue > 1e-3


def test_the_trained_linear_network_is_the_same_upside_down(linear: cs.Training) -> None:
    # Transposition exchanges input and readout, which are both fixed: Φ_τ and G_{1-τ} have one law at every update.
    for k in range(2):
        for up, down in ((linear.Phi[-1], linear.G[0]), (linear.Phi[1], linear.G[1])):
            assert stats.ks_2samp(up[:, k, k], down[:, k, k]).pvalue > 1e-3
        assert stats.ks_2samp(linear.Phi[-1, :, 0, 1], linear.G[0, :, 0, 1]).pvalue > 1e-3


def test_a_small_learning_rate_moves_outputs_by_the_tangent_kernel() -> None:
    run = limit(TANH, learning_rate=1e-5, paths=512)
    f = run.outputs[:, :, 0]
    predicted = 1e-5 * T * run.ntk[0, :, 0, 0] * (1 - f[0])
    np.testing.assert_allclose(f[1] - f[0], predicted, rtol=2e-3, atol=1e-9)
    assert np.max(run.movement()) < 1e-6


# --- values: networks of width 100, really trained by another program -------------------------------------------------


@pytest.mark.parametrize(
    ("name", "means", "errors", "deviations"),
    [
        ("linear", (0.002, 0.435, 0.547), (0.015, 0.011, 0.008), (1.000, 0.718, 0.477)),
        ("tanh", (-0.001, 0.419, 0.586), (0.016, 0.010, 0.007), (0.910, 0.565, 0.399)),
    ],
)
def test_outputs_after_training_are_those_of_an_independent_program(
    name: str, means: Any, errors: Any, deviations: Any, request: pytest.FixtureRequest
) -> None:
    run: cs.Training = request.getfixturevalue(name)
    for k, (mean, error, deviation) in enumerate(zip(means, errors, deviations, strict=True)):
        f = run.outputs[k, :, 0]
        close(*problems.estimate(f), mean, error, errors=3)
        if k < 2 or name == "tanh":
            close(float(f.std()), 0.03 * deviation, deviation, errors=3)
    overlap = run.A[1]
    if name == "tanh":
        for (a, b), deviation in {(0, 0): 0.555, (0, 1): 0.523, (1, 0): 0.431, (1, 1): 0.364}.items():
            close(float(overlap[:, a, b].std()), 0.02 * deviation, deviation, errors=3)
    else:
        close(*problems.estimate(run.Phi[-1, :, 1, 1]), 0.872, 0.015)
        close(*problems.estimate(run.Phi[-1, :, 1, 0]), 0.845, 0.015)


# --- many small steps, files, interruptions ---------------------------------------------------------------------------


def test_two_substeps_are_two_updates_of_half_the_rate(tanh: cs.Training) -> None:
    once = limit(TANH, updates=1, substeps=2, learning_rate=2.0, paths=512)
    np.testing.assert_allclose(once.outputs, tanh.outputs[::2, :512], rtol=1e-12)
    recorded = [0, 2]
    for name in ("Phi", "G", "A"):
        every = getattr(tanh, name)[:, :512][:, :, recorded][:, :, :, recorded]
        np.testing.assert_allclose(getattr(once, name), every, rtol=1e-12)
    mlp, settings = cs.MLP(TANH, T), {"targets": [1.0], "width": 8, "draws": 16, "method": "weights", "save_at": [0, 1]}
    fine = cs.train_networks(mlp, ONE, updates=2, **settings)  # type: ignore[arg-type]
    once = cs.train_networks(mlp, ONE, updates=1, substeps=2, learning_rate=2.0, **settings)  # type: ignore[arg-type]
    np.testing.assert_allclose(once.outputs, fine.outputs[::2], rtol=1e-12)


def test_many_substeps_are_gradient_flow() -> None:
    # Along gradient flow the loss decreases on every path; Euler steps approach it at first order.
    mlp, settings = cs.MLP(cs.Identity(), T), {"targets": [1.0], "width": 6, "draws": 64, "method": "weights"}
    runs = [
        cs.train_networks(mlp, ONE, updates=4, substeps=k, learning_rate=0.5, save_at=[0, 1], **settings)  # type: ignore[arg-type]
        for k in (1, 16)
    ]
    coarse, fine = (r.outputs[:, :, 0] for r in runs)
    assert np.all(np.diff(runs[1].losses, axis=0) < 1e-12)
    # One step of rate η₀ moves f by η₀ K (y - f); the flow damps y - f by e^{-η₀K} to leading order in its own motion.
    K = T * runs[1].ntk[0, :, 0, 0]
    np.testing.assert_allclose(np.median((1 - fine[1]) / (1 - fine[0]) / np.exp(-0.5 * K)), 1, atol=0.05)
    assert np.mean(np.abs(coarse[1] - fine[1])) > 0.01


def test_extrapolation_in_the_step_is_for_runs_that_differ_in_their_steps(tanh: cs.Training) -> None:
    coarse = cs.train(
        cs.MLP(TANH, T), ONE, targets=[1.0], updates=2, paths=512, chunk=512, save_at=[0, 0.5, 1], key=2, steps=10
    )
    value, error = cs.richardson(coarse, tanh, lambda r: r.outputs[2, :, 0])
    a, b = (r.mean(lambda r: r.outputs[2, :, 0]) for r in (coarse, tanh))
    assert value == pytest.approx(b.value + (b.value - a.value) / 4)
    assert error == pytest.approx(np.hypot(1.25 * b.standard_error, a.standard_error / 4))
    with pytest.raises(ValueError, match="must differ in their steps only"):
        cs.richardson(coarse, limit(TANH, learning_rate=0.5, paths=512), lambda r: r.outputs[2, :, 0])


# --- failures and arguments -------------------------------------------------------------------------------------------


def test_the_movement_per_step_is_that_of_the_features_over_the_steps(tanh: cs.Training) -> None:
    coarse = limit(TANH, steps=25)
    first = coarse.movement(1).max(axis=0)
    assert np.all(coarse.movement_per_step() >= np.sqrt(first) / 25 - 1e-12)
    assert coarse.metadata["unresolved"] == tanh.metadata["unresolved"] == 0.0
    assert np.median(tanh.movement_per_step()) == pytest.approx(np.median(coarse.movement_per_step()) / 2, rel=0.1)
    with pytest.raises(ValueError, match="networks have layers"):
        dataclasses.replace(tanh, metadata={}).movement_per_step()


def test_a_step_that_does_not_resolve_the_training_is_said(tanh: cs.Training) -> None:
    with pytest.warns(cs.UnresolvedStepWarning, match=r"On \d+% of the paths features move by more than 10%.*50 steps"):
        run = limit(TANH, learning_rate=1e6)
    assert run.metadata["unresolved"] > 0.9
    assert "not resolved by the steps" in repr(run)
    assert "not resolved" not in repr(tanh)


@pytest.mark.thorough
def test_what_is_said_to_be_unresolved_depends_on_the_step_and_what_is_not_does_not() -> None:
    def median(rate: float, steps: int) -> tuple[float, float]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", cs.UnresolvedStepWarning)
            run = cs.train(
                cs.MLP(TANH, 0.2), PAIR, targets=[1, -1], learning_rate=rate, updates=1, steps=steps, paths=512
            )
        return float(np.median(np.abs(run.outputs[-1]))), run.metadata["unresolved"]

    (coarse, told), (fine, still) = median(1e6, 20), median(1e6, 80)
    assert fine / coarse > 2
    assert min(told, still) > 0.9
    (coarse, told), (fine, still) = median(10.0, 20), median(10.0, 80)
    assert abs(fine / coarse - 1) < 0.1
    assert max(told, still) < 0.05


@pytest.mark.filterwarnings("ignore::covsde.FailedPathsWarning", "ignore::covsde.UnresolvedStepWarning")
def test_training_that_diverges_is_counted_and_marked() -> None:
    run = limit(cs.Identity(), learning_rate=300.0, paths=512)
    gone = run.status == cs.PathStatus.EXPLODED
    assert run.failures["total"] == run.failures["EXPLODED"] == gone.sum() > 50
    assert np.all(np.isnan(run.outputs[2, gone])) or np.all(run.last_update[gone] < 2)
    assert np.all(np.isfinite(run.outputs[0]))
    assert np.all(np.isfinite(run.mean(lambda r: r.outputs[2, :, 0]).value))
    assert np.all(np.isfinite(run.Phi[:, :, 0, 0]))


def test_the_logistic_loss_pushes_outputs_to_the_side_of_their_labels() -> None:
    run = limit(TANH, loss="logistic", paths=512)
    f = run.outputs[:, :, 0]
    np.testing.assert_allclose(run.losses, np.logaddexp(0, -f), rtol=1e-10)
    assert np.all(np.diff(run.losses.mean(axis=1)) < 0)


def test_paths_do_not_depend_on_how_many_there_are(tanh: cs.Training) -> None:
    few = limit(TANH, paths=7)
    np.testing.assert_array_equal(few.outputs, tanh.outputs[:, :7])


def test_bad_arguments_are_named() -> None:
    mlp = cs.MLP(TANH, T)
    with pytest.raises(ValueError, match=r"targets must hold one finite number per input, shape \(2,\)"):
        cs.train(mlp, PAIR, targets=[1.0])
    with pytest.raises(ValueError, match="steps=5 is too few"):
        cs.train(mlp, PAIR, targets=[1.0, 0.0], steps=5)
    with pytest.raises(ValueError, match="width=8 is too small for method='law'"):
        cs.train_networks(mlp, PAIR, targets=[1.0, 0.0], width=8)
    with pytest.raises(ValueError, match="loss must be one of"):
        cs.train(mlp, PAIR, targets=[1.0, 0.0], loss="hinge")
    with pytest.raises(TypeError, match="no training option 'richness'"):
        cs.train(mlp, PAIR, targets=[1.0, 0.0], richness=1.0)


def test_a_loss_maps_outputs_and_targets_to_one_number() -> None:
    mlp = cs.MLP(TANH, T)
    for loss in (lambda f, y: f - y, lambda f: 0.0, lambda f, y: None, lambda f, y: 1j * jnp.sum(f)):
        with pytest.raises(ValueError, match="loss must be a JAX function of outputs and targets, each of shape"):
            cs.train(mlp, ONE, targets=[1.0], loss=loss)
    run = limit(TANH, loss=lambda f, y: jnp.nan * jnp.sum(jax.lax.stop_gradient(f)), paths=512)
    assert run.failures["total"] == 512


def test_options_may_be_numbers_of_any_library(tanh: cs.Training) -> None:
    settings: dict[str, Any] = {"targets": [1.0], "updates": 1, "width": 8, "draws": 16, "method": "weights"}
    runs = [
        cs.train_networks(cs.MLP(TANH, T), ONE, output_scale=two, train_readout=true, **settings).outputs
        for two, true in ((2.0, True), (np.float32(2), np.True_), (jnp.asarray(2.0), np.True_))
    ]
    for outputs in runs[1:]:
        np.testing.assert_array_equal(outputs, runs[0])
    with pytest.raises(ValueError, match=r"targets must hold one finite number per input"):
        cs.train(cs.MLP(TANH, T), ONE, targets=["one"])


def test_labels_that_do_not_exist_are_refused(tanh: cs.Training) -> None:
    assert [tanh.label(k) for k in (0, 2, -1, -3)] == [0, 2, 2, 0]
    for update, datum in ((3, 0), (-4, 0), (0, 1), (0, -1)):
        with pytest.raises(ValueError, match="must lie between"):
            tanh.label(update, datum)


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_a_vector_that_moved_by_little_has_a_direction_of_its_own(kind: Any) -> None:
    # In one layer of width n an update moves features by 1/n of their length: far more than rounding, in any precision.
    rng = np.random.default_rng(0)
    frame, _ = np.linalg.qr(rng.standard_normal((12, 5)))
    known, new = jnp.asarray(frame.T[:4, :, None], kind), jnp.asarray(frame.T[4, :, None], kind)
    _, norm, direction = split(known, known[1] + jnp.asarray(1e-4, kind) * new)
    np.testing.assert_allclose(norm, 1e-4, rtol=2e-2)
    np.testing.assert_allclose(np.abs(np.sum(direction * new)), 1, atol=1e-4)
    np.testing.assert_allclose(np.einsum("adr,dr->ar", known, direction), 0, atol=3 * np.finfo(kind).eps)
    c, norm, direction = split(known, known[1])
    np.testing.assert_array_equal(norm, 0)
    np.testing.assert_array_equal(direction, 0)
    np.testing.assert_allclose(c[:, 0], np.eye(4)[1], atol=3 * np.finfo(kind).eps)
