"""The room that revealed vectors need: how many directions training meets, and how that room grows."""

import itertools

from covsde.descent.householder import Room
from covsde.descent.task import Sizes, Task


def stages(P: int, steps: int, looked: tuple[int, ...] = ()) -> list[tuple[int, int]]:
    """Gradient steps [start, stop) during which arrays keep their size: the room is for the labels of `stop` steps.

    What is drawn depends on them, so runs that ended at the steps `looked` keep theirs, and later steps come after.

    What is not revealed is zero, and costs as much as what is: half as much room for the first half of training saves
    almost half of all work, and more stages, or two for few labels, save less than their compilation costs.
    """
    first, *others = (*looked, steps)
    cuts = sorted({0, (first + 1) // 2, first} if P * first >= 8 else {0, first})
    return list(itertools.pairwise([*cuts, *others]))


def room_for(task: Task) -> Room:
    """The directions that training meets, and those of an input that is read after it."""
    together = 0 if task.batches.constant else len(task.batches.trained)
    read = (task.updates + 1) * max(together, min(1, len(task.batches.tests)))
    return Room(max(task.pairs, task.inputs) + read, max(task.pairs, task.outputs))


def check_revealed(task: Task, sizes: Sizes) -> None:
    """Refuse what needs the weights themselves.

    Raises:
        ValueError: naming the argument.
    """
    if sizes.per_output:
        raise ValueError("kernels='outputs' of several outputs needs the weights themselves: use method='weights'.")
    task.require_linear()
    if task.centred and not task.batches.constant:
        raise ValueError(
            "centred is for one batch at all updates where weights are not drawn: drop it, or use method='weights'."
        )
