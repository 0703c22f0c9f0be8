"""One number a keypoint, shown on a drawn cat."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from catpose.data.drawn import draw
from catpose.show.canvas import GREY, NARROW, PAPER, canvas, encoded, plain
from catpose.skeleton import KEYPOINTS

#: A drawn cat all of whose keypoints lie apart, as (seed, number).
CAT = (0, 7)
PAD = 14  # px of scenery left round it


def draw_keypoint_values(values: Sequence[float], what: str, top: float = 1.0) -> dict[str, bytes]:
    """The numbers as colours on the cat's keypoints, and as text beside it.

    Args:
        values: one a keypoint, 0 to `top`; nan, where there is none, is grey and a dash.
        what: their name.

    Returns:
        "png" and "svg": the files' contents.
    """
    import matplotlib as mpl

    image = draw(*CAT)
    x, y, width, height = image.boxes[0]
    left, upper = int(max(x - PAD, 0)), int(max(y - PAD, 0))
    picture = image.picture[upper : int(y + height + PAD), left : int(x + width + PAD)]
    picture = np.round(80 + 0.68 * picture).astype(np.uint8)  # paler, so that the dots stand out
    points = image.keypoints[0, :, :2] - (left, upper)
    rows, columns = picture.shape[:2]
    with plain():
        figure, axes = canvas(2.9, width=NARROW)
        axes.imshow(picture, extent=(0, columns, rows, 0), interpolation="none")
        axes.set_axis_off()
        colours = mpl.colormaps["viridis"](np.nan_to_num(np.array(values, dtype=float)) / top)
        order = np.argsort(points[:, 0], kind="stable")
        for side, at, aligned in ((order[:8], -0.06, "right"), (order[8:], 1.06, "left")):
            heights = np.linspace(0.02, 0.98, len(side)) * rows
            for k, place in zip(side[np.argsort(points[side, 1], kind="stable")], heights, strict=True):
                value = f"{values[k]:.2f}" if not np.isnan(values[k]) else "–"
                start = (at - 0.05 * np.sign(at)) * columns
                axes.plot([start, points[k, 0]], [place, points[k, 1]], color=GREY, lw=0.7, zorder=2, clip_on=False)
                axes.text(
                    at * columns, place, f"{KEYPOINTS[k].replace('_', ' ')}  {value}", ha=aligned, va="center",
                    fontsize=8,
                )  # fmt: skip
                colour = GREY if np.isnan(values[k]) else colours[k]
                axes.plot(*points[k], "o", ms=8, mfc=colour, mec=PAPER, mew=1.2, zorder=3)
        axes.set_xlim(-0.66 * columns, 1.7 * columns)
        axes.set_ylim(rows * 1.02, -0.02 * rows)
        scale = mpl.cm.ScalarMappable(mpl.colors.Normalize(0, top), "viridis")
        bar = figure.colorbar(scale, ax=axes, orientation="horizontal", fraction=0.04, pad=0.01, aspect=50, shrink=0.6)
        bar.set_label(what, fontsize=8)
        bar.ax.tick_params(labelsize=7.5)
        return encoded(figure)
