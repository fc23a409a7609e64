"""What results with several arrays per path share: failures counted, statistics with standard errors."""

import dataclasses
import os
import warnings
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from covsde.results import estimate
from covsde.results.estimate import Estimate
from covsde.results.npz import as_json, load_npz, save_npz
from covsde.results.status import FailedPathsWarning, PathStatus

Record = TypeVar("Record", bound="PathRecord")

# The format of the files; raised when a file of today could no longer be read.
_FORMAT = 1


def _mark(kind: type) -> str:
    # Results of two kinds can have arrays of the same names: this one tells them apart.
    return f"is_{kind.__name__}"


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class PathRecord:
    """Arrays that have one axis of paths, whose statistics are taken over the paths that are fine.

    Subclasses name that axis in `path_axis`; their `status` (paths,) holds one `PathStatus` per path.
    """

    path_axis: ClassVar[Mapping[str, int]] = {"status": 0}

    status: NDArray[Any]
    metadata: dict[str, Any]

    def __post_init__(self) -> None:
        object.__setattr__(self, "metadata", as_json(self.metadata))

    @property
    def paths(self) -> int:
        """Number of paths, failed ones included."""
        return int(self.status.size)

    @property
    def kind(self) -> str:
        """What the paths are: "limit" or "network" for those made by this library."""
        return str(self.metadata.get("kind", "ensemble"))

    @property
    def deterministic(self) -> bool:
        """False: every path is a draw."""
        return False

    @property
    def failures(self) -> dict[str, int]:
        """Number of paths per status that is not `FINE` (those that occur), and their "total"."""
        return estimate.failures(self.status)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write everything to one `.npz` file, metadata as JSON; an existing file is replaced once the new is complete.

        Args:
            path: a file name that ends in ".npz".

        Raises:
            ValueError: for another ending.
            OSError: if the file cannot be written.
        """
        arrays = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "metadata"}
        arrays |= {_mark(type(self)): np.array(True)}
        save_npz(path, arrays, self.metadata, _FORMAT)

    @classmethod
    def load(cls: type[Record], path: str | os.PathLike[str]) -> Record:
        """Read a result that `save` wrote.

        Args:
            path: file name.

        Returns:
            The result, equal to the one saved.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if it is damaged, or not a result of this kind.
        """
        names = [f.name for f in dataclasses.fields(cls) if f.name != "metadata"]
        mark = _mark(cls)
        arrays, metadata = load_npz(path, [*names, mark], _FORMAT, f"{cls.__name__}.save", f"a {cls.__name__} result")
        del arrays[mark]
        return cls(**arrays, metadata=metadata)

    def __repr__(self) -> str:
        """Return one line that says what is inside."""
        kind = self.metadata.get("kind", "ensemble")
        return f"{type(self).__name__}({kind}, {self.paths} paths, {self.failures['total']} failed)"

    def mean(self, f: Callable[[Self], Any]) -> Estimate:
        """Estimate the mean over the fine paths of a statistic of everything that belongs to a path.

        Args:
            f: statistic, such as `lambda r: np.log(r.G[0, :, 0, 0])`; maps a record to an array (paths, ...).

        Returns:
            Mean and standard error, of shape (...).

        Raises:
            TypeError: if the first axis of what `f` returns is not that of the paths.

        Warns:
            FailedPathsWarning: if paths failed, so that the mean is over the others.
        """
        return estimate.mean(self._evaluate(f, "mean"))

    def variance(self, f: Callable[[Self], Any]) -> Estimate:
        """Estimate the variance over the fine paths of a statistic; arguments and warnings as for `mean`."""
        return estimate.variance(self._evaluate(f, "variance"))

    def controlled_mean(self, f: Callable[[Self], Any], control: Callable[[Self], Any]) -> Estimate:
        """Estimate the mean over the fine paths of a statistic after regressing out noise of known mean zero.

        The outputs f(0) of networks before training are such noise: they are of order width^{-1/2}, have mean zero, and
        most of what training adds to the spread of later outputs is a multiple of them.

        Args:
            f: statistic, as for `mean`, with values (paths, ...).
            control: statistics whose mean is exactly 0, with values (paths,) or (paths, controls).

        Returns:
            Mean and standard error, of shape (...).

        Raises:
            ValueError: if there are not more paths than controls + 2.
        """
        values = self._evaluate(f, "controlled mean")
        controls = self._evaluate(control, "controlled mean").reshape(values.shape[0], -1)
        paths, count = controls.shape
        if paths <= count + 2:
            raise ValueError(f"control must hold fewer statistics than there are paths: {count} for {paths} paths.")
        flat = values.reshape(paths, -1)
        centred = controls - controls.mean(axis=0)
        slopes = np.linalg.lstsq(centred, flat - flat.mean(axis=0), rcond=None)[0]
        rest = flat - controls @ slopes
        error = rest.std(axis=0, ddof=count + 1) / np.sqrt(paths)
        shape = values.shape[1:]
        return Estimate(rest.mean(axis=0).reshape(shape), error.reshape(shape))

    def slope(self, y: Callable[[Self], Any], x: Callable[[Self], Any]) -> Estimate:
        """Estimate E[xy]/E[x²], the slope of y on x through the origin, over the fine paths.

        Args:
            y: statistic, as for `mean`, with values (paths,).
            x: likewise.

        Returns:
            Slope and its standard error (linearised), both of shape ().
        """
        ys, xs = self._evaluate(y, "slope"), self._evaluate(x, "slope")
        second = np.mean(xs * xs)
        value = np.mean(xs * ys) / second
        return Estimate(np.asarray(value), np.asarray(estimate.mean(xs * (ys - value * xs)).standard_error / second))

    def _evaluate(self, f: Callable[[Self], Any], name: str) -> NDArray[np.float64]:
        fine = self.status == PathStatus.FINE
        chosen = self
        if not fine.all():
            warnings.warn(
                f"{np.sum(~fine)} of {self.paths} paths failed (see .failures): the {name} is over the others.",
                FailedPathsWarning,
                stacklevel=3,
            )
            arrays: dict[str, Any] = {
                k: np.compress(fine, getattr(self, k), axis=axis) for k, axis in self.path_axis.items()
            }
            chosen = dataclasses.replace(self, **arrays)
        values = np.asarray(f(chosen))
        if values.ndim == 0 or values.shape[0] != int(fine.sum()) or values.dtype.kind not in "biuf":
            raise TypeError(
                f"the statistic must return a real array with the {int(fine.sum())} paths first, as in "
                f"lambda r: np.log(r.G[0, :, 0, 0]); it gave shape {values.shape}."
            )
        return values.astype(np.float64)
