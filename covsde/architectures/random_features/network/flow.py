"""Training of finite students: exactly by the singular values of their data, or step by step where features learn."""

from collections.abc import Callable
from typing import Any, NamedTuple

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from numpy.typing import NDArray

Errors = Callable[[NDArray[np.float64]], NDArray[np.float64]]
"""What is left of an error along eigenvalues x (modes,) at each time, (times, modes)."""

_TOLERANCE = 1e-9
_MOST_STEPS = 1 << 20


class Problem(NamedTuple):
    """A draw in its population.

    Attributes:
        eigenvalues: λ, (M,).
        target: w, (M,) or (M, outputs).
        A: features (N, M), or None for infinitely many.
        psi: inputs (P, M), or None for the population.
        labels: of the inputs.
    """

    eigenvalues: NDArray[np.float64]
    target: NDArray[np.float64]
    A: NDArray[np.float64] | None
    psi: NDArray[np.float64] | None
    labels: NDArray[np.float64] | None


def flow(times: NDArray[np.float64]) -> Errors:
    """Gradient flow: e^{-xt}."""
    return lambda x: np.exp(-np.outer(np.where(np.isinf(times), 1e300, times), x))


def descent(updates: NDArray[np.float64], rate: float, momentum: float) -> Errors:
    """Gradient descent with a heavy ball, step by step."""

    def left(x: NDArray[np.float64]) -> NDArray[np.float64]:
        error, before, kept = np.ones_like(x), np.ones_like(x), []
        wanted = set(updates.astype(int).tolist())
        for n in range(int(updates[-1]) + 1):
            if n in wanted:
                kept.append(error)
            error, before = error - rate * x * error + momentum * (error - before), error
        return np.array(kept)

    return left


def momentum_flow(times: NDArray[np.float64], mass: float) -> Errors:
    """m ë + ė = -x e from rest, by the exponential of its 2 × 2 matrix."""

    def left(x: NDArray[np.float64]) -> NDArray[np.float64]:
        matrices = np.zeros((len(x), 2, 2))
        matrices[:, 0, 1], matrices[:, 1, 0], matrices[:, 1, 1] = 1, -x / mass, -1 / mass
        values, vectors = np.linalg.eig(matrices.astype(complex))
        start = np.linalg.solve(vectors, np.tile(np.array([1.0, 0.0], complex)[:, None], (len(x), 1, 1)))[..., 0]
        return np.real(np.einsum("xk,txk,xk->tx", vectors[:, 0], np.exp(times[:, None, None] * values), start))

    return left


def losses(problem: Problem, errors: Errors) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Test and train loss (times,) of a student on frozen features."""
    lam, w = problem.eigenvalues, problem.target.reshape(len(problem.eigenvalues), -1)
    P = 1 if problem.psi is None else len(problem.psi)
    # The population is as M samples along the modes.
    X = np.diag(np.sqrt(lam)) if problem.psi is None else problem.psi / np.sqrt(P)
    y = np.sqrt(lam)[:, None] * w if problem.labels is None else problem.labels.reshape(P, -1) / np.sqrt(P)
    Z = X if problem.A is None else X @ problem.A.T / np.sqrt(len(problem.A))
    U, s, V = np.linalg.svd(Z, full_matrices=False)
    x = s**2
    c = U.T @ y
    left = errors(x)
    # (1 - f(x))/x of what f leaves, which no rounding of a small x may reach.
    moves = x > x[0] * 1e-14
    gained = np.where(moves, 1 - left, 0.0) / np.where(moves, s, 1.0)
    u = np.einsum("km,tk,ko->tmo", V, gained, c)
    v = w - (u if problem.A is None else np.einsum("nm,tno->tmo", problem.A / np.sqrt(len(problem.A)), u))
    test = np.einsum("m,tmo->t", lam, v**2)
    # What no student fits: nothing where U spans all samples.
    rest = 0.0 if U.shape[1] == len(y) else float(np.sum((y - U @ c) ** 2))
    return test, np.sum((left[:, :, None] * c) ** 2, axis=(1, 2)) + rest


def learned(
    eigenvalues: Array, target: Array, A: Array, psi: Array | None, labels: Array | None, times: Array, rate: Array
) -> tuple[Array, Array, Array]:
    """Test loss, train loss and |w|² (times,) under gradient flow of w and B, all of whose entries are integrated."""
    N = A.shape[0]
    if psi is None or labels is None:
        K, g0, power = (
            (A * eigenvalues[None]) @ A.T / N,
            A @ (eigenvalues * target) / jnp.sqrt(N),
            eigenvalues @ target**2,
        )
    else:
        Z, y = psi @ A.T / jnp.sqrt(N * psi.shape[0]), labels / jnp.sqrt(psi.shape[0])
        K, g0, power = Z.T @ Z, Z.T @ y, y @ y

    def velocity(t: Any, state: Any, args: Any) -> tuple[Array, Array]:
        w, B = state
        g = g0 - K @ (B.T @ w)
        return B @ g, rate * jnp.outer(w, g)

    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(velocity),
        diffrax.Tsit5(),
        0.0,
        times[-1],
        None,
        (jnp.zeros(N), jnp.eye(N)),
        saveat=diffrax.SaveAt(fn=lambda t, state, args: (state[1].T @ state[0], state[0] @ state[0]), ts=times),
        stepsize_controller=diffrax.PIDController(_TOLERANCE, _TOLERANCE),
        max_steps=_MOST_STEPS,
        throw=False,  # what is left out is infinite, and the draw is marked
    )
    assert solution.ys is not None
    y, omega = solution.ys
    v = target[None] - y @ A / jnp.sqrt(N)
    train = power - 2 * y @ g0 + jnp.sum((y @ K) * y, axis=1)
    return v**2 @ eigenvalues, train, omega


def sgd(
    key: Array, eigenvalues: Array, target: Array, A: Array | None, rates: Array, batch: int, noise: float
) -> tuple[Array, Array]:
    """Test loss before each step and after the last (steps + 1,), and the loss on the batch of each step (steps,)."""
    M = eigenvalues.shape[0]

    def step(carry: tuple[Array, Array], eta: Array) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
        v, key = carry
        key, inputs, labels = jax.random.split(key, 3)
        psi = jax.random.normal(inputs, (batch, M)) * jnp.sqrt(eigenvalues)[None]
        r = psi @ v + jnp.sqrt(noise) * jax.random.normal(labels, (batch, *target.shape[1:]))
        g = psi.T @ r / batch
        moved = g if A is None else A.T @ (A @ g) / A.shape[0]
        loss = jnp.sum(eigenvalues @ v**2)
        return (v - eta * moved, key), (loss, jnp.sum(r**2) / batch)

    (v, _), (test, train) = jax.lax.scan(step, (target, key), rates)
    return jnp.append(test, jnp.sum(eigenvalues @ v**2)), train
