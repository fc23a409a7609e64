"""Networks for experiments on hyperparameter transfer: many outputs, any parameterisation, SGD or Adam.

    h ← skip · h + branch · F(h),    F(h) = W φ_s(h), or W₂ φ_s(W₁ h) with two matrices per block

At the base shape: N(0, 1) weights with multipliers d^{-1/2} (input), base_width^{-1/2} (hidden, output), and branches
of base_depth^{-1/2}. Factors of the parameterisation change all of them with the shape.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from covsde.numerics.keys import generator
from covsde.numerics.typing import Function
from covsde.transfer.tables import Factors


class ScaledNetwork(eqx.Module):
    """A network whose weights are trained and whose factors are not.

    Attributes:
        weights: input (width, d), blocks (one or two arrays (depth, width, width)) and output (classes, width).
        multiplier: three numbers.
        branch: factor before every branch.
        skip: 1 or 0.
        shaping: s.
        fn: φ.
    """

    weights: tuple[Array, tuple[Array, ...], Array]
    multiplier: tuple[Array, Array, Array]
    branch: Array
    skip: Array
    shaping: Array
    fn: Function = eqx.field(static=True)

    def __init__(
        self,
        fn: Function,
        factors: Factors,
        key: PRNGKeyArray,
        *,
        inputs: int,
        width: int,
        depth: int,
        classes: int,
        base_width: int,
        base_depth: int,
        matrices: int = 1,
        dtype: Any = jnp.float32,
    ):
        first, middle, last = jax.random.split(key, 3)

        def draw(k: PRNGKeyArray, kind: int, *shape: int) -> Array:
            with generator():
                return jnp.asarray(factors.deviation[kind], dtype) * jax.random.normal(k, shape, dtype)

        hidden = tuple(draw(jax.random.fold_in(middle, i), 1, depth, width, width) for i in range(matrices))
        self.weights = draw(first, 0, width, inputs), hidden, draw(last, 2, classes, width)
        bases = (inputs**-0.5, base_width**-0.5, base_width**-0.5)
        a, b, c = (jnp.asarray(m * base, dtype) for m, base in zip(factors.multiplier, bases, strict=True))
        self.multiplier = a, b, c
        self.branch = jnp.asarray(factors.branch * base_depth**-0.5, dtype)
        self.skip = jnp.asarray(factors.skip, dtype)
        self.shaping = jnp.asarray(factors.shaping, dtype)
        self.fn = fn

    def _activate(self, h: Array) -> Array:
        return self.shaping * self.fn(h / self.shaping)

    def block(self, matrices: tuple[Array, ...], h: Float[Array, "batch width"]) -> Float[Array, "batch width"]:
        """branch · F(h)."""
        for k, W in enumerate(matrices):
            h = self.multiplier[1] * (self._activate(h) if k == len(matrices) - 1 else h) @ W.T
        # Without skip connections there is nothing for a branch to be smaller than.
        return (self.skip * self.branch + (1 - self.skip)) * h

    def features(self, x: Float[Array, "batch d"]) -> Float[Array, "layers batch width"]:
        """The residual stream after the input layer and after every block."""
        first, hidden, _ = self.weights

        def step(h: Array, matrices: tuple[Array, ...]) -> tuple[Array, Array]:
            new = self.skip * h + self.block(matrices, h)
            return new, new

        h = self.multiplier[0] * x @ first.T
        return jnp.concatenate([h[None], jax.lax.scan(step, h, hidden)[1]])

    def __call__(self, x: Float[Array, "batch d"]) -> Float[Array, "batch classes"]:
        """Outputs."""
        return self.multiplier[2] * self.features(x)[-1] @ self.weights[2].T


Update = tuple[Array, tuple[Array, ...], Array]


def scaled_rates(network: ScaledNetwork, factors: Factors, learning_rate: Array) -> Update:
    """The learning rate of every weight, in the shape of the weights as a tree."""
    a, b, c = (learning_rate * jnp.asarray(r, learning_rate.dtype) for r in factors.rate)
    return a, tuple(b for _ in network.weights[1]), c


def train_scaled(
    network: ScaledNetwork,
    rates: Update,
    x: Float[Array, "data d"],
    labels: Any,
    key: PRNGKeyArray,
    *,
    loss: Callable[[Array, Array], Array],
    steps: int,
    batch: int,
    optimiser: str,
) -> tuple[ScaledNetwork, Float[Array, " steps"]]:
    """Minibatch training.

    Args:
        network: at initialization.
        rates: per weight.
        x: inputs.
        labels: targets, one per input.
        key: for the minibatches.
        loss: mean over a batch, of outputs (batch, classes) and labels (batch,).
        steps: number of updates.
        batch: inputs per update; all of them, in order, if there are no more.
        optimiser: "sgd" or "adam" (β = 0.9, 0.999, ε = 10⁻¹²).

    Returns:
        The trained network, and the loss of each batch before its update.
    """
    count = x.shape[0]

    def value(weights: Any, rows: Array) -> Array:
        trained = eqx.tree_at(lambda n: n.weights, network, weights)
        return loss(trained(x[rows]), labels[rows])

    def step(state: tuple[Any, Any, Any], k: Array) -> tuple[tuple[Any, Any, Any], Array]:
        weights, mean, square = state
        rows = jnp.arange(count)
        if batch < count:
            with generator():
                rows = jax.random.randint(jax.random.fold_in(key, k), (batch,), 0, count)
        here, slopes = jax.value_and_grad(value)(weights, rows)
        if optimiser == "sgd":
            weights = jax.tree.map(lambda W, g, r: W - r * g, weights, slopes, rates)
            return (weights, mean, square), here
        t = (k + 1).astype(x.dtype)
        mean = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, mean, slopes)
        square = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, square, slopes)

        def move(W: Array, m: Array, v: Array, r: Array) -> Array:
            return W - r * (m / (1 - 0.9**t)) / (jnp.sqrt(v / (1 - 0.999**t)) + 1e-12)

        return (jax.tree.map(move, weights, mean, square, rates), mean, square), here

    zeros = jax.tree.map(jnp.zeros_like, network.weights)
    (weights, *_), losses = jax.lax.scan(step, (network.weights, zeros, zeros), jnp.arange(steps))
    return eqx.tree_at(lambda n: n.weights, network, weights), losses


def linearisation_gap(
    before: ScaledNetwork, after: ScaledNetwork, h: Float[Array, "batch width"], layer: int
) -> Float[Array, ""]:
    """|F(W + ΔW) - F(W) - F'(W)ΔW| / |F'(W)ΔW| of one block: 0 if training only sees its linearisation.

    Source: the third desideratum of arXiv 2505.01618.
    """
    old, new = (tuple(W[layer] for W in net.weights[1]) for net in (before, after))
    change = tuple(b - a for a, b in zip(old, new, strict=True))
    start, linear = jax.jvp(lambda m: before.block(m, h), (old,), (change,))
    rest = before.block(new, h) - start - linear
    return jnp.sqrt(jnp.sum(rest**2) / jnp.sum(linear**2))
