"""A cat's bones in three dimensions: proportions, poses, and the camera that looks at them.

The cat's own frame, in cm: x forward, y to the cat's left, z up, the ground at z = 0. The viewer's frame: x to the
viewer's right, y away from the viewer, z up. A heading of 0° walks to the viewer's right and so shows its right
flank (left is away); -90° faces the viewer, with its left on the viewer's right. Left and right, near and far follow
from this one rotation; nothing else in the drawing decides them.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

from catpose.skeleton import AP10K

POSES = ("stand", "walk", "sit", "lie")
VIEWS = ("right", "left", "front", "quarter")  # which way the cat heads, as the viewer sees it

#: The legs, and the first of the three keypoints each of them holds.
LEGS = {
    "left_front": AP10K.names.index("left_shoulder"),
    "right_front": AP10K.names.index("right_shoulder"),
    "left_back": AP10K.names.index("left_hip"),
    "right_back": AP10K.names.index("right_hip"),
}

UP = np.array([0.0, 0.0, 1.0])
LEFT = np.array([0.0, 1.0, 0.0])
#: Turns forward to up about the axis to the left.
_QUARTER_TURN = np.array([[0.0, 0.0, -1.0], [0.0, 0.0, 0.0], [1.0, 0.0, 0.0]])

#: In the head's frame (forward, left, up; cm; for the left side), for a head of ordinary size.
EYE = np.array([4.25, 2.35, 0.75])
EYE_NORMAL = np.array([0.84, 0.54, 0.08])
NOSE = np.array([6.25, 0.0, -1.15])
#: What turns a place on the head's left into the one on its right.
MIRROR = np.array([1.0, -1.0, 1.0])


@dataclass(frozen=True)
class Build:
    """Proportions, each 1 for an ordinary cat."""

    trunk: float
    girth: float
    legs: float
    head: float
    ears: float
    tail: float


@dataclass(frozen=True)
class Camera:
    """Orthographic: `project` takes cm in the cat's frame to (x right, y down) cm in the picture."""

    heading: float  # radians
    elevation: float  # radians the viewer looks down by

    @functools.cached_property
    def matrix(self) -> np.ndarray:
        """(3, 3): rows take a point in the cat's frame to right, down and towards the viewer."""
        c, s = np.cos(self.heading), np.sin(self.heading)
        world = np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])
        ce, se = np.cos(self.elevation), np.sin(self.elevation)
        return np.array([[1.0, 0.0, 0.0], [0.0, -se, -ce], [0.0, -ce, se]]) @ world

    def project(self, points: np.ndarray) -> np.ndarray:
        """(..., 3) -> (..., 2)."""
        return points @ self.matrix[:2].T

    @property
    def viewer(self) -> np.ndarray:
        """(3,): the unit vector towards the viewer, in the cat's frame."""
        return self.matrix[2]


@dataclass(frozen=True)
class Bones:
    """One cat in one pose; cm, the cat's frame."""

    pose: str
    build: Build
    spine: np.ndarray  # (n, 3) from the rump to the neck's upper end
    spine_radii: np.ndarray  # (n, 2) sideways and from back to belly
    dorsal: np.ndarray  # (n, 3) unit vectors from the spine to the back
    legs: dict[str, np.ndarray]  # (4, 3): shoulder, elbow, wrist, paw or hip, knee, hock, paw
    tail: np.ndarray  # (t, 3)
    head: np.ndarray  # (3,) the skull's centre
    head_axes: np.ndarray  # (3, 3) columns: forward, left, up
    throat: np.ndarray  # (3,)

    def in_head(self, point: np.ndarray) -> np.ndarray:
        """A point (..., 3) of the head's frame, in ordinary cm, in the cat's frame."""
        return self.head + self.build.head * point @ self.head_axes.T

    def keypoints(self) -> np.ndarray:
        """(17, 3) in the skeleton's order."""
        points = np.zeros((len(AP10K), 3))
        points[0] = self.in_head(EYE)
        points[1] = self.in_head(EYE * MIRROR)
        points[2] = self.in_head(NOSE)
        points[3] = self.throat
        points[4] = self.tail[0]
        for leg, first in LEGS.items():
            points[first : first + 3] = self.legs[leg][[0, 1, 3]]
        return points

    def facing(self, camera: Camera) -> np.ndarray:
        """(17,) bool: which keypoints are not on the far side of the part that they belong to."""
        facing = np.ones(len(AP10K), bool)
        looks = camera.viewer @ self.head_axes
        facing[0], facing[1] = looks @ EYE_NORMAL > 0.2, looks @ (EYE_NORMAL * MIRROR) > 0.2
        facing[2] = looks[0] > -0.25
        facing[4] = camera.viewer[0] < 0.4  # the root of the tail, behind the rump
        return facing


