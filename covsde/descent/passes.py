"""Passes through the layers of a network or of layer time: up for features, down for gradients.

A pass is a map `layer(carry, inputs) -> (carry, outputs)` applied at every layer. `sweep` applies it in a scan: the
layers of a finite network are a list. `solve_pass` is the same pass as a Diffrax solve over layer time, one step per
layer, upward from τ = 0 or downward from τ = 1: the form in which the limit is computed.
"""

from collections.abc import Callable
from typing import Any, ClassVar

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp

from covsde.covariance.clock import Time

Layer = Callable[[Any, Any], tuple[Any, Any]]


# (layer, start, inputs, downward=…) -> outputs of all layers, lowest first, whichever way the pass goes. Inputs and
# outputs of layers are stacked along the first axis.
Pass = Callable[..., Any]


def sweep(layer: Layer, start: Any, inputs: Any, *, downward: bool) -> Any:
    """One layer after the other."""
    return jax.lax.scan(layer, start, inputs, reverse=downward)[1]


class _LayerTerm(diffrax.AbstractTerm):
    """A layer map with the inputs of every layer; a step of the solver is one layer."""

    layer: Layer
    inputs: Any
    downward: bool = eqx.field(static=True)

    def vf(self, t: Time, y: Any, args: object) -> tuple[Any, Any]:
        """What the layer that starts at layer time t makes of the carry; going down, it is the one below t."""
        depth = jax.tree.leaves(self.inputs)[0].shape[0]
        index = jnp.round(t * depth).astype(int) - int(self.downward)
        inputs = jax.tree.map(lambda x: jax.lax.dynamic_index_in_dim(x, index, keepdims=False), self.inputs)
        return self.layer(y[0], inputs)

    def contr(self, t0: Time, t1: Time, **_: object) -> Time:
        """The length of the step."""
        return t1 - t0

    def prod(self, vf: object, control: object) -> object:
        """Not defined: a layer is a step, not a rate."""
        raise NotImplementedError("A pass through layers is stepped by LayerStep only.")


class LayerStep(diffrax.AbstractSolver):
    """One layer per step: the realisable step of the forward–backward limit, weak order 1 in its length."""

    term_structure: ClassVar = _LayerTerm
    interpolation_cls: ClassVar[Callable[..., diffrax.LocalLinearInterpolation]] = diffrax.LocalLinearInterpolation

    def order(self, terms: Any) -> int:
        """Weak order."""
        return 1

    def init(self, terms: Any, t0: Any, t1: Any, y0: Any, args: Any) -> None:
        """No state between steps."""
        return

    def step(
        self, terms: Any, t0: Any, t1: Any, y0: Any, args: Any, solver_state: None, made_jump: Any
    ) -> tuple[Any, None, Any, None, Any]:
        """The layer between t0 and t1."""
        y1 = terms.vf(t0, y0, args)
        return y1, None, {"y0": y0, "y1": y1}, None, diffrax.RESULTS.successful

    def func(self, terms: Any, t0: Any, y0: Any, args: Any) -> Any:
        """The layer at t0."""
        return terms.vf(t0, y0, args)


def solve_pass(layer: Layer, start: Any, inputs: Any, *, downward: bool) -> Any:
    """The same pass as a Diffrax solve in layer time, upward from 0 to 1 or downward from 1 to 0."""
    depth = jax.tree.leaves(inputs)[0].shape[0]
    first = jax.tree.map(lambda x: x[0], inputs)
    layer = eqx.filter_closure_convert(layer, start, first)
    outputs = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), jax.eval_shape(layer, start, first)[1])
    grid = jnp.linspace(0.0, 1.0, depth + 1)
    solution = diffrax.diffeqsolve(
        _LayerTerm(layer, inputs, downward),
        LayerStep(),
        t0=1.0 if downward else 0.0,
        t1=0.0 if downward else 1.0,
        dt0=None,
        y0=(start, outputs),
        stepsize_controller=diffrax.StepTo(ts=grid[::-1] if downward else grid),
        # A list of arrays, because Diffrax takes an empty tuple among what it saves for an array.
        saveat=diffrax.SaveAt(steps=True, fn=lambda t, y, args: jax.tree.leaves(y[1])),
        adjoint=diffrax.ForwardMode(),
        max_steps=depth,
    )
    saved = [x[::-1] for x in solution.ys] if downward else solution.ys
    return jax.tree.unflatten(jax.tree.structure(outputs), saved)
