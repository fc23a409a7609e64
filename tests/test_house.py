"""The rules of the house, read off the sources; `pytest tests/test_house.py -s -n 0` prints where every rule stands.

A rule has exceptions only in KNOWN, each with its reason. An exception that is no longer needed fails as a new fault
does: take it out of the table, which is meant to shrink.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FILE, FUNCTION, PARAMETERS, LOOSE = 400, 80, 8, 8
# From the top down; rooms of one floor do not see each other. What is left of the package is its front.
FLOORS = (
    ("cli", "testing"),
    ("extend", "scaling"),
    ("drivers",),
    ("architectures",),
    ("comparison", "run"),
    ("results",),
    ("solvers", "descent"),
    ("covariance",),
    ("moments", "activations", "spectra", "transfer"),
    ("inputs",),
    ("numerics",),
)
FRONT = {"covsde", "covsde.__main__", "covsde._command", "covsde._moved"}
OPTIONAL = {
    "matplotlib",
    "tqdm",
    "scipy.stats",
    "mpmath",
    "importlib.metadata",
    "arviz_stats",
}  # heavy, or not installed everywhere
HYPERPARAMETERS = {"blocks", "attention"}  # of a family; no equations
MATCHMAKERS = {
    "covsde.architectures.matching",
    "covsde.architectures.registry",
    "covsde.extend",
    "covsde.scaling",
}
RECORDS = {"PathRecord", "Record"}

TASK = "minibatches of data and labels: room for the Task of training once that has batches"
PLAN = "a question of one family: a driver that lives with it"
DRIVER = "the docstring and the arguments of a public function, beside its checks and its record"
KNOWN: dict[str, dict[str, tuple[str, ...]]] = {
    "an import circle": {},
    "an import inside a function": {
        "only `covsde doctor` computes anything while it is imported": ("covsde.cli: covsde.cli.doctor",),
        "results need NumPy alone, until a function of one matrix asks for vmap": ("covsde.results.ensemble: jax",),
    },
    "a module knows a family that is not its own": {
        "what it checks is a simulation of an MLP": ("covsde.cli.doctor: covsde.architectures.mlp.architecture",),
    },
    "a driver knows more of architectures than base": {},
    f"more than {PARAMETERS} parameters": {
        TASK: ("covsde.transfer.network:train_scaled",),
        PLAN: (
            "covsde.architectures.mlp.unshaped.simulate:first_order_chain",
            "covsde.architectures.mlp.unshaped.simulate:sample_unshaped_networks",
            "covsde.architectures.mlp.unshaped.simulate:simulate_unshaped",
        ),
    },
    f"a function of more than {FUNCTION} lines": {
        DRIVER: (
            "covsde.drivers.fluctuations:fluctuations",
            "covsde.drivers.simulate:simulate",
            "covsde.drivers.train:train",
            "covsde.drivers.train:train_networks",
        ),
    },
}


def _read() -> dict[str, ast.Module]:
    """Every module of the library, by its dotted name."""
    paths = sorted((ROOT / "covsde").rglob("*.py"))
    names = (".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in paths)
    return dict(zip(names, (ast.parse(path.read_text()) for path in paths), strict=True))


TREES = _read()


def _imported(node: ast.AST) -> set[str]:
    """What an import names: modules of the library where they are some, else what is written."""
    if isinstance(node, ast.Import):
        return {alias.name for alias in node.names}
    if isinstance(node, ast.ImportFrom):
        assert node.level == 0, "imports name their module in full"
        whole = {f"{node.module}.{alias.name}" for alias in node.names}
        return {name if name in TREES or name in OPTIONAL else str(node.module) for name in whole}
    return set()


EDGES = {
    name: {other for node in ast.walk(tree) for other in _imported(node) if other in TREES and other != name}
    for name, tree in TREES.items()
}
NAMED = [(a, b) for a, others in EDGES.items() for b in sorted(others) if a not in FRONT]


def _functions(tree: ast.AST, prefix: str = "") -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    for node in ast.iter_child_nodes(tree):
        function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        if function:
            yield prefix + node.name, node
        yield from _functions(node, f"{prefix}{node.name}." if function or isinstance(node, ast.ClassDef) else prefix)


FUNCTIONS = [(f"{name}:{where}", node) for name, tree in TREES.items() for where, node in _functions(tree)]


def _floor(name: str) -> int:
    room = name.split(".")[1] if "." in name else "covsde"
    found = [number for number, rooms in enumerate(FLOORS) if room in rooms]
    assert found, f"{name} lies on no floor: put its room into FLOORS."
    return found[0]


def _family(name: str) -> str:
    """The folder in architectures/ that a module lies in; "" for one that is no family's."""
    parts = name.split(".")
    folder = ".".join(parts[:3])
    inside = parts[1:2] == ["architectures"] and any(other.startswith(f"{folder}.") for other in TREES)
    return parts[2] if inside and len(parts) > 2 else ""


