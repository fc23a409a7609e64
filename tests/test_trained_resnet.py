"""Trained ResNets: exact values, values of other programs, the law of real networks, and what must hold exactly."""

import dataclasses
import itertools
import math
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import trained_resnet as problems
from scipy import stats

import covsde as cs
from covsde.architectures.resnet.blocks import AbstractBlock
from covsde.architectures.resnet.network.training import Stream
from covsde.descent.by_gradients import Weights, descend
from covsde.descent.losses import squared
from covsde.descent.low_rank import descend_low_rank
from covsde.descent.mean_field import UpdateRule
from covsde.descent.sources import Matched, Shape
from covsde.descent.task import task_from
from covsde.inputs.arguments import checked_switch
from covsde.inputs.data import Data

ONE, PAIR = np.asarray(problems.ONE), np.asarray(problems.PAIR)


def solve(problem: problems.TrainingProblem, **more: Any) -> cs.TrainedKernels:
    outputs = np.asarray(problem.outputs)
    # Everything about one input is of one shape: it compiles once.
    settings: dict[str, Any] = {"updates": len(outputs) - 1, "save_at": [0, 0.5, 1]} | dict(problem.settings) | more
    return cs.train(problem.architecture, problem.V0, targets=problem.targets, **settings)


def sampled(problem: problems.TrainingProblem) -> cs.TrainedKernels:
    return solve(problem, paths=8000, key=3)


@pytest.fixture(scope="module")
def tanh() -> cs.TrainedKernels:
    return sampled(problems.SAMPLED[0])


# --- linear networks: no sampling ---------------------------------------------------------------------------------


@pytest.mark.parametrize("problem", problems.EXACT, ids=lambda p: p.slug)
def test_a_linear_network_is_solved_to_all_digits(problem: problems.TrainingProblem) -> None:
    run = solve(problem)
    np.testing.assert_allclose(run.outputs[:, 0], problem.outputs, atol=problem.digits, rtol=0)
    if len(problem.targets) == 2:  # opposite targets, and the network is odd
        np.testing.assert_allclose(run.outputs[:, 1], -run.outputs[:, 0], atol=1e-9)
    if problem.stream:
        np.testing.assert_allclose(np.diag(run.H[-1]), problem.stream, atol=problem.digits, rtol=0)
    assert np.all(run.standard_error["outputs"] == 0)


@pytest.mark.thorough
def test_the_first_step_has_a_closed_form_for_every_scale() -> None:
    beta, richness, rate, y, H0 = 1.3, 0.6, 0.3, 0.7, 2.0
    settings: dict[str, Any] = {"targets": [y], "updates": 4, "learning_rate": rate, "richness": richness}
    res, gram = cs.ResNet("linear", beta), [[H0]]
    for depth in (16, 32):
        run = cs.train(res, gram, depth=depth, save_at=[0, 0.5, 1], **settings)
        assert run.outputs[1, 0] == pytest.approx(problems.first_step_at(depth, rate, y, beta, H0), rel=1e-10)
    run = cs.train(res, gram, steps=16, save_at=[0, 0.5, 1], **settings)
    f, square, _ = problems.first_step(rate, y, beta, richness, H0)
    # Extrapolated: what is left is of order 1/L².
    assert run.outputs[1, 0] == pytest.approx(f, rel=0.015)
    assert run.H[-1, 1, 1] == pytest.approx(square, rel=0.05)


@pytest.mark.parametrize("rate", problems.INFINITE)
def test_infinite_depth_is_reached_at_second_order(rate: float) -> None:
    settings: dict[str, Any] = {"targets": [1.0], "updates": 4, "learning_rate": rate, "save_at": [0, 0.5, 1]}
    outputs, stream = problems.INFINITE[rate]
    infinite = cs.train(problems.LINEAR, ONE, steps=16, **settings)
    shallow, deep = (cs.train(problems.LINEAR, ONE, depth=depth, **settings) for depth in (16, 32))
    np.testing.assert_allclose(infinite.outputs, 2 * deep.outputs - shallow.outputs, atol=1e-12)
    before, after = (np.abs(run.outputs[1:3, 0] - outputs[1:3]) for run in (deep, infinite))
    assert np.all(after < 0.2 * before)
    np.testing.assert_allclose(infinite.outputs[1:, 0], outputs[1:], atol=0.003 if rate == 0.2 else 0.02)
    if rate == 0.2:
        np.testing.assert_allclose(np.diag(infinite.H[-1]), stream, rtol=0.006)
        slope = 32 * (deep.outputs[1:, 0] - outputs[1:])
        np.testing.assert_allclose(slope, problems.SLOPE_OF_THE_DEPTH_ERROR, rtol=0.15)


