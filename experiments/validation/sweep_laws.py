"""What is known exactly about the cases of the property sweep, in units in which all cases can be pooled."""

import math
from collections import defaultdict
from typing import Any

import numpy as np
from scipy.special import digamma, polygamma

import covsde as cs
from covsde.results.status import PathStatus
from validation.sweep_draws import SMALL_T, STEPS, Case


class Pool:
    """Sums of samples that have mean 0, by what they are."""

    def __init__(self) -> None:
        self._sums: dict[str, np.ndarray] = defaultdict(lambda: np.zeros(3))

    def add(self, name: str, samples: np.ndarray) -> None:
        """Samples whose mean is 0."""
        x = samples.astype(np.float64).ravel()
        self._sums[name] += [x.size, x.sum(), (x * x).sum()]

    def z(self) -> dict[str, float]:
        """Mean over standard error, of what has at least 200 samples."""
        found = {}
        for name, (n, total, squares) in self._sums.items():
            if n >= 200:
                mean = total / n
                found[name] = mean / math.sqrt((squares / n - mean**2) / n)
        return found

    def cell(self) -> str:
        """All of them, for a table."""
        return " ".join(f"{z:+.1f}" for z in self.z().values())


def _log_variance(solver: Any, case: Case) -> tuple[float, float] | None:
    """Mean and variance of log V^{αα}/V₀^{αα}, the same for every input, where they are known."""
    architecture, T = case.architecture, case.T
    if isinstance(architecture, cs.Transformer):
        if math.isfinite(architecture.tau0) and len(case.V0) > 1:
            return None
        kappa = float(architecture.limit().kappa)
        return -kappa * T, 2 * kappa * T
    if case.name not in ("shaped ReLU", "identity"):
        return None
    if isinstance(solver, cs.WishartStep):  # a χ² of so many degrees of freedom per step
        freedom = STEPS / T
        return (
            STEPS * float(digamma(freedom / 2) - math.log(freedom / 2)),
            STEPS * float(polygamma(1, freedom / 2)),
        )
    if isinstance(solver, cs.EulerMaruyama):
        return None
    if isinstance(solver, cs.AngleEuler | cs.CorrelationEuler) and T > SMALL_T:  # some paths are lost
        return None
    return -T, 2 * T


def add_laws(pool: Pool, solver: Any, case: Case, part: dict[str, np.ndarray], dtype: np.dtype) -> None:
    """Add to a pool what is known of the paths of a case."""
    fine = part["status"] == PathStatus.FINE
    V, T, m = part["V"][-1][fine].astype(np.float64), case.T, len(case.V0)
    if not len(V):
        return
    v0 = np.diagonal(case.V0)
    # Beyond these, rounding of the dtype is seen.
    enough = (1e-4 if dtype == np.float32 else 1e-6) <= T
    law = _log_variance(solver, case)
    if law is not None and law[1] > 0 and enough:
        # Of steps of noise as long as Strang's the law of the first variance alone is exact.
        exact = {0} if T > SMALL_T and not isinstance(solver, cs.WishartStep) else {0, m - 1}
        for i in exact & set(np.flatnonzero(v0 > 0).tolist()):
            x = (np.log(V[:, i, i] / v0[i]) - law[0]) / math.sqrt(law[1])
            pool.add("log V", x)
            pool.add("(log V)²", x * x - 1)
    linear = case.name == "identity" and not isinstance(solver, cs.AngleEuler | cs.CorrelationEuler)
    if linear and case.nonzero and enough and (SMALL_T if isinstance(solver, cs.EulerMaruyama) else 0.5) >= T:
        scale = np.sqrt(np.outer(v0, v0)) * math.sqrt(math.expm1(2 * T))
        x = (V - case.V0) / scale
        pool.add("E V", x[:, 0, 0])
        if not isinstance(solver, cs.LampertiEuler):  # first order in ρ
            pool.add("E V", x[:, m - 1, 0])
    if case.name == "identity" and isinstance(solver, cs.Strang) and case.start in ("generic", "orthogonal") and enough:
        logdet = np.linalg.slogdet(V)[1] - np.linalg.slogdet(case.V0)[1]
        x = (logdet + m * (m + 1) / 2 * T) / math.sqrt(2 * m * T)
        if T * m < 1 or (dtype == np.float64 and T * m < 20):
            pool.add("log det V", x)
    if case.name.startswith("smooth") and "biases" not in case.name and m == 1:
        _add_inverse(pool, solver, case, V[:, 0, 0])


def _add_inverse(pool: Pool, solver: Any, case: Case, v: np.ndarray) -> None:
    """1/V of the logistic equation has a linear mean: E 1/V = e^{(β+2)T}/V₀ - β (e^{(β+2)T} - 1)/(β+2)."""
    beta, T, v0 = case.architecture.activation.beta, case.T, case.V0[0, 0]
    second_order = isinstance(solver, cs.Strang)
    if not second_order or T > SMALL_T or abs(beta) > 10 or not 0.05 < v0 < 20:
        return
    grown = math.expm1((beta + 2) * T) / (beta + 2) if abs(beta + 2) > 1e-9 else T
    exact = math.exp((beta + 2) * T) / v0 - beta * grown
    pool.add("E 1/V", (1 / v - exact) * v0 / math.sqrt(2 * T))
