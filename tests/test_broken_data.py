"""Data that can't be used: `fit`, `test` and `predict` each refuse them in one line, and leave all as it was."""

from __future__ import annotations

import json
import os
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import pytest
from made_up import data_set, picture
from refused import content, refused, says

from catpose import fit, predict, test


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small sound data set, to be broken; the current folder is a new one."""
    monkeypatch.chdir(tmp_path)
    return data_set(tmp_path / "data", (3, 2, 2))


def arguments(tiny: Path, root: Path, *options: str) -> list[object]:
    common = ["--data.cache", "memory", "--wandb.mode", "disabled", "--out", root.parent / "runs" / "new"]
    return ["--config", tiny, "--data.root", root, *common, *options]


def annotations(root: Path, split: str = "train") -> Path:
    return root / "annotations" / f"{split}.json"


def edited(change: Callable[[dict[str, Any]], object], split: str = "train") -> Callable[[Path], object]:
    """Break the content of an annotation file: images, annotations and categories in lists."""

    def edit(root: Path) -> None:
        coco = json.loads(annotations(root, split).read_text())
        change(coco)
        annotations(root, split).write_text(json.dumps(coco))

    return edit


def image(**entries: object) -> Callable[[Path], object]:
    return edited(lambda coco: coco["images"][0].update(entries))


def annotation(**entries: object) -> Callable[[Path], object]:
    return edited(lambda coco: coco["annotations"][0].update(entries))


def keypoint(place: int, value: object) -> Callable[[Path], object]:
    return edited(lambda coco: coco["annotations"][0]["keypoints"].__setitem__(place, value))


def without_labels(coco: dict[str, Any]) -> None:
    for entry in coco["annotations"]:
        entry.update(keypoints=[0] * 51, num_keypoints=0)


def picture_of(content: bytes) -> Callable[[Path], object]:
    return lambda root: (root / "images" / "1.png").write_bytes(content)


def cut_short(root: Path) -> None:
    os.truncate(root / "images" / "1.png", 2000)


def folder_for_a_file(root: Path) -> None:
    annotations(root).unlink()
    annotations(root).mkdir()


def dangling(root: Path) -> None:
    (root / "images" / "1.png").unlink()
    (root / "images" / "1.png").symlink_to(root.parent / "1.png")


KINDS: dict[str, tuple[Any, ...]] = {
    # folders and files
    "no folder": (shutil.rmtree, "HERE/data/annotations", "catpose.prepare"),
    "no annotations": (lambda root: shutil.rmtree(root / "annotations"), "HERE/data/annotations", "catpose.prepare"),
    "no training split": (
        lambda root: annotations(root).unlink(),
        "annotations: no train.json",
        "splits there: test, val",
    ),
    "no validation split": (lambda root: annotations(root, "val").unlink(), "annotations: no val.json", "test, train"),
    "no pictures": (lambda root: shutil.rmtree(root / "images"), "1.png is not in images/", "catpose.check"),
    "a folder for a file": (
        lambda root: (annotations(root).unlink(), annotations(root).mkdir()),
        "train.json",
        "a folder",
    ),
    "an empty file": (lambda root: annotations(root).write_text(""), "train.json", "is empty", "again"),
    "a file cut short": (lambda root: os.truncate(annotations(root), 300), "train.json", "is not JSON", "cut short"),
    "a file of bytes": (lambda root: annotations(root).write_bytes(b"\xff\xfe\x00"), "train.json", "not UTF-8"),
    "a list": (lambda root: annotations(root).write_text("[]"), "train", "a list, not an object"),
    "nested without end": (lambda root: annotations(root).write_text("[" * 99999), "train.json", "nested too deeply"),
    "a number of 5000 digits": (lambda root: annotations(root).write_text("9" * 5000), "train.json", "JSON", "number"),
    # images
    "no images key": (edited(lambda coco: coco.pop("images")), "data: train: images: has no 'images'"),
    "no training images": (edited(lambda coco: coco["images"].clear()), "data: train: images", "is empty"),
    "no annotation": (edited(lambda coco: coco["annotations"].clear()), "data: train: annotations", "is empty"),
    "no category": (edited(lambda coco: coco["categories"].clear()), "data: train: categories", "is empty"),
    "a path that leaves": (image(file_name="../../secret.png"), "train: image 1:", "file_name", "../../secret.png"),
    "an absolute path": (image(file_name="/etc/passwd"), "train: image 1:", "file_name", "/etc/passwd"),
    "a link to nothing": (dangling, "1.png is not in images/", "restore it"),
    "a name that can't be": (image(file_name="a\0b.png"), "train: image 1:", "file_name"),
    "no such picture": (image(file_name="9.png"), "train: image 1:", "9.png is not in images/", "restore it"),
    "no file name": (image(file_name=None), "train: image 1:", "file_name"),
    "no width": (image(width=0), "train: image 1:", "'width' is 0"),
    "width in words": (image(width="96"), "train: image 1:", "'width'"),
    "an image twice": (
        edited(lambda coco: coco["images"].append(coco["images"][0])),
        "image 1:",
        "twice",
        "its own id",
    ),
    "one picture in two splits": (image(file_name="4.png"), "train image 1", "one picture in train and val"),
    "a picture of text": (picture_of(b"a cat"), "images/1.png", "no picture"),
    "an empty picture": (picture_of(b""), "images/1.png", "cut short"),
    "a picture cut short": (cut_short, "images/1.png", "cut short", "again"),
    "another size": (
        lambda root: cv2.imwrite(str(root / "images" / "1.png"), picture(1, 50, 40)),
        "images/1.png",
        "50 × 40 px",
        "catpose.check",
    ),
    # instances
    "an annotation twice": (
        edited(lambda coco: coco["annotations"].append(coco["annotations"][0])),
        "train: annotation 998:",
        "twice",
        "its own id",
    ),
    "no such image": (annotation(image_id=77), "train: annotation 998:", "image_id' is 77", "drop it"),
    "no such category": (annotation(category_id=77), "train: annotation 998:", "category_id' is 77", "drop it"),
    "an id in words": (annotation(id="first"), "train: annotations[0]:", "'id'"),
    "a box of no size": (annotation(bbox=[4, 6, 0, 70]), "train: annotation 998:", "'bbox' is 0 × 70"),
    "a box turned round": (annotation(bbox=[60, 70, -50, -60]), "train: annotation 998:", "'bbox' is -50"),
    "a box off the image": (annotation(bbox=[400, 6, 60, 70]), "train: annotation 998:", "off its image"),
    "a box of three": (annotation(bbox=[4, 6, 60]), "train: annotation 998:", "4 numbers"),
    "a box of nothing": (annotation(bbox=[4, 6, float("nan"), 70]), "train: annotation 998:", "4 numbers"),
    "a crowd of three": (annotation(iscrowd=3), "train: annotation 998:", "'iscrowd' is 3"),
    "16 keypoints": (annotation(keypoints=[1, 2, 2] * 16), "train: annotation 998:", "48 numbers, not 51"),
    "keypoints without number": (keypoint(0, "left"), "train: annotation 998:", "'left' for left_eye"),
    "keypoints at infinity": (keypoint(3, float("inf")), "train: annotation 998:", "inf for right_eye"),
    "visibility 3": (keypoint(2, 3), "train: annotation 998:", "visibility 3", "0, 1 or 2"),
    "another order of keypoints": (
        edited(lambda coco: coco["categories"][0]["keypoints"].reverse()),
        "its keypoints are others than",
        "another order (",
        "all splits need one skeleton",
    ),
    "20 names of keypoints": (
        edited(lambda coco: coco["categories"][0]["keypoints"].extend("abc")),
        "51 numbers, not 60 (20 × x, y, v)",
    ),
    "nothing labelled to train on": (edited(without_labels), "train.json", "no instance has a labelled keypoint"),
    "nothing labelled to validate on": (
        edited(without_labels, "val"),
        "val.json",
        "no instance has a labelled keypoint",
    ),
    "boxes alone to validate on": (
        edited(lambda coco: [entry.pop("keypoints") for entry in coco["annotations"]], "val"),
        "val",
        "no annotation has 'keypoints'",
    ),
}


@pytest.mark.one_in(3)
@pytest.mark.parametrize("kind", KINDS)
def test_fit(kind: str, root: Path, tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    breaks, *words = KINDS[kind]
    breaks(root)
    says(refused(fit.main, arguments(tiny, root), capsys, tmp_path), *words)


def test_fit_counts_the_errors_and_names_who_lists_them(
    root: Path, tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    edited(lambda coco: [entry.update(bbox=[0, 0, 0, 0]) for entry in coco["annotations"][:3]])(root)
    line = refused(fit.main, arguments(tiny, root), capsys, tmp_path)
    says(line, "and 2 more errors", "python -m catpose.check --data HERE/data")


def test_fit_says_how_many_warnings_there_are_and_who_lists_them(
    root: Path, tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    annotation(area=1, num_keypoints=0)(root)
    (tmp_path / "cache").touch()
    with pytest.raises(SystemExit):  # for want of a cache folder, after the data were looked at
        fit.main([*map(str, arguments(tiny, root, "--data.cache=disk", "--data.cache_dir=cache"))])
    out = capsys.readouterr().out.splitlines()
    assert out[0] == "catpose.fit: train: 3 images, 4 instances"
    assert out[2] == f"catpose.fit: 2 warnings about the data; python -m catpose.check --data {root} lists them"


@pytest.mark.parametrize("existing", [(), pytest.param(("runs",), marks=pytest.mark.slow), ("runs", "runs/new")])
def test_a_run_that_fails_on_its_way_takes_its_folders_back(
    existing: tuple[str, ...], root: Path, tiny: Path, tmp_path: Path
) -> None:
    """With pictures read as they are needed, a broken one shows in the first epoch, W&B's files being there."""
    cut_short(root)
    for folder in existing:
        (tmp_path / folder).mkdir()
    before = content(tmp_path)
    with pytest.raises(SystemExit) as stop:
        fit.main([*map(str, arguments(tiny, root, "--data.cache=off", "--wandb.mode=offline"))])
    assert stop.value.code == 2
    assert content(tmp_path) == before


