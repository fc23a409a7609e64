"""Architectures: hyperparameters with two faces, a limit and a finite network."""

import abc
from collections.abc import Mapping
from typing import Any

import diffrax
import equinox as eqx
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from covsde.covariance.backward import AbstractBackward
from covsde.covariance.limit import AbstractLimit
from covsde.descent.losses import Loss
from covsde.descent.trajectory import KernelGrid, KernelTrajectory, Trajectory
from covsde.numerics.typing import Hyperparameter
from covsde.solvers.defaults import default_step_count as default_step_count


class AbstractArchitecture(eqx.Module):
    """What the ensemble drivers need; nothing outside an architecture's own files asks which one it is."""

    depth_to_width: eqx.AbstractVar[Hyperparameter | None]

    @abc.abstractmethod
    def limit(self) -> AbstractLimit:
        """The equation of the infinite face."""

    @abc.abstractmethod
    def default_solver(self) -> diffrax.AbstractSolver:
        """The solver of `covsde.solvers` that suits the equation best."""

    @abc.abstractmethod
    def default_steps(self, V0: Float[np.ndarray, "m m"]) -> int:
        """Steps of the default solver for weak errors well below 10⁻³ (a multiple of 10)."""

    @abc.abstractmethod
    def depth(self, width: int) -> int:
        """The depth of a network of this width: at the aspect ratio of the limit, or a default where it has none."""

    @abc.abstractmethod
    def sample_grams(
        self,
        V0: Float[Array, "m m"],
        key: PRNGKeyArray,
        *,
        method: str,
        width: int,
        depth: int,
        draws: int,
        save: tuple[int, ...],
    ) -> Float[Array, "times draws m m"]:
        """Gram matrices of independent finite networks at the layers in `save`, (len(save), draws, m, m)."""

    @abc.abstractmethod
    def network_chunk(self, m: int, width: int, depth: int, itemsize: int) -> int:
        """How many networks to sample at once in about 128 MiB."""


class AbstractWithGradients(AbstractArchitecture):
    """An architecture whose gradients at initialization have a limit too."""

    @abc.abstractmethod
    def backward(self) -> AbstractBackward:
        """The equations of gradients, run down from the output along a path of `limit`."""

    @abc.abstractmethod
    def sample_gradients(
        self,
        V0: Float[Array, "m m"],
        key: PRNGKeyArray,
        *,
        width: int,
        depth: int,
        draws: int,
        layers: tuple[int, ...],
    ) -> tuple[Array, Array, Array, Array, Array]:
        """Φ, G, A (len(layers), draws, m, m), outputs (draws, m), tangent kernel (draws, m, m) of real networks."""


class AbstractTrainable(AbstractArchitecture):
    """An architecture that `train` and `train_networks` can train; what else training takes is its own affair."""

    @abc.abstractmethod
    def training_grid(self, labels: int, options: Mapping[str, Any]) -> KernelGrid | None:
        """None if the limit of training is random; if it is deterministic, how `train_limit` should be run."""

    @abc.abstractmethod
    def training_steps(self, V0: Float[np.ndarray, "P P"], labels: int) -> int:
        """Default number of steps in layer time of `train_limit`, for these inputs and (input, training step) pairs."""

    @abc.abstractmethod
    def training_chunk(self, labels: int, layers: int, width: int | None, itemsize: int) -> int:
        """How many paths of the limit (width None) or networks to train at once in about 256 MiB."""

    @abc.abstractmethod
    def train_limit(
        self,
        V0: Float[Array, "P P"],
        targets: Float[Array, " P"],
        key: PRNGKeyArray,
        *,
        loss: Loss,
        learning_rate: Float[Array, ""],
        updates: int,
        substeps: int,
        steps: int,
        layers: tuple[int, ...],
        paths: int,
        options: Mapping[str, Any],
    ) -> Trajectory | KernelTrajectory:
        """Paths of the limit in `steps` steps of layer time, saved after the given numbers of steps."""

    @abc.abstractmethod
    def train_networks(
        self,
        V0: Float[Array, "P P"],
        targets: Float[Array, " P"],
        key: PRNGKeyArray,
        *,
        method: str,
        loss: Loss,
        learning_rate: Float[Array, ""],
        updates: int,
        substeps: int,
        width: int,
        depth: int,
        layers: tuple[int, ...],
        draws: int,
        options: Mapping[str, Any],
    ) -> Trajectory:
        """Finite networks, saved at the given layers."""
