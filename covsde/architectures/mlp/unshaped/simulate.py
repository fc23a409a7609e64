"""Front doors for two inputs through an unshaped (leaky) ReLU MLP: the limit, finite networks, and the chain between.

All three return an `UnshapedEnsemble`. The activation has no regular covariance SDE; what converges is
q = ℓ²(1-ρ_ℓ) in t = ℓ/n.

Source: Li, Nica (2023), arXiv 2310.12079; Li, Nica, Roy (2022), arXiv 2206.02768.
"""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray

from covsde.architectures.mlp.architecture import MLP
from covsde.architectures.mlp.unshaped.ensemble import UnshapedEnsemble
from covsde.architectures.mlp.unshaped.equations import SingularSDE, UnshapedReLU, unshaped
from covsde.architectures.mlp.unshaped.network import Slopes, sample_pairs_law
from covsde.architectures.mlp.unshaped.steps import LinearSplitting, run_chain, solve_singular
from covsde.descent.task import Sizes
from covsde.inputs.arguments import finite_number, instance_of, positive_int, untraced
from covsde.numerics.keys import recorded_generator, recorded_key, typed_key
from covsde.results.status import PathStatus
from covsde.run.checkpoint import Arrays
from covsde.run.chunks import Chunks
from covsde.run.grid import saved_layers, time_grid
from covsde.run.memory import fitting
from covsde.run.metadata import hyperparameters, versions
from covsde.run.plan import Plan, question

# Entries (times, 2, paths): w and log V; status and stop (paths,) of one chunk.
One = Callable[[PRNGKeyArray, int], Arrays]
PATH_AXES = {"entries": -1, "status": 0, "stop": 0}


@question
def simulate_unshaped(
    mlp: Any,
    rho0: Any = None,
    *,
    width: int | None = None,
    paths: int = 10_000,
    key: int | PRNGKeyArray = 0,
    steps: int | None = None,
    save_at: Any = None,
    solver: diffrax.AbstractSolver | None = None,
    chunk: int | None = None,
    progress: bool | None = None,
    checkpoint: str | Path | None = None,
) -> Plan[UnshapedEnsemble]:
    """Sample paths of w = 1/(n√(1-ρ)) and log V in the limit of an unshaped (leaky) ReLU MLP.

    Without `rho0` and `width` the limit starts from w₀ = 0, whatever the inputs: the correlation is forgotten. With
    both it starts from w₀ = 1/(n√(1-ρ₀)), which takes up the largest effect of a finite width. What remains is of
    order log(n)/n, so expect ten per cent at n = 200.

    Args:
        mlp: MLP(LeakyReLU(slope), depth_to_width=T).
        rho0: correlation of the two inputs, in [-1, 1).
        width: n of the networks to compare with.
        paths: number of independent paths.
        key: int seed or JAX key; the result depends on it and on `chunk`, not on the number of devices.
        steps: solver steps over unit layer time; default 16 per unit of the larger of T and T M/6.
        save_at: layer times to keep, each hit exactly, with 0 and 1; default: every step up to 20 steps, else tenths.
        solver: LinearSplitting() (default) or diffrax.Euler().
        chunk: paths solved at a time; bounds the memory.
        progress: show a bar; default: on a terminal.
        checkpoint: folder for finished chunks; an interrupted call with the same arguments resumes from it.

    Returns:
        An UnshapedEnsemble of kind "limit", float64.

    Raises:
        ValueError: for an argument out of range, or only one of rho0 and width.
        TypeError: for an activation that is not unshaped piecewise linear.

    Source: arXiv 2310.12079 (singular SDE of q); here in w = t/√q, where it is linear.
    """
    layer = _layer(mlp)
    if float(layer.lam) == 0:
        raise ValueError("mlp has a linear activation, for which 1-ρ does not shrink: use simulate with Identity().")
    if (rho0 is None) != (width is None):
        raise ValueError("rho0 and width must be given together (w₀ = 1/(n√(1-ρ₀))), or neither of them (w₀ = 0).")
    n = None if width is None else positive_int("width", width)
    w0 = 0.0 if rho0 is None or n is None else 1 / (n * math.sqrt(_one_minus(rho0)))
    T = mlp.depth_to_width
    if steps is None:
        steps = 16 * max(1, math.ceil(T * max(1.0, float(layer.M) / 6) - 1e-9))
    steps = positive_int("steps", steps)
    grid, every = time_grid(steps, None if save_at is None else np.ravel(save_at).tolist())
    tau = grid[::every]
    solver = LinearSplitting() if solver is None else solver
    # Others of Diffrax solve the Stratonovich equation, or refuse its noise: another law.
    if not isinstance(solver, LinearSplitting) and type(solver) is not diffrax.Euler:
        raise ValueError(
            f"solver must be LinearSplitting() or diffrax.Euler(), which solve the Itô SDE, got {solver!r}."
        )
    sde = SingularSDE(float(layer.lam), float(layer.M), T)

    def one(chunk_key: PRNGKeyArray, size: int) -> Arrays:
        equation = jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), sde)
        start, times = jnp.asarray(w0, jnp.float64), jnp.asarray(grid, jnp.float64)
        values = np.asarray(solve_singular(equation, solver, start, chunk_key, times, paths=size, every=every))
        finite = np.all(np.isfinite(values), axis=1) & (values[:, 0] >= 0)
        broken = ~np.all(finite, axis=0)
        stop = np.where(broken, tau[np.maximum(np.argmin(finite, axis=0) - 1, 0)], 1.0)
        gone = broken & (tau[:, None] > stop)
        status = np.where(broken, PathStatus.NOT_FINITE, PathStatus.FINE).astype(np.int8)
        return {"entries": np.where(gone[:, None], np.nan, values), "status": status, "stop": stop}

    settings = {"label": "limit", "solver": type(solver).__name__, "steps": len(grid) - 1, "clock": T, "w0": w0}
    settings |= {} if n is None else {"width": n}
    total = positive_int("paths", paths)
    most = fitting(tau.size, 2**24, least=64, most=32_768)
    how = _How(total, min(total, most) if chunk is None else chunk, progress, checkpoint)
    return _plan(mlp, rho0, tau, one, key, {"kind": "limit", **settings}, how)


