"""What can go wrong with files, processes and machines: nothing half written, nothing taken for what it is not."""

import contextlib
import errno
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

import covsde as cs
from covsde._command import is_command
from covsde.cli import main, session
from covsde.results.files import atomic_write, together
from covsde.run import memory, metadata, progress
from covsde.run.checkpoint import (
    DamagedChunkWarning,
    checkpoint_folder,
    chunk_file,
    remove_checkpoints,
    store_chunk,
    stored_chunks,
)
from covsde.run.chunks import Chunks, side_by_side
from covsde.run.grid import save_times
from covsde.run.lock import NAME, locked
from covsde.run.metadata import describe

MLP, PAIR = cs.MLP(cs.ShapedSmooth("tanh"), 0.5), np.array([[1.0, 0.3], [0.3, 1.0]])
AXES = {"x": 1, "status": 0}


def chunk(c: int) -> dict[str, np.ndarray]:
    return {"x": np.random.default_rng(c).normal(size=(2, 3)), "status": np.zeros(3, np.int8)}


def compute(folder: Path, fingerprint: dict[str, Any] | None = None) -> tuple[np.ndarray, list[int]]:
    """A run of three chunks, and those of them that were computed rather than read."""
    computed: list[int] = []
    keys = [jax.random.key_data(jax.random.fold_in(jax.random.key(0), c)).tolist() for c in range(3)]

    def one(key: Any, size: int) -> dict[str, np.ndarray]:
        computed.append(keys.index(jax.random.key_data(key).tolist()))
        return chunk(computed[-1])

    work = Chunks(one, lambda part: part, AXES, jax.random.key(0), 9, 3, "")
    return work.run(fingerprint or {"a": 1}, progress=False, checkpoint=folder)["x"], sorted(computed)


def values(change: Callable[[dict[str, np.ndarray]], None]) -> Callable[[Path], None]:
    """A change of the values in a chunk, in an archive that is whole."""

    def rewrite(folder: Path) -> None:
        with np.load(chunk_file(folder, 1)) as stored:
            arrays = dict(stored)
        change(arrays)
        np.savez(chunk_file(folder, 1), **arrays)

    return rewrite


def swapped(folder: Path) -> None:
    chunk_file(folder, 1).write_bytes(chunk_file(folder, 2).read_bytes())


def truncated(folder: Path) -> None:
    chunk_file(folder, 1).write_bytes(chunk_file(folder, 1).read_bytes()[:-50])


DAMAGE: dict[str, Callable[[Path], None]] = {
    "another chunk of the run": swapped,
    "half a file": truncated,
    "no archive": lambda folder: chunk_file(folder, 1).write_text("x"),
    "values times two": values(lambda a: a.update(x=a["x"] * 2)),
    "one bit": values(lambda a: a.update(x=np.nextafter(a["x"], 9))),
    "NaN with status FINE": values(lambda a: a.update(x=a["x"] * np.nan)),
    "float32": values(lambda a: a.update(x=a["x"].astype(np.float32))),
    "complex": values(lambda a: a.update(x=a["x"].astype(complex))),
    "text": values(lambda a: a.update(x=a["x"].astype(str))),
    "another number of times": values(lambda a: a.update(x=a["x"][:1])),
    "transposed": values(lambda a: a.update(x=a["x"].reshape(3, 2))),
    "an array less": values(lambda a: a.__delitem__("status")),
    "without digest": values(lambda a: a.__delitem__("digest")),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_chunk_that_is_not_what_the_run_wrote_is_named_and_computed_again(kind: str, tmp_path: Path) -> None:
    whole, computed = compute(tmp_path)
    assert computed == [0, 1, 2]
    DAMAGE[kind](tmp_path)
    with pytest.warns(DamagedChunkWarning, match=r"chunk-000001\.npz' is not what this run wrote: chunk 1 is computed"):
        again, computed = compute(tmp_path)
    np.testing.assert_array_equal(again, whole)
    assert computed == [1]
    assert compute(tmp_path)[1] == []


def test_a_chunk_of_another_run_in_the_same_place_is_not_taken(tmp_path: Path) -> None:
    store_chunk(tmp_path, "another", 0, chunk(0))
    with pytest.warns(DamagedChunkWarning):
        assert stored_chunks(tmp_path, "this", 1, AXES) == {}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('{"identity": "x"}', "belongs to a run with other settings"),
        ("{", "holds a damaged run.json: delete the folder"),
        ("[]", "holds a damaged run.json"),
        ('{"identity": 3}', "holds a damaged run.json"),
        ("[" * 100_000, "holds a damaged run.json"),
        ("\x00", "holds a damaged run.json"),
    ],
)
def test_settings_of_others_and_damaged_settings_are_told_apart(tmp_path: Path, text: str, sentence: str) -> None:
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(ValueError, match=sentence):
        compute(tmp_path)


