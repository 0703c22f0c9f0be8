"""From a seed to a scene of one or two cats, its picture and its labels."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from catpose.skeleton import AP10K
from catpose.synthetic.body import cover
from catpose.synthetic.bones import LEGS, POSES, VIEWS, Bones, Camera, grow, look, stand_up
from catpose.synthetic.brush import Canvas
from catpose.synthetic.coat import Coat, dress
from catpose.synthetic.flesh import Layer
from catpose.synthetic.props import OCCLUDERS, occlude
from catpose.synthetic.scenery import BACKDROPS, backdrop

_SIZES = ((400, 320), (384, 288), (320, 240), (400, 300), (360, 360), (320, 400), (300, 400), (280, 360))
_PARTS = ("torso", "head", "tail", *LEGS)
#: On the canvas, the number of what stands before the cats.
_OCCLUDER = 255
#: Which parts of the cat show each keypoint.
_OWNERS = [("head",)] * 3 + [("torso",), ("torso", "tail")] + [(leg,) for leg in LEGS for _ in range(3)]


@dataclass(frozen=True)
class DrawnImage:
    """A picture and its labels; coordinates are pixel indices as everywhere (see `catpose.geometry`)."""

    picture: np.ndarray  # (H, W, 3) uint8, RGB
    boxes: np.ndarray  # (n, 4) float64: x, y, width, height round all of the cat that is inside of the picture
    keypoints: np.ndarray  # (n, 17, 3) float64: x, y, visibility 2, 1 (hidden) or, with 0, 0, 0 (outside)


@dataclass(frozen=True)
class Cat:
    """A cat and its place in the picture: point p (cm, picture plane) is at pixel scale * p + offset."""

    bones: Bones
    camera: Camera
    view: str
    coat: Coat
    layers: list[Layer]
    scale: float
    offset: np.ndarray

    def keypoints_px(self) -> np.ndarray:
        """(17, 2)."""
        return self.scale * self.camera.project(self.bones.keypoints()) + self.offset

    def bounds_px(self) -> np.ndarray:
        """x0, y0, x1, y1 of the whole cat but for its whiskers."""
        points = np.concatenate([layer.outlines.reshape(-1, 2) for layer in self.layers])
        return self.scale * np.concatenate([points.min(0), points.max(0)]) + np.tile(self.offset, 2)

    def bounds_inside(self, size: tuple[int, int]) -> np.ndarray:
        """The same of what lies inside of a picture (width, height)."""
        start = self.scale * np.concatenate([layer.outlines for layer in self.layers]) + self.offset
        step = np.roll(start, -1, axis=1) - start
        points = [start.reshape(-1, 2)]
        for axis in (0, 1):  # and where the outlines cross the picture's edges
            for edge in (0.0, size[axis] - 1.0):
                crosses = (start[..., axis] < edge) != (start[..., axis] + step[..., axis] < edge)
                at, along = start[crosses], step[crosses]
                crossings = at + along * ((edge - at[:, axis]) / along[:, axis])[:, None]
                crossings[:, axis] = edge
                points.append(crossings)
        candidates = np.concatenate(points)
        inside = candidates[((candidates >= 0) & (candidates <= np.array(size) - 1)).all(1)]
        return np.concatenate([inside.min(0), inside.max(0)])


@dataclass(frozen=True)
class Scene:
    """All that is decided before painting."""

    size: tuple[int, int]  # width, height
    backdrop: str
    horizon: int  # y of the floor's far end, px
    cats: tuple[Cat, ...]  # back to front
    occluder: tuple[str, np.ndarray] | None  # kind and box x0, y0, x1, y1, px
    seed: int  # of the background's and the occluder's details


def draw(seed: int, index: int) -> DrawnImage:
    """Picture number `index` of the endless series `seed`, both 0 or more; the same on every call."""
    scene = compose(np.random.default_rng([seed, index]))
    picture, top = paint(scene)
    boxes, keypoints = [], []
    for number, cat in enumerate(scene.cats):
        x0, y0, x1, y1 = cat.bounds_inside(scene.size)
        boxes.append([x0, y0, x1 - x0, y1 - y0])
        keypoints.append(_label(cat, number, top))
    return DrawnImage(picture, np.array(boxes), np.array(keypoints))


def _label(cat: Cat, number: int, top: np.ndarray) -> np.ndarray:
    """(17, 3): a keypoint is visible where its own part faces the viewer and lies uppermost."""
    height, width = top.shape[0] // 2, top.shape[1] // 2
    keypoints = np.zeros((len(AP10K), 3))
    facing = cat.bones.facing(cat.camera)
    for i, (x, y) in enumerate(cat.keypoints_px()):
        if 0 <= x <= width - 1 and 0 <= y <= height - 1:
            uppermost = top[round(2 * y + 0.5), round(2 * x + 0.5)]
            own = any(uppermost == _number(number, part) for part in _OWNERS[i])
            keypoints[i] = x, y, 2 if own and facing[i] else 1
    return keypoints


def _number(cat: int, part: str) -> int:
    return 1 + cat * len(_PARTS) + _PARTS.index(part)


def compose(rng: np.random.Generator) -> Scene:
    """A random scene: most cats stand free and fill a good part of the picture."""
    size = _SIZES[rng.integers(len(_SIZES))]
    height = size[1]
    kind = str(rng.choice(BACKDROPS, p=(0.32, 0.26, 0.16, 0.14, 0.12)))
    company, cut = rng.random() < 0.14, rng.random() < 0.1
    fill = rng.uniform(0.3, 0.45) if rng.random() < 0.1 else rng.uniform(0.6, 0.92)
    at = np.array([rng.uniform(0.3, 0.7), rng.uniform(0.5, 0.8)])
    if company:
        fill, at[0] = rng.uniform(0.5, 0.72), rng.choice([0.2, 0.8])
    cat = _place(rng, size, 1.15 * fill if cut else fill, at, cut)
    cats = [cat]
    if company:  # on the other side, farther away and so higher up
        second = _place(rng, size, rng.uniform(0.4, 0.62), np.array([0.93 if at[0] < 0.5 else 0.07, 0.5]), cut=False)
        feet = cat.bounds_px()[3] - rng.uniform(0.03, 0.12) * height
        offset = second.offset + np.array([0.0, min(feet, height - 1.0) - second.bounds_px()[3]])
        cats.insert(0, replace(second, offset=offset))
    occluder = None
    if rng.random() < 0.17:
        x0, y0, x1, y1 = cat.bounds_px()
        high = rng.uniform(0.35, 0.6) * (y1 - y0)
        wide = max(rng.uniform(0.25, 0.45) * (x1 - x0), 0.7 * high)
        x = x0 + rng.uniform(0.12, 0.88) * (x1 - x0) - 0.5 * wide
        bottom = y1 + rng.uniform(0.02, 0.08) * (y1 - y0)
        occluder = str(rng.choice(OCCLUDERS[kind])), np.array([x, bottom - high, x + wide, bottom])
    feet = cat.bounds_px()[3]
    horizon = int(np.clip(feet - rng.uniform(0.15, 0.45) * (feet - cat.bounds_px()[1]), 0.35 * height, 0.85 * height))
    return Scene(size, kind, horizon, tuple(cats), occluder, int(rng.integers(2**31)))


def _place(rng: np.random.Generator, size: tuple[int, int], fill: float, at: np.ndarray, cut: bool) -> Cat:
    """A random cat that fills a part of the picture, at a point in shares of the remaining space."""
    pose = str(rng.choice(POSES, p=(0.2, 0.27, 0.3, 0.23)))
    view = str(rng.choice(VIEWS, p=(0.27, 0.27, 0.23, 0.23)))
    camera = look(rng, view)
    build = grow(rng)
    bones = stand_up(rng, pose, build, camera)
    coat = dress(rng, pose)
    cat = Cat(bones, camera, view, coat, cover(bones, coat, camera), scale=1.0, offset=np.zeros(2))
    bounds = cat.bounds_px()
    room, extent = np.array(size) - 1.0, bounds[2:] - bounds[:2]
    scale = fill * float((room / extent).min())
    corner = at * (room - scale * extent)
    if cut:  # over one side or the lower edge
        axis, sign = ((0, -1), (0, 1), (1, 1))[rng.integers(3)]
        beyond = rng.uniform(0.1, 0.35) * scale * extent[axis]
        corner[axis] = -beyond if sign < 0 else room[axis] - scale * extent[axis] + beyond
    return replace(cat, scale=scale, offset=corner - scale * bounds[:2])


def paint(scene: Scene) -> tuple[np.ndarray, np.ndarray]:
    """The picture (H, W, 3) uint8, and the number of the uppermost part at each pixel of a (2H, 2W) grid."""
    rng = np.random.default_rng(scene.seed)
    canvas = Canvas(backdrop(rng, scene.backdrop, scene.size, scene.horizon))
    for number, cat in enumerate(scene.cats):
        _shadow(canvas, cat)
        ink = 0.32 * cat.coat.base + 6
        for layer in cat.layers:
            canvas.layer(layer, cat.scale, cat.offset, ink, _number(number, layer.part))
    if scene.occluder:
        occlude(canvas, rng, *scene.occluder, _OCCLUDER)
    softness = 0.35 * max((cat.scale for cat in scene.cats), default=5.0)
    return canvas.finish(rng, softness), canvas.top


def _shadow(canvas: Canvas, cat: Cat) -> None:
    """Where the cat stands."""
    t = np.linspace(0, 2 * np.pi, 28, endpoint=False)
    feet = np.stack([leg[3] for leg in cat.bones.legs.values()])
    middle = 0.5 * (feet.min(0) + feet.max(0)) * [1, 0, 0]
    reach = 0.5 * (feet[:, 0].max() - feet[:, 0].min()) + 5.0
    for grow_by, value in ((1.1, 190), (0.95, 166)):
        ring = middle + grow_by * np.stack([reach * np.cos(t), 7.5 * np.sin(t), 0 * t], 1)
        canvas.darken(cat.scale * cat.camera.project(ring) + cat.offset, value)
