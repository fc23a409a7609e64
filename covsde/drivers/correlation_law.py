"""The law of the correlation of two inputs without Monte Carlo: the Fokker–Planck equation of y = log tan(θ/2)."""

import math
from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from numpy.typing import NDArray

from covsde.architectures.base import AbstractArchitecture
from covsde.covariance.clock import AbstractClock
from covsde.covariance.correlation import autonomous_kappa, relu_drift_of_y
from covsde.covariance.sde import NeuralCovarianceSDE
from covsde.inputs.arguments import finite_number, instance_of, positive_int, untraced
from covsde.results.correlation_law import CorrelationLaw
from covsde.run.grid import time_grid


def correlation_law(
    architecture: Any,
    rho0: Any,
    *,
    save_at: Sequence[float | int] | None = None,
    points: int = 4001,
    steps: int | None = None,
) -> CorrelationLaw:
    """Solve for the law of the correlation of two inputs of an MLP, without Monte Carlo.

    Crank–Nicolson with a Rannacher start on a conservative, positive (Scharfetter–Gummel) discretisation in y.

    Args:
        architecture: an MLP whose correlation obeys an equation of its own: shaped ReLU, linear, or odd smooth.
        rho0: correlation of the inputs, strictly between -1 and 1.
        save_at: layer times to keep, with 0 and 1; default: tenths.
        points: grid points in y; errors are O(1/points²).
        steps: time steps; default 1000 per unit of clock time, at least 1000.

    Returns:
        Moments, density and distribution function of ρ at every saved layer time; float64.

    Raises:
        ValueError: if rho0, points or steps is out of range.
        TypeError: if the correlation has no law of its own.

    Source: arXiv 2206.02768, Theorem on the correlation SDE; the Fokker–Planck equation of y = log tan(θ/2).
    """
    instance_of("architecture", architecture, AbstractArchitecture, "an architecture such as MLP(ShapedReLU(0, -1))")
    untraced("architecture", architecture)
    start = finite_number("rho0", rho0)
    if abs(start) >= 1:
        raise ValueError(
            f"rho0 must lie strictly between -1 and 1, got {rho0}: at ±1 the correlation of equal or "
            "opposite inputs needs no equation."
        )
    sde = architecture.limit()
    if not isinstance(sde, NeuralCovarianceSDE):
        raise TypeError("architecture must have a neural covariance SDE as its limit, as MLP(ShapedReLU(0, -1)) does.")
    kappa = autonomous_kappa(sde.drift)
    points = positive_int("points", points, least=101)
    clock = float(sde.noise_clock.elapsed(0.0, 1.0))
    if steps is None:
        steps = max(1000, math.ceil(1000 * clock))
    grid, every = time_grid(
        positive_int("steps", steps), np.linspace(0, 1, 11).tolist() if save_at is None else save_at
    )
    with jax.enable_x64(True):
        y = _grid(-math.atanh(start), kappa, sde, points)
        noise, drift = _increments(sde.noise_clock, grid), _increments(sde.drift_clock, grid)
        probability = np.asarray(_solve(jnp.asarray(y), -math.atanh(start), kappa, noise, drift, every=every))
    rho, theta = -np.tanh(y), 2 * np.arctan(np.exp(y))
    return CorrelationLaw(
        tau=grid[::every],
        mean=probability @ rho,
        second_moment=probability @ rho**2,
        angle_mean=probability @ theta,
        y=y,
        probability=probability,
    )


def _increments(clock: AbstractClock, grid: NDArray[np.float64]) -> Float[Array, " steps"]:
    return jnp.asarray(clock.elapsed(jnp.asarray(grid[:-1]), jnp.asarray(grid[1:])), jnp.float64)


