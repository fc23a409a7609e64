"""Scale the quick figures down for the gallery: python docs/thumbnails.py [--figures figures] [--out docs/figures]."""

import argparse
import json
import sys
from pathlib import Path

from PIL import Image

OUT = Path(__file__).resolve().parent / "figures"
WIDTH, COLOURS = 1100, 128


def shrink(source: Path, target: Path) -> None:
    """A palette PNG of WIDTH pixels at most."""
    with Image.open(source) as image:
        plain = Image.new("RGB", image.size, "white")
        plain.paste(image, mask=image.getchannel("A") if image.mode == "RGBA" else None)
    plain.thumbnail((WIDTH, 10 * WIDTH), Image.Resampling.LANCZOS)
    # Of Pillow's palettes this one keeps the colours of thin lines, and so the legends true.
    palette = plain.quantize(COLOURS, method=Image.Quantize.MAXCOVERAGE, kmeans=2, dither=Image.Dither.NONE)
    palette.save(target, optimize=True)


def main(argv: list[str] | None = None) -> int:
    """Shrink every figure whose record says that it was a quick run, and say which were left out."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None, allow_abbrev=False)
    parser.add_argument("--figures", type=Path, default=Path("figures"), metavar="DIR", help="(default: figures)")
    parser.add_argument("--out", type=Path, default=OUT, metavar="DIR", help="(default: docs/figures)")
    args = parser.parse_args(argv)
    args.out.mkdir(exist_ok=True)
    records = sorted(args.figures.glob("*.json"))
    if not records:
        print(f"no figures in {args.figures}: run make figures first.", file=sys.stderr)
        return 1
    for record in records:
        source = record.with_suffix(".png")
        if not json.loads(record.read_text())["quick"]:
            # The page says that its pictures are quick runs.
            print(f"left out {source}: not a quick run; draw it again with --quick.", file=sys.stderr)
            continue
        target = args.out / source.name
        shrink(source, target)
        print(f"{target} ({target.stat().st_size / 1000:.0f} kB)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
