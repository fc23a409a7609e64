"""Pre-activation ResNets of finite width and infinite depth: an n-dimensional diffusion without drift."""

import math
from collections.abc import Callable
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from covsde.architectures.resnet.architecture import ResNet
from covsde.architectures.resnet.blocks import PreActivation
from covsde.covariance.clock import Time
from covsde.inputs.arguments import finite_number, instance_of, positive_int
from covsde.inputs.gram import real_array
from covsde.numerics.keys import generator, typed_key
from covsde.run.grid import save_times, time_grid


class FiniteWidthDiffusion(eqx.Module):
    """A pre-activation ResNet of finite width and infinite depth: dX^a = β n^{-1/2} dB φ(X^a).

    All inputs share the n×n Brownian matrix B, so that d⟨X^a_i, X^b_j⟩ = β² δ_ij φ(X^a)·φ(X^b)/n dτ; there is no drift.

    Attributes:
        fn: φ.
        beta: β.

    Source: arXiv 2210.00688.
    """

    fn: Callable[[Array], Array] = eqx.field(static=True)
    beta: Float[Array, ""] | float

    def increment(self, X: Float[Array, "paths m n"], dB: Float[Array, "paths n n"]) -> Float[Array, "paths m n"]:
        """β n^{-1/2} dB φ(X)."""
        return self.beta / math.sqrt(X.shape[2]) * jnp.einsum("pij,paj->pai", dB, self.fn(X))


class MatrixNoise(diffrax.AbstractTerm):
    """β n^{-1/2} dB φ(X), driven by an n×n Brownian matrix per path."""

    diffusion: FiniteWidthDiffusion
    path: diffrax.AbstractPath

    def vf(self, t: Time, y: Array, args: object) -> Array:
        """X itself: the product with the increment is the equation's."""
        return y

    def contr(self, t0: Time, t1: Time, **_: object) -> Float[Array, "paths n n"]:
        """dB."""
        increments: Array = self.path.evaluate(t0, t1)
        return increments

    def prod(self, vf: Array, control: Array) -> Array:
        """β n^{-1/2} dB φ(X)."""
        return self.diffusion.increment(vf, control)


class Streams(eqx.Module):
    """Residual streams of finite width over layer time.

    Attributes:
        tau: (times,) layer times.
        X: (times, paths, m, n) streams of m inputs.
        noise: (times, paths, n, n) the Brownian matrix B(τ) that drove them.
    """

    tau: np.ndarray
    X: np.ndarray
    noise: np.ndarray


@eqx.filter_jit
def _solve(diffusion: FiniteWidthDiffusion, X0: Array, key: Array, grid: Array, *, paths: int, every: int) -> Any:
    n = X0.shape[1]
    path = diffrax.UnsafeBrownianPath(shape=jax.ShapeDtypeStruct((paths, n, n), X0.dtype), key=key)
    carried = jnp.broadcast_to(X0[None], (paths, *X0.shape)), jnp.zeros((paths, n, n), X0.dtype)

    class _Both(diffrax.AbstractTerm):
        # The streams and, beside them, the noise itself, for pathwise comparison with closed forms.
        noise: MatrixNoise

        def vf(self, t: Time, y: Any, args: object) -> Array:
            return self.noise.vf(t, y[0], args)

        def contr(self, t0: Time, t1: Time, **_: object) -> Array:
            return self.noise.contr(t0, t1)

        def prod(self, vf: Array, control: Array) -> Any:
            return self.noise.prod(vf, control), control

    solution = diffrax.diffeqsolve(
        _Both(MatrixNoise(diffusion, path)),
        diffrax.Euler(),
        t0=grid[0],
        t1=grid[-1],
        dt0=None,
        y0=carried,
        stepsize_controller=diffrax.StepTo(ts=grid),
        saveat=diffrax.SaveAt(t0=True, steps=every),
        adjoint=diffrax.ForwardMode(),
        max_steps=grid.shape[0] - 1,
    )
    return solution.ys


