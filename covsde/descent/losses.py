"""Losses of training: functions of outputs and targets, (P,) or for several outputs (P, C), summed over the data."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from numpy.typing import NDArray

Outputs = Float[Array, "P *C"]
Loss = Callable[[Outputs, Outputs], Float[Array, ""]]


def squared(f: Outputs, y: Outputs) -> Float[Array, ""]:
    """½ Σ (f - y)²."""
    return 0.5 * jnp.sum((f - y) ** 2)


def logistic(f: Float[Array, " P"], y: Float[Array, " P"]) -> Float[Array, ""]:
    """Σ log(1 + e^{-y f}), for y = ±1."""
    return jnp.sum(jax.nn.softplus(-y * f))


def cross_entropy(f: Float[Array, "P C"], y: Float[Array, "P C"]) -> Float[Array, ""]:
    """-Σ y·log softmax f, for probabilities y of the C classes."""
    return -jnp.sum(y * jax.nn.log_softmax(f, axis=-1))


NAMED: dict[str, Loss] = {"squared": squared, "logistic": logistic, "cross_entropy": cross_entropy}


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
        raise ValueError(
            f"loss must be {', '.join(map(repr, NAMED))} or a function of (outputs, targets), got {loss!r}."
        )
    # jax.jit has a cache of its own, which does not know of values outside the function that changed.
    return getattr(loss, "__wrapped__", loss) if isinstance(loss, jax.stages.Wrapped) else loss


def in_classes(targets: NDArray[np.float64]) -> NDArray[np.float64]:
    """Targets for cross-entropy: integer classes (M,) as rows of 0 and 1, or rows of probabilities as they are.

    Args:
        targets: (M,) or (M, C); NaN where they are not known.

    Returns:
        (M, C), with rows of NaN where they are not known.

    Raises:
        ValueError: for what is neither.
    """
    known = np.isfinite(targets).reshape(len(targets), -1).all(axis=1)
    values = targets[known]
    if targets.ndim == 1:
        if np.any((values != np.round(values)) | (values < 0)) or values.size == 0:
            remedy = (
                "pass (targets + 1) / 2 for labels -1 and +1"
                if set(values.tolist()) <= {-1, 1} and values.size
                else "use loss='squared' for numbers"
            )
            raise ValueError(
                "targets must be classes 0, 1, … or rows of probabilities for loss='cross_entropy', got "
                f"{_some(values)}: {remedy}."
            )
        rows = np.full((len(targets), max(2, int(values.max()) + 1)), np.nan)
        rows[known] = np.eye(rows.shape[1])[values.astype(int)]
        return rows
    if np.any(values < 0) or not np.allclose(values.sum(axis=1), 1, atol=1e-6):
        raise ValueError(
            "targets must be rows of probabilities that add up to 1 for loss='cross_entropy', got "
            f"{np.array2string(values[0], precision=4, threshold=6)}."
        )
    return targets


def checked_loss(loss: str | Loss, targets: Float[np.ndarray, "P *C"]) -> Loss:
    """The loss of this name or `loss` itself, if it maps outputs and targets to one number and is for these.

    Raises:
        ValueError: for an unknown name, a function that does something else, or targets of "logistic" other than ±1.
    """
    function = loss_named(loss)
    if function is logistic and targets.ndim > 1:
        raise ValueError(
            f"loss='logistic' is for one output, and targets have {targets.shape[1]} columns: use 'cross_entropy'."
        )
    if function is logistic and not np.all(np.abs(targets) == 1):
        remedy = (
            "pass 2 * targets - 1 for labels 0 and 1"
            if set(targets.tolist()) <= {0, 1}
            else "use loss='squared' for numbers"
        )
        raise ValueError(f"targets must be +1 or -1 for loss='logistic', got {_some(targets)}: {remedy}.")
    example = jax.ShapeDtypeStruct(targets.shape, jnp.result_type(float))
    wanted = (
        f"loss must be a JAX function of outputs and targets, each of shape {targets.shape}, that returns one real "
        "number"
    )
    try:
        found = jax.eval_shape(function, example, example)
    except Exception as error:
        raise ValueError(f"{wanted}; calling it raised {type(error).__name__}.") from error
    if not hasattr(found, "shape") or found.shape != () or not jnp.issubdtype(found.dtype, jnp.floating):
        raise ValueError(f"{wanted}; it returned {found!r}.")
    return function


def right(f: NDArray[Any], y: NDArray[Any]) -> NDArray[np.bool_]:
    """Whether outputs are on the side of their targets, or for several outputs the largest is that of the target.

    Args:
        f: outputs (..., P) or (..., P, C).
        y: targets (P,) or (P, C).

    Returns:
        (..., P).
    """
    if y.ndim == 1:
        return np.asarray(np.sign(f) == np.sign(y))
    return np.asarray(np.argmax(f, axis=-1) == np.argmax(y, axis=-1))


def _some(targets: Float[np.ndarray, " P"]) -> str:
    values = np.unique(targets)
    return ", ".join(f"{value:g}" for value in values[:4]) + (", …" if values.size > 4 else "")
