"""Training whose limit is deterministic: outputs over updates and kernels over layer time, in place of random paths."""

import dataclasses
import os
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray
from numpy.typing import NDArray

from covsde._npz import as_json, load_npz, save_npz
from covsde._runs import run_chunks
from covsde._statistics import failures
from covsde.comparison import Curve, Quantity
from covsde.losses import Loss
from covsde.status import FailedPathsWarning, PathStatus

_FORMAT = 1


class KernelTrajectory(NamedTuple):
    """What a solver of a deterministic limit returns, from one system of particles; labels as in `TrainedKernels`.

    Attributes:
        outputs: (updates + 1, P).
        H: (times, N, N).
        Phi: (times, N, N).
        G: (times, N, N).
        A: (times, N, N).
        ntk: (updates + 1, P, P).
    """

    outputs: Array
    H: Array
    Phi: Array
    G: Array
    A: Array
    ntk: Array


class KernelGrid(NamedTuple):
    """How the solver of a deterministic limit is run by default.

    Attributes:
        depth: the number of blocks, if depth is finite: then the number of steps is given.
        sampled: whether anything is random.
    """

    depth: int | None
    sampled: bool


# More inputs than this make more columns than a page has.
_MOST_INPUTS = 3


def numbered_label(update: int, datum: int, updates: int, inputs: int) -> int:
    """The number of an (update, input) pair; updates count from the end if negative.

    Raises:
        ValueError: for an update or an input that there is not.
    """
    if not -updates - 1 <= update <= updates:
        raise ValueError(f"update must lie between {-updates - 1} and {updates}, got {update}.")
    if not 0 <= datum < inputs:
        raise ValueError(f"datum must lie between 0 and {inputs - 1}, got {datum}.")
    return (update % (updates + 1)) * inputs + datum


