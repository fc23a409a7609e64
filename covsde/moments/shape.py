"""What an activation is like as a function: linear, or with kinks."""

import jax
import jax.numpy as jnp
import numpy as np

from covsde.moments.of_activation import PiecewiseLinear, moments_of
from covsde.numerics.typing import Function


def is_linear(fn: Function) -> bool:
    """Whether φ(x) is a multiple of x."""
    moments = moments_of(fn)
    return isinstance(moments, PiecewiseLinear) and float(moments.plus) == float(moments.minus)


def has_kinks(fn: Function) -> bool:
    """Whether φ' jumps somewhere in [-10, 10]."""
    left, right = np.linspace(-10, 10, 20002)[:-1], np.linspace(-10, 10, 20002)[1:]

    def slopes(x: np.ndarray) -> np.ndarray:
        with jax.enable_x64(True), jax.ensure_compile_time_eval():
            return np.asarray(_derivative(fn, jnp.asarray(x)))

    # The largest change of the slope is looked at ever closer: a smooth function loses it.
    at = int(np.argmax(np.abs(slopes(right) - slopes(left))))
    low, high = left[at], right[at]
    first = abs(float(np.diff(slopes(np.array([low, high])))[0]))
    for _ in range(20):
        middle = (low + high) / 2
        a, b, c = slopes(np.array([low, middle, high]))
        low, high = (low, middle) if abs(b - a) > abs(c - b) else (middle, high)
    return first > 0 and abs(float(np.diff(slopes(np.array([low, high])))[0])) > first / 10


def _derivative(fn: Function, x: jax.Array) -> jax.Array:
    found: jax.Array = jax.jvp(fn, (x,), (jnp.ones_like(x),))[1]
    return found
