"""Faults of an annotation file as a whole: each named once, by its cause, and none found in sound labels."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import made_up
import numpy as np
import pytest
from skeletons import FLIP

from catpose.data.checks import examine_folder
from catpose.data.coco import read_coco
from catpose.errors import InputError

SIZE = np.array([640.0, 480.0])


def scattered(n: int = 12, seed: int = 0) -> list[dict[str, Any]]:
    """Cats of many sizes anywhere in pictures of 640 × 480 px."""
    rng = np.random.default_rng(seed)
    entries = []
    for i in range(n):
        side = rng.uniform([140, 120], [330, 280])
        start = rng.uniform(0, 1, 2) * (SIZE - side)
        entries.append(made_up.annotation(i + 1, i + 1, [round(float(v), 1) for v in (*start, *side)]))
    return entries


def written(entries: list[dict[str, Any]], tmp_path: Path) -> Path:
    root = tmp_path / "cats"
    (root / "annotations").mkdir(parents=True)
    (root / "images").mkdir()
    for entry in entries:
        (root / "images" / f"{entry['image_id']}.png").touch()
    images = sorted({entry["image_id"] for entry in entries})
    content = {
        "images": [{"id": i, "file_name": f"{i}.png", "width": 640, "height": 480} for i in images],
        "annotations": entries,
        "categories": [made_up.category()],
    }
    (root / "annotations" / "train.json").write_text(json.dumps(content))
    return root


Boxes = Callable[[np.ndarray], np.ndarray]
Points = Callable[[np.ndarray, np.ndarray], np.ndarray]  # of points (N, 17, 2) and boxes (N, 4)


def remade(entries: list[dict[str, Any]], boxes: Boxes | None = None, points: Points | None = None) -> None:
    old = np.array([entry["bbox"] for entry in entries], dtype=float)
    triples = np.array([entry["keypoints"] for entry in entries], dtype=float).reshape(-1, 17, 3)
    if points:
        triples[..., :2] = points(triples[..., :2].copy(), old)
    for entry, box, keypoints in zip(entries, boxes(old) if boxes else old, triples, strict=True):
        area = max(float(box[2] * box[3]), 1e-9)
        entry.update(bbox=box.tolist(), keypoints=keypoints.ravel().tolist(), area=area)


def corners(box: np.ndarray) -> np.ndarray:
    return np.concatenate([box[:, :2], box[:, :2] + box[:, 2:]], axis=1)


def centre(box: np.ndarray) -> np.ndarray:
    return np.concatenate([box[:, :2] + box[:, 2:] / 2, box[:, 2:]], axis=1)


def exchanged(box: np.ndarray) -> np.ndarray:
    return box[:, [1, 0, 3, 2]]


def both(factor: np.ndarray | float) -> tuple[Boxes, Points]:
    return lambda box: box * np.tile(factor, 4 // np.size(factor)), lambda points, _: points * factor


def upside_down(box: np.ndarray) -> np.ndarray:
    return np.stack([box[:, 0], SIZE[1] - box[:, 1] - box[:, 3], box[:, 2], box[:, 3]], axis=1)


def visibility(value: int) -> Callable[[list[dict[str, Any]]], None]:
    def change(entries: list[dict[str, Any]]) -> None:
        for entry in entries:
            entry["keypoints"][2::3] = [value] * 17
            entry["num_keypoints"] = 17 if value else 0

    return change


def at_origin(entries: list[dict[str, Any]]) -> None:
    for entry in entries[::2]:
        entry["keypoints"][:9] = [0, 0, 1] * 3


def off_the_picture(entries: list[dict[str, Any]]) -> None:
    for entry in entries[::2]:
        entry["keypoints"][:9] = [-1, -1, 2] * 3


def by_two_people(entries: list[dict[str, Any]]) -> None:
    rng = np.random.default_rng(1)
    second = [{**entry, "id": 100 + entry["id"], "keypoints": list(entry["keypoints"])} for entry in entries[:4]]
    remade(second, lambda box: box + rng.uniform(-3, 3, box.shape), lambda p, _: p + rng.uniform(-3, 3, p.shape))
    entries += second


def one_pose(entries: list[dict[str, Any]]) -> None:
    for entry in entries:
        entry.update({key: entries[0][key] for key in ("bbox", "area", "keypoints")})


def other_side(entries: list[dict[str, Any]]) -> None:
    remade(entries, points=lambda points, _: points[:, list(FLIP)])


def crowds(entries: list[dict[str, Any]]) -> None:
    for entry in entries:
        entry["iscrowd"] = 1


# The change, then severity, kind, and what the line must name.
FAULTS: dict[str, tuple[Callable[[list[dict[str, Any]]], Any], str, str, str]] = {
    "fractions": (lambda e: remade(e, *both(1 / SIZE)), "error", "coordinates in 0..1", "fractions of the picture"),
    "boxes in fractions": (lambda e: remade(e, lambda b: b / np.tile(SIZE, 2)), "error", "coordinates in 0..1",
                           "'bbox' of all 12 instances"),
    "keypoints in fractions": (lambda e: remade(e, None, lambda p, _: p / SIZE), "error", "coordinates in 0..1",
                               "'keypoints' of all 12 instances"),
    "some in fractions": (lambda e: remade(e[:3], *both(1 / SIZE)), "error", "coordinates in 0..1",
                          "3 of 12 instances"),
    "YOLO": (lambda e: remade(e, lambda b: centre(b) / np.tile(SIZE, 2), lambda p, _: p / SIZE), "error",
             "coordinates in 0..1", "fractions"),
    "per cent": (lambda e: remade(e, *both(100 / SIZE)), "error", "coordinates in per cent", "per cent instead of px"),
    "boxes in per cent": (lambda e: remade(e, lambda b: b * np.tile(100 / SIZE, 2)), "error", "another convention",
                          "'bbox' is per cent"),
    "keypoints in per cent": (lambda e: remade(e, None, lambda p, _: p * 100 / SIZE), "error", "another convention",
                              "'keypoints' are per cent"),
    "half": (lambda e: remade(e, *both(0.5)), "warning", "labels of another scale", "a smaller size of the pictures"),
    "double": (lambda e: remade(e, *both(2.0)), "error", "labels of another scale", "a larger size of the pictures"),
    "keypoints half": (lambda e: remade(e, None, lambda p, _: p / 2), "error", "another convention", "half as large"),
    "corners": (lambda e: remade(e, corners), "error", "another convention", "x0, y0, x1, y1"),
    "centres": (lambda e: remade(e, centre), "error", "another convention", "centre x, centre y"),
    "boxes exchanged": (lambda e: remade(e, exchanged), "error", "another convention", "exchanged in 'bbox'"),
    "keypoints exchanged": (lambda e: remade(e, None, lambda p, _: p[..., ::-1]), "error", "another convention",
                            "exchanged in 'keypoints'"),
    "both exchanged": (lambda e: remade(e, exchanged, lambda p, _: p[..., ::-1]), "error", "another convention",
                       "exchanged in both"),
    "y0 x0 y1 x1": (lambda e: remade(e, lambda b: corners(b)[:, [1, 0, 3, 2]]), "error", "another convention",
                    "y0, x0, y1, x1"),
    "keypoints in their box": (lambda e: remade(e, None, lambda p, b: p - b[:, None, :2]), "error",
                               "another convention", "from the corner of their box"),
    "keypoints of others": (lambda e: remade(e, None, lambda p, _: np.roll(p, 1, axis=0)), "error",
                            "boxes and keypoints disagree", "labels of other pictures"),
    "y from the bottom": (
        lambda e: remade(e, upside_down, lambda p, _: np.stack([p[..., 0], SIZE[1] - p[..., 1]], axis=-1)),
        "warning", "animals not upright", "the paws lie above the body"),
    "crowds": (crowds, "error", "all crowds", "write 0 for one cat"),
    "nothing labelled": (visibility(0), "error", "all unlabelled", "v = 0"),
    "all hidden": (visibility(1), "warning", "all hidden", "none 2 (visible)"),
    "labelled at 0, 0": (at_origin, "error", "labelled at 0, 0", "18 keypoints of 6 instances"),
    "labelled at -1, -1": (off_the_picture, "error", "labelled at 0, 0", "18 keypoints of 6 instances"),
    "by two people": (by_two_people, "warning", "same animal twice",
                      "4 pairs of nearly equal instances (annotation 1 ~ annotation 101)"),
    "a template": (one_pose, "error", "one pose for all", "the same keypoints"),
    "the viewer's sides": (other_side, "warning", "left and right throughout", "the viewer's"),
    "twice": (lambda e: e.extend([{**entry, "id": 100 + entry["id"]} for entry in list(e)]), "warning",
              "same instance twice", "annotation 1 = annotation 101"),
}  # fmt: skip


@pytest.mark.parametrize("kind", FAULTS)
def test_each_is_one_line_that_names_the_cause(kind: str, tmp_path: Path) -> None:
    change, severity, name, named = FAULTS[kind]
    entries = scattered()
    change(entries)
    root = written(entries, tmp_path)
    findings = [finding for finding in examine_folder(root).findings if finding.severity == severity]
    found = [finding for finding in findings if finding.kind == name]
    assert len(found) == 1
    assert found[0].where == "the whole file"
    assert named in found[0].message
    assert found[0].message.isprintable()
    assert len(found[0].message) < 300
    if severity == "error":
        assert findings == found
        with pytest.raises(InputError, match=r"train\.json: the whole file: "):
            read_coco(root / "annotations" / "train.json", root / "images")
    assert len(examine_folder(root).findings) <= 4  # and not one for each instance


@pytest.mark.parametrize("seed", range(40))
def test_nothing_is_found_in_sound_labels(seed: int, tmp_path: Path) -> None:
    """However few, with some keypoints not labelled, some hidden, some instances crowds."""
    rng = np.random.default_rng(seed)
    entries = scattered(int(rng.integers(1, 30)), seed)
    for entry in entries:
        gone = rng.random(17) < rng.choice([0, 0.3, 0.9])
        for k in np.flatnonzero(gone):
            entry["keypoints"][3 * k : 3 * k + 3] = [0, 0, 0]
        entry["num_keypoints"] = int((~gone).sum())
        entry["iscrowd"] = int(rng.random() < 0.1 and len(entries) > 1)
    findings = examine_folder(written(entries, tmp_path)).findings
    assert {finding.kind for finding in findings} <= {"no labelled keypoint"} or all(
        finding.kind == "all crowds" for finding in findings
    )


def split_up(entries: list[dict[str, Any]], sizes: tuple[int, int, int], tmp_path: Path) -> Path:
    """The instances over train, val and test."""
    root = written(entries, tmp_path)
    file, start = root / "annotations" / "train.json", 0
    content = json.loads(file.read_text())
    for name, size in zip(("train", "val", "test"), sizes, strict=True):
        part = {key: content[key][start : start + size] for key in ("images", "annotations")}
        (root / "annotations" / f"{name}.json").write_text(json.dumps(content | part))
        start += size
    return root


@pytest.mark.parametrize("sizes", [(2, 2, 2), (12, 8, 8)])
@pytest.mark.parametrize("kind", ["half", "centres", "per cent"])
def test_what_all_files_share_is_told_once(sizes: tuple[int, int, int], kind: str, tmp_path: Path) -> None:
    """Two instances at half scale say nothing, those of three files do."""
    entries = scattered(sum(sizes))
    change, severity, name, _ = FAULTS[kind]
    change(entries)
    (finding,) = examine_folder(split_up(entries, sizes, tmp_path)).findings
    assert (finding.kind, finding.split) == (name, "train+val+test")
    assert finding.severity == severity or sizes == (2, 2, 2)


def test_one_file_of_another_tool_is_told_alone(tmp_path: Path) -> None:
    entries = scattered(40)
    remade(entries[24:32], centre)
    (finding,) = examine_folder(split_up(entries, (24, 8, 8), tmp_path)).findings
    assert (finding.kind, finding.split) == ("another convention", "val")


@pytest.mark.realdata
def test_the_real_labels_are_of_coco(shared: Path) -> None:
    for file in ("cats17/annotations/train.json", "cats17/annotations/val.json", "animals17/annotations/all.json"):
        path = shared / "data" / file
        findings = examine_folder(path.parent.parent).findings
        assert not [finding for finding in findings if finding.where == "the whole file"]
