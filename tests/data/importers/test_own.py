"""A source's own keypoints: what the 17 tell of those that match, mirror images, limbs, and what can't be kept."""

from __future__ import annotations

from pathlib import Path

import exports
import pytest
from hypothesis import given
from hypothesis import strategies as st
from skeletons import KEYPOINTS

from catpose.data.importers.own import keep_keypoints
from catpose.data.skeletons import FILE, skeleton_of_category, stated_in, statement
from catpose.data.sources import category_entry
from catpose.errors import InputError
from catpose.skeleton import AP10K, DEFAULT_SIGMA

SPELLINGS = (str.upper, str.title, lambda name: name.replace("left", "L").replace("right", "R"))


@given(order=st.permutations(KEYPOINTS), spell=st.sampled_from(SPELLINGS), more=st.sampled_from([(), ("chin", "tip")]))
def test_what_the_17_tell_holds_in_any_order_and_spelling(order: list[str], spell: object, more: tuple[str]) -> None:
    names = [spell(name.replace("_", " ")) for name in order]  # type: ignore[operator]
    match = keep_keypoints([*names, *more], "labels.json", "COCO")
    skeleton = match.skeleton
    assert skeleton.names == (*names, *more)
    assert match.places == tuple(range(len(skeleton)))
    assert match.missing == match.left_out == []
    new = {name: k for k, name in enumerate(order)}
    assert [skeleton.sigmas[new[name]] for name in KEYPOINTS] == list(AP10K.sigmas)
    assert skeleton.sigmas[17:] == (DEFAULT_SIGMA,) * len(more)
    assert {order[k] for k in skeleton.lower} == {KEYPOINTS[k] for k in AP10K.lower}
    assert all(skeleton.flip[new[name]] == new[KEYPOINTS[AP10K.flip[k]]] for k, name in enumerate(KEYPOINTS))
    named = {frozenset((order[a], order[b])) for a, b in skeleton.limbs}
    assert named == {frozenset((KEYPOINTS[a], KEYPOINTS[b])) for a, b in AP10K.limbs}


@given(names=st.lists(st.text(min_size=1), min_size=1, max_size=20), data=st.data())
def test_whatever_the_names_are_a_skeleton_is_read_back_equal_or_told_in_one_line(
    names: list[str], data: st.DataObject, tmp_path: Path
) -> None:
    place = st.integers(0, len(names) - 1)
    limbs = data.draw(st.lists(st.tuples(place, place), max_size=4))
    try:
        match = keep_keypoints(names, "labels.json", "COCO", limbs)
    except InputError as error:
        lines = str(error).splitlines()
    else:
        lines = []
    assert len(lines) < 2
    if lines:
        return
    (tmp_path / FILE).write_text(statement(match.skeleton), encoding="utf-8")
    category = category_entry(1, "cat", match.skeleton)
    assert skeleton_of_category(category, stated_in(tmp_path)) == match.skeleton
    assert len(match.table().splitlines()) == 1 + bool(match.left_out)


def test_animal_poses_words_keep_their_names_and_have_the_joints_sigmas() -> None:
    skeleton = keep_keypoints(exports.MMPOSE, "labels.json", "COCO").skeleton
    sigmas = dict(zip(skeleton.names, skeleton.sigmas, strict=True))
    assert sigmas["L_F_Elbow"] == AP10K.sigmas[AP10K.names.index("left_shoulder")]
    assert sigmas["R_B_Knee"] == AP10K.sigmas[AP10K.names.index("right_knee")]
    assert sigmas["Withers"] == DEFAULT_SIGMA
    pairs = {(skeleton.names[a], skeleton.names[b]) for a, b in skeleton.flip_pairs}
    assert ("L_EarBase", "R_EarBase") in pairs
    assert len(pairs) == 8


def test_those_left_out_shift_no_other() -> None:
    names = ["nose", "-", "left ear", "right ear", "-"]
    match = keep_keypoints(names, "labels.json", "COCO", limbs=[(0, 1), (0, 2), (2, 2)], flip_pairs=[(0, 1)])
    assert match.places == (0, 2, 3)
    assert match.skeleton.names == ("nose", "left ear", "right ear")
    assert match.skeleton.limbs == ((0, 1),)
    assert match.skeleton.flip_pairs == ((1, 2),)


def test_mirror_images_that_the_names_do_not_tell_come_from_the_source() -> None:
    names = ["nose", "Ohr links", "Ohr rechts"]
    assert keep_keypoints(names, "data.yaml", "YOLO").skeleton.flip_pairs == ()
    assert keep_keypoints(names, "data.yaml", "YOLO", flip_pairs=[(1, 2)]).skeleton.flip_pairs == ((1, 2),)


@pytest.mark.parametrize(
    ("names", "named"),
    [
        (["nose", "left_ear"], "'left_ear' is of one side, and not one other keypoint is its counterpart"),
        (["L_Eye", "left eye", "right eye"], "'L_Eye' is of one side"),
        (["nose", "nose"], "two keypoints are called nose"),
        (["-", "-"], "0 keypoints; a skeleton has 1"),
        (["nose\n"] * 2, "two keypoints are called nose"),
    ],
)
def test_names_that_make_no_skeleton(names: list[str], named: str) -> None:
    with pytest.raises(InputError) as caught:
        keep_keypoints(names, "labels.json", "COCO")
    assert named in str(caught.value)
    assert str(caught.value).startswith("labels.json: ")
    assert "--keypoints" in str(caught.value)
