"""Losses as a pure function of JAX arrays, with gradients in the spectrum and the sizes.

κ is found outside of JAX; one further step of Newton's method, which changes nothing, carries its derivative.

Source: arXiv 2402.01092; equations (1) to (4) of docs/limits/scaling_laws.md.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from covsde.architectures.random_features.architecture import checked_times
from covsde.numerics.laplace import inverse_laplace
from covsde.spectra.resolvent import Modes, Sizes, kappas, resolvent_at, two_point

# For infinitely many: complex arithmetic has no infinity to divide by.
_MANY = 1e30


def losses(
    eigenvalues: Any, energies: Any, times: Any, *, features: Any = np.inf, samples: Any = np.inf, noise: Any = 0.0
) -> tuple[Array, Array]:
    """Test and train loss of random features under gradient flow, for jax.grad and jax.jit.

    Differentiable in all arguments but the times, and nothing but the times is checked. It needs float64, as within
    jax.enable_x64(True).

    Args:
        eigenvalues: λ_k > 0, (M,).
        energies: λ_k w_k², (M,).
        times: t > 0, finite, increasing, (times,); no tracer.
        features: N, or np.inf.
        samples: P, or np.inf.
        noise: σ².

    Returns:
        Test loss without the labels' noise, and train loss, (times,) each.

    Raises:
        ValueError: for other times, or where JAX has no float64.

    Source: arXiv 2402.01092.

    Example:
        ```python
        k = np.arange(1.0, 301.0)
        with jax.enable_x64(True):
            slope = jax.grad(lambda b: cs.scaling.losses(k**-b, k**-1.5, [10.0], features=80)[0][0])(1.25)
        ```
    """
    t = checked_times(times)
    if t[0] == 0:
        raise ValueError("times must be positive here: the loss before training is the sum of energies.")
    config: Any = jax.config  # some versions type its attributes, some do not
    if not config.jax_enable_x64:
        raise ValueError("losses needs float64: call it within jax.enable_x64(True).")
    whole = [jnp.asarray(x, jnp.complex128) for x in (eigenvalues, energies, noise)]
    sizes = Sizes(*(_finite(size) for size in (samples, features)))  # type: ignore[arg-type]
    modes = Modes(whole[0], whole[1], jnp.ones_like(whole[0]))  # type: ignore[arg-type]
    found = [_after(float(at), modes, sizes, whole[2]) for at in t]
    return jnp.stack([pair[0] for pair in found]), jnp.stack([pair[1] for pair in found])


def _finite(size: Any) -> Array:
    if isinstance(size, float) and np.isinf(size):
        return jnp.asarray(_MANY, jnp.complex128)
    return jnp.asarray(size, jnp.complex128)


def _after(t: float, modes: Modes, sizes: Sizes, noise: Array) -> tuple[Array, Array]:
    nodes = inverse_laplace(t)
    z = jnp.asarray(nodes.z)
    at = resolvent_at(_kappas(z, modes, sizes), z, modes, sizes)
    found = two_point(at, modes, sizes, noise)
    test, train = (nodes.of_pairs(C) for C in found)
    return test, train


def _kappas(z: Array, modes: Modes, sizes: Sizes) -> Array:
    x, _, n = modes

    def outside(*arrays: Any) -> np.ndarray:
        at, lam, counts, P, N = (np.asarray(a) for a in arrays)
        real = Modes(lam.real, np.zeros(len(lam)), counts.real)
        return kappas(at, real, Sizes(float(P.real), float(N.real)))

    known = jax.lax.stop_gradient((z, x, n, *sizes))
    shape = jax.ShapeDtypeStruct(z.shape, jnp.complex128)
    kappa = jax.lax.stop_gradient(jax.pure_callback(outside, shape, *known, vmap_method="sequential"))
    r = 1 / (x[None, :] + kappa[:, None])
    D, slope = r @ (n * x), -(r * r) @ (n * x)
    value, derivative = sizes.response(D)
    step = (kappa * value - z) / jax.lax.stop_gradient(value + kappa * slope * derivative)
    return kappa - step
