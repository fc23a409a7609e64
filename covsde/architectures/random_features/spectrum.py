"""Spectra: the eigenvalues of a kernel and what of a target lies along each of its modes.

Inputs are ψ_k ~ N(0, λ_k), independent, and the target is y = Σ w_k ψ_k.
"""

import abc
import math
from typing import Any

import equinox as eqx
import numpy as np
from numpy.typing import NDArray

from covsde.inputs.arguments import finite_number, one_line, positive_int
from covsde.inputs.data import check_target_columns
from covsde.inputs.gram import check_gram, real_array
from covsde.spectra.resolvent import Modes

# An infinite power law: modes one by one, then nodes of an integral over log k, up to the last mode of all.
_ONE_BY_ONE = 2000
_NODES = 12  # Gauss-Legendre nodes in every factor of two
_LAST = 2.0**60
# Of the largest eigenvalue of a kernel: what float64 cannot tell from 0.
_ROUNDING = 1e-12


class AbstractSpectrum(eqx.Module):
    """A kernel's eigenvalues with a target."""

    @property
    @abc.abstractmethod
    def modes(self) -> Modes:
        """Blocks of modes: eigenvalues, energies λw², counts."""

    @property
    @abc.abstractmethod
    def drawable(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """λ_k and w_k of every mode, (M,) each, for finite models.

        Raises:
            ValueError: for infinitely many modes.
        """


class Spectrum(AbstractSpectrum):
    """Any eigenvalues and target coefficients.

    Args:
        eigenvalues: λ_k ≥ 0, (M,), not all 0.
        target: w_k, (M,), or (M, outputs) for several targets, whose losses add up.
        rest: variance of the target along no mode ≥ 0, which is never learned: noise that the test loss counts.

    Raises:
        ValueError: for negative or infinite eigenvalues, shapes that do not fit, or a negative rest.

    Example:
        ```python
        white = cs.scaling.Spectrum(np.ones(400), np.full(400, 400**-0.5))
        ```
    """

    eigenvalues: NDArray[np.float64]
    target: NDArray[np.float64]
    rest: float

    def __init__(self, eigenvalues: Any, target: Any, rest: float = 0.0):
        x = real_array("eigenvalues", eigenvalues, "numbers of shape (modes,)").astype(np.float64)
        w = real_array("target", target, "coefficients of shape (modes,) or (modes, outputs)").astype(np.float64)
        if x.ndim != 1 or not np.all(np.isfinite(x)) or not np.any(x != 0):
            raise ValueError("eigenvalues must have shape (modes,) and be finite, not all of them 0.")
        if np.any(x < 0):
            raise ValueError(
                f"eigenvalues must not be negative, got {x.min():.3g}: a kernel has none, so set those that are "
                "rounding to 0."
            )
        if w.ndim not in (1, 2) or len(w) != len(x) or not np.all(np.isfinite(w)):
            raise ValueError(
                f"target must hold one finite coefficient per eigenvalue, ({len(x)},) or ({len(x)}, outputs), got "
                f"shape {w.shape}."
            )
        self.eigenvalues, self.target, self.rest = x, w, finite_number("rest", rest)
        if self.rest < 0:
            raise ValueError(f"rest must be a variance ≥ 0, got {rest}.")

    @classmethod
    def from_kernel(cls, K: Any, targets: Any) -> "Spectrum":
        """The spectrum of a kernel on a data set, and of targets along its modes.

        Args:
            K: (n, n) kernel of all inputs, such as `kernels(ResNet(…), V0).ntk`.
            targets: (n,), or (n, outputs).

        Returns:
            λ_k, the eigenvalues of K/n from the largest, and w_k with y = Σ w_k ψ_k. Modes within rounding of 0 are
            none, and what of the targets lies along them is the `rest`.

        Raises:
            ValueError: for a K that is no covariance, or targets that do not fit.

        Example:
            ```python
            x = np.random.default_rng(0).standard_normal((200, 20))
            spectrum = cs.scaling.Spectrum.from_kernel(cs.gram(x), x[:, 0])
            ```
        """
        matrix = check_gram(K, name="K")
        n, y = len(matrix), check_target_columns(targets, len(matrix))
        if len(y) != n or not np.all(np.isfinite(y)):
            raise ValueError(f"targets must hold one finite row per input of K, {n}, got {len(y)}.")
        x, U = np.linalg.eigh(matrix / n)
        x, U = x[::-1], U[:, ::-1]
        present, along = x > _ROUNDING * x[0], U.T @ y
        w = along[present] / np.sqrt(n * x[present])[:, None]
        return cls(x[present], w[:, 0] if w.shape[1] == 1 else w, float(np.sum(along[~present] ** 2)) / n)

    @property
    def modes(self) -> Modes:
        """One block per mode, and one with λ = 0 for the rest if there is any."""
        x, squares = self.eigenvalues, self.target.reshape(len(self.target), -1) ** 2
        found = Modes(x, x * squares.sum(axis=1), np.ones(len(x)))
        ends = (0.0, self.rest, 1.0)
        return Modes(*map(np.append, found, ends)) if self.rest else found

    @property
    def drawable(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """λ_k (M,) and w_k (M,) or (M, outputs)."""
        if self.rest:
            raise ValueError(f"spectrum has rest={self.rest:.3g}, which no mode is drawn for: count it as noise=.")
        return self.eigenvalues, self.target


class PowerLaw(AbstractSpectrum):
    """λ_k = k^{-b} and λ_k w_k² = k^{-a}, k = 1, 2, ….

    Infinitely many modes are 2000 one by one and the nodes of an integral over the others, whose sums are right to
    eight digits. A power law that is cut off at M modes is another model: its losses fall faster than any power once
    all M are learned, and Σ_{k>M} λ_k ≪ N κ has to hold for its plateaus to be those of the whole.

    Args:
        source: a > 1.
        capacity: b > 0; above 1 for infinitely many modes, whose variance would be infinite.
        modes: M, or None for infinitely many.

    Raises:
        ValueError: for a ≤ 1, b ≤ 0, or b ≤ 1 without modes.

    Source: arXiv 2402.01092.

    Example:
        ```python
        infinite, cut = cs.scaling.PowerLaw(1.5, 1.25), cs.scaling.PowerLaw(1.5, 1.25, modes=500)
        ```
    """

    source: float
    capacity: float
    count: int | None

    def __init__(self, source: float, capacity: float, modes: int | None = None):
        self.source, self.capacity = finite_number("source", source), finite_number("capacity", capacity)
        self.count = None if modes is None else positive_int("modes", modes)
        if self.source <= 1:
            raise ValueError(
                f"source must exceed 1, got {source}: the target's variance Σ k^-source would be infinite, so no loss "
                "is defined."
            )
        if self.capacity <= 0:
            raise ValueError(f"capacity must be positive, got {capacity}: eigenvalues k^-capacity have to fall.")
        if modes is None and self.capacity <= 1:
            raise ValueError(
                f"capacity must exceed 1 for infinitely many modes, got {capacity}: their variance Σ k^-capacity is "
                "infinite, so cut them off with modes=."
            )

    @property
    def modes(self) -> Modes:
        """Modes one by one; of infinitely many also the nodes of those beyond 2000."""
        first = np.arange(1.0, 1 + (self.count or _ONE_BY_ONE))
        if self.count is not None:
            return Modes(first**-self.capacity, first**-self.source, np.ones(self.count))
        t, weights = np.polynomial.legendre.leggauss(_NODES)
        bounds = np.log(_ONE_BY_ONE + 0.5) + np.log(2) * np.arange(1 + int(math.log2(_LAST / _ONE_BY_ONE)))
        middle, half = (bounds[1:] + bounds[:-1]) / 2, np.log(2) / 2
        k = np.exp(middle[:, None] + half * t).ravel()
        counts = k * np.tile(half * weights, len(middle))
        end = np.exp(bounds[-1])
        # What is left of the target is learned by none, and of the trace next to nothing.
        rest = end ** (1 - self.source) / (self.source - 1)
        x, e = np.append(np.concatenate([first, k]) ** -self.capacity, 0.0), np.concatenate([first, k]) ** -self.source
        return Modes(x, np.append(e, rest), np.concatenate([np.ones(_ONE_BY_ONE), counts, [1.0]]))

    @property
    def drawable(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """λ_k and w_k > 0, (M,) each."""
        if self.count is None:
            raise ValueError(f"spectrum has infinitely many modes, got {one_line(self)}: cut it off with modes=.")
        k = np.arange(1.0, self.count + 1)
        return k**-self.capacity, k ** ((self.capacity - self.source) / 2)
