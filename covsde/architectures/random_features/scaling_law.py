"""Losses of random features over training: equations (1) to (5) of docs/limits/scaling_laws.md.

Nothing is stepped in time. The loss after any training is a double contour integral of the two-point resolvent against
the function of the matrix that training is: e^{-xt} for gradient flow, (1 - ηx)^n for gradient descent.

Source: arXiv 2402.01092; constants derived anew.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from covsde.numerics.laplace import Nodes, inverse_laplace
from covsde.spectra.contour import around
from covsde.spectra.resolvent import SAME, Modes, Shared, Sizes, edge, real_kappa, resolvent, two_point

Times = NDArray[np.float64]
Functions = Callable[[NDArray[np.complex128]], NDArray[np.complex128]]

# Few updates are a short polynomial, which a closed contour takes.
_FEW_UPDATES = 24


class Problem(NamedTuple):
    """What is learned from how much.

    Attributes:
        modes: of kernel and target.
        sizes: P and N.
        noise: σ².
    """

    modes: Modes
    sizes: Sizes
    noise: float


class Losses(NamedTuple):
    """Attributes: test (times,), without the labels' noise, and train (times,)."""

    test: Times
    train: Times


def gradient_flow(times: Times, problem: Problem, shared: Shared = SAME) -> Losses:
    """Losses at times t ≥ 0 of gradient flow; np.inf is where it ends."""
    alike = _alike(problem, shared)

    def after(t: float) -> NDArray[np.float64]:
        if t in (0, np.inf):
            return _end(problem, shared)
        return _once(inverse_laplace(2 * t), problem) if alike else _after(inverse_laplace(t), problem, shared)

    found = [after(float(t)) for t in times]
    return _of(found, times, problem, shared)


def gradient_descent(updates: Times, rate: float, problem: Problem) -> Losses:
    """Losses after numbers of updates n ≥ 0 of size η on the same samples.

    Where η x₊ < 1 the transform is that of gradient flow in ζ = n log(1 + ηz), whose cost does not depend on n.
    """
    modes, sizes, _ = problem
    smooth = rate * edge(modes, sizes) < 0.95
    many = smooth & (updates > _FEW_UPDATES)
    found = np.zeros((2, len(updates)))
    for k in np.flatnonzero(many):
        zeta, weights = inverse_laplace(1.0)
        alike = _alike(problem, SAME)
        count = updates[k] * (2 if alike else 1)
        growth = np.exp(zeta / count)
        nodes = Nodes((growth - 1) / rate, weights * growth / (rate * count))
        found[:, k] = _once(nodes, problem) if alike else _after(nodes, problem, SAME)
    few = np.flatnonzero(~many)
    if few.size:

        def polynomials(x: NDArray[np.complex128]) -> NDArray[np.complex128]:
            return np.asarray((1 - rate * x) ** updates[few, None])

        found[:, few] = _entire(polynomials, rate * updates[few].max(), problem)
    return _of(list(found.T), updates, problem, SAME)


def momentum_flow(times: Times, mass: float, problem: Problem) -> Losses:
    """Losses of m v̈ + v̇ = -M v, at rest in the beginning."""

    def damped(x: NDArray[np.complex128]) -> NDArray[np.complex128]:
        t, s = times[:, None], np.sqrt(1 - 4 * mass * x) / (2 * mass)
        slow, fast = np.exp((s - 0.5 / mass) * t), np.exp(-(s + 0.5 / mass) * t)
        near = np.abs(s * t) < 1e-3
        ratio = np.where(near, t * (1 + (s * t) ** 2 / 6) * np.exp(-t / (2 * mass)), (slow - fast) / (2 * s))
        return np.asarray((slow + fast) / 2 + ratio / (2 * mass))

    return _of(list(_entire(damped, times.max(), problem).T), times, problem, SAME)


def heavy_ball(updates: Times, rate: float, momentum: float, problem: Problem) -> Losses:
    """Losses of v(n+1) = v(n) - η M v(n) + μ (v(n) - v(n-1))."""

    def polynomials(x: NDArray[np.complex128]) -> NDArray[np.complex128]:
        before, now, kept = np.ones_like(x), np.ones_like(x), {}
        for n in range(int(updates.max()) + 1):
            kept[n] = now
            before, now = now, (1 + momentum - rate * x) * now - momentum * before
        return np.stack([kept[int(n)] for n in updates])

    longest = rate * updates.max() / (1 - momentum)
    return _of(list(_entire(polynomials, longest, problem).T), updates, problem, SAME)


