"""Trained ResNets with test inputs, several outputs, batches and other optimisers: exact values and networks."""

import math
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from reference.linear_training import heavy_ball, linear_training

import covsde as cs
from covsde.descent.optimizers import SGD

LINEAR, TANH = cs.ResNet("linear", 1.2), cs.ResNet("tanh", 1.2)
V3 = np.array([[1, 0.5, -0.2], [0.5, 1, 0.1], [-0.2, 0.1, 1]])
V4 = np.array([[1, 0.3, -0.2, 0.5], [0.3, 1, 0.4, 0.2], [-0.2, 0.4, 1, 0.1], [0.5, 0.2, 0.1, 1]])
V5 = np.array(
    [
        [1, 0.3, -0.2, 0.5, 0.1],
        [0.3, 1, 0.4, 0.2, -0.3],
        [-0.2, 0.4, 1, 0.1, 0.4],
        [0.5, 0.2, 0.1, 1, 0],
        [0.1, -0.3, 0.4, 0, 1],
    ]
)
Y3 = np.array([[1, 0], [-1, 0.5], [0.4, -0.7]])


# --- linear networks: no sampling -------------------------------------------------------------------------------------


def softmax_error(f: np.ndarray, y: np.ndarray) -> np.ndarray:
    p = np.exp(f - f.max(axis=1, keepdims=True))
    return y - p / p.sum(axis=1, keepdims=True)


SETTINGS: dict[str, tuple[dict[str, Any], Any, list[list[int]], Any]] = {
    "two outputs, heavy ball, coupled decay, a test input, ends": (
        {"targets": Y3, "optimizer": SGD(0.3, momentum=0.5, weight_decay=0.4), "batches": [0, 1]},
        (0.5, 0.4),
        [[0, 1]] * 3,
        lambda f, y: y - f,
    ),
    "classes, one pass": (
        {"targets": [0, 1, 1], "optimizer": SGD(0.8), "batches": [[0], [1], [2]], "loss": "cross_entropy"},
        (0.0, 0.0),
        [[0], [1], [2]],
        softmax_error,
    ),
}


@pytest.mark.parametrize("case", SETTINGS)
@pytest.mark.parametrize("ends", [False, True], ids=["frozen ends", "trained ends"])
def test_a_linear_network_is_solved_to_all_digits(case: str, ends: bool) -> None:
    settings, (momentum, decay), batches, delta = SETTINGS[case]
    rate = float(settings["optimizer"].rate)
    y = np.eye(2)[settings["targets"]] if "loss" in settings else Y3
    table = heavy_ball([rate] * 3, momentum, decay)
    expected = linear_training(V3, y, batches, table, delta, depth=3, beta=1.2, gamma=0.7, ends=ends)
    train: dict[str, Any] = {"depth": 3, "updates": 3, "richness": 0.7, "save_at": [0, 1]}
    run = cs.train(LINEAR, V3, train_input=ends, train_readout=ends, **train, **settings)
    np.testing.assert_allclose(run.outputs, expected, rtol=1e-9, atol=1e-11)
    assert np.max(np.abs(expected)) > 0.1
    assert run.losses.shape == (4,)


def test_the_table_is_the_recursion_of_the_heavy_ball() -> None:
    rho, a = heavy_ball([0.3] * 5, 0.6, 0.5)
    table = SGD(0.3, momentum=0.6, weight_decay=0.5).table(5, 1)
    np.testing.assert_allclose(table.beta, rho, rtol=1e-12)
    np.testing.assert_allclose(table.Omega, a, rtol=1e-12)


def test_without_forces_a_decay_shrinks_the_branches_and_the_ends_that_learn() -> None:
    # H at the top is β_k² H_0 (1 + β² β_k²/L)^L, without the first factor if the input layer is frozen.
    for trained, rule in ((True, SGD(0.5, weight_decay=0.6)), (False, SGD(0.5, weight_decay=0.6, decoupled=True))):
        run = cs.train(
            LINEAR, [[2.0]], targets=[0.0], updates=3, depth=4, optimizer=rule, save_at=[0, 1], train_input=trained
        )
        share = 0.7 ** np.arange(4)
        expected = 2 * (1 + 1.2**2 * share**2 / 4) ** 4 * (share**2 if trained else 1)
        np.testing.assert_allclose(np.diag(run.H[-1]), expected, rtol=1e-10)
        np.testing.assert_allclose(run.outputs, 0, atol=1e-12)


