"""The result of gradients at initialization."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from covsde.results.ensemble import correlation
from covsde.results.quantity import FROM_THE_OUTPUT, LAYER_TIME, Curve, Quantity
from covsde.results.record import Record


def _log_first(X: NDArray[Any]) -> NDArray[Any]:
    """log X_00 of matrices (…, m, m)."""
    with np.errstate(invalid="ignore"):
        return np.asarray(np.log(X[..., 0, 0]))


@dataclass(frozen=True, eq=False, repr=False)
class Gradients(Record):
    """Forward and backward order parameters at initialization, of an infinite limit or of finite networks.

    With h the features of width n, f the scalar output and v = ∂f/∂h its gradient. Arrays are NaN on paths that are
    not fine: without an output there is no gradient.

    Args:
        tau: layer times ℓ/L, increasing from 0 to 1, (times,).
        Phi: forward covariance h(a)·h(b)/n, (times, paths, m, m).
        G: backward covariance v(a)·v(b), (times, paths, m, m); its diagonal is the squared gradient norm.
        A: overlap h(a)·v(b), (times, paths, m, m), not symmetric; A(a, b) = f(a) at τ = 1.
        outputs: f (paths, m).
        ntk: tangent kernel of the hidden weights per layer, ∫₀¹ Φ∘G dτ, (paths, m, m); random in this limit.
        status: one `PathStatus` per path, (paths,).
        metadata: how it was made.
    """

    path_axis: ClassVar = {"Phi": 1, "G": 1, "A": 1, "outputs": 0, "ntk": 0, "status": 0}

    tau: NDArray[Any]
    Phi: NDArray[Any]
    G: NDArray[Any]
    A: NDArray[Any]
    outputs: NDArray[Any]
    ntk: NDArray[Any]

    def quantities(self) -> list[Quantity]:
        """Gradient norm, and correlation of two gradients, from the output down, and the feature norm."""

        def down(name: str, heading: str, symbol: str, f: Callable[[Any], NDArray[Any]]) -> Quantity:
            return Quantity(
                f"{name} at τ = 0", heading, symbol, FROM_THE_OUTPUT, lambda r: Curve(1 - r.tau[::-1], f(r.G[::-1]))
            )

        found = [
            down("log G_00", "squared gradient norm of input 0,\nfrom the output down", "log G$_{00}$", _log_first),
            Quantity(
                "log Phi_00 at τ = 1",
                "squared feature norm of input 0\n",
                "log Φ$_{00}$",
                LAYER_TIME,
                lambda r: Curve(r.tau, _log_first(r.Phi)),
            ),
        ]
        if self.outputs.shape[1] > 1:
            angle = "G$_{01}$ / (G$_{00}$ G$_{11}$)$^{1/2}$"
            heading = "correlation of the gradients of inputs 0 and 1,\nfrom the output down"
            found.insert(1, down("corr G_01", heading, angle, lambda G: correlation(G, 0, 1)))
        return found
