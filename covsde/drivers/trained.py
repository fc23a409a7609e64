"""What training leaves behind: chunks of paths or systems of particles, as the arrays of results."""

import dataclasses
import warnings
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from covsde.architectures.base import AbstractTrainable
from covsde.descent.task import Task
from covsde.descent.trajectory import KernelTrajectory, Trajectory
from covsde.inputs.arguments import checked_switch
from covsde.results.status import FailedPathsWarning, PathStatus, UnresolvedStepWarning
from covsde.results.trained_kernels import TrainedKernels
from covsde.results.training import Training
from covsde.run.checkpoint import Arrays

AnyTraining = TypeVar("AnyTraining", bound=Training)

# Gradient descent that has come this far from its targets will not come back.
_DIVERGED = 1e6


def _ceiling(task: Task) -> float:
    return _DIVERGED * max(1.0, float(np.nanmax(np.abs(task.data.targets))))


def keeps_kernels(architecture: AbstractTrainable, task: Task, kernels: bool | str | None) -> tuple[bool, bool]:
    """Whether covariances of labels are kept, and whether gradients of every output are."""
    few = architecture.most_labels is None or len(task.labels()) <= architecture.most_labels
    if isinstance(kernels, str):
        if kernels != "outputs":
            raise ValueError(f"kernels must be True, False or 'outputs', got {kernels!r}.")
        return few, task.outputs > 1
    return (few if kernels is None else checked_switch("kernels", kernels)), False


def axes(task: Task, kernels: bool, per_output: bool) -> dict[str, int]:
    """Where the paths are in the arrays of `finish`."""
    found = dict(Training.path_axis)
    if not _moves(task, kernels):
        del found["moved"]
    if not tested(task).size:
        del found["test_losses"]
    if not per_output:
        del found["G_outputs"], found["ntk_outputs"]
    return found


def _moves(task: Task, kernels: bool) -> bool:
    """Whether movement is an array of its own: where Phi does not have it of all inputs."""
    return task.mean_field or not (task.batches.whole and kernels)


def tested(task: Task) -> NDArray[np.int_]:
    """The test inputs whose targets are known."""
    y = np.asarray(task.data.targets).reshape(task.inputs, -1)
    return np.asarray([i for i in task.batches.tests if np.all(np.isfinite(y[i]))], int)


def finish(task: Task, kernels: bool, trajectory: Trajectory) -> Arrays:
    """One chunk of `Training`, NaN from where training diverged."""
    y = np.asarray(task.data.targets)
    f, Phi, G, A, ntk = (np.array(x) for x in trajectory[:5])
    outputs = np.moveaxis(f, -1, 1)  # (updates + 1, paths, M, C)
    with np.errstate(invalid="ignore"):
        sizes = np.abs(outputs).astype(np.float64)
        valid = np.all(np.isfinite(outputs) & (sizes <= _ceiling(task)), axis=(2, 3))
    valid = np.logical_and.accumulate(valid, axis=0)
    outputs[~valid] = np.nan
    ntk[~valid[: len(ntk)]] = np.nan
    gone = ~valid[task.labels()[: Phi.shape[-1], 0]].T  # (paths, N)
    for X in (Phi, G, A):
        X[:, gone[:, :, None] | gone[:, None, :]] = np.nan
    if y.ndim == 1:
        outputs = outputs[..., 0]
    found = losses(task, outputs)
    rest = np.all(np.isfinite(Phi) & np.isfinite(G) & np.isfinite(A), axis=(0, 2, 3))
    rest &= np.all(np.isfinite(found["losses"]), axis=0)
    if _moves(task, kernels):
        assert trajectory.moved is not None
        found["moved"] = np.array(np.moveaxis(np.asarray(trajectory.moved), -1, 2))
        found["moved"][np.broadcast_to(~valid[:, None], found["moved"].shape[:3])] = np.nan
    if trajectory.ntk_outputs is not None:
        found["G_outputs"], found["ntk_outputs"] = (np.array(x) for x in trajectory[6:8])
        found["ntk_outputs"][~valid[: len(ntk)]] = np.nan
        lost = ~valid[task.labels()[:, 0]].T
        pairs = lost[:, :, None, None, None] | lost[:, None, None, :, None]
        found["G_outputs"][:, np.broadcast_to(pairs, found["G_outputs"].shape[1:])] = np.nan
    status = np.where(valid[-1], np.where(rest, PathStatus.FINE, PathStatus.NOT_FINITE), PathStatus.EXPLODED)
    if task.data.column:
        outputs = outputs[..., None]
    return found | {
        "outputs": outputs,
        "Phi": Phi,
        "G": G,
        "A": A,
        "ntk": ntk,
        "status": status.astype(np.int8),
    }


