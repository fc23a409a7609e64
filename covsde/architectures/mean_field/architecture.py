"""The mean-field network of fixed depth: hyperparameters with two faces, a limit of infinite width and a network."""

import math
from collections.abc import Callable
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray
from numpy.typing import NDArray

from covsde.activations import plain_activation
from covsde.architectures.base import (
    AbstractWithFluctuations,
    AbstractWithKernelPosterior,
    AbstractWithKernels,
    InitialKernels,
    PosteriorKernels,
)
from covsde.architectures.mean_field.kernels import KernelRecursion, initial_kernels
from covsde.architectures.mean_field.network.training import train_by_law, train_by_weights
from covsde.architectures.mean_field.network.weights import MeanFieldNetwork, sample_grams_law, sample_grams_weights
from covsde.architectures.mean_field.posterior import Problem, linear_saddle, nodes_for, product_rules, saddle
from covsde.architectures.mean_field.training import MeanFieldTraining, rule_of, train_limit
from covsde.descent.fluctuations import Found, fluctuations_of, measure_of
from covsde.descent.optimizers import SGD, AbstractEntrywise
from covsde.descent.systems import check_law, check_particles, labels_of
from covsde.descent.task import Sizes, Task
from covsde.descent.trajectory import KernelGrid, KernelTrajectory, Trajectory
from covsde.inputs.arguments import finite_number, positive_int
from covsde.inputs.network import network_dtype
from covsde.moments.of_activation import grows_faster_than_linearly, moments_of
from covsde.moments.shape import has_kinks, is_linear
from covsde.numerics.keys import generator, typed_key
from covsde.run.grid import saved_layers
from covsde.run.memory import LIMIT, TRAINING, fitting
from covsde.solvers.flow import LayerByLayer

# Where φ grows faster than linearly, a variance above this explodes within a layer or two.
_CEILING = 1e12
# Particles for the mean of outputs, to one for their derivatives.
_FOR_THE_MEAN = 8


