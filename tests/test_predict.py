"""`predict` as its user sees it: COCO files, folders and single pictures to COCO results and overlays."""

from __future__ import annotations

import contextlib
import functools
import io
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from refused import exit_code, refused, says

from catpose import test
from catpose.data import cache, images
from catpose.data.images import read_image
from catpose.predict import main
from catpose.run import detector, second_pass

predict = functools.partial(exit_code, main)


@pytest.fixture(scope="module")
def pictures(drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with three cats as JPEG, one as PNG, and a file that is no picture."""
    folder = tmp_path_factory.mktemp("pictures")
    for i, file in enumerate(sorted((drawn / "images").iterdir())[:4]):
        cv2.imwrite(str(folder / (f"cat_{i}.jpg" if i else "Cat.PNG")), cv2.imread(str(file)))
    (folder / "notes.txt").write_text("not a cat")
    return folder


def results(file: Path) -> list[dict[str, Any]]:
    content = json.loads(file.read_text())
    for entry in content:
        assert {"image_id", "category_id", "keypoints", "score"} <= entry.keys()
        assert len(entry["keypoints"]) == 51
        assert all(math.isfinite(value) for value in [*entry["keypoints"], entry["score"]])
    return content


def named(folder: Path) -> list[Path]:
    """Its pictures, by their own names, so that nothing is left out."""
    return sorted(file for file in folder.iterdir() if file.suffix != ".txt")


def whole_boxes(folder: Path) -> dict[str, Any]:
    """A COCO file of the pictures of a folder: each one box, the whole picture."""
    files = sorted(file for file in folder.iterdir() if file.suffix.lower() in (".jpg", ".png"))
    sizes = [read_image(file).shape[1::-1] for file in files]
    images = [
        {"id": i, "file_name": file.name, "width": width, "height": height}
        for i, (file, (width, height)) in enumerate(zip(files, sizes, strict=True), start=1)
    ]
    boxes = [{"id": i["id"], "image_id": i["id"], "bbox": [0, 0, i["width"], i["height"]]} for i in images]
    return {
        "images": images,
        "annotations": [box | {"category_id": 1, "area": box["bbox"][2] * box["bbox"][3]} for box in boxes],
        "categories": [{"id": 1, "name": "cat"}],
    }


@pytest.mark.slow
def test_a_coco_files_boxes_are_predicted_as_test_predicts_them(trained: Path, drawn: Path, tmp_path: Path) -> None:
    file = drawn / "annotations" / "val.json"
    assert predict(file, "--checkpoint", trained / "best.ckpt", "--out", tmp_path / "ours.json") == 0
    test.main(["--checkpoint", str(trained / "best.ckpt"), "--data", str(drawn), "--out", str(tmp_path)])
    ours = results(tmp_path / "ours.json")
    assert ours == results(tmp_path / "results_val.json")
    truth = json.loads(file.read_text())
    of = {entry["id"]: entry["image_id"] for entry in truth["annotations"]}
    assert {entry["image_id"] for entry in ours} == {image["id"] for image in truth["images"]}
    assert all(of[entry["annotation_id"]] == entry["image_id"] for entry in ours)
    assert len({entry["annotation_id"] for entry in ours}) == len(ours)


def test_pycocotools_takes_the_results(trained: Path, drawn: Path, tmp_path: Path) -> None:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    file = drawn / "annotations" / "test.json"
    assert predict(file, "--checkpoint", trained / "best.ckpt", "--out", tmp_path / "results.json") == 0
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(file))
        found = truth.loadRes(str(tmp_path / "results.json"))
        evaluation = COCOeval(truth, found, "keypoints")
        evaluation.params.kpt_oks_sigmas = np.full(17, 0.1)
        evaluation.evaluate()
    assert len(found.getAnnIds()) == len(results(tmp_path / "results.json"))


def test_labels_play_no_part(trained: Path, drawn: Path, tmp_path: Path) -> None:
    """A file of boxes only, as test_info.json is, gives what the labelled one gives; --images names its pictures."""
    file = drawn / "annotations" / "test.json"
    content = json.loads(file.read_text())
    for entry in content["annotations"]:
        del entry["keypoints"], entry["num_keypoints"]
    (tmp_path / "test_info.json").write_text(json.dumps(content))
    common = ("--checkpoint", trained / "best.ckpt")
    assert predict(file, *common, "--out", tmp_path / "labelled.json") == 0
    images = ("--images", drawn / "images")
    assert predict(tmp_path / "test_info.json", *images, *common, "--out", tmp_path / "boxes.json") == 0
    assert results(tmp_path / "boxes.json") == results(tmp_path / "labelled.json")


@pytest.mark.parametrize("least", [99, -99], ids=["none is confident", "all are confident"])
def test_a_folders_pictures_are_predicted_whole_and_again_around_confident_keypoints(
    trained: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, least: float
) -> None:
    monkeypatch.setattr(second_pass, "MIN_CONFIDENCE", least)
    common = ("--checkpoint", trained / "best.ckpt")
    assert predict(pictures, *common, "--out", tmp_path / "folder.json") == 0
    boxes, images = whole_boxes(pictures), ("--images", pictures)
    (tmp_path / "boxes.json").write_text(json.dumps(boxes))
    assert predict(tmp_path / "boxes.json", *images, *common, "--out", tmp_path / "coco.json") == 0
    if least < 0:
        for box, entry in zip(boxes["annotations"], results(tmp_path / "coco.json"), strict=True):
            made = second_pass.keypoint_box(np.array(entry["keypoints"]).reshape(17, 3)[:, :2])
            box["bbox"] = box["bbox"] if made is None else made.tolist()
            box["area"] = box["bbox"][2] * box["bbox"][3]
        (tmp_path / "boxes.json").write_text(json.dumps(boxes))
        assert predict(tmp_path / "boxes.json", *images, *common, "--out", tmp_path / "coco.json") == 0
    folder = results(tmp_path / "folder.json")
    names = [entry.pop("file_name") for entry in folder]
    assert names == [str(pictures / name) for name in ("Cat.PNG", "cat_1.jpg", "cat_2.jpg", "cat_3.jpg")]
    assert [entry["image_id"] for entry in folder] == [1, 2, 3, 4]
    for ours, theirs in zip(folder, results(tmp_path / "coco.json"), strict=True):
        np.testing.assert_allclose(ours["keypoints"], theirs["keypoints"], atol=1e-3)


def test_a_single_picture_is_predicted_as_in_its_folder(trained: Path, pictures: Path, tmp_path: Path) -> None:
    common = ("--checkpoint", trained / "best.ckpt", "--batch-size", "1")
    assert predict(pictures, *common, "--out", tmp_path / "folder.json") == 0
    assert predict(pictures / "cat_2.jpg", pictures / "Cat.PNG", *common, "--out", tmp_path / "some.json") == 0
    of = {entry["file_name"]: entry["keypoints"] for entry in results(tmp_path / "folder.json")}
    some = results(tmp_path / "some.json")
    assert [Path(entry["file_name"]).name for entry in some] == ["cat_2.jpg", "Cat.PNG"]
    for entry in some:
        assert entry["keypoints"] == of[entry["file_name"]]


def test_an_overlay_a_picture_with_the_keypoints_on_it(trained: Path, pictures: Path, tmp_path: Path) -> None:
    before = {file: file.read_bytes() for file in pictures.iterdir()}
    common = (pictures, "--checkpoint", trained / "best.ckpt", "--out", tmp_path / "r.json")
    assert predict(*common, "--overlays", tmp_path / "all", "--shown-above", "-1") == 0
    assert predict(*common, "--overlays", tmp_path / "none", "--shown-above", "99") == 0
    names = ["Cat.jpg", "cat_1.jpg", "cat_2.jpg", "cat_3.jpg"]
    for folder in ("all", "none"):
        assert sorted(file.name for file in (tmp_path / folder).iterdir()) == names
    changed = []
    for entry in results(tmp_path / "r.json"):
        source = read_image(entry["file_name"]).astype(int)
        height, width = source.shape[:2]
        name = f"{Path(entry['file_name']).stem}.jpg"
        drawn, plain = (read_image(tmp_path / folder / name).astype(int) for folder in ("all", "none"))
        assert drawn.shape == plain.shape == source.shape
        assert np.abs(plain - source).mean() < 6  # what the JPEG takes
        points = np.array(entry["keypoints"]).reshape(17, 3)[:, :2].round().astype(int)
        inside = points[(points >= 0).all(axis=1) & (points < [width, height]).all(axis=1)]
        changed += [np.abs(drawn[y, x] - plain[y, x]).max() > 30 for x, y in inside]
    assert np.mean(changed) > 0.8
    assert {file: file.read_bytes() for file in pictures.iterdir()} == before


def test_a_coco_files_overlays_show_its_boxes(trained: Path, drawn: Path, tmp_path: Path) -> None:
    file = drawn / "annotations" / "val.json"
    out = ("--out", tmp_path / "r.json", "--overlays", tmp_path / "o", "--shown-above", "99")
    assert predict(file, "--checkpoint", trained / "best.ckpt", *out) == 0
    content = json.loads(file.read_text())
    name = {image["id"]: image["file_name"] for image in content["images"]}
    assert len(list((tmp_path / "o").iterdir())) == len(name)
    detected = {entry["annotation_id"] for entry in results(tmp_path / "r.json")}
    for entry in content["annotations"]:
        if entry["id"] in detected:
            picture = read_image(tmp_path / "o" / f"{Path(name[entry['image_id']]).stem}.jpg")
            x, y, width, _ = (round(value) for value in entry["bbox"])
            assert picture[max(y, 0), x + 5 : x + width - 5].mean() > 180  # the upper edge, white


def test_the_overlays_of_one_name_keep_apart(trained: Path, pictures: Path, tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("a/cat.jpg", "b/cat.jpg", "1_cat.jpg", "c/CAT.jpg", "2_cat.png")]
    for file in files:
        file.parent.mkdir(exist_ok=True)
        file.write_bytes((pictures / "cat_1.jpg").read_bytes())
    out = ("--out", tmp_path / "r.json", "--overlays", tmp_path / "o" / "new")
    assert predict(*files, "--checkpoint", trained / "best.ckpt", *out) == 0
    names = [file.name for file in (tmp_path / "o" / "new").iterdir()]
    assert len({name.lower() for name in names}) == len(files)
    assert {"1_cat.jpg", "2_cat.jpg"} <= set(names)  # nobody else's, so their own
    assert [path.name for path in (tmp_path / "o").iterdir()] == ["new"]


def decoded(monkeypatch: pytest.MonkeyPatch, log: Path) -> Callable[[], list[str]]:
    """The files decoded from now on, by whatever process, as noted in a file of this name."""
    log.touch()

    def noted(path: str | Path) -> np.ndarray:
        with open(log, "a") as opened:
            opened.write(f"{path}\n")
        return read_image(path)

    for module in (cache, images):
        monkeypatch.setattr(module, "read_image", noted)
    return lambda: sorted(log.read_text().splitlines())


@pytest.mark.parametrize(("workers", "overlays"), [(0, True), pytest.param(2, False, marks=pytest.mark.slow)])
def test_each_picture_is_decoded_once(
    trained: Path, drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int, overlays: bool
) -> None:
    """Also where a picture's boxes don't fit one batch; neither workers nor overlays change a number."""
    file = drawn / "annotations" / "val.json"
    content = json.loads(file.read_text())
    content["annotations"] += [a | {"id": a["id"] + 1000 * k} for a in content["annotations"] for k in (1, 2)]
    (tmp_path / "val.json").write_text(json.dumps(content))
    common = (tmp_path / "val.json", "--images", drawn / "images", "--checkpoint", trained / "best.ckpt")
    common = (*common, "--batch-size", "2")
    assert predict(*common, "--out", tmp_path / "plain.json", "--num-workers", "0") == 0
    seen = decoded(monkeypatch, tmp_path / "log")
    more = ("--overlays", tmp_path / "o") if overlays else ()
    assert predict(*common, "--out", tmp_path / "r.json", "--num-workers", workers, *more) == 0
    used = {annotation["image_id"] for annotation in content["annotations"]}
    assert seen() == sorted(str(drawn / "images" / i["file_name"]) for i in content["images"] if i["id"] in used)
    assert results(tmp_path / "r.json") == results(tmp_path / "plain.json")
    if overlays:
        assert len(list((tmp_path / "o").iterdir())) == len(used)


@pytest.fixture
def mixed(pictures: Path, tmp_path: Path) -> Path:
    """A folder with two pictures, one of them with its middle cut out, and three entries that are none."""
    folder = tmp_path / "mixed"
    (folder / "sub").mkdir(parents=True)
    whole = (pictures / "cat_1.jpg").read_bytes()
    (folder / "good.jfif").write_bytes(whole)
    png = (pictures / "Cat.PNG").read_bytes()
    (folder / "damaged.png").write_bytes(png[: len(png) // 3] + png[len(png) // 2 :])
    (folder / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "._good.jpg").write_bytes(b"\0\5\x16\7")
    (folder / "notes.txt").write_text("a cat")
    return folder


@pytest.mark.parametrize("workers", [0, 2])
def test_a_folders_other_entries_are_left_out_and_said(
    trained: Path, mixed: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], workers: int
) -> None:
    out = ("--out", tmp_path / "r.json", "--overlays", tmp_path / "o", "--num-workers", workers, "--shown-above", "2")
    assert predict(mixed, "--checkpoint", trained / "best.ckpt", *out) == 0
    captured = capfd.readouterr()
    assert [Path(entry["file_name"]).name for entry in results(tmp_path / "r.json")] == ["good.jfif"]
    assert [file.name for file in (tmp_path / "o").iterdir()] == ["good.jpg"]
    assert "3 pictures: 1 detection, 0 with a keypoint above 2 (highest " in captured.out
    assert "), 5 left out: " in captured.out
    for name in ("._good.jpg", "notes.txt", "sub", "cut.jpg", "damaged.png"):
        assert sum(f"({name})" in line for line in captured.err.splitlines()) == 1, captured.err
    assert "Traceback" not in captured.err


@pytest.mark.one_in(3)
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("name", ["damaged.png", "cut.jpg"])
def test_a_named_picture_that_can_not_be_read_is_one_line_and_leaves_nothing(
    trained: Path, mixed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, workers: int
) -> None:
    words = [mixed / "good.jfif", mixed / name, "--checkpoint", trained / "best.ckpt", "--out", tmp_path / "r.json"]
    words += ["--overlays", tmp_path / "new" / "o", "--num-workers", workers]
    says(refused(main, words, capsys, tmp_path), name, "again" if name == "cut.jpg" else "restore")


def test_a_folder_of_which_nothing_can_be_read_is_refused(
    trained: Path, mixed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (mixed / "good.jfif").unlink()
    words = (mixed, "--checkpoint", trained / "best.ckpt", "--out", tmp_path / "r.json", "--overlays", tmp_path / "o")
    assert predict(*words) == 2
    assert "none of its pictures can be read" in capsys.readouterr().err
    assert not (tmp_path / "r.json").exists()
    assert not (tmp_path / "o").exists()


@pytest.fixture
def holdings(pictures: Path, tmp_path: Path) -> Path:
    """Pictures in a folder of a folder, their COCO file, and things of other programs and people."""
    (tmp_path / "images" / "sub").mkdir(parents=True)
    for file in named(pictures):
        (tmp_path / "images" / "sub" / file.name).write_bytes(file.read_bytes())
    coco = whole_boxes(pictures)
    coco["images"] = [image | {"file_name": f"sub/{image['file_name']}"} for image in coco["images"]]
    (tmp_path / "cvat.json").write_text(json.dumps(coco))
    (tmp_path / "other" / "sub").mkdir(parents=True)
    (tmp_path / "other" / "sub" / "cat_2.jpg").write_bytes((pictures / "cat_1.jpg").read_bytes())
    return tmp_path


@pytest.mark.parametrize("sources", [["cvat.json", "--images", "images"], ["images", "--recursive"]])
@pytest.mark.parametrize(
    "output",
    [
        ["--overlays", "images"],
        ["--overlays", "images/sub"],
        ["--overlays", "other"],  # another picture is called as an overlay would be
        ["--rank", "cvat.json"],
        ["--rank", "images/sub/cat_1.jpg"],
        ["--rank", "r.json", "--out", "r.json"],
        ["--out", "images/sub/cat_1.jpg"],
        ["--out", "cvat.json"],
    ],
)
def test_no_output_takes_the_place_of_what_is_read_or_not_ours(
    sources: list[str], output: list[str], trained: Path, holdings: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(holdings)
    words = [*sources, "--checkpoint", trained / "best.ckpt", *output]
    says(refused(main, words, capsys, holdings), *output[:2], "name another")


def test_pre_labels_keep_the_file_that_they_are_made_of(
    trained: Path, holdings: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [holdings / "cvat.json", "--images", holdings / "images", "--out", holdings / "r.json"]
    words += ["--pre-labels", holdings, "--checkpoint", trained / "best.ckpt"]
    says(refused(main, words, capsys, holdings), "--pre-labels", "cvat.json", "name another")


def test_what_it_wrote_itself_is_written_anew(trained: Path, holdings: Path) -> None:
    words = [holdings / "cvat.json", "--images", holdings / "images", "--checkpoint", trained / "best.ckpt"]
    words += ["--out", holdings / "r.json", "--overlays", holdings / "o", "--rank", holdings / "rank.csv"]
    words += ["--pre-labels", holdings / "labels"]
    assert [predict(*words), predict(*words)] == [0, 0]
    for file in (holdings / "o" / "sub").iterdir():
        assert (
            read_image(file).shape
            == read_image(holdings / "images" / "sub" / file.name.replace("Cat.jpg", "Cat.PNG")).shape
        )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["cvat.json", "--images", "images", "--recursive"], ["--recursive", "leave it out"]),
        (["images/sub", "--images", "images"], ["--images", "leave it out"]),
        (["images/sub", "--shown-above", "nan"], ["--shown-above", "nan"]),
        (["images/sub", "--shown-above", "half"], ["--shown-above", "half"]),
    ],
)
def test_options_that_would_have_no_effect_are_refused(
    words: list[str], said: list[str], holdings: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(holdings)
    says(refused(main, words, capsys, holdings), *said)


def test_an_empty_folder_and_a_stray_coco_file_are_refused(
    trained: Path, drawn: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    common = ("--checkpoint", trained / "best.ckpt", "--out", tmp_path / "r.json")
    assert predict(tmp_path / "empty", *common) == 2
    assert "holds no picture" in capsys.readouterr().err
    assert predict(pictures, drawn / "annotations" / "val.json", *common) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "val.json: a COCO file is predicted alone" in error
    assert not (tmp_path / "r.json").exists()


def test_pre_labels_are_what_was_predicted_surely_enough(
    trained: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, labels, checkpoint = tmp_path / "r.json", tmp_path / "labels", trained / "last.ckpt"
    args = ("--checkpoint", checkpoint, "--out", out, "--pre-labels", labels, "--shown-above", 0.1)
    args += ("--rank", tmp_path / "next.csv")
    assert predict(pictures, *args) == 0
    printed = capsys.readouterr().out
    assert "pre-labels of " in printed
    assert "4 pictures to label, the least certain first, 0 near-copies left out" in printed
    assert len((tmp_path / "next.csv").read_text().splitlines()) == 5
    written = json.loads((labels / "cvat.json").read_text())
    assert sorted(image["file_name"] for image in written["images"]) == [
        "Cat.PNG",
        "cat_1.jpg",
        "cat_2.jpg",
        "cat_3.jpg",
    ]
    ours = {entry["image_id"]: np.array(entry["keypoints"]).reshape(17, 3) for entry in written["annotations"]}
    for entry in results(out):
        points = np.array(entry["keypoints"]).reshape(17, 3)
        sure = points[:, 2] > 0.1
        if sure.any():
            assert np.array_equal(ours[entry["image_id"]][:, 2] == 2, sure)
            assert np.allclose(ours[entry["image_id"]][sure, :2], points[sure, :2], atol=0.006)
        else:
            assert entry["image_id"] not in ours
    assert (labels / "label_studio.json").is_file()
    says(refused(main, [pictures, *args[:4], "--pre-labels", trained], capsys, tmp_path), "--pre-labels")


def test_pre_labels_have_the_datas_categories_and_a_name_for_each_picture(
    trained: Path, pictures: Path, tmp_path: Path
) -> None:
    args = ("--checkpoint", trained / "last.ckpt", "--out", tmp_path / "r.json", "--shown-above", 0)
    lynx = whole_boxes(pictures) | {"categories": [{"id": 4, "name": "unused"}, {"id": 7, "name": "lynx"}]}
    for entry in lynx["annotations"]:
        entry["category_id"] = 7
    (tmp_path / "lynx.json").write_text(json.dumps(lynx))
    assert predict(tmp_path / "lynx.json", "--images", pictures, *args, "--pre-labels", tmp_path / "lynx") == 0
    written = json.loads((tmp_path / "lynx" / "cvat.json").read_text())
    assert [entry["name"] for entry in written["categories"]] == ["lynx"]
    assert {entry["category_id"] for entry in written["annotations"]} == {written["categories"][0]["id"]}
    for folder in ("a", "b"):
        (tmp_path / "photos" / folder).mkdir(parents=True)
        (tmp_path / "photos" / folder / "cat.png").write_bytes((pictures / "Cat.PNG").read_bytes())
    (tmp_path / "photos" / "a" / "other.png").write_bytes((pictures / "Cat.PNG").read_bytes())
    assert predict(tmp_path / "photos", "--recursive", *args, "--pre-labels", tmp_path / "cats") == 0
    written = json.loads((tmp_path / "cats" / "cvat.json").read_text())
    assert [image["file_name"] for image in written["images"]] == ["a/cat.png", "other.png", "b/cat.png"]
    assert [entry["name"] for entry in written["categories"]] == ["cat"]


def test_boxes_of_a_file_are_predicted_and_what_they_leave_open_is_said(
    trained: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two animals, one small, on one picture, none on another; found by name, in a COCO file and in results alike."""
    boxes = whole_boxes(pictures)
    small = {"id": 9, "image_id": 2, "category_id": 1, "bbox": [5, 5, 20, 20], "area": 400}
    coco = boxes | {"annotations": [*boxes["annotations"][:3], small]}
    names = {image["id"]: image["file_name"] for image in boxes["images"]}
    found = [
        {"image_id": 77, "file_name": f"elsewhere/{names[each['image_id']]}", "bbox": each["bbox"], "score": 0.5}
        for each in coco["annotations"]
    ]
    found.append({"image_id": 78, "file_name": "another.jpg", "bbox": [0, 0, 5, 5], "score": 0.5})
    (tmp_path / "coco.json").write_text(json.dumps(coco))
    (tmp_path / "found.json").write_text(json.dumps(found))
    common = (pictures, "--checkpoint", trained / "best.ckpt")
    for name in ("coco", "found"):
        out = tmp_path / f"{name}.out.json"
        assert predict(*common, "--boxes", tmp_path / f"{name}.json", "--out", out, "--overlays", tmp_path / name) == 0
        error = capsys.readouterr().err
        assert "1 of 4 pictures with several animals, each of which is predicted (cat_1.jpg)" in error
        assert "1 of 4 pictures with no animal, which have no prediction (cat_3.jpg)" in error
        assert "1 of 4 pictures with an animal of less than 32 × 32 px, whose keypoints are coarse (cat_1.jpg)" in error
        assert ("1 box of other pictures left out" in error) == (name == "found")
        assert sorted(file.name for file in (tmp_path / name).iterdir()) == ["Cat.jpg", "cat_1.jpg", "cat_2.jpg"]
    ours = results(tmp_path / "coco.out.json")
    assert ours == results(tmp_path / "found.out.json")
    assert [entry["image_id"] for entry in ours] in ([1, 2, 2, 3], [1, 2, 3])  # one of two alike is left out
    assert all("annotation_id" not in entry for entry in ours)


@pytest.mark.one_in(3)
@pytest.mark.parametrize(
    ("content", "words"),
    [
        ([{"image_id": 1, "file_name": "Cat.PNG", "bbox": [0, 0, 5]}], ("entry 0", "bbox", "width")),
        ([{"image_id": 1, "file_name": "Cat.PNG", "bbox": [0, 0, 5, -1]}], ("entry 0", "bbox", "above 0")),
        ([{"file_name": "Cat.PNG", "bbox": [0, 0, 5, 5], "score": 7}], ("entry 0", "score", "from 0 to 1")),
        ([{"image_id": 9, "file_name": "dog.jpg", "bbox": [0, 0, 5, 5]}], ("no box for any", "file_name")),
        ({"images": 3, "annotations": []}, ("images", "COCO")),
        ({"boxes": []}, ("holds no boxes",)),
    ],
)
def test_a_file_of_boxes_that_is_none_is_one_line(
    trained: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], content: Any, words: tuple[str]
) -> None:
    (tmp_path / "boxes.json").write_text(json.dumps(content))
    common = (*named(pictures), "--checkpoint", trained / "best.ckpt", "--out", tmp_path / "r.json")
    line = refused(main, [*common, "--boxes", tmp_path / "boxes.json"], capsys, tmp_path)
    says(line, "boxes.json", *words)


