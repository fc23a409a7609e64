"""Training: the limit, and finite networks really trained, as the same result."""

import dataclasses
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, SupportsFloat, cast

import numpy as np
from jaxtyping import PRNGKeyArray
from numpy.typing import NDArray

from covsde.architectures.base import AbstractTrainable
from covsde.descent.losses import Loss
from covsde.descent.optimizers import SGD, AbstractEntrywise
from covsde.descent.task import Sizes, Task, settings_from, task_from
from covsde.descent.trajectory import KernelTrajectory
from covsde.drivers.going_on import check_snapshots, dispatching, is_resumable, remembering
from covsde.drivers.halved import beside, is_halved
from covsde.drivers.trained import axes, collect, finish, judged, keeps_kernels, system, system_axes
from covsde.inputs.arguments import instance_of, positive_int, resolve_dtype, untraced
from covsde.inputs.data import Data
from covsde.numerics.keys import coarse_key, typed_key
from covsde.results.training import Training
from covsde.run.checkpoint import Arrays
from covsde.run.chunks import Chunks, compiled
from covsde.run.memory import check_room, even_chunk
from covsde.run.metadata import function_metadata, run_metadata
from covsde.run.plan import Plan, precision, question

# Where particles share one set of kernels: independent systems, for standard errors, and the fewest in one.
_SYSTEMS = 8
_FEWEST_PARTICLES = 512
# Paths that statistics need: if the memory has no room for them, there are too many updates and not too many paths.
_FEW = 100


