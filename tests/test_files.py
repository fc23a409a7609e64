"""Files as people have them: what is read as what, what is said of it, and what is refused rather than guessed."""

import gzip

import numpy as np
import pytest

import covsde
from covsde.cli import main, parser
from covsde.cli.inputs import Refusal, read_inputs
from covsde.inputs.matrices import read_matrix, read_table, read_vector
from covsde.inputs.text import UnreadableFile

X = [[1.5, 2.5], [3.5, 4.5]]


@pytest.fixture
def write(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def file(text, name="x.csv"):
        path = tmp_path / name
        data = text.encode()
        path.write_bytes(gzip.compress(data) if name.lower().endswith(".gz") else data)
        return path

    return file


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("0,1\n1.5,2.5\n3.5,4.5\n", "line 1 is taken as a header"),
        (",a,b\n0,1.5,2.5\n1,3.5,4.5\n", "has no name and counts from 0: it is taken as an index and left out"),
        (",0,1\n0,1.5,2.5\n1,3.5,4.5\n", "has no name and counts from 0"),
        ("Unnamed: 0,0,1\n0,1.5,2.5\n1,3.5,4.5\n", "has no name and counts from 0"),
        ('"","V1","V2"\n"1",1.5,2.5\n"2",3.5,4.5\n', "has no name and counts from 1"),
        ('"V1" "V2"\n"1" 1.5 2.5\n"2" 3.5 4.5\n', "separated by spaces"),
        ("1.5;2.5\n3.5;4.5\n", "separated by semicolons"),
        ("1,5;2,5\n3,5;4,5\n", "separated by semicolons; decimal commas"),
        ("a;b\n1,5;2,5\n3,5;4,5\n", "decimal commas"),
        ("1.5\t2.5\n3.5\t4.5\n", "separated by tabs"),
        ("  1.5   2.5\n  3.5     4.5\n", "separated by spaces"),
        ("1.5 2.5\n3.5 4.5\n", "separated by spaces"),
        ("# a,b\n1.5,2.5\n3.5,4.5\n", "lines that start with # are left out"),
    ],
)
def test_what_is_unambiguous_is_read_and_said(write, text, said):
    table = read_table(write(text))
    np.testing.assert_array_equal(table.matrix(), X)
    assert said in "; ".join(table.notes)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (",a,b\n5,1.5,2.5\n2,3.5,4.5\n", "the first column has no name, as the index of a data frame"),
        ("0,1\n1,0\n1,1\n", "counts 0 to 1 as the header of a data frame without names does"),
        ("0,1,2\n3,4,5\n", "name the columns, or write the numbers with a decimal point"),
        ("1_000,2\n3,4\n", "line 1, column 1 holds '1_000', which is not a number; write digits without separators"),
        ("1_000,2_000\n3,4\n", "line 1, column 1 holds '1_000'"),
        ("1,2\n٣,4\n", "line 2, column 1 holds '٣', which is not a number"),
        ("1,5\t2,5\n", "line 1, column 2 holds '5\\t2'"),
        ('"1,5","2,5"\n', "separate numbers with decimal commas by semicolons and not by commas"),
        ("1.234,5;2,5\n", "column 1 holds '1.234,5', which is not a number"),
        ("1,5;2.5\n", "column 2 holds '2.5' with a decimal point, and other cells have decimal commas"),
        ("a,b,c\n1,2\n", "line 2 has 2 columns and the header has 3"),
        ("1.5,2.5,setosa\n", "leave a column of text out with --columns"),
    ],
)
def test_what_is_in_doubt_is_refused_with_what_was_seen(write, text, sentence):
    with pytest.raises(UnreadableFile) as error:
        read_matrix(write(text))
    assert sentence in str(error.value)


def test_a_header_of_column_numbers_over_many_integers_is_a_header(write):
    rows = "\n".join([",".join(map(str, range(12))), ",".join(["7"] * 12)])
    np.testing.assert_array_equal(read_matrix(write(rows)), np.full((1, 12), 7.0))


def test_a_first_column_that_counts_is_a_feature_only_with_a_note(write):
    table = read_table(write("id,a\n1,1.5\n2,2.5\n"))
    assert table.matrix().shape == (2, 2)
    assert "counts its rows and is taken as a feature" in table.notes[-1]


@pytest.mark.parametrize("name", ["x.CSV", "x.tsv", "x.txt", "x.csv.gz", "x.TSV.GZ"])
def test_endings_of_text(write, name):
    np.testing.assert_array_equal(read_matrix(write("1.5\t2.5\n3.5\t4.5\n", name)), X)


