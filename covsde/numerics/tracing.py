"""What is known while JAX traces a function: numbers are, the values of traced scalars are not."""

from typing import Any

import jax

from covsde.numerics.typing import Hyperparameter


def is_traced(tree: Any) -> bool:
    """Whether anything in it is an argument of a JAX transformation, whose value is not known."""
    return any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(tree))


def as_number(value: Any) -> Hyperparameter:
    """A float, or the traced scalar itself."""
    return value if is_traced(value) else float(value)
