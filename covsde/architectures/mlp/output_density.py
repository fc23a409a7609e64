"""Densities and kurtosis of one output on one input without Monte Carlo, in the limit and at finite width.

Limit: log V_T ~ N(log V_0 - sT/2, sT) with s = 2 (linear, shaped ReLU) or M-1 (unshaped: 5 for ReLU), so the output is
√V_0 e^{X/2} g. Finite width: f² is a product of independent Gamma variables, whose density is a Meijer G function; for
ReLU, a mixture over the numbers of active neurons in each layer.

Source: Zavatone-Veth, Pehlevan (2021), arXiv 2104.11734; Noci et al. (2021), arXiv 2106.06615; Li, Nica, Roy (2022).
"""

import functools
import itertools
import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln, loggamma

from covsde.activations import AbstractActivation, Identity, LeakyReLU, ShapedReLU
from covsde.architectures.mlp.architecture import MLP
from covsde.architectures.mlp.unshaped.equations import unshaped
from covsde.inputs.arguments import finite_number, instance_of, positive_int


@functools.singledispatch
def log_variance_rate(activation: AbstractActivation) -> float:
    """s such that log V_T ~ N(log V_0 - sT/2, sT) in the limit; register new activations with `.register`.

    Raises:
        TypeError: for an activation whose variance is not log-normal in the limit.
    """
    raise TypeError(
        f"activation={type(activation).__name__} has no log-normal variance in the limit: use OutputLaw(simulate(…))."
    )


@log_variance_rate.register
def _(activation: Identity) -> float:
    return 2.0


@log_variance_rate.register
def _(activation: ShapedReLU) -> float:
    return 2.0


@log_variance_rate.register
def _(activation: LeakyReLU) -> float:
    return float(unshaped(activation).M) - 1


def limit_output_density(mlp: Any, f: Any, variance: float = 1.0) -> NDArray[np.float64]:
    """Density of one output on one input in the infinite depth-and-width limit, to rounding.

    Args:
        mlp: MLP with Identity, ShapedReLU or LeakyReLU, and its depth_to_width T.
        f: points, any shape.
        variance: V₀ of the input, |x|²/d.

    Returns:
        Density, of the shape of f, float64.

    Raises:
        ValueError: if variance is not positive.
        TypeError: for an activation whose variance is not log-normal in the limit.

    Source: arXiv 2106.06615; 2206.02768 for shaped ReLU.
    """
    total, v0 = _total(mlp), _positive("variance", variance)
    points = np.asarray(f, dtype=np.float64)
    root = math.sqrt(total)
    # The trapezoidal rule is exact to rounding for an integrand that is analytic in a strip of half-width π/2√(sT).
    step = min(0.05, 0.25 / root)
    x = np.arange(-12 - 2 * root, 12 + 2 * root + step, step)
    log_v = math.log(v0) - total / 2 + root * x
    weight = step * np.exp(-0.5 * x * x) / math.sqrt(2 * math.pi)
    values = [np.sum(weight * np.exp(-0.5 * (p * p * np.exp(-log_v) + log_v))) for p in points.reshape(-1)]
    return np.asarray(np.asarray(values).reshape(points.shape) / math.sqrt(2 * math.pi))


def limit_kurtosis(mlp: Any) -> float:
    """Kurtosis 3 e^{sT} of one output in the limit: 3e^{2T} linear and shaped ReLU, 3e^{5T} ReLU, 3e^{(M-1)T} leaky.

    Args:
        mlp: MLP with Identity, ShapedReLU or LeakyReLU, and its depth_to_width T.

    Returns:
        E f⁴/(E f²)²; 3 for a Gaussian.

    Raises:
        TypeError: for an activation whose variance is not log-normal in the limit.

    Source: arXiv 2106.06615, 2206.02768.
    """
    return 3 * math.exp(_total(mlp))


def network_kurtosis(activation: Any, widths: Sequence[int]) -> float:
    """Kurtosis 3 ∏(1 + (M-1)/n_ℓ) of one output of a finite network, exact: 1 + 2/n a linear layer, 1 + 5/n a ReLU.

    Args:
        activation: Identity, LeakyReLU or ShapedReLU, or the names "linear" and "relu" of plain ones.
        widths: neurons of each hidden layer.

    Returns:
        E f⁴/(E f²)².

    Raises:
        ValueError: if a width is below 1.
        TypeError: for another activation.

    Source: arXiv 2106.06615, 2104.11734.
    """
    total = 1.0
    for n in _widths(widths):
        plus, minus = _slopes(activation, n)
        M = 6 * (plus**4 + minus**4) / (plus**2 + minus**2) ** 2
        total *= 1 + (M - 1) / n
    return 3 * total


