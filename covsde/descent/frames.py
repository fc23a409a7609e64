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


def _split(mean: AbstractMeans, frame: Frame, v: Vectors) -> tuple[Array, Vectors]:
    """Components on a frame, taken off twice, and the rest."""
    c = mean.products(v, frame)
    rest = v - c @ frame
    again = mean.products(rest, frame)
    return c + again, rest - again @ frame


class Dropping(AbstractFrames):
    """A vector that is rounding beside those before it has no direction: 0."""

    def reveal(self, mean: AbstractMeans, frame: Frame, v: Vectors, at: Array) -> tuple[Array, Vectors]:
        """By a Cholesky factor of what is left, column by column."""
        c, rest = _split(mean, frame, v)
        norm, whole = (square_root(mean.squares(u)) for u in (rest, v))
        new = norm > ROUNDING * jnp.finfo(v.dtype).eps * whole
        unit = jnp.where(new[:, None], rest / jnp.where(new, norm, 1)[:, None], 0)
        L, _ = semidefinite_cholesky(mean.products(unit, unit)[None])
        pivot = jnp.diagonal(L[0])
        L = L[0] + jnp.diag(jnp.where(pivot > 0, 0, 1).astype(v.dtype))
        directions = jnp.where((pivot > 0)[:, None], inverse(L) @ unit, 0)
        L = jnp.where((pivot > 0)[None, :], L, 0) * norm[:, None]
        return jax.lax.dynamic_update_slice(c, jnp.where(new[:, None], L, 0), (0, at)), directions

    def known(self, directions: Vectors, images: Vectors) -> Vectors:
        """0 where the direction is."""
        return jnp.where(jnp.any(directions != 0, axis=1)[:, None], images, 0)


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
