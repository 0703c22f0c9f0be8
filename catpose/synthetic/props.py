"""Objects that stand in front of a drawn cat and hide part of it."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from catpose.synthetic.brush import Canvas
from catpose.synthetic.scenery import CLOTHS, FLOORS, GREENS, pick

#: The kinds of things that may stand before each background.
OCCLUDERS = {
    "room": ("carton", "plant", "cushion"),
    "meadow": ("carton", "slats", "grass"),
    "studio": ("carton", "plant", "cushion", "slats"),
    "blanket": ("cushion", "carton"),
    "clutter": ("carton", "plant", "cushion"),
}


def occlude(canvas: Canvas, rng: np.random.Generator, kind: str, box: np.ndarray, number: int) -> None:
    """Put one of `OCCLUDERS` into the box (x0, y0, x1, y1), picture px."""
    x0, y0, x1, y1 = box
    w, h = x1 - x0, y1 - y0

    def shape(points: list[tuple[float, float]], colour: np.ndarray, ink: float = 0.6, solid: bool = True) -> None:
        corners = np.array(points) * [w, h] + [x0, y0]
        canvas.fill(corners, colour, number if solid else None)
        if solid:
            canvas.darken(cv2.convexHull(corners.astype(np.float32))[:, 0], 214)
        if ink:
            canvas.line(np.concatenate([corners, corners[:1]]), ink * colour, 1.2)

    if kind == "carton":
        card = np.array([196.0, 152.0, 104.0]) + rng.normal(0, 10)
        shape([(0.0, 0.14), (1.0, 0.14), (0.98, 1.0), (0.02, 1.0)], card)
        shape([(0.0, 0.14), (-0.08, 0.0), (0.42, 0.03), (0.5, 0.14)], 1.1 * card)
        shape([(0.5, 0.14), (0.6, 0.02), (1.08, 0.0), (1.0, 0.14)], 1.05 * card)
        shape([(0.44, 0.14), (0.56, 0.14), (0.56, 0.5), (0.44, 0.5)], 0.9 * card, 0.8, solid=False)
    elif kind == "cushion":
        cloth = pick(rng, CLOTHS)
        t = np.linspace(0, 2 * np.pi, 40, endpoint=False)
        x, y = np.sign(np.cos(t)) * np.abs(np.cos(t)) ** 0.55, np.sign(np.sin(t)) * np.abs(np.sin(t)) ** 0.55
        shape(list(zip(0.5 + 0.5 * x, 0.5 + 0.5 * y, strict=True)), cloth)
        shape(list(zip(0.47 + 0.4 * x, 0.45 + 0.38 * y, strict=True)), np.minimum(1.1 * cloth, 255), 0.0, solid=False)
    elif kind == "plant":
        _plant(rng, shape, w, h)
    elif kind == "slats":
        wood = pick(rng, (*FLOORS, (238, 234, 226)))
        slats = int(rng.integers(2, 4))
        for k in range(slats):
            left = k / slats
            right = left + 0.42 / slats
            shape([(left, 0.06), ((left + right) / 2, 0.0), (right, 0.06), (right, 1.0), (left, 1.0)], wood)
        shape([(-0.06, 0.3), (1.0, 0.3), (1.0, 0.38), (-0.06, 0.38)], 0.94 * wood)
    else:  # a tuft of tall grass
        green = pick(rng, GREENS)
        for _ in range(26):
            foot, lean, tall = rng.uniform(0.05, 0.95), rng.normal(0, 0.12), rng.uniform(0.5, 1.0)
            points = [
                (foot - 0.025, 1.0),
                (foot + lean * 0.4, 1 - 0.6 * tall),
                (foot + lean, 1 - tall),
                (foot + 0.03 + lean * 0.4, 1 - 0.55 * tall),
                (foot + 0.03, 1.0),
            ]
            shape(points, np.clip(green * rng.uniform(0.75, 1.2), 0, 255), 0.0)


def _plant(rng: np.random.Generator, shape: Callable[..., None], w: float, h: float) -> None:
    """Leaves and their pot, in a box of w x h px."""
    green = pick(rng, GREENS) * 0.9
    s = np.linspace(0, 1, 8)
    for angle in rng.permutation(np.linspace(-1.15, 1.15, 9)):
        lean, tall = angle + rng.normal(0, 0.1), rng.uniform(0.45, 0.62)
        middle = np.stack(
            [0.5 + tall * np.sin(lean) * s * (w + h) / (2 * w), 0.62 - tall * np.cos(lean) * s + 0.1 * s**2], 1
        )
        across = 0.11 * np.sin(np.pi * s**0.8)[:, None] * [np.cos(lean), np.sin(lean)]
        leaf = [*map(tuple, middle - across), *map(tuple, (middle + across)[::-1])]
        shape(leaf, np.clip(green * rng.uniform(0.85, 1.2), 0, 255))
    pot = np.array([192.0, 112.0, 80.0]) + rng.normal(0, 12)
    shape([(0.24, 0.62), (0.76, 0.62), (0.68, 1.0), (0.32, 1.0)], pot)
    shape([(0.2, 0.58), (0.8, 0.58), (0.8, 0.68), (0.2, 0.68)], 1.1 * pot)
