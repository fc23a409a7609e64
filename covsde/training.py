"""Feature learning: training in the proportional limit, and finite networks really trained, as the same result."""

import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray
from numpy.typing import NDArray

from covsde._check import finite_number, instance_of, positive_int
from covsde._keys import typed_key
from covsde._runs import Arrays, even_chunk, identity, resolve_dtype, run_chunks, run_metadata, saved_layers
from covsde.architectures import AbstractTrainable
from covsde.comparison import Curve, Quantity
from covsde.data import check_targets
from covsde.inputs import check_gram
from covsde.losses import Loss, checked_loss
from covsde.records import PathRecord
from covsde.solvers.revealed import Trajectory
from covsde.status import PathStatus
from covsde.trained_kernels import TrainedKernels, collect, numbered_label, over_updates

# Gradient descent that has come this far from its targets will not come back.
_DIVERGED = 1e6
# Where particles share one set of kernels: independent systems, for standard errors, and the fewest in one.
_SYSTEMS = 8
_FEWEST_PARTICLES = 512


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Training(PathRecord):
    """Training of an infinite limit or of finite networks: outputs over updates, order parameters over layer time.

    A label is a pair (update k, input p), number k P + p; there are N = P (updates + 1). Where training diverges
    (an output beyond 10⁶) the path has status EXPLODED, and everything from that update on is NaN.

    For ResNets the kernels are those of `TrainedKernels`: Phi of the activations of a block, φ(h)·φ(h)/N, G and A with
    g = γ₀ N ∂f/∂h in place of ∂f/∂h, and ntk with its factor β².

    Args:
        tau: layer times ℓ/L, increasing from 0 to 1, (times,).
        targets: y (P,).
        outputs: f before each update and after the last, (updates + 1, paths, P).
        losses: (updates + 1, paths).
        Phi: forward covariance h(a)·h(b)/n, (times, paths, N, N).
        G: backward covariance ∂f(a)/∂h·∂f(b)/∂h (of the output over s), (times, paths, N, N).
        A: overlap h(a)·∂f(b)/∂h, (times, paths, N, N), not symmetric.
        ntk: tangent kernel of the hidden weights per layer, ∫₀¹ Φ∘G dτ, at each update, (updates + 1, paths, P, P).
        last_update: the last update with valid outputs, (paths,).
        status: one `PathStatus` per path, (paths,).
        metadata: how it was made.
    """

    path_axis: ClassVar = {
        "outputs": 1,
        "losses": 1,
        "Phi": 1,
        "G": 1,
        "A": 1,
        "ntk": 1,
        "last_update": 0,
        "status": 0,
    }

    tau: NDArray[Any]
    targets: NDArray[Any]
    outputs: NDArray[Any]
    losses: NDArray[Any]
    Phi: NDArray[Any]
    G: NDArray[Any]
    A: NDArray[Any]
    ntk: NDArray[Any]
    last_update: NDArray[Any]

    @property
    def updates(self) -> int:
        """Number of training steps."""
        return int(self.outputs.shape[0] - 1)

    def label(self, update: int, datum: int = 0) -> int:
        """The number of an (update, input) pair in Phi, G and A; updates count from the end if negative."""
        return numbered_label(update, datum, self.updates, self.outputs.shape[2])

    def quantities(self) -> list[Quantity]:
        """Outputs and loss over the updates, and how far features have moved in the end: what `compare` looks at."""
        moved = Quantity(
            "|h(end) - h(0)|²/n of input 0 at τ = 1",
            "feature movement of input 0\nby the last update",
            "|h - h(0)|² / n",
            "layer time  τ = ℓ/L",
            lambda r: Curve(r.tau, r._or_infinite(r.movement())),
        )
        return [*over_updates(self.targets.size), moved]

    def over_updates(self, datum: int | None) -> Curve:
        """The output of one input, or the loss, over the updates, on every path."""
        x = np.arange(self.updates + 1.0)
        return Curve(x, self._or_infinite(self.losses) if datum is None else self.outputs[:, :, datum])

    def _or_infinite(self, sizes: NDArray[Any]) -> NDArray[Any]:
        """Of what cannot be negative, +∞ where training has diverged."""
        return np.asarray(np.where(np.isnan(sizes) & (self.status == PathStatus.EXPLODED), np.inf, sizes))

    def movement(self, update: int = -1, datum: int = 0) -> NDArray[Any]:
        """Feature movement |h(update) - h(0)|²/n of one input at each saved layer time, (times, paths)."""
        a, b = self.label(update, datum), self.label(0, datum)
        return np.asarray(self.Phi[..., a, a] + self.Phi[..., b, b] - 2 * self.Phi[..., a, b])

    def alignment(self, update: int = -1) -> NDArray[Any]:
        """Kernel–target alignment yᵀΦy / (|y|² tr Φ) of the features at each saved layer time, (times, paths)."""
        P = self.targets.size
        block = slice(self.label(update), self.label(update) + P)
        Phi = self.Phi[..., block, block]
        signal = np.einsum("a,trab,b->tr", self.targets, Phi, self.targets)
        return np.asarray(signal / np.sum(self.targets**2) / np.trace(Phi, axis1=2, axis2=3))


