"""The result for two inputs through an unshaped network: paths of w, q and log V, with standard errors."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from covsde.results.quantity import LAYER_TIME, Curve, Quantity
from covsde.results.record import StoppingPaths


@dataclass(frozen=True, eq=False, repr=False, init=False)
class UnshapedEnsemble(StoppingPaths):
    """Two inputs through an unshaped (leaky) ReLU network, in the limit or at finite width.

    In the network of width n, w = 1/(n√(1-ρ_ℓ)) and q = ℓ²(1-ρ_ℓ); in the limit w is the solution of the linear SDE
    and q = t²/w². After the `stop_tau` of a path w and log V are NaN, with one exception: where the inputs became
    exactly parallel w is +inf, so that quantiles of w and q still count the path. Statistics are arrays
    (times, paths, ...) computed from the ensemble, such as `e.w` or `e.log_q`.

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

    path_axis: ClassVar = {"w": 1, "log_variance": 1, "status": 0, "stop_tau": 0}

    w: NDArray[Any]
    log_variance: NDArray[Any]

    def __init__(
        self,
        tau: NDArray[Any],
        w: NDArray[Any],
        log_variance: NDArray[Any],
        status: NDArray[Any],
        stop_tau: NDArray[Any],
        metadata: dict[str, Any] | None = None,
    ) -> None:
        w, log_variance = (np.asarray(x, dtype=np.float64) for x in (w, log_variance))
        self._fill(tau=tau, w=w, log_variance=log_variance, status=status, stop_tau=stop_tau, metadata=metadata or {})

    def __post_init__(self) -> None:
        shape, times = self.w.shape, np.size(self.tau)
        if len(shape) != 2 or shape[0] != times or 0 in shape or self.log_variance.shape != shape:
            raise ValueError(
                f"w and log_variance must both have shape (times, paths) with times = {times} as in tau, got "
                f"{shape} and {self.log_variance.shape}."
            )
        super().__post_init__()
        if "clock" not in self.metadata:
            raise ValueError('metadata must have "clock", the T = depth/width that turns layer time into t.')

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
        return [
            Quantity("log q at τ = 1", "q = ℓ²(1 - ρ)\n", "log q", LAYER_TIME, lambda e: Curve(e.tau[1:], e.log_q[1:])),
            Quantity(
                "log V/V₀ at τ = 1",
                "variance\n",
                "log V(τ)/V(0)",
                LAYER_TIME,
                lambda e: Curve(e.tau, e.log_variance),
            ),
        ]

    def evaluate(self, f: Any) -> NDArray[np.float64]:
        """Return an array computed from this ensemble as the values of a statistic.

        Args:
            f: Array (times, paths, ...), such as `e.w` or `e.log_q`.

        Returns:
            The same, float64.

        Raises:
            ValueError: If it does not start with (times, paths).
        """
        array = np.asarray(f, dtype=np.float64)
        if array.shape[:2] != self.w.shape:
            raise ValueError(
                f"f: values must have shape (times, paths, ...) = {self.w.shape} as in w, got {array.shape}; pass for "
                "example e.w or e.log_q."
            )
        return array
