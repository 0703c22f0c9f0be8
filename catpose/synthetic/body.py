"""A drawn cat's body: torso, legs and tail in their fur, and the order in which its layers are painted."""

from __future__ import annotations

import numpy as np

from catpose.synthetic.bones import LEFT, LEGS, Bones, Camera
from catpose.synthetic.coat import WHITE, Coat
from catpose.synthetic.flesh import DIRECTIONS, Flesh, Layer, Mark
from catpose.synthetic.head import draw_head


def cover(bones: Bones, coat: Coat, camera: Camera) -> list[Layer]:
    """The cat's layers, the first painted first."""
    rng = np.random.default_rng(coat.seed)
    layers = {"torso": _torso(bones, coat, camera, rng), "head": draw_head(bones, coat, camera)}
    layers["tail"] = _tail(bones, coat, camera)
    layers |= {name: _leg(name, bones, coat, camera) for name in LEGS}
    return [layers[name] for name in _painting_order(bones, camera)]


def _over_torso(leg: str, camera: Camera) -> bool:
    """Whether a leg is painted over the torso: those of the near side, and both from the front."""
    outwards, ahead = camera.viewer @ LEFT * (1 if leg.startswith("left") else -1), camera.viewer[0]
    return bool(outwards + 0.8 * ahead > 0)


def _painting_order(bones: Bones, camera: Camera) -> list[str]:
    """Names of the layers from far to near."""
    near = {name: float((bones.legs[name] @ camera.viewer).mean()) for name in LEGS}
    legs = sorted(LEGS, key=near.__getitem__)
    standing = bones.pose in ("stand", "walk")
    front_view = camera.viewer[0] > 0.8
    behind = [leg for leg in legs if not _over_torso(leg, camera) or (standing and front_view and "back" in leg)]
    behind.sort(key=lambda leg: "front" in leg)
    ahead = sorted((leg for leg in legs if leg not in behind), key=lambda leg: "front" in leg)
    order = [*behind, "torso", *ahead, "head"]
    # The tail: over the torso and the hind legs where most of it is nearer than the rump.
    tail = float((bones.tail[3:] @ camera.viewer).mean())
    nearer = tail > float(bones.spine[0] @ camera.viewer) + (3.0 if standing else 4.0)
    order.insert(order.index("head") if nearer else 0, "tail")
    return order


def _torso(bones: Bones, coat: Coat, camera: Camera, rng: np.random.Generator) -> Layer:
    flesh = Flesh()
    belly = Flesh()  # the same, lower: what it covers of the torso is white
    ends = []
    for i, (center, (wide, deep), dorsal) in enumerate(zip(bones.spine, bones.spine_radii, bones.dorsal, strict=True)):
        ahead = np.array([dorsal[2], 0.0, -dorsal[0]])
        axes = np.array([ahead, LEFT, dorsal]).T
        ends.append(flesh.blob(center, [deep * 0.95, wide, deep], axes))
        fore = min(max(i / (len(bones.spine) - 1) * 2 - 0.7, 0.0), 1.0)
        offset = -0.75 * deep * dorsal + 0.6 * fore * deep * ahead
        belly.blob(center + offset, [deep * 0.8, wide * 0.72, deep * 0.75], axes)
    flesh.join(coat.base, *ends)
    layer = flesh.layer("torso", camera)
    if coat.pattern == "tabby":
        layer.marks.extend(_stripes(bones, coat, camera, rng))
    elif coat.pattern == "patches":
        layer.marks.extend(_patches(bones, coat, camera, rng))
    if coat.pattern == "bicolour" or coat.socks:
        first = 0 if coat.pattern == "bicolour" else 5
        belly.join(WHITE, *ends[first:])
        layer.marks.extend(belly.marks(camera))
    elif coat.pattern == "tabby":
        belly.join(0.6 * coat.base + 0.4 * WHITE, *ends)
        layer.marks.extend(belly.marks(camera))
    return layer


