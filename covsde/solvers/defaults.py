"""The solver that suits an equation best, and how many of its steps suffice."""

import functools
import math
from typing import Any

import numpy as np
from jaxtyping import Float

from covsde.covariance.limit import AbstractFlow, AbstractLimit
from covsde.covariance.sde import NeuralCovarianceSDE
from covsde.solvers.cone import Strang
from covsde.solvers.flow import RungeKutta

# Above this a default is more likely a slip than a wish.
_MOST_STEPS = 100_000


def default_step_count(per_layer_time: float) -> int:
    """10 steps per unit of the fastest time scale, refused above 100000."""
    steps = 10 * max(1, math.ceil(per_layer_time - 1e-9))
    if steps > _MOST_STEPS:
        raise ValueError(
            f"the limit would need about {steps} steps: lower depth_to_width, the shaping (c_plus - c_minus, or a "
            "larger a) or the input variances, or pass steps yourself."
        )
    return steps


def stiffness_of_noise(m: int) -> float:
    """max(1, m/8): the error of a step of noise over clock time h is of order (m h)², so m h stays below 0.8."""
    return max(1.0, m / 8)


@functools.singledispatch
def default_solver(limit: AbstractLimit) -> Any:
    """The solver of `covsde.solvers` for an equation; register one for your own with `default_solver.register`.

    Raises:
        ValueError: for an equation without one.
    """
    raise ValueError(f"solver must be given: {type(limit).__name__} has no default; pass one of covsde.solvers.")


@functools.singledispatch
def default_steps(limit: AbstractLimit, V0: Float[np.ndarray, "m m"]) -> int:
    """Steps of the default solver for weak errors well below 10⁻³ (a multiple of 10), from an equation of numbers.

    Raises:
        ValueError: for an equation that has none, or if they would be too many.
    """
    raise ValueError(f"steps must be given: {type(limit).__name__} has no default; pass steps=100, say.")


@default_solver.register
def _(limit: NeuralCovarianceSDE) -> Strang:
    return Strang()


@default_steps.register
def _(limit: NeuralCovarianceSDE, V0: Float[np.ndarray, "m m"]) -> int:
    # 10 steps per unit of clock time and per unit of stiffness; the noise has m/8 of them.
    stiffness = limit.drift.stiffness(float(np.max(np.diag(V0))))
    noise = limit.noise_clock.fastest() * stiffness_of_noise(V0.shape[0])
    return default_step_count(max(noise, limit.drift_clock.fastest() * stiffness))


@default_solver.register
def _(limit: AbstractFlow) -> RungeKutta:
    return RungeKutta()
