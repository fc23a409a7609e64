"""The posterior of an infinitely wide network whose kernels adapt to the data."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from covsde.results.npz import as_json, load_npz, save_npz

_FORMAT = 1
_ARRAYS = ("targets", "trained", "outputs", "Phi", "nngp_outputs", "alpha", "tilt", "log_evidence")


@dataclass(frozen=True, eq=False, repr=False)
class KernelPosterior:
    """Deterministic outputs and kernels of the posterior at infinite width; inputs in their own order.

    Args:
        targets: y (M,), or (M, C); NaN for inputs that are only predicted.
        trained: indices of the P inputs with targets.
        outputs: posterior mean of f, (M,) or (M, C); its variance is of order 1/width.
        Phi: covariance of the activations of every hidden layer in the posterior, (depth, M, M).
        nngp_outputs: outputs at richness 0: regression with the neural network Gaussian process and ridge T.
        alpha: (Φ^L + T)⁻¹ y, (P,) or (P, C).
        tilt: Φ̂ of every hidden layer, (depth, P, P); zero at richness 0.
        log_evidence: lim (1/N) log Z, ().
        standard_error: of outputs and Phi, from independent sets of nodes: 0 where averages are by quadrature.
        metadata: how it was computed.

    Source: arXiv 2502.07998.
    """

    targets: NDArray[Any]
    trained: NDArray[np.int_]
    outputs: NDArray[Any]
    Phi: NDArray[Any]
    nngp_outputs: NDArray[Any]
    alpha: NDArray[Any]
    tilt: NDArray[Any]
    log_evidence: NDArray[Any]
    standard_error: Mapping[str, NDArray[Any]]
    metadata: dict[str, Any]

    def __post_init__(self) -> None:
        object.__setattr__(self, "metadata", as_json(self.metadata))

    def __repr__(self) -> str:
        """Return one line that says what is inside."""
        given = f"{self.trained.size} of {len(self.targets)} inputs known, {len(self.Phi)} layers"
        return f"KernelPosterior({given}, richness {self.metadata.get('richness')})"

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write everything to a `.npz` file."""
        arrays: dict[str, Any] = {name: getattr(self, name) for name in _ARRAYS}
        arrays |= {f"error_{name}": x for name, x in self.standard_error.items()}
        save_npz(path, arrays, self.metadata, _FORMAT)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "KernelPosterior":
        """Read what `save` wrote.

        Args:
            path: a `.npz` file.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if it is damaged or something else.
        """
        names = [*_ARRAYS, "error_outputs", "error_Phi"]
        arrays, metadata = load_npz(path, names, _FORMAT, "KernelPosterior.save", "a kernel posterior")
        errors = {name: arrays.pop(f"error_{name}") for name in ("outputs", "Phi")}
        return cls(**arrays, standard_error=errors, metadata=metadata)
