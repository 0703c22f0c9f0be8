"""Left and right exchanged: found where it was planted, not found in sound poses however they are turned."""

from __future__ import annotations

import made_up
import numpy as np
import pytest
from skeletons import FLIP, KEYPOINTS

from catpose.data.coco import read_split
from catpose.data.inversions import crossed_segments, mirrored_face, suspicious_swaps, twisted_trunk
from catpose.skeleton import AP10K

SOUND = np.array(made_up.keypoints([0, 0, 200, 200]), dtype=float).reshape(17, 3)[:, :2]


def turned(degrees: float) -> np.ndarray:
    angle = np.deg2rad(degrees)
    return SOUND @ np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]) + 500


def exchanged(*names: str) -> np.ndarray:
    keypoints = SOUND.copy()
    for name in names:
        left, right = KEYPOINTS.index(f"left_{name}"), KEYPOINTS.index(f"right_{name}")
        keypoints[[left, right]] = keypoints[[right, left]]
    return keypoints


def found(keypoints: np.ndarray) -> list[str]:
    visibility = np.full((1, 17), 2)
    return [message for _, message in suspicious_swaps(keypoints[None], visibility, np.array([200.0]), AP10K)]


@pytest.mark.parametrize("degrees", range(0, 360, 30))
def test_a_sound_pose_is_sound_however_it_is_turned_and_its_mirror_image_too(degrees: int) -> None:
    assert found(turned(degrees)) == []
    mirrored = (turned(degrees) * [-1, 1] + [1000, 0])[list(FLIP)]
    assert found(mirrored) == []
    assert found(turned(degrees)[list(FLIP)]) == [found(SOUND[list(FLIP)])[0]]  # all exchanged: the face tells


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["eye"], ["left_eye and right_eye"]),
        (["elbow"], ["shoulder or elbow", "elbow or front_paw"]),
        (["front_paw"], ["elbow or front_paw"]),
        (["knee", "back_paw"], ["hip or knee"]),
        (["back_paw"], ["knee or back_paw"]),
        (["hip", "knee", "back_paw"], ["shoulder or hip"]),
    ],
)
def test_each_planted_exchange_is_found_where_it_is(names: list[str], words: list[str]) -> None:
    messages = found(exchanged(*names))
    assert len(messages) == len(words)
    for message, word in zip(messages, words, strict=True):
        assert word in message


@pytest.mark.parametrize(("length", "crossed"), [(70, True), (80, False)])
def test_legs_that_cross_at_a_flat_angle_only(length: float, crossed: bool) -> None:
    """Two segments that cross between x = 0 and x = 100: joined straight they are 0.57 or 0.62 as long."""
    keypoints = np.full((1, 17, 2), np.nan)
    for name, place in {"shoulder": (0, 100), "elbow": (100, 0)}.items():
        keypoints[0, KEYPOINTS.index(f"left_{name}")] = place[0], length * (name == "elbow")
        keypoints[0, KEYPOINTS.index(f"right_{name}")] = place[1], length * (name == "elbow")
    ends = KEYPOINTS.index("left_shoulder"), KEYPOINTS.index("left_elbow")
    assert crossed_segments(keypoints, np.array([900.0]), *ends).tolist() == [crossed]
    assert crossed_segments(keypoints, np.array([1100.0]), *ends).tolist() == [False]  # too close to tell


def test_what_is_not_labelled_is_not_judged() -> None:
    keypoints = exchanged("eye", "front_paw", "hip", "knee", "back_paw")
    for names in (["nose"], ["left_elbow", "right_front_paw"], ["left_shoulder"], ["right_hip"]):
        for name in names:
            keypoints[KEYPOINTS.index(name)] = np.nan
    with np.errstate(all="raise"):
        assert found(keypoints) == []
    assert found(np.full((17, 2), np.nan)) == []
    assert found(np.zeros((17, 2))) == []


def test_eyes_that_are_hidden_are_not_judged() -> None:
    """Seen through the back of the head they are on the other sides, and rightly so."""
    visibility = np.full((1, 17), 2)
    visibility[0, 1] = 1
    assert list(suspicious_swaps(exchanged("eye")[None], visibility, np.array([200.0]), AP10K)) == []


def test_profiles_and_faces_from_below_pass() -> None:
    profile, below = SOUND.copy(), SOUND.copy()
    profile[0], profile[1], profile[2] = (100, 50), (103, 50), (80, 51)  # both eyes nearly at one place
    below[2] = (100, 36)  # the nose a little above the line of the eyes, at y = 40
    assert found(profile) == found(below) == []


@pytest.mark.realdata
def test_few_of_the_real_cats_look_exchanged_and_most_would_if_they_were(cats17) -> None:  # type: ignore[no-untyped-def]
    split = read_split(cats17, "train")
    scale = np.sqrt(split.boxes[:, 2] * split.boxes[:, 3])
    flipped = split.keypoints[:, list(FLIP)]
    faces = np.isfinite(split.keypoints[:, :3]).all(axis=(1, 2)).sum()
    assert mirrored_face(split.keypoints).sum() == 2
    assert mirrored_face(flipped).sum() > 0.95 * faces
    assert twisted_trunk(split.keypoints, scale).sum() == 0
    elbow, paw = KEYPOINTS.index("left_elbow"), KEYPOINTS.index("left_front_paw")
    legs = np.isfinite(split.keypoints[:, [elbow, paw, FLIP[elbow], FLIP[paw]]]).all(axis=(1, 2)).sum()
    assert crossed_segments(split.keypoints, scale, elbow, paw).sum() == 1
    exchanged_paws = split.keypoints.copy()
    exchanged_paws[:, [paw, FLIP[paw]]] = exchanged_paws[:, [FLIP[paw], paw]]
    assert crossed_segments(exchanged_paws, scale, elbow, paw).sum() > 0.5 * legs
