"""Import paths of earlier versions: whoever uses one is told the new place."""

import importlib.abc
import importlib.machinery
import sys
from collections.abc import Sequence
from types import ModuleType

PLACES = {
    "covsde.compare": "covsde itself holds compare",
    "covsde.kernels": "covsde itself holds kernels",
    "covsde.limits": "covsde.extend holds drifts, clocks and equations, covsde itself the deterministic attention",
    "covsde.networks": "covsde.transfer.network holds ScaledNetwork, covsde.architectures.FAMILY.network the networks",
    "covsde.parameterisations": "covsde.transfer.tables holds factors and table",
    "covsde.simulate": "covsde itself holds simulate and sample_networks",
    "covsde.solvers.unshaped": "covsde itself holds LinearSplitting",
    "covsde.trained_resnet": "covsde itself holds ResNetTraining",
}
"""Documented import paths that moved, each with a sentence about the new place."""


class _Moved(importlib.abc.MetaPathFinder):
    """Asked last, about modules that nobody else knows; of `covsde.limits.mlp` first about `covsde.limits`."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Raise an ImportError for a module that moved."""
        if fullname in PLACES:
            raise ImportError(f"{fullname} has moved: {PLACES[fullname]}.", name=fullname)
        return None


def announce() -> None:
    """Answer imports of modules that moved with a sentence."""
    if not any(type(finder).__name__ == _Moved.__name__ for finder in sys.meta_path):
        sys.meta_path.append(_Moved())