@question
def sample_unshaped_networks(
    mlp: Any,
    rho0: Any,
    *,
    width: int,
    draws: int = 2000,
    key: int | PRNGKeyArray = 1,
    depth: int | None = None,
    save_at: Any = None,
    chunk: int | None = None,
    progress: bool | None = None,
    checkpoint: str | Path | None = None,
) -> Plan[UnshapedEnsemble]:
    """Sample two inputs through finite unshaped (leaky) ReLU networks, exact in law, with 1-ρ to relative precision.

    Networks with a dead layer (no active neuron for one of the inputs) stop there with status DEAD, and networks in
    which the inputs become exactly parallel (a single active neuron) with status PARALLEL.

    Args:
        mlp: MLP(LeakyReLU(slope), depth_to_width=T).
        rho0: correlation of the two inputs, in [-1, 1).
        width: neurons per layer, n.
        draws: number of independent networks.
        key: int seed or JAX key.
        depth: number of hidden layers; default round(T n).
        save_at: layer times to keep, rounded to layers ℓ/depth; default: tenths. 0 and 1 are always kept.
        chunk: networks sampled at a time; bounds the memory.
        progress: show a bar; default: on a terminal.
        checkpoint: folder for finished chunks; an interrupted call with the same arguments resumes from it.

    Returns:
        An UnshapedEnsemble of kind "network", float64.

    Raises:
        ValueError: for an argument out of range.
        TypeError: for an activation that is not unshaped piecewise linear.

    Source: arXiv 2206.02768, section 2 (the network).
    """
    layer = _layer(mlp)
    n, L, eps0 = positive_int("width", width), _depth(mlp, width, depth), _one_minus(rho0)
    layers, tau = saved_layers(save_at, L, 10)

    def one(chunk_key: PRNGKeyArray, size: int) -> Arrays:
        slopes = Slopes(float(layer.s_plus), float(layer.s_minus), float(layer.c))
        start = jnp.asarray(eps0, jnp.float64)
        values, lived, status = sample_pairs_law(start, chunk_key, slopes, Sizes(L, layers, size, n))
        return _stopped(np.asarray(values), np.asarray(lived), np.asarray(status), n, L, layers)

    settings = {"label": f"networks, width {n}", "width": n, "depth": L, "clock": L / n}
    total = positive_int("draws", draws)
    most = fitting(n, 2**20, least=16, most=4096)
    how = _How(total, min(total, most) if chunk is None else chunk, progress, checkpoint)
    return _plan(mlp, rho0, tau, one, key, {"kind": "network", **settings}, how)


