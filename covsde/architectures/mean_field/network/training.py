"""Finite mean-field networks trained by gradient descent: with real weights, or in law without them.

    W ← W - η_0 γ_0² N ∂loss/∂W,    loss the mean over a batch,    f_c = w_c·φ(h^L)/(γ_0 N)

in every layer. A decay λ takes the part ηλ of the weights.
"""

import equinox as eqx
import jax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from covsde.architectures.mean_field.network.weights import MeanFieldNetwork, inputs_of
from covsde.descent.by_gradients import AbstractBlocks, Weights, descend
from covsde.descent.low_rank import descend_low_rank
from covsde.descent.mean_field import Trained, UpdateRule, stacked
from covsde.descent.optimizers import SGD
from covsde.descent.systems import numbers_in_law, train_in_law
from covsde.descent.task import Sizes, Task
from covsde.descent.trajectory import Trajectory
from covsde.numerics.typing import Function
from covsde.run.memory import LIMIT, TRAINING, fitting


class Layers(AbstractBlocks):
    """The matrices between two hidden layers.

    Attributes:
        fn: φ.
    """

    fn: Function = eqx.field(static=True)

    def apply(self, matrices: tuple[Array, ...], h: Float[Array, "R width"]) -> Float[Array, "R width"]:
        """W φ(h)/√N."""
        return self.fn(h) @ matrices[0].T / h.shape[-1] ** 0.5

    def units(
        self, hidden: tuple[Array, ...], h: Float[Array, "layers R width"], saved: Int[Array, " times"]
    ) -> Float[Array, "times R units"]:
        """φ(h)."""
        found: Array = self.fn(h[saved])
        return found

    def rates(self, rule: UpdateRule, width: int) -> tuple[Array | float, Array | float]:
        """γ_0² N in every layer."""
        return rule.richness**2 * width, rule.richness**2 * width


@eqx.filter_jit
def train_by_law(rule: UpdateRule, task: Task, sizes: Sizes, key: PRNGKeyArray) -> Trajectory:
    """Networks whose weights are revealed only where training meets them; exact in law."""
    blocks = sizes.depth - 1
    each = numbers_in_law(task, blocks, sizes.width) * task.dtype.itemsize
    found = train_in_law(rule, task, sizes, blocks, fitting(each, LIMIT, least=1, most=sizes.draws), key)
    return stacked(found._replace(ntk=blocks * found.ntk + found.ends))


@eqx.filter_jit
def train_by_weights(rule: UpdateRule, task: Task, sizes: Sizes, key: PRNGKeyArray) -> Trajectory:
    """Independent networks with real weights, really trained; about 256 MiB of weights in memory at a time."""
    x, blocks, width = inputs_of(task.V0), sizes.depth - 1, sizes.width
    shape, linear = (sizes.depth, width, task.outputs), isinstance(task.optimizer, SGD)

    def one(k: PRNGKeyArray) -> Trained:
        draw, other = jax.random.split(k)
        net = MeanFieldNetwork.draw(rule.fn, 1.0, shape, in_size=task.inputs, key=draw, dtype=task.dtype)
        assert net.input_weights is not None
        start = Weights((net.hidden_weights,), net.input_weights, net.output_weights)
        if linear:
            own = None if task.settings.response else jax.random.normal(other, net.hidden_weights.shape, task.dtype)
            found = descend_low_rank(start, rule, x, task, sizes.layers, own)
            return found._replace(ntk=blocks * found.ntk + found.ends)
        found = descend(Layers(rule.fn), start, rule, x, task, sizes.layers)
        return found._replace(ntk=found.ntk + found.ends)

    batch = fitting(3 * sizes.depth * width**2 * task.dtype.itemsize, TRAINING, least=1, most=sizes.draws)
    return stacked(jax.lax.map(one, jax.random.split(key, sizes.draws), batch_size=batch))
