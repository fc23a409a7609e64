"""Orthonormal frames of the vectors that a matrix has met, and the images of new directions.

A vector in the span of earlier ones has no direction of its own. Training drops it (`Dropping`). To first order in the
fluctuations of a network of finite width, though, what is dependent in the limit need not be so: derivatives are taken
with every direction kept, of a length that is small and not 0 (`Ridged`).
"""

import abc

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from covsde.descent.householder import ROUNDING
from covsde.descent.means import AbstractMeans
from covsde.descent.sources import inverse
from covsde.numerics.linalg import semidefinite_cholesky, square_root

Vectors = Float[Array, "P particles"]
Frame = Float[Array, "labels particles"]


class AbstractFrames(eqx.Module):
    """How new vectors extend a frame."""

    @abc.abstractmethod
    def reveal(self, mean: AbstractMeans, frame: Frame, v: Vectors, at: Array) -> tuple[Array, Vectors]:
        """Components of new vectors on a frame that they extend, and its new directions.

        Args:
            mean: of the layer.
            frame: orthonormal vectors; rows from `at` on are 0.
            v: new vectors, whose directions will be rows at … at + P - 1 of the frame.
            at: number of rows in use.

        Returns:
            Components (P, labels), those on the new directions included, and the directions (P, particles).
        """

    @abc.abstractmethod
    def known(self, directions: Vectors, images: Vectors) -> Vectors:
        """Images of directions, without those of directions that are none."""

    def images(
        self,
        means: tuple[AbstractMeans, AbstractMeans],
        directions: Vectors,
        fresh: Vectors,
        other: tuple[Frame, Frame],
        response: Float[Array, "*labels"],
    ) -> Vectors:
        """N^{-1/2} W e of new directions e, given the other side's frame q and images ζ.

        Args:
            means: of the layer of e and ζ, and of that of q.
            directions: e.
            fresh: independent of everything.
            other: q and ζ.
            response: 1, or 0 where the answer to ζ is left out.
        """
        (here, there), (frame, images) = means, other
        answer = here.products(directions, images) - there.products(fresh, frame)
        return self.known(directions, fresh + (response * answer) @ frame)


def _factored(mean: AbstractMeans, vectors: Vectors) -> tuple[Float[Array, "P P"], Vectors]:
    """L and orthonormal directions with L · directions = vectors; 0 for a direction that depends on those before."""
    L, _ = semidefinite_cholesky(mean.products(vectors, vectors)[None])
    known = jnp.diagonal(L[0]) > 0
    whole = L[0] + jnp.diag(jnp.where(known, 0, 1).astype(vectors.dtype))
    directions = jnp.where(known[:, None], inverse(whole) @ vectors, 0)
    return jnp.where(known[None, :], whole, 0), directions


# Less than this left of a direction, squared, beyond those that were known: it was rounding.
_LEFT = 0.01


class Dropping(AbstractFrames):
    """A vector that is rounding beside those before it has no direction: 0."""

    def reveal(self, mean: AbstractMeans, frame: Frame, v: Vectors, at: Array) -> tuple[Array, Vectors]:
        """What is left of the vectors is factored, and what is left of that again.

        Inputs learn along nearly the same directions, and late in training hardly at all. Rounding in what is left is
        then large beside it, and a frame that is not orthonormal spoils all that comes after.
        """
        c = mean.products(v, frame)
        rest = v - c @ frame
        norm, whole = (square_root(mean.squares(u)) for u in (rest, v))
        new = norm > ROUNDING * jnp.finfo(v.dtype).eps * whole
        first, directions = _factored(mean, jnp.where(new[:, None], rest / jnp.where(new, norm, 1)[:, None], 0))
        back = mean.products(directions, frame)
        directions = directions - back @ frame
        kept = mean.squares(directions) > _LEFT
        second, directions = _factored(mean, jnp.where(kept[:, None], directions, 0))
        first = jnp.where(new, norm, 0)[:, None] * first
        return jax.lax.dynamic_update_slice(c + first @ back, first @ second, (0, at)), directions

    def known(self, directions: Vectors, images: Vectors) -> Vectors:
        """0 where the direction is."""
        return jnp.where(jnp.any(directions != 0, axis=1)[:, None], images, 0)


def _split(mean: AbstractMeans, frame: Frame, v: Vectors) -> tuple[Array, Vectors]:
    """Components on a frame, taken off twice, and the rest."""
    c = mean.products(v, frame)
    rest = v - c @ frame
    again = mean.products(rest, frame)
    return c + again, rest - again @ frame


class Ridged(AbstractFrames):
    """Every vector has a direction, be it as short as rounding.

    Attributes:
        size: what is added to the squared length of a rest, relative to that of the vector; its root is the error.
    """

    size: float = eqx.field(static=True, default=1e-9)

    def reveal(self, mean: AbstractMeans, frame: Frame, v: Vectors, at: Array) -> tuple[Array, Vectors]:
        """By a Cholesky factor of what is left, which is made definite."""
        c, rest = _split(mean, frame, v)
        tiny = jnp.finfo(v.dtype).tiny ** 0.5
        ridge = self.size * mean.squares(v) + tiny
        L = jnp.linalg.cholesky(mean.products(rest, rest) + jnp.diag(ridge))
        return jax.lax.dynamic_update_slice(c, L, (0, at)), inverse(L) @ rest

    def known(self, directions: Vectors, images: Vectors) -> Vectors:
        """All of them."""
        return images
