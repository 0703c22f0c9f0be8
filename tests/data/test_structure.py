"""What is asked of an annotation file's entries: of those that are used, with a remedy; derived values are derived."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import made_up
import numpy as np
import pytest

from catpose.data.structure import examine
from catpose.instances import Instances
from catpose.score.cocoeval import cocoeval
from catpose.score.detections import Detections
from catpose.score.protocol import EvaluationProtocol, Score

Coco = dict[str, Any]


def errors(content: Coco, tmp_path: Path, **options: Any) -> list[str]:
    _, findings = examine(content, "train", **options)
    return [f"{finding.where}: {finding.message}" for finding in findings if finding.severity == "error"]


def first(**entries: object) -> Callable[[Coco], object]:
    return lambda coco: coco["annotations"][0].update(entries)


def nested(coco: Coco) -> None:
    for entry in coco["annotations"]:
        entry["keypoints"] = np.reshape(entry["keypoints"], (17, 3)).tolist()


REMEDIES: dict[str, tuple[Callable[[Coco], object], str]] = {
    "a category in quotes": (first(category_id="1"), "'category_id' is '1', not a whole number; write numbers without"),
    "an image in quotes": (first(image_id="1"), "write numbers without quotes"),
    "an id of pandas": (first(image_id=1.0), "'image_id' is 1.0, not a whole number; write 1"),
    "a large id": (first(id=2**53 + 1), "beyond 2^53"),
    "an id that no int64 holds": (first(id=2**64), "number them from 1"),
    "a box in quotes": (first(bbox=["4", "6", "60", "70"]), "write numbers without quotes"),
    "no box": (first(bbox=None), "'bbox' is None, not 4 numbers"),
    "an empty box": (first(bbox=[]), "or drop the entry"),
    "a box with names": (first(bbox={"x": 4, "y": 6, "w": 60, "h": 70}), "a plain list"),
    "nested keypoints": (nested, "one row of 51 numbers"),
    "keypoints without v": (first(keypoints=[3.0, 4.0] * 17), "is v missing?"),
    "no keypoints": (first(keypoints=[]), "write 51 zeros"),
    "keypoints in quotes": (first(keypoints=["3", "4", "2"] * 17), "without quotes"),
    "true for visible": (first(keypoints=[3, 4, True] * 17), "True for left_eye"),
    "null for a visible one": (first(keypoints=[None, 4, 2] * 17), "write 0, 0, 0 where a keypoint is not labelled"),
    "nan for a visible one": (first(keypoints=[math.nan, 4, 2] * 17), "nan for left_eye"),
    "null for all three": (first(keypoints=[None, None, None] * 17), "write 0, 0, 0"),
    "a crowd in quotes": (first(iscrowd="0"), "without quotes"),
    "an address": (
        lambda coco: coco["images"][0].update(file_name="https://x.org/1.png"),
        "an address; put the picture into images/",
    ),
    "another order": (
        lambda coco: (
            coco["categories"].append({"id": 2, "keypoints": coco["categories"][0]["keypoints"][::-1]})
            or coco["annotations"][0].update(category_id=2)
        ),
        "has another order (right_back_paw at place 0, not left_eye) than the category before it",
    ),
    "one name 17 times": (
        lambda coco: coco["categories"][0].update(keypoints=["nose"] * 17),
        "two keypoints are called nose; give each its own name",
    ),
    "a name without its counterpart": (
        lambda coco: coco["categories"][0]["keypoints"].__setitem__(0, "eye"),
        "right_eye has no counterpart left_eye; write flip_pairs into skeleton.yaml",
    ),
    "no names": (
        lambda coco: coco["categories"][0].pop("keypoints"),
        "has no list 'keypoints'; write the keypoints' names there, such as left_eye",
    ),
}


@pytest.mark.parametrize("kind", REMEDIES)
def test_the_line_says_what_to_do(kind: str, tmp_path: Path) -> None:
    content = made_up.coco(range(1, 4))
    change, named = REMEDIES[kind]
    change(content)
    found = errors(content, tmp_path)
    assert len(found) == 1
    assert named in found[0]
    assert found[0].isprintable()
    assert len(found[0]) < 300


HARMLESS: dict[str, Callable[[Coco], object]] = {
    "iscrowd null": first(iscrowd=None),
    "iscrowd absent": lambda coco: coco["annotations"][0].pop("iscrowd"),
    "iscrowd false": first(iscrowd=False),
    "num_keypoints 0": first(num_keypoints=0),
    "num_keypoints text": first(num_keypoints="17"),
    "num_keypoints absent": lambda coco: coco["annotations"][0].pop("num_keypoints"),
    "area 1": first(area=1),
    "area text": first(area="big"),
    "area nan": first(area=math.nan),
    "area absent": lambda coco: coco["annotations"][0].pop("area"),
    "a root category": lambda coco: coco["categories"].insert(0, {"id": 0, "name": "animals", "supercategory": "none"}),
    "other animals": lambda coco: coco["categories"].append({"id": 9, "keypoints": ["beak"]}),
    "a category without name": lambda coco: coco["categories"][0].pop("name"),
    "ids from 0": lambda coco: coco["annotations"][0].update(id=0),
}


@pytest.mark.parametrize("kind", HARMLESS)
def test_what_nobody_uses_changes_nothing(kind: str, tmp_path: Path) -> None:
    content = made_up.coco(range(1, 4))
    HARMLESS[kind](content)
    entries, findings = examine(content, "train")
    assert all(finding.severity == "warning" for finding in findings)
    sound, _ = examine(made_up.coco(range(1, 4)), "train")
    for entry, expected in zip(entries.annotations.values(), sound.annotations.values(), strict=True):
        for key in ("bbox", "keypoints", "iscrowd"):
            assert entry[key] == expected[key]
        assert "num_keypoints" not in entry


@pytest.mark.parametrize("place", [math.nan, None, math.inf, -1, 1e300, 2**60])
def test_a_place_of_what_is_not_labelled_is_not_looked_at(place: object, tmp_path: Path) -> None:
    content = made_up.coco(range(1, 4))
    content["annotations"][0]["keypoints"][6:9] = [place, place, 0]
    entries, findings = examine(content, "train")
    assert [finding.kind for finding in findings] == ["num_keypoints"]
    assert all(abs(value) < 1000 for value in entries.annotations[998]["keypoints"])


def test_labels_are_not_looked_at_where_boxes_are_all_that_is_used(tmp_path: Path) -> None:
    content = made_up.coco(range(1, 4))
    content["categories"][0]["keypoints"] = ["beak", "tail"]
    content["annotations"][0]["keypoints"] = [1, 2, "?"]
    content["annotations"][1]["keypoints"] = None
    assert errors(content, tmp_path)
    entries, findings = examine(content, "val", labels=False)
    assert findings == []
    assert not entries.has_keypoints
    assert not any("keypoints" in entry for entry in entries.annotations.values())


def test_a_fault_of_all_entries_is_one(tmp_path: Path) -> None:
    content = made_up.coco(range(1, 41))
    for entry in content["annotations"]:
        entry["category_id"] = "1"
    for entry in content["images"]:
        entry["file_name"] = f"/home/me/{entry['file_name']}"
    found = errors(content, tmp_path)
    assert [line.split(":")[0] for line in found] == [
        "image 1 and all 39 others",
        f"annotation 998 and all {len(content['annotations']) - 1} others",
    ]


@pytest.mark.parametrize("share", [0, 0.001, 0.049, 1.06, 16, -1, None])
def test_an_area_of_the_file_must_fit_its_box(share: float | None, tmp_path: Path) -> None:
    content = made_up.coco(range(1, 4))
    content["annotations"][0]["area"] = None if share is None else 4200 * share
    assert errors(content, tmp_path) == []
    (line,) = errors(content, tmp_path, area="file")
    assert line.startswith("annotation 998: 'area' is ")
    assert "5% to 105% of its box's 4200 px²" in line


def test_a_score_says_whose_area_it_took(tmp_path: Path) -> None:
    content = made_up.coco(range(1, 4))
    for entry in content["annotations"]:
        entry.update(area=entry["area"] * 0.5, num_keypoints=0)
    before = copy.deepcopy(content)
    scores, aps = [], []
    for rule in ("box", "file"):
        truth = Instances.from_coco(content, area=rule)  # type: ignore[arg-type]
        assert (truth.areas / (truth.boxes[:, 2] * truth.boxes[:, 3])).round(9).tolist() == [
            1 if rule == "box" else 0.5
        ] * 4
        n = len(truth)
        moved = truth.keypoints + np.arange(n)[:, None, None] * 4
        ones = np.ones((n, 17))
        found = Detections(
            truth.image_id, truth.category_id, moved, ones, np.arange(n) / 9 + 0.1, np.full(n, -1, dtype=np.int64)
        )
        protocol = EvaluationProtocol.of(
            truth, found, split="val", split_hash="x", box_source="ground truth", flip_test=False
        )
        aps.append(cocoeval(content, found.to_results(), area=rule)["AP"])
        scores.append(Score({"AP": aps[-1]}, protocol))
    assert aps[0] > aps[1] > 0  # pycocotools is given counts of keypoints and areas by the rule
    assert scores[0].protocol.area_rule.startswith("truth: box width x height")
    assert "area_rule" in scores[0].protocol.differences(scores[1].protocol)
    assert content == before
