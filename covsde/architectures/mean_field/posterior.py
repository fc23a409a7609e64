"""The Bayesian posterior of mean-field networks of fixed depth: kernels that adapt to the targets, without sampling.

The measure is p(θ) ∝ exp{-½|θ|² - γ₀² N/T · ½ Σ (f - y)²}: the noise of a datum has variance T/(γ₀² N), without which
a prior of outputs of order 1/√N would win. As N → ∞ units become independent given kernels Φ^1 … Φ^L, a saddle point of

    (1/N) log Z = ½ Σ_ℓ tr Φ^ℓ Φ̂^ℓ + Σ_ℓ log ⟨e^{-½ φ(h)ᵀΦ̂^ℓφ(h)}⟩_{N(0, Φ^{ℓ-1})} - ½γ₀² Σ_c y_cᵀ (Φ^L + T)⁻¹ y_c,

Φ^0 = K. With averages over units in the posterior, N(0, Φ^{ℓ-1}) tilted by e^{-½φᵀΦ̂^ℓφ},

    Φ^ℓ = ⟨φφᵀ⟩_ℓ,   Φ̂^ℓ = (Φ^ℓ)⁻¹ - (Φ^ℓ)⁻¹⟨hhᵀ⟩_{ℓ+1}(Φ^ℓ)⁻¹ (ℓ < L),   Φ̂^L = -γ₀² Σ_c α_cα_cᵀ,   (Φ^L + T) α_c = y_c

and f_* = Φ^L_* α. At γ₀ = 0 nothing tilts: the neural network Gaussian process with ridge T. Newton's method follows
the solution from there. A linear network has Φ^ℓ = K^{½} M^ℓ K^{½} with M^{-L}(M - 1) = γ₀² K^{½} Σ αα^ᵀ K^{½}.

Source: arXiv 2502.07998 (kernel predictors of the feature-learning posterior).
"""

import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from numpy.typing import NDArray

from covsde.architectures.base import PosteriorKernels
from covsde.numerics.typing import Function

# Nodes of Gauss and Hermite per trained input: products of them up to three inputs.
_NODES = {1: 200, 2: 60, 3: 28}
_MANY = 20_000
# Nodes for an input that is only predicted, given the others.
_INNER = 24
_LADDER, _NEWTON, _SHORTEST = 8, 30, 1e-3
_FEW = 100
# Of the largest coordinate of a node, and the weight that may lie beyond.
_EDGE, _OUTSIDE = 0.8, 1e-6


class Problem(NamedTuple):
    """What is conditioned on.

    Attributes:
        fn: φ.
        depth: L.
        K: input Gram matrix of the trained inputs, (P, P).
        y: (P, C).
        temperature: T.
    """

    fn: Function
    depth: int
    K: Array
    y: Array
    temperature: Array


class Nodes(NamedTuple):
    """Standard normal nodes (P, M) and the logarithms of their weights, for all layers."""

    xi: Float[Array, "P M"]
    log_weight: Float[Array, " M"]


def product_rules() -> int:
    """The most trained inputs for which averages are not sampled."""
    return max(_NODES)


