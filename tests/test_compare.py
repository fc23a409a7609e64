"""Comparisons: distances against scipy, calibration of z-scores, rates, table and figure."""

import builtins
import json
import warnings
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from scipy import stats

import covsde as cs
from covsde.compare import compare
from covsde.compare_ensembles import Comparison, common_times, similar_pairs
from covsde.distances import kolmogorov_smirnov, wasserstein
from covsde.ensemble import Ensemble
from covsde.extrapolation import convergence_rate, extrapolate
from covsde.status import FailedPathsWarning, PathStatus


def ensemble(
    paths: int,
    seed: int,
    m: int = 2,
    scale: float = 1.0,
    tau: Any = (0.0, 0.5, 1.0),
    exploded: int = 0,
    **metadata: Any,
) -> Ensemble:
    """Wishart matrices around a fixed correlation matrix, which they equal at τ = 0."""
    root = np.linalg.cholesky(0.5 * np.eye(m) + 0.5 / (1 + np.abs(np.subtract.outer(range(m), range(m)))))
    factors = root @ np.random.default_rng(seed).standard_normal((len(tau), paths, m, 6 * m))
    V = scale * factors @ np.swapaxes(factors, -1, -2) / (6 * m)
    V[0] = root @ root.T
    status, stop = np.zeros(paths, np.int8), np.ones(paths)
    if exploded:
        status[:exploded], stop[:exploded] = PathStatus.EXPLODED, 0.7
        V[-1, :exploded] = np.nan
        V[-1, :exploded, range(m), range(m)] = np.inf
    return Ensemble(np.array(tau), V, status, stop, {"kind": "limit", **metadata})


def network(paths: int, seed: int, width: int = 100, **kwargs: Any) -> Ensemble:
    return ensemble(paths, seed, **{"kind": "network", "width": width, "depth": width, **kwargs})


def test_kolmogorov_smirnov_p_values_are_uniform_under_the_null() -> None:
    rng = np.random.default_rng(0)
    p = [kolmogorov_smirnov(rng.standard_normal(400), rng.standard_normal(700))[1] for _ in range(400)]
    assert stats.kstest(p, "uniform").pvalue > 1e-3


def test_kolmogorov_smirnov_orders_infinities_and_is_the_explosion_probability() -> None:
    x = np.linspace(0, 1, 100)
    y = np.where(np.arange(100) < 80, x, np.inf)
    assert kolmogorov_smirnov(x, y)[0] == pytest.approx(0.2)
    assert kolmogorov_smirnov(x, x) == (0.0, 1.0)


def test_wasserstein_is_the_size_of_a_shift() -> None:
    x = np.random.default_rng(0).standard_normal(300)
    assert wasserstein(x, x + 0.3) == pytest.approx(0.3)


def test_distances_of_empty_samples_are_undefined() -> None:
    assert np.isnan(kolmogorov_smirnov([], [1.0])).all()
    assert np.isnan(wasserstein([], [1.0]))


def test_equal_laws_give_z_scores_of_order_one() -> None:
    z = np.array([[r.z for r in compare(ensemble(2000, 2 * s), network(1000, 2 * s + 1)).rows] for s in range(40)])
    assert z.shape == (40, 3 + 2 * 3)
    # each column is 40 draws of a standard normal
    assert np.all(np.abs(z.mean(axis=0)) < 4 / np.sqrt(40))
    assert np.all((z.std(axis=0) > 0.6) & (z.std(axis=0) < 1.45))


def test_a_difference_of_laws_shows_with_its_size() -> None:
    c = compare(ensemble(4000, 0), network(4000, 1, scale=1.2))
    rows = {r.statistic: r for r in c.rows}
    shift = rows["mean log V_00"]
    se = np.hypot(shift.reference_se, shift.network_se)
    assert abs(shift.network - shift.reference - np.log(1.2)) < 4 * se
    assert shift.z > 5
    assert abs(rows["mean rho_01"].z) < 4  # the scale does not change correlations
    distances = {d.statistic: d for d in c.distances}
    assert distances["log V_00"].ks_p_value < 1e-6
    assert distances["log V_00"].wasserstein == pytest.approx(np.log(1.2), rel=0.2)
    assert distances["rho_01"].ks_p_value > 1e-3


def test_exploded_paths_count_as_infinite_and_are_reported() -> None:
    limit = ensemble(1000, 0, exploded=250)
    with pytest.warns(FailedPathsWarning, match="250 of 1000 paths of 'limit'") as seen:
        c = compare(limit, network(1000, 1))
    assert len(seen) == 1
    distances = {d.statistic: d for d in c.distances}
    assert distances["log V_00"].ks > 0.2  # the explosion probability
    assert distances["log V_00"].reference_left_out_ks == 0
    assert distances["log V_00"].reference_left_out_wasserstein == 250
    assert distances["rho_01"].reference_left_out_ks == 250
    assert distances["rho_01"].ks < 0.1
    assert {(r.reference_failures, r.network_failures) for r in c.rows} == {(250, 0)}
    assert "limit: 1000 paths, 250 failed (250 exploded)" in str(c)