def rule(fn: Any = lambda x: x, **changes: float) -> UpdateRule:
    values = {"scale": 0.5, "feature_rate": 0.1, "rate": 0.2, "richness": 1.0}
    values |= {"train_input": 0.0, "train_output": 0.0, "response": 1.0, "skip": 1.0} | changes
    return UpdateRule(fn, **{k: jnp.asarray(v) for k, v in values.items()})


@pytest.mark.parametrize("groups", [1, 3])
def test_matched_normals_are_orthonormal_within_groups(groups: int) -> None:
    particles = 400 if groups == 1 else 160
    shape = Shape(1, 1, 16, 3, 3)
    sources = jax.jit(lambda k: Matched(particles).sources(k, shape, jnp.dtype(float)))(jax.random.key(0))
    vectors = np.concatenate([np.asarray(s).reshape(-1, particles) for s in sources])
    assert len(vectors) == 2 + 2 * 16 * 3
    gram = vectors @ vectors.T / particles
    whole = np.eye(len(vectors))
    if groups == 1:
        np.testing.assert_allclose(gram, whole, atol=1e-12)
    else:
        np.testing.assert_allclose(gram[:2], whole[:2], atol=1e-12)  # with inputs and readout: all of them
        np.testing.assert_allclose(gram[2:40, 2:40], whole[2:40, 2:40], atol=1e-12)
        assert np.max(np.abs(gram[2:40, 40:])) > 0.1


# --- nonlinear networks: values of other programs -----------------------------------------------------------------


@pytest.mark.parametrize("problem", problems.SAMPLED, ids=lambda p: p.slug)
def test_outputs_are_those_of_an_independent_program(problem: problems.TrainingProblem) -> None:
    run = sampled(problem)
    exact = np.asarray(problem.outputs, float).reshape(run.outputs.shape)
    theirs = np.broadcast_to(np.asarray(problem.errors, float).reshape(-1, 1), exact.shape)
    error = np.hypot(run.standard_error["outputs"], theirs)
    assert np.all(np.abs(run.outputs - exact)[1:] < 3.5 * error[1:])
    assert np.all(run.standard_error["outputs"][1:] < 0.03)


@pytest.mark.parametrize("problem", problems.DECOUPLED, ids=lambda p: p.slug)
def test_without_responses_outputs_are_those_of_independent_backward_matrices(
    problem: problems.TrainingProblem,
) -> None:
    run = sampled(problem)
    exact = np.asarray(problem.outputs, float).reshape(run.outputs.shape)
    error = np.hypot(run.standard_error["outputs"], problem.errors)
    assert np.all(np.abs(run.outputs - exact)[1:] < 3.5 * error[1:])


def test_kernels_have_their_boundary_values(tanh: cs.TrainedKernels) -> None:
    N = tanh.outputs.size
    assert tanh.outputs[0] == pytest.approx(0, abs=1e-12)
    np.testing.assert_allclose(tanh.H[0], np.ones((N, N)), atol=1e-9)  # frozen inputs
    np.testing.assert_allclose(tanh.G[-1], np.ones((N, N)), atol=1e-9)  # frozen readout
    np.testing.assert_allclose(tanh.A[-1], np.tile(tanh.outputs, (1, N)), atol=1e-9)  # γ_0 = 1
    for X in (tanh.H, tanh.Phi, tanh.G):
        np.testing.assert_allclose(X, np.swapaxes(X, 1, 2), atol=1e-12)
        assert np.linalg.eigvalsh(X).min() > -1e-9
    assert np.all(np.diff(tanh.movement()) > 0)
    assert tanh.movement()[0] == pytest.approx(0, abs=1e-9)
    np.testing.assert_allclose(tanh.alignment(), 1)


