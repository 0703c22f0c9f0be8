"""The skeleton's own consistency, and that the real annotations are of this skeleton."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest

from catpose.skeleton import FLIP, KEYPOINTS, LIMBS, LOWER_BODY, N_KEYPOINTS, SIGMAS, UPPER_BODY


def test_seventeen_names_all_different() -> None:
    assert N_KEYPOINTS == len(KEYPOINTS) == len(set(KEYPOINTS)) == len(SIGMAS) == len(FLIP) == 17


def test_mirroring_twice_is_nothing_and_once_swaps_left_and_right() -> None:
    assert [FLIP[FLIP[i]] for i in range(17)] == list(range(17))
    other = {"left": "right", "right": "left"}
    for name, mirrored in zip(KEYPOINTS, FLIP, strict=True):
        side, _, part = name.partition("_")
        assert KEYPOINTS[mirrored] == (f"{other[side]}_{part}" if side in other else name)
    assert [KEYPOINTS[i] for i in range(17) if FLIP[i] == i] == ["nose", "neck", "root_of_tail"]


def test_limbs_join_all_keypoints_and_are_their_own_mirror_image() -> None:
    assert all(0 <= a < 17 and 0 <= b < 17 and a != b for a, b in LIMBS)
    limbs = {frozenset(limb) for limb in LIMBS}
    assert len(limbs) == len(LIMBS)
    assert {frozenset(FLIP[i] for i in limb) for limb in limbs} == limbs
    reached = {0}
    for _ in KEYPOINTS:
        reached |= {i for limb in limbs if limb & reached for i in limb}
    assert reached == set(range(17))


def test_a_leg_is_a_chain() -> None:
    for side in ("left", "right"):
        for chain in (("neck", "shoulder", "elbow", "front_paw"), ("root_of_tail", "hip", "knee", "back_paw")):
            joints = [KEYPOINTS.index(name if name in KEYPOINTS else f"{side}_{name}") for name in chain]
            assert set(itertools.pairwise(joints)) <= set(LIMBS)


def test_sigmas_are_positive_and_the_same_on_both_sides() -> None:
    assert all(0 < sigma < 0.2 for sigma in SIGMAS)
    assert [SIGMAS[i] for i in FLIP] == list(SIGMAS)
    assert min(SIGMAS) == SIGMAS[KEYPOINTS.index("left_eye")]
    assert max(SIGMAS) == SIGMAS[KEYPOINTS.index("left_hip")]


def test_the_halves_of_the_body_part_it() -> None:
    assert sorted(UPPER_BODY + LOWER_BODY) == list(range(17))
    assert [KEYPOINTS[i] for i in LOWER_BODY] == [
        "root_of_tail", "left_hip", "left_knee", "left_back_paw", "right_hip", "right_knee", "right_back_paw"
    ]  # fmt: skip
    for half in (UPPER_BODY, LOWER_BODY):
        assert {FLIP[i] for i in half} == set(half)


@pytest.mark.realdata
def test_the_real_cats_have_this_skeleton(cats17: Path) -> None:
    (category,) = json.loads((cats17 / "annotations" / "train.json").read_text())["categories"]
    assert tuple(category["keypoints"]) == KEYPOINTS
    assert {frozenset(limb) for limb in category["skeleton"]} == {frozenset((a + 1, b + 1)) for a, b in LIMBS}
