"""The depth-scaled ResNet: hyperparameters with two faces, a kernel ODE and a finite network."""

import math
from collections.abc import Callable
from typing import Any, ClassVar

import diffrax
import equinox as eqx
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from covsde.activations import plain_activation
from covsde.architectures.base import AbstractTrainable, AbstractWithKernels, InitialKernels
from covsde.architectures.resnet.blocks import AbstractBlock, block_of
from covsde.architectures.resnet.kernel_solver import finite_depth, infinite_depth
from covsde.architectures.resnet.kernels import KernelODE
from covsde.architectures.resnet.network.weights import ResNetNetwork, sample_grams_law, sample_grams_weights, widest
from covsde.architectures.resnet.training import (
    ResNetTraining,
    check_limit,
    check_networks,
    step_of_infinite_depth,
    train_block,
    train_drawn,
)
from covsde.descent.systems import labels_of
from covsde.descent.task import Sizes, Task
from covsde.descent.trajectory import KernelGrid, KernelTrajectory, Trajectory
from covsde.inputs.arguments import finite_number, hyperparameter, positive_int
from covsde.inputs.network import network_dtype
from covsde.moments.of_activation import grows_faster_than_linearly, moments_of
from covsde.moments.shape import is_linear
from covsde.numerics.keys import generator, typed_key
from covsde.numerics.tracing import is_traced
from covsde.numerics.typing import Hyperparameter
from covsde.run.memory import LIMIT, TRAINING, fitting
from covsde.solvers import RungeKutta
from covsde.solvers.defaults import default_steps

# Where φ grows faster than linearly, a variance above this explodes within a fraction of a layer.
_CEILING = 1e12


