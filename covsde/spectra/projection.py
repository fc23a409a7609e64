"""The resolvent where samples are P of the n rows of a random orthogonal matrix: drawn from a pool, and not put back.

A projection of rank P takes the place of the Wishart matrix ΨᵀΨ/P. With δ = D(κ)/n and p = P/n

    z = κ m,    m = (1 - δ/p)/(1 - δ),

and between two nodes, with the mean g = δ/m of both sides' resolvents, a = 1/g - m, and the means over products

    T = (1/n) Σ λ²/((z + mλ)(z' + m'λ)),    S = (1 - p)/aa' + p/((a + 1/p)(a' + 1/p)),

    C₀ = E/(mm'(1 + T/S - T/gg')),    C₁ = (κ' - κ)/(z' - z) E,    E = Σ λw²/((κ + λ)(κ' + λ)).

Source: additive subordination of free projections, derived for this library; docs/limits/scaling_laws.md.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from covsde.numerics.laplace import with_conjugates
from covsde.spectra.resolvent import Modes, TwoPoint, kappas, real_kappa


class Pool(NamedTuple):
    """Sizes of a pool.

    Attributes:
        samples: P.
        inputs: n > P.
    """

    samples: float
    inputs: float

    @property
    def least(self) -> float:
        """The bottleneck."""
        return self.samples

    def response(self, D: Any) -> tuple[Any, Any]:
        """m and its derivative with respect to D."""
        a, b = 1 - D / self.samples, 1 - D / self.inputs
        return a / b, (a / (b * self.inputs) - 1 / self.samples) / b


def pool_two_point(z: NDArray[np.complex128], modes: Modes, pool: Pool) -> TwoPoint:
    """C₀ on all inputs of the pool, and C₁ on the samples, between the nodes and the nodes with their conjugates.

    Args:
        z: (nodes,) off the spectrum, each close to the one before.
        modes: of the pool.
        pool: P and n.

    Returns:
        Both, (nodes, 2 nodes).
    """
    P, n = pool
    p, x, count = P / n, modes.eigenvalues, len(z)
    kappa = with_conjugates(kappas(z, modes, pool))
    r = 1 / (kappa[:, None] + x)
    D, slope = r @ (modes.counts * x), -(r * r) @ (modes.counts * x)
    m, turn = pool.response(D)
    g, z = D / n / m, with_conjugates(z)
    a = 1 / g - m

    def pairs(values: NDArray[np.complex128]) -> NDArray[np.complex128]:
        return np.asarray(values[:count, None] * values[None, :])

    def S(c: NDArray[np.float64]) -> NDArray[np.complex128]:
        return np.asarray((r[:count] * (modes.counts * c)) @ r.T)

    E, T = S(modes.energies), S(x * x) / pairs(m) / n
    means = (1 - p) / pairs(a) + p / pairs(a + 1 / p)
    same = z[:count, None] == z[None, :]
    apart = np.where(same, 1.0, z[None, :] - z[:count, None])
    # dκ/dz on the diagonal.
    steep = 1 / (m + kappa * turn * slope)
    difference = np.where(same, steep[None, :], (kappa[None, :] - kappa[:count, None]) / apart)
    return TwoPoint(E / (pairs(m) * (1 + T / means - T / pairs(g))), difference * E)


def pool_plateau(modes: Modes, pool: Pool) -> tuple[float, float]:
    """The same at the end, z → 0: loss on all inputs of the pool, and on the samples, of least squares of least norm.

    Args:
        modes: of the pool.
        pool: P and n.

    Returns:
        With fewer samples than modes Σ λw² (1 - x)²/(1 - Σx²/P), x = λ/(λ + κ), and 0; with more, where what lies
        along no mode is noise, that noise by the same formulas as κ → 0.
    """
    (P, n), x, rank = pool, modes.eigenvalues, modes.rank
    if rank >= P:
        kappa = real_kappa(0.0, modes, pool)
        share = x / (x + kappa)
        missed = float(modes.counts @ (modes.energies * (1 - share) ** 2))
        return missed / (1 - float(modes.counts @ share**2) / P), 0.0
    rest, p = float(modes.counts @ (modes.energies * (x == 0))), P / n
    m, a = (1 - rank / P) / (1 - rank / n), n / rank - 1 / p
    S = (1 - p) / a**2 + p * (rank / n) ** 2
    return rest / (1 + rank / (n * m**2) / S - n / rank), rest * m
