"""What all records share: files, failures, names, statistics; and that the table says where each of its rows is."""

import inspect
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_compare import ensemble, gradients, network, training

import covsde as cs
from covsde.results.quantity import FROM_THE_OUTPUT, LAYER_TIME, UPDATE, Axis, name_of
from covsde.results.record import Record


def velocities(paths: int) -> cs.Velocities:
    S = np.random.default_rng(2).exponential(size=(2, paths, 1, 1))
    tau, status = np.array([0.0, 1.0]), np.zeros(paths, np.int8)
    return cs.Velocities(tau=tau, Phi=S, G=S, R=S[..., 0], Y=S, S=S, outputs=S[0, :, 0], status=status, metadata={})


def unshaped(paths: int) -> cs.UnshapedEnsemble:
    w = np.cumsum(np.random.default_rng(3).exponential(size=(3, paths)), axis=0)
    stop, status = np.ones(paths), np.zeros(paths)
    w[-1, 0], stop[0], status[0] = np.inf, 0.5, cs.PathStatus.PARALLEL
    log_variance = np.where(np.isfinite(w), w, np.nan)
    return cs.UnshapedEnsemble(np.linspace(0, 1, 3), w, log_variance, status, stop, {"clock": 1.0, "width": 7})


RECORDS = [ensemble(20, 0, exploded=3), unshaped(20), gradients(20, 0), velocities(20), training(20, 0)]


def name(record: Record) -> str:
    return type(record).__name__


@pytest.mark.parametrize("record", RECORDS, ids=name)
def test_every_record_reads_back_as_it_was_saved_by_the_code_of_the_base(record: Record, tmp_path: Path) -> None:
    for method in ("save", "load", "failures", "kind", "paths", "deterministic", "__repr__", "mean", "variance"):
        assert inspect.getattr_static(type(record), method) is inspect.getattr_static(Record, method)
    record.save(tmp_path / "run.npz")
    back = type(record).load(tmp_path / "run.npz")
    assert repr(back) == repr(record)
    assert back.metadata == record.metadata
    for array in (*record.path_axis, "tau"):
        if getattr(record, array) is None:  # not every result has it
            assert getattr(back, array) is None
            continue
        np.testing.assert_array_equal(getattr(back, array), getattr(record, array))
        assert getattr(back, array).dtype == getattr(record, array).dtype


@pytest.mark.parametrize("record", RECORDS, ids=name)
def test_files_of_one_kind_are_not_taken_for_another(record: Record, tmp_path: Path) -> None:
    record.save(tmp_path / "run.npz")
    for other in RECORDS:
        if type(other) is not type(record):
            with pytest.raises(ValueError, match=r"is not an? .*give a file written by"):
                type(other).load(tmp_path / "run.npz")


# What version 0.1.0 wrote: entries by class, beside the format number and the metadata.
ENTRIES = {
    "Ensemble": {"tau", "V", "status", "stop_tau"},
    "UnshapedEnsemble": {"tau", "w", "log_variance", "status", "stop_tau"},
    "Gradients": {"tau", "Phi", "G", "A", "outputs", "ntk", "status", "is_Gradients"},
    "Velocities": {"tau", "Phi", "G", "R", "Y", "S", "outputs", "status", "is_Velocities"},
}


@pytest.mark.parametrize("record", RECORDS[:4], ids=name)
def test_files_keep_the_layout_of_the_first_version(record: Any, tmp_path: Path) -> None:
    entries = ENTRIES[name(record)]
    record.save(tmp_path / "new.npz")
    with np.load(tmp_path / "new.npz") as content:
        assert set(content) == {"format", "metadata", *entries}
        assert content["format"] == 1
    arrays = {key: getattr(record, key, True) for key in entries}
    np.savez_compressed(tmp_path / "old.npz", format=1, metadata=json.dumps(record.metadata), **arrays)
    old = type(record).load(tmp_path / "old.npz")
    assert repr(old) == repr(record)
    for array in record.path_axis:
        np.testing.assert_array_equal(getattr(old, array), getattr(record, array))


@pytest.mark.parametrize("record", RECORDS, ids=name)
def test_every_record_has_quantities_with_a_value_for_each_path(record: Record) -> None:
    quantities = record.quantities()
    assert len({q.name for q in quantities}) == len(quantities) > 0
    for quantity in quantities:
        curve = quantity.curve(record)
        assert curve.values.shape == (curve.x.size, record.paths)
        assert np.all(np.diff(curve.x) > 0)
        assert isinstance(quantity.axis, Axis)


