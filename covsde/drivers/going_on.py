"""Going on with training where it ended: the same paths, for more updates."""

import dataclasses
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import numpy as np
from jaxtyping import PRNGKeyArray

from covsde.architectures.base import AbstractTrainable
from covsde.descent.batches import Batches
from covsde.descent.optimizers import SGD, AbstractEntrywise
from covsde.descent.task import Sizes, Task
from covsde.drivers.halved import beside
from covsde.inputs.arguments import checked_switch, positive_int
from covsde.results.training import Training
from covsde.run.chunks import Chunks
from covsde.run.memory import check_room
from covsde.run.plan import Plan, precision


@dataclasses.dataclass(frozen=True)
class Before:
    """Earlier runs of the same paths.

    Attributes:
        looked: the numbers of updates after which they ended, increasing.
        snapshots: what the last of them kept of its chunks, by their keys.
    """

    looked: tuple[int, ...] = ()
    snapshots: Mapping[bytes, Any] = dataclasses.field(default_factory=dict)

    def of(self, key: PRNGKeyArray) -> tuple[Any, ...]:
        """The snapshot of a chunk, if there is one."""
        found = self.snapshots.get(_name(key))
        return () if found is None else (found,)


@dataclasses.dataclass(frozen=True)
class GoingOn:
    """How a training was made, and what it takes to go on.

    Attributes:
        question: `train` or `train_networks`.
        arguments: what it was asked.
        before: the run itself and those before it.
    """

    question: Any
    arguments: Mapping[str, Any]
    before: Before

    def plan(self, run: Training, updates: int, batches: Any, learning_rate: Any, **how: Any) -> Plan[Training]:
        """The plan of the same paths for more updates, and of those in half the steps.

        Raises:
            ValueError: naming the argument that is missing, or that the run has no use for.
        """
        new, looked = positive_int("updates", updates), (*self.before.looked, run.updates)
        rows = self._batches(run, new, batches)
        arguments = dict(self.arguments) | {
            "updates": run.updates + new,
            "batches": rows,
            "chunk": run.metadata["chunk"],
            "save_at": run.metadata["save_at"],
            "kernels": run.metadata["kernels"],
            "optimizer": self._optimizer(run, new, learning_rate),
            "method": run.metadata.get("method", self.arguments["method"]),
        }
        if "order" in run.metadata:
            arguments |= {"steps": run.metadata["steps"], "step_error": False}
        plan = self.question.plan(**arguments | how)
        # What was kept of smaller batches has no room for larger ones.
        size = Batches.of(rows, run.inputs, run.updates + new).size
        kept = self.before.snapshots if size == run.ntk.shape[-1] else {}
        before = dataclasses.replace(self.before, looked=looked, snapshots=kept)
        plan = dataclasses.replace(
            plan,
            chunks=dataclasses.replace(plan.chunks, dispatch=partial(plan.chunks.dispatch, before=before)),
            metadata=plan.metadata | {"looked": list(looked)},
            result=partial(_after, plan.result, looked),
        )
        if run.coarse is None:
            return plan
        return beside(plan, run.coarse.going_on.plan(run.coarse, updates, batches, learning_rate, **how))

    def _batches(self, run: Training, new: int, given: Any) -> Any:
        old = self.arguments["batches"]
        before = Batches.of(old, run.inputs, run.updates)
        if before.constant:
            if given is not None:
                raise ValueError("batches must be left out: one batch is trained at every update of this run.")
            return old
        if given is None or len(list(given)) != new:
            raise ValueError(f"batches must be given for the {new} new updates, as they were for those before.")
        if run.metadata.get("method", "law") == "law":
            self._check_drawn(before, Batches.of(given, run.inputs, new))
        return [*old, *given]

    def _check_drawn(self, before: Batches, after: Batches) -> None:
        """Refuse batches of which more would have been drawn from the start, where weights are not."""
        if after.size > before.size:
            raise ValueError(
                f"batches must hold at most {before.size} inputs, as before, where weights are not drawn, got "
                f"{after.size}: split them, or train from the start."
            )
        unseen = sorted(set(after.trained) - set(before.trained))
        if unseen and getattr(self.arguments["architecture"].training_settings, "mean_field", False):
            raise ValueError(
                f"batches names input {unseen[0]}, so far a test input, for which a ResNet has not drawn: drop it, or "
                "train from the start."
            )

    def _optimizer(self, run: Training, new: int, rate: Any) -> Any:
        rule = self.arguments["optimizer"]
        rule = SGD(self.arguments["learning_rate"]) if rule is None else rule
        if not isinstance(rule, SGD | AbstractEntrywise):
            if rate is not None:
                raise ValueError("learning_rate must be left out: an optimiser of optax has its own rates.")
            return rule
        if rate is None:
            if np.ndim(rule.rate):
                raise ValueError(f"learning_rate must be given for the {new} new updates, as for those before.")
            return rule
        rates = np.asarray(rate, float)
        if rates.shape not in ((), (new,)):
            raise ValueError(f"learning_rate must be a number or one for each of the {new} new updates.")
        before = np.asarray(rule.rates(run.updates), float)
        return dataclasses.replace(rule, rate=np.concatenate([before, np.broadcast_to(rates, new)]))


