"""The gate: nothing is found in sound data, and each planted fault is found, named and placed, alone."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import made_up
import numpy as np
import pytest
from skeletons import KEYPOINTS

from catpose.data.checks import all_findings, examine_folder
from catpose.data.finding import Finding
from catpose.errors import InputError

Change = Callable[[Path], object]


def edit(split: str, change: Callable[[dict[str, Any]], object]) -> Change:
    """A change of ROOT/annotations/SPLIT.json."""

    def plant(root: Path) -> None:
        file = root / "annotations" / f"{split}.json"
        content = json.loads(file.read_text())
        change(content)
        file.write_text(json.dumps(content))

    return plant


def points(split: str, index: int, **places: tuple[float, float, int]) -> Change:
    """Keypoints of an annotation put elsewhere."""

    def change(content: dict[str, Any]) -> None:
        entry = content["annotations"][index]
        for name, triple in places.items():
            k = KEYPOINTS.index(name)
            entry["keypoints"][3 * k : 3 * k + 3] = triple
        entry["num_keypoints"] = sum(v > 0 for v in entry["keypoints"][2::3])

    return edit(split, change)


def exchange(split: str, index: int, a: str, b: str) -> Change:
    def change(content: dict[str, Any]) -> None:
        values = content["annotations"][index]["keypoints"]
        i, j = 3 * KEYPOINTS.index(a), 3 * KEYPOINTS.index(b)
        values[i : i + 3], values[j : j + 3] = values[j : j + 3], values[i : i + 3]

    return edit(split, change)


def cut_short(root: Path) -> None:
    content = cv2.imencode(".jpg", made_up.picture(2))[1].tobytes()
    (root / "images" / "2.png").write_bytes(content[: len(content) // 2])


def copy_compressed(root: Path) -> None:
    small = cv2.resize(made_up.picture(1), (80, 67), interpolation=cv2.INTER_AREA)
    again = cv2.resize(small, (96, 80), interpolation=cv2.INTER_CUBIC)
    (root / "images" / "5.png").write_bytes(cv2.imencode(".jpg", again, [cv2.IMWRITE_JPEG_QUALITY, 60])[1].tobytes())


def leave_images(root: Path) -> None:
    (root / "images" / "1.png").rename(root / "1.png")
    (root / "images" / "1.png").symlink_to(root / "1.png")


def no_picture(root: Path) -> None:
    (root / "images" / "5.png").write_bytes(b"GIF89a and nothing more")


def picture_of_another_size(root: Path) -> None:
    cv2.imwrite(str(root / "images" / "5.png"), made_up.picture(5, 80, 96))


def copy_picture(a: int, b: int) -> Change:
    """Same pixels, other bytes."""

    def plant(root: Path) -> None:
        cv2.imwrite(str(root / "images" / f"{b}.png"), made_up.picture(a), [cv2.IMWRITE_PNG_COMPRESSION, 9])

    return plant


def set_entry(split: str, key: str, index: int, **values: object) -> Change:
    return edit(split, lambda content: content[key][index].update(values))


# The fault, then kind, severity, split and place of the one finding.
FAULTS: dict[str, tuple[Change, tuple[str, str, str, str]]] = {
    "missing": (lambda root: (root / "images" / "2.png").unlink(), ("missing image", "error", "train", "image 2")),
    "cut short": (cut_short, ("unreadable image", "error", "train", "image 2")),
    "no picture": (no_picture, ("unreadable image", "error", "val", "image 5")),
    "empty picture": (
        lambda root: (root / "images" / "9.png").write_bytes(b""),
        ("unreadable image", "error", "test", "image 9"),
    ),
    "size in JSON": (set_entry("val", "images", 1, width=97), ("size disagrees", "error", "val", "image 6")),
    "size of picture": (picture_of_another_size, ("size disagrees", "error", "val", "image 5")),
    "box of no width": (
        set_entry("val", "annotations", 0, bbox=[4, 6, 0, 70]),
        ("box of no size", "error", "val", "annotation 990"),
    ),
    "box of negative height": (
        set_entry("val", "annotations", 0, bbox=[4, 76, 60, -70]),
        ("box of no size", "error", "val", "annotation 990"),
    ),
    "keypoint outside": (
        points("val", 0, root_of_tail=(30, -2, 2)),
        ("keypoint outside the image", "warning", "val", "annotation 990"),
    ),
    "keypoint off the crop": (
        points("val", 0, left_front_paw=(72, 70, 2)),
        ("keypoint outside the crop", "warning", "val", "annotation 990"),
    ),
    "keypoint order": (
        edit("val", lambda c: c["categories"][0]["keypoints"].reverse()),
        ("keypoint names", "error", "val", "categories"),
    ),
    "keypoint names": (
        edit("val", lambda c: c["categories"][0]["keypoints"].pop()),
        ("keypoint names", "error", "val", "category 1"),
    ),
    "keypoint count": (
        edit("val", lambda c: c["annotations"][0]["keypoints"].pop()),
        ("keypoint count", "error", "val", "annotation 990"),
    ),
    "visibility": (points("val", 0, nose=(30, 30, 3)), ("visibility", "error", "val", "annotation 990")),
    "num_keypoints": (
        set_entry("val", "annotations", 0, num_keypoints=20),
        ("num_keypoints", "warning", "val", "annotation 990"),
    ),
    "no keypoint": (
        set_entry("test", "annotations", 0, keypoints=[0] * 51, num_keypoints=0),
        ("no labelled keypoint", "warning", "test", "annotation 984"),
    ),
    "area 0": (
        set_entry("train", "annotations", 0, area=0),
        ("area unlike its box", "warning", "train", "annotation 998"),
    ),
    "annotation id twice": (
        set_entry("train", "annotations", 1, id=998),
        ("duplicate id", "error", "train", "annotation 998"),
    ),
    "image unknown": (
        edit("val", lambda c: c["annotations"].append(made_up.annotation(7, 99, [4, 6, 60, 70]))),
        ("unknown image", "error", "val", "annotation 7"),
    ),
    "category unknown": (
        edit("val", lambda c: c["annotations"].append(made_up.annotation(7, 5, [4, 6, 60, 70], 4))),
        ("unknown category", "error", "val", "annotation 7"),
    ),
    "image without instance": (
        edit("val", lambda c: c["annotations"].pop(0)),
        ("image without instance", "warning", "val", "image 5"),
    ),
    "path": (
        lambda root: edit(
            "val", lambda c: c["images"].append({"id": 77, "file_name": "../images/5.png", "width": 9, "height": 9})
        )(root),
        ("path leaves images/", "error", "val", "image 77"),
    ),
    "file name twice": (
        edit("val", lambda c: c["images"][0].update(file_name="9.png")),
        ("same picture in two splits", "error", "val+test", "val image 5 = test image 9"),
    ),
    "copy in another split": (
        copy_picture(1, 9),
        ("same picture in two splits", "error", "train+test", "train image 1 = test image 9"),
    ),
    "copy in the same split": (
        copy_picture(5, 6),
        ("same picture twice", "warning", "val", "val image 5 = val image 6"),
    ),
    "compressed copy": (
        copy_compressed,
        ("nearly the same picture", "warning", "train+val", "train image 1 ~ val image 5"),
    ),
    "eyes exchanged": (
        exchange("test", 0, "left_eye", "right_eye"),
        ("left and right", "warning", "test", "annotation 984"),
    ),
    "paws exchanged": (
        exchange("test", 0, "left_front_paw", "right_front_paw"),
        ("left and right", "warning", "test", "annotation 984"),
    ),
    "one place": (
        points("test", 0, nose=(20, 30, 2), neck=(20, 30, 2)),
        ("keypoints at one place", "warning", "test", "annotation 984"),
    ),
    "no JSON": (
        lambda root: (root / "annotations" / "test_info.json").write_text('{"images": ['),
        ("unreadable file", "error", "test_info", "test_info.json"),
    ),
    "another JSON": (
        lambda root: (root / "annotations" / "test_info.json").write_text("[]"),
        ("wrong type", "error", "test_info", "top level"),
    ),
}


def said(findings: list[Finding]) -> list[tuple[str, str, str, str]]:
    return [(finding.kind, finding.severity, finding.split, finding.where) for finding in findings]


def test_sound_data_have_no_findings(tmp_path: Path) -> None:
    root = made_up.data_set(tmp_path / "cats", (8, 6, 5))
    assert all_findings(root) == []
    shutil.copy(root / "annotations" / "train.json", root / "annotations" / "pretraining.json")
    shutil.copy(root / "annotations" / "test.json", root / "annotations" / "test_info.json")
    assert all_findings(root) == []  # these repeat pictures on purpose


@pytest.mark.parametrize("name", FAULTS)
def test_each_planted_fault_is_found_alone(name: str, tmp_path: Path) -> None:
    root = made_up.data_set(tmp_path / "cats")
    plant, expected = FAULTS[name]
    plant(root)
    findings = all_findings(root)
    assert said(findings) == [expected]
    for finding in findings:
        assert finding.message.isprintable()
        assert len(finding.message) < 300


@pytest.mark.parametrize("same", ["file", "pictures"])
def test_a_split_that_is_another_one_is_told_once(same: str, tmp_path: Path) -> None:
    root = made_up.data_set(tmp_path / "cats", (4, 4, 3))
    if same == "file":
        shutil.copy(root / "annotations" / "train.json", root / "annotations" / "val.json")
    else:
        for i in range(1, 5):
            shutil.copy(root / "images" / f"{i}.png", root / "images" / f"{i + 4}.png")
    found = said(all_findings(root))
    where = f"train image 1 = val image {1 if same == 'file' else 5} and all 3 others"
    assert found == [("same picture in two splits", "error", "train+val", where)]


def test_box_off_the_image_and_over_its_edge(tmp_path: Path) -> None:
    root = made_up.data_set(tmp_path / "cats")
    edit("val", lambda c: c["annotations"][0].update(bbox=[97, 6, 60, 70]))(root)
    edit("test", lambda c: c["annotations"][0].update(bbox=[40, 6, 58, 70]))(root)
    kinds = {(f.kind, f.severity, f.split, f.where) for f in examine_folder(root).findings}
    assert ("box off the image", "error", "val", "annotation 990") in kinds
    assert ("box over the edge", "warning", "test", "annotation 984") in kinds
    edit("test", lambda c: c["annotations"][0].update(bbox=[37, 6, 60, 74.5]))(root)  # by 1 and 0.5 px: rounding
    assert not [f for f in examine_folder(root).findings if f.kind == "box over the edge"]


def test_a_keypoint_a_little_outside_its_box_is_in_the_crop(tmp_path: Path) -> None:
    root = made_up.data_set(tmp_path / "cats")
    points("val", 0, left_front_paw=(71, 70, 2))(root)  # the crop reaches an eighth of 60 px beyond the box, to 71.5
    assert examine_folder(root).findings == []


def test_a_crowd_is_not_looked_at(tmp_path: Path) -> None:
    root = made_up.data_set(tmp_path / "cats")
    exchange("val", 0, "left_eye", "right_eye")(root)
    points("val", 0, neck=(-50, 3, 2))(root)
    assert len(examine_folder(root).findings) > 1
    set_entry("val", "annotations", 0, iscrowd=1)(root)
    assert examine_folder(root).findings == []


def test_training_data_must_have_keypoints(tmp_path: Path) -> None:
    root = made_up.data_set(tmp_path / "cats")
    for split in ("val", "test"):
        edit(split, lambda content: [entry.pop("keypoints") for entry in content["annotations"]])(root)
    assert said(examine_folder(root).findings) == [("no keypoints", "error", "val", "val.json")]


def test_the_quick_part_opens_no_picture(tmp_path: Path) -> None:
    root = made_up.data_set(tmp_path / "cats")
    for file in (root / "images").iterdir():
        file.write_bytes(b"no picture")
    assert examine_folder(root).findings == []
    assert len(all_findings(root)) == 10


def test_plain_pictures_do_not_look_alike(tmp_path: Path) -> None:
    root = made_up.data_set(tmp_path / "cats")
    for i in range(1, 5):
        cv2.imwrite(str(root / "images" / f"{i}.png"), np.full((80, 96, 3), 40 * i, np.uint8))
    assert all_findings(root) == []


def test_a_data_set_of_nothing_but_plain_pictures(tmp_path: Path) -> None:
    root = made_up.data_set(tmp_path / "cats")
    for i, file in enumerate(sorted((root / "images").iterdir())):
        cv2.imwrite(str(file), np.full((80, 96, 3), 20 * i, np.uint8))
    assert all_findings(root) == []


def test_all_is_told_at_once(tmp_path: Path) -> None:
    """Every fault that can stand beside the others is planted: none hides another."""
    root = made_up.data_set(tmp_path / "cats", (4, 3, 3))
    names = [
        "missing",
        "annotation id twice",
        "area 0",
        "size in JSON",
        "box of no width",
        "eyes exchanged",
        "no JSON",
    ]
    for name in names:
        FAULTS[name][0](root)
    assert {FAULTS[name][1] for name in names} <= set(said(all_findings(root)))


def test_a_folder_without_data(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no such folder or no \.json in it; make the data \(drawn cats"):
        examine_folder(tmp_path)


@pytest.mark.realdata
def test_the_real_cats_have_the_faults_that_were_looked_at(cats17: Path) -> None:
    """Each was looked at in its picture: the labels or the split are at fault."""
    counts: dict[tuple[str, str], int] = {}
    for finding in all_findings(cats17):
        counts[finding.kind, finding.split] = counts.get((finding.kind, finding.split), 0) + 1
    assert counts == {
        ("same picture in two splits", "train+val"): 5,
        ("same picture in two splits", "train+test_info"): 3,
        ("same picture in two splits", "val+test_info"): 1,
        ("same picture twice", "train"): 2,
        ("nearly the same picture", "train"): 1,
        ("image without instance", "train"): 3,
        ("keypoints at one place", "train"): 7,
        ("keypoint outside the crop", "train"): 8,
        ("keypoint outside the image", "train"): 9,
        ("left and right", "train"): 6,
    }