def test_kernels_before_training_are_those_of_initialization(tanh: cs.TrainedKernels) -> None:
    exact = cs.kernels(problems.TANH, ONE, depth=16)
    error = tanh.standard_error
    assert tanh.ntk[0, 0, 0] == pytest.approx(exact.ntk[0, 0], abs=4 * error["ntk"][0, 0, 0])
    assert tanh.H[-1, 0, 0] == pytest.approx(exact.H[-1, 0, 0], abs=4 * error["H"][-1, 0, 0])
    assert tanh.G[0, 0, 0] == pytest.approx(exact.G[0, 0, 0], abs=4 * error["G"][0, 0, 0])
    assert error["ntk"][0, 0, 0] < 0.01 * exact.ntk[0, 0]


def test_a_small_richness_is_lazy(tanh: cs.TrainedKernels) -> None:
    run = solve(problems.SAMPLED[0], paths=8000, key=3, richness=1e-3)
    exact = cs.lazy_training(run.ntk[0], [1.0], range(5), learning_rate=0.3, method="descent").outputs[:, 0]
    np.testing.assert_allclose(run.outputs, exact, atol=2e-3)
    np.testing.assert_allclose(run.ntk[-1], run.ntk[0], rtol=5e-3)


# --- finite networks ----------------------------------------------------------------------------------------------

BLOCKS = [cs.PreActivation(0.7), cs.TwoMatrix(1.5)]


RULES = [
    cs.SGD([0.4, 0.3], momentum=0.5, weight_decay=0.3),
    cs.SGD([0.4, 0.3], momentum=0.5, nesterov=True, weight_decay=0.3, decoupled=True),
]


@pytest.mark.parametrize("optimizer", RULES, ids=["heavy ball, coupled", "nesterov, decoupled"])
@pytest.mark.parametrize("block", BLOCKS, ids=["pre", "two"])
def test_training_is_gradient_descent_with_the_stated_rates(block: AbstractBlock, optimizer: cs.SGD) -> None:
    """Two outputs, two batches of two of the three inputs, and all three read: against JAX's gradients of the loss."""
    n, depth, beta, gamma = 6, 3, 1.3, 0.8
    V0 = np.array([[1, 0.5, 0.2], [0.5, 1, -0.3], [0.2, -0.3, 1]])
    x = jnp.asarray(np.linalg.cholesky(V0) * math.sqrt(3))
    y = np.array([[1.0, 0.3], [-0.5, 0.2], [0.4, -0.7]])
    batches, parts = [[0, 1], [2]], ((0, 1), (2,))
    network = cs.ResNet(jnp.tanh, beta, block).network(n, depth=depth, key=0, in_size=3, out_size=2, richness=gamma)
    strength = block.strength(n, depth)
    settings = rule(
        jnp.tanh,
        scale=beta * math.sqrt(strength / depth),
        feature_rate=beta**2 * gamma / depth,
        rate=gamma,
        richness=gamma,
        train_input=1.0,
        train_output=1.0,
    )
    ends = cs.ResNetTraining(train_input=True, train_readout=True)
    steps: dict[str, Any] = {"optimizer": optimizer, "updates": 2, "substeps": 1, "batches": batches}
    task = task_from(Data(V0, y), loss="squared", settings=ends, **steps).arrays(float)
    start = Weights(network.hidden_weights, network.input_weights, network.output_weights)
    f = descend(Stream(network), start, settings, x, task, (0, depth)).outputs

    hidden_rate, end_rate = Stream(network).rates(settings, n)
    if isinstance(block, cs.TwoMatrix):
        assert float(hidden_rate) == pytest.approx(gamma**2 * depth * 9)  # γ_0² L M
    else:
        assert float(hidden_rate) == pytest.approx(gamma**2 * n * depth ** (2 * block.exponent - 1))
    assert float(end_rate) == pytest.approx(gamma**2 * n)

    def parameters(net: Any) -> list[jax.Array]:
        return [*net.hidden_weights, net.input_weights, net.output_weights]

    trained = network
    velocity: list[Any] = [0.0] * len(parameters(network))
    expected = [network(x)]
    for rows, eta in zip(parts, (0.4, 0.3), strict=True):
        index = np.array(rows)

        def loss(net: Any, index: Any = index) -> jax.Array:
            return squared(net(x)[index], jnp.asarray(y[index])) / len(index)

        slopes = parameters(eqx.filter_grad(loss)(trained))
        new = []
        for k, (W, slope) in enumerate(zip(parameters(trained), slopes, strict=True)):
            u = -(hidden_rate if k < len(slopes) - 2 else end_rate) * slope
            if not optimizer.decoupled:
                u = u - optimizer.weight_decay * W
            velocity[k] = optimizer.momentum * velocity[k] + u
            step = u + optimizer.momentum * velocity[k] if optimizer.nesterov else velocity[k]
            new.append((1 - eta * optimizer.weight_decay if optimizer.decoupled else 1.0) * W + eta * step)
        trained = eqx.tree_at(parameters, trained, new)
        expected.append(trained(x))
    np.testing.assert_allclose(f, np.stack(expected), rtol=1e-9, atol=1e-12)
    if isinstance(block, cs.PreActivation):
        full = descend(Stream(network), start, settings, x, task, (0, depth))
        for backward in (None, network.hidden_weights[0]):
            low = descend_low_rank(start, settings, x, task, (0, depth), backward)
            low = low._replace(ntk=beta**2 * low.ntk)
            for a, b in zip(low, full, strict=True):
                np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-12)


