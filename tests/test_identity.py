"""Functions are told apart by what they compute: no cache and no file gives the result of one for that of another."""

import dataclasses
import functools
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import covsde as cs
from covsde.descent.task import task_from
from covsde.numerics.identity import cache_key, identity, name_of_function, told, unidentified

PAIR = np.array([[1.0, 0.3], [0.3, 1.0]])
weight = 1.0
settings = types.SimpleNamespace(weight=1.0)


def squares(f: Any, y: Any) -> Any:
    return weight * jnp.sum((f - y) ** 2)


def namespaced(f: Any, y: Any) -> Any:
    return settings.weight * jnp.sum((f - y) ** 2)


def calling(f: Any, y: Any) -> Any:
    return squares(f, y)


def nested(c: float) -> Callable[..., Any]:
    def outer(inner: Callable[..., Any]) -> Callable[..., Any]:
        return lambda f, y: inner(f, y)

    def middle(inner: Callable[..., Any]) -> Callable[..., Any]:
        return lambda f, y: inner(f, y)

    for _ in range(6):
        middle = functools.partial(lambda m, g: m(g), middle)
    return outer(middle(lambda f, y: c * jnp.sum((f - y) ** 2)))


def scaled(f: Any, y: Any, c: float) -> Any:
    return c * jnp.sum((f - y) ** 2)


class Loss:
    def __init__(self, c: float):
        self.c = c

    def __call__(self, f: Any, y: Any) -> Any:
        return scaled(f, y, self.c)

    def method(self, f: Any, y: Any) -> Any:
        return scaled(f, y, self.c)


class Slotted:
    __slots__ = ("c",)

    def __init__(self, c: float):
        self.c = c

    def __call__(self, f: Any, y: Any) -> Any:
        return scaled(f, y, self.c)


@dataclasses.dataclass
class Written:
    c: float

    def __call__(self, f: Any, y: Any) -> Any:
        return scaled(f, y, self.c)


MAKERS: dict[str, Callable[[float], Any]] = {
    "a nested closure": nested,
    "a partial": lambda c: functools.partial(scaled, c=c),
    "an object": Loss,
    "an object of slots": Slotted,
    "a dataclass": Written,
    "a method": lambda c: Loss(c).method,
    "a dictionary": lambda c: (lambda table: lambda f, y: scaled(f, y, table["c"]))({"c": c}),
    "an array": lambda c: (lambda table: lambda f, y: scaled(f, y, table[0]))(np.array([c])),
    "a default": lambda c: lambda f, y, c=c: scaled(f, y, c),
    "a keyword": lambda c: lambda f, y, *, c=c: scaled(f, y, c),
    "transformed by jax": lambda c: jax.vmap(lambda f, y: scaled(f, y, c)),
}


@pytest.mark.parametrize("kind", MAKERS)
def test_functions_of_every_kind_are_told_apart_by_the_values_they_hold(kind: str) -> None:
    make = MAKERS[kind]
    assert identity(make(1.0)) == identity(make(1.0)) != identity(make(1.0 + 1e-15))
    assert unidentified(make(1.0)) == []


