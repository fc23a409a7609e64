"""One input under smooth shaping: dV = βV(V-1) dt + √2 V dB, solved path by path.

1/V obeys a linear equation, so with E_s = exp(-(β+1)s + √2 B_s)

    V_t = V_0 E_t / (1 - βV_0 ∫₀ᵗ E_s ds),   explosion at T* = inf {t : βV_0 ∫₀ᵗ E_s ds = 1}.

Source: arXiv 2206.02768, Proposition on finite-time explosion (the criterion); ∫₀^∞ E_s ds after Dufresne (1990).
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

from covsde.activations import ShapedSmooth
from covsde.inputs.arguments import finite_number, instance_of


def _beta(activation: Any) -> float:
    instance_of("activation", activation, ShapedSmooth, "a smooth activation such as ShapedSmooth('silu')")
    if activation.exponent != 0.5:
        raise ValueError(
            f"activation has exponent={activation.exponent:g}, and only the critical 1/2 leaves this diffusion: leave "
            "it out, or use simulate."
        )
    return float(activation.beta)


def _variance(v0: Any) -> float:
    v0 = finite_number("v0", v0)
    if v0 <= 0:
        raise ValueError(f"v0 must be a positive variance, got {v0}.")
    return v0


def explosion_probability(activation: Any, v0: Any) -> float:
    """Probability that the variance of one input ever explodes: P(β+1, βv_0) if β > 0, else 0.

    Args:
        activation: a ShapedSmooth, whose β decides.
        v0: initial variance, > 0.

    Returns:
        The regularised lower incomplete gamma function; strictly between 0 and 1 for β > 0.

    Raises:
        ValueError: if v0 is not positive or the activation is not smooth.

    Source: arXiv 2206.02768, Proposition on finite-time explosion (the criterion); Dufresne (1990) for the law of ∫ E.
    """
    beta, v0 = _beta(activation), _variance(v0)
    return float(special.gammainc(beta + 1, beta * v0)) if beta > 0 else 0.0


def stationary_variance(activation: Any) -> Any:
    """The stationary law of the variance of one input, where there is one.

    Args:
        activation: a ShapedSmooth.

    Returns:
        A frozen SciPy gamma distribution of shape |β| - 1 and rate |β|.

    Raises:
        ValueError: if β ≥ -1, where variances tend to 0 (or explode) and nothing but 0 is stationary.

    Source: the stationary density of dV = βV(V-1) dt + √2 V dB, arXiv 2206.02768.
    """
    beta = _beta(activation)
    if beta >= -1:
        raise ValueError(
            f"activation has beta={beta:g}: only beta < -1 keeps variances away from 0; use stronger shaping of a "
            "bounded activation, such as ShapedSmooth('tanh', a=1.0)."
        )
    return stats.gamma(-beta - 1, scale=-1 / beta)


@dataclass(frozen=True, eq=False)
class LogisticPaths:
    """Variance of one input along given Brownian paths.

    Attributes:
        t: clock times, (times,).
        V: variances, (times, paths); +inf from the explosion on.
        explosion_time: clock time of explosion, (paths,); +inf for paths that did not explode up to t[-1].
    """

    t: NDArray[np.float64]
    V: NDArray[np.float64]
    explosion_time: NDArray[np.float64]


def logistic_paths(activation: Any, v0: Any, t: Any, brownian: Any) -> LogisticPaths:
    """Follow the variance of one input along given Brownian paths by the pathwise formula.

    Between grid points the integral of E is replaced by its mean given both ends; everything else is exact, so the
    strong error is of order 1 in the spacing.

    Args:
        activation: a ShapedSmooth; only its β enters.
        v0: initial variance, > 0.
        t: increasing clock times from 0, (times,).
        brownian: standard Brownian paths at these times, (times, paths), 0 at the first.

    Returns:
        Variances and explosion times, float64.

    Raises:
        ValueError: if shapes or times contradict the above.

    Source: the linear equation of 1/V; see the head of this module.
    """
    beta, v0 = _beta(activation), _variance(v0)
    t = np.asarray(t, np.float64)
    B = np.asarray(brownian, np.float64)
    if t.ndim != 1 or t.size < 2 or t[0] != 0 or not np.all(np.diff(t) > 0):
        raise ValueError("t must hold increasing clock times from 0, e.g. np.linspace(0, 1, 101).")
    if B.ndim != 2 or B.shape[0] != t.size or not np.all(np.isfinite(B)):
        raise ValueError(f"brownian must have shape (times, paths) with times = {t.size} as in t, got {B.shape}.")
    log_E = -(beta + 1) * t[:, None] + math.sqrt(2) * B
    E, h, rise = np.exp(log_E), np.diff(t)[:, None], np.diff(log_E, axis=0)
    # Given both ends, log E is a line plus a bridge of variance 2s(h-s)/h, whose exponential is 1 + h/6 on average.
    flat = np.abs(rise) < 1e-8
    chord = np.where(flat, 1 + rise / 2, np.expm1(rise) / np.where(flat, 1.0, rise))
    pieces = h * E[:-1] * chord * (1 + h / 6)
    integral = np.concatenate([np.zeros((1, B.shape[1])), np.cumsum(pieces, axis=0)])
    room = 1 - beta * v0 * integral
    gone = np.maximum.accumulate(room <= 0, axis=0)
    V = np.where(gone, np.inf, v0 * E / np.where(gone, 1.0, room))
    first = np.argmax(gone, axis=0)
    exploded = gone[-1]
    paths = np.arange(B.shape[1])
    # room is nearly linear inside the step in which it vanishes.
    before, after = room[np.maximum(first - 1, 0), paths], room[first, paths]
    fraction = before / np.where(exploded, before - after, 1.0)
    inside = t[np.maximum(first - 1, 0)] + fraction * np.diff(t)[np.maximum(first - 1, 0)]
    return LogisticPaths(t, V, np.where(exploded, inside, np.inf))
