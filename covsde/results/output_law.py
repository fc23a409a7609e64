"""The law of a network's outputs: given the last covariance they are Gaussian, so they are a Gaussian mixture.

z_out | V ~ N(0, V) for each output, independently over outputs; exact at finite width too.

Source: Noci et al. (2021), arXiv 2106.06615; Zavatone-Veth, Pehlevan (2021), arXiv 2104.11734.
"""

import math
import warnings
from typing import Any

import jax
import numpy as np
from jaxtyping import PRNGKeyArray
from numpy.typing import NDArray

from covsde.inputs.arguments import instance_of, positive_int
from covsde.numerics.keys import generator, typed_key
from covsde.results.ensemble import Ensemble
from covsde.results.estimate import Estimate
from covsde.results.status import FailedPathsWarning

# Values held at once while densities are averaged over paths.
_BLOCK = 2**22


def valid_covariances(ensemble: Any, tau: float, use: str) -> NDArray[np.float64]:
    """V (paths, m, m) of the paths that are valid at a saved layer time, with a warning that counts the others."""
    instance_of("ensemble", ensemble, Ensemble, "an Ensemble such as simulate(mlp, V0)")
    gap = np.abs(ensemble.tau - tau)
    k = int(np.argmin(gap))
    if not gap[k] <= 1e-9:
        raise ValueError(f"tau={tau} was not saved: choose one of {np.round(ensemble.tau, 6).tolist()}.")
    valid = ensemble.alive[k]
    if not valid.any():
        raise ValueError(f"ensemble has no path left at layer time τ={ensemble.tau[k]:.4g}: take an earlier tau.")
    if not valid.all():
        warnings.warn(
            f"{int(np.sum(~valid))} of {ensemble.paths} paths had stopped by layer time τ={ensemble.tau[k]:.4g}: {use} "
            "is conditional on survival.",
            FailedPathsWarning,
            stacklevel=3,
        )
    return np.asarray(ensemble.V[k, valid], dtype=np.float64)


class OutputLaw:
    """The predictive prior: outputs of the network on the m inputs, a Gaussian mixture over the paths of an ensemble.

    Args:
        ensemble: from `simulate` or `sample_networks`.
        tau: a saved layer time; the outputs are read there.

    Raises:
        ValueError: if tau was not saved, or no path is valid there.

    Warns:
        FailedPathsWarning: if paths had stopped: the law is then conditional on survival.

    Attributes:
        V: the covariances of the mixture, shape (paths, m, m), float64.

    Source: arXiv 2106.06615, 2104.11734: outputs are Gaussian given the last covariance.
    """

    V: NDArray[np.float64]

    def __init__(self, ensemble: Any, tau: float = 1.0):
        self.V = valid_covariances(ensemble, tau, "the output law")

    def atom(self, i: int = 0) -> Estimate:
        """Probability that the output on input `i` is exactly 0: the share of networks with a dead layer.

        Returns:
            Probability and binomial standard error, each of shape ().
        """
        dead = self.V[:, i, i] == 0
        p = np.mean(dead)
        return Estimate(np.asarray(p), np.asarray(math.sqrt(p * (1 - p) / dead.size)))

    def density(self, f: Any, i: int = 0) -> Estimate:
        """Density of one output on input `i`.

        Args:
            f: points, any shape.
            i: the input.

        Returns:
            Density and its Monte Carlo standard error, each of the shape of f. Where networks have died the density
            integrates to 1 - atom. Near f = 0 it averages V^{-1/2}, in the tails it rests on few paths: read the error.
        """
        points = np.asarray(f, dtype=np.float64)
        v = self.V[:, i, i]
        safe = np.where(v > 0, v, 1)
        flat = points.reshape(-1)
        values = [np.where(v > 0, np.exp(-x * x / (2 * safe)) / np.sqrt(2 * math.pi * safe), 0) for x in flat]
        return _over_paths(values, points.shape)

    def joint_density(self, f: Any, inputs: Any = None) -> Estimate:
        """Joint density of one output on several inputs.

        Args:
            f: points, shape (..., k), one coordinate per input.
            inputs: the k inputs; default: all m.

        Returns:
            Density and its Monte Carlo standard error, each (...).

        Raises:
            ValueError: if the last axis of f does not match the inputs.

        Warns:
            FailedPathsWarning: if some covariances are singular to rounding. They put their mass on a subspace, and
                the density integrates to the share of the others.
        """
        chosen = np.arange(self.V.shape[1]) if inputs is None else np.atleast_1d(np.asarray(inputs, dtype=int))
        points = np.asarray(f, dtype=np.float64)
        if points.ndim == 0 or points.shape[-1] != chosen.size:
            raise ValueError(f"f must have shape (..., {chosen.size}), one coordinate per input, got {points.shape}.")
        V = self.V[:, chosen[:, None], chosen]
        values, vectors = np.linalg.eigh(V)
        regular = values[:, 0] > 16 * chosen.size * np.finfo(np.float64).eps * values[:, -1]
        if not regular.all():
            warnings.warn(
                f"{int(np.sum(~regular))} of {regular.size} covariances are singular: their mass is on a subspace and "
                "is left out of the density.",
                FailedPathsWarning,
                stacklevel=2,
            )
        values = np.where(regular[:, None], values, 1)
        log_norm = -0.5 * np.sum(np.log(2 * math.pi * values), axis=1)
        roots = vectors / np.sqrt(values)[:, None, :]
        densities = []
        for x in points.reshape(-1, chosen.size):
            squared = np.sum(np.einsum("a,pab->pb", x, roots) ** 2, axis=1)
            densities.append(np.where(regular, np.exp(log_norm - 0.5 * squared), 0))
        return _over_paths(densities, points.shape[:-1])

    def kurtosis(self, i: int = 0) -> Estimate:
        """Kurtosis 3 E V²/(E V)² of the output on input `i`; 3 for a Gaussian.

        It is dominated by rare paths: in the limit of a linear network E V² rests on paths with log V near +3T, almost
        three standard deviations out at T = 1. A sample may hold few, and then the standard error is as wrong as the
        value. Where `limit_kurtosis` or `network_kurtosis` applies, prefer it.

        Returns:
            Kurtosis and standard error (delta method), each of shape ().
        """
        v = self.V[:, i, i]
        first, second = v.mean(), np.mean(v * v)
        influence = v * v / first**2 - 2 * second * v / first**3
        return Estimate(np.asarray(3 * second / first**2), np.asarray(3 * influence.std(ddof=1) / math.sqrt(v.size)))

    def sample(self, outputs: int = 1, *, key: int | PRNGKeyArray = 0) -> NDArray[np.float64]:
        """One draw of the outputs for every path.

        Args:
            outputs: number of outputs of each network; they share the path's covariance.
            key: int seed or JAX key.

        Returns:
            Outputs, shape (paths, m, outputs), float64.
        """
        paths, m, _ = self.V.shape
        with jax.enable_x64(True):
            shape = (paths, m, positive_int("outputs", outputs))
            with generator():
                g = np.asarray(jax.random.normal(typed_key(key), shape, np.float64))
        values, vectors = np.linalg.eigh(self.V)
        roots = vectors * np.sqrt(np.maximum(values, 0))[:, None, :]
        return np.asarray(roots @ g)


def _over_paths(values: list[NDArray[np.float64]], shape: tuple[int, ...]) -> Estimate:
    mean = np.array([v.mean() for v in values]).reshape(shape)
    error = np.array([v.std(ddof=1) / math.sqrt(v.size) if v.size > 1 else np.nan for v in values]).reshape(shape)
    return Estimate(mean, error)
