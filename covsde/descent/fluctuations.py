"""How networks of finite width fluctuate around their mean-field limit: derivatives with respect to its measures.

With its matrices revealed, a network of width N is in law a functional T of the empirical measures of N independent
units on every layer, the same T at every N. To leading order

    N Cov[f_a, f_b] = Σ_ℓ ⟨IF^ℓ_a IF^ℓ_b⟩,     N (E f - f_∞) = ½ Σ_ℓ ⟨T''_ℓℓ⟩,

where the influence IF^ℓ_i of a unit is the derivative of T by its weight p^ℓ_i = 1/M in the mean over M particles. In
a linear network T is one of the covariances C^ℓ of the Gaussian sources on every layer, which are Wishart/N: with
A^ℓ = sym ∂f/∂C^ℓ the sums are 2 Σ_ℓ tr A^ℓ_a A^ℓ_b, and half of the second derivatives along an orthonormal basis.

Every response acts here, those of labels that have not: they vanish in the limit and fluctuate.

Source: arXiv 2304.03408 (dynamical mean-field theory at order 1/N); the delta method for empirical measures.
"""

import abc
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from covsde.descent.frames import Ridged
from covsde.descent.mean_field import UpdateRule
from covsde.descent.means import AbstractMeans, Quadratic, Weighted
from covsde.descent.particles import System, reading_shapes, source_shape, train_particles
from covsde.descent.passes import sweep
from covsde.descent.sources import AbstractNoise, Exact, Matched, Shape, Sources
from covsde.descent.task import Task
from covsde.moments.shape import is_linear

# Second derivatives along a whole basis up to this size; beyond it along random directions.
_BASIS = 300
# Derivatives taken together.
_BATCH = 8


class AbstractMeasure(eqx.Module):
    """What the empirical measures of a network fluctuate around."""

    @property
    @abc.abstractmethod
    def noise(self) -> AbstractNoise:
        """Where sources come from."""

    @abc.abstractmethod
    def start(self, dtype: Any) -> Array:
        """The parameters of the limit, layers first."""

    @abc.abstractmethod
    def means(self, parameters: Array) -> AbstractMeans:
        """Those of a network."""

    @abc.abstractmethod
    def covariance(self, slopes: Float[Array, "count *parameters"]) -> Float[Array, "count count"]:
        """N Cov of what has these derivatives."""

    @abc.abstractmethod
    def direction(self, key: PRNGKeyArray, like: Array) -> Array:
        """A random one, √N times the fluctuation of the parameters to leading order."""

    @abc.abstractmethod
    def basis(self, like: Array) -> Array | None:
        """Directions whose second derivatives, halved, add up to the shift; None if there are too many."""


class Answered(AbstractNoise):
    """Sources of the limit to which everything responds, as in a network.

    Attributes:
        limit: those.
    """

    causal: ClassVar[bool] = False

    limit: AbstractNoise

    @property
    def together(self) -> int:
        """As in the limit."""
        return self.limit.together

    def sources(self, key: PRNGKeyArray, shape: Shape, dtype: jnp.dtype) -> Sources:
        """As in the limit."""
        return self.limit.sources(key, shape, dtype)

    def more(self, key: PRNGKeyArray, known: Sources, shape: Shape) -> Sources:
        """As in the limit."""
        return self.limit.more(key, known, shape)


