"""The result of training a deterministic limit: one trajectory of kernels, with its Monte Carlo error."""

import dataclasses
import os
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from covsde.results.estimate import Estimate, failures
from covsde.results.npz import load_npz, save_npz
from covsde.results.over_updates import over_updates
from covsde.results.quantity import Curve, Quantity
from covsde.results.status import PathStatus
from covsde.results.training import Training

_FORMAT = 1


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class TrainedKernels(Training):
    """Training of a deterministic limit: one trajectory, whose arrays have no axis of paths, and its standard error.

    A label is a pair (update k, input p) as in `Training`: where all updates are on all P inputs its number is k P + p,
    and there are N = P (updates + 1). Where training diverges (an output beyond 10⁶) the status is EXPLODED, and
    everything from that update on is NaN.

    Args:
        tau: layer times ℓ/L, increasing from 0 to 1, (times,).
        targets: y (M,), or (M, C) for several outputs.
        outputs: f before each update and after the last, (updates + 1, M), or (updates + 1, M, C) for targets with
            columns.
        losses: mean over the trained inputs, (updates + 1,).
        H: covariance of the residual stream ⟨h(a) h(b)⟩, (times, N, N).
        Phi: covariance of the activations of a block, (times, N, N): ⟨φ(h) φ(h)⟩, or of its hidden units.
        G: covariance of the gradients ⟨g(a) g(b)⟩, g = γ_0 N ∂f/∂h, (times, N, N); for several outputs those of
            Σ_c Δ_c f_c, with Δ = -∂loss/∂f of one input.
        A: overlap ⟨h(a) g(b)⟩, (times, N, N), not symmetric.
        ntk: tangent kernel of the hidden weights on the batch of each update, and if it is the same for all after the
            last one, (updates + 1, P, P): ḟ = η_0 K Δ/P.
        standard_error: for each of outputs, H, Phi, G, A, ntk and moved, its Monte Carlo error in the same shape: from
            the spread over independent systems of particles, NaN if there is one system, 0 where nothing is sampled.
        status: a `PathStatus`.
        metadata: how it was computed.
        replicates: for these and for the losses, the result without each of the systems in turn, (systems, ...), from
            which `mean` takes standard errors; none if there is one system, or nothing is sampled.
        labels: update and input of each label, (N, 2).
        moved: ⟨(h(k) - h(0))²⟩ of all inputs, (updates + 1, times, M), or None where H has it.
        test_losses: mean over the test inputs with a target, (updates + 1,), or None.
    """

    arrays: ClassVar[tuple[str, ...]] = ("tau", "targets", "outputs", "losses", "H", "Phi", "G", "A", "ntk")

    features: ClassVar[str] = "H"
    path_axis: ClassVar[Mapping[str, int]] = {}

    status: Any
    H: NDArray[Any]
    standard_error: dict[str, NDArray[Any]]
    replicates: Mapping[str, NDArray[Any]] = dataclasses.field(default_factory=dict)

    def __repr__(self) -> str:
        """Return one line that says what is inside."""
        return f"TrainedKernels({self.updates} updates, {self.inputs} inputs, {self.status.name})"

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
    def last_update(self) -> NDArray[np.int_]:
        """The last update with valid outputs; -1 if there is none."""
        whole = np.all(np.isfinite(self.outputs), axis=tuple(range(1, self.outputs.ndim)))
        return np.asarray(np.sum(whole) - 1)

    @property
    def failures(self) -> dict[str, int]:
        """The status, if it is not `FINE`, and "total"."""
        return failures(np.asarray([self.status]))

    def _reduce(self, name: str, how: Callable[..., Estimate], *statistics: Any) -> Estimate:
        raise ValueError(f"a deterministic limit is one trajectory and has no {name} over paths: use its mean(f).")

    def quantities(self) -> list[Quantity]:
        """Outputs and loss over the updates: what `compare` looks at."""
        return over_updates(self)

    def over_updates(
        self, datum: int | None = None, output: int = 0, *, trained: bool = True, accuracy: bool = False
    ) -> Curve:
        """The output of one input, or the loss or the accuracy of all of a kind, with its Monte Carlo error."""

        def curve(r: "TrainedKernels") -> NDArray[Any]:
            if datum is not None:
                return np.asarray(r.outputs[:, datum] if r.outputs.ndim == 2 else r.outputs[:, datum, output])
            if accuracy:
                return r.accuracy(trained)
            return np.asarray(r.losses if trained else r.test_losses)

        value, error = self.mean(curve)
        if datum is not None:  # known even where a result was put together by hand
            known = self.standard_error["outputs"][:, datum]
            error = known if known.ndim == 1 else known[:, output]
        return Curve(np.arange(self.updates + 1.0), value[:, None], error)

    def mean(self, f: Callable[["TrainedKernels"], Any]) -> Estimate:
        """Value of a statistic of the whole result, with its Monte Carlo error: what `richardson` extrapolates.

        The error is the jackknife's, from the results without one of the systems of particles, so that whatever is
        correlated in what `f` combines is so in the error. With few systems it is itself uncertain, by a factor
        1 ± 1/√(2 systems - 2).

        Args:
            f: statistic, such as `lambda r: r.outputs[-1]` or `lambda r: r.movement()`; maps a result to a real number
                or array.

        Returns:
            f(self) and its standard error, of the shape of f(self): 0 where nothing is sampled, NaN where the spread is
            not known, because there is one system or the result was made by hand.

        Raises:
            TypeError: if `f` returns no real array.
        """
        value = _real(f(self))
        if self.replicates:
            rest = (dict(zip(self.replicates, one, strict=True)) for one in zip(*self.replicates.values(), strict=True))
            parts = [_real(f(dataclasses.replace(self, replicates={}, **arrays))) for arrays in rest]
            spread = np.std(parts, axis=0) * np.sqrt(len(parts) - 1)
        else:
            known = [np.all((e == 0) | np.isnan(getattr(self, name))) for name, e in self.standard_error.items()]
            spread = np.full(value.shape, 0.0 if known and all(known) else np.nan)
        return Estimate(value, np.where(np.isnan(value), np.nan, spread))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write everything to a `.npz` file."""
        given = {name: getattr(self, name) for name in (*self.arrays, *self._optional)}
        arrays = {name: value for name, value in given.items() if value is not None}
        arrays |= {f"error_{name}": value for name, value in self.standard_error.items()}
        arrays |= {f"without_{name}": value for name, value in self.replicates.items()}
        save_npz(path, arrays | {"status": np.array(int(self.status))}, self.metadata, _FORMAT)

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
        kernels = ("outputs", "H", "Phi", "G", "A", "ntk")
        names = [*cls.arrays, *(f"error_{name}" for name in kernels), "status"]
        further = [f"without_{name}" for name in (*kernels, "losses", "moved", "test_losses")]
        arrays, metadata = load_npz(
            path,
            names,
            _FORMAT,
            "TrainedKernels.save",
            "a trained kernel limit",
            optional=[*cls._optional, "error_moved", *further],
        )
        try:
            status = PathStatus(int(arrays.pop("status")))
        except (TypeError, ValueError) as error:
            raise ValueError(f"path: {os.fspath(path)!r} is no sound result: its status is no PathStatus.") from error
        if status == PathStatus.FINE and np.isnan(arrays["outputs"]).any():
            raise ValueError(
                f"path: {os.fspath(path)!r} is no sound result, so compute it again: outputs holds NaN, and the status "
                "is FINE."
            )
        parts: dict[str, dict[str, NDArray[Any]]] = {"error_": {}, "without_": {}}
        for prefix, found in parts.items():
            for name in [name for name in arrays if name.startswith(prefix)]:
                found[name.removeprefix(prefix)] = arrays.pop(name)
        errors, replicates = parts.values()
        return cls(**arrays, standard_error=errors, status=status, metadata=metadata, replicates=replicates)


def _real(value: Any) -> NDArray[np.float64]:
    array = np.asarray(value)
    if array.dtype.kind not in "biuf":
        raise TypeError(
            "the statistic must return a real number or array, as in lambda r: r.outputs[-1]; it gave dtype "
            f"{array.dtype}."
        )
    return array.astype(np.float64)
