"""Ensemble: its estimates against known laws, its treatment of stopped paths, and its files."""

import dataclasses
import json
import warnings
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from covsde.results.ensemble import Ensemble
from covsde.results.estimate import Estimate
from covsde.results.files import atomic_write
from covsde.results.status import FailedPathsWarning, PathStatus


def wishart(paths: int = 4000, times: int = 3, m: int = 2, seed: int = 0, dtype: Any = np.float64) -> Ensemble:
    """Independent Wishart matrices with 5 degrees of freedom at every time."""
    factors = np.random.default_rng(seed).standard_normal((times, paths, m, 5))
    V = (factors @ np.swapaxes(factors, -1, -2) / 5).astype(dtype)
    tau = np.linspace(0, 1, times)
    return Ensemble(tau, V, np.zeros(paths, np.int8), np.ones(paths), {"kind": "limit", "seed": seed})


def with_stopped(e: Ensemble, count: int, status: PathStatus, at: float = 0.75) -> Ensemble:
    """Stop the first paths at a layer time; input 0 explodes where the status says so."""
    V, stop, code = e.V.copy(), e.stop_tau.copy(), e.status.copy()
    stop[:count], code[:count] = at, status
    V[e.tau > at, :count] = np.nan
    if status == PathStatus.EXPLODED:
        V[np.flatnonzero(e.tau > at)[:, None], np.arange(count), 0, 0] = np.inf
    return dataclasses.replace(e, V=V, stop_tau=stop, status=code)


def log_v0(V: Any) -> Any:
    return np.log(V[..., 0, 0])


def test_mean_and_variance_match_the_wishart_law_within_standard_errors() -> None:
    e = wishart(paths=20_000)
    mean, variance = e.mean(lambda V: V[..., 0, 0]), e.variance(lambda V: V[..., 0, 0])
    assert mean.value.shape == mean.standard_error.shape == (3,)
    assert np.all(np.abs(mean.value - 1) < 4 * mean.standard_error)
    assert np.all(np.abs(variance.value - 2 / 5) < 4 * variance.standard_error)  # chi-squared with 5 degrees
    np.testing.assert_allclose(mean.standard_error, np.sqrt(2 / 5 / 20_000), rtol=0.05)
    # Var(s²) = (μ₄ - σ⁴)/n with the chi-squared's kurtosis 3 + 12/5
    np.testing.assert_allclose(variance.standard_error, 2 / 5 * np.sqrt((3 + 12 / 5 - 1) / 20_000), rtol=0.15)


def test_quantile_standard_error_agrees_with_the_bootstrap_and_ignores_the_scale() -> None:
    e = wishart(paths=4000, times=1)
    x = log_v0(e.V[0])
    rng = np.random.default_rng(1)
    resampled = x[rng.integers(0, x.size, (2000, x.size))]
    for q in (0.1, 0.5, 0.9):
        estimate = e.quantile(log_v0, q)
        assert estimate.value[0] == pytest.approx(np.quantile(x, q))
        bootstrap = np.quantile(resampled, q, axis=1).std()
        assert estimate.standard_error[0] == pytest.approx(bootstrap, rel=0.25)


def test_quantile_intervals_cover_the_true_median_as_often_as_one_standard_error_should() -> None:
    # Times serve as 400 independent repetitions of 500 paths.
    rng = np.random.default_rng(2)
    V = np.exp(rng.standard_normal((400, 500, 1, 1)))
    e = Ensemble(np.linspace(0, 1, 400), V, np.zeros(500), np.ones(500))
    median, se = e.quantile(log_v0, 0.5)
    covered = np.mean(np.abs(median) < se)
    assert covered == pytest.approx(0.683, abs=4 * np.sqrt(0.683 * 0.317 / 400))


def test_several_quantiles_at_once_equal_one_at_a_time() -> None:
    e = wishart(paths=300)
    together = e.quantile(log_v0, [0.1, 0.5])
    assert together.value.shape == (3, 2)
    np.testing.assert_array_equal(together.value[:, 1], e.quantile(log_v0, 0.5).value)