def test_arrays_of_numpy(tmp_path):
    np.savez(tmp_path / "one.npz", x=X)
    np.savez(tmp_path / "two.npz", x=X, y=X)
    np.save(tmp_path / "images.npy", np.ones((3, 28, 28), np.uint8))
    np.save(tmp_path / "vector.npy", np.ones(3))
    (tmp_path / "vector.npy").rename(tmp_path / "vector.NPY")
    np.testing.assert_array_equal(read_matrix(tmp_path / "one.npz"), X)
    np.testing.assert_array_equal(read_vector(tmp_path / "vector.NPY")[0], np.ones(3))
    with pytest.raises(UnreadableFile, match=r"holds 2 arrays \(x, y\) and must hold one"):
        read_matrix(tmp_path / "two.npz")
    with pytest.raises(UnreadableFile, match=r"got shape \(3, 28, 28\); save x.reshape\(len\(x\), -1\)"):
        read_matrix(tmp_path / "images.npy")


def test_text_in_other_encodings_is_read_or_named(tmp_path):
    (tmp_path / "x.csv").write_bytes("a\tb\n1.5\t2.5\n3.5\t4.5\n".encode("utf-16"))
    np.testing.assert_array_equal(read_matrix(tmp_path / "x.csv"), X)
    (tmp_path / "x.csv").write_bytes("größe,b\n1.5,2.5\n".encode("latin-1"))
    with pytest.raises(UnreadableFile, match=r"is no text in UTF-8 \(byte 2 is 0xf6\): save it as CSV in UTF-8"):
        read_matrix(tmp_path / "x.csv")
    np.savez(tmp_path / "none.npz")
    with pytest.raises(UnreadableFile, match="holds 0 arrays and must hold one"):
        read_matrix(tmp_path / "none.npz")


def test_python_objects_in_arrays_are_not_unpickled(tmp_path):
    for name, save in (("x.npy", np.save), ("x.npz", np.savez)):
        save(tmp_path / name, np.array([[1, "a"]], object))
        with pytest.raises(UnreadableFile, match="holds Python objects, which take pickle to read"):
            read_matrix(tmp_path / name)


IRIS = "id,length,width,class,sign\n17,1.5,2.5,setosa,1\n18,3.5,4.5,virginica,-1\n"


def read(*options):
    return read_inputs(parser().parse_args(["train", *options]))


@pytest.mark.parametrize("columns", [["length", "width"], ["1", "2"]])
def test_columns_by_name_or_number_and_targets_beside_them(write, columns):
    write(IRIS, "iris.csv")
    found = read("--inputs", "iris.csv", "--columns", *columns, "--target-column", "sign")
    np.testing.assert_allclose(found.V0, covsde.gram(X))
    np.testing.assert_array_equal(found.targets, [1.0, -1.0])
    assert "targets: iris.csv: column sign, which is no input" in found.notes
    assert read("--inputs", "iris.csv", "--columns", *columns, "--target-column", "4", "--rows", "1").targets == [-1.0]


def test_the_column_of_targets_is_no_feature(write):
    write("a,b,y\n1.5,2.5,7\n3.5,4.5,8\n")
    np.testing.assert_allclose(read("--inputs", "x.csv", "--target-column", "y").V0, covsde.gram(X))
    np.save("x.npy", np.hstack([X, [[7], [8]]]))
    np.testing.assert_allclose(read("--inputs", "x.npy", "--target-column", "2").V0, covsde.gram(X))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--columns", "size"], "--columns: iris.csv has no column 'size'; its columns are named id, length, width"),
        (["--columns", "9"], "--columns: iris.csv has no column '9'"),
        (["--columns", "1", "length"], "--columns must not repeat a column"),
        (["--columns", "1", "4", "--target-column", "sign"], "--columns must not hold the --target-column sign"),
        (["--columns", "1", "2", "--target-column", "class"], "holds 'setosa', which is not a number"),
        (["--columns", "class"], "line 2, column 4 holds 'setosa', which is not a number"),
    ],
)
def test_columns_that_are_not_there(write, options, sentence):
    write(IRIS, "iris.csv")
    with pytest.raises((Refusal, UnreadableFile)) as error:
        read("--inputs", "iris.csv", *options)
    assert sentence in str(error.value)


def test_columns_are_for_inputs(write, capsys):
    np.save("V.npy", np.eye(2))
    assert main(["compare", "--gram", "V.npy", "--columns", "0"]) == 2
    assert "--columns is for the columns of --inputs" in capsys.readouterr().err


def test_targets_come_from_one_place(write, capsys):
    write(IRIS, "iris.csv")
    write("1\n-1\n", "y.csv")
    both = ["--columns", "1", "2", "--target-column", "sign", "--targets", "y.csv"]
    for options in (both, ["--columns", "1", "2"]):
        assert main(["train", "--inputs", "iris.csv", *options]) == 2
        assert "give --targets FILE, with one number per input, or --target-column C" in capsys.readouterr().err


@pytest.mark.parametrize("text", [",0\n0,1.0\n1,-1.0\n", "0\n1.0\n-1.0\n", "y\n1\n-1\n", "1 -1\n", "1;-1"])
def test_targets_as_data_frames_write_them(write, text):
    write("1.5,2.5\n3.5,4.5\n")
    path = write(text, "y.csv")
    found, notes = covsde.cli.inputs.read_targets(path, read("--inputs", "x.csv"))
    np.testing.assert_array_equal(found, [1.0, -1.0])
    assert notes
