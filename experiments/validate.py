"""Rewrite docs/validation.md: every number of the package that can be checked, checked.

python experiments/validate.py [--quick] [--only initialization networks …] [--out docs/validation.md]
"""

import argparse
import importlib
import time
from pathlib import Path

from covsde._files import atomic_write
from covsde.simulate import versions

SECTIONS = ("initialization", "networks", "unshaped", "outputs")


def main() -> None:
    """Run every section and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default="docs/validation.md")
    parser.add_argument("--quick", action="store_true", help="a tenth of the samples")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=SECTIONS, help="some sections only")
    options = parser.parse_args()
    began = time.perf_counter()
    page = ["# Validation", "", "Rewritten by `make validate`; nothing here is typed by hand.", ""]
    page.append("Versions: " + ", ".join(f"{k} {v}" for k, v in versions().items()) + ".")
    for name in options.only:
        start = time.perf_counter()
        page += ["", *importlib.import_module(f"validation.{name}").section(10 if options.quick else 1)]
        print(f"{name}: {time.perf_counter() - start:.0f} s", flush=True)
    page += ["", f"Computed in {time.perf_counter() - began:.0f} s."]
    with atomic_write(Path(options.out)) as temporary:
        Path(temporary).write_text("\n".join(page) + "\n")
    print(f"wrote {options.out}")


if __name__ == "__main__":
    main()
