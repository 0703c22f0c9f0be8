"""Keypoints matched by name: spellings, words of other skeletons, and what can't be matched."""

from __future__ import annotations

from pathlib import Path

import exports
import pytest
from hypothesis import given
from hypothesis import strategies as st
from skeletons import KEYPOINTS

from catpose.data.importers.names import match_keypoints, read_names
from catpose.errors import InputError
from catpose.naming import in_words

SHORT = {"left": "l", "right": "r", "front": "f", "back": "h"}
LONG = {"front": "fore", "back": "hind"}


@st.composite
def spellings(draw: st.DrawFn, name: str) -> str:
    """One of the many ways in which people write a keypoint's name."""
    words = name.split("_")
    if name == "root_of_tail":
        return draw(st.sampled_from(["TailBase", "tail_base", "tailbase", "Tail Root", "tail-head", "ROOT OF TAIL"]))
    if name == "neck":
        return draw(st.sampled_from(["Neck", "throat", "Throat", "NECK"]))
    words = [draw(st.sampled_from([word, SHORT.get(word, word), LONG.get(word, word)])) for word in words]
    if words[-1] != name and draw(st.booleans()):
        words = draw(st.permutations(words))
    style = draw(st.sampled_from(["title", "upper", "lower", "camel"]))
    if style == "camel" and all(len(word) > 1 for word in words):
        return "".join(word.title() for word in words)
    joint = draw(st.sampled_from(["_", " ", "-", ". ", "__"]))
    return joint.join(getattr(word, style if style != "camel" else "lower")() for word in words)


@given(data=st.data(), order=st.permutations(KEYPOINTS))
def test_each_keypoint_is_found_however_it_is_written_and_wherever_it_stands(
    data: st.DataObject, order: list[str]
) -> None:
    names = [data.draw(spellings(name)) for name in order]
    match = match_keypoints(names, "labels.json")
    assert [order[place] for place in match.places if place is not None] == list(KEYPOINTS)
    assert match.left_out == match.missing == []


@given(st.lists(st.text(min_size=1), min_size=1, max_size=30))
def test_whatever_the_names_are_each_is_used_once_or_told_in_one_line(names: list[str]) -> None:
    try:
        match = match_keypoints(names, "labels.json")
    except InputError as error:
        told = str(error)
    else:
        told = ""
    assert "\n" not in told
    if told:
        return
    found = [place for place in match.places if place is not None]
    assert len(found) == len(set(found)) == len(names) - len(match.left_out)
    assert len(match.table().splitlines()) == 18 + bool(match.left_out)


def test_animal_poses_words_mean_other_joints() -> None:
    match = match_keypoints(exports.MMPOSE, "labels.json")
    table = {
        name: exports.MMPOSE[place] for name, place in zip(KEYPOINTS, match.places, strict=True) if place is not None
    }
    assert table["left_shoulder"] == "L_F_Elbow"
    assert table["left_elbow"] == "L_F_Knee"
    assert table["right_hip"] == "R_B_Elbow"
    assert table["right_knee"] == "R_B_Knee"
    assert match.left_out == ["L_EarBase", "R_EarBase", "Withers"]
    assert "17 of the source's 20 keypoints are AP-10K's (Animal-Pose's words)" in match.table()


def test_a_front_elbow_alone_is_an_elbow() -> None:
    names = ["left_front_elbow", "left_front_paw", "left_back_knee"]
    match = match_keypoints(names, "labels.json")
    places = dict(zip(KEYPOINTS, match.places, strict=True))
    assert (places["left_elbow"], places["left_front_paw"], places["left_knee"]) == (0, 1, 2)
    assert len(match.missing) == 14


def test_superanimals_thai_is_the_upper_joint() -> None:
    match = match_keypoints(["front_left_thai", "front_left_knee", "back_left_thai", "back_left_knee", "tail_end"], "x")
    places = dict(zip(KEYPOINTS, match.places, strict=True))
    assert [places[name] for name in ("left_shoulder", "left_elbow", "left_hip", "left_knee")] == [0, 1, 2, 3]
    assert match.left_out == ["tail_end"]


def test_cocos_17_are_not_taken_for_these_17() -> None:
    face, body = ["nose", "left_eye", "right_eye", "left_ear", "right_ear"], ["shoulder", "elbow", "wrist"]
    legs = ["hip", "knee", "ankle"]
    names = face + [f"{side}_{part}" for part in body + legs for side in ("left", "right")]
    match = match_keypoints(names, "person_keypoints_val2017.json")
    assert len(names) == 17
    assert {names[place] for place in match.places if place is not None} == set(names) & set(KEYPOINTS)
    assert len(match.left_out) == 6  # ears, wrists, ankles
    assert "left_front_paw" in match.missing


@pytest.mark.parametrize("name", ["left_paw", "paw", "tail", "left_wrist", "forehead", "backbone", "left_ear", "eye"])
def test_a_name_that_says_too_little_is_none_of_the_17(name: str) -> None:
    match = match_keypoints(["nose", name], "labels.json")
    assert match.left_out == [name]


@pytest.mark.parametrize(
    ("names", "named"),
    [
        (["neck", "throat"], "keypoints 'neck' and 'throat' both mean neck"),
        (["L_Eye", "left eye"], "keypoints 'L_Eye' and 'left eye' both mean left_eye"),
        ([str(i) for i in range(17)], "none of its 17 keypoints (0, 1, 2, …) is one of AP-10K's 17"),
        ([f"new-point-{i}" for i in range(17)], "--keypoints"),
    ],
)
def test_names_that_cannot_be_matched(names: list[str], named: str) -> None:
    with pytest.raises(InputError) as caught:
        match_keypoints(names, "labels.json")
    assert named in str(caught.value)
    assert str(caught.value).startswith("labels.json: ")


def test_words() -> None:
    assert in_words("LFElbow") == "left_front_elbow"
    assert in_words("hind_left_foot") == "left_back_foot"
    assert in_words("ÉpauleGauche") == "épaule_gauche"


def test_a_file_of_names(tmp_path: Path) -> None:
    file = tmp_path / "names.txt"
    file.write_bytes("\ufeffleft eye\n\n# the other\nright eye\n-\n".encode())
    assert read_names(file) == ("left eye", "right eye", "-")
    for content in (b"", b"\xff\xfe\x00", b"# none\n"):
        file.write_bytes(content)
        with pytest.raises(InputError, match="--keypoints"):
            read_names(file)
