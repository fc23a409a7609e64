"""Chunks side by side: the same bits as one after the other, in the caller's precision, kept when one of them fails."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import diffrax
import jax
import numpy as np
import pytest

import covsde as cs
from covsde.numerics.identity import identity
from covsde.numerics.keys import GENERATOR, recorded_generator, typed_key
from covsde.run import chunks, forecast
from covsde.run.checkpoint import DamagedChunkWarning


def run(
    monkeypatch: pytest.MonkeyPatch, workers: int, finish: Any = None, checkpoint: Path | None = None
) -> np.ndarray:
    monkeypatch.setattr(chunks, "side_by_side", lambda: workers)
    work = chunks.Chunks(
        dispatch=lambda key, size: jax.random.normal(key, (2, size)),
        finish=finish or (lambda x: {"x": np.asarray(x)}),
        axes={"x": 1},
        key=jax.random.key(3),
        total=43,
        size=5,
        label="",
    )
    return np.asarray(work.run({}, progress=False, checkpoint=checkpoint)["x"])


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
    with pytest.warns(DamagedChunkWarning) as said:
        np.testing.assert_array_equal(run(monkeypatch, 2, checkpoint=tmp_path), whole)
    assert [str(w.message).split(": ")[-1] for w in said] == [f"chunk {c} is computed again." for c in range(3)]
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
    compiled = [cs.ShapedSmooth(jax.jit(lambda x: x + x**2)), cs.ShapedSmooth(jax.jit(lambda x: x + x**3))]
    assert len({identity(activation) for activation in compiled}) == len(compiled)
    assert len({identity(activation) for activation in different}) == len(different)
    assert identity(cs.ShapedSmooth(shaped(2.0))) == identity(cs.ShapedSmooth(shaped(2.0)))


def test_seeds_keep_all_their_bits() -> None:
    keys = [jax.random.key_data(typed_key(seed)).tolist() for seed in (0, 7, 2**32, 2**32 + 7, -1, 2**32 - 1)]
    assert len({tuple(key) for key in keys}) == len(keys)
    with jax.enable_x64(False):
        assert [jax.random.key_data(typed_key(seed)).tolist() for seed in (0, 7, 2**32)] == keys[:3]


# Other defaults than JAX's own, which its environment variables set too.
OTHER_GENERATORS = {"jax_default_prng_impl": "rbg", "jax_threefry_partitionable": False}


@pytest.fixture(params=OTHER_GENERATORS)
def other_generator(request: pytest.FixtureRequest) -> Iterator[str]:
    before = getattr(jax.config, request.param)
    jax.config.update(request.param, OTHER_GENERATORS[request.param])
    yield request.param
    jax.config.update(request.param, before)


def small_run() -> list[Any]:
    mlp, V0 = cs.MLP(cs.ShapedReLU(0.0, -1.0), depth_to_width=0.5), np.eye(2)
    limit = cs.simulate(mlp, V0, paths=10, key=3, steps=2, chunk=4)
    networks = cs.sample_networks(mlp, V0, width=4, draws=6, key=3, chunk=2)
    weights = mlp.network(width=4, key=3)(np.eye(2))
    outputs = cs.OutputLaw(limit).sample(key=3)
    return [limit.V, networks.V, weights, outputs]


USUAL = small_run()


def test_a_seed_fixes_a_run_whatever_generator_jax_uses_by_default(other_generator: str) -> None:
    for found, expected in zip(small_run(), USUAL, strict=True):
        np.testing.assert_array_equal(found, expected)


def test_the_generator_of_a_run_is_recorded_and_a_checkpoint_of_another_is_refused(tmp_path: Path) -> None:
    mlp, V0 = cs.MLP(cs.ShapedReLU(0.0, -1.0), depth_to_width=0.5), np.eye(2)
    settings: dict[str, Any] = {"paths": 4, "steps": 2, "checkpoint": tmp_path}
    limit = cs.simulate(mlp, V0, key=jax.random.key(3), **settings)
    assert limit.metadata["generator"] == {"implementation": GENERATOR, "partitionable": True}
    other = jax.random.wrap_key_data(np.array([0, 3, 0, 3], np.uint32), impl="rbg")
    assert recorded_generator(other)["implementation"] == "rbg"
    with pytest.raises(ValueError, match="other settings"):
        cs.simulate(mlp, V0, key=other, **settings)


def test_the_words_of_a_key_mean_the_same_generator_as_a_seed(other_generator: str) -> None:
    words = np.asarray(jax.random.key_data(typed_key(5)))
    assert typed_key(jax.numpy.asarray(words)) == typed_key(5)


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


def test_a_run_is_forecast_by_its_operations() -> None:
    x = np.random.default_rng(0).standard_normal((4, 6))
    mlp, V0 = cs.MLP(cs.ShapedSmooth("tanh"), 0.5), cs.gram(x)

    def plan(**given):
        usual = {"targets": x[:, 0], "updates": 4, "method": "weights", "paths": 8, "step_error": False, "steps": 32}
        return cs.train.plan(mlp, V0, **usual | given)

    products, others = forecast.operations(plan())
    # Forward, backward and outer products of 4 inputs, 5 passes and 4 updates: 2 n² each, n = 64, in 32 layers.
    least = 2 * 64**2 * 32 * 4 * (5 + 5 + 4) * 8
    assert least <= products < 1.5 * least
    assert others > 0
    # Twice the updates are about twice the work; so are twice the paths, in as many chunks at a time.
    longer = forecast.operations(plan(updates=8))
    assert 1.6 < longer[0] / products < 2.1
    assert forecast.operations(plan(paths=16))[0] == pytest.approx(2 * products, rel=0.01)
    # A limit whose passes are Diffrax solves, of as many steps as it has.
    fine, coarse = (sum(forecast.operations(plan(method="law", steps=steps))) for steps in (80, 40))
    assert 1.7 < fine / coarse < 2.3
    assert forecast.seconds(plan()) > 0


def test_forecasts_are_said_in_words() -> None:
    said = [forecast.in_words(x) for x in (3.0, 42.0, 100.0, 3000.0, 9000.0)]
    assert said == ["some seconds", "about 40 seconds", "about 2 minutes", "about 50 minutes", "about 2.5 hours"]
