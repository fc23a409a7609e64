"""What finite width adds to a deterministic limit of training: covariances of order 1/width, the shift of the mean."""

import dataclasses
import os
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from covsde.descent.losses import Loss
from covsde.results.ensembling import loss_of
from covsde.results.npz import as_json, load_npz, save_npz
from covsde.results.over_updates import over_updates
from covsde.results.quantity import Curve, Quantity
from covsde.results.training import Training

_FORMAT = 1
_KERNELS = ("Phi", "G", "ntk")


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class WidthPrediction(Training):
    """Training of networks of one width as the limit and its fluctuations predict it: Gaussian outputs, no kernels.

    Args:
        centre_error: standard error of the predicted mean of the outputs, (updates + 1, M), or (updates + 1, M, C).
        loss_error: what that is for the losses of trained and of test inputs, (2, updates + 1).
    """

    centre_error: NDArray[Any] = dataclasses.field(kw_only=True)
    loss_error: NDArray[Any] = dataclasses.field(kw_only=True)

    def over_updates(
        self, datum: int | None = None, output: int = 0, *, trained: bool = True, accuracy: bool = False
    ) -> Curve:
        """As of any training, with the error of what all draws have in common."""
        found = super().over_updates(datum, output, trained=trained, accuracy=accuracy)
        if datum is not None:
            error = self.centre_error[:, datum]
            return found._replace(shared_error=error if error.ndim == 1 else error[:, output])
        return found if accuracy else found._replace(shared_error=self.loss_error[0 if trained else 1])

    def quantities(self) -> list[Quantity]:
        """Outputs and loss over the updates."""
        return over_updates(self)


