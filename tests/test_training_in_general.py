"""Training with test inputs, several outputs, batches and other rules: exact values, and networks with weights."""

import math
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

import covsde as cs
from covsde.descent.batches import Batches
from covsde.descent.optimizers import SGD

T = 0.5
LINEAR, TANH = cs.MLP(cs.Identity(), T), cs.MLP(cs.ShapedSmooth(jnp.tanh), T)
V3 = np.array([[1, 0.5, -0.2], [0.5, 1, 0.1], [-0.2, 0.1, 1]])
V4 = np.array([[1, 0.3, -0.2, 0.5], [0.3, 1, 0.4, 0.2], [-0.2, 0.4, 1, 0.1], [0.5, 0.2, 0.1, 1]])


# --- optimisers: the table of coefficients ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("momentum", "nesterov", "ratios"),
    [(0.0, False, (1.5, 1.75)), (0.5, False, (1.75, 2.1875)), (0.5, True, (1.58333, 1.89583))],
    ids=["descent", "heavy ball", "nesterov"],
)
def test_small_steps_add_up_as_the_table_says_on_every_path(
    momentum: float, nesterov: bool, ratios: tuple[float, float]
) -> None:
    # (f_K - f_0)/(f_1 - f_0) → Σ_j Ω_Kj/Ω_10 as all rates go to 0, for trained and for tested inputs.
    rule = SGD(1e-5 * np.array([1, 0.5, 0.25]), momentum=momentum, nesterov=nesterov)
    run = cs.train_networks(
        TANH, V3, targets=[1.0, -1.0, 0.5], batches=[0, 1], optimizer=rule, updates=3, width=32, draws=4
    )
    first = run.outputs[1] - run.outputs[0]
    for k, ratio in zip((2, 3), ratios, strict=True):
        np.testing.assert_allclose((run.outputs[k] - run.outputs[0]) / first, ratio, rtol=1e-4)
    Omega = np.asarray(rule.table(3, 32).Omega)
    np.testing.assert_allclose(Omega[2:].sum(axis=1) / Omega[1, 0], ratios, rtol=1e-5)


DECAYED = [
    (SGD(0.8, weight_decay=0.7, decoupled=True), (0.753913, 0.568384, 0.428512)),
    (SGD(0.8, weight_decay=0.7), (0.753913, 0.568384, 0.428512)),
    (SGD(0.8, momentum=0.5, weight_decay=0.7), (0.753913, 0.491324, 0.296559)),
]


@pytest.mark.parametrize(("rule", "factors"), DECAYED, ids=["decoupled", "coupled", "coupled, heavy ball"])
@pytest.mark.parametrize("method", ["law", "weights"])
def test_without_forces_a_decay_multiplies_the_outputs_of_a_linear_network_on_every_path(
    rule: SGD, factors: tuple[float, ...], method: str
) -> None:
    settings: dict[str, Any] = {"targets": [0.0], "optimizer": rule, "updates": 3, "output_scale": 1e-8}
    run = cs.train_networks(LINEAR, [[1.0]], width=32, depth=16, draws=4, method=method, **settings)
    np.testing.assert_allclose(
        run.outputs[1:] / run.outputs[0], np.array(factors)[:, None, None] * np.ones((3, 4, 1)), rtol=2e-6
    )
    np.testing.assert_allclose(np.asarray(rule.table(3, 32).beta)[1:] ** 16, factors, rtol=2e-6)


# --- exact values -----------------------------------------------------------------------------------------------------


def test_the_first_update_moves_means_by_the_initial_kernel_and_those_of_tests_too() -> None:
    # ∂E f(x, 1)/∂η at 0 = T V0(x, x₀) y₀ of a linear network, whatever its width; f is of the first order in η paired.
    runs = [
        cs.train(
            LINEAR, V3, targets=[1.0, np.nan, np.nan], batches=[0], updates=1, learning_rate=rate, paths=32768, steps=8
        )
        for rate in (0.02, -0.02)
    ]
    up, down = (np.diff(run.outputs, axis=0)[0] for run in runs)
    slope = (up - down) / 0.04
    error = slope.std(axis=0) / math.sqrt(len(slope))
    assert np.all(np.abs(slope.mean(axis=0) - T * V3[0]) < 4 * error)
    assert np.all(error < 0.015)
    assert runs[0].test_losses is None


