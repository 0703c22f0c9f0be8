"""Contact sheets: a tile for each, spread over the data, with what must be seen on it."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from skeletons import KEYPOINTS

from catpose.data.coco import read_split
from catpose.data.coco_split import CocoSplit
from catpose.figures.overlay import LEFT, MIDDLE
from catpose.figures.sheet import TILE, _fitted, instances_sheet, label_issues_sheet
from catpose.score.detections import Detections
from catpose.score.label_issues import LabelIssue

COLUMN = TILE + 16

#: Tiles at most, and how many stand side by side.
INSTANCES, LABEL_ISSUES = "catpose.figures.sheet.INSTANCES", "catpose.figures.sheet.LABEL_ISSUES"


def decoded(sheet: bytes) -> np.ndarray:
    return cv2.cvtColor(cv2.imdecode(np.frombuffer(sheet, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)


def close_to(picture: np.ndarray, colour: tuple[int, int, int]) -> int:
    return int((np.abs(picture.astype(int) - colour).max(axis=2) < 40).sum())


@pytest.mark.parametrize(("n", "columns", "rows"), [(1, 4, 1), (4, 4, 1), (9, 4, 3), (400, 8, 5)])
def test_a_tile_for_each_instance_and_no_more_than_there_are(
    drawn: Path, n: int, columns: int, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    splits = [read_split(drawn, "train"), read_split(drawn, "val")]
    monkeypatch.setattr(INSTANCES, (n, columns))
    sheet = decoded(instances_sheet(splits))
    there = sum(len(split) for split in splits)
    assert there > 32
    assert sheet.shape[1] == columns * COLUMN
    assert sheet.shape[0] // COLUMN == rows
    height = sheet.shape[0] / rows
    for i in range(rows * columns):
        top, left = round(i // columns * height), i % columns * COLUMN
        tile = sheet[top : top + COLUMN, left : left + COLUMN]
        assert (tile.std() > 10) == (i < min(n, there)), i
        if i < min(n, there):
            assert close_to(tile, LEFT) > 30
            assert close_to(tile, MIDDLE) > 30


def test_a_sheet_goes_through_all_splits(drawn: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def sheet(splits: list[CocoSplit], n: int, columns: int) -> np.ndarray:
        monkeypatch.setattr(INSTANCES, (n, columns))
        return decoded(instances_sheet(splits))

    train, val = read_split(drawn, "train"), read_split(drawn, "val")
    two = sheet([train, val], 2, 2)[:COLUMN]
    first, last = sheet([train], 1, 1)[:COLUMN], sheet([val], 99, 1)
    assert np.abs(two[:, :COLUMN].astype(int) - first).mean() < 1
    last = last[-(last.shape[0] // len(val)) :][:COLUMN]
    assert np.abs(two[:, COLUMN:].astype(int) - last).mean() < 4  # as JPEG has it at another place


@pytest.fixture
def suspected(drawn: Path) -> tuple[CocoSplit, Detections]:
    split = read_split(drawn, "val")
    detections = Detections(
        split.image_id, split.category_id, np.nan_to_num(split.keypoints) + 20, np.ones((len(split), 17)),
        np.ones(len(split)), split.ids,
    )  # fmt: skip
    return split, detections


def issue(detections: Detections, row: int, keypoint: str) -> LabelIssue:
    ids = int(detections.annotation_id[row]), int(detections.image_id[row])
    return LabelIssue(row, row, *ids, 0.5, (KEYPOINTS.index(keypoint),), "far off", "a reason, and a long one " * 4)


def test_a_suspect_is_drawn_with_its_prediction(suspected: tuple[CocoSplit, Detections]) -> None:
    split, detections = suspected
    whole = int(np.argmax((split.visibility > 0).sum(axis=1)))
    row = int(np.flatnonzero(detections.annotation_id == split.ids[whole])[0])
    sheets = [
        decoded(label_issues_sheet(split, detections, [issue(detections, row, k)])) for k in ("nose", "left_knee")
    ]
    middles = [close_to(sheet[:COLUMN, :COLUMN], MIDDLE) for sheet in sheets]
    lefts = [close_to(sheet[:COLUMN, :COLUMN], LEFT) for sheet in sheets]
    assert middles[0] > middles[1]
    assert lefts[1] > lefts[0]
    assert (sheets[0][COLUMN:, :COLUMN] < 100).any()  # the reason beneath


@pytest.mark.parametrize("far", [1e4, 1e7, 1e49])
def test_a_keypoint_may_be_anywhere(far: float, suspected: tuple[CocoSplit, Detections]) -> None:
    split, detections = suspected
    detections.keypoints[0, 2] = far
    assert decoded(label_issues_sheet(split, detections, [issue(detections, 0, "nose")])).shape[1] == 6 * COLUMN


def test_no_more_label_issues_than_there_is_room_for(
    suspected: tuple[CocoSplit, Detections], monkeypatch: pytest.MonkeyPatch
) -> None:
    split, detections = suspected
    some = [issue(detections, row, "nose") for row in range(5)]
    monkeypatch.setattr(LABEL_ISSUES, (3, 2))
    three = decoded(label_issues_sheet(split, detections, some))
    assert three.shape[1] == 2 * COLUMN
    assert np.array_equal(three, decoded(label_issues_sheet(split, detections, some[:3])))


def test_a_caption_is_never_wider_than_its_tile() -> None:
    import matplotlib
    from PIL import ImageFont

    font = ImageFont.truetype(str(Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")), 12)
    assert _fitted("short.jpg", font) == "short.jpg"
    long = _fitted("a" * 60 + "/" + "b" * 60, font)
    assert font.getlength(long) <= TILE
    assert long[0] + long[-1] == "ab"
    assert "…" in long