def look(rng: np.random.Generator, view: str) -> Camera:
    """A camera for one of `VIEWS`."""
    heading = {
        "right": rng.uniform(-20, 12),
        "left": rng.uniform(168, 200),
        "front": rng.uniform(-104, -76),
        "quarter": -90 + rng.choice([-1, 1]) * rng.uniform(28, 62),
    }[view]
    return Camera(np.deg2rad(heading), np.deg2rad(rng.uniform(6, 20)))


def grow(rng: np.random.Generator) -> Build:
    """Proportions of a random cat; one in six is a kitten."""
    if rng.random() < 1 / 6:
        return Build(
            trunk=rng.uniform(0.72, 0.82),
            girth=rng.uniform(0.86, 0.98),
            legs=rng.uniform(0.74, 0.86),
            head=rng.uniform(1.1, 1.22),
            ears=rng.uniform(0.95, 1.15),
            tail=rng.uniform(0.6, 0.8),
        )
    return Build(
        trunk=rng.uniform(0.92, 1.1),
        girth=rng.uniform(0.9, 1.2),
        legs=rng.uniform(0.9, 1.1),
        head=rng.uniform(1.05, 1.28),
        ears=rng.uniform(0.85, 1.2),
        tail=rng.uniform(0.85, 1.25),
    )


def bend(start: np.ndarray, end: np.ndarray, upper: float, lower: float, towards: np.ndarray) -> np.ndarray:
    """The joint (3,) of two bones from `start` to `end`, lengths `upper` and `lower` in cm, bent `towards` (3,)."""
    reach = end - start
    distance = float(np.linalg.norm(reach)) or 1e-6
    axis = reach / distance
    distance = min(max(distance, abs(upper - lower) + 0.1), upper + lower - 0.01)
    along = (upper**2 - lower**2 + distance**2) / (2 * distance)
    aside = towards - (towards @ axis) * axis
    aside = aside / np.linalg.norm(aside)
    return start + along * axis + np.sqrt(max(upper**2 - along**2, 0.0)) * aside