def test_a_folder_in_the_place_of_a_chunk_is_named(tmp_path: Path) -> None:
    compute(tmp_path)
    chunk_file(tmp_path, 1).unlink()
    chunk_file(tmp_path, 1).mkdir()
    with pytest.raises(ValueError, match=r"holds a folder of the name chunk-000001\.npz"):
        compute(tmp_path)


def test_of_runs_that_start_at_once_with_different_settings_one_gets_the_folder(tmp_path: Path) -> None:
    folders, barrier = [tmp_path / str(k) for k in range(40)], threading.Barrier(3)

    def claim(number: int) -> list[Path]:
        won = []
        for folder in folders:
            barrier.wait()
            with contextlib.suppress(ValueError):
                won.append(checkpoint_folder(folder, {"run": number}))
        return won

    with ThreadPoolExecutor(3) as pool:
        won = [folder for found in pool.map(claim, range(3)) for folder in found]
    assert sorted(won) == sorted(folders)
    assert not list(tmp_path.glob("*/.run*"))


def test_a_file_system_without_links_is_as_exclusive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(errno.EPERM, "no links")

    monkeypatch.setattr(os, "link", refuse)
    compute(tmp_path)
    with pytest.raises(ValueError, match="other settings"):
        compute(tmp_path, {"a": 2})
    assert compute(tmp_path)[1] == []


def test_only_files_of_ones_own_run_are_removed(tmp_path: Path) -> None:
    mine, identity = tmp_path / "mine", cs.run.checkpoint.identity_of({"a": 1})
    compute(mine)
    others = ["chunk-000007.npz", "chunk-notes.npz", ".run.of.others", "notes.txt"]
    for name in others:
        (mine / name).write_text("kept")
    remove_checkpoints(mine, "another", 3)
    assert chunk_file(mine, 0).exists()
    remove_checkpoints(mine, identity, 3)
    assert {path.name for path in mine.iterdir()} == set(others)
    compute(tmp_path / "alone")
    (tmp_path / "alone" / ".chunk-000001.12-ab.npz").write_text("half of a killed run")
    remove_checkpoints(tmp_path / "alone", identity, 3)
    assert not (tmp_path / "alone").exists()


