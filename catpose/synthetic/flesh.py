"""A drawn cat's flesh: ellipsoids, and the flat shapes that the viewer sees of them.

Seen from afar an ellipsoid is an ellipse, and the skin round two of them is the convex hull of two ellipses. Its
outline has a closed form: in each direction, the farther of the two support points.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from catpose.synthetic.bones import Camera

_ANGLES = np.linspace(0, 2 * np.pi, 36, endpoint=False)
_OWN_AXES = np.eye(3)

#: Directions in which outlines are sampled, (36, 2).
DIRECTIONS = np.stack([np.cos(_ANGLES), np.sin(_ANGLES)], 1)


@dataclass(frozen=True)
class Mark:
    """A polygon, or where it has a width a line, on the picture plane in cm."""

    points: np.ndarray  # (n, 2)
    colour: np.ndarray
    width: float = 0.0


@dataclass(frozen=True)
class Layer:
    """What is painted in one go with one ink line round all of it."""

    part: str  # a leg's name, or torso, head, tail
    outlines: np.ndarray  # (m, 36, 2) cm on the picture plane
    lights: list[np.ndarray]  # the same, smaller and smaller, moved to the light
    colours: np.ndarray  # (m, 3)
    ink: np.ndarray  # (m, 36) how thick the ink is at each point, 1 as a rule
    marks: list[Mark] = field(default_factory=list)  # clipped to the outlines
    details: list[Mark] = field(default_factory=list)  # not clipped
    far: bool = False  # on the side turned away, in the shade


class Flesh:
    """Ellipsoids, and the pairs of them that share a skin."""

    def __init__(self, axes: np.ndarray = _OWN_AXES) -> None:
        self.axes = axes  # the columns along which radii are measured
        self.blobs: list[tuple[np.ndarray, np.ndarray | list[float], np.ndarray]] = []
        self.pairs: list[tuple[int, int]] = []
        self.colours: list[np.ndarray] = []

    def blob(self, center: np.ndarray, radii: np.ndarray | list[float], axes: np.ndarray | None = None) -> int:
        """An ellipsoid (cm, the cat's frame); returns its index."""
        self.blobs.append((center, radii, self.axes if axes is None else axes))
        return len(self.blobs) - 1

    def join(self, colour: np.ndarray, *blobs: int) -> None:
        """Skin of one colour (3,), RGB 0–255, round each blob and the next, or round a single one."""
        pairs = list(pairwise(blobs)) or [(blobs[0], blobs[0])]
        self.pairs += pairs
        self.colours += [colour] * len(pairs)

    def outlines(self, camera: Camera, *lights: tuple[float, float]) -> list[np.ndarray]:
        """Outlines (pairs, 36, 2) on the picture plane; first the skin's own, then one for each of `lights`.

        A light is (size, lift): every blob `size` times as large and moved up to the light by `lift` of its radius.
        """
        project = camera.matrix[:2]
        centers, radii, axes = (np.array(column, float) for column in zip(*self.blobs, strict=True))
        centers = centers @ project.T  # (n, 2)
        roots = (project @ axes) * radii[:, None]  # (n, 2, 3)
        spread = roots @ (roots.transpose(0, 2, 1) @ DIRECTIONS.T)  # (n, 2, 36)
        reach = np.sqrt((spread * DIRECTIONS.T).sum(1))  # (n, 36)
        spread = (spread / reach[:, None]).transpose(0, 2, 1)  # (n, 36, 2)
        a, b = np.array(self.pairs).T
        hulls = []
        for size, lift in ((1.0, 0.0), *lights):
            moved = centers + lift * reach.min(1)[:, None] * [-0.35, -0.94]
            points = moved[:, None] + size * spread
            support = moved @ DIRECTIONS.T + size * reach
            hulls.append(np.where((support[a] >= support[b])[..., None], points[a], points[b]))
        return hulls

    def marks(self, camera: Camera) -> list[Mark]:
        """The skin as flat marks, one for each pair of blobs, without ink or light."""
        return [Mark(*mark) for mark in zip(self.outlines(camera)[0], self.colours, strict=True)]

    def layer(self, part: str, camera: Camera, far: bool = False) -> Layer:
        """The skin as the layer of a body part, lit from above; `far` parts lie in the shade."""
        own, *lights = self.outlines(camera, (0.78, 0.18), (0.5, 0.36))
        return Layer(part, own, lights, np.array(self.colours), np.ones(own.shape[:2]), far=far)