@question
def first_order_chain(
    mlp: Any,
    rho0: Any,
    *,
    width: int,
    paths: int = 10_000,
    key: int | PRNGKeyArray = 0,
    depth: int | None = None,
    save_at: Any = None,
    chunk: int | None = None,
    progress: bool | None = None,
    checkpoint: str | Path | None = None,
) -> Plan[UnshapedEnsemble]:
    """Sample the first-order Markov chain of the correlation of two inputs, and of log V, layer by layer.

    ρ_{ℓ+1} = K(ρ_ℓ) + μ(ρ_ℓ)/n + σ(ρ_ℓ)ξ_ℓ/√n with ξ normal, jointly with the increment of log V. It costs one pair of
    normals a layer instead of 2n. Steps that leave [-1, 1] stop their path with status LOST_PSD.

    Args:
        mlp: MLP(LeakyReLU(slope), depth_to_width=T).
        rho0: correlation of the two inputs, in [-1, 1).
        width: neurons per layer, n.
        paths: number of independent chains.
        key: int seed or JAX key.
        depth: number of steps; default round(T n).
        save_at: layer times to keep, rounded to layers ℓ/depth; default: tenths. 0 and 1 are always kept.
        chunk: chains run at a time; bounds the memory.
        progress: show a bar; default: on a terminal.
        checkpoint: folder for finished chunks; an interrupted call with the same arguments resumes from it.

    Returns:
        An UnshapedEnsemble of kind "chain", float64.

    Raises:
        ValueError: for an argument out of range.
        TypeError: for an activation that is not unshaped piecewise linear.

    Source: arXiv 2206.02768, the Markov chain of the unshaped ReLU.
    """
    layer = _layer(mlp)
    n, L, eps0 = positive_int("width", width), _depth(mlp, width, depth), _one_minus(rho0)
    layers, tau = saved_layers(save_at, L, 10)

    def one(chunk_key: PRNGKeyArray, size: int) -> Arrays:
        arrays = jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), layer)
        start = jnp.asarray(eps0, jnp.float64)
        values, lived = run_chain(arrays, start, chunk_key, width=n, depth=L, paths=size, layers=layers)
        status = np.where(np.asarray(lived) < L, PathStatus.LOST_PSD, PathStatus.FINE)
        return _stopped(np.asarray(values), np.asarray(lived), status, n, L, layers)

    settings = {"label": f"chain, width {n}", "width": n, "depth": L, "clock": L / n}
    total = positive_int("paths", paths)
    most = fitting(L + 1, 2**24, least=64, most=8192)
    how = _How(total, min(total, most) if chunk is None else chunk, progress, checkpoint)
    return _plan(mlp, rho0, tau, one, key, {"kind": "chain", **settings}, how)


def _layer(mlp: Any) -> UnshapedReLU:
    instance_of("mlp", mlp, MLP, "an MLP such as MLP(LeakyReLU(0.0), depth_to_width=1.0)")
    untraced("mlp", mlp)
    mlp.require_plain("the unshaped limit, with its chain and its networks,")
    return unshaped(mlp.activation)


def _one_minus(rho0: Any) -> float:
    eps = 1 - finite_number("rho0", rho0)
    if not 0 < eps <= 2:
        raise ValueError(f"rho0 must be a correlation in [-1, 1), got {rho0}: parallel inputs stay parallel.")
    return eps


def _depth(mlp: MLP, width: Any, depth: Any) -> int:
    return mlp.depth(width) if depth is None else positive_int("depth", depth)


def _stopped(
    values: np.ndarray, lived: np.ndarray, status: np.ndarray, width: int, depth: int, layers: tuple[int, ...]
) -> Arrays:
    # (ε, log V) to (w, log V), with nothing finite after a path's last good layer.
    with np.errstate(divide="ignore"):
        w = 1 / (width * np.sqrt(values[:, 0]))
    after = np.asarray(layers)[:, None] > lived
    w = np.where(after, np.where(status == PathStatus.PARALLEL, np.inf, np.nan), w)
    log_variance = np.where(after, np.nan, values[:, 1])
    stop = np.where(status == PathStatus.FINE, 1.0, lived / depth)
    return {"entries": np.stack([w, log_variance], axis=1), "status": status.astype(np.int8), "stop": stop}


class _How(NamedTuple):
    """How many paths, how many at a time, and what is shown and kept meanwhile."""

    total: int
    chunk: Any
    progress: bool | None
    checkpoint: str | Path | None


def _plan(
    mlp: MLP, rho0: Any, tau: np.ndarray, one: One, key: Any, settings: dict[str, Any], how: _How
) -> Plan[UnshapedEnsemble]:
    chunk = positive_int("chunk", how.chunk)
    metadata = {
        **hyperparameters(mlp),
        "rho0": None if rho0 is None else float(rho0),
        "source": float(_layer(mlp).lam) * math.sqrt(2) / (3 * math.pi),
        "seed": recorded_key(key),
        "generator": recorded_generator(key),
        "paths": how.total,
        "chunk": chunk,
        "save_at": tau.tolist(),
        "versions": versions(),
        **settings,
    }

    def collect(found: Arrays, metadata: dict[str, Any]) -> UnshapedEnsemble:
        w, log_variance = found["entries"][:, 0], found["entries"][:, 1]
        return UnshapedEnsemble(tau, w, log_variance, found["status"], found["stop"], metadata)

    chunks = Chunks(one, lambda part: part, PATH_AXES, typed_key(key), how.total, chunk, settings["kind"])
    return Plan(chunks, metadata, np.dtype(np.float64), collect, 16 * tau.size, how.progress, how.checkpoint)
