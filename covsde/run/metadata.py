"""Metadata: what decides a result, told apart to the last digit, and where it was computed."""

import dataclasses
import functools
import hashlib
import platform
import types
from typing import Any

import equinox as eqx
import jax
import numpy as np

from covsde.numerics.keys import recorded_generator, recorded_key


def versions() -> dict[str, str]:
    """Versions that decide a result, for metadata and `covsde doctor`."""
    import importlib.metadata

    names = ("covsde", "jax", "jaxlib", "diffrax", "equinox", "numpy")
    found = {}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return {"python": platform.python_version(), **found}


def run_metadata(kind: str, architecture: Any, V0: np.ndarray, key: Any, **more: Any) -> dict[str, Any]:
    """What decides a result of an architecture with `depth_to_width`, and where it was computed."""
    return {
        "kind": kind,
        "architecture": describe(architecture),
        "identity": identity(architecture),
        "depth_to_width": architecture.depth_to_width,
        "V0": V0.tolist(),
        "seed": recorded_key(key),
        "generator": recorded_generator(key),
        "versions": versions(),
        "platform": f"{jax.default_backend()} {platform.machine()}",
        **more,
    }


def identity(value: Any) -> str:
    """A digest that tells hyperparameters apart to the last digit, and functions by their code."""
    return hashlib.sha256(repr(_exact(value, 6)).encode()).hexdigest()[:16]


def _exact(value: Any, depth: int) -> Any:
    """Something whose repr is the same in every process, and differs where `value` does."""
    if depth == 0:
        return type(value).__qualname__
    if isinstance(value, eqx.Module):
        fields = [(f.name, _exact(getattr(value, f.name), depth - 1)) for f in dataclasses.fields(value)]
        return (type(value).__qualname__, fields)
    if isinstance(value, jax.Array | np.ndarray | np.generic):
        return np.asarray(value).tolist()
    if isinstance(value, tuple | list):
        return [_exact(x, depth - 1) for x in value]
    if isinstance(value, types.CodeType):
        return (value.co_code.hex(), value.co_names, _exact(value.co_consts, depth - 1))
    if isinstance(value, types.FunctionType):
        cells = [cell.cell_contents for cell in value.__closure__ or ()]
        inside = (value.__code__, value.__defaults__ or (), cells)
        return (value.__module__, value.__qualname__, [_exact(x, depth - 1) for x in inside])
    if isinstance(value, functools.partial):
        return _exact((value.func, value.args, sorted(value.keywords.items())), depth)
    if isinstance(value, types.MethodType):
        return [_exact(x, depth - 1) for x in (value.__func__, value.__self__)]
    if callable(value):
        # What jax.jit returns has the name of what it was given, and the code inside.
        names = (type(value).__qualname__, getattr(value, "__module__", ""), getattr(value, "__qualname__", ""))
        wrapped = getattr(value, "__wrapped__", None)
        return names if wrapped is None else (*names, _exact(wrapped, depth - 1))
    return value if isinstance(value, str | bytes | int | float | complex | None) else type(value).__qualname__


def describe(module: eqx.Module) -> str:
    """One line that names a module and its hyperparameters, e.g. MLP(ShapedReLU(0.5, -0.5), depth_to_width=1)."""
    if callable(getattr(module, "fn", None)):
        fn = module.fn  # type: ignore[attr-defined]
        name = getattr(fn, "__name__", repr(fn))
        critical = module.exponent == 0.5  # type: ignore[attr-defined]
        more = "" if critical else f", exponent={module.exponent:g}"  # type: ignore[attr-defined]
        return f"{type(module).__name__}({name}, a={module.a:g}{more})"  # type: ignore[attr-defined]
    parts = []
    defaults = {f.name: f.default for f in dataclasses.fields(module)}
    for name, value in vars(module).items():
        if value is None or (not isinstance(value, eqx.Module) and not callable(value) and value == defaults[name]):
            continue
        if isinstance(value, eqx.Module):
            parts.append(describe(value))
        elif callable(value):
            parts.append(str(getattr(value, "__name__", value)))
        elif isinstance(value, float):
            parts.append(f"{name}={value:g}")
        else:
            parts.append(f"{name}={value}")
    return f"{type(module).__name__}({', '.join(parts)})"