@pytest.mark.parametrize(
    ("momentum", "nesterov", "ratios"),
    [(0.0, False, (1.5, 1.75)), (0.5, False, (1.75, 2.1875)), (0.5, True, (1.58333, 1.89583))],
    ids=["descent", "heavy ball", "nesterov"],
)
def test_small_steps_add_up_as_the_table_says(momentum: float, nesterov: bool, ratios: tuple[float, float]) -> None:
    # f_K/f_1 → Σ_j Ω_Kj/Ω_10 as all rates go to 0, for trained and for tested inputs.
    rule = SGD(1e-5 * np.array([1, 0.5, 0.25]), momentum=momentum, nesterov=nesterov)
    run = cs.train(LINEAR, V3, targets=[1.0, -1, 0.5], batches=[0, 1], optimizer=rule, depth=3, save_at=[0, 1])
    np.testing.assert_allclose(run.outputs[2:] / run.outputs[1], np.array(ratios)[:, None] * np.ones(3), rtol=1e-4)


def test_outputs_turn_with_their_targets_and_follow_the_order_of_inputs() -> None:
    turn = np.array([[0.6, 0.8], [-0.8, 0.6]])
    settings: dict[str, Any] = {"updates": 2, "depth": 3, "batches": [0, 1], "learning_rate": 0.5, "save_at": [0, 1]}
    plain = cs.train(LINEAR, V3, targets=Y3, **settings)
    turned = cs.train(LINEAR, V3, targets=Y3 @ turn.T, **settings)
    np.testing.assert_allclose(turned.outputs, plain.outputs @ turn.T, atol=1e-12)
    order = [1, 0, 2]
    moved = cs.train(LINEAR, V3[order][:, order], targets=Y3[order], **settings)
    np.testing.assert_allclose(moved.outputs, plain.outputs[:, order], atol=1e-12)
    np.testing.assert_allclose(moved.moved, plain.moved[..., order], atol=1e-12)


# --- exact identities of particles ------------------------------------------------------------------------------------

FEW: dict[str, Any] = {"paths": 64, "depth": 3, "save_at": [0, 1], "key": 3}


