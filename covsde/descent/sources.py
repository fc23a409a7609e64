"""Everything random in a network whose matrices are only revealed: normals, or vectors with their exact moments.

Independent normals make a network, in law. For the limit they are made orthonormal over the particles (`Matched`):
quadratic averages of what is linear in them are then exact, and most fluctuations go. A linear network needs no
sampling at all: any orthonormal vectors will do (`Exact`).
"""

import abc
from typing import ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

# Sources made orthonormal together: a Gram matrix of them is factored.
_GROUP = 2048


class Sources(NamedTuple):
    """Standard normals, or vectors of mean square 1.

    Attributes:
        inputs: for the input layer, one per input, (P, particles).
        readouts: (C, particles); none for inputs that are only read.
        forward: fresh images of each block's forward vectors, (depth, labels, particles).
        backward: the same for backward vectors, (depth, labels, particles), or none.
    """

    inputs: Float[Array, "P particles"]
    readouts: Float[Array, "C particles"]
    forward: Float[Array, "depth forward particles"]
    backward: Float[Array, "depth backward particles"]


class Shape(NamedTuple):
    """How many sources there are: of inputs, readouts, and per block of forward and backward labels."""

    inputs: int
    readouts: int
    depth: int
    forward: int
    backward: int

    @property
    def total(self) -> int:
        """All of them."""
        return self.inputs + self.readouts + self.depth * (self.forward + self.backward)

    def parts(self, vectors: Float[Array, "count particles"]) -> Sources:
        """So many vectors as sources."""
        first, ends, middle = self.inputs, self.inputs + self.readouts, self.depth * self.forward
        forward, backward = vectors[ends : ends + middle], vectors[ends + middle :]
        return Sources(
            vectors[:first],
            vectors[first:ends],
            forward.reshape(self.depth, self.forward, vectors.shape[1]),
            backward.reshape(self.depth, self.backward, vectors.shape[1]),
        )


class AbstractNoise(eqx.Module):
    """Where sources come from.

    Attributes:
        causal: whether they are of the limit, in which nothing later than an input acts on it.
    """

    causal: eqx.AbstractClassVar[bool]

    @abc.abstractmethod
    def sources(self, key: PRNGKeyArray, shape: Shape, dtype: jnp.dtype) -> Sources:
        """Those of training."""

    @property
    @abc.abstractmethod
    def together(self) -> int:
        """How many test inputs are read at a time."""

    @abc.abstractmethod
    def more(self, key: PRNGKeyArray, known: Sources, shape: Shape) -> Sources:
        """Others, of inputs that are read after it."""


class Independent(AbstractNoise):
    """Normals: the sources of networks.

    Attributes:
        particles: the width.
        group: how many test inputs are read at a time.
    """

    causal: ClassVar[bool] = False

    particles: int = eqx.field(static=True)
    group: int = eqx.field(static=True, default=1)

    @property
    def together(self) -> int:
        """The group."""
        return self.group

    def sources(self, key: PRNGKeyArray, shape: Shape, dtype: jnp.dtype) -> Sources:
        """Normals."""
        return shape.parts(jax.random.normal(key, (shape.total, self.particles), dtype))

    def more(self, key: PRNGKeyArray, known: Sources, shape: Shape) -> Sources:
        """Normals again."""
        return self.sources(key, shape, known.inputs.dtype)


