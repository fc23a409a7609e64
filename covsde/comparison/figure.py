"""Figures; matplotlib is imported only when one is drawn."""

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from covsde.comparison.text import failure_text, size_text
from covsde.results.estimate import quantiles
from covsde.results.files import atomic_write, checked_path
from covsde.results.quantity import Curve, Quantity, name_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's palette, which colour-blind readers can tell apart.
LIMIT_COLOUR = "#0072B2"
COLOURS = ("#D55E00", "#009E73", "#CC79A7", "#000000", "#E69F00", "#56B4E9")
_MARKERS = "os^Dv*"
_MOST_MARKERS = {1: 11}  # by number of networks; 6, every other tenth, for more


def plot_comparison(
    limit: Any,
    networks: Sequence[Any],
    quantities: Sequence[Quantity],
    title: str | None = None,
    path: str | os.PathLike[str] | None = None,
) -> "Figure":
    """Draw a limit and finite networks along layer time, or over training, and in law at the end.

    Medians with 10-90% bands are on top, densities at the end below.

    Args:
        limit: The reference.
        networks: Results of the same kind.
        quantities: The columns, for ensembles the correlation of the most and of the least similar pair of inputs and
            the log-variance of input 0.
        title: First line of the title; by default the architecture and depth-to-width ratio.
        path: Where to save the figure, if anywhere; its suffix chooses the format (PNG without one).

    Returns:
        The figure. Jupyter shows it as a cell's value; elsewhere save it.

    Raises:
        ImportError: If matplotlib is not installed.
        OSError: If `path` cannot be written.
    """
    try:
        import matplotlib.pyplot as plt
    except ImportError as e:
        raise ImportError('Figures need matplotlib; install it with: pip install "covsde[plot]".') from e

    results = (limit, *networks)
    figure, axes = plt.subplots(
        2,
        len(quantities),
        figsize=(max(4.1 * len(quantities) + 0.6, 6.5), 7.4),
        squeeze=False,
        layout="constrained",
    )
    plt.close(figure)  # pyplot would otherwise keep it, and Jupyter show it twice
    for column, quantity in enumerate(quantities):
        along, law = axes[:, column]
        axis, symbol = quantity.axis, quantity.symbol
        _draw_curves(along, results, quantity.curve)
        along.set(title=quantity.heading, xlabel=axis.name, ylabel=symbol)
        if axis.integer:
            along.xaxis.get_major_locator().set_params(integer=True)
        _draw_densities(law, results, quantity.curve)
        law.set(xlabel=f"{symbol}  at {axis.at(quantity.curve(limit).x[-1])}", ylabel="density")
    for ax in axes.flat:
        ax.grid(alpha=0.25, linewidth=0.6)
        ax.spines[["top", "right"]].set_visible(False)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(
        handles,
        labels,
        loc="outside lower center",
        ncols=min(len(quantities), len(results)),
        frameon=False,
    )
    figure.suptitle(_title(results, title, most=68 if len(quantities) == 1 else 45 * len(quantities)), fontsize=11)
    if path is not None:
        kind = checked_path("path", path, "comparison.png").suffix[1:].lower()
        known = sorted(figure.canvas.get_supported_filetypes())
        if kind and kind not in known:
            raise ValueError(f"path must end in one of {', '.join(known)}, got {os.fspath(path)!r}.")
        with atomic_write(path) as temporary:
            figure.savefig(temporary, dpi=160, format=kind or "png")
    return figure


def _draw_curves(ax: "Axes", results: Sequence[Any], curve: Callable[[Any], Curve]) -> None:
    limit, *networks = results
    x, *_ = along = curve(limit)
    low, middle, high = _bands(along)
    if limit.deterministic:
        ax.plot(x, middle, color=LIMIT_COLOUR, linewidth=2, label=f"{name_of(limit, figure=True)} (deterministic)")
    else:
        band = f"{name_of(limit, figure=True)}, 10–90%"
        ax.fill_between(x, low, high, color=LIMIT_COLOUR, alpha=0.22, linewidth=0, label=band)
        ax.plot(x, middle, color=LIMIT_COLOUR, linewidth=2, label=f"{name_of(limit, figure=True)}, median")
    count = len(networks)
    most = _MOST_MARKERS.get(count, 6)
    apart = min(0.014, 0.05 / count) * float(x[-1] - x[0])
    for k, network in enumerate(networks):
        x, *_ = along = curve(network)
        low, middle, high = _bands(along)
        shown = np.unique(np.linspace(0, x.size - 1, min(x.size, most)).round().astype(int))
        shown = shown[np.isfinite(middle[shown])]
        offset = (k - (count - 1) / 2) * apart
        upper = np.where(np.isfinite(high), high - middle, np.nan)
        ax.errorbar(
            x[shown] + offset,
            middle[shown],
            yerr=np.stack([middle - low, upper])[:, shown],
            fmt=_MARKERS[k % len(_MARKERS)],
            color=COLOURS[k % len(COLOURS)],
            markersize=4.5,
            elinewidth=1,
            capsize=2,
            label=f"{name_of(network, figure=True)}, median and 10–90%",
        )


