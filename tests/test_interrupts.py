"""Commands ended at random moments: no traceback, no half-written file, and the same bits when they go on."""

import functools
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

pytestmark = [
    pytest.mark.thorough,
    pytest.mark.skipif(sys.platform == "win32", reason="has no such signals"),
]

ROOT = Path(__file__).parent.parent
TIMES = 5
SIGNALS = {"Ctrl-C": signal.SIGINT, "SIGTERM": signal.SIGTERM, "kill -9": getattr(signal, "SIGKILL", 9)}
# Each spends most of its time in the chunks of one question.
COMMANDS = {
    "simulate": "compare --gram V.csv --depth-to-width 1 --paths 400000 --draws 20 --widths 8",
    "sample_networks": "compare --gram V.csv --depth-to-width 1 --paths 20 --draws 4000 --widths 64 --method weights",
    "train": "train --gram V.csv --targets y.csv --updates 2 --paths 3000 --draws 20 --widths 16",
    "train_networks": "train --gram V.csv --targets y.csv --updates 2 --paths 20 --draws 4000 --widths 32",
}


class Run:
    """A command in a folder, as a user would start it."""

    def __init__(self, folder: Path, question: str) -> None:
        np.savetxt(folder / "V.csv", [[1.0, 0.3], [0.3, 1.0]], delimiter=",")
        np.savetxt(folder / "y.csv", [1.0, -1.0])
        self.folder, self.out = folder, folder / "out"
        self.command = [sys.executable, "-m", "covsde", *COMMANDS[question].split(), "--resume", "--out", "out"]

    def start(self) -> subprocess.Popen[str]:
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        return subprocess.Popen(
            self.command, cwd=self.folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def finish(self) -> dict[str, np.ndarray]:
        with self.start() as process:
            said = process.communicate()[1]
        assert process.returncode == 0, said
        assert "not what this run wrote" not in said
        return self.arrays()

    def arrays(self) -> dict[str, np.ndarray]:
        found = {}
        for path in sorted(self.out.glob("*.npz")):
            with np.load(path) as stored:
                found |= {f"{path.name}/{name}": stored[name] for name in stored.files if name != "metadata"}
        return found

    def check_files(self) -> None:
        """Every file with a name of its own is whole; hidden ones are what a killed process was writing."""
        for path in self.out.rglob("*"):
            if any(part.startswith(".") for part in path.relative_to(self.out).parts) or path.is_dir():
                continue
            if path.suffix == ".npz":
                with np.load(path) as stored:
                    assert all(stored[name] is not None for name in stored.files)
            elif path.suffix == ".json":
                json.loads(path.read_text())
            elif path.suffix == ".png":
                assert path.read_bytes().endswith(b"IEND\xaeB`\x82")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[dict[str, np.ndarray], float]]:
    """What a command writes if nothing ends it, and how long it takes."""

    @functools.cache
    def of(question: str) -> tuple[dict[str, np.ndarray], float]:
        folder = tmp_path_factory.getbasetemp() / question
        folder.mkdir()
        begun = time.monotonic()
        return Run(folder, question).finish(), time.monotonic() - begun

    return of


@pytest.mark.parametrize("how", SIGNALS)
@pytest.mark.parametrize("question", COMMANDS)
def test_a_command_ended_at_a_random_moment_goes_on_to_the_same_bits(
    question: str,
    how: str,
    whole: Callable[[str], tuple[dict[str, np.ndarray], float]],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    expected, seconds = whole(question)
    moment, ended, parts = random.Random(f"{question} {how}"), 0, []
    for attempt in range(4 * TIMES):
        folder = tmp_path_factory.getbasetemp() / f"{question}-{SIGNALS[how]}-{attempt}"
        folder.mkdir()
        run = Run(folder, question)
        with run.start() as process:
            time.sleep(moment.uniform(0.05, 1) * seconds)
            process.send_signal(SIGNALS[how])
            said = process.communicate()[1]
        if process.returncode == 0:  # it was faster
            continue
        assert process.returncode in ({130, -SIGNALS[how]} if how == "Ctrl-C" else {-SIGNALS[how]}), said
        assert "Traceback" not in said
        run.check_files()
        parts.append(len(list(run.out.glob("checkpoint/*/chunk-*.npz"))))
        found = run.finish()
        assert found.keys() == expected.keys()
        for name, array in expected.items():
            np.testing.assert_array_equal(found[name], array, err_msg=name)
        ended += 1
        if ended == TIMES:
            break
    assert ended == TIMES
    print(f"{question}, {how}: ended {ended} times, with {parts} finished parts")
