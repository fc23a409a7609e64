"""The base of all results that hold paths: failures counted, statistics with standard errors, files."""

import abc
import dataclasses
import json
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, TypeVar

import numpy as np
from numpy.typing import NDArray

from covsde.results import estimate
from covsde.results.estimate import Estimate
from covsde.results.html import record_page
from covsde.results.npz import as_json, load_npz, save_npz
from covsde.results.quantity import Quantity, name_of
from covsde.results.status import FailedPathsWarning, PathStatus

AnyRecord = TypeVar("AnyRecord", bound="Record")

# The format of the files; raised when a file of today could no longer be read.
_FORMAT = 1


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Record(abc.ABC):
    """Arrays that have one axis of paths, whose statistics are taken over the paths that are fine.

    Subclasses name that axis in `path_axis` and what they are compared in by `quantities`; their `status` (paths,)
    holds one `PathStatus` per path.
    """

    path_axis: ClassVar[Mapping[str, int]] = {"status": 0}
    # Whether files say what they hold: results of two kinds can have arrays of the same names.
    _marked: ClassVar[bool] = True
    # Arrays that files of earlier versions lack, and that not every result has.
    _optional: ClassVar[tuple[str, ...]] = ()
    # Fields that hold another result of the same kind, or None.
    _parts: ClassVar[tuple[str, ...]] = ()

    status: NDArray[Any]
    metadata: dict[str, Any]

    def __post_init__(self) -> None:
        if not np.all(np.isin(self.status, list(PathStatus))):
            raise ValueError(f"status must hold values of PathStatus, got {np.unique(self.status).tolist()}.")
        object.__setattr__(self, "metadata", as_json(self.metadata))

    @abc.abstractmethod
    def quantities(self) -> list[Quantity]:
        """What `compare` looks at and its figure shows."""

    @property
    def paths(self) -> int:
        """Number of paths, failed ones included."""
        return int(np.size(self.status))

    @property
    def kind(self) -> str:
        """What the paths are: "limit" or "network" for most that are made by this library."""
        return str(self.metadata.get("kind", "ensemble"))

    @property
    def deterministic(self) -> bool:
        """Whether the one path is the whole law, so that every standard error is 0."""
        return bool(self.metadata.get("deterministic", False)) and self.paths == 1

    @property
    def failures(self) -> dict[str, int]:
        """Number of paths per status that is not `FINE` (those that occur), and their "total"."""
        return estimate.failures(self.status)

    @property
    def notes(self) -> list[str]:
        """What a reader should know who did not make the result: values that were assumed."""
        found = [f"{name}={value:g} assumed" for name, value in self.metadata.get("assumed", {}).items()]
        share = self.metadata.get("unresolved", 0)
        return [*found, f"{share:.0%} not resolved by the steps"] if share else found

    def __repr__(self) -> str:
        """Return one line that says what is inside."""
        notes = "".join(f", {note}" for note in self.notes)
        return f"{type(self).__name__}({self.kind}, {self._sizes()}, {self.failures['total']} failed{notes})"

    def _repr_html_(self) -> str:
        """What notebooks show: what is inside, and where the paths are in the end."""
        return record_page(self)

    def _sizes(self) -> str:
        return f"{self.paths} paths"

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write everything to one `.npz` file, metadata as JSON; an existing file is replaced once the new is complete.

        Args:
            path: a file name that ends in ".npz".

        Raises:
            ValueError: for another ending.
            OSError: if the file cannot be written.
        """
        save_npz(path, self._stored() | {name: np.array(True) for name in self._marks()}, self.metadata, _FORMAT)

    @classmethod
    def load(cls: type[AnyRecord], path: str | os.PathLike[str]) -> AnyRecord:
        """Read a result that `save` wrote.

        Args:
            path: file name.

        Returns:
            The result, equal to the one saved.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if it is damaged, not a result of this kind, comes from a newer version, or holds what its
                status excludes.
        """
        what = f"a {cls.__name__} result" if cls._marked else "an ensemble"
        names = [*(name for name in cls._arrays() if name not in cls._optional), *cls._marks()]
        inside = [f"{part}/{name}" for part in cls._parts for name in (*cls._arrays(), "metadata")]
        arrays, metadata = load_npz(path, names, _FORMAT, f"{cls.__name__}.save", what, [*cls._optional, *inside])
        try:
            found = cls._from_stored(arrays, metadata)
        except (KeyError, TypeError, ValueError) as error:
            where = os.fspath(path)
            raise ValueError(f"path: {where!r} is no sound result, so compute it again: {error}") from error
        return found

    def _stored(self) -> dict[str, Any]:
        """All arrays of a file but the marks, those of a part under its name."""
        arrays = {name: getattr(self, name) for name in self._arrays()}
        arrays = {name: array for name, array in arrays.items() if array is not None}
        for name in self._parts:
            part = getattr(self, name)
            if part is not None:
                arrays |= {f"{name}/{key}": array for key, array in part._stored().items()}
                arrays[f"{name}/metadata"] = np.array(json.dumps(part.metadata))
        return arrays

    @classmethod
    def _from_stored(cls: type[AnyRecord], arrays: Mapping[str, Any], metadata: dict[str, Any]) -> AnyRecord:
        """The result of the arrays of a file, if its values are sound."""
        parts: dict[str, Any] = {}
        for name in cls._parts:
            own = {key.removeprefix(f"{name}/"): array for key, array in arrays.items() if key.startswith(f"{name}/")}
            if own:
                parts[name] = cls._from_stored(own, json.loads(str(own.pop("metadata"))))
        found = cls(**{name: arrays[name] for name in cls._arrays() if name in arrays}, metadata=metadata, **parts)
        found._check_values()
        return found

    def _check_values(self) -> None:
        """Refuse values that no path with its status has: what a file says is not taken on trust.

        Raises:
            ValueError: naming the array and a path.
        """
        fine = self.status == PathStatus.FINE
        for name, axis in self.path_axis.items():
            if getattr(self, name) is None:
                continue
            values = np.moveaxis(getattr(self, name), axis, 0)
            missing = fine & np.isnan(values.reshape(len(values), -1)).any(axis=1)
            if missing.any():
                raise ValueError(f"{name} holds NaN on path {int(missing.argmax())}, whose status is FINE.")

    @classmethod
    def _arrays(cls) -> list[str]:
        return [f.name for f in dataclasses.fields(cls) if f.name not in ("metadata", "going_on", *cls._parts)]

    @classmethod
    def _marks(cls) -> list[str]:
        return [f"is_{cls.__name__}"] if cls._marked else []

    def mean(self, f: Any) -> Estimate:
        """Estimate the mean over the paths that have not failed.

        Args:
            f: statistic, such as `lambda r: np.log(r.G[0, :, 0, 0])`, which maps a record to an array (paths, ...). Of
                an `Ensemble`, a function of its matrices, such as `lambda V: V[..., 0, 1]`; of an `UnshapedEnsemble`,
                an array such as `e.log_q`.

        Returns:
            Mean and standard error, of shape (...); of ensembles at each saved time, (times, ...). Non-finite values on
            paths that have not failed show as a non-finite mean.

        Raises:
            TypeError: if `f` is no such statistic.

        Warns:
            FailedPathsWarning: if paths failed, so that the mean is over the others.
        """
        return self._reduce("mean", estimate.mean_of_a_point if self.deterministic else estimate.mean, f)

    def variance(self, f: Any) -> Estimate:
        """Estimate the unbiased variance over the paths that have not failed; arguments and warnings as for `mean`."""
        return self._reduce("variance", estimate.variance_of_a_point if self.deterministic else estimate.variance, f)

    def controlled_mean(self, f: Any, control: Any) -> Estimate:
        """Estimate the mean of a statistic after regressing out noise of known mean zero.

        The outputs f(0) of networks before training are such noise: they are of order width^{-1/2}, have mean zero, and
        most of what training adds to the spread of later outputs is a multiple of them.

        Args:
            f: statistic, as for `mean`, with values (paths, ...).
            control: statistics whose mean is exactly 0, with values (paths,) or (paths, controls).

        Returns:
            Mean and standard error, as `mean`.

        Raises:
            ValueError: if there are not more paths than controls + 2.
        """
        return self._reduce("controlled mean", estimate.controlled_mean, f, control)

    def slope(self, y: Any, x: Any) -> Estimate:
        """Estimate E[xy]/E[x²], the slope of y on x through the origin, over the paths that have not failed.

        Args:
            y: statistic, as for `mean`, with values (paths,).
            x: likewise.

        Returns:
            Slope and its standard error (linearised), both of shape (), or (times,).
        """
        return self._reduce("slope", estimate.slope, y, x)

    def _reduce(self, name: str, how: Callable[..., Estimate], *statistics: Any) -> Estimate:
        """What `how` makes of the samples of the statistics; called by the method that the user calls."""
        fine = self.status == PathStatus.FINE
        chosen, count = self, int(fine.sum())
        if count < self.paths:
            warnings.warn(
                f"{self.paths - count} of {self.paths} paths failed (see .failures): the {name} is over the others.",
                FailedPathsWarning,
                stacklevel=3,
            )
            arrays: dict[str, Any] = {
                k: np.compress(fine, getattr(self, k), axis=axis)
                for k, axis in self.path_axis.items()
                if getattr(self, k) is not None
            }
            chosen = dataclasses.replace(self, **arrays)
        samples = [np.asarray(f(chosen)) for f in statistics]
        for values in samples:
            if values.ndim == 0 or values.shape[0] != count or values.dtype.kind not in "biuf":
                raise TypeError(
                    f"the statistic must return a real array with the {count} paths first, as in "
                    f"lambda r: np.log(r.G[0, :, 0, 0]); it gave shape {values.shape}."
                )
        return how(*(values.astype(np.float64) for values in samples))


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class StoppingPaths(Record):
    """Paths over layer time that may stop on the way: statistics at each saved time are over those still valid there.

    Subclasses declare `__init__`, which fixes the order of the arguments, and `evaluate`; arrays over layer time have
    shape (times, paths, ...) and nothing finite after the `stop_tau` of a path.
    """

    _marked: ClassVar[bool] = False

    tau: NDArray[Any]
    stop_tau: NDArray[Any]

    @abc.abstractmethod
    def evaluate(self, f: Any) -> NDArray[np.float64]:
        """The statistic on every path, (times, paths, ...), float64.

        Args:
            f: as for `mean`.

        Returns:
            Its values; after the stop of a path, what f makes of the arrays there.
        """

    def _fill(self, **values: Any) -> None:
        """What a generated `__init__` does."""
        for name, value in values.items():
            object.__setattr__(self, name, value)
        self.__post_init__()

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, dtype in (("tau", np.float64), ("stop_tau", np.float64), ("status", np.int8)):
            object.__setattr__(self, name, np.asarray(getattr(self, name), dtype=dtype))
        tau, over_time = self.tau, [name for name, axis in self.path_axis.items() if axis == 1]
        if tau.ndim != 1 or tau.size == 0:
            raise ValueError(f"tau must have shape (times,) with at least one time, got shape {tau.shape}.")
        if not (np.all(np.diff(tau) > 0) and tau[0] >= 0 and tau[-1] <= 1 + 1e-9):
            raise ValueError("tau must increase strictly within [0, 1]; sort it and remove repeated times.")
        paths = getattr(self, over_time[0]).shape[1]
        for name in ("status", "stop_tau"):
            shape = getattr(self, name).shape
            if shape != (paths,):
                raise ValueError(f"{name} must have shape (paths,) = ({paths},) as in {over_time[0]}, got {shape}.")
        if not np.all((self.stop_tau >= 0) & (self.stop_tau <= 1 + 1e-9)):
            raise ValueError("stop_tau must lie within [0, 1]; use 1.0 for paths that are fine.")
        # A finite value after the stop would enter quantiles as if the path were still valid.
        for name in over_time:
            if np.any(np.isfinite(getattr(self, name)[~self.alive])):
                raise ValueError(
                    f"{name} must not hold finite values after a path's stop_tau; set them to NaN, or to +inf where "
                    "they exploded."
                )

    @property
    def label(self) -> str:
        """Name of the result in tables and legends."""
        return name_of(self)

    @property
    def alive(self) -> NDArray[np.bool_]:
        """Whether each path is still valid at each saved time, shape (times, paths)."""
        return estimate.alive(self.status, self.stop_tau, self.tau)

    def quantile(self, f: Any, q: float | Sequence[float] | NDArray[Any]) -> Estimate:
        """Estimate quantiles of a statistic over all paths, exploded ones included.

        An exploded path enters as what `f` makes of an infinite variance, that is at +inf for its logarithm; paths on
        which `f` is NaN (a correlation after the stop, say) are left out and counted in a warning.

        Args:
            f: statistic, as for `mean`.
            q: probability in (0, 1), or a one-dimensional sequence of them.

        Returns:
            Quantile and standard error, each (times, ...), or (times, len(q), ...) for a sequence. The
            standard error is distribution-free: half the distance between the order statistics at
            q ± sqrt(q(1-q)/N). It is NaN where N is too small to contain that interval and inf where the
            interval reaches exploded paths.

        Raises:
            TypeError: if `f` is no statistic of these paths.
            ValueError: if `q` is not within (0, 1).

        Warns:
            FailedPathsWarning: if values were NaN and therefore left out.
        """
        found = estimate.quantiles_of_all(self.evaluate(f), q, self.tau)
        return estimate.without_error(found) if self.deterministic else found

    def _sizes(self) -> str:
        return f"{super()._sizes()}, {self.tau.size} times"

    def _reduce(self, name: str, how: Callable[..., Estimate], *statistics: Any) -> Estimate:
        samples = [self.evaluate(f) for f in statistics]
        return estimate.over_survivors(samples, self.alive, self.tau, how, name)