def over_updates(inputs: int) -> list[Quantity]:
    """What training is compared in, whatever its limit: outputs of the first inputs, and the loss."""

    def output(p: int) -> Quantity:
        return Quantity(
            f"f({p}) at the end", f"output of input {p}\n", f"f({p})", "update", lambda r: r.over_updates(p)
        )

    loss = Quantity("loss at the end", "loss\n", "loss", "update", lambda r: r.over_updates(None))
    return [*(output(p) for p in range(min(inputs, _MOST_INPUTS))), loss]


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class TrainedKernels:
    """Training of a deterministic limit: outputs over updates, kernels over layer time.

    A label is a pair (update k, input p), number k P + p; there are N = P (updates + 1). Where training diverges (an
    output beyond 10⁶) the status is EXPLODED, and everything from that update on is NaN.

    Args:
        tau: layer times ℓ/L, increasing from 0 to 1, (times,).
        targets: y (P,).
        outputs: f before each update and after the last, (updates + 1, P).
        losses: (updates + 1,).
        H: covariance of the residual stream ⟨h(a) h(b)⟩, (times, N, N).
        Phi: covariance of the activations of a block, (times, N, N): ⟨φ(h) φ(h)⟩, or of its hidden units.
        G: covariance of the gradients ⟨g(a) g(b)⟩, g = γ_0 N ∂f/∂h, (times, N, N).
        A: overlap ⟨h(a) g(b)⟩, (times, N, N), not symmetric.
        ntk: tangent kernel of the hidden weights at each update, (updates + 1, P, P): ḟ = η_0 K Δ/P.
        standard_error: for each of outputs, H, Phi, G, A and ntk, its Monte Carlo error in the same shape: from the
            spread over independent systems of particles, NaN if there is one system, 0 where nothing is sampled.
        status: a `PathStatus`.
        metadata: how it was computed.
    """

    arrays: ClassVar[tuple[str, ...]] = ("tau", "targets", "outputs", "losses", "H", "Phi", "G", "A", "ntk")

    tau: NDArray[Any]
    targets: NDArray[Any]
    outputs: NDArray[Any]
    losses: NDArray[Any]
    H: NDArray[Any]
    Phi: NDArray[Any]
    G: NDArray[Any]
    A: NDArray[Any]
    ntk: NDArray[Any]
    standard_error: dict[str, NDArray[Any]]
    status: PathStatus
    metadata: dict[str, Any]

    def __post_init__(self) -> None:
        object.__setattr__(self, "metadata", as_json(self.metadata))

    def __repr__(self) -> str:
        """Return one line that says what is inside."""
        return f"TrainedKernels({self.updates} updates, {self.targets.size} inputs, {self.status.name})"

    @property
    def kind(self) -> str:
        """What it is: "limit" for those made by this library."""
        return str(self.metadata.get("kind", "limit"))

    @property
    def deterministic(self) -> bool:
        """True: the limit is one trajectory."""
        return True

    @property
    def paths(self) -> int:
        """One."""
        return 1

    @property
    def failures(self) -> dict[str, int]:
        """The status, if it is not `FINE`, and "total"."""
        return failures(np.asarray([self.status]))

    def quantities(self) -> list[Quantity]:
        """Outputs and loss over the updates: what `compare` looks at."""
        return over_updates(self.targets.size)

    def over_updates(self, datum: int | None) -> Curve:
        """The output of one input, with its Monte Carlo error, or the loss, over the updates."""
        x = np.arange(self.updates + 1.0)
        if datum is None:
            return Curve(x, self.losses[:, None], np.zeros(x.size))
        return Curve(x, self.outputs[:, datum, None], self.standard_error["outputs"][:, datum])

    @property
    def updates(self) -> int:
        """Number of training steps."""
        return int(self.outputs.shape[0] - 1)

    @property
    def last_update(self) -> int:
        """The last update with valid outputs."""
        return int(np.sum(np.all(np.isfinite(self.outputs), axis=1)) - 1)

    def label(self, update: int, datum: int = 0) -> int:
        """The number of an (update, input) pair in H, Phi, G and A; updates count from the end if negative."""
        return numbered_label(update, datum, self.updates, self.outputs.shape[1])

    def movement(self, update: int = -1, datum: int = 0) -> NDArray[Any]:
        """Movement of the residual stream ⟨(h(update) - h(0))²⟩ of one input at each saved layer time, (times,)."""
        a, b = self.label(update, datum), self.label(0, datum)
        return np.asarray(self.H[:, a, a] + self.H[:, b, b] - 2 * self.H[:, a, b])

    def alignment(self, update: int = -1) -> NDArray[Any]:
        """Kernel–target alignment yᵀHy / (|y|² tr H) at each saved layer time, (times,)."""
        block = slice(self.label(update), self.label(update) + self.targets.size)
        H = self.H[:, block, block]
        signal = np.einsum("a,tab,b->t", self.targets, H, self.targets)
        return np.asarray(signal / np.sum(self.targets**2) / np.trace(H, axis1=1, axis2=2))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write everything to a `.npz` file."""
        arrays = {name: getattr(self, name) for name in self.arrays}
        errors = {f"error_{name}": value for name, value in self.standard_error.items()}
        save_npz(path, arrays | errors | {"status": np.array(int(self.status))}, self.metadata, _FORMAT)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "TrainedKernels":
        """Read what `save` wrote.

        Args:
            path: a `.npz` file.

        Returns:
            An equal result.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if it is damaged or something else.
        """
        errors = [f"error_{name}" for name in KernelTrajectory._fields]
        names = [*cls.arrays, *errors, "status"]
        arrays, metadata = load_npz(path, names, _FORMAT, "TrainedKernels.save", "a trained kernel limit")
        status = PathStatus(int(arrays.pop("status")))
        standard_error = {name: arrays.pop(f"error_{name}") for name in KernelTrajectory._fields}
        return cls(**arrays, standard_error=standard_error, status=status, metadata=metadata)


def collect(
    run: Callable[[PRNGKeyArray, int], KernelTrajectory],
    *,
    key: PRNGKeyArray,
    systems: int,
    particles: int,
    sampled: bool,
    tau: NDArray[Any],
    targets: np.ndarray,
    loss: Loss,
    ceiling: float,
    progress: bool | None,
    checkpoint: str | Path | None,
    metadata: dict[str, Any],
) -> TrainedKernels:
    """Mean over independent systems of particles, with standard errors from their spread.

    Args:
        run: one system, from its key and the number of its particles.
        key: system c uses fold_in(key, c).
        systems: their number.
        particles: in each of them.
        sampled: whether anything is random; if not, one system is enough and errors are 0.
        tau: saved layer times.
        targets: y.
        loss: of outputs (P,) and targets (P,).
        ceiling: outputs beyond this have diverged.
        progress: show a bar; None: on a terminal, when there is more than one system.
        checkpoint: folder for finished systems, or None.
        metadata: of the result, and what a checkpoint must agree with.
    """
    start = time.perf_counter()
    stacked = run_chunks(
        lambda system_key, _: run(system_key, particles),
        lambda found: {name: np.asarray(x)[None] for name, x in found._asdict().items()},
        axes=dict.fromkeys(KernelTrajectory._fields, 0),
        key=key,
        total=systems,
        chunk=1,
        progress=progress,
        label="particles",
        checkpoint=checkpoint,
        fingerprint=metadata,
    )
    means, errors = {}, {}
    with np.errstate(invalid="ignore", over="ignore"):
        for name in KernelTrajectory._fields:
            values = stacked[name].astype(np.float64)
            means[name] = values.mean(axis=0)
            spread = values.std(axis=0, ddof=1) / np.sqrt(systems) if systems > 1 else np.full(values.shape[1:], np.nan)
            errors[name] = spread if sampled else np.zeros(values.shape[1:])
        good = np.all(np.abs(stacked["outputs"]) <= ceiling, axis=2)
    valid = np.logical_and.accumulate(good.all(axis=0))
    P = targets.size
    gone = np.repeat(~valid, P)
    for part in (means, errors):
        part["outputs"][~valid] = np.nan
        part["ntk"][~valid] = np.nan
        for name in ("H", "Phi", "G", "A"):
            part[name][:, gone[:, None] | gone[None, :]] = np.nan
    finite = all(np.all(np.isfinite(x)) for x in means.values())
    status = PathStatus.FINE if finite else (PathStatus.NOT_FINITE if valid[-1] else PathStatus.EXPLODED)
    if not finite:
        count = int(np.sum(~np.logical_and.accumulate(good, axis=1)[:, -1]))
        warnings.warn(
            f"Training diverged after update {int(valid.sum()) - 1} in {count} of {systems} systems of particles: "
            "everything later is NaN; lower learning_rate or beta.",
            FailedPathsWarning,
            stacklevel=3,
        )
    losses = np.asarray(jax.vmap(lambda f: loss(f, jnp.asarray(targets)))(jnp.asarray(means["outputs"])))
    metadata = metadata | {"systems": systems, "seconds": time.perf_counter() - start}
    return TrainedKernels(
        tau=np.asarray(tau),
        targets=targets,
        losses=losses,
        standard_error=errors,
        status=status,
        metadata=metadata,
        **means,
    )
