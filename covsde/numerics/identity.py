"""What tells functions and hyperparameters apart: a digest, the same in every process, and what it cannot see."""

import argparse
import dataclasses
import dis
import enum
import functools
import hashlib
import itertools
import os
import sys
import sysconfig
import types
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

_PLAIN = str | bytes | int | float | complex | None | types.EllipsisType | range | slice
_LIBRARY = tuple(
    {os.path.realpath(p) + os.sep for name, p in sysconfig.get_paths().items() if name in {"stdlib", "platstdlib"}}
)
_INSTALLED = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")
_OWN = __name__.split(".")[0]
_NAMESPACES = types.SimpleNamespace | argparse.Namespace
# What Python and decorators of classes put into a class.
_UNTOLD = {"__dict__", "__weakref__", "__doc__", "__module__", "__annotations__", "__firstlineno__", "__slots__"}
# Of an architecture: whether its depth_to_width was assumed, which changes nothing that is computed.
ASSUMED = "assumed"
_tokens = itertools.count()


def identity(value: Any) -> str:
    """A digest that tells hyperparameters apart to the last digit, and functions by their code and what they read."""
    return hashlib.sha256(repr(_Walk().tell(value)).encode()).hexdigest()[:16]


def unidentified(value: Any) -> list[str]:
    """Names of what `identity` cannot see into, so that another may have the same digest."""
    walk = _Walk()
    walk.tell(value)
    return sorted(walk.unseen)


def cache_key(value: Any) -> str:
    """`identity` for a cache in this process: what cannot be told apart is never the same twice."""
    walk = _Walk()
    digest = hashlib.sha256(repr(walk.tell(value)).encode()).hexdigest()[:16]
    return f"{digest} {next(_tokens)}" if walk.unseen else digest


def name_of_function(value: Any) -> str:
    """A name without an address: of a function its own, of a partial that of what it is part of, else of the type."""
    if isinstance(value, functools.partial):
        return name_of_function(value.func)
    return str(getattr(value, "__name__", type(value).__qualname__))


class Told:
    """A function of a user as a hyperparameter: equal only to itself, while what it reads has not changed."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self.key = cache_key(function)
        self.__name__ = name_of_function(function)

    def __call__(self, *args: Any) -> Any:
        """What the function computes."""
        return self.function(*args)

    def __eq__(self, other: Any) -> bool:
        return isinstance(other, Told) and self.function is other.function and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)

    def __repr__(self) -> str:
        return repr(self.function)

    @property
    def changed(self) -> bool:
        """Whether it reads other values now than when this was made."""
        return not unidentified(self.function) and cache_key(self.function) != self.key


def told(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` as a hyperparameter: itself if it is one of a library, which reads nothing that changes."""
    inner = _inner(function)
    if isinstance(function, jax.stages.Wrapped) and not _of_a_library(inner):
        function = inner  # jax.jit has a cache of its own, which does not know what changed
    return (
        function if isinstance(inner, types.BuiltinFunctionType | np.ufunc) or _of_a_library(inner) else Told(function)
    )


def _inner(function: Any) -> Any:
    """What transformations of JAX were applied to."""
    while not isinstance(function, types.FunctionType):
        within = getattr(function, "__wrapped__", getattr(function, "fun", None))
        if within is None:
            break
        function = within
    return function


def changed_functions(module: Any) -> list[str]:
    """The functions among hyperparameters that read other values now than when the module was made."""
    if isinstance(module, Told):
        return [module.__name__] if module.changed else []
    if not isinstance(module, eqx.Module):
        return []
    fields = (getattr(module, f.name) for f in dataclasses.fields(module))
    return [name for value in fields for name in changed_functions(value)]


def _of_a_library(value: Any) -> bool:
    """Whether a function or a class comes from an installed package, which versions in the metadata tell apart."""
    if str(getattr(value, "__module__", None) or "").split(".")[0] in (_OWN, "builtins"):
        return True
    code = getattr(value, "__code__", None)
    if isinstance(code, types.CodeType):
        return _installed(code.co_filename)
    module = sys.modules.get(str(getattr(value, "__module__", "")))
    file = getattr(module, "__file__", None)
    return isinstance(value, type) and module is not None and module.__name__ != "__main__" and _installed(file or "")


def _installed(path: str) -> bool:
    return not path or any(part in path for part in _INSTALLED) or os.path.realpath(path).startswith(_LIBRARY)


