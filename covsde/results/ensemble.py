"""The result of a simulation: an ensemble of covariance paths, and statistics with standard errors."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from covsde.results.quantity import LAYER_TIME, Curve, Quantity
from covsde.results.record import StoppingPaths
from covsde.results.status import FailedPathsWarning

MatrixStatistic = Callable[[Any], Any]
"""A statistic of the covariance: maps arrays (..., m, m) to arrays (...)."""


def _least(V: NDArray[Any]) -> float:
    """The smallest variance that a dtype holds to its precision: covariances below it have lost their digits."""
    return float(np.finfo(V.dtype).tiny) if V.dtype.kind == "f" else 0.0


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
        rho = np.where(np.minimum(V[..., i, i], V[..., j, j]) < _least(V), np.nan, rho)
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


def similar_pairs(e: "Ensemble") -> tuple[tuple[int, int], tuple[int, int]]:
    """Return the most and the least similar pair of inputs at the first saved layer time.

    Args:
        e: Ensemble of at least two inputs.

    Returns:
        The pairs (i, j), i < j, of highest and lowest median correlation; equal if all are equally similar.
    """
    pairs = list(combinations(range(e.m), 2))
    first = e.V[0, e.alive[0]][:1000]  # at τ = 0 the paths agree
    if first.shape[0] == 0:
        return pairs[0], pairs[0]
    # Rounded, so that pairs equal up to rounding do not count as more or less similar.
    rho = np.array([np.round(np.median(correlation(first, i, j)), 6) for i, j in pairs])
    return pairs[int(np.argmax(rho))], pairs[int(np.argmin(rho))]


@dataclass(frozen=True, eq=False, repr=False, init=False)
class Ensemble(StoppingPaths):
    """Covariance paths of an infinite limit or of finite networks, over layer time.

    After the `stop_tau` of a path that is not fine, its `V` has +inf on the diagonal entries known to have
    exploded and NaN everywhere else. Statistics map arrays (..., m, m) to (...), such as `lambda V: V[..., 0, 1]`; a
    function of one matrix (m, m) is mapped over the paths by `jax.vmap`.

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

    path_axis: ClassVar = {"V": 1, "status": 0, "stop_tau": 0}

    V: NDArray[Any]

    def __init__(
        self,
        tau: NDArray[Any],
        V: NDArray[Any],
        status: NDArray[Any],
        stop_tau: NDArray[Any],
        metadata: dict[str, Any] | None = None,
    ) -> None:
        self._fill(
            tau=tau, V=np.asarray(V), status=status, stop_tau=stop_tau, metadata={} if metadata is None else metadata
        )

    def __post_init__(self) -> None:
        V, times = self.V, np.size(self.tau)
        if V.ndim != 4 or V.shape[2] != V.shape[3] or V.shape[0] != times or 0 in V.shape:
            raise ValueError(f"V must have shape (times, paths, m, m) with times = {times} as in tau, got {V.shape}.")
        if not np.issubdtype(V.dtype, np.floating):
            raise TypeError(f"V must hold floating-point numbers, got {V.dtype}; convert it with astype(float).")
        super().__post_init__()

    def _check_values(self) -> None:
        super()._check_values()
        V = np.where(self.alive[..., None, None], self.V, 0)
        variances = np.diagonal(V, axis1=-2, axis2=-1)
        with np.errstate(invalid="ignore"):
            roots = np.sqrt(np.abs(variances)).astype(np.float64)
            asymmetric = np.abs(V - np.swapaxes(V, -1, -2)) > 1e-5 * roots[..., :, None] * roots[..., None, :]
        faults = {
            "is not finite": ~np.isfinite(V),
            "has a negative variance": variances < 0,
            "is not symmetric": asymmetric,
        }
        for what, where in faults.items():
            if where.any():
                k, path = np.argwhere(where)[0][:2]
                raise ValueError(f"V {what} on path {path} at τ={self.tau[k]:.4g}, where it has not stopped.")

    @property
    def m(self) -> int:
        """Number of inputs."""
        return int(self.V.shape[-1])

    def _sizes(self) -> str:
        return f"m={self.m}, {super()._sizes()}"

    def quantities(self) -> list[Quantity]:
        """Correlations of the most and of the least similar inputs, and the growth of the first variance."""
        pairs = []
        if self.m >= 2:
            most, least = similar_pairs(self)
            pairs = [("", most)] if most == least else [("most similar ", most), ("least similar ", least)]
        return [*(self._pair(which, *pair) for which, pair in pairs), self._growth()]

    def _pair(self, which: str, i: int, j: int) -> Quantity:
        start = np.median(correlation(self.V[0, self.alive[0]], i, j)) if self.alive[0].any() else np.nan
        where = f"starting at {start:.3g}" if self.tau[0] == 0 else f"{start:.3g} at τ = {self.tau[0]:.3g}"
        return Quantity(
            f"rho_{i},{j}",
            f"{which}inputs{',' if which else ''} {i} and {j}\n{where}",
            f"correlation ρ$_{{{i},{j}}}$",
            LAYER_TIME,
            lambda e: Curve(e.tau, correlation(e.V, i, j), valid=e.alive),
        )

    def _growth(self) -> Quantity:
        def since_the_start(e: Ensemble) -> Curve:
            logs = log_variance(e.V, 0)
            return Curve(e.tau, logs - np.nanmedian(logs[0]), valid=e.alive)

        def from_a_later_time(e: Ensemble) -> Curve:
            return Curve(e.tau, log_variance(e.V, 0), valid=e.alive)

        if self.tau[0] > 0:
            return Quantity("log V_00", "variance of input 0\n", "log V$_{00}$", LAYER_TIME, from_a_later_time)
        symbol = "log [V$_{00}$(τ) / V$_{00}$(0)]"
        return Quantity(
            "log V_00/V_00(0)", "variance of input 0\nrelative to its start", symbol, LAYER_TIME, since_the_start
        )

    def correlation(self, i: int, j: int) -> NDArray[np.float64]:
        """Return the correlation of inputs `i` and `j` on every path, shape (times, paths).

        Args:
            i: First input.
            j: Second input.

        Returns:
            Correlations, float64; NaN once a path has stopped, or where a variance is 0 or too small for its dtype.
            Rounding beyond [-1, 1] (1e-6 at most) is removed; a larger excess is left, since it means that `V` is not
            positive semi-definite.

        Raises:
            IndexError: For an input that is not there.
            ValueError: If an input is zero on every path.

        Warns:
            FailedPathsWarning: If a variance is 0, or so small, on some paths.
        """
        self._check_pair(i, j)
        return correlation(self.V, i, j)

    def angle(self, i: int, j: int) -> NDArray[np.float64]:
        """Return the angle in radians between inputs `i` and `j` on every path, shape (times, paths).

        Args:
            i: First input.
            j: Second input.

        Returns:
            Angles in [0, pi], float64; NaN once a path has stopped.
        """
        self._check_pair(i, j)
        return angle(self.V, i, j)

    def log_variance(self, i: int) -> NDArray[np.float64]:
        """Return log V_ii on every path, shape (times, paths).

        Args:
            i: The input.

        Returns:
            Log-variances, float64; +inf once input `i` has exploded, NaN on paths that stopped otherwise.
        """
        self._check_inputs(i)
        return log_variance(self.V, i)

    def _check_pair(self, i: int, j: int) -> None:
        """Refuse an input that is zero, and count the paths on which a variance has vanished."""
        self._check_inputs(i, j)
        absent = np.zeros(self.alive.shape, bool)
        for k in (i, j):
            zero = self.alive & (self.V[..., k, k] == 0)
            if zero.any() and np.array_equal(zero, self.alive):
                raise ValueError(f"input {k} is zero, so it has no correlation with others; leave it out.")
            absent |= self.alive & (self.V[..., k, k] < _least(self.V))
        counts = absent.sum(axis=1)
        if counts.max() > 0:
            at = int(counts.argmax())
            warnings.warn(
                f"{counts[at]} of {self.paths} paths have no correlation of inputs {i} and {j} at layer time "
                f"τ={self.tau[at]:.4g}: a variance is 0 there, or too small for {self.V.dtype}, and "
                "the value NaN.",
                FailedPathsWarning,
                stacklevel=3,
            )

    def _check_inputs(self, *inputs: int) -> None:
        for i in inputs:
            if not isinstance(i, int | np.integer) or not -self.m <= i < self.m:
                raise IndexError(f"inputs must be numbers from 0 to {self.m - 1}, as m={self.m}, got {i!r}.")

    def evaluate(self, f: MatrixStatistic) -> NDArray[np.float64]:
        """Return a statistic on every path, shape (times, paths, ...).

        Args:
            f: Statistic mapping arrays (..., m, m) to (...), or a function of one matrix.

        Returns:
            Its values, float64.

        Raises:
            TypeError: If `f` is neither a function of a batch nor of one matrix.
        """
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
