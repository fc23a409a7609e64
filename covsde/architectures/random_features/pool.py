"""Kernel regression on a user's data: samples are drawn without replacement from a finite pool of n inputs.

The pool's kernel K = n U Λ Uᵀ gives modes ψ_k(x_μ) = √(nλ_k) U_μk, of which P rows are seen. Rows of an orthogonal
matrix are not independent, so a projection takes the place of the Wishart matrix. With δ = D(κ)/n and p = P/n

    z = κ m,    m = (1 - δ/p)/(1 - δ),    losses = (∂m/∂t, m - z ∂m/∂z) Σ λw² (κ/(κ + λ))²

on all n inputs and on the P of them, where t adds to every eigenvalue of the projection. As n → ∞ this is `ridge`.

Source: derived for this library from the S-transform of a projection, docs/limits/scaling_laws.md.
"""

import itertools
from typing import Any, NamedTuple

import equinox as eqx
import jax
import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve
from scipy.optimize import brentq

from covsde.architectures.random_features.spectrum import Spectrum
from covsde.inputs.arguments import finite_number, one_line, positive_int
from covsde.inputs.data import check_target_columns
from covsde.inputs.gram import check_gram, real_array
from covsde.numerics.keys import generator, recorded_generator, recorded_key, typed_key
from covsde.results.scaling import LossCurves, ScalingLaw
from covsde.results.status import PathStatus
from covsde.run.chunks import Chunks
from covsde.run.metadata import versions
from covsde.run.plan import Plan, question
from covsde.spectra.resolvent import Modes, Sizes, degrees, real_kappa

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
        self.K, self.targets = check_gram(K, name="K"), check_target_columns(targets, len(self.spectrum.eigenvalues))
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
        P, n = self._samples(samples), len(self.K)
        lost = float(np.sum(self.targets**2) / n) - self.spectrum.modes.energy
        found = np.array([self._law(int(size)) for size in P])
        # What lies along no mode is on every input, and no rounding.
        pool, train = found.T + (lost if lost > 1e-9 * self.spectrum.modes.energy else 0.0)
        share = P / n
        test = (pool - share * train) / (1 - share)
        metadata = {"kind": "limit", "label": "theory", "deterministic": True, **self._described()}
        return ScalingLaw(np.array([PathStatus.FINE]), metadata, P, test, train)

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
        return _measured(self, self._samples(samples), draws, key, progress)

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
        return {"time": "samples", "pool": len(self.K), "penalty": self.penalty, "versions": versions()}

    def _law(self, P: int) -> tuple[float, float]:
        return pool_losses(self.spectrum.modes, P, len(self.K), self.penalty / P)


def pool_losses(modes: Modes, P: int, n: int, z: float) -> tuple[float, float]:
    """Loss on the whole pool and on the P inputs that are drawn from it, at ridge z = δ/P ≥ 0."""
    x, count = modes.eigenvalues, modes.counts
    p = P / n
    kappa = _pool_kappa(modes, P, n, z)
    if kappa == 0:
        return 0.0, 0.0
    missed = kappa / (kappa + x)
    q = float(count @ (x / (x + kappa) * missed)) / n
    base = float(count @ (modes.energies * missed**2))
    delta = degrees(kappa, modes) / n
    if z == 0:
        return base / (1 - (delta - q) / p), 0.0
    m = z / kappa
    theta = m * (1 - delta) / delta
    # tr 1/(θ + B) of the projection B, and its derivative.
    g, slope = (1 - p) / theta + p / (theta + 1 / p), -(1 - p) / theta**2 - p / (theta + 1 / p) ** 2
    raised = -theta * slope / (q + theta * (g + theta * slope) * (1 - q / (delta * (1 - delta))))
    return m * raised * base, m / (1 + q * (1 / (p - delta) - 1 / (1 - delta))) * base


def _pool_kappa(modes: Modes, P: int, n: int, z: float) -> float:
    """The root of z = κ (1 - D/P)/(1 - D/n)."""
    least = real_kappa(0.0, modes, Sizes(P, np.inf))
    if z == 0:
        return least

    def gap(s: float) -> float:
        kappa = least + np.exp(s)
        D = degrees(kappa, modes)
        return float(kappa * (1 - D / P) / (1 - D / n) - z)

    trace = float(modes.counts @ modes.eigenvalues)
    low, high = np.log(z) - 40, np.log(z + trace) + 5
    return least + float(np.exp(brentq(gap, low, high, xtol=1e-14)))


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


@question
def _measured(
    regression: KernelRegression, P: NDArray[np.float64], draws: int, key: Any, progress: bool | None
) -> Plan[LossCurves]:
    K, y, n = regression.K, regression.targets, len(regression.K)

    def one(order: NDArray[np.int_]) -> tuple[list[float], list[float]]:
        test, train = [], []
        for size in P.astype(int):
            seen, unseen = order[:size], order[size:]
            weights, residual = _regress(K[np.ix_(seen, seen)], y[seen], regression.penalty)
            test.append(float(np.sum((K[np.ix_(unseen, seen)] @ weights - y[unseen]) ** 2) / len(unseen)))
            train.append(float(np.sum(residual**2) / size))
        return test, train

    def dispatch(chunk_key: Any, size: int) -> Any:
        with generator():
            orders = [np.asarray(jax.random.permutation(k, n)) for k in jax.random.split(chunk_key, size)]
        return [one(order) for order in orders]

    def finish(found: Any) -> dict[str, Any]:
        arrays = np.asarray(found)
        return {"test": arrays[:, 0].T, "train": arrays[:, 1].T, "status": np.full(len(arrays), PathStatus.FINE)}

    draws = positive_int("draws", draws)
    metadata = {"kind": "network", "label": "kernel regression", **regression._described(), "paths": draws}
    metadata |= {"seed": recorded_key(key), "generator": recorded_generator(key), "samples": P.tolist()}
    chunks = Chunks(dispatch, finish, {"test": 1, "train": 1, "status": 0}, typed_key(key), draws, _CHUNK, "draws")

    def result(arrays: Any, metadata: dict[str, Any]) -> LossCurves:
        return LossCurves(metadata=metadata, times=P, **arrays)

    return Plan(chunks, metadata, _DOUBLE, result, 16 * len(P), progress)