def test_a_folder_has_one_writer_at_a_time(tmp_path: Path) -> None:
    script = (
        "import sys, pathlib; from covsde.run.lock import locked\n"
        "with locked(pathlib.Path(sys.argv[1]), 'busy'): print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(ValueError, match="busy"), locked(tmp_path, "busy"):
            pass
        other.send_signal(signal.SIGKILL)
        other.wait()
    with locked(tmp_path, "busy"):  # whatever ended it
        assert (tmp_path / NAME).exists()
    assert not (tmp_path / NAME).exists()


NEW, OLD = {"a.npz": "new a", "b.json": "new b", "c.png": "new c"}, {"a.npz": "old a", "c.png": "old c", "d.txt": "old"}


@pytest.fixture
def results(tmp_path: Path) -> Path:
    for name, text in OLD.items():
        (tmp_path / name).write_text(text)
    return tmp_path


def content(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


def write(folder: Path) -> None:
    for name, text in NEW.items():
        (folder / name).write_text(text)


def test_files_of_a_run_change_together(results: Path) -> None:
    with together(results) as folder:
        write(folder)
        assert {name: text for name, text in content_of_files(results).items()} == OLD
    assert content(results) == OLD | NEW


def content_of_files(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir() if path.is_file()}


def test_files_of_a_run_stay_as_they_were_if_one_cannot_be_written(results: Path) -> None:
    def fill(folder: Path) -> None:
        (folder / "a.npz").write_text("new a")
        raise OSError(errno.ENOSPC, "full")

    with pytest.raises(OSError, match="full"), together(results) as folder:
        fill(folder)
    assert content(results) == OLD


@pytest.mark.parametrize("fails", range(5))
def test_files_of_a_run_stay_as_they_were_if_one_cannot_be_moved(
    results: Path, monkeypatch: pytest.MonkeyPatch, fails: int
) -> None:
    replace, calls = os.replace, []

    def sometimes(a: Any, b: Any) -> None:
        calls.append(a)
        if len(calls) == fails + 1:
            raise KeyboardInterrupt
        replace(a, b)

    monkeypatch.setattr(os, "replace", sometimes)
    with pytest.raises(KeyboardInterrupt), together(results) as folder:
        write(folder)
    assert content(results) == OLD


SMALL = ["--gram", "V.npy", "--depth-to-width", "0.5", "--paths", "16", "--draws", "8", "--widths", "4", "--steps", "2"]


def test_a_disk_that_fills_leaves_the_results_of_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("V.npy", np.eye(2))
    assert main(["compare", *SMALL, "--out", "out", "--quiet"]) == 0
    before = {path.name: path.read_bytes() for path in Path("out").iterdir()}

    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(np, "savez_compressed", full)  # figures and the table are written by then
        capsys.readouterr()
        assert main(["compare", *SMALL, "--out", "out", "--seed", "1", "--resume"]) == 2
    assert "No space left on device), and its files are those of before; make room" in capsys.readouterr().err
    kept = {path.name: path.read_bytes() for path in Path("out").iterdir() if path.is_file()}
    assert kept == before
    assert chunk_file(Path("out/checkpoint/limit"), 0).exists()
    with locked(tmp_path / "out", "busy") if sys.platform != "win32" else pytest.raises(SystemExit):
        monkeypatch.setattr(session, "locked", _busy)
        assert main(["compare", *SMALL, "--out", "out"]) == 2
    assert "--out: another covsde is writing to out; wait for it" in capsys.readouterr().err


def _busy(_: Path, refusal: str) -> Any:
    raise ValueError(refusal)


@pytest.mark.parametrize("length", [200, 232, 247, 251, 255])
def test_names_are_as_long_as_the_file_system_allows(tmp_path: Path, length: int) -> None:
    path = tmp_path / ("x" * (length - 4) + ".npz")
    with atomic_write(path) as temporary:
        temporary.write_text("")
    assert path.exists()


RESULT = cs.Ensemble(np.ones(1), np.eye(2)[None, None], np.zeros(1), np.ones(1))


def replaced(**changes: Any) -> Callable[[Path], None]:
    def rewrite(path: Path) -> None:
        with np.load(path) as stored:
            np.savez(path, **(dict(stored) | changes))

    return rewrite


def member(name: str, data: bytes, method: int | None = None) -> Callable[[Path], None]:
    """A member of an archive with other bytes, or another number for how it is compressed."""

    def rewrite(path: Path) -> None:
        with zipfile.ZipFile(path) as old:
            parts = {n: old.read(n) for n in old.namelist()}
        with zipfile.ZipFile(path, "w") as new:
            for n, content in parts.items():
                new.writestr(n, data if n == name and data else content)
        if method is not None:
            whole = bytearray(path.read_bytes())
            for signature, at in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
                start = whole.index(signature)
                whole[start + at] = method & 255
            path.write_bytes(bytes(whole))

    return rewrite


def encrypted(path: Path) -> None:
    member("", b"")(path)
    whole = bytearray(path.read_bytes())
    for signature, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        whole[whole.index(signature) + at] |= 1
    path.write_bytes(bytes(whole))


def header(shape: str) -> bytes:
    text = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


DAMAGED = {
    "format [1, 2]": (replaced(format=[1, 2]), "has the format [1, 2], which is none"),
    "format x": (replaced(format="x"), "has the format 'x', which is none"),
    "format 0": (replaced(format=0), "has the format 0"),
    "format -5": (replaced(format=-5), "has the format -5"),
    "format 1.9": (replaced(format=1.9), "has the format 1.9"),
    "format 7": (replaced(format=7), "reads up to 1; upgrade covsde"),
    "metadata null": (replaced(metadata="null"), "its metadata is no JSON object"),
    "metadata a list": (replaced(metadata="[]"), "its metadata is no JSON object"),
    "metadata {": (replaced(metadata="{"), "its metadata is no JSON object"),
    "metadata a number": (replaced(metadata=3), "its metadata is no JSON object"),
    "metadata two": (replaced(metadata=["{}", "{}"]), "its metadata is no JSON object"),
    "metadata nested": (replaced(metadata="[" * 100_000), "its metadata is no JSON object"),
    "a member of 44 TB": (member("V.npy", header("(1, 1, 2345678, 2345678)")), "is damaged or not a .npz file"),
    "a member with a wrong shape": (member("V.npy", header("(1, 1, 2, 'a')")), "is damaged or not a .npz file"),
    "unknown compression": (member("", b"", 77), "is damaged or not a .npz file"),
    "encrypted": (encrypted, "is damaged or not a .npz file"),
    "text for numbers": (replaced(V=[[["a"]]]), "is no sound result"),
    "complex": (replaced(V=1j * np.eye(2)[None, None]), "is no sound result"),
    "statuses of another kind": (replaced(status=["a"]), "is no sound result"),
    "a negative variance": (replaced(V=-np.eye(2)[None, None]), "is no sound result"),
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_a_damaged_result_is_named_in_a_sentence(kind: str, tmp_path: Path) -> None:
    damage, sentence = DAMAGED[kind]
    RESULT.save(tmp_path / "run.npz")
    damage(tmp_path / "run.npz")
    with pytest.raises(ValueError, match=r"run\.npz") as error:
        cs.Ensemble.load(tmp_path / "run.npz")
    assert sentence in str(error.value)
    assert "\n" not in str(error.value)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "available", lambda: 10 * 2**30)


TOO_LARGE = {
    "paths": lambda n: cs.simulate(MLP, PAIR, paths=n),
    "draws": lambda n: cs.sample_networks(MLP, PAIR, width=8, draws=n),
    "updates": lambda n: cs.train(MLP, PAIR, targets=[1, -1], updates=n),
    "updates of networks": lambda n: cs.train_networks(MLP, PAIR, targets=[1, -1], updates=n, width=64),
    "updates of a ResNet": lambda n: cs.train(cs.ResNet("relu"), PAIR, targets=[1, -1], updates=n),
    "updates by law": lambda n: cs.train(MLP, PAIR, targets=[1, -1], updates=n // 10**3, paths=2, method="law"),
    "paths of gradients": lambda n: cs.simulate_gradients(MLP, PAIR, paths=n, steps=8),
    "paths of velocities": lambda n: cs.simulate_velocities(cs.MLP(cs.Identity(), 1.0), PAIR, targets=[1, 1], paths=n),
    "paths of unshaped networks": lambda n: cs.simulate_unshaped(cs.MLP(cs.LeakyReLU(), 1.0), paths=n),
}


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("what", TOO_LARGE)
def test_more_than_the_memory_holds_is_refused_with_the_number_that_fits(what: str) -> None:
    name = what.split()[0]
    with pytest.raises(ValueError, match=rf"{name}=\d+ needs .* GiB .* 10 GiB free: use {name}=\d+ or fewer") as error:
        TOO_LARGE[what](10**9)
    fits = int(re.findall(rf"{name}=(\d+) or fewer", str(error.value))[0])
    assert 0 < fits < 10**9


@pytest.mark.usefixtures("small")
def test_the_largest_number_that_fits_is_exact() -> None:
    def cost(n: int) -> int:
        return 3 * n * n

    with pytest.raises(ValueError, match="use n="):
        memory.check_room("n", 10**6, cost, "squares")
    largest = int((0.8 * 10 * 2**30 / 3) ** 0.5)
    memory.check_room("n", largest, cost, "squares")
    with pytest.raises(ValueError, match=f"use n={largest} or fewer"):
        memory.check_room("n", largest + 1, cost, "squares")


def test_this_machine_says_how_much_memory_is_free() -> None:
    free = memory.available()
    assert free is None or 2**20 < free < 2**60


@pytest.mark.parametrize("error", [MemoryError(), ValueError("RESOURCE_EXHAUSTED: Out of memory"), KeyError("x")])
def test_running_out_of_memory_says_what_to_lower(error: Exception) -> None:
    def fail(*_: Any) -> Any:
        raise error

    work = Chunks(fail, lambda part: part, AXES, jax.random.key(0), 9, 3, "limit")
    if isinstance(error, KeyError):
        with pytest.raises(KeyError):
            work.run({}, progress=False)
        return
    with pytest.raises(MemoryError, match=r"chunk=3 takes more memory .* 'limit': pass a smaller chunk"):
        work.run({}, progress=False)


def test_chunks_are_submitted_as_they_are_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    waiting: list[int] = []
    submit = ThreadPoolExecutor.submit

    def count(self: ThreadPoolExecutor, *args: Any) -> Any:
        waiting.append(self._work_queue.qsize())
        return submit(self, *args)

    monkeypatch.setattr(ThreadPoolExecutor, "submit", count)
    work = Chunks(lambda key, size: chunk(0), lambda part: part, AXES, jax.random.key(0), 600, 3, "")
    assert work.run({}, progress=False)["x"].shape == (2, 600)
    assert len(waiting) == 200
    assert max(waiting) <= 2 * side_by_side() + 1


def test_a_bar_appears_while_the_first_chunk_compiles(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "_PATIENCE", 0.05)

    def slow(*_: Any) -> dict[str, np.ndarray]:
        time.sleep(0.3)
        return chunk(0)

    Chunks(slow, lambda part: part, AXES, jax.random.key(0), 9, 3, "limit").run({}, progress=True)
    said = capsys.readouterr().err
    assert said.index("limit: compiling:   0%") < said.index("limit:  33%")
    assert "0/3" in said
    Chunks(slow, lambda part: part, AXES, jax.random.key(0), 3, 3, "limit").run({}, progress=None)
    assert capsys.readouterr().err == ""  # no terminal


def test_real_weights_are_sampled_in_tenths() -> None:
    for method, chunks in (("weights", 10), ("law", 2)):
        plan = cs.sample_networks.plan(MLP, PAIR, width=100, draws=2000, method=method)
        assert plan.chunks.count == chunks


def test_what_jax_traces_is_refused_with_what_can_be_traced() -> None:
    with pytest.raises(ValueError, match=r"V0 is traced by JAX .* or trace covsde\.solve\("):
        jax.jit(lambda V: cs.simulate(MLP, V, paths=4).V)(PAIR)
    with pytest.raises(ValueError, match="architecture is traced by JAX"):
        jax.grad(lambda a: cs.simulate(cs.MLP(cs.ShapedReLU(0.0, a), 0.5), PAIR, paths=4).V)(1.0)
    with pytest.raises(ValueError, match="architecture is traced by JAX"):
        jax.vmap(lambda T: cs.sample_networks(cs.MLP(cs.Identity(), T), PAIR, width=8).V)(np.ones(2))
    with pytest.raises(ValueError, match="targets is traced by JAX"):
        jax.jit(lambda y: cs.train(MLP, PAIR, targets=y).outputs)(np.ones(2))
    with pytest.raises(ValueError, match="x is traced by JAX"):
        jax.jit(cs.gram)(np.eye(2))


@pytest.mark.parametrize("network", [MLP, cs.ResNet("relu"), cs.Transformer(0.5, depth_to_width=0.5)], ids=describe)
def test_a_network_has_the_precision_it_says(network: Any) -> None:
    with pytest.raises(ValueError, match="dtype must be a floating-point dtype"):
        network.network(8, depth=2, key=0, dtype="int32")
    assert network.network(8, depth=2, key=0)(np.ones((2, 8))).dtype == np.float64
    with jax.enable_x64(False), pytest.raises(ValueError, match=r"float64 needs jax\.config\.update"):
        network.network(8, depth=2, key=0, dtype="float64")


def test_times_that_differ_by_rounding_are_one_and_times_too_close_are_named() -> None:
    assert save_times([0.1 + 0.2, 0.3, 1 - 1e-16, 1e-16]).tolist() == [0.0, 0.3, 1.0]
    with pytest.raises(ValueError, match=r"save_at holds 0\.5 and 0\.500000001, which are too close"):
        cs.simulate(MLP, PAIR, save_at=[0.5, 0.5 + 1e-9], dtype="float32")


def test_metadata_of_a_run_are_json(tmp_path: Path) -> None:
    compute(tmp_path)
    assert json.loads((tmp_path / "run.json").read_text())["settings"] == {"a": 1}


def test_an_assumed_depth_is_said_wherever_a_result_is(tmp_path: Path) -> None:
    runs = [sample(cs.MLP(cs.Identity()), PAIR) for sample in (_limit, _networks)]
    given = _limit(cs.MLP(cs.Identity(), 1.0), PAIR)
    for run in runs:
        assert repr(run).endswith("0 failed, depth_to_width=1 assumed)")
        assert "depth_to_width=1 (assumed)" in run.metadata["architecture"]
    assert str(cs.compare(*runs)).count("depth_to_width=1 assumed") == 2
    assert "assumed" not in repr(given)
    assert given.metadata["identity"] == runs[0].metadata["identity"]
    np.testing.assert_array_equal(given.V, runs[0].V)
    assert cs.simulate.plan(cs.Transformer(0.5), PAIR).metadata["assumed"] == {"depth_to_width": 1.0}


def _limit(mlp: cs.MLP, V0: Any) -> cs.Ensemble:
    return cs.simulate(mlp, V0, paths=8, steps=2)


def _networks(mlp: cs.MLP, V0: Any) -> cs.Ensemble:
    return cs.sample_networks(mlp, V0, width=4, draws=8)


def test_a_checkpoint_of_other_versions_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = cs.simulate.plan(MLP, PAIR, paths=8, steps=2)
    checkpoint_folder(tmp_path, plan.metadata)
    monkeypatch.setattr(metadata, "versions", lambda: {"jax": "0.1"})
    with pytest.raises(ValueError, match="belongs to a run with other settings"):
        cs.simulate(MLP, PAIR, paths=8, steps=2, checkpoint=tmp_path)


def test_the_page_of_failures_names_tests_that_exist() -> None:
    root = Path(__file__).parent.parent
    named = re.findall(r"`(tests/\w+\.py)::(\w+)`", (root / "docs" / "failure_model.md").read_text())
    assert len(named) > 30
    for file, test in named:
        assert f"def {test}(" in (root / file).read_text(), (file, test)


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        (["python", "-m", "covsde", "list"], True),
        (["python", "-W", "error", "-m", "covsde"], True),
        (["python", "/usr/bin/covsde", "compare"], True),
        (["python", "-m", "pytest", "covsde"], False),
        (["python", "-c", "import covsde"], False),
        (["python", "covsde/run.py"], False),
        (["python"], False),
    ],
)
def test_only_the_command_takes_interrupts_while_it_is_imported(arguments: list[str], command: bool) -> None:
    assert is_command(arguments) is command


def test_an_interrupt_during_the_import_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "jax.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n")
    path = os.pathsep.join([str(tmp_path), str(Path(__file__).parent.parent)])
    done = subprocess.run(
        [sys.executable, "-m", "covsde", "list"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert done.returncode == 130
    assert done.stderr.strip() == "covsde: interrupted: run the same command again."
    assert done.stdout == ""


@pytest.fixture
def gram_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    np.save("V.npy", np.eye(2))
    return tmp_path


@pytest.mark.parametrize("finished", [False, True])
def test_an_interrupt_speaks_of_finished_parts_if_there_are_some(
    gram_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], finished: bool
) -> None:
    part = gram_file / "out" / "checkpoint" / "limit"
    part.mkdir(parents=True)
    (part / "run.json").write_text("{}")
    if finished:
        store_chunk(part, "", 0, chunk(0))

    def stop(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cs.simulate, "plan", stop)
    assert main(["compare", *SMALL, "--out", "out", "--resume"]) == 130
    said = capsys.readouterr().err
    assert "run the same command again" in said
    assert ("finished parts are in" in said) is finished


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("option", ["--updates", "--paths", "--draws"])
def test_what_the_memory_does_not_hold_is_named_by_its_option(
    gram_file: Path, capsys: pytest.CaptureFixture[str], option: str
) -> None:
    np.savetxt("y.csv", [1.0, -1.0])
    assert main(["train", "--gram", "V.npy", "--targets", "y.csv", option, "1000000000"]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"covsde: error: {option} 1000000000 needs ")
    assert f"use {option} " in said
    assert not (gram_file / "covsde-train").exists()


@pytest.mark.usefixtures("small")
def test_particles_share_one_set_of_kernels() -> None:
    V0 = np.eye(40)
    plan = cs.train.plan(cs.ResNet("relu"), V0, targets=np.ones(40), paths=10**6)
    plan.check_room()
    with pytest.raises(ValueError, match=r"paths=1000000 needs .* GiB"):
        cs.train.plan(cs.MLP(cs.Identity(), 1.0), V0, targets=np.ones(40), paths=10**6)
