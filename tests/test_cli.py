import argparse
import dataclasses
import json
import os
import subprocess
import sys

import numpy as np
import pytest

import covsde
from covsde import Ensemble, Training
from covsde.architectures.registry import FAMILIES
from covsde.cli import _as_options, compare, main, parser
from covsde.cli.inputs import read_inputs
from covsde.inputs.matrices import read_matrix

SMALL = ["--depth-to-width", "0.5", "--paths", "64", "--draws", "32", "--widths", "8", "16"]
RESULTS = {"comparison.png", "comparison.pdf", "comparison.json", "limit.npz", "network-width-8.npz"}


def inputs(m=2, d=5):  # two inputs compile fastest
    return np.random.default_rng(0).standard_normal((m, d))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.savetxt("x.csv", inputs(), delimiter=",", header="a,b,c,d,e", comments="")
    np.save("x.npy", inputs())
    return tmp_path


def refused(arguments, capsys):
    """The sentence with which the command refuses these arguments."""
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("covsde: error: ")
    assert err.count("\n") == 1
    assert "Traceback" not in err
    return err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "give either --inputs FILE or --gram FILE"),
        (["--inputs", "x.npy", "--gram", "x.npy"], "give either --inputs FILE or --gram FILE"),
        (["--inputs", "none.npy"], "none.npy cannot be read (No such file or directory)"),
        (["--inputs", "x.xlsx"], "must be a .npy or .csv file"),
        (["--gram", "x.npy"], "must hold a square Gram matrix, got shape (2, 5)"),
        (["--inputs", "x.npy", "--activation", "swish"], "invalid choice: 'swish'"),
        (["--inputs", "x.npy", "--a", "2"], "--a has no meaning for --activation relu"),
        (["--inputs", "x.npy", "--activation", "tanh", "--c-plus", "1"], "--c-plus has no meaning"),
        (["--inputs", "x.npy", "--activation", "tanh", "--a", "0"], "a must not be 0"),
        (["--inputs", "x.npy", "--c-minus", "nan"], "c_minus must be a finite number"),
        (["--inputs", "x.npy", "--c-plus", "1e200"], "must be at most 1e4 in size"),
        (["--inputs", "x.npy", "--depth-to-width", "-1"], "depth_to_width must be a positive finite number, got -1"),
        (["--inputs", "x.npy", "--widths", "8", "1"], "--widths 1 is smaller than the number of inputs m=2"),
        (["--inputs", "three.npy", "--widths", "2"], "--widths 2 is smaller than the number of inputs m=3"),
        (["--inputs", "x.npy", "--widths", "8", "8"], "must not repeat a width"),
        (["--inputs", "x.npy", "--widths", "0", "--method", "weights"], "--widths must be an integer >= 1, got 0"),
        (["--inputs", "x.npy", "--paths", "0"], "--paths must be an integer >= 2, got 0"),
        (["--inputs", "x.npy", "--paths", "many"], "invalid int value: 'many'"),
        (["--inputs", "x.npy", "--draws", "1"], "--draws must be an integer >= 2, got 1"),
        (["--inputs", "x.npy", "--steps", "0"], "--steps must be an integer >= 1, got 0"),
        (["--inputs", "x.npy", "--c-plus", "9", "--c-minus", "-9", "--steps", "1"], "--steps 1 is too few"),
        (["--inputs", "x.npy", "--activation", "sin", "--a", "1e-200"], "a must not be 0 or nearly so"),
        (["--inputs", "x.npy", "--c-plus", "1e4"], "the limit would need about"),
        (["--inputs", "x.npy", "--seed", "-1"], "--seed must be an integer from 0"),
        (["--inputs", "x.npy", "--rows", "0", "3"], "there is no row 3 in x.npy; its rows are 0 to 1"),
        (["--inputs", "x.npy", "--rows", "-1"], "there is no row -1"),
        (["--inputs", "x.npy", "--rows", "1", "1"], "must not repeat a row"),
        (["--inputs", "x.npy", "--out", "x.npy"], "x.npy cannot be written to (not a directory)"),
        (["--inputs", "x.npy", "--out", "x.npy/deeper"], "cannot be written to"),
        (["--inputs", "x.npy", "--out", 300 * "x"], "cannot be written to (File name too long); choose another"),
        (["--inputs", "x.npy", "--out", "a\0b"], "--out: 'a\\x00b' names no file"),
        (["--inputs", "a\0b.npy"], "--inputs: 'a\\x00b.npy' names no file"),
        (["--inputs", 300 * "x" + ".npy"], "cannot be read (File name too long)"),
        (["--inputs", "x.npy", "--paths", "1_000"], "--paths: invalid int value: '1_000', give digits alone"),
        (["--inputs", "x.npy", "--c-plus", "1_0.5"], "--c-plus: invalid float value: '1_0.5'"),
        (["--inputs", "x.npy", "--nonsense"], "unrecognized arguments: --nonsense"),
    ],
)
def test_bad_arguments(folder, capsys, arguments, sentence):
    np.save("three.npy", inputs(3))
    before = sorted(folder.rglob("*"))
    small = [] if {"--paths", "--draws", "--widths"} & set(arguments) else SMALL
    assert sentence in refused(["compare", *small, *arguments], capsys)
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("1,2\n3,x\n", "line 2, column 2 holds 'x', which is not a number"),
        ("1,b\n3,4\n", "line 1, column 2 holds 'b', which is not a number"),
        ("a,b\n3,\n", "line 2, column 2 is empty"),
        ("1,2\n3\n", "line 2 has 1 columns and the rows before it have 2"),
        ("1|2\n3|4\n", "give numbers separated by commas"),
        ("1,2\n3,nan\n", "NaN or infinite value (row 1, column 1"),
        ("1,2\n3,1e200\n", "rescale the inputs"),
        ("a,b\n", "holds no numbers"),
        ("", "holds no numbers"),
        ("1,2\n0,0\n", "row 1 is zero"),
        ("\udcff\udc80", "no text in UTF-8 (byte 0 is 0xff)"),
    ],
)
def test_bad_csv(folder, capsys, text, sentence):
    (folder / "bad.csv").write_bytes(text.encode(errors="surrogateescape"))
    assert sentence in refused(["compare", "--inputs", "bad.csv", *SMALL], capsys)
    assert not (folder / "covsde-compare").exists()


