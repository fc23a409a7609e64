"""Numbers of any real kind are the same data to everything that takes them; anything else is refused in a sentence."""

from fractions import Fraction
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

import covsde as cs
from covsde.inputs.data import check_target_columns

PAIR = np.array([[1.0, 0.3], [0.3, 1.0]])
LINEAR = cs.MLP(cs.Identity(), 0.5)
ENSEMBLE = cs.Ensemble(np.array([1.0]), PAIR[None, None], np.zeros(1), np.ones(1))

USES: dict[str, Any] = {
    "train": lambda y: cs.train(LINEAR, PAIR, targets=y),
    "train_networks": lambda y: cs.train_networks(LINEAR, PAIR, targets=y, width=8),
    "simulate_velocities": lambda y: cs.simulate_velocities(LINEAR, PAIR, targets=y),
    "sample_network_velocities": lambda y: cs.sample_network_velocities(LINEAR, PAIR, targets=y, width=8),
    "posterior": lambda y: cs.posterior(ENSEMBLE, y, 0.1),
    "first_order_posterior": lambda y: cs.first_order_posterior(LINEAR, PAIR, y, 0.1),
    "lazy_training": lambda y: cs.lazy_training(PAIR, y, [1.0]),
}
NONE = np.full(2, None)


@pytest.mark.parametrize(
    ("targets", "got"),
    [
        (["a", "b"], "dtype <U1"),
        ([1j, 1.0], "dtype complex128"),
        (np.array([1 + 0j, 1.0]), "dtype complex128"),
        (NONE, "dtype object"),
        ([Fraction(1, 2), Fraction(1, 3)], "dtype object"),
        ([[1.0], [1.0, 2.0]], "a list that is no array"),
        ([np.nan, 1.0], "NaN or infinite values"),
        ([10**400, 1], "dtype object"),
        (np.ones((2, 1, 1)), r"shape \(2, 1, 1\)"),
        ([1.0, 2.0, 3.0], r"shape \(3,\)"),
        (1.0, r"shape \(\)"),
        ([], r"shape \(0,\)"),
    ],
    ids=str,
)
@pytest.mark.parametrize("use", USES)
def test_what_is_no_target_is_refused_in_the_same_words_everywhere(use: str, targets: Any, got: str) -> None:
    one = use not in ("posterior", "first_order_posterior", "lazy_training")
    what = r"one finite number per input, shape \(2,\)" if one else r"finite numbers of shape \(P,\) or \(P, outputs\)"
    with pytest.raises(ValueError, match=f"^targets must hold {what}.*, got {got}\\.$"):
        USES[use](targets)


@pytest.mark.parametrize(
    "targets",
    [[True, False], [1, 0], np.array([1, 0], np.uint8), np.array([1, 0], np.float16), jnp.asarray([1.0, 0.0])],
)
def test_numbers_of_any_real_kind_are_targets(targets: Any) -> None:
    for found in (cs.Data(PAIR, targets).targets, check_target_columns(targets, 2)[:, 0]):
        np.testing.assert_array_equal(found, [1.0, 0.0])
        assert found.dtype == np.float64


def test_a_column_of_targets_is_one_number_per_input() -> None:
    assert cs.Data(PAIR, targets=np.ones((2, 1))).targets.shape == (2,)
    with pytest.raises(ValueError, match=r"got shape \(1, 2\)"):
        cs.Data(PAIR, [[1.0, 2.0]])


LABELLED: dict[str, Any] = {
    "train": cs.train.plan,
    "train_networks": lambda *a, **k: cs.train_networks.plan(*a, **k, width=64),
    "simulate_velocities": cs.simulate_velocities.plan,
    "sample_network_velocities": lambda *a, **k: cs.sample_network_velocities.plan(*a, **k, width=8),
}


@pytest.mark.parametrize("use", LABELLED)
def test_the_logistic_loss_is_for_labels_plus_and_minus_one(use: str) -> None:
    def loss(labels: Any, loss: Any = "logistic") -> Any:
        return LABELLED[use](LINEAR, PAIR, targets=labels, loss=loss)

    with pytest.raises(ValueError, match=r"targets must be \+1 or -1 .*, got 0, 1: pass 2 \* targets - 1 for labels 0"):
        loss([0, 1])
    with pytest.raises(ValueError, match=r"targets must be \+1 or -1 .*, got 0\.5, 2: use loss='squared'"):
        loss([2, 0.5])
    loss([1, -1])
    loss([1, 1])
    loss([0, 1], "squared")
    loss([0, 1], lambda f, y: jnp.sum(jnp.logaddexp(0, -(2 * y - 1) * f)))


def test_regression_may_have_several_outputs_and_inputs_without_targets() -> None:
    assert check_target_columns([1, 2], 3).shape == (2, 1)
    assert check_target_columns([[1, 2, 3]], 3).shape == (1, 3)


def test_what_is_no_stream_and_no_layer_time_is_named() -> None:
    resnet = cs.ResNet("relu")
    with pytest.raises(ValueError, match=r"X0 must be streams \(m, n\) or \(n,\) of real numbers; its dtype is <U1"):
        cs.simulate_streams(resnet, ["a"])
    with pytest.raises(ValueError, match="save_at must hold layer times"):
        cs.simulate_streams(resnet, [1.0], save_at=["a"])
