"""Linear ResNets of infinite width in training, by coefficients of Gaussian sources: no particles, no frames.

Every field is a linear combination of sources, h^ℓ_μ(t) and g^ℓ_{μc}(t) for every output c; R and S are its
coefficients (arXiv 2309.16620, 2310.02244), and an optimiser enters by W(t) = ρ_t W(0) + Σ_s a(t, s) (-rate ∂loss).
"""

from collections.abc import Callable
from typing import Any

import numpy as np

Array = np.ndarray


def heavy_ball(rates: list[float], momentum: float, decay: float) -> tuple[Array, Array]:
    """ρ and a of the recursions W(t+1) = (1 + m - η_t λ) W(t) - m W(t-1) - η_t ∂loss, for one rate η."""
    T, eta = len(rates), rates[0]
    rho, a = np.ones(T + 1), np.zeros((T + 1, T))
    for t in range(T):
        rho[t + 1] = (1 + momentum - eta * decay) * rho[t] - momentum * (rho[t - 1] if t else 1)
        for s in range(t + 1):
            a[t + 1, s] = eta if s == t else (1 + momentum - eta * decay) * a[t, s] - momentum * a[t - 1, s]
    return rho, a


def linear_training(
    K: Array,
    y: Array,
    batches: list[list[int]],
    table: tuple[Array, Array],
    delta: Callable[[Array, Array], Array],
    *,
    depth: int,
    beta: float,
    gamma: float,
    ends: bool,
) -> Array:
    """Outputs f (T + 1, M, C).

    Args:
        K: Gram matrix of all inputs (M, M).
        y: targets (M, C).
        batches: those of the T updates.
        table: ρ (T + 1,) and a (T + 1, T).
        delta: -∂loss/∂f of outputs and targets of a batch.
        depth: L.
        beta: β.
        gamma: γ_0.
        ends: whether both ends learn.
    """
    (M, C), T, (rho, a) = y.shape, len(batches), table
    b, kinds = beta / np.sqrt(depth), {}
    for l in range(depth):
        for t in range(T + 1):
            for mu in range(M):
                kinds["u", l, t, mu] = len(kinds)
                for c in range(C):
                    kinds["r", l, t, mu, c] = len(kinds)
    for name in [*(("x", mu) for mu in range(M)), *(("w", c) for c in range(C))]:
        kinds[name] = len(kinds)
    n, cov = len(kinds), np.zeros((len(kinds), len(kinds)))
    x, w = [kinds["x", mu] for mu in range(M)], [kinds["w", c] for c in range(C)]
    cov[np.ix_(x, x)], cov[w, w] = K, 1
    h: dict[Any, Array] = {}
    g: dict[Any, Array] = {}
    F = np.zeros((T, M, C))
    kept, outputs = (lambda t: rho[t] if ends else 1.0), []

    def met(new: list[Any], fields: list[Array]) -> None:
        """The sources whose covariance is that of these fields."""
        index = [kinds[name] for name in new]
        X = np.array(fields)
        cov[np.ix_(index, index)] = X @ cov @ X.T

    for t in range(T + 1):
        for mu in range(M):
            h[0, t, mu] = kept(t) * np.eye(n)[kinds["x", mu]]
            if ends:
                for s, al, c in np.ndindex(t, M, C):
                    h[0, t, mu] = h[0, t, mu] + a[t, s] * gamma * F[s, al, c] * K[mu, al] * g[0, s, al, c]
        for l in range(depth):
            past = [(s, mu) for s in range(t + 1) for mu in range(M)]
            met([("u", l, s, mu) for s, mu in past], [h[l, s, mu] for s, mu in past])
            for mu in range(M):
                new = b * rho[t] * np.eye(n)[kinds["u", l, t, mu]]
                for s, al, c in np.ndindex(t, M, C):
                    R = h[l, t, mu][kinds["r", l, s, al, c]]
                    Phi = h[l, t, mu] @ cov @ h[l, s, al]
                    new = new + (b * rho[t] * R + b * b * a[t, s] * gamma * F[s, al, c] * Phi) * g[l + 1, s, al, c]
                h[l + 1, t, mu] = h[l, t, mu] + new
        readouts = []
        for c in range(C):
            v = kept(t) * np.eye(n)[kinds["w", c]]
            if ends:
                for s, al in np.ndindex(t, M):
                    v = v + a[t, s] * gamma * F[s, al, c] * h[depth, s, al]
            readouts.append(v)
        f = np.array([[h[depth, t, mu] @ cov @ v for v in readouts] for mu in range(M)]) / gamma
        outputs.append(f)
        if t == T:
            break
        F[t, batches[t]] = delta(f[batches[t]], y[batches[t]]) / len(batches[t])
        for mu, c in np.ndindex(M, C):
            g[depth, t, mu, c] = readouts[c]
        for l in reversed(range(depth)):
            past = [(s, mu, c) for s in range(t + 1) for mu in range(M) for c in range(C)]
            met([("r", l, *label) for label in past], [g[l + 1, *label] for label in past])
            for mu, c in np.ndindex(M, C):
                new = b * rho[t] * np.eye(n)[kinds["r", l, t, mu, c]]
                for s, al in np.ndindex(t + 1, M):
                    new = new + b * rho[t] * g[l + 1, t, mu, c][kinds["u", l, s, al]] * h[l, s, al]
                for s, al, d in np.ndindex(t, M, C):
                    G = g[l + 1, t, mu, c] @ cov @ g[l + 1, s, al, d]
                    new = new + b * b * a[t, s] * gamma * F[s, al, d] * G * h[l, s, al]
                g[l, t, mu, c] = g[l + 1, t, mu, c] + new
    return np.array(outputs)
