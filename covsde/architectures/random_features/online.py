"""Online SGD on fresh batches: equations (6) and (7) of docs/limits/scaling_laws.md.

With the eigenvalues x_j of Λ^½AᵀAΛ^½/N the losses d_j along its eigenvectors obey, for Gaussian inputs and at any size,

    d_j ← q_j d_j + (η x_j)²/B (L + σ²),    q_j = (1 - η x_j)² + (η x_j)²/B,    L = Σ d_j.

Source: arXiv 2402.01092; the 1/B in q_j is the fourth moment that a mean-field form drops.
"""

import warnings
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from numpy.typing import NDArray
from scipy.optimize import brentq

from covsde.architectures.random_features.architecture import RandomFeatures, UnstableTrainingWarning
from covsde.architectures.random_features.scaling_law import Losses
from covsde.inputs.arguments import instance_of, positive_int
from covsde.inputs.gram import real_array
from covsde.numerics.typing import Number
from covsde.results.scaling import ScalingLaw
from covsde.spectra.contour import around
from covsde.spectra.resolvent import Modes, Sizes, edge, edge_kappa, outside


def checked_model(model: Any) -> None:
    """Refuse all but random features that see the population.

    Raises:
        ValueError: for another model, or one with finitely many samples.
    """
    instance_of("model", model, RandomFeatures, "a RandomFeatures: features that learn have no closed online theory")
    if np.isfinite(model.samples):
        raise ValueError(f"model must have samples=np.inf, got {model.samples:g}: every batch is of fresh samples.")


def online(model: RandomFeatures, rates: Any, batch: int) -> NDArray[np.float64]:
    """Mean test loss of SGD with a fresh batch at every step; exact for infinitely many features.

    Args:
        model: with infinitely many samples.
        rates: η of every step, (steps,).
        batch: B ≥ 1.

    Returns:
        Before each step and after the last, (steps + 1,), without the labels' noise.

    Raises:
        ValueError: for a model with finitely many samples, negative rates, or no step.

    Warns:
        UnstableTrainingWarning: if a rate at which the mean loss grows is kept to throughout.

    Source: equations (6) and (7) of docs/limits/scaling_laws.md.

    Example:
        ```python
        model = cs.scaling.RandomFeatures(cs.scaling.PowerLaw(1.5, 1.25), features=80)
        print(cs.scaling.online(model, np.full(100, 0.2), batch=8)[-1])
        ```
    """
    return np.asarray(online_law(model, rates, batch).test)


def online_law(model: RandomFeatures, rates: Any, batch: int) -> ScalingLaw:
    """The same as a result for `compare`; its train loss is the loss on the batch of each step, with its noise."""
    checked_model(model)
    eta, B = checked_rates(rates), positive_int("batch", batch)
    limit = largest_rate(model, B)
    if eta.min() > limit:
        warnings.warn(
            f"rates exceed {limit:.4g} at every step, where the mean loss of online SGD grows without bound: use "
            "smaller ones, or a larger batch.",
            UnstableTrainingWarning,
            stacklevel=3,
        )
    modes, sizes, noise = model.problem
    with jax.enable_x64(True):
        if np.isinf(model.features):
            x, energies, counts = map(jnp.asarray, modes)
            L = losses_by_modes(jnp.asarray(eta), x, counts * energies, counts, B, noise)
        else:
            contour = around(modes, sizes, 2.5 * float(eta.sum()))
            functionals = (contour.x, 2 * contour.weights * contour.signal, 2 * contour.weights * contour.trace)
            L = _around_spectrum(jnp.asarray(eta), *map(jnp.asarray, functionals), B, noise)
    test = np.asarray(L)
    found = Losses(test, test + noise)
    return model.recorded(np.arange(len(test), dtype=np.float64), found, time="updates", batch=B, rates=eta.tolist())


def checked_rates(rates: Any) -> NDArray[np.float64]:
    """Learning rates (steps,) ≥ 0.

    Raises:
        ValueError: for others.
    """
    eta = np.atleast_1d(real_array("rates", rates, "numbers of shape (steps,)")).astype(np.float64)
    if eta.ndim != 1 or eta.size == 0 or not np.all(np.isfinite(eta) & (eta >= 0)):
        raise ValueError("rates must have shape (steps,) with at least one step, and be finite and ≥ 0.")
    return eta


def largest_rate(model: RandomFeatures, batch: int) -> float:
    """The constant rate below which the mean loss of online SGD stays bounded: (η/B) Σ x/(2 - ηx(1 + 1/B)) = 1.

    Args:
        model: with infinitely many samples.
        batch: B ≥ 1.

    Returns:
        η.
    """
    checked_model(model)
    B = positive_int("batch", batch)
    modes, sizes, _ = model.problem
    end = edge(modes, sizes) if np.isfinite(model.features) else float(modes.eigenvalues.max())
    highest = 2 / (end * (1 + 1 / B))

    def excess(share: float) -> float:
        eta = share * highest
        return _noise_gain(2 / (eta * (1 + 1 / B)), modes, sizes) / (B + 1) - 1

    top = 1 - 1e-9
    return highest * (top if excess(top) < 0 else float(brentq(excess, 1e-12, top, xtol=1e-14)))


def _noise_gain(c: float, modes: Modes, sizes: Sizes) -> float:
    """Σ_j x_j/(c - x_j) over the eigenvalues, for c beyond them: -D(κ) at z = -c."""
    x, n = modes.eigenvalues, modes.counts
    if np.isinf(sizes.features):
        return float(n @ (x / (c - x)))

    def gap(s: float) -> float:
        return outside(-c * np.exp(s), modes, sizes) - c

    # Far out -z(κ) falls to κ's own size; at the edge it is stationary, and c lies above its value there.
    far, near = 1.0, float(np.log(-edge_kappa(modes, sizes) / c))
    while gap(far) < 0:
        far += 1.0
    kappa = -c * np.exp(float(brentq(gap, near, far, xtol=1e-14)) if gap(near) < 0 else near)
    return -float(n @ (x / (x + kappa)))


@partial(jax.jit, static_argnums=4)
def losses_by_modes(rates: Array, x: Array, d: Array, counts: Array, batch: int, noise: Number) -> Array:
    """L before each step and after the last (steps + 1,), from losses d of blocks of eigenvalues x, equation (6)."""

    def step(d: Array, eta: Array) -> tuple[Array, Array]:
        L, y = jnp.sum(d), eta * x
        kicks = y * y / batch
        return ((1 - y) ** 2 + kicks) * d + counts * kicks * (L + noise), L

    last, L = jax.lax.scan(step, d, rates)
    return jnp.append(L, jnp.sum(last))


@partial(jax.jit, static_argnums=4)
def _around_spectrum(rates: Array, x: Array, signal: Array, trace: Array, batch: int, noise: Number) -> Array:
    """The density of d as a(x) of the target and x h(x) of every eigenvalue."""

    def loss(a: Array, h: Array) -> Array:
        return jnp.real(jnp.sum(signal * a) + jnp.sum(trace * h))

    def step(carry: tuple[Array, Array], eta: Array) -> tuple[tuple[Array, Array], Array]:
        (a, h), rate, L = carry, eta.astype(x.dtype), loss(*carry)
        y = rate * x
        q = (1 - y) ** 2 + y * y / batch
        return (q * a, q * h + rate * y / batch * (L + noise).astype(x.dtype)), L

    start = (jnp.ones_like(x), jnp.zeros_like(x))
    last, L = jax.lax.scan(step, start, rates)
    return jnp.append(L, loss(*last))
