"""Which keys each token may attend to, and how an attention matrix is shaped: shared by limits and networks."""

import abc
import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from covsde.inputs.arguments import checked_switch, finite_number, hyperparameter
from covsde.numerics.tracing import is_traced
from covsde.numerics.typing import Hyperparameter


class AbstractMask(eqx.Module):
    """The keys each of m tokens may attend to."""

    @abc.abstractmethod
    def allowed(self, m: int) -> Bool[np.ndarray, "m m"]:
        """Row α is True at the keys of token α; every row has at least one.

        Raises:
            ValueError: if the mask is for another number of tokens.
        """

    def uniform(self, m: int) -> Float[np.ndarray, "m m"]:
        """U, the attention of constant logits: uniform over the keys of each token, rows summing to 1."""
        allowed = self.allowed(m).astype(np.float64)
        return allowed / allowed.sum(axis=1, keepdims=True)


class NoMask(AbstractMask):
    """Every token attends to every token."""

    def allowed(self, m: int) -> Bool[np.ndarray, "m m"]:
        """All True."""
        return np.ones((m, m), bool)


class CausalMask(AbstractMask):
    """Token α attends to tokens 0 … α."""

    def allowed(self, m: int) -> Bool[np.ndarray, "m m"]:
        """The lower triangle."""
        return np.tril(np.ones((m, m), bool))


class PatternMask(AbstractMask):
    """Any pattern, for a fixed number of tokens."""

    pattern: tuple[tuple[bool, ...], ...] = eqx.field(static=True)

    def allowed(self, m: int) -> Bool[np.ndarray, "m m"]:
        """The pattern itself."""
        if m != len(self.pattern):
            raise ValueError(f"mask is for {len(self.pattern)} tokens, but V0 has {m}: pass a ({m}, {m}) mask.")
        return np.asarray(self.pattern)


def mask_of(mask: Any) -> AbstractMask:
    """The mask that None, "causal" or an (m, m) array of 0 and 1 stands for."""
    if isinstance(mask, AbstractMask):
        return mask
    if mask is None:
        return NoMask()
    if isinstance(mask, str):
        if mask == "causal":
            return CausalMask()
        raise ValueError(f"mask must be None, 'causal' or an (m, m) array of 0 and 1, got {mask!r}.")
    array = np.asarray(mask)
    square = array.ndim == 2 and array.shape[0] == array.shape[1] and array.size > 0
    if not square or array.dtype.kind not in "biuf" or not np.all((array == 0) | (array == 1)):
        raise ValueError("mask must be None, 'causal' or an (m, m) array of 0 and 1 (1 where attention is allowed).")
    if not np.all(array.sum(axis=1) > 0):
        raise ValueError("mask has a row of zeros: every token must be allowed to attend to at least one token.")
    return PatternMask(tuple(tuple(bool(x) for x in row) for row in array))


class Attention(eqx.Module):
    """How the attention matrix A = [identity] I + Softmax(Y / τ) - [centred] U is made from logits Y.

    Attributes:
        identity: add the identity matrix.
        centred: subtract U, the attention of constant logits.
        scaled: temperature τ = τ₀ √(N n_k), with N the width or depth by which the network is shaped and n_k the key
            size; otherwise the usual τ = τ₀ √n_k.

    All three together are shaped attention, which alone has a limit; the others are what it is compared with.

    Source: Noci et al. (2023), arXiv 2306.17759, shaped attention.
    """

    identity: bool = eqx.field(static=True, default=True)
    centred: bool = eqx.field(static=True, default=True)
    scaled: bool = eqx.field(static=True, default=True)

    def __check_init__(self) -> None:
        for name in ("identity", "centred", "scaled"):
            checked_switch(name, getattr(self, name))

    @property
    def shaped(self) -> bool:
        """Whether all three modifications are on."""
        return self.identity and self.centred and self.scaled

    def temperature(self, tau0: float, shaping: int, key_size: int) -> float:
        """τ, by which logits X W^Q (X W^K)ᵀ / n are divided."""
        return tau0 * (key_size * (shaping if self.scaled else 1)) ** 0.5

    def matrix(self, logits: Float[Array, "*batch m m"], mask: AbstractMask) -> Float[Array, "*batch m m"]:
        """A from logits already divided by the temperature."""
        m = logits.shape[-1]
        lead = (None,) * (logits.ndim - 2)
        allowed = jnp.asarray(mask.allowed(m))[lead]
        A = jax.nn.softmax(jnp.where(allowed, logits, -jnp.inf), axis=-1)
        if self.identity:
            A = A + jnp.eye(m, dtype=logits.dtype)[lead]
        if self.centred:
            A = A - jnp.asarray(mask.uniform(m), logits.dtype)[lead]
        return A


def attention_strength(gamma: Any, tau0: Any) -> tuple[Hyperparameter, Hyperparameter]:
    """γ ∈ [0, 1] and τ₀ > 0 (possibly +∞), checked."""
    within = "must lie in [0, 1], got {}: the skip connection is scaled by √(1 - gamma²)."
    g = hyperparameter("gamma", gamma, lambda g: 0 <= g <= 1, within)
    if is_traced(tau0):
        return g, hyperparameter("tau0", tau0)
    try:
        t = math.inf if isinstance(tau0, float) and tau0 == math.inf else finite_number("tau0", tau0)
    except ValueError as error:
        raise ValueError(f"tau0 must be a positive number or inf, got {tau0!r}.") from error
    if not t > 0:
        raise ValueError(f"tau0 must be a positive number or inf, got {tau0!r}.")
    return g, t
