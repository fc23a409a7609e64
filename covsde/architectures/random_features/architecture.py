"""Random features of Gaussian inputs, frozen or learned: hyperparameters, and the questions that have exact answers."""

import abc
import warnings
from typing import Any

import equinox as eqx
import numpy as np

from covsde.architectures.random_features import scaling_law
from covsde.architectures.random_features.learned_features import learned_losses
from covsde.architectures.random_features.scaling_law import Losses, Problem, Times
from covsde.architectures.random_features.spectrum import AbstractSpectrum, Spectrum
from covsde.inputs.arguments import finite_number, instance_of, one_line
from covsde.inputs.gram import real_array
from covsde.results.scaling import ScalingLaw
from covsde.results.status import PathStatus
from covsde.run.metadata import hyperparameters, versions
from covsde.spectra.resolvent import SAME, Shared, Sizes, edge

_SHARED = {"features": Shared(features=0.0), "samples": Shared(samples=0.0), "both": Shared(0.0, 0.0)}


class UnstableTrainingWarning(UserWarning):
    """Losses of this training grow without bound, or have no finite limit."""


class AbstractRandomFeatures(eqx.Module):
    """What frozen and learned features share: a spectrum and the sizes of what is drawn."""

    spectrum: eqx.AbstractVar[AbstractSpectrum]
    features: eqx.AbstractVar[float]
    samples: eqx.AbstractVar[float]
    noise: eqx.AbstractVar[float]

    @property
    def problem(self) -> Problem:
        """What the equations take."""
        return Problem(self.spectrum.modes, Sizes(self.samples, self.features), self.noise)

    @property
    def description(self) -> dict[str, Any]:
        """Metadata of results."""
        return hyperparameters(self) | {
            "features": self.features,
            "samples": self.samples,
            "noise": self.noise,
            "versions": versions(),
        }

    @abc.abstractmethod
    def losses(self, times: Any) -> ScalingLaw:
        """Losses under gradient flow."""

    def plateau(self) -> tuple[float, float]:
        """Test and train loss at t = ∞: the estimator of least norm, whether features learn or not.

        Returns:
            Test loss without the labels' noise, and train loss.

        Warns:
            UnstableTrainingWarning: at P = N below the number of modes, where the test loss diverges.
        """
        found = scaling_law.plateau(self.problem)
        if np.isinf(found[0]):
            warnings.warn(
                f"features and samples are equal, {self.features:g}, below the number of modes: the test loss grows "
                "without bound (double descent), so change one of them, or stop at a finite time.",
                UnstableTrainingWarning,
                stacklevel=2,
            )
        return found

    def recorded(self, times: Times, found: Any, **more: Any) -> ScalingLaw:
        """Losses as a result."""
        arrays = found._asdict()
        sound = all(np.isfinite(array).all() for array in arrays.values())
        status = np.asarray([PathStatus.FINE if sound else PathStatus.EXPLODED])
        metadata = {"kind": "limit", "label": "theory", "deterministic": True} | self.description | more
        return ScalingLaw(status, metadata, times, **arrays)


def _sizes(features: Any, samples: Any, noise: Any, spectrum: Any) -> tuple[float, float, float]:
    """N, P and σ², checked."""
    instance_of("spectrum", spectrum, AbstractSpectrum, "a PowerLaw or a Spectrum, such as PowerLaw(1.5, 1.25)")
    sizes = []
    for name, value in (("features", features), ("samples", samples)):
        infinite = isinstance(value, float | np.floating) and value == np.inf
        sizes.append(np.inf if infinite else finite_number(name, value))
        if not sizes[-1] > 0:
            raise ValueError(f"{name} must be positive, or np.inf for infinitely many, got {one_line(value)}.")
    if finite_number("noise", noise) < 0:
        raise ValueError(f"noise must be a variance ≥ 0, got {noise}.")
    return sizes[0], sizes[1], float(noise)