class _Walk:
    """Turns values into something whose repr is the same in every process, and differs where they do."""

    def __init__(self) -> None:
        self.unseen: set[str] = set()
        # By number of first sight: functions may call themselves. Kept alive, because an address is used again.
        self._seen: dict[int, tuple[int, Any]] = {}
        self._library = False

    def tell(self, value: Any) -> Any:
        if isinstance(value, enum.Enum):
            return (type(value).__qualname__, value.name)
        if isinstance(value, bool | _PLAIN):
            return value
        if isinstance(value, jax.core.Tracer):
            return "traced"
        if isinstance(value, jax.Array | np.ndarray | np.generic):
            array = np.asarray(_words(value))
            return self.tell(array.tolist()) if array.dtype.kind == "O" else (array.dtype.str, array.tolist())
        if isinstance(value, np.dtype | types.ModuleType | os.PathLike):
            return str(getattr(value, "__name__", value))
        if id(value) in self._seen:
            return ("again", self._seen[id(value)][0])
        self._seen[id(value)] = (len(self._seen), value)
        return self._inside(value)

    def _inside(self, value: Any) -> Any:
        if isinstance(value, Told):
            return self.tell(value.function)
        if isinstance(value, tuple | list):
            return [self.tell(x) for x in value]
        if isinstance(value, set | frozenset):
            return sorted(repr(_Walk().tell(x)) for x in value)
        if isinstance(value, Mapping) and type(value).__module__ in ("builtins", "types", "collections"):
            return [(self.tell(k), self.tell(v)) for k, v in value.items()]
        if isinstance(value, types.CodeType):
            return (value.co_code.hex(), value.co_names, [self.tell(x) for x in value.co_consts])
        if isinstance(value, types.FunctionType):
            return self._function(value)
        if isinstance(value, functools.partial):
            return [self.tell(x) for x in (value.func, value.args, sorted(value.keywords.items()))]
        if isinstance(value, types.MethodType):
            return [self.tell(x) for x in (value.__func__, value.__self__)]
        if isinstance(value, type):
            return self._class(value)
        if hasattr(value, "__wrapped__"):
            # What jax.jit returns has the name of what it was given, and the code inside.
            return (type(value).__qualname__, self.tell(value.__wrapped__))
        return self._instance(value)

    def _function(self, value: types.FunctionType) -> Any:
        cells = [_content(cell) for cell in value.__closure__ or ()]
        outside, self._library = self._library, _of_a_library(value)
        read = [] if self._library else list(_globals_of(value, value.__code__))
        inside = (value.__code__, value.__defaults__ or (), value.__kwdefaults__ or {}, cells, read)
        found = (value.__module__, value.__qualname__, [self.tell(x) for x in inside])
        self._library = outside
        return found

    def _class(self, value: type) -> Any:
        name = (value.__module__, value.__qualname__)
        if _of_a_library(value):
            return name
        held = {k: getattr(v, "method", getattr(v, "__func__", getattr(v, "fget", v))) for k, v in vars(value).items()}
        kinds = types.FunctionType | bool | _PLAIN | tuple | list | dict | np.ndarray | jax.Array
        return (
            *name,
            [self.tell(base) for base in value.__bases__],
            [
                (k, self.tell(v))
                for k, v in held.items()
                if isinstance(v, kinds) and k not in _UNTOLD and not k.startswith(("_abc", "__dataclass", "__match"))
            ],
        )

    def _instance(self, value: Any) -> Any:
        name = f"{type(value).__module__}.{type(value).__qualname__}"
        if dataclasses.is_dataclass(value):
            fields = [
                (f.name, self.tell(getattr(value, f.name, None)))
                for f in dataclasses.fields(value)
                if f.name != ASSUMED
            ]
            return (self.tell(type(value)), fields)
        if isinstance(value, _NAMESPACES):
            return (name, self.tell(vars(value)))
        if not _of_a_library(type(value)):
            slots = [s for kind in type(value).__mro__ for s in getattr(kind, "__slots__", ()) if hasattr(value, s)]
            slotted = [(s, self.tell(getattr(value, s))) for s in slots if isinstance(s, str) and s != "__dict__"]
            return (self.tell(type(value)), self.tell(getattr(value, "__dict__", {})), slotted)
        if callable(value) and hasattr(value, "__qualname__"):  # a function that is not written in Python
            return (str(getattr(value, "__module__", "")), value.__qualname__)
        if isinstance(value, np.ufunc):
            return (name, value.__name__)
        if isinstance(value, jax.custom_jvp | jax.custom_vjp):
            return (name, self.tell(value.fun))
        if not self._library:
            self.unseen.add(name)
        return name


def _words(value: Any) -> Any:
    """Keys of JAX as the numbers in them."""
    return jax.random.key_data(value) if jnp.issubdtype(value.dtype, jax.dtypes.prng_key) else value


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # of a name that is not bound yet
        return None


def _globals_of(function: types.FunctionType, code: types.CodeType) -> Iterator[tuple[str, Any]]:
    """What a function reads outside of it, by name: globals, and attributes of the modules among them."""
    known = function.__globals__
    instructions = list(dis.get_instructions(code))
    for i, step in enumerate(instructions):
        if step.opname not in ("LOAD_GLOBAL", "LOAD_NAME") or step.argval not in known:
            continue
        name, value = str(step.argval), known[step.argval]
        for following in instructions[i + 1 :]:
            attribute = following.opname in ("LOAD_ATTR", "LOAD_METHOD") and isinstance(value, types.ModuleType)
            if not attribute or not hasattr(value, following.argval):
                break
            name, value = f"{name}.{following.argval}", getattr(value, following.argval)
        yield name, value
    for inner in code.co_consts:
        if isinstance(inner, types.CodeType):
            yield from _globals_of(function, inner)