def output_atom(activation: Any, widths: Sequence[int]) -> float:
    """Probability that a finite network outputs exactly 0: 1 - ∏(1 - 2^{-n_ℓ}) for ReLU, 0 for a linear network.

    Args:
        activation: Identity or LeakyReLU(0), or their names "linear" and "relu".
        widths: neurons of each hidden layer.

    Returns:
        The mass at 0.

    Raises:
        ValueError: if a width is below 1.
        TypeError: for another activation.

    Source: arXiv 2104.11734.
    """
    relu = _is_relu(activation)
    return -math.expm1(sum(math.log1p(-(2.0**-n)) for n in _widths(widths))) if relu else 0.0


def network_output_density(
    activation: Any, widths: Sequence[int], f: Any, variance: float = 1.0
) -> NDArray[np.float64]:
    """Density of one output on one input of a finite linear or ReLU network, exact.

    It inverts the Mellin transform E|f|^{2(s-1)}, which is the integral that defines the Meijer G function, by the
    trapezoidal rule on a vertical line through its saddle. The mixture over active neurons is taken inside the
    integral, layer by layer, so that the cost is Σ n_ℓ rather than ∏ n_ℓ.

    Args:
        activation: Identity, or LeakyReLU(0) (plain ReLU), or their names "linear" and "relu"; He weights, c = 1 or 2.
        widths: neurons of each hidden layer.
        f: points, any shape.
        variance: V₀ of the input, |x|²/d.

    Returns:
        Density, of the shape of f, float64, to about 12 digits; for ReLU without the atom at 0 (`output_atom`). At
        f = 0 it is +inf where a layer can have a single active neuron, however improbable: any ReLU, linear width 1.

    Raises:
        ValueError: if a width is below 1 or variance is not positive.
        TypeError: for another activation.

    Source: arXiv 2104.11734, Meijer G densities.
    """
    relu, layers, v0 = _is_relu(activation), Counter(_widths(widths)), _positive("variance", variance)
    points = np.abs(np.asarray(f, dtype=np.float64))

    def log_moment(u: NDArray[Any]) -> NDArray[Any]:
        # log E[f^{2u}; f ≠ 0] for complex u with real part above -1/2.
        total = u * math.log(2 * v0) + loggamma(0.5 + u) - 0.5 * math.log(math.pi)
        for n, count in layers.items():
            total = total + count * (_relu_layer(n, u) if relu else _linear_layer(n, u))
        return np.asarray(total)

    # E V^{-1/2}/√2π, infinite where one active neuron is possible.
    at_zero = math.inf
    if not relu and min(layers) > 1:
        root = np.asarray(-0.5)
        at_zero = math.exp(sum(k * float(_linear_layer(n, root)) for n, k in layers.items())) / math.sqrt(
            2 * math.pi * v0
        )
    values = np.full(points.shape, at_zero)
    values[points > 0] = inverse_mellin(log_moment, points[points > 0])
    return values


def meijer_output_density(
    activation: Any, widths: Sequence[int], f: Any, variance: float = 1.0, digits: int = 15
) -> NDArray[np.float64]:
    """The same density through mpmath's Meijer G function, in any precision; small networks only.

    Args:
        activation: Identity or LeakyReLU(0), or their names "linear" and "relu".
        widths: neurons of each hidden layer; for ReLU the cost grows with their product.
        f: points other than 0, any shape.
        variance: V₀ of the input, |x|²/d.
        digits: working precision, decimal.

    Returns:
        Density, of the shape of f, float64; for ReLU without the atom at 0.

    Raises:
        ImportError: without mpmath.
        ValueError: if a point is 0, a width is below 1, or variance is not positive.
        TypeError: for another activation.

    Source: arXiv 2104.11734, Meijer G densities; arXiv 2106.06615.
    """
    try:
        import mpmath
    except ImportError as error:
        raise ImportError('meijer_output_density needs mpmath: pip install "covsde[exact]".') from error
    relu, sizes, v0 = _is_relu(activation), _widths(widths), _positive("variance", variance)
    points = np.abs(np.asarray(f, dtype=np.float64))
    if np.any(points == 0):
        raise ValueError("f must not be 0 here: the Meijer G function is singular there; use network_output_density.")
    mixture: Counter[tuple[int, ...]] = Counter()
    if relu:
        for active in itertools.product(*(range(1, n + 1) for n in sizes)):
            mixture[tuple(sorted(active))] += math.prod(math.comb(n, k) for n, k in zip(sizes, active, strict=True))
    else:
        mixture[tuple(sorted(sizes))] = 1
    halves = 2 ** sum(sizes) if relu else 1

    def one(point: float) -> float:
        with mpmath.workdps(digits):
            scale = mpmath.mpf(2 * v0) * mpmath.fprod(mpmath.mpf(4 if relu else 2) / n for n in sizes)
            x, total = mpmath.mpf(point) ** 2 / scale, mpmath.mpf(0)
            for shapes, count in mixture.items():
                a = [mpmath.mpf(1) / 2, *(mpmath.mpf(k) / 2 for k in shapes)]
                G = mpmath.meijerg([[], []], [a, []], x) / mpmath.fprod(mpmath.gamma(b) for b in a)
                total += mpmath.mpf(count) / halves * G
            return float(mpmath.mpf(point) / scale * total / x)

    return np.asarray([one(float(p)) for p in points.reshape(-1)]).reshape(points.shape)