def stand_up(rng: np.random.Generator, pose: str, build: Build, camera: Camera) -> Bones:
    """A cat of these proportions in one of `POSES`, its head often turned to the viewer."""
    t, g, leg = build.trunk, build.girth, build.legs
    raise_by = 1.2 + 13.5 * (leg - 1) + 3.0 * (g - 1)
    if pose in ("stand", "walk"):
        arch = rng.uniform(-0.8, 1.2)
        rump, loin, chest = (
            np.array([x * t, 0.0, z + raise_by]) for x, z in ((-13.0, 18.6), (-2.0, 18.4 + arch), (9.5, 17.8))
        )
        neck_angle = np.deg2rad(rng.uniform(10, 62))
    elif pose == "sit":
        lean = rng.uniform(-1.5, 2.5)
        rump, loin, chest = (
            np.array([-7.5 * t, 0.0, 6.0 * g]),
            np.array([-4.0 * t, 0.0, 11.5 * t]),
            np.array([2.0 * t + lean, 0.0, 17.0 * (t + leg) / 2]),
        )
        neck_angle = np.deg2rad(rng.uniform(58, 82))
    else:
        rump, loin, chest = (
            np.array([-12.5 * t, 0.0, 6.2 * g]),
            np.array([-2.0 * t, 0.0, 6.6 * g]),
            np.array([9.0 * t, 0.0, 7.6 * g]),
        )
        neck_angle = np.deg2rad(rng.uniform(32, 66))

    # The head: its centre over the chest, turned from the body's heading to the viewer, at most by 75 degrees.
    neck_length = 8.2 + 4.6 * build.head
    head = chest + neck_length * np.array([np.cos(neck_angle), 0.0, np.sin(neck_angle)])
    to_viewer = np.arctan2(camera.viewer[1], camera.viewer[0])
    turn = to_viewer * (rng.uniform(0.25, 1.0) if rng.random() < 0.6 else rng.uniform(-0.12, 0.12))
    turn = float(np.clip(turn + rng.normal(0, 0.12), -1.3, 1.3))
    head_axes = _turned(turn, float(rng.normal(0.06, 0.12)), float(rng.normal(0, 0.09)))
    head = head + 1.6 * np.array([np.cos(turn) - 1, np.sin(turn), 0.0])

    # The spine: a smooth curve through rump, loin, chest and neck.
    neck_end = chest + 0.62 * (head - chest)
    knots = np.stack([rump, loin, chest, 0.5 * (chest + neck_end) + np.array([0.5, 0, 0]), neck_end])
    widths = np.array([4.9, 5.2 * g, 5.0, 4.1, 3.7 * build.head]) * [g, g, g, (g + 1) / 2, 1]
    depths = np.array([5.9, 6.1 * g, 6.5, 4.9, 4.0 * build.head]) * [g, g, g, (g + 1) / 2, 1]
    spine, radii = _smooth(knots), _smooth(np.stack([widths, depths], 1))
    along = np.gradient(spine, axis=0)
    dorsal = along @ _QUARTER_TURN.T
    dorsal /= np.linalg.norm(dorsal, axis=1, keepdims=True)

    legs: dict[str, np.ndarray] = {}
    phase = rng.uniform(0, 2 * np.pi)
    spread = rng.uniform(0, 1)
    for name in LEGS:
        side = 1.0 if name.startswith("left") else -1.0
        if name.endswith("front"):
            legs[name] = _front_leg(rng, pose, build, chest, side, phase, spread)
        else:
            legs[name] = _back_leg(rng, pose, build, rump, side, phase, spread)

    # The throat: on the neck's surface, under the head and over the chest, on the side of the belly.
    axis = head - chest
    ventral = -_QUARTER_TURN @ axis / np.linalg.norm(axis)
    throat = chest + 0.5 * axis + 0.8 * 4.0 * build.head * ventral
    return Bones(pose, build, spine, radii, dorsal, legs, _tail(rng, pose, build, rump), head, head_axes, throat)


def _turned(yaw: float, pitch: float, roll: float) -> np.ndarray:
    """Columns forward, left, up of a head turned left by yaw, down by pitch, and rolled; radians."""
    cy, sy, cp, sp, cr, sr = np.cos(yaw), np.sin(yaw), np.cos(pitch), np.sin(pitch), np.cos(roll), np.sin(roll)
    about_z = np.array([[cy, -sy, 0], [sy, cy, 0], [0, 0, 1]])
    about_y = np.array([[cp, 0, sp], [0, 1, 0], [-sp, 0, cp]])
    about_x = np.array([[1, 0, 0], [0, cr, -sr], [0, sr, cr]])
    return about_z @ about_y @ about_x


def _smooth(knots: np.ndarray) -> np.ndarray:
    """A Catmull-Rom curve through the knots (n, k), three points for each: (3 (n - 1) + 1, k)."""
    padded = np.concatenate([2 * knots[:1] - knots[1:2], knots, 2 * knots[-1:] - knots[-2:-1]])
    t = (np.arange(3) / 3)[:, None]
    pieces = []
    for a, b, c, d in zip(padded, padded[1:], padded[2:], padded[3:], strict=False):
        pieces.append(0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3))
    return np.concatenate([*pieces, knots[-1:]])


