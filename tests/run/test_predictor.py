"""`load` and `predict` in Python: the command's numbers, from files, arrays and PIL images alike."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from made_up import shaken
from PIL import Image
from refused import exit_code

import catpose
from catpose import InputError, Poses, load, predict, read_split, test
from catpose.data.images import read_image
from catpose.run.predictor import Predictor
from catpose.score.detections import Detections
from catpose.skeleton import AP10K

command = functools.partial(exit_code, predict.main)


@pytest.fixture(scope="module")
def model(trained: Path) -> Predictor:
    return load(trained / "best.ckpt", device="cpu")


@pytest.fixture(scope="module")
def files(drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three pictures, one of them stored on its side."""
    folder = tmp_path_factory.mktemp("pictures")
    found = []
    for i, file in enumerate(sorted((drawn / "images").iterdir())[:3]):
        picture = Image.open(file).convert("RGB")
        exif = Image.Exif()
        if i == 2:
            picture, exif[0x0112] = picture.rotate(90, expand=True), 6
        picture.save(folder / f"{i}.png", exif=exif)
        found.append(folder / f"{i}.png")
    return found


def test_it_gives_the_commands_numbers(model: Predictor, trained: Path, files: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "r.json"
    assert command(*files, "--checkpoint", trained / "best.ckpt", "--device", "cpu", "--out", out) == 0
    found = model.predict([str(file) for file in files])
    assert [entry for each in found for entry in each.to_coco()] == json.loads(out.read_text())
    boxes = [[[5.0, 6.0, 60.0, 70.0]], [[0.0, 0.0, 50.0, 50.0], [10.0, 10.0, 90.0, 80.0]], np.zeros((0, 4))]
    entries = [
        {"image_id": i, "file_name": str(file), "bbox": box}
        for i, (file, each) in enumerate(zip(files, boxes, strict=True))
        for box in each
    ]
    (tmp_path / "boxes.json").write_text(json.dumps(entries))
    args = (*files, "--checkpoint", trained / "best.ckpt", "--device", "cpu", "--out", out)
    assert command(*args, "--boxes", tmp_path / "boxes.json") == 0
    found = model.predict(files, boxes)
    assert [entry for each in found for entry in each.to_coco()] == json.loads(out.read_text())
    assert [len(each) for each in found][2] == 0
    assert found[0].boxes.tolist() == boxes[0]
    for each, again in zip(found, model.predict(files, boxes, batch_size=2), strict=True):
        np.testing.assert_allclose(again.keypoints, each.keypoints, atol=1e-3)


def test_files_arrays_and_pil_images_are_the_same_picture(model: Predictor, files: list[Path]) -> None:
    arrays = [read_image(file) for file in files]
    mixed = [arrays[0][:, ::-1][:, ::-1], Image.open(files[1]), Image.open(files[2])]
    expected = model.predict(files)
    for found in (model.predict(arrays), model.predict(mixed)):
        for ours, theirs, file in zip(found, expected, files, strict=True):
            assert np.array_equal(ours.keypoints, theirs.keypoints)
            assert np.array_equal(ours.draw(0), theirs.draw(0))
            assert theirs.draw().shape == read_image(file).shape
    grey = Image.open(files[0]).convert("L")
    three = np.repeat(np.asarray(grey)[..., None], 3, axis=2)
    assert np.array_equal(model.predict(grey).keypoints, model.predict(three).keypoints)
    assert model.predict([]) == []


@pytest.mark.slow
def test_a_splits_own_boxes_are_predicted_and_scored_as_by_test(
    model: Predictor, trained: Path, drawn: Path, tmp_path: Path
) -> None:
    split = read_split(drawn, "val")
    poses = model.predict(split, batch_size=3)
    args = ["--checkpoint", str(trained / "best.ckpt"), "--data", str(drawn), "--out", str(tmp_path), "--device", "cpu"]
    test.main([*args, "--draws", "50"])
    results = tmp_path / "results_val.json"
    written = json.loads(results.read_text())
    entries = [entry for each in poses for entry in each.to_coco()]
    assert [{**entry, "file_name": None} for entry in written] == [{**entry, "file_name": None} for entry in entries]
    score = json.loads((tmp_path / "score_val.json").read_text())
    for predictions in (poses, entries, results, str(results)):
        found = catpose.evaluate(predictions, split, draws=50)
        assert found.values["AP"] == score["score"]["AP"]
        known = {key: list(ends) for key, ends in found.intervals.items() if not np.isnan(ends).any()}
        assert known == score["intervals_95"]
    again = catpose.evaluate(entries, drawn / "annotations" / "val.json", draws=50)
    np.testing.assert_equal(again.values, found.values)


def test_two_sets_of_predictions_are_compared_whether_files_or_not(drawn: Path, tmp_path: Path) -> None:
    split = read_split(drawn, "val")
    good, bad = (shaken(split, noise, 0).to_results() for noise in (0.02, 0.2))
    for name, entries in (("good", good), ("bad", bad)):
        (tmp_path / f"{name}.json").write_text(json.dumps(entries))
    compared = catpose.compare(bad, good, split, draws=50)
    files = ([tmp_path / "bad.json"], str(tmp_path / "good.json"), drawn / "annotations" / "val.json")
    from_files = catpose.compare(*files, draws=50)
    assert [method.name for method in compared.methods] == ["a", "b"]
    assert compared.best == from_files.best == 1
    assert repr(compared.against("AP")) == repr(from_files.against("AP"))
    with pytest.raises(InputError, match="is there twice"):
        catpose.compare(tmp_path / "good.json", str(tmp_path / "good.json"), split)
    with pytest.raises(InputError, match="predictions: are int"):
        catpose.compare(5, good, split)


def test_poses_can_be_drawn_written_and_tabulated(model: Predictor, files: list[Path], tmp_path: Path) -> None:
    poses = model.predict(files[0], boxes=[[4, 4, 60, 60], [20, 10, 70, 60]])
    n, k = len(poses), len(poses.skeleton)
    assert poses.keypoints.shape == (n, k, 2)
    assert poses.confidence.shape == (n, k)
    assert poses.boxes.shape == (n, 4)
    assert poses.score.shape == (n,)
    assert f"<{n} poses of 17 keypoints in {files[0]}" in repr(poses)
    poses.save(tmp_path / "drawn.png", shown_above=-1)
    assert np.array_equal(read_image(tmp_path / "drawn.png"), poses.draw(-1))
    assert not np.array_equal(poses.draw(-1), cv2.cvtColor(cv2.imread(str(files[0])), cv2.COLOR_BGR2RGB))
    for name in ("drawn.xyz", "nowhere/drawn.png"):
        with pytest.raises(InputError, match=r"drawn.*can't be written"):
            poses.save(tmp_path / name)
    table = pytest.importorskip("pandas") and poses.to_dataframe()
    assert list(table.columns) == ["image_id", "animal", "keypoint", "x", "y", "confidence"]
    assert len(table) == n * k
    left_eye = table[(table.animal == n - 1) & (table.keypoint == "left_eye")]
    assert left_eye[["x", "y"]].to_numpy().tolist() == [poses.keypoints[n - 1, 0].tolist()]


@pytest.mark.parametrize("kind", ["jpg", "webp"])
def test_a_picture_too_large_for_its_file_is_one_line(kind: str, tmp_path: Path) -> None:
    ids, numbers = np.zeros(0, np.int64), np.zeros((0, 17))
    nobody = Detections(ids, ids, np.zeros((0, 17, 2)), numbers, np.zeros(0), ids)
    poses = Poses(nobody, np.zeros((0, 4)), AP10K, np.zeros((1, 65501, 3), np.uint8), 1)
    with pytest.raises(InputError, match=rf"wide\.{kind}: can't be written .*; name a \.jpg or \.png"):
        poses.save(tmp_path / f"wide.{kind}")
    assert not [*tmp_path.iterdir()]
    poses.save(tmp_path / "wide.png")


WRONG: dict[str, tuple[Callable[[np.ndarray], Any], str]] = {
    "grey": (lambda rgb: rgb[..., 0], r"\(\d+, \d+\) of uint8; give \(height, width, 3\)"),
    "four channels": (lambda rgb: np.concatenate([rgb, rgb[..., :1]], axis=2), r"4\) of uint8; give"),
    "channels first": (lambda rgb: rgb.transpose(2, 0, 1), r"\(3, \d+, \d+\) of uint8"),
    "float": (lambda rgb: rgb / 255, "of float64; give"),
    "empty": (lambda rgb: rgb[:0], r"\(0, \d+, 3\) of uint8"),
    "16 bits": (lambda rgb: Image.fromarray(rgb[..., 0].astype(np.uint16)), "mode I;16; give one of 8 bits"),
    "no picture": (lambda rgb: None, "is NoneType; give a file"),
    "a list in a list": (lambda rgb: [[rgb]], "picture 1: is list; give a file"),
    "no file": (lambda rgb: "nowhere.jpg", "nowhere.jpg: can't be read"),
    "a folder": (lambda rgb: ".", "is a folder"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_what_is_no_picture_is_one_line(model: Predictor, files: list[Path], kind: str) -> None:
    given, line = WRONG[kind]
    with pytest.raises(InputError, match=line) as error:
        model.predict(given(read_image(files[0])))
    assert "\n" not in str(error.value)


def test_a_picture_is_turned_as_its_file_is(model: Predictor, files: list[Path], tmp_path: Path) -> None:
    """XMP's orientation counts for neither."""
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    file = tmp_path / "xmp.jpg"
    Image.open(files[0]).convert("RGB").save(file, xmp=xmp)
    assert Image.open(file).getexif().get(0x0112) == 6  # by Pillow's rule it would be turned
    assert np.array_equal(model.predict(Image.open(file)).draw(), model.predict(file).draw())


def test_a_picture_is_never_drawn_over(model: Predictor, files: list[Path], tmp_path: Path) -> None:
    file = tmp_path / "cat.png"
    file.write_bytes(files[0].read_bytes())
    (tmp_path / "link.png").symlink_to(file)
    for place in (file, tmp_path / "link.png"):
        with pytest.raises(InputError, match="is the picture itself"):
            model.predict(file).save(place)
    assert file.read_bytes() == files[0].read_bytes()


BOXES: dict[str, tuple[Any, str]] = {
    "less than a px": ([[0.1, 0.1, 0.5, 0.5]], "box 0 is .*parts of the picture"),
    "outside": ([[5000, 5, 10, 10]], "box 0 is .*, outside of its"),
    "before": ([[1, 1, 9, 9], [-20, 5, 20, 10]], "box 1 is .*, outside of its"),
    "no size": ([[5, 5, 0, 10]], "box 0 is .*last two above 0"),
    "nan": ([[5, 5, float("nan"), 10]], "box 0 is .*last two above 0"),
    "three numbers": ([[5, 5, 10]], r"give \(N, 4\) numbers"),
    "a number that no float holds": ([[10**400, 5, 10, 10]], r"give \(N, 4\) numbers"),
    "text": ("box", r"give \(N, 4\) numbers"),
    "one box flat": ([5, 5, 10, 10], r"give \(N, 4\) numbers"),
}


@pytest.mark.parametrize("kind", BOXES)
def test_boxes_that_are_none_are_one_line(model: Predictor, files: list[Path], kind: str) -> None:
    boxes, line = BOXES[kind]
    with pytest.raises(InputError, match=line) as error:
        model.predict(files[0], boxes)
    assert "\n" not in str(error.value)


def test_a_list_of_pictures_needs_a_list_of_boxes(model: Predictor, files: list[Path]) -> None:
    for boxes in (np.zeros((2, 4)), [[[1, 1, 9, 9]]], 5):
        with pytest.raises(InputError, match="boxes: give a list of 2 arrays"):
            model.predict(files[:2], boxes)


def test_devices_and_batches_that_are_none_are_one_line(model: Predictor, trained: Path, files: list[Path]) -> None:
    for device in ("gpuu", "cuda:99", "meta:x"):
        with pytest.raises(InputError, match=f"device {device}: "):
            load(trained / "best.ckpt", device=device)
    with pytest.raises(InputError, match="batch_size: 0"):
        model.predict(files[0], batch_size=0)


def test_a_splits_boxes_are_its_own(model: Predictor, drawn: Path) -> None:
    with pytest.raises(InputError, match=r"boxes: .*val\.json has its own"):
        model.predict(read_split(drawn, "val"), [[[1, 1, 9, 9]]])  # type: ignore[call-overload]


@pytest.mark.parametrize("suffix", [".ckpt", ".onnx", ".safetensors"])
@pytest.mark.parametrize("name", ["a" * 5000, "a\0b", "~nobody/a", "https://example.org/a", "/dev/zero"])
def test_a_name_of_no_model_is_one_line(name: str, suffix: str) -> None:
    with pytest.raises(InputError, match="no such file") as error:
        load(name + suffix)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 420