def test_no_room_for_the_pictures(root: Path, tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "cache").touch()
    options = ["--data.cache=disk", "--data.cache_dir=cache"]
    says(
        refused(fit.main, arguments(tiny, root, *options), capsys, tmp_path), "data.cache_dir: cache", "another folder"
    )


# What `test` is given beside data: results of a model that stands elsewhere.


def results(root: Path, *entries: dict[str, Any]) -> Path:
    whole = {"image_id": 4, "category_id": 1, "keypoints": [1.0, 2.0, 0.5] * 17, "score": 0.5}
    file = root.parent / "results.json"
    file.write_text(json.dumps([whole | entry for entry in entries]))
    return file


RESULTS: dict[str, tuple[Any, ...]] = {
    "none": (lambda root: root.parent / "results.json", "results.json", "no such file"),
    "a folder": (lambda root: root, "HERE/data", "is a folder, not a JSON file"),
    "no JSON": (lambda root: root / "images" / "1.png", "images/1.png", "not UTF-8", "is it a JSON file?"),
    "annotations": (annotations, "train.json", "a list of detections"),
    "other images": (lambda root: results(root, {"image_id": 99}), "results.json", "image_id", "99"),
    "another category": (lambda root: results(root, {"category_id": 9}), "results.json: entry 0", "category_id"),
    "16 keypoints": (lambda root: results(root, {}, {"keypoints": [1] * 48}), "results.json: entry 1", "51 numbers"),
    "a score of nothing": (lambda root: results(root, {"score": float("nan")}), "results.json: entry 0", "score"),
    "no score": (lambda root: results(root, {"score": None}), "results.json: entry 0", "score"),
}


