"""Optimisers that are linear in the gradients, as data: all that training asks of one is a table of coefficients.

With U_j = -∂L_j/∂W at W(j), and L_j the loss at step j, every such rule gives, whatever the layer,

    W(k) = β_k W(0) + (1/n) Σ_{j<k} Ω_kj U_j

    coupled decay (an L2 penalty λ/2n |W|²):  u_k = U_k - λ W(k);     decoupled:  u_k = U_k and W ← (1 - η_k λ/n) W
    m ← μ m + u_k;     step = m (heavy ball)  or  u_k + μ m (Nesterov);     W ← W + (η_k/n) step

A decay acts on all layers at once: it multiplies outputs by β_k^d, so λ η/n with λ of order one is its scale at depth
proportional to width, and β_k^d → e^{-Λ_k T}. At mean-field scale β_k multiplies residual branches of size 1/√depth, or
finitely many layers, and is of order one: the same table with 1 in place of n.

Source: Polyak (1964), Nesterov (1983), in the form of PyTorch's SGD; Loshchilov, Hutter (2019), arXiv 1711.05101.
"""

import abc
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from covsde.inputs.arguments import checked_switch, finite_number, one_line
from covsde.numerics.typing import Number

# A decay that shrinks outputs by more than e^-5 leaves nothing to train.
MOST_DECAY = 5.0


class Table(NamedTuple):
    """W(k) = β_k W(0) + (1/n) Σ_j Ω_kj U_j for k = 0 … steps.

    Attributes:
        beta: β, (steps + 1,).
        Omega: Ω, (steps + 1, steps); 0 for j ≥ k.
    """

    beta: Float[Array, " k"]
    Omega: Float[Array, "k j"]


