"""Every bad call is refused in one sentence that names the argument: in Python and on the command line."""

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import bad_calls
import numpy as np
import pytest

from covsde.cli import main

# What arguments are called where the sentence says it in the words of the mathematics.
ALIASES = {"i": "inputs must be", "j": "inputs must be", "rate": "learning_rate"}


@pytest.fixture(scope="module")
def raised(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, str]]:
    here = Path(bad_calls.__file__)
    done = subprocess.run(
        [sys.executable, str(here)],
        cwd=tmp_path_factory.mktemp("empty"),
        env={**os.environ, "PYTHONPATH": str(here.parent.parent)},
        capture_output=True,
        text=True,
        check=True,
    )
    found: list[dict[str, str]] = json.loads(done.stdout)
    return found


def test_there_are_many(raised: list[dict[str, str]]) -> None:
    assert len(raised) > 1200


@pytest.mark.parametrize("call", bad_calls.CALLS)
def test_every_bad_call_is_refused_in_a_sentence_that_names_the_argument(
    raised: list[dict[str, str]], call: str
) -> None:
    wrong = []
    for case in raised:
        if case["call"] != call:
            continue
        sentence = case.get("sentence", "")
        good = (
            case.get("type") in ("ValueError", "TypeError", "IndexError")
            and ALIASES.get(case["argument"], case["argument"]) in sentence
            and "\n" not in sentence
            and len(sentence) < 420
            and sentence.endswith((".", ")"))
        )
        if not good:
            wrong.append(case)
    assert not wrong


WORDS = ("x", "nan", "1_0", "٣", "", "--")
WHOLE = (*WORDS, "1.5", "-1", "0", "9" * 30, "inf")
REAL = (*WORDS, "inf", "1e999", "0x1")
OPTIONS = {
    "--widths": WHOLE,
    "--paths": WHOLE,
    "--draws": WHOLE,
    "--steps": WHOLE,
    "--depth": WHOLE,
    "--seed": tuple(word for word in WHOLE if word != "0"),
    "--depth-to-width": (*REAL, "0", "-1"),
    "--c-plus": (*REAL, "1e9"),
    "--c-minus": REAL,
    "--method": WORDS,
    "--dtype": (*WORDS, "float16"),
    "--activation": (*WORDS, "swish"),
    "--architecture": (*WORDS, "cnn"),
    "--rows": ("x", "9", "-1", "0-9", "1-0", "0 0", ""),
    "--columns": ("x", "9", "-1", "0 0", ""),
    "--normalise": WORDS,
    "--out": ("", "x" * 300, "file.csv", "file.csv/out"),
    "--inputs": ("", "none.npy", "x" * 300 + ".npy", ".", "x.xlsx"),
}
OF_TRAINING = {
    "--updates": WHOLE,
    "--substeps": WHOLE,
    "--learning-rate": REAL,
    "--momentum": (*REAL, "1", "-1"),
    "--loss": (*WORDS, "hinge"),
    "--targets": ("", "none.csv", ".", "x.xlsx", "x.csv"),
    "--target-column": ("x", "9", "-1", ""),
    "--test-rows": ("x", "9", "0 1", "0 0", ""),
}
# Where the sentence names what the option was read as.
READ_AS = {"--depth-to-width": "depth_to_width", "--c-plus": "c_plus", "--c-minus": "c_minus", "--momentum": "momentum"}


def lines() -> Iterator[tuple[str, str, str]]:
    for command in ("compare", "train"):
        for option, values in (OPTIONS | (OF_TRAINING if command == "train" else {})).items():
            yield from itertools.product([command], [option], values)


LINES = list(lines())


def test_there_are_many_lines() -> None:
    assert len(LINES) > 250


@pytest.mark.parametrize("option", OPTIONS | OF_TRAINING)
def test_every_bad_option_is_refused_in_a_sentence_that_names_it(
    option: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    np.savetxt("x.csv", [[1.5, 0.5], [-0.5, 2.5]], delimiter=",")
    Path("file.csv").write_text("1\n-1\n")
    wrong = []
    for command, _, value in (line for line in LINES if line[1] == option):
        given = {"--inputs": ["x.csv"], option: value.split(" ")}
        if command == "train" and option not in ("--targets", "--target-column"):
            given["--targets"] = ["file.csv"]
        code = main([command, *(word for name, words in given.items() for word in (name, *words))])
        out, err = capsys.readouterr()
        named = option in err or READ_AS.get(option, option) in err
        said = named or (option in ("--inputs", "--targets") and value[:20] in err)  # the file
        if code != 2 or out or err.count("\n") != 1 or not err.startswith("covsde: error: ") or not said:
            wrong.append((command, value, code, err[:300]))
    assert not wrong
    assert {path.name for path in tmp_path.iterdir()} == {"x.csv", "file.csv"}
