"""Metadata: what decides a result, told apart to the last digit, and where it was computed."""

import dataclasses
import platform
from typing import Any

import equinox as eqx
import jax
import numpy as np

from covsde.numerics.identity import ASSUMED, changed_functions, identity, name_of_function, unidentified
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
        **hyperparameters(architecture),
        "depth_to_width": architecture.depth_to_width,
        "V0": V0.tolist(),
        "seed": recorded_key(key),
        "generator": recorded_generator(key),
        "versions": versions(),
        "platform": f"{jax.default_backend()} {platform.machine()}",
        **more,
    }


def hyperparameters(architecture: Any) -> dict[str, Any]:
    """An architecture for metadata.

    Raises:
        ValueError: if a function of it reads other values than when it was made.
    """
    changed = changed_functions(architecture)
    if changed:
        raise ValueError(
            f"architecture has the function {changed[0]}, which reads a value that has changed since "
            f"{type(architecture).__name__} was made: make it again."
        )
    found = _told("", architecture) | {"architecture": describe(architecture)}
    return found | ({"assumed": {"depth_to_width": architecture.depth_to_width}} if _assumed(architecture) else {})


def function_metadata(name: str, function: Any) -> dict[str, Any]:
    """A function of a user for metadata, as `name`, `name`_identity and if need be what that cannot see."""
    return _told(f"{name}_", function) | {name: name_of_function(function)}


def _assumed(module: Any) -> bool:
    return getattr(module, ASSUMED, False) is True


def _told(prefix: str, value: Any) -> dict[str, Any]:
    unseen = unidentified(value)
    found: dict[str, Any] = {f"{prefix}identity": identity(value)}
    return found | ({f"{prefix}unidentified": unseen} if unseen else {})


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
        if name == ASSUMED:
            continue
        if isinstance(value, np.ndarray) and value.ndim:
            parts.append(f"{name}={value.dtype.name}{list(value.shape)}")
            continue
        if value is None or (not isinstance(value, eqx.Module) and not callable(value) and value == defaults[name]):
            continue
        if isinstance(value, eqx.Module):
            parts.append(describe(value))
        elif callable(value):
            parts.append(str(getattr(value, "__name__", value)))
        elif isinstance(value, float):
            said = " (assumed)" if name == "depth_to_width" and _assumed(module) else ""
            parts.append(f"{name}={value:g}{said}")
        else:
            parts.append(f"{name}={value}")
    return f"{type(module).__name__}({', '.join(parts)})"
