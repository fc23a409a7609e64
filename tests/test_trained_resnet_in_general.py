"""Trained ResNets with test inputs, several outputs, batches and other optimisers: exact values and networks."""

from pathlib import Path
from typing import Any

import jax
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
            LINEAR, [[2.0]], targets=[[0.0]], updates=3, depth=4, optimizer=rule, save_at=[0, 1], train_input=trained
        )
        share = 0.7 ** np.arange(4)
        expected = 2 * (1 + 1.2**2 * share**2 / 4) ** 4 * (share**2 if trained else 1)
        np.testing.assert_allclose(np.diag(run.H[-1]), expected, rtol=1e-10)
        np.testing.assert_allclose(run.outputs, np.zeros((4, 1, 1)), atol=1e-12)
        assert (run.targets.shape, run.accuracy().shape, run.test_losses) == ((1, 1), (4,), None)


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


# --- the numbers of one output and whole batches, which this generalises ----------------------------------------------

# Outputs at input 0 after each update, and sums of the kernels, as the library had them for that case alone.
BEFORE: dict[str, tuple[cs.ResNet, dict[str, Any], list[float], list[float]]] = {
    "infinite depth": (
        TANH,
        {"steps": 4, "train_input": True, "train_readout": True, "targets": [1.0, -0.5]},
        [0.6778886515171983, 0.8092709575123747],
        [67.27051626847178, 20.113752857980458, 95.04748434746485, 8.974810997436144, 6.496299236254811],
    ),
    "no response, substeps": (
        cs.ResNet("tanh", 1.2, cs.PreActivation(0.7)),
        {"depth": 4, "response": False, "substeps": 2, "loss": "logistic", "targets": [1.0, -1.0]},
        [0.045498888141106766, 0.09002235008776484],
        [62.59893559747189, 21.303034623893474, 89.51088026028297, 0.29455321846312044, 5.849850882881048],
    ),
    "two matrices": (
        cs.ResNet("tanh", 1.2, "two-matrix"),
        {"depth": 4, "train_input": True, "train_readout": True, "targets": [1.0, -0.5]},
        [0.6017170946312622, 0.7510137267797771],
        [55.77352149312155, 23.066302844066136, 76.1886680419906, 9.68589608563622, 11.001782826078962],
    ),
}


@pytest.mark.parametrize("case", BEFORE)
def test_whole_batches_of_one_output_have_the_numbers_they_had(case: str) -> None:
    res, settings, outputs, sums = BEFORE[case]
    fixed: dict[str, Any] = {
        "updates": 2,
        "learning_rate": 0.5,
        "richness": 0.8,
        "save_at": [0, 1],
        "paths": 64,
        "key": 3,
    }
    run = cs.train(res, V3[:2, :2], **fixed, **settings)
    np.testing.assert_allclose(run.outputs[1:, 0], outputs, rtol=1e-9)
    found = [np.sum(getattr(run, name)) for name in ("H", "Phi", "G", "A", "ntk")]
    np.testing.assert_allclose(found, sums, rtol=1e-9)


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


@pytest.mark.thorough
def test_blocks_of_two_matrices_are_the_limit_of_their_networks() -> None:
    """a + b/N through N = 20 and 60, M = 32 N: what is left is of order N/(L M) = 1/128; 0.015 is allowed for it."""
    V0, settings = CASES["two outputs, batches, schedule, heavy ball"]
    res = cs.ResNet("tanh", 1.2, cs.TwoMatrix(32.0))
    same: dict[str, Any] = {"depth": 4, "richness": 0.8, "save_at": [0, 1], "updates": 3} | settings
    limit = cs.train(res, V0, paths=8000, **same)
    (a, da), (b, db) = (
        values(cs.train_networks(res, V0, width=n, draws=draws, method="weights", dtype=np.float32, **same))
        for n, draws in ((20, 600), (60, 200))
    )
    exact = np.concatenate([limit.outputs[1:].ravel(), limit.moved[-1, -1]])
    difference, error = 1.5 * b - 0.5 * a - exact, np.hypot(1.5 * db, 0.5 * da)
    print(
        "largest difference", np.max(np.abs(difference)), "z", np.sqrt(np.mean((difference / error) ** 2)), error.max()
    )
    assert np.max(np.abs(exact)) > 0.3
    assert np.all(np.abs(difference) < 4 * error + 0.015)
    assert np.max(error) < 0.015