class MeanFieldMLP(AbstractWithFluctuations, AbstractWithKernelPosterior, AbstractWithKernels):
    """An infinitely wide network of fixed depth in the mean-field scaling, in which every layer learns features.

    Args:
        activation: φ, an elementwise JAX function such as jnp.tanh, or a name: relu, linear, tanh, erf, ….
        depth: number of hidden layers, L ≥ 1.

    Raises:
        ValueError: if activation is not an elementwise function, or depth is not a positive integer.

    Example:
        ```python
        mlp = cs.MeanFieldMLP(jnp.tanh, depth=3)
        print(cs.kernels(mlp, [[1.0, 0.3], [0.3, 1.0]]).ntk)
        ```

    Source: arXiv 2205.09653.
    """

    training_settings: ClassVar[type] = MeanFieldTraining
    most_labels: ClassVar[int | None] = None

    activation: Callable[[Array], Array] = eqx.field(static=True)
    layers: int = eqx.field(static=True)
    depth_to_width: None

    def __init__(self, activation: Any, depth: int = 2):
        self.activation = plain_activation(activation, "MeanFieldMLP")
        moments_of(self.activation)  # refuses what is no elementwise function
        self.layers = positive_int("depth", depth)
        self.depth_to_width = None

    def limit(self) -> KernelRecursion:
        """The recursion over layers of the covariance of activations."""
        ceiling = _CEILING if grows_faster_than_linearly(self.activation) else math.inf
        return KernelRecursion(moments=moments_of(self.activation), layers=self.layers, ceiling=ceiling)

    def default_solver(self) -> LayerByLayer:
        """Layer by layer."""
        return LayerByLayer()

    def default_steps(self, V0: Float[np.ndarray, "m m"]) -> int:
        """The layers."""
        return self.layers

    def time_grid(self, steps: int, save_at: Any) -> tuple[NDArray[np.float64], int]:
        """The layers to keep.

        Raises:
            ValueError: for steps that are not the layers.
        """
        if steps != self.layers:
            raise ValueError(
                f"steps={steps} has no meaning for {self.layers} hidden layers, which are the steps: drop it."
            )
        return saved_layers(save_at, self.layers, min(self.layers, 10))[1], 1

    def depth(self, width: int) -> int:
        """Of every width."""
        positive_int("width", width)
        return self.layers

    def network_depth(self, width: int, depth: Any) -> int:
        """That of the architecture.

        Raises:
            ValueError: for another one.
        """
        if depth is not None and positive_int("depth", depth) != self.layers:
            raise ValueError(f"depth={depth} is not that of the architecture, {self.layers} hidden layers: drop it.")
        return self.layers

    def training_layers(self, save_at: Any, steps: int) -> tuple[tuple[int, ...], NDArray[np.float64]]:
        """The hidden layers ℓ = 1 … L nearest to the layer times to keep, counted from 0, and ℓ/L; default: all."""
        layers, tau = saved_layers(save_at, self.layers, self.layers)
        return tuple(layer - 1 for layer in layers if layer), tau[tau > 0]

    def network(
        self,
        width: int,
        *,
        key: int | PRNGKeyArray,
        in_size: int | None = None,
        out_size: int = 1,
        richness: float = 1.0,
        dtype: Any = None,
    ) -> MeanFieldNetwork:
        """The Equinox network itself, with real weights.

        Args:
            width: neurons per layer, N.
            key: int seed or JAX key.
            in_size: input dimension; default: the input layer adapts to the inputs it is called on.
            out_size: number of outputs.
            richness: γ_0 > 0; outputs are w·φ(h)/(γ_0 N), and γ_0 → 0 is lazy training.
            dtype: of the weights; default JAX's default float, which is float32 unless jax_enable_x64 is set.

        Returns:
            An Equinox module: network(x) maps (m, d) to (m, out_size), network.grams(x) gives Φ^ℓ (L + 1, m, m), from
            that of the inputs, and network.kernels(x) adds gradients and the tangent kernel.

        Raises:
            ValueError: for a width or size below 1, or a richness that is not positive.
        """
        gamma = finite_number("richness", richness)
        if gamma <= 0:
            raise ValueError(f"richness must be positive, got {richness}: use a small one for lazy training.")
        shape = (self.layers, positive_int("width", width), positive_int("out_size", out_size))
        size = None if in_size is None else positive_int("in_size", in_size)
        with generator():
            return MeanFieldNetwork.draw(
                self.activation, gamma, shape, in_size=size, key=typed_key(key), dtype=network_dtype(dtype)
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
        """By law (m normals per neuron and layer) or by real weights; layer 0 is the inputs, layer ℓ has φ(h^ℓ)."""
        sizes = Sizes(depth, save, draws, width, method)
        if method == "law":
            return sample_grams_law(self.activation, V0, sizes, key)
        if method == "weights":
            return sample_grams_weights(self.activation, V0, sizes, key)
        raise ValueError(f"method must be 'law' or 'weights', got {method!r}.")

    def network_chunk(self, m: int, width: int, depth: int, itemsize: int) -> int:
        """Bounded by the neurons of one layer and the saved path."""
        return fitting((4 * m * width + (depth + 1) * m * m) * itemsize, LIMIT, least=16, most=1024)

    def initial_kernels(
        self, V0: Float[Array, "m m"], depth: int | None, tau: Float[Array, " times"], tolerance: float
    ) -> InitialKernels:
        """At all hidden layers, by the exact recursion; the tangent kernel is that of all layers."""
        self.network_depth(1, depth)
        return initial_kernels(self.limit(), V0)

    def training_grid(self, task: Task) -> KernelGrid:
        """Particles share one set of kernels; a linear network needs none."""
        return KernelGrid(self.layers, not is_linear(self.activation), "layer by layer", 1)

    def training_steps(self, task: Task, method: str) -> int:
        """The layers."""
        return self.layers

    def training_chunk(self, task: Task, sizes: Sizes, itemsize: int) -> int:
        """Bounded by the vectors of every layer and pair; a limit's particles are counted as its width is."""
        size = 8 * labels_of(task) * (sizes.depth + 1) * itemsize
        return max(1, min(512, TRAINING // (size * sizes.width))) if sizes.width else max(512, 2 * TRAINING // size)

    def check_training(self, task: Task, sizes: Sizes) -> None:
        """Refuse what neither particles nor networks of this kind can do, and widths without room."""
        if sizes.per_output:
            raise ValueError(
                "kernels='outputs' is for MLPs of depth ∝ width: of several outputs a mean-field network has one "
                "kernel; drop it."
            )
        if grows_faster_than_linearly(self.activation):
            raise ValueError(
                "activation grows faster than linearly, so training has no limit: use a bounded one, or relu."
            )
        if not sizes.width:
            check_particles(task, None if is_linear(self.activation) else sizes.draws)
            return
        if sizes.method not in ("law", "weights"):
            raise ValueError(f"method must be 'law' or 'weights', got {sizes.method!r}.")
        if isinstance(task.optimizer, AbstractEntrywise):
            raise ValueError("optimizer must be a cs.SGD or one of optax here: cs.Sign and cs.Adam are for MLPs.")
        if isinstance(task.optimizer, SGD):
            task.optimizer.check_share(task.updates)
        elif not task.settings.response:
            raise ValueError("response=False is for cs.SGD, whose updates are known without gradients: leave it out.")
        if sizes.method == "law":
            check_law(task, sizes)

    def tangent_scale(self, task: Task, sizes: Sizes) -> float | list[float]:
        """1/P, for the loss is the mean over a batch."""
        each = [1 / size for size in task.batches.sizes]
        return each[0] if len(set(each)) == 1 else each

    def train_limit(self, task: Task, sizes: Sizes, key: PRNGKeyArray) -> KernelTrajectory:
        """Gradient descent in causal order."""
        return train_limit(self.activation, task, sizes, key)

    def train_networks(self, task: Task, sizes: Sizes, key: PRNGKeyArray) -> Trajectory:
        """In law (width · pairs² per layer) or by real weights (width² · pairs)."""
        trained = train_by_law if sizes.method == "law" else train_by_weights
        return trained(rule_of(self.activation, task), task, sizes, key)

    def check_fluctuations(self, task: Task, particles: int) -> bool:
        """Refuse activations with kinks, whose derivatives automatic differentiation does not see."""
        if has_kinks(self.activation):
            raise ValueError(
                "activation has a kink, across which the derivative by a particle's weight is not known: use a smooth "
                "one, such as lambda x: jax.nn.softplus(20 * x) / 20 for relu."
            )
        self.check_training(task, Sizes(self.layers, (0,), particles))
        return not is_linear(self.activation)

    def fluctuations(self, task: Task, particles: int, directions: int, key: PRNGKeyArray) -> Found:
        """Derivatives of the particle march, or for a linear network of the covariances of its sources."""
        rule, blocks = rule_of(self.activation, task), self.layers - 1
        found = fluctuations_of(rule, task, measure_of(rule, task, blocks, particles), blocks, directions, key)
        if is_linear(self.activation):
            return found
        # What does not respond in the limit is noise to its mean, which takes more particles than derivatives do.
        sizes = Sizes(self.layers, (0,), _FOR_THE_MEAN * particles)
        return found._replace(outputs=self.train_limit(task, sizes, jax.random.fold_in(key, 1)).outputs)

    @property
    def sampled_from(self) -> int | None:
        """Beyond products of Gauss–Hermite rules."""
        return None if is_linear(self.activation) else product_rules() + 1

    def kernel_posterior(
        self, V0: Float[Array, "M M"], targets: Float[Array, "P C"], temperature: float, richness: float, key: Any
    ) -> PosteriorKernels:
        """The saddle point, in closed form for a linear network."""
        P = targets.shape[0]
        problem = Problem(self.activation, self.layers, V0[:P, :P], targets, jnp.asarray(temperature, V0.dtype))
        if is_linear(self.activation):
            slope = float(self.activation(jnp.ones(())))
            return linear_saddle(problem, V0[P:, :P], V0[P:, P:], richness, slope)
        if temperature == 0:
            raise ValueError("temperature must be positive, and 0 is for linear networks only: use a small one.")
        if richness and grows_faster_than_linearly(self.activation):
            raise ValueError(
                "activation grows faster than linearly, so a posterior of positive richness has no average: use a "
                "bounded one, or relu."
            )
        return saddle(problem, V0[P:, :P], V0[P:, P:], richness, nodes_for(P, key))
