"""Architectures: hyperparameters with two faces, a limit and a finite network."""

import abc
from typing import Any, ClassVar, NamedTuple

import diffrax
import equinox as eqx
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray
from numpy.typing import NDArray

from covsde.covariance.backward import AbstractBackward
from covsde.covariance.limit import AbstractLimit
from covsde.covariance.velocities import VelocityLimit
from covsde.descent.fluctuations import Found
from covsde.descent.task import Sizes, Task
from covsde.descent.trajectory import KernelGrid, KernelTrajectory, Trajectory
from covsde.inputs.arguments import positive_int
from covsde.numerics.typing import Hyperparameter, Number
from covsde.run.grid import saved_layers, time_grid
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

    def network_depth(self, width: int, depth: Any) -> int:
        """The depth of a network of this width: what was asked for, or the default.

        Raises:
            ValueError: for a depth that no network of this kind has.
        """
        return self.depth(width) if depth is None else positive_int("depth", depth)

    def time_grid(self, steps: int, save_at: Any) -> tuple[NDArray[np.float64], int]:
        """Layer times that a solver of the limit steps through, and every which of them is kept."""
        return time_grid(steps, save_at)

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
    """An architecture that `train` and `train_networks` can train.

    Attributes:
        training_settings: a frozen dataclass of what training takes besides a `Task`, checked on making.
        most_labels: with more labels than this their covariances, squares of their number, are kept only if asked for;
            None if training needs them.
        keeps_state: whether `train_limit` and `train_networks` keep a snapshot (`Trajectory.snapshot`) for
            `sizes.resumable`, and go on from one that they are given as a last argument.
    """

    training_settings: eqx.AbstractClassVar[type]
    most_labels: eqx.AbstractClassVar[int | None]
    keeps_state: ClassVar[bool] = False

    @abc.abstractmethod
    def training_grid(self, task: Task) -> KernelGrid | None:
        """None if the limit of training is random; if it is deterministic, how `train_limit` should be run."""

    def training_method(self, task: Task, method: str | None) -> str:
        """How `train_limit` computes: what was asked for, or the default.

        Raises:
            ValueError: for a method that the architecture does not have.
        """
        if method is not None:
            raise ValueError(f"method is a choice for the limit of an MLP, got {method!r}: drop it.")
        return "law"

    @abc.abstractmethod
    def training_steps(self, task: Task, method: str) -> int:
        """Default number of steps in layer time of `train_limit`."""

    def training_layers(self, save_at: Any, steps: int) -> tuple[tuple[int, ...], NDArray[np.float64]]:
        """Steps or layers at which order parameters are kept, and their layer times; default: fifths."""
        return saved_layers(save_at, steps, 5)

    @abc.abstractmethod
    def training_chunk(self, task: Task, sizes: Sizes, itemsize: int) -> int:
        """How many paths of the limit, or networks, to train at once in about 256 MiB."""

    @abc.abstractmethod
    def check_training(self, task: Task, sizes: Sizes) -> None:
        """Refuse what the limit, or networks of this width, cannot do, before anything is computed.

        Raises:
            ValueError: with a sentence that names the argument and the remedy.
        """

    @abc.abstractmethod
    def tangent_scale(self, task: Task, sizes: Sizes) -> float | list[float]:
        """c in df/dη₀ = c · ntk · Δ, by which a small step moves outputs; one per update if they differ."""

    @abc.abstractmethod
    def train_limit(self, task: Task, sizes: Sizes, key: PRNGKeyArray) -> Trajectory | KernelTrajectory:
        """Paths of the limit in `sizes.depth` steps of layer time."""

    @abc.abstractmethod
    def train_networks(self, task: Task, sizes: Sizes, key: PRNGKeyArray) -> Trajectory:
        """Finite networks."""


class AbstractWithFluctuations(AbstractTrainable):
    """An architecture of which it is known how networks of finite width fluctuate around the trained limit."""

    @abc.abstractmethod
    def check_fluctuations(self, task: Task, particles: int) -> bool:
        """Refuse what has no such derivative, and say whether anything is sampled.

        Raises:
            ValueError: with a sentence that names the argument and the remedy.
        """

    @abc.abstractmethod
    def fluctuations(self, task: Task, particles: int, directions: int, key: PRNGKeyArray) -> Found:
        """Of one system of so many particles."""


class AbstractWithVelocities(AbstractWithGradients, AbstractTrainable):
    """An architecture of which it is known how fast features learn when training starts."""

    @abc.abstractmethod
    def velocity_limit(self, learning_rate: Number) -> VelocityLimit:
        """The equations of features, gradients and velocities.

        Raises:
            TypeError: for an activation that has no such limit.
        """

    @abc.abstractmethod
    def sample_velocities(self, task: Task, sizes: Sizes, key: PRNGKeyArray) -> tuple[Array, ...]:
        """Outputs f (draws, m), Φ, G (layers, draws, m, m), R (layers, draws, m), Y, S of real networks."""


class InitialKernels(NamedTuple):
    """What `AbstractWithKernels` gives: see `Kernels`, of which these are the fields."""

    tau: Array
    H: Array
    G: Array
    ntk: Array
    stop_tau: Array
    Phi: Array | None = None
    nngp: Array | None = None


class AbstractWithKernels(AbstractArchitecture):
    """An architecture whose kernels at initialization, forward, backward and tangent, are deterministic."""

    @abc.abstractmethod
    def initial_kernels(
        self, V0: Float[Array, "m m"], depth: int | None, tau: Float[Array, " times"], tolerance: float
    ) -> InitialKernels:
        """Kernels at the layer times tau of infinite depth, or at all layers of a finite one."""


class PosteriorKernels(NamedTuple):
    """A kernel posterior: see `KernelPosterior`; trained inputs come first.

    Attributes:
        outputs: (M, C).
        Phi: (depth, M, M).
        alpha: (P, C).
        tilt: (depth, P, P).
        log_evidence: per unit of width.
        effective_nodes: how many nodes of the averages count; ∞ where there are none.
    """

    outputs: Array
    Phi: Array
    alpha: Array
    tilt: Array
    log_evidence: Any
    effective_nodes: float


class AbstractWithKernelPosterior(AbstractArchitecture):
    """An architecture whose Bayesian posterior at infinite width is one of deterministic kernels."""

    @abc.abstractmethod
    def kernel_posterior(
        self, V0: Float[Array, "M M"], targets: Float[Array, "P C"], temperature: float, richness: float, key: Any
    ) -> PosteriorKernels:
        """Given targets of the first P of M inputs.

        Raises:
            ValueError: for a temperature that it cannot have, or a posterior without a saddle point.
        """

    @property
    @abc.abstractmethod
    def sampled_from(self) -> int | None:
        """Trained inputs from which on averages are sampled; None if they never are."""
