"""Losses of training: functions of outputs (P,) and targets (P,), summed over the data."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

Loss = Callable[[Float[Array, " P"], Float[Array, " P"]], Float[Array, ""]]


def squared(f: Float[Array, " P"], y: Float[Array, " P"]) -> Float[Array, ""]:
    """½ Σ (f - y)²."""
    return 0.5 * jnp.sum((f - y) ** 2)


def logistic(f: Float[Array, " P"], y: Float[Array, " P"]) -> Float[Array, ""]:
    """Σ log(1 + e^{-y f}), for y = ±1."""
    return jnp.sum(jax.nn.softplus(-y * f))


NAMED: dict[str, Loss] = {"squared": squared, "logistic": logistic}


def loss_named(loss: str | Loss) -> Loss:
    """The loss of this name, or `loss` itself if it is a function.

    Raises:
        ValueError: for an unknown name.
    """
    if isinstance(loss, str):
        if loss not in NAMED:
            raise ValueError(f"loss must be one of {', '.join(map(repr, NAMED))} or a function, got {loss!r}.")
        return NAMED[loss]
    if not callable(loss):
        raise ValueError(f"loss must be 'squared', 'logistic' or a function of (outputs, targets), got {loss!r}.")
    return loss


def checked_loss(loss: str | Loss, targets: Float[np.ndarray, " P"]) -> Loss:
    """The loss of this name or `loss` itself, if it maps outputs and targets (P,) to one number and is for these.

    Raises:
        ValueError: for an unknown name, a function that does something else, or targets of "logistic" other than ±1.
    """
    function, inputs = loss_named(loss), targets.shape[0]
    if function is logistic and not np.all(np.abs(targets) == 1):
        remedy = (
            "pass 2 * targets - 1 for labels 0 and 1"
            if set(targets.tolist()) <= {0, 1}
            else "use loss='squared' for numbers"
        )
        raise ValueError(f"targets must be +1 or -1 for loss='logistic', got {_some(targets)}: {remedy}.")
    example = jax.ShapeDtypeStruct((inputs,), jnp.result_type(float))
    wanted = (
        f"loss must be a JAX function of outputs and targets, each of shape ({inputs},), that returns one real number"
    )
    try:
        found = jax.eval_shape(function, example, example)
    except Exception as error:
        raise ValueError(f"{wanted}; calling it raised {type(error).__name__}.") from error
    if not hasattr(found, "shape") or found.shape != () or not jnp.issubdtype(found.dtype, jnp.floating):
        raise ValueError(f"{wanted}; it returned {found!r}.")
    return function


def _some(targets: Float[np.ndarray, " P"]) -> str:
    values = np.unique(targets)
    return ", ".join(f"{value:g}" for value in values[:4]) + (", …" if values.size > 4 else "")
