"""Pictures with an EXIF orientation: told in one line, and an error where their labels are of the stored pixels."""

from __future__ import annotations

import json
from pathlib import Path

import made_up
import numpy as np
import pytest
from PIL import Image

from catpose.data.checks import all_findings, examine_folder
from catpose.data.turned import orientations, turned_findings

TRANSPOSED = {  # how an upright picture is stored, by orientation
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def stored(place: np.ndarray, orientation: int, side: float) -> np.ndarray:
    """Where an upright place (…, 2) of a square picture is in the stored pixels."""
    x, y = place[..., 0], place[..., 1]
    return np.stack({
        2: (side - x, y), 3: (side - x, side - y), 4: (x, side - y), 5: (y, x),
        6: (y, side - x), 7: (side - y, side - x), 8: (side - y, x),
    }[orientation], axis=-1)  # fmt: skip


def turned(root: Path, orientation: int, n: int, labels_too: bool) -> Path:
    """n cats in square pictures, stored as the orientation says, labelled upright or as stored."""
    (root / "annotations").mkdir(parents=True)
    (root / "images").mkdir()
    entries = []
    for i in range(1, n + 1):
        exif = Image.Exif()
        exif[0x0112] = orientation
        picture = Image.fromarray(made_up.picture(i, 96, 96)).transpose(TRANSPOSED[orientation])
        picture.save(root / "images" / f"{i}.jpg", exif=exif)
        entry = made_up.annotation(i, i, [4 + i % 7, 6 + i % 5, 60, 70])
        if labels_too:
            triples = np.reshape(np.array(entry["keypoints"], dtype=float), (17, 3))
            triples[:, :2] = stored(triples[:, :2], orientation, 96)
            x, y, width, height = entry["bbox"]
            ends = stored(np.array([[x, y], [x + width, y + height]], dtype=float), orientation, 96)
            start, end = ends.min(axis=0), ends.max(axis=0)
            entry.update(keypoints=triples.ravel().tolist(), bbox=[*start.tolist(), *(end - start).tolist()])
        entries.append(entry)
    images = [{"id": i, "file_name": f"{i}.jpg", "width": 96, "height": 96} for i in range(1, n + 1)]
    content = {"images": images, "annotations": entries, "categories": [made_up.category()]}
    (root / "annotations" / "train.json").write_text(json.dumps(content))
    return root


@pytest.mark.parametrize("orientation", TRANSPOSED)
def test_labels_of_the_upright_picture_are_a_warning_and_of_the_stored_one_an_error(
    orientation: int, tmp_path: Path
) -> None:
    splits = examine_folder(turned(tmp_path / "upright", orientation, 16, labels_too=False)).splits
    assert orientations(splits["train"].images) == [orientation] * 16
    (finding,) = turned_findings(splits)
    assert (finding.severity, finding.split, finding.where) == ("warning", "train", "image 1")
    assert f"EXIF orientation in 16 pictures (16 of {orientation}; 1.jpg for one)" in finding.message
    assert "belong to the upright picture, not to the stored pixels" in finding.message
    (finding,) = turned_findings(examine_folder(turned(tmp_path / "stored", orientation, 16, labels_too=True)).splits)
    assert finding.severity == "error"
    assert ("mirror the labels" if orientation == 2 else "turn the labels") in finding.message


def test_few_are_a_warning_and_none_is_none(tmp_path: Path) -> None:
    root = turned(tmp_path / "few", 3, 3, labels_too=True)
    assert [(finding.kind, finding.severity) for finding in all_findings(root) if finding.kind.startswith("EXIF")] == [
        ("EXIF orientation", "warning")
    ]
    assert list(turned_findings(examine_folder(made_up.data_set(tmp_path / "plain")).splits)) == []


@pytest.mark.parametrize("kind", ["stored", "exchanged", "resized", "cut"])
def test_sizes_that_disagree_for_one_reason_are_one_line(kind: str, tmp_path: Path) -> None:
    root = made_up.data_set(tmp_path / "cats", (6, 3, 3))
    for i in range(1, 7):
        picture = Image.fromarray(made_up.picture(i))
        exif = Image.Exif()
        if kind == "stored":
            exif[0x0112] = 6
        elif kind == "exchanged":
            picture = picture.transpose(Image.Transpose.ROTATE_90)
        elif kind == "resized":
            picture = picture.resize((48, 40))
        else:
            picture = picture.crop((0, 0, 50 + i, 60))
        picture.save(root / "images" / f"{i}.png", "JPEG" if kind == "stored" else None, exif=exif)
    found = [finding for finding in all_findings(root) if finding.kind == "size disagrees"]
    if kind == "cut":
        assert [finding.where for finding in found] == [f"image {i}" for i in range(1, 7)]
    else:
        assert [finding.where for finding in found] == ["image 1 and 5 others"]
        why = {"stored": "unrotated pixels", "exchanged": "width and height exchanged", "resized": "0.5 times as large"}
        assert why[kind] in found[0].message
