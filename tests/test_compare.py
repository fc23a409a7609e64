"""Comparisons: distances against scipy, calibration of z-scores, rates, table and figure."""

import builtins
import dataclasses
import json
import pickle
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

import covsde as cs
from covsde.comparison.compare import compare
from covsde.comparison.covariances import Comparison, common_times, similar_pairs
from covsde.comparison.extrapolation import convergence_rate, extrapolate
from covsde.comparison.laws import kolmogorov_smirnov, wasserstein
from covsde.results.ensemble import Ensemble
from covsde.results.status import FailedPathsWarning, PathStatus


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


def test_a_limit_after_networks_and_lists_of_results_are_refused() -> None:
    limit, networks = ensemble(50, 0), network(50, 1)
    with pytest.raises(ValueError, match=r"limit must come first, and 'limit' comes after 'network, width 100'"):
        compare(networks, limit)
    with pytest.raises(ValueError, match=r"compare\(limit, \*networks\)"):
        compare(limit, [networks, networks])
    compare(networks, network(50, 2))
    compare(limit, ensemble(50, 2))


def test_a_comparison_survives_pickling() -> None:
    c = compare(ensemble(50, 0), network(50, 1))
    again = pickle.loads(pickle.dumps(c))
    assert again.rows == c.rows
    assert again.rows_at(0.5) == c.rows_at(0.5)


def test_ensembles_on_different_inputs_are_refused() -> None:
    with pytest.raises(ValueError, match="m=3 inputs and the limit has m=2"):
        compare(ensemble(5, 0), network(5, 1, m=3))
    with pytest.raises(ValueError, match="networks must hold"):
        compare(ensemble(5, 0))


def test_ensembles_are_compared_where_their_inputs_agree_up_to_rounding() -> None:
    V0 = np.array([[1.0, 0.3], [0.3, 1 / 3]])
    limit, same = ensemble(50, 0, V0=V0), network(50, 1, V0=V0.astype(np.float32))
    compare(limit, same, network(50, 2))  # made by hand, without V0
    compare(ensemble(50, 0), same)
    # Another scale, another order, another angle.
    for other in (1.001 * V0, V0[::-1, ::-1], [[1.0, 0.3001], [0.3001, 1 / 3]]):
        with pytest.raises(ValueError, match="'network, width 100' has another V0 than the limit; run both on the"):
            compare(limit, same, network(50, 1, V0=other))


def test_a_network_of_another_architecture_answers_on_the_same_inputs_only() -> None:
    resnet, pair = cs.ResNet("relu"), np.array([[1.0, 0.3], [0.3, 1.0]])
    limit = cs.simulate(cs.matching_mlp(resnet, 0.01), pair, paths=64, steps=2, dtype=np.float32)
    settings: dict[str, Any] = {"width": 8, "depth": 4, "draws": 64}
    compare(limit, cs.sample_networks(resnet, pair, **settings))
    with pytest.raises(ValueError, match="'networks, width 8' has another V0 than the limit"):
        compare(limit, cs.sample_networks(resnet, 2 * pair, **settings))


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
    with pytest.raises(ValueError, match="statistics: 'x' must name a function"):
        compare(ensemble(5, 0), network(5, 1), statistics={"x": ("mode", np.linalg.det)})


def test_a_comparison_at_the_end_of_a_cell_is_its_table() -> None:
    comparison = cs.compare(network(50, 0), network(50, 1, label="<b>"))
    assert repr(comparison) == str(comparison)
    html = comparison._repr_html_()
    assert html.count("<table>") == html.count("</table>") == 2
    assert html.count("<tr>") == len(comparison.rows) + len(comparison.distances) + 2
    assert f"<td>{comparison.rows[0].network:.4g}</td>" in html
    assert "reference: network, width 100: 50 paths, 0 failed" in html
    assert "not in KS" in html
    assert "&lt;b&gt;" in html
    assert "<b>" not in html


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


