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
    test points. Eigenvalues below the rounding of the kernel are 0, exactly, so that nothing is learned along them and
    gradient flow never raises the loss.

    Args:
        ntk: tangent kernel (m, m) of training and test points, training points first; or `Kernels`, whose ntk is taken.
        targets: (P,) or (P, outputs), P ≤ m.
        times: training times ≥ 0, (times,); numbers of updates for gradient descent. np.inf is where gradient flow
            ends: at the predictor that is nearest to `initial` of all with the smallest loss.
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
    given = ntk.ntk if isinstance(ntk, Kernels) else ntk
    K = check_gram(given, name="ntk")
    m = K.shape[0]
    y = check_target_columns(targets, m)
    P, outputs = y.shape
    t = _times(times, method)
    eta = finite_number("learning_rate", learning_rate)
    if eta <= 0:
        raise ValueError(f"learning_rate must be positive, got {learning_rate}.")
    start = np.zeros((m, outputs)) if initial is None else _finite("initial", initial, "outputs (m,) or (m, outputs)")
    start = start[:, None] if start.ndim == 1 else start
    if start.shape != (m, outputs):
        raise ValueError(f"initial must have shape (m, outputs) = {(m, outputs)}, got {start.shape}.")

    modes, U = np.linalg.eigh(K[:P, :P])
    modes = np.where(modes > _rounding(given, modes), modes, 0.0)
    rates = eta * modes / P
    if method == "descent" and rates[-1] > 2:
        warnings.warn(
            f"Gradient descent diverges: learning_rate * (largest eigenvalue) / P = {rates[-1]:.3g} exceeds 2; "
            f"use learning_rate < {2 * P / modes[-1]:.3g}.",
            RuntimeWarning,
            stacklevel=2,
        )
    gone = _gone(t, rates, method)
    error = U.T @ (y - start[:P])
    learned = modes > 0
    # On training points K U = U λ, where dividing by a small λ would bring rounding in.
    features = np.concatenate([U, K[P:, :P] @ np.where(learned, U / np.where(learned, modes, 1), 0)])
    f = start[None] + np.einsum("ap,tp,po->tao", features, gone, error)
    # Summed in one order at every time: rounding is then monotone as well.
    loss = np.sum(((1 - gone)[:, :, None] * error) ** 2, axis=(1, 2)) / (2 * P)
    return LazyTraining(t, f, loss, modes)


def _times(times: Any, method: Any) -> np.ndarray:
    """Training times (times,), of a method that is one."""
    if method not in ("flow", "descent"):
        raise ValueError(f"method must be 'flow' or 'descent', got {method!r}.")
    t = np.atleast_1d(real_array("times", times, "numbers of shape (times,)"))
    if t.ndim != 1 or not np.all(t >= 0):
        raise ValueError("times must have shape (times,) and hold no negative time and no NaN.")
    if method == "descent" and not np.all(np.isfinite(t) & (t == np.round(t))):
        raise ValueError("times must be whole numbers of updates for method='descent'; np.inf is for method='flow'.")
    return t


def _rounding(given: Any, modes: np.ndarray) -> float:
    """What eigenvalues of a covariance cannot be told from 0 by: the rounding of its dtype, or a negative one."""
    dtype = getattr(given, "dtype", np.dtype(np.float64))
    precision = np.finfo(dtype if dtype in (np.float16, np.float32) else np.float64).eps
    return max(float(modes.size * precision * modes[-1]), float(-modes[0]), 0.0)


def _gone(t: np.ndarray, rates: np.ndarray, method: str) -> np.ndarray:
    """The share of the error of a mode that is learned by t, (times, modes); 0 for a mode that does not move."""
    r, moves = rates[None, :], rates[None, :] > 0
    if method == "flow":
        return np.asarray(np.where(moves, -np.expm1(-t[:, None] * np.where(moves, r, 1)), 0))
    small = -np.expm1(t[:, None] * np.log1p(-np.minimum(r, 0.5)))
    return np.asarray(np.where(r < 0.5, small, 1 - (1 - r) ** t[:, None]))
