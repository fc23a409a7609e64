"""Architectures: hyperparameters with two faces, a limit and a finite network."""

import abc
import math

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from covsde._check import finite_number, positive_int, typed_key
from covsde.activations import AbstractActivation
from covsde.limits.backward import AbstractBackward, backward_of
from covsde.limits.mlp import NeuralCovarianceSDE, drift_of
from covsde.networks.backward import sample_gradients_weights
from covsde.networks.mlp import MLPNetwork, sample_grams_law, sample_grams_weights

# Above this a default is more likely a slip than a wish.
_MOST_STEPS = 100_000


class AbstractArchitecture(eqx.Module):
    """What the ensemble drivers need; nothing outside an architecture's own files asks which one it is."""

    depth_to_width: eqx.AbstractVar[float]

    @abc.abstractmethod
    def limit(self) -> NeuralCovarianceSDE:
        """The equation of the infinite face."""

    @abc.abstractmethod
    def default_steps(self, largest_variance: float) -> int:
        """Steps of the default solver for weak errors well below 10⁻³ (a multiple of 10)."""

    @abc.abstractmethod
    def depth(self, width: int) -> int:
        """The depth of a network of this width at the aspect ratio of the limit."""

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
        layers: tuple[int, ...],
    ) -> Float[Array, "times draws m m"]:
        """Gram matrices of independent finite networks at chosen layers, (len(layers), draws, m, m)."""

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


class MLP(AbstractWithGradients):
    """A fully connected network with depth proportional to width.

    Args:
        activation: ShapedReLU, ShapedSmooth or Identity (limit and networks); LeakyReLU (networks only).
        depth_to_width: T = depth / width, the clock time of the limit; > 0.

    Raises:
        ValueError: if depth_to_width is not a positive finite number, or activation is not an activation.

    Source: arXiv 2206.02768, sections 2 and 3.
    """

    activation: AbstractActivation
    depth_to_width: float

    def __init__(self, activation: AbstractActivation, depth_to_width: float = 1.0):
        if not isinstance(activation, AbstractActivation):
            raise ValueError(
                f"activation must be ShapedReLU, ShapedSmooth, LeakyReLU or Identity, got {activation!r}; "
                "wrap a smooth function as ShapedSmooth(fn)."
            )
        self.activation = activation
        self.depth_to_width = finite_number("depth_to_width", depth_to_width)
        if self.depth_to_width <= 0:
            raise ValueError(f"depth_to_width must be a positive finite number, got {depth_to_width}.")

    def limit(self) -> NeuralCovarianceSDE:
        """The neural covariance SDE."""
        drift = drift_of(self.activation)
        return NeuralCovarianceSDE(drift, self.depth_to_width, drift.ceiling())

    def default_steps(self, largest_variance: float) -> int:
        """10 steps per unit of clock time and per unit of stiffness."""
        per_clock = drift_of(self.activation).stiffness(largest_variance)
        steps = 10 * max(1, math.ceil(self.depth_to_width * per_clock - 1e-9))
        if steps > _MOST_STEPS:
            raise ValueError(
                f"the limit would need about {steps} steps: lower depth_to_width, the shaping (c_plus - c_minus, or a "
                "larger a) or the input variances, or pass steps yourself."
            )
        return steps

    def depth(self, width: int) -> int:
        """round(T n), at least 1."""
        return max(1, round(self.depth_to_width * positive_int("width", width)))

    def network(
        self,
        width: int,
        *,
        key: int | PRNGKeyArray,
        depth: int | None = None,
        in_size: int | None = None,
        out_size: int = 1,
        dtype: jnp.dtype | None = None,
    ) -> MLPNetwork:
        """The Equinox network itself, with real weights.

        Args:
            width: neurons per hidden layer, n.
            key: int seed or JAX key.
            depth: number of hidden layers; default round(T n).
            in_size: input dimension; default: the input layer adapts to the inputs it is called on.
            out_size: number of outputs.
            dtype: of the weights; default JAX's default float.

        Returns:
            An Equinox module: network(x) maps (m, d) to (m, out_size); network.grams(x) gives V_ℓ (depth + 1, m, m).

        Raises:
            ValueError: for a width, depth or size below 1.
        """
        return MLPNetwork(
            self.activation,
            width=positive_int("width", width),
            depth=self.depth(width) if depth is None else positive_int("depth", depth),
            in_size=None if in_size is None else positive_int("in_size", in_size),
            out_size=positive_int("out_size", out_size),
            key=typed_key(key),
            dtype=jnp.dtype(jnp.result_type(float) if dtype is None else dtype),
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
        layers: tuple[int, ...],
    ) -> Float[Array, "times draws m m"]:
        """By law (m·n normals a layer) or by real weights (n² a layer)."""
        m = V0.shape[0]
        if method == "law":
            if width < m:
                raise ValueError(
                    f"width={width} is smaller than the number of inputs m={m}, so every Gram matrix after the first "
                    "layer is singular: use width >= m, or method='weights'."
                )
            return sample_grams_law(self.activation, V0, key, width=width, depth=depth, draws=draws, layers=layers)
        if method == "weights":
            weights = depth * width * max(width, m) * V0.dtype.itemsize
            batch = max(1, min(draws, 2**27 // weights))
            return sample_grams_weights(
                self.activation, V0, key, width=width, depth=depth, draws=draws, layers=layers, batch=batch
            )
        raise ValueError(f"method must be 'law' or 'weights', got {method!r}.")

    def network_chunk(self, m: int, width: int, depth: int, itemsize: int) -> int:
        """Bounded by the normals of one layer and the saved path."""
        per_draw = (4 * m * width + (depth + 1) * m * m) * itemsize
        return max(16, min(1024, 2**27 // per_draw))

    def backward(self) -> AbstractBackward:
        """The backward equations of the activation."""
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
        m = V0.shape[0]
        if width < m:
            raise ValueError(
                f"width={width} is smaller than the number of inputs m={m}: use width >= m, so that inputs as wide as "
                "the layers can have this Gram matrix."
            )
        floats = (depth + 2) * width * width + 8 * (depth + 1) * m * width
        batch = max(1, min(draws, 2**27 // (floats * V0.dtype.itemsize)))
        return sample_gradients_weights(
            self.activation, V0, key, width=width, depth=depth, draws=draws, layers=layers, batch=batch
        )
