"""Releases turned into COCO entries, and the one line for each way in which one can be broken."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import made_up
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from skeletons import KEYPOINTS

from catpose.data.coco import read_split
from catpose.data.images import read_image
from catpose.data.skeletons import skeleton_of_category
from catpose.data.sources import Release, read_animal_pose, read_ap10k
from catpose.errors import InputError


def animal_pose(folder: Path, *species: str) -> Release:
    return read_animal_pose(folder / "keypoints.json", folder / "images", species or ["cat"])


def test_animal_pose_becomes_coco(tmp_path: Path) -> None:
    release = animal_pose(made_up.animal_pose_release(tmp_path / "r"))
    assert [image["id"] for image in release.images] == list(range(1, 10))
    assert release.images[3] == {"id": 4, "file_name": "pic_4.jpg", "width": 96, "height": 80}
    assert [entry["id"] for entry in release.annotations] == [1, 3, 4, 5, 6, 7, 8, 9, 10]  # 2 is image 1's dog
    entry = release.annotations[1]
    assert entry["image_id"] == 2
    assert entry["category_id"] == 1
    assert entry["bbox"] == [5, 10, 60, 64]
    assert entry["area"] == 60 * 64
    assert entry["num_keypoints"] == 17
    places = dict(zip(KEYPOINTS, np.array(entry["keypoints"]).reshape(17, 3).tolist(), strict=True))
    order = made_up.ANIMAL_POSE_KEYPOINTS
    for name, (x, y, v) in places.items():
        assert (y - 20, v) == (x - 10, 2)
        source = order[x - 10]
        assert source.startswith("left_") == name.startswith("left_")
        assert source.startswith("right_") == name.startswith("right_")
        if "eye" in name or "paw" in name or name == "nose":
            assert source == name
    assert order[places["neck"][0] - 10] == "throat"
    assert order[places["root_of_tail"][0] - 10] == "tailbase"
    parts = {"shoulder": "front_elbow", "elbow": "front_knee", "hip": "back_elbow", "knee": "back_knee"}
    for ours, theirs in parts.items():
        assert order[places[f"left_{ours}"][0] - 10] == f"left_{theirs}"
        assert order[places[f"right_{ours}"][0] - 10] == f"right_{theirs}"
    assert [c["name"] for c in release.categories] == ["cat"]
    assert release.categories[0]["keypoints"] == list(KEYPOINTS)


def test_animal_pose_may_keep_its_own_keypoints(tmp_path: Path) -> None:
    folder = made_up.animal_pose_release(tmp_path / "r")
    release = read_animal_pose(folder / "keypoints.json", folder / "images", ["cat"], own=True)
    assert release.categories[0]["keypoints"] == made_up.ANIMAL_POSE_KEYPOINTS
    skeleton = skeleton_of_category(release.categories[0], {})
    names = {frozenset(skeleton.names[k] for k in limb) for limb in skeleton.limbs}
    assert {frozenset(pair) for pair in (("throat", "left_front_elbow"), ("left_eye", "left_ear"))} < names
    points = np.array(release.annotations[1]["keypoints"]).reshape(20, 3)
    assert points.tolist() == [[10 + k, 20 + k, 2] for k in range(20)]


def test_animal_pose_keypoints_are_found_by_name_and_unlabelled_ones_are_zero(tmp_path: Path) -> None:
    folder = made_up.animal_pose_release(tmp_path / "r")
    content = json.loads((folder / "keypoints.json").read_text())
    before = animal_pose(folder).annotations
    for category in content["categories"]:
        category["keypoints"] = category["keypoints"][::-1]
    for entry in content["annotations"]:
        entry["keypoints"] = entry["keypoints"][::-1]
    content["annotations"][0]["keypoints"][-1][2] = 0  # left_eye: a place, but not labelled
    (folder / "keypoints.json").write_text(json.dumps(content))
    after = animal_pose(folder).annotations
    assert after[1:] == before[1:]
    assert after[0]["keypoints"] == [0, 0, 0, *before[0]["keypoints"][3:]]
    assert after[0]["num_keypoints"] == 16


def test_animal_pose_species_and_withheld(tmp_path: Path) -> None:
    folder = made_up.animal_pose_release(tmp_path / "r", n_withheld=2)
    dogs = animal_pose(folder, "dog")
    assert [image["id"] for image in dogs.images] == [1, 10, 11, 12]
    assert animal_pose(folder).withheld == {8, 9}
    assert dogs.withheld == frozenset()
    both = animal_pose(folder, "dog", "cat")
    assert len(both.images) == 12
    assert len(both.annotations) == 13
    assert [(c["id"], c["name"]) for c in both.categories] == [(1, "dog"), (2, "cat")]
    assert animal_pose(folder, "all").annotations == both.annotations
    with pytest.raises(InputError, match=r"has no species 'cats'. Did you mean cat\?"):
        animal_pose(folder, "cats")
    with pytest.raises(InputError, match="has no instance of sheep"):
        animal_pose(folder, "sheep")


def test_a_picture_turned_by_exif_has_the_size_it_is_read_with(tmp_path: Path) -> None:
    folder = made_up.animal_pose_release(tmp_path / "r")
    file = folder / "images" / "pic_2.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    with Image.open(file) as picture:
        picture.save(file, exif=exif)
    image = animal_pose(folder).images[1]
    assert read_image(file).shape[:2] == (image["height"], image["width"]) == (96, 80)


def _entry(index: int, key: str, value: object) -> Callable[[dict[str, Any]], None]:
    return lambda content: content["annotations"][index].__setitem__(key, value)


@pytest.mark.parametrize(
    ("break_it", "named"),
    [
        (lambda c: c.pop("images"), "no object 'images'"),
        (lambda c: c.update(images=[]), "no object 'images'"),
        (lambda c: c.update(annotations={}), "no list 'annotations'"),
        (lambda c: c.update(categories=None), "no list 'categories'"),
        (lambda c: c["categories"].append(3), "categories[3]"),
        (lambda c: c["categories"][1].update(id=[2]), "categories[1]"),
        (lambda c: c["categories"][1].update(name="ca\nt"), "has no species 'cat'. Did you mean ca t?"),
        (lambda c: c["categories"][1].update(name="\n\x1b["), "has no species 'cat'. There are: "),
        (lambda c: c["categories"][1].pop("keypoints"), "category 'cat' has no keypoint 'left_eye'"),
        (lambda c: c["categories"][1].update(keypoints=list(KEYPOINTS)), "category 'cat' has no keypoint 'throat'"),
        (_entry(0, "image_id", "1"), "annotations[0]: 'image_id' is '1', not a whole number"),
        (_entry(0, "image_id", 99), "annotation 1: 'image_id' is 99"),
        (_entry(0, "bbox", [1, 2, 3]), "annotations[0]: 'bbox'"),
        (_entry(0, "bbox", None), "annotations[0]: 'bbox'"),
        (_entry(0, "bbox", [5, 10, 5, 74]), "annotation 1: 'bbox' is 0 × 64 px"),
        (_entry(0, "bbox", [5, 10, float("nan"), 74]), "annotation 1: 'bbox'"),
        (_entry(0, "keypoints", [[0, 0, 0]] * 17), "annotations[0]: 'keypoints' is not a list of 20"),
        (_entry(0, "keypoints", [[0, 0]] * 20), "annotations[0]: 'keypoints'"),
        (_entry(0, "keypoints", [[float("inf"), 0, 1]] * 20), "annotation 1: 'keypoints'"),
        (lambda c: c["images"].update({"2": "../pic_2.jpg"}), "image 2: 'file_name' is '../pic_2.jpg'"),
        (lambda c: c["images"].update({"2": None}), "image 2: 'file_name' is None"),
        (lambda c: c["images"].update({"2": "pic_3.jpg"}), "'pic_3.jpg' is the picture of two images"),
    ],
)
def test_each_broken_animal_pose_is_named_in_one_line(
    break_it: Callable[[dict[str, Any]], None], named: str, tmp_path: Path
) -> None:
    folder = made_up.animal_pose_release(tmp_path / "r")
    content = json.loads((folder / "keypoints.json").read_text())
    break_it(content)
    (folder / "keypoints.json").write_text(json.dumps(content))
    with pytest.raises(InputError) as caught:
        animal_pose(folder)
    assert str(caught.value).startswith(str(folder / "keypoints.json"))
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)


JSON: st.SearchStrategy[Any] = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just([]) | st.just({}) | st.just([1, 2])
)


@given(data=st.data(), value=JSON)
def test_whatever_is_put_anywhere_a_release_is_read_or_told_in_one_line(
    data: st.DataObject, value: object, tmp_path: Path
) -> None:
    ap10k, animals = tmp_path / "ap-10k", tmp_path / "animals"
    if not ap10k.exists():
        made_up.ap10k_release(ap10k)
        made_up.animal_pose_release(animals)
    for file, read in (
        (ap10k / "annotations" / "ap10k-val-split1.json", lambda: read_ap10k(ap10k, ["cat", "dog"])),
        (animals / "keypoints.json", lambda: animal_pose(animals, "cat", "dog")),
    ):
        text = file.read_text()
        content = json.loads(text)
        made_up.put(content, data.draw(st.sampled_from(made_up.places(content))), value)
        file.write_text(json.dumps(content))
        told = ""
        try:
            read()
        except InputError as error:
            told = str(error)
        file.write_text(text)
        assert "\n" not in told


def test_missing_and_unreadable_pictures(tmp_path: Path) -> None:
    folder = made_up.animal_pose_release(tmp_path / "r")
    (folder / "images" / "pic_5.jpg").write_bytes(b"not a picture")
    with pytest.raises(InputError, match=r"pic_5\.jpg: is no picture"):
        animal_pose(folder)
    (folder / "images" / "pic_5.jpg").unlink()
    (folder / "images" / "pic_6.jpg").unlink()
    with pytest.raises(InputError, match=r"images: 2 of the 9 pictures are not there, 'pic_5.jpg' for one"):
        animal_pose(folder)
    (folder / "images" / "pic_5.jpg").symlink_to("/etc/hostname")
    (folder / "images" / "pic_6.jpg").symlink_to("/etc/hostname")
    with pytest.raises(InputError, match=r"pic_5\.jpg: is no picture"):
        animal_pose(folder)


def test_ap10k_is_merged_and_filtered(tmp_path: Path) -> None:
    folder = made_up.ap10k_release(tmp_path / "ap-10k")
    cats = read_ap10k(folder, ["cat"])
    assert [image["id"] for image in cats.images] == [1, 2, 4, 5, 7, 8, 10, 11]
    assert cats.images[0] == {"id": 1, "file_name": "000000000001.jpg", "width": 96, "height": 80}
    assert [entry["id"] for entry in cats.annotations] == [10, 20, 40, 50, 70, 80, 100, 110]
    assert cats.annotations[0] == made_up.annotation(10, 1, [5, 6, 60, 70])
    assert [(c["id"], c["name"]) for c in cats.categories] == [(1, "cat")]
    assert cats.withheld == frozenset()
    both = read_ap10k(folder, ["cat", "dog"])
    assert len(both.images) == 11
    assert [entry["category_id"] for entry in both.annotations[:4]] == [1, 2, 1, 2]  # image 1: a cat and a dog
    with pytest.raises(InputError, match="has no instance of argali sheep"):
        read_ap10k(folder, ["argali sheep"])
    with pytest.raises(InputError, match=r"has no species 'cow'. There are: cat, dog, argali sheep"):
        read_ap10k(folder, ["cow"])


def test_ap10k_keeps_visibility_and_area(tmp_path: Path) -> None:
    folder = made_up.ap10k_release(tmp_path / "ap-10k")
    file = folder / "annotations" / "ap10k-val-split1.json"
    content = json.loads(file.read_text())
    entry = next(entry for entry in content["annotations"] if entry["category_id"] == 21)
    entry["keypoints"][:6] = [30, 31, 1, 8, 9, 0]
    entry["area"] = 3000.5
    # A fault of another species is no concern of ours.
    next(entry for entry in content["annotations"] if entry["category_id"] == 7)["bbox"] = []
    file.write_text(json.dumps(content))
    read = next(other for other in read_ap10k(folder, ["cat"]).annotations if other["id"] == entry["id"])
    assert read["keypoints"][:6] == [30, 31, 1, 0, 0, 0]
    assert read["num_keypoints"] == 16
    assert read["area"] == 3000.5
    with pytest.raises(InputError, match=r"ap10k-val-split1.json: annotation \d+: 'bbox'"):
        read_ap10k(folder, ["all"])


def test_broken_ap10k(tmp_path: Path) -> None:
    folder = made_up.ap10k_release(tmp_path / "ap-10k")
    files = {split: folder / "annotations" / f"ap10k-{split}-split1.json" for split in ("train", "val", "test")}
    texts = {split: file.read_text() for split, file in files.items()}
    files["val"].write_text(texts["train"])
    with pytest.raises(InputError, match=r"ap10k-val-split1\.json: id 1 is in another split file too"):
        read_ap10k(folder, ["cat"])
    files["val"].write_text(texts["val"].replace('"left_eye"', '"L_Eye"'))
    with pytest.raises(InputError, match=r"ap10k-val-split1\.json: category 21: L_Eye has no counterpart R_Eye"):
        read_ap10k(folder, ["cat"])
    files["val"].write_text(texts["val"].replace('"neck"', '"throat"'))
    with pytest.raises(InputError, match=r"split1\.json: its keypoints aren't AP-10K's: without neck, with throat; is"):
        read_ap10k(folder, ["cat"])
    files["val"].unlink()
    with pytest.raises(InputError, match=r"ap10k-val-split1\.json: no such file"):
        read_ap10k(folder, ["cat"])
    with pytest.raises(InputError, match=r"ap10k-train-split1\.json: no such file"):
        read_ap10k(tmp_path, ["cat"])


@pytest.mark.realdata
def test_the_real_animal_pose_is_the_pool_of_cats17(shared: Path, cats17: Path) -> None:
    """Same images, boxes and keypoints; annotation ids count the places in the file, here the cats' alone."""
    file = shared / "data" / "animal-pose-cats" / "keypoints.json"
    release = read_animal_pose(file, cats17 / "images", ["cat"])
    assert (len(release.images), len(release.annotations)) == (1324, 1466)
    pool = {image.id: image for split in ("train", "val") for image in read_split(cats17, split).images}
    test = {image.id: image for image in read_split(cats17, "test").images}
    assert release.withheld == set(test)
    assert {i["id"]: (i["file_name"], i["width"], i["height"]) for i in release.images} == {
        id_: (image.file_name, image.width, image.height) for id_, image in (pool | test).items()
    }
    keys = ("category_id", "bbox", "area", "iscrowd", "keypoints")

    def by_image(entries: list[dict[str, Any]], keys: tuple[str, ...]) -> dict[int, list[list[Any]]]:
        entries = sorted(entries, key=lambda entry: (entry["image_id"], entry["id"]))
        result: dict[int, list[list[Any]]] = {}
        for entry in entries:
            result.setdefault(entry["image_id"], []).append([entry[key] for key in keys])
        return result

    labelled = [entry for entry in release.annotations if entry["num_keypoints"] and entry["image_id"] in pool]
    theirs = [entry for split in ("train", "val") for entry in read_split(cats17, split).coco["annotations"]]
    assert by_image(labelled, keys) == by_image(theirs, keys)
    boxes = [entry for entry in release.annotations if entry["image_id"] in test]
    assert by_image(boxes, keys[:4]) == by_image(read_split(cats17, "test").coco["annotations"], keys[:4])
