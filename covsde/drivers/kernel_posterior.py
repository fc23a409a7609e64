"""Bayesian regression with an infinitely wide network whose features adapt: kernels of the posterior."""

from typing import Any, SupportsFloat

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray
from numpy.typing import NDArray

from covsde.architectures.base import AbstractWithKernelPosterior, PosteriorKernels
from covsde.inputs.arguments import finite_number, instance_of, positive_int
from covsde.inputs.data import Data
from covsde.numerics.keys import generator, typed_key
from covsde.results.kernel_posterior import KernelPosterior
from covsde.run.metadata import run_metadata


def kernel_posterior(
    architecture: AbstractWithKernelPosterior,
    V0: Any,
    *,
    targets: Any,
    temperature: SupportsFloat,
    richness: SupportsFloat = 1.0,
    sets: int = 4,
    key: int | PRNGKeyArray = 0,
) -> KernelPosterior:
    """Posterior outputs and kernels of an infinitely wide network, given targets of some of the inputs.

    The likelihood of a datum is Gaussian of variance T/(γ₀² N), weights are N(0, 1) a priori; richness 0 is regression
    with the neural network Gaussian process and ridge T.

    Args:
        architecture: e.g. MeanFieldMLP("erf", depth=1).
        V0: Gram matrix of all inputs (M, M), positive definite on those with targets.
        targets: (M,), or (M, C) for C outputs; rows of NaN are inputs to predict.
        temperature: T > 0, or 0 for a linear network.
        richness: γ₀ ≥ 0.
        sets: independent sets of nodes for more than three targets, whose spread gives standard errors.
        key: int seed or JAX key, of those.

    Returns:
        A `KernelPosterior`, float64.

    Raises:
        ValueError: for an argument out of range, or if there is no posterior of this richness; the message names it.
        TypeError: for an architecture whose posterior is not known.

    Example:
        ```python
        V0 = [[1.0, 0.4, 0.6], [0.4, 1.0, -0.2], [0.6, -0.2, 1.0]]
        found = cs.kernel_posterior(
            cs.MeanFieldMLP("erf", depth=1), V0, targets=[1.0, -0.7, np.nan], temperature=0.4, richness=2.0
        )
        print(found.outputs, found.nngp_outputs)
        ```

    Source: arXiv 2502.07998; equations in covsde/architectures/mean_field/posterior.py.
    """
    example = 'an architecture with a kernel posterior, such as MeanFieldMLP("erf", depth=1)'
    instance_of("architecture", architecture, AbstractWithKernelPosterior, example)
    T, gamma = finite_number("temperature", temperature), finite_number("richness", richness)
    if T < 0:
        raise ValueError(f"temperature must be at least 0, got {temperature}: it is the variance of the noise.")
    if gamma < 0:
        raise ValueError(f"richness must be at least 0, got {richness}: 0 is the Gaussian process.")
    data = Data(V0, targets)
    rows = np.asarray(data.targets).reshape(data.inputs, -1)
    known = np.isfinite(rows)
    trained = np.flatnonzero(known.all(axis=1))
    if trained.size == 0 or np.any(known.any(axis=1) & ~known.all(axis=1)):
        raise ValueError("targets must be known for at least one input, and for all outputs of an input or none.")
    V = np.asarray(data.V0)
    if np.linalg.eigvalsh(V[np.ix_(trained, trained)])[0] <= 1e-10 * np.max(np.diag(V)):
        raise ValueError("V0 must be positive definite on the inputs with targets: merge repeated inputs into one.")
    start = architecture.sampled_from
    sampled = start is not None and trained.size >= start
    count = positive_int("sets", sets) if sampled else 1
    keys = [jax.random.fold_in(typed_key(key), c) for c in range(count)]
    settings = run_metadata("limit", architecture, V, key, label="posterior at infinite width")
    settings |= {"temperature": T, "richness": gamma, "sets": count, "targets": np.asarray(data.targets).tolist()}
    return _solved(architecture, data, trained, (T, gamma), keys, settings)


def _solved(
    architecture: AbstractWithKernelPosterior,
    data: Data,
    trained: NDArray[np.int_],
    measure: tuple[float, float],
    keys: list[PRNGKeyArray],
    settings: dict[str, Any],
) -> KernelPosterior:
    """From sets of nodes, at a temperature and a richness: means, with standard errors from their spread."""
    rows = np.asarray(data.targets).reshape(data.inputs, -1)
    order = np.append(trained, np.setdiff1d(np.arange(data.inputs), trained))
    T, gamma = measure
    with jax.enable_x64(True), generator():
        V, y = jnp.asarray(np.asarray(data.V0)[np.ix_(order, order)]), jnp.asarray(rows[trained])
        found = [architecture.kernel_posterior(V, y, T, gamma, key) for key in keys]
        plain = [architecture.kernel_posterior(V, y, T, 0.0, key) for key in keys]
    back = np.argsort(order)
    single = np.asarray(data.targets).ndim == 1 and not data.column

    def of(parts: list[PosteriorKernels], name: str) -> NDArray[np.float64]:
        return np.stack([np.asarray(getattr(part, name), np.float64) for part in parts])

    def rows_of(x: NDArray[Any]) -> NDArray[Any]:
        return x[..., 0] if single else x

    outputs, Phi = rows_of(of(found, "outputs")[:, back]), of(found, "Phi")[:, :, back][:, :, :, back]
    effective = min(part.effective_nodes for part in found)
    settings |= {"effective_nodes": effective if np.isfinite(effective) else None}
    sampled = architecture.sampled_from is not None and trained.size >= architecture.sampled_from
    return KernelPosterior(
        targets=np.asarray(data.targets)[:, None] if data.column else np.asarray(data.targets),
        trained=trained,
        outputs=outputs.mean(axis=0),
        Phi=Phi.mean(axis=0),
        nngp_outputs=rows_of(of(plain, "outputs")[:, back].mean(axis=0)),
        alpha=rows_of(of(found, "alpha").mean(axis=0)),
        tilt=of(found, "tilt").mean(axis=0),
        log_evidence=np.asarray(of(found, "log_evidence").mean(axis=0)),
        standard_error={"outputs": _error(outputs, sampled), "Phi": _error(Phi, sampled)},
        metadata=settings,
    )


def _error(x: NDArray[np.float64], sampled: bool) -> NDArray[np.float64]:
    """Of the mean over sets of nodes."""
    if not sampled:
        return np.zeros(x.shape[1:])
    return x.std(axis=0, ddof=1) / np.sqrt(len(x)) if len(x) > 1 else np.full(x.shape[1:], np.nan)