def test_rows_at_the_start_are_equal_and_deterministic() -> None:
    c = compare(ensemble(100, 0), network(100, 1))
    start = c.rows_at(0.0)
    assert {r.tau for r in start} == {0.0}
    assert {r.z for r in start} == {0.0}
    assert {r.tau for r in c.rows} == {1.0}


def test_common_times_match_to_half_a_layer_and_include_the_last() -> None:
    limit = ensemble(5, 0, tau=(0.0, 0.25, 0.5, 1.0))
    other = network(5, 1, width=10, tau=(0.0, 0.3, 0.4, 1.0))
    assert common_times(limit, other) == [(0, 0), (1, 1), (3, 3)]
    with pytest.raises(ValueError, match="save both up to the same layer time"):
        compare(limit, network(5, 1, width=10, tau=(0.0, 0.5)))


def test_ensembles_on_different_inputs_are_refused() -> None:
    with pytest.raises(ValueError, match="m=3 inputs and the limit has m=2"):
        compare(ensemble(5, 0), network(5, 1, m=3))
    with pytest.raises(ValueError, match="networks must hold"):
        compare(ensemble(5, 0))


def test_many_inputs_show_selected_pairs_and_say_so() -> None:
    e = ensemble(50, 0, m=6)
    assert similar_pairs(e)[1] == (0, 5)
    c = compare(e, network(50, 1, m=6))
    assert {d.statistic for d in c.distances if d.statistic.startswith("rho")} == {"rho_01", "rho_05"}
    assert "Of 6 inputs" in str(c)


def test_statistics_of_ones_own() -> None:
    trace: dict[str, Any] = {
        "trace": lambda V: V[..., 0, 0] + V[..., 1, 1],
        "median det": ("median", np.linalg.det),
    }
    c = compare(ensemble(500, 0), network(500, 1), statistics=trace)
    assert [r.statistic for r in c.rows] == ["trace", "median det"]
    with pytest.raises(ValueError, match="statistics: 'x' must be"):
        compare(ensemble(5, 0), network(5, 1), statistics={"x": ("mode", np.linalg.det)})


def test_comparison_as_dict_is_json() -> None:
    c = compare(ensemble(50, 0), network(50, 1), network(50, 2, width=200))
    content = json.loads(json.dumps(c.to_dict()))
    assert len(content["rows"]) == len(c.rows) == 2 * 9
    assert content["networks"][1]["metadata"]["width"] == 200


def test_convergence_rate_recovers_a_power_with_an_honest_standard_error() -> None:
    rng = np.random.default_rng(0)
    n = np.array([50, 100, 200, 400])
    se = 0.05 / n
    fits = np.array([convergence_rate(n, -3.0 / n + se * rng.standard_normal(4), se) for _ in range(500)])
    z = (fits[:, 0] + 1) / fits[:, 1]
    assert abs(z.mean()) < 4 / np.sqrt(500)
    assert z.std() == pytest.approx(1, abs=4 / np.sqrt(2 * 500))


@pytest.mark.parametrize("power", [0.5, 1.0])
def test_extrapolation_removes_the_leading_correction(power: float) -> None:
    rng = np.random.default_rng(1)
    n = np.array([50, 100, 200])
    se = np.array([0.01, 0.01, 0.02])
    fits = [extrapolate(0.7 + 4 * n**-power + se * rng.standard_normal(3), se, n, power=power) for _ in range(500)]
    z = np.array([(e.value - 0.7) / e.standard_error for e in fits])
    assert abs(z.mean()) < 4 / np.sqrt(500)
    assert z.std() == pytest.approx(1, abs=4 / np.sqrt(2 * 500))


def test_two_widths_give_richardson_extrapolation() -> None:
    value, se = extrapolate([1.4, 1.2], [0.1, 0.1], [100, 200])
    assert value == pytest.approx(2 * 1.2 - 1.4)
    assert se == pytest.approx(0.1 * np.sqrt(5))


@pytest.mark.parametrize(
    ("widths", "values", "se", "message"),
    [
        ([100], [1.0], [0.1], "widths must be"),
        ([100, 100], [1.0, 1.0], [0.1, 0.1], "widths must be"),
        ([100, 200], [1.0], [0.1, 0.1], "one entry per width"),
        ([100, 200], [1.0, 2.0], [0.1, 0.0], "standard_errors must be positive"),
    ],
)
def test_fits_refuse_what_they_cannot_use(widths: Any, values: Any, se: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        extrapolate(values, se, widths)
    with pytest.raises(ValueError, match=message):
        convergence_rate(widths, values, se)


def two_networks(m: int, exploded: int = 0) -> Comparison:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FailedPathsWarning)
        return compare(
            ensemble(200, 0, m=m, exploded=exploded, architecture="MLP", depth_to_width=1.0),
            network(100, 1, m=m),
            network(100, 2, m=m, width=200),
        )