def checked_times(times: Any, *, whole: bool = False, infinite: bool = False) -> Times:
    """Times (times,) that increase, of at least one.

    Raises:
        ValueError: for others.
    """
    t = np.atleast_1d(real_array("times", times, "numbers of shape (times,)")).astype(np.float64)
    if t.ndim != 1 or t.size == 0 or not np.all(t >= 0) or not np.all(np.diff(t) > 0):
        raise ValueError("times must have shape (times,), be ≥ 0 and increase: sort them and drop repeated ones.")
    if not infinite and np.isinf(t[-1]):
        raise ValueError("times must be finite here: the end of gradient flow is plateau().")
    if whole and not np.all(t == np.round(t)):
        raise ValueError("times must be whole numbers of updates where there is a rate; for gradient flow, drop rate=.")
    return t


class RandomFeatures(AbstractRandomFeatures):
    """A linear student on N frozen random features of M Gaussian inputs, trained on P samples.

    f = u·Aψ/√N with A (N, M) standard normal, u(0) = 0, and labels y = Σ w_k ψ_k + ε: training moves
    v = w - Aᵀu/√N by -(AᵀA/N)(ΨᵀΨ/P) v and noise, the test loss is Σ λ_k v_k² and the train loss |y - f|²/P.

    Args:
        spectrum: of inputs and target.
        features: N > 0, or np.inf for the kernel method.
        samples: P > 0, or np.inf for the population.
        noise: σ² ≥ 0, the variance of the labels' noise.

    Raises:
        ValueError: for sizes that are not positive, or negative noise.

    Source: arXiv 2402.01092.

    Example:
        ```python
        model = cs.scaling.RandomFeatures(cs.scaling.PowerLaw(1.5, 1.25), features=120, samples=200)
        test, train = model.losses([1.0, 10.0, 100.0, np.inf])
        ```
    """

    spectrum: AbstractSpectrum
    features: float
    samples: float
    noise: float

    def __init__(self, spectrum: Any, features: Any = np.inf, samples: Any = np.inf, noise: float = 0.0):
        self.spectrum = spectrum
        self.features, self.samples, self.noise = _sizes(features, samples, noise, spectrum)

    def losses(self, times: Any, *, rate: float | None = None, momentum: float = 0.0) -> ScalingLaw:
        """Losses under gradient flow, or under gradient descent of a rate, on the same samples throughout.

        Args:
            times: t, increasing, (times,); np.inf is where gradient flow ends. With a rate, numbers of updates.
            rate: None for gradient flow, or η > 0 of u ← u - η ∂/∂u (train loss)/2.
            momentum: of gradient flow m ≥ 0 in m v̈ + v̇; of gradient descent 0 ≤ μ < 1 of the heavy ball.

        Returns:
            Test and train loss, (times,) each.

        Raises:
            ValueError: for an argument out of range.

        Warns:
            UnstableTrainingWarning: for a rate above 2(1 + μ)/x₊, with x₊ the upper edge of the spectrum.
        """
        mass = finite_number("momentum", momentum)
        t = checked_times(times, whole=rate is not None, infinite=rate is None and mass == 0)
        if mass < 0 or (rate is not None and mass >= 1):
            raise ValueError(f"momentum must be ≥ 0, and below 1 where there is a rate, got {momentum}.")
        if rate is None:
            found = scaling_law.momentum_flow(t, mass, self.problem) if mass else self._flow(t)
            return self.recorded(t, found, time="flow", momentum=mass)
        eta = finite_number("rate", rate)
        if eta <= 0:
            raise ValueError(f"rate must be positive, got {rate}; for gradient flow, leave it out.")
        largest = edge(*self.problem[:2])
        if eta * largest > 2 * (1 + mass):
            warnings.warn(
                f"rate={eta:g} exceeds 2(1 + momentum)/{largest:.4g}, where gradient descent diverges: use a rate "
                f"below {2 * (1 + mass) / largest:.3g}.",
                UnstableTrainingWarning,
                stacklevel=2,
            )
        if mass:
            return self.recorded(
                t, scaling_law.heavy_ball(t, eta, mass, self.problem), time="updates", rate=eta, momentum=mass
            )
        return self.recorded(t, scaling_law.gradient_descent(t, eta, self.problem), time="updates", rate=eta)

    def _flow(self, times: Times, shared: Shared = SAME) -> Losses:
        return scaling_law.gradient_flow(times, self.problem, shared)

    def ridge(self, penalty: float) -> tuple[float, float]:
        """Test and train loss of ridge regression, the minimiser of |y - f|²/P + δ|u|².

        Args:
            penalty: δ > 0; K + Pδ is what kernel ridge regression inverts.

        Returns:
            Test loss without the labels' noise, and train loss.

        Raises:
            ValueError: for a penalty that is not positive.
        """
        if finite_number("penalty", penalty) <= 0:
            raise ValueError(f"penalty must be positive, got {penalty}; without one, use plateau().")
        return scaling_law.ridge(float(penalty), self.problem)

    def ensemble(self, times: Any, over: Any = "features", members: Any = np.inf) -> np.ndarray:
        """Test losses of the average of students that are trained apart by gradient flow.

        Args:
            times: t, finite, increasing, (times,).
            over: what the members differ in: "features", "samples" or "both".
            members: E ≥ 1, or np.inf.

        Returns:
            L_∞ + (L - L_∞)/E, (times,), where L_∞ is the correlation of two members.

        Raises:
            ValueError: for another word, or less than one member.
        """
        if not isinstance(over, str) or over not in _SHARED:
            raise ValueError(f"over must be one of {', '.join(map(repr, _SHARED))}, got {one_line(over)}.")
        count = np.inf if isinstance(members, float) and members == np.inf else finite_number("members", members)
        if count < 1:
            raise ValueError(f"members must be at least 1, got {one_line(members)}.")
        t = checked_times(times)
        between, one = self._flow(t, _SHARED[over]).test, self._flow(t).test
        return np.asarray(between + (one - between) / count)