@pytest.mark.parametrize("block", ["pre-activation", "two-matrix"])
def test_what_is_only_tested_changes_nothing_and_repeats_what_is_trained(block: str) -> None:
    res = cs.ResNet("tanh", 1.2, block)
    two, settings = V3[:2, :2], {"updates": 2, "learning_rate": 0.7} | FEW
    V0 = np.block([[two, two[:, :1], V3[:2, 2:]], [two[:1], np.ones((1, 1)), V3[:1, 2:]], [V3[2:, [0, 1, 0, 2]]]])
    plain = cs.train(res, two, targets=[1.0, -0.5], **settings)
    tested = cs.train(res, V0, targets=[1.0, -0.5, 1.0, 0.3], batches=[0, 1], **settings)
    for name in ("outputs", "H", "Phi", "G", "A", "ntk", "losses"):
        found = getattr(tested, name)
        found = found[:, :2] if name == "outputs" else found
        np.testing.assert_allclose(found, getattr(plain, name), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(tested.outputs[:, 2], tested.outputs[:, 0], atol=1e-10)
    np.testing.assert_allclose(tested.movement(datum=2), tested.movement(datum=0), atol=1e-10)
    np.testing.assert_allclose(tested.movement(datum=1), plain.movement(datum=1), atol=1e-10)
    np.testing.assert_allclose(tested.losses, 0.5 * np.mean((tested.outputs[:, :2] - [1.0, -0.5]) ** 2, axis=1))
    expected = 0.5 * np.mean((tested.outputs[:, 2:] - [1.0, 0.3]) ** 2, axis=1)
    np.testing.assert_allclose(tested.test_losses, expected)
    np.testing.assert_allclose(tested.outputs[0], 0, atol=1e-12)


def test_an_update_of_rate_0_changes_nothing() -> None:
    for run in (
        cs.train(TANH, V3, targets=Y3, batches=[[0], [1, 2], [0]], updates=3, learning_rate=[0.5, 0, 0.5], **FEW),
        cs.train_networks(
            TANH,
            V3,
            targets=Y3,
            batches=[[0], [1, 2], [0]],
            updates=3,
            learning_rate=[0.5, 0, 0.5],
            width=30,
            depth=3,
            draws=2,
            save_at=[0, 1],
        ),
    ):
        np.testing.assert_allclose(run.outputs[2], run.outputs[1], atol=1e-12)
        assert np.all(np.abs(run.outputs[3] - run.outputs[2]).reshape(-1, 3, 2).max(axis=(1, 2)) > 1e-3)


# --- networks ---------------------------------------------------------------------------------------------------------

CASES: dict[str, tuple[np.ndarray, dict[str, Any]]] = {
    "classes, tests": (
        V5,
        {"targets": [0, 1, 2, 0, 2], "batches": [0, 1, 2], "loss": "cross_entropy", "learning_rate": 2.0},
    ),
    "two outputs, batches, schedule, heavy ball": (
        V4,
        {
            "targets": [[1, 0], [-1, 0.5], [0, -1], [0.5, 0.5]],
            "batches": [[0, 1], [2, 0], [1, 2]],
            "optimizer": SGD([0.8, 0.6, 0.4], momentum=0.5),
        },
    ),
    "one pass, nesterov, coupled decay": (
        V5,
        {
            "targets": [1, 0.5, 0, -0.5, 0.3],
            "batches": [[0], [1], [2]],
            "optimizer": SGD(0.5, momentum=0.4, nesterov=True, weight_decay=0.3),
        },
    ),
    "batches of two sizes, decoupled decay, substeps, all trained": (
        V4,
        {
            "targets": [1, -1, 0.5, 0],
            "batches": [[0, 1], [2], [0, 1]],
            "optimizer": SGD(0.6, weight_decay=0.4, decoupled=True),
            "substeps": 2,
            "train_input": True,
            "train_readout": True,
        },
    ),
}


def values(run: cs.Training) -> tuple[np.ndarray, np.ndarray]:
    """Means and errors of outputs, without the noise of f(0), and of movement in the end."""
    outputs = run.outputs[1:].reshape(run.updates, run.paths, -1)
    first = run.outputs[0].reshape(run.paths, -1)
    found = [run.controlled_mean(lambda r, k=k: outputs[k], lambda r: first) for k in range(run.updates)]
    assert run.moved is not None
    found.append(run.mean(lambda r: r.moved[-1, -1]))
    value, error = (np.concatenate([np.ravel(e[k]) for e in found]) for k in (0, 1))
    return value, error


def networks(V0: np.ndarray, width: int, draws: int, settings: dict[str, Any], method: str) -> cs.Training:
    fixed: dict[str, Any] = {"depth": 4, "richness": 0.8, "save_at": [0, 1], "dtype": np.float32, "updates": 3}
    return cs.train_networks(TANH, V0, width=width, draws=draws, key=width, method=method, **fixed, **settings)


@pytest.mark.parametrize("case", ["two outputs, batches, schedule, heavy ball"])
def test_networks_without_weights_have_the_law_of_those_with_weights(case: str) -> None:
    V0, settings = CASES[case]
    (a, da), (b, db) = (values(networks(V0, 40, 1000, settings, method)) for method in ("law", "weights"))
    z = (a - b) / np.hypot(da, db)
    assert np.max(np.abs(z)) < 4
    assert np.sqrt(np.mean(z**2)) < 1.6


@pytest.mark.thorough
@pytest.mark.parametrize("case", CASES)
def test_the_limit_is_that_of_networks_with_weights_at_two_widths(case: str) -> None:
    """a + b/N through N = 48 and 144 against the particles; 4 standard errors, 1.6 of them in root mean square."""
    V0, settings = CASES[case]
    limit = cs.train(TANH, V0, paths=32000, depth=4, richness=0.8, save_at=[0, 1], updates=3, key=3, **settings)
    exact = np.concatenate([limit.outputs[1:].ravel(), limit.moved[-1, -1]])
    error = np.concatenate([limit.standard_error["outputs"][1:].ravel(), limit.standard_error["moved"][-1, -1]])
    (a, da), (b, db) = (values(networks(V0, n, draws, settings, "weights")) for n, draws in ((48, 3000), (144, 1500)))
    z = (1.5 * b - 0.5 * a - exact) / np.sqrt((1.5 * db) ** 2 + (0.5 * da) ** 2 + error**2)
    print(case, "rms", np.sqrt(np.mean(z**2)), "largest", np.max(np.abs(z)), "errors", np.max(1.5 * db), np.max(error))
    assert np.max(np.abs(z)) < 4
    assert np.sqrt(np.mean(z**2)) < 1.6
    assert np.max(error) < 0.01