def training(paths: int, seed: int, speed: float = 1.0, inputs: int = 2, **metadata: Any) -> cs.Training:
    """Outputs that start as normals and move towards their targets at a rate."""
    y = np.resize([1.0, -1.0], inputs)
    updates, N = np.arange(4.0), 4 * inputs
    start = np.random.default_rng(seed).standard_normal((paths, inputs))
    f = y + (start - y) * np.exp(-speed * updates)[:, None, None]
    Phi = np.broadcast_to(np.eye(N), (2, paths, N, N)) * (1 + speed * start[:, 0] ** 2)[:, None, None]
    return cs.Training(
        tau=np.array([0.0, 1.0]),
        targets=y,
        outputs=f,
        losses=0.5 * np.sum((f - y) ** 2, axis=2),
        Phi=Phi,
        G=Phi,
        A=Phi,
        ntk=np.ones((4, paths, inputs, inputs)),
        status=np.zeros(paths, np.int8),
        metadata={"kind": "limit", "label": "limit", "architecture": "MLP", **metadata},
    )


def test_training_is_compared_in_outputs_losses_and_movement(tmp_path: Path) -> None:
    limit, network = training(2000, 0), training(2000, 1, kind="network", width=80, label="networks, width 80")
    c = compare(limit, network)
    names = ("f(0) at the end", "f(1) at the end", "loss at the end", "|h(end) - h(0)|²/n of input 0 at τ = 1")
    assert [d.statistic for d in c.distances] == list(names)
    assert len(c.rows) == 3 * len(names)
    assert all(abs(r.z) < 5 for r in c.rows)
    slower = compare(limit, training(2000, 2, speed=0.7, kind="network", width=80))
    assert all(abs(r.z) > 5 for r in slower.rows if r.statistic.startswith("median"))
    figure = c.plot(tmp_path / "training.png")
    assert len(figure.axes) == 2 * len(names)
    assert "networks, width 80" in str(c)
    json.dumps(c.to_dict())


def test_only_results_of_one_problem_are_compared() -> None:
    settings: dict[str, Any] = {"V0": [[1.0, 0.3], [0.3, 1.0]], "targets": [1.0, -1.0], "loss": "squared"}
    limit = training(50, 0, **settings)
    compare(limit, training(50, 1, **settings))
    for what, other in (("V0", [[3.0, 0.9], [0.9, 3.0]]), ("targets", [1.0, 5.0]), ("loss", "logistic")):
        with pytest.raises(ValueError, match=f"has another {what} than the limit"):
            compare(limit, training(50, 1, **(settings | {what: other})))
    # Two lambdas have one name; within one version of Python their code says more.
    lambdas = [settings | {"loss": "<lambda>", "loss_identity": code} for code in ("a", "b")]
    with pytest.raises(ValueError, match="has another loss than the limit, of the same name"):
        compare(training(50, 0, **lambdas[0]), training(50, 1, **lambdas[1]))
    versions = [{"versions": {"python": number}} for number in ("3.11.9", "3.12.4")]
    compare(training(50, 0, **lambdas[0], **versions[0]), training(50, 1, **lambdas[1], **versions[1]))


def test_training_without_a_value_is_in_no_statistic_and_an_exploded_loss_is_infinite() -> None:
    limit, network = training(500, 0), training(500, 1)
    network.status[:3], network.status[3:8] = cs.PathStatus.NOT_FINITE, cs.PathStatus.EXPLODED
    for X in (network.outputs, network.losses):
        X[-1, 3:8] = np.nan
    with pytest.warns(cs.FailedPathsWarning, match="8 of 500"):
        rows = {row.statistic: row for row in compare(limit, network).rows}
    mean = rows["mean f(0) at the end"]
    assert mean.network_failures == 8
    np.testing.assert_allclose(mean.network, network.outputs[-1, 8:, 0].mean())
    fine = np.concatenate([network.losses[-1, 8:], np.full(5, np.inf)])
    np.testing.assert_allclose(rows["median loss at the end"].network, np.median(fine), rtol=0.02)


def test_failed_training_is_counted_and_left_out_of_means() -> None:
    limit, network = training(500, 0), training(500, 1)
    for name in ("outputs", "losses"):
        getattr(network, name)[2:, :50] = np.nan
    network.status[:50] = PathStatus.EXPLODED
    with pytest.warns(FailedPathsWarning, match="50 of 500 paths"):
        c = compare(limit, network)
    assert c.rows[0].network_failures == 50
    assert c.distances[0].network_left_out_ks == 50


