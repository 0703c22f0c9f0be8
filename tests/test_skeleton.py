"""The skeleton's own consistency, and that the real annotations are of this skeleton."""

from __future__ import annotations

import itertools
import json
import statistics
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from skeletons import HEAD, LEGS, OTHERS

from catpose.errors import InputError
from catpose.skeleton import AP10K, DEFAULT_SIGMA, Skeleton, counterpart, skeleton_of

KEYPOINTS, FLIP, LIMBS, SIGMAS = AP10K.names, AP10K.flip, AP10K.limbs, AP10K.sigmas


def test_seventeen_names_all_different() -> None:
    assert len(AP10K) == len(KEYPOINTS) == len(set(KEYPOINTS)) == len(SIGMAS) == len(FLIP) == 17


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
    assert sorted(AP10K.upper + AP10K.lower) == list(range(17))
    assert [KEYPOINTS[i] for i in AP10K.lower] == [
        "root_of_tail", "left_hip", "left_knee", "left_back_paw", "right_hip", "right_knee", "right_back_paw"
    ]  # fmt: skip
    for half in (AP10K.upper, AP10K.lower):
        assert {FLIP[i] for i in half} == set(half)


@pytest.mark.realdata
def test_the_real_cats_have_this_skeleton(cats17: Path) -> None:
    (category,) = json.loads((cats17 / "annotations" / "train.json").read_text())["categories"]
    assert tuple(category["keypoints"]) == KEYPOINTS
    assert {frozenset(limb) for limb in category["skeleton"]} == {frozenset((a + 1, b + 1)) for a, b in LIMBS}


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("left_eye", "right_eye"),
        ("right-front-paw", "left-front-paw"),
        ("LeftEar", "RightEar"),
        ("earLeft", "earRight"),
        ("L_Eye", "R_Eye"),
        ("eye_r", "eye_l"),
        ("LEFT EYE", "RIGHT EYE"),
        ("nose", "nose"),
        ("cleft", "cleft"),
        ("tail_tip", "tail_tip"),
        ("collar", "collar"),
    ],
)
def test_the_side_is_a_word_of_the_name(name: str, other: str) -> None:
    assert counterpart(name) == other
    assert counterpart(other) == name


@pytest.mark.parametrize("skeleton", [AP10K, *OTHERS.values()], ids=lambda skeleton: skeleton.name)
def test_what_follows_from_the_names(skeleton: Skeleton) -> None:
    assert [skeleton.flip[k] for k in skeleton.flip] == list(range(len(skeleton)))
    assert [counterpart(name) for name in skeleton.names] == [skeleton.names[k] for k in skeleton.flip]
    assert all(skeleton.sides[k] == skeleton.names[k].split("_")[0] for pair in skeleton.flip_pairs for k in pair)
    assert sorted(skeleton.upper + skeleton.lower) == list(range(len(skeleton)))
    assert [skeleton.sigmas[k] for k in skeleton.flip] == list(skeleton.sigmas)
    known = dict(zip(AP10K.names, AP10K.sigmas, strict=True))
    assert skeleton.sigmas == tuple(known.get(name, DEFAULT_SIGMA) for name in skeleton.names)
    assert Skeleton.from_plain(json.loads(json.dumps(skeleton.to_plain()))) == skeleton


def test_the_17_names_make_ap10k_and_the_default_sigma_is_their_median() -> None:
    assert skeleton_of(AP10K.names) == AP10K
    assert statistics.median(AP10K.sigmas) == DEFAULT_SIGMA


@pytest.mark.parametrize(
    ("make", "wording"),
    [
        (lambda: skeleton_of(["nose", "nose"]), "two keypoints are called nose"),
        (lambda: skeleton_of(["left_eye", "nose"]), "left_eye has no counterpart right_eye"),
        (lambda: skeleton_of([]), "0 keypoints"),
        (lambda: skeleton_of([f"point {k}" for k in range(1001)]), "1001 keypoints"),
        (lambda: skeleton_of(["a", 7]), "7 is no name"),
        (lambda: skeleton_of(["a", "b\x1b[2J"]), "is no name"),
        (lambda: skeleton_of(["a", "b"], flip_pairs=[(0, 2)]), "pairs of its keypoints"),
        (lambda: skeleton_of(["a", "b"], flip_pairs=[(0, 1), (1, 0)]), "twice in flip_pairs"),
        (lambda: skeleton_of(["a", "b"], limbs=[(0, -1)]), "pairs of its keypoints"),
        (lambda: skeleton_of(["a", "b"], sigmas={"a": 0.0}), "above 0"),
        (lambda: skeleton_of(["a", "b"], upper=[0], lower=[0]), "twice in upper and lower"),
        (lambda: Skeleton.from_plain({"names": 3}), "no skeleton"),
        (lambda: Skeleton.from_plain(None), "no skeleton"),
    ],
)
def test_what_is_no_skeleton_is_one_line(make: Callable[[], Skeleton], wording: str) -> None:
    with pytest.raises(InputError, match=wording) as caught:
        make()
    assert "\n" not in str(caught.value)
    assert str(caught.value).isprintable()


def test_a_difference_names_the_keypoints() -> None:
    assert AP10K.difference(AP10K) == ""
    assert LEGS.difference(AP10K) == (
        "12 keypoints, not 17, without left_eye, right_eye, nose, neck, root_of_tail"
    )  # fmt: skip
    assert "with left_ear, right_ear, chin" in HEAD.difference(AP10K)
    turned = skeleton_of((*AP10K.names[1:], AP10K.names[0]))
    assert turned.difference(AP10K) == "another order (right_eye at place 0, not left_eye)"
    assert replace(AP10K, flip_pairs=()).difference(AP10K) == "other flip pairs"
    assert replace(AP10K, sigmas=(0.1,) * 17).difference(AP10K) == ""  # those are the data's, not the model's
