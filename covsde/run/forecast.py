"""How long a run will take, before anything is compiled: its operations counted, at this machine's measured speed.

An order of magnitude, for someone who decides whether to wait. Compilation, seconds to half a minute, comes on top.
"""

import functools
import math
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from covsde.run.chunks import side_by_side
from covsde.run.plan import Plan

# Operations that move or rename numbers and compute nothing.
_FREE = {"broadcast_in_dim", "reshape", "squeeze", "transpose", "convert_element_type", "slice", "iota", "copy"}
_FREE |= {"maybe_set", "select_if_vmap", "nonbatchable", "unvmap_any"}  # of Equinox, which keeps steps in buffers
_REPLACED = {"dynamic_update_slice": 1, "scatter": 2}
# How often a sampler by rejection starts again until all of an array are drawn.
_REJECTIONS = 4
# Elementwise operations that cost as much as that many additions.
_DEAR = {"exp": 8, "log": 8, "log1p": 8, "expm1": 8, "tanh": 12, "erf_inv": 20, "erf": 12, "logistic": 10, "pow": 16}
_DEAR |= {
    "sin": 10,
    "cos": 10,
    "threefry2x32": 60,
    "random_bits": 60,
    "sqrt": 4,
    "rsqrt": 4,
    "div": 4,
    "integer_pow": 2,
}


# What memory and small arrays make of it: the time of runs of all families over what their operations alone would take.
_TRAFFIC = 4


def seconds(plan: Plan[Any]) -> float:
    """About how many seconds the chunks of a plan take to compute on this machine, compilation not counted.

    Args:
        plan: as `train.plan(...)` gives it.
    """
    products, others = operations(plan)
    fast, slow = speed(plan.dtype.name)
    per_chunk = _TRAFFIC * (products / fast + others / slow)
    rounds = math.ceil(plan.chunks.count / side_by_side())
    return per_chunk * rounds + (0.0 if plan.coarse is None else seconds(plan.coarse))


def operations(plan: Plan[Any]) -> tuple[float, float]:
    """Operations of one chunk: multiplications and additions of matrix products, and all others."""
    with plan.precision():
        traced = jax.make_jaxpr(lambda key: plan.chunks.dispatch(key, plan.chunks.size))(jax.random.key(0))
    return _count(traced.jaxpr, int(plan.metadata.get("steps", 1)))


def _count(jaxpr: Any, steps: int) -> tuple[float, float]:
    """Of a program; a loop of unknown length that saves something is a Diffrax solve, and others reject samples."""
    products = others = 0.0
    for equation in jaxpr.eqns:
        name, parameters = equation.primitive.name, equation.params
        if name == "scan":
            p, o = _count(parameters["jaxpr"].jaxpr, steps)
            times = parameters["length"]
        elif name == "while":
            body = parameters["body_jaxpr"].jaxpr
            p, o = _count(body, 1)
            times = steps if _saves(body) else _REJECTIONS
        elif name == "cond":
            counts = [_count(branch.jaxpr, steps) for branch in parameters["branches"]]
            (p, o), times = max(counts, key=sum), 1
        elif name == "dot_general":
            p, o, times = 2.0 * _size(equation.outvars) * _contracted(equation), 0.0, 1
        else:
            inner = [x for x in parameters.values() if hasattr(x, "eqns") or hasattr(x, "jaxpr")]
            parts = [_count(getattr(x, "jaxpr", x), steps) for x in inner]
            # Of an array of which some is replaced, no more than that is written.
            written = equation.invars[_REPLACED[name] :][:1] if name in _REPLACED else equation.outvars
            own = 0.0 if inner or name in _FREE else float(_DEAR.get(name, 1) * _size(written))
            p, o, times = sum(x for x, _ in parts), own + sum(x for _, x in parts), 1
        products, others = products + times * p, others + times * o
    return products, others


def _saves(jaxpr: Any) -> bool:
    """Whether a program writes into a buffer of Equinox."""
    inner = [getattr(x, "jaxpr", x) for e in jaxpr.eqns for x in e.params.values() if hasattr(x, "jaxpr")]
    return any(e.primitive.name == "maybe_set" for e in jaxpr.eqns) or any(_saves(x) for x in inner)


def _size(variables: Any) -> int:
    return max((math.prod(getattr(v.aval, "shape", ())) for v in variables), default=0)


def _contracted(equation: Any) -> int:
    (left, _), _ = equation.params["dimension_numbers"]
    return math.prod(equation.invars[0].aval.shape[axis] for axis in left)


@functools.cache
def speed(dtype: str) -> tuple[float, float]:
    """Operations per second of one core: of products of small matrices, and of additions of arrays in the cache."""
    with jax.enable_x64(dtype == "float64"):
        a = jnp.ones((64, 64, 64), dtype)
        x = jnp.ones(2**16, dtype)
        product = jax.jit(lambda a: jax.lax.map(lambda a: a @ a[:, :8], a))
        chain = jax.jit(lambda x: jax.lax.scan(lambda x, _: (jnp.abs(x * 0.5 - 1.0), None), x, None, length=64)[0])
        return 2.0 * 64**3 * 8 / _best(product, a), 3.0 * 64 * 2**16 / _best(chain, x)


def _best(call: Any, argument: Any) -> float:
    jax.block_until_ready(call(argument))
    times = []
    for _ in range(5):
        began = time.perf_counter()
        jax.block_until_ready(call(argument))
        times.append(time.perf_counter() - began)
    return float(np.min(times))


def in_words(duration: float) -> str:
    """Seconds as someone says them who is not sure: "some seconds", "about 3 minutes"."""
    if duration < 10:
        return "some seconds"
    if duration < 90:
        return f"about {10 * round(duration / 10)} seconds"
    if duration < 5400:
        return f"about {round(duration / 60)} minutes"
    return f"about {duration / 3600:.1f} hours"