class Particles(AbstractMeasure):
    """Particles of equal weight.

    Attributes:
        count: M.
        layers: of the network.
        tests: test inputs, all of them read together.
    """

    count: int = eqx.field(static=True)
    layers: int = eqx.field(static=True)
    tests: int = eqx.field(static=True)

    @property
    def noise(self) -> AbstractNoise:
        """Orthonormal over the particles."""
        return Answered(Matched(self.count, max(1, self.tests)))

    def start(self, dtype: Any) -> Array:
        """1/M each."""
        return jnp.full((self.layers, self.count), 1 / self.count, dtype)

    def means(self, parameters: Array) -> AbstractMeans:
        """Weighted ones."""
        return Weighted(parameters)

    def covariance(self, slopes: Float[Array, "count layers n"]) -> Float[Array, "count count"]:
        """Σ_ℓ ⟨IF IF⟩."""
        influence = slopes - jnp.mean(slopes, axis=-1, keepdims=True)
        flat = influence.reshape(influence.shape[0], -1)
        return flat @ flat.T / self.count

    def direction(self, key: PRNGKeyArray, like: Array) -> Array:
        """Normals, centred on every layer."""
        delta = jax.random.normal(key, like.shape, like.dtype)
        return (delta - jnp.mean(delta, axis=-1, keepdims=True)) / self.count**0.5

    def basis(self, like: Array) -> Array | None:
        """None: units are many."""
        return None


class SourceCovariances(AbstractMeasure):
    """The covariances of the Gaussian sources of a linear network, one particle each.

    Attributes:
        count: S, the sources of training and of one reading.
        trained: those of training.
        layers: of the network.
        tests: test inputs, all of them read together.
    """

    count: int = eqx.field(static=True)
    trained: int = eqx.field(static=True)
    layers: int = eqx.field(static=True)
    tests: int = eqx.field(static=True)

    @property
    def noise(self) -> AbstractNoise:
        """One particle for each source."""
        return Answered(Exact(self.count, self.trained, max(1, self.tests)))

    def start(self, dtype: Any) -> Array:
        """1 on every layer."""
        return jnp.broadcast_to(jnp.eye(self.count, dtype=dtype), (self.layers, self.count, self.count))

    def means(self, parameters: Array) -> AbstractMeans:
        """Quadratic ones."""
        return Quadratic(parameters)

    def covariance(self, slopes: Float[Array, "count layers n n"]) -> Float[Array, "count count"]:
        """2 Σ_ℓ tr A^ℓ A^ℓ."""
        A = (slopes + jnp.swapaxes(slopes, -1, -2)) / 2
        flat = A.reshape(A.shape[0], -1)
        return 2 * flat @ flat.T

    def direction(self, key: PRNGKeyArray, like: Array) -> Array:
        """Symmetric normals, of variance 2 on the diagonal: Wishart/N around 1."""
        X = jax.random.normal(key, like.shape, like.dtype)
        return (X + jnp.swapaxes(X, -1, -2)) / 2**0.5

    def basis(self, like: Array) -> Array | None:
        """e_i e_jᵀ + e_j e_iᵀ and √2 e_i e_iᵀ on every layer."""
        if self.layers * self.count * (self.count + 1) // 2 > _BASIS * self.layers:
            return None
        rows, columns = np.tril_indices(self.count)
        D = np.zeros((rows.size, self.count, self.count))
        D[np.arange(rows.size), rows, columns] = D[np.arange(rows.size), columns, rows] = 1
        D[rows == columns] *= 2**0.5
        whole = np.zeros((self.layers, rows.size, self.layers, self.count, self.count))
        whole[np.arange(self.layers), :, np.arange(self.layers)] = D
        return jnp.asarray(whole.reshape(-1, *whole.shape[2:]), like.dtype)


class Found(NamedTuple):
    """The fluctuations of one system.

    Attributes:
        outputs: of the limit, (updates + 1, M, C).
        covariance: N Cov of all of them, (count, count).
        shift: N (E f - f_∞), of the shape of outputs, or NaN if it was not asked for.
        shift_error: its standard error over directions, 0 where a whole basis was taken.
        kernels: N Var of the diagonals of Phi and G at every layer and of the tangent kernels: by name.
    """

    outputs: Array
    covariance: Array
    shift: Array
    shift_error: Array
    kernels: dict[str, Array]


