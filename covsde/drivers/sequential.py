"""Bayesian regression with paths that are steered to the data: a particle filter in layer time.

All paths start at V₀, and what the data say about a path can be told, roughly, long before its end. Particles are
weighed at stages in between and resampled, after which noise makes the copies different again: so an evidence that no
path of the prior comes near is reached in small steps, and its estimate stays unbiased.

Source: Del Moral, Doucet, Jasra (2006), sequential Monte Carlo samplers; Bayes' rule for the Gaussian mixture of
`OutputLaw`, arXiv 2605.30860.
"""

import warnings
from collections.abc import Sequence
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray
from numpy.typing import NDArray

from covsde.architectures.base import AbstractArchitecture
from covsde.covariance.clock import AbstractClock
from covsde.covariance.limit import AbstractCovarianceLimit, AbstractLimit
from covsde.covariance.lookahead import Observations, log_lookahead
from covsde.inputs.arguments import instance_of, positive_int, untraced
from covsde.inputs.data import check_observations
from covsde.inputs.gram import check_gram
from covsde.numerics.keys import generator, typed_key
from covsde.results.estimate import Estimate
from covsde.results.posterior import Posterior, as_targets, pareto_shape, regressions, warn_of_weights
from covsde.results.status import FailedPathsWarning
from covsde.run.grid import time_grid
from covsde.run.outcome import to_matrices
from covsde.run.plan import precision
from covsde.solvers import refuse_zero_input
from covsde.solvers.chunk import as_arrays
from covsde.solvers.filtered import Filtered, filtered

_KIND = np.dtype(np.float64)

# Of the layers still to come, the share that weights look ahead. All of it is right for linear networks with little
# noise and too much for others; none makes weights of unlikely data two to four times as uneven.
_AHEAD = 0.5


class _Potential(eqx.Module):
    """log F as a linear network would have it after part of the remaining layers."""

    data: Observations
    clock: AbstractClock | None

    def __call__(self, V: Float[Array, "paths m m"], tau: Float[Array, ""]) -> Float[Array, " paths"]:
        remaining = jnp.zeros(()) if self.clock is None else self.clock.elapsed(tau, 1.0)
        return log_lookahead(self.data, V, _AHEAD * remaining)