def test_quantile_of_too_few_paths_has_no_standard_error() -> None:
    assert np.isnan(wishart(paths=20).quantile(log_v0, 0.99).standard_error).all()


@pytest.mark.parametrize("q", [0.0, 1.0, 1.5, float("nan"), []])
def test_quantile_refuses_probabilities_outside_the_open_interval(q: Any) -> None:
    with pytest.raises(ValueError, match="q must be a probability"):
        wishart(paths=5).quantile(log_v0, q)


def test_exploded_paths_rank_above_all_others_in_a_quantile() -> None:
    e = wishart(paths=1000)
    exploded = with_stopped(e, 300, PathStatus.EXPLODED)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # none is left out, so there is nothing to warn about
        value, se = exploded.quantile(log_v0, [0.5, 0.69, 0.9])
    survivors = np.sort(log_v0(e.V[-1, 300:]))
    position = 0.5 * 999
    assert value[-1, 0] == pytest.approx((survivors[int(position)] + survivors[int(position) + 1]) / 2)
    assert np.isfinite(se[-1, 0])
    assert np.isposinf(se[-1, 1])  # the interval around 69% reaches the exploded paths
    assert np.isposinf(value[-1, 2])
    np.testing.assert_array_equal(value[:2], e.quantile(log_v0, [0.5, 0.69, 0.9]).value[:2])


def test_quantile_counts_the_paths_without_a_value() -> None:
    e = with_stopped(wishart(paths=1000), 30, PathStatus.LOST_PSD)
    with pytest.warns(FailedPathsWarning, match=r"30 of 1000 paths have no value.*τ=1"):
        value, _ = e.quantile(lambda V: V[..., 0, 1], 0.5)
    assert value[-1] == pytest.approx(np.median(e.V[-1, 30:, 0, 1]))


def test_mean_is_over_survivors_at_each_time_and_says_so() -> None:
    e = with_stopped(wishart(paths=1000), 30, PathStatus.EXPLODED)
    with pytest.warns(FailedPathsWarning, match="30 of 1000 paths had stopped by layer time τ=1: the mean") as seen:
        value, _ = e.mean(lambda V: V[..., 0, 0])
    assert len(seen) == 1
    np.testing.assert_allclose(value[:2], e.V[:2, :, 0, 0].mean(axis=1))
    assert value[2] == pytest.approx(e.V[2, 30:, 0, 0].mean())
    assert e.alive.sum(axis=1).tolist() == [1000, 1000, 970]


def test_no_survivors_gives_nan_and_fine_paths_give_no_warning() -> None:
    e = with_stopped(wishart(paths=10), 10, PathStatus.NOT_FINITE)
    with pytest.warns(FailedPathsWarning, match="10 of 10"):
        value, se = e.mean(log_v0)
    assert np.isnan(value[-1])
    assert np.isnan(se[-1])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        wishart(paths=10).mean(log_v0)


def test_non_finite_statistics_of_survivors_are_not_averaged_away() -> None:
    V = np.ones((1, 4, 1, 1))
    V[0, 0] = 0.0  # a network with a dead layer
    e = Ensemble(np.array([1.0]), V, np.zeros(4), np.ones(4))
    assert np.isneginf(e.mean(log_v0).value[0])


def test_failures_count_only_the_statuses_that_occur() -> None:
    e = wishart(paths=100)
    assert e.failures == {"total": 0}
    assert with_stopped(e, 7, PathStatus.LOST_PSD).failures == {"LOST_PSD": 7, "total": 7}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_per_matrix_and_batched_statistics_agree(dtype: Any) -> None:
    e = wishart(paths=50, m=3, dtype=dtype)
    batched = e.mean(lambda V: V[..., 0, 1] * V[..., 2, 2]).value
    single = e.mean(lambda V: V[0, 1] * V[2, 2]).value
    np.testing.assert_allclose(single, batched, rtol=10 * np.finfo(dtype).eps, atol=np.finfo(dtype).eps)
    np.testing.assert_allclose(e.mean(lambda V: jnp.linalg.det(V)).value, np.linalg.det(e.V).mean(axis=1), rtol=1e-5)


