"""Chunks side by side: the same bits as one after the other, in the caller's precision, kept when one of them fails."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from covsde import _runs


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
