"""What trainings are compared in: quantities over the updates."""

from typing import Any

import numpy as np

from covsde.results.quantity import UPDATE, Curve, Quantity

# More inputs than this make more columns than a page has.
_MOST_INPUTS = 3


def over_updates(result: Any) -> list[Quantity]:
    """What training is compared in: outputs of the first inputs, losses, and for classes the accuracies."""
    targets = result.targets

    def output(p: int) -> Quantity:
        # Of several outputs that of the target.
        c = 0 if targets.ndim == 1 else int(np.argmax(np.nan_to_num(targets[p], nan=-np.inf)))
        name = f"f({p})" if targets.ndim == 1 else f"f({p}) of class {c}" if result.classes else f"f({p})[{c}]"
        heading = f"output of input {p}\n" if targets.ndim == 1 else f"{name}\n"
        return Quantity(f"{name} at the end", heading, name, UPDATE, lambda r: r.over_updates(p, c))

    def rate(name: str, trained: bool, accuracy: bool = False) -> Quantity:
        def curve(r: Any) -> Curve:
            return r.over_updates(trained=trained, accuracy=accuracy)

        return Quantity(f"{name} at the end", f"{name}\n", name, UPDATE, curve)

    found = [output(p) for p in range(min(result.inputs, 2 if result.tests.size else _MOST_INPUTS))]
    found.append(rate("loss", trained=True))
    if result.tested:
        found.append(rate("test loss", trained=False))
        if result.classes:
            found.append(rate("test accuracy", trained=False, accuracy=True))
    return found
