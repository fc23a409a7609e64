"""The error of the step: the same limit trained in half the steps, beside it."""

import dataclasses
import math
import warnings
from typing import Any

from covsde.descent.task import Task
from covsde.inputs.arguments import checked_switch
from covsde.results.status import UnresolvedStepWarning
from covsde.results.training import Training
from covsde.run.checkpoint import Arrays
from covsde.run.plan import Plan


def is_halved(task: Task, method: str, steps: int, depth_to_width: float | None, wanted: Any) -> bool:
    """Whether the same is trained in half the steps.

    Raises:
        ValueError: if it is asked for and cannot be.
    """
    if wanted is not None and not checked_switch("step_error", wanted):
        return False
    if depth_to_width is None:
        why = "is for random paths: drop it, and use richardson of two numbers of steps"
    elif steps % 2:
        why = f"needs steps that can be halved: use an even number, not steps={steps}"
    elif method == "weights" and round(steps / 2 / depth_to_width) < task.data.rank:
        need = 2 * math.ceil(task.data.rank * depth_to_width)
        why = f"needs room for {task.data.rank} dimensions of inputs in half the steps: use steps >= {need}"
    elif task.updates == 0:
        why = "is for training: use updates >= 1"
    else:
        return method == "weights" or wanted is not None
    if wanted is not None:
        raise ValueError(f"step_error=True {why}.")
    return False


def beside(plan: Plan[Training], coarse: Plan[Training]) -> Plan[Training]:
    """A plan whose result takes in that of another, of fewer steps: these need not resolve what the others do."""

    def quietly(found: Arrays, metadata: dict[str, Any]) -> Training:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UnresolvedStepWarning)
            return coarse.result(found, metadata)

    return dataclasses.replace(plan, coarse=dataclasses.replace(coarse, result=quietly))
