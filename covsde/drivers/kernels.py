"""Kernels of infinitely wide ResNets: features, gradients and the tangent kernel, at infinite or finite depth."""

import warnings
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from covsde.architectures.resnet.architecture import ResNet
from covsde.architectures.resnet.kernels import KernelODE, KernelState
from covsde.inputs.arguments import instance_of, positive_int
from covsde.inputs.gram import check_gram
from covsde.numerics.tracing import is_traced
from covsde.results.kernels import Kernels
from covsde.results.status import FailedPathsWarning
from covsde.solvers.chunk import as_arrays


@eqx.filter_jit
def _solve(
    ode: KernelODE,
    V0: Float[Array, "m m"],
    tau: Float[Array, " times"],
    *,
    tolerance: float,
    explosive: bool,
    adjoint: Any,
) -> tuple[KernelState, Array]:
    explodes = None
    if explosive:

        def too_large(t: Any, y: KernelState, args: Any, **_: Any) -> Array:
            variances = jnp.diagonal(y.H)
            return jnp.any(~(variances < ode.ceiling))

        explodes = diffrax.Event(too_large)
    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(lambda t, y, args: ode.kernel_rate(y)),
        diffrax.Tsit5(),
        t0=tau[0],
        t1=tau[-1],
        dt0=0.01,
        y0=ode.start(V0),
        # Steps end on the saved times: interpolation would be of lower order.
        stepsize_controller=diffrax.ClipStepSizeController(
            diffrax.PIDController(rtol=tolerance, atol=1e-3 * tolerance), step_ts=tau
        ),
        saveat=diffrax.SaveAt(ts=tau),
        event=explodes,
        adjoint=adjoint,
        throw=False,
        max_steps=4096,
    )
    assert solution.ys is not None
    finished = jnp.all(jnp.isfinite(solution.ys.H), axis=(1, 2))
    reached = jnp.max(jnp.where(finished, tau, 0))
    return jax.tree.map(lambda x: jnp.where(finished[:, None, None], x, jnp.nan), solution.ys), reached


@eqx.filter_jit
def _recursion(ode: KernelODE, V0: Float[Array, "m m"], depth: int) -> tuple[Array, Array, Array]:
    return ode.recursion(V0, depth)


def _times(save_at: Any) -> np.ndarray:
    try:
        times = np.unique(np.linspace(0, 1, 11) if save_at is None else np.asarray(save_at, np.float64).ravel())
    except (TypeError, ValueError) as error:
        raise ValueError("save_at must hold layer times in [0, 1], e.g. [0, 0.5, 1].") from error
    if times.size == 0 or not np.all(np.isfinite(times)) or times[0] < 0 or times[-1] > 1:
        raise ValueError("save_at must hold layer times in [0, 1], e.g. [0, 0.5, 1].")
    return np.union1d(times, [0.0, 1.0])


def kernels(
    resnet: ResNet,
    V0: Any,
    *,
    depth: int | None = None,
    save_at: Any = None,
    tolerance: float | None = None,
) -> Kernels:
    """Kernels of an infinitely wide ResNet at initialization, from the input Gram matrix V0.

    Differentiable (in reverse mode) with respect to `V0` and to the β of `resnet` inside JAX transformations, where
    arguments are not checked and the dtype is that of V0.

    Args:
        resnet: e.g. ResNet(jax.nn.relu, beta=1.0).
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
    instance_of("resnet", resnet, ResNet, "a ResNet such as ResNet(jax.nn.relu, beta=1.0)")
    if depth is not None:
        depth = positive_int("depth", depth)
        if save_at is not None:
            raise ValueError("save_at has no meaning with a finite depth, of which all layers are kept: drop one.")
    tau = _times(save_at)
    if is_traced((V0, resnet.beta)):
        start = V0 if is_traced(V0) else jnp.asarray(check_gram(V0), jnp.result_type(float))
        return _kernels(resnet, start, depth, jnp.asarray(tau, start.dtype), tolerance)
    with jax.enable_x64(True):
        start = jnp.asarray(check_gram(V0), jnp.float64)
        found = jax.tree.map(np.asarray, _kernels(resnet, start, depth, jnp.asarray(tau, start.dtype), tolerance))
    if found.stop_tau < 1:
        warnings.warn(
            f"Variances explode between the layer times τ={found.stop_tau:.4g} and 1: kernels are NaN from there on; "
            "lower beta or V0.",
            FailedPathsWarning,
            stacklevel=2,
        )
    return found


def _kernels(resnet: ResNet, V0: Array, depth: int | None, tau: Array, tolerance: float | None) -> Kernels:
    if tolerance is None:
        tolerance = 1e-10 if V0.dtype == jnp.float64 else 1e-5
    if depth is None:
        ode = resnet.limit()
        adjoint = diffrax.RecursiveCheckpointAdjoint() if is_traced((V0, resnet.beta)) else diffrax.ForwardMode()
        # As arrays, so that new values do not recompile.
        arrays = as_arrays(ode, V0.dtype)
        explosive = bool(np.isfinite(ode.ceiling))
        path, reached = _solve(arrays, V0, tau, tolerance=tolerance, explosive=explosive, adjoint=adjoint)
        G, ntk = ode.finish(path)
        return Kernels(tau, path.H, G, ntk, reached)
    # The width only enters through a ratio.
    wide = 10**6
    strength = resnet.block.strength(wide, depth)
    layers = jnp.arange(depth + 1, dtype=V0.dtype) / depth
    H, G, ntk = _recursion(as_arrays(resnet.equation(strength), V0.dtype), V0, depth)
    finite = jnp.all(jnp.isfinite(H), axis=(1, 2))
    return Kernels(layers, H, G, ntk, jnp.max(jnp.where(finite, layers, 0)))