def test_networks_without_weights_have_the_law_of_those_with_weights() -> None:
    settings: dict[str, Any] = {"targets": [1.0, -0.5], "updates": 2, "learning_rate": 1.0, "width": 14, "depth": 2}
    settings |= {"draws": 500, "richness": 0.8, "save_at": [0, 0.5, 1]}
    settings |= {"train_input": True, "train_readout": True}
    law, real = (
        cs.train_networks(problems.TANH, PAIR, method=method, key=key, **settings)
        for method, key in (("law", 1), ("weights", 2))
    )
    statistics = {
        "f before": lambda r: r.outputs[0, :, 0],
        "f after": lambda r: r.outputs[2, :, 0],
        "f joint": lambda r: np.tanh(r.outputs[1, :, 0] * r.outputs[2, :, 1]),
        "Phi": lambda r: np.log(r.Phi[2, :, 4, 4]),
        "Phi across updates": lambda r: r.movement()[1],
        "G": lambda r: np.log(r.G[0, :, 2, 2]),
        "A": lambda r: r.A[1, :, 4, 0],
        "ntk": lambda r: np.log(r.ntk[2, :, 0, 1] ** 2),
    }
    for name, f in statistics.items():
        assert stats.ks_2samp(f(law), f(real)).pvalue > 1e-3, name
    # Their means agree more closely once the noise of untrained outputs is regressed out.
    plain, (a, b) = (
        law.mean(lambda r: r.outputs[1]),
        (r.controlled_mean(lambda r: r.outputs[1], lambda r: r.outputs[0]) for r in (law, real)),
    )
    assert np.all(a.standard_error < plain.standard_error)
    assert np.all(np.abs(a.value - b.value) < 4 * np.hypot(a.standard_error, b.standard_error))
    with pytest.raises(ValueError, match="control must hold fewer statistics"):
        law.controlled_mean(lambda r: r.outputs[1], lambda r: np.zeros((r.paths, r.paths)))


# --- blocks of two matrices ---------------------------------------------------------------------------------------


def test_two_matrix_blocks_at_infinite_width_and_depth() -> None:
    outputs, stream = problems.TWO_MATRIX_LINEAR
    res = cs.ResNet("linear", 1.0, "two-matrix")
    run = cs.train(res, ONE, targets=[1.0], updates=5, learning_rate=0.1, steps=32)
    np.testing.assert_allclose(run.outputs[:, 0], outputs, atol=5e-5)
    np.testing.assert_allclose(np.diag(run.H[-1]), stream, atol=5e-5)
    assert run.ntk[0, 0, 0] == pytest.approx(cs.kernels(res, ONE).ntk[0, 0], rel=1e-9)


def test_two_matrix_blocks_of_tanh() -> None:
    outputs, stream = problems.TWO_MATRIX_TANH
    res = cs.ResNet(jnp.tanh, 1.0, "two-matrix")
    run = cs.train(res, ONE, targets=[1.0], updates=5, learning_rate=0.3, depth=24, paths=16000)
    # Theirs are means over finitely many units too.
    error = run.standard_error
    assert np.all(np.abs(run.outputs[:, 0] - outputs) < 4 * error["outputs"][:, 0] + 1e-3)
    assert np.all(np.abs(np.diag(run.H[-1]) - stream) < 4 * np.diag(error["H"][-1]) + 3e-3)
    assert np.all(error["outputs"] < 2e-3)
    assert run.ntk[0, 0, 0] == pytest.approx(cs.kernels(res, ONE).ntk[0, 0], rel=5e-3)


# --- extrapolation in the step, and Monte Carlo errors of statistics ----------------------------------------------


