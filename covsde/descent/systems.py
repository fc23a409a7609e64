"""Compiled systems of particles: the limit of mean-field training, and networks in law, of any depth and scale."""

import equinox as eqx
import jax
from jaxtyping import PRNGKeyArray

from covsde.descent.mean_field import Trained, UpdateRule
from covsde.descent.means import Uniform
from covsde.descent.particles import System, reading_shapes, source_shape, train_particles
from covsde.descent.passes import Pass, sweep
from covsde.descent.rooms import check_revealed
from covsde.descent.sources import AbstractNoise, Exact, Independent, Matched, Sources
from covsde.descent.task import Sizes, Task
from covsde.moments.shape import is_linear
from covsde.numerics.typing import Function

# Labels of test inputs that are read together, and their share of the particles.
_LABELS, _SHARE = 512, 4


def noise_of(fn: Function, task: Task, depth: int, particles: int) -> AbstractNoise:
    """Sources of the limit with so many blocks: exact ones where φ is linear, otherwise of so many particles."""
    if not is_linear(fn):
        tests = len(task.batches.tests)
        groups = -(-tests // max(1, min(_LABELS, particles // _SHARE) // (task.updates + 1)))
        return Matched(particles, -(-tests // max(1, groups)) or 1)
    trained = source_shape(task, depth).total
    return Exact(trained + max([shape.total for shape in reading_shapes(task, depth)], default=0), trained)


@eqx.filter_jit
def sources_of(key: PRNGKeyArray, noise: AbstractNoise, task: Task, depth: int) -> Sources:
    """What is random in the training of so many blocks."""
    return noise.sources(key, source_shape(task, depth), task.dtype)


@eqx.filter_jit
def train_system(rule: UpdateRule, task: Task, given: System, layers: tuple[int, ...], through: Pass) -> Trained:
    """One system of particles; see `train_particles`."""
    return train_particles(rule, task, given, layers, through)


def train_in_law(rule: UpdateRule, task: Task, sizes: Sizes, blocks: int, batch: int, key: PRNGKeyArray) -> Trained:
    """Networks whose weights are revealed only where training meets them, so many at a time; draws first."""
    noise = Independent(sizes.width)

    def one(k: PRNGKeyArray) -> Trained:
        sources = noise.sources(k, source_shape(task, blocks), task.dtype)
        given = System(sources, noise, Uniform(), jax.random.fold_in(k, 1))
        return train_particles(rule, task, given, sizes.layers, sweep)

    return jax.lax.map(one, jax.random.split(key, sizes.draws), batch_size=batch)


def numbers_in_law(task: Task, blocks: int, width: int) -> int:
    """Numbers that one of these networks takes while it is trained."""
    return 6 * max(1, blocks) * labels_of(task) * width


def labels_of(task: Task) -> int:
    """Labels of the training, and of one reading after it."""
    return task.pairs + max((shape.forward for shape in reading_shapes(task, 1)), default=0)


def check_particles(task: Task, particles: int | None) -> None:
    """Refuse what particles cannot do.

    Args:
        task: what is trained.
        particles: how many; None where nothing is sampled.

    Raises:
        ValueError: naming the argument.
    """
    kept = len(task.batches.trained) + task.outputs
    if particles is not None and particles < 4 * kept:
        raise ValueError(
            f"paths={particles} particles are too few for {kept - task.outputs} trained inputs and {task.outputs} "
            f"outputs, which must be independent over them: use paths >= {4 * kept}, and many more for a small error."
        )
    task.require_linear()
    task.optimizer.check_share(task.updates)


def check_law(task: Task, sizes: Sizes) -> None:
    """Refuse networks that are too narrow for their weights to be revealed only where training meets them.

    Raises:
        ValueError: naming what would do.
    """
    check_revealed(task, sizes)
    need = task.pairs + labels_of(task)
    if sizes.width <= need:
        raise ValueError(
            f"width={sizes.width} is too small for method='law' with {task.pairs} (input, training step) pairs, "
            f"forward and backward: use width > {need}, or method='weights'."
        )