def test_cross_entropy_first_pulls_every_class_from_its_share() -> None:
    # s → 0: s⁻² ∂E f_c(x, 1)/∂η = T Σ_x' V0(x, x') (y_c - 1/C).
    s, rate = 1e-3, 0.02
    runs = [
        cs.train(
            LINEAR,
            V3,
            targets=[2, 0, 1],
            loss="cross_entropy",
            batches=[0, 1],
            updates=1,
            output_scale=s,
            learning_rate=sign * rate,
            paths=32768,
            steps=8,
        )
        for sign in (1, -1)
    ]
    up, down = (np.diff(run.outputs, axis=0)[0] for run in runs)
    slope = (up - down) / (2 * rate * s**2)
    error = slope.std(axis=0) / math.sqrt(len(slope))
    expected = T * V3[:, :2] @ (np.eye(3)[[2, 0]] - 1 / 3)
    assert slope.shape == (32768, 3, 3)
    assert np.all(np.abs(slope.mean(axis=0) - expected) < 4 * error)
    assert np.all(error < 0.012)


@pytest.mark.parametrize("method", ["law", "weights"])
def test_only_the_product_of_rate_and_squared_scale_and_the_scaled_target_matter(method: str) -> None:
    # (s, η, y) and (1, ηs², y/s) have the same f/s on every path.
    same: dict[str, Any] = {"batches": [[0, 1], [2]], "updates": 2, "method": method, "width": 32, "draws": 4}
    y, s = np.array([[1, 0], [-1, 0.5], [0, 2]]), 2.0
    one = cs.train_networks(TANH, V3, targets=s * y, output_scale=s, learning_rate=0.3 / s**2, **same)
    two = cs.train_networks(TANH, V3, targets=y, learning_rate=0.3, **same)
    np.testing.assert_allclose(one.outputs / s, two.outputs, rtol=1e-9, atol=1e-11)


def test_an_update_of_rate_0_changes_nothing() -> None:
    for method in ("law", "weights"):
        run = cs.train_networks(
            TANH,
            V3,
            targets=[1.0, -1.0, 0.0],
            batches=[[0], [1], [0]],
            updates=3,
            learning_rate=[0.5, 0, 0.5],
            method=method,
            width=32,
            draws=4,
        )
        np.testing.assert_allclose(run.outputs[2], run.outputs[1], atol=1e-12)
        assert np.all(np.abs(run.outputs[3] - run.outputs[2]).max(axis=0) > 1e-3)
        assert run.moved is not None
        np.testing.assert_allclose(run.moved[0], 0, atol=1e-20)


def test_centred_training_is_that_of_targets_above_the_first_outputs() -> None:
    # Of a scale so large that f(0) would be what is learned, it stays in the regime of the tangent kernel.
    s = 30.0
    settings: dict[str, Any] = {"targets": [1.0, -1.0], "updates": 2, "learning_rate": 0.5 / s**2, "output_scale": s}
    run = cs.train(LINEAR, V3[:2, :2], centred=True, paths=64, steps=16, **settings)
    change = run.outputs[1] - run.outputs[0]
    np.testing.assert_allclose(change, 0.5 * np.einsum("rab,b->ra", run.ntk[0] * T, [1.0, -1.0]), rtol=0.05, atol=0.02)
    assert np.median(run.movement(-1)[-1]) < 0.01


def test_what_is_read_after_the_training_does_not_change_it() -> None:
    plain = cs.train(TANH, V3[:2, :2], targets=[1.0, -1.0], updates=2, paths=16, steps=20, key=3)
    tested = cs.train(TANH, V3, targets=[1.0, -1.0, 0.5], batches=[0, 1], updates=2, paths=16, steps=20, key=3)
    np.testing.assert_array_equal(tested.outputs[:, :, :2], plain.outputs)
    np.testing.assert_array_equal(tested.Phi, plain.Phi)
    np.testing.assert_allclose(tested.movement(2, 1), plain.movement(2, 1), atol=1e-12)
    assert plain.moved is None
    assert tested.test_losses is not None
    np.testing.assert_allclose(tested.test_losses, 0.5 * (tested.outputs[:, :, 2] - 0.5) ** 2)


