"""Instances of a data set side by side, each with its keypoints and a caption, as one JPEG."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from catpose.data.coco_split import CocoSplit
from catpose.data.images import read_images
from catpose.figures.overlay import contact_sheet, draw_pose
from catpose.geometry import PADDING, apply, image_to_crop
from catpose.score.detections import Detections
from catpose.score.label_issues import LabelIssue
from catpose.text import counted

#: Tiles at most, and how many of them stand side by side.
INSTANCES, LABEL_ISSUES = (40, 8), (24, 6)
TILE = 300  # px of a square picture
QUALITY = 85
_LINE, _TEXT, _GAP = 15, 12, 8  # px: height of a line, of its letters, white on each side
_CHARACTERS = 44  # of a line
_PAPER, _INK = (255, 255, 255), (34, 34, 34)


def instances_sheet(splits: Sequence[CocoSplit]) -> bytes:
    """A JPEG of 40 instances, taken at equal distances through the splits, with their labelled keypoints.

    Hidden keypoints (visibility 1) are drawn as the visible ones.

    Raises:
        InputError: a picture that can't be read.
    """
    n, columns = INSTANCES
    chosen = [(split, i) for split in splits for i in np.flatnonzero(split.used).tolist()]
    chosen = [chosen[i] for i in np.unique(np.linspace(0, len(chosen) - 1, min(n, len(chosen))).round().astype(int))]
    paths = [split.images[split.image_index[i]].path for split, i in chosen]
    tiles, captions = [], []
    for (split, i), picture in zip(chosen, read_images(paths), strict=True):
        labelled = split.labelled[i]
        tile, (points,) = _cut(picture, split.boxes[i], split.keypoints[i])
        tiles.append(draw_pose(tile, points, labelled, split.skeleton))
        image = split.images[split.image_index[i]]
        number = f"annotation {split.ids[i]}: {counted(int(labelled.sum()), 'keypoint')}"
        captions.append([f"{split.file.stem}: {Path(image.file_name).name}", number])
    return jpeg(_captioned(tiles, captions, columns))


def label_issues_sheet(split: CocoSplit, detections: Detections, label_issues: Sequence[LabelIssue]) -> bytes:
    """A JPEG of the first 24 label issues, a tile each with the reason beneath.

    Labels are rings with thin limbs, what the model predicts for them is filled; a white line joins the two where the
    label may be wrong.

    Args:
        label_issues: of this split and these detections.

    Raises:
        InputError: a picture that can't be read.
    """
    n, columns = LABEL_ISSUES
    first = label_issues[:n]
    rows = [issue.row for issue in first]
    tiles, captions = [], []
    pictures = read_images([split.images[split.image_index[i]].path for i in rows])
    for place, (i, issue, picture) in enumerate(zip(rows, first, pictures, strict=True), 1):
        labelled, wrong = split.labelled[i], np.isin(np.arange(split.keypoints.shape[1]), issue.keypoints)
        predicted = detections.keypoints[issue.detection]
        seen = np.concatenate([split.keypoints[i][labelled], predicted[wrong]])
        tile, (truth, model) = _cut(picture, split.boxes[i], split.keypoints[i], predicted, holding=seen)
        for k in np.flatnonzero(wrong & labelled):
            label, prediction = (points[k].round().clip(-1e4, 1e4).astype(int).tolist() for points in (truth, model))
            cv2.line(tile, label, prediction, _PAPER, 2, cv2.LINE_AA)
        tile = draw_pose(tile, truth, labelled, split.skeleton, hollow=True)
        tile = draw_pose(tile, model, wrong, split.skeleton)
        tiles.append(tile)
        name = Path(split.images[split.image_index[i]].file_name).name
        title = f"{place}. {name}, annotation {issue.annotation_id} ({issue.suspicion:.2f})"
        captions.append([title, *textwrap.wrap(issue.reason, _CHARACTERS)])
    return jpeg(_captioned(tiles, captions, columns))


def jpeg(picture: np.ndarray) -> bytes:
    """(H, W, 3) uint8 RGB as a file's content."""
    done, data = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    assert done
    return data.tobytes()


def _cut(
    picture: np.ndarray, box: np.ndarray, *points: np.ndarray, holding: np.ndarray | None = None
) -> tuple[np.ndarray, list[np.ndarray]]:
    """A square of TILE px around a box, and points (K, 2) in it; it also holds the points `holding` (n, 2)."""
    corners = np.stack([box[:2], box[:2] + box[2:]])
    if holding is not None:  # as far as a picture's size beyond the picture: a prediction may lie anywhere
        extent = np.array(picture.shape[1::-1], dtype=np.float64)
        corners = np.concatenate([corners, holding.clip(-extent, 2 * extent)])
    low, high = corners.min(axis=0), corners.max(axis=0)
    side = np.full(2, max(float((high - low).max()), 1.0) * (1 + (PADDING - 1) / 2))
    affine = image_to_crop((low + high) / 2, side, (TILE, TILE))
    shrunk = affine[0, 0] < 0.5
    if shrunk:  # warpAffine would skip pixels
        factor = 2 * affine[0, 0]
        picture = cv2.resize(picture, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
        warp = np.column_stack([affine[:, :2] / factor, affine[:, 2]])
    tile = cv2.warpAffine(
        picture, warp if shrunk else affine, (TILE, TILE), flags=cv2.INTER_LINEAR, borderValue=(255, 255, 255)
    )
    return tile, [apply(affine, group) for group in points]


def _captioned(tiles: list[np.ndarray], captions: list[list[str]], columns: int) -> np.ndarray:
    """Tiles in rows, beneath each its lines; a row is as high as its longest caption needs."""
    import matplotlib

    font = ImageFont.truetype(str(Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")), _TEXT)
    rows = []
    for start in range(0, len(tiles), columns):
        shown, lines = tiles[start : start + columns], captions[start : start + columns]
        framed = [cv2.copyMakeBorder(tile, *(_GAP,) * 4, cv2.BORDER_CONSTANT, value=_PAPER) for tile in shown]
        pictures = contact_sheet(framed, columns, TILE + 2 * _GAP)
        text = Image.new("RGB", (pictures.shape[1], _LINE * max(map(len, lines)) + _GAP), _PAPER)
        draw = ImageDraw.Draw(text)
        for column, caption in enumerate(lines):
            for number, line in enumerate(caption):
                at = (column * (TILE + 2 * _GAP) + _GAP, number * _LINE)
                draw.text(at, _fitted(line, font), _INK, font)
        rows += [pictures, np.asarray(text)]
    return np.concatenate(rows) if rows else np.full((TILE, TILE, 3), 255, np.uint8)


def _fitted(line: str, font: ImageFont.FreeTypeFont) -> str:
    """The line, its middle left out where it is too long for a tile."""
    short = line
    while font.getlength(short) > TILE and len(short) > 8:
        keep = (len(short) - 2) // 2
        short = f"{line[:keep]}…{line[-keep:]}"
    return short
