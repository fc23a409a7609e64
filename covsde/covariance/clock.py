"""Clocks: how much of a limit's time passes over layer time τ = ℓ/L.

Noise accumulates as t = Σ 1/n_ℓ, drift as Σ 1/N_ℓ with N_ℓ the width by which layer ℓ is shaped. With equal widths both
run uniformly, at T = L/n; otherwise each layer contributes by its own width.

Source: arXiv 2206.02768; for unequal widths the clock Σ 1/n_ℓ of Hanin and Nica, arXiv 1812.05994.
"""

import abc

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from covsde.numerics.tracing import as_number, is_traced
from covsde.numerics.typing import Hyperparameter

# What Diffrax calls a real scalar.
Time = int | float | Array | np.ndarray


class AbstractClock(eqx.Module):
    """A non-decreasing function of layer time, 0 at τ = 0."""

    @abc.abstractmethod
    def rate(self, tau: Time) -> Array:
        """Clock time per unit of layer time at τ."""

    @abc.abstractmethod
    def elapsed(self, start: Time, end: Time) -> Array:
        """Clock time between two layer times."""

    @abc.abstractmethod
    def fastest(self) -> Hyperparameter:
        """The largest rate."""


class UniformClock(AbstractClock):
    """t = T τ."""

    total: Float[Array, ""] | float

    def rate(self, tau: Time) -> Array:
        """T."""
        return jnp.asarray(self.total)

    def elapsed(self, start: Time, end: Time) -> Array:
        """T (end - start)."""
        return self.total * jnp.asarray(end - start)

    def fastest(self) -> Hyperparameter:
        """T."""
        return as_number(self.total)


class TabulatedClock(AbstractClock):
    """A clock whose rate is constant on equal pieces of layer time.

    Attributes:
        rates: (pieces,) clock time per unit of layer time on each piece, positive.
        totals: (pieces + 1,) clock time at the ends of the pieces.
    """

    rates: Float[Array, " pieces"] | Float[np.ndarray, " pieces"]
    totals: Float[Array, " ends"] | Float[np.ndarray, " ends"]

    def __init__(self, rates: np.ndarray | Array):
        if is_traced(rates):
            self.rates = rates
            self.totals = jnp.concatenate([jnp.zeros_like(rates[:1]), jnp.cumsum(rates) / rates.size])
        else:
            self.rates = np.asarray(rates, np.float64)
            self.totals = np.concatenate([[0.0], np.cumsum(self.rates) / self.rates.size])

    def rate(self, tau: Time) -> Array:
        """The rate of the piece that holds τ."""
        pieces = self.rates.shape[0]
        index = jnp.clip(jnp.floor(jnp.asarray(tau) * pieces).astype(jnp.int32), 0, pieces - 1)
        return jnp.asarray(self.rates)[index]

    def elapsed(self, start: Time, end: Time) -> Array:
        """The difference of two linear interpolations in the table."""
        totals = jnp.asarray(self.totals)
        ends = jnp.linspace(0.0, 1.0, totals.shape[0], dtype=totals.dtype)

        def at(tau: Time) -> Array:
            return jnp.interp(jnp.asarray(tau, totals.dtype), ends, totals)

        return at(end) - at(start)

    def fastest(self) -> Hyperparameter:
        """The largest rate of the table."""
        return as_number(jnp.max(self.rates) if is_traced(self.rates) else np.max(np.asarray(self.rates)))