class LearnedFeatures(AbstractRandomFeatures):
    """A student whose features learn: f = w·BAψ/√N, with w (N,) from 0 at rate 1 and B (N, N) from 1 at rate γ.

    The update of the features BA is their gradient times the projector AᵀA/N, so that N stays a bottleneck.

    Args:
        spectrum: of inputs and one target.
        features: N, or np.inf.
        samples: P, or np.inf.
        noise: σ² of the labels.
        rate: γ ≥ 0; 0 is `RandomFeatures`.

    Raises:
        ValueError: for sizes that are not positive, negative noise or rate, or several targets.

    Source: arXiv 2409.17858 for the model; docs/limits/scaling_laws.md for its closed equation.

    Example:
        ```python
        model = cs.scaling.LearnedFeatures(cs.scaling.PowerLaw(1.6, 1.5), features=120, rate=1.0)
        print(model.losses([1.0, 10.0, 100.0]).test, model.effective_time([100.0]))
        ```
    """

    spectrum: AbstractSpectrum
    features: float
    samples: float
    noise: float
    rate: float

    def __init__(
        self,
        spectrum: Any,
        features: Any = np.inf,
        samples: Any = np.inf,
        noise: float = 0.0,
        rate: float = 1.0,
    ):
        self.spectrum = spectrum
        self.features, self.samples, self.noise = _sizes(features, samples, noise, spectrum)
        self.rate = finite_number("rate", rate)
        if self.rate < 0:
            raise ValueError(f"rate must be ≥ 0, got {rate}; 0 freezes the features.")
        if isinstance(spectrum, Spectrum) and spectrum.target.ndim > 1:
            raise ValueError("spectrum must have one target where features learn: what one learns, the others see.")

    def losses(self, times: Any) -> ScalingLaw:
        """Losses under gradient flow of w and B.

        Args:
            times: t, finite, increasing, (times,).

        Returns:
            Test and train loss, with |w|² in `weight_norm` and `effective_time`, (times,) each.

        Raises:
            ValueError: for other times, or such that the contour around the spectrum would take too many nodes.
        """
        t = checked_times(times)
        return self.recorded(t, learned_losses(t, self.rate, self.problem), time="flow")

    def effective_time(self, times: Any) -> np.ndarray:
        """S(t) = ∫(1 + γ|w|²) dt, (times,): the time after which frozen features have learned the same modes."""
        return np.asarray(self.losses(times).effective_time)
