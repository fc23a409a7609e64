"""Lazy training: outputs under gradient flow or gradient descent with a fixed tangent kernel, in closed form."""

import warnings
from typing import Any

import numpy as np

from covsde.inputs.arguments import finite_number
from covsde.inputs.data import check_target_columns
from covsde.inputs.gram import check_gram, real_array
from covsde.results.kernels import Kernels, LazyTraining


def _finite(name: str, value: Any, what: str) -> np.ndarray:
    array = real_array(name, value, what)
    if not np.all(np.isfinite(array)):
        raise ValueError(f"{name} must be {what}; it holds NaN or infinite values.")
    return array


def lazy_training(
    ntk: Any,
    targets: Any,
    times: Any,
    *,
    learning_rate: float = 1.0,
    method: str = "flow",
    initial: Any = None,
) -> LazyTraining:
    """Train a network whose tangent kernel stays as it is at initialization.

    Gradient flow ḟ_μ = (η_0/P) Σ_α K_μα (y_α - f_α) and gradient descent f(t+1) = f(t) + (η_0/P) K (y - f(t)) on the
    loss (1/2P) Σ (f - y)², for the P training points that come first among the m points of the kernel; the others are
    test points.

    Args:
        ntk: tangent kernel (m, m) of training and test points, training points first; or `Kernels`, whose ntk is taken.
        targets: (P,) or (P, outputs), P ≤ m.
        times: training times ≥ 0, (times,); numbers of updates for gradient descent.
        learning_rate: η_0 > 0.
        method: "flow" or "descent".
        initial: outputs f(0) before training, (m,) or (m, outputs); default 0, their value at infinite width.

    Returns:
        A LazyTraining with outputs (times, m, outputs), float64.

    Raises:
        ValueError: for a kernel that is no covariance, more targets than points, negative times, numbers of updates
            that are not whole, or a method that is neither.

    Warns:
        RuntimeWarning: if gradient descent diverges, η_0 λ_max/P > 2.

    Source: arXiv 2309.16620 (lazy limit); Jacot, Gabriel, Hongler, arXiv 1806.07572.
    """
    K = check_gram(ntk.ntk if isinstance(ntk, Kernels) else ntk)
    m = K.shape[0]
    y = check_target_columns(targets, m)
    P, outputs = y.shape
    t = np.atleast_1d(_finite("times", times, "numbers of shape (times,)"))
    if t.ndim != 1 or np.any(t < 0):
        raise ValueError("times must have shape (times,) and hold no negative time.")
    if method not in ("flow", "descent"):
        raise ValueError(f"method must be 'flow' or 'descent', got {method!r}.")
    if method == "descent" and np.any(t != np.round(t)):
        raise ValueError("times must be whole numbers of updates for method='descent'.")
    eta = finite_number("learning_rate", learning_rate)
    if eta <= 0:
        raise ValueError(f"learning_rate must be positive, got {learning_rate}.")
    start = np.zeros((m, outputs)) if initial is None else _finite("initial", initial, "outputs (m,) or (m, outputs)")
    start = start[:, None] if start.ndim == 1 else start
    if start.shape != (m, outputs):
        raise ValueError(f"initial must have shape (m, outputs) = {(m, outputs)}, got {start.shape}.")

    modes, U = np.linalg.eigh(K[:P, :P])
    modes = np.maximum(modes, 0)  # a covariance, up to rounding
    rates = eta * modes / P
    if method == "descent" and rates[-1] > 2:
        warnings.warn(
            f"Gradient descent diverges: learning_rate * (largest eigenvalue) / P = {rates[-1]:.3g} exceeds 2; "
            f"use learning_rate < {2 * P / modes[-1]:.3g}.",
            RuntimeWarning,
            stacklevel=2,
        )
    integral = _integrals(t, rates, method)
    error = U.T @ (y - start[:P])
    moved = np.einsum("ap,tp,po->tao", eta / P * K[:, :P] @ U, integral, error)
    f = start[None] + moved
    loss = np.sum((f[:, :P] - y[None]) ** 2, axis=(1, 2)) / (2 * P)
    return LazyTraining(t, f, loss, modes)


def _integrals(t: np.ndarray, rates: np.ndarray, method: str) -> np.ndarray:
    """What remains of the error of a mode, integrated or summed from 0 to t, finite also for λ = 0; (times, modes)."""
    x = t[:, None] * rates[None, :]
    if method == "flow":
        gone = -np.expm1(-x)
        positive = x > 1e-12
        return np.asarray(t[:, None] * np.where(positive, gone / np.where(positive, x, 1), 1))
    r = rates[None, :]
    # (1 - (1-r)^t)/r, written to survive r → 0.
    with np.errstate(divide="ignore", invalid="ignore"):
        power = np.where(r < 1, np.exp(t[:, None] * np.log1p(-np.minimum(r, 1))), (1 - r) ** t[:, None])
        power = np.where(t[:, None] == 0, 1.0, power)
        small = -np.expm1(t[:, None] * np.log1p(-np.minimum(r, 0.5)))
        return np.where(r > 1e-14, np.where(r < 0.5, small, 1 - power) / np.where(r > 1e-14, r, 1), t[:, None])