def test_per_matrix_statistics_keep_double_precision() -> None:
    e = Ensemble(np.array([1.0]), np.full((1, 2, 1, 1), 1 + 1e-12), np.zeros(2), np.ones(2))
    assert e.mean(lambda V: V[0, 0] - 1).value[0] == pytest.approx(1e-12, rel=1e-3)


def test_matrix_shape_is_never_mistaken_for_the_batch() -> None:
    # paths and times equal to m, where a naive look at shapes could not tell V[0, 1] from a batch
    e = wishart(paths=2, times=2, m=2)
    np.testing.assert_allclose(e.mean(lambda V: V[0, 1]).value, e.V[:, :, 0, 1].mean(axis=1))


@pytest.mark.parametrize("f", [lambda V: V[7, 7, 7], lambda V: "text", lambda V: np.log(float(V[0, 0]))])
def test_a_statistic_of_the_wrong_kind_is_explained(f: Any) -> None:
    with pytest.raises(TypeError, match=r"f must map arrays .* \(use V\[..., 0, 1\]\)"):
        wishart(paths=5).mean(f)


def test_correlation_removes_rounding_but_shows_a_matrix_that_is_not_psd() -> None:
    V = np.ones((1, 3, 2, 2))
    V[0, 1, 0, 1] = V[0, 1, 1, 0] = 1 + 5e-7
    V[0, 2, 0, 1] = V[0, 2, 1, 0] = 1.5
    e = Ensemble(np.array([0.0]), V, np.zeros(3), np.ones(3))
    assert e.correlation(0, 1)[0].tolist() == [1.0, 1.0, 1.5]
    assert e.angle(0, 1)[0, :2].tolist() == [0.0, 0.0]
    assert np.isnan(e.angle(0, 1)[0, 2])


def test_angle_and_log_variance_of_known_inputs() -> None:
    x = np.array([[3.0, 0.0], [1.0, 1.0]])
    e = Ensemble(np.array([0.0]), (x @ x.T)[None, None], np.zeros(1), np.ones(1))
    assert e.angle(0, 1).item() == pytest.approx(np.pi / 4)
    assert e.log_variance(0).item() == pytest.approx(np.log(9))


def test_correlation_survives_variances_whose_product_overflows() -> None:
    V = np.array([[1e200, 5e199], [5e199, 1e200]])
    assert Ensemble(np.array([0.0]), V[None, None], np.zeros(1), np.ones(1)).correlation(0, 1).item() == (
        pytest.approx(0.5)
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tau": np.array([0.0, 0.5, 0.5])}, "tau must increase"),
        ({"tau": np.array([0.0, 0.5, 1.5])}, "tau must increase"),
        ({"tau": np.array([0.0, 1.0])}, "V must have shape"),
        ({"V": np.ones((3, 5, 2, 3))}, "V must have shape"),
        ({"status": np.zeros(4)}, "status must have shape"),
        ({"status": np.full(5, 9)}, "PathStatus"),
        ({"stop_tau": np.zeros(4)}, "stop_tau must have shape"),
        ({"stop_tau": np.full(5, np.nan)}, "stop_tau must lie"),
        ({"status": np.full(5, PathStatus.EXPLODED), "stop_tau": np.full(5, 0.5)}, "finite values after"),
    ],
)
def test_inconsistent_arrays_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(wishart(paths=5), **change)


def test_metadata_is_refused_early_when_it_cannot_be_saved() -> None:
    with pytest.raises(TypeError, match="metadata must be expressible as JSON"):
        dataclasses.replace(wishart(paths=5), metadata={"solver": object()})


def test_an_ensemble_may_have_no_metadata() -> None:
    e = wishart(paths=5)
    assert Ensemble(e.tau, e.V, e.status, e.stop_tau, None).metadata == {}