@pytest.mark.thorough
def test_the_error_of_infinite_depth_is_of_the_recorded_order_and_is_extrapolated_away() -> None:
    rate, kernel = 0.2, math.e  # f(1) = η₀ K y
    coarse, fine = (
        cs.train(problems.LINEAR, ONE, targets=[1.0], updates=1, learning_rate=rate, steps=steps, save_at=[0, 0.5, 1])
        for steps in (4, 8)
    )
    assert coarse.metadata["order"] == fine.metadata["order"] == 2
    exact = np.array([rate * kernel, 0.5 * (rate * kernel - 1) ** 2, kernel])

    def everything(r: cs.TrainedKernels) -> np.ndarray:
        return np.array([r.outputs[1, 0], r.losses[1], r.ntk[0, 0, 0]])

    errors = [np.abs(everything(r) - exact) for r in (coarse, fine)]
    # Half the step, a quarter of an error of second order; what is left is of third order.
    np.testing.assert_allclose(errors[0] / errors[1], 4, rtol=0.2)
    value, error = cs.richardson(coarse, fine, everything)
    assert np.all(error == 0)  # nothing is sampled, and one key serves both
    assert np.all(np.abs(value - exact) < 0.3 * errors[1])


def test_blocks_of_two_matrices_have_an_error_of_the_recorded_order() -> None:
    # Up to the first update hidden units are independent, and any step is exact.
    settings: dict[str, Any] = {"targets": [1.0], "updates": 2, "learning_rate": 0.3, "save_at": [0, 0.5, 1]}
    runs = [cs.train(cs.ResNet("linear", 1.0, "two-matrix"), ONE, steps=steps, **settings) for steps in (4, 8, 16)]
    assert {run.metadata["order"] for run in runs} == {2}

    def last(r: cs.TrainedKernels) -> np.ndarray:
        return np.array([r.outputs[2, 0], r.H[-1, 2, 2], r.ntk[2, 0, 0]])

    first, second = (last(b) - last(a) for a, b in itertools.pairwise(runs))
    np.testing.assert_allclose(first / second, 4, rtol=0.3)
    rough, sharp = (cs.richardson(a, b, last).value for a, b in itertools.pairwise(runs))
    assert np.all(np.abs(sharp - rough) < 0.2 * np.abs(first))


@pytest.mark.thorough
def test_extrapolation_of_particles_is_within_its_standard_error() -> None:
    settings: dict[str, Any] = {"targets": [1.0], "updates": 2, "learning_rate": 0.3, "save_at": [0, 0.5, 1]}
    coarse, fine, best = (
        cs.train(problems.TANH, ONE, steps=steps, key=steps, paths=2048, chunk=256, **settings) for steps in (2, 4, 8)
    )
    value, error = cs.richardson(coarse, fine, lambda r: r.outputs[1:])
    a, b = (r.standard_error["outputs"][1:] for r in (coarse, fine))
    np.testing.assert_allclose(value, fine.outputs[1:] + (fine.outputs[1:] - coarse.outputs[1:]) / 3)
    np.testing.assert_allclose(error, np.hypot(4 / 3 * b, a / 3))
    assert np.all(np.abs(value - best.outputs[1:]) < 4 * np.hypot(error, best.standard_error["outputs"][1:]))
    for change, sentence in (({"seed": 2}, "use another key"), ({"chunk": 512}, "particles per system: use the same")):
        other = dataclasses.replace(fine, metadata=fine.metadata | change)
        with pytest.raises(ValueError, match=sentence):
            cs.richardson(coarse, other, lambda r: r.outputs)


def test_a_limit_of_finite_depth_has_no_steps_to_extrapolate_in() -> None:
    shallow, deep = (solve(problems.EXACT[0], depth=depth, updates=1) for depth in (4, 8))
    with pytest.raises(ValueError, match="needs two limits with steps, from simulate or train, at infinite depth"):
        cs.richardson(shallow, deep, lambda r: r.outputs)


