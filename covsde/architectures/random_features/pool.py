"""Kernel regression on a user's data: samples are drawn without replacement from a finite pool of n inputs.

The pool's kernel K = n U Λ Uᵀ gives modes ψ_k(x_μ) = √(nλ_k) U_μk, of which P rows are seen. Rows of an orthogonal
matrix are not independent: see spectra/projection.py. As n → ∞ losses are those of `RandomFeatures` with N = ∞.
"""

import itertools
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import equinox as eqx
import jax
import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve

from covsde.architectures.random_features.architecture import checked_times
from covsde.architectures.random_features.spectrum import Spectrum
from covsde.inputs.arguments import finite_number, one_line, positive_int
from covsde.inputs.data import check_target_columns
from covsde.inputs.gram import check_gram, real_array
from covsde.numerics.keys import generator, recorded_generator, recorded_key, typed_key
from covsde.numerics.laplace import inverse_laplace
from covsde.results.scaling import LossCurves, ScalingLaw
from covsde.results.status import PathStatus
from covsde.run.chunks import Chunks
from covsde.run.metadata import versions
from covsde.run.plan import Plan, question
from covsde.spectra.projection import Pool, pool_plateau, pool_two_point
from covsde.spectra.resolvent import Modes

_DOUBLE = np.dtype(np.float64)
_CHUNK = 4
# Of its largest eigenvalue: what a kernel in float64 cannot be told from 0 by.
_ROUNDING = 1e-12


class Exponents(NamedTuple):
    """Power laws fitted to a spectrum.

    Attributes:
        source: a of λ_k w_k² ~ k^{-a}.
        source_error: its standard error.
        capacity: b of λ_k ~ k^{-b}.
        capacity_error: its standard error.
    """

    source: float
    source_error: float
    capacity: float
    capacity_error: float


