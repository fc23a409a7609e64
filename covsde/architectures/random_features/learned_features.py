"""Random features that learn: equations (8) to (11) of docs/limits/scaling_laws.md.

The student f = w·B A ψ/√N has weights w and a matrix B that starts at 1 and learns at rate γ, under features A that are
frozen. Since BBᵀ - γ wwᵀ = 1 is conserved, y = Bᵀw is all there is, and y = U(K, t) g(0) for the one scalar function

    ∂U/∂t = (1 + γω)(1 - xU) + γq/(1 + γω) U,    q = ∫μ U(1 - xU),    ω(1 + γω) = |y|² = ∫μ U²,    μ = x ν,

with ν the eigenvalues of K seen from the target and ω = |w|². Losses are those of F = 1 - xU in place of e^{-xt}.

Source: arXiv 2409.17858 for the model; the closed equation derived for this library.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from numpy.typing import NDArray

from covsde.architectures.random_features.scaling_law import Problem, Times
from covsde.spectra.contour import Contour, around
from covsde.spectra.resolvent import edge, two_point

# Steps in every factor e of (t + 0.1): an error of 1e-6, second order.
_STEPS = 250
_FIRST = 0.1


class Learned(NamedTuple):
    """Attributes: test, train, weight_norm ω and effective_time S = ∫(1 + γω) dt, (times,) each."""

    test: Times
    train: Times
    weight_norm: Times
    effective_time: Times


class _Measure(NamedTuple):
    """Points x of a spectrum or around it, and weights of ∫ν(dx) f(x) = Re Σ weights f(x)."""

    x: NDArray[Any]
    weights: NDArray[Any]


def learned_losses(times: Times, gamma: float, problem: Problem) -> Learned:
    """Losses under gradient flow of w and B.

    Args:
        times: increasing, finite, ≥ 0.
        gamma: γ ≥ 0, the rate of B.
        problem: what is learned.

    Returns:
        Losses, ω and S at the times.
    """
    modes, sizes, noise = problem
    if np.isinf(sizes.least) and np.isinf(max(sizes)):
        measure = _Measure(modes.eigenvalues, modes.counts * modes.energies)
        F, omega, S = _over_time(times, gamma, measure)
        loss = F**2 @ measure.weights
        return Learned(loss, loss + noise, omega, S)
    largest = edge(modes, sizes)
    longest = float(times.max()) * (1 + np.sqrt(gamma * modes.energy / largest))
    while True:
        contour = around(modes, sizes, longest)
        measure = _Measure(contour.x, 2 * contour.weights * _seen(contour, problem))
        F, omega, S = _over_time(times, gamma, measure)
        # Functions that grow for longer than the contour was made for are large on it, or overflow.
        if S[-1] <= 1.5 * longest:
            break
        longest = 1.2 * float(S[-1]) if np.isfinite(S[-1]) else 4 * longest
    train = np.real(F**2 @ measure.weights)
    if np.isinf(sizes.samples):
        return Learned(train, train + noise, omega, S)
    C = two_point(contour.resolvent, modes, sizes, noise).test
    return Learned(contour.of_pairs(F, C), train, omega, S)


def _seen(contour: Contour, problem: Problem) -> NDArray[np.complex128]:
    """The resolvent in the direction of the labels: with their noise where samples are finite."""
    r = contour.resolvent
    noise = problem.noise if np.isfinite(problem.sizes.samples) else 0.0
    return np.asarray(contour.signal + r.R1 * noise / r.z)


def _over_time(times: Times, gamma: float, measure: _Measure) -> tuple[NDArray[Any], Times, Times]:
    """F (times, nodes), ω (times,) and S (times,)."""
    grids, before = [], 0.0
    for t in times:
        steps = int(np.ceil(_STEPS * np.log((t + _FIRST) / (before + _FIRST)))) + 2 if t > before else 0
        grids.append(np.diff(np.geomspace(before + _FIRST, t + _FIRST, steps + 1)) if steps else np.zeros(0))
        before = t
    ends = np.cumsum([len(g) for g in grids])
    with jax.enable_x64(True):
        U, omega, S = (np.asarray(x) for x in _march(np.concatenate(grids), ends, gamma, measure))
    return 1 - measure.x * U, omega, S


def _march(steps: NDArray[np.float64], ends: NDArray[np.int_], gamma: float, measure: _Measure) -> Any:
    """U (times, nodes), ω and S after the numbers of steps in `ends`."""
    # Padded to powers of two, so that few programs serve all times and contours.
    length, size = (1 << max(6, int(np.ceil(np.log2(n + 1)))) for n in (len(steps), len(measure.x)))
    slots = np.full(length, len(ends))
    slots[ends[ends > 0] - 1] = np.flatnonzero(ends > 0)
    x = np.pad(measure.x, (0, size - len(measure.x)), mode="edge")
    weights = np.pad(measure.weights, (0, size - len(measure.x)))
    arrays = (np.pad(steps, (0, length - len(steps))), slots, gamma, x, weights)
    U, omega, S = _compiled(*map(jnp.asarray, arrays), len(ends))
    return U[:, : len(measure.x)], omega, S


@partial(jax.jit, static_argnums=5)
def _compiled(steps: Array, slots: Array, gamma: Array, x: Array, weights: Array, count: int) -> Any:
    def integral(f: Array) -> Array:
        return jnp.real(jnp.sum(weights * x * f))

    def norm(U: Array) -> Array:
        squared = integral(U * U)
        # (√(1 + 4γ|y|²) - 1)/2γ without the difference.
        return 2 * squared / (1 + jnp.sqrt(1 + 4 * gamma * squared))

    def rates(U: Array) -> tuple[Array, Array]:
        stretch = 1 + gamma * norm(U)
        growth = gamma * integral(U * (1 - x * U)) / stretch
        return stretch.astype(x.dtype), growth.astype(x.dtype)

    def grown(U: Array, along: tuple[Array, Array], h: Array) -> Array:
        """The exact solution of U' = c₁(1 - xU) + c₂U."""
        c1, c2 = along
        r = c2 - c1 * x
        near = jnp.abs(r * h) < 1e-5
        safe = jnp.where(near, 1, r)
        return jnp.exp(r * h) * U + c1 * jnp.where(near, h * (1 + r * h / 2), jnp.expm1(r * h) / safe)

    def step(carry: tuple[Array, Array, tuple[Array, Array, Array]], this: tuple[Array, Array]) -> Any:
        (U, S, kept), (h, slot) = carry, (this[0].astype(x.dtype), this[1])
        middle = rates(grown(U, rates(U), h / 2))
        U, S = grown(U, middle, h), S + jnp.real(middle[0] * h)
        values, omegas, clocks = (a.at[slot].set(b, mode="drop") for a, b in zip(kept, (U, norm(U), S), strict=True))
        return (U, S, (values, omegas, clocks)), None

    kept = (jnp.zeros((count, x.shape[0]), x.dtype), jnp.zeros(count), jnp.zeros(count))
    (_, _, found), _ = jax.lax.scan(step, (jnp.zeros_like(x), jnp.zeros(()), kept), (steps, slots))
    return found