def test_an_optimiser_of_optax_trains_networks() -> None:
    class Descent:
        """Gradient descent in the interface of optax, at a raw rate."""

        def __init__(self, rate: float) -> None:
            self.rate = rate

        def init(self, params: Any) -> tuple[()]:
            return ()

        def update(self, updates: Any, state: tuple[()], params: Any = None) -> tuple[Any, tuple[()]]:
            return [jax.tree.map(lambda u: -self.rate * u, u) for u in updates], state

    width, rate, gamma = 12, 0.5, 0.8
    settings: dict[str, Any] = {"targets": Y3, "updates": 2, "batches": [0, 1], "richness": gamma, "train_input": True}
    settings |= {"width": width, "depth": 2, "draws": 2, "method": "weights", "centred": True, "save_at": [0, 1]}
    ours = cs.train_networks(TANH, V3, learning_rate=rate, **settings)
    theirs = cs.train_networks(TANH, V3, optimizer=Descent(rate * gamma**2 * width), **settings)
    for name in ("outputs", "Phi", "G", "A", "ntk", "moved"):
        np.testing.assert_allclose(getattr(theirs, name), getattr(ours, name), rtol=1e-9, atol=1e-11)


# --- what a user meets ------------------------------------------------------------------------------------------------


def test_results_know_their_labels_tests_and_accuracies(tmp_path: Path) -> None:
    settings: dict[str, Any] = {
        "targets": [0, 1, 1, 1],
        "loss": "cross_entropy",
        "batches": [[0, 1], [2]],
        "updates": 2,
    }
    run = cs.train(TANH, V4, **settings, **(FEW | {"paths": 1024}))
    assert run.outputs.shape == (3, 4, 2)
    np.testing.assert_array_equal(run.labels, [[0, 0], [0, 1], [1, 2]])
    np.testing.assert_array_equal(run.tests, [3])
    np.testing.assert_array_equal(run.accuracy(trained=False), np.argmax(run.outputs[:, 3], axis=-1) == 1)
    assert run.H.shape[1:] == (3, 3)
    assert run.moved.shape == (3, 2, 4)
    assert np.all(run.standard_error["outputs"][1:] > 0)
    losses = run.mean(lambda r: np.stack([r.losses, r.test_losses]))
    assert np.all(losses.standard_error[:, 1:] > 0)
    np.testing.assert_array_equal(run.movement(-1, 3), run.moved[-1, :, 3])
    run.save(tmp_path / "run.npz")
    back = cs.TrainedKernels.load(tmp_path / "run.npz")
    for name in ("labels", "moved", "test_losses", "targets", "outputs"):
        np.testing.assert_array_equal(getattr(back, name), getattr(run, name))
    np.testing.assert_array_equal(back.mean(lambda r: r.test_losses).standard_error, losses.standard_error[1])
    networks = cs.train_networks(TANH, V4, width=24, depth=3, draws=16, save_at=[0, 1], **settings)
    table = cs.compare(run, networks)
    assert [r.statistic for r in table.rows][-2:] == ["mean test loss at the end", "mean test accuracy at the end"]
    np.testing.assert_allclose(networks.losses[0].mean(), run.losses[0], rtol=0.5)


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"optimizer": SGD(0.5, weight_decay=2.0)}, "weight_decay=2 takes the share 1 of the weights .*: use less than 2"),
    ({"optimizer": SGD([0.5, 0.2])}, "learning_rate must be a number or one for each of the 1 updates, got 2"),
    ({"batches": [0, 3]}, "batches names input 3, and V0 has inputs 0 to 2: drop it"),
    ({"targets": [1.0, np.nan, 1.0]}, r"targets must hold one finite number per input.*, got NaN"),
    ({"paths": 12}, "paths=12 particles are too few for 3 trained inputs and 1 outputs.*: use paths >= 16"),
    ({"kernels": False}, "kernels=False is for MLPs: kernels are what a ResNet is trained by; drop it"),
    ({"method": "weights"}, "method is a choice for the limit of an MLP, got 'weights': drop it"),
    (
        {"optimizer": type("Adam", (), {"init": None, "update": None})()},
        r"optimizer must be a cs\.SGD, linear in the gradients, where weights are not drawn",
    ),
]


@pytest.mark.parametrize(("settings", "sentence"), REFUSED, ids=[sentence[:40] for _, sentence in REFUSED])
def test_what_has_no_limit_is_refused_in_a_sentence(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        cs.train.plan(TANH, V3, **({"targets": [1.0, -1.0, 0.0], "updates": 1} | settings))


def test_networks_refuse_what_they_cannot_do() -> None:
    settings: dict[str, Any] = {"targets": [1.0, -1, 0], "width": 20, "depth": 2, "updates": 2, "batches": [[0], [1]]}
    adam = type("Adam", (), {"init": None, "update": None})()
    for more, sentence in (
        ({"centred": True}, "centred is for one batch at all updates where weights are not drawn"),
        ({"width": 10}, r"width=10 is too small for method='law' .*: use width > 10, or method='weights'"),
        ({"optimizer": adam}, r"optimizer must be a cs\.SGD"),
        ({"optimizer": adam, "method": "weights", "response": False}, r"response=False is for cs\.SGD"),
    ):
        with pytest.raises(ValueError, match=sentence):
            cs.train_networks.plan(TANH, V3, **(settings | more))
