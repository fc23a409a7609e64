"""The posterior of a deep linear network in one integral, in the limit and at finite width.

V = A M Aᵀ with A Aᵀ = V₀ and M invariant under rotations, so that A may be chosen such that y points along the last
axis. M = T Tᵀ with T a product of Bartlett's triangular factors; T_ii² are independent products of χ²_{n-i+1}/n over
layers, in the limit log T_ii² ~ N(-iT, 2T). Then |V| = |V₀| ∏ T_ii² and yᵀV⁻¹y = Q/T_PP² with Q = yᵀV₀⁻¹y.

Source: Hanin, Zlokapa (2022), arXiv 2212.14457, for the evidence at zero noise; Bartlett's decomposition for the rest.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln, loggamma, logsumexp

from covsde.activations import Identity
from covsde.architectures.mlp.architecture import MLP
from covsde.architectures.mlp.output_density import inverse_mellin
from covsde.inputs.arguments import finite_number, instance_of, positive_int
from covsde.inputs.data import check_observations
from covsde.inputs.gram import check_gram

LogWeight = Callable[[NDArray[np.float64]], NDArray[np.float64]]


@dataclass(frozen=True, eq=False)
class LinearPosterior:
    """The posterior of a deep linear network, to quadrature's rounding.

    Attributes:
        log_evidence: log E F(V).
        predictive_mean: posterior mean of f on all m inputs, (m,) or (m, outputs) as the targets.
        predictive_variance: posterior variance of f, of the same shape.
        kernel: posterior mean of V, (m, m).
    """

    log_evidence: float
    predictive_mean: NDArray[np.float64]
    predictive_variance: NDArray[np.float64]
    kernel: NDArray[np.float64]


@dataclass(frozen=True)
class _Depth:
    """The layers: T in the limit, or `depth` layers of a width."""

    T: float
    width: int | None
    depth: int

    def remaining(self) -> float:
        """E T_11² tilted by its inverse root: e^{-T}, the growth of a direction without data."""
        return math.exp(-self.T) if self.width is None else (1 - 1 / self.width) ** self.depth

    def times(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Nodes r and weights of ∫₀ᵀ e^{-(T-r)} φ(r) dr, a sum over layers at finite width."""
        if self.width is None:
            x, w = np.polynomial.legendre.leggauss(16)
            r = 0.5 * self.T * (x + 1)
            return r, 0.5 * self.T * w * np.exp(r - self.T)
        r = np.arange(self.depth, dtype=np.float64)
        return r, (1 - 1 / self.width) ** (self.depth - 1 - r) / self.width

    def end(self) -> float:
        """The last of the times."""
        return self.T if self.width is None else float(self.depth)

    def log_power(self, index: int, power: float) -> float:
        """log E T_ii^{2 power} over one unit of `times`, with i = index."""
        if self.width is None:
            return power * (power - index)
        a = (self.width - index + 1) / 2
        return float(power * math.log(2 / self.width) + gammaln(a + power) - gammaln(a))

    def log_mean(self, index: int, log_h: LogWeight, top: float, r: float = 0.0, power: float = 0.0) -> float:
        """log E[e^{power·X(r)} h(X)] with X = log T_ii² of all layers, X(r) that of the first r, and i = index.

        The power tilts the first r layers. `top` is where h ends to grow.
        """
        tilt = r * self.log_power(index, power) if power else 0.0
        if self.width is None:
            centre, spread = 2 * power * r - index * self.T, math.sqrt(2 * self.T)
            x = _grid(centre, spread, top)
            log_p = -0.5 * ((x - centre) / spread) ** 2 - math.log(spread * math.sqrt(2 * math.pi))
        else:
            n, a = self.width, (self.width - index + 1) / 2
            spread = math.sqrt(2 * self.depth / n) * max(1.0, math.sqrt(1 / a))
            centre = self.depth * (math.log(a * 2 / n) - 0.5 / a) + 2 * power * r / n
            x = _grid(centre, spread, top)

            def log_moment(u: NDArray[Any]) -> NDArray[Any]:
                first = loggamma(a + power + u) - gammaln(a + power)
                return np.asarray(
                    self.depth * u * math.log(2 / n) + r * first + (self.depth - r) * (loggamma(a + u) - gammaln(a))
                )

            f = np.exp(x / 2)
            with np.errstate(divide="ignore"):
                log_p = np.log(np.maximum(f * inverse_mellin(log_moment, f), 0.0))
        return tilt + float(logsumexp(log_p + log_h(x)) + math.log(x[1] - x[0]))