def test_a_test_input_that_repeats_a_trained_one_has_its_outputs() -> None:
    V0 = np.array([[1, 0.3, 1], [0.3, 1, 0.3], [1, 0.3, 1]])
    for run in (
        cs.train(TANH, V0, targets=[1.0, -1.0, np.nan], batches=[0, 1], updates=2, paths=16, steps=20),
        cs.train_networks(TANH, V0, targets=[[1.0], [-1], [np.nan]], batches=[0, 1], updates=2, width=24, draws=8),
    ):
        np.testing.assert_allclose(run.outputs[:, :, 2], run.outputs[:, :, 0], rtol=1e-9, atol=1e-11)


# --- the same law from revealed weights and from drawn ones, with JAX's gradients -------------------------------------

SAME: dict[str, tuple[Any, dict[str, Any]]] = {
    "classes, tests": (
        V4,
        {"targets": [0, 1, 2, 1], "batches": [0, 1, 2], "loss": "cross_entropy", "learning_rate": 2.0},
    ),
    "two outputs, batches, schedule, heavy ball": (
        V4,
        {
            "targets": [[1, 0], [-1, 0.5], [0, -1], [0.5, 0.5]],
            "batches": [[0, 1], [2, 0]],
            "optimizer": SGD([0.8, 0.6], momentum=0.5),
        },
    ),
    "one pass, nesterov, coupled decay": (
        V4,
        {
            "targets": [1, 0.5, 0, -0.5],
            "batches": [[0], [1]],
            "optimizer": SGD(0.8, momentum=0.4, nesterov=True, weight_decay=0.8),
        },
    ),
    "batches of two sizes, decoupled decay, all trained": (
        V4,
        {
            "targets": [1, -1, 0.5, 0],
            "batches": [[0, 1], [2]],
            "optimizer": SGD(0.8, weight_decay=0.8, decoupled=True),
            "train_input": True,
            "train_readout": True,
        },
    ),
}


def means(run: cs.Training) -> tuple[np.ndarray, np.ndarray]:
    """Means and errors of all outputs clipped to ±3, without the noise of f(0), of their squares and of movement."""
    f = np.clip(run.outputs.reshape(*run.outputs.shape[:2], -1), -3, 3)
    assert run.moved is not None
    columns = []
    for k in range(1, len(f)):
        noise = np.linalg.lstsq(f[0], f[k] - f[k].mean(axis=0), rcond=None)[0]
        columns += [f[k] - f[0] @ noise, f[k] ** 2, np.minimum(run.moved[k, -1], 3)]
    values = np.concatenate(columns, axis=1)
    return values.mean(axis=0), values.std(axis=0) / math.sqrt(len(values))


# One of them at every run, for all rules and losses go the same way.
@pytest.mark.parametrize(
    "case", [case if "schedule" in case else pytest.param(case, marks=pytest.mark.thorough) for case in SAME]
)
def test_networks_without_weights_have_the_law_of_those_with_weights(case: str) -> None:
    V0, settings = SAME[case]
    (a, da), (b, db) = (
        means(
            cs.train_networks(
                TANH,
                V0,
                updates=2,
                width=32,
                draws=2000,
                method=method,
                key=key,
                dtype=np.float32,
                save_at=[0, 1],
                **settings,
            )
        )
        for method, key in (("law", 5), ("weights", 6))
    )
    z = (a - b) / np.hypot(da, db)
    assert np.max(np.abs(z)) < 4.5
    assert np.sqrt(np.mean(z**2)) < 1.6


@pytest.mark.thorough
def test_drawn_layers_have_the_law_of_revealed_ones() -> None:
    for mlp in (TANH, cs.MLP(cs.ShapedReLU(0.0, -1.0), T)):
        settings: dict[str, Any] = {"targets": [1, -1, 0.5, 0], "batches": [[0, 1], [2]], "updates": 2, "steps": 16}
        (a, da), (b, db) = (
            means(cs.train(mlp, V4, method=method, key=key, paths=2000, dtype=np.float32, save_at=[0, 1], **settings))
            for method, key in (("law", 5), ("weights", 6))
        )
        z = (a - b) / np.hypot(da, db)
        assert np.max(np.abs(z)) < 4.5
        assert np.sqrt(np.mean(z**2)) < 1.6


