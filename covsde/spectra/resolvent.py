"""The resolvent of (AᵀA/N)(ΨᵀΨ/P) for Gaussian A (N, M) and Ψ (P, M) with covariance diag(λ), one and two points.

Everything is a sum over modes of rational functions of κ, the root of

    z = κ (1 - D(κ)/P)(1 - D(κ)/N),    D(κ) = Σ λ/(λ + κ),

with the two responses R₁ = 1 - D/P of the samples and R₃ = 1 - D/N of the features, and

    z/(z + (AᵀA/N)(ΨᵀΨ/P)) ≃ κ/(κ + λ) = z H,    H = 1/(z + λ R₁R₃).

Source: arXiv 2402.01092; derived anew by the cavity method, see docs/limits/scaling_laws.md.
"""

from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq, minimize_scalar

from covsde.numerics.laplace import with_conjugates

_NEWTON = 60
_HALVINGS = 4096
_TURN = 12
# κ = -λ₁(1 + e^s) covers the outside of the spectrum to the right of its edge for s between these.
_OUTSIDE = (-12.0, 12.0)


class Modes(NamedTuple):
    """What a target and inputs are in the eigenbasis of a kernel, in blocks of modes that are alike.

    Attributes:
        eigenvalues: λ ≥ 0 of each block, (blocks,).
        energies: λ_k w_k² of one mode of the block: what of the target's variance lies along it, (blocks,).
        counts: modes of the block, (blocks,); real, where blocks stand for the nodes of an integral over modes.
    """

    eigenvalues: NDArray[np.float64]
    energies: NDArray[np.float64]
    counts: NDArray[np.float64]

    @property
    def energy(self) -> float:
        """Σ λ_k w_k²: the variance of the target, and the loss before training."""
        return float(self.counts @ self.energies)

    @property
    def rank(self) -> float:
        """The number of modes with λ > 0."""
        return float(self.counts @ (self.eigenvalues > 0))


class Sizes(NamedTuple):
    """Sizes of the two random matrices, np.inf for one that is replaced by its mean.

    Attributes:
        samples: P.
        features: N.
    """

    samples: float
    features: float

    @property
    def least(self) -> float:
        """The bottleneck."""
        return float(min(self))

    def response(self, D: Any) -> tuple[Any, Any]:
        """z/κ = R₁R₃, and its derivative with respect to D."""
        a, b = 1 - D / self.samples, 1 - D / self.features
        return a * b, -b / self.samples - a / self.features


@runtime_checkable
class Response(Protocol):
    """How a random matrix answers: z = κ r(D(κ))."""

    @property
    def least(self) -> float:
        """The D at which r vanishes."""

    def response(self, D: Any) -> tuple[Any, Any]:
        """r(D) ≥ 1 - D/least and r'(D)."""


def degrees(kappa: float, modes: Modes) -> float:
    """D(κ) = Σ λ/(λ + κ), the effective number of modes above κ ≥ 0."""
    x = modes.eigenvalues
    return float(modes.counts @ np.divide(x, x + kappa, out=np.zeros_like(x), where=x > 0))


def real_kappa(z: float, modes: Modes, sizes: Response) -> float:
    """The root κ ≥ 0 that belongs to z ≥ 0.

    Args:
        z: ≥ 0.
        modes: of the kernel.
        sizes: P and N.

    Returns:
        κ; at z = 0 the κ with D(κ) = min(P, N), or 0 where all modes fit into both.
    """
    least, present = 0.0, modes.eigenvalues[modes.eigenvalues > 0]
    trace = float(modes.counts @ modes.eigenvalues)
    if modes.rank > sizes.least:
        low, high = np.log(present.min()) - 30, np.log(trace) + 5
        least = float(np.exp(brentq(lambda s: degrees(np.exp(s), modes) - sizes.least, low, high, xtol=1e-14)))
    if z == 0:
        return least

    def gap(kappa: float) -> float:
        return float(np.real(kappa * sizes.response(degrees(kappa, modes))[0] - z))

    high = z + 2 * trace / sizes.least + least
    return float(brentq(gap, least * (1 + 1e-15) + 1e-300, 2 * high + 1, xtol=1e-300, rtol=1e-15))


def kappas(z: NDArray[np.complex128], modes: Modes, sizes: Response) -> NDArray[np.complex128]:
    """κ at each of the nodes, by Newton's method on the way from a positive z to the first node and from node to node.

    Args:
        z: (nodes,) off the spectrum, each close to the one before.
        modes: of the kernel.
        sizes: P and N.

    Returns:
        (nodes,).

    Raises:
        ArithmeticError: where Newton's method does not follow.
    """
    x, nx = modes.eigenvalues, modes.counts * modes.eigenvalues

    def newton(z: complex, kappa: complex) -> complex | None:
        for _ in range(_NEWTON):
            r = 1 / (x + kappa)
            D, slope = complex(nx @ r), -complex(nx @ (r * r))
            value, derivative = sizes.response(D)
            step = (kappa * value - z) / (value + kappa * slope * derivative)
            kappa = kappa - step
            if abs(step) < 1e-14 * abs(kappa):
                return complex(kappa)
        return None

    def follow(before: complex, z: complex, kappa: complex) -> complex:
        parts = 1
        while parts <= _HALVINGS:
            now, sure = kappa, True
            for share in np.arange(1, parts + 1) / parts:
                root = newton(before + share * (z - before), now)
                # A root that jumped may be one of another branch.
                sure = root is not None and abs(root - now) <= 0.5 * abs(now)
                if root is None or not sure:
                    break
                now = root
            if sure:
                return now
            parts *= 4
        raise ArithmeticError(f"the resolvent could not be followed to z = {z:.6g}: take the node off the spectrum.")

    radius = float(abs(z[0]))
    # Around the spectrum, which a straight line to a node beyond it would touch.
    turn = np.angle(z[0]) * np.arange(1, _TURN) / _TURN
    path = np.concatenate([radius * np.exp(1j * turn), z])
    found, before, kappa = np.empty(len(path), complex), complex(radius), complex(real_kappa(radius, modes, sizes))
    for k, node in enumerate(path):
        kappa = follow(before, complex(node), kappa)
        found[k], before = kappa, complex(node)
    return found[_TURN - 1 :]


