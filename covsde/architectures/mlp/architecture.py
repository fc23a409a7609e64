"""The fully connected network with depth proportional to width."""

import math
from collections.abc import Callable
from typing import Any, ClassVar

import diffrax
import equinox as eqx
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from covsde.activations import SMOOTH, AbstractActivation
from covsde.architectures.base import AbstractWithVelocities
from covsde.architectures.mlp.feature_learning import NEURONS, limit_vectors, network_vectors, train_drawn_limit
from covsde.architectures.mlp.gradients import backward_of
from covsde.architectures.mlp.network.gradients import sample_gradients_weights
from covsde.architectures.mlp.network.layers import Layers
from covsde.architectures.mlp.network.training import train_weights
from covsde.architectures.mlp.network.velocities import sample_velocities_weights
from covsde.architectures.mlp.network.weights import MLPNetwork, sample_grams_law, sample_grams_weights
from covsde.architectures.mlp.training import MLPTraining, check_limit, check_networks, checked_method, drawn_layers
from covsde.architectures.mlp.velocities import velocities_of
from covsde.covariance.backward import AbstractBackward
from covsde.covariance.clock import AbstractClock, TabulatedClock, UniformClock
from covsde.covariance.drifts import AbstractDrift, Affine, drift_of
from covsde.covariance.sde import NeuralCovarianceSDE
from covsde.covariance.velocities import VelocityLimit
from covsde.descent.passes import solve_pass, sweep
from covsde.descent.revealed import train_revealed
from covsde.descent.rooms import room_for
from covsde.descent.task import Sizes, Task
from covsde.descent.trajectory import Trajectory
from covsde.inputs.arguments import hyperparameter, one_line, positive_int
from covsde.inputs.network import network_dtype
from covsde.numerics.identity import told
from covsde.numerics.keys import generator, typed_key
from covsde.numerics.tracing import is_traced
from covsde.numerics.typing import Hyperparameter, Number
from covsde.run.memory import LIMIT, TRAINING, fitting
from covsde.solvers import Strang
from covsde.solvers.defaults import default_steps

# Pieces of layer time on which a width profile is held constant in the limit.
_PROFILE_PIECES = 1000

# Layers per unit of depth/width beyond which training resolves a strong activation only if `steps` asks for it.
_FINEST = 1000

# What a name means depends on whether, and how strongly, it is shaped.
_WRITTEN = {name: f"ShapedSmooth({name!r})" for name in SMOOTH} | {
    "relu": "ShapedReLU(c_plus, c_minus) for the limit, or LeakyReLU(0.0) unshaped",
    "linear": "Identity()",
    "identity": "Identity()",
}


def _remedy(activation: Any) -> str:
    if isinstance(activation, str) and activation in _WRITTEN:
        return f"write {_WRITTEN[activation]}"
    return "wrap a smooth function as ShapedSmooth(fn); one neither piecewise linear nor smooth at 0 has no limit"


WidthProfile = Callable[[float], float] | tuple[float, ...]


def _width_profile(profile: Any) -> WidthProfile | None:
    if profile is None or callable(profile):
        return None if profile is None else told(profile)
    try:
        values = tuple(float(w) for w in profile)
    except (TypeError, ValueError) as error:
        raise ValueError(
            "width_profile must be relative widths to repeat along the layers, such as (2/3, 2), or a function of "
            f"layer time, got {profile!r}."
        ) from error
    if not values or not all(math.isfinite(w) and w > 0 for w in values):
        raise ValueError(f"width_profile must hold positive relative widths, got {profile!r}.")
    return values


