"""Every figure script is listed, explains itself, and writes what it promises; one of them is drawn here."""

import importlib
import json
import re
import sys
from pathlib import Path

import matplotlib
import numpy as np
import pytest

import covsde as cs
from covsde.cli.catalogue import EXPERIMENTS

FOLDER = Path(__file__).parent.parent / "experiments"
NOT_LISTED = {"all_figures", "common", "mutations", "validate"}
SCRIPTS = sorted({path.stem for path in FOLDER.glob("*.py")} - NOT_LISTED)


@pytest.fixture
def experiments(monkeypatch):
    """Import scripts by name, as if their folder were the working directory, and forget them afterwards."""
    monkeypatch.syspath_prepend(str(FOLDER))
    before = set(sys.modules)
    with matplotlib.rc_context():
        yield importlib.import_module
    for name in set(sys.modules) - before:
        if str(FOLDER) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def test_the_list_names_every_script_and_no_other():
    assert sorted(e.name for e in EXPERIMENTS) == SCRIPTS


@pytest.mark.parametrize("name", SCRIPTS)
def test_script_explains_itself_and_cites_what_the_list_cites(name, experiments, capsys):
    module = experiments(name)
    with pytest.raises(SystemExit) as stopped:
        module.main(["--help"])
    assert stopped.value.code == 0
    text = capsys.readouterr().out
    for option in ("--quick", "--seed", "--paths", "--draws", "--out"):
        assert option in text
    (listed,) = (e for e in EXPERIMENTS if e.name == name)
    for number in re.findall(r"\d{4}\.\d{5}", listed.source):
        assert number in module.__doc__


def test_script_refuses_what_it_would_ignore(experiments, tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        experiments("transformer_trainability").main(["--paths", "10", "--out", str(tmp_path / "out")])
    assert stopped.value.code == 2
    assert "--paths has no meaning" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_figure_comes_with_its_data_and_its_table(experiments, tmp_path, capsys):
    command = ["--quick", "--paths", "400", "--draws", "200", "--seed", "3", "--out", str(tmp_path)]
    assert experiments("mlp_shaped_density").main(command) == 0
    assert {file.name for file in tmp_path.iterdir()} == {
        f"mlp_shaped_density.{s}" for s in ("png", "pdf", "npz", "json")
    }
    record = json.loads((tmp_path / "mlp_shaped_density.json").read_text())
    assert record["seed"] == 3
    assert record["paths"] == 400
    printed = capsys.readouterr().out
    assert record["caption"] in printed
    assert "none stopped" in record["caption"]
    assert printed.count("\n| ") == len(record["table"]["rows"])
    with np.load(tmp_path / "mlp_shaped_density.npz", allow_pickle=False) as data:
        # Networks and the exact law agree on E ρ² within four standard errors and the O(1/n) difference.
        rho = data["networks"][-1]
        exact = dict(((r[0], r[1]), r[3]) for r in record["table"]["rows"])[(1.0, "SDE, exact")]
        assert abs(np.mean(rho**2) - exact) < 4 * np.std(rho**2) / rho.size**0.5 + 0.01


def test_all_figures_counts_what_failed_and_goes_on(experiments, tmp_path, capsys, monkeypatch):
    every = experiments("all_figures")
    drawn = []
    monkeypatch.setattr(
        every, "draw", lambda name, options, out: drawn.append(name) or ("no" if len(drawn) == 1 else "")
    )
    assert every.main(["--quick", "--only", "output_density", "mlp_covariance", "--out", str(tmp_path)]) == 1
    assert drawn == ["output_density", "mlp_covariance"]
    told = capsys.readouterr()
    assert "1 of 2 figures" in told.out
    assert "failed: output_density: no" in told.err
    assert sorted([*every.scripts(), "demo_digits"]) == SCRIPTS


def test_every_changed_constant_stands_in_the_package_exactly_once(experiments):
    mutations = experiments("mutations")
    mutations.refuse_stale(mutations.MUTANTS)
    stale = mutations.MUTANTS[0]._replace(name="stale", old="1.1 * self.kappa")
    with pytest.raises(SystemExit, match=r"stale: .* occurs 0 times in covsde/covariance/drifts\.py"):
        mutations.refuse_stale((stale,))
    page = (FOLDER.parent / "docs" / "mutations.md").read_text()
    assert page.count("| `covsde/") == len(mutations.MUTANTS)


def test_z_scores_are_read_from_the_columns_that_have_them(experiments):
    text = """## A section
| what | z | z limit | slope | 1/n of z-scores |
|---|---|---|---|---|
| a | -0.5 | +1.2 -2.0, +0.1 | +9.9 | +8.8 |
| b | +0.0 | | | |

| z of another table, which has none | b |
Not in a table: +3.0 | z
"""
    module = experiments("validation.z_scores")
    assert module.z_of(text) == [-0.5, 1.2, -2.0, 0.1, 0.0]
    median, high = module.largest_of_normals(1)
    assert median == pytest.approx(0.6745, abs=1e-4)
    assert high == pytest.approx(1.96, abs=1e-2)


def test_every_section_of_the_page_of_validation_has_a_module(experiments):
    for name in experiments("validate").SECTIONS:
        assert callable(experiments(f"validation.{name}").section)


def test_the_property_sweep_sees_what_no_status_says(experiments):
    sweep, draws = experiments("validation.property_sweep"), experiments("validation.sweep_draws")
    case = draws.Case("identity", "generic", cs.MLP(cs.Identity(), 1.0), np.eye(2))

    def seen(matrix, status=0, stop=1.0):
        V = np.tile(np.eye(2), (3, 2, 1, 1))
        V[-1, 1] = matrix
        part = {"V": V, "status": np.asarray([0, status], np.int8), "stop": np.asarray([1.0, stop])}
        return sweep.broken(cs.Strang(), case, part)

    nan, beyond = np.full((2, 2), np.nan), np.asarray([[1.0, 1 + 1e-9], [1 + 1e-9, 1.0]])
    assert seen(np.ones((2, 2))) is None
    assert seen(nan) == "not finite"
    assert seen(nan, cs.PathStatus.LOST_PSD, 0.5) is None
    assert seen(nan, cs.PathStatus.LOST_PSD, 1.0) == "not finite before its stop"
    assert seen(np.eye(2), cs.PathStatus.LOST_PSD, 0.5) == "numbers after its stop"
    assert seen(-np.eye(2)) == "a negative variance"
    assert seen(beyond).startswith("outside of the cone by 1.0e-09")


def test_the_property_sweep_draws_what_solvers_take(experiments):
    draws, rng = experiments("validation.sweep_draws"), np.random.default_rng(0)
    for solver in (cs.Strang(), cs.WishartStep(), cs.LampertiEuler()):
        cases = draws.mlps(solver, draws.PIECEWISE, 2, 40, rng)
        assert {case.start for case in cases} >= set(draws.STARTS) - {"a zero input"}
        for case in cases:
            solver.check(case.architecture.limit(), 2, 1 / draws.STEPS, "steps")