class Resolvent(NamedTuple):
    """The resolvent at complex nodes.

    Attributes:
        z: (nodes,).
        kappa: (nodes,).
        R1: response of the samples, (nodes,).
        R3: response of the features, (nodes,).
        H: 1/(z + λ R₁R₃), (nodes, blocks).
    """

    z: NDArray[np.complex128]
    kappa: NDArray[np.complex128]
    R1: NDArray[np.complex128]
    R3: NDArray[np.complex128]
    H: NDArray[np.complex128]

    @property
    def mirrored(self) -> "Resolvent":
        """The same with the conjugate nodes after the nodes."""
        return Resolvent(*(with_conjugates(x) for x in self))


def resolvent(z: NDArray[np.complex128], modes: Modes, sizes: Sizes) -> Resolvent:
    """The resolvent at nodes; arguments as for `kappas`."""
    return resolvent_at(kappas(z, modes, sizes), z, modes, sizes)


def resolvent_at(kappa: Any, z: Any, modes: Modes, sizes: Sizes) -> Resolvent:
    """The same where κ is known; NumPy arrays, or JAX's."""
    x = modes.eigenvalues[None, :]
    D = (modes.counts[None, :] * x / (x + kappa[:, None])).sum(axis=1)
    R1, R3 = 1 - D / sizes.samples, 1 - D / sizes.features
    return Resolvent(z, kappa, R1, R3, 1 / (z[:, None] + x * (R1 * R3)[:, None]))


class Shared(NamedTuple):
    """What two students have in common: 1 for the same draw, 0 for independent ones.

    Attributes:
        samples: the data, with their noise.
        features: the features.
    """

    samples: float = 1.0
    features: float = 1.0


SAME = Shared()
"""The same student."""


class TwoPoint(NamedTuple):
    """Of a student at Laplace variable z and one at z', (nodes, 2 nodes).

    Attributes:
        test: C₀ = Σ λ_k ⟨v_k v_k'⟩.
        train: C₁ = R₁R₁'(C₀ + σ²/zz'), the correlation of their residuals on shared samples.
    """

    test: NDArray[np.complex128]
    train: NDArray[np.complex128]


def two_point(r: Resolvent, modes: Modes, sizes: Sizes, noise: Any = 0.0, shared: Shared = SAME) -> TwoPoint:
    """C₀ and C₁ between the nodes and the nodes with their conjugates.

    With sums S(c) = Σ c_k H_k H_k' the two unknowns obey two linear equations,

        C₀ = S(λw²) + R₃R₃' S(λ) C₂/N + R₁R₁'R₃R₃' S(λ²) (C₀ + σ²/zz')/P
        C₂ = R₁R₁' S(λ²w²) + R₁R₁'R₃R₃' S(λ²) C₂/N + zz' R₁R₁' S(λ) (C₀ + σ²/zz')/P,

    where C₂/N is there for shared features and (C₀ + σ²/zz')/P for shared samples.

    Args:
        r: at the nodes; of NumPy arrays, or of JAX's, as the others then are.
        modes: of the kernel.
        sizes: P and N.
        noise: σ², the variance of the labels' noise.
        shared: what the students have in common.

    Returns:
        Both.
    """
    both, n, x = r.mirrored, len(r.z), modes.eigenvalues

    def products(values: Any) -> Any:
        return values[:n, None] * values[None, :]

    def S(c: Any) -> Any:
        return (r.H * (modes.counts * c)[None, :]) @ both.H.T

    a, b, zz = products(both.R1), products(both.R3), products(both.z)
    p, q = shared.samples / sizes.samples, shared.features / sizes.features
    floor = noise * shared.samples / zz
    source, S1, S2, moved = S(modes.energies), S(x), S(x * x), S(x * modes.energies)
    d = 1 - a * b * S2 * q
    cross = b * S1 * q / d
    left = 1 - a * b * S2 * p - cross * zz * a * S1 * p
    right = source + cross * a * (moved + zz * S1 * floor * p) + a * b * S2 * floor * p
    C0 = right / left
    return TwoPoint(C0, a * (C0 + floor))


def outside(kappa: float, modes: Modes, sizes: Sizes) -> float:
    """-z(κ) for κ < -λ₁: the point beyond the spectrum that belongs to it."""
    x = modes.eigenvalues
    return float(-kappa * sizes.response(float(modes.counts @ (x / (x + kappa))))[0])


def edge_kappa(modes: Modes, sizes: Sizes) -> float:
    """The κ < -λ₁ of the upper edge of the bulk, where -z(κ) is the least that it is outside the spectrum."""
    largest = float(modes.eigenvalues.max())

    def at(s: float) -> float:
        return outside(-largest * (1 + np.exp(s)), modes, sizes)

    return float(-largest * (1 + np.exp(minimize_scalar(at, bounds=_OUTSIDE, method="bounded").x)))


def edge(modes: Modes, sizes: Sizes) -> float:
    """The upper edge of the bulk of (AᵀA/N)(ΨᵀΨ/P)."""
    return outside(edge_kappa(modes, sizes), modes, sizes)