class ResNet(AbstractTrainable, AbstractWithKernels):
    """A residual network whose branches are scaled so that depth has a limit of its own, at any rate of the width.

    Args:
        activation: φ, an elementwise JAX function such as jax.nn.relu or jnp.tanh, or a name in `PLAIN`.
        beta: β ≥ 0, the size of a branch; may be a traced scalar, to differentiate `kernels` with respect to it.
        block: PreActivation(), PostActivation() or TwoMatrix(), or their names "pre-activation", "post-activation",
            "two-matrix"; a block holds the exponent of the branch scale, by default the critical 1/2.

    Raises:
        ValueError: if activation is not an elementwise function, beta is negative or not finite, or block is unknown.

    Source: arXiv 2309.16620; 2302.00453 for the limit at initialization.
    """

    training_settings: ClassVar[type] = ResNetTraining
    most_labels: ClassVar[int | None] = None

    activation: Callable[[Array], Array] = eqx.field(static=True)
    beta: Hyperparameter
    block: AbstractBlock
    depth_to_width: None

    def __init__(self, activation: Any, beta: Any = 1.0, block: Any = "pre-activation"):
        self.activation = plain_activation(activation, "ResNet")
        moments_of(self.activation)  # refuses what is no elementwise function
        size = "must be at least 0, got {}: it is the size of a branch."
        self.beta = hyperparameter("beta", beta, lambda b: b >= 0, size)
        self.block = block_of(block)
        self.depth_to_width = None

    def limit(self) -> KernelODE:
        """The kernel ODE.

        Raises:
            ValueError: if branches are too large for a limit (exponent below 1/2).
        """
        return self.equation(self.block.limiting_strength())

    def equation(self, strength: float) -> KernelODE:
        """The kernel equations with branches of this total strength."""
        explosive = strength > 0 and grows_faster_than_linearly(self.activation)
        ceiling = _CEILING if explosive else math.inf
        moments = moments_of(self.activation)
        return KernelODE(block=self.block, moments=moments, beta=self.beta, strength=strength, ceiling=ceiling)

    def default_solver(self) -> RungeKutta:
        """A Runge–Kutta method of third order that keeps the cone."""
        return RungeKutta()

    def default_steps(self, V0: Float[np.ndarray, "m m"]) -> int:
        """40 steps per unit of the largest relative growth rate, at least 20."""
        return default_steps(self.limit(), V0)

    def depth(self, width: int) -> int:
        """As deep as wide; the limit is the same at any rate, so pass any other depth."""
        return positive_int("width", width)

    def network(
        self,
        width: int,
        *,
        key: int | PRNGKeyArray,
        depth: int | None = None,
        in_size: int | None = None,
        out_size: int = 1,
        richness: float = 1.0,
        dtype: Any = None,
    ) -> ResNetNetwork:
        """The Equinox network itself, with real weights.

        Args:
            width: neurons of the residual stream, N (D for two-matrix blocks).
            key: int seed or JAX key.
            depth: number of blocks, L; default: the width.
            in_size: input dimension; default: the input layer adapts to the inputs it is called on.
            out_size: number of outputs.
            richness: γ_0 > 0; outputs are w·h/(γ_0 N), and γ_0 → 0 is lazy training.
            dtype: of the weights; default JAX's default float, which is float32 unless jax_enable_x64 is set.

        Returns:
            An Equinox module: network(x) maps (m, d) to (m, out_size), network.grams(x) gives H^ℓ (depth + 1, m, m),
            and network.kernels(x) adds gradients and the tangent kernel.

        Raises:
            ValueError: for a width, depth or size below 1, or a richness that is not positive.
        """
        width = positive_int("width", width)
        gamma = finite_number("richness", richness)
        if gamma <= 0:
            raise ValueError(f"richness must be positive, got {richness}: use a small one for lazy training.")
        with generator():
            return ResNetNetwork(
                self.block,
                self.activation,
                float(self.beta),
                width=width,
                depth=self.depth(width) if depth is None else positive_int("depth", depth),
                richness=gamma,
                out_size=positive_int("out_size", out_size),
                in_size=None if in_size is None else positive_int("in_size", in_size),
                key=typed_key(key),
                dtype=network_dtype(dtype),
            )

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
        """By law (m normals per neuron and layer) or by real weights; layer 0 is the embedded input."""
        sizes, beta = Sizes(depth, save, draws, width, method), float(self.beta)
        if method == "law":
            return sample_grams_law(self.block, self.activation, beta, V0, sizes, key)
        if method == "weights":
            return sample_grams_weights(self.block, self.activation, beta, V0, sizes, key)
        raise ValueError(f"method must be 'law' or 'weights', got {method!r}.")

    def network_chunk(self, m: int, width: int, depth: int, itemsize: int) -> int:
        """Bounded by the neurons of one layer and the saved path."""
        per_draw = (4 * m * widest(self.block, width) + (depth + 1) * m * m) * itemsize
        return fitting(per_draw, LIMIT, least=16, most=1024)

    def initial_kernels(
        self, V0: Float[Array, "m m"], depth: int | None, tau: Float[Array, " times"], tolerance: float
    ) -> InitialKernels:
        """At infinite depth by Diffrax, at finite depth by the exact recursion over blocks."""
        if depth is None:
            # Differentiable in reverse mode where something is differentiated, cheaper where nothing is.
            traced = is_traced((self, V0))
            adjoint = diffrax.RecursiveCheckpointAdjoint() if traced else diffrax.ForwardMode()
            return infinite_depth(self.limit(), V0, tau, tolerance, adjoint)
        # The width only enters through a ratio.
        wide = 10**6
        return finite_depth(self.equation(self.block.strength(wide, depth)), V0, depth)

    def training_grid(self, task: Task) -> KernelGrid:
        """Particles share one set of kernels; a linear network needs none."""
        solver, order = step_of_infinite_depth(self.block)
        return KernelGrid(task.settings.depth, not is_linear(self.activation), solver, order)

    def training_steps(self, task: Task, method: str) -> int:
        """32: at infinite depth the solver doubles it and extrapolates."""
        return 32

    def training_chunk(self, task: Task, sizes: Sizes, itemsize: int) -> int:
        """Bounded by the vectors of every block and pair; a limit's particles are counted as its width is."""
        size = 8 * labels_of(task) * (sizes.depth + 1) * itemsize
        return max(1, min(512, TRAINING // (size * sizes.width))) if sizes.width else max(512, 2 * TRAINING // size)

    def check_training(self, task: Task, sizes: Sizes) -> None:
        """Refuse a block without a limit or networks of this kind, and widths without room."""
        if sizes.per_output:
            raise ValueError("kernels='outputs' is for MLPs: of several outputs a ResNet has one kernel; drop it.")
        if not sizes.kernels:
            raise ValueError("kernels=False is for MLPs: kernels are what a ResNet is trained by; drop it.")
        if sizes.width:
            check_networks(self.block, task, sizes)
        else:
            check_limit(self.block, task, None if is_linear(self.activation) else sizes.draws)

    def tangent_scale(self, task: Task, sizes: Sizes) -> float | list[float]:
        """1/P, for the loss is the mean over a batch."""
        each = [1 / size for size in task.batches.sizes]
        return each[0] if len(set(each)) == 1 else each

    def train_limit(self, task: Task, sizes: Sizes, key: PRNGKeyArray) -> KernelTrajectory:
        """Gradient descent in causal order; `sizes.depth` is the depth if that is finite."""
        return train_block(self.block, self.activation, float(self.beta), task, sizes, key)

    def train_networks(self, task: Task, sizes: Sizes, key: PRNGKeyArray) -> Trajectory:
        """In law (width · pairs² per block) or by real weights (width² · pairs)."""
        return train_drawn(self.block, self.activation, float(self.beta), task, sizes, key)
