"""Drawn cats: the same for everyone, labelled where they are painted, left on the left."""

from __future__ import annotations

import dataclasses
import hashlib
import subprocess
import sys

import cv2
import numpy as np
import pytest
from skeletons import FLIP, KEYPOINTS, N_KEYPOINTS

from catpose.synthetic import DrawnImage, draw
from catpose.synthetic.bones import LEFT, POSES, VIEWS, Camera, bend, grow, look, stand_up
from catpose.synthetic.brush import Canvas
from catpose.synthetic.scene import Scene, compose, paint

LEFT_EYE, RIGHT_EYE, NOSE = (KEYPOINTS.index(name) for name in ("left_eye", "right_eye", "nose"))
TAIL = KEYPOINTS.index("root_of_tail")
LEFT_LEGS = [i for i, name in enumerate(KEYPOINTS) if name.startswith("left_") and i > TAIL]
RIGHT_LEGS = [FLIP[i] for i in LEFT_LEGS]


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return [compose(np.random.default_rng([0, index])) for index in range(100)]


@pytest.fixture(scope="module")
def drawings() -> list[DrawnImage]:
    """The pictures of `scenes`."""
    return [draw(0, index) for index in range(100)]


def digest(drawn: DrawnImage) -> str:
    arrays = drawn.picture, drawn.boxes, drawn.keypoints
    return hashlib.sha256(b"".join(np.ascontiguousarray(array).tobytes() for array in arrays)).hexdigest()


def test_a_picture_depends_on_seed_and_index_alone(drawings):
    program = (
        "import hashlib, sys, cv2\n"
        "from catpose.synthetic import draw\n"
        "cv2.setNumThreads(3)\n"
        "for index in (7, 3, 5):\n"
        "    d = draw(0, index)\n"
        "    print(hashlib.sha256(d.picture.tobytes() + d.boxes.tobytes() + d.keypoints.tobytes()).hexdigest())\n"
        "assert 'torch' not in sys.modules\n"
    )
    elsewhere = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert elsewhere.stdout.split() == [digest(drawings[index]) for index in (7, 3, 5)]
    assert digest(draw(0, 3)) == digest(drawings[3])
    assert len({digest(drawn) for drawn in [*drawings, draw(1, 0), draw(1, 3)]}) == len(drawings) + 2


def test_arrays_have_the_promised_form(drawings):
    for drawn in drawings:
        height, width, channels = drawn.picture.shape
        assert drawn.picture.dtype == np.uint8
        assert channels == 3
        assert 240 <= height <= 400
        assert 280 <= width <= 400
        assert drawn.boxes.shape == (len(drawn.boxes), 4)
        assert drawn.keypoints.shape == (len(drawn.boxes), N_KEYPOINTS, 3)
        assert drawn.picture.std() > 5


def test_keypoints_lie_in_the_picture_and_in_the_box(drawings):
    for drawn in drawings:
        height, width = drawn.picture.shape[:2]
        for (x, y, w, h), keypoints in zip(drawn.boxes, drawn.keypoints, strict=True):
            assert min(x, y) >= 0
            assert x + w <= width - 1 + 1e-9
            assert y + h <= height - 1 + 1e-9
            assert min(w, h) > 20
            assert set(keypoints[:, 2]) <= {0, 1, 2}
            assert (keypoints[keypoints[:, 2] == 0] == 0).all()
            points = keypoints[keypoints[:, 2] > 0, :2]
            assert (points >= [x - 1, y - 1]).all()
            assert (points <= [x + w + 1, y + h + 1]).all()


def test_the_box_is_tight(scenes, drawings):
    """What the cat's outlines cover reaches within a pixel or two of all four sides."""
    for scene, drawn in zip(scenes[:25], drawings, strict=False):
        if len(scene.cats) > 1 or scene.occluder:
            continue
        top = paint(scene)[1]
        rows, columns = np.nonzero(top.any(1))[0] / 2, np.nonzero(top.any(0))[0] / 2
        x, y, w, h = drawn.boxes[0]
        painted = np.array([columns[0], rows[0], columns[-1], rows[-1]])
        assert np.abs(painted - [x, y, x + w, y + h]).max() < 0.5 + 0.5 * max(scene.cats[0].scale, 2)