class LossFluctuations(NamedTuple):
    """A loss over the updates, (updates + 1,) each.

    Attributes:
        limit: its value in the limit.
        variance: lim N Var.
        shift: lim N (E loss - limit).
    """

    limit: NDArray[Any]
    variance: NDArray[Any]
    shift: NDArray[Any]


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Fluctuations:
    """Leading fluctuations of networks of width N around the limit of their training, over initializations.

    Args:
        targets: y (M,), or (M, C) for several outputs; NaN where a test has none.
        outputs: f of the limit, (updates + 1, M), or (updates + 1, M, C).
        covariance: lim N Cov f of all updates and inputs, of twice the shape of outputs.
        shift: lim N (E f - f_∞), of the shape of outputs; NaN where it was not computed.
        kernels: lim N Var of the diagonals of "Phi" and "G" (layers, labels), and of "ntk" (passes, P, P); empty where
            they were not computed.
        standard_error: of outputs, covariance, shift and kernels, by name: Monte Carlo error from independent systems
            of particles, NaN if there is one, 0 where nothing is sampled.
        labels: update and input of each label, (labels, 2).
        metadata: how it was computed.

    Source: arXiv 2304.03408.
    """

    targets: NDArray[Any]
    outputs: NDArray[Any]
    covariance: NDArray[Any]
    shift: NDArray[Any]
    kernels: Mapping[str, NDArray[Any]]
    standard_error: Mapping[str, NDArray[Any]]
    labels: NDArray[np.int_]
    metadata: dict[str, Any]

    def __post_init__(self) -> None:
        object.__setattr__(self, "metadata", as_json(self.metadata))

    def __repr__(self) -> str:
        """Return one line that says what is inside."""
        known = "shift known" if np.all(np.isfinite(self.shift)) else "shift not computed"
        return f"Fluctuations({self.updates} updates, {self.outputs.shape[1]} inputs, {known})"

    @property
    def updates(self) -> int:
        """Number of updates."""
        return len(self.outputs) - 1

    @property
    def variance(self) -> NDArray[Any]:
        """lim N Var f, of the shape of outputs."""
        return _diagonal(self.covariance, self.outputs.shape)

    @property
    def variance_error(self) -> NDArray[Any]:
        """Its standard error."""
        return _diagonal(self.standard_error["covariance"], self.outputs.shape)

    @property
    def trained(self) -> NDArray[np.int_]:
        """Inputs that some batch contains."""
        return np.unique(self.labels[:, 1])

    def centred(self) -> "Fluctuations":
        """The same of f - f(0), whose limit is that of f: much of what fluctuates goes."""
        flat = self.covariance.reshape(self.outputs.size, self.outputs.size)
        first = self.outputs[0].size
        D = np.eye(self.outputs.size)
        D[:, :first] -= np.tile(np.eye(first), (self.updates + 1, 1))
        found = (D @ flat @ D.T).reshape(self.covariance.shape)
        # To leading order f(0) has no shift.
        unknown = np.full(found.shape, 0.0 if np.all(self.standard_error["covariance"] == 0) else np.nan)
        errors = dict(self.standard_error) | {"covariance": unknown}
        return dataclasses.replace(self, covariance=found, standard_error=errors)

    def losses(
        self, *, trained: bool = True, loss: Loss | None = None
    ) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        """The mean loss over the trained, or the test, inputs: of the limit, lim N Var, and lim N (E loss - limit).

        Args:
            trained: False for the test inputs, all of which need targets.
            loss: that of the training, if it was a function of yours.

        Returns:
            A `LossFluctuations`; its shift, to which curvature and variance of outputs add, is NaN where that of the
            outputs is.

        Raises:
            ValueError: if there are no such inputs, or a target is not known.
        """
        tests = np.setdiff1d(np.arange(len(self.targets)), self.trained)
        chosen = self.trained if trained else tests
        if chosen.size == 0 or not np.all(np.isfinite(self.targets[chosen])):
            raise ValueError("trained=False is for test inputs that all have targets: give them, or drop it.")
        found, each = loss_of(self, loss), int(np.prod(self.outputs.shape[2:], dtype=int))
        start = self.outputs[0] if self.metadata.get("centred") else 0 * self.outputs[0]
        flat = self.covariance.reshape(self.updates + 1, len(self.targets), each, self.updates + 1, -1, each)
        values, variances, shifts = [], [], []
        for k, f in enumerate(self.outputs):
            with jax.enable_x64(True):
                y, at = jnp.asarray(self.targets[chosen]), jnp.asarray((f - start)[chosen])

                def mean(f: Any, y: Any = y) -> Any:
                    return found(f, y) / len(y)

                slope = np.asarray(jax.grad(mean)(at)).ravel()
                bend = np.asarray(jax.hessian(mean)(at)).reshape(slope.size, slope.size)
                values.append(float(mean(at)))
            Cov = flat[k][:, :, k][chosen][:, :, chosen].reshape(slope.size, slope.size)
            variances.append(slope @ Cov @ slope)
            shifts.append(slope @ self.shift[k][chosen].ravel() + np.sum(bend * Cov) / 2)
        return LossFluctuations(np.asarray(values), np.asarray(variances), np.asarray(shifts))

    def at_width(self, width: int, draws: int = 4000, key: int = 0, loss: Loss | None = None) -> WidthPrediction:
        """Networks of this width as they are predicted: what `compare` holds networks against.

        Args:
            width: N.
            draws: from the Gaussian law of outputs, mean f_∞ + shift/N and covariance/N; their mean and covariance are
                exact if there are more of them than outputs over all updates.
            key: int seed.
            loss: that of the training, if it was a function of yours.

        Returns:
            A `WidthPrediction` with outputs (updates + 1, draws, M), or (updates + 1, draws, M, C), and losses. Where
            the shift is not known it is taken as 0, and the metadata say so.

        Raises:
            ValueError: for a width or a number of draws below 1.
        """
        if width < 1 or draws < 1:
            raise ValueError(f"width and draws must be at least 1, got {width} and {draws}.")
        count = self.outputs.size
        normals = np.random.default_rng(key).standard_normal((draws, count))
        if draws > count + 1:
            normals -= normals.mean(axis=0)
            normals = np.linalg.qr(normals)[0] * np.sqrt(draws - 1)
        modes, U = np.linalg.eigh(self.covariance.reshape(count, count))
        spread = normals @ (U * np.sqrt(np.maximum(modes, 0) / width)).T
        known = bool(np.all(np.isfinite(self.shift)))
        mean = self.outputs + (self.shift / width if known else 0)
        f = np.moveaxis((mean.ravel()[None] + spread).reshape(draws, *self.outputs.shape), 0, 1)
        metadata = self.metadata | {
            "kind": "limit",
            "label": f"limit at width {width}",
            "width": width,
            "deterministic": False,
            "shifted": known,
        }
        none, P = np.zeros((1, draws, 0, 0)), len(self.trained)
        given = self._losses_of(f, loss_of(self, loss))
        shift_error = np.nan_to_num(self.standard_error["shift"]) / width if known else 0.0
        error = np.hypot(np.nan_to_num(self.standard_error["outputs"]), shift_error)
        moved = [self._losses_of(np.stack([mean, mean + s * error], axis=1), loss_of(self, loss)) for s in (1, -1)]
        slopes = [[np.ptp(m[name], axis=1) for m in moved] for name in ("losses", "test_losses") if name in given]
        return WidthPrediction(
            tau=np.ones(1),
            targets=self.targets,
            outputs=f,
            Phi=none,
            G=none,
            A=none,
            ntk=np.zeros((0, draws, P, P)),
            status=np.zeros(draws, np.int8),
            metadata=metadata,
            labels=self.labels,
            centre_error=error,
            loss_error=np.max(slopes, axis=1),
            **given,
        )

    def _losses_of(self, f: NDArray[Any], loss: Loss) -> dict[str, NDArray[Any]]:
        """Mean losses over trained and test inputs, (updates + 1, draws)."""
        if self.metadata.get("centred"):
            f = f - f[:1]
        known = np.isfinite(self.targets).reshape(len(self.targets), -1).all(axis=1)
        tests = np.setdiff1d(np.flatnonzero(known), self.trained)

        def mean(chosen: NDArray[np.int_]) -> NDArray[Any]:
            y = self.targets[chosen]
            with jax.enable_x64(True):
                each = jax.vmap(jax.vmap(lambda f: loss(f, jnp.asarray(y))))(jnp.asarray(f[:, :, chosen]))
            return np.asarray(each) / len(y)

        return {"losses": mean(self.trained)} | ({"test_losses": mean(tests)} if tests.size else {})

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write everything to a `.npz` file."""
        arrays: dict[str, Any] = {name: getattr(self, name) for name in _ARRAYS}
        arrays |= {f"kernel_{name}": x for name, x in self.kernels.items()}
        arrays |= {f"error_{name}": x for name, x in self.standard_error.items()}
        save_npz(path, arrays, self.metadata, _FORMAT)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "Fluctuations":
        """Read what `save` wrote.

        Args:
            path: a `.npz` file.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if it is damaged or something else.
        """
        named = ("outputs", "covariance", "shift", *_KERNELS)
        optional = [f"kernel_{name}" for name in _KERNELS] + [f"error_{name}" for name in named]
        arrays, metadata = load_npz(path, _ARRAYS, _FORMAT, "Fluctuations.save", "fluctuations", optional=optional)
        parts: dict[str, dict[str, NDArray[Any]]] = {"kernel_": {}, "error_": {}}
        for prefix, found in parts.items():
            for name in [name for name in arrays if name.startswith(prefix)]:
                found[name.removeprefix(prefix)] = arrays.pop(name)
        return cls(**arrays, kernels=parts["kernel_"], standard_error=parts["error_"], metadata=metadata)


_ARRAYS = ("targets", "outputs", "covariance", "shift", "labels")


def _diagonal(covariance: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    count = int(np.prod(shape))
    return np.diagonal(covariance.reshape(count, count)).reshape(shape).copy()