class SGD(eqx.Module):
    """Gradient descent with momentum and weight decay, at a constant rate or by a schedule.

    Args:
        rate: η₀, or one for each update; networks of width n use η₀/n.
        momentum: μ, from 0 up to, not including, 1.
        nesterov: look ahead, as PyTorch does.
        weight_decay: λ ≥ 0 of order one; networks use λ/n.
        decoupled: shrink the weights themselves, as AdamW does, instead of adding λW to the gradient.

    Raises:
        ValueError: for a value out of range.

    Example:
        ```python
        optimizer = cs.SGD([1.0, 0.5, 0.25], momentum=0.9)
        ```
    """

    rate: Float[np.ndarray | Array, "*updates"] | float
    momentum: Number
    weight_decay: Number
    nesterov: bool = eqx.field(static=True)
    decoupled: bool = eqx.field(static=True)

    def __init__(
        self,
        rate: Any,
        momentum: Any = 0.0,
        nesterov: Any = False,
        weight_decay: Any = 0.0,
        decoupled: Any = False,
    ):
        self.rate = _rate(rate)
        self.momentum = finite_number("momentum", momentum)
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum must lie in [0, 1), got {momentum!r}.")
        self.weight_decay = finite_number("weight_decay", weight_decay)
        if self.weight_decay < 0:
            raise ValueError(f"weight_decay must be at least 0, got {weight_decay!r}.")
        self.nesterov, self.decoupled = checked_switch("nesterov", nesterov), checked_switch("decoupled", decoupled)
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov=True looks ahead along the momentum, and momentum is 0: give one, such as 0.9.")

    @property
    def plain(self) -> bool:
        """Whether it is gradient descent at one rate."""
        return bool(np.ndim(self.rate) == 0 and self.momentum == 0 and self.weight_decay == 0)

    def described(self) -> dict[str, Any]:
        """All but the rate, for metadata."""
        names = ("momentum", "nesterov", "weight_decay", "decoupled")
        return {name: np.asarray(getattr(self, name)).item() for name in names}

    def rates(self, updates: int) -> Float[np.ndarray | Array, " updates"]:
        """η of each update.

        Raises:
            ValueError: for a schedule of another length.
        """
        return _rates(self.rate, updates)

    def moved(self, w: Array, m: Array, u: Array, rate: Array | float, decay: Array | float) -> tuple[Array, Array]:
        """Weights and their momentum after one step.

        Args:
            w: weights.
            m: momentum, 0 at first.
            u: -∂loss/∂w in the unit of the rate.
            rate: η_k.
            decay: λ in the unit of the rate.
        """
        if self.decoupled:
            w = (1 - rate * decay) * w
        else:
            u = u - decay * w
        m = self.momentum * m + u
        return w + rate * (u + self.momentum * m if self.nesterov else m), m

    def table(self, updates: int, width: Number | int, substeps: int = 1) -> Table:
        """The coefficients of all gradient steps, `substeps` of η/substeps in an update.

        Args:
            updates: number of updates.
            width: n, by which decay is divided.
            substeps: gradient steps per update.
        """
        rates = jnp.repeat(jnp.asarray(self.rates(updates)) / substeps, substeps)
        steps, dtype = rates.shape[0], rates.dtype
        decay = jnp.asarray(self.weight_decay, dtype) / jnp.asarray(width, dtype)

        def step(now: tuple[Array, Array], given: tuple[Array, Array]) -> tuple[tuple[Array, Array], Array]:
            (w, m), (k, rate) = now, given
            u = (jnp.arange(steps + 1) == 1 + k).astype(dtype)
            w, m = self.moved(w, m, u, rate, decay)
            return (w, m), w

        start = (jnp.arange(steps + 1) == 0).astype(dtype)
        _, later = jax.lax.scan(step, (start, jnp.zeros(steps + 1, dtype)), (jnp.arange(steps), rates))
        rows = jnp.concatenate([start[None], later])
        return Table(rows[:, 0], rows[:, 1:])

    def check_share(self, updates: int) -> None:
        """Refuse a decay, of a share ηλ of the weights in an update, that is more than all of them.

        Raises:
            ValueError: naming the decay that would do.
        """
        largest = float(np.max(np.asarray(self.rates(updates)), initial=0)) * float(self.weight_decay)
        if largest >= 1:
            raise ValueError(
                f"weight_decay={float(self.weight_decay):g} takes the share {largest:.3g} of the weights in an update, "
                f"all of them or more: use less than {float(self.weight_decay) / largest:.3g}."
            )

    def check_decay(self, updates: int, width: float | int, depth: int) -> None:
        """Refuse a decay that leaves nothing of the outputs of a network of this width and depth.

        Raises:
            ValueError: naming the decay that would do.
        """
        if self.weight_decay == 0 or updates == 0:
            return
        last = float(self.table(updates, width).beta[-1])
        strength = -depth * np.log(last) if last > 0 else np.inf
        if strength > MOST_DECAY:
            raise ValueError(
                f"weight_decay={float(self.weight_decay):g} shrinks all {depth} layers at once, outputs by "
                f"e^-{strength:.1f} in {updates} updates, and leaves nothing to train: use at most "
                f"{float(self.weight_decay) * MOST_DECAY / strength:.2g}."
                if np.isfinite(strength)
                else f"weight_decay={float(self.weight_decay):g} takes weights through 0 in an update: lower it."
            )


class AbstractEntrywise(eqx.Module):
    """A rule that moves every entry of the hidden matrices of networks of width n by (η₀/n²) m̂/√v̂, with ε = 0.

    m̂ and v̂ are means of the gradients so far and of their squares, as Adam takes them.
    """

    rate: eqx.AbstractVar[Float[np.ndarray | Array, "*updates"] | float]

    @property
    @abc.abstractmethod
    def memory(self) -> tuple[float, float]:
        """β₁ and β₂, by which the two means are kept from update to update."""

    @property
    def plain(self) -> bool:
        """False: it is no gradient descent."""
        return False

    def described(self) -> dict[str, Any]:
        """All but the rate, for metadata."""
        return {"rule": type(self).__name__, "beta1": self.memory[0], "beta2": self.memory[1]}

    def rates(self, updates: int) -> Float[np.ndarray | Array, " updates"]:
        """η₀ of each update.

        Raises:
            ValueError: for a schedule of another length.
        """
        return _rates(self.rate, updates)


