"""Labels that go out to a tool and come back: only what was changed changes."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import exports
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from refused import content
from skeletons import KEYPOINTS

from catpose.data.checks import all_findings
from catpose.data.coco import read_split
from catpose.data.coco_split import split_hash
from catpose.prepare import main
from catpose.text import counted

N = 12


def prepared(*args: object) -> None:
    main([str(arg) for arg in args])


def labelled(root: Path) -> dict[str, dict[str, Any]]:
    """By picture: the one animal's entry."""
    found = {}
    for file in (root / "annotations").iterdir():
        coco = json.loads(file.read_text())
        names = {image["id"]: image["file_name"] for image in coco["images"]}
        found |= {names[entry["image_id"]]: entry for entry in coco["annotations"]}
    return found


def export(tool: str, folder: Path, cats: list[exports.Cat]) -> Path:
    """What the tool exports of the folder's pictures, without the pictures."""
    names = [f"frame_{i:06}.PNG" for i in range(N)]
    shutil.rmtree(folder, ignore_errors=True)
    if tool == "cvat":
        exports.write(folder / "annotations" / "person_keypoints_default.json", exports.coco(cats, names, [*range(N)]))
        return folder
    exports.label_studio(folder, cats)
    coco = json.loads((folder / "result.json").read_text())
    for i, image in enumerate(coco["images"]):
        image["file_name"] = f"images/{i:08x}-{names[i]}"
    (folder / "result.json").write_text(json.dumps(coco))
    shutil.rmtree(folder / "images")
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    source = exports.cvat(folder / "export", exports.cats(several=False))
    prepared("coco", source, "--split", 6, 3, 3, "--out", folder / "cats")
    return folder / "cats"


edits = st.dictionaries(
    st.tuples(st.integers(0, N - 1), st.integers(0, 16)),
    st.sampled_from(["move", "remove", "hide"]),
    max_size=5,
)