def test_inputs_that_are_not_there_are_named() -> None:
    e = wishart(paths=5)
    for call in (lambda: e.correlation(0, 5), lambda: e.angle(0, -3), lambda: e.log_variance(2)):
        with pytest.raises(IndexError, match="inputs must be numbers from 0 to 1, as m=2, got"):
            call()


def test_a_zero_input_has_no_correlation_and_vanished_variances_are_counted() -> None:
    e = wishart(paths=5)
    zero, partly = e.V.copy(), e.V.copy()
    zero[:, :, 1], zero[:, :, :, 1] = 0, 0
    partly[0, :3, 1], partly[0, :3, :, 1] = 0, 0
    for name in ("correlation", "angle"):
        with pytest.raises(ValueError, match="input 1 is zero, so it has no correlation with others; leave it out"):
            getattr(dataclasses.replace(e, V=zero), name)(0, 1)
        with pytest.warns(FailedPathsWarning, match="3 of 5 paths have no correlation of inputs 0 and 1 at .* τ=0:"):
            found = getattr(dataclasses.replace(e, V=partly), name)(0, 1)
        assert np.isnan(found[0]).sum() == np.isnan(found).sum() == 3


def test_a_variance_below_what_its_dtype_holds_has_no_correlation() -> None:
    V = np.tile(np.asarray([[1.0, 0.5], [0.5, 1.0]], np.float32), (2, 3, 1, 1))
    V[1, 0] *= np.float32(1e-42)  # 0.5 has become 0.4996 of it
    e = Ensemble(np.asarray([0.0, 1.0]), V, np.zeros(3, np.int8), np.ones(3))
    with pytest.warns(FailedPathsWarning, match=r"1 of 3 paths have no correlation .* too small for float32"):
        found = e.correlation(0, 1)
    np.testing.assert_allclose(found, [[0.5, 0.5, 0.5], [np.nan, 0.5, 0.5]], rtol=1e-6)


def test_repr_is_one_short_line() -> None:
    e = with_stopped(wishart(paths=100), 2, PathStatus.EXPLODED)
    assert repr(e) == "Ensemble(limit, m=2, 100 paths, 3 times, 2 failed)"


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_round_trip_through_a_file_without_pickles(tmp_path: Path, dtype: Any) -> None:
    e = with_stopped(wishart(paths=50, dtype=dtype), 3, PathStatus.EXPLODED)
    e = dataclasses.replace(e, metadata={"kind": "limit", "label": "ρ", "steps": np.int64(3), "ratio": [0.1, None]})
    file = tmp_path / "run.npz"
    e.save(file)
    with np.load(file, allow_pickle=False) as content:
        assert json.loads(str(content["metadata"])) == e.metadata
    back = Ensemble.load(file)
    for name in ("tau", "V", "status", "stop_tau"):
        np.testing.assert_array_equal(getattr(back, name), getattr(e, name))
        assert getattr(back, name).dtype == getattr(e, name).dtype
    assert back.metadata == e.metadata == {"kind": "limit", "label": "ρ", "steps": 3, "ratio": [0.1, None]}
    assert list(tmp_path.iterdir()) == [file]


def test_a_failed_save_keeps_the_old_file_and_leaves_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "run.npz"
    wishart(paths=5, seed=1).save(file)
    before = file.read_bytes()

    def breaks(file: Any, **arrays: Any) -> None:
        file.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(np, "savez_compressed", breaks)
    with pytest.raises(OSError, match="disk full"):
        wishart(paths=5, seed=2).save(file)
    assert file.read_bytes() == before
    assert list(tmp_path.iterdir()) == [file]


def test_writing_reports_a_bad_place(tmp_path: Path) -> None:
    with (
        pytest.raises(FileNotFoundError, match="does not exist; create it"),
        atomic_write(tmp_path / "no" / "x.npz"),
    ):
        pass
    with pytest.raises(IsADirectoryError, match="is a directory"), atomic_write(tmp_path):
        pass
    with pytest.raises(ValueError, match=r"must end in '\.npz'"):
        wishart(paths=5).save(tmp_path / "run.npy")