@pytest.mark.parametrize(
    ("array", "sentence"),
    [
        (np.ones(3), "got shape (3,)"),
        (np.ones((0, 3)), "got shape (0, 3)"),
        (np.array([[1.0, np.nan]]), "NaN or infinite value"),
        (np.array([["1", "2"]]), "must hold real numbers"),
        (np.array([[1j]]), "must hold real numbers"),
        (np.array([[1, None]], object), "holds Python objects, which take pickle to read"),
    ],
)
def test_bad_npy(folder, capsys, array, sentence):
    np.save("bad.npy", array)
    assert sentence in refused(["compare", "--inputs", "bad.npy", *SMALL], capsys)
    assert not (folder / "covsde-compare").exists()


def test_damaged_npy(folder, capsys):
    (folder / "bad.npy").write_bytes((folder / "x.npy").read_bytes()[:-9])
    assert "damaged" in refused(["compare", "--inputs", "bad.npy", *SMALL], capsys)


@pytest.mark.parametrize(
    ("matrix", "sentence"),
    [
        ([[1.0, 2.0], [2.0, 1.0]], "not positive semidefinite"),
        ([[1.0, 0.2], [0.5, 1.0]], "not symmetric"),
    ],
)
def test_bad_gram(folder, capsys, matrix, sentence):
    np.save("V.npy", np.array(matrix))
    assert sentence in refused(["compare", "--gram", "V.npy", *SMALL], capsys)


@pytest.mark.parametrize(
    ("error", "code", "sentence"),
    [
        (MemoryError("no room"), 2, "too large for this machine (no room); ask for less."),
        (OverflowError("int too large"), 2, "too large for this machine (int too large)"),
        (KeyboardInterrupt(), 130, "start it with --resume"),
    ],
)
def test_what_stops_a_run_is_one_sentence(folder, capsys, monkeypatch, error, code, sentence):
    def stop(*args, **kwargs):
        raise error

    monkeypatch.setattr(compare.simulate, "plan", stop)
    assert main(["compare", "--inputs", "x.csv", *SMALL]) == code
    err = capsys.readouterr().err.strip()
    assert sentence in err
    assert "\n" not in err
    assert not (folder / "covsde-compare").exists()


