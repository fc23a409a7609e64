"""Rewrite docs/mutations.md: every constant of every limit changed by a tenth, and whether a test notices.

python experiments/mutations.py [--only words …] [--untried] [--minutes 60] [--out docs/mutations.md]

Run by hand. Each change is made in a copy of the package, and the tests nearest to it are run until one fails. With
--only, and where the minutes are not enough, the other rows of the page stay as they are.
"""

import argparse
import contextlib
import datetime
import importlib
import os
import re
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from pathlib import Path

from mutants import MUTANTS
from mutants.base import Mutant

ROOT = Path(__file__).parent.parent
PYTEST = (
    *("-x", "-q", "-p", "no:xdist", "-p", "no:cacheprovider", "-m", "not thorough"),
    *("-W", "ignore::pytest.PytestAssertRewriteWarning"),
    *("-o", "addopts=--jaxtyping-packages=covsde,beartype.beartype --strict-markers"),
)
# What every test imports, imported once: of covsde, which changes, nothing is imported here.
SHARED = ("pytest", "hypothesis", "numpy", "scipy.stats", "scipy.integrate", "jax", "equinox", "diffrax")
NOBODY, UNTRIED = "**nothing**", "not tried"
_FAILED = re.compile(r"^(?:FAILED|ERROR) (tests/\S+?\.py::\w+)", re.MULTILINE)


def refuse_stale(mutants: tuple[Mutant, ...]) -> None:
    """Refuse to start unless every text occurs exactly once, and every change changes it."""
    wrong = []
    for m in mutants:
        count = (ROOT / "covsde" / m.file).read_text().count(m.old)
        if count != 1 or m.old == m.new:
            wrong.append(f"  {m.name}: {m.old!r} occurs {count} times in covsde/{m.file}")
    names = [m.name for m in mutants]
    wrong += [f"  {name}: two mutants have this name" for name in sorted({n for n in names if names.count(n) > 1})]
    if wrong:
        sys.exit(
            "mutations.py: these changes do not fit the package, correct experiments/mutants:\n" + "\n".join(wrong)
        )


def run(folder: Path, arguments: list[str]) -> str | None:
    """The first test that fails, None if all pass; an error if there are none."""
    log = folder / "log.txt"
    process = os.fork()
    if process == 0:
        try:
            os.chdir(folder)
            sys.path[:0] = [str(folder)]
            output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(output, 1)
            os.dup2(output, 2)
            code = int(importlib.import_module("pytest").main([*PYTEST, *arguments]))
            sys.stdout.flush()
        except BaseException:
            traceback.print_exc()
            code = 70
        os._exit(code)
    code, text = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), log.read_text()
    if code == 0:
        return None
    found = _FAILED.search(text)
    if code not in (1, 2) or found is None:
        sys.exit(f"mutations.py: pytest {' '.join(arguments)} ended with {code}:\n{text[-2000:]}")
    return found.group(1)


def arguments_of(spec: str) -> list[str]:
    """What pytest is given for "file" or "file:expression"."""
    file, _, expression = spec.partition(":")
    return [f"tests/test_{file}.py", *(["-k", expression] if expression else [])]


@contextlib.contextmanager
def changed(folder: Path, mutant: Mutant) -> Iterator[None]:
    """The copy with one constant changed."""
    path = folder / "covsde" / mutant.file
    original = path.read_text()
    path.write_text(original.replace(mutant.old, mutant.new))
    try:
        yield
    finally:
        path.write_text(original)


def notice(folder: Path, mutant: Mutant) -> str:
    """The test that notices a changed constant, or `NOBODY`."""
    with changed(folder, mutant):
        for spec in mutant.tests:
            failed = run(folder, arguments_of(spec))
            if failed is not None:
                return failed
    return NOBODY


def read_rows(page: Path) -> dict[str, str]:
    """What an existing page says about who notices which constant."""
    if not page.exists():
        return {}
    rows = (line.strip("| ").split(" | ") for line in page.read_text().splitlines() if line.startswith("| "))
    return {cells[0]: cells[2].strip("`") for cells in rows if len(cells) == 3}


def page_of(found: dict[str, str]) -> list[str]:
    """Markdown lines."""
    tried = [m for m in MUTANTS if found.get(m.name, UNTRIED) != UNTRIED]
    noticed = [m for m in tried if found[m.name] != NOBODY]
    lines = [
        "# Changed constants",
        "",
        "Rewritten by `experiments/mutations.py`; nothing here is typed by hand.",
        "",
        "Each constant of each limit is changed by a tenth in a copy of the package, one at a time, and the tests "
        "nearest to it are run: a test that fails has noticed. Tests that pass on the changed package would pass on a "
        "wrong limit.",
        "",
        f"**{len(noticed)} of {len(tried)} are noticed**"
        + (
            f"; {len(MUTANTS) - len(tried)} of {len(MUTANTS)} have not been tried."
            if len(tried) < len(MUTANTS)
            else "."
        ),
        "",
        "| constant | file | noticed first by |",
        "|---|---|---|",
    ]
    for m in MUTANTS:
        who = found.get(m.name, UNTRIED)
        lines.append(f"| {m.name} | `covsde/{m.file}` | {who if who in (NOBODY, UNTRIED) else f'`{who}`'} |")
    return [*lines, "", f"*Last changed {datetime.date.today()}.*", ""]


def main() -> None:
    """Try the mutants and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=[""], help="words: only constants whose name or file has one")
    parser.add_argument("--minutes", type=float, default=60.0, help="start no further one after so many")
    parser.add_argument("--untried", action="store_true", help="only constants that the page says nothing about")
    parser.add_argument("--check", action="store_true", help="only check that the changes fit the package")
    parser.add_argument("--out", default=str(ROOT / "docs" / "mutations.md"))
    options = parser.parse_args()
    refuse_stale(MUTANTS)
    if options.check:
        return
    out, start, found = Path(options.out), time.monotonic(), read_rows(Path(options.out))
    chosen = [m for m in MUTANTS if any(word in f"{m.name} {m.file}" for word in options.only)]
    if options.untried:
        chosen = [m for m in chosen if found.get(m.name, UNTRIED) == UNTRIED]
    # Some of every kind first, in case the minutes are not enough.
    chosen = [m for k in range(4) for m in chosen[k::4]]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for part in ("covsde", "tests", "experiments"):
            shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", folder)
        sys.dont_write_bytecode = True
        # Programs that a change leaves alone are compiled once. Read by JAX when it is imported.
        os.environ |= {
            "JAX_COMPILATION_CACHE_DIR": str(folder / "compiled"),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.2",
        }
        for name in SHARED:
            importlib.import_module(name)
        for mutant in chosen:
            if time.monotonic() - start > 60 * options.minutes:
                print("out of time")
                break
            began = time.monotonic()
            found[mutant.name] = notice(folder, mutant)
            print(f"{time.monotonic() - began:4.0f} s  {mutant.name}: {found[mutant.name]}", flush=True)
            written = out.with_suffix(".tmp")
            written.write_text("\n".join(page_of(found)))
            written.replace(out)
        # What fails in the copy as it stands has noticed nothing.
        noticed = sorted({found[m.name] for m in chosen if found.get(m.name, UNTRIED) not in (NOBODY, UNTRIED)})
        broken = run(folder, noticed) if noticed else None
        if broken is not None:
            sys.exit(f"mutations.py: {broken} fails without any change; {out} is not to be believed.")


if __name__ == "__main__":
    main()
