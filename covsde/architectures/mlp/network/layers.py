"""The layers of a finite network: widths, shaping, biases and gain, as the samplers' loops see them."""

from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from covsde.activations import AbstractActivation
from covsde.numerics.tracing import is_traced


class Layer(NamedTuple):
    """One layer inside a loop: numbers, or traced scalars where layers differ.

    Attributes:
        phi: the activation at the width by which the layer is shaped.
        scale: c(1 + γ/N) of its activation.
        width: neurons, n_ℓ.
        bias: variance of its biases, β_b / N.
        mask: (widest,) 1 for real neurons and 0 for padding; None where all layers are equally wide.
    """

    phi: Callable[[Float[Array, "..."]], Float[Array, "..."]]
    scale: float | Float[Array, ""]
    width: int | Float[Array, ""]
    bias: float | Float[Array, ""]
    mask: Float[Array, " widest"] | None


class Layers(eqx.Module):
    """Widths n_ℓ of the hidden layers and what comes with them.

    Attributes:
        activation: shared by all layers, each shaped by its own N_ℓ.
        widths: n_ℓ, ℓ = 1 … depth.
        shaping: N_ℓ, the width that enters slopes, biases and gain: n_ℓ itself or the same for all.
        bias: β_b; biases are N(0, β_b / N_ℓ).
        gain: γ; c is multiplied by 1 + γ / N_ℓ.
    """

    activation: AbstractActivation
    widths: tuple[int, ...] = eqx.field(static=True)
    shaping: tuple[int, ...] = eqx.field(static=True)
    bias: float = eqx.field(static=True)
    gain: float = eqx.field(static=True)

    @classmethod
    def uniform(cls, activation: AbstractActivation, width: int, depth: int) -> "Layers":
        """Equal widths, without biases or gain."""
        return cls(activation, (width,) * depth, (width,) * depth, 0.0, 0.0)

    @property
    def depth(self) -> int:
        """Number of hidden layers."""
        return len(self.widths)

    @property
    def widest(self) -> int:
        """The largest width; narrower layers are padded to it."""
        return max(self.widths)

    @property
    def narrowest(self) -> int:
        """The smallest width."""
        return min(self.widths)

    def at(self, dtype: np.dtype) -> Callable[[Int[Array, ""] | int], Layer]:
        """How to look up a layer by its index 0 … depth - 1 inside a loop of this dtype."""
        c = {N: self.activation.normalisation(N) * (1 + self.gain / N) for N in set(self.shaping)}
        if not is_traced(c) and any(scale <= 0 for scale in c.values()):
            raise ValueError(f"gain={self.gain:g} makes 1 + gain/width negative: use a larger width or gain.")
        if len(set(self.widths)) == 1 and len(c) == 1:
            (N,) = c
            same = Layer(self.activation.at_width(N), c[N], self.widths[0], self.bias / N, None)
            return lambda index: same
        widths, shaping = jnp.asarray(self.widths, dtype), jnp.asarray(self.shaping, dtype)
        scales = jnp.asarray([c[N] for N in self.shaping], dtype)
        neurons = jnp.arange(self.widest).astype(dtype)

        def lookup(index: Int[Array, ""] | int) -> Layer:
            n, N = widths[index], shaping[index]
            mask = (neurons < n).astype(dtype)
            return Layer(self.activation.at_width(N), scales[index], n, self.bias / N, mask)

        return lookup
