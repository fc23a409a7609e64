"""Finite ResNets trained by gradient descent: with real weights, or in law without them.

    W ← W - η_0 γ_0² N/s · ∂loss/∂W,    loss the mean over a batch,    f_c = w_c·h^L/(γ_0 N)

for the matrices of blocks of strength s (one matrix) and W ← W - η_0 γ_0² L M ∂loss/∂W for blocks of two matrices of M
hidden units; with η_0 γ_0² N for the input layer and the readout, if they learn. f moves by order one. A decay λ takes
the part ηλ of the weights, whatever their rate.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from covsde.architectures.resnet.blocks import AbstractBlock, PreActivation, TwoMatrix
from covsde.architectures.resnet.network.weights import ResNetNetwork, _root, branch
from covsde.descent.by_gradients import AbstractBlocks, Weights, descend
from covsde.descent.low_rank import descend_low_rank
from covsde.descent.mean_field import Trained, UpdateRule, stacked
from covsde.descent.optimizers import SGD
from covsde.descent.systems import numbers_in_law, train_in_law
from covsde.descent.task import Sizes, Task
from covsde.descent.trajectory import Trajectory
from covsde.run.memory import LIMIT, TRAINING, fitting


class Stream(AbstractBlocks):
    """The blocks of a ResNet."""

    network: ResNetNetwork

    def apply(self, matrices: tuple[Array, ...], h: Float[Array, "R width"]) -> Float[Array, "R width"]:
        """h + β √(s/L) F(h)."""
        return h + self.network.scale * branch(self.network.block, self.network.fn, matrices, h)

    def units(
        self, hidden: tuple[Array, ...], h: Float[Array, "layers R width"], saved: Int[Array, " times"]
    ) -> Float[Array, "times R units"]:
        """φ of the stream, or of the hidden units of the block above, and at the top of that below."""
        fn = self.network.fn
        if not isinstance(self.network.block, TwoMatrix):
            return fn(h[saved])
        places = jnp.minimum(saved, h.shape[0] - 2)
        return jax.vmap(lambda U, h: fn(h @ U.T / h.shape[-1] ** 0.5))(hidden[0][places], h[places])

    def rates(self, rule: UpdateRule, width: int) -> tuple[Array | float, Array | float]:
        """γ_0² N/s for one matrix, γ_0² L M for two, and γ_0² N at the ends."""
        depth, ends = self.network.hidden_weights[0].shape[0], rule.richness**2 * width
        if isinstance(self.network.block, TwoMatrix):
            return rule.richness**2 * depth * self.network.hidden_weights[0].shape[1], ends
        return ends / self.network.block.strength(width, depth), ends


@eqx.filter_jit
def train_by_law(rule: UpdateRule, beta: float, task: Task, sizes: Sizes, key: PRNGKeyArray) -> Trajectory:
    """Pre-activation networks whose weights are revealed only where training meets them; exact in law."""
    each = numbers_in_law(task, sizes.depth, sizes.width) * task.dtype.itemsize
    batch = fitting(each, LIMIT, least=1, most=sizes.draws)
    found = train_in_law(rule, task, sizes, sizes.depth, batch, key)
    return stacked(found._replace(ntk=beta**2 * found.ntk))


@eqx.filter_jit
def train_by_weights(
    block: AbstractBlock, rule: UpdateRule, beta: float, task: Task, sizes: Sizes, key: PRNGKeyArray
) -> Trajectory:
    """Independent networks with real weights, really trained; about 256 MiB of weights in memory at a time."""
    M, width, depth, dtype = task.inputs, sizes.width, sizes.depth, task.dtype
    x = _root(task.V0[None])[0] * M**0.5  # inputs of dimension M whose Gram matrix is V0
    linear = isinstance(task.optimizer, SGD)

    def one(k: PRNGKeyArray) -> Trained:
        draw, other = jax.random.split(k)
        network = ResNetNetwork(
            block,
            rule.fn,
            beta,
            width=width,
            depth=depth,
            richness=1.0,
            out_size=task.outputs,
            in_size=M,
            key=draw,
            dtype=dtype,
        )
        assert network.input_weights is not None
        start = Weights(network.hidden_weights, network.input_weights, network.output_weights)
        if isinstance(block, PreActivation) and linear:
            own = None if task.settings.response else jax.random.normal(other, (depth, width, width), dtype)
            found = descend_low_rank(start, rule, x, task, sizes.layers, own)
            return found._replace(ntk=beta**2 * found.ntk)
        return descend(Stream(network), start, rule, x, task, sizes.layers)

    hidden = width * (block.hidden(width) if isinstance(block, TwoMatrix) else width)
    batch = fitting(3 * depth * hidden * dtype.itemsize, TRAINING, least=1, most=sizes.draws)
    return stacked(jax.lax.map(one, jax.random.split(key, sizes.draws), batch_size=batch))
