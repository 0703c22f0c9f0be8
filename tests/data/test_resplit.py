"""Random divisions of train and val: complete, disjoint, copies together, and the same on every machine."""

from __future__ import annotations

import json
import shutil
from itertools import pairwise
from pathlib import Path

import cv2
import made_up
import pytest

from catpose.data.checks import all_findings
from catpose.data.coco import read_split
from catpose.data.coco_split import split_hash
from catpose.data.copies import pool_of
from catpose.data.resplit import resplit
from catpose.errors import InputError

N = 4


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Nine pictures to train, five to validate and three to test; of the former two pairs are copies."""
    root = made_up.data_set(tmp_path / "cats", (9, 5, 3))
    for one, copy in ((1, 2), (3, 10)):  # the second across train and val
        pixels = cv2.imread(str(root / "images" / f"{one}.png"))
        cv2.imwrite(str(root / "images" / f"{copy}.png"), cv2.GaussianBlur(pixels, (3, 3), 0))
    return root


def names(folder: Path, split: str) -> set[str]:
    return {image.file_name for image in read_split(folder, split).images}


def test_each_division_has_every_picture_once_and_copies_together(root: Path, tmp_path: Path) -> None:
    pool = names(root, "train") | names(root, "val")
    animals = len(read_split(root, "train")) + len(read_split(root, "val"))
    folders = resplit(root, N, tmp_path / "divisions")
    assert len(folders) == N
    for folder in folders:
        train, val = names(folder, "train"), names(folder, "val")
        assert train | val == pool
        assert not train & val
        assert 3 <= len(val) <= 5
        for pair in ({"1.png", "2.png"}, {"3.png", "10.png"}):
            assert pair <= train or pair <= val
        assert len(read_split(folder, "train")) + len(read_split(folder, "val")) == animals
        assert split_hash(read_split(folder, "test")) == split_hash(read_split(root, "test"))
        assert not [finding for finding in all_findings(folder) if finding.severity == "error"]


def test_a_division_depends_on_its_number_and_the_pictures_alone(root: Path, tmp_path: Path) -> None:
    def hashes(folders: list[Path]) -> list[str]:
        return [split_hash(read_split(folder, "val")) for folder in folders]

    first = resplit(root, N, tmp_path / "divisions")
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(root, elsewhere)
    for file in (elsewhere / "annotations").glob("*.json"):
        content = json.loads(file.read_text())
        file.write_text(json.dumps({key: content[key][::-1] for key in ("images", "annotations", "categories")}))
    again = resplit(elsewhere, 2, tmp_path / "two")
    assert hashes(first)[:2] == hashes(again)
    assert len({*hashes(first)}) == N
    assert len({pool_of(read_split(folder, name)) for folder in first for name in ("train", "val")}) == 1
    assert pool_of(read_split(first[0], "test")) == pool_of(read_split(root, "val")) == ""


def test_what_is_there_is_kept_and_more_is_added(root: Path, tmp_path: Path) -> None:
    first = resplit(root, 2, tmp_path / "divisions")
    before = [(folder / "annotations" / "val.json").stat().st_mtime_ns for folder in first]
    more = resplit(root, 3, tmp_path / "divisions")
    assert [(folder / "annotations" / "val.json").stat().st_mtime_ns for folder in more[:2]] == before
    content = json.loads((root / "annotations" / "val.json").read_text())
    content["annotations"][0]["bbox"][2] -= 1
    (root / "annotations" / "val.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match="is a division of other data than"):
        resplit(root, 2, tmp_path / "divisions")


def test_ids_that_both_files_use_are_told_apart(root: Path, tmp_path: Path) -> None:
    content = json.loads((root / "annotations" / "val.json").read_text())
    ids = {entry["id"]: place + 1 for place, entry in enumerate(content["images"])}
    for image in content["images"]:
        image["id"] = ids[image["id"]]
    for place, entry in enumerate(content["annotations"]):
        entry["id"], entry["image_id"] = 990 - place, ids[entry["image_id"]]
    (root / "annotations" / "val.json").write_text(json.dumps(content))
    for folder in resplit(root, N, tmp_path / "divisions"):
        of_val = {image.file_name: image.id for image in read_split(folder, "val").images}
        boxes = {entry["image_id"] for entry in read_split(folder, "val").coco["annotations"]}
        assert boxes == set(of_val.values())
        ids_of_all = [image.id for name in ("train", "val") for image in read_split(folder, name).images]
        assert all(one != other for one, other in pairwise(sorted(ids_of_all)))


def test_files_that_cannot_be_put_together_are_named(root: Path, tmp_path: Path) -> None:
    file = root / "annotations" / "val.json"
    content = json.loads(file.read_text())
    before = file.read_text()
    content["categories"][0]["name"] = "lynx"
    file.write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"val\.json: its categories are others than"):
        resplit(root, N, tmp_path / "divisions")
    content = json.loads(before)
    content["images"][0]["file_name"] = "1.png"
    file.write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"val\.json: 1\.png is in train\.json too"):
        resplit(root, N, tmp_path / "divisions")
    assert not (tmp_path / "divisions").exists()