def test_a_deterministic_limit_of_training_is_compared_in_means() -> None:
    f = np.linspace(0, 1, 4)[:, None]
    K = np.ones((2, 4, 4))
    limit = cs.TrainedKernels(
        tau=np.array([0.0, 1.0]),
        targets=np.ones(1),
        outputs=f,
        losses=0.5 * (f[:, 0] - 1) ** 2,
        H=K,
        Phi=K,
        G=K,
        A=K,
        ntk=np.ones((4, 1, 1)),
        standard_error={"outputs": np.full((4, 1), 0.01)},
        status=PathStatus.FINE,
        metadata={"kind": "limit"},
    )
    networks = training(500, 3, inputs=1, kind="network")
    c = compare(limit, networks)
    assert [r.statistic for r in c.rows] == ["mean f(0) at the end", "mean loss at the end"]
    mean = networks.mean(lambda r: r.outputs[-1, :, 0])
    assert c.rows[0].z == pytest.approx((mean.value - 1) / np.hypot(0.01, mean.standard_error))
    assert c.distances == ()
    assert len(c.plot().axes) == 4


def gradients(paths: int, seed: int) -> cs.Gradients:
    X = np.random.default_rng(seed).standard_normal((3, paths, 2, 12))
    G = X @ np.swapaxes(X, 2, 3) / 12
    tau, status = np.linspace(0, 1, 3), np.zeros(paths, np.int8)
    return cs.Gradients(
        tau=tau, Phi=G, G=G, A=G, outputs=X[0, :, :, 0], ntk=G[0], status=status, metadata={"kind": "limit"}
    )


def test_gradients_velocities_and_unshaped_networks_are_compared() -> None:
    c = compare(gradients(1000, 0), gradients(1000, 1))
    assert [d.statistic for d in c.distances] == ["log G_00 at τ = 0", "corr G_01 at τ = 0", "log Phi_00 at τ = 1"]
    assert all(abs(r.z) < 5 for r in c.rows)
    assert len(c.plot().axes) == 6
    S = np.random.default_rng(2).exponential(size=(2, 300, 1, 1))
    velocities = cs.Velocities(
        tau=np.array([0.0, 1.0]),
        Phi=S,
        G=S,
        R=S[..., 0],
        Y=S,
        S=S,
        outputs=S[0, :, 0],
        status=np.zeros(300, np.int8),
        metadata={"kind": "limit"},
    )
    assert {r.z for r in compare(velocities, velocities).rows} == {0.0}
    w = np.cumsum(np.random.default_rng(3).exponential(size=(3, 200)), axis=0)
    unshaped = cs.UnshapedEnsemble(
        np.array([0.0, 0.5, 1.0]), w, np.log(w), np.zeros(200), np.ones(200), {"clock": 1.0, "kind": "limit"}
    )
    assert {d.statistic for d in compare(unshaped, unshaped).distances} == {"log q at τ = 1", "log V/V₀ at τ = 1"}
    started, elsewhere = (
        dataclasses.replace(unshaped, metadata=unshaped.metadata | {"rho0": rho0}) for rho0 in (0.3, 0.6)
    )
    compare(unshaped, started, elsewhere)  # a limit that has forgotten its inputs
    with pytest.raises(ValueError, match="has another rho0 than the limit"):
        compare(started, elsewhere)


def test_results_of_two_kinds_are_not_compared() -> None:
    with pytest.raises(ValueError, match="compare results of one kind"):
        compare(training(50, 0), gradients(50, 0))
    with pytest.raises(ValueError, match="statistics are for ensembles"):
        compare(gradients(50, 0), gradients(50, 1), statistics={})
    with pytest.raises(ValueError, match="limit must be a result of covsde"):
        compare(np.eye(2), gradients(50, 0))
    longer = training(50, 1)
    shorter = dataclasses.replace(longer, outputs=longer.outputs[:3], losses=longer.losses[:3])
    with pytest.raises(ValueError, match="run both as far"):
        compare(longer, shorter)
