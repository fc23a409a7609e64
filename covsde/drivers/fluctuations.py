"""Fluctuations of networks of finite width around the deterministic limit of their training."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, SupportsFloat

import numpy as np
from jaxtyping import PRNGKeyArray
from numpy.typing import NDArray

from covsde.architectures.base import AbstractWithFluctuations
from covsde.descent.fluctuations import Found
from covsde.descent.losses import Loss
from covsde.descent.optimizers import SGD
from covsde.descent.task import Task
from covsde.drivers.train import described, task_of
from covsde.inputs.arguments import instance_of, positive_int, resolve_dtype
from covsde.inputs.data import Data
from covsde.numerics.keys import typed_key
from covsde.results.fluctuations import Fluctuations
from covsde.run.checkpoint import Arrays
from covsde.run.chunks import Chunks
from covsde.run.memory import check_room
from covsde.run.metadata import run_metadata
from covsde.run.plan import Plan, precision, question

# In one system of particles: the bias of a derivative is of order 1/particles.
_PARTICLES = 1500


@question
def fluctuations(
    architecture: AbstractWithFluctuations,
    V0: Any,
    *,
    targets: Any,
    updates: int = 3,
    learning_rate: SupportsFloat | Sequence[float | int] | NDArray[Any] = 1.0,
    optimizer: Any = None,
    batches: Any = None,
    centred: bool = False,
    loss: str | Loss = "squared",
    paths: int = 6000,
    directions: int = 0,
    key: int | PRNGKeyArray = 0,
    dtype: Any = None,
    chunk: int | None = None,
    progress: bool | None = None,
    checkpoint: str | Path | None = None,
    richness: SupportsFloat | None = None,
    train_input: bool | np.bool_ | None = None,
    train_readout: bool | np.bool_ | None = None,
) -> Plan[Fluctuations]:
    """Predict how trained networks of finite width fluctuate over initializations: N Cov of outputs as N → ∞.

    Args:
        architecture: e.g. MeanFieldMLP(jnp.tanh, depth=3); linear networks are solved without sampling.
        V0: as for `train`, and so are targets, updates, learning_rate, optimizer, batches, centred and loss.
        targets: one number per input, (M,), or for C outputs (M, C); rows of NaN are unknown targets of test inputs.
        updates: steps of gradient descent.
        learning_rate: η₀.
        optimizer: a `SGD` with momentum and weight decay in place of learning_rate.
        batches: indices of the inputs of every update, or a list of them per update; others are test inputs.
        centred: train f - f(0) in place of f; covariances are of f all the same, see `Fluctuations.centred`.
        loss: of the training.
        paths: particles, in systems of `chunk` each whose spread gives standard errors.
        directions: random directions along which second derivatives give the shift of the mean, and first derivatives
            the variances of kernels; relative error √(2/directions) of those. 0 leaves them out, but for the shift of a
            linear network with few sources, which is exact.
        key: int seed or JAX key.
        dtype: float64 (default) or float32.
        chunk: particles of one system, of which results have a bias of order 1/chunk; default: 1500.
        progress: show a bar; default: on a terminal.
        checkpoint: folder for finished systems; an interrupted call with the same arguments resumes from it.
        richness: γ₀ > 0; default 1, small is lazy.
        train_input: as for `train`.
        train_readout: as for `train`.

    Returns:
        `Fluctuations`; its `at_width(n)` is what `compare` holds networks of width n against.

    Example:
        ```python
        mlp = cs.MeanFieldMLP(jnp.tanh, depth=2)
        around = cs.fluctuations(mlp, [[1.0, 0.3], [0.3, 1.0]], targets=[1.0, -1.0], updates=1, paths=400)
        print(around.variance / 64)
        ```

    Raises:
        ValueError: for an argument out of range or an activation with kinks; the message names it.
        TypeError: for an architecture whose fluctuations are not known.

    Source: arXiv 2304.03408; equations in covsde/descent/fluctuations.py.
    """
    example = "an architecture whose fluctuations are known, such as MeanFieldMLP(jnp.tanh, depth=2)"
    instance_of("architecture", architecture, AbstractWithFluctuations, example)
    kind, paths = resolve_dtype(dtype), positive_int("paths", paths)
    directions = positive_int("directions", directions, least=0)
    given = {"richness": richness, "train_input": train_input, "train_readout": train_readout}
    rule = {"optimizer": SGD(learning_rate) if optimizer is None else optimizer, "batches": batches, "centred": centred}
    task = task_of(architecture, Data(V0, targets), given, loss=loss, updates=updates, substeps=1, **rule)
    size = min(positive_int("chunk", _PARTICLES if chunk is None else chunk), paths)
    sampled = architecture.check_fluctuations(task, size)
    systems = -(-paths // size) if sampled else 1
    count = (task.updates + 1) * task.inputs * task.outputs
    check_room("updates", task.updates, lambda n: 4 * 8 * (count * (n + 1) // (task.updates + 1)) ** 2, "covariances")
    settings = run_metadata("limit", architecture, np.asarray(task.data.V0), key, label="limit", systems=systems)
    settings |= described(task) | {"dtype": kind.name, "paths": paths, "chunk": size, "directions": directions}
    with precision(kind):
        arrays = task.arrays(kind)

    def dispatch(system_key: PRNGKeyArray, _: int) -> Found:
        return architecture.fluctuations(arrays, size, directions, system_key)

    axes = dict.fromkeys(("outputs", "covariance", "shift", "shift_error"), 0)
    axes |= dict.fromkeys(("Phi", "G", "ntk"), 0) if directions else {}
    chunks = Chunks(dispatch, _system, axes, typed_key(key), systems, 1, "particles")
    collect = partial(_collect, task, sampled)
    return Plan(chunks, settings, kind, collect, 8 * count**2, progress, checkpoint)


def _system(found: Found) -> Arrays:
    """One system as a chunk."""
    arrays = found._asdict()
    return {name: np.asarray(x)[None] for name, x in (arrays | arrays.pop("kernels")).items() if name != "kernels"}


def _collect(task: Task, sampled: bool, stacked: Arrays, metadata: dict[str, Any]) -> Fluctuations:
    """Means over systems, with standard errors from their spread."""
    targets = np.asarray(task.data.targets)
    shape = stacked["outputs"].shape[1:]
    if targets.ndim == 1 and not task.data.column:
        shape = shape[:2]
    systems, means, errors = len(stacked["outputs"]), {}, {}
    for name, x in stacked.items():
        values = x.astype(np.float64)
        means[name] = values.mean(axis=0)
        spread = values.std(axis=0, ddof=1) / np.sqrt(systems) if systems > 1 else np.full(values.shape[1:], np.nan)
        errors[name] = spread if sampled else np.zeros(values.shape[1:])
    if not sampled or systems == 1:
        errors["shift"] = np.hypot(np.nan_to_num(errors["shift"]), means["shift_error"])
    for part in (means, errors):
        del part["shift_error"]
        for name, twice in (("outputs", 1), ("shift", 1), ("covariance", 2)):
            part[name] = part[name].reshape(shape * twice)
    if not np.all(np.isfinite(means["covariance"])):
        raise ValueError("learning_rate is so large that training diverges, and with it every derivative: lower it.")
    kernels: dict[str, NDArray[Any]] = {name: means.pop(name) for name in ("Phi", "G", "ntk") if name in means}
    return Fluctuations(
        targets=targets[:, None] if task.data.column else targets,
        kernels=kernels,
        standard_error=errors,
        labels=task.labels(),
        metadata=metadata,
        **means,
    )