def test_everything_occurs(scenes):
    cats = [cat for scene in scenes for cat in scene.cats]
    assert {cat.bones.pose for cat in cats} == set(POSES)
    assert {cat.view for cat in cats} == set(VIEWS)
    assert len({cat.coat.pattern for cat in cats}) == 5
    assert len({scene.backdrop for scene in scenes}) == 5
    assert 0.05 < np.mean([len(scene.cats) == 2 for scene in scenes]) < 0.25
    assert 0.08 < np.mean([scene.occluder is not None for scene in scenes]) < 0.25
    assert len({scene.size for scene in scenes}) > 5


def test_most_cats_are_large_and_most_keypoints_in_sight(drawings):
    visibility = np.concatenate([drawn.keypoints[..., 2] for drawn in drawings])
    assert (visibility == 0).mean() < 0.06
    assert 0.2 < (visibility == 1).mean() < 0.45
    assert (visibility == 0).any()
    shares = [max(drawn.boxes[-1, 2:] / drawn.picture.shape[1::-1]) for drawn in drawings]
    assert np.mean(np.array(shares) > 0.4) > 0.75


def test_visible_keypoints_are_painted_over(scenes, drawings):
    """At a visible keypoint the picture differs from the same picture without its cats."""
    differs = []
    for scene, drawn in zip(scenes[:80], drawings, strict=False):
        if scene.occluder is None:
            empty = paint(dataclasses.replace(scene, cats=()))[0].astype(int)
            x, y = np.rint(drawn.keypoints[drawn.keypoints[..., 2] == 2, :2]).astype(int).T
            differs.extend(np.abs(drawn.picture - empty)[y, x].max(-1) > 8)
    assert len(differs) > 500
    assert np.mean(differs) > 0.97


def test_eyes_are_dark_at_their_keypoints(scenes, drawings):
    """Where both eyes are in sight, their pupils are where the labels say, to the pixel."""
    dark = []
    for scene, drawn in zip(scenes, drawings, strict=True):
        for cat, keypoints in zip(scene.cats, drawn.keypoints, strict=True):
            eyes = keypoints[[LEFT_EYE, RIGHT_EYE]]
            if (eyes[:, 2] == 2).all() and not cat.coat.asleep and cat.coat.round_pupils and cat.scale > 3:
                x, y = np.rint(eyes[:, :2]).astype(int).T
                dark.extend(drawn.picture[y, x].mean(-1) < 110)
    assert len(dark) > 50
    assert np.mean(dark) > 0.95


@pytest.mark.parametrize("center", [(20.0, 30.0), (20.25, 30.75), (41.5, 12.1)])
def test_the_brush_paints_where_it_is_told(center):
    """Pixel indices: the centre of gravity of a painted disc is the disc's own."""
    canvas = Canvas(np.zeros((64, 80, 3), np.uint8))
    t = np.linspace(0, 2 * np.pi, 90, endpoint=False)
    canvas.fill(np.array(center) + 6 * np.stack([np.cos(t), np.sin(t)], 1), (255.0, 255.0, 255.0), 3)
    weight = canvas.finish(np.random.default_rng(0), 1)[..., 0].astype(float)
    y, x = np.mgrid[:64, :80]
    gravity = (weight * x).sum() / weight.sum(), (weight * y).sum() / weight.sum()
    assert gravity == pytest.approx(center, abs=0.1)
    assert set(np.unique(canvas.top)) == {0, 3}


def test_a_cat_walking_to_the_right_shows_its_right_flank():
    assert Camera(0.0, 0.2).viewer @ LEFT < -0.9
    assert Camera(np.pi, 0.2).viewer @ LEFT > 0.9
    facing = Camera(-np.pi / 2, 0.2)
    assert facing.project(LEFT)[0] > 0.99
    assert facing.viewer[0] > 0.9


def mirrored(drawn: DrawnImage) -> DrawnImage:
    keypoints = drawn.keypoints[:, FLIP].copy()
    keypoints[..., 0] = np.where(keypoints[..., 2] > 0, drawn.picture.shape[1] - 1 - keypoints[..., 0], 0)
    return DrawnImage(drawn.picture[:, ::-1], drawn.boxes, keypoints)


