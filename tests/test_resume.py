"""Going on with training: the same paths for more updates are those of one run, whatever moves them."""

import copy
import pickle
import warnings
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

import covsde as cs

V0 = np.array([[1.0, 0.3, 0.5], [0.3, 1.0, 0.1], [0.5, 0.1, 1.0]])
TANH = cs.MLP(cs.ShapedSmooth(jnp.tanh), 0.4)
LINEAR = cs.MLP(cs.Identity(), 0.4)
Y = [1.0, -1.0, 0.5]

# Settings of the first three updates, and what the two after them are given.
RULES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "descent, a test": ({"targets": Y, "batches": [0, 1], "learning_rate": 0.5}, {}),
    "nesterov, decay": ({"targets": Y, "optimizer": cs.SGD(0.4, momentum=0.5, nesterov=True, weight_decay=0.3)}, {}),
    "schedule, batches": (
        {"targets": Y, "batches": [[0, 1], [2], [1]], "optimizer": cs.SGD([0.5, 0.4, 0.3], momentum=0.3)},
        {"batches": [[2, 0], [0]], "learning_rate": [0.2, 0.1]},
    ),
    "classes, centred": ({"targets": [0, 1, 2], "loss": "cross_entropy", "centred": True}, {"learning_rate": 0.5}),
}