class Matched(AbstractNoise):
    """Normals made orthonormal over the particles: all of them if there are few, otherwise within groups.

    The groups share the sources of inputs and readouts. Bias of order 1/particles, as for the particles themselves.

    Attributes:
        particles: how many.
        group: how many test inputs are read at a time.
    """

    causal: ClassVar[bool] = True

    particles: int = eqx.field(static=True)
    group: int = eqx.field(static=True, default=1)

    @property
    def together(self) -> int:
        """The group."""
        return self.group

    def sources(self, key: PRNGKeyArray, shape: Shape, dtype: jnp.dtype) -> Sources:
        """In groups."""
        start = jax.random.normal(key, (shape.total, self.particles), dtype)
        kept = shape.inputs + shape.readouts
        base, parts = start[:kept], []
        for group in self._groups(start[kept:], kept) or [start[kept:]]:
            block = jnp.concatenate([base, group])
            block = inverse(jnp.linalg.cholesky(block @ block.T / self.particles)) @ block
            base = block[:kept]
            parts.append(block[kept:])
        return shape.parts(jnp.concatenate([base, *parts]))

    def more(self, key: PRNGKeyArray, known: Sources, shape: Shape) -> Sources:
        """In groups that are orthonormal to the sources of training, or where these are groups to what they share."""
        start = jax.random.normal(key, (shape.total, self.particles), known.inputs.dtype)
        base = jnp.concatenate([u.reshape(-1, self.particles) for u in known])
        shared = known.inputs.shape[0] + known.readouts.shape[0]
        if len(self._groups(base[shared:], shared)) > 1:
            base = base[:shared]
        parts = []
        for group in self._groups(start, shared):
            rest = group - (group @ base.T / self.particles) @ base
            parts.append(inverse(jnp.linalg.cholesky(rest @ rest.T / self.particles)) @ rest)
        return shape.parts(jnp.concatenate(parts))

    def _groups(self, vectors: Array, kept: int) -> list[Array]:
        """Vectors in groups that are few beside the particles, with as many as are kept."""
        most = min(_GROUP, self.particles // 4)
        size = max(1, most - kept, min(kept, most))
        return [vectors[first : first + size] for first in range(0, vectors.shape[0], size)]


class Exact(AbstractNoise):
    """As many particles as sources, one for each: what linear networks need to be solved without sampling.

    Attributes:
        particles: the number of sources, those of one reading included: no two readings meet.
        trained: how many of them are for training.
        group: how many test inputs are read at a time.
    """

    causal: ClassVar[bool] = True

    particles: int = eqx.field(static=True)
    trained: int = eqx.field(static=True)
    group: int = eqx.field(static=True, default=1)

    @property
    def together(self) -> int:
        """The group."""
        return self.group

    def sources(self, key: PRNGKeyArray, shape: Shape, dtype: jnp.dtype) -> Sources:
        """The first particles."""
        return self._one_each(0, shape, dtype)

    def more(self, key: PRNGKeyArray, known: Sources, shape: Shape) -> Sources:
        """The particles after those."""
        return self._one_each(self.trained, shape, known.inputs.dtype)

    def _one_each(self, first: int, shape: Shape, dtype: jnp.dtype) -> Sources:
        root = jnp.sqrt(jnp.asarray(self.particles, dtype))
        return shape.parts(root * jnp.eye(shape.total, self.particles, first, dtype=dtype))


class Coarser(AbstractNoise):
    """The sources of a network of half the depth that sees the same noise.

    Attributes:
        fine: of a network of twice the depth.
        known: what that has for training.
        group: how many test inputs are read at a time.
    """

    causal: ClassVar[bool] = True

    fine: AbstractNoise
    known: Sources
    group: int = eqx.field(static=True)

    @property
    def together(self) -> int:
        """The group."""
        return self.group

    def sources(self, key: PRNGKeyArray, shape: Shape, dtype: jnp.dtype) -> Sources:
        """Sums of two."""
        return coarser(self.known)

    def more(self, key: PRNGKeyArray, known: Sources, shape: Shape) -> Sources:
        """Sums of two."""
        return coarser(self.fine.more(key, self.known, shape._replace(depth=2 * shape.depth)))


def coarser(sources: Sources) -> Sources:
    """The sources of a network of half the depth that sees the same noise."""

    def pairs(z: Array) -> Array:
        return (z[0::2] + z[1::2]) / jnp.sqrt(jnp.asarray(2, z.dtype))

    return sources._replace(forward=pairs(sources.forward), backward=pairs(sources.backward))


def inverse(L: Float[Array, "a a"]) -> Float[Array, "a a"]:
    """Of a lower triangular matrix; substitution into long rows is two orders slower than the product with it."""
    return jax.scipy.linalg.solve_triangular(L, jnp.eye(L.shape[0], dtype=L.dtype), lower=True)
