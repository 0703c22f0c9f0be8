"""Anybody's labelled photographs: what each tool exports comes in by one command, with the same keypoints."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import exports
import made_up
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from refused import exit_code
from skeletons import KEYPOINTS, SIGMAS

from catpose import check, fit, predict
from catpose import test as score
from catpose.data.checks import all_findings
from catpose.data.coco import read_split
from catpose.data.images import read_image
from catpose.data.importers.names import match_keypoints
from catpose.prepare import main

#: For each tool what writes its export, the subcommand, and how far its rounding moves a keypoint (px).
TOOLS: dict[str, tuple[Callable[..., Path], str, float]] = {
    "cvat": (exports.cvat, "coco", 0),
    "label studio": (exports.label_studio, "coco", 0.5),
    "label studio yolo": (exports.label_studio_yolo, "yolo", 1e-9),
    "roboflow": (exports.roboflow, "coco", 0),
    "coco annotator": (exports.coco_annotator, "coco", 0),
    "mmpose": (exports.mmpose, "coco", 0),
    "ultralytics": (exports.ultralytics, "yolo", 1e-4),
    "cvat yolo": (exports.cvat_yolo, "yolo", 1e-4),
    "deeplabcut": (exports.deeplabcut, "deeplabcut", 0),
    "sleap": (exports.sleap, "sleap", 0),
    "sleap package": (exports.sleap_package, "sleap", 0),
}
#: Formats that have no boxes, and those that don't say whether a keypoint is hidden.
BOXLESS = {"deeplabcut", "sleap", "sleap package"}
ONLY_SEEN = {"label studio", "label studio yolo", "deeplabcut"}
SPLITS = ("train", "val", "test")


def prepared(*args: object) -> None:
    main([str(arg) for arg in args])


def refused(capsys: pytest.CaptureFixture[str], *args: object) -> str:
    with pytest.raises(SystemExit) as caught:
        prepared(*args)
    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error


def refused_whole(capsys: pytest.CaptureFixture[str], untouched: Path, *args: object) -> str:
    """As `refused`, with no file or folder more or less in `untouched`."""
    before = sorted(untouched.rglob("*"))
    error = refused(capsys, *args)
    assert sorted(untouched.rglob("*")) == before
    return error


def imported(root: Path) -> dict[bytes, list[tuple[np.ndarray, np.ndarray, np.ndarray]]]:
    """By a picture's pixels: keypoints, visibility and box of each animal on it."""
    found: dict[bytes, list[tuple[np.ndarray, np.ndarray, np.ndarray]]] = {}
    for name in SPLITS:
        if (root / "annotations" / f"{name}.json").exists():
            split = read_split(root, name)
            for i in range(len(split)):
                picture = read_image(split.images[split.image_index[i]].path)[..., ::-1]
                found.setdefault(picture.tobytes(), []).append(
                    (split.keypoints[i], split.visibility[i], split.boxes[i])
                )
    return found


def bring_in(tool: str, folder: Path, *more: object) -> tuple[str, Path, list[object]]:
    """A tool's export, brought in as FOLDER/cats: the subcommand, that folder, and what was asked for."""
    export, command, _ = TOOLS[tool]
    if command == "sleap":
        pytest.importorskip("sleap_io")
    source = export(folder / "export", exports.cats(several=tool != "label studio"))
    (folder / "names.txt").write_text("\n".join(KEYPOINTS))
    names = ["--keypoints", folder / "names.txt"] if tool == "cvat yolo" else []
    options: list[object] = [source, "--split", 6, 3, "rest", *names]
    prepared(command, *options, *more, "--out", folder / "cats")
    return command, folder / "cats", options