def _total(mlp: Any) -> float:
    instance_of("mlp", mlp, MLP, "an MLP such as MLP(Identity(), depth_to_width=1.0)")
    mlp.require_plain("the exact output law")
    return float(log_variance_rate(mlp.activation)) * float(mlp.depth_to_width)


def _positive(name: str, value: Any) -> float:
    number = finite_number(name, value)
    if number <= 0:
        raise ValueError(f"{name} must be positive, got {number}.")
    return number


def _widths(widths: Any) -> list[int]:
    sizes = [positive_int("widths", n) for n in np.atleast_1d(np.asarray(widths)).tolist()]
    if not sizes:
        raise ValueError("widths must name at least one hidden layer, e.g. widths=(3, 4).")
    return sizes


def _slopes(activation: Any, width: int) -> tuple[float, float]:
    activation = _named(activation)
    if isinstance(activation, ShapedReLU):
        return activation.slopes(width)
    if isinstance(activation, LeakyReLU):
        return 1.0, activation.negative_slope
    if isinstance(activation, Identity):
        return 1.0, 1.0
    raise TypeError(
        f"activation={type(activation).__name__} is not piecewise linear: use Identity, LeakyReLU or ShapedReLU."
    )


def _named(activation: Any) -> Any:
    """The plain activation of this name, or what was given."""
    if not isinstance(activation, str):
        return activation
    return {"relu": LeakyReLU(0.0), "linear": Identity()}.get(activation, activation)


def _is_relu(activation: Any) -> bool:
    activation = _named(activation)
    if isinstance(activation, Identity):
        return False
    if isinstance(activation, LeakyReLU) and activation.negative_slope == 0:
        return True
    raise TypeError(
        f"activation={activation!r} has no exact output density at finite width: use Identity() or LeakyReLU(0.0), or "
        "OutputLaw(sample_networks(…))."
    )


def _linear_layer(n: int, u: NDArray[Any]) -> NDArray[Any]:
    return np.asarray(u * math.log(2 / n) + loggamma(n / 2 + u) - gammaln(n / 2))


def _relu_layer(n: int, u: NDArray[Any]) -> NDArray[Any]:
    active = np.arange(1, n + 1).reshape(-1, *([1] * u.ndim))
    log_weight = gammaln(n + 1) - gammaln(active + 1) - gammaln(n - active + 1) - n * math.log(2)
    terms = log_weight + loggamma(active / 2 + u) - gammaln(active / 2)
    top = np.max(terms.real, axis=0)
    return np.asarray(u * math.log(4 / n) + top + np.log(np.sum(np.exp(terms - top), axis=0)))


def inverse_mellin(log_moment: Callable[[NDArray[Any]], NDArray[Any]], f: NDArray[np.float64]) -> NDArray[np.float64]:
    """Density at f > 0 of a symmetric variable whose log E f^{2u} is given for complex u of real part above -1/2."""
    # p(f) = f · (1/2π) ∫ E[f^{2(s-1)}] f^{-2s} dy over s = c + iy, on the line nearest to the saddle of each point. The
    # first pole is at 1/2; the integrand decays at least like e^{-π|y|/2} times a Gaussian of variance about c.
    lines = 0.5 + np.geomspace(0.25, 1e4, 150)
    level = log_moment(lines - 1)
    log_f2 = 2 * np.log(f)
    nearest = np.argmin(level - log_f2[:, None] * lines, axis=1)
    density = np.empty_like(f)
    step = 0.02
    for k in np.unique(nearest):
        s = lines[k] + 1j * step * np.arange(0.5, (40 + 9 * math.sqrt(lines[k])) / step)
        log_m = log_moment(s - 1)
        for i in np.flatnonzero(nearest == k):
            density[i] = f[i] * step / math.pi * np.sum(np.exp(log_m - s * log_f2[i]).real)
    return density