def test_statistics_of_particles_have_the_errors_of_their_systems(tanh: cs.TrainedKernels, tmp_path: Path) -> None:
    assert len(tanh.replicates["H"]) == tanh.metadata["systems"] > 2
    for name, error in tanh.standard_error.items():
        value, found = tanh.mean(lambda r, name=name: getattr(r, name))
        np.testing.assert_array_equal(value, getattr(tanh, name))
        np.testing.assert_allclose(found, error, rtol=1e-6, atol=1e-12)
    # What is correlated keeps its correlation: a difference of the same number has no error.
    assert tanh.mean(lambda r: r.outputs[-1] - 2 * r.outputs[-1] + r.outputs[-1]).standard_error == 0
    # By the chain rule, up to a bend of the loss over one standard error.
    slopes = np.abs(tanh.outputs - 1)
    losses = tanh.mean(lambda r: r.losses)
    np.testing.assert_allclose(losses.standard_error[1:], (slopes * tanh.standard_error["outputs"])[1:, 0], rtol=0.05)
    assert losses.standard_error[1] > 0
    tanh.save(tmp_path / "run.npz")
    loaded = cs.TrainedKernels.load(tmp_path / "run.npz")
    np.testing.assert_array_equal(loaded.mean(lambda r: r.losses).standard_error, losses.standard_error)


def test_the_error_of_one_system_is_not_known(tmp_path: Path) -> None:
    one = solve(problems.SAMPLED[0], paths=512, updates=1)
    one.save(tmp_path / "run.npz")
    for run in (one, cs.TrainedKernels.load(tmp_path / "run.npz")):
        assert np.all(np.isnan(run.mean(lambda r: r.outputs).standard_error))
    with pytest.raises(TypeError, match="must return a real number or array"):
        one.mean(lambda r: r)


# --- results, failures and arguments ------------------------------------------------------------------------------


def test_results_are_reproducible_and_survive_a_file(tanh: cs.TrainedKernels, tmp_path: Path) -> None:
    again = sampled(problems.SAMPLED[0])
    np.testing.assert_array_equal(again.outputs, tanh.outputs)
    tanh.save(tmp_path / "run.npz")
    loaded = cs.TrainedKernels.load(tmp_path / "run.npz")
    for name in cs.TrainedKernels.arrays:
        np.testing.assert_array_equal(getattr(loaded, name), getattr(tanh, name))
    np.testing.assert_array_equal(loaded.standard_error["G"], tanh.standard_error["G"])
    assert loaded.metadata == tanh.metadata
    assert loaded.status == cs.PathStatus.FINE
    assert repr(loaded) == "TrainedKernels(4 updates, 1 inputs, FINE)"
    assert loaded.label(-1) == 4
    assert loaded.last_update == 4


def test_training_that_diverges_is_marked_from_the_update_where_it_does() -> None:
    with pytest.warns(cs.FailedPathsWarning, match="Training diverged after update 1"):
        run = solve(problems.EXACT[0], learning_rate=1e3)
    assert run.status == cs.PathStatus.EXPLODED
    assert run.last_update == 1
    assert np.all(np.isfinite(run.outputs[:2]))
    assert np.all(np.isnan(run.outputs[2:]))
    assert np.all(np.isfinite(run.H[:, :2, :2]))
    assert np.all(np.isnan(run.G[:, 2:]))


def test_bad_arguments_are_named() -> None:
    settings: dict[str, Any] = {"targets": [1.0], "updates": 1}
    tanh = problems.TANH
    with pytest.raises(TypeError, match="no training option 'output_scale': it has richness, depth"):
        cs.train(tanh, ONE, output_scale=1.0, **settings)
    with pytest.raises(ValueError, match="richness must be positive"):
        cs.train(tanh, ONE, richness=0.0, **settings)
    with pytest.raises(ValueError, match="steps has no meaning at a finite depth"):
        cs.train(tanh, ONE, depth=4, steps=4, **settings)
    with pytest.raises(ValueError, match="response must be True or False"):
        checked_switch("response", 0.5)  # a call with it does not pass the annotations that tests check
    with pytest.raises(TypeError, match="block=PostActivation has no limit of training"):
        cs.train(cs.ResNet(jnp.tanh, block="post-activation"), ONE, **settings)
    with pytest.raises(ValueError, match="method='law' is for PreActivation"):
        cs.train_networks(cs.ResNet(jnp.tanh, block="two-matrix"), ONE, width=8, depth=2, **settings)
    with pytest.raises(ValueError, match="width=4 is too small for method='law'"):
        cs.train_networks(tanh, ONE, width=4, depth=2, **settings)
    with pytest.raises(ValueError, match="response=False is for"):
        cs.train(cs.ResNet(jnp.tanh, block="two-matrix"), ONE, response=False, **settings)