def nodes_for(P: int, key: Any) -> Nodes:
    """A product rule for few inputs; beyond, antithetic normals."""
    if P in _NODES:
        x, w = np.polynomial.hermite_e.hermegauss(_NODES[P])
        grid = np.stack([g.ravel() for g in np.meshgrid(*[x] * P, indexing="ij")])
        log_w = np.sum([g.ravel() for g in np.meshgrid(*[np.log(np.maximum(w, 1e-300))] * P, indexing="ij")], axis=0)
        keep = log_w > log_w.max() - 80
        return Nodes(jnp.asarray(grid[:, keep]), jnp.asarray(log_w[keep] - np.log(np.sum(np.exp(log_w[keep])))))
    half = jax.random.normal(key, (P, _MANY // 2))
    return Nodes(jnp.concatenate([half, -half], axis=1), jnp.full(_MANY, -np.log(_MANY)))


class _Layer(NamedTuple):
    """A layer under its tilt: nodes h, their weights, Φ = ⟨φφᵀ⟩, ⟨hhᵀ⟩ and the logarithm of the tilt's mean."""

    h: Array
    weight: Array
    Phi: Array
    second: Array
    log_mean: Array


def _layer(fn: Function, nodes: Nodes, before: Array, tilt: Array) -> _Layer:
    h = jnp.linalg.cholesky(before) @ nodes.xi
    phi = fn(h)
    log_w = nodes.log_weight - 0.5 * jnp.sum(phi * (tilt @ phi), axis=0)
    w = jax.nn.softmax(log_w)
    return _Layer(h, w, (phi * w[None, :]) @ phi.T, (h * w[None, :]) @ h.T, jax.nn.logsumexp(log_w))


class _Unknowns(NamedTuple):
    tilts: Array  # Φ̂^1 … Φ̂^{L-1}, (L - 1, P, P), symmetric
    alpha: Array  # (P, C)


def _packed(x: _Unknowns) -> Array:
    rows, columns = np.tril_indices(x.alpha.shape[0])
    return jnp.concatenate([x.tilts[:, rows, columns].ravel(), x.alpha.ravel()])


def _unpacked(flat: Array, L: int, P: int, C: int) -> _Unknowns:
    rows, columns = np.tril_indices(P)
    entries = flat[: (L - 1) * rows.size].reshape(L - 1, rows.size)
    lower = jnp.zeros((L - 1, P, P), flat.dtype).at[:, rows, columns].set(entries)
    whole = lower + jnp.swapaxes(lower, 1, 2) - lower * jnp.eye(P)[None]
    return _Unknowns(whole, flat[(L - 1) * rows.size :].reshape(P, C))


def _sweep(problem: Problem, nodes: Nodes, x: _Unknowns, gamma: Array) -> list[_Layer]:
    """All layers, upwards."""
    top = -(gamma**2) * x.alpha @ x.alpha.T
    layers: list[_Layer] = []
    for ell in range(problem.depth):
        tilt = x.tilts[ell] if ell < problem.depth - 1 else top
        layers.append(_layer(problem.fn, nodes, layers[-1].Phi if layers else problem.K, tilt))
    return layers


@eqx.filter_jit
def _residual(problem: Problem, nodes: Nodes, flat: Array, gamma: Array) -> tuple[Array, Array]:
    """What has to vanish, and its Jacobian."""
    L, (P, C) = problem.depth, problem.y.shape

    def of(flat: Array) -> Array:
        x = _unpacked(flat, L, P, C)
        layers = _sweep(problem, nodes, x, gamma)
        tilts = []
        for below, above in itertools.pairwise(layers):
            inverse = jnp.linalg.inv(below.Phi)
            tilts.append(inverse - inverse @ above.second @ inverse)
        wanted = _Unknowns(jnp.stack(tilts) if tilts else x.tilts, x.alpha)
        last = layers[-1].Phi @ x.alpha + problem.temperature * x.alpha - problem.y
        return _packed(_Unknowns(x.tilts - wanted.tilts, last))

    return of(flat), jax.jacfwd(of)(flat)


def followed(
    residual: Callable[[Array, Array], tuple[Array, Array]], start: Array, richness: float
) -> NDArray[np.float64]:
    """The solution at a richness, followed by Newton's method from that at 0.

    Raises:
        ValueError: naming the richness that was reached, if the solution ends before.
    """
    x, reached, step = np.asarray(start), 0.0, richness / _LADDER
    while reached < richness:
        gamma = min(reached + step, richness)
        found = _newton(residual, x, gamma)
        if found is None:
            step /= 2
            if step < _SHORTEST * richness:
                raise ValueError(
                    f"richness={richness:g} has no posterior of this kind that connects to 0: it ends near "
                    f"{reached:.3g}, where the tilt of unbounded activations stops being integrable; lower richness."
                )
            continue
        x, reached, step = found, gamma, step * 1.5
    return x


def _newton(residual: Any, start: NDArray[Any], gamma: float) -> NDArray[Any] | None:
    x = start
    value, slope = (np.asarray(u) for u in residual(jnp.asarray(x), jnp.asarray(gamma)))
    size = float(np.max(np.abs(value)))
    for _ in range(_NEWTON):
        if not np.isfinite(size):
            return None
        if size < 1e-12 * (1 + float(np.max(np.abs(x)))):
            return x
        change = np.linalg.lstsq(slope, value, rcond=None)[0]
        for share in (1.0, 0.5, 0.25, 0.1):
            new = x - share * change
            value, slope = (np.asarray(u) for u in residual(jnp.asarray(new), jnp.asarray(gamma)))
            now = float(np.max(np.abs(value)))
            if np.isfinite(now) and now < size:
                break
        else:
            return x if size < 1e-9 else None
        x, size = new, now
    return x if size < 1e-9 else None


def saddle(problem: Problem, cross: Array, every: Array, richness: float, nodes: Nodes) -> PosteriorKernels:
    """The posterior of a nonlinear network.

    Args:
        problem: trained inputs and targets.
        cross: input covariances of tests with trained inputs, (tests, P).
        every: of tests among themselves, (tests, tests).
        richness: γ₀.
        nodes: of averages.

    Returns:
        Kernels over trained inputs, then tests.

    Raises:
        ValueError: if there is no saddle point at this richness, or too few nodes count.
    """
    L, (P, C) = problem.depth, problem.y.shape
    flat = _Unknowns(jnp.zeros((L - 1, P, P)), jnp.zeros((P, C)))
    first = _sweep(problem, nodes, flat, jnp.asarray(0.0))[-1].Phi
    alpha = jnp.linalg.solve(first + problem.temperature * jnp.eye(P), problem.y)
    start = _packed(flat._replace(alpha=alpha))
    solution = followed(lambda x, gamma: _residual(problem, nodes, x, gamma), start, richness) if richness else start
    x = _unpacked(jnp.asarray(solution), L, P, C)
    layers = _sweep(problem, nodes, x, jnp.asarray(richness))
    size = min(float(1 / jnp.sum(layer.weight**2)) for layer in layers)
    far = jnp.max(jnp.abs(nodes.xi), axis=0) > _EDGE * jnp.max(jnp.abs(nodes.xi))
    outside = max(float(jnp.sum(jnp.where(far, layer.weight, 0))) for layer in layers)
    if (P not in _NODES and size < _FEW) or (P in _NODES and outside > _OUTSIDE):
        raise ValueError(
            f"richness={richness:g} tilts the law of the units beyond the nodes of its averages ({size:.0f} of them "
            f"count, with a weight of {outside:.2g} at the edge): lower it."
        )
    Phi = _with_tests(problem, layers, cross, every) if len(every) else jnp.stack([layer.Phi for layer in layers])
    tilts = jnp.concatenate([x.tilts, -(richness**2) * (x.alpha @ x.alpha.T)[None]])
    log_evidence = sum(
        0.5 * jnp.sum(layer.Phi * tilt) + layer.log_mean for layer, tilt in zip(layers, tilts, strict=True)
    ) - 0.5 * richness**2 * jnp.sum(problem.y * x.alpha)
    return PosteriorKernels(Phi[-1][:, :P] @ x.alpha, Phi, x.alpha, tilts, log_evidence, size)


def _with_tests(problem: Problem, layers: list[_Layer], cross: Array, every: Array) -> Array:
    """Φ^ℓ over trained inputs and tests: given the former, the latter are Gaussian with the prior's law."""
    z, w = np.polynomial.hermite_e.hermegauss(_INNER)
    rule = jnp.asarray(z), jnp.asarray(w / w.sum())
    before, found = problem.K, []
    for layer in layers:
        cross, every, whole = _tests_of_layer(problem.fn, layer, (before, cross, every), rule)
        found.append(whole)
        before = layer.Phi
    return jnp.stack(found)


@eqx.filter_jit
def _tests_of_layer(
    fn: Function, layer: _Layer, given: tuple[Array, Array, Array], rule: tuple[Array, Array]
) -> tuple[Array, Array, Array]:
    before, cross, every = given
    z, w = rule
    c = jnp.linalg.solve(before, cross.T).T
    rest = every - c @ cross.T
    mean, spread = c @ layer.h, jnp.sqrt(jnp.maximum(jnp.diagonal(rest), 0))
    inner = fn(mean[:, :, None] + spread[:, None, None] * z[None, None, :])  # (tests, M, nodes)
    phi = fn(layer.h)
    above = jnp.einsum("tmj,j,m,pm->tp", inner, w, layer.weight, phi)
    scale = jnp.where(spread > 0, spread, 1)
    rho = jnp.clip(rest / (scale[:, None] * scale[None, :]), -1, 1)

    def pair(i: Array, j: Array) -> Array:
        other = mean[j][:, None, None] + spread[j] * (
            rho[i, j] * z[None, :, None] + jnp.sqrt(1 - rho[i, j] ** 2) * z[None, None, :]
        )
        both = jnp.einsum("ma,a,mab,b->m", inner[i], w, fn(other), w)
        same = jnp.einsum("ma,a->m", inner[i] ** 2, w)
        return jnp.sum(layer.weight * jnp.where(i == j, same, both))

    rows, columns = np.tril_indices(len(every))
    entries = jax.lax.map(lambda ij: pair(*ij), (jnp.asarray(rows), jnp.asarray(columns)))
    lower = jnp.zeros_like(every).at[rows, columns].set(entries)
    tests = lower + lower.T - jnp.diag(jnp.diagonal(lower))
    whole = jnp.block([[layer.Phi, above.T], [above, tests]])
    return above, tests, whole


# --- linear networks --------------------------------------------------------------------------------------------------


def linear_saddle(problem: Problem, cross: Array, every: Array, richness: float, slope: float) -> PosteriorKernels:
    """The posterior of a linear network φ(x) = s x in closed form, temperature 0 included.

    Args:
        problem: trained inputs and targets.
        cross: input covariances of tests with trained inputs, (tests, P).
        every: of tests among themselves, (tests, tests).
        richness: γ₀.
        slope: s.
    """
    L, P = problem.depth, problem.y.shape[0]
    # Every layer multiplies kernels by s²: that of the top decides, and lower ones are rescaled.
    K, T, y = np.asarray(problem.K) * slope ** (2 * L), float(problem.temperature), np.asarray(problem.y)
    values, U = np.linalg.eigh(K)
    half, back = (U * np.sqrt(values)) @ U.T, (U / np.sqrt(values)) @ U.T
    rows, columns = np.tril_indices(P)
    data = jnp.asarray(back @ y)
    ridge = jnp.asarray(T * back @ back)

    def whole(flat: Any) -> Any:
        lower = jnp.zeros((P, P)).at[rows, columns].set(flat)
        return lower + lower.T - jnp.diag(jnp.diagonal(lower))

    @jax.jit
    def residual(flat: Array, gamma: Array) -> tuple[Array, Array]:
        def of(flat: Array) -> Array:
            M = whole(flat)
            power = jnp.linalg.matrix_power(M, L)
            a = jnp.linalg.solve(power + ridge, data)  # K^{½} α
            return (jnp.linalg.solve(power, M - jnp.eye(P)) - gamma**2 * a @ a.T)[rows, columns]

        return of(flat), jax.jacfwd(of)(flat)

    if T == 0:
        s, V = np.linalg.eigh(back @ y @ y.T @ back)
        M = (V * np.array([_root(L, richness**2 * max(x, 0.0)) for x in s])) @ V.T
    else:
        start = jnp.eye(P)[rows, columns]
        M = np.asarray(whole(jnp.asarray(followed(residual, start, richness) if richness else start)))
    powers = [np.linalg.matrix_power(M, ell) for ell in range(1, L + 1)]
    Phi = [half @ power @ half for power in powers]
    alpha = np.linalg.solve(Phi[-1] + T * np.eye(P), y)
    c = np.linalg.solve(np.asarray(problem.K), np.asarray(cross).T).T
    grown = []
    for ell, kernel in enumerate(Phi, start=1):
        scale = slope ** (2 * ell - 2 * L)
        inner, above = kernel * scale, c @ kernel * scale
        prior = np.asarray(problem.K) * slope ** (2 * ell)
        tests = np.asarray(every) * slope ** (2 * ell) + c @ (inner - prior) @ c.T
        grown.append(np.block([[inner, above.T], [above, tests]]))
    tilts = [np.linalg.inv(a) - np.linalg.inv(a) @ b @ np.linalg.inv(a) for a, b in itertools.pairwise(Phi)]
    tilts = [t / slope ** (2 * ell - 2 * L) for ell, t in enumerate(tilts, start=1)]
    tilts.append(-(richness**2) * alpha @ alpha.T)
    found = np.stack(grown)
    before, log_evidence = np.asarray(problem.K), -0.5 * richness**2 * float(np.sum(y * alpha))
    for tilt, kernel in zip(tilts, found, strict=True):
        log_evidence += 0.5 * float(np.sum(tilt * kernel[:P, :P]))
        log_evidence -= 0.5 * float(np.linalg.slogdet(np.eye(P) + slope**2 * before @ tilt)[1])
        before = kernel[:P, :P]
    outputs, every_tilt = jnp.asarray(found[-1][:, :P] @ alpha), jnp.asarray(np.stack(tilts))
    return PosteriorKernels(outputs, jnp.asarray(found), jnp.asarray(alpha), every_tilt, log_evidence, np.inf)


def _root(L: int, value: float) -> float:
    """ρ ≥ 1 of ρ^L (ρ - 1) = value."""
    roots = np.roots([1.0, -1.0, *([0.0] * (L - 1)), -value])
    real = roots[np.abs(roots.imag) < 1e-9].real
    rho = float(np.max(real[real >= 1 - 1e-12], initial=1.0))
    for _ in range(3):
        rho -= (rho**L * (rho - 1) - value) / ((L + 1) * rho**L - L * rho ** (L - 1))
    return rho