def test_loading_explains_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="there is no file"):
        Ensemble.load(tmp_path / "absent.npz")
    good = tmp_path / "good.npz"
    wishart(paths=200).save(good)
    whole = good.read_bytes()
    damaged = bytearray(whole)
    damaged[len(whole) // 2] ^= 0xFF
    bad = tmp_path / "bad.npz"
    for content in (b"", b"text", whole[: len(whole) // 2], bytes(damaged)):
        bad.write_bytes(content)
        with pytest.raises(ValueError, match="damaged or not a"):
            Ensemble.load(bad)
    np.savez(bad, a=np.arange(3))
    with pytest.raises(ValueError, match="is not an ensemble"):
        Ensemble.load(bad)
    np.savez(bad, a=np.array([object()]))
    with pytest.raises(ValueError, match="damaged or not"):
        Ensemble.load(bad)
    with np.load(good) as content:
        np.savez(bad, **{**dict(content), "format": np.array(99)})
    with pytest.raises(ValueError, match=r"format 99.*upgrade"):
        Ensemble.load(bad)


@pytest.mark.parametrize(
    ("value", "error", "shown"),
    [
        (0.51234567, 0.00213, "Estimate(0.5123 ± 0.0021)"),
        (1234.5, 87.0, "Estimate(1234 ± 87)"),
        (1.0, 0.0, "Estimate(1 ± 0)"),
        (-3e-9, 2e-10, "Estimate(-3e-09 ± 2e-10)"),
        (np.nan, np.nan, "Estimate(nan ± nan)"),
    ],
)
def test_an_estimate_of_one_number_shows_its_error(value: float, error: float, shown: str) -> None:
    assert repr(Estimate(np.array([value]), np.array([error]))) == shown


def test_an_estimate_is_not_taken_for_an_array_of_two() -> None:
    estimate = Estimate(np.float64(0.5), np.float64(0.1))
    uses: Any = (np.asarray, jnp.asarray, np.mean, lambda e: np.array([e, e]), lambda e: 2 * e, lambda e: e + e)
    for use in uses:
        with pytest.raises(TypeError, match=r"use .value or .standard_error, or unpack it"):
            use(estimate)
    value, error = estimate
    assert (value, error) == (0.5, 0.1)
    assert jax.tree.map(lambda x: 2 * x, estimate).value == 1.0


@pytest.mark.parametrize(
    ("entry", "value", "wrong"),
    [
        ((1, 3, 0, 0), np.nan, "V holds NaN on path 3, whose status is FINE"),
        ((1, 3, 0, 0), np.inf, "V is not finite on path 3 at τ=0.5, where it has not stopped"),
        ((2, 4, 1, 1), -1e-3, "V has a negative variance on path 4 at τ=1"),
        ((0, 0, 0, 1), 7.0, "V is not symmetric on path 0 at τ=0"),
    ],
)
def test_a_file_whose_values_belie_its_status_is_refused(
    tmp_path: Path, entry: tuple[int, ...], value: float, wrong: str
) -> None:
    e, file = wishart(paths=5), tmp_path / "run.npz"
    V = e.V.copy()
    V[entry] = value
    dataclasses.replace(e, V=V).save(file)
    with pytest.raises(ValueError, match=f"run.npz' is no sound result, so compute it again: {wrong}"):
        Ensemble.load(file)
    # The same before the stop of a path that has failed.
    if entry == (0, 0, 0, 1):
        V[1:, 0] = np.nan
        dataclasses.replace(e, V=V, status=np.array([1, 0, 0, 0, 0]), stop_tau=np.array([0.2, 1, 1, 1, 1])).save(file)
        with pytest.raises(ValueError, match=wrong):
            Ensemble.load(file)


def test_a_file_whose_arrays_do_not_fit_is_named(tmp_path: Path) -> None:
    e, file = wishart(paths=5), tmp_path / "run.npz"
    e.save(file)
    with np.load(file) as content:
        np.savez(file, **(dict(content) | {"status": np.zeros(4)}))
    with pytest.raises(ValueError, match=r"run\.npz' is no sound result, so compute it again: status must have shape"):
        Ensemble.load(file)