def simulate_streams(
    resnet: ResNet,
    X0: Any,
    *,
    paths: int = 1000,
    steps: int = 200,
    key: int | PRNGKeyArray = 0,
    save_at: Any = None,
) -> Streams:
    """Sample the residual stream of a ResNet of finite width and infinite depth, by Euler–Maruyama.

    An Euler step is one layer of a network whose depth is `steps`, so `steps` → ∞ is the limit of infinite depth.

    Args:
        resnet: a critical pre-activation ResNet, e.g. ResNet(jax.nn.relu).
        X0: streams h^0 of the inputs, (m, n), or (n,) for one input; n is the width.
        paths: number of independent networks; memory is times · paths · n (m + n) numbers.
        steps: Euler steps over unit layer time.
        key: int seed or JAX key.
        save_at: layer times to keep, with 0 and 1; default: tenths.

    Returns:
        Streams with X (times, paths, m, n) and the Brownian matrix that drove them, float64.

    Raises:
        ValueError: for a block that is not critical pre-activation, or an argument out of range.

    Source: arXiv 2210.00688.
    """
    instance_of("resnet", resnet, ResNet, "a ResNet such as ResNet(jax.nn.relu)")
    if not isinstance(resnet.block, PreActivation) or resnet.block.limiting_strength() != 1:
        raise ValueError("resnet must have critical pre-activation blocks: the diffusion is theirs alone.")
    start = real_array("X0", X0, "streams (m, n) or (n,) of real numbers")
    start = start[None] if start.ndim == 1 else start
    if start.ndim != 2 or 0 in start.shape or not np.all(np.isfinite(start)):
        raise ValueError(f"X0 must hold finite streams (m, n) or (n,), got shape {np.shape(X0)}.")
    times = [0.1 * k for k in range(11)] if save_at is None else save_times(save_at).tolist()
    grid, every = time_grid(positive_int("steps", steps), times)
    typed = typed_key(key)
    with jax.enable_x64(True), generator():
        diffusion = FiniteWidthDiffusion(resnet.activation, jnp.asarray(resnet.beta, jnp.float64))
        X, B = _solve(
            diffusion, jnp.asarray(start), typed, jnp.asarray(grid), paths=positive_int("paths", paths), every=every
        )
    tau = grid[::every]
    return Streams(tau, np.asarray(X)[: tau.size], np.asarray(B)[: tau.size])


def ornstein_uhlenbeck_activation(a: float, b: float, c: float = 1.0) -> Callable[[Array], Array]:
    """The activation for which a ResNet of width 1 and infinite depth is a function of an Ornstein–Uhlenbeck process.

    With F(z) = c ∫_0^z e^{a s²/b²} ds and φ = b F'∘F⁻¹, the stream is X = F(Z), dZ = -a Z dτ + b dB: Itô's correction
    cancels the drift.

    Args:
        a: mean reversion, > 0.
        b: noise, > 0.
        c: scale of the stream, > 0.

    Returns:
        φ, an elementwise JAX function; its inverse `F` is φ.stream, and F⁻¹ is φ.latent.

    Raises:
        ValueError: if an argument is not positive.

    Source: arXiv 2210.00688 (Ornstein–Uhlenbeck example).
    """
    a, b, c = (finite_number(name, value) for name, value in (("a", a), ("b", b), ("c", c)))
    if min(a, b, c) <= 0:
        raise ValueError("a, b and c must be positive.")
    rate = a / b**2
    nodes, weights = np.polynomial.legendre.leggauss(24)

    def F(z: Array) -> Array:
        # ∫_0^z by Gauss–Legendre on [0, z]: entire, so accurate to rounding for |z| up to several b/√a.
        z = jnp.asarray(z)
        s = jnp.asarray((nodes + 1) / 2, z.dtype).reshape((1,) * z.ndim + (-1,))
        w = jnp.asarray(weights / 2, z.dtype)
        return c * z * (jnp.exp(rate * (z[..., None] * s) ** 2) @ w)

    def inverse(x: Array) -> Array:
        # Newton for log F(z) = log x, which is concave in z: F(z) ~ z for small and e^{rate z²} for large z.
        x = jnp.asarray(x)
        size = jnp.maximum(jnp.abs(x) / c, 1e-30)

        def newton(_: Any, z: Array) -> Array:
            value = F(z) / c
            step: Array = z - jnp.log(value / size) * value * jnp.exp(-rate * z * z)
            return step

        z = jax.lax.fori_loop(0, 7, newton, jnp.sqrt(jnp.log1p(rate * size * size) / rate))
        return jnp.sign(x) * z

    def phi(x: Array) -> Array:
        return b * c * jnp.exp(rate * inverse(x) ** 2)

    phi.stream, phi.latent = F, inverse  # type: ignore[attr-defined]
    return phi
