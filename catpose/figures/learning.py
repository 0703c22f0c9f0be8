"""Learning curves: a validation figure, the losses and the learning rate by epoch, a colour a model, a line a seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from catpose.figures.canvas import GRID, NARROW, SERIES, Drawing, canvas, encoded, plain

#: Lines of more models than this are thin and grey but for the last.
MOST = len(SERIES)

Curves = Mapping[str, Sequence[tuple[np.ndarray, np.ndarray]]]


def draw_curves(curves: Curves, what: str, log: bool = False) -> Drawing:
    """One quantity by epoch.

    Args:
        curves: for each model, a (epochs, values) pair a seed, nan where a value is unknown.
        what: the quantity.
        log: whether its axis is logarithmic, as learning rates need it.

    Returns:
        "png" and "svg": the files' contents.
    """
    import matplotlib as mpl

    with plain():
        figure, axes = canvas(2.9 + 0.16 * ((len(curves) + 1) // 2), width=NARROW)
        for i, (label, seeds) in enumerate(curves.items()):
            colour, dashes = SERIES[i % MOST], "-" if i < MOST else "--"
            for j, (epochs, values) in enumerate(seeds):
                marker = "o" if len(epochs) < 2 else ""
                axes.plot(
                    epochs, values, dashes, color=colour, lw=1.3, alpha=0.9 if len(seeds) == 1 else 0.65,
                    marker=marker, ms=4, label=label if j == 0 else None,
                )  # fmt: skip
        if log:
            axes.set_yscale("log")
        axes.set_xlabel("epoch", fontsize=8.5)
        axes.set_ylabel(what, fontsize=8.5)
        axes.xaxis.set_major_locator(mpl.ticker.MaxNLocator(integer=True))
        axes.grid(color=GRID, lw=0.6)
        if len(curves) > 1:
            figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=7.5)
        return encoded(figure)