@pytest.mark.filterwarnings("ignore::covsde.FailedPathsWarning")
@pytest.mark.parametrize("record", RECORDS, ids=name)
def test_a_record_compared_with_itself_differs_nowhere(record: Record) -> None:
    comparison = cs.compare(record, record)
    assert {row.z for row in comparison.rows} <= {0.0}
    assert {distance.ks for distance in comparison.distances} == {0.0}
    failed = record.failures["total"]
    assert f"{record.paths} paths, {failed} failed" in str(comparison)
    assert max(row.reference_failures for row in comparison.rows) == failed


def test_statistics_of_an_ensemble_are_those_of_its_survivors_one_time_after_the_other() -> None:
    e = ensemble(400, 0, exploded=50)
    with pytest.warns(cs.FailedPathsWarning, match=r"50 of 400 paths had stopped.*the controlled mean"):
        found = e.controlled_mean(lambda V: V[..., 0, 1], lambda V: V[..., 0, 0] - 1)
    V = e.V[-1, 50:]
    slope = np.cov(V[:, 0, 1], V[:, 0, 0])[0, 1] / np.var(V[:, 0, 0], ddof=1)
    assert found.value.shape == (3,)
    assert found.value[-1] == pytest.approx(np.mean(V[:, 0, 1] - slope * (V[:, 0, 0] - 1)))
    with pytest.warns(cs.FailedPathsWarning, match="the slope"):
        slopes = e.slope(lambda V: V[..., 0, 1], lambda V: V[..., 0, 0])
    assert slopes.value[-1] == pytest.approx(np.mean(V[:, 0, 1] * V[:, 0, 0]) / np.mean(V[:, 0, 0] ** 2))


def test_a_status_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="status must hold values of PathStatus"):
        cs.Velocities(**(vars(velocities(2)) | {"status": np.array([0, 17])}))


def test_rows_say_where_they_are_on_which_axis() -> None:
    c = cs.compare(training(50, 0), training(50, 1))
    places = {(row.statistic.split(" ", 1)[1], row.axis, row.at) for row in c.rows}
    assert ("loss at the end", "update", 3.0) in places
    assert ("|h(end) - h(0)|²/n of input 0 at τ = 1", "τ", 1.0) in places
    assert all(row.tau == row.at if row.axis == "τ" else np.isnan(row.tau) for row in (*c.rows, *c.distances))
    assert "update = 3" in str(c)
    back = {row.statistic: row for row in cs.compare(gradients(50, 0), gradients(50, 1)).rows}
    assert back["mean log G_00 at τ = 0"].tau == back["mean log G_00 at τ = 0"].at == 0.0
    assert back["mean log Phi_00 at τ = 1"].tau == 1.0
    written = cs.compare(ensemble(50, 0), network(50, 1)).to_dict()
    assert {(row["axis"], row["tau"], row["at"]) for row in written["rows"] + written["distances"]} == {("τ", 1.0, 1.0)}


def test_rows_of_several_networks_stand_side_by_side_for_every_kind_of_result() -> None:
    for results in ([training(50, k, width=k) for k in range(3)], [ensemble(50, k, width=k) for k in range(3)]):
        widths = [row.label for row in cs.compare(*results).rows]
        assert widths == [name_of(e) for e in results[1:]] * (len(widths) // 2)


def test_an_axis_is_data() -> None:
    assert [LAYER_TIME.at(0.5), FROM_THE_OUTPUT.at(1.0), UPDATE.at(4.0)] == ["τ = 0.5", "τ = 0", "update 4"]
    assert [axis.layer_time(0.75) for axis in (LAYER_TIME, FROM_THE_OUTPUT)] == [0.75, 0.25]


def test_a_figure_counts_updates_and_knows_axes_of_ones_own() -> None:
    pytest.importorskip("matplotlib")
    figure = cs.compare(training(50, 0), training(50, 1)).plot()
    assert figure.axes[0].get_xlabel() == "update"
    assert all(float(x).is_integer() for x in figure.axes[0].get_xticks())
    assert [ax.get_xlabel().split("  at ")[1] for ax in figure.axes[4:]] == [*["update 3"] * 3, "τ = 1"]


def test_names_are_those_of_labels_else_of_kind_and_width() -> None:
    named, wide, limit = network(5, 0, label="mine"), network(5, 0), ensemble(5, 0)
    assert [name_of(e) for e in (named, wide, limit)] == ["mine", "network, width 100", "limit"]
    assert [e.label for e in (named, wide, limit)] == [name_of(e) for e in (named, wide, limit)]
    assert [name_of(e, figure=True) for e in (wide, limit)] == ["networks, width n=100", "limit (SDE)"]