def losses(task: Task, outputs: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """Of outputs (updates + 1, paths, M[, C]): losses of the trained inputs, summed or at mean-field scale averaged,
    and averaged over the test inputs whose targets are known, if there are some; (updates + 1, paths) each."""
    if task.centred:
        outputs = outputs - outputs[:1]

    def over(chosen: Any) -> NDArray[Any]:
        index = np.asarray(chosen)
        f, y = outputs[:, :, index], np.asarray(task.data.targets)[index]
        return np.asarray(jax.vmap(jax.vmap(lambda f: task.loss(f, jnp.asarray(y, f.dtype))))(jnp.asarray(f)))

    trained, tests = task.batches.trained, tested(task)
    found = {"losses": over(trained) / (len(trained) if task.mean_field else 1)}
    return found | ({"test_losses": over(tests) / tests.size} if tests.size else {})


# The error of the step that is let pass: what features move in one, against their size, to the order of the scheme. And
# the share of paths that is told.
_RESOLVED, _TOLD = 0.1, 0.1


def judged(training: AnyTraining) -> AnyTraining:
    """The same, with the share of its paths that its steps do not resolve.

    Warns:
        UnresolvedStepWarning: if they are many.
    """
    if "solver" not in training.metadata or training.updates == 0:
        return training
    most = _RESOLVED ** (1 / training.metadata["order"])
    share = float(np.mean(training.movement_per_step() > most))
    if share > _TOLD:
        warnings.warn(
            f"On {share:.0%} of the paths features move by more than {most:.0%} of their size within one of "
            f"{training.metadata['steps']} steps, so the numbers are those of the step: use more steps (see "
            "movement_per_step, and richardson for two numbers of steps), or a lower learning_rate.",
            UnresolvedStepWarning,
            stacklevel=5,
        )
    return dataclasses.replace(training, metadata=training.metadata | {"unresolved": share})


def system_axes(task: Task) -> dict[str, int]:
    """Where the systems of particles are in the arrays of `system`."""
    return dict.fromkeys((name for name in KernelTrajectory._fields if name != "moved" or not task.batches.whole), 0)


def system(found: KernelTrajectory) -> Arrays:
    """One system of particles as a chunk."""
    return {name: np.asarray(x)[None] for name, x in found._asdict().items() if x is not None}


def collect(task: Task, tau: NDArray[Any], sampled: bool, stacked: Arrays, metadata: dict[str, Any]) -> TrainedKernels:
    """Mean over independent systems of particles, with standard errors from their spread, and what each adds to it."""
    systems, targets = metadata["systems"], np.asarray(task.data.targets)
    if targets.ndim == 1 and not task.data.column:
        stacked = stacked | {"outputs": stacked["outputs"][..., 0]}
    means, errors, replicates = {}, {}, {}
    with np.errstate(invalid="ignore", over="ignore"):
        for name, array in stacked.items():
            values = array.astype(np.float64)
            means[name] = values.mean(axis=0)
            spread = values.std(axis=0, ddof=1) / np.sqrt(systems) if systems > 1 else np.full(values.shape[1:], np.nan)
            errors[name] = spread if sampled else np.zeros(values.shape[1:])
            if sampled and systems > 1:
                replicates[name] = (systems * means[name] - values) / (systems - 1)
        sizes = np.abs(stacked["outputs"])
        good = np.all(sizes.reshape(*sizes.shape[:2], -1) <= _ceiling(task), axis=2)
    valid = np.logical_and.accumulate(good.all(axis=0))
    for part in filter(None, (means, errors, replicates)):
        _forget(task, part, valid)
    finite = all(np.all(np.isfinite(x)) for x in means.values())
    status = PathStatus.FINE if finite else (PathStatus.NOT_FINITE if valid[-1] else PathStatus.EXPLODED)
    if not finite:
        count = int(np.sum(~np.logical_and.accumulate(good, axis=1)[:, -1]))
        warnings.warn(
            f"Training diverged after update {int(valid.sum()) - 1} in {count} of {systems} systems of particles: "
            "everything later is NaN; lower learning_rate or beta.",
            FailedPathsWarning,
            stacklevel=4,
        )

    def of(outputs: NDArray[Any]) -> dict[str, NDArray[Any]]:
        return losses(task, outputs[..., 0] if task.data.column else outputs)

    if replicates:
        parts = of(np.moveaxis(replicates["outputs"], 0, 1))
        replicates |= {name: np.moveaxis(x, 1, 0) for name, x in parts.items()}
    found = TrainedKernels(
        tau=np.asarray(tau),
        targets=targets[:, None] if task.data.column else targets,
        standard_error=errors,
        status=status,
        metadata=metadata,
        replicates=replicates,
        labels=task.labels(),
        **means,
        **{name: x[:, 0] for name, x in of(means["outputs"][:, None]).items()},
    )
    return judged(found)


def _forget(task: Task, part: dict[str, NDArray[Any]], valid: NDArray[np.bool_]) -> None:
    """NaN in the place of everything after training has diverged; a leading axis of systems may be there."""
    gone = ~valid[task.labels()[:, 0]]
    single = np.ndim(task.data.targets) == 1 and not task.data.column
    (part["outputs"][..., None] if single else part["outputs"])[..., ~valid, :, :] = np.nan
    part["ntk"][..., ~valid[: part["ntk"].shape[-3]], :, :] = np.nan
    for name in ("H", "Phi", "G", "A"):
        part[name][..., gone[:, None] | gone[None, :]] = np.nan
    if "moved" in part:
        part["moved"][..., ~valid, :, :] = np.nan