def test_numbers_beyond_any_machine(folder, capsys):
    assert "--paths must be" in refused(["compare", "--inputs", "x.csv", "--paths", "9" * 400], capsys)
    assert "--widths must be below" in refused(["compare", "--inputs", "x.csv", "--widths", "3000000000"], capsys)


def test_bad_input_leaves_earlier_results_alone(folder, capsys):
    (folder / "out").mkdir()
    (folder / "out" / "comparison.json").write_text("kept")
    refused(["compare", "--inputs", "x.npy", "--out", "out", "--widths", "1"], capsys)
    assert [path.name for path in (folder / "out").iterdir()] == ["comparison.json"]
    assert (folder / "out" / "comparison.json").read_text() == "kept"


def test_no_command(capsys):
    assert "name a command" in refused([], capsys)


def test_compare_csv(folder, capsys):
    assert main(["compare", "--inputs", "x.csv", "--out", "deep/out", "--seed", "3", *SMALL]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "mean rho_01" in out
    assert "networks, width 16" in out
    produced = folder / "deep" / "out"
    assert {path.name for path in produced.iterdir()} == RESULTS | {"network-width-16.npz"}
    content = json.loads((produced / "comparison.json").read_text())
    assert [network["metadata"]["width"] for network in content["networks"]] == [8, 16]
    limit = Ensemble.load(produced / "limit.npz")
    assert limit.V.shape[1:] == (64, 2, 2)
    np.testing.assert_allclose(limit.V[0, 0], covsde.gram(inputs()), atol=1e-12)
    assert Ensemble.load(produced / "network-width-8.npz").metadata["depth"] == 4
    # The limit is the one that Python gives for the same seed.
    mlp = covsde.MLP(covsde.ShapedReLU(0.5, -0.5), 0.5)
    same = covsde.simulate(mlp, covsde.gram(inputs()), paths=64, key=3)
    np.testing.assert_array_equal(limit.V, same.V)


def test_gram_rows_unit_quiet(folder, capsys):
    V0 = covsde.gram(inputs(10, 12))
    np.save("V.npy", V0)
    options = ["--gram", "V.npy", "--rows", "7", "2", "--normalise", "unit", "--quiet", "--activation", "linear"]
    assert main(["compare", *options, *SMALL[:-1]]) == 0
    assert capsys.readouterr().out.startswith("reference")
    start = Ensemble.load("covsde-compare/limit.npz").V[0, 0]
    rho = V0[7, 2] / np.sqrt(V0[7, 7] * V0[2, 2])
    np.testing.assert_allclose(start, [[1, rho], [rho, 1]], atol=1e-12)


def test_first_rows_of_a_large_file(folder):
    np.save("many.npy", inputs(9, 20))
    found = read_inputs(parser().parse_args(["compare", "--inputs", "many.npy"]))
    assert found.V0.shape == (8, 8)
    assert any("first 8 of 9 inputs" in note for note in found.notes)


@pytest.mark.parametrize("text", ["1,2\n3,4\n", "a,b\r\n1,2\r\n\r\n3,4\r\n", "\ufeffa,b\n 1, 2\n3,4", '"1","2"\n3,4'])
def test_good_csv(tmp_path, text):
    path = tmp_path / "x.csv"
    path.write_bytes(text.encode())
    np.testing.assert_array_equal(read_matrix(path), [[1.0, 2.0], [3.0, 4.0]])


def test_failed_paths_are_told_in_sentences(folder, capsys):
    np.save("large.npy", 4 * inputs())
    options = ["--activation", "softplus", "--depth-to-width", "1", "--a", "0.5"]
    assert main(["compare", "--inputs", "large.npy", *SMALL[2:], *options]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "Note: " in out
    assert "FailedPathsWarning" not in out
    content = json.loads((folder / "covsde-compare" / "comparison.json").read_text(), parse_constant=pytest.fail)
    assert content["limit"]["failures"]["EXPLODED"] > 0


def test_interrupt_and_resume(folder, capsys, monkeypatch):
    command = ["compare", "--inputs", "x.csv", *SMALL]
    sample = compare.sample_networks.plan

    def stop(computed):
        raise KeyboardInterrupt

    def interrupted(*args, **kwargs):
        plan = sample(*args, **kwargs)
        return dataclasses.replace(plan, chunks=dataclasses.replace(plan.chunks, finish=stop))

    monkeypatch.setattr(compare.sample_networks, "plan", interrupted)
    assert main(command) == 130
    assert "start it with --resume" in capsys.readouterr().err
    assert not (folder / "covsde-compare").exists()

    assert main([*command, "--resume"]) == 130
    assert "run the same command again" in capsys.readouterr().err
    kept = folder / "covsde-compare" / "checkpoint" / "limit"
    assert any(kept.glob("chunk-*.npz"))

    monkeypatch.setattr(compare.sample_networks, "plan", sample)
    assert "other settings" in refused_after_start([*command, "--resume", "--seed", "1"], capsys)
    assert any(kept.glob("chunk-*.npz"))
    assert main([*command, "--resume"]) == 0
    resumed = Ensemble.load("covsde-compare/limit.npz")
    assert {path.name for path in (folder / "covsde-compare").iterdir()} == RESULTS | {"network-width-16.npz"}

    assert main([*command, "--out", "once"]) == 0
    np.testing.assert_array_equal(resumed.V, Ensemble.load("once/limit.npz").V)


def refused_after_start(arguments, capsys):
    assert main(arguments) == 2
    err = capsys.readouterr().err
    assert err.startswith("covsde: error: ")
    assert err.count("\n") == 1
    return err


def test_compare_serves_transformers_and_a_quick_look(folder, capsys):
    options = ["--architecture", "transformer", "--heads", "2", "--mask", "causal", "--depth-to-width", "0.25"]
    assert main(["compare", "--inputs", "x.csv", "--quick", "--widths", "8", "--draws", "16", *options]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "1000 paths" in out
    limit = Ensemble.load("covsde-compare/limit.npz")
    transformer = covsde.Transformer(gamma=0.5, heads=2, mask="causal", depth_to_width=0.25)
    same = covsde.simulate(transformer, covsde.gram(inputs()), paths=1000)
    np.testing.assert_array_equal(limit.V, same.V)


@pytest.mark.parametrize("name", FAMILIES)
def test_compare_serves_every_family(folder, capsys, name):
    assert main(["compare", "--inputs", "x.csv", "--architecture", name, "--quiet", *SMALL[2:-1]]) == 0
    assert "reference" in capsys.readouterr().out


def test_an_activation_of_another_family_is_refused(folder, capsys):
    arguments = ["--inputs", "x.csv", "--architecture", "transformer", "--activation", "tanh"]
    assert "--activation tanh is not for --architecture transformer" in refused(["compare", *arguments], capsys)


# --- training ---------------------------------------------------------------------------------------------------------

FEW = ["--inputs", "x.csv", "--targets", "y.csv", "--updates", "1", "--paths", "32", "--draws", "16", "--widths", "12"]


@pytest.fixture
def targets(folder):
    np.savetxt("y.csv", [1.0, -1.0])
    return folder


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--inputs", "x.csv"], "give --targets FILE"),
        (["--inputs", "x.csv", "--targets", "none.csv"], "none.csv cannot be read"),
        (["--inputs", "x.csv", "--targets", "x.csv"], "must hold one column of numbers, got shape (2, 5)"),
        (["--inputs", "x.csv", "--targets", "three.npy"], "three.npy holds 3 numbers for 2 inputs"),
        (["--inputs", "x.csv", "--targets", "nan.npy"], "NaN or infinite value (number 1, counted from 0)"),
        (
            ["--inputs", "x.csv", "--targets", "half.npy", "--loss", "logistic"],
            "--loss logistic needs targets +1 or -1",
        ),
        ([*FEW, "--updates", "0"], "--updates must be an integer >= 1, got 0"),
        ([*FEW, "--learning-rate", "inf"], "--learning-rate must be a finite number"),
        ([*FEW, "--depth-to-width", "0"], "depth_to_width must be a positive finite number"),
        ([*FEW, "--steps", "3"], "--steps 3 is too few"),
        ([*FEW, "--widths", "12", "8"], "--widths 8 is too small for --method law"),
        ([*FEW, "--activation", "tanh", "--c-plus", "1"], "--c-plus has no meaning for --activation tanh"),
    ],
)
def test_bad_arguments_of_training(targets, capsys, arguments, sentence):
    np.save("three.npy", np.ones(3))
    np.save("nan.npy", np.array([1.0, np.nan]))
    np.save("half.npy", np.array([1.0, 0.5]))
    before = sorted(targets.rglob("*"))
    assert sentence in refused(["train", *arguments], capsys)
    assert sorted(targets.rglob("*")) == before


def test_train_csv(targets, capsys):
    np.savetxt("x.csv", inputs(3), delimiter=",")
    np.savetxt("y.csv", [1.0, 0.0, -1.0])
    assert main(["train", *FEW, "--rows", "2", "0", "--seed", "3", "--activation", "relu"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "mean f(0) at the end" in out
    produced = targets / "covsde-train"
    names = {"comparison.png", "comparison.pdf", "comparison.json", "limit.npz", "network-width-12.npz"}
    assert {path.name for path in produced.iterdir()} == names
    limit = Training.load(produced / "limit.npz")
    np.testing.assert_array_equal(limit.targets, [-1.0, 1.0])
    # The same that Python gives for the same seed.
    V0 = covsde.gram(inputs(3))[np.ix_([2, 0], [2, 0])]
    mlp = covsde.MLP(covsde.ShapedReLU(0.5, -0.5), 0.5)
    same = covsde.train(mlp, V0, targets=[-1.0, 1.0], updates=1, paths=32, key=3)
    np.testing.assert_array_equal(limit.outputs, same.outputs)
    assert Training.load(produced / "network-width-12.npz").metadata["depth"] == 6


def test_train_serves_resnets(targets, capsys):
    options = ["--architecture", "resnet", "--richness", "0.8", "--limit-depth", "4", "--depth", "4", "--train-readout"]
    assert main(["train", *FEW, *options, "--paths", "512"]) == 0
    assert "mean f(0) at the end" in capsys.readouterr().out
    limit = covsde.TrainedKernels.load("covsde-train/limit.npz")
    settings = {"updates": 1, "paths": 512, "depth": 4, "richness": 0.8, "train_readout": True}
    same = covsde.train(covsde.ResNet("tanh"), covsde.gram(inputs()), targets=[1.0, -1.0], **settings)
    np.testing.assert_array_equal(limit.outputs, same.outputs)


def test_train_serves_test_rows_classes_and_momentum_of_resnets(folder):
    np.save("x.npy", np.random.default_rng(0).standard_normal((5, 4)))
    np.save("y.npy", np.array([0.0, 1, 2, 1, 0]))
    options = [
        "--inputs",
        "x.npy",
        "--targets",
        "y.npy",
        "--architecture",
        "resnet",
        "--limit-depth",
        "3",
        "--depth",
        "3",
    ]
    options += ["--rows", "0", "1", "2", "--test-rows", "3", "4", "--loss", "cross_entropy", "--momentum", "0.5"]
    run = ["--updates", "2", "--paths", "512", "--draws", "8", "--widths", "24", "--method", "weights", "--quiet"]
    assert main(["train", *options, *run]) == 0
    limit = covsde.TrainedKernels.load("covsde-train/limit.npz")
    networks = Training.load("covsde-train/network-width-24.npz")
    assert limit.outputs.shape == (3, 5, 3)
    assert networks.outputs.shape == (3, 8, 5, 3)
    np.testing.assert_array_equal(limit.tests, [3, 4])
    assert limit.test_losses.shape == limit.accuracy(trained=False).shape == (3,)


POOL = ["scaling", "--inputs", "x.npy", "--targets", "y.npy", "--architecture", "mean-field", "--quick"]


@pytest.fixture
def pool(folder):
    x = np.random.default_rng(0).standard_normal((40, 6))
    np.save("x.npy", x)
    np.save("y.npy", (x[:, 0] > 0).astype(float))
    np.save("few.npy", x[:9])
    return folder


def test_scaling_predicts_and_measures(pool, capsys):
    assert main([*POOL, "--classes", "--samples", "5", "10", "20", "--quiet"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "capacity b = " in out
    assert [line.split()[0] for line in out.splitlines() if line.lstrip()[:1].isdigit()] == ["5", "10", "20"]
    produced = pool / "covsde-scaling"
    curves = {f"{name}-{kind}.npz" for name in ("learning-curve", "training") for kind in ("theory", "measured")}
    assert {path.name for path in produced.iterdir()} == {"scaling.png", "scaling.pdf", "scaling.json", *curves}
    # The same that Python gives for the same seed.
    x, y = np.load("x.npy"), np.load("y.npy")
    K = covsde.kernels(covsde.MeanFieldMLP("tanh", 2), covsde.gram(x), save_at=[0.0, 1.0]).ntk
    one = np.eye(2)[y.astype(int)]
    regression = covsde.scaling.KernelRegression(K, one - one.mean(axis=0), penalty=float(np.trace(K)) / 40)
    theory = covsde.scaling.ScalingLaw.load(produced / "learning-curve-theory.npz")
    np.testing.assert_allclose(theory.test, regression.predicted([5, 10, 20]).test)
    measured = covsde.scaling.LossCurves.load(produced / "learning-curve-measured.npz")
    np.testing.assert_array_equal(measured.test, regression.measured([5, 10, 20], draws=4, key=0).test)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--inputs", "few.npy"], "--inputs must hold at least 20 inputs for a spectrum, got 9"),
        (["--samples", "20", "10"], "--samples must increase and stay below the 40 inputs"),
        (["--samples", "10", "40"], "--samples must increase and stay below the 40 inputs"),
        (["--penalty", "-1"], "--penalty must be at least 0"),
        (["--draws", "1"], "--draws must be an integer >= 2"),
        (["--targets", "x.npy"], "x.npy"),
        (["--classes", "--targets", "half.npy"], "--classes needs targets 0, 1, …"),
        (["--architecture", "mlp"], "invalid choice: 'mlp'"),
        (["--beta", "2"], "--beta has no meaning for --architecture mean-field"),
    ],
)
def test_bad_arguments_of_scaling(pool, capsys, arguments, sentence):
    np.save("half.npy", np.full(40, 0.5))
    before = sorted(pool.rglob("*"))
    assert sentence in refused([*POOL, *arguments], capsys)
    assert sorted(pool.rglob("*")) == before


def test_list(capsys):
    assert main(["list"]) == 0
    out = capsys.readouterr().out
    assert "demo_digits" in out
    assert "arXiv 2206.02768" in out


def test_doctor_exit_code(capsys, monkeypatch):
    monkeypatch.setattr("covsde.cli.doctor.report", lambda: ("text", False))
    assert main(["doctor"]) == 1
    assert capsys.readouterr().out == "text\n"
    monkeypatch.setattr("covsde.cli.doctor.report", lambda: ("text", True))
    assert main(["doctor"]) == 0


def test_module_without_warnings():
    # What the other tests run in this process is covered by pytest's own filter; this covers the imports.
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-W", "error", "-m", "covsde", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"covsde {covsde.__version__}\n", "")


def test_train_reports_tests_of_rows_that_are_left_out(folder):
    x = np.random.default_rng(0).standard_normal((7, 5))
    np.savetxt("x.csv", x, delimiter=",")
    np.savetxt("y.csv", np.arange(7) % 3)
    options = [
        "--inputs",
        "x.csv",
        "--targets",
        "y.csv",
        "--rows",
        "0-2",
        "4",
        "--test-rows",
        "5-6",
        "--loss",
        "cross_entropy",
    ]
    small = [
        "--paths",
        "8",
        "--draws",
        "8",
        "--widths",
        "24",
        "--steps",
        "20",
        "--updates",
        "2",
        "--momentum",
        "0.5",
        "--quiet",
    ]
    assert main(["train", *options, *small, "--method", "weights"]) == 0
    run = Training.load("covsde-train/limit.npz")
    assert run.outputs.shape == (3, 8, 6, 3)
    np.testing.assert_array_equal(run.tests, [4, 5])
    assert run.test_losses is not None
    assert "test accuracy at the end" in (folder / "covsde-train" / "comparison.json").read_text()


def test_rows_to_test_are_checked(folder, capsys):
    for rows, part in (
        (["0-3"], "there is no range 0-3"),
        (["one"], "must be numbers of rows"),
        (["0-1"], "leaves none"),
    ):
        assert main(["train", "--inputs", "x.npy", "--targets", "y.npy", "--test-rows", *rows]) == 2
        assert part in capsys.readouterr().err


def test_sentences_of_the_library_are_in_the_words_of_the_command() -> None:
    args = argparse.Namespace(widths=[8], method="law")
    said = _as_options("width=8 is too small for method='law': use width > 12, or method='weights'.", args)
    assert said == "--widths 8 is too small for --method law: use width > 12, or --method weights."
