"""Closed forms: two-layer linear networks in training time, and lazy fluctuations of one input.

A linear network of one hidden layer and one input of size k = r² is, at every width N, two numbers
p± = |h/r ± w|²/2N with f = r (p₊ - p₋)/2γ₀. Gradient flow keeps p₊p₋: p± = p±(0) v^{±1}, and v solves a Riccati
equation. As N → ∞ p±(0) = 1; at finite N they are independent χ²_N/N.

Source: arXiv 2205.09653 for the limit; the law at finite width and the lazy variances by direct computation.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from covsde.architectures.mean_field.architecture import MeanFieldMLP
from covsde.inputs.arguments import finite_number, instance_of, positive_int
from covsde.moments.of_activation import PiecewiseLinear, moments_of
from covsde.moments.shape import is_linear


def two_layer_flow(
    times: Any,
    *,
    variance: float = 1.0,
    target: float = 1.0,
    learning_rate: float = 1.0,
    richness: float = 1.0,
    norms: Any = (1.0, 1.0),
) -> NDArray[np.float64]:
    """Outputs of `MeanFieldMLP("linear", depth=1)` under gradient flow on ½ (f - y)² of one input.

    Args:
        times: t ≥ 0, (times,); training for η₀ t updates of a small rate.
        variance: k = x·x/D > 0.
        target: y.
        learning_rate: η₀ > 0.
        richness: γ₀ > 0.
        norms: p±(0), positive, broadcast together, (draws,) each: 1 in the limit, χ²_N/N at width N.

    Returns:
        f (times,), or (times, draws).

    Raises:
        ValueError: for numbers that are not finite or not positive where they have to be.

    Example:
        ```python
        print(cs.two_layer_flow([0.0, 1.0, 10.0], richness=0.5))
        ```
    """
    k, eta, gamma = (
        finite_number(name, x)
        for name, x in (("variance", variance), ("learning_rate", learning_rate), ("richness", richness))
    )
    y, t = finite_number("target", target), np.asarray(times, np.float64)
    plus, minus = (np.asarray(p, np.float64) for p in norms)
    if min(k, eta, gamma) <= 0 or np.any(plus <= 0) or np.any(minus <= 0):
        raise ValueError("variance, learning_rate, richness and norms must be positive.")
    if t.ndim != 1 or not np.all(np.isfinite(t) & (t >= 0)):
        raise ValueError("times must have shape (times,) and hold finite times ≥ 0.")
    r = np.sqrt(k)
    middle, root = gamma * y / r, np.sqrt((gamma * y / r) ** 2 + plus * minus)
    high, low = (middle + root) / plus, (middle - root) / plus
    clock = t.reshape(-1, *(1,) * np.broadcast(plus, minus).ndim)
    ratio = (1 - high) / (1 - low) * np.exp(-eta * k * plus * (high - low) * clock)
    v = (high - low * ratio) / (1 - ratio)
    return np.asarray(r / (2 * gamma) * (plus * v - minus / v))


def lazy_variance(
    mlp: MeanFieldMLP,
    updates: Any,
    *,
    variance: float = 1.0,
    target: float = 1.0,
    learning_rate: float = 1.0,
    richness: float = 1.0,
) -> NDArray[np.float64]:
    """lim N Var f after gradient steps on one input where training is lazy, γ₀ → 0: linear networks and relu.

    f(0) and the tangent kernel are uncorrelated, and with A = 1 - η₀Θ

        N Var f(t) = Φ^L/γ₀² A^{2t} + (t η₀ y)² A^{2t-2} N Var Θ,

    N Var Θ/Θ² = 2L(2L + 1)/3(L + 1) for linear networks and L(11L + 7)/3(L + 1) for relu. Networks whose outputs are
    counted from f(0) have the second part alone: richness=inf.

    Args:
        mlp: with activation "linear" or "relu".
        updates: t, (times,).
        variance: x·x/D of the input.
        target: y.
        learning_rate: η₀.
        richness: γ₀, or inf.

    Returns:
        (times,).

    Raises:
        ValueError: for another activation, or an argument out of range.
    """
    instance_of("mlp", mlp, MeanFieldMLP, 'a MeanFieldMLP("relu", depth=2)')
    L, moments = mlp.layers, moments_of(mlp.activation)
    linear = is_linear(mlp.activation)
    relu = isinstance(moments, PiecewiseLinear) and (moments.plus, moments.minus) == (1.0, 0.0)
    if not relu and not (linear and isinstance(moments, PiecewiseLinear) and moments.plus == 1):
        raise ValueError(
            'mlp must have activation "linear" or "relu": use fluctuations of a small richness for others.'
        )
    t = np.asarray([positive_int("updates", int(x), least=0) for x in np.ravel(updates)], np.float64)
    k, y, eta = (
        finite_number(n, x) for n, x in (("variance", variance), ("target", target), ("learning_rate", learning_rate))
    )
    share = 1.0 if linear else 2.0**-L
    Theta, relative = (L + 1) * k * share, L * (2 * (2 * L + 1) if linear else 11 * L + 7) / (3 * (L + 1))
    A = 1 - eta * Theta
    first = k * share / richness**2 * A ** (2 * t)
    moved = (t * eta * y) ** 2 * np.where(t > 0, A ** np.maximum(2 * t - 2, 0), 0.0)
    return np.asarray(first + moved * relative * Theta**2)
