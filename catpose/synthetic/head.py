"""A drawn cat's head: skull and ears, the coat's marks on them, and the face."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from catpose.synthetic.bones import EYE, EYE_NORMAL, MIRROR, NOSE, UP, Bones, Camera
from catpose.synthetic.coat import WHITE, Coat
from catpose.synthetic.flesh import Flesh, Layer, Mark

_SKULL = [5.0, 5.5, 4.8]  # radii: ahead, sideways, up
_PINK = np.array([232.0, 160.0, 156.0])
_BLACK = np.array([22.0, 20.0, 24.0])
_GLINT = np.array([255.0, 255.0, 255.0])
_MOUTH = np.array([92.0, 66.0, 62.0])
_TURN = np.linspace(0, 2 * np.pi, 20, endpoint=False)[:, None]
_SIDES = (1, -1)  # left, right


def draw_head(bones: Bones, coat: Coat, camera: Camera) -> Layer:
    """The head's one layer. What its far side hides (an eye, the whiskers) is left out."""
    head = _Head(bones, coat, camera)
    layer = head.flesh().layer("head", camera)
    layer.marks.extend([*head.fur(), *head.muzzle(), *head.hollows(), *head.eyes(), *head.nose()])
    layer.details.extend(head.whiskers())
    return layer


class _Head:
    """Places are in cm of an ordinary head: ahead, to the cat's left, up."""

    def __init__(self, bones: Bones, coat: Coat, camera: Camera) -> None:
        self.bones, self.coat, self.camera = bones, coat, camera
        self.size, self.ear = bones.build.head, bones.build.ears
        self.facing = bones.facing(camera)
        self.viewer = camera.viewer @ bones.head_axes  # the direction to the viewer
        mask = coat.dark if coat.pattern == "points" else coat.base
        self.ear_colours = (coat.dark, coat.other) if coat.pattern == "patches" else (mask, mask)

    def _blob(self, flesh: Flesh, at: Sequence[float], radii: Sequence[float]) -> int:
        return flesh.blob(self.bones.in_head(np.array(at)), self.size * np.array(radii))

    def _mark(self, points: np.ndarray | Sequence[Sequence[float]], colour: np.ndarray, width: float = 0.0) -> Mark:
        flat = self.camera.project(self.bones.in_head(np.asarray(points, float)))
        return Mark(flat, colour, width * self.size)

    def flesh(self) -> Flesh:
        flesh, base = Flesh(self.bones.head_axes), self.coat.base
        for side, colour in zip(_SIDES, self.ear_colours, strict=True):
            ear = self._blob(flesh, [-0.9, side * 3.1, 2.9], [1.9, 2.2, 1.6])
            flesh.join(colour, ear, self._blob(flesh, [-1.2, side * 4.6, 4.4 + 3.7 * self.ear], [0.3, 0.3, 0.3]))
        flesh.join(base, self._blob(flesh, [0, 0, 0], _SKULL))
        for side in _SIDES:
            flesh.join(base, self._blob(flesh, [0.9, side * 2.7, -1.7], [3.2, 3.2, 2.6]))  # the cheek
        bridge = self._blob(flesh, [3.0, 0, 0.9], [2.0, 1.9, 2.0])
        flesh.join(base, bridge, self._blob(flesh, [5.1, 0, -1.3], [1.2, 1.2, 0.9]))
        flesh.join(base, *(self._blob(flesh, [4.0, side * 1.0, -2.3], [1.9, 1.6, 1.5]) for side in _SIDES))
        flesh.join(base, self._blob(flesh, [3.4, 0, -3.5], [1.5, 1.4, 1.1]))  # the chin
        return flesh

    def hollows(self) -> list[Mark]:
        """The ears' insides."""
        flesh = Flesh(self.bones.head_axes)
        colour = 0.45 * _PINK + 0.41 * self.ear_colours[0]
        for side in _SIDES:
            if self.viewer @ [0.85, 0.5 * side, 0.15] > 0.12:
                foot = self._blob(flesh, [0.2, side * 3.5, 4.3], [0.5, 1.15, 0.9])
                flesh.join(colour, foot, self._blob(flesh, [-0.8, side * 4.5, 4.0 + 3.1 * self.ear], [0.2, 0.2, 0.2]))
        return flesh.marks(self.camera) if flesh.pairs else []

    def fur(self) -> list[Mark]:
        """The coat's pattern on the skull."""
        dark, pattern = self.coat.dark, self.coat.pattern
        if pattern == "points":
            face = Flesh(self.bones.head_axes)
            brow = self._blob(face, [4.2, 0, 0.6], [1.5, 3.0, 2.2])
            face.join(dark, brow, self._blob(face, [5.0, 0, -2.0], [1.5, 2.9, 1.9]))
            return face.marks(self.camera)
        if pattern == "patches" and self.viewer @ [0.6, 0.7, 0.4] > 0.1:
            ring = np.hstack([3.0 + 0 * _TURN, 3.2 + 2.3 * np.cos(_TURN), 2.2 + 2.6 * np.sin(_TURN)])
            return [self._mark(_on_skull(ring), dark)]
        marks = []
        if pattern == "tabby":
            if self.viewer @ [0.75, 0, 0.6] > 0:
                for y, low, high in ((0.0, 2.2, 5.2), (1.3, 2.4, 5.1), (-1.3, 2.4, 5.1)):
                    line = [[4.0, y, low], [3.2, 1.1 * y, (low + high) / 2], [1.2, 1.5 * y, high]]
                    marks.append(self._mark(_on_skull(line), dark, 0.55))
            for side in _SIDES:
                if self.viewer @ [0.3, 0.95 * side, 0] > 0.05:
                    for z in (0.1, -1.5):
                        line = [[2.6, 4.0 * side, z], [1.2, 5.0 * side, z - 0.2], [-0.6, 5.3 * side, z - 0.7]]
                        marks.append(self._mark(_on_skull(line), dark, 0.5))
        return marks

    def muzzle(self) -> list[Mark]:
        """White or pale, with a blaze up the forehead on some."""
        coat = self.coat
        if coat.pattern == "points":
            return []
        white = coat.socks or coat.pattern in ("bicolour", "patches")
        pale = WHITE if white else 0.72 * coat.base + 0.28 * WHITE
        flesh = Flesh(self.bones.head_axes)
        flesh.join(pale, *(self._blob(flesh, [4.5, 1.1 * side, -2.3], [1.7, 1.6, 1.45]) for side in _SIDES))
        flesh.join(pale, self._blob(flesh, [3.9, 0, -3.5], [1.3, 1.3, 1.0]))
        if coat.pattern == "bicolour":
            foot = self._blob(flesh, [4.9, 0, -1.4], [1.2, 1.5, 0.9])
            flesh.join(pale, foot, self._blob(flesh, [4.0, 0, 2.4], [0.7, 0.5, 0.8]))
        return flesh.marks(self.camera)

    def eyes(self) -> list[Mark]:
        marks = []
        ink = 0.28 * self.coat.base + 8
        for side, mirror, seen in zip(_SIDES, (1.0, MIRROR), self.facing[:2], strict=True):
            if not seen:
                continue
            eye, normal = EYE * mirror, EYE_NORMAL * mirror
            out = side * np.cross(UP, normal) / np.linalg.norm(np.cross(UP, normal))
            out = out + 0.22 * UP  # the outer corner a little higher
            up = side * np.cross(normal, out)
            if self.coat.asleep:
                s = np.linspace(-1, 1, 7)[:, None]
                marks.append(self._mark(eye + 1.35 * s * out - 0.5 * (1 - s**2) * up, ink, 0.42))
                continue
            discs = (
                (1.62, 1.42, eye, ink),
                (1.36, 1.18, eye, self.coat.iris),
                (0.85 if self.coat.round_pupils else 0.38, 1.05, eye, _BLACK),
                (0.34, 0.34, eye + 0.42 * up - 0.38 * side * out, _GLINT),
            )
            for wide, high, at, colour in discs:
                marks.append(self._mark(at + wide * np.cos(_TURN) * out + high * np.sin(_TURN) * up, colour))
        return marks

    def nose(self) -> list[Mark]:
        """The nose, and the mouth under it."""
        if not self.facing[2]:
            return []
        corners = NOSE + np.array([[-0.45, -0.85, 0.45], [-0.45, 0.85, 0.45], [-0.05, 0.0, -0.55]])
        edge, colour = corners[[0, 1, 2, 0]], self.coat.nose
        marks = [self._mark(corners, colour), self._mark(edge, 0.55 * colour, 0.2)]
        line = 0.5 * self.coat.base if self.coat.pattern == "points" else _MOUTH
        for side in _SIDES:
            if self.viewer @ [0.9, 0.45 * side, 0] > 0:
                mouth = [[6.1, 0, -1.6], [5.95, 0, -2.5], [5.8, 0.7 * side, -3.0], [5.4, 1.5 * side, -2.85]]
                marks.append(self._mark(mouth, line, 0.22))
        return marks

    def whiskers(self) -> list[Mark]:
        """Three on each side that is seen: pale on dark fur, dark on pale."""
        colour = np.clip(0.5 * WHITE + 0.3 * (255 - self.coat.base) + 40, 0, 255)
        return [
            self._mark(
                [
                    [5.2, 1.7 * side, -2.1 + 0.3 * rise],
                    [4.7, 4.2 * side, -1.9 + 0.8 * rise],
                    [3.4, 7.2 * side, -2.5 + 1.7 * rise],
                ],
                colour,
                0.13,
            )
            for side in _SIDES
            if self.facing[2] and self.viewer @ [0.6, 0.8 * side, 0] > -0.1
            for rise in (0.9, 0.0, -0.9)
        ]


def _on_skull(points: np.ndarray | Sequence[Sequence[float]]) -> np.ndarray:
    """Points (..., 3) moved along their rays on to the skull."""
    points = np.asarray(points, float)
    return points / np.linalg.norm(points / _SKULL, axis=-1, keepdims=True)
