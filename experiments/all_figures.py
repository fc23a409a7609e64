"""Draw every figure of this folder, one script after the other, and say which failed.

python experiments/all_figures.py [--quick] [--seed 0] [--only NAME …] [--out figures]
"""

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
# The demo has a target of its own, and what is left is not a figure.
NOT_FIGURES = {"all_figures", "common", "demo_digits", "mutations", "validate"}
WRITTEN = ("png", "pdf", "npz", "json")


def scripts() -> list[str]:
    """Names of the scripts that draw a figure."""
    return sorted(path.stem for path in HERE.glob("*.py") if path.stem not in NOT_FIGURES)


def draw(name: str, options: list[str], out: Path) -> str:
    """Run one script; why it failed, or nothing."""
    began = time.time()
    root = HERE.parent
    # The package of this checkout, also where none is installed.
    path = os.pathsep.join(filter(None, (str(root), os.environ.get("PYTHONPATH"))))
    done = subprocess.run(
        [sys.executable, str(HERE / f"{name}.py"), *options, "--out", str(out)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": path},
    )
    print(done.stdout.rstrip(), flush=True)
    if done.returncode:
        print(done.stderr.rstrip(), file=sys.stderr, flush=True)
        return f"exit status {done.returncode}"
    files = [out / f"{name}.{suffix}" for suffix in WRITTEN]
    missing = [file.name for file in files if not file.exists() or file.stat().st_mtime < began - 1]
    return f"did not write {', '.join(missing)}" if missing else ""


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--quick", action="store_true", help="reduced sizes: all within a quarter of an hour")
    parser.add_argument("--seed", type=int, default=0, help="(default: 0)")
    parser.add_argument("--only", nargs="+", choices=scripts(), metavar="NAME", help="some of the figures")
    parser.add_argument("--out", type=Path, default=Path("figures"), metavar="DIR", help="(default: figures)")
    args = parser.parse_args(argv)
    args.out.mkdir(parents=True, exist_ok=True)
    names = args.only or scripts()
    options = ["--seed", str(args.seed), *(["--quick"] if args.quick else [])]
    failures, began = {}, time.perf_counter()
    for k, name in enumerate(names, 1):
        print(f"[{k}/{len(names)}] {name} ...", flush=True)
        start = time.perf_counter()
        why = draw(name, options, args.out)
        if why:
            failures[name] = why
        print(f"    {why or 'done'}, {time.perf_counter() - start:.0f} s\n", flush=True)
    print(
        f"{len(names) - len(failures)} of {len(names)} figures in {time.perf_counter() - began:.0f} s, in {args.out}."
    )
    for name, why in failures.items():
        print(f"failed: {name}: {why}", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