@pytest.mark.parametrize("kind", RESULTS)
def test_test_with_results(kind: str, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make, *words = RESULTS[kind]
    command = ["--predictions", make(root), "--data", root, "--out", tmp_path / "scores"]
    says(refused(test.main, command, capsys, tmp_path), *words)


SPLITS: dict[str, tuple[Any, ...]] = {
    "no such split": (lambda root: None, "bees", "no bees.json", "splits there: test, train, val"),
    "a split that leaves": (lambda root: None, "../../etc/passwd", "splits there"),
    "no data": (shutil.rmtree, "val", "HERE/data/annotations", "catpose.prepare"),
    "boxes alone": (
        edited(lambda coco: [entry.pop("keypoints") for entry in coco["annotations"]], "val"),
        "val",
        "val.json: holds no keypoints",
        "catpose.predict",
    ),
    "nothing labelled": (edited(without_labels, "val"), "val", "val.json: no instance has a labelled keypoint"),
    "a broken split": (lambda root: os.truncate(annotations(root, "val"), 99), "val", "val.json: is not JSON"),
}


@pytest.mark.parametrize("kind", SPLITS)
def test_test_of_a_split(kind: str, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    breaks, split, *words = SPLITS[kind]
    file = results(root, {})
    breaks(root)
    command = ["--predictions", file, "--data", root, "--split", split, "--out", tmp_path / "scores"]
    says(refused(test.main, command, capsys, tmp_path), *words)


WORDS: dict[str, tuple[list[str], tuple[str, ...]]] = {
    "nothing to score": ([], ("--checkpoint", "--predictions")),
    "two things to score": (["--predictions=results.json", "--checkpoint=x.ckpt"], ("not allowed with",)),
    "an unknown option": (["--predictions=results.json", "--splt=val"], ("--splt", "Did you mean --split?")),
    "no batch": (["--predictions=results.json", "--batch-size=0"], ("--batch-size", "from 1")),
    "a batch in words": (["--predictions=results.json", "--batch-size=x"], ("--batch-size", "from 1")),
    "scores into a file": (["--predictions=results.json", "--out=results.json"], ("--out results.json", "is a file")),
    "scores below a file": (
        ["--predictions=results.json", "--out=results.json/x"],
        ("results.json/x", "is a file"),
    ),
}


@pytest.mark.parametrize("kind", WORDS)
def test_test_as_it_is_called(kind: str, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options, words = WORDS[kind]
    results(root, {})
    says(refused(test.main, ["--data", root, *options], capsys, tmp_path), *words)


# What `predict` is given: all of this is refused before a checkpoint is read.


def text_for_a_picture(root: Path) -> list[str]:
    (root.parent / "cat.jpg").write_text("a cat")
    return ["cat.jpg"]


def heic(root: Path) -> list[str]:
    (root.parent / "cat.jpg").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(40))
    return ["cat.jpg"]


def packed(root: Path) -> list[str]:
    with tarfile.open(root.parent / "cats.tar", "w") as archive:
        archive.add(root / "images", "cats")
    return ["cats.tar"]


def empty_folder(root: Path) -> list[str]:
    (root.parent / "cats").mkdir()
    return ["cats"]


SOURCES: dict[str, tuple[Any, ...]] = {
    "nothing": (lambda root: [], "SOURCE"),
    "no such picture": (lambda root: ["cat.png"], "cat.png", "no such file or folder"),
    "no such folder": (lambda root: ["data/images/1.png", "cats/"], "cats", "no such file or folder"),
    "an empty folder": (empty_folder, "cats", "no picture", "another folder"),
    "text for a picture": (text_for_a_picture, "cat.jpg", "no picture that can be decoded"),
    "a picture of a phone": (heic, "cat.jpg", "HEIC", "convert it to JPEG"),
    "pictures in a packed file": (packed, "cats.tar", "is a tar archive", "unpack it"),
    "two COCO files": (lambda root: ["data/annotations/val.json"] * 2, "val.json", "alone"),
    "a COCO file and a picture": (lambda root: ["data/annotations/val.json", "data/images/1.png"], "val.json", "alone"),
    "a broken COCO file": (lambda root: (os.truncate(annotations(root), 99), [annotations(root)])[1], "is not JSON"),
    "a COCO file of no box": (
        lambda root: (annotation(bbox=None)(root), [annotations(root)])[1],
        "train.json: annotation 998:",
        "bbox",
    ),
    "a folder for results": (lambda root: ["data/images", "--out=data"], "--out data", "is a folder"),
    "results below a file": (
        lambda root: ["data/images", "--out=data/images/1.png/x.json"],
        "--out data/images/1.png/x.json",
        "is a file",
    ),
    "results over the source": (
        lambda root: ["data/annotations/val.json", "--out=data/annotations/val.json"],
        "--out data/annotations/val.json",
        "another place",
    ),
    "overlays into a file": (
        lambda root: ["data/images", "--overlays=data/images/1.png"],
        "--overlays data/images/1.png",
        "name a folder",
    ),
    "overlays over the pictures": (
        lambda root: ["data/images", "--overlays=data/../data/images"],
        "--overlays",
        "the pictures themselves",
        "another folder",
    ),
    "no batch": (lambda root: ["data/images", "--batch-size=-1"], "--batch-size", "from 1"),
    "no confidence": (lambda root: ["data/images", "--shown-above=some"], "--shown-above", "some"),
    "an unknown option": (lambda root: ["data/images", "--overlay=x"], "--overlay", "Did you mean --overlays?"),
}


@pytest.mark.parametrize("kind", SOURCES)
def test_predict(kind: str, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make, *words = SOURCES[kind]
    says(refused(predict.main, [*make(root), "--checkpoint", "best.ckpt"], capsys, tmp_path), *words)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
@pytest.mark.parametrize("command", ["fit", "test", "predict"])
def test_a_folder_that_may_not_be_written(
    command: str, root: Path, tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, closed = results(root, {}), tmp_path / "closed"
    closed.mkdir()
    closed.chmod(0o500)
    main, words = {
        "fit": (fit.main, [*arguments(tiny, root), "--out", closed / "new"]),
        "test": (test.main, ["--data", root, "--predictions", file, "--out", closed / "new"]),
        "predict": (predict.main, [root / "images", "--checkpoint", "best.ckpt", "--out", closed / "new.json"]),
    }[command]
    says(refused(main, words, capsys, tmp_path), "--out HERE/closed/new", "may not be written")