def measure_of(rule: UpdateRule, task: Task, blocks: int, particles: int) -> AbstractMeasure:
    """Source covariances of a linear network, and otherwise so many particles."""
    tests = len(task.batches.tests)
    if not is_linear(rule.fn):
        return Particles(particles, blocks + 1, tests)
    trained = source_shape(task, blocks).total
    more = max([shape.total for shape in reading_shapes(task, blocks, max(1, tests))], default=0)
    return SourceCovariances(trained + more, trained, blocks + 1, tests)


@eqx.filter_jit
def fluctuations_of(
    rule: UpdateRule, task: Task, measure: AbstractMeasure, blocks: int, directions: int, key: PRNGKeyArray
) -> Found:
    """Leading fluctuations of everything that training gives.

    Args:
        rule: how the network is trained.
        task: what is trained.
        measure: around which.
        blocks: matrices between hidden layers.
        directions: random ones for kernels and, where there is no basis, for the shift; 0 leaves them out.
        key: of sources and directions.

    Returns:
        What one system gives; its outputs are those of the limit.
    """
    draw, later, ways = jax.random.split(key, 3)
    noise = measure.noise
    sources = noise.sources(draw, source_shape(task, blocks), task.dtype)

    def functional(parameters: Array) -> tuple[Array, dict[str, Array]]:
        given = System(sources, noise, measure.means(parameters), later, Ridged())
        found = train_particles(rule, task, given, tuple(range(blocks + 1)), sweep)
        diagonal = {"Phi": found.Phi, "G": found.G}
        kernels = {name: jnp.diagonal(x, axis1=1, axis2=2) for name, x in diagonal.items()}
        return found.outputs, kernels | {"ntk": blocks * found.ntk + found.ends}

    start = measure.start(task.dtype)
    outputs, pull = jax.vjp(lambda p: functional(p)[0], start)
    count = outputs.size
    covectors = jnp.eye(count, dtype=outputs.dtype).reshape(count, *outputs.shape)
    slopes = jax.lax.map(lambda c: pull(c)[0], covectors, batch_size=_BATCH)
    shift, error = _shift(lambda p: functional(p)[0], measure, start, directions, ways)
    return Found(
        outputs, measure.covariance(slopes), shift, error, _kernels(functional, measure, start, directions, ways)
    )


def _kernels(
    functional: Callable[[Array], Any], measure: AbstractMeasure, start: Array, directions: int, key: PRNGKeyArray
) -> dict[str, Array]:
    """N Var along random directions."""
    if not directions:
        return {}

    def change(k: PRNGKeyArray) -> dict[str, Array]:
        moved: dict[str, Array] = jax.jvp(lambda p: functional(p)[1], (start,), (measure.direction(k, start),))[1]
        return moved

    changes = jax.lax.map(change, jax.random.split(key, directions), batch_size=_BATCH)
    return {name: jnp.mean(x * x, axis=0) for name, x in changes.items()}


def _shift(
    outputs: Callable[[Array], Array], measure: AbstractMeasure, start: Array, directions: int, key: PRNGKeyArray
) -> tuple[Array, Array]:
    """Half of the second derivatives, along a basis or on average over random directions."""

    def bend(D: Array) -> Array:
        def slope(p: Array) -> Array:
            return jax.jvp(outputs, (p,), (D,))[1]

        return jax.jvp(slope, (start,), (D,))[1]

    basis = measure.basis(start)
    if basis is not None:
        total = jnp.sum(jax.lax.map(bend, basis, batch_size=_BATCH), axis=0) / 2
        return total, jnp.zeros_like(total)
    if not directions:
        unknown = jnp.full(jax.eval_shape(outputs, start).shape, jnp.nan, start.dtype)
        return unknown, unknown
    keys = jax.random.split(key, directions)
    bends = jax.lax.map(lambda k: bend(measure.direction(k, start)) / 2, keys, batch_size=_BATCH)
    return jnp.mean(bends, axis=0), jnp.std(bends, axis=0, ddof=1) / directions**0.5
