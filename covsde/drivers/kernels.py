"""Kernels of infinitely wide networks: features, gradients and the tangent kernel, at infinite or finite depth."""

import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from covsde.architectures.base import AbstractWithKernels
from covsde.inputs.arguments import instance_of, positive_int
from covsde.inputs.gram import check_gram
from covsde.numerics.tracing import is_traced
from covsde.results.kernels import Kernels
from covsde.results.status import FailedPathsWarning
from covsde.run.grid import save_times


def kernels(
    architecture: AbstractWithKernels,
    V0: Any,
    *,
    depth: int | None = None,
    save_at: Any = None,
    tolerance: float | None = None,
) -> Kernels:
    """Kernels of an infinitely wide network at initialization, from the input Gram matrix V0.

    Differentiable (in reverse mode) with respect to `V0` and to hyperparameters of `architecture`, such as β,
    within transformations: arguments are then not checked, and the dtype is that of V0.

    Args:
        architecture: one whose kernels are deterministic, e.g. ResNet(jax.nn.relu, beta=1.0).
        V0: input Gram matrix (m, m), symmetric positive semidefinite; see `gram`.
        depth: number of blocks L for the exact recursion over layers; default: infinite, an ODE.
        save_at: layer times to keep, with 0 and 1; default: tenths. At finite depth all layers are kept.
        tolerance: relative tolerance of the ODE solver; default 10⁻¹⁰ in float64 and 10⁻⁵ in float32.

    Returns:
        Kernels with tau, H, G (times, m, m) and ntk (m, m), float64.

    Raises:
        ValueError: for a V0 that is not a covariance, or an argument out of range.

    Warns:
        FailedPathsWarning: if variances explode before τ = 1; H and G are then NaN from there on, and ntk is NaN.

    Source: arXiv 2309.16620 (lazy limit at initialization).
    """
    example = "an architecture with deterministic kernels such as ResNet(jax.nn.relu, beta=1.0)"
    instance_of("architecture", architecture, AbstractWithKernels, example)
    if depth is not None:
        depth = positive_int("depth", depth)
        if save_at is not None:
            raise ValueError("save_at has no meaning with a finite depth, of which all layers are kept: drop one.")
    tau = save_times(np.linspace(0, 1, 11) if save_at is None else save_at)
    if is_traced((architecture, V0)):
        start = V0 if is_traced(V0) else jnp.asarray(check_gram(V0), jnp.result_type(float))
        return _kernels(architecture, start, depth, tau, tolerance)
    with jax.enable_x64(True):
        start = jnp.asarray(check_gram(V0), jnp.float64)
        found = jax.tree.map(np.asarray, _kernels(architecture, start, depth, tau, tolerance))
    if found.stop_tau < 1:
        warnings.warn(
            f"Variances explode between the layer times τ={found.stop_tau:.4g} and 1: kernels are NaN from there on; "
            "lower beta or V0.",
            FailedPathsWarning,
            stacklevel=2,
        )
    return found


def _kernels(
    architecture: AbstractWithKernels, V0: jax.Array, depth: int | None, tau: np.ndarray, tolerance: float | None
) -> Kernels:
    if tolerance is None:
        tolerance = 1e-10 if V0.dtype == jnp.float64 else 1e-5
    return Kernels(*architecture.initial_kernels(V0, depth, jnp.asarray(tau, V0.dtype), tolerance))
