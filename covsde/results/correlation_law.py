"""The law of the correlation of two inputs over layer time."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from covsde.results.html import numbers, paragraph


@dataclass(frozen=True, eq=False)
class CorrelationLaw:
    """Law of the correlation ρ of two inputs over layer time, from a deterministic solution.

    Attributes:
        tau: layer times, (times,).
        mean: E ρ, (times,).
        second_moment: E ρ², (times,).
        angle_mean: E arccos ρ in radians, (times,).
        y: grid of y = log tan(θ/2) = -artanh ρ, (points,), equally spaced.
        probability: probability of each cell of the grid, (times, points).
    """

    tau: NDArray[np.float64]
    mean: NDArray[np.float64]
    second_moment: NDArray[np.float64]
    angle_mean: NDArray[np.float64]
    y: NDArray[np.float64]
    probability: NDArray[np.float64]

    def __repr__(self) -> str:
        """Return one line that says what is inside."""
        return f"CorrelationLaw({self.tau.size} layer times, E ρ = {self.mean[-1]:.4g} at τ = {self.tau[-1]:.4g})"

    def _repr_html_(self) -> str:
        """Moments over layer time, for notebooks."""
        moments = np.stack([self.tau, self.mean, self.second_moment, self.angle_mean], axis=1)
        return "\n".join([paragraph([repr(self)]), numbers(moments, ["τ", "E ρ", "E ρ²", "E arccos ρ"])])

    def expectation(self, values: Any) -> NDArray[np.float64]:
        """E g(ρ) over layer time.

        Args:
            values: g on the grid, i.e. g(-tanh(law.y)), shape (points,).

        Returns:
            Shape (times,).
        """
        return self.probability @ np.asarray(values, np.float64)

    def density(self, rho: Any) -> NDArray[np.float64]:
        """Density of ρ with respect to dρ.

        Args:
            rho: correlations in (-1, 1), any shape.

        Returns:
            Shape (times, *rho.shape); at τ = 0, where the law is a point mass, NaN.
        """
        rho = self._checked(rho)
        # Interpolate the logarithm, which is nearly parabolic.
        with np.errstate(divide="ignore"):
            log_density = np.log(np.maximum(self.probability, 1e-300) / (self.y[1] - self.y[0]))
        at = -np.arctanh(rho)
        rows = [np.exp(np.interp(at, self.y, row)) / (1 - rho**2) for row in log_density]
        out = np.stack(rows)
        out[self.tau == 0] = np.nan
        return out

    def cdf(self, rho: Any) -> NDArray[np.float64]:
        """Probability that the correlation is at most ρ.

        Args:
            rho: correlations in (-1, 1), any shape.

        Returns:
            Shape (times, *rho.shape).
        """
        rho = self._checked(rho)
        half = (self.y[1] - self.y[0]) / 2
        ends = np.append(self.y - half, self.y[-1] + half)
        below = np.concatenate([np.zeros((self.tau.size, 1)), np.cumsum(self.probability, axis=1)], axis=1)
        # ρ decreases in y.
        return np.stack([1 - np.interp(-np.arctanh(rho), ends, row) for row in below])

    def _checked(self, rho: Any) -> NDArray[np.float64]:
        rho = np.asarray(rho, np.float64)
        if not np.all(np.abs(rho) < 1):
            raise ValueError("rho must hold correlations strictly between -1 and 1.")
        return rho