def _settings(
    architecture: Any, V0: Any, targets: Any, updates: Any, learning_rate: Any
) -> tuple[np.ndarray, np.ndarray, int, float]:
    example = "an architecture that can be trained, such as MLP(ShapedSmooth(jnp.tanh), depth_to_width=0.5)"
    instance_of("architecture", architecture, AbstractTrainable, example)
    gram = check_gram(V0)
    y = check_targets(targets, gram.shape[0])
    return gram, y, positive_int("updates", updates, least=0), finite_number("learning_rate", learning_rate)


def _finish(trajectory: Trajectory, y: NDArray[Any], loss: Loss) -> Arrays:
    """One chunk of `Training`, NaN from where training diverged."""
    flat, Phi, G, A, ntk = (np.array(x) for x in trajectory)
    P, paths = y.size, flat.shape[1]
    outputs = np.moveaxis(flat.reshape(-1, P, paths), 1, 2)
    with np.errstate(invalid="ignore"):
        ceiling = _DIVERGED * max(1.0, float(np.max(np.abs(y))))
        valid = np.all(np.isfinite(outputs) & (np.abs(outputs).astype(np.float64) <= ceiling), axis=2)
    valid = np.logical_and.accumulate(valid, axis=0)
    outputs[~valid] = np.nan
    ntk[~valid] = np.nan
    gone = np.repeat(~valid, P, axis=0).T  # (paths, N)
    for X in (Phi, G, A):
        X[:, gone[:, :, None] | gone[:, None, :]] = np.nan
    losses = np.asarray(jax.vmap(jax.vmap(lambda f: loss(f, jnp.asarray(y, f.dtype))))(jnp.asarray(outputs)))
    rest = np.all(np.isfinite(Phi) & np.isfinite(G) & np.isfinite(A), axis=(0, 2, 3))
    rest &= np.all(np.isfinite(losses), axis=0)
    status = np.where(valid[-1], np.where(rest, PathStatus.FINE, PathStatus.NOT_FINITE), PathStatus.EXPLODED)
    return {
        "outputs": outputs,
        "losses": losses,
        "Phi": Phi,
        "G": G,
        "A": A,
        "ntk": ntk,
        "last_update": valid.sum(axis=0) - 1,
        "status": status.astype(np.int8),
    }


