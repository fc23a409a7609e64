"""Rewrite docs/validation.md: every number of the package that can be checked, checked.

python experiments/validate.py [--quick] [--only initialization networks …] [--out docs/validation.md]

With --only, the other sections of the page stay as they are; each says when and with what it was computed. The page
ends with the distribution of all its z-scores, whichever sections were computed: `--only z_scores` writes that alone.
"""

import argparse
import datetime
import importlib
import re
import time
from pathlib import Path

from validation.z_scores import section_of

from covsde.results.files import atomic_write
from covsde.run.metadata import versions

SECTIONS = (
    "initialization",
    "networks",
    "unshaped",
    "outputs",
    "posterior",
    "gradients",
    "velocities",
    "feature_learning",
    "many_updates",
    "training_in_general",
    "resnet",
    "trained_resnet",
    "mean_field",
    "scaling",
    "transformer",
    "property_sweep",
)
LAST = "z_scores"
_MARK = re.compile(r"<!-- section (\w+) -->\n")


def read_sections(page: Path) -> dict[str, str]:
    """The sections of an existing page by name."""
    if not page.exists():
        return {}
    pieces = _MARK.split(page.read_text())
    return {name: text.strip() for name, text in zip(pieces[1::2], pieces[2::2], strict=True)}


def write(out: Path, sections: dict[str, str]) -> None:
    """Write the page."""
    page = ["# Validation", "", "Rewritten by `make validate`; nothing here is typed by hand.", ""]
    for known in (*SECTIONS, LAST):
        if known in sections:
            page += [f"<!-- section {known} -->", "", sections[known], ""]
    with atomic_write(out) as temporary:
        Path(temporary).write_text("\n".join(page))


def main() -> None:
    """Run the sections asked for and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default="docs/validation.md")
    parser.add_argument("--quick", action="store_true", help="a tenth of the samples")
    parser.add_argument("--only", nargs="+", choices=(*SECTIONS, LAST), default=SECTIONS, help="some sections only")
    options = parser.parse_args()
    out = Path(options.out)
    for name in options.only:
        if name == LAST:
            continue
        start = time.perf_counter()
        lines = importlib.import_module(f"validation.{name}").section(10 if options.quick else 1)
        seconds = time.perf_counter() - start
        made = ", ".join(f"{k} {v}" for k, v in versions().items())
        size = ", a tenth of the samples" if options.quick else ""
        footer = f"*Computed {datetime.date.today()} in {seconds:.0f} s{size}: {made}.*"
        # Read just before writing, so that sections may be computed side by side.
        write(out, read_sections(out) | {name: "\n".join([*lines, "", footer])})
        print(f"{name}: {seconds:.0f} s", flush=True)
    sections = {name: text for name, text in read_sections(out).items() if name != LAST}
    figure = out.parent / "figures" / "validation_z.png"
    figure.parent.mkdir(exist_ok=True)
    write(out, sections | {LAST: "\n".join(section_of(sections, figure))})
    print(f"wrote {out}")


if __name__ == "__main__":
    main()
