"""Where a data folder's files are: what is ours in it, and what is said where files are elsewhere or misnamed."""

from __future__ import annotations

import json
import shutil
import unicodedata
from collections.abc import Callable
from pathlib import Path

import made_up
import pytest

from catpose.data.checks import all_findings, examine_folder
from catpose.data.coco import read_split
from catpose.data.layout import annotation_files, split_file
from catpose.errors import InputError

FOREIGN = {
    "._train.json": b"\0\5\x16\7\0\2\0\0Mac OS X",
    ".hidden.json": b"{",
    "captions.json": b'{"images": [], "annotations": []}',
    "notes.json": b"not JSON",
    "train_backup.json": b'{"images": [',
}


def test_what_is_not_ours_in_the_folder_is_no_fault(tmp_path: Path) -> None:
    root = made_up.data_set(tmp_path / "cats")
    for name, content in FOREIGN.items():
        (root / "annotations" / name).write_bytes(content)
    (root / "images" / ".DS_Store").write_bytes(b"\0")
    (root / "images" / "._1.png").write_bytes(b"\0")
    assert all_findings(root) == []
    ours, others = annotation_files(root)
    assert [file.name for file in ours] == ["train.json", "val.json", "test.json"]
    assert [file.name for file in others] == ["captions.json", "notes.json", "train_backup.json"]
    with pytest.raises(InputError, match=r"no bees\.json; splits there: captions, notes, test, train"):
        split_file(root, "bees")


def test_files_of_other_names_are_taken_where_none_is_a_split(tmp_path: Path) -> None:
    root = made_up.data_set(tmp_path / "cats")
    for name in ("train", "val", "test"):
        (root / "annotations" / f"{name}.json").rename(root / "annotations" / f"some_{name}.json")
    assert [file.stem for file in annotation_files(root)[0]] == ["some_test", "some_train", "some_val"]


def rename_files(root: Path, change: Callable[[str], str]) -> None:
    for file in list((root / "images").iterdir()):
        target = root / "images" / change(file.name)
        target.parent.mkdir(exist_ok=True)
        file.rename(target)


def rename_entries(root: Path, change: Callable[[str], str]) -> None:
    for file in (root / "annotations").iterdir():
        content = json.loads(file.read_text())
        for image in content["images"]:
            image["file_name"] = change(image["file_name"])
        file.write_text(json.dumps(content))


def cat(name: str) -> str:
    return f"Kätzchen {name}"


# How files and entries are renamed, and what the line says that they differ in.
SPELLINGS: dict[str, tuple[Callable[[str], str], Callable[[str], str], str]] = {
    "case": (lambda name: f"Cat{name}", lambda name: f"CAT{name}", "upper and lower case"),
    "case of the suffix": (lambda name: name.replace("png", "PNG"), lambda name: name, "upper and lower case"),
    "backslashes": (lambda name: f"a/{name}", lambda name: f"a\\{name}", "slashes or blanks"),
    "blanks": (lambda name: name, lambda name: f"{name} ", "slashes or blanks"),
    "escapes": (cat, lambda name: f"K%C3%A4tzchen%20{name}", "%-escapes"),
    "Unicode form": (lambda name: unicodedata.normalize("NFD", cat(name)), cat, "Unicode form"),
    "a folder more": (lambda name: name, lambda name: f"images/{name}", "the folder"),
    "a folder less": (lambda name: f"train/{name}", lambda name: name, "the folder"),
    "suffix": (lambda name: name, lambda name: name.replace("png", "jpg"), "the suffix"),
}


@pytest.mark.parametrize("kind", SPELLINGS)
def test_a_picture_of_nearly_that_name_is_named_once(kind: str, tmp_path: Path) -> None:
    root = made_up.data_set(tmp_path / "cats")
    files, entries, named = SPELLINGS[kind]
    rename_files(root, files)
    rename_entries(root, entries)
    findings = examine_folder(root).findings
    assert [(finding.kind, finding.severity, finding.split) for finding in findings] == [
        ("misnamed image", "error", split) for split in ("train", "val", "test")
    ]
    assert f"which differs in {named}; name it so" in findings[0].message
    assert files("1.png") in findings[0].message
    assert findings[0].where == "image 1 and all 3 others"


def test_a_dot_before_the_name_is_the_same_file(tmp_path: Path) -> None:
    root = made_up.data_set(tmp_path / "cats")
    rename_entries(root, lambda name: f"./{name}")
    assert examine_folder(root).findings == []
    read_split(root, "train")


def test_a_picture_that_nobody_uses_may_be_missing(tmp_path: Path) -> None:
    root = made_up.data_set(tmp_path / "cats")
    file = root / "annotations" / "val.json"
    content = json.loads(file.read_text())
    content["annotations"] = [entry for entry in content["annotations"] if entry["image_id"] != 5]
    file.write_text(json.dumps(content))
    (root / "images" / "5.png").unlink()
    assert {(finding.kind, finding.severity) for finding in all_findings(root)} == {
        ("image without instance", "warning"),
        ("missing image", "warning"),
    }


def roboflow(root: Path) -> None:
    for split, name in (("train", "train"), ("valid", "val"), ("test", "test")):
        shutil.copytree(root / "images", root / split)
        shutil.move(root / "annotations" / f"{name}.json", root / split / "_annotations.coco.json")
    shutil.rmtree(root / "annotations")


def one_deeper(root: Path) -> None:
    shutil.move(root / "annotations", root / "annotations.d")
    (root / "annotations").mkdir()
    shutil.move(root / "annotations.d", root / "annotations" / "coco")


def packed(root: Path) -> None:
    shutil.rmtree(root)
    root.mkdir()
    (root / "cats.zip").write_bytes(b"PK")


LAYOUTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "Roboflow's": (roboflow, "Roboflow's layout, test/_annotations.coco.json is there: bring it in with"),
    "files in the root": (
        lambda root: [file.rename(root / file.name) for file in (root / "annotations").iterdir()],
        "test.json is there: bring it in with `python -m catpose.prepare coco ",
    ),
    "a folder more": (one_deeper, "annotations/coco/test.json is there"),
    "packed": (packed, "bring it in: `python -m catpose.prepare coco "),
    "nothing": (lambda root: shutil.rmtree(root), "python -m catpose.prepare drawn"),
}


@pytest.mark.parametrize("kind", LAYOUTS)
def test_another_layout_is_told_where_its_files_belong(kind: str, tmp_path: Path) -> None:
    root = made_up.data_set(tmp_path / "cats")
    change, named = LAYOUTS[kind]
    change(root)
    for call in (lambda: read_split(root, "train"), lambda: examine_folder(root).findings):
        with pytest.raises(InputError) as caught:
            call()
        assert named in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_file_or_the_folder_below_in_place_of_the_root(tmp_path: Path) -> None:
    root = made_up.data_set(tmp_path / "cats")
    with pytest.raises(InputError, match="name the folder above"):
        read_split(root / "annotations", "train")
    with pytest.raises(InputError, match="is a file; name a folder"):
        read_split(root / "annotations" / "train.json", "train")
