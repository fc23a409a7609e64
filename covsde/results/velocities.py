"""The result of velocities at initialization."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from covsde.results.quantity import LAYER_TIME, Curve, Quantity
from covsde.results.record import Record


@dataclass(frozen=True, eq=False, repr=False)
class Velocities(Record):
    """How fast features move when gradient flow starts, of an infinite limit or of finite networks.

    The hidden matrices flow as dW/dt = -(η₀/n) ∂loss/∂W, so that one unit of time is one step of gradient descent with
    the learning rate of `train`. With h the features of width n, v = ∂f/∂h, and ȧ = dh/dt; arrays are NaN on paths
    that are not fine.

    Args:
        tau: layer times ℓ/L, increasing from 0 to 1, (times,).
        Phi: forward covariance h(a)·h(b)/n, (times, paths, m, m).
        G: backward covariance v(a)·v(b), (times, paths, m, m).
        R: ȧ(a)·v(a), what the layers below τ add to df/dt, (times, paths, m).
        Y: ȧ(a)·h(b)/n, not symmetric, (times, paths, m, m).
        S: ȧ(a)·ȧ(b)/n, (times, paths, m, m).
        outputs: f (paths, m).
        status: one `PathStatus` per path, (paths,).
        metadata: how it was made.
    """

    path_axis: ClassVar = {"Phi": 1, "G": 1, "R": 1, "Y": 1, "S": 1, "outputs": 0, "status": 0}

    tau: NDArray[Any]
    Phi: NDArray[Any]
    G: NDArray[Any]
    R: NDArray[Any]
    Y: NDArray[Any]
    S: NDArray[Any]
    outputs: NDArray[Any]

    @property
    def dPhi_dt(self) -> NDArray[Any]:
        """dΦ/dt = Y + Yᵀ, (times, paths, m, m)."""
        return np.asarray(self.Y + np.swapaxes(self.Y, 2, 3))

    @property
    def output_velocity(self) -> NDArray[Any]:
        """df/dt = R at the top, (paths, m)."""
        return np.asarray(self.R[-1])

    def quantities(self) -> list[Quantity]:
        """How fast the features and the output of input 0 move: what `compare` looks at."""

        def over_time(name: str, heading: str, symbol: str, f: Callable[[Any], NDArray[Any]]) -> Quantity:
            return Quantity(f"{name} at τ = 1", heading, symbol, LAYER_TIME, lambda r: Curve(r.tau, f(r)))

        return [
            over_time("dPhi_00/dt", "growth of the feature norm\n", "dΦ$_{00}$/dt", lambda r: r.dPhi_dt[:, :, 0, 0]),
            over_time("S_00", "squared feature velocity\n", "|dh/dt|² / n", lambda r: r.S[:, :, 0, 0]),
            over_time("df_0/dt", "what layers below τ add to df/dt\n", "R$_0$", lambda r: r.R[:, :, 0]),
        ]