def _grid(y0: float, kappa: float, sde: NeuralCovarianceSDE, points: int) -> NDArray[np.float64]:
    # Nine standard deviations around what the drift can do: noise time/2 either way, and the shaping downwards, where
    # its pull κ/2π (1 - θ cot θ)/sin θ is at most κ/2π e^y for y ≤ 0, so that e^-y grows at most linearly.
    noise, drift = (float(c.elapsed(0.0, 1.0)) for c in (sde.noise_clock, sde.drift_clock))
    spread = 9 * math.sqrt(noise)
    upper = max(y0, 0.0) + noise / 2 + spread
    lower = -math.log(math.exp(-min(y0, 0.0)) + kappa * drift / (2 * math.pi)) - noise / 2 - spread
    spacing = (upper - lower) / (points - 1)
    below = math.ceil((y0 - lower) / spacing)
    return np.asarray(y0 + spacing * (np.arange(points) - below), np.float64)


@eqx.filter_jit
def _solve(
    y: Float[Array, " points"],
    y0: float,
    kappa: float,
    noise: Float[Array, " steps"],
    drift: Float[Array, " steps"],
    *,
    every: int,
) -> Float[Array, "times points"]:
    spacing = y[1] - y[0]
    edges = y[:-1] + spacing / 2
    pull, expansion = kappa * relu_drift_of_y(edges), jnp.tanh(edges) / 2

    def bernoulli(x: Array) -> Array:
        small = jnp.abs(x) < 1e-5
        safe = jnp.where(small, 1.0, jnp.clip(x, -600, 600))
        return jnp.where(small, 1 - x / 2, safe / jnp.expm1(safe))

    def operator(dt_noise: Array, dt_drift: Array) -> tuple[Array, Array, Array]:
        # Probability leaving a cell through its upper and its lower edge; nothing leaves the grid.
        peclet = 2 * spacing * (pull * dt_drift / dt_noise + expansion)
        rate = dt_noise / (2 * spacing**2)
        up, down = rate * bernoulli(-peclet), rate * bernoulli(peclet)
        zero = jnp.zeros((1,), y.dtype)
        return (
            jnp.concatenate([zero, up]),
            -jnp.concatenate([up, zero]) - jnp.concatenate([zero, down]),
            jnp.concatenate([down, zero]),
        )

    def apply(A: tuple[Array, Array, Array], p: Array) -> Array:
        lower, middle, upper = A
        return lower * jnp.roll(p, 1) + middle * p + upper * jnp.roll(p, -1)

    def implicit(A: tuple[Array, Array, Array], weight: float, right: Array) -> Array:
        lower, middle, upper = A
        solution = jax.lax.linalg.tridiagonal_solve(
            -weight * lower, 1 - weight * middle, -weight * upper, right[:, None]
        )
        return solution[:, 0]

    def crank_nicolson(p: Array, dt: tuple[Array, Array]) -> tuple[Array, None]:
        A = operator(*dt)
        return implicit(A, 0.5, p + 0.5 * apply(A, p)), None

    def rannacher(p: Array, dt: tuple[Array, Array]) -> tuple[Array, None]:
        # Two implicit half-steps damp the grid-scale waves of a point mass, which Crank–Nicolson would keep.
        A = operator(*dt)
        return implicit(A, 0.5, implicit(A, 0.5, p)), None

    first = 4
    point = jnp.where(jnp.arange(y.size) == jnp.argmin(jnp.abs(y - y0)), 1.0, 0.0)
    times = noise.shape[0] // every
    blocks = (noise.reshape(times, every), drift.reshape(times, every))
    kinds = (jnp.arange(noise.shape[0]) < first).reshape(times, every)

    def block(p: Array, xs: tuple[Array, Array, Array]) -> tuple[Array, Array]:
        def one(p: Array, x: tuple[Array, Array, Array]) -> tuple[Array, None]:
            return jax.lax.cond(x[2], rannacher, crank_nicolson, p, (x[0], x[1]))

        p, _ = jax.lax.scan(one, p, xs)
        return p, p

    _, path = jax.lax.scan(block, point, (*blocks, kinds))
    return jnp.concatenate([point[None], path])
