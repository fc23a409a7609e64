"""The result of training: outputs over updates and order parameters over layer time."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from covsde.descent.losses import Loss, right
from covsde.results.ensembling import loss_of, of_mean_output
from covsde.results.estimate import Estimate, to_no_step
from covsde.results.movement import alignment, gradient_movement, movement_per_step
from covsde.results.over_updates import over_updates
from covsde.results.quantity import LAYER_TIME, Curve, Quantity
from covsde.results.record import Record
from covsde.results.sharpness import sharpness
from covsde.results.status import PathStatus


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Training(Record):
    """Training of an infinite limit or of finite networks: outputs over updates, order parameters over layer time.

    A label is a pair (update k, input p) that was trained, or after the last update seen once more; where all updates
    are on all P inputs its number is k P + p, and there are N = P (updates + 1). `labels` lists them. Where training
    diverges (an output beyond 10⁶) the path has status EXPLODED, and everything from that update on is NaN.

    Inputs in no batch are tests: they have outputs, losses and movement, each exact jointly with the training.

    For ResNets losses are means over the trained inputs, and the kernels are those of `TrainedKernels`: Phi of the
    activations of a block, φ(h)·φ(h)/N, G and A with g = γ₀ N ∂f/∂h in place of ∂f/∂h, and ntk with its factor β².

    Args:
        tau: layer times ℓ/L, increasing from 0 to 1, (times,).
        targets: y (M,), or (M, C) for several outputs.
        outputs: f before each update and after the last, (updates + 1, paths, M), or (updates + 1, paths, M, C) for
            targets with columns.
        losses: summed over all trained inputs, (updates + 1, paths); for ResNets their mean.
        Phi: forward covariance h(a)·h(b)/n, (times, paths, N, N).
        G: backward covariance ∂f(a)/∂h·∂f(b)/∂h (of the output over s), (times, paths, N, N); for several outputs the
            gradients are those of Σ_c Δ_c f_c, with Δ = -∂loss/∂f.
        A: overlap h(a)·∂f(b)/∂h, (times, paths, N, N), not symmetric.
        ntk: tangent kernel of the hidden weights per layer, ∫₀¹ Φ∘G dτ, on the batch of each update, and if it is the
            same for all after the last one, (updates + 1, paths, P, P); with the same G.
        status: one `PathStatus` per path, (paths,).
        metadata: how it was made.
        labels: update and input of each label, (N, 2).
        moved: |h(k) - h(0)|²/n of all inputs, (updates + 1, times, paths, M), or None where Phi has it.
        test_losses: mean over the test inputs with a target, (updates + 1, paths), or None.
        G_outputs: ∂f_c(a)/∂h·∂f_c'(b)/∂h of every output (over s), (times, paths, N, C, N, C), or None.
        ntk_outputs: ∫₀¹ Φ(a, b) of these of hidden weights on the batch of each update, (updates + 1, paths, P, C, P,
            C), or None.
        coarse: the same of fewer steps and of other paths, from which the error of the step is known, or None.
        going_on: what `resume` needs, which files do not hold, or None.
    """

    # The covariance whose changes are feature movement.
    features: ClassVar[str] = "Phi"
    path_axis: ClassVar[Mapping[str, int]] = {
        "outputs": 1,
        "losses": 1,
        "Phi": 1,
        "G": 1,
        "A": 1,
        "ntk": 1,
        "status": 0,
        "moved": 2,
        "test_losses": 1,
        "G_outputs": 1,
        "ntk_outputs": 1,
    }
    _optional: ClassVar[tuple[str, ...]] = ("labels", "moved", "test_losses", "G_outputs", "ntk_outputs")
    _parts: ClassVar[tuple[str, ...]] = ("coarse",)

    tau: NDArray[Any]
    targets: NDArray[Any]
    outputs: NDArray[Any]
    losses: NDArray[Any]
    Phi: NDArray[Any]
    G: NDArray[Any]
    A: NDArray[Any]
    ntk: NDArray[Any]
    labels: Any = dataclasses.field(default=None, kw_only=True)
    moved: NDArray[Any] | None = dataclasses.field(default=None, kw_only=True)
    test_losses: NDArray[Any] | None = dataclasses.field(default=None, kw_only=True)
    G_outputs: NDArray[Any] | None = dataclasses.field(default=None, kw_only=True)
    ntk_outputs: NDArray[Any] | None = dataclasses.field(default=None, kw_only=True)
    coarse: Any = dataclasses.field(default=None, kw_only=True)
    going_on: Any = dataclasses.field(default=None, kw_only=True, repr=False, compare=False)

    def __getstate__(self) -> dict[str, Any]:
        """Copies, and what other processes get, hold what files hold."""
        return vars(self) | {"going_on": None}

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.labels is None:
            grid = np.stack(np.divmod(np.arange(self.inputs * (self.updates + 1)), self.inputs), axis=1)
            object.__setattr__(self, "labels", grid)

    @property
    def updates(self) -> int:
        """Number of training steps."""
        return int(self.losses.shape[0] - 1)

    @property
    def inputs(self) -> int:
        """M, the number of inputs, those of tests included."""
        return int(self.targets.shape[0])

    @property
    def trained(self) -> NDArray[np.int_]:
        """The inputs that some batch contains."""
        return np.unique(self.labels[:, 1])

    @property
    def tests(self) -> NDArray[np.int_]:
        """The inputs that no batch contains."""
        return np.setdiff1d(np.arange(self.inputs), self.trained)

    @property
    def tested(self) -> bool:
        """Whether there are test inputs with a target."""
        return self.test_losses is not None

    @property
    def classes(self) -> bool:
        """Whether targets are classes: outputs have a side, or a largest one, that is right."""
        return self.metadata.get("loss") in ("logistic", "cross_entropy")

    @property
    def last_update(self) -> NDArray[np.int_]:
        """The last update with valid outputs, (paths,); -1 if there is none."""
        whole = np.all(np.isfinite(self.outputs), axis=tuple(range(2, self.outputs.ndim)))
        return np.asarray(np.sum(whole, axis=0) - 1)

    def resume(
        self,
        updates: int,
        *,
        batches: Any = None,
        learning_rate: Any = None,
        progress: bool | None = None,
        checkpoint: Any = None,
    ) -> "Training":
        """Train the same paths for more updates.

        After `resumable=True` it goes on from their weights; otherwise they are trained again from the start, to the
        same numbers. Where weights are revealed, what is read after the training (test inputs, and trained ones between
        their batches) is read anew, in law given the training. Networks of a ResNet in law, and its limit of one
        matrix, draw anew altogether.

        Args:
            updates: how many more.
            batches: of the new updates, if there was one for each of the old.
            learning_rate: of the new updates, one number or one each; default: as before.
            progress: as for `train`.
            checkpoint: as for `train`, in a folder of its own.

        Returns:
            The training of all updates.

        Raises:
            ValueError: for a result that was loaded, or for an argument that is missing or has no use.

        Example:
            ```python
            run = cs.train(cs.MLP(cs.Identity(), 0.5), np.eye(2), targets=[1, -1], updates=2, paths=64, resumable=True)
            run = run.resume(3)
            print(run.losses.mean(axis=1))
            ```
        """
        if self.going_on is None:
            raise ValueError("resume needs a result of train or train_networks itself: files hold no weights.")
        how = {"progress": progress, "checkpoint": checkpoint}
        return self.going_on.plan(self, updates, batches, learning_rate, **how).run()

    def label(self, update: int, datum: int = 0) -> int:
        """The number of an (update, input) pair in Phi, G and A; updates count from the end if negative.

        Raises:
            ValueError: for an update or an input that there is not, or that was not in the batch.
        """
        if not -self.updates - 1 <= update <= self.updates:
            raise ValueError(f"update must lie between {-self.updates - 1} and {self.updates}, got {update}.")
        if not 0 <= datum < self.inputs:
            raise ValueError(f"datum must lie between 0 and {self.inputs - 1}, got {datum}.")
        if self.Phi.shape[-1] == 0:
            raise ValueError("kernels of labels were not kept: train with kernels=True.")
        update %= self.updates + 1
        found = np.flatnonzero(np.all(self.labels == (update, datum), axis=1))
        if found.size == 0:
            raise ValueError(f"datum must be an input in the batch of update {update}, got {datum}: see labels.")
        return int(found[0])

    def accuracy(self, trained: bool = True) -> NDArray[Any]:
        """How many trained inputs, or test inputs with a target, are classified rightly.

        An output (of centred training f - f(0)) is right if it has the sign of its target, or for several outputs if
        the largest is that of the target.

        Args:
            trained: of the trained inputs, or else of the test inputs.

        Returns:
            A fraction of them, (updates + 1, paths); NaN where training has diverged.

        Raises:
            ValueError: if there are no test inputs with a target.
        """
        chosen = self.trained if trained else self._known_tests()
        y, f = self.targets[chosen], np.take(self._trained_outputs(), chosen, axis=-self.targets.ndim)
        f = f.reshape(*f.shape[: f.ndim - y.ndim], *y.shape) if f.shape[f.ndim - y.ndim :] == y.shape else f[..., 0]
        lost = np.isnan(f).reshape(*self.losses.shape, -1).any(axis=-1)
        return np.where(lost, np.nan, right(f, y).mean(axis=-1))

    def ensembled(self, trained: bool = True, *, accuracy: bool = False, loss: Loss | None = None) -> Estimate:
        """The loss of the mean output over all initializations: what is left when independent networks are averaged.

        Of a convex loss it is below the mean of `losses` or `test_losses`, by what ensembling gains; for squared loss
        the difference is half the summed variance of the outputs.

        Args:
            trained: of the trained inputs, or else of the test inputs, per input.
            accuracy: the accuracy of the mean output in place of its loss.
            loss: the loss, of outputs and targets, if it was a function of one's own.

        Returns:
            Value and standard error, (updates + 1,): of a loss for infinitely many networks, the jackknife removing
            the bias of these many; of the accuracy for the mean over these.

        Raises:
            ValueError: if there are no test inputs with a target, or the loss is not known.
        """
        chosen = self.trained if trained else self._known_tests()
        y = self.targets[chosen]
        share = 1 / len(chosen) if not trained or self.metadata.get("mean_field") else 1.0
        how = of_mean_output(y, None if accuracy else loss_of(self, loss), share)

        def outputs(run: Training) -> NDArray[Any]:
            return np.moveaxis(np.take(run._trained_outputs(), chosen, axis=2), 1, 0)

        return self._reduce("ensemble", how, outputs)

    def extrapolated(self, f: Any) -> Estimate:
        """The mean of a statistic extrapolated to infinitely many steps, from `coarse`: what `compare` compares.

        Args:
            f: statistic, as for `mean`.

        Returns:
            Value and standard error, in the shape that `mean` gives.

        Raises:
            ValueError: for a result without `coarse`.
        """
        return self._to_no_step(f)[0]

    def step_error(self, f: Any) -> Estimate:
        """What `extrapolated` adds to the mean of a statistic: the error of the step to leading order, sign reversed.

        Args:
            f: statistic, as for `mean`.

        Returns:
            Value and standard error, in the shape that `mean` gives.

        Raises:
            ValueError: for a result without `coarse`.
        """
        return self._to_no_step(f)[1]

    def _to_no_step(self, f: Any) -> tuple[Estimate, Estimate]:
        if self.coarse is None:
            raise ValueError(
                "step_error needs the same run with fewer steps, and this result has none: train with step_error=True."
            )
        return to_no_step(self.coarse.mean(f), self.mean(f), self.refinement, self.metadata["order"])

    @property
    def refinement(self) -> float:
        """How many times as many steps it has as `coarse`; 1 without it."""
        return 1.0 if self.coarse is None else float(self.metadata["steps"] / self.coarse.metadata["steps"])

    def sharpness(self, loss: Loss | None = None) -> NDArray[Any]:
        """The largest eigenvalue of the Gauss–Newton matrix: gradient descent at η₀ is stable while it is below 2/η₀.

        Of the hidden weights and of the loss that is descended, that of the batch of an update: the largest eigenvalue
        of H^{1/2} Θ H^{1/2}, with Θ the tangent kernel in df/dη₀ = Θ Δ (s²T times ntk of an MLP, 1/P of a ResNet) and H
        the second derivative of the loss in the outputs, 1 for squared loss.

        Args:
            loss: the loss, of outputs and targets, if it was a function of one's own.

        Returns:
            (updates + 1, paths); NaN where training has diverged, and after the last of several batches.

        Raises:
            ValueError: if the kernels of several outputs were not kept.

        Source: arXiv 2103.00065 for the edge of stability; 2402.17457.
        """
        return sharpness(self, loss)

    def _trained_outputs(self) -> NDArray[Any]:
        """What the loss is of: f, or of centred training f - f(0)."""
        return self.outputs - self.outputs[:1] if self.metadata.get("centred") else self.outputs

    def _known_tests(self) -> NDArray[np.int_]:
        known = np.isfinite(self.targets).reshape(self.inputs, -1).all(axis=1)
        found = self.tests[known[self.tests]]
        if found.size == 0:
            raise ValueError(
                "there are no test inputs with a target: give some in targets, and leave them out of batches."
            )
        return found

    def quantities(self) -> list[Quantity]:
        """Outputs and loss over the updates, and how far features have moved in the end: what `compare` looks at."""
        moved = Quantity(
            "|h(end) - h(0)|²/n of input 0 at τ = 1",
            "feature movement of input 0\nby the last update",
            "|h - h(0)|² / n",
            LAYER_TIME,
            lambda r: Curve(r.tau, r._or_infinite(r.movement())),
        )
        return [*over_updates(self), moved]

    def over_updates(
        self, datum: int | None = None, output: int = 0, *, trained: bool = True, accuracy: bool = False
    ) -> Curve:
        """Over the updates, on every path: the output of one input, or the loss or the accuracy of all of a kind."""
        x = np.arange(self.updates + 1.0)
        if datum is not None:
            f = np.take(self.outputs, datum, axis=2)
            return Curve(x, f if f.ndim == 2 else f[..., output])
        if accuracy:
            return Curve(x, self.accuracy(trained))
        losses = self.losses if trained else self.test_losses
        return Curve(x, self._or_infinite(np.asarray(losses)))

    def _or_infinite(self, sizes: NDArray[Any]) -> NDArray[Any]:
        """Of what cannot be negative, +∞ where training has diverged."""
        return np.asarray(np.where(np.isnan(sizes) & (self.status == PathStatus.EXPLODED), np.inf, sizes))

    def movement(self, update: int = -1, datum: int = 0) -> NDArray[Any]:
        """Feature movement |h(update) - h(0)|²/n of one input at each saved layer time, (times, paths)."""
        if self.moved is not None:
            return np.asarray(self.moved[update][..., datum])
        X, a, b = getattr(self, self.features), self.label(update, datum), self.label(0, datum)
        return np.asarray(X[..., a, a] + X[..., b, b] - 2 * X[..., a, b])

    def gradient_movement(self, update: int = -1, datum: int = 0) -> NDArray[Any]:
        """Movement |g(update) - g(0)|² of the gradients ∂f/∂h of one trained input, as G has them, (times, paths).

        Of several outputs summed over them, for which their gradients must have been kept.

        Raises:
            ValueError: for an input or an update that was not trained, or kernels that were not kept.
        """
        return gradient_movement(self, update, datum)

    def movement_per_step(self) -> NDArray[Any]:
        """How far the features of an input move in one update, against their size, per step of the solver, (paths,).

        The largest over updates and inputs. The error of the step is of this size, to the order of the scheme, in
        relation to what moves: where that is above a tenth, numbers are those of the step rather than of the limit.

        Raises:
            ValueError: for a result that no solver has stepped, such as networks.
        """
        return movement_per_step(self)

    def alignment(self, update: int = -1) -> NDArray[Any]:
        """Alignment of the features of a batch with its targets at each saved layer time.

        Args:
            update: which; counted from the end if negative.

        Returns:
            yᵀΦy / (|y|² tr Φ), (times, paths); for several outputs tr YᵀΦY in the place of yᵀΦy.

        Raises:
            ValueError: if no input was trained at this update.
        """
        return alignment(self, update)
