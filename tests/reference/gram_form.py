"""Feature learning of linear networks in Gram form: the forward–backward SDE stepped as it is written, in NumPy.

A second solver, independent of the library's: order parameters only, Euler–Maruyama with pseudo-inverses and symmetric
square roots. It serves for a few updates with large learning rates; beyond, labels of one datum become collinear, its
pseudo-inverses lose half the digits, and paths break.

A label is a = P k + p: input p at training step k. Of a new forward label, with p the earlier forward labels and Y the
earlier backward labels, in increasing clock time t:

    dΦ_pa = dΦ_pp α + A_pY G⁻¹ A_⊥ dt + √S √Φ_pp dξ,    α = Φ_pp⁻¹Φ_pa,  A_⊥ = A(a, Y) - αᵀA(p, Y),  S = Φ_aa - αᵀΦ_pa
    dΦ_aa = αᵀdΦ_pp α + 2αᵀ(dΦ_pa - dΦ_pp α) + (A_⊥ᵀG⁻¹A_⊥ - rank(G) S) dt + √2 S dξ'

a new backward label is the mirror image, and dA(a, b)/dt = η₀ [Σ_{step(c) < step(a)} - Σ_{step(c) < step(b)}]
Δ_c Φ(a, c) G(c, b), from A_0(a, b) = A_0((x_a, step b), b) up if step(a) > step(b), else from A_T(a, b) = f(a) down.

Source: Li, Noci, Hanin, feature learning in the proportional limit (announced; M. Li's lecture notes STAT 946,
Waterloo, 2025).
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
RCOND = 1e-6


class Run(NamedTuple):
    """Outputs (labels, paths), and Φ, G, A (steps + 1, paths, labels, labels), without gradients of the last step."""

    f: Array
    Phi: Array
    G: Array
    A: Array


def spectrum(M: Array) -> tuple[Array, Array, Array]:
    """Pseudo-inverse, symmetric root and rank of covariances (paths, k, k)."""
    values, vectors = np.linalg.eigh(M)
    live = values > RCOND * np.maximum(values[:, -1:], 1e-300)
    inverse = np.where(live, 1 / np.where(live, values, 1), 0)
    root = np.sqrt(np.where(live, values, 0))
    adjoint = np.swapaxes(vectors, 1, 2)
    return (vectors * inverse[:, None]) @ adjoint, (vectors * root[:, None]) @ adjoint, live.sum(1)


def grow(
    rng: np.random.Generator,
    old: Array,
    new: Array,
    a: int,
    across: Array,
    other: tuple[Array, Array, Array] | None,
    h: float,
) -> None:
    """One step of covariances `old` to `new` (paths, labels, labels), in place: row a, given all rows before it.

    Args:
        rng: of the increments.
        old: before the step, complete up to row a.
        new: after the step, complete up to row a - 1.
        a: the new label.
        across: overlaps of labels 0 … a with the known labels of the other pass, (paths, a + 1, known).
        other: inverse, root and rank of the covariance of these, or None if there are none.
        h: clock time of the step.
    """
    paths = old.shape[0]
    alpha, moved, S = np.zeros((paths, 0)), np.zeros((paths, 0)), old[:, a, a]
    if a:
        inverse, root, _ = spectrum(old[:, :a, :a])
        alpha = np.einsum("rpq,rq->rp", inverse, old[:, :a, a])
        S = np.maximum(S - np.einsum("rp,rp->r", alpha, old[:, :a, a]), 0)
        moved = np.sqrt(h * S)[:, None] * np.einsum("rpq,rq->rp", root, rng.standard_normal((paths, a)))
    gain = np.sqrt(2 * h) * S * rng.standard_normal(paths)
    if other is not None:
        rest = across[:, a] - np.einsum("rp,rpy->ry", alpha, across[:, :a])
        pull = np.einsum("ryz,rz->ry", other[0], rest)
        moved = moved + h * np.einsum("rpy,ry->rp", across[:, :a], pull)
        gain = gain + h * (np.einsum("ry,ry->r", rest, pull) - other[2] * S)
    change = new[:, :a, :a] - old[:, :a, :a]
    carried = np.einsum("rpq,rq->rp", change, alpha)
    new[:, :a, a] = new[:, a, :a] = old[:, :a, a] + carried + moved
    own = np.einsum("rp,rp->r", alpha, carried) + 2 * np.einsum("rp,rp->r", alpha, moved)
    new[:, a, a] = np.maximum(old[:, a, a] + own + gain, 0)


def train(
    V0: Array, targets: Array, *, T: float, rate: float, updates: int, steps: int, paths: int, seed: int = 0
) -> Run:
    """Gradient descent of the squared loss in the limit of linear networks with depth/width T."""
    rng = np.random.default_rng(seed)
    P, h = V0.shape[0], T / steps
    N = P * (updates + 1)
    Phi, G, A = (np.zeros((steps + 1, paths, N, N)) for _ in range(3))
    f, forces = np.zeros((N, paths)), np.zeros((N, paths))
    datum, step = np.arange(N) % P, np.arange(N) // P
    Phi[0] = V0[datum[:, None], datum]

    def rates(k: int, a: int, b: int) -> Array:
        """dA(a, b)/dt at grid point k: labels between the two steps push, with the sign of step(a) - step(b)."""
        low, high = sorted((step[a] * P, step[b] * P))
        c = slice(low, high)
        return np.sign(step[a] - step[b]) * rate * np.sum(forces[c].T * Phi[k, :, a, c] * G[k, :, c, b], axis=1)

    for u in range(updates + 1):
        new, known = range(u * P, (u + 1) * P), u * P
        # Up: Φ of the new labels, and their overlaps with every earlier gradient.
        for a in new:
            for b in range(known):
                A[0, :, a, b] = A[0, :, step[b] * P + datum[a], b]
        for k in range(steps):
            other = spectrum(G[k, :, :known, :known]) if known else None
            for a in new:
                grow(rng, Phi[k], Phi[k + 1], a, A[k, :, : a + 1, :known], other, h)
            for a in new:
                for b in range(known):
                    A[k + 1, :, a, b] = A[k, :, a, b] + h / 2 * (rates(k, a, b) + rates(k + 1, a, b))
        if u == 0:
            root = spectrum(Phi[-1, :, :P, :P])[1]
            f[:P] = np.einsum("rab,rb->ar", root, rng.standard_normal((paths, P)))
        else:
            f[new] = A[-1, :, new, 0]
        forces[new] = targets[datum[new], None] - f[new]
        if u == updates:
            break
        # Down: G of the new labels, and the overlaps of every feature so far with them.
        seen = (u + 1) * P
        G[-1] = 1
        for b in new:
            A[-1, :, :seen, b] = f[:seen].T
        for k in range(steps, 0, -1):
            other = spectrum(Phi[k, :, :seen, :seen])
            across = np.swapaxes(A[k], 1, 2)
            for b in new:
                grow(rng, G[k], G[k - 1], b, across[:, : b + 1, :seen], other, h)
            for b in new:
                for a in range(seen):
                    A[k - 1, :, a, b] = A[k, :, a, b] - h / 2 * (rates(k, a, b) + rates(k - 1, a, b))
    return Run(f, Phi, G, A)