def _grid(centre: float, spread: float, top: float) -> NDArray[np.float64]:
    # The trapezoidal rule is exact to rounding for what is analytic in a strip.
    low, high = centre - 12 * spread, max(centre, top) + 12 * spread
    return np.linspace(low, high, math.ceil((high - low) / min(0.1, spread / 8)) + 1)


def linear_posterior(
    mlp: Any,
    V0: Any,
    targets: Any,
    noise_variance: float = 0.0,
    *,
    observed: Sequence[int] | None = None,
    width: int | None = None,
    depth: int | None = None,
) -> LinearPosterior:
    """Evidence, prediction and kernel of a deep linear network without Monte Carlo, where they are one integral.

    That is so for one output without noise, and with noise where all observed inputs are multiples of one, such as a
    single input or one that was observed several times; outputs may then be several. Without noise
    log Z = -½log|2πV₀| + P(P+2)T/4 + log E exp(-½Q e^{-X}), X ~ N(-(P+1)T, 2T); the mean is that of Gaussian-process
    regression with V₀, and the variance its variance times E[e^X exp(-½Q e^{-X})]/E exp(-½Q e^{-X}).

    Args:
        mlp: MLP(Identity(), depth_to_width).
        V0: input Gram matrix (m, m) over observed inputs and those to predict.
        targets: y, shape (P,), or (P, outputs).
        noise_variance: σ² ≥ 0.
        observed: indices of the P observed inputs; default: the first P.
        width: neurons per layer of a finite network; default: the limit.
        depth: its number of hidden layers; default round(T n).

    Returns:
        A LinearPosterior.

    Raises:
        ValueError: if shapes disagree, an argument is out of range, or the posterior is no single integral.
        TypeError: if the activation is not Identity().

    Source: arXiv 2212.14457 for the evidence at zero noise; the rest from Bartlett's decomposition of Wishart factors.

    Example:
        ```python
        exact = cs.linear_posterior(cs.MLP(cs.Identity(), 0.5), [[1.0, 0.3], [0.3, 1.0]], [1.2])
        ```
    """
    instance_of("mlp", mlp, MLP, "an MLP such as MLP(Identity(), depth_to_width=1.0)")
    mlp.require_plain("the posterior in one integral")
    if not isinstance(mlp.activation, Identity):
        raise TypeError(
            f"activation={type(mlp.activation).__name__} has no posterior in one integral: use sequential_posterior."
        )
    V = check_gram(V0)
    noise = finite_number("noise_variance", noise_variance)
    if noise < 0:
        raise ValueError(f"noise_variance must be at least 0, got {noise}.")
    y, o, _ = check_observations(targets, observed, 1.0, V.shape[0])
    layers = _layers(mlp, width, depth, y.shape[0] if noise == 0 else 2)
    found = _interpolated(layers, V, y, o) if noise == 0 else _one_direction(layers, V, y, o, noise)
    if np.ndim(targets) == 1:
        mean, variance = found.predictive_mean[:, 0], found.predictive_variance[:, 0]
        return LinearPosterior(found.log_evidence, mean, variance, found.kernel)
    return found


def _layers(mlp: MLP, width: int | None, depth: int | None, least: int) -> _Depth:
    T = float(mlp.depth_to_width)
    if width is None:
        if depth is not None:
            raise ValueError("depth belongs to a finite network: pass width too, or leave depth out.")
        return _Depth(T, None, 0)
    n = positive_int("width", width)
    if n <= least:
        raise ValueError(f"width={n} is too small for an evidence: use width > {least}.")
    return _Depth(T, n, mlp.depth(n) if depth is None else positive_int("depth", depth))


