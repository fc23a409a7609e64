"""The compute-optimal frontier: how many features to train for how long when C = N t is what one can afford.

Source: arXiv 2402.01092; N* ~ C^{1/(1+b)} and L* ~ C^{-(a-1)/(1+b)} for power laws with a - 1 < b.
"""

from typing import Any

import equinox as eqx
import numpy as np
from scipy.optimize import minimize_scalar

from covsde.architectures.random_features.architecture import AbstractRandomFeatures
from covsde.inputs.arguments import instance_of
from covsde.inputs.gram import real_array
from covsde.results.scaling import Frontier

_GRID = 16


def frontier(model: AbstractRandomFeatures, compute: Any) -> Frontier:
    """The best number of features for each compute budget.

    Args:
        model: whose features are varied; its own number of them does not matter.
        compute: C = N t of gradient flow, positive, (budgets,).

    Returns:
        N, t = C/N and the test loss, (budgets,) each. N is real, as the theory allows.

    Raises:
        ValueError: for budgets that are not positive.

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
    return Frontier(budgets, best[:, 0], budgets / best[:, 0], best[:, 1])


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