def exponents(spectrum: Any, first: int = 10, last: int | None = None, bins: int = 12) -> Exponents:
    """Source and capacity of a spectrum, by least squares through averages over modes in equal intervals of log k.

    Args:
        spectrum: whose eigenvalues fall.
        first: the first mode to be used, counted from 1.
        last: the last; by default a tenth of all, since those of a kernel matrix fall too fast near its end.
        bins: intervals, of at least one mode each.

    Returns:
        Exponents and their standard errors, from the scatter about the line: they say nothing of how far a spectrum is
        from a power law.

    Raises:
        ValueError: for fewer than three intervals with modes.
    """
    modes = spectrum.modes
    total = len(modes.eigenvalues)
    first = positive_int("first", first)
    end = positive_int("last", max(total // 10, first + 10) if last is None else last, least=first + 1)
    if end > total:
        raise ValueError(f"last must be one of the {total} modes, got {end}.")
    k = np.arange(1, total + 1)[first - 1 : end]
    edges = np.unique(np.round(np.geomspace(first, end + 1, positive_int("bins", bins, least=3) + 1)).astype(int))
    groups = [(k >= low) & (k < high) for low, high in itertools.pairwise(edges)]
    lines = []
    for values in (modes.energies, modes.eigenvalues):
        chosen = values[first - 1 : end]
        points = [(np.log(k[g]).mean(), np.log(chosen[g].mean())) for g in groups if g.any() and chosen[g].mean() > 0]
        if len(points) < 4:
            raise ValueError(f"modes {first} to {end} hold {len(points)} intervals, too few for a line: widen them.")
        slope, covariance = np.polyfit([k for k, _ in points], [y for _, y in points], 1, cov=True)
        lines += [-float(slope[0]), float(np.sqrt(covariance[0, 0]))]
    return Exponents(*lines)


class KernelRegression(eqx.Module):
    """Kernel ridge regression f = k(x)·(K_P + δ)⁻¹ y on P inputs out of a pool of n.

    Args:
        K: (n, n) kernel of the pool.
        targets: (n,) or (n, outputs).
        penalty: δ ≥ 0; 0 interpolates.

    Raises:
        ValueError: as `Spectrum.from_kernel`, or for a negative penalty.

    Example:
        ```python
        x = np.random.default_rng(0).standard_normal((200, 20))
        regression = cs.scaling.KernelRegression(cs.gram(x), x[:, 0] ** 2, penalty=1.0)
        print(cs.compare(regression.predicted([50]), regression.measured([50], draws=20)))
        ```
    """

    K: NDArray[np.float64]
    targets: NDArray[np.float64]
    penalty: float
    spectrum: Spectrum

    def __init__(self, K: Any, targets: Any, penalty: float = 0.0):
        self.spectrum = Spectrum.from_kernel(K, targets)
        self.K = check_gram(K, name="K")
        self.targets = check_target_columns(targets, len(self.K))
        self.penalty = finite_number("penalty", penalty)
        if self.penalty < 0:
            raise ValueError(f"penalty must be ≥ 0, got {penalty}; 0 interpolates.")

    def predicted(self, samples: Any) -> ScalingLaw:
        """Losses summed over outputs, from the spectrum alone: `test` on the inputs of the pool that were not drawn.

        Args:
            samples: P, increasing, below n, (sizes,).

        Returns:
            Test and train loss, (sizes,) each.

        Raises:
            ValueError: for other numbers of samples.
        """
        P, n, modes = self._samples(samples), len(self.K), self.spectrum.modes
        found = [pool_losses(modes, Pool(float(size), float(n)), self.penalty / size) for size in P]
        pool, train = np.array(found).T
        return self._law(P, pool, train, P / n, time="samples")

    def measured(self, samples: Any, draws: int = 20, key: Any = 0, progress: bool | None = None) -> LossCurves:
        """The same of regression on inputs that are drawn: the larger sets of a draw hold the smaller ones.

        Args:
            samples: P, increasing, below n, (sizes,).
            draws: how many.
            key: seed or JAX key.
            progress: show a bar; None: on a terminal.

        Returns:
            Test and train losses, (sizes, draws) each.

        Raises:
            ValueError: for other numbers of samples.
        """
        P = self._samples(samples)
        return _measured(self, Settings(P, {"time": "samples"}, draws, key, progress), self._by_samples)

    def predicted_flow(self, times: Any, samples: int) -> ScalingLaw:
        """Losses of gradient flow ḟ = K(y - f)/P on P inputs, without penalty.

        Args:
            times: t, finite, increasing, (times,).
            samples: P, below n.

        Returns:
            Test and train loss, (times,) each; test as for `predicted`.

        Raises:
            ValueError: for other times or samples.
        """
        t, P = checked_times(times), self._samples(samples)
        pool, train = pool_flow(t, self.spectrum.modes, Pool(float(P[0]), float(len(self.K))))
        return self._law(t, pool, train, P[0] / len(self.K), time="flow", samples=int(P[0]))

    def measured_flow(
        self, times: Any, samples: int, draws: int = 20, key: Any = 0, progress: bool | None = None
    ) -> LossCurves:
        """The same of gradient flow on inputs that are drawn; arguments as for `predicted_flow` and `measured`."""
        t, P = checked_times(times), int(self._samples(samples)[0])
        settings = Settings(t, {"time": "flow", "samples": P}, draws, key, progress)
        return _measured(self, settings, partial(self._by_time, P))

    def _samples(self, samples: Any) -> NDArray[np.float64]:
        P = np.atleast_1d(real_array("samples", samples, "whole numbers of shape (sizes,)")).astype(np.float64)
        rising = P.ndim == 1 and P.size > 0 and np.all(np.diff(P) > 0)
        if not rising or not np.all((np.round(P) == P) & (P >= 1) & (len(self.K) > P)):
            raise ValueError(
                f"samples must be whole, increase and lie between 1 and {len(self.K) - 1}, below the size of the pool, "
                f"got {one_line(samples)}."
            )
        return P

    def _described(self) -> dict[str, Any]:
        return {"pool": len(self.K), "penalty": self.penalty, "versions": versions()}

    def _law(self, points: NDArray[Any], pool: Any, train: Any, share: Any, **more: Any) -> ScalingLaw:
        metadata = {"kind": "limit", "label": "theory", "deterministic": True, **self._described(), **more}
        return ScalingLaw(np.array([PathStatus.FINE]), metadata, points, (pool - share * train) / (1 - share), train)

    def _by_samples(self, points: NDArray[np.float64], order: NDArray[np.int_]) -> list[list[float]]:
        K, y, test, train = self.K, self.targets, [], []
        for size in points.astype(int):
            seen, unseen = order[:size], order[size:]
            weights, residual = _regress(K[np.ix_(seen, seen)], y[seen], self.penalty)
            test.append(float(np.sum((K[np.ix_(unseen, seen)] @ weights - y[unseen]) ** 2) / len(unseen)))
            train.append(float(np.sum(residual**2) / size))
        return [test, train]

    def _by_time(self, P: int, points: NDArray[np.float64], order: NDArray[np.int_]) -> list[list[float]]:
        K, y, seen, unseen = self.K, self.targets, order[:P], order[P:]
        x, U = np.linalg.eigh(K[np.ix_(seen, seen)] / P)
        x = np.maximum(x, 0.0)
        along, across, test, train = U.T @ y[seen], K[np.ix_(unseen, seen)] @ U / P, [], []
        for t in points:
            gained = -np.expm1(-x * t) / np.where(x > 0, x, 1.0)
            test.append(float(np.sum((across @ (gained[:, None] * along) - y[unseen]) ** 2) / len(unseen)))
            train.append(float(np.sum((np.exp(-x * t)[:, None] * along) ** 2) / P))
        return [test, train]


def pool_losses(modes: Modes, pool: Pool, z: float) -> tuple[float, float]:
    """Loss on the whole pool and on the P inputs that are drawn from it, at ridge z = δ/P ≥ 0."""
    if z > 0:
        found = pool_two_point(np.array([z], complex), modes, pool)
        return tuple(float(np.real(z * z * C[0, 0])) for C in found)  # type: ignore[return-value]
    return pool_plateau(modes, pool)


def pool_flow(times: NDArray[np.float64], modes: Modes, pool: Pool) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Losses of gradient flow on the whole pool and on the samples, (times,) each."""
    found = np.full((len(times), 2), modes.energy)
    for k, t in enumerate(times):
        if t > 0:
            nodes = inverse_laplace(t)
            found[k] = [nodes.of_pairs(C) for C in pool_two_point(nodes.z, modes, pool)]
    return found[:, 0], found[:, 1]


def _regress(
    K: NDArray[np.float64], y: NDArray[np.float64], penalty: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(K + δ)⁻¹ y, of least norm, and what it leaves of y."""
    if penalty:
        weights = cho_solve(cho_factor(K + penalty * np.eye(len(K))), y)
        return weights, penalty * weights
    x, U = np.linalg.eigh(K)
    U, x = U[:, x > _ROUNDING * x[-1]], x[x > _ROUNDING * x[-1]]
    along = U.T @ y
    return U @ (along / x[:, None]), y - U @ along if len(x) < len(y) else np.zeros_like(y)


class Settings(NamedTuple):
    """What is measured, and how often.

    Attributes:
        points: numbers of samples, or times.
        metadata: what they are.
        draws: how many.
        key: seed or JAX key.
        progress: show a bar.
    """

    points: NDArray[np.float64]
    metadata: dict[str, Any]
    draws: int
    key: Any
    progress: bool | None


@question
def _measured(
    regression: KernelRegression,
    settings: Settings,
    one: Callable[[NDArray[np.float64], NDArray[np.int_]], list[list[float]]],
) -> Plan[LossCurves]:
    points, more, draws, key, progress = settings
    n = len(regression.K)

    def dispatch(chunk_key: Any, size: int) -> Any:
        with generator():
            orders = [np.asarray(jax.random.permutation(k, n)) for k in jax.random.split(chunk_key, size)]
        return [one(points, order) for order in orders]

    def finish(found: Any) -> dict[str, Any]:
        arrays = np.asarray(found)
        return {"test": arrays[:, 0].T, "train": arrays[:, 1].T, "status": np.full(len(arrays), PathStatus.FINE)}

    draws = positive_int("draws", draws)
    metadata = {"kind": "network", "label": "kernel regression", **regression._described(), **more, "paths": draws}
    metadata |= {"seed": recorded_key(key), "generator": recorded_generator(key), "points": points.tolist()}
    chunks = Chunks(dispatch, finish, {"test": 1, "train": 1, "status": 0}, typed_key(key), draws, _CHUNK, "draws")

    def result(arrays: Any, metadata: dict[str, Any]) -> LossCurves:
        return LossCurves(metadata=metadata, times=points, **arrays)

    return Plan(chunks, metadata, _DOUBLE, result, 16 * len(points), progress)