class MLP(AbstractWithVelocities):
    """A fully connected network with depth proportional to width.

    Args:
        activation: ShapedReLU, ShapedSmooth or Identity (limit and networks); LeakyReLU (networks only).
        depth_to_width: T = depth / width, the clock time of the limit; > 0. Default: 1, which results then say was
            assumed. It, bias and gain may be traced scalars.
        bias: β_b ≥ 0; every layer has biases of variance β_b/n, which adds β_b to the drift of every entry.
        gain: γ; the normalisation c is multiplied by 1 + γ/n, which adds γV to the drift.
        width_profile: relative widths w of the layers, n_ℓ = w n: a function of layer time in [0, 1], or numbers to
            repeat along the layers, e.g. (2/3, 2) for alternating widths. Noise then runs on the clock Σ 1/n_ℓ.
        shaping_width: "local": every layer is shaped (and biased) by its own width n_ℓ, so drift and noise share a
            clock; "common": all by the base width n, so drift runs on the clock L/n.

    Raises:
        ValueError: if depth_to_width is not a positive finite number, activation is not an activation, bias is
            negative, or the width profile is not positive.

    Source: arXiv 2206.02768, sections 2 and 3.
    """

    training_settings: ClassVar[type] = MLPTraining
    most_labels: ClassVar[int | None] = 128
    keeps_state: ClassVar[bool] = True

    activation: AbstractActivation
    depth_to_width: Hyperparameter
    bias: Hyperparameter = 0.0
    gain: Hyperparameter = 0.0
    width_profile: WidthProfile | None = eqx.field(static=True, default=None)
    shaping_width: str = eqx.field(static=True, default="local")
    assumed: bool = eqx.field(static=True, default=False)

    def __init__(
        self,
        activation: Any,
        depth_to_width: Any = None,
        *,
        bias: Any = 0.0,
        gain: Any = 0.0,
        width_profile: Any = None,
        shaping_width: str = "local",
    ):
        if not isinstance(activation, AbstractActivation):
            raise ValueError(
                "activation must be ShapedReLU, ShapedSmooth, LeakyReLU or Identity, got "
                f"{one_line(activation)}; {_remedy(activation)}."
            )
        self.activation = activation
        positive = "must be a positive finite number, got {}."
        self.assumed = depth_to_width is None
        T = 1.0 if depth_to_width is None else depth_to_width
        self.depth_to_width = hyperparameter("depth_to_width", T, lambda T: T > 0, positive)
        variance = "must be at least 0, got {}: it is n times the variance of the biases."
        self.bias = hyperparameter("bias", bias, lambda b: b >= 0, variance)
        self.gain = hyperparameter("gain", gain)
        self.width_profile = _width_profile(width_profile)
        if shaping_width not in ("local", "common"):
            raise ValueError(f"shaping_width must be 'local' or 'common', got {shaping_width!r}.")
        self.shaping_width = shaping_width

    def drift(self) -> AbstractDrift:
        """b per unit of clock time, with bias and gain."""
        inner = drift_of(self.activation)
        affine = is_traced((self.bias, self.gain)) or self.bias or self.gain
        return Affine(inner, self.bias, self.gain) if affine else inner

    def limit(self) -> NeuralCovarianceSDE:
        """The neural covariance SDE."""
        drift, noise_clock = self.drift(), self._noise_clock()
        drift_clock = noise_clock if self.shaping_width == "local" else UniformClock(self.depth_to_width)
        return NeuralCovarianceSDE(
            drift=drift, noise_clock=noise_clock, drift_clock=drift_clock, ceiling=drift.ceiling()
        )

    def _noise_clock(self) -> AbstractClock:
        T = self.depth_to_width
        if self.width_profile is None:
            return UniformClock(T)
        if not callable(self.width_profile):
            # Layers of different widths alternate infinitely fast in the limit: only the mean of 1/w is seen.
            return UniformClock(T * sum(1 / w for w in self.width_profile) / len(self.width_profile))
        middles = (np.arange(_PROFILE_PIECES) + 0.5) / _PROFILE_PIECES
        return TabulatedClock(T / np.array([self._relative_width(t) for t in middles]))

    def _relative_width(self, tau: float) -> float:
        assert callable(self.width_profile)
        w = float(self.width_profile(tau))
        if not (math.isfinite(w) and w > 0):
            raise ValueError(f"width_profile must be positive on [0, 1], got {w} at layer time {tau:.3g}.")
        return w

    def default_solver(self) -> diffrax.AbstractSolver:
        """The Strang splitting."""
        return Strang()

    def default_steps(self, V0: Float[np.ndarray, "m m"]) -> int:
        """10 steps per unit of clock time and per unit of stiffness; beyond eight inputs, of noise times m/8."""
        return default_steps(self.limit(), V0)

    def depth(self, width: int) -> int:
        """round(T n), at least 1."""
        return max(1, round(self.depth_to_width * positive_int("width", width)))

    def layers(self, width: int, depth: int) -> Layers:
        """The layers of a finite network whose base width is `width`."""
        if self.width_profile is None:
            widths = (width,) * depth
        elif callable(self.width_profile):
            relative = [self._relative_width((index + 0.5) / depth) for index in range(depth)]
            widths = tuple(max(1, round(width * w)) for w in relative)
        else:
            cycle = [max(1, round(width * w)) for w in self.width_profile]
            widths = tuple(cycle[index % len(cycle)] for index in range(depth))
        shaping = widths if self.shaping_width == "local" else (width,) * depth
        return Layers(self.activation, widths, shaping, self.bias, self.gain)

    def network(
        self,
        width: int,
        *,
        key: int | PRNGKeyArray,
        depth: int | None = None,
        in_size: int | None = None,
        out_size: int = 1,
        dtype: Any = None,
    ) -> MLPNetwork:
        """The Equinox network itself, with real weights.

        Args:
            width: neurons per hidden layer, n; with a width profile, the base width.
            key: int seed or JAX key.
            depth: number of hidden layers; default round(T n).
            in_size: input dimension; default: the input layer adapts to the inputs it is called on.
            out_size: number of outputs.
            dtype: of the weights; default JAX's default float, which is float32 unless jax_enable_x64 is set.

        Returns:
            An Equinox module: network(x) maps (m, d) to (m, out_size); network.grams(x) gives V_ℓ (depth + 1, m, m).

        Raises:
            ValueError: for a width, depth or size below 1.
        """
        width = positive_int("width", width)
        depth = self.depth(width) if depth is None else positive_int("depth", depth)
        with generator():
            return MLPNetwork(
                self.layers(width, depth),
                in_size=None if in_size is None else positive_int("in_size", in_size),
                out_size=positive_int("out_size", out_size),
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
        """By law (m·n normals a layer) or by real weights (n² a layer)."""
        m, layers = V0.shape[0], self.layers(width, depth)
        if method == "law":
            if layers.narrowest < m:
                raise ValueError(
                    f"width={layers.narrowest} is smaller than the number of inputs m={m}, so every Gram matrix after "
                    "the first layer is singular: use width >= m, or method='weights'."
                )
            return sample_grams_law(layers, V0, key, draws=draws, save=save)
        if method == "weights":
            weights = depth * layers.widest * max(layers.widest, m) * V0.dtype.itemsize
            batch = fitting(weights, LIMIT, least=1, most=draws)
            return sample_grams_weights(layers, V0, key, draws=draws, save=save, batch=batch)
        raise ValueError(f"method must be 'law' or 'weights', got {method!r}.")

    def network_chunk(self, m: int, width: int, depth: int, itemsize: int) -> int:
        """Bounded by the normals of one layer and the saved path."""
        layers = self.layers(width, depth)
        layers.at(np.dtype(np.float64))  # refuses slopes and gains that no layer has
        per_draw = (4 * m * layers.widest + (depth + 1) * m * m) * itemsize
        return fitting(per_draw, LIMIT, least=16, most=1024)

    def require_plain(self, what: str) -> None:
        """Raise a ValueError, in the name of a limit that has none of them, if there are biases, gains or a profile."""
        if self.bias or self.gain or self.width_profile is not None:
            raise ValueError(f"{what} is for MLPs of equal widths without bias or gain: leave these arguments out.")

    def backward(self) -> AbstractBackward:
        """The backward equations of the activation."""
        self.require_plain("gradients at initialization")
        return backward_of(self.activation)

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
        """From real weights, differentiated by JAX; about 128 MiB of networks in memory at a time."""
        self.require_plain("gradients at initialization")
        m = V0.shape[0]
        if width < m:
            raise ValueError(
                f"width={width} is smaller than the number of inputs m={m}: use width >= m, so that inputs as wide as "
                "the layers can have this Gram matrix."
            )
        floats = (depth + 2) * width * width + 8 * (depth + 1) * m * width
        batch = fitting(floats * V0.dtype.itemsize, LIMIT, least=1, most=draws)
        return sample_gradients_weights(
            self.activation, V0, key, width=width, depth=depth, draws=draws, layers=layers, batch=batch
        )

    def velocity_limit(self, learning_rate: Number) -> VelocityLimit:
        """Of linear networks."""
        velocities = velocities_of(self.activation)
        return VelocityLimit(self.limit(), self.backward(), velocities(learning_rate))

    def sample_velocities(self, task: Task, sizes: Sizes, key: PRNGKeyArray) -> tuple[Array, ...]:
        """From real weights, by JAX's forward-mode differentiation."""
        self.require_plain("velocities at initialization")
        if sizes.width < task.inputs:
            raise ValueError(
                f"width={sizes.width} is smaller than the number of inputs m={task.inputs}: use width >= m, so that "
                "inputs as wide as the layers can have this Gram matrix."
            )
        return sample_velocities_weights(self.activation, task, sizes, key, task.settings.ends(task.dtype).scale)

    def training_grid(self, task: Task) -> None:
        """None: every path is trained on its own."""
        return

    def training_method(self, task: Task, method: str | None) -> str:
        """ "law" while labels are few, "weights" when they are many: the choice of benchmarks/many_labels.py."""
        return checked_method(task, method)

    def training_steps(self, task: Task, method: str) -> int:
        """Layers of width 1/h: h ≤ 1/100, less for a strong even part, and room for every pair's own direction."""
        self.require_plain("training")
        if method == "weights":
            return drawn_layers(self.depth_to_width, task)[0]
        least: float = max(100, 4 * sum(room_for(task)))
        if backward_of(self.activation).expansion().even is not None:
            stiffness = self.limit().drift.stiffness(float(np.max(np.diag(task.data.V0))))
            least = max(least, min(_FINEST, 10 * stiffness))
        return max(2, math.ceil(self.depth_to_width * least - 1e-9))

    def training_chunk(self, task: Task, sizes: Sizes, itemsize: int) -> int:
        """Bounded by the vectors of every layer and pair; in the limit a layer stays in a processor's cache."""
        size = NEURONS + sum(room_for(task)) if not sizes.width else sizes.width
        layer = 7 * task.pairs * size * itemsize
        fits = min(512, TRAINING // ((sizes.depth + 1) * layer))
        return max(16, fits if sizes.width else min(fits, max(64, 2**20 // layer)))

    def check_training(self, task: Task, sizes: Sizes) -> None:
        """Refuse steps, or a width, that do not have room for the vectors that training meets."""
        self.require_plain("training")
        if sizes.width:
            check_networks(task, sizes)
        else:
            check_limit(self.activation, self.depth_to_width, task, sizes)

    def tangent_scale(self, task: Task, sizes: Sizes) -> float:
        """s²T."""
        T = sizes.depth / sizes.width if sizes.width else self.depth_to_width
        return float(task.settings.output_scale**2 * T)

    def train_limit(self, task: Task, sizes: Sizes, key: PRNGKeyArray, begun: Any = None) -> Trajectory:
        """The forward–backward SDE in realisable steps: each is a layer of width steps/T, exactly in law or drawn."""
        ends = task.settings.ends(task.dtype)
        if sizes.method == "weights":
            return train_drawn_limit(self.activation, self.depth_to_width, task, sizes, key, ends, begun)
        space = limit_vectors(self.activation, sizes.depth / self.depth_to_width, task.dtype)
        return train_revealed(space, task, sizes, key, ends, solve_pass, begun)

    def train_networks(self, task: Task, sizes: Sizes, key: PRNGKeyArray, begun: Any = None) -> Trajectory:
        """By law (vectors only) or by real weights.

        A layer costs width · pairs² operations by law, pairs³ for linear networks, and width² · pairs with weights.
        """
        ends = task.settings.ends(task.dtype)
        if sizes.method == "weights":
            return train_weights(self.activation, task, sizes, key, ends, begun)
        space = network_vectors(self.activation, sizes.width, task.dtype)
        return train_revealed(space, task, sizes, key, ends, sweep, begun)
