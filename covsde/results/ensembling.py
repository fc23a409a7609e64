"""What averaging over initializations gains: the loss of the mean output, beside the mean of the losses."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from covsde.descent.losses import NAMED, Loss, right
from covsde.results.estimate import Estimate


def loss_of(run: Any, loss: Loss | None) -> Loss:
    """The loss that a result was trained by: the one given, or that of its name.

    Raises:
        ValueError: if it was a function of the user, and is not given.
    """
    found = NAMED.get(str(run.metadata.get("loss"))) if loss is None else loss
    if found is None:
        raise ValueError("loss must be given, the function that was trained: results hold only its name.")
    return found


def of_mean_output(y: NDArray[Any], loss: Loss | None, share: float) -> Callable[[NDArray[np.float64]], Estimate]:
    """A reduction of outputs (paths, updates + 1, P) or (paths, updates + 1, P, C).

    Args:
        y: targets (P,) or (P, C).
        loss: of the mean output, or None for the accuracy.
        share: by which the loss is multiplied.

    Returns:
        What maps outputs to the loss of their mean over infinitely many paths, the jackknife removing the 1/paths of
        these many, or the accuracy of the mean over these; with the jackknife's standard error, both (updates + 1,).
    """

    def value(f: NDArray[Any]) -> NDArray[Any]:
        if loss is None:
            return np.asarray(right(f, y).mean(axis=-1))
        flat = jnp.asarray(f.reshape(-1, *y.shape))
        return share * np.asarray(jax.vmap(lambda f: loss(f, jnp.asarray(y, flat.dtype)))(flat)).reshape(f.shape[:2])

    def reduce(x: NDArray[np.float64]) -> Estimate:
        paths, mean = len(x), x.mean(axis=0)
        whole = value(mean[None])[0]
        if paths < 2:
            return Estimate(whole, np.full(whole.shape, np.nan))
        without = value((paths * mean - x) / (paths - 1))
        middle = without.mean(axis=0)
        error = np.sqrt((paths - 1) / paths * np.sum((without - middle) ** 2, axis=0))
        return Estimate(whole if loss is None else paths * whole - (paths - 1) * middle, error)

    return reduce
