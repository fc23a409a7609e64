"""The result of a simulation: an ensemble of covariance paths, and statistics with standard errors."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from covsde.results import estimate
from covsde.results.estimate import Estimate as Estimate
from covsde.results.estimate import over_survivors, quantiles_of_all
from covsde.results.npz import as_json, load_npz, save_npz
from covsde.results.status import PathStatus

_FORMAT = 1
_ARRAYS = ("tau", "V", "status", "stop_tau")

MatrixStatistic = Callable[[Any], Any]
"""A statistic of the covariance: maps arrays (..., m, m) to arrays (...)."""


def correlation(V: NDArray[Any], i: int, j: int) -> NDArray[np.float64]:
    """Return the correlation of inputs `i` and `j`.

    Args:
        V: Covariances, shape (..., m, m).
        i: First input.
        j: Second input.

    Returns:
        V_ij / sqrt(V_ii V_jj), shape (...), NaN where it is undefined. Excess over [-1, 1] is removed where
        it is rounding (1e-6 at most) and left in place where it is not.
    """
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        # Two roots, not the root of a product, which overflows for large variances.
        rho = V[..., i, j].astype(np.float64)
        rho = rho / np.sqrt(V[..., i, i].astype(np.float64)) / np.sqrt(V[..., j, j].astype(np.float64))
        return np.where(np.abs(rho) <= 1 + 1e-6, np.clip(rho, -1.0, 1.0), rho)


def angle(V: NDArray[Any], i: int, j: int) -> NDArray[np.float64]:
    """Return the angle in radians between inputs `i` and `j`.

    Args:
        V: Covariances, shape (..., m, m).
        i: First input.
        j: Second input.

    Returns:
        The angle in [0, pi], shape (...), NaN where the correlation is undefined or outside [-1, 1].
    """
    rho = correlation(V, i, j)
    with np.errstate(invalid="ignore"):
        return np.arctan2(np.sqrt((1 - rho) * (1 + rho)), rho)


def log_variance(V: NDArray[Any], i: int) -> NDArray[np.float64]:
    """Return the logarithm of the variance of input `i`.

    Args:
        V: Covariances, shape (..., m, m).
        i: The input.

    Returns:
        log V_ii, shape (...): +inf for an exploded variance, -inf for a vanished one.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.log(V[..., i, i].astype(np.float64))


