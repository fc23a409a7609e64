"""What the figure scripts share: their arguments, the look of a figure, and writing it with its data and its table."""

import argparse
import dataclasses
import json
import math
import os
import textwrap
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import covsde as cs

# From Okabe and Ito's palette; markers and line styles go with them, so that nothing rests on colour alone.
LIMIT, BLACK = "#0072B2", "#000000"
COLOURS = ("#D55E00", "#009E73", "#CC79A7", "#56B4E9")
MARKERS = "os^D"
BAND = (0.1, 0.5, 0.9)

plt.rcParams.update(
    {
        "font.size": 9.5,
        "axes.titlesize": 10.5,
        "axes.labelsize": 10,
        "legend.fontsize": 8,
        "legend.frameon": False,
        "figure.titlesize": 11,
    }
)


@dataclasses.dataclass(frozen=True)
class Settings:
    """What a run was asked for: sizes that were left out are those of the quick or of the full figure."""

    name: str
    quick: bool
    seed: int
    paths: int
    draws: int
    out: Path
    started: float

    def pick(self, quick: Any, full: Any) -> Any:
        """One of two sizes."""
        return quick if self.quick else full


def settings(
    file: str,
    doc: str | None,
    argv: Sequence[str] | None,
    *,
    paths: tuple[int, int] | None,
    draws: tuple[int, int] | None,
) -> Settings:
    """Read the arguments that every script understands.

    Args:
        file: `__file__` of the script, whose name the outputs take.
        doc: `__doc__` of the script; its first line is the description.
        argv: arguments, or None for those of the process.
        paths: paths of the limit in a quick and in a full run; None where the limit is deterministic.
        draws: networks of each size in a quick and in a full run; None where none are sampled.

    Returns:
        The settings, with the output folder made.
    """
    name = Path(file).stem
    parser = argparse.ArgumentParser(prog=f"{name}.py", description=(doc or "").splitlines()[0], allow_abbrev=False)
    parser.add_argument("--quick", action="store_true", help="fewer samples and smaller networks: under half a minute")
    parser.add_argument("--seed", type=int, default=0, help="(default: 0)")

    def size(pair: tuple[int, int] | None, what: str) -> str:
        return (
            f"refused here: {what} are not sampled"
            if pair is None
            else f"{what} (default: {pair[1]}, quick: {pair[0]})"
        )

    parser.add_argument("--paths", type=int, metavar="N", help=size(paths, "paths of the limit"))
    parser.add_argument("--draws", type=int, metavar="N", help=size(draws, "networks of each size"))
    parser.add_argument("--out", type=Path, default=Path("figures"), metavar="DIR", help="(default: figures)")
    args = parser.parse_args(argv)
    for option, pair in (("paths", paths), ("draws", draws)):
        given = getattr(args, option)
        if given is not None and pair is None:
            parser.error(f"--{option} has no meaning for {name}; drop it.")
        if given is not None and given < 2:
            parser.error(f"--{option} must be at least 2, got {given}: a spread takes two samples.")
    if not 0 <= args.seed < 2**31:
        parser.error(f"--seed must be an integer from 0 to 2147483647, got {args.seed}.")
    args.out.mkdir(parents=True, exist_ok=True)

    def chosen(given: int | None, pair: tuple[int, int] | None) -> int:
        return given if given is not None else 0 if pair is None else pair[0 if args.quick else 1]

    return Settings(
        name=name,
        quick=args.quick,
        seed=args.seed,
        paths=chosen(args.paths, paths),
        draws=chosen(args.draws, draws),
        out=args.out,
        started=time.perf_counter(),
    )


def key(run: Settings, *parts: int) -> jax.Array:
    """A random key of its own for one simulation of a script, numbered by `parts`."""
    k = jax.random.key(run.seed)
    for part in parts:
        k = jax.random.fold_in(k, part)
    return k