def sequential_posterior(
    architecture: AbstractArchitecture,
    V0: Any,
    targets: Any,
    noise_variance: float,
    *,
    observed: Sequence[int] | None = None,
    paths: int = 4000,
    replicates: int = 8,
    steps: int | None = None,
    stages: int | Sequence[float] = 32,
    solver: diffrax.AbstractSolver | None = None,
    key: int | PRNGKeyArray = 0,
) -> Posterior:
    """Evidence, predictive mean and posterior-mean kernel of an architecture's limit by sequential Monte Carlo.

    Args:
        architecture: e.g. MLP(ShapedReLU(0, -1), depth_to_width=1.0).
        V0: input Gram matrix (m, m) over observed inputs and those to predict.
        targets: y, shape (P,), or (P, outputs) for outputs that share the hidden layers.
        noise_variance: σ² > 0.
        observed: indices of the P observed inputs; default: the first P.
        paths: number of particles, of all replicates together; 1 if the limit is deterministic.
        replicates: independent filters that share them, at least 2.
        steps: solver steps over unit layer time; default: the architecture's own, and at least one a stage.
        stages: number of equal parts of layer time at whose ends particles are weighed, or those layer times.
        solver: one of `covsde.solvers`; default: the architecture's own.
        key: int seed or JAX key.

    Returns:
        A Posterior of the last layer, with weights of the particles, replicate after replicate. Replicates count by
        their evidence. Standard errors are from the spread of replicates; the estimate of the evidence is unbiased.
        A path that stops has likelihood 0, so that the evidence is E[F; alive].

    Raises:
        ValueError: if shapes disagree, an argument is out of range, or no particle is left.
        TypeError: for an activation without a limit of this kind.

    Warns:
        FailedPathsWarning: if particles stopped.
        EffectiveSampleSizeWarning: if the effective sample size is below 100, or the weights' Pareto shape above 0.7.

    Source: arXiv 2605.30860 for the posterior; Del Moral, Doucet, Jasra (2006) for the method.

    Example:
        ```python
        relu = cs.MLP(cs.ShapedReLU(0.0, -1.0), depth_to_width=0.5)
        p = cs.sequential_posterior(relu, [[1.0, 0.3], [0.3, 1.0]], [1.2], 0.1, paths=400, stages=8)
        ```
    """
    instance_of("architecture", architecture, AbstractArchitecture, "an architecture such as MLP(ShapedReLU(0, -1))")
    untraced("architecture", architecture)
    V0 = check_gram(V0, _KIND)
    y, chosen, noise = check_observations(targets, observed, noise_variance, V0.shape[0])
    replicates = positive_int("replicates", replicates, least=2)
    paths = positive_int("paths", paths, least=2 * replicates)
    sde = architecture.limit()
    solver = architecture.default_solver() if solver is None else solver
    size = -(-paths // replicates)
    if sde.deterministic:
        size = replicates = 1
    times = _times(architecture, sde, solver, V0, steps, stages)
    typed, found = typed_key(key), []
    with precision(_KIND), generator():
        equation = as_arrays(sde, _KIND)
        clock = equation.noise_clock if isinstance(equation, AbstractCovarianceLimit) else None
        data = Observations(jnp.asarray(y), jnp.asarray(chosen), jnp.asarray(noise))
        initial, grid = jnp.asarray(V0), jnp.asarray(times)
        for r in range(replicates):
            one = filtered(
                equation, solver, initial, jax.random.fold_in(typed, r), grid, _Potential(data, clock), paths=size
            )
            found.append(jax.tree.map(np.asarray, one))
    return _collected(found, (y, chosen, noise), targets, times.shape[0], sde.deterministic)


def _times(
    architecture: AbstractArchitecture,
    sde: AbstractLimit,
    solver: Any,
    V0: NDArray[np.float64],
    steps: int | None,
    stages: int | Sequence[float],
) -> NDArray[np.float64]:
    """Layer times of the steps of each stage, (stages, steps of a stage + 1)."""
    if np.ndim(stages) == 0:
        save = np.linspace(0, 1, positive_int("stages", stages) + 1).tolist()
    else:
        save = list(np.asarray(stages, np.float64))
    least = architecture.default_steps(V0) if steps is None else positive_int("steps", steps)
    grid, every = time_grid(least, save)
    if isinstance(solver, type) or not hasattr(solver, "check"):
        raise ValueError(f"solver must be one of covsde.solvers, such as Strang(), got {solver!r}.")
    solver.check(sde, V0.shape[0], float(np.max(np.diff(grid))), f"steps={least}")
    refuse_zero_input(solver, V0)
    starts = np.arange(0, grid.size - 1, every)
    return np.asarray(grid[starts[:, None] + np.arange(every + 1)])


def _collected(
    found: list[Filtered], observations: tuple[Any, Any, float], targets: Any, stages: int, deterministic: bool
) -> Posterior:
    log_Z = np.array([float(one.log_evidence) for one in found])
    top, replicates, stopped = log_Z.max(), len(found), int(sum(one.stopped for one in found))
    size = found[0].log_weights.size
    if not np.isfinite(top):
        raise ValueError("architecture leaves no particle: lower depth_to_width, or use more paths or steps.")
    if stopped:
        warnings.warn(
            f"{stopped} of {replicates * size} particles stopped before the last layer: they count as paths of "
            "likelihood 0.",
            FailedPathsWarning,
            stacklevel=3,
        )
    shares = np.exp(log_Z - top)
    mean_Z, shares = shares.mean(), shares / shares.sum()
    spread = np.nan if replicates < 2 else np.exp(log_Z - top).std(ddof=1) / mean_Z / np.sqrt(replicates)
    evidence = Estimate(np.asarray(top + np.log(mean_Z)), np.asarray(0.0 if deterministic else spread))
    weights, families, predictions, kernels, covariances = [], 0.0, [], [], []
    for one, share in zip(found, shares, strict=True):
        w = np.exp(one.log_weights - np.max(one.log_weights)) if share > 0 else np.zeros(size)
        w = w / max(w.sum(), np.finfo(float).tiny)
        m = round((np.sqrt(8 * one.entries.shape[0] + 1) - 1) / 2)
        V = to_matrices(np.asarray(one.entries)[None], m)[0]
        _, f = regressions(V, *observations)
        predictions.append(np.einsum("p,pik->ik", w, f))
        kernels.append(np.einsum("p,pij->ij", w, V))
        families += share**2 * float(np.sum(np.bincount(one.family, w) ** 2))
        covariances.append(V)
        weights.append(share * w)
    joined = np.concatenate(weights)
    ess = float(1 / np.sum(joined**2))
    with np.errstate(divide="ignore"):
        k = pareto_shape(np.log(joined))
    if not deterministic:
        warn_of_weights(ess, k, joined.size, "use more paths or stages, or a larger noise_variance")

    def estimate(x: list[NDArray[np.float64]]) -> Estimate:
        values = np.stack(x)
        mean = np.tensordot(shares, values, 1)
        if deterministic:
            return Estimate(mean, np.zeros_like(mean))
        # Delta method for the ratio of means over replicates.
        parts = np.tensordot(shares**2, (values - mean) ** 2, 1)
        return Estimate(mean, np.sqrt(parts * replicates / (replicates - 1)))

    prediction = as_targets(targets, estimate(predictions))
    return Posterior(
        evidence,
        prediction,
        estimate(kernels),
        joined,
        ess,
        stopped,
        pareto_k=k,
        families=1 / families,
        stages=stages,
        replicates=replicates,
        V=np.concatenate(covariances),
    )
