"""Settings for the whole suite: double precision, and nothing broadcast or promoted by accident."""

import os
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import jax
import pytest

os.environ["MPLBACKEND"] = "Agg"  # before anything imports matplotlib
# Before anything is computed. Most of the time goes into compiling programs that run once: LLVM's first level of
# optimization takes a fifth off the suite. test_miscompilation asks for the level that users have.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=1")

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")

# The same examples on every run, and no deadline: a first call compiles.
hypothesis.settings.register_profile("covsde", derandomize=True, deadline=None, max_examples=25)
hypothesis.settings.load_profile("covsde")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark what takes long beside a quicker test of the same kind; an entry that names no test is refused."""
    lines = (Path(__file__).parent / "thorough.txt").read_text().splitlines()
    listed = {line for line in lines if line and not line.startswith("#")}
    found = set()
    for item in items:
        name = item.nodeid.removeprefix("tests/")
        matching = {entry for entry in listed if name == entry or name.startswith(f"{entry}[")}
        found |= matching
        if matching:
            item.add_marker("thorough")
    files = {item.nodeid.split("::")[0].removeprefix("tests/") for item in items}
    selected = any("::" in argument for argument in config.args)
    unknown = {entry for entry in listed - found if entry.split("::")[0] in files}
    if unknown and not selected:
        raise pytest.UsageError(f"tests/thorough.txt names no test: {', '.join(sorted(unknown))}")


@pytest.fixture(scope="module", autouse=True)
def _room_for_compiled_programs() -> Iterator[None]:
    """Forget compiled programs before they are too many for one process.

    Each keeps about twenty memory maps or more; Linux allows a process 65530, and beyond them XLA crashes.
    """
    yield
    maps = Path("/proc/self/maps")
    if maps.exists() and maps.read_text().count("\n") > 30_000:
        jax.clear_caches()
