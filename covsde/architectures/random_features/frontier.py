"""The compute-optimal frontier: how many features to train for how long when C = N t is what one can afford.

Source: arXiv 2402.01092; N* ~ C^{1/(1+b)} and L* ~ C^{-(a-1)/(1+b)} for power laws with a - 1 < b.
"""

import warnings
from typing import Any

import equinox as eqx
import numpy as np
from scipy.optimize import minimize_scalar

from covsde.architectures.random_features.architecture import AbstractRandomFeatures
from covsde.architectures.random_features.spectrum import PowerLaw
from covsde.inputs.arguments import instance_of
from covsde.inputs.gram import real_array
from covsde.results.scaling import Frontier
from covsde.spectra.resolvent import Sizes, real_kappa

_GRID = 16
# Of N κ: what modes beyond the last may add to the trace before plateaus are those of another model.
_FELT = 0.1


class TruncatedSpectrumWarning(UserWarning):
    """A power law ends so early that losses are not those of the whole."""


def frontier(model: AbstractRandomFeatures, compute: Any) -> Frontier:
    """The best number of features for each compute budget.

    Args:
        model: whose features are varied; its own number of them does not matter.
        compute: C = N t of gradient flow, positive, (budgets,).

    Returns:
        N, t = C/N and the test loss, (budgets,) each. N is real, as the theory allows.

    Raises:
        ValueError: for budgets that are not positive.

    Warns:
        TruncatedSpectrumWarning: if a power law that is cut off is felt at the largest N.

    Source: arXiv 2402.01092.

    Example:
        ```python
        model = cs.scaling.RandomFeatures(cs.scaling.PowerLaw(1.8, 2.0))
        print(cs.scaling.frontier(model, [1e3, 1e4]).features)
        ```
    """
    instance_of("model", model, AbstractRandomFeatures, "a RandomFeatures or LearnedFeatures")
    budgets = np.atleast_1d(real_array("compute", compute, "numbers of shape (budgets,)")).astype(np.float64)
    if budgets.ndim != 1 or budgets.size == 0 or not np.all(np.isfinite(budgets) & (budgets > 0)):
        raise ValueError("compute must have shape (budgets,) and be positive and finite.")
    best = np.array([_best(model, C) for C in budgets])
    spectrum = model.spectrum
    if isinstance(spectrum, PowerLaw) and spectrum.count is not None:
        _warn_of_cut(spectrum, float(best[:, 0].max()))
    return Frontier(budgets, best[:, 0], budgets / best[:, 0], best[:, 1])


def _warn_of_cut(spectrum: PowerLaw, features: float) -> None:
    """Warn where Σ_{k>M} λ_k ≪ N κ does not hold."""
    M, b = float(spectrum.count or 0), spectrum.capacity
    beyond = M ** (1 - b) / (b - 1) if b > 1 else np.inf
    kappa = real_kappa(0.0, spectrum.modes, Sizes(np.inf, features))
    if beyond > _FELT * features * kappa:
        warnings.warn(
            f"modes={spectrum.count} cut the power law off where it is felt at {features:.0f} features: losses fall "
            "faster than those of the whole, so leave modes out for infinitely many, or take more.",
            TruncatedSpectrumWarning,
            stacklevel=3,
        )


def _best(model: AbstractRandomFeatures, compute: float) -> tuple[float, float]:
    def loss(log_features: float) -> float:
        features = float(np.exp(log_features))
        return float(eqx.tree_at(lambda m: m.features, model, features).losses([compute / features]).test[0])

    # A grid finds the valley, whose bottom is then bracketed: losses are smooth in N.
    grid = np.linspace(np.log(1.5), np.log(max(compute, 3.0)), _GRID)
    values = np.array([loss(s) for s in grid])
    k = int(np.clip(np.argmin(values), 1, _GRID - 2))
    found = minimize_scalar(loss, bounds=(grid[k - 1], grid[k + 1]), method="bounded", options={"xatol": 1e-5})
    return float(np.exp(found.x)), float(found.fun)
