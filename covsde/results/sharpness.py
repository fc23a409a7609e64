"""Sharpness of a training: the largest eigenvalue of its Gauss–Newton matrix, from kernels that are there."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from covsde.descent.losses import Loss
from covsde.results.ensembling import loss_of


def sharpness(run: Any, loss: Loss | None) -> NDArray[Any]:
    """See `Training.sharpness`; of any result with outputs, ntk, labels, targets and metadata.

    Raises:
        ValueError: if the kernels of several outputs were not kept, or the loss is not known.
    """
    loss = loss_of(run, loss)
    scale = run.metadata.get("tangent_scale")
    if scale is None:
        raise ValueError("sharpness needs the scale of the tangent kernel, which results of earlier versions lack.")
    kernel = _kernel(run)
    scales = np.broadcast_to(np.asarray(scale, float), len(kernel))
    found = np.full(run.losses.shape, np.nan)
    outputs = run.outputs - run.outputs[:1] if run.metadata.get("centred") else run.outputs
    axis = -run.targets.ndim  # of the inputs in outputs
    for update, Theta in enumerate(kernel):
        Theta = Theta * scales[update]
        batch = run.labels[run.labels[:, 0] == update, 1]
        f, y = np.take(outputs[update], batch, axis=axis), run.targets[batch]
        size = y.size
        Theta = Theta[..., :size, :size] if run.targets.ndim == 1 else Theta[..., : len(batch), :, : len(batch), :]
        flat = Theta.reshape(-1, size, size)
        found[update] = _largest(flat, f.reshape(-1, *y.shape), y, loss).reshape(found[update].shape)
    return found


def _kernel(run: Any) -> NDArray[Any]:
    """The tangent kernel (…, P, P), or of several outputs (…, P, C, P, C)."""
    if run.targets.ndim == 1:
        return np.asarray(run.ntk)
    if run.targets.shape[1] == 1:
        return np.asarray(run.ntk)[..., :, None, :, None]
    if run.ntk_outputs is None:
        raise ValueError(
            "sharpness of several outputs needs the tangent kernel of each: train with kernels='outputs' and "
            "method='weights'."
        )
    return np.asarray(run.ntk_outputs)


def _largest(Theta: NDArray[Any], f: NDArray[Any], y: NDArray[Any], loss: Loss) -> NDArray[Any]:
    """Of Θ^{1/2} H Θ^{1/2} on every path: the same eigenvalues, whatever the sign of H."""
    whole = np.isfinite(Theta).all(axis=(1, 2)) & np.isfinite(f).reshape(len(f), -1).all(axis=1)
    found = np.full(len(f), np.nan)
    if not whole.any():
        return found
    with jax.enable_x64(True):
        target = jnp.asarray(y, float)
        H = jax.vmap(jax.hessian(lambda f: loss(f.reshape(y.shape), target)))(
            jnp.asarray(f[whole].reshape(-1, y.size), float)
        )
    variances, axes = np.linalg.eigh(Theta[whole].astype(float))
    root = axes * np.sqrt(np.maximum(variances, 0))[:, None, :]  # Θ is a Gram matrix: what is below 0 is rounding
    found[whole] = np.linalg.eigvalsh(np.swapaxes(root, 1, 2) @ np.asarray(H) @ root)[:, -1]
    return found
