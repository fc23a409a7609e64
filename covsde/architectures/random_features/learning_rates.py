"""Learning rates that are optimal over a horizon: equations (12) and (13) of docs/limits/scaling_laws.md.

The last loss of online SGD is a convex parabola in each rate alone. With the adjoint p of the losses d,

    η_n = Σ p_{n+1} x d_n / [(1 + 1/B) Σ p_{n+1} x² d_n + (L_n + σ²)/B Σ p_{n+1} x²],

and sweeps that replace one rate after the other never raise it. The problem is not convex in all rates together: what
is found is stationary rate by rate, and is not proved to be the best of all.

Source: arXiv 2602.04774 for the question; derived for this library.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from scipy.optimize import minimize_scalar

from covsde.architectures.random_features.architecture import RandomFeatures
from covsde.architectures.random_features.online import checked_model, largest_rate, losses_by_modes
from covsde.inputs.arguments import finite_number, positive_int
from covsde.numerics.keys import generator, typed_key
from covsde.numerics.typing import Number
from covsde.results.scaling import OptimalRates
from covsde.run.memory import check_room

_SWEEPS = 400


def optimal_rates(
    model: RandomFeatures, horizon: int, batch: int, *, tolerance: float = 1e-10, key: Any = 0
) -> OptimalRates:
    """The learning rates of online SGD that make the last loss the smallest.

    Args:
        model: with infinitely many samples. Finitely many features are drawn once, and the loss that they cannot
            remove stays.
        horizon: T ≥ 1 steps.
        batch: B ≥ 1.
        tolerance: relative gain of a sweep below which sweeps end.
        key: of the features, if they are finite.

    Returns:
        Rates (horizon,), losses on the way, and the best constant rate with its loss.

    Raises:
        ValueError: for a model with finitely many samples, no step, or a horizon that memory cannot hold.

    Source: equation (12) of docs/limits/scaling_laws.md.

    Example:
        ```python
        model = cs.scaling.RandomFeatures(cs.scaling.PowerLaw(3.0, 1.5), noise=0.25)
        print(cs.scaling.optimal_rates(model, horizon=100, batch=4).rates[::20])
        ```
    """
    checked_model(model)
    T, B = positive_int("horizon", horizon), positive_int("batch", batch)
    if finite_number("tolerance", tolerance) <= 0:
        raise ValueError(f"tolerance must be positive, got {tolerance}.")
    x, d, counts = _state(model, key)
    check_room("horizon", T, lambda steps: 16 * steps * len(x), "the adjoint of every step")
    highest = largest_rate(model, B)
    with jax.enable_x64(True):
        arrays = tuple(map(jnp.asarray, (x, d, counts)))
        start = jnp.full(T, highest / 2)
        rates, loss, sweeps, gain = _descend(start, *arrays, B, model.noise, tolerance)
        losses = losses_by_modes(rates, *arrays, B, model.noise)

        def last(log_rate: float) -> float:
            return float(losses_by_modes(jnp.full(T, np.exp(log_rate)), *arrays, B, model.noise)[-1])

        top = np.log(highest)
        # As few steps as T want rates beyond what is stable forever.
        found = minimize_scalar(last, bounds=(top - np.log(1e4), top + np.log(8.0)), method="bounded")
    return OptimalRates(
        np.asarray(rates),
        np.asarray(losses),
        int(sweeps),
        float(gain) < tolerance * float(loss),
        float(np.exp(found.x)),
        float(found.fun),
    )


def _state(model: RandomFeatures, key: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Eigenvalues, losses along them before training, and how many there are of each."""
    if np.isinf(model.features):
        modes = model.spectrum.modes
        return modes.eigenvalues, modes.counts * modes.energies, modes.counts
    lam, w = model.spectrum.drawable
    with jax.enable_x64(True), generator():
        shape = (positive_int("features", model.features), len(lam))
        A = np.asarray(jax.random.normal(typed_key(key), shape, np.float64))
    _, s, V = np.linalg.svd(A * np.sqrt(lam / shape[0]), full_matrices=False)
    target = np.sqrt(lam)[:, None] * w.reshape(len(lam), -1)
    along = np.sum((V @ target) ** 2, axis=1)
    rest = max(float(np.sum(target**2) - along.sum()), 0.0)
    return np.append(s**2, 0.0), np.append(along, rest), np.ones(len(s) + 1)


@partial(jax.jit, static_argnums=4)
def _descend(
    rates: Array, x: Array, d: Array, counts: Array, batch: int, noise: Number, tolerance: Number
) -> tuple[Array, Array, Array, Array]:
    """Rates, the last loss, sweeps, and what the last of them gained."""

    def back(p: Array, eta: Array) -> tuple[Array, Array]:
        y = (eta * x) ** 2 / batch
        return ((1 - eta * x) ** 2 + y) * p + jnp.sum(counts * y * p), p

    def forth(d: Array, this: tuple[Array, Array]) -> tuple[Array, Array]:
        p, _ = this
        L = jnp.sum(d) + noise
        curvature = (1 + 1 / batch) * jnp.sum(p * x * x * d) + L / batch * jnp.sum(counts * p * x * x)
        eta = jnp.sum(p * x * d) / curvature
        y = (eta * x) ** 2 / batch
        return ((1 - eta * x) ** 2 + y) * d + counts * y * L, eta

    def sweep(state: tuple[Array, Array, Array, Array]) -> tuple[Array, Array, Array, Array]:
        rates, loss, count, _ = state
        _, adjoints = jax.lax.scan(back, jnp.ones_like(x), rates, reverse=True)
        end, rates = jax.lax.scan(forth, d, (adjoints, rates))
        return rates, jnp.sum(end), count + 1, loss - jnp.sum(end)

    def goes_on(state: tuple[Array, Array, Array, Array]) -> Array:
        _, loss, count, gain = state
        return (count < _SWEEPS) & ((count < 3) | (gain >= tolerance * loss))

    start = (rates, jnp.asarray(jnp.inf), jnp.zeros((), jnp.int32), jnp.asarray(jnp.inf))
    return jax.lax.while_loop(goes_on, sweep, start)
