"""The inverse Laplace transform on a contour that opens to the left.

Source: Trefethen, Weideman, Schmelzer, BIT 46 (2006), 653, cotangent contour.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


class Nodes(NamedTuple):
    """Quadrature of a contour that is symmetric about the real axis, upper half: f = 2 Re Σ weights F(z).

    Attributes:
        z: (nodes,), complex128; the first is the closest to the positive real axis.
        weights: (nodes,), complex128, which hold the function that is transformed.
    """

    z: NDArray[np.complex128]
    weights: NDArray[np.complex128]

    def of_pairs(self, F: Any) -> Any:
        """f(t, t) of F between the nodes and the nodes with their conjugates, (nodes, 2 nodes); NumPy's, or JAX's."""
        return 2 * (self.weights @ F @ with_conjugates(self.weights)).real


def with_conjugates(x: Any) -> Any:
    """An array followed by its conjugate along the first axis; NumPy's, or JAX's."""
    return x.__array_namespace__().concat([x, x.conj()])


def inverse_laplace(t: float, nodes: int = 28) -> Nodes:
    """Nodes of f(t) = (1/2πi) ∫ e^{zt} F(z) dz, for F with singularities on the negative real axis alone.

    Args:
        t: > 0.
        nodes: on both halves; 28 give 13 digits.

    Returns:
        Those of the upper half.
    """
    theta = np.pi * np.arange(1, nodes, 2) / nodes
    cot = 1 / np.tan(0.6407 * theta)
    z = nodes * (0.5017 * theta * cot - 0.6122 + 0.2645j * theta) / t
    dz = nodes * (0.5017 * cot - 0.5017 * 0.6407 * theta * (1 + cot**2) + 0.2645j) / t
    return Nodes(np.asarray(z, np.complex128), np.exp(z * t) * dz / (1j * nodes))
