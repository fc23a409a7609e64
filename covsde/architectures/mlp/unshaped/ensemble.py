"""The result for two inputs through an unshaped network: paths of w, q and log V, with standard errors."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from covsde.results import estimate
from covsde.results.estimate import Estimate, over_survivors, quantiles_of_all
from covsde.results.npz import as_json, load_npz, save_npz
from covsde.results.quantity import Curve, Quantity
from covsde.results.status import PathStatus

_FORMAT = 1
_ARRAYS = ("tau", "w", "log_variance", "status", "stop_tau")


@dataclass(frozen=True, eq=False, repr=False)
class UnshapedEnsemble:
    """Two inputs through an unshaped (leaky) ReLU network, in the limit or at finite width.

    In the network of width n, w = 1/(n√(1-ρ_ℓ)) and q = ℓ²(1-ρ_ℓ); in the limit w is the solution of the linear SDE
    and q = t²/w². After the `stop_tau` of a path w and log V are NaN, with one exception: where the inputs became
    exactly parallel w is +inf, so that quantiles of w and q still count the path.

    Args:
        tau: Layer times l/L, increasing within [0, 1], shape (times,).
        w: Shape (times, paths), floating.
        log_variance: log V of the first input minus its value at tau = 0, shape (times, paths).
        status: One `PathStatus` per path, shape (paths,).
        stop_tau: Layer time up to which each path is valid, shape (paths,); 1.0 for fine paths.
        metadata: How the ensemble was made; must be expressible as JSON. "clock" is T = depth/width; "source" is λk,
            which fixes q at t = 0 when w₀ = 0; "width" is n, or absent.

    Raises:
        ValueError: If shapes or values contradict the above.
        TypeError: If `metadata` is not expressible as JSON.

    Source: arXiv 2310.12079 (q); w is its inverse root.
    """

    tau: NDArray[Any]
    w: NDArray[Any]
    log_variance: NDArray[Any]
    status: NDArray[Any]
    stop_tau: NDArray[Any]
    metadata: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("tau", "w", "log_variance", "stop_tau"):
            object.__setattr__(self, name, np.asarray(getattr(self, name), dtype=np.float64))
        object.__setattr__(self, "status", np.asarray(self.status).astype(np.int8))
        object.__setattr__(self, "metadata", as_json(self.metadata))
        tau, shape = self.tau, self.w.shape
        if tau.ndim != 1 or not (np.all(np.diff(tau) > 0) and np.all((tau >= 0) & (tau <= 1 + 1e-9))):
            raise ValueError("tau must increase strictly within [0, 1]; sort it and remove repeated times.")
        if len(shape) != 2 or shape[0] != tau.size or 0 in shape or self.log_variance.shape != shape:
            raise ValueError(
                f"w and log_variance must both have shape (times, paths) with times = {tau.size} as in tau, got "
                f"{shape} and {self.log_variance.shape}."
            )
        if self.status.shape != shape[1:] or self.stop_tau.shape != shape[1:]:
            raise ValueError(f"status and stop_tau must have shape (paths,) = {shape[1:]} as in w.")
        if not np.all(np.isin(self.status, [int(s) for s in PathStatus])):
            raise ValueError(f"status must hold values of PathStatus, got {np.unique(self.status).tolist()}.")
        if "clock" not in self.metadata:
            raise ValueError('metadata must have "clock", the T = depth/width that turns layer time into t.')
        if np.any(np.isfinite(self.w[~self.alive])) or np.any(np.isfinite(self.log_variance[~self.alive])):
            raise ValueError("w and log_variance must not be finite after a path's stop_tau; set them to NaN.")

    @property
    def t(self) -> NDArray[np.float64]:
        """Clock times ℓ/n = T τ, shape (times,)."""
        return np.asarray(self.tau * self.metadata["clock"])

    @property
    def q(self) -> NDArray[np.float64]:
        """q = t²/w², shape (times, paths); at t = 0 its limit 1/(λk)² = 9π²/(2λ²) where w = 0."""
        with np.errstate(divide="ignore", invalid="ignore"):
            q = (self.t[:, None] / self.w) ** 2
        start = (self.t[:, None] == 0) & (self.w == 0)
        return np.where(start, self.metadata.get("source", np.nan) ** -2.0, q)

    @property
    def log_q(self) -> NDArray[np.float64]:
        """log q, shape (times, paths): -inf at t = 0 where w > 0, and where the inputs became parallel."""
        with np.errstate(divide="ignore"):
            return np.asarray(np.log(self.q))

    @property
    def one_minus_rho(self) -> NDArray[np.float64]:
        """1-ρ = 1/(nw)², shape (times, paths), to relative precision.

        Raises:
            ValueError: If the ensemble has no width, so that only q = ℓ²(1-ρ) means something.
        """
        width = self.metadata.get("width")
        if width is None:
            raise ValueError("one_minus_rho needs a width: this limit starts from w = 0, so read q instead.")
        with np.errstate(divide="ignore"):
            return np.asarray((width * self.w) ** -2.0)

    def quantities(self) -> list[Quantity]:
        """Angle and variance over layer time: what `compare` looks at."""
        axis = "layer time  τ = ℓ/L"
        return [
            Quantity("log q at τ = 1", "q = ℓ²(1 - ρ)\n", "log q", axis, lambda e: Curve(e.tau[1:], e.log_q[1:])),
            Quantity("log V/V₀ at τ = 1", "variance\n", "log V(τ)/V(0)", axis, lambda e: Curve(e.tau, e.log_variance)),
        ]

    @property
    def deterministic(self) -> bool:
        """False: every path is a draw."""
        return False

    @property
    def paths(self) -> int:
        """Number of paths, stopped ones included."""
        return int(self.w.shape[1])

    @property
    def kind(self) -> str:
        """What the paths are: "limit", "network" or "chain" for those made by this library."""
        return str(self.metadata.get("kind", "ensemble"))

    @property
    def label(self) -> str:
        """Name of the ensemble in tables and legends."""
        width = self.metadata.get("width")
        return str(self.metadata.get("label") or (self.kind if width is None else f"{self.kind}, width {width}"))

    @property
    def failures(self) -> dict[str, int]:
        """Number of paths per status that is not `FINE` (those that occur), and their "total"."""
        return estimate.failures(self.status)

    @property
    def alive(self) -> NDArray[np.bool_]:
        """Whether each path is still valid at each saved time, shape (times, paths)."""
        return estimate.alive(self.status, self.stop_tau, self.tau)

    def __repr__(self) -> str:
        """Return one line that says what is inside."""
        return (
            f"UnshapedEnsemble({self.kind}, {self.paths} paths, {self.tau.size} times, {self.failures['total']} failed)"
        )

    def mean(self, values: Any) -> Estimate:
        """Estimate a mean over the paths that are still valid at each saved time.

        Args:
            values: Array (times, paths, ...) computed from this ensemble, such as `e.w` or `e.log_q`.

        Returns:
            Mean and standard error, each of shape (times, ...).

        Raises:
            ValueError: If `values` does not start with (times, paths).

        Warns:
            FailedPathsWarning: If paths had stopped, so that the mean is conditional on survival.
        """
        return over_survivors(self._samples(values), self.alive, self.tau, estimate.mean, "mean")

    def variance(self, values: Any) -> Estimate:
        """Estimate a variance, otherwise as `mean`; the standard error is from the fourth central moment."""
        return over_survivors(self._samples(values), self.alive, self.tau, estimate.variance, "variance")

    def quantile(self, values: Any, q: float | Sequence[float] | NDArray[Any]) -> Estimate:
        """Estimate quantiles over all paths that have a value, infinite ones included.

        Args:
            values: Array (times, paths, ...) as for `mean`.
            q: Probability in (0, 1), or a one-dimensional sequence of them.

        Returns:
            Quantile and distribution-free standard error, each (times, ...) or (times, len(q), ...).

        Raises:
            ValueError: If `q` is not within (0, 1), or `values` does not start with (times, paths).

        Warns:
            FailedPathsWarning: If values were NaN and therefore left out.
        """
        return quantiles_of_all(self._samples(values), q, self.tau)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the ensemble to a compressed `.npz` file without pickles.

        Args:
            path: File to write, ending in ".npz"; an existing file is replaced once the new one is complete.

        Raises:
            ValueError: If `path` does not end in ".npz".
            OSError: If the directory does not exist or is not writable.
        """
        save_npz(path, {name: getattr(self, name) for name in _ARRAYS}, self.metadata, _FORMAT)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "UnshapedEnsemble":
        """Read an ensemble written by `save`.

        Args:
            path: File to read.

        Returns:
            The ensemble.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If the file is damaged, is not an unshaped ensemble, or comes from a newer version.
        """
        arrays, metadata = load_npz(path, _ARRAYS, _FORMAT, "UnshapedEnsemble.save", "an unshaped ensemble")
        return cls(**arrays, metadata=metadata)

    def _samples(self, values: Any) -> NDArray[np.float64]:
        array = np.asarray(values, dtype=np.float64)
        if array.shape[:2] != self.w.shape:
            raise ValueError(
                f"values must have shape (times, paths, ...) = {self.w.shape} as in w, got {array.shape}; pass for "
                "example e.w or e.log_q."
            )
        return array