@pytest.mark.parametrize("loss", [squares, namespaced, calling], ids=lambda loss: loss.__name__)
def test_what_a_function_reads_outside_of_it_is_part_of_it(loss: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    before = identity(loss)
    monkeypatch.setitem(globals(), "weight", 5.0)
    monkeypatch.setattr(settings, "weight", 5.0)
    assert identity(loss) != before


def test_a_compiled_program_of_a_loss_is_not_that_of_another_weight(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = Loss(1.0)

    @eqx.filter_jit
    def compiled(task: Any) -> Any:
        return task.error_signal(jnp.zeros(2))

    def signal(loss: Any) -> Any:
        return compiled(task_from(cs.Data(PAIR, [1, -1]), loss=loss, updates=1, substeps=1, optimizer=1.0))

    first = signal(squares), signal(jax.jit(squares)), signal(kept)
    monkeypatch.setitem(globals(), "weight", 5.0)
    kept.c = 5.0
    for before, after in zip(first, (signal(squares), signal(jax.jit(squares)), signal(kept)), strict=True):
        np.testing.assert_array_equal(after, 5 * before)


@pytest.mark.thorough
def test_a_loss_whose_weight_changed_is_computed_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = Loss(1.0)

    def signal(loss: Any) -> Any:
        run = cs.simulate_velocities(cs.MLP(cs.Identity(), 0.5), PAIR, targets=[1, -1], loss=loss, paths=4, steps=2)
        return run.R[-1, :, 0]

    first = signal(squares), signal(jax.jit(squares)), signal(kept)
    monkeypatch.setitem(globals(), "weight", 5.0)
    kept.c = 5.0
    for before, after in zip(first, (signal(squares), signal(jax.jit(squares)), signal(kept)), strict=True):
        np.testing.assert_allclose(after, 5 * before, rtol=1e-12)


class Hidden:
    """Holds what nobody can see into."""

    def __init__(self) -> None:
        self.random = np.random.default_rng(0)

    def __call__(self, f: Any, y: Any) -> Any:
        return jnp.sum((f - y) ** 2)


def test_what_cannot_be_told_apart_is_neither_cached_nor_resumed(tmp_path: Path) -> None:
    hidden = Hidden()
    assert unidentified(hidden) == ["numpy.random._generator.Generator"]
    assert cache_key(hidden) != cache_key(hidden)
    for run in (
        functools.partial(cs.train.plan, cs.MLP(cs.ShapedSmooth("tanh"), 0.5)),
        functools.partial(cs.train_networks.plan, cs.MLP(cs.Identity(), 0.5), width=32),
        functools.partial(cs.simulate_velocities.plan, cs.MLP(cs.Identity(), 0.5)),
    ):
        plan = run(PAIR, targets=[1, -1], loss=hidden)
        assert plan.metadata["loss_unidentified"] == ["numpy.random._generator.Generator"]
        with pytest.raises(ValueError, match=r"checkpoint must be None .* pass what it computes as a function"):
            run(PAIR, targets=[1, -1], loss=hidden, checkpoint=tmp_path / "run")
        with pytest.raises(ValueError, match="checkpoint must be None"):
            plan.run(checkpoint=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("make", [cs.ShapedSmooth, cs.ResNet])
def test_an_activation_that_reads_another_value_than_when_it_was_made_is_refused(
    make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def activation(x: Any) -> Any:
        return jnp.tanh(weight * x)

    def network() -> Any:
        return cs.MLP(make(activation), 0.5) if make is cs.ShapedSmooth else make(activation)

    made = network()
    monkeypatch.setitem(globals(), "weight", 2.0)
    with pytest.raises(ValueError, match=r"reads a value that has changed since .* was made: make it again"):
        cs.simulate(made, PAIR)
    assert jax.tree.structure(network()) != jax.tree.structure(made)


def test_moments_of_a_resnet_are_those_of_the_value_of_now(monkeypatch: pytest.MonkeyPatch) -> None:
    def line(x: Any) -> Any:
        return weight * x

    def grown() -> float:
        return float(cs.kernels(cs.ResNet(line), PAIR, depth=1).H[-1, 0, 0])

    assert grown() == pytest.approx(2.0)
    monkeypatch.setitem(globals(), "weight", 3.0)
    assert grown() == pytest.approx(1.0 + 9.0)


def test_functions_of_libraries_stay_what_they_are() -> None:
    for fn in (jnp.tanh, jax.nn.relu, jax.nn.gelu, jax.lax.erf, np.sin):
        assert told(fn) is fn


def test_names_hold_no_address() -> None:
    assert name_of_function(functools.partial(functools.partial(scaled, c=1.0))) == "scaled"
    assert name_of_function(Loss(1.0)) == "Loss"


def test_identities_are_the_same_in_another_process() -> None:
    here = Path(__file__)
    script = (
        f"import sys; sys.path.insert(0, {str(here.parent)!r}); import test_identity as t; "
        "from covsde.numerics.identity import identity; "
        "print(*(identity(make(1.0)) for make in t.MAKERS.values()), identity(t.squares))"
    )
    path = str(here.parent.parent)
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, env={"PYTHONPATH": path}
    )
    # Modules are part of a function, and this one may go by another name here.
    assert len(set(done.stdout.split())) == len(MAKERS) + 1
    again = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, env={"PYTHONPATH": path}
    )
    assert again.stdout == done.stdout