@question
def train(
    architecture: AbstractTrainable,
    V0: Any,
    *,
    targets: Any,
    updates: int = 3,
    substeps: int = 1,
    learning_rate: SupportsFloat | Sequence[float | int] | NDArray[Any] = 1.0,
    optimizer: Any = None,
    batches: Any = None,
    centred: bool = False,
    method: str | None = None,
    paths: int = 2000,
    key: int | PRNGKeyArray = 0,
    loss: str | Loss = "squared",
    steps: int | None = None,
    save_at: Sequence[float | int] | None = None,
    kernels: bool | str | None = None,
    dtype: Any = None,
    chunk: int | None = None,
    progress: bool | None = None,
    checkpoint: str | Path | None = None,
    output_scale: SupportsFloat | None = None,
    richness: SupportsFloat | None = None,
    depth: int | None = None,
    response: bool | np.bool_ | None = None,
    train_input: bool | np.bool_ | None = None,
    train_readout: bool | np.bool_ | None = None,
    step_error: bool | np.bool_ | None = None,
    resumable: bool | np.bool_ = False,
) -> Plan[Training]:
    """Train an architecture's limit by gradient descent: for an MLP, the forward–backward SDE of feature learning.

    Args:
        architecture: e.g. MLP(ShapedSmooth(jnp.tanh), depth_to_width=0.5), or ResNet(jnp.tanh).
        V0: Gram matrix of all inputs (M, M), those of training and of tests, symmetric positive semidefinite.
        targets: one number per input, (M,), or for C outputs (M, C); rows of NaN are unknown targets of test inputs.
        updates: steps of gradient descent; each is recorded.
        substeps: gradient steps per update, of η₀/substeps each: many approach gradient flow for a time η₀ per update.
        learning_rate: η₀, of order one, or one for each update: networks of width n use η₀/n on their hidden matrices.
            For a ResNet the loss of an update is the mean over its batch, and networks use η₀γ₀²n on it.
        optimizer: in place of learning_rate, a `SGD` with momentum and weight decay λ: the share η₀λ/n of the weights
            per update, n the width of networks, and for a ResNet the share η₀λ, of order one; of an MLP also `Sign` or
            `Adam`.
        batches: indices of the inputs of every update, or a list of them per update; default: all. Inputs in no batch
            are test inputs: they are read, each jointly with the training, and do not slow it down.
        centred: train f - f(0) in place of f, of which losses and accuracies then are; in the limit of a ResNet f(0) is
            0.
        method: of the limit of an MLP, "law" reveals the weights of its layers where training meets them, "weights"
            draws them, at a cost that does not depend on the number of labels; default: by that number.
        paths: number of independent paths; for a deterministic limit, of particles or hidden units.
        key: int seed or JAX key; the result depends on it and on `chunk`.
        loss: "squared" (½ Σ (f - y)²), "logistic" (y = ±1), "cross_entropy" (classes 0, 1, … or rows of
            probabilities), or a JAX function of outputs and targets of a batch, (P,) or (P, C), summed over it.
        steps: steps over unit layer time; the weak error is of first order in 1/steps, for a ResNet of second. Default:
            100 per unit of T, for a ResNet 32.
        save_at: layer times at which Phi, G and A are kept, rounded to steps, with 0 and 1; default: fifths.
        kernels: whether they are kept; default: up to 128 labels, whose number they take the square of. "outputs", of
            an MLP whose weights are drawn: also gradients and tangent kernel of each of several outputs.
        dtype: float64 (default) or float32.
        chunk: paths trained at a time; bounds the memory.
        progress: show a bar; default: on a terminal.
        checkpoint: folder for finished chunks; an interrupted call with the same arguments resumes from it.
        output_scale: of an MLP, the s in f = s w·h/√n; default 1.
        richness: of a ResNet, γ₀ > 0; default 1, small is lazy.
        depth: of a ResNet's limit, its number of blocks; default: infinite.
        response: of a ResNet, False for backward matrices independent of the forward ones; default True.
        train_input: whether the matrix of the inputs moves as well; default False. For an MLP that changes the limit
            only within its error in the step, here and for the readout.
        train_readout: whether the readout moves as well; default False.
        step_error: of random paths, whether as many are trained in half the steps, as `coarse` of the result: then
            `compare` and `extrapolated` take the error of the step away to leading order, and say how large it was.
            Default: where weights are drawn, which makes it cheap, if the steps can be halved.
        resumable: of an MLP, whether the final state of every path is kept in memory, so that `Training.resume` goes on
            from there; without it the same paths are trained again from the start.

    Returns:
        `Training`, with paths whose training diverged counted in `failures`; for a deterministic limit
        `TrainedKernels`, with outputs (updates + 1, M), or (updates + 1, M, C).

    Example:
        ```python
        x = np.random.default_rng(0).standard_normal((6, 10))
        mlp = cs.MLP(cs.ShapedSmooth(jnp.tanh), depth_to_width=0.5)
        run = cs.train(
            mlp, cs.gram(x), targets=x[:, 0], batches=[0, 1, 2, 3], optimizer=cs.SGD(0.5, momentum=0.5), paths=64
        )
        print(run.losses.mean(axis=1), run.test_losses.mean(axis=1))
        ```

    Raises:
        ValueError: for an argument out of range; the message names it.
        TypeError: for an activation or a block without a limit, or an option that the architecture does not have.

    Source: Li, Noci, Hanin, feature learning in the proportional limit (announced; M. Li's lecture notes STAT 946,
    Waterloo, 2025); equations and scheme in covsde/architectures/mlp/feature_learning.py.
    """
    arguments = dict(locals())
    given: dict[str, Any] = {"output_scale": output_scale, "richness": richness, "depth": depth, "response": response}
    given |= {"train_input": train_input, "train_readout": train_readout}
    rule = {"optimizer": SGD(learning_rate) if optimizer is None else optimizer, "batches": batches, "centred": centred}
    paths, kind, data = positive_int("paths", paths), resolve_dtype(dtype), Data(V0, targets)
    # What needs all kernels has one set of them, whatever the number of particles.
    shared = getattr(architecture, "most_labels", 0) is None
    _check_updates(data, updates, "paths", 1 if shared else paths, kind)
    task = task_of(architecture, data, given, loss=loss, updates=updates, substeps=substeps, **rule)
    grid = architecture.training_grid(task)
    if grid is not None and grid.depth is not None:
        if steps is not None:
            raise ValueError("steps has no meaning at a finite depth, whose blocks are the steps: drop one.")
        steps = grid.depth
    method = architecture.training_method(task, method)
    _check_steps(task, method, kind)
    steps = architecture.training_steps(task, method) if steps is None else positive_int("steps", steps)
    half = is_halved(task, method, steps, architecture.depth_to_width, step_error)
    layers, tau = architecture.training_layers(save_at, steps // 2 if half else steps)
    kept, each = keeps_kernels(architecture, task, kernels)
    sizes = Sizes(steps, layers, paths, method=method, kernels=kept, per_output=each)
    sizes = sizes._replace(resumable=is_resumable(architecture, resumable))
    sizes = sizes._replace(layers=tuple(2 * layer for layer in layers)) if half else sizes
    default = architecture.training_chunk(task, sizes, kind.itemsize)
    if grid is not None:
        fewest = max(_FEWEST_PARTICLES, 8 * (task.inputs + task.outputs))
        default = min(default, max(fewest, -(-paths // _SYSTEMS)))
    chunk = positive_int("chunk", even_chunk(paths, default) if chunk is None else chunk)
    architecture.check_training(task, sizes)
    settings = run_metadata(
        "limit", architecture, np.asarray(task.data.V0), key, label="limit", steps=steps, paths=paths
    )
    if grid is None:
        settings |= {"solver": "LayerStep", "method": method, "order": 1}
    elif grid.depth is None:  # blocks of a finite depth are no steps of a solver
        settings |= {"solver": grid.solver, "order": grid.order}
    settings |= (
        {"tangent_scale": architecture.tangent_scale(task, sizes)}
        | described(task)
        | {"dtype": kind.name, "chunk": chunk, "save_at": tau.tolist(), "kernels": kernels if each else kept}
    )
    with precision(kind):
        arrays = task.arrays(kind)
    states: dict[bytes, Any] = {}
    dispatch = dispatching(architecture.train_limit, arrays, sizes, states)
    if grid is None:
        chunks = Chunks(
            dispatch, partial(finish, task, kept), axes(task, kept, each), typed_key(key), paths, chunk, "limit"
        )
        if sizes.resumable:
            check_snapshots(chunks, kind, "paths")
        plan = _plan(task, sizes, tau, chunks, settings, (kind, progress, checkpoint))
        plan = remembering(plan, train, arguments, states)
        if not half:
            return plan
        coarse = {"steps": steps // 2, "save_at": tau.tolist(), "key": coarse_key(key), "step_error": False}
        return beside(plan, train.plan(**arguments | coarse))
    systems = -(-paths // chunk) if grid.sampled else 1
    settings |= {"deterministic": True, "depth": grid.depth, "systems": systems}

    def of_system(system_key: PRNGKeyArray, _: int, **more: Any) -> KernelTrajectory:
        return cast(KernelTrajectory, dispatch(system_key, chunk, **more))

    chunks = Chunks(
        of_system,
        system,
        system_axes(task),
        typed_key(key),
        systems,
        1,
        "particles",
    )
    size = (tau.size * 4 * len(task.labels()) ** 2) * 8
    plan = Plan(chunks, settings, kind, partial(collect, task, tau, grid.sampled), size, progress, checkpoint)
    return remembering(plan, train, arguments, states)


def _check_updates(data: Data, updates: Any, name: str, paths: int, kind: np.dtype) -> None:
    """Refuse more updates or paths than there is memory for, before anything is made for each of them.

    Args:
        data: inputs and targets.
        updates: number of them.
        name: of the argument that says how many paths there are.
        paths: number of them.
        kind: dtype of the computation.
    """
    # Outputs, movement at the default layer times and the tangent kernel, twice while chunks are put together.
    one = 2 * data.inputs * (data.outputs + 6 + data.inputs) * kind.itemsize
    count = positive_int("updates", updates, least=0)
    few = min(paths, _FEW)
    check_room("updates", count, lambda n: one * n * few, f"what is kept of {few} paths")
    check_room(name, paths, lambda n: one * count * n, "what is kept of each path")


def _check_steps(task: Task, method: str, kind: np.dtype) -> None:
    """Refuse more gradient steps than there is memory for: revealed weights know each by all before."""
    if method == "law":

        def table(updates: int) -> int:
            return 4 * (updates * task.substeps + 1) ** 2 * kind.itemsize

        check_room("updates", task.updates, table, "method='law', which keeps every pair of gradient steps")


def task_of(architecture: Any, data: Data, given: dict[str, Any], **steps: Any) -> Task:
    """What is trained, with the settings of the architecture's family."""
    example = "an architecture that can be trained, such as MLP(ShapedSmooth(jnp.tanh), depth_to_width=0.5)"
    instance_of("architecture", architecture, AbstractTrainable, example)
    untraced("architecture", architecture)
    return task_from(data, settings=settings_from(architecture.training_settings, given), **steps)


def _plan(
    task: Task,
    sizes: Sizes,
    tau: NDArray[Any],
    chunks: Chunks,
    settings: dict[str, Any],
    how: tuple[np.dtype, Any, Any],
) -> Plan[Training]:
    """The plan of random paths, or of networks."""
    kind, progress, checkpoint = how
    reads = (task.updates + 1) * task.inputs
    kept, every = (len(task.labels()) * known for known in (sizes.kernels, sizes.per_output * task.outputs))
    numbers = tau.size * (3 * kept**2 + every**2) + reads * (task.outputs + tau.size)
    numbers += (task.updates + 1) * task.batches.size**2 * (task.outputs**2 if every else 1)
    size = numbers * kind.itemsize

    def result(found: Arrays, metadata: dict[str, Any]) -> Training:
        y = np.asarray(task.data.targets)
        targets = y[:, None] if task.data.column else y
        return judged(Training(tau=tau, targets=targets, labels=task.labels(), **found, metadata=metadata))

    return Plan(chunks, settings, kind, result, size, progress, checkpoint)


@question
def train_networks(
    architecture: AbstractTrainable,
    V0: Any,
    *,
    targets: Any,
    updates: int = 3,
    substeps: int = 1,
    learning_rate: SupportsFloat | Sequence[float | int] | NDArray[Any] = 1.0,
    optimizer: Any = None,
    batches: Any = None,
    centred: bool = False,
    width: int,
    draws: int = 2000,
    key: int | PRNGKeyArray = 1,
    method: str = "law",
    depth: int | None = None,
    loss: str | Loss = "squared",
    save_at: Sequence[float | int] | None = None,
    kernels: bool | str | None = None,
    dtype: Any = None,
    chunk: int | None = None,
    progress: bool | None = None,
    checkpoint: str | Path | None = None,
    output_scale: SupportsFloat | None = None,
    richness: SupportsFloat | None = None,
    response: bool | np.bool_ | None = None,
    train_input: bool | np.bool_ | None = None,
    train_readout: bool | np.bool_ | None = None,
    resumable: bool | np.bool_ = False,
) -> Plan[Training]:
    """Train finite networks by gradient descent on their hidden matrices.

    Args:
        architecture: the same object that `train` takes.
        V0: Gram matrix of the inputs (P, P); the inputs have as many dimensions as the layers have neurons.
        targets: as for `train`.
        updates: steps of gradient descent; each is recorded.
        substeps: as for `train`.
        learning_rate: η₀; the networks use η₀/n, ResNets η₀γ₀²n on the mean over the inputs of the loss.
        optimizer: as for `train`; with method="weights" also any of optax, which is given the gradients of the loss in
            weights that are N(0, 1) at initialization, and whose rates are its own: η₀/n for gradient descent, for a
            ResNet η₀γ₀²n on the mean over a batch.
        batches: as for `train`.
        centred: as for `train`.
        width: neurons per layer, n.
        draws: number of independent networks.
        key: int seed or JAX key.
        method: "law" reveals the weights only where training meets them, exactly in law; "weights" draws and trains
            them.
        depth: number of hidden layers; default round(T n).
        loss: as for `train`.
        save_at: layer times at which Phi, G and A are kept, rounded to layers, with 0 and 1; default: fifths.
        kernels: as for `train`.
        dtype: float64 (default) or float32.
        chunk: networks trained at a time; bounds the memory.
        progress: as for `train`.
        checkpoint: as for `train`.
        output_scale: as for `train`.
        richness: as for `train`.
        response: as for `train`.
        train_input: as for `train`.
        train_readout: as for `train`.
        resumable: as for `train`.

    Returns:
        `Training`, as `train` gives it.

    Raises:
        ValueError: for an argument out of range; the message names it.
    """
    arguments = dict(locals())
    given: dict[str, Any] = {"output_scale": output_scale, "richness": richness, "response": response}
    given |= {"train_input": train_input, "train_readout": train_readout}
    rule = {"optimizer": SGD(learning_rate) if optimizer is None else optimizer, "batches": batches, "centred": centred}
    width, draws, kind = positive_int("width", width), positive_int("draws", draws), resolve_dtype(dtype)
    data = Data(V0, targets)
    _check_updates(data, updates, "draws", draws, kind)
    task = task_of(architecture, data, given, loss=loss, updates=updates, substeps=substeps, **rule)
    _check_steps(task, method, kind)
    depth = architecture.network_depth(width, depth)
    layers, tau = architecture.training_layers(save_at, depth)
    kept, each = keeps_kernels(architecture, task, kernels)
    sizes = Sizes(depth, layers, draws, width, method, kept, each, is_resumable(architecture, resumable))
    default = architecture.training_chunk(task, sizes, kind.itemsize)
    chunk = positive_int("chunk", even_chunk(draws, default) if chunk is None else chunk)
    architecture.check_training(task, sizes)
    settings = run_metadata("network", architecture, np.asarray(task.data.V0), key, label=f"networks, width {width}")
    settings |= {"width": width, "depth": depth, "paths": draws, "method": method}
    settings |= (
        {"tangent_scale": architecture.tangent_scale(task, sizes)}
        | described(task)
        | {"dtype": kind.name, "chunk": chunk, "save_at": tau.tolist(), "kernels": kernels if each else kept}
    )
    with precision(kind):
        arrays = task.arrays(kind)
    states: dict[bytes, Any] = {}
    dispatch = dispatching(partial(compiled, architecture.train_networks), arrays, sizes, states)
    chunks = Chunks(
        dispatch, partial(finish, task, kept), axes(task, kept, each), typed_key(key), draws, chunk, f"width {width}"
    )
    if sizes.resumable:
        check_snapshots(chunks, kind, "draws")
    plan = _plan(task, sizes, tau, chunks, settings, (kind, progress, checkpoint))
    return remembering(plan, train_networks, arguments, states)


def described(task: Task) -> dict[str, Any]:
    """For metadata: all of a task but its inputs, the settings of the family whole."""
    rule = task.optimizer
    ours = isinstance(rule, SGD | AbstractEntrywise)
    return {
        "targets": np.asarray(task.data.targets).tolist(),
        "updates": task.updates,
        "substeps": task.substeps,
        "learning_rate": np.asarray(rule.rate).tolist() if ours else None,
        **({"optimizer": rule.described()} if ours else _optax(rule)),
        "batches": task.batches.listed(),
        "centred": task.centred,
        "mean_field": task.mean_field,
        **function_metadata("loss", task.loss),
        **dataclasses.asdict(task.settings),
    }


def _optax(rule: Any) -> dict[str, Any]:
    found = function_metadata("optimizer", rule)
    return found | {"optimizer": found["optimizer_identity"]}