# Of another program: E f of the last update, of input and output, in layers of width 50 (±.01).
REFERENCE = {
    "A": (
        np.array(
            [
                [1, 0.3, -0.2, 0.5, 0.1],
                [0.3, 1, 0.4, 0.2, -0.3],
                [-0.2, 0.4, 1, 0.1, 0.4],
                [0.5, 0.2, 0.1, 1, 0],
                [0.1, -0.3, 0.4, 0, 1],
            ]
        ),
        {"targets": [0, 1, 2, 0, 2], "batches": [0, 1, 2], "loss": "cross_entropy", "learning_rate": 2.0, "updates": 4},
        {(0, 0): 1.1617, (3, 0): 0.4340, (4, 2): 0.6573},
    ),
    "B": (
        V4,
        {
            "targets": [[1, 0], [-1, 0.5], [0, -1], [0.5, 0.5]],
            "batches": [[0, 1], [2, 0], [1, 2], [0, 1]],
            "optimizer": SGD([0.8, 0.6, 0.4, 0.3], momentum=0.5),
            "updates": 4,
        },
        {(0, 0): 0.4495, (3, 0): 0.1986},
    ),
}


@pytest.mark.thorough
@pytest.mark.parametrize("case", REFERENCE)
def test_the_limit_has_the_means_of_another_program(case: str) -> None:
    V0, settings, expected = REFERENCE[case]
    run = cs.train(TANH, V0, paths=3000, steps=25, dtype=np.float32, method="weights", save_at=[0, 1], **settings)
    value, error = means(run)
    columns = value[-2 * run.outputs[0, 0].size - run.inputs : -run.outputs[0, 0].size - run.inputs]
    errors = error[-2 * run.outputs[0, 0].size - run.inputs : -run.outputs[0, 0].size - run.inputs]
    for (p, c), mean in expected.items():
        at = p * run.outputs.shape[3] + c
        assert abs(columns[at] - mean) < 4 * math.hypot(errors[at], 0.012), (p, c, columns[at], mean)


# --- what a user meets ----------------------------------------------------------------------------------------------


def test_results_know_their_labels_tests_and_accuracies(tmp_path: Path) -> None:
    run = cs.train_networks(
        TANH, V4, targets=[0, 1, 1, 1], loss="cross_entropy", batches=[[0, 1], [2]], updates=2, width=32, draws=8
    )
    assert run.outputs.shape == (3, 8, 4, 2)
    np.testing.assert_array_equal(run.labels, [[0, 0], [0, 1], [1, 2]])
    np.testing.assert_array_equal(run.trained, [0, 1, 2])
    np.testing.assert_array_equal(run.tests, [3])
    np.testing.assert_array_equal(run.accuracy(trained=False), np.argmax(run.outputs[:, :, 3], axis=-1) == 1)
    assert run.label(1, 2) == 2
    with pytest.raises(ValueError, match="datum must be an input in the batch of update 1, got 0"):
        run.label(1, 0)
    run.save(tmp_path / "run.npz")
    back = cs.Training.load(tmp_path / "run.npz")
    for name in ("labels", "moved", "test_losses", "targets"):
        np.testing.assert_array_equal(getattr(back, name), getattr(run, name))
    table = str(cs.compare(run, run))
    assert "test loss at the end" in table
    assert "test accuracy at the end" in table
    column = cs.train_networks(TANH, V4, targets=np.ones((4, 1)), updates=1, width=20, draws=8)
    assert column.outputs.shape == (2, 8, 4, 1)
    assert column.accuracy().shape == (2, 8)


def test_many_labels_are_trained_by_drawn_layers_and_keep_no_kernels() -> None:
    settings: dict[str, Any] = {"targets": [1.0, -1.0, 0.0], "batches": [0, 1], "updates": 70, "learning_rate": 0.1}
    run = cs.train(TANH, V3, paths=4, steps=8, dtype=np.float32, **settings)
    assert (run.metadata["method"], run.metadata["kernels"]) == ("weights", False)
    assert run.Phi.shape[2:] == (0, 0)
    assert np.all(np.isfinite(run.movement(-1, 2)))
    with pytest.raises(ValueError, match="kernels of labels were not kept: train with kernels=True"):
        run.alignment()