def _draw_densities(ax: "Axes", results: Sequence[Any], curve: Callable[[Any], Curve]) -> None:
    samples = [curve(e).values[-1] for e in results]
    finite = [x[np.isfinite(x)] for x in samples]
    pooled = np.concatenate(finite)
    if pooled.size:
        low, high = _window(pooled)
        fewest = min([x.size for e, x in zip(results, finite, strict=True) if not e.deterministic], default=0)
        bins = np.linspace(low, high, int(np.clip(2 * np.cbrt(max(fewest, 1)), 12, 60)) + 1)
        for k, x in enumerate(finite):
            if results[k].deterministic:
                for point in x:
                    ax.axvline(float(point), color=LIMIT_COLOUR, linewidth=2)
                continue
            # Over all values, so that tails beyond the axis do not inflate the rest.
            density = np.histogram(x, bins)[0] / max(x.size, 1) / (bins[1] - bins[0])
            colour = LIMIT_COLOUR if k == 0 else COLOURS[(k - 1) % len(COLOURS)]
            if k == 0:
                ax.stairs(density, bins, color=colour, alpha=0.3, fill=True)
            ax.stairs(density, bins, color=colour, linewidth=2 if k == 0 else 1.3)
        ax.set_xlim(low, high)
    ax.set_ylim(bottom=0)
    notes = [
        f"{x.size - y.size} of {x.size}: {name_of(e, figure=True)}"
        for e, x, y in zip(results, samples, finite, strict=True)
        if y.size < x.size
    ]
    if notes:
        ax.set_ylim(top=ax.get_ylim()[1] * (1.12 + 0.09 * len(notes)))  # room above the curves
        text = "not shown (stopped or not finite):\n" + "\n".join(notes)
        ax.text(0.02, 0.985, text, transform=ax.transAxes, va="top", fontsize=7.5, color="#444444")


def _bands(along: Curve) -> tuple[NDArray[np.float64], ...]:
    bands = quantiles(along.values, np.array([0.1, 0.5, 0.9])).value  # the figure states the counts
    # A band over the survivors of mostly stopped paths would mislead more than it shows.
    bands[np.mean(np.isnan(along.values), axis=1) > 0.5] = np.nan
    return bands[:, 0], bands[:, 1], bands[:, 2]


def _window(x: NDArray[np.float64]) -> tuple[float, float]:
    """Return the range to show of a sample: 99% of it, and all of it where that costs little room."""
    low, high = (float(v) for v in np.quantile(x, [0.005, 0.995]))
    margin = 0.1 * (high - low)
    low = max(low - margin, float(x.min()))
    high = min(high + margin, float(x.max()))
    return (low, high) if high - low > 1e-9 else (low - 0.5, high + 0.5)


def _depth_to_width(e: Any) -> float | None:
    ratio = e.metadata.get("depth_to_width")
    if ratio is None and "depth_to_width" in e.metadata:
        return None  # an architecture whose limit does not depend on it
    width, depth = e.metadata.get("width"), e.metadata.get("depth")
    if ratio is None and width and depth:
        ratio = depth / width
    return ratio if isinstance(ratio, int | float) else None


def _title(results: Sequence[Any], first: str | None, most: int) -> str:
    """Return the title, with as many results on a line as fit into `most` characters."""
    if first is None:
        named = [e.metadata["architecture"] for e in results if e.metadata.get("architecture")]
        ratios = [r for r in map(_depth_to_width, results) if r is not None]
        first = str(named[0]) if named else "Limit and finite networks"
        if ratios and "depth_to_width" not in first:
            first += f",  T = depth/width = {ratios[0]:.3g}"
    counts = [f"{name_of(e, figure=True)}: {size_text(e)}, {failure_text(e)}" for e in results]
    lines = [first]
    for count in counts:
        if len(lines) > 1 and len(lines[-1]) + len(count) < most:
            lines[-1] += f"   |   {count}"
        else:
            lines.append(count)
    return "\n".join(lines)