@pytest.mark.one_in(3)
@pytest.mark.parametrize("tool", TOOLS)
def test_the_same_labels_come_in_alike_from_every_tool(
    tool: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    export, command, rounding = TOOLS[tool]
    if command == "sleap":
        pytest.importorskip("sleap_io")
    labelled = exports.cats(several=tool != "label studio")
    source = export(tmp_path / "export", labelled)
    options: list[object] = ["--split", 6, 3, "rest"]
    if tool == "cvat yolo":
        (tmp_path / "names.txt").write_text("\n".join(KEYPOINTS))
        options += ["--keypoints", tmp_path / "names.txt"]
    packed = source if command == "sleap" else exports.zipped(source)
    prepared(command, source, *options, "--out", tmp_path / "cats")
    prepared(command, packed, *options, "--out", tmp_path / "unpacked")
    printed = capsys.readouterr().out
    assert f"kept {len(labelled)} annotations" in printed
    assert all(name in printed for name in KEYPOINTS)
    found = imported(tmp_path / "cats")
    for image in range(12):
        wanted = [cat for cat in labelled if cat.image == image]
        animals = found[made_up.picture(image, exports.WIDTH, exports.HEIGHT).tobytes()]
        assert len(animals) == len(wanted)
        for cat, (points, visibility, box) in zip(wanted, animals, strict=True):
            seen = cat.points[:, 2] > 0
            assert np.array_equal(visibility > 0, seen)
            if tool not in ONLY_SEEN:
                assert np.array_equal(visibility, cat.points[:, 2])
            assert np.abs(points[seen] - cat.points[seen, :2]).max() <= rounding + 1e-9
            if tool not in BOXLESS:
                assert np.allclose(box, cat.box, atol=0.01)
    records = [json.loads((tmp_path / name / "split.json").read_text()) for name in ("cats", "unpacked")]
    assert records[0] == records[1]
    assert [finding for finding in all_findings(tmp_path / "cats") if finding.severity == "error"] == []
    assert [path for path in tmp_path.iterdir() if path.name.startswith(".")] == []


@pytest.mark.one_in(3)
@pytest.mark.parametrize("tool", TOOLS)
def test_a_tools_own_keypoints_are_kept_as_they_are(
    tool: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command, root, options = bring_in(tool, tmp_path, "--skeleton", "own")
    assert "the source's own keypoints" in capsys.readouterr().out
    split = read_split(root, "train")
    assert (root / "skeleton.yaml").is_file()
    again = [*options, "--skeleton", "ap10k", "--out", tmp_path / "17"]
    prepared(command, *again)
    ours = read_split(tmp_path / "17", "train")
    match = match_keypoints(split.skeleton.names, "")
    for place, name in zip(match.places, KEYPOINTS, strict=True):
        k = KEYPOINTS.index(name)
        assert np.array_equal(split.keypoints[:, place], ours.keypoints[:, k], equal_nan=True)
        assert np.array_equal(split.visibility[:, place], ours.visibility[:, k])
        assert split.skeleton.sigmas[place or 0] == SIGMAS[k]
    assert len(split.skeleton.flip_pairs) == (8 if tool == "mmpose" else 7)
    assert [finding for finding in all_findings(root) if finding.severity == "error"] == []
    assert "is there already with other data" in refused(capsys, command, *options, "--out", root)


@pytest.mark.slow
@pytest.mark.parametrize("tool", TOOLS)
def test_what_a_tool_exported_is_trained_on(tool: str, tiny: Path, tmp_path: Path) -> None:
    """From the export to overlays: check, fit, test and predict read what was brought in."""
    _, root, _ = bring_in(tool, tmp_path, "--skeleton", "own")
    run, found = tmp_path / "run", tmp_path / "found.json"
    options = ("--data.root", root, "--out", run, "--trainer.max_epochs=1", "--wandb.mode=disabled")
    checkpoint = ("--checkpoint", run / "last.ckpt")
    assert exit_code(check.main, "--data", root) == 0
    assert exit_code(fit.main, "--config", tiny, *options) == 0
    assert exit_code(score.main, *checkpoint, "--data", root, "--draws", 10, "--out", tmp_path / "score") == 0
    overlays = ("--overlays", tmp_path / "overlays")
    assert exit_code(predict.main, root / "annotations" / "val.json", *checkpoint, "--out", found, *overlays) == 0
    names = read_split(root, "val").skeleton.names
    assert {len(entry["keypoints"]) for entry in json.loads(found.read_text())} == {3 * len(names)}
    assert len(list((tmp_path / "overlays").iterdir())) == 3


@pytest.mark.one_in(3)
@pytest.mark.parametrize(
    ("tool", "sizes"),
    [("cvat", [8, 2, 2]), ("roboflow", [8, 2, 2]), ("mmpose", [9, 3]), ("ultralytics", [8, 4])],
)
def test_the_tools_own_split_is_kept_unless_another_is_asked_for(
    tool: str, sizes: list[int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = TOOLS[tool][0](tmp_path / "export", exports.cats())
    for i, arguments in enumerate(([], ["--split", "own"])):
        prepared(TOOLS[tool][1], source, *arguments, "--out", tmp_path / str(i))
        splits = [read_split(tmp_path / str(i), name) for name, _ in zip(SPLITS, sizes, strict=False)]
        assert [len(split.images) for split in splits] == sizes
        assert "split: the source's own" in capsys.readouterr().out
    prepared(TOOLS[tool][1], source, "--split", 0.5, 0.25, 0.25, "--out", tmp_path / "cats")
    assert [len(read_split(tmp_path / "cats", name).images) for name in SPLITS] == [6, 3, 3]


def test_no_split_of_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = exports.coco_annotator(tmp_path / "export", exports.cats())
    prepared("coco", source / "cats-3.json", "--images", source / "pics", "--out", tmp_path / "cats")
    assert [len(read_split(tmp_path / "cats", name).images) for name in SPLITS] == [10, 1, 1]
    error = refused(capsys, "coco", source, "--split", "own", "--out", tmp_path / "other")
    assert "--split own: 12 of the 12 pictures are in no split" in error


def test_pictures_of_one_name_get_names_of_their_own(tmp_path: Path) -> None:
    source = exports.cvat(tmp_path / "export", exports.cats())
    for folder in (source / "images").iterdir():
        for i, file in enumerate(sorted(folder.iterdir())):
            file.rename(folder / f"{i}.png")
    for file in (source / "annotations").iterdir():
        content = json.loads(file.read_text())
        for i, image in enumerate(content["images"]):
            image["file_name"] = f"{i}.png"
        file.write_text(json.dumps(content))
    prepared("coco", source, "--out", tmp_path / "cats")
    names = sorted(file.name for file in (tmp_path / "cats" / "images").iterdir())
    assert len(names) == 12
    assert {"images_Train_0.png", "images_Validation_0.png", "images_test_0.png"} < set(names)
    wanted = {made_up.picture(i, exports.WIDTH, exports.HEIGHT).tobytes() for i in range(12)}
    assert set(imported(tmp_path / "cats")) == wanted


def test_pictures_made_from_one_and_frames_of_one_video_stay_together(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = exports.coco_annotator(tmp_path / "export", exports.cats(several=False))
    content = json.loads((source / "cats-3.json").read_text())
    for i, image in enumerate(content["images"]):
        image["video_id"] = i // 3
    (source / "cats-3.json").write_text(json.dumps(content))
    for seed in range(4):
        root = tmp_path / str(seed)
        prepared("coco", source, "--split", 0.5, 0.25, 0.25, "--seed", seed, "--out", root)
        for name in SPLITS:
            numbers = {int(image.file_name[:-4]) for image in read_split(root, name).images}
            assert all({3 * (i // 3) + k for k in range(3)} <= numbers for i in numbers)
    assert "several splits" not in capsys.readouterr().out
    prepared("coco", source, "--split", 8, 2, 2, "--out", tmp_path / "torn")  # numbers are kept to
    assert "lie in several splits" in capsys.readouterr().out


def broken(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def apply(source: Path) -> None:
        file = source / "cats-3.json"
        content = json.loads(file.read_text())
        change(content)
        file.write_text(json.dumps(content))

    return apply


def _two_categories(content: dict[str, Any]) -> None:
    content["categories"].append(content["categories"][0] | {"id": 7, "name": "dog"})
    content["annotations"][3]["category_id"] = 7


@pytest.mark.one_in(3)
@pytest.mark.parametrize(
    ("break_it", "named"),
    [
        (broken(_two_categories), "several categories have keypoints: cat (14), dog (1); choose with --species"),
        (broken(lambda c: [a.update(keypoints=[0] * 51) for a in c["annotations"]]), "no keypoint is labelled"),
        (broken(lambda c: [a.pop("keypoints") for a in c["annotations"]]), "no annotation has keypoints"),
        (broken(lambda c: c.update(annotations=[])), "no annotation has keypoints"),
        (broken(lambda c: c["categories"][0].pop("keypoints")), "category 'cat' doesn't name its keypoints"),
        (broken(lambda c: c["categories"][0].update(keypoints=["nose"])), "has 51 numbers, not 3"),
        (
            broken(lambda c: c["categories"][0]["keypoints"].__setitem__(0, "throat")),
            "'throat' and 'NECK' both mean neck",
        ),
        (broken(lambda c: c["annotations"][0].update(image_id=999)), "annotations[0]: 'image_id' is 999"),
        (broken(lambda c: c["annotations"][0].update(category_id="x")), "annotations[0]: 'category_id' is 'x'"),
        (broken(lambda c: c["annotations"][0].update(bbox=["1", 2, 3, 4])), "annotations[0]: 'bbox'"),
        (broken(lambda c: c["annotations"][0]["keypoints"].__setitem__(2, 5)), "visibility 5 of LEFT-EYE"),
        (broken(lambda c: c["annotations"][0].update(keypoints=[1e9, 3, 2] * 17)), "which is no place"),
        (broken(lambda c: c["images"][1].update(id=40)), "images[1]: 'id' 40 is there twice"),
        (broken(lambda c: c["images"][1].update(file_name=None, path=3)), "'file_name' is 3"),
        (broken(lambda c: c["images"][1].update(file_name="other.png")), "1 of the 12 labelled pictures are not below"),
        (lambda source: shutil.rmtree(source / "pics"), "12 of the 12 labelled pictures are not below"),
        (lambda source: (source / "pics" / "3.png").write_text("cat"), "is no picture"),
        (lambda source: (source / "cats-3.json").write_text("<!DOCTYPE html><html>"), "is a web page"),
        (lambda source: (source / "cats-3.json").write_text("left_eye 3 4"), "is not JSON"),
        (lambda source: (source / "cats-3.json").write_text("[]"), "no COCO file"),
        (lambda source: (source / "cats-3.json").unlink(), "holds no JSON file"),
        (lambda source: shutil.rmtree(source), "no such file or folder"),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_each_broken_export_is_named_in_one_line_and_nothing_is_written(
    break_it: Callable[[Path], object], named: str, packed: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = exports.coco_annotator(tmp_path / "export", exports.cats())
    break_it(source)
    if packed and source.exists():
        source = exports.zipped(source)
    error = refused_whole(capsys, tmp_path, "coco", source, "--out", tmp_path / "new" / "cats")
    assert named in error
    assert str(source) in error
    assert ".unpacked-" not in error


JSON: st.SearchStrategy[Any] = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just([]) | st.just({}) | st.just([1, 2])
)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), value=JSON)
def test_whatever_is_put_anywhere_an_export_is_imported_or_told_in_one_line(
    data: st.DataObject, value: object, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "export"
    if not source.exists():
        exports.coco_annotator(source, exports.cats(4), 4)
        (tmp_path / "text").write_text((source / "cats-3.json").read_text())
    content = json.loads((tmp_path / "text").read_text())
    made_up.put(content, data.draw(st.sampled_from(made_up.places(content))), value)
    (source / "cats-3.json").write_text(json.dumps(content))
    shutil.rmtree(tmp_path / "cats", ignore_errors=True)
    code = 0
    try:
        prepared("coco", source, "--split", 2, 1, 1, "--out", tmp_path / "cats")
    except SystemExit as error:
        code = error.code
    assert (code, capsys.readouterr().err.count("\n")) in ((0, 0), (2, 1))
    if not code:
        assert [finding for finding in all_findings(tmp_path / "cats") if finding.severity == "error"] == []


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    ids=st.lists(st.integers(-(2**60), 2**60) | st.text(max_size=3), min_size=4, max_size=4, unique=True),
    order=st.permutations(range(4)),
    names=st.permutations(range(17)),
)
def test_neither_ids_nor_orders_in_the_file_matter(
    ids: list[Any], order: list[int], names: list[int], tmp_path: Path
) -> None:
    """Images under any ids, keypoints and annotations in any order: the same labels on the same pictures."""
    source = tmp_path / "export"
    if not source.exists():
        exports.coco_annotator(source, exports.cats(4), 4)
        (tmp_path / "text").write_text((source / "cats-3.json").read_text())
        prepared("coco", source, "--split", 4, 0, 0, "--out", tmp_path / "first")
    content = json.loads((tmp_path / "text").read_text())
    renamed = {image["id"]: ids[i] for i, image in enumerate(content["images"])}
    for i, image in enumerate(content["images"]):
        image["id"] = ids[i]
    content["categories"][0]["keypoints"] = [KEYPOINTS[k] for k in names]
    for annotation in content["annotations"]:
        annotation["image_id"] = renamed[annotation["image_id"]]
        annotation["keypoints"] = np.array(annotation["keypoints"]).reshape(17, 3)[names].ravel().tolist()
    content["images"] = [content["images"][i] for i in order]
    content["annotations"] = content["annotations"][::-1]
    (source / "cats-3.json").write_text(json.dumps(content))
    shutil.rmtree(tmp_path / "cats", ignore_errors=True)
    prepared("coco", source, "--split", 4, 0, 0, "--out", tmp_path / "cats")
    first, second = imported(tmp_path / "first"), imported(tmp_path / "cats")
    assert first.keys() == second.keys()
    for picture, animals in first.items():
        for one, other in zip(_sorted(animals), _sorted(second[picture]), strict=True):
            assert np.array_equal(one, other, equal_nan=True)
    split = read_split(tmp_path / "cats", "train")
    assert [image.id for image in split.images] == [1, 2, 3, 4]
    assert sorted(split.ids.tolist()) == list(range(1, len(split) + 1))


def _sorted(animals: list[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> list[np.ndarray]:
    rows = [np.concatenate([points.ravel(), visibility, box]) for points, visibility, box in animals]
    return sorted(rows, key=lambda row: tuple(row[-4:]))


def test_what_is_left_out_and_made_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = exports.coco_annotator(tmp_path / "export", exports.cats(several=False))

    def change(content: dict[str, Any]) -> None:
        entries = content["annotations"]
        entries[0]["keypoints"] = [0] * 51
        entries[1]["iscrowd"] = 1
        entries[2]["bbox"] = [10, 10, 0, 0]
        entries[3].pop("bbox")
        entries[4].pop("bbox")
        entries[4]["keypoints"] = [9, 9, 2] + [0] * 48
        content["annotations"].append(entries[5] | {"id": 999})
        entries[6].pop("keypoints")

    broken(change)(source)
    prepared("coco", source, "--split", 6, 1, 1, "--out", tmp_path / "cats")
    printed = capsys.readouterr().out
    assert (
        "kept 8 annotations; left out: 1 crowds, 1 listed twice, 1 with one keypoint and no box, 1 without a labelled"
        " keypoint, 1 without keypoints"
    ) in printed
    assert "note: 2 boxes made from keypoints, 20% of their extent added (the source has none there" in printed


def test_boxes_at_the_outermost_keypoints_are_the_tools(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without rectangles beside them they are made anew, with a margin, within their pictures."""
    source = exports.label_studio(tmp_path / "export", exports.cats(several=False))
    content = json.loads((source / "result.json").read_text())
    content["annotations"] = [entry for entry in content["annotations"] if "keypoints" in entry]
    (source / "result.json").write_text(json.dumps(content))
    prepared("coco", source, "--out", tmp_path / "cats")
    assert "note: 12 boxes made from keypoints, 20% of their extent added (the source's end" in capsys.readouterr().out
    for animals in imported(tmp_path / "cats").values():
        for points, _, box in animals:
            low, high = np.nanmin(points, axis=0), np.nanmax(points, axis=0)
            margin = 0.2 * (high - low).max()
            assert np.allclose(box[:2], np.maximum(low - margin, 0), atol=0.01)
            assert np.allclose(box[:2] + box[2:], np.minimum(high + margin, (exports.WIDTH, exports.HEIGHT)), atol=0.02)


def test_a_persons_rectangle_holds_most_of_the_keypoints(tmp_path: Path) -> None:
    """A paw that was labelled beyond it doesn't take it from its animal."""
    labelled = exports.cats(several=False)
    source = exports.label_studio(tmp_path / "export", labelled)
    content = json.loads((source / "result.json").read_text())
    for entry in content["annotations"]:
        if "keypoints" in entry:
            points = np.array(entry["keypoints"]).reshape(17, 3)
            points[np.flatnonzero(points[:, 2])[-1], 0] = exports.WIDTH - 1
            low, high = (end(points[points[:, 2] > 0, :2], axis=0) for end in (np.min, np.max))
            entry |= {"keypoints": points.ravel().tolist(), "bbox": [*low.tolist(), *(high - low).tolist()]}
    (source / "result.json").write_text(json.dumps(content))
    prepared("coco", source, "--out", tmp_path / "cats")
    boxes = [box for animals in imported(tmp_path / "cats").values() for _, _, box in animals]
    assert len(boxes) == len(labelled)
    assert np.allclose(boxes, labelled[0].box)


def test_keypoints_of_several_animals_in_one_are_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Label Studio's COCO has one animal a picture, with whichever of a keypoint's places came last."""
    labelled = exports.cats()  # two on three of the pictures
    source = exports.label_studio(tmp_path / "export", labelled)
    content = json.loads((source / "result.json").read_text())
    by_picture: dict[int, list[dict[str, Any]]] = {}
    for entry in content["annotations"]:
        if "keypoints" in entry:
            by_picture.setdefault(entry["image_id"], []).append(entry)
    for first, *others in by_picture.values():
        for other in others:
            points, later = (np.array(entry["keypoints"]).reshape(17, 3) for entry in (first, other))
            first["keypoints"] = np.where(later[:, 2:] > 0, later, points).ravel().tolist()
            content["annotations"].remove(other)
    (source / "result.json").write_text(json.dumps(content))
    prepared("coco", source, "--out", tmp_path / "cats")
    printed = capsys.readouterr().out
    assert "kept 9 annotations; left out: 3 with keypoints in several rectangles" in printed
    assert "note: animals with keypoints in several rectangles are left out; put them into their rectangles" in printed
    content["annotations"] = [entry for entry in content["annotations"] if entry["image_id"] % 4 == 3]
    (source / "result.json").write_text(json.dumps(content))
    error = refused(capsys, "coco", source, "--out", tmp_path / "none")
    assert "no animal but 3 with keypoints in several rectangles" in error


def test_label_studios_keypoints_outside_of_rectangles_are_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = exports.label_studio_yolo(tmp_path / "export", exports.cats())
    for text in source.rglob("labels/*.txt"):
        lines = [line.split()[:5] + ["0.0", "0.0", "0"] * 17 for line in text.read_text().splitlines()]
        text.write_text("\n".join(" ".join(line) for line in lines))
    assert "no rectangle has keypoints; put each" in refused(capsys, "yolo", source, "--out", tmp_path / "cats")
    (source / "notes.json").write_text('{"categories": [{"id": 0, "name": "cat"}]}')
    assert "holds no categories with keypoints" in refused(capsys, "yolo", source, "--out", tmp_path / "cats")


def test_pictures_in_a_storage_are_found_by_their_names(tmp_path: Path) -> None:
    source = exports.coco_annotator(tmp_path / "export", exports.cats())
    addresses = ("s3://cats/raw/{}", "https://cats.example/a%20b/{}?X-Amz-Date=1/2&sig=a%2Fb", "gs://c/{}#t=0/1")

    def change(content: dict[str, Any]) -> None:
        for i, image in enumerate(content["images"]):
            image["file_name"] = addresses[i % len(addresses)].format(image["file_name"])

    broken(change)(source)
    prepared("coco", source, "--out", tmp_path / "cats")
    assert len(imported(tmp_path / "cats")) == 12


def test_what_check_warns_of_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As of two people who labelled the same pictures, of which Label Studio writes each twice."""
    source = exports.coco_annotator(tmp_path / "export", exports.cats(several=False))

    def change(content: dict[str, Any]) -> None:
        for image, entry in zip(list(content["images"]), list(content["annotations"]), strict=True):
            moved = [value + (k % 3 < 2 and entry["keypoints"][k // 3 * 3 + 2] > 0) for k, value in
                     enumerate(entry["keypoints"])]  # fmt: skip
            content["images"].append(image | {"id": image["id"] + 100})
            content["annotations"].append(
                entry | {"id": entry["id"] + 100, "image_id": image["id"] + 100, "keypoints": moved}
            )

    broken(change)(source)
    prepared("coco", source, "--split", 12, 0, 0, "--out", tmp_path / "cats")
    printed = capsys.readouterr().out
    assert "kept 24 annotations" in printed
    assert "warning: train: 12 pairs of nearly equal instances (annotation" in printed
    assert f"about the data; python -m catpose.check --data {tmp_path / 'cats'} lists them" in printed


def _only(source: Path, *others: str) -> None:
    """Leave no JSON file in a folder, and these empty files."""
    for file in source.rglob("*.json"):
        file.unlink()
    for name in others:
        (source / name).touch()


@pytest.mark.parametrize(
    ("break_it", "named"),
    [
        (lambda source: _only(source, "data.yaml"), "but 'data.yaml'; YOLO's labels are brought in by"),
        (lambda source: _only(source, "CollectedData_me.h5"), "'CollectedData_me.h5'; DeepLabCut's labels are"),
        (lambda source: _only(source, "cats.slp"), "'cats.slp'; SLEAP's labels are brought in by"),
        (lambda source: _only(source, "annotations.xml"), "export CVAT's labels as COCO Keypoints 1.0"),
        (lambda source: _only(source, "export.zip"), "'export.zip'; unpack it, and name what is inside"),
        (
            lambda source: (source / "cats-3.json").write_text('[{"id": 1, "data": {}, "annotations": []}]'),
            "holds 1 JSON file, but no COCO file; it is Label Studio's own JSON: export",
        ),
    ],
)
def test_another_export_than_cocos_is_told(
    break_it: Callable[[Path], object], named: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = exports.coco_annotator(tmp_path / "export", exports.cats())
    break_it(source)
    assert named in refused_whole(capsys, tmp_path, "coco", source, "--out", tmp_path / "cats")


def test_names_given_by_hand(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = exports.coco_annotator(tmp_path / "export", exports.cats())
    broken(lambda c: c["categories"][0].update(keypoints=[f"point {i}" for i in range(17)]))(source)
    assert "none of its 17 keypoints" in refused(capsys, "coco", source, "--out", tmp_path / "cats")
    names = tmp_path / "names.txt"
    names.write_text("\n".join(KEYPOINTS[:16]))
    error = refused(capsys, "coco", source, "--keypoints", names, "--out", tmp_path / "cats")
    assert "--keypoints has 16 names, a line each, but 'cat'" in error
    names.write_text("\n".join([*KEYPOINTS[:16], "-"]))
    prepared("coco", source, "--keypoints", names, "--out", tmp_path / "cats")
    for animals in imported(tmp_path / "cats").values():
        assert all(visibility[16] == 0 for _, visibility, _ in animals)


@pytest.mark.parametrize(
    ("split", "named"),
    [
        ([0.5, 0.2, 0.1], "adds up to 0.8, not to 1; --split 0.8 0.1 0.1 would do"),
        ([0.9, 0.2, 0.1], "adds up to 1.2, not to 1"),
        ([0.8, 2, 0.1], "mixes shares with numbers"),
        ([10, 1, 2], "adds up to 13, but there are 12 images"),
        (["rest", "rest", 2], "only one can be the rest"),
        ([0.8, "nan", 0.1], "'nan' is neither a number of images, a share from 0 to 1 nor 'rest'"),
        ([0.8, 0.2], "give three values, for train, val and test"),
        (["published"], "give three values"),
    ],
)
def test_splits_that_cannot_be(
    split: list[object], named: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = exports.coco_annotator(tmp_path / "export", exports.cats())
    assert named in refused(capsys, "coco", source, "--split", *split, "--out", tmp_path / "cats")
    assert not (tmp_path / "cats").exists()


YOLO = ("data.yaml", "labels/train/3.txt")


def _edit(file: str, old: str, new: str) -> Callable[[Path], None]:
    def apply(source: Path) -> None:
        text = (source / file).read_text()
        assert old in text
        (source / file).write_text(text.replace(old, new, 1))

    return apply


@pytest.mark.one_in(3)
@pytest.mark.parametrize(
    ("break_it", "named"),
    [
        (_edit("data.yaml", "kpt_shape: [17, 3]", ""), "data.yaml: 'kpt_shape' is None, not [keypoints, 2 or 3]"),
        (_edit("data.yaml", "[17, 3]", "[17, 4]"), "'kpt_shape' is [17, 4]"),
        (_edit("data.yaml", "[17, 3]", "[16, 3]"), "'kpt_names'"),
        (_edit("data.yaml", "kpt_names", "other"), "doesn't say which keypoint is which of its 17"),
        (_edit("data.yaml", "kpt_shape", "!!python/object"), "is no YAML of plain values"),
        (_edit("data.yaml", "0: cat", "1: cat"), "0.txt: line 1: class 0 isn't among 'names'"),
        (_edit("labels/train/3.txt", "0 ", "0 0.5 "), "3.txt: line 1: has 57 numbers, not 56"),
        (_edit("labels/train/3.txt", "0.", "x."), "3.txt: line 1: 0 x"),
        (_edit("labels/train/3.txt", "0.", "nan 0."), "3.txt: line 1: has 57 numbers"),
        (_edit("labels/train/3.txt", "0 0.", "0 40."), "not within 0..1"),
        (lambda source: (source / "labels" / "train" / "3.txt").write_bytes(b"\xff\xfe"), "can't be read as text"),
        (
            lambda source: (source / "images" / "train" / "3.png").unlink(),
            "1 of the 12 labelled pictures are not below",
        ),
        (lambda source: shutil.rmtree(source / "labels"), "has no folder 'labels'"),
        (lambda source: (source / "data.yaml").unlink(), "no data.yaml"),
        (lambda source: (source / "data.yaml").write_text("<html>"), "'kpt_shape' is None"),
        (lambda source: [text.write_text("") for text in source.rglob("*.txt")], "no keypoint is labelled"),
    ],
)
def test_each_broken_yolo_export_is_named_in_one_line(
    break_it: Callable[[Path], object], named: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = exports.ultralytics(tmp_path / "export", exports.cats())
    break_it(source)
    assert named in refused_whole(capsys, tmp_path, "yolo", source, "--out", tmp_path / "cats")


CSV = "labeled-data/tom/CollectedData_me.csv"


@pytest.mark.parametrize(
    ("break_it", "named"),
    [
        (_edit(CSV, "bodyparts", "parts"), "has no rows 'bodyparts' and 'coords'"),
        (_edit(CSV, "coords,,,x,y", "coords,,,y,x"), "its columns aren't x, y"),
        (_edit(CSV, "left_eye", "L. ear"), "has other body parts than another"),
        (_edit(CSV, "img001.png,", "img001.png,a"), "is no place"),
        (_edit(CSV, "img001.png,", "img001.png,1,"), "line 6: has 74 cells, not 73"),
        (_edit(CSV, "3.5,4.5", "1e30,4.5"), "is no place in a picture"),
        (lambda source: [csv.write_text("") for csv in source.rglob("*.csv")], "has no rows 'bodyparts'"),
        (lambda source: [csv.unlink() for csv in source.rglob("*.csv")], "holds no CollectedData_*.csv"),
        (lambda source: (source / "labeled-data" / "tom" / "img003.png").unlink(), "1 of the 12 labelled pictures"),
        (lambda source: (source / CSV).write_bytes(b"\xff\xfe\x00"), "can't be read as CSV"),
    ],
)
def test_each_broken_deeplabcut_project_is_named_in_one_line(
    break_it: Callable[[Path], object], named: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = exports.deeplabcut(tmp_path / "export", exports.cats())
    break_it(source)
    assert named in refused_whole(capsys, tmp_path, "deeplabcut", source, "--out", tmp_path / "cats")


def test_deeplabcut_of_one_animal_in_the_older_layout(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One column of paths, no individuals, Windows' slashes; the videos' frames stay together."""
    labelled = exports.cats(several=False)
    exports.deeplabcut(tmp_path / "export", labelled)
    for file in (tmp_path / "export").rglob("*.csv"):
        rows = [line.split(",") for line in file.read_text().splitlines()]
        del rows[1]
        old = [["\\".join(cell for cell in row[:3] if cell), *row[3:37]] for row in rows]
        file.write_text("\n".join(",".join(row) for row in old))
    prepared("deeplabcut", tmp_path / "export", "--out", tmp_path / "cats")
    assert "kept 12 annotations; left out: none" in capsys.readouterr().out
    splits = [read_split(tmp_path / "cats", name) for name in ("train", "val")]
    for split in splits:  # each one video
        assert len(split.images) == 6
        assert max(int(image.file_name[3:6]) for image in split.images) in (5, 11)


def test_sleap_without_its_library_or_its_pictures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cats.slp").write_text("<html>")
    with monkeypatch.context() as patch:
        patch.setitem(__import__("sys").modules, "sleap_io", None)
        error = refused(capsys, "sleap", tmp_path / "cats.slp", "--out", tmp_path / "cats")
        assert "pip install 'catpose[import]'" in error
    pytest.importorskip("sleap_io")
    assert "can't be read as SLEAP's labels" in refused(
        capsys, "sleap", tmp_path / "cats.slp", "--out", tmp_path / "cats"
    )
    file = exports.sleap(tmp_path / "export", exports.cats())
    (tmp_path / "export" / "3.png").unlink()
    assert "1 of the 12 labelled pictures are not below" in refused(capsys, "sleap", file, "--out", tmp_path / "cats")
    (tmp_path / "empty").mkdir()
    assert "holds no .slp files" in refused(capsys, "sleap", tmp_path / "empty", "--out", tmp_path / "cats")


def test_what_check_would_refuse_is_told_of_the_source(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = exports.coco_annotator(tmp_path / "export", exports.cats(several=False))
    same = exports.cats(several=False)[0]
    broken(lambda c: [a.update(keypoints=same.points.ravel().tolist()) for a in c["annotations"]])(source)
    error = refused(capsys, "coco", source, "--split", 12, 0, 0, "--out", tmp_path / "cats")
    assert f"{source / 'cats-3.json'}: train: the whole file: all 12 instances have the same keypoints" in error


def test_categories_are_chosen(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = exports.coco_annotator(tmp_path / "export", exports.cats())
    broken(_two_categories)(source)
    prepared("coco", source, "--species", "cat", "--split", "rest", 1, 1, "--out", tmp_path / "cats")
    printed = capsys.readouterr().out
    assert "kept 14 annotations; left out: 1 of dog" in printed
    prepared("coco", source, "--species", "all", "--split", "rest", 1, 1, "--out", tmp_path / "all")
    assert "kept 15 annotations; left out: none" in capsys.readouterr().out
    error = refused(capsys, "coco", source, "--species", "dogs", "--out", tmp_path / "dogs")
    assert "no labelled animal is of category 'dogs'. Did you mean dog?" in error
    broken(lambda c: c["categories"][1].update(keypoints=[*KEYPOINTS[:16], "tail"]))(source)
    error = refused(capsys, "coco", source, "--species", "all", "--out", tmp_path / "dogs")
    assert "categories 'cat' and 'dog' have different keypoints" in error


def test_pictures_that_nobody_labelled_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = exports.coco_annotator(tmp_path / "export", exports.cats(several=False))
    broken(lambda c: c.update(annotations=c["annotations"][:9]))(source)
    prepared("coco", source, "--out", tmp_path / "cats")
    assert "note: left out: 3 pictures without such an animal" in capsys.readouterr().out
    assert len(list((tmp_path / "cats" / "images").iterdir())) == 9


@pytest.mark.parametrize("tool", ["roboflow", "ultralytics"])
def test_what_roboflow_made_from_one_picture_stays_together(tool: str, tmp_path: Path) -> None:
    """Three pictures, each four times, called NAME.rf.HASH, as it augments them."""
    source = TOOLS[tool][0](tmp_path / "export", exports.cats(several=False))
    new = {f"{i}": f"cat{i // 4}_png.rf.{i:032x}" for i in range(12)}
    for file in [*source.rglob("*.png"), *source.rglob("*.txt")]:
        if file.stem in new:
            file.rename(file.with_stem(new[file.stem]))
        elif file.suffix == ".png":
            number = int(file.stem.split("-")[1].split("_")[0])
            file.rename(file.with_stem(new[f"{number}"]))
    for file in source.rglob("*.json"):
        content = json.loads(file.read_text())
        for image in content["images"]:
            image["file_name"] = new[image["file_name"].split("-")[1].split("_")[0]] + ".png"
        file.write_text(json.dumps(content))
    prepared(TOOLS[tool][1], source, "--split", 0.4, 0.3, 0.3, "--out", tmp_path / "cats")
    splits = [{image.file_name[:4] for image in read_split(tmp_path / "cats", name).images} for name in SPLITS]
    assert [len(names) for names in splits] == [1, 1, 1]
    assert len(set.union(*splits)) == 3