class Sign(AbstractEntrywise):
    """Sign descent: every entry of the hidden matrices moves by η₀/n² against the sign of its gradient.

    n^{-2}, for weights that are N(0, 1) at initialization, is the scale at depth proportional to width. The limit is
    derived at leading order in 1/n, and verified for few updates.

    Args:
        rate: η₀, or one for each update.

    Raises:
        ValueError: for a value out of range.

    Source: Bernstein et al. (2018), arXiv 1802.04434; equations of the limit in covsde/descent/rules.py.
    """

    rate: Float[np.ndarray | Array, "*updates"] | float

    def __init__(self, rate: Any):
        self.rate = _rate(rate)

    @property
    def memory(self) -> tuple[float, float]:
        """Nothing is kept."""
        return 0.0, 0.0


class Adam(AbstractEntrywise):
    """Adam with ε = 0: every entry of the hidden matrices moves by (η₀/n²) m̂/√v̂, the first time by its sign.

    n^{-2}, for weights that are N(0, 1) at initialization, is the scale at depth proportional to width. The limit is
    derived at leading order in 1/n, and verified for few updates.

    Args:
        rate: η₀, or one for each update.
        beta1: by how much the mean m of gradients is kept from update to update, from 0 up to, not including, 1.
        beta2: the same for the mean v of their squares.

    Raises:
        ValueError: for a value out of range.

    Source: Kingma, Ba (2015), arXiv 1412.6980; equations of the limit in covsde/descent/rules.py.
    """

    rate: Float[np.ndarray | Array, "*updates"] | float
    beta1: float = eqx.field(static=True)
    beta2: float = eqx.field(static=True)

    def __init__(self, rate: Any, beta1: Any = 0.9, beta2: Any = 0.999):
        self.rate = _rate(rate)
        self.beta1, self.beta2 = float(finite_number("beta1", beta1)), float(finite_number("beta2", beta2))
        for name in ("beta1", "beta2"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must lie in [0, 1), got {getattr(self, name)!r}.")

    @property
    def memory(self) -> tuple[float, float]:
        """β₁ and β₂."""
        return self.beta1, self.beta2


def _rates(rate: Any, updates: int) -> Any:
    if np.ndim(rate) == 0:
        return rate * (jnp if isinstance(rate, jax.Array) else np).ones(updates)
    length = np.shape(rate)[0]
    if length != updates:
        raise ValueError(
            f"learning_rate must be a number or one for each of the {updates} updates, got {length}: "
            f"set updates={length}, or drop the rest."
        )
    return rate


def _rate(rate: Any) -> Any:
    if np.ndim(rate) == 0:
        return finite_number("learning_rate", rate)
    if np.ndim(rate) != 1 or np.size(rate) == 0:
        raise ValueError(
            f"learning_rate must be a number or a list of them, one for each update, got {one_line(rate)}."
        )
    return np.asarray([finite_number("learning_rate", x) for x in np.asarray(rate).tolist()])


def checked_optimizer(optimizer: Any) -> Any:
    """The optimiser that was given, or gradient descent at the rate that was.

    Raises:
        ValueError: for something else.
    """
    if isinstance(optimizer, SGD | AbstractEntrywise) or (hasattr(optimizer, "init") and hasattr(optimizer, "update")):
        return optimizer
    try:
        number = np.asarray(optimizer).dtype.kind in "biuf"
    except (TypeError, ValueError):
        number = False
    if not number:
        raise ValueError(
            f"optimizer must be cs.SGD, cs.Sign, cs.Adam, or for networks with weights one of optax, got {optimizer!r}."
        )
    return SGD(optimizer)