def _upward() -> Iterator[str]:
    for a, b in NAMED:
        front = b in FRONT and _floor(a) > 0
        if front or (b not in FRONT and _floor(b) <= _floor(a) and a.split(".")[1] != b.split(".")[1]):
            yield f"{a}: {b}"


def _circles() -> Iterator[str]:
    """The modules that lie on a circle, one line per circle."""
    reach = {a: set(others) for a, others in EDGES.items()}
    for middle in reach:
        for a in reach:
            if middle in reach[a]:
                reach[a] |= reach[middle]
    yield from {" ".join(sorted(b for b in reach[a] if a in reach[b])) for a in reach if a in reach[a]}


def _inner_imports() -> Iterator[str]:
    for where, function in FUNCTIONS:
        for other in {other for node in ast.walk(function) for other in _imported(node)}:
            if not any(other == name or other.startswith(f"{name}.") for name in OPTIONAL):
                yield f"{where.split(':')[0]}: {other}"


def _strangers() -> Iterator[str]:
    for a, b in NAMED:
        if _family(b) and _family(b) != _family(a) and a not in MATCHMAKERS and not a.startswith("covsde.drivers"):
            yield f"{a}: {b}"


def _drivers() -> Iterator[str]:
    for a, b in NAMED:
        if a.startswith("covsde.drivers") and b.startswith("covsde.architectures") and b != "covsde.architectures.base":
            yield f"{a}: {b}"


def _equations() -> Iterator[str]:
    for a, b in NAMED:
        own = _family(b) and ".network" not in b and b.split(".")[-1] not in HYPERPARAMETERS
        if ".network" in a and _family(a) and (own or b.startswith(("covsde.covariance", "covsde.moments"))):
            yield f"{a}: {b}"


def _wide() -> Iterator[str]:
    for where, node in FUNCTIONS:
        count = len(node.args.posonlyargs) + len(node.args.args) + len(node.args.kwonlyargs)
        if count > PARAMETERS and node.name != "__init__" and not where.startswith("covsde.drivers"):
            yield where


def _long() -> Iterator[str]:
    for where, node in FUNCTIONS:
        if node.end_lineno is not None and node.end_lineno - node.lineno + 1 > FUNCTION:
            yield where


def _long_files() -> Iterator[str]:
    for path in (ROOT / "covsde").rglob("*.py"):
        if len(path.read_text().splitlines()) > FILE:
            yield ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def _results() -> Iterator[str]:
    for name, tree in TREES.items():
        if name.startswith("covsde.results") or name.endswith(".unshaped.ensemble"):
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef) and RECORDS & {ast.unparse(base).split(".")[-1] for base in node.bases}:
                yield f"{name}:{node.name}"


def _loose() -> Iterator[str]:
    loose = sorted(path.name for path in (ROOT / "covsde").glob("*.py"))
    yield from loose if len(loose) > LOOSE else ()


RULES = {
    "an import goes up, or sideways": _upward,
    "an import circle": _circles,
    "an import inside a function": _inner_imports,
    "a module knows a family that is not its own": _strangers,
    "a driver knows more of architectures than base": _drivers,
    "a finite network imports an equation": _equations,
    f"more than {PARAMETERS} parameters": _wide,
    f"a function of more than {FUNCTION} lines": _long,
    f"a file of more than {FILE} lines": _long_files,
    "a result class away from results": _results,
    f"more than {LOOSE} modules loose in the root": _loose,
}


@pytest.mark.parametrize("rule", RULES)
def test_the_house_keeps_its_rules(rule: str) -> None:
    reasons = {where: reason for reason, places in KNOWN.get(rule, {}).items() for where in places}
    found = set(RULES[rule]())
    new, needless = sorted(found - set(reasons)), sorted(set(reasons) - found)
    lines = [f"{rule}: {len(found)}, {len(reasons)} of them known"]
    for reason, places in KNOWN.get(rule, {}).items():
        lines += [f"  known: {reason}", *(f"    {where}" for where in places)]
    lines += [f"  NEW: {where}" for where in new]
    lines += [f"  NO LONGER NEEDED, take it out of KNOWN: {where}" for where in needless]
    table = "\n".join(lines)
    print(f"\n{table}")
    assert not new + needless, table


def test_exceptions_belong_to_a_rule() -> None:
    assert set(KNOWN) <= set(RULES)