def train(
    architecture: AbstractTrainable,
    V0: Any,
    *,
    targets: Any,
    updates: int = 3,
    substeps: int = 1,
    learning_rate: float = 1.0,
    paths: int = 2000,
    key: int | PRNGKeyArray = 0,
    loss: str | Loss = "squared",
    steps: int | None = None,
    save_at: Sequence[float | int] | None = None,
    dtype: Any = None,
    chunk: int | None = None,
    progress: bool | None = None,
    checkpoint: str | Path | None = None,
    **options: Any,
) -> Training | TrainedKernels:
    """Train an architecture's limit by gradient descent: for an MLP, the forward–backward SDE of feature learning.

    Args:
        architecture: e.g. MLP(ShapedSmooth(jnp.tanh), depth_to_width=0.5), or ResNet(jnp.tanh).
        V0: Gram matrix of the inputs (P, P), symmetric positive semidefinite.
        targets: one number per input, (P,).
        updates: steps of gradient descent on all inputs; each is recorded.
        substeps: gradient steps per update, of η₀/substeps each: many approach gradient flow for a time η₀ per update.
        learning_rate: η₀, of order one: networks of width n use η₀/n on their hidden matrices. For a ResNet the loss is
            the mean over the inputs, and networks use η₀γ₀²n on it.
        paths: number of independent paths; for a deterministic limit, of particles or hidden units.
        key: int seed or JAX key; the result depends on it and on `chunk`.
        loss: "squared" (½ Σ (f - y)²), "logistic" (y = ±1), or a JAX function of outputs (P,) and targets (P,).
        steps: steps over unit layer time; the weak error is of first order in 1/steps. Default: 100 per unit of T.
        save_at: layer times at which Phi, G and A are kept, rounded to steps, with 0 and 1; default: fifths.
        dtype: float64 (default) or float32.
        chunk: paths trained at a time; bounds the memory.
        progress: show a bar; default: on a terminal, when there is more than one chunk.
        checkpoint: folder for finished chunks; an interrupted call with the same arguments resumes from it.
        options: what the architecture adds; for an MLP output_scale = 1.0, the s in f = s w·h/√n, and train_input,
            train_readout = False, whether the matrices at the two ends move as well (which changes the limit only
            within its error in the step); for a ResNet the settings of `ResNetTraining`: richness, depth, response,
            train_input, train_readout.

    Returns:
        `Training`, with paths whose training diverged counted in `failures`; for a deterministic limit
        `TrainedKernels`, with outputs (updates + 1, P).

    Raises:
        ValueError: for an argument out of range; the message names it.
        TypeError: for an activation without a limit, or an option the architecture does not know.

    Source: Li, Noci, Hanin, feature learning in the proportional limit (announced; M. Li's lecture notes STAT 946,
    Waterloo, 2025); equations and scheme in covsde/limits/feature_learning.py.
    """
    gram, y, updates, rate = _settings(architecture, V0, targets, updates, learning_rate)
    paths, kind, typed = positive_int("paths", paths), resolve_dtype(dtype), typed_key(key)
    function, options = checked_loss(loss, y.size), _plain(options)
    substeps = positive_int("substeps", substeps)
    labels = y.size * (updates * substeps + 1)
    shared = architecture.training_grid(labels, options)
    if shared is not None and shared.depth is not None:
        if steps is not None:
            raise ValueError("steps has no meaning at a finite depth, whose blocks are the steps: drop one.")
        steps = shared.depth
    steps = architecture.training_steps(gram, labels) if steps is None else positive_int("steps", steps)
    layers, tau = saved_layers(save_at, steps, 5)
    default = architecture.training_chunk(labels, steps, None, kind.itemsize)
    if shared is not None:
        default = min(default, max(_FEWEST_PARTICLES, -(-paths // _SYSTEMS)))
    chunk = positive_int("chunk", even_chunk(paths, default) if chunk is None else chunk)
    settings = run_metadata("limit", architecture, gram, key, label="limit", steps=steps, paths=paths)
    settings |= {"solver": "LayerStep", "order": 1}
    settings |= _described(y, updates, substeps, rate, function, kind, chunk, tau, options)
    start = time.perf_counter()
    with jax.enable_x64(kind == np.float64):

        def dispatch(chunk_key: PRNGKeyArray, size: int) -> Any:
            return architecture.train_limit(
                jnp.asarray(gram, kind),
                jnp.asarray(y, kind),
                chunk_key,
                loss=function,
                learning_rate=jnp.asarray(rate, kind),  # an array, so that sweeping it compiles once
                updates=updates,
                substeps=substeps,
                steps=steps,
                layers=layers,
                paths=size,
                options=options,
            )

        if shared is not None:
            ceiling = _DIVERGED * max(1.0, float(np.max(np.abs(y))))
            settings |= {"deterministic": True, "depth": shared.depth}
            return collect(
                dispatch,
                key=typed,
                systems=-(-paths // chunk) if shared.sampled else 1,
                particles=chunk,
                sampled=shared.sampled,
                tau=tau,
                targets=y,
                loss=function,
                ceiling=ceiling,
                progress=progress,
                checkpoint=checkpoint,
                metadata=settings,
            )
        found = run_chunks(
            dispatch,
            lambda trajectory: _finish(trajectory, y, function),
            axes=Training.path_axis,
            key=typed,
            total=paths,
            chunk=chunk,
            progress=progress,
            label="limit",
            checkpoint=checkpoint,
            fingerprint=settings,
        )
    return Training(tau=tau, targets=y, **found, metadata=settings | {"seconds": time.perf_counter() - start})


def train_networks(
    architecture: AbstractTrainable,
    V0: Any,
    *,
    targets: Any,
    updates: int = 3,
    substeps: int = 1,
    learning_rate: float = 1.0,
    width: int,
    draws: int = 2000,
    key: int | PRNGKeyArray = 1,
    method: str = "law",
    depth: int | None = None,
    loss: str | Loss = "squared",
    save_at: Sequence[float | int] | None = None,
    dtype: Any = None,
    chunk: int | None = None,
    progress: bool | None = None,
    checkpoint: str | Path | None = None,
    **options: Any,
) -> Training:
    """Train finite networks by gradient descent on their hidden matrices.

    Args:
        architecture: the same object that `train` takes.
        V0: Gram matrix of the inputs (P, P); the inputs have as many dimensions as the layers have neurons.
        targets: one number per input, (P,).
        updates: steps of gradient descent on all inputs; each is recorded.
        substeps: as for `train`.
        learning_rate: η₀; the networks use η₀/n, ResNets η₀γ₀²n on the mean over the inputs of the loss.
        width: neurons per layer, n.
        draws: number of independent networks.
        key: int seed or JAX key.
        method: "law" reveals the weights only where training meets them, exactly in law; "weights" draws and trains
            them.
        depth: number of hidden layers; default round(T n).
        loss: as for `train`.
        save_at: layer times at which Phi, G and A are kept, rounded to layers, with 0 and 1; default: fifths.
        dtype: float64 (default) or float32.
        chunk: networks trained at a time; bounds the memory.
        progress: as for `train`.
        checkpoint: as for `train`.
        options: as for `train`.

    Returns:
        `Training`, as `train` gives it.

    Raises:
        ValueError: for an argument out of range; the message names it.
    """
    gram, y, updates, rate = _settings(architecture, V0, targets, updates, learning_rate)
    width, draws = positive_int("width", width), positive_int("draws", draws)
    kind, typed = resolve_dtype(dtype), typed_key(key)
    function, options = checked_loss(loss, y.size), _plain(options)
    substeps = positive_int("substeps", substeps)
    depth = architecture.depth(width) if depth is None else positive_int("depth", depth)
    layers, tau = saved_layers(save_at, depth, 5)
    default = architecture.training_chunk(y.size * (updates * substeps + 1), depth, width, kind.itemsize)
    chunk = positive_int("chunk", even_chunk(draws, default) if chunk is None else chunk)
    settings = run_metadata("network", architecture, gram, key, label=f"networks, width {width}")
    settings |= {"width": width, "depth": depth, "paths": draws, "method": method}
    settings |= _described(y, updates, substeps, rate, function, kind, chunk, tau, options)
    start = time.perf_counter()
    with jax.enable_x64(kind == np.float64):
        sampler = eqx.filter_jit(architecture.train_networks)

        def dispatch(chunk_key: PRNGKeyArray, size: int) -> Trajectory:
            return sampler(
                jnp.asarray(gram, kind),
                jnp.asarray(y, kind),
                chunk_key,
                method=method,
                loss=function,
                learning_rate=jnp.asarray(rate, kind),  # an array, so that sweeping it compiles once
                updates=updates,
                substeps=substeps,
                width=width,
                depth=depth,
                layers=layers,
                draws=size,
                options=options,
            )

        found = run_chunks(
            dispatch,
            lambda trajectory: _finish(trajectory, y, function),
            axes=Training.path_axis,
            key=typed,
            total=draws,
            chunk=chunk,
            progress=progress,
            label=f"width {width}",
            checkpoint=checkpoint,
            fingerprint=settings,
        )
    return Training(tau=tau, targets=y, **found, metadata=settings | {"seconds": time.perf_counter() - start})


def _plain(options: dict[str, Any]) -> dict[str, Any]:
    """NumPy's and JAX's numbers as Python's, which a program can be compiled for."""
    return {
        k: v.item() if isinstance(v, np.generic | np.ndarray | jax.Array) and v.ndim == 0 else v
        for k, v in options.items()
    }


def _described(
    y: np.ndarray,
    updates: int,
    substeps: int,
    rate: float,
    loss: Loss,
    kind: np.dtype,
    chunk: int,
    tau: np.ndarray,
    options: dict[str, Any],
) -> dict[str, Any]:
    name = getattr(loss, "__name__", repr(loss))
    described = {"targets": y.tolist(), "updates": updates, "substeps": substeps, "learning_rate": rate}
    described |= {"loss": name, "loss_identity": identity(loss), "dtype": kind.name}
    return described | {"chunk": chunk, "save_at": tau.tolist(), **{k: repr(v) for k, v in options.items()}}