REFUSED: list[tuple[dict[str, Any], str]] = [
    (
        {"targets": [0.0, 1, 1], "loss": "logistic"},
        r"targets must be \+1 or -1 for loss='logistic', got 0, 1: pass 2 \*",
    ),
    ({"targets": np.ones((3, 2)), "loss": "logistic"}, "loss='logistic' is for one output, and targets have 2 columns"),
    ({"targets": [1.0, np.nan, 1]}, r"targets must hold one finite number per input.*, got NaN or infinite values\.$"),
    ({"targets": [1.0, np.nan, 1], "batches": [0, 1]}, "got NaN or infinite values for input 1, which is trained"),
    ({"targets": [0.5, 1, 1], "loss": "cross_entropy"}, "targets must be classes 0, 1, … or rows of probabilities"),
    ({"targets": [-1, 1, 1], "loss": "cross_entropy"}, r"pass \(targets \+ 1\) / 2 for labels -1 and \+1"),
    ({"targets": np.full((3, 2), 0.7), "loss": "cross_entropy"}, "rows of probabilities that add up to 1"),
    ({"batches": []}, "batches must be a list of indices of inputs, or one such list per update, got"),
    ({"batches": [[0], []], "updates": 2}, r"batches\[1\] is empty: give at least one input to train"),
    ({"batches": [0, 3]}, "batches names input 3, and V0 has inputs 0 to 2: drop it"),
    ({"batches": [[0], [1, 1]], "updates": 2}, r"batches\[1\] repeats an input, \[1, 1\]: drop one"),
    ({"batches": [[0], [1]], "updates": 3}, "one for each of the 3 updates, got 2: set updates=2, or repeat them"),
    ({"batches": [0.5]}, r"batches must hold indices of inputs, got \[0\.5\]"),
    (
        {"learning_rate": [0.1, 0.2], "updates": 3},
        "learning_rate must be a number or one for each of the 3 updates, got 2",
    ),
    ({"optimizer": "adam"}, "optimizer must be cs.SGD, cs.Sign, cs.Adam, or for networks with weights one of optax"),
    ({"optimizer": SGD(0.5, weight_decay=40.0)}, "weight_decay=40 shrinks all .* layers at once.*: use at most"),
    ({"optimizer": SGD(0.5, momentum=0.5), "substeps": 2}, "substeps is for gradient descent without momentum"),
    (
        {"batches": [[0], [1]], "centred": True, "updates": 2},
        "centred is for one batch at all updates where weights are",
    ),
    ({"updates": 60, "method": "law", "steps": 20}, r"use steps >= \d+, or method='weights'"),
    ({"method": "guess"}, "method must be 'law', 'weights' or None, which chooses, got 'guess'"),
]


@pytest.mark.parametrize(("settings", "sentence"), REFUSED, ids=[sentence[:40] for _, sentence in REFUSED])
def test_what_has_no_limit_is_refused_in_a_sentence(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        cs.train.plan(TANH, V3, **({"targets": [1.0, -1.0, 0.0], "updates": 1} | settings))


def test_rules_out_of_range_are_refused() -> None:
    for settings, sentence in (
        ({"momentum": 1.0}, r"momentum must lie in \[0, 1\), got 1.0"),
        ({"nesterov": True}, "nesterov=True looks ahead along the momentum, and momentum is 0"),
        ({"weight_decay": -1.0}, "weight_decay must be at least 0"),
    ):
        with pytest.raises(ValueError, match=sentence):
            SGD(0.5, **settings)
    with pytest.raises(ValueError, match=r"width=20 is too small for method='law' .*: use width > \d+, or method="):
        cs.train_networks.plan(TANH, V3, targets=[1.0, -1, 0], batches=[0], updates=6, width=20)
    optimizer = type("Adam", (), {"init": None, "update": None})()
    with pytest.raises(ValueError, match=r"optimizer must be cs\.SGD, cs\.Sign or cs\.Adam for the limit"):
        cs.train.plan(TANH, V3, targets=[1.0, -1, 0], optimizer=optimizer)


def test_batches_are_padded_and_a_constant_one_is_sorted() -> None:
    ragged = Batches.of([[2, 0], [1]], 4, 2)
    np.testing.assert_array_equal(ragged.indices, [[2, 0], [1, 1]])
    assert (ragged.sizes, ragged.trained, ragged.tests) == ((2, 1), (0, 1, 2), (3,))
    assert Batches.of([2, 0], 4, 2).listed() == [0, 2]
    assert Batches.of(None, 2, 2).listed() == Batches.of([1, 0], 2, 5).listed() == "all"
