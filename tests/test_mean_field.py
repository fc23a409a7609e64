"""Mean-field networks of fixed depth: exact values, other programs, networks with weights, fluctuations."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import mean_field as known

import covsde as cs
from covsde.architectures.mean_field.network.training import Layers
from covsde.architectures.mean_field.training import MeanFieldTraining, rule_of
from covsde.descent.by_gradients import Weights, descend
from covsde.descent.low_rank import descend_low_rank
from covsde.descent.task import task_from
from covsde.inputs.data import Data
from covsde.moments.shape import has_kinks

ONE: dict[str, Any] = {"targets": [0.8], "learning_rate": 0.2, "richness": 0.7}
DEEP: dict[str, Any] = {"targets": [1.0], "updates": 4, "learning_rate": 0.15}
THREE: dict[str, Any] = {
    "targets": [1.0, -0.7, np.nan],
    "batches": [0, 1],
    "updates": 5,
    "learning_rate": 0.12,
    "richness": 1.2,
}


# --- linear networks: no sampling -------------------------------------------------------------------------------------


@pytest.mark.parametrize("depth", known.LINEAR)
def test_linear_networks_are_trained_to_all_digits(depth: int) -> None:
    f, square = known.LINEAR[depth]
    run = cs.train(cs.MeanFieldMLP("linear", depth), [[1.3]], updates=len(f), **ONE)
    np.testing.assert_allclose(run.outputs[1:, 0], f, atol=1e-8)
    assert run.outputs[1, 0] == pytest.approx((depth + 1) * 0.2 * 0.8 * 1.3, rel=1e-12)
    assert run.H[-1, 1, 1] == pytest.approx(square, abs=1e-8)
    assert run.ntk[0, 0, 0] == pytest.approx((depth + 1) * 1.3, rel=1e-12)
    np.testing.assert_allclose(run.tau, np.arange(1, depth + 1) / depth)


@pytest.mark.parametrize("depth", known.LINEAR_WITHOUT_RESPONSES)
def test_without_responses_a_first_step_is_that_of_two_layers(depth: int) -> None:
    f = known.LINEAR_WITHOUT_RESPONSES[depth]
    run = cs.train(cs.MeanFieldMLP("linear", depth), [[1.3]], updates=3, response=False, **ONE)
    np.testing.assert_allclose(run.outputs[1:, 0], f, atol=1e-8)


def test_a_test_input_follows_a_linear_network_exactly_and_moves_nothing() -> None:
    run = cs.train(cs.MeanFieldMLP("linear", 3), known.K3, **THREE)
    for update, f in known.THREE:
        np.testing.assert_allclose(run.outputs[update], f, atol=2e-8)
    alone = cs.train(cs.MeanFieldMLP("linear", 3), np.array(known.K3)[:2, :2], **THREE | {"targets": [1.0, -0.7]})
    np.testing.assert_allclose(run.outputs[:, :2], alone.outputs, atol=1e-12)


def test_small_steps_of_two_layers_are_the_riccati_flow() -> None:
    # Euler steps of η₀ = 0.01 and 0.005, extrapolated.
    at = [np.array([0.0, 0.4, 0.8, 2.0]), {"variance": 1.3, "target": 0.8, "richness": 0.7}]
    found = []
    for rate in (0.01, 0.005):
        run = cs.train(
            cs.MeanFieldMLP("linear", 1),
            [[1.3]],
            targets=[0.8],
            updates=round(2 / rate),
            learning_rate=rate,
            richness=0.7,
        )
        found.append(run.outputs[np.round(at[0] / rate).astype(int), 0])
    np.testing.assert_allclose(2 * found[1] - found[0], cs.two_layer_flow(at[0], **at[1]), atol=4e-5)
    assert cs.two_layer_flow([40.0], **at[1])[0] == pytest.approx(0.8, abs=1e-6)


# --- nonlinear networks -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", [known.TANH, known.RELU], ids=["tanh", "relu, two outputs, batches, momentum, decay"])
def test_outputs_are_those_of_two_other_programs(case: known.Trained) -> None:
    settings = dict(case.settings)
    if case is known.RELU:
        settings["optimizer"] = cs.SGD(0.25, momentum=0.5, weight_decay=0.2)
    run = cs.train(cs.MeanFieldMLP(case.activation, case.depth), known.K3, paths=32_000, key=1, **settings)
    for (update, f), theirs in zip(case.outputs, case.errors, strict=True):
        error = np.hypot(run.standard_error["outputs"][update], theirs)
        assert np.all(np.abs(run.outputs[update] - np.array(f)) < 4 * error)
        assert np.all(error < 0.005)


@pytest.mark.parametrize("name", known.TWO_LAYERS)
def test_two_layers_are_those_of_quadrature(name: str) -> None:
    (richness, rate), f, _ = known.TWO_LAYERS[name]
    run = cs.train(
        cs.MeanFieldMLP(name, 1),
        [[1.0]],
        targets=[1.0],
        updates=5,
        richness=richness,
        learning_rate=rate,
        paths=40_000,
        key=2,
    )
    error = run.standard_error["outputs"][1:, 0]
    assert np.all(np.abs(run.outputs[1:, 0] - f) < 4 * error)
    assert np.all(error < 0.003)


def test_late_in_training_particles_do_not_lose_what_features_were() -> None:
    # Features that have settled leave rounding for new directions; the spread of systems grew a hundredfold here.
    x = np.random.default_rng(0).standard_normal((10, 8))
    run = cs.train(
        cs.MeanFieldMLP("tanh", 3),
        cs.gram(x) / 8 + np.eye(10) / 2,
        targets=np.sign(x[:, 0]),
        batches=[0, 1, 2, 3, 4, 5],
        updates=45,
        learning_rate=1.2,
        paths=2400,
        chunk=600,
    )
    assert run.losses[-1] < 1e-4
    assert np.max(run.standard_error["outputs"][-1]) < 0.15 * np.sqrt(1 / 6)


# --- at initialization, and lazy --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", known.LAZY)
def test_kernels_at_initialization_are_those_of_the_recursion(name: str) -> None:
    mlp, (ntk, Phi) = cs.MeanFieldMLP(name, 3), known.LAZY[name]
    found = cs.kernels(mlp, known.PAIR)
    np.testing.assert_allclose(found.ntk, [ntk, ntk[::-1]], atol=1e-9)
    np.testing.assert_allclose(found.Phi[-1], [Phi, Phi[::-1]], atol=1e-9)
    np.testing.assert_array_equal(found.nngp, found.Phi[-1])
    limit = cs.simulate(mlp, known.PAIR)
    np.testing.assert_allclose(limit.V[1:, 0], found.Phi, rtol=1e-12)
    np.testing.assert_allclose(limit.tau, [0, 1 / 3, 2 / 3, 1])
    run = cs.train(mlp, known.PAIR, targets=[1.0, -0.5], updates=0, paths=20_000)
    assert np.all(np.abs(run.ntk[0] - found.ntk) < 4 * run.standard_error["ntk"][0] + 1e-9)


def test_small_richness_is_lazy_training_with_the_tangent_kernel() -> None:
    mlp, y = cs.MeanFieldMLP("tanh", 3), [1.0, -0.5]
    lazy = cs.lazy_training(cs.kernels(mlp, known.PAIR), y, [1, 2], learning_rate=0.5, method="descent")
    np.testing.assert_allclose(lazy.outputs[:, :, 0], [[0.161311, -0.046727], [0.295066, -0.092157]], atol=2e-6)
    run = cs.train(
        mlp, known.PAIR, targets=y, updates=2, learning_rate=0.5, richness=0.02, centred=True, paths=40_000, key=3
    )
    moved = run.mean(lambda r: r.outputs[1:] - r.outputs[0])
    assert np.all(np.abs(moved.value - lazy.outputs[:, :, 0]) < 4 * moved.standard_error + 1e-4)
    assert np.all(moved.standard_error < 0.004)


# --- networks ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("depth", [pytest.param(1, marks=pytest.mark.thorough), 3])
def test_networks_are_trained_by_the_gradients_of_the_loss(depth: int) -> None:
    """Two outputs and two of three inputs per update: against JAX's gradients at the rate η₀ γ₀² N in all layers."""
    n, gamma, rate, P = 7, 0.8, 0.4, 2
    y = np.array([[1, -0.5], [-0.7, 0.4], [0, 0]])
    net = cs.MeanFieldMLP(jnp.tanh, depth).network(n, key=0, in_size=3, out_size=2, richness=gamma)
    x = jnp.asarray(np.linalg.cholesky(np.array(known.K3)) * 3**0.5)
    settings = MeanFieldTraining(richness=gamma)
    data, kind = Data(np.array(known.K3), y), np.dtype(float)
    task = task_from(
        data, loss="squared", updates=3, substeps=1, optimizer=cs.SGD(rate), settings=settings, batches=[0, 1]
    ).arrays(kind)
    rule, layers = rule_of(jnp.tanh, task), tuple(range(depth))
    start = Weights((net.hidden_weights,), net.input_weights, net.output_weights)
    low = descend_low_rank(start, rule, x, task, layers, None)
    full = descend(Layers(jnp.tanh), start, rule, x, task, layers)
    expected, weights = [net(x)], net
    for _ in range(3):

        def loss(parameters: Any, weights: Any = weights) -> Any:
            inputs, hidden, outputs = parameters
            moved = type(net)(jnp.tanh, gamma, inputs, hidden, outputs, net.input_key)
            return 0.5 * jnp.sum((moved(x)[:2] - y[:2]) ** 2) / P

        now = (weights.input_weights, weights.hidden_weights, weights.output_weights)
        new = jax.tree.map(lambda w, d: w - rate * gamma**2 * n * d, now, jax.grad(loss)(now))
        weights = type(net)(jnp.tanh, gamma, *new, net.input_key)
        expected.append(weights(x))
    for found in (low, full):
        np.testing.assert_allclose(found.outputs, np.stack(expected), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(low.H, full.H, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose((depth - 1) * low.ntk + low.ends, full.ntk + full.ends, rtol=1e-8, atol=1e-12)
    kernels = net.kernels(x)
    np.testing.assert_allclose(kernels.Phi[-1][:2, :2], low.Phi[-1][:2, :2], rtol=1e-10)


def test_the_tangent_kernel_of_a_network_is_that_of_its_gradients() -> None:
    n, gamma = 9, 0.6
    net = cs.MeanFieldMLP(jnp.tanh, 3).network(n, key=1, in_size=4, richness=gamma)
    x = jax.random.normal(jax.random.key(2), (3, 4))

    def outputs(parameters: Any) -> Any:
        return type(net)(jnp.tanh, gamma, *parameters, net.input_key)(x)[:, 0]

    now = (net.input_weights, net.hidden_weights, net.output_weights)
    rows = [np.asarray(d).reshape(3, -1) for d in jax.jacrev(outputs)(now)]
    expected = gamma**2 * n * sum(r @ r.T for r in rows)
    np.testing.assert_allclose(net.kernels(x).ntk, expected, rtol=1e-5)


def test_networks_without_weights_have_the_law_of_those_with_weights() -> None:
    settings: dict[str, Any] = {"targets": [1.0, -0.7, 0.2], "batches": [0, 1], "updates": 2, "width": 24, "draws": 600}
    law, real = (
        cs.train_networks(cs.MeanFieldMLP("tanh", 3), known.K3, method=method, key=key, **settings)
        for method, key in (("law", 1), ("weights", 2))
    )
    statistics = {
        "f before": lambda r: r.outputs[0, :, 0] ** 2,
        "f after": lambda r: r.outputs[2, :, 0],
        "test": lambda r: r.outputs[2, :, 2],
        "joint": lambda r: r.outputs[1, :, 0] * r.outputs[2, :, 2],
        "Phi": lambda r: r.Phi[1, :, 4, 4],
        "G": lambda r: r.G[0, :, 2, 2],
        "ntk": lambda r: r.ntk[1, :, 0, 1],
    }
    for name, f in statistics.items():
        a, b = law.mean(f), real.mean(f)
        assert abs(a.value - b.value) < 4 * np.hypot(a.standard_error, b.standard_error), name


@pytest.mark.thorough
@pytest.mark.parametrize("activation", ["tanh", "relu"])
@pytest.mark.parametrize("depth", [2, 4])
def test_networks_approach_the_limit_like_one_over_width(activation: str, depth: int) -> None:
    """Two trained inputs, two tests, two outputs; networks with weights of widths 128 and 384."""
    V = np.array([[1, 0.4, 0.6, 0.1], [0.4, 1, -0.2, 0.3], [0.6, -0.2, 1, 0], [0.1, 0.3, 0, 1]])
    y = np.array([[1, -0.5], [-0.7, 0.4], [0, 0], [0, 0]])
    mlp = cs.MeanFieldMLP(activation, depth)
    rate = 0.5 if activation == "tanh" else 0.3 * 2 ** (depth - 2)
    settings: dict[str, Any] = {"targets": y, "batches": [0, 1], "updates": 4, "learning_rate": rate}
    limit = cs.train(mlp, V, paths=64_000, key=1, **settings)
    found = []
    for width, draws in ((128, 800), (384, 300)):
        nets = cs.train_networks(
            mlp, V, width=width, draws=draws, method="weights", centred=True, key=width, **settings
        )
        f = nets.outputs[-1] - nets.outputs[0]
        found.append((f.mean(axis=0), f.std(axis=0, ddof=1) / draws**0.5))
    (small, se_small), (large, se_large) = found
    value, error = 1.5 * large - 0.5 * small, np.hypot(1.5 * se_large, 0.5 * se_small)
    total = np.hypot(error, limit.standard_error["outputs"][-1])
    assert np.all(np.abs(value - limit.outputs[-1]) < 4 * total + (small - large) ** 2)


# --- fluctuations -----------------------------------------------------------------------------------------------------


def test_fluctuations_of_two_linear_layers_are_those_of_the_exact_law() -> None:
    found = cs.fluctuations(cs.MeanFieldMLP("linear", 1), [[1.3]], updates=4, **ONE)
    np.testing.assert_allclose(found.variance[:, 0], known.LINEAR_VARIANCE, atol=1e-8)
    np.testing.assert_allclose(found.shift[:, 0], known.LINEAR_SHIFT, atol=1e-8)
    assert np.all(found.standard_error["covariance"] == 0)
    # The law at N = 1000, from 400 000 draws: what is left is of order 1/N, below 2 %.
    f = known.two_layer_law(1000, 4, 400_000, 0)
    np.testing.assert_allclose(1000 * f.var(axis=1), found.variance[:, 0], rtol=0.03)
    covariance = found.covariance[:, 0, :, 0]
    np.testing.assert_allclose(1000 * np.cov(f), covariance, atol=0.02 * np.abs(covariance).max())


@pytest.mark.thorough
def test_fluctuations_of_deep_linear_networks_are_exact() -> None:
    found = cs.fluctuations(cs.MeanFieldMLP("linear", 3), [[1.0]], **DEEP)
    np.testing.assert_allclose(found.outputs[:, 0], known.DEEP_OUTPUTS, atol=1e-8)
    np.testing.assert_allclose(found.variance[:, 0], known.DEEP_VARIANCE, atol=1e-8)
    np.testing.assert_allclose(found.shift[:, 0], known.DEEP_SHIFT, atol=1e-6)


def test_what_is_dependent_in_the_limit_fluctuates_on_its_own() -> None:
    """Two inputs learn along one direction of a linear network of infinite width, and not of a finite one."""
    found = cs.fluctuations(cs.MeanFieldMLP("linear", 3), known.K3, **THREE)
    np.testing.assert_allclose(found.variance[:, 0], known.THREE_VARIANCE, atol=3e-6)
    np.testing.assert_allclose(found.variance[:, 2], known.THREE_VARIANCE_OF_TEST, atol=6e-6)


@pytest.mark.parametrize("activation", ["linear", "relu"])
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_the_tangent_kernel_of_lazy_networks_fluctuates_as_in_closed_form(activation: str, depth: int) -> None:
    """2000 networks of width 256 with one input: N Var Θ/Θ², 4 standard errors and 3 % for what is of order 1/N."""
    mlp = cs.MeanFieldMLP(activation, depth)
    nets = cs.train_networks(mlp, [[1.0]], targets=[1.0], updates=0, width=256, draws=2000, method="law", key=depth)
    ntk = nets.ntk[0, :, 0, 0]
    relative = 256 * ntk.var(ddof=1) / ntk.mean() ** 2
    # Per unit of Θ², from one step counted from f(0) of a target and a rate of 1/Θ.
    Theta = float(cs.kernels(mlp, [[1.0]]).ntk[0, 0])
    expected = cs.lazy_variance(mlp, [1], richness=np.inf, learning_rate=1 / Theta)[0]
    error = relative * np.sqrt(2 / 2000) * 1.5
    assert abs(relative - expected) < 4 * error + 0.03 * expected


@pytest.mark.thorough
def test_lazy_linear_networks_counted_from_their_start_fluctuate_by_their_kernel() -> None:
    found = cs.fluctuations(
        cs.MeanFieldMLP("linear", 2), [[1.3]], targets=[0.8], updates=2, learning_rate=0.2, richness=1e-3, centred=True
    )
    expected = cs.lazy_variance(
        cs.MeanFieldMLP("linear", 2), [0, 1, 2], variance=1.3, target=0.8, learning_rate=0.2, richness=np.inf
    )
    np.testing.assert_allclose(found.centred().variance[:, 0], expected, atol=2e-5)
    np.testing.assert_allclose(expected[1:], [0.86528002, 0.16751816], atol=1e-6)


def test_fluctuations_of_tanh_are_those_of_influences_and_of_networks() -> None:
    settings = known.TANH.settings | {"targets": [1.0, -0.7, 0.5]}
    found = cs.fluctuations(cs.MeanFieldMLP("tanh", 2), known.K3, paths=6000, key=3, **settings)
    for datum, (values, errors) in zip((0, 2), known.TANH_VARIANCE, strict=True):
        total = np.hypot(found.variance_error[:, datum], errors)
        assert np.all(np.abs(found.variance[:, datum] - values) < 4 * total)
    nets = cs.train_networks(
        cs.MeanFieldMLP("tanh", 2), known.K3, width=256, draws=400, method="weights", key=4, **settings
    )
    measured = 256 * nets.outputs.var(axis=1, ddof=1)
    error = np.hypot(measured * np.sqrt(2 / 400), found.variance_error)
    assert np.all(np.abs(measured - found.variance) < 4 * error + 0.05 * found.variance)
    table = cs.compare(found.at_width(256), nets)
    spread = [row for row in table.rows if row.statistic.startswith("variance f")]
    assert len(spread) == 2
    assert all(abs(row.z) < 4 for row in spread)


def test_a_prediction_at_a_width_has_its_mean_and_covariance_exactly(tmp_path: Any) -> None:
    found = cs.fluctuations(cs.MeanFieldMLP("linear", 1), known.PAIR, targets=[1.0, -0.5], updates=2)
    at = found.at_width(64, draws=500)
    np.testing.assert_allclose(at.outputs.mean(axis=1), found.outputs + found.shift / 64, atol=1e-12)
    np.testing.assert_allclose(at.outputs.var(axis=1, ddof=1), found.variance / 64, rtol=1e-9)
    found.save(tmp_path / "found.npz")
    again = cs.Fluctuations.load(tmp_path / "found.npz")
    np.testing.assert_array_equal(again.covariance, found.covariance)
    assert again.metadata == found.metadata
    limit, variance, shift = found.losses()
    # Before training: loss ½⟨(f - y)²⟩ with f of mean 0.
    assert limit[0] == pytest.approx(0.625 / 2)
    assert shift[0] == pytest.approx(np.sum(found.variance[0]) / 4)
    assert variance[0] > 0


def test_kinks_are_seen_wherever_they_are() -> None:
    kinked = [jax.nn.relu, jax.nn.leaky_relu, jnp.abs, lambda x: jnp.maximum(x, 1.7)]
    smooth = [jnp.tanh, jax.nn.gelu, lambda x: x, lambda x: jax.nn.softplus(20 * x) / 20]
    assert all(has_kinks(fn) for fn in kinked)
    assert not any(has_kinks(fn) for fn in smooth)


@pytest.mark.parametrize(
    ("part", "call"),
    [
        ("depth", lambda: cs.MeanFieldMLP("tanh", 0)),
        ("activation", lambda: cs.MeanFieldMLP("no such", 2)),
        ("activation", lambda: cs.fluctuations(cs.MeanFieldMLP("relu", 2), known.PAIR, targets=[1, -1])),
        ("steps", lambda: cs.simulate(cs.MeanFieldMLP("tanh", 2), known.PAIR, steps=3)),
        ("depth", lambda: cs.sample_networks(cs.MeanFieldMLP("tanh", 2), known.PAIR, width=8, depth=3)),
        ("richness", lambda: cs.train(cs.MeanFieldMLP("tanh", 2), known.PAIR, targets=[1, -1], richness=-1.0)),
        ("activation", lambda: cs.train(cs.MeanFieldMLP(lambda x: x**3, 2), known.PAIR, targets=[1, -1])),
        ("paths", lambda: cs.train(cs.MeanFieldMLP("tanh", 2), known.PAIR, targets=[1, -1], paths=8)),
        (
            "width",
            lambda: cs.train_networks(cs.MeanFieldMLP("tanh", 2), known.PAIR, targets=[1, -1], updates=9, width=20),
        ),
        ("solver", lambda: cs.simulate(cs.ResNet("tanh"), known.PAIR, solver=cs.solvers.LayerByLayer())),
    ],
)
def test_what_cannot_be_is_refused_in_one_sentence(part: str, call: Any) -> None:
    with pytest.raises(ValueError, match=part) as refusal:
        call()
    assert "\n" not in str(refusal.value)
