"""A bare install, without extras, imports and simulates; what it needs is what `pyproject.toml` declares."""

import ast
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
# The names under which packages are imported, where they are not their own.
IMPORTED = {"scikit-learn": "sklearn"}


def imported_names(requirements: list[str]) -> set[str]:
    """The packages of a list of requirements, as they are imported."""
    names = {re.split(r"[<>=!\[; ]", requirement)[0] for requirement in requirements}
    return {IMPORTED.get(name, name) for name in names} - {"covsde"}


NEEDED = imported_names(PROJECT["dependencies"])
EXTRAS = {name for extra in PROJECT["optional-dependencies"].values() for name in imported_names(extra)} - NEEDED

SCRIPT = """
import sys
for name in {extras}:
    sys.modules[name] = None  # an import of it fails, as if it were not installed
import numpy as np
import covsde as cs
mlp = cs.MLP(cs.ShapedReLU(0.0, -1.0), depth_to_width=0.5)
limit = cs.simulate(mlp, np.eye(2), paths=32)
networks = cs.sample_networks(mlp, np.eye(2), width=8, draws=32)
assert "median" in str(cs.compare(limit, networks)) or "mean" in str(cs.compare(limit, networks))
try:
    cs.compare(limit, networks).plot()
except ImportError as error:
    print(error)
"""


def test_a_bare_install_imports_and_simulates_and_says_what_a_figure_needs() -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "XLA_FLAGS": ""}
    command = [sys.executable, "-c", SCRIPT.format(extras=sorted(EXTRAS))]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == 'Figures need matplotlib; install it with: pip install "covsde[plot]".'


def test_what_the_library_imports_at_once_is_a_declared_dependency() -> None:
    found = set()
    for path in (ROOT / "covsde").rglob("*.py"):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                found.add(str(node.module).split(".")[0])
    assert found - set(sys.stdlib_module_names) - {"covsde"} <= NEEDED