def whole(given: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    """The settings of one run of all five updates."""
    settings = dict(given)
    if "batches" in more:
        settings["batches"] = [*given["batches"], *more["batches"]]
    if "learning_rate" in more:
        rule = settings.pop("optimizer", cs.SGD(settings.pop("learning_rate", 1.0)))
        rates = [*np.asarray(rule.rates(3)).tolist(), *np.broadcast_to(more["learning_rate"], 2).tolist()]
        settings["optimizer"] = cs.SGD(rates, momentum=rule.momentum)
    return settings


def limit(**given: Any) -> cs.Training:
    """Of drawn weights, a few paths in a few steps."""
    usual = {"paths": 6, "method": "weights", "steps": 4, "chunk": 4, "progress": False, "step_error": False}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", cs.UnresolvedStepWarning)
        return cs.train(TANH, V0, **usual | given)


def networks(**given: Any) -> cs.Training:
    usual = {"draws": 6, "width": 12, "depth": 3, "chunk": 4, "method": "weights", "progress": False}
    return cs.train_networks(TANH, V0, **usual | given)


def agree(ours: cs.Training, theirs: cs.Training, updates: int | None = None) -> None:
    """In everything that both hold, or in the outputs of the first updates."""
    if updates is not None:
        np.testing.assert_allclose(ours.outputs[: updates + 1], theirs.outputs, rtol=1e-9, atol=1e-11)
        return
    for name in (*ours.path_axis, "labels"):
        mine, other = getattr(ours, name), getattr(theirs, name)
        assert (mine is None) == (other is None)
        if mine is not None:
            np.testing.assert_allclose(mine, other, rtol=1e-9, atol=1e-11, err_msg=name)


@pytest.mark.parametrize("rule", list(RULES))
@pytest.mark.parametrize("train", [limit, networks])
def test_a_resumed_run_is_one_run(rule: str, train: Any) -> None:
    given, more = RULES[rule]
    straight = train(updates=5, **whole(given, more))
    agree(train(updates=3, resumable=True, **given).resume(2, **more), straight)


def test_without_their_state_paths_are_trained_again() -> None:
    given = {"targets": Y, "learning_rate": 0.5}
    agree(limit(updates=3, **given).resume(2), limit(updates=5, **given))


@pytest.mark.parametrize("rule", [cs.Sign(0.5), cs.Adam(0.5, 0.9, 0.9)], ids=["sign", "adam"])
def test_signs_and_adam_go_on(rule: Any) -> None:
    given = {"targets": Y, "optimizer": rule}
    agree(limit(updates=2, resumable=True, **given).resume(2), limit(updates=4, **given))


def test_the_state_of_an_optimiser_of_optax_goes_on() -> None:
    optax = pytest.importorskip("optax")
    given = {"targets": Y, "optimizer": optax.adam(0.01)}
    first = networks(updates=2, resumable=True, **given)
    agree(first.resume(2), networks(updates=4, **given))
    with pytest.raises(ValueError, match="an optimiser of optax has its own rates"):
        first.resume(2, learning_rate=0.1)


def test_going_on_twice_is_going_on_once() -> None:
    first = limit(updates=1, targets=Y, learning_rate=0.5, resumable=True)
    twice = first.resume(2).resume(2)
    agree(twice, limit(updates=5, targets=Y, learning_rate=0.5))
    assert twice.metadata["looked"] == [1, 3]


@pytest.mark.parametrize("resumable", [True, False])
@pytest.mark.parametrize("substeps", [1, 2])
def test_revealed_weights_go_on_from_what_is_known_of_them(resumable: bool, substeps: int) -> None:
    given: dict[str, Any] = {"targets": Y, "method": "law", "steps": 30, "paths": 40, "chunk": 40, "substeps": substeps}
    first = limit(updates=2, resumable=resumable, **given)
    more = first.resume(1).resume(1)
    agree(more, first, updates=2)
    np.testing.assert_allclose(more.Phi[:, :, :9, :9], first.Phi, rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(more.ntk[:3], first.ntk, rtol=1e-9, atol=1e-11)
    # Later updates have the law of one run: a loss that falls as far.
    straight = limit(updates=4, key=1, **given)
    found = [r.losses[4] - r.losses[2] for r in (more, straight)]
    error = np.hypot(*(x.std() / np.sqrt(x.size) for x in found))
    assert abs(found[0].mean() - found[1].mean()) < 4 * error


def test_revealed_networks_and_their_tests_go_on() -> None:
    given: dict[str, Any] = {"targets": Y, "batches": [0, 1], "method": "law", "width": 24, "draws": 400, "chunk": 400}
    first = networks(updates=2, resumable=True, **given)
    more = first.resume(1)
    np.testing.assert_allclose(more.outputs[:3, :, :2], first.outputs[:, :, :2], rtol=1e-9, atol=1e-11)
    # Test inputs are read anew, given the training.
    assert more.test_losses is not None
    assert first.test_losses is not None
    found = [r.test_losses[2] for r in (more, first)]
    error = np.hypot(*(x.std() / np.sqrt(x.size) for x in found))
    assert abs(found[0].mean() - found[1].mean()) < 4 * error


def test_a_resnet_goes_on_from_its_first_update() -> None:
    resnet, given = cs.ResNet("tanh"), {"targets": Y, "width": 12, "depth": 2, "draws": 3, "method": "weights"}
    first = cs.train_networks(resnet, V0, updates=1, progress=False, **given)
    agree(first.resume(1), cs.train_networks(resnet, V0, updates=2, progress=False, **given))
    with pytest.raises(ValueError, match="resumable=True is for MLPs"):
        cs.train_networks.plan(resnet, V0, resumable=True, **given)


def test_larger_batches_go_on_where_weights_are_drawn_and_are_refused_elsewhere() -> None:
    rows = [[0], [1], [0, 1, 2], [2]]
    first = networks(updates=2, targets=Y, batches=rows[:2], resumable=True)
    agree(first.resume(2, batches=rows[2:]), networks(updates=4, targets=Y, batches=rows))
    revealed = networks(updates=2, targets=Y, batches=rows[:2], method="law", width=40)
    with pytest.raises(ValueError, match="batches must hold at most 1 inputs"):
        revealed.resume(2, batches=rows[2:])
    # A test input can be trained next, but of what is trained the limit of a ResNet draws.
    assert revealed.resume(2, batches=[[2], [0]]).tests.size == 0
    exact = cs.train(cs.ResNet(lambda x: x), V0, updates=2, targets=Y, batches=rows[:2], depth=2, progress=False)
    with pytest.raises(ValueError, match="batches names input 2"):
        exact.resume(2, batches=[[2], [0]])


def test_copies_hold_what_files_hold() -> None:
    first = networks(updates=1, targets=Y, resumable=True)
    for other in (copy.deepcopy(first), pickle.loads(pickle.dumps(first))):
        agree(other, first)
        with pytest.raises(ValueError, match="resume needs a result of train or train_networks itself"):
            other.resume(1)


def test_half_the_steps_go_on_as_well() -> None:
    given = {"targets": Y, "learning_rate": 0.5, "step_error": True}
    straight, more = limit(updates=3, **given), limit(updates=2, resumable=True, **given).resume(1)
    agree(more, straight)
    agree(more.coarse, straight.coarse)


def test_paths_that_diverged_stay_so() -> None:
    given = {"targets": Y, "learning_rate": 1e8, "width": 12, "draws": 6, "method": "weights", "progress": False}
    first = cs.train_networks(LINEAR, V0, updates=2, resumable=True, **given)
    assert first.failures["total"] == 6
    assert first.resume(1).failures == first.failures


def test_checkpoints_and_files_of_a_resumed_run(tmp_path: Path) -> None:
    first = limit(updates=1, targets=Y, resumable=True)
    more = first.resume(1, checkpoint=tmp_path / "more")
    again = first.resume(1, checkpoint=tmp_path / "more")
    np.testing.assert_array_equal(more.outputs, again.outputs)
    # Chunks that came from a folder have no state, and are trained again.
    agree(again.resume(1), limit(updates=3, targets=Y))
    more.save(tmp_path / "more.npz")
    with pytest.raises(ValueError, match="resume needs a result of train or train_networks itself"):
        cs.Training.load(tmp_path / "more.npz").resume(1)


def test_what_is_missing_or_has_no_use_is_named() -> None:
    constant = limit(updates=1, targets=Y)
    with pytest.raises(ValueError, match="batches must be left out"):
        constant.resume(1, batches=[[0]])
    with pytest.raises(ValueError, match="learning_rate must be a number or one for each of the 2 new"):
        constant.resume(2, learning_rate=[0.1])
    with pytest.raises(ValueError, match="updates must be an integer >= 1"):
        constant.resume(0)
    changing = limit(updates=2, targets=Y, batches=[[0], [1]], optimizer=cs.SGD([0.5, 0.4]))
    with pytest.raises(ValueError, match="batches must be given for the 1 new"):
        changing.resume(1, learning_rate=0.1)
    with pytest.raises(ValueError, match="learning_rate must be given for the 1 new"):
        changing.resume(1, batches=[[0]])