def _surface(bones: Bones, along: np.ndarray, around: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Points and normals (n, 3) of the torso's skin at positions along the spine (0..1) and angles from the back."""
    at = along * (len(bones.spine) - 1)
    knots = np.arange(len(bones.spine))
    table = np.concatenate([bones.spine, bones.spine_radii, bones.dorsal], 1)
    center, radii, dorsal = np.split(np.stack([np.interp(at, knots, column) for column in table.T], 1), [3, 5], axis=1)
    sideways, upwards = np.sin(around)[:, None], np.cos(around)[:, None]
    points = center + radii[:, :1] * sideways * LEFT + radii[:, 1:] * upwards * dorsal
    return points, sideways * LEFT + upwards * dorsal


def _stripes(bones: Bones, coat: Coat, camera: Camera, rng: np.random.Generator) -> list[Mark]:
    marks = []
    down = np.linspace(-0.15, 1, 9)
    for at in np.linspace(0.02, 0.72, 8):
        for side in (1, -1):
            length = rng.uniform(1.0, 1.9)
            width = rng.uniform(0.018, 0.028) * (1 - np.clip(down, 0, 1)) ** 0.6
            middle = at + rng.normal(0, 0.01) + 0.02 * np.sin(2.5 * down + rng.uniform(0, 6))
            edge = np.concatenate([middle - width, (middle + width)[::-1]])
            around = side * length * np.concatenate([down, down[::-1]])
            points, normals = _surface(bones, edge, around)
            if (normals @ camera.viewer).mean() > 0.12:
                marks.append(Mark(camera.project(points), coat.dark))
    return marks


def _patches(bones: Bones, coat: Coat, camera: Camera, rng: np.random.Generator) -> list[Mark]:
    marks = []
    t = np.linspace(0, 2 * np.pi, 22, endpoint=False)
    for i in range(7):
        at, around = rng.uniform(0.0, 0.85), rng.uniform(-2.2, 2.2)
        wave = 1 + 0.18 * np.sin(2 * t + rng.uniform(0, 6)) + 0.12 * np.sin(3 * t + rng.uniform(0, 6))
        size = rng.uniform(0.09, 0.17)
        points, normals = _surface(bones, at + size * wave * np.cos(t), around + 4.2 * size * wave * np.sin(t))
        if (normals @ camera.viewer).mean() > 0.1:
            marks.append(Mark(camera.project(points), coat.dark if i % 2 else coat.other))
    return marks


def _rings(a: np.ndarray, b: np.ndarray, radius: float, places: list[float], colour: np.ndarray) -> list[Mark]:
    """Bands across a limb that runs from `a` to `b` (on the picture plane)."""
    axis = (b - a) / (np.linalg.norm(b - a) + 1e-6)
    across = np.array([-axis[1], axis[0]])
    s = np.linspace(-1.3, 1.3, 5)[:, None]
    return [
        Mark(a + place * (b - a) + radius * s * across + 0.25 * radius * (1 - s**2) * axis, colour, 0.42 * radius)
        for place in places
    ]


def _leg(name: str, bones: Bones, coat: Coat, camera: Camera) -> Layer:
    top, middle, ankle, paw = bones.legs[name]
    slim = 0.55 + 0.45 * bones.build.girth
    flesh = Flesh()
    lower = coat.dark if coat.pattern == "points" else coat.base
    foot = WHITE if coat.socks else lower
    if name.endswith("front"):
        sizes: list[list[float]] = [[2.9, 2.0, 3.7], [2.2, 2.0, 2.3], [1.6, 1.6, 1.6]]
    else:
        sizes = [[4.5, 2.3, 4.9], [3.0, 2.2, 3.0], [1.6, 1.5, 1.6]]
    blobs = [flesh.blob(point, np.array(size) * slim) for point, size in zip((top, middle, ankle), sizes, strict=True)]
    toe_center = np.array([paw[0] - 0.7, paw[1], max(paw[2], 1.25)])
    toes = flesh.blob(toe_center, [2.4, 1.85, 1.4])
    heel = flesh.blob(0.35 * ankle + 0.65 * paw + [-0.8, 0, 0.25], [1.45, 1.45, 1.45])
    flesh.join(coat.base, blobs[0], blobs[1])
    flesh.join(lower, blobs[1], blobs[2])
    flesh.join(foot, blobs[2], heel, toes)
    layer = flesh.layer(name, camera, far=not _over_torso(name, camera))
    up = camera.project(top - middle)
    up /= np.linalg.norm(up) + 1e-6
    layer.ink[0] = np.clip(0.6 - 1.2 * DIRECTIONS @ up, 0, 1)  # the shoulder or the thigh goes over into the body
    flat = camera.project(np.stack([top, middle, ankle, paw]))
    if coat.pattern == "tabby":
        if name.endswith("back") and np.linalg.norm(flat[1] - flat[0]) > 4:
            layer.marks.extend(_rings(flat[0], flat[1], 3.0 * slim, [0.35, 0.8], coat.dark))
        if name.endswith("front") or bones.pose in ("stand", "walk"):
            layer.marks.extend(_rings(flat[1], flat[2], 1.7 * slim, [0.15, 0.5, 0.85], coat.dark))
    ink = 0.45 * foot
    for sideways in (-0.6, 0.6):
        toe = np.array([[1.75, sideways, 0.0], [1.1, sideways * 0.95, 0.75]]) + toe_center
        layer.details.append(Mark(camera.project(toe), ink, 0.22))
    return layer


def _tail(bones: Bones, coat: Coat, camera: Camera) -> Layer:
    flesh = Flesh()
    thick = 1.5 + 0.5 * bones.build.girth
    radii = thick * np.linspace(1.0, 0.66, len(bones.tail))
    blobs = [flesh.blob(point, [radius] * 3) for point, radius in zip(bones.tail, radii, strict=True)]
    tip = {"points": coat.dark, "bicolour": WHITE, "tabby": coat.dark, "patches": coat.dark}.get(
        coat.pattern, coat.base
    )
    first = 1 if coat.pattern == "points" else len(blobs) - 3
    flesh.join(coat.base, *blobs[: first + 1])
    flesh.join(tip, *blobs[first:])
    layer = flesh.layer("tail", camera)
    if coat.pattern == "tabby":
        flat = camera.project(bones.tail)
        for i in range(1, first):
            layer.marks.extend(_rings(flat[i], flat[i + 1], radii[i], [0.5], coat.dark))
    return layer
