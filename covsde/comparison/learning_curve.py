"""The figure of kernel regression on data: spectrum, learning curve, and losses over training, theory and measured."""

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from covsde.comparison.figure import COLOURS, LIMIT_COLOUR
from covsde.results.files import atomic_write, checked_path

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def plot_learning_curves(
    modes: Any,
    lines: Mapping[str, Any],
    curves: Mapping[str, tuple[Any, Any]],
    title: str,
    path: str | os.PathLike[str],
) -> "Figure":
    """Draw a spectrum with its power laws, and predicted beside measured losses.

    Args:
        modes: eigenvalues and energies, from the largest eigenvalue.
        lines: name -> (k, values) of the fitted power laws.
        curves: name of the axis -> (theory, draws), results with `times`, `test` and `train`.
        title: first line.
        path: where to save the figure.

    Returns:
        The figure.

    Raises:
        OSError: if `path` cannot be written.
    """
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 1 + len(curves), figsize=(4.2 * (1 + len(curves)), 3.8), layout="constrained")
    spectrum, *others = np.atleast_1d(axes)
    k = np.arange(1, len(modes.eigenvalues) + 1)
    shown = modes.eigenvalues > 0
    spectrum.loglog(k[shown], modes.eigenvalues[shown], ".", ms=3, color=COLOURS[0], label="eigenvalue λ_k")
    spectrum.loglog(k[shown], modes.energies[shown], ".", ms=3, color=COLOURS[1], label="target along it, λ_k w_k²")
    for (name, (x, y)), style in zip(lines.items(), ("-", "--"), strict=False):
        spectrum.loglog(x, y, style, color=COLOURS[3], lw=1.2, label=name)
    spectrum.set(xlabel="mode k", ylabel="λ_k, and λ_k w_k²", title="spectrum of the kernel")
    spectrum.legend(fontsize=8, frameon=False)
    for ax, (name, (law, draws)) in zip(others, curves.items(), strict=True):
        for kind, colour, marker in (("test", LIMIT_COLOUR, "o"), ("train", COLOURS[0], "s")):
            ax.plot(law.times, getattr(law, kind), "-", color=colour, label=f"{kind}, theory")
            values = getattr(draws, kind)
            middle, error, text = values.mean(axis=1), values.std(axis=1, ddof=1), f"{kind}, measured ± s.d."
            ax.errorbar(draws.times, middle, error, fmt=marker, ms=4, color=colour, label=text)
        ax.set(xlabel=name, ylabel="loss", xscale="log", yscale="log")
        top = float(np.nanmax(law.test))
        low = min(float(np.nanmin(r.test)) for r in (law, draws))
        ax.set_ylim(low / 5, 1.6 * top)
        ax.legend(fontsize=8, frameon=False)
    figure.suptitle(title)
    target = checked_path("path", path, "scaling.png")
    with atomic_write(target if target.suffix else target.with_suffix(".png")) as temporary:
        figure.savefig(temporary, dpi=150)
    plt.close(figure)
    return figure
