"""Plans: everything that is decided before anything is computed.

A question is a function that makes a plan from its arguments, refusing what cannot be computed; calling the question
runs the plan, and `question.plan(...)` returns it.
"""

import dataclasses
import functools
import inspect
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, ParamSpec, Protocol, TypeVar, get_args, runtime_checkable

import jax
import numpy as np

from covsde.inputs.arguments import checked_switch
from covsde.run.checkpoint import Arrays, identity_of
from covsde.run.chunks import Chunks
from covsde.run.memory import check_room

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")
Answer = TypeVar("Answer", covariant=True)


@dataclass(frozen=True, eq=False, repr=False)
class Plan(Generic[Result]):
    """A computation that has not started.

    Args:
        chunks: what is computed, in which portions.
        metadata: all that decides the result: steps, the grid to save, chunks, seed, generator, hyperparameters.
        dtype: of the computation.
        result: makes the result from the arrays of all chunks and the metadata.
        path_bytes: memory that a path takes in the result.
        progress: show a bar; None: on a terminal, .
        checkpoint: folder for finished chunks, or None.
        coarse: the same of fewer steps, which the result takes in, or None.
    """

    chunks: Chunks
    metadata: dict[str, Any]
    dtype: np.dtype
    result: Callable[[Arrays, dict[str, Any]], Result]
    path_bytes: int
    progress: bool | None = None
    checkpoint: str | Path | None = None
    coarse: "Plan[Any] | None" = None

    def __post_init__(self) -> None:
        _check_how(self.metadata, self.progress, self.checkpoint)

    @property
    def bytes(self) -> int:
        """Memory that the result will take."""
        return self.path_bytes * self.chunks.total + (0 if self.coarse is None else self.coarse.bytes)

    @property
    def fingerprint(self) -> str:
        """A digest of the metadata: a checkpoint belongs to one."""
        return identity_of(self.metadata)

    def __repr__(self) -> str:
        """Return one line that says what would be computed."""
        steps = f", {self.metadata['steps']} steps" if "steps" in self.metadata else ""
        size = f"{self.chunks.total} paths in {self.chunks.count} chunks{steps}, {self.dtype}"
        return f"Plan({self.metadata.get('label', self.chunks.label)}: {size}, {self.bytes / 2**20:.1f} MiB)"

    def rehearse(self) -> None:
        """Trace the computation of a chunk without running it, so that what it would refuse is refused now."""
        with self.precision():
            jax.eval_shape(lambda key: self.chunks.dispatch(key, self.chunks.size), jax.random.key(0))

    def check_room(self) -> None:
        """Refuse more paths than this machine has room for.

        Raises:
            ValueError: naming how many it has room for.
        """
        if self.metadata.get("deterministic") and "updates" in self.metadata:
            # Of one set of kernels, which grows with the square of the updates.
            updates = self.metadata["updates"]
            one = 2 * self.bytes / (updates + 1) ** 2
            check_room("updates", updates, lambda n: int(one * (n + 1) ** 2), "the kernels of all labels")
            return
        name = "draws" if self.metadata.get("kind") == "network" else "paths"
        # All chunks, and the arrays they are put together to.
        one = 2 * self.path_bytes * (1 if self.coarse is None else 2)
        check_room(name, self.chunks.total, lambda paths: one * paths, "the result")

    def precision(self) -> Any:
        """The context in which this plan's arrays are made."""
        return precision(self.dtype)

    def run(self, **instead: Any) -> Result:
        """Compute the result.

        Args:
            instead: progress or checkpoint, in place of the plan's own.
        """
        how = {"progress": self.progress, "checkpoint": self.checkpoint} | instead
        _check_how(self.metadata, **how)
        self.check_room()
        start = time.perf_counter()
        with self.precision():
            found = self.chunks.run(self.metadata, **how)
        result = self.result(found, self.metadata | {"seconds": time.perf_counter() - start})
        if self.coarse is None:
            return result
        folder = how["checkpoint"]
        part = self.coarse.run(**how | {"checkpoint": None if folder is None else Path(folder) / "coarse"})
        return dataclasses.replace(result, coarse=part)  # type: ignore[type-var]


def _check_how(metadata: Mapping[str, Any], progress: Any, checkpoint: Any) -> None:
    """Refuse what is no switch and no folder, and checkpoints that could be those of another run."""
    if progress is not None:
        checked_switch("progress", progress)
    folder = os.fspath(checkpoint) if isinstance(checkpoint, str | os.PathLike) else checkpoint
    if folder is not None and (not isinstance(folder, str) or folder == "" or "\0" in folder):
        raise ValueError(f"checkpoint must be the name of a folder, such as 'run1', got {checkpoint!r}.")
    unseen = [x for name, value in metadata.items() if name.endswith("unidentified") for x in value]
    if folder is not None and unseen:
        raise ValueError(
            f"checkpoint must be None for this run, which depends on {unseen[0]}, an object that cannot be told from "
            "another of its kind: pass what it computes as a function of numbers and arrays, or drop checkpoint."
        )


def precision(dtype: np.dtype) -> Any:
    """The context in which JAX has arrays of this dtype."""
    return jax.enable_x64(dtype == np.float64)


@runtime_checkable
class Question(Protocol[Arguments, Answer]):
    """What `question` makes of a function."""

    plan: Callable[..., Plan[Any]]

    def __call__(self, *args: Arguments.args, **kwargs: Arguments.kwargs) -> Answer:
        """Make the plan and run it."""


def question(function: Callable[Arguments, Plan[Result]]) -> Question[Arguments, Result]:
    """Turn a function that makes a plan into one that runs it; the plan itself is given by its attribute `plan`."""

    @functools.wraps(function)
    def ask(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        return function(*args, **kwargs).run()

    (answer,) = get_args(inspect.get_annotations(function)["return"])
    ask.__annotations__ = function.__annotations__ | {"return": answer}
    ask.__signature__ = inspect.signature(function).replace(return_annotation=answer)  # type: ignore[attr-defined]
    ask.plan = function  # type: ignore[attr-defined]
    return ask  # type: ignore[return-value]