@pytest.mark.parametrize(("m", "columns"), [(1, 1), (2, 2), (4, 3)])
def test_figure_states_what_it_shows(tmp_path: Path, m: int, columns: int) -> None:
    pytest.importorskip("matplotlib")
    file = tmp_path / "figure.png"
    figure = two_networks(m, exploded=20).plot(file)
    assert file.read_bytes().startswith(b"\x89PNG")
    assert list(tmp_path.iterdir()) == [file]
    assert len(figure.axes) == 2 * columns
    title = figure.get_suptitle()
    for part in ("MLP", "T = depth/width = 1", "200 paths, 20 failed (20 exploded)", "n=100", "n=200"):
        assert part in title
    notes = [text.get_text() for ax in figure.axes[columns:] for text in ax.texts]
    assert len(notes) == columns
    assert all("20 of 200: limit (SDE)" in note for note in notes)


def test_figure_without_matplotlib_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    original = builtins.__import__

    def blocked(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return original(name, *args, **kwargs)

    comparison = two_networks(2)
    monkeypatch.setattr(builtins, "__import__", blocked)
    with pytest.raises(ImportError, match=r"covsde\[plot\]"):
        comparison.plot()


def test_training_is_compared_in_outputs_losses_and_movement(tmp_path: Path) -> None:
    mlp, V0 = cs.MLP(cs.Identity(), 0.5), np.array([[1.0, 0.3], [0.3, 1.0]])
    settings: dict[str, Any] = {"targets": [1.0, -1.0], "updates": 1}
    limit = cs.train(mlp, V0, paths=2000, steps=20, **settings)
    networks = [cs.train_networks(mlp, V0, width=n, draws=2000, **settings) for n in (40, 80)]
    c = compare(limit, *networks)
    names = ("f(0) at the end", "f(1) at the end", "loss at the end", "|h(end) - h(0)|²/n of input 0 at τ = 1")
    assert {d.statistic for d in c.distances} == set(names)
    # Widths of 40 and 80 are close to the limit, and a network that does not learn is not.
    rows = {(r.statistic, r.label): r for r in c.rows}
    assert all(abs(rows[f"median {name}", "networks, width 80"].z) < 5 for name in names)
    untrained = cs.train_networks(mlp, V0, width=80, draws=2000, learning_rate=0.0, **settings)
    assert max(abs(r.z) for r in compare(limit, untrained).rows) > 20
    figure = c.plot(tmp_path / "training.png")
    assert len(figure.axes) == 2 * len(names)
    assert "networks, width 80" in str(c)
    json.dumps(c.to_dict())


def test_a_deterministic_limit_of_training_is_compared_in_means() -> None:
    resnet, settings = cs.ResNet(jax.nn.relu), {"targets": [1.0], "updates": 1}
    limit = cs.train(resnet, np.ones((1, 1)), paths=2048, depth=4, **settings)
    c = compare(limit, cs.train_networks(resnet, np.ones((1, 1)), width=64, depth=4, draws=500, **settings))
    assert [r.statistic for r in c.rows] == ["mean f(0) at the end", "mean loss at the end"]
    assert c.rows[0].reference_se > 0
    assert abs(c.rows[0].z) < 5
    assert c.distances == ()


def test_gradients_velocities_and_unshaped_networks_are_compared() -> None:
    mlp, V0 = cs.MLP(cs.Identity(), 0.5), np.array([[1.0, 0.3], [0.3, 1.0]])
    gradients = compare(
        cs.simulate_gradients(mlp, V0, paths=1000), cs.sample_network_gradients(mlp, V0, width=60, draws=1000)
    )
    assert all(abs(r.z) < 5 for r in gradients.rows if r.statistic.startswith("median"))
    unshaped = cs.simulate_unshaped(cs.MLP(cs.LeakyReLU(0.0), 0.5), paths=500)
    assert {d.statistic for d in compare(unshaped, unshaped).distances} == {"log q at τ = 1", "log V/V₀ at τ = 1"}


def test_results_of_two_kinds_are_not_compared() -> None:
    mlp, V0 = cs.MLP(cs.Identity(), 0.5), np.eye(2)
    gradients = cs.simulate_gradients(mlp, V0, paths=50)
    with pytest.raises(ValueError, match="compare results of one kind"):
        compare(cs.train(mlp, V0, targets=[1.0, -1.0], updates=1, paths=50, steps=5), gradients)
    with pytest.raises(ValueError, match="statistics are for ensembles"):
        compare(gradients, gradients, statistics={})
    with pytest.raises(ValueError, match="needs results of covsde"):
        compare(np.eye(2), gradients)
