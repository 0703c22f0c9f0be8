"""The brush: backgrounds, cats' layers and things in front of them, on a canvas twice as fine as the picture."""

from __future__ import annotations

import functools

import cv2
import numpy as np

from catpose.synthetic.flesh import DIRECTIONS, Layer

_SHIFT = 4  # OpenCV's fractional bits
_SHADE = 214  # the shade map's neutral value: below it is darker, above it lighter
_INK_CM = 0.3

Colour = tuple[float, float, float]


class Canvas:
    """A picture being painted, back to front.

    Shapes go on a canvas of twice the picture's size, whose pixel 2 x + 1/2 is the picture's pixel x. `top` says for
    each of its pixels what lies uppermost: 0 the background, else the number its painter gave. Shade is collected on
    a map of its own and multiplied in at the end.
    """

    def __init__(self, background: np.ndarray) -> None:
        height, width = background.shape[:2]
        self.fine = cv2.resize(background, (2 * width, 2 * height), interpolation=cv2.INTER_LINEAR)
        self.top = np.zeros((2 * height, 2 * width), np.uint8)
        self.shade = np.full((height, width), _SHADE, np.uint8)

    def fill(self, points: np.ndarray, colour: np.ndarray | Colour, number: int | None = None) -> None:
        """A polygon (n, 2), picture px; any shape."""
        corners = _fixed(2 * points + 0.5)
        cv2.fillPoly(self.fine, [corners], _scalar(colour), cv2.LINE_AA, _SHIFT)
        if number is not None:
            cv2.fillPoly(self.top, [corners], number, cv2.LINE_8, _SHIFT)

    def line(self, points: np.ndarray, colour: np.ndarray | Colour, width: float) -> None:
        """An open line (n, 2) of a width in picture px."""
        thickness = max(round(2 * width), 1)
        cv2.polylines(self.fine, [_fixed(2 * points + 0.5)], False, _scalar(colour), thickness, cv2.LINE_AA, _SHIFT)

    def darken(self, points: np.ndarray, value: int) -> None:
        """Set the shade within a convex polygon (n, 2), picture px."""
        cv2.fillConvexPoly(self.shade, _fixed(points), value, cv2.LINE_8, _SHIFT)

    def layer(self, layer: Layer, scale: float, offset: np.ndarray, ink: np.ndarray, number: int) -> None:
        """One layer of a cat, `scale` px per cm, its origin at `offset` px."""
        outlines = scale * layer.outlines + offset
        inked = _fixed(2 * (outlines + max(_INK_CM * scale, 0.6) * layer.ink[..., None] * DIRECTIONS) + 0.5)
        fixed = _fixed(2 * outlines + 0.5)
        for polygon in inked:
            cv2.fillConvexPoly(self.fine, polygon, _scalar(ink), cv2.LINE_AA, _SHIFT)
            cv2.fillConvexPoly(self.top, polygon, number, cv2.LINE_8, _SHIFT)
        for polygon, colour in zip(fixed, layer.colours, strict=True):
            cv2.fillConvexPoly(self.fine, polygon, _scalar(colour), cv2.LINE_AA, _SHIFT)
        if layer.marks:
            self._marks(layer, scale, offset, fixed)
        for mark in layer.details:
            self.line(scale * mark.points + offset, mark.colour, mark.width * scale)
        values = (150, 182, 200) if layer.far else (182, 212, 228)
        for value, shapes in zip(values, (layer.outlines, *layer.lights), strict=True):
            for polygon in _fixed(scale * shapes + offset):
                cv2.fillConvexPoly(self.shade, polygon, value, cv2.LINE_8, _SHIFT)

    def _marks(self, layer: Layer, scale: float, offset: np.ndarray, fixed: np.ndarray) -> None:
        """The layer's marks, kept within its outlines."""
        low = np.maximum(fixed.min((0, 1)) // 2**_SHIFT - 1, 0)
        high = np.minimum(fixed.max((0, 1)) // 2**_SHIFT + 2, self.top.shape[::-1])
        if (high <= low).any():
            return
        window = self.fine[low[1] : high[1], low[0] : high[0]]
        marked = window.copy()
        mask = np.zeros(window.shape[:2], np.uint8)
        corner = low * 2**_SHIFT
        for polygon in fixed:
            cv2.fillConvexPoly(mask, polygon - corner, 255, cv2.LINE_8, _SHIFT)
        for mark in layer.marks:
            points = _fixed(2 * (scale * mark.points + offset) + 0.5) - corner
            if mark.width:
                thickness = max(round(2 * mark.width * scale), 1)
                cv2.polylines(marked, [points], False, _scalar(mark.colour), thickness, cv2.LINE_AA, _SHIFT)
            else:
                cv2.fillPoly(marked, [points], _scalar(mark.colour), cv2.LINE_AA, _SHIFT)
        cv2.copyTo(marked, mask, window)

    def finish(self, rng: np.random.Generator, softness_px: float) -> np.ndarray:
        """The picture (H, W, 3) uint8, with its shades and a little grain."""
        height, width = self.shade.shape
        picture = cv2.resize(self.fine, (width, height), interpolation=cv2.INTER_AREA)
        kernel = 2 * max(round(softness_px), 1) + 1
        shade = cv2.blur(cv2.blur(self.shade, (kernel, kernel)), (kernel, kernel))
        grain = noise(rng, (width, height), 1.0, 0.6)
        shade = cv2.addWeighted(shade, 1.0, grain, 0.07, -0.07 * 128)
        return cv2.multiply(picture, cv2.cvtColor(shade, cv2.COLOR_GRAY2RGB), scale=1 / _SHADE)


def _fixed(points: np.ndarray) -> np.ndarray:
    return np.rint(points * 2**_SHIFT).astype(np.int32)


def _scalar(colour: np.ndarray | Colour) -> Colour:
    return float(colour[0]), float(colour[1]), float(colour[2])


@functools.cache
def _texture(kind: int) -> np.ndarray:
    """(512, 512) uint8 around 128; kind 0 grain, 1 clouds."""
    rng = np.random.default_rng(kind)
    if kind == 0:
        image = rng.normal(0, 34, (512, 512))
    else:
        image = np.zeros((512, 512))
        for cells in (5, 11, 23, 47):
            coarse = rng.normal(0, 60 / cells**0.4, (cells, cells))
            image += cv2.resize(coarse, (512, 512), interpolation=cv2.INTER_CUBIC)
    return np.clip(image + 128, 0, 255).astype(np.uint8)


def noise(
    rng: np.random.Generator, size: tuple[int, int], stretch_x: float, stretch_y: float, kind: int = 0
) -> np.ndarray:
    """A window (H, W) uint8 around 128 of a cached texture, stretched by up to about 4; `size` is (W, H)."""
    width, height = (
        min(max(int(n / stretch), 8), 512) for n, stretch in zip(size, (stretch_x, stretch_y), strict=True)
    )
    x, y = rng.integers(512 - width + 1), rng.integers(512 - height + 1)
    return cv2.resize(_texture(kind)[y : y + height, x : x + width], size, interpolation=cv2.INTER_LINEAR)


def textured(image: np.ndarray, texture: np.ndarray, strength: float) -> np.ndarray:
    """`image` (H, W, 3) with a texture (H, W) around 128 added."""
    return cv2.addWeighted(image, 1.0, cv2.cvtColor(texture, cv2.COLOR_GRAY2RGB), strength, -128 * strength)