def _interpolated(layers: _Depth, V: NDArray[Any], y: NDArray[Any], o: NDArray[Any]) -> LinearPosterior:
    """No noise, one output: weights |V|^{-1/2} e^{-Q/2X}, of which |V|^{-1/2} tilts the index from P to P + 1."""
    P = y.shape[0]
    K = V[np.ix_(o, o)]
    if y.shape[1] != 1:
        raise ValueError(
            f"targets must be of one output where noise_variance=0, got {y.shape[1]}: several need an integral over "
            "matrices, for which there is sequential_posterior."
        )
    values = np.linalg.eigvalsh(K)
    if values[0] <= 1e-10 * values[-1]:
        raise ValueError("V0 must be positive definite on the observed inputs where noise_variance=0: add noise.")
    B = np.linalg.solve(K, V[o]).T
    mean = B @ y
    Q = float(np.sum(y * np.linalg.solve(K, y)))
    rest = V - B @ V[o]

    def log_h(x: NDArray[np.float64]) -> NDArray[np.float64]:
        return -0.5 * Q * np.exp(-x)

    top, end = math.log(Q) if Q > 0 else -math.inf, layers.end()
    log_H = layers.log_mean(P + 1, log_h, top)

    def phi(r: float) -> float:
        return math.exp(layers.log_mean(P + 1, log_h, top, r, 1.0) - log_H)

    evidence = -0.5 * (P * math.log(2 * math.pi) + np.linalg.slogdet(K)[1]) + log_H
    evidence += end * sum(layers.log_power(i, -0.5) for i in range(1, P + 1))
    r, w = layers.times()
    free, grown, last = layers.remaining(), float(w @ [phi(t) for t in r]), phi(end)
    along = np.outer(mean, mean) / Q if Q > 0 else np.zeros_like(V)
    kernel = free * B @ V[o] + (last + (P - 1) * grown - free) * along + (free + grown) * rest
    return LinearPosterior(float(evidence), mean, last * np.maximum(np.diagonal(rest), 0.0)[:, None], kernel)


def _one_direction(layers: _Depth, V: NDArray[Any], y: NDArray[Any], o: NDArray[Any], noise: float) -> LinearPosterior:
    """Noise, observed inputs along one: V_oo = xxᵀe^X, and outputs on them are x times numbers s of variance e^X."""
    values, vectors = np.linalg.eigh(V[np.ix_(o, o)])
    if values.size > 1 and values[-2] > 1e-10 * values[-1]:
        raise ValueError(
            "V0 must have rank one on the observed inputs where noise_variance > 0: use sequential_posterior, or "
            "noise_variance=0."
        )
    x0 = vectors[:, -1] * math.sqrt(max(values[-1], 0.0))
    size, (P, outputs) = float(x0 @ x0), y.shape
    if size == 0:
        raise ValueError("V0 must not be zero on the observed inputs: leave zero inputs out.")
    c, z = V[:, o] @ x0 / size, x0 @ y
    rest = V - np.outer(c, c)

    def log_h(x: NDArray[np.float64]) -> NDArray[np.float64]:
        v = np.exp(x)
        total = v * size + noise
        quadratic = (np.sum(y * y) - np.sum(z * z) * v / total) / noise
        constant = P * math.log(2 * math.pi) + (P - 1) * math.log(noise)
        return np.asarray(-0.5 * (outputs * (constant + np.log(total)) + quadratic))

    def with_log(values: Callable[[Any], Any]) -> LogWeight:
        return lambda x: np.asarray(log_h(x) + np.log(np.maximum(values(np.exp(x)), np.finfo(float).tiny)))

    top = math.log(max(float(np.sum(z * z)) / size**2, 1e-300))
    top, end, log_Z = max(top, -50.0), layers.end(), layers.log_mean(1, log_h, top)

    def mean_of(values: Callable[[Any], Any]) -> float:
        return math.exp(layers.log_mean(1, with_log(values), top) - log_Z)

    r, w = layers.times()
    phi = [math.exp(layers.log_mean(1, log_h, top, t, 1.0) - log_Z) for t in r]
    free, last = layers.remaining(), math.exp(layers.log_mean(1, log_h, top, end, 1.0) - log_Z)
    kernel = last * np.outer(c, c) + (free + float(w @ phi)) * rest
    gain = mean_of(lambda v: v / (v * size + noise))
    variance = np.empty((V.shape[0], outputs))
    # E[e^{-X} s²] of the first layers, weighted by how much of a new direction is left after them.
    sizes, ends = (r, w * np.exp(layers.T - 2 * r)) if layers.width is None else (r + 1, _fresh(layers, r))
    for k in range(outputs):

        def square(v: Any, k: int = k) -> Any:
            total = v * size + noise
            return (v * z[k] / total) ** 2 + v * noise / total

        second = mean_of(square)
        turned = [math.exp(layers.log_mean(1, with_log(square), top, t, -1.0) - log_Z) for t in sizes]
        fresh = free + float(ends @ turned)
        variance[:, k] = c * c * (second - (gain * z[k]) ** 2) + fresh * np.maximum(np.diagonal(rest), 0.0)
    return LinearPosterior(log_Z, gain * np.outer(c, z), variance, kernel)


def _fresh(layers: _Depth, r: NDArray[np.float64]) -> NDArray[np.float64]:
    """(1 - 1/n)^r/n: the square of a new direction after r layers, per layer."""
    assert layers.width is not None
    return np.asarray((1 - 1 / layers.width) ** r / layers.width)
