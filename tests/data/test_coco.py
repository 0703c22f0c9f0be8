"""Reading COCO keypoint files: what is read, and the one line for each way in which a file can be broken."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import made_up
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from skeletons import KEYPOINTS

from catpose.data.checks import examine_folder
from catpose.data.coco import read_coco, read_split
from catpose.data.coco_split import split_hash
from catpose.errors import InputError

Coco = dict[str, Any]


def written(folder: Path, content: object) -> Path:
    file = folder / "some.json"
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    return file


def test_reads_instances_by_image_in_the_order_of_the_file(tmp_path: Path) -> None:
    content = made_up.coco(range(1, 8))
    content["images"].reverse()
    content["annotations"][2]["keypoints"][9:12] = [50.5, 20.25, 1]
    content["annotations"][2]["keypoints"][15:18] = [13, 14, 0]  # a place is given, yet it is not labelled
    split = read_coco(written(tmp_path, content), tmp_path)
    assert [image.id for image in split.images] == list(range(1, 8))
    assert split.image_id.tolist() == [split.images[i].id for i in split.image_index]
    assert split.ids.tolist() == [
        entry["id"] for entry in sorted(content["annotations"], key=lambda entry: entry["image_id"])
    ]
    by_id = {entry["id"]: entry for entry in content["annotations"]}
    for i, id_ in enumerate(split.ids):
        triples = np.array(by_id[int(id_)]["keypoints"], dtype=float).reshape(17, 3)
        labelled = triples[:, 2] > 0
        assert split.boxes[i].tolist() == by_id[int(id_)]["bbox"]
        assert split.areas[i] == by_id[int(id_)]["area"]
        assert split.visibility[i].tolist() == triples[:, 2].tolist()
        assert (split.keypoints[i, labelled] == triples[labelled, :2]).all()
        assert np.isnan(split.keypoints[i, ~labelled]).all()
    assert len(split) == len(by_id)
    assert split.has_keypoints
    assert split.images[0].path == tmp_path / "1.png"


def test_a_file_of_boxes_has_no_keypoints_and_stands_in_for_test(tmp_path: Path) -> None:
    root = made_up.data_set(tmp_path / "cats")
    content = json.loads((root / "annotations" / "test.json").read_text())
    for entry in content["annotations"]:
        del entry["keypoints"], entry["num_keypoints"], entry["area"]
    del content["categories"][0]["keypoints"]
    (root / "annotations" / "test_info.json").write_text(json.dumps(content))
    assert read_split(root, "test").has_keypoints
    (root / "annotations" / "test.json").unlink()
    split = read_split(root, "test")
    assert not split.has_keypoints
    assert split.visibility.sum() == 0
    assert np.isnan(split.keypoints).all()
    assert np.isnan(split.stated_areas).all()
    assert (split.areas == split.boxes[:, 2] * split.boxes[:, 3]).all()


def test_names_of_other_splits_and_of_what_is_there(tmp_path: Path) -> None:
    root = made_up.data_set(tmp_path / "cats")
    (root / "annotations" / "val.json").rename(root / "annotations" / "holdout.json")
    assert len(read_split(root, "holdout").images) == 3
    with pytest.raises(InputError, match=r"no val\.json; splits there: holdout, test, train"):
        read_split(root, "val")
    with pytest.raises(InputError, match=r"no \.\./x.json"):
        read_split(root, "../x")
    with pytest.raises(
        InputError, match=r"no such folder; make the data \(drawn cats: `python -m catpose\.prepare drawn --out"
    ):
        read_split(tmp_path / "nowhere", "train")


def test_the_hash_is_of_the_content_alone(tmp_path: Path) -> None:
    content = made_up.coco(range(1, 8))
    content["annotations"][0]["bbox"][0] = 0
    same = copy.deepcopy(content)
    same["annotations"][0]["bbox"][0] = -0.0
    same["images"].reverse()
    same["annotations"].reverse()
    same["info"] = {"description": "of another layout"}
    same["annotations"][0]["bbox"] = [float(value) for value in same["annotations"][0]["bbox"]]
    first = split_hash(read_coco(written(tmp_path, content), tmp_path))
    assert split_hash(read_coco(written(tmp_path, same), tmp_path / "elsewhere")) == first
    seen = {first}
    for change in (
        lambda c: c["images"][0].update(file_name="other.png"),
        lambda c: c["images"][0].update(width=97),
        lambda c: c["annotations"][0].update(id=5),
        lambda c: c["annotations"][0].update(area=1),
        lambda c: c["annotations"][0].update(iscrowd=1),
        lambda c: c["annotations"][0]["bbox"].__setitem__(0, 4.5),
        lambda c: c["annotations"][0]["keypoints"].__setitem__(0, 41.5),
        lambda c: c["annotations"][0]["keypoints"].__setitem__(2, 1),
    ):
        other = copy.deepcopy(content)
        change(other)
        seen.add(split_hash(read_coco(written(tmp_path, other), tmp_path)))
    assert len(seen) == 9


@given(st.sets(st.integers(1, 9), max_size=6))
def test_a_split_without_some_images_is_what_its_file_without_them_is(tmp_path: Path, ids: set[int]) -> None:
    content = made_up.coco(range(1, 8))
    short = content | {
        "images": [entry for entry in content["images"] if entry["id"] not in ids],
        "annotations": [entry for entry in content["annotations"] if entry["image_id"] not in ids],
    }
    ours = read_coco(written(tmp_path, content), tmp_path).without_images(ids)
    theirs = read_coco(written(tmp_path, short), tmp_path)
    assert split_hash(ours) == split_hash(theirs)
    assert (ours.images, ours.coco) == (theirs.images, theirs.coco)
    for name in ("image_ids", "image_index", "ids", "areas", "ignored", "category_index"):
        np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name))


def _set(*path: str | int, to: object) -> Callable[[Coco], None]:
    def change(content: Coco) -> None:
        *way, last = path
        at: Any = content
        for key in way:
            at = at[key]
        at[last] = to

    return change


def _without(*path: str | int) -> Callable[[Coco], None]:
    def change(content: Coco) -> None:
        *way, last = path
        at: Any = content
        for key in way:
            at = at[key]
        del at[last]

    return change


def _again(key: str) -> Callable[[Coco], None]:
    return lambda content: content[key].append(copy.deepcopy(content[key][0]))


# The change, then what the line must name: the entry, the key, what is wrong.
BROKEN: list[tuple[Callable[[Coco], None], list[str]]] = [
    (_without("images"), ["no 'images'"]),
    (_without("annotations"), ["no 'annotations'"]),
    (_without("categories"), ["no 'categories'"]),
    (_set("images", to={}), ["'images' is an object, not a list"]),
    (_set("annotations", to=None), ["'annotations' is null"]),
    (_set("images", to=[]), ["'images' is empty"]),
    (_set("annotations", to=[]), ["'annotations' is empty"]),
    (_set("images", 1, to=7), ["images[1]", "is a number, not an object"]),
    (_set("annotations", 1, to=[]), ["annotations[1]", "is a list"]),
    (_without("annotations", 0, "id"), ["annotations[0]", "no 'id'"]),
    (_set("annotations", 0, "id", to="7"), ["annotations[0]", "'id' is '7'"]),
    (_set("annotations", 0, "id", to=True), ["annotations[0]", "'id' is True"]),
    (_set("annotations", 0, "id", to=2**70), ["annotations[0]", "'id'"]),
    (_again("annotations"), ["annotation 998", "twice"]),
    (_again("images"), ["image 1", "twice"]),
    (_again("categories"), ["category 1", "twice"]),
    (_without("images", 0, "file_name"), ["image 1", "no 'file_name'"]),
    (_set("images", 0, "file_name", to=3), ["image 1", "'file_name' is 3"]),
    (_set("images", 0, "file_name", to=""), ["image 1", "'file_name'"]),
    (_set("images", 0, "file_name", to="a\0b"), ["image 1", "'file_name' is 'a\\x00b'"]),
    (_set("images", 0, "file_name", to="\ud800.png"), ["image 1", "'file_name' is '\\ud800.png'"]),
    (_set("images", 0, "file_name", to="/etc/passwd"), ["image 1", "'file_name' is '/etc/passwd'", "images/"]),
    (_set("images", 0, "file_name", to="a/../../b.png"), ["image 1", "'file_name'", "images/"]),
    (_set("images", 0, "file_name", to="..\\b.png"), ["image 1", "'file_name'", "images/"]),
    (_set("images", 0, "file_name", to="C:\\b.png"), ["image 1", "'file_name'", "images/"]),
    (_without("images", 0, "width"), ["image 1", "no 'width'"]),
    (_set("images", 0, "height", to=-80), ["image 1", "'height' is -80"]),
    (_set("images", 0, "height", to=0), ["image 1", "'height' is 0"]),
    (_set("images", 0, "width", to=96.5), ["image 1", "'width' is 96.5"]),
    (_set("images", 0, "width", to=10**290), ["image 1", "'width' is a number of more than 30 digits"]),
    (_set("images", 0, "width", to=10**400), ["line 1: a number of more than 300 digits"]),
    (_set("images", 0, "width", to=float("nan")), ["image 1", "'width' is nan"]),
    (_set("images", 0, "width", to=float("inf")), ["image 1", "'width' is inf"]),
    (_set("annotations", 0, "image_id", to=99), ["annotation 998", "'image_id' is 99", "no image"]),
    (_without("annotations", 0, "image_id"), ["annotation 998", "no 'image_id'"]),
    (_set("annotations", 0, "image_id", to=[1]), ["annotation 998", "'image_id' is [1]"]),
    (_set("annotations", 0, "category_id", to=2), ["annotation 998", "'category_id' is 2", "no category"]),
    (_without("annotations", 0, "bbox"), ["annotation 998", "no 'bbox'"]),
    (_set("annotations", 0, "bbox", to=[1, 2, 3]), ["annotation 998", "'bbox' is [1, 2, 3]"]),
    (_set("annotations", 0, "bbox", to="0 0 9 9"), ["annotation 998", "'bbox'"]),
    (_set("annotations", 0, "bbox", 2, to=0), ["annotation 998", "'bbox' is 0 × 70 px"]),
    (_set("annotations", 0, "bbox", 3, to=-70), ["annotation 998", "'bbox' is 60 × -70 px"]),
    (_set("annotations", 0, "bbox", 0, to=float("nan")), ["annotation 998", "'bbox' is [nan"]),
    (_set("annotations", 0, "bbox", 0, to=1e300), ["annotation 998", "'bbox'", "1e+300"]),
    (_set("annotations", 0, "iscrowd", to=[]), ["annotation 998", "'iscrowd' is []"]),
    (_without("annotations", 0, "keypoints"), ["annotation 998", "no 'keypoints'"]),
    (_set("annotations", 0, "keypoints", to=[0] * 48), ["annotation 998", "'keypoints' has 48 numbers, not 51"]),
    (_set("annotations", 0, "keypoints", to={}), ["annotation 998", "'keypoints' is {}"]),
    (_set("annotations", 0, "keypoints", 7, to=None), ["annotation 998", "'keypoints' has None for nose"]),
    (_set("annotations", 0, "keypoints", 4, to=float("-inf")), ["annotation 998", "has -inf for right_eye"]),
    (_set("annotations", 0, "keypoints", 4, to=10**40), ["annotation 998", "for right_eye"]),
    (_set("annotations", 0, "keypoints", 5, to=3), ["annotation 998", "visibility 3 for right_eye"]),
    (_set("annotations", 0, "keypoints", 5, to=0.5), ["annotation 998", "visibility 0.5 for right_eye"]),
    (_without("categories", 0, "keypoints"), ["category 1", "'keypoints'"]),
    (
        _set("categories", 0, "keypoints", to=list(KEYPOINTS[:16])),
        ["category 1", "left_back_paw has no counterpart right_back_paw"],
    ),
    (_set("categories", 0, to=None), ["categories[0]", "is null"]),
]


@pytest.mark.parametrize(("break_it", "named"), BROKEN)
def test_each_broken_entry_is_named_in_one_line(
    break_it: Callable[[Coco], None], named: list[str], tmp_path: Path
) -> None:
    content = made_up.coco(range(1, 4))
    read_coco(written(tmp_path, content), tmp_path)  # sound before
    break_it(content)
    file = written(tmp_path, content)
    with pytest.raises(InputError) as caught:
        read_coco(file, tmp_path)
    line = str(caught.value)
    assert line.startswith(f"{file}: ")
    assert "\n" not in line
    assert line.isprintable()
    assert len(line) < 400
    for part in named:
        assert part in line


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just(10**400) | st.just("\ud800"),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


@given(data=st.data(), value=JSON)
def test_whatever_is_put_anywhere_it_is_read_or_told_in_one_line(
    data: st.DataObject, value: object, tmp_path: Path
) -> None:
    content = made_up.coco(range(1, 4))
    way = data.draw(st.sampled_from(made_up.places(content)))
    made_up.put(content, way, value)
    root = tmp_path / "cats"
    (root / "annotations").mkdir(parents=True, exist_ok=True)
    file = written(root / "annotations", content)
    findings = examine_folder(root).findings  # the gate goes through all of it, whatever it is
    errors = {finding.message for finding in findings if finding.severity == "error"}
    told = ""
    try:
        split_hash(read_coco(file, root / "images"))
    except InputError as error:
        told = str(error)
    assert "\n" not in told
    assert not told or any(message in told for message in errors)


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"", "is empty"),
        (b" \n", "is empty"),
        (b"{", "is not JSON (line 1"),
        (b'{"images": [1, 2', "was it cut short"),
        (b"[1, 2]", "is a list, not an object"),
        (b'"cats"', "is a text, not an object"),
        (b"12", "is a number, not an object"),
        (b"null", "is null, not an object"),
        (b"\xff\xfe{\0}\0", "is not UTF-8 but UTF-16"),
        (b"\x89PNG\r\n\x1a\n", "is not UTF-8"),
        (b"[" * 200_000, "nested too deeply"),
        (b'{"a":' * 200_000, "nested too deeply"),
    ],
)
def test_each_file_that_is_no_coco_is_named_in_one_line(content: bytes, named: str, tmp_path: Path) -> None:
    file = tmp_path / "some.json"
    file.write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_coco(file, tmp_path)
    assert str(caught.value).startswith(f"{file}: ")
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is a folder, not a JSON file"):
        read_coco(tmp_path, tmp_path)
    with pytest.raises(InputError, match="no such file"):
        read_coco(tmp_path / "none.json", tmp_path)
    os.mkfifo(tmp_path / "pipe.json")
    with pytest.raises(InputError, match="is a device"):
        read_coco(tmp_path / "pipe.json", tmp_path)


def test_the_harmless_is_read(tmp_path: Path) -> None:
    content = made_up.coco(range(1, 4))
    del (
        content["annotations"][0]["area"],
        content["annotations"][1]["iscrowd"],
        content["annotations"][1]["num_keypoints"],
    )
    content["annotations"][2]["area"] = None
    content["images"][0]["width"] = 96.0
    content["licenses"] = content["info"] = None
    file = tmp_path / "some.json"
    file.write_text(json.dumps(content), encoding="utf-8-sig")
    split = read_coco(file, tmp_path)
    assert np.isnan(split.stated_areas).sum() == 2
    assert not np.isnan(split.areas).any()
    assert split.images[0].width == 96


def test_several_errors_are_counted_and_the_first_is_told(tmp_path: Path) -> None:
    content = made_up.coco(range(1, 4))
    for entry in content["annotations"][:3]:  # a fault of all four would be one
        entry["bbox"][2] = -1
    with pytest.raises(InputError, match=r"annotation 998: .*\(and 2 more errors: python -m catpose.check\)"):
        read_coco(written(tmp_path, content), tmp_path)


def test_pictures_may_be_links(tmp_path: Path) -> None:
    root = made_up.data_set(tmp_path / "cats")
    outside = tmp_path / "outside.png"
    (root / "images" / "1.png").rename(outside)
    (root / "images" / "1.png").symlink_to(outside)
    read_split(root, "train")
    outside.rename(root / "images" / "kept.png")
    (root / "images" / "1.png").unlink()
    (root / "images" / "1.png").symlink_to("kept.png")
    read_split(root, "train")
    (root / "images").rename(tmp_path / "pictures")  # the folder as a whole may be elsewhere
    (root / "images").symlink_to(tmp_path / "pictures")
    read_split(root, "train")


@pytest.mark.realdata
def test_the_real_cats(cats17: Path) -> None:
    counts = {split: read_split(cats17, split) for split in ("train", "val", "test")}
    assert [(len(c.images), len(c), c.has_keypoints) for c in counts.values()] == [
        (1000, 1104, True),
        (124, 132, True),
        (200, 223, False),
    ]
