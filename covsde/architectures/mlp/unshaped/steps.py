"""The linear SDE of w as Diffrax terms, and a splitting step for it."""

import math
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from covsde.architectures.mlp.unshaped.equations import SingularSDE, UnshapedReLU
from covsde.covariance.clock import Time
from covsde.solvers.layout import standard_normals


class PairState(NamedTuple):
    """An ensemble at one layer time.

    Attributes:
        w: (paths,) 1/(n√(1-ρ)).
        log_variance: (paths,) log V of the first input, relative to its start.
    """

    w: Float[Array, " paths"]
    log_variance: Float[Array, " paths"]


class _Noise(diffrax.AbstractTerm):
    """-√(M/3) w dB and √(M-1) dB', from two independent rows of Brownian increments."""

    sde: SingularSDE
    path: diffrax.AbstractPath

    def vf(self, t: Time, y: PairState, args: object) -> PairState:
        """The volatilities of w and log V per root of layer time."""
        root = jnp.sqrt(self.sde.clock)
        flat = jnp.broadcast_to(root * jnp.sqrt(self.sde.M - 1), y.w.shape)
        return PairState(-root * jnp.sqrt(self.sde.growth) * y.w, flat)

    def contr(self, t0: Time, t1: Time, **_: object) -> PairState:
        """Increments of B and B', with correlation -√(M/(3(M-1)))."""
        M = self.sde.M
        first, second = self.path.evaluate(t0, t1)
        r = -jnp.sqrt(M / (3 * (M - 1)))
        return PairState(first, r * first + jnp.sqrt(1 - r * r) * second)

    def prod(self, vf: PairState, control: PairState) -> PairState:
        """Each volatility times its own increment."""
        return jax.tree.map(lambda a, b: a * b, vf, control)


def singular_terms(sde: SingularSDE, path: diffrax.AbstractPath) -> diffrax.MultiTerm:
    """The SDE as `MultiTerm(drift, noise)` on `PairState`, for `LinearSplitting()` or `diffrax.Euler()`.

    Args:
        sde: the equation.
        path: Brownian path over layer time whose increments have shape (2, paths).
    """

    def drift(t: Time, y: PairState, args: object) -> PairState:
        M = sde.M
        rate = PairState(sde.source + sde.growth * y.w, jnp.broadcast_to(-(M - 1) / 2, y.w.shape))
        return jax.tree.map(lambda b: sde.clock * b, rate)

    return diffrax.MultiTerm(diffrax.ODETerm(drift), _Noise(sde, path))


class LinearSplitting(diffrax.AbstractItoSolver):
    """Half of the source, the exact geometric Brownian motion, half of the source: orders 1 (strong) and 2 (weak).

    w ↦ E (w + s) + s with E = exp((M/6) h - √(M/3) ΔB). The half-sources s are such that E w_t is exact at every step
    size. w and q stay positive, and log V is exact.
    """

    term_structure: ClassVar = diffrax.MultiTerm[tuple[diffrax.ODETerm, diffrax.AbstractTerm]]
    interpolation_cls: ClassVar[Callable[..., diffrax.LocalLinearInterpolation]] = diffrax.LocalLinearInterpolation

    def order(self, terms: Any) -> int:
        """Weak order."""
        return 2

    def strong_order(self, terms: Any) -> float:
        """Order of paths driven by a given Brownian motion."""
        return 1.0

    def init(self, terms: Any, t0: Any, t1: Any, y0: Any, args: Any) -> None:
        """No state between steps."""
        return

    def step(
        self, terms: Any, t0: Any, t1: Any, y0: PairState, args: Any, solver_state: None, made_jump: Any
    ) -> tuple[Any, None, Any, None, Any]:
        """One step."""
        drift, noise = terms.terms
        dt, dB = drift.contr(t0, t1), noise.contr(t0, t1)
        # The drift is affine in w and the noise linear, so their values at w = 0 and w = 1 say all about them.
        rest = drift.vf(t0, PairState(jnp.zeros_like(y0.w), y0.log_variance), args)
        one = PairState(jnp.ones_like(y0.w), y0.log_variance)
        growth = drift.vf(t0, one, args).w - rest.w
        volatility = noise.vf(t0, one, args)
        factor = jnp.exp((growth - volatility.w**2 / 2) * dt + volatility.w * dB.w)
        half = rest.w * jnp.tanh(growth * dt / 2) / growth
        y1 = PairState(
            factor * (y0.w + half) + half,
            y0.log_variance + rest.log_variance * dt + volatility.log_variance * dB.log_variance,
        )
        return y1, None, {"y0": y0, "y1": y1}, None, diffrax.RESULTS.successful

    def func(self, terms: Any, t0: Any, y0: Any, args: Any) -> Any:
        """The equation at (t0, y0)."""
        return terms.vf(t0, y0, args)