def test_folders_of_folders_and_their_overlays(
    trained: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = (pictures / "cat_1.jpg").read_bytes()
    for name in ("cat.jpg", "a/cat.jpg", "a/cat.jfif", "a/b/cat.jpg", ".hidden/cat.jpg"):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_bytes(whole)
    common = (tmp_path / "in", "--checkpoint", trained / "best.ckpt", "--out", tmp_path / "r.json")
    assert predict(*common) == 0
    assert "give --recursive" in capsys.readouterr().err
    assert len(results(tmp_path / "r.json")) == 1
    assert predict(*common, "--recursive", "--overlays", tmp_path / "o") == 0
    assert ".hidden" in capsys.readouterr().err
    assert len(results(tmp_path / "r.json")) == 4
    drawn = {file.relative_to(tmp_path / "o").as_posix() for file in (tmp_path / "o").rglob("*.jpg")}
    assert drawn == {"cat.jpg", "a/1_cat.jpg", "a/2_cat.jpg", "a/b/cat.jpg"} or len(drawn) == 4
    assert {"cat.jpg", "a/b/cat.jpg"} < drawn


@pytest.fixture(scope="module", params=["cat", "__background__"])
def ssdlite(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> tuple[Path, str]:
    """torchvision's detector with random weights, but for a class that it finds everywhere, and which that is."""
    torch.manual_seed(0)
    categories = detector.WEIGHTS.meta["categories"]
    state = detector.ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None).state_dict()
    for name, value in state.items():
        if "classification_head" in name and name.endswith("1.bias"):
            value[categories.index(request.param) :: len(categories)] += 9
    file = tmp_path_factory.mktemp("detector") / "ssdlite.pth"
    torch.save(state, file)
    return file, request.param


@pytest.mark.slow
def test_a_detector_finds_boxes_or_says_that_there_are_none(
    trained: Path, pictures: Path, ssdlite: tuple[Path, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    detect = ("--detector", "torchvision", "--detector-weights", ssdlite[0])
    words = [*named(pictures), "--checkpoint", trained / "best.ckpt", *detect, "--out", tmp_path / "r.json"]
    if ssdlite[1] == "cat":
        assert predict(*words) == 0
        assert "4 of 4 pictures with several animals" in capsys.readouterr().err
        assert len(results(tmp_path / "r.json")) >= 4
    else:
        says(refused(main, words, capsys, tmp_path), "found no animal in 4 pictures", "leave it out", "--boxes")


@pytest.mark.slow
def test_without_its_weights_the_detector_says_where_they_come_from(
    trained: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))
    common = [*named(pictures), "--checkpoint", trained / "best.ckpt", "--out", tmp_path / "r.json"]
    words = [*common, "--detector", "torchvision"]
    line = refused(main, words, capsys, tmp_path)
    says(line, "checkpoints/ssdlite320_mobilenet_v3_large_coco", "https://", "--detector-weights")
    other = [*words, "--detector-weights", trained / "best.ckpt"]
    says(refused(main, other, capsys, tmp_path), "best.ckpt", "no weights of torchvision's ssdlite320")
    says(refused(main, [*common, *other[-2:]], capsys, tmp_path), "--detector-weights", "--detector torchvision")