def _after(result: Callable[..., Training], looked: tuple[int, ...], found: Any, metadata: Any) -> Training:
    run = result(found, metadata)
    going_on = run.going_on
    return dataclasses.replace(
        run, going_on=dataclasses.replace(going_on, before=dataclasses.replace(going_on.before, looked=looked))
    )


def remembering(
    plan: Plan[Training], question: Any, arguments: Mapping[str, Any], kept: Mapping[bytes, Any]
) -> Plan[Training]:
    """A plan whose result knows how to go on, from the snapshots that its chunks will have kept."""
    made = GoingOn(question, arguments, Before((), kept))

    def result(found: Any, metadata: dict[str, Any]) -> Training:
        return dataclasses.replace(plan.result(found, metadata), going_on=made)

    return dataclasses.replace(plan, result=result)


def is_resumable(architecture: AbstractTrainable, wanted: Any) -> bool:
    """Whether a snapshot is kept.

    Raises:
        ValueError: if it is asked for and the family keeps none.
    """
    if checked_switch("resumable", wanted) and not architecture.keeps_state:
        raise ValueError(
            f"resumable=True is for MLPs, and {type(architecture).__name__} goes on from its first update: drop it."
        )
    return bool(wanted)


def dispatching(call: Callable[..., Any], task: Task, sizes: Sizes, kept: dict[bytes, Any]) -> Callable[..., Any]:
    """What trains a chunk of a run, or goes on with it, and keeps its snapshot.

    Args:
        call: trains, from a task, sizes, a key and if need be a snapshot.
        task: in arrays of the dtype of the computation.
        sizes: but for the number of paths.
        kept: where snapshots are put, in the memory of the host.
    """

    def dispatch(key: PRNGKeyArray, size: int, before: Before | None = None) -> Any:
        given = task if before is None else dataclasses.replace(task, looked=before.looked)
        found = call(given, sizes._replace(draws=size), key, *(() if before is None else before.of(key)))
        if sizes.resumable and not isinstance(key, jax.core.Tracer):
            kept[_name(key)] = jax.device_get(found.snapshot)
            found = found._replace(snapshot=None)
        return found

    return dispatch


def check_snapshots(chunks: Chunks, dtype: np.dtype, name: str) -> None:
    """Refuse more paths than whose snapshots fit into the memory.

    Args:
        chunks: of a run that keeps them.
        dtype: of the computation.
        name: of the argument that says how many paths there are.
    """
    with precision(dtype):
        shapes = jax.eval_shape(lambda key: chunks.dispatch(key, chunks.size).snapshot, jax.random.key(0))
    one = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(shapes)) / chunks.size
    check_room(name, chunks.total, lambda n: int(one * n), "the state of each path, which resumable=True keeps,")


def _name(key: PRNGKeyArray) -> bytes:
    return bytes(np.asarray(jax.random.key_data(key)))
