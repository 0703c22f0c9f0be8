"""The 17 keypoints with their names on a drawn cat: what people look at while they label."""

from __future__ import annotations

import matplotlib.patheffects as effects

from catpose.figures.canvas import GREY, PAPER, Drawing, canvas, encoded, plain
from catpose.figures.cat import label_places, pale_cat
from catpose.figures.overlay import LEFT, MIDDLE, RIGHT, SIDES
from catpose.skeleton import AP10K

PAD = 20  # px of scenery left round it


def draw_skeleton() -> Drawing:
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
        for k, (x, y) in enumerate(label_places(points, columns, rows)):
            is_left = x < 0
            axes.plot([x, points[k, 0]], [y, points[k, 1]], color=GREY, lw=0.8, zorder=3, clip_on=False)
            axes.plot(*points[k], "o", ms=9, mfc=_rgb(SIDES[AP10K.sides[k]]), mec=PAPER, mew=1.4, zorder=4)
            axes.annotate(
                f"{k + 1}  {AP10K.names[k]}", (x, y), (-4 if is_left else 4, 0), textcoords="offset points",
                ha="right" if is_left else "left", va="center", fontsize=9.5,
            )  # fmt: skip
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
