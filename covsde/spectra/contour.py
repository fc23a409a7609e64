"""Any entire function of (AᵀA/N)(ΨᵀΨ/P), by a closed contour around its spectrum.

An ellipse with foci at 0 and the edge x₊ of the bulk. Its half-width e is so small that a function which grows like
e^{-sx} to the left of the spectrum stays of order one on it: x₊ e²/4 = 1/s.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from covsde.spectra.resolvent import Modes, Resolvent, Sizes, edge, resolvent

_MARGIN = 1.02
_DIGITS = 12
# Times the edge: below it the ellipse is as wide as it is long.
_SHORTEST = 4.0
MOST_NODES = 4000


class Contour(NamedTuple):
    """Nodes around a spectrum, of the upper half of the contour.

    Attributes:
        x: (nodes,) points of the plane of eigenvalues.
        weights: of (1/2πi)∮ dx, both halves by twice the real part, (nodes,).
        resolvent: at z = -x.
        signal: R₁ Σ λw² H: its discontinuity is the measure of the target, (nodes,).
        trace: Σ λ/(λ + κ): that of x, summed over eigenvectors, (nodes,).
    """

    x: NDArray[np.complex128]
    weights: NDArray[np.complex128]
    resolvent: Resolvent
    signal: NDArray[np.complex128]
    trace: NDArray[np.complex128]

    def of_target(self, f: NDArray[np.complex128]) -> NDArray[np.float64]:
        """∫ ν(dx) f(x) for f at the nodes (..., nodes), with ν the eigenvalues seen from the target; ν(all) = Σ λw²."""
        return np.asarray(2 * np.real(np.sum(self.weights * f * self.signal, axis=-1)))

    def of_eigenvalues(self, f: NDArray[np.complex128]) -> NDArray[np.float64]:
        """Σ_j x_j f(x_j) over the eigenvalues, for f at the nodes (..., nodes)."""
        return np.asarray(2 * np.real(np.sum(self.weights * f * self.trace, axis=-1)))

    def of_pairs(self, f: NDArray[np.complex128], C: NDArray[np.complex128]) -> NDArray[np.float64]:
        """∮∮ f(x) f(x') C(-x, -x') for f (functions, nodes) and C of `TwoPoint`, (functions,)."""
        g = self.weights * f
        both = np.concatenate([g, g.conj()], axis=-1)
        return np.asarray(2 * np.real(np.sum((g @ C) * both, axis=-1)))


def around(modes: Modes, sizes: Sizes, longest: float) -> Contour:
    """The contour for functions that are of order one at x = -1/longest.

    Args:
        modes: of the kernel.
        sizes: P and N.
        longest: the time, or the sum of learning rates, after which the function is taken.

    Returns:
        Nodes and the resolvent on them.

    Raises:
        ValueError: if it takes more than 4000 nodes.
    """
    largest = edge(modes, sizes)
    right, longest = _MARGIN * largest, max(longest, _SHORTEST / largest)
    half = min(np.sqrt(4 / (longest * right)), 1.0)
    count = 2 * int(_DIGITS * np.log(10) / half / 2 + 8)
    if count > MOST_NODES:
        raise ValueError(
            f"times reach {longest:.3g}, for which a contour around the spectrum needs {count} nodes, more than "
            f"{MOST_NODES}: ask for times up to {longest * (MOST_NODES / count) ** 2:.2g}, or for gradient flow."
        )
    phi = (np.pi * np.arange(1, count, 2) / count)[::-1] + 1j * half
    x, dx = right * (1 - np.cos(phi)) / 2, right * np.sin(phi) / 2
    order = np.argsort(-np.abs(x))  # from far out on the right, where the resolvent is the easiest
    z = -x[order]
    r = resolvent(z, modes, sizes)
    return Contour(
        x[order],
        -dx[order] * 1j / count,
        r,
        r.R1 * (r.H @ (modes.counts * modes.energies)),
        np.sum(modes.counts * modes.eigenvalues / (modes.eigenvalues + r.kappa[:, None]), axis=1),
    )
