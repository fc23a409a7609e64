"""How an optimiser moves drawn weights: linear rules, rules that act on every entry, what the limit sees of a sign.

U = -n ∂loss/∂W has entries U_ij = s Σ_b g_i(b) h_j(b) of order one, g = √n ∂f/∂z with the errors inside, b the inputs
of a batch. Gradient descent adds (η₀/n) U. A rule that is homogeneous of degree 0 in U, sign descent or Adam with
ε = 0, adds (η₀/n²) ψ(U): n^{-2} where depth is proportional to width.

Rows (g_i(b))_b and (h_j(a))_a are Gaussian to leading order, with covariances G̃ = g·g/n and Φ, and of ψ(U) only what is
linear in both acts on features and gradients:

    ψ(U) → Σ_{b,a} g(b) K_ba h(a)ᵀ,     K = G̃⁻¹ E[ψ g hᵀ] Φ⁻¹
    sign:  K = √(2/π) E_h[h hᵀ (hᵀG̃h)^{-1/2}] Φ⁻¹ = √(2/π) R Q diag(I) Qᵀ R⁻¹,     Φ = R²,  R G̃ R = Q diag(λ) Qᵀ,
           I_i = ∫₀^∞ Π_j (1 + 2σλ_j)^{-1/2} / (1 + 2σλ_i) dσ/√(πσ)

so that a sign is an update among the vectors that are there already, with cross terms. The rest is a generic direction,
which depth does not amplify; this is derived at leading order in 1/n, and verified for few updates.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from covsde.descent.optimizers import SGD, AbstractEntrywise, Sign
from covsde.descent.task import Ends, Task


class Moving(NamedTuple):
    """What training moves: hidden matrices (d, n, n), and if they are trained readouts (C, n) and inputs E x (M, n)."""

    matrices: Array
    readouts: Array
    inputs: Array


class Observed(NamedTuple):
    """A batch before a step: s f (P, C), Δ (P, C), h_ℓ and ∂f/∂h_ℓ (layers, P, width), ∂f/∂z_ℓ and the tangent kernel.

    For several outputs gradients are those of Σ_c Δ_c f_c/s, and `forces` (P,) are 1 instead of Δ; `each` has those of
    every output, ∂f_c/∂h_ℓ (layers, P, C, width) and their tangent kernel (P, C, P, C), if they are asked for.
    """

    outputs: Array
    errors: Array
    forces: Array
    h: Array
    grad_h: Array
    grad_z: Array
    ntk: Array
    each: tuple[Array, Array] | None


class Rule(NamedTuple):
    """An optimiser: its first state, and (moving, state, batch, its columns of V0, update) -> (moving, state)."""

    init: Callable[[Moving], Any]
    step: Callable[[Moving, Any, Observed, Array, Array], tuple[Moving, Any]]


def slopes(seen: Observed, overlap: Float[Array, "M P"], ends: Ends) -> Moving:
    """U = -n ∂loss/∂W, whose multiple by η₀/n is a step of gradient descent; 0 for ends that are fixed.

    Args:
        seen: the batch.
        overlap: columns of V0 that belong to it.
        ends: s, and whether E and w move.
    """
    root = seen.h.shape[2] ** 0.5
    matrices = jnp.einsum("p,lpi,lpj->lij", seen.forces, seen.grad_z, seen.h[:-1]) * (ends.scale / root)
    readouts = seen.errors.T @ seen.h[-1] * (ends.scale / root)
    # h_0 = E x, and x·x' is V0.
    inputs = ends.scale * overlap @ (seen.forces[:, None] * seen.grad_h[0])
    return Moving(
        matrices, *(u if moves else jnp.zeros_like(u) for u, moves in zip((readouts, inputs), ends[1:], strict=True))
    )


def of_networks(task: Task, width: int, ends: Ends) -> Rule:
    """The optimiser of a task on the weights of networks of this width."""
    if isinstance(task.optimizer, SGD):
        return linear_rule(task, width, ends)
    return entry_rule(task, width, ends) if isinstance(task.optimizer, AbstractEntrywise) else _of_optax(task, ends)


def of_limit(task: Task, width: int, ends: Ends) -> Rule:
    """What the limit sees of it, in layers of width 1/step.

    Adam beyond its first step acts on the entries of these layers, which are the pairs of Gaussian vectors over which
    its K is a mean: what it adds to K is, as the step, of order 1/n.
    """
    if isinstance(task.optimizer, SGD):
        return linear_rule(task, width, ends)
    return sign_rule(task, width, ends) if isinstance(task.optimizer, Sign) else entry_rule(task, width, ends)


def linear_rule(task: Task, width: int, ends: Ends) -> Rule:
    """Gradient descent with momentum and decay."""
    optimizer = task.optimizer
    trained = (True, ends.train_readout, ends.train_input)
    rates = jnp.asarray(optimizer.rates(task.updates), task.dtype) / (task.substeps * width)

    def init(now: Moving) -> Moving:
        return jax.tree.map(jnp.zeros_like, now)

    def step(now: Moving, momentum: Moving, seen: Observed, overlap: Array, update: Array) -> tuple[Moving, Moving]:
        rate, U = rates[update], slopes(seen, overlap, ends)

        def one(w: Array, m: Array, u: Array, moves: bool) -> tuple[Array, Array]:
            return optimizer.moved(w, m, u, rate, optimizer.weight_decay) if moves else (w, m)

        pairs = [one(w, m, u, moves) for w, m, u, moves in zip(now, momentum, U, trained, strict=True)]
        return Moving(*(p[0] for p in pairs)), Moving(*(p[1] for p in pairs))

    return Rule(init, step)


def entry_rule(task: Task, width: int, ends: Ends) -> Rule:
    """Adam with ε = 0 on every entry of the hidden matrices, by η₀/n²; where all gradients were 0 nothing moves."""
    optimizer, dtype = task.optimizer, task.dtype
    rates = jnp.asarray(optimizer.rates(task.updates), dtype) / width**2
    first, second = (jnp.asarray(beta, dtype) for beta in optimizer.memory)

    def init(now: Moving) -> tuple[Array, Array]:
        return jnp.zeros_like(now.matrices), jnp.zeros_like(now.matrices)

    def step(
        now: Moving, means: tuple[Array, Array], seen: Observed, overlap: Array, update: Array
    ) -> tuple[Moving, tuple[Array, Array]]:
        U = slopes(seen, overlap, ends).matrices
        m, v = first * means[0] + (1 - first) * U, second * means[1] + (1 - second) * U * U
        count = (update + 1).astype(dtype)
        mean, square = m / (1 - first**count), v / (1 - second**count)
        psi = jnp.where(square > 0, mean / jnp.sqrt(jnp.where(square > 0, square, 1)), 0)
        return now._replace(matrices=now.matrices + rates[update] * psi), (m, v)

    return Rule(init, step)


def sign_rule(task: Task, width: int, ends: Ends) -> Rule:
    """Sign descent on the hidden matrices as the limit sees it: (η₀/n²) g K hᵀ."""
    rates = jnp.asarray(task.optimizer.rates(task.updates), task.dtype) / width**2

    def step(now: Moving, state: None, seen: Observed, overlap: Array, update: Array) -> tuple[Moving, None]:
        g = ends.scale * width**0.5 * seen.forces[None, :, None] * seen.grad_z
        h = seen.h[:-1]
        products = (jnp.einsum("lai,lbi->lab", u, u) / width for u in (h, g))
        change = jnp.einsum("lbi,lba,laj->lij", g, sign_coefficients(*products), h)
        return now._replace(matrices=now.matrices + rates[update] * change), None

    return Rule(lambda now: None, step)


def sign_coefficients(Phi: Float[Array, "*layers P P"], G: Float[Array, "*layers P P"]) -> Float[Array, "*layers P P"]:
    """K of a sign: sign(Σ_b g(b) h(b)ᵀ) acts on features and gradients as Σ g(b) K_ba h(a)ᵀ.

    Args:
        Phi: covariance of the h; directions that they do not span have no part in K.
        G: covariance of the g, with the errors inside; directions that they do not span have none either.
    """
    tiny = 16 * Phi.shape[-1] * jnp.finfo(Phi.dtype).eps
    variances, axes = jnp.linalg.eigh(Phi)
    there = variances > tiny * jnp.max(variances, axis=-1, keepdims=True)
    root = jnp.sqrt(jnp.where(there, variances, 0))
    inverse = jnp.where(there, 1 / jnp.where(there, root, 1), 0)
    R, R_inverse = ((axes * u[..., None, :]) @ jnp.swapaxes(axes, -1, -2) for u in (root, inverse))
    lam, Q = jnp.linalg.eigh(R @ G @ R)
    Q = R @ Q, R_inverse @ Q
    return jnp.sqrt(2 / jnp.pi) * (Q[0] * _integrals(lam, tiny)[..., None, :]) @ jnp.swapaxes(Q[1], -1, -2)


def _integrals(lam: Float[Array, "*layers P"], tiny: Any) -> Float[Array, "*layers P"]:
    """I_i by the trapezoidal rule in log σ, 0 for a λ_i of 0: g has no part there. Nearly exact: all is analytic."""
    most = jnp.max(lam, axis=-1, keepdims=True)
    there = (lam > tiny * most) & (most > 0)
    scaled = jnp.where(there, lam, 0) / jnp.where(most > 0, most, 1)
    single = lam.dtype == jnp.float32
    step, reach = (0.5, 17.0) if single else (0.3, 35.0)
    u = np.exp(np.arange(-reach, reach + step, step))  # 2 σ max λ = u²

    def add(total: Array, u: Array) -> tuple[Array, None]:
        ratios = 1 + u * u * scaled
        return total + u / jnp.sqrt(jnp.prod(ratios, axis=-1, keepdims=True)) / ratios, None

    total, _ = jax.lax.scan(add, jnp.zeros_like(lam), jnp.asarray(u, lam.dtype))
    # dσ/√(πσ) = √(2/(π max λ)) du
    scale = jnp.sqrt(2 / jnp.pi / jnp.where(most > 0, most, 1)) * step
    return jnp.where(there, scale * total, 0)


def _of_optax(task: Task, ends: Ends) -> Rule:
    """Any optimiser of optax, given the gradients of the loss in weights that are N(0, 1) at initialization."""
    optimizer, trained = task.optimizer, (True, ends.train_readout, ends.train_input)

    def moving(now: Moving) -> list[Array]:
        return [x for x, moves in zip(now, trained, strict=True) if moves]

    def step(now: Moving, state: Any, seen: Observed, overlap: Array, update: Array) -> tuple[Moving, Any]:
        gradients = jax.tree.map(lambda u: -u, moving(slopes(seen, overlap, ends)))
        changes, state = optimizer.update(gradients, state, moving(now))
        change = iter(changes)
        return Moving(*(x + next(change) if m else x for x, m in zip(now, trained, strict=True))), state

    return Rule(lambda now: optimizer.init(moving(now)), step)