def panels(rows: int, columns: int, *, width: float = 4.5, height: float = 3.7, **more: Any) -> tuple[Figure, Any]:
    """A figure that lays itself out, and its axes with a light grid."""
    figure, axes = plt.subplots(
        rows, columns, figsize=(width * columns, height * rows + 0.8), layout="constrained", **more
    )
    plt.close(figure)  # it lives on here, not in pyplot
    for ax in np.ravel(axes):
        ax.grid(alpha=0.25, linewidth=0.6)
        ax.spines[["top", "right"]].set_visible(False)
    return figure, axes


def shades(count: int) -> list[Any]:
    """Colours for an ordered family, from dark to light, that stay ordered in grey."""
    return [plt.get_cmap("viridis")(x) for x in np.linspace(0.0, 0.82, count)]


def quantiles(values: Any, q: Sequence[float] = BAND) -> np.ndarray:
    """Quantiles over the last axis, (len(q), ...): +∞ is larger than anything, NaN is left out."""
    values = np.asarray(values, np.float64)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "All-NaN slice", RuntimeWarning)  # the answer is NaN, as it should be
        return np.asarray(np.nanquantile(values, q, axis=-1, method="inverted_cdf"))


def band(ax: Axes, x: Any, values: Any, colour: str, label: str, *, linestyle: str = "-", alpha: float = 0.2) -> None:
    """Median line and 10–90% band of values (x, samples)."""
    low, middle, high = quantiles(values)
    ax.fill_between(x, low, high, color=colour, alpha=alpha, linewidth=0, label=f"{label}, 10–90%")
    ax.plot(x, middle, color=colour, linestyle=linestyle, linewidth=1.8, label=f"{label}, median")


def bars(ax: Axes, x: Any, values: Any, which: int, label: str, *, shift: float = 0.0, most: int = 11) -> None:
    """Medians with 10–90% bars of values (x, samples) at up to `most` places, in the style of networks number which."""
    low, middle, high = quantiles(values)
    x = np.asarray(x, np.float64)
    shown = np.unique(np.linspace(0, x.size - 1, min(x.size, most)).round().astype(int))
    shown = shown[np.isfinite(middle[shown]) & np.isfinite(low[shown])]
    ax.errorbar(
        x[shown] + shift,
        middle[shown],
        yerr=np.stack([middle - low, np.where(np.isfinite(high), high - middle, np.nan)])[:, shown],
        fmt=MARKERS[which],
        color=COLOURS[which],
        markersize=4,
        elinewidth=1,
        capsize=2,
        label=f"{label}, median and 10–90%",
    )


def histogram(ax: Axes, samples: Any, bins: Any, *, fill: bool = False, **style: Any) -> None:
    """Density of samples, normalised over all of them: those outside the bins or failed are missing from the area."""
    samples = np.ravel(np.asarray(samples, np.float64))
    density = np.histogram(samples[np.isfinite(samples)], bins)[0] / samples.size / np.diff(bins)
    if fill:
        ax.stairs(density, bins, fill=True, alpha=0.25, color=style.get("color"))
    ax.stairs(density, bins, **{"linewidth": 1.4, **style})


def stopped(*ensembles: Any) -> str:
    """How many paths of ensembles stopped, for a caption: "none stopped", "2 EXPLODED, 1 NOT_FINITE"."""
    counts: dict[str, int] = {}
    for e in ensembles:
        for status, number in e.failures.items():
            counts[status] = counts.get(status, 0) + number
    return ", ".join(f"{n} {status}" for status, n in counts.items() if status != "total" and n) or "none stopped"


def mean(samples: Any) -> tuple[float, float]:
    """Mean of samples and its standard error."""
    samples = np.ravel(np.asarray(samples, np.float64))
    return float(samples.mean()), float(samples.std(ddof=1) / math.sqrt(samples.size))


def share(hits: Any) -> tuple[float, float]:
    """Share of true values and its binomial standard error."""
    hits = np.ravel(np.asarray(hits, bool))
    p = float(hits.mean())
    return p, math.sqrt(p * (1 - p) / hits.size)