@settings(max_examples=5)
@given(edits=edits)
@pytest.mark.parametrize("tool", ["cvat", "label studio"])
def test_only_what_was_changed_changes(
    tool: str, edits: dict[tuple[int, int], str], made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "cats"
    shutil.rmtree(root, ignore_errors=True)
    shutil.copytree(made, root)
    before, files = labelled(root), content(root)
    cats = exports.cats(several=False)
    wanted = {name: list(entry["keypoints"]) for name, entry in before.items()}
    for (image, k), what in edits.items():
        point, name = cats[image].points[k], f"frame_{image:06}.PNG"
        if what == "hide" and tool == "label studio":
            continue  # its export doesn't say
        if what == "move" or not point[2]:
            point[:] = [(point[0] + 9) % 90, (point[1] + 7) % 70, point[2] or 2]
        else:
            point[:] = [0, 0, 0] if what == "remove" else [*point[:2], 3 - point[2]]
        rounded = point.round() if tool == "label studio" else point
        wanted[name][3 * k : 3 * k + 3] = [*rounded[:2].tolist(), int(point[2])]
    capsys.readouterr()
    prepared("coco", export(tool, tmp_path / "back", cats), "--onto", root)
    printed = capsys.readouterr().out
    after = labelled(root)
    changed = {name for name in before if wanted[name] != before[name]["keypoints"]}
    assert f"{counted(len(changed), 'animal')} changed, {N - len(changed)} as they were" in printed
    for name, entry in before.items():
        assert after[name]["keypoints"] == pytest.approx(wanted[name], abs=1e-9)
        assert {key: value for key, value in after[name].items() if "keypoints" not in key} == {
            key: value for key, value in entry.items() if "keypoints" not in key
        }
        assert (name in printed) == (name in changed)
        assert after[name]["num_keypoints"] == sum(v > 0 for v in wanted[name][2::3])
    for split in ("train", "val", "test"):
        own = {image.file_name for image in read_split(root, split).images}
        if not own & changed:
            name = f"annotations/{split}.json"
            assert content(root)[name] == files[name]
        record = json.loads((root / "split.json").read_text())
        assert record["splits"][split]["annotations_sha256"] == split_hash(read_split(root, split))
    assert [finding for finding in all_findings(root) if finding.severity == "error"] == []


def test_animals_that_are_gone_or_new_and_pictures_that_are_not_there(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = exports.cvat(tmp_path / "export", exports.cats())
    prepared("coco", source, "--split", 6, 3, 3, "--out", tmp_path / "cats")
    cats = exports.cats()
    gone = next(cat for cat in cats if cat.image == 3)
    more = dataclasses.replace(cats[0], image=4, points=cats[0].points - np.array([0, 6, 0]) * (cats[0].points > 0))
    cats = [cat for cat in cats if cat is not gone and cat.image != 7] + [more]
    back = export("cvat", tmp_path / "back", cats)
    file = back / "annotations" / "person_keypoints_default.json"
    coco = json.loads(file.read_text())
    coco["images"][11]["file_name"] = "other.png"
    file.write_text(json.dumps(coco))
    capsys.readouterr()
    prepared("coco", back, "--onto", tmp_path / "cats")
    printed = capsys.readouterr().out
    lines = printed.splitlines()
    assert [line.split(": ", 2)[0] for line in lines if "removed" in line] == ["frame_000003.PNG"]
    assert [line.split(": ", 2)[0] for line in lines if ": added" in line] == ["frame_000004.PNG"]
    assert "cats has no such: 1 picture, '" in printed
    assert "note: left as before: 1 picture that came back without an animal" in printed
    assert "2 animals changed" in printed


def test_of_several_animals_on_a_picture_label_studio_brings_back_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its COCO export makes one of them, and nobody knows which keypoints are whose."""
    source = exports.cvat(tmp_path / "export", exports.cats())
    prepared("coco", source, "--split", 6, 3, 3, "--out", tmp_path / "cats")
    before = content(tmp_path / "cats")
    cats = list({cat.image: cat for cat in reversed(exports.cats())}.values())[::-1]
    for cat in cats:
        cat.points[:, :2] += 9 * (cat.image in (3, 7, 11)) * (cat.points[:, 2:] > 0)
    capsys.readouterr()
    prepared("coco", export("label studio", tmp_path / "back", cats), "--onto", tmp_path / "cats")
    printed = capsys.readouterr().out
    assert "note: left as before: 3 pictures with several animals" in printed
    assert "9 pictures came back; 0 animals changed, 9 as they were" in printed
    assert content(tmp_path / "cats") == before


def test_an_export_that_changes_all_labels_alike_is_no_correction(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every keypoint hidden, or each animal there twice: warnings of a file as a whole that weren't there."""
    shutil.copytree(made, tmp_path / "cats")
    before = content(tmp_path / "cats")
    cats = exports.cats(several=False)
    for named, changed in {
        "every labelled keypoint has v = 1": [
            dataclasses.replace(c, points=np.minimum(c.points, [999, 999, 1])) for c in cats
        ],
        "nearly equal": [*cats, *(dataclasses.replace(c, points=c.points + (c.points > 2)) for c in cats)],
    }.items():
        back = export("cvat", tmp_path / "back", changed)
        with pytest.raises(SystemExit):
            prepared("coco", back, "--onto", tmp_path / "cats")
        error = capsys.readouterr().err
        assert named in error
        assert error.count("\n") == 1
        assert content(tmp_path / "cats") == before


def test_what_cannot_be_brought_back(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(made, tmp_path / "cats")
    before = content(tmp_path / "cats")
    back = export("cvat", tmp_path / "back", exports.cats(several=False))
    file = back / "annotations" / "person_keypoints_default.json"
    sound = json.loads(file.read_text())

    def refused(*args: object) -> str:
        with pytest.raises(SystemExit) as caught:
            prepared("coco", back, "--onto", tmp_path / "cats", *args)
        assert caught.value.code == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert content(tmp_path / "cats") == before
        return error

    assert "leave it out" in refused("--split", "0.8", "0.1", "0.1")
    for image in sound["images"]:
        image["file_name"] = f"x{image['file_name']}"
    file.write_text(json.dumps(sound))
    assert "none of its 12 pictures is in" in refused()
    for image in sound["images"]:
        image["file_name"] = image["file_name"][1:]
    sound["annotations"][0]["bbox"] = [500, 500, 20, 20]
    file.write_text(json.dumps(sound))
    assert "correct it in the tool, nothing was written" in refused()
    sound["categories"][0]["keypoints"] = [f"point {k}" for k in range(len(KEYPOINTS))]
    file.write_text(json.dumps(sound))
    assert "none of its 17 keypoints" in refused()
