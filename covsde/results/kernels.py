"""Kernels of infinitely wide networks, and lazy training with them."""

from dataclasses import dataclass
from typing import Any

import equinox as eqx
import numpy as np
from jaxtyping import Float

from covsde.numerics.tracing import is_traced
from covsde.results.html import numbers, paragraph


class Kernels(eqx.Module):
    """Kernels over layer time. NumPy arrays, or traced arrays inside a JAX transformation.

    Attributes:
        tau: (times,) layer times ℓ/L.
        H: (times, m, m) covariance of the features, h·h/N: of the residual stream, or of pre-activations.
        G: (times, m, m) covariance of its gradients, g·g/N with g = γ_0 N ∂f/∂h; 1 at τ = 1.
        ntk: (m, m) tangent kernel of what learns by default, ḟ = η_0 K Δ/P for lazy training at rate η_0: of the hidden
            matrices of a ResNet, of all layers of a mean-field network.
        stop_tau: layer time up to which the kernels are valid: 1, or less if variances explode; NaN after it.
        Phi: (times, m, m) covariance of the activations, φ(h)·φ(h)/N, or None where an architecture does not say.
        nngp: (m, m) covariance of γ_0 √N f, the Gaussian process of the outputs; None stands for H(1).
    """

    tau: Any
    H: Any
    G: Any
    ntk: Any
    stop_tau: Any
    Phi: Any = None
    nngp: Any = None

    def _repr_html_(self) -> str:
        """The last covariance and the tangent kernel, for notebooks."""
        if is_traced(self.tau) or is_traced(self.ntk):
            return paragraph([repr(self)])
        m, times, stop = np.shape(self.ntk)[-1], np.size(self.tau), float(np.asarray(self.stop_tau))
        until = "" if stop >= 1 else f"; valid to τ = {stop:.4g}, where variances explode"
        return "\n".join(
            [
                paragraph([f"Kernels of {m} inputs at {times} layer times{until}", "H at the last of them:"]),
                numbers(self.H[-1]),
                paragraph(["tangent kernel, ntk:"]),
                numbers(self.ntk),
            ]
        )

    @property
    def ntk_readout(self) -> Any:
        """(m, m) the part of the readout in the tangent kernel: the covariance of what it reads."""
        return self.H[-1] if self.nngp is None else self.nngp

    @property
    def ntk_input(self) -> Any:
        """(m, m) the part of the input layer: G(0) ∘ V_0."""
        return self.G[0] * self.H[0]


@dataclass(frozen=True, eq=False)
class LazyTraining:
    """Outputs over training time.

    Attributes:
        times: (times,) training time t of gradient flow, or numbers of updates.
        outputs: (times, m, outputs) f_μ(t) for every training and test point.
        loss: (times,) (1/2P) Σ (f - y)² over training points, summed over outputs.
        modes: (P,) eigenvalues of the training kernel, increasing, 0 where they are below rounding; mode k decays like
            e^{-η_0 λ_k t/P}.
    """

    times: Float[np.ndarray, " times"]
    outputs: Float[np.ndarray, "times m outputs"]
    loss: Float[np.ndarray, " times"]
    modes: Float[np.ndarray, " train"]

    def __repr__(self) -> str:
        """Return one line that says what is inside."""
        times, points, outputs = self.outputs.shape
        last = f", loss {self.loss[-1]:.4g} at t = {self.times[-1]:.4g}" if times else ""
        return f"LazyTraining({times} times, {points} points, {outputs} outputs{last})"

    def _repr_html_(self) -> str:
        """The loss over training time, for notebooks."""
        table = numbers(np.stack([self.times, self.loss], axis=1), ["time", "loss"])
        return "\n".join([paragraph([repr(self)]), table])
