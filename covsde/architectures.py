"""Architectures: hyperparameters with two faces, a limit and a finite network."""

import abc
import math
from collections.abc import Callable, Sequence
from typing import Any

import diffrax
import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from covsde._check import finite_number, positive_int, typed_key
from covsde.activations import AbstractActivation
from covsde.limits.base import AbstractCovarianceLimit
from covsde.limits.clock import AbstractClock, TabulatedClock, UniformClock
from covsde.limits.mlp import AbstractDrift, Affine, NeuralCovarianceSDE, drift_of
from covsde.networks.layers import Layers
from covsde.networks.mlp import MLPNetwork, sample_grams_law, sample_grams_weights
from covsde.solvers import Strang

# Above this a default is more likely a slip than a wish.
_MOST_STEPS = 100_000
# Pieces of layer time on which a width profile is held constant in the limit.
_PROFILE_PIECES = 1000


class AbstractArchitecture(eqx.Module):
    """What the ensemble drivers need; nothing outside an architecture's own files asks which one it is."""

    depth_to_width: eqx.AbstractVar[float]

    @abc.abstractmethod
    def limit(self) -> AbstractCovarianceLimit:
        """The equation of the infinite face."""

    @abc.abstractmethod
    def default_solver(self) -> diffrax.AbstractSolver:
        """The solver of `covsde.solvers` that suits the equation best."""

    @abc.abstractmethod
    def default_steps(self, V0: Float[np.ndarray, "m m"]) -> int:
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
        save: tuple[int, ...],
    ) -> Float[Array, "times draws m m"]:
        """Gram matrices of independent finite networks at the layers in `save`, (len(save), draws, m, m)."""

    @abc.abstractmethod
    def network_chunk(self, m: int, width: int, depth: int, itemsize: int) -> int:
        """How many networks to sample at once in about 128 MiB."""


def default_step_count(per_layer_time: float) -> int:
    """10 steps per unit of the fastest time scale, refused above 100000."""
    steps = 10 * max(1, math.ceil(per_layer_time - 1e-9))
    if steps > _MOST_STEPS:
        raise ValueError(
            f"the limit would need about {steps} steps: lower depth_to_width, the shaping (c_plus - c_minus, or a "
            "larger a) or the input variances, or pass steps yourself."
        )
    return steps


WidthProfile = Callable[[float], float] | tuple[float, ...]


def _width_profile(profile: Any) -> WidthProfile | None:
    if profile is None or callable(profile):
        return profile
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


class MLP(AbstractArchitecture):
    """A fully connected network with depth proportional to width.

    Args:
        activation: ShapedReLU, ShapedSmooth or Identity (limit and networks); LeakyReLU (networks only).
        depth_to_width: T = depth / width, the clock time of the limit; > 0.
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

    activation: AbstractActivation
    depth_to_width: float
    bias: float = 0.0
    gain: float = 0.0
    width_profile: WidthProfile | None = eqx.field(static=True, default=None)
    shaping_width: str = eqx.field(static=True, default="local")

    def __init__(
        self,
        activation: AbstractActivation,
        depth_to_width: float = 1.0,
        *,
        bias: float = 0.0,
        gain: float = 0.0,
        width_profile: Callable[[float], float] | Sequence[float] | None = None,
        shaping_width: str = "local",
    ):
        if not isinstance(activation, AbstractActivation):
            raise ValueError(
                f"activation must be ShapedReLU, ShapedSmooth, LeakyReLU or Identity, got {activation!r}; wrap a "
                "smooth function as ShapedSmooth(fn); one neither piecewise linear nor smooth at 0 has no limit."
            )
        self.activation = activation
        self.depth_to_width = finite_number("depth_to_width", depth_to_width)
        if self.depth_to_width <= 0:
            raise ValueError(f"depth_to_width must be a positive finite number, got {depth_to_width}.")
        self.bias, self.gain = finite_number("bias", bias), finite_number("gain", gain)
        if self.bias < 0:
            raise ValueError(f"bias must be at least 0, got {bias}: it is n times the variance of the biases.")
        self.width_profile = _width_profile(width_profile)
        if shaping_width not in ("local", "common"):
            raise ValueError(f"shaping_width must be 'local' or 'common', got {shaping_width!r}.")
        self.shaping_width = shaping_width

    def drift(self) -> AbstractDrift:
        """b per unit of clock time, with bias and gain."""
        inner = drift_of(self.activation)
        return Affine(inner, self.bias, self.gain) if self.bias or self.gain else inner

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
        """10 steps per unit of clock time and per unit of stiffness."""
        sde = self.limit()
        stiffness = sde.drift.stiffness(float(np.max(np.diag(V0))))
        return default_step_count(max(sde.noise_clock.fastest(), sde.drift_clock.fastest() * stiffness))

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
        dtype: jnp.dtype | None = None,
    ) -> MLPNetwork:
        """The Equinox network itself, with real weights.

        Args:
            width: neurons per hidden layer, n; with a width profile, the base width.
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
        width = positive_int("width", width)
        depth = self.depth(width) if depth is None else positive_int("depth", depth)
        return MLPNetwork(
            self.layers(width, depth),
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
            batch = max(1, min(draws, 2**27 // weights))
            return sample_grams_weights(layers, V0, key, draws=draws, save=save, batch=batch)
        raise ValueError(f"method must be 'law' or 'weights', got {method!r}.")

    def network_chunk(self, m: int, width: int, depth: int, itemsize: int) -> int:
        """Bounded by the normals of one layer and the saved path."""
        per_draw = (4 * m * self.layers(width, depth).widest + (depth + 1) * m * m) * itemsize
        return max(16, min(1024, 2**27 // per_draw))