@eqx.filter_jit
def solve_singular(
    sde: SingularSDE,
    solver: Any,
    w0: Float[Array, ""],
    key: Array,
    grid: Float[Array, " steps"],
    *,
    paths: int,
    every: int,
) -> Float[Array, "times 2 paths"]:
    """Paths of (w, log V) on a grid of layer times, saved at every so many steps."""
    path = diffrax.UnsafeBrownianPath(shape=jax.ShapeDtypeStruct((2, paths), w0.dtype), key=key)
    steps = grid.shape[0] - 1
    solution = diffrax.diffeqsolve(
        singular_terms(sde, path),
        solver,
        t0=grid[0],
        t1=grid[-1],
        dt0=None,
        y0=PairState(jnp.broadcast_to(w0, (paths,)), jnp.zeros((paths,), w0.dtype)),
        stepsize_controller=diffrax.StepTo(ts=grid),
        saveat=diffrax.SaveAt(t0=True, steps=every, fn=lambda t, y, args: jnp.stack(y)),
        adjoint=diffrax.ForwardMode(),
        max_steps=steps,
    )
    return solution.ys[: 1 + steps // every]


@eqx.filter_jit
def run_chain(
    layer: UnshapedReLU,
    eps0: Float[Array, ""],
    key: Array,
    *,
    width: int,
    depth: int,
    paths: int,
    layers: tuple[int, ...],
) -> tuple[Float[Array, "times 2 paths"], Int[Array, " paths"]]:
    """The first-order chain of (ε, log V) at chosen layers, and how many layers each path stayed in 0 < ε ≤ 2.

    Given ε the pair (ρ', log V') is Gaussian with the mean and covariance of one layer to first order in 1/n. A path
    stands still after the step that takes it out.
    """
    M = layer.M

    def one(carry: tuple[Array, Array, Array], index: Array) -> tuple[tuple[Array, Array, Array], Array]:
        eps, log_variance, valid = carry
        xi = standard_normals(jax.random.fold_in(key, index), 2, paths, eps.dtype)
        sigma = layer.sigma(eps)
        step = layer.mean_defect(eps) - layer.mu(eps) / width - sigma * xi[0] / math.sqrt(width)
        fluctuation = jnp.sqrt(M - 1)
        r = layer.covariance_with_log_variance(eps) / jnp.where(sigma > 0, sigma * fluctuation, 1)
        eta = r * xi[0] + jnp.sqrt(jnp.maximum(1 - r * r, 0)) * xi[1]
        good = (valid == index) & (step > 0) & (step <= 2)
        change = -(M - 1) / (2 * width) + fluctuation * eta / math.sqrt(width)
        carry = (
            jnp.where(good, step, eps),
            jnp.where(good, log_variance + change, log_variance),
            valid + good.astype(valid.dtype),
        )
        return carry, jnp.stack(carry[:2])

    start = (jnp.broadcast_to(eps0, (paths,)), jnp.zeros((paths,), eps0.dtype), jnp.zeros((paths,), int))
    (_, _, valid), path = jax.lax.scan(one, start, jnp.arange(depth))
    return jnp.concatenate([jnp.stack(start[:2])[None], path])[jnp.asarray(layers)], valid
