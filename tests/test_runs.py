"""Chunks side by side: the same bits as one after the other, in the caller's precision, kept when one of them fails."""

from pathlib import Path
from typing import Any

import diffrax
import jax
import numpy as np
import pytest

import covsde as cs
from covsde import _runs
from covsde._check import typed_key


def run(monkeypatch: pytest.MonkeyPatch, workers: int, finish: Any = None, **settings: Any) -> np.ndarray:
    monkeypatch.setattr(_runs, "side_by_side", lambda: workers)
    defaults: dict[str, Any] = {
        "axes": {"x": 1},
        "key": jax.random.key(3),
        "total": 43,
        "chunk": 5,
        "progress": False,
        "label": "",
        "checkpoint": None,
        "fingerprint": {},
    }
    found = _runs.run_chunks(
        lambda key, size: jax.random.normal(key, (2, size)),
        finish or (lambda x: {"x": np.asarray(x)}),
        **defaults | settings,
    )
    return np.asarray(found["x"])


def test_results_do_not_depend_on_how_many_chunks_run_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    alone = run(monkeypatch, 1)
    assert alone.shape == (2, 43)
    np.testing.assert_array_equal(run(monkeypatch, 4), alone)
    # Chunk c is that of fold_in(key, c), wherever it ran.
    np.testing.assert_array_equal(alone[:, 35:40], jax.random.normal(jax.random.fold_in(jax.random.key(3), 7), (2, 5)))


@pytest.mark.parametrize("double", [False, True])
def test_every_chunk_has_the_precision_of_the_call(double: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    kinds = []

    def finish(x: Any) -> dict[str, np.ndarray]:
        kinds.append(jax.numpy.ones(1).dtype)
        return {"x": np.asarray(x)}

    with jax.enable_x64(double):
        assert run(monkeypatch, 3, finish).dtype == (np.float64 if double else np.float32)
    assert set(kinds) == {np.dtype(np.float64 if double else np.float32)}


def test_a_damaged_part_is_computed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = run(monkeypatch, 2, checkpoint=tmp_path)
    parts = sorted(tmp_path.glob("chunk-*.npz"))
    parts[0].write_bytes(parts[0].read_bytes()[:-40])
    np.save(tmp_path / "x.npy", np.ones(3))
    parts[1].write_bytes((tmp_path / "x.npy").read_bytes())
    np.savez(parts[2], x=np.ones((2, 3)))  # a whole file, of fewer paths
    np.testing.assert_array_equal(run(monkeypatch, 2, checkpoint=tmp_path), whole)
    (tmp_path / "run.json").unlink()
    with pytest.raises(ValueError, match="holds parts of a run but not its settings"):
        run(monkeypatch, 2, checkpoint=tmp_path)


def test_hyperparameters_are_told_apart_to_the_last_digit_and_functions_by_their_code() -> None:
    def shaped(strength: float) -> Any:
        return lambda x: jax.numpy.tanh(strength * x)

    different = [
        cs.ShapedReLU(0.1234567, 0.0),
        cs.ShapedReLU(0.1234568, 0.0),
        cs.ShapedSmooth(jax.numpy.tanh),
        cs.ShapedSmooth(jax.numpy.tanh, a=1.0000001),
        cs.ShapedSmooth(jax.numpy.sin),
        cs.ShapedSmooth(shaped(1.0)),
        cs.ShapedSmooth(shaped(1.0000001)),
        cs.ShapedSmooth(lambda x: x + x**2),
        cs.ShapedSmooth(lambda x: x + x**3),
    ]
    different += [cs.ShapedSmooth(jax.jit(lambda x: x + x**2)), cs.ShapedSmooth(jax.jit(lambda x: x + x**3))]
    assert len({_runs.identity(activation) for activation in different}) == len(different)
    assert _runs.identity(cs.ShapedSmooth(shaped(2.0))) == _runs.identity(cs.ShapedSmooth(shaped(2.0)))


def test_seeds_keep_all_their_bits() -> None:
    keys = [jax.random.key_data(typed_key(seed)).tolist() for seed in (0, 7, 2**32, 2**32 + 7, -1, 2**32 - 1)]
    assert len({tuple(key) for key in keys}) == len(keys)
    with jax.enable_x64(False):
        assert [jax.random.key_data(typed_key(seed)).tolist() for seed in (0, 7, 2**32)] == keys[:3]


@pytest.mark.parametrize("workers", [1, 3])
def test_a_failing_chunk_ends_the_run_and_leaves_what_was_finished(
    workers: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run(monkeypatch, 1)
    seen: list[int] = []

    def finish(x: Any) -> dict[str, np.ndarray]:
        seen.append(len(seen))
        if len(seen) == 4:
            raise KeyboardInterrupt
        return {"x": np.asarray(x)}

    with pytest.raises(KeyboardInterrupt):
        run(monkeypatch, workers, finish, checkpoint=tmp_path)
    kept = len(list(tmp_path.glob("chunk-*.npz")))
    assert 3 <= kept < 9
    assert not list(tmp_path.glob("*.tmp*"))
    computed = len(seen)
    np.testing.assert_array_equal(run(monkeypatch, workers, checkpoint=tmp_path), whole)
    assert computed == kept + 1


def test_a_checkpoint_of_one_method_does_not_answer_for_another_of_its_order(tmp_path: Path) -> None:
    resnet, settings = cs.ResNet("linear"), {"steps": 2, "checkpoint": tmp_path}
    cs.simulate(resnet, [[1.0]], solver=cs.RungeKutta(diffrax.Heun()), **settings)
    with pytest.raises(ValueError, match="belongs to a run with other settings"):
        cs.simulate(resnet, [[1.0]], solver=cs.RungeKutta(diffrax.Midpoint()), **settings)