@dataclass(frozen=True, eq=False, repr=False)
class Ensemble:
    """Covariance paths of an infinite limit or of finite networks, over layer time.

    After the `stop_tau` of a path that is not fine, its `V` has +inf on the diagonal entries known to have
    exploded and NaN everywhere else.

    Args:
        tau: Layer times l/L at which `V` is saved, increasing within [0, 1], shape (times,).
        V: Covariance matrices, shape (times, paths, m, m), floating.
        status: One `PathStatus` per path, shape (paths,).
        stop_tau: Layer time up to which each path is valid, shape (paths,); 1.0 for fine paths.
        metadata: How the ensemble was made; must be expressible as JSON. Keys used here: "kind" ("limit" or
            "network"), "label", "architecture", "width", "depth", "deterministic".

    Raises:
        ValueError: If shapes or values contradict the above.
        TypeError: If `metadata` is not expressible as JSON or `V` is not floating.
    """

    # Any dtype is accepted on the way in; tau and stop_tau become float64, status int8.
    tau: NDArray[Any]
    V: NDArray[Any]
    status: NDArray[Any]
    stop_tau: NDArray[Any]
    metadata: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        tau = np.asarray(self.tau, dtype=np.float64)
        V = np.asarray(self.V)
        status = np.asarray(self.status)
        stop_tau = np.asarray(self.stop_tau, dtype=np.float64)
        if tau.ndim != 1 or tau.size == 0:
            raise ValueError(f"tau must have shape (times,) with at least one time, got shape {tau.shape}.")
        if not (np.all(np.diff(tau) > 0) and tau[0] >= 0 and tau[-1] <= 1 + 1e-9):
            raise ValueError("tau must increase strictly within [0, 1]; sort it and remove repeated times.")
        if V.ndim != 4 or V.shape[2] != V.shape[3] or V.shape[0] != tau.size or 0 in V.shape:
            raise ValueError(
                f"V must have shape (times, paths, m, m) with times = {tau.size} as in tau, got {V.shape}."
            )
        if not np.issubdtype(V.dtype, np.floating):
            raise TypeError(f"V must hold floating-point numbers, got {V.dtype}; convert it with astype(float).")
        paths = V.shape[1]
        if status.shape != (paths,):
            raise ValueError(f"status must have shape (paths,) = ({paths},) as in V, got {status.shape}.")
        if stop_tau.shape != (paths,):
            raise ValueError(f"stop_tau must have shape (paths,) = ({paths},) as in V, got {stop_tau.shape}.")
        if not np.all(np.isin(status, [int(s) for s in PathStatus])):
            raise ValueError(f"status must hold values of PathStatus, got {np.unique(status).tolist()}.")
        if not np.all((stop_tau >= 0) & (stop_tau <= 1 + 1e-9)):
            raise ValueError("stop_tau must lie within [0, 1]; use 1.0 for paths that are fine.")
        object.__setattr__(self, "tau", tau)
        object.__setattr__(self, "V", V)
        object.__setattr__(self, "status", status.astype(np.int8))
        object.__setattr__(self, "stop_tau", stop_tau)
        object.__setattr__(self, "metadata", as_json(self.metadata))
        # A finite value after the stop would enter quantiles as if the path were still valid.
        if np.any(np.isfinite(V[~self.alive])):
            raise ValueError(
                "V must not hold finite values after a path's stop_tau; set them to NaN, or to +inf on the "
                "diagonal entries that exploded."
            )

    @property
    def m(self) -> int:
        """Number of inputs."""
        return int(self.V.shape[-1])

    @property
    def paths(self) -> int:
        """Number of paths, stopped ones included."""
        return int(self.V.shape[1])

    @property
    def kind(self) -> str:
        """What the paths are: "limit" or "network" for those made by this library."""
        return str(self.metadata.get("kind", "ensemble"))

    @property
    def deterministic(self) -> bool:
        """Whether the one path is the whole law, so that every standard error is 0."""
        return bool(self.metadata.get("deterministic", False)) and self.paths == 1

    @property
    def label(self) -> str:
        """Name of the ensemble in tables and legends."""
        if self.metadata.get("label"):
            return str(self.metadata["label"])
        width = self.metadata.get("width")
        return self.kind if width is None else f"{self.kind}, width {width}"

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
            f"Ensemble({self.kind}, m={self.m}, {self.paths} paths, {self.tau.size} times, "
            f"{self.failures['total']} failed)"
        )

    def correlation(self, i: int, j: int) -> NDArray[np.float64]:
        """Return the correlation of inputs `i` and `j` on every path, shape (times, paths).

        Args:
            i: First input.
            j: Second input.

        Returns:
            Correlations, float64; NaN once a path has stopped. Rounding beyond [-1, 1] (1e-6 at most) is
            removed; a larger excess is left, since it means that `V` is not positive semi-definite.
        """
        return correlation(self.V, i, j)

    def angle(self, i: int, j: int) -> NDArray[np.float64]:
        """Return the angle in radians between inputs `i` and `j` on every path, shape (times, paths).

        Args:
            i: First input.
            j: Second input.

        Returns:
            Angles in [0, pi], float64; NaN once a path has stopped.
        """
        return angle(self.V, i, j)

    def log_variance(self, i: int) -> NDArray[np.float64]:
        """Return log V_ii on every path, shape (times, paths).

        Args:
            i: The input.

        Returns:
            Log-variances, float64; +inf once input `i` has exploded, NaN on paths that stopped otherwise.
        """
        return log_variance(self.V, i)

    def mean(self, f: MatrixStatistic) -> Estimate:
        """Estimate the mean of a statistic over the paths that are still valid at each saved time.

        Args:
            f: Statistic mapping arrays (..., m, m) to (...), such as `lambda V: V[..., 0, 1]`; a function of
                one matrix (m, m) is mapped over the paths by `jax.vmap`.

        Returns:
            Mean and standard error, each of shape (times, ...). Non-finite values of `f` on surviving paths
            show as a non-finite mean.

        Raises:
            TypeError: If `f` is neither a function of a batch nor of one matrix.

        Warns:
            FailedPathsWarning: If paths had stopped, so that the mean is conditional on survival.
        """
        reduce = estimate.mean_of_a_point if self.deterministic else estimate.mean
        return over_survivors(self._evaluate(f), self.alive, self.tau, reduce, "mean")

    def variance(self, f: MatrixStatistic) -> Estimate:
        """Estimate the variance of a statistic over the paths that are still valid at each saved time.

        Args:
            f: Statistic, as for `mean`.

        Returns:
            Unbiased variance and its standard error from the fourth central moment, each (times, ...).

        Raises:
            TypeError: If `f` is neither a function of a batch nor of one matrix.

        Warns:
            FailedPathsWarning: If paths had stopped, so that the variance is conditional on survival.
        """
        reduce = estimate.variance_of_a_point if self.deterministic else estimate.variance
        return over_survivors(self._evaluate(f), self.alive, self.tau, reduce, "variance")

    def quantile(self, f: MatrixStatistic, q: float | Sequence[float] | NDArray[Any]) -> Estimate:
        """Estimate quantiles of a statistic over all paths, exploded ones included.

        An exploded path enters as what `f` makes of an infinite diagonal, that is at +inf for a log-variance;
        paths on which `f` is NaN (a correlation after the stop, say) are left out and counted in a warning.

        Args:
            f: Statistic, as for `mean`.
            q: Probability in (0, 1), or a one-dimensional sequence of them.

        Returns:
            Quantile and standard error, each (times, ...), or (times, len(q), ...) for a sequence. The
            standard error is distribution-free: half the distance between the order statistics at
            q ± sqrt(q(1-q)/N). It is NaN where N is too small to contain that interval and inf where the
            interval reaches exploded paths.

        Raises:
            TypeError: If `f` is neither a function of a batch nor of one matrix.
            ValueError: If `q` is not within (0, 1).

        Warns:
            FailedPathsWarning: If values were NaN and therefore left out.
        """
        found = quantiles_of_all(self._evaluate(f), q, self.tau)
        return estimate.without_error(found) if self.deterministic else found

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
    def load(cls, path: str | os.PathLike[str]) -> "Ensemble":
        """Read an ensemble written by `save`.

        Args:
            path: File to read.

        Returns:
            The ensemble, arrays with the shapes and dtypes that were saved.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If the file is damaged, is not an ensemble, or comes from a newer version.
        """
        arrays, metadata = load_npz(path, _ARRAYS, _FORMAT, "Ensemble.save", "an ensemble")
        return cls(**arrays, metadata=metadata)

    def _evaluate(self, f: MatrixStatistic) -> NDArray[np.float64]:
        """Return the statistic on every path, shape (times, paths, ...)."""
        probe_shape = (self.m + 1, self.m + 2)  # unequal to each other and to m, so that it is recognised
        factors = np.random.default_rng(0).standard_normal((*probe_shape, self.m, 2 * self.m))
        probe = (factors @ np.swapaxes(factors, -1, -2) / (2 * self.m)).astype(self.V.dtype)
        with np.errstate(all="ignore"):
            try:
                batched = np.shape(f(probe))[:2] == probe_shape
            except Exception:  # a function of one matrix may fail in any way on a batch
                batched = False
            values = np.asarray(f(self.V)) if batched else self._evaluate_per_matrix(f)
        if values.shape[:2] != self.V.shape[:2] or values.dtype.kind not in "biuf":
            raise TypeError(
                "f must map arrays (..., m, m) to real arrays (...) (use V[..., 0, 1]); on V of shape "
                f"{self.V.shape} it gave shape {values.shape} and dtype {values.dtype}."
            )
        return values.astype(np.float64)

    def _evaluate_per_matrix(self, f: MatrixStatistic) -> NDArray[Any]:
        import jax

        try:
            # Without 64-bit mode JAX would round a float64 ensemble to float32.
            with jax.enable_x64(self.V.dtype == np.float64):
                return np.asarray(jax.vmap(jax.vmap(f))(self.V))
        except Exception as e:
            raise TypeError(
                "f must map arrays (..., m, m) to (...) (use V[..., 0, 1]), or one matrix (m, m) to a number "
                f"with jax.numpy; as neither could it be evaluated ({type(e).__name__})."
            ) from e
