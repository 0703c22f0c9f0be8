"""The 17 keypoints with their names on a drawn cat: what people look at while they label."""

from __future__ import annotations

import matplotlib.patheffects as effects
import numpy as np

from catpose.figures.canvas import GREY, PAPER, canvas, encoded, plain
from catpose.figures.cat import pale_cat
from catpose.figures.overlay import LEFT, MIDDLE, RIGHT, SIDES
from catpose.skeleton import AP10K

PAD = 20  # px of scenery left round it


def draw_skeleton() -> dict[str, bytes]:
    """Names, places and sides of the keypoints.

    Returns:
        "png" and "svg": the files' contents.
    """
    picture, points = pale_cat(PAD)
    rows, columns = picture.shape[:2]
    with plain():
        figure, axes = canvas(4.2, width=7.4)
        axes.imshow(picture, extent=(0, columns, rows, 0), interpolation="none")
        axes.set_axis_off()
        for a, b in AP10K.limbs:
            colour = _rgb(SIDES[AP10K.sides[a] if AP10K.sides[b] == "middle" else AP10K.sides[b]])
            axes.plot(*points[[a, b]].T, color=colour, lw=2.2, zorder=2)
        order = np.argsort(points[:, 0], kind="stable")
        for side, at, aligned in ((order[:8], -0.08, "right"), (order[8:], 1.08, "left")):
            heights = np.linspace(0.03, 0.97, len(side)) * rows
            for k, place in zip(side[np.argsort(points[side, 1], kind="stable")], heights, strict=True):
                start = (at - 0.04 * np.sign(at)) * columns
                axes.plot([start, points[k, 0]], [place, points[k, 1]], color=GREY, lw=0.8, zorder=3, clip_on=False)
                colour = _rgb(SIDES[AP10K.sides[k]])
                axes.plot(*points[k], "o", ms=9, mfc=colour, mec=PAPER, mew=1.4, zorder=4)
                axes.text(at * columns, place, f"{k + 1}  {AP10K.names[k]}", ha=aligned, va="center", fontsize=9.5)
        for colour, text, across in (
            (LEFT, "the animal's left", 0.0),
            (MIDDLE, "middle", 0.5),
            (RIGHT, "the animal's right", 1.0),
        ):
            axes.text(
                across * columns, 1.08 * rows, text, ha="center", va="top", fontsize=10.5, weight="bold",
                color=_rgb(colour), path_effects=[effects.withStroke(linewidth=0.6, foreground="black")],
            )  # fmt: skip
        axes.set_xlim(-0.62 * columns, 1.62 * columns)
        axes.set_ylim(rows * 1.14, -0.02 * rows)
        return encoded(figure)


def _rgb(colour: tuple[int, int, int]) -> tuple[float, ...]:
    return tuple(value / 255 for value in colour)
