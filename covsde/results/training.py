"""Results of training: outputs over updates and kernels over layer time, random or deterministic."""

import dataclasses
import os
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from covsde.descent.trajectory import KernelTrajectory
from covsde.results.estimate import failures
from covsde.results.npz import as_json, load_npz, save_npz
from covsde.results.quantity import Curve, Quantity
from covsde.results.record import Record
from covsde.results.status import PathStatus

_FORMAT = 1


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


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Training(Record):
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