@pytest.mark.parametrize("transform", [lambda drawn: drawn, mirrored], ids=["as drawn", "mirrored"])
def test_left_is_the_cats_own(drawings, transform):
    """Seen from the front a cat's left eye is on the viewer's right; in profile the near flank is in sight."""
    faces, flanks = 0, []
    for keypoints in np.concatenate([transform(drawn).keypoints for drawn in drawings]):
        x, visibility = keypoints[:, 0], keypoints[:, 2]
        if (visibility[[LEFT_EYE, RIGHT_EYE]] == 2).all():
            assert x[LEFT_EYE] > x[RIGHT_EYE]
            faces += 1
        nearer = (visibility[RIGHT_LEGS] == 2).sum() - (visibility[LEFT_LEGS] == 2).sum()
        long = np.ptp(x[visibility > 0]) > 1.2 * np.ptp(keypoints[visibility > 0, 1])
        if long and (visibility[[NOSE, TAIL]] > 0).all() and abs(nearer) > 1:
            flanks.append((x[NOSE] > x[TAIL]) == (nearer > 0))
    assert faces > 50
    assert len(flanks) > 20
    assert np.mean(flanks) > 0.95


def test_from_the_front_the_left_shoulder_and_hip_are_on_the_right(scenes, drawings):
    joints = [KEYPOINTS.index(name) for name in ("left_shoulder", "left_hip")]
    for scene, drawn in zip(scenes, drawings, strict=True):
        for cat, keypoints in zip(scene.cats, drawn.keypoints, strict=True):
            for joint in joints:
                if cat.view == "front" and min(keypoints[[joint, FLIP[joint]], 2]) > 0:
                    assert keypoints[joint, 0] > keypoints[FLIP[joint], 0]


@pytest.mark.parametrize(("view", "near"), [("right", RIGHT_LEGS), ("left", LEFT_LEGS)])
def test_side_views_hide_the_far_legs(scenes, drawings, view, near):
    seen = [
        keypoints[:, 2]
        for scene, drawn in zip(scenes, drawings, strict=True)
        for cat, keypoints in zip(scene.cats, drawn.keypoints, strict=True)
        if cat.view == view and len(scene.cats) == 1 and not scene.occluder and (keypoints[:, 2] > 0).all()
    ]
    far = [FLIP[i] for i in near]
    assert len(seen) > 10
    assert np.mean([visibility[near] == 2 for visibility in seen]) > 0.8
    assert np.mean([visibility[far] == 2 for visibility in seen]) < 0.5
    shoulder, hip = far[0], far[3]
    assert np.mean([visibility[[shoulder, hip]] == 1 for visibility in seen]) > 0.95


def test_joints_bend_as_a_cats_do():
    rng = np.random.default_rng(0)
    for pose in ("stand", "walk"):
        for _ in range(40):
            legs = stand_up(rng, pose, grow(rng), look(rng, "right")).legs
            for name, (top, middle, ankle, paw) in legs.items():
                side = 1 if name.startswith("left") else -1
                assert min(side * top[1], side * middle[1], side * paw[1]) > 0
                assert top[2] > middle[2] > ankle[2] > paw[2] > 0
                bend_ahead = middle[0] - np.interp(middle[2], [ankle[2], top[2]], [ankle[0], top[0]])
                assert bend_ahead > 0 if name.endswith("back") else bend_ahead < 0
                assert ankle[0] < paw[0]


def test_bend_keeps_the_bones_length():
    rng = np.random.default_rng(0)
    for _ in range(100):
        start, towards = rng.normal(0, 5, 3), rng.normal(0, 1, 3)
        direction = rng.normal(0, 1, 3)
        end = start + direction / np.linalg.norm(direction) * rng.uniform(2, 16)
        joint = bend(start, end, 8.0, 9.0, towards)
        assert np.linalg.norm(joint - start) == pytest.approx(8, abs=1e-6)
        assert np.linalg.norm(joint - end) == pytest.approx(9, abs=1e-6)


def test_jpeg_keeps_the_picture(drawings):
    """RGB order: written as OpenCV wants it and read back, a picture is close to itself and not to its swap."""
    picture = drawings[0].picture
    coded = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])[1]
    back = cv2.imdecode(coded, cv2.IMREAD_COLOR)[..., ::-1].astype(int)
    assert np.abs(back - picture).mean() < 6