def plateau(problem: Problem) -> tuple[float, float]:
    """Test and train loss at t = ∞ of gradient flow.

    With D(κ) = min(P, N), x = λ/(λ + κ), d = 1 - Σx²/N, g = Σ λ(1 - x)² and c = g/(N κ² d),

        L = [Σ λw²(1 - x)² + c Σ λ²w²(1 - x)² + σ² e]/(1 - e),    e = Σx²/P + c g/P.

    Args:
        problem: what is learned.

    Returns:
        Test loss without the labels' noise, and train loss; infinite test loss where P = N cannot be interpolated
        stably (double descent).
    """
    modes, sizes, noise = problem
    (lam, energy, n), (P, N) = modes, sizes
    if P == N < modes.rank:
        return np.inf, 0.0
    kappa = real_kappa(0.0, modes, sizes)
    x = np.divide(lam, lam + kappa, out=np.zeros_like(lam), where=lam > 0)
    squares = float(n @ x**2)
    # κ x = λ (1 - x), and κ is 0 where there is room for all modes.
    inverse = np.divide(x, lam, out=np.full_like(lam, 1 / kappa if kappa else 0.0), where=lam > 0)
    d = 1 - squares / N
    g_over = float(n @ (lam * inverse**2))  # g/κ²
    c = g_over / (N * d)
    s, h = float(n @ (energy * (1 - x) ** 2)), float(n @ (energy * lam * (1 - x) ** 2))
    excess = squares / P + c * g_over * kappa**2 / P
    test = (s + c * h + noise * excess) / (1 - excess)
    R1 = 1 - float(n @ x) / P
    return test, max(R1, 0.0) ** 2 * (test + noise) if min(N, modes.rank) < P else 0.0


def ridge(penalty: float, problem: Problem) -> tuple[float, float]:
    """Test and train loss of the minimiser of |y - f|²/P + δ |u|², which is z² C₀ at z = δ."""
    r = resolvent(np.asarray([penalty], complex), *problem[:2])
    found = two_point(r, *problem)
    return tuple(float(np.real(penalty**2 * C[0, 0])) for C in found)  # type: ignore[return-value]


def _alike(problem: Problem, shared: Shared) -> bool:
    """Whether test and train loss differ by the noise alone: one contour then does for both."""
    return bool(np.isinf(problem.sizes.samples)) and shared == SAME


def _once(nodes: Nodes, problem: Problem) -> NDArray[np.float64]:
    """Test and train loss of the population from one-point functions at twice the time, equation (4)."""
    modes, sizes, noise = problem
    r = resolvent(nodes.z, modes, sizes)
    test = 2 * float(np.real(nodes.weights @ (r.R1 * (r.H @ (modes.counts * modes.energies)))))
    return np.asarray([test, test + noise])


def _after(nodes: Nodes, problem: Problem, shared: Shared) -> NDArray[np.float64]:
    """Test and train loss by the inverse transform at the nodes."""
    modes, sizes, noise = problem
    found = two_point(resolvent(nodes.z, modes, sizes), modes, sizes, noise, shared)
    return np.asarray([nodes.of_pairs(C) for C in found])


def _entire(functions: Functions, longest: float, problem: Problem) -> NDArray[np.float64]:
    """Test and train losses (2, times) after an entire function of the matrix."""
    modes, sizes, noise = problem
    contour = around(modes, sizes, float(longest))
    f = functions(contour.x)
    found = two_point(contour.resolvent, modes, sizes, noise)
    return np.stack([contour.of_pairs(f, C) for C in found])


def _end(problem: Problem, shared: Shared) -> NDArray[np.float64]:
    return np.asarray(plateau(problem) if shared == SAME else (np.nan, np.nan))


def _of(found: list[NDArray[np.float64]], times: Times, problem: Problem, shared: Shared) -> Losses:
    """Losses from pairs, exact where nothing has been learned yet."""
    test, train = np.asarray(found, np.float64).reshape(-1, 2).T
    start = problem.modes.energy
    test = np.where(times == 0, start, test)
    train = np.where(times == 0, start + problem.noise, train)
    return Losses(test, train if shared == SAME else np.full_like(train, np.nan))