def teacher(trained: int, tested: int, seed: int, dimensions: int = 8) -> tuple[np.ndarray, np.ndarray]:
    """A regression to learn: the Gram matrix of Gaussian inputs, those of training first, and targets x₁ + (x₂² - 1)/2.

    Returns:
        V0 (M, M) and targets (M,), M = trained + tested.
    """
    x = np.random.default_rng(seed).standard_normal((trained + tested, dimensions))
    return cs.gram(x), x[:, 0] + (x[:, 1] ** 2 - 1) / 2


def ticks(ax: Axes, x: Sequence[float]) -> None:
    """Name these points of a logarithmic horizontal axis and no others."""
    ax.set_xticks(x, [f"{value:g}" for value in x])
    ax.set_xticks([], minor=True)


def replace(target: Path, save: Callable[[Path], Any]) -> None:
    """Save beside the target and move it there, so that an interrupted run leaves no half of a file."""
    temporary = target.with_name(f".{os.getpid()}-{target.name}")
    try:
        save(temporary)
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def write(
    run: Settings,
    figure: Figure,
    arrays: Mapping[str, Any],
    *,
    caption: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[Any]],
    parameters: Mapping[str, Any],
) -> int:
    """Write NAME.png, .pdf, .npz and .json into the output folder, and print the table.

    Args:
        run: settings of the run.
        figure: the figure; the caption is set below it.
        arrays: what the figure draws.
        caption: what the reader has to know, failures included.
        columns: heads of the table.
        rows: its rows: text, numbers, or pairs (value, standard error).
        parameters: of the architectures, for the .json file.

    Returns:
        0, the exit status of the script.
    """
    lines = textwrap.fill(caption, int(15.5 * figure.get_figwidth()))
    figure.supxlabel(lines, fontsize=8, x=0.01, ha="left", color="#333333")
    for suffix in ("png", "pdf"):
        # Without the date two runs of one seed write the same bytes.
        plain = {"metadata": {"CreationDate": None}} if suffix == "pdf" else {}
        replace(run.out / f"{run.name}.{suffix}", lambda path, plain=plain: figure.savefig(path, dpi=160, **plain))
    replace(run.out / f"{run.name}.npz", lambda path: np.savez_compressed(path, **arrays))
    record = {
        "figure": run.name,
        "caption": caption,
        "parameters": dict(parameters),
        "quick": run.quick,
        "seed": run.seed,
        "paths": run.paths,
        "draws": run.draws,
        "table": {"columns": list(columns), "rows": [list(row) for row in rows]},
        "seconds": round(time.perf_counter() - run.started, 1),
        "versions": {"covsde": cs.__version__, "jax": jax.__version__, "numpy": np.__version__},
    }
    text = json.dumps(_plain(record), indent=1, ensure_ascii=False, allow_nan=False)
    replace(run.out / f"{run.name}.json", lambda path: path.write_text(text + "\n", encoding="utf-8"))
    print("| " + " | ".join(columns) + " |")
    print("|" + "---|" * len(columns))
    for row in rows:
        print("| " + " | ".join(map(_cell, row)) + " |")
    print(f"{caption}\nWritten to {run.out / run.name}.png, .pdf, .npz, .json in {record['seconds']} s.", flush=True)
    return 0


def _cell(x: Any) -> str:
    if isinstance(x, tuple):
        digits = 4 if not x[1] > 0 else min(6, max(0, 1 - math.floor(math.log10(x[1]))))
        return f"{x[0]:.{digits}f} ± {x[1]:.{digits}f}"
    if isinstance(x, float | np.floating):
        return f"{x:.4g}"
    return str(x)


def _plain(x: Any) -> Any:
    """The same for JSON, which has no infinities: NaN as null, ±∞ as text."""
    if isinstance(x, Mapping):
        return {str(k): _plain(v) for k, v in x.items()}
    if isinstance(x, np.ndarray | list | tuple):
        return [_plain(v) for v in x]
    if isinstance(x, np.generic):
        return _plain(x.item())
    if isinstance(x, float) and not math.isfinite(x):
        return None if math.isnan(x) else str(x)
    return x
