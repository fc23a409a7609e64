"""The kernel equations of ResNets, integrated over layer time or summed over the blocks of a finite depth."""

from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from covsde.architectures.base import InitialKernels
from covsde.architectures.resnet.kernels import KernelODE, KernelState
from covsde.moments.of_activation import second_moment


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


@eqx.filter_jit
def _activations(ode: KernelODE, H: Float[Array, "times m m"]) -> Float[Array, "times m m"]:
    return jax.lax.map(lambda V: second_moment(ode.moments, V), H)


def infinite_depth(
    ode: KernelODE, V0: Float[Array, "m m"], tau: Float[Array, " times"], tolerance: float, adjoint: Any
) -> InitialKernels:
    """By Diffrax, at the layer times tau."""
    # As arrays, so that new values do not recompile.
    arrays = jax.tree.map(lambda x: jnp.asarray(x, V0.dtype), ode)
    explosive = not isinstance(ode.ceiling, float) or ode.ceiling < float("inf")
    path, reached = _solve(arrays, V0, tau, tolerance=tolerance, explosive=explosive, adjoint=adjoint)
    G, ntk = ode.finish(path)
    return InitialKernels(tau, path.H, G, ntk, reached, _activations(arrays, path.H), path.H[-1])


def finite_depth(ode: KernelODE, V0: Float[Array, "m m"], depth: int) -> InitialKernels:
    """By the recursion over layers, at all of them."""
    layers = jnp.arange(depth + 1, dtype=V0.dtype) / depth
    H, G, ntk = _recursion(jax.tree.map(lambda x: jnp.asarray(x, V0.dtype), ode), V0, depth)
    finite = jnp.all(jnp.isfinite(H), axis=(1, 2))
    Phi = _activations(ode, H)
    return InitialKernels(layers, H, G, ntk, jnp.max(jnp.where(finite, layers, 0)), Phi, H[-1])
