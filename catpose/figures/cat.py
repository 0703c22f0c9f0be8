"""A synthetic cat's keypoints: with their names, or with one number each (as bars for another skeleton)."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from catpose.figures.canvas import GREY, NARROW, PAPER, SKY, Drawing, canvas, encoded, plain
from catpose.figures.overlay import LEFT, MIDDLE, RIGHT, SIDES
from catpose.skeleton import AP10K, Skeleton
from catpose.synthetic import draw

#: A drawn cat that hides none of its legs and whose keypoints all lie apart, as (seed, number).
CAT = (0, 1167)
PAD = 14  # px of scenery left round it


def draw_keypoint_values(skeleton: Skeleton, values: Sequence[float], what: str) -> Drawing:
    """Values as colours on a synthetic cat's keypoints, and as text beside it; as bars for another skeleton.

    Args:
        skeleton: of the keypoints.
        values: one a keypoint, from 0 to 1; nan, where there is none, is grey and a dash.
        what: their name.

    Returns:
        "png" and "svg": the files' contents.
    """
    if skeleton.names != AP10K.names:  # the synthetic cats have no others
        return _bars(skeleton, values, what)
    import matplotlib as mpl

    picture, points = _pale_cat(PAD)
    rows, columns = picture.shape[:2]
    with plain():
        figure, axes = canvas(2.9, width=NARROW)
        axes.imshow(picture, extent=(0, columns, rows, 0), interpolation="none")
        axes.set_axis_off()
        colours = mpl.colormaps["viridis"](np.nan_to_num(np.array(values, dtype=float)))
        for k, (x, y) in enumerate(label_places(points, columns, rows)):
            is_left = x < 0
            value = f"{values[k]:.2f}" if not np.isnan(values[k]) else "–"
            axes.plot([x, points[k, 0]], [y, points[k, 1]], color=GREY, lw=0.7, zorder=2, clip_on=False)
            axes.annotate(
                f"{skeleton.names[k].replace('_', ' ')}  {value}", (x, y), (-3 if is_left else 3, 0),
                textcoords="offset points", ha="right" if is_left else "left", va="center", fontsize=8,
            )  # fmt: skip
            colour = GREY if np.isnan(values[k]) else colours[k]
            axes.plot(*points[k], "o", ms=8, mfc=colour, mec=PAPER, mew=1.2, zorder=3)
        axes.set_xlim(-0.66 * columns, 1.7 * columns)
        axes.set_ylim(rows * 1.02, -0.02 * rows)
        scale = mpl.cm.ScalarMappable(mpl.colors.Normalize(0, 1), "viridis")
        bar = figure.colorbar(scale, ax=axes, orientation="horizontal", fraction=0.04, pad=0.01, aspect=50, shrink=0.6)
        bar.set_label(what, fontsize=8)
        bar.ax.tick_params(labelsize=7.5)
        return encoded(figure)


def label_places(points: np.ndarray, width: float, height: float) -> np.ndarray:
    """Where labels of points stand, one half to the left of a picture, the other to its right: no two lines cross.

    Two lines that cross would be shorter together with their labels exchanged, so pairs are exchanged until none is.

    Args:
        points: (K, 2) px. width, height: the picture's, px.

    Returns:
        (K, 2) px: the labels' ends that face the picture.
    """
    n_left = len(points) // 2
    left, right = ((x * width, n) for x, n in ((-0.02, n_left), (1.02, len(points) - n_left)))
    places = np.array([(x, y * height) for x, n in (left, right) for y in np.linspace(0.02, 0.98, n)])
    length = np.linalg.norm(points[:, None] - places, axis=2)
    at = np.empty(len(points), dtype=np.int64)  # the place of each point
    at[np.argsort(points[:, 0], kind="stable")] = np.arange(len(points))
    shorter = True
    while shorter:
        shorter = False
        for i, j in itertools.combinations(range(len(points)), 2):
            if length[i, at[j]] + length[j, at[i]] < length[i, at[i]] + length[j, at[j]] - 1e-9:
                at[i], at[j] = at[j], at[i]
                shorter = True
    return places[at]


def _pale_cat(pad: int) -> tuple[np.ndarray, np.ndarray]:
    """A synthetic cat to put marks on.

    Args:
        pad: scenery left round its box, px.

    Returns:
        the picture, (H, W, 3) uint8 RGB, paler than drawn so that marks stand out, and its keypoints, (17, 2) px.
    """
    image = draw(*CAT)
    x, y, width, height = image.boxes[0]
    left, upper = int(max(x - pad, 0)), int(max(y - pad, 0))
    picture = image.picture[upper : int(y + height + pad), left : int(x + width + pad)]
    return np.round(80 + 0.68 * picture).astype(np.uint8), image.keypoints[0, :, :2] - (left, upper)


def _bars(skeleton: Skeleton, values: Sequence[float], what: str) -> Drawing:
    with plain():
        figure, axes = canvas(1 + 0.2 * len(skeleton), width=NARROW)
        places = np.arange(len(skeleton))
        axes.barh(places, np.nan_to_num(np.array(values, dtype=float)), color=SKY, height=0.72)
        for place, value in enumerate(values):
            text = f"{value:.2f}" if not np.isnan(value) else "–"
            axes.text(np.nan_to_num(value) + 0.01, place, text, va="center", fontsize=7.5)
        axes.set_yticks(places, [name.replace("_", " ") for name in skeleton.names], fontsize=8, parse_math=False)
        axes.set(xlim=(0, 1.08), ylim=(len(skeleton) - 0.4, -0.6), xlabel=what)
        axes.tick_params(axis="y", length=0)
        return encoded(figure)


def draw_skeleton() -> Drawing:
    """Names, places and sides of the keypoints.

    Returns:
        "png" and "svg": the files' contents.
    """
    import matplotlib.patheffects as effects

    picture, points = _pale_cat(20)
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
