"""Finite ResNets trained by gradient descent: with real weights, or in law without them.

    W ← W - η_0 γ_0² N/s · ∂loss/∂W,    loss the mean over a batch,    f_c = w_c·h^L/(γ_0 N)

for the matrices of blocks of strength s (one matrix) and W ← W - η_0 γ_0² L M ∂loss/∂W for blocks of two matrices of M
hidden units; with η_0 γ_0² N for the input layer and the readout, if they learn. f moves by order one. A decay λ takes
the part ηλ of the weights, whatever their rate.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import PRNGKeyArray

from covsde.architectures.resnet.blocks import AbstractBlock, PreActivation, TwoMatrix
from covsde.architectures.resnet.network.descent import descend
from covsde.architectures.resnet.network.low_rank import descend_low_rank
from covsde.architectures.resnet.network.weights import ResNetNetwork, _root
from covsde.descent.mean_field import Trained, UpdateRule
from covsde.descent.optimizers import SGD
from covsde.descent.particles import reading_shapes, source_shape, train_particles
from covsde.descent.passes import sweep
from covsde.descent.sources import Independent
from covsde.descent.task import Sizes, Task
from covsde.descent.trajectory import Trajectory
from covsde.run.memory import LIMIT, TRAINING, fitting


@eqx.filter_jit
def train_by_law(rule: UpdateRule, beta: float, task: Task, sizes: Sizes, key: PRNGKeyArray) -> Trajectory:
    """Pre-activation networks whose weights are revealed only where training meets them; exact in law."""
    width, depth, noise = sizes.width, sizes.depth, Independent(sizes.width)

    def one(k: PRNGKeyArray) -> Trained:
        sources = noise.sources(k, source_shape(task, depth), task.dtype)
        found = train_particles(rule, task, sources, noise, jax.random.fold_in(k, 1), sizes.layers, sweep)
        return found._replace(ntk=beta**2 * found.ntk)

    labels = task.pairs + max([shape.forward for shape in reading_shapes(task, depth)], default=0)
    batch = fitting(6 * depth * labels * width * task.dtype.itemsize, LIMIT, least=1, most=sizes.draws)
    return _stacked(jax.lax.map(one, jax.random.split(key, sizes.draws), batch_size=batch))


def _stacked(found: Trained) -> Trajectory:
    Phi, G, A, ntk = (jnp.swapaxes(X, 0, 1) for X in (found.Phi, found.G, found.A, found.ntk))
    return Trajectory(jnp.moveaxis(found.outputs, 0, -1), Phi, G, A, ntk, jnp.moveaxis(found.moved, 0, -1))


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
        if isinstance(block, PreActivation) and linear:
            own = None if task.settings.response else jax.random.normal(other, (depth, width, width), dtype)
            found = descend_low_rank(network, rule, x, task, sizes.layers, own)
            return found._replace(ntk=beta**2 * found.ntk)
        return descend(network, rule, x, task, sizes.layers)

    hidden = width * (block.hidden(width) if isinstance(block, TwoMatrix) else width)
    batch = fitting(3 * depth * hidden * dtype.itemsize, TRAINING, least=1, most=sizes.draws)
    return _stacked(jax.lax.map(one, jax.random.split(key, sizes.draws), batch_size=batch))
