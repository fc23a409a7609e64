"""The error of the step of trained limits: half the steps beside all of them, and what extrapolation makes of both."""

import dataclasses
import warnings
from pathlib import Path

import numpy as np
import pytest

import covsde as cs

LINEAR = cs.MLP(cs.Identity(), 0.4)
PAIR = np.asarray([[1.0, 0.3], [0.3, 1.0]])
Y = [1.0, -1.0]


def trained(**given):
    """A short run with drawn weights: layers of width 10, and of width 5 beside them, which is rough."""
    usual = {"targets": Y, "updates": 1, "paths": 64, "method": "weights", "steps": 4, "learning_rate": 0.5}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", cs.UnresolvedStepWarning)
        return cs.train(LINEAR, PAIR, **usual | {"progress": False} | given)


@pytest.fixture(scope="module")
def run():
    return trained()


def outputs(r):
    return r.outputs[-1]


def test_half_the_steps_are_at_the_same_layer_times_and_independent(run) -> None:
    assert (run.metadata["steps"], run.coarse.metadata["steps"]) == (4, 2)
    np.testing.assert_array_equal(run.tau, run.coarse.tau)
    assert run.metadata["seed"] != run.coarse.metadata["seed"]
    assert run.coarse.coarse is None
    assert run.refinement == 2


def test_extrapolation_takes_the_first_order_away(run) -> None:
    fine, coarse = run.mean(outputs), run.coarse.mean(outputs)
    value, error = run.extrapolated(outputs)
    np.testing.assert_allclose(value, 2 * fine.value - coarse.value, rtol=1e-12)
    np.testing.assert_allclose(error, np.hypot(2 * fine.standard_error, coarse.standard_error), rtol=1e-12)
    moved = run.step_error(outputs)
    np.testing.assert_allclose(moved.value, fine.value - coarse.value, rtol=1e-12)
    np.testing.assert_allclose(moved.standard_error, np.hypot(fine.standard_error, coarse.standard_error), rtol=1e-12)
    np.testing.assert_array_equal(value, cs.richardson(run.coarse, run, outputs).value)


def test_the_error_of_the_step_of_a_second_moment_is_the_exact_one() -> None:
    # A linear layer of width n multiplies E Φ² by 1 + 2/n: (1 + 2/n)^{nT}, which becomes e^{2T}.
    run = trained(updates=1, learning_rate=0.0, paths=40_000, dtype="float32", kernels=True)

    def square(r):
        return r.Phi[-1, :, 0, 0] ** 2

    for found, exact in (
        (run.mean(square), 1.2**4),
        (run.coarse.mean(square), 1.4**2),
        (run.step_error(square), 1.2**4 - 1.4**2),
        (run.extrapolated(square), 2 * 1.2**4 - 1.4**2),
    ):
        assert abs(found.value - exact) < 4 * found.standard_error
    assert run.extrapolated(square).standard_error < 0.1


def test_comparisons_extrapolate_and_say_what_that_adds(run) -> None:
    networks = cs.train_networks(
        LINEAR, PAIR, targets=Y, updates=1, learning_rate=0.5, width=10, draws=64, progress=False
    )
    table = cs.compare(run, networks)
    row = next(r for r in table.rows if r.statistic == "mean f(0) at the end")
    assert row.reference == pytest.approx(run.extrapolated(outputs).value[0])
    assert row.reference_se == pytest.approx(run.extrapolated(outputs).standard_error[0])
    assert row.step_error == pytest.approx(run.step_error(outputs).value[0])
    assert row.z == pytest.approx((row.network - row.reference) / np.hypot(row.reference_se, row.network_se))
    for shown in (str(table), table._repr_html_()):
        assert "of step" in shown
        assert "extrapolated from 2 and 4 steps" in shown.replace("&quot;", '"')
    assert "without error of the step" in run._repr_html_()
    alone = cs.compare(dataclasses.replace(run, coarse=None), networks)
    assert "of step" not in str(alone)
    assert alone.rows[0].step_error is None
    elsewhere = dataclasses.replace(run.coarse, outputs=run.coarse.outputs + 10)
    with pytest.warns(cs.UnresolvedStepWarning, match="beyond 4 standard errors in .*mean f.0. at the end"):
        cs.compare(dataclasses.replace(run, coarse=elsewhere), networks)


def test_files_and_checkpoints_hold_both(run, tmp_path: Path) -> None:
    run.save(tmp_path / "run.npz")
    read = cs.Training.load(tmp_path / "run.npz")
    np.testing.assert_array_equal(read.coarse.outputs, run.coarse.outputs)
    assert read.coarse.metadata == run.coarse.metadata
    np.testing.assert_allclose(read.extrapolated(outputs).value, run.extrapolated(outputs).value, rtol=1e-12)
    folder = tmp_path / "kept"
    first = trained(checkpoint=folder, chunk=32)
    again = trained(checkpoint=folder, chunk=32)
    assert {path.name for path in folder.iterdir()} >= {"coarse"}
    np.testing.assert_array_equal(first.coarse.outputs, again.coarse.outputs)
    np.testing.assert_array_equal(first.outputs, again.outputs)


def test_steps_are_halved_by_default_where_weights_are_drawn_and_that_is_possible() -> None:
    def halved(V0=PAIR, **given):
        y = np.resize(Y, len(V0))
        return cs.train.plan(LINEAR, V0, targets=y, **given).coarse is not None

    assert halved(method="weights")
    assert not halved(method="weights", step_error=False)
    assert not halved(method="law")
    assert halved(method="law", step_error=True, steps=40)
    assert not halved(method="weights", steps=41)
    assert not halved(np.eye(60), method="weights")
    assert halved(np.eye(60), method="weights", steps=48)
    plan = cs.train.plan(LINEAR, PAIR, targets=Y, method="weights")
    assert plan.bytes == 2 * plan.coarse.bytes


def test_what_cannot_be_halved_is_refused_in_one_sentence(run) -> None:
    def refused(sentence, architecture=LINEAR, V0=PAIR, **given):
        with pytest.raises(ValueError, match=sentence):
            cs.train.plan(architecture, V0, targets=np.resize(Y, len(V0)), step_error=True, **given)

    refused("even number, not steps=41", method="weights", steps=41)
    refused("room for 60 dimensions of inputs in half the steps: use steps >= 48", V0=np.eye(60), method="weights")
    refused("is for random paths", architecture=cs.ResNet("tanh"))
    refused("use updates >= 1", updates=0, steps=40)
    with pytest.raises(ValueError, match="train with step_error=True"):
        run.coarse.step_error(outputs)