def _front_leg(
    rng: np.random.Generator, pose: str, build: Build, chest: np.ndarray, side: float, phase: float, spread: float
) -> np.ndarray:
    g, leg = build.girth, build.legs
    shoulder = chest + np.array([1.6, side * 4.2 * g, -0.8])
    inwards = np.array([0.0, side * 3.3 * g, 0.0])
    if pose == "walk":
        swing = phase + (0 if side > 0 else np.pi)
        wrist = shoulder * [1, 0, 0] + inwards + [5.0 * np.sin(swing) * leg, 0, 2.6 + 3.2 * max(0.0, np.cos(swing))]
        paw = wrist + np.array([2.0, 0, -1.3])
    elif pose == "stand":
        wrist = shoulder * [1, 0, 0] + inwards + [rng.uniform(-1.8, 1.8), 0, 2.6]
        paw = wrist + np.array([2.0, 0, -1.3])
    elif pose == "sit":
        wrist = shoulder * [1, 0, 0] + inwards * 0.75 + [rng.uniform(0.0, 2.2), 0, 2.6]
        paw = wrist + np.array([2.0, 0, -1.3])
    else:
        wrist = shoulder * [1, 0, 0] + inwards * 1.15 + [2.5 + 6.0 * spread + rng.uniform(-1, 1), 0, 1.7]
        paw = wrist + np.array([2.4, 0, -0.5])
    back = np.array([-1.0, 0.25 * side, -0.1])
    elbow = bend(shoulder, wrist, 8.2 * leg, 8.4 * leg, back)
    elbow[2] = max(elbow[2], 1.9)
    return np.stack([shoulder, elbow, wrist, paw])


def _back_leg(
    rng: np.random.Generator, pose: str, build: Build, rump: np.ndarray, side: float, phase: float, spread: float
) -> np.ndarray:
    g, leg = build.girth, build.legs
    hip = rump + np.array([0.8, side * 4.0 * g, 0.2])
    if pose in ("stand", "walk"):
        if pose == "walk":  # a cat walks left hind, left front, right hind, right front, a quarter of a stride apart
            swing = phase + (0 if side > 0 else np.pi) + np.pi / 2
            shift, lift = 5.2 * np.sin(swing) * leg, 2.8 * max(0.0, np.cos(swing))
        else:
            shift, lift = rng.uniform(-2.2, 2.2), 0.0
        paw = hip * [1, 0, 0] + [1.5 + shift, side * 3.9 * g, 1.3 + lift]
        lean = np.deg2rad(62 - 3.0 * shift)  # the hind foot's rise from the ground: flatter once it is in front
        hock = paw + 7.0 * leg * np.array([-np.cos(lean), 0.0, np.sin(lean)])
        towards = np.array([1.0, 0.15 * side, 0.1])
    else:
        width = 5.2 if pose == "sit" else 6.2
        hock = hip * [1, 0, 0] + [-0.5 if pose == "sit" else -1.5, side * width * g, 1.9]
        paw = hock + np.array([6.8 * leg, side * rng.uniform(0.0, 1.2), -0.6])
        towards = np.array([1.0, 0.25 * side, 0.75 if pose == "sit" else 0.55])
    knee = bend(hip, hock, 8.7 * leg, 8.9 * leg, towards)
    return np.stack([hip, knee, hock, paw])


def _tail(rng: np.random.Generator, pose: str, build: Build, rump: np.ndarray) -> np.ndarray:
    n = 11
    length = 25 * build.tail / (n - 1)
    i = np.linspace(0, 1, n - 1)
    if pose in ("stand", "walk"):
        root = rump + np.array([-5.6 * build.girth, 0.0, 2.2])
        if rng.random() < 0.5:  # carried high
            pitch = rng.uniform(0.2, 1.0) + rng.uniform(0.2, 1.2) * i + rng.uniform(-1.0, 2.0) * i**3
        else:  # hanging, its end curled up
            pitch = rng.uniform(-1.1, -0.3) - 0.2 * i + rng.uniform(0.6, 2.2) * i**2
        yaw = rng.normal(0, 0.35) + rng.normal(0, 0.7) * i
    elif pose == "sit" and rng.random() < 0.35:
        root = rump + np.array([-5.4 * build.girth, 0.0, -2.2])
        pitch = rng.uniform(-0.3, 0.3) + rng.uniform(0.8, 2.2) * i
        yaw = rng.normal(0, 0.5) + 0 * i
    else:  # laid round the body on the ground
        root = rump + np.array([-5.4 * build.girth, 0.0, -2.2 if pose == "sit" else -0.4])
        pitch = -0.5 + 0.5 * i
        yaw = rng.choice([-1, 1]) * (rng.uniform(0.3, 0.9) + rng.uniform(0.6, 2.1) * i)
    steps = np.stack([-np.cos(pitch) * np.cos(yaw), np.cos(pitch) * np.sin(yaw), np.sin(pitch)], 1) * length
    points = np.concatenate([root[None], root + np.cumsum(steps, 0)])
    points[:, 2] = np.maximum(points[:, 2], 1.3)
    return points
