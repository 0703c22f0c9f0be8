"""Predicting twice: whole pictures first, then what the confident keypoints of the first pass enclose."""

from __future__ import annotations

import numpy as np

from catpose.data.boxes import Boxes
from catpose.data.coco_split import CocoSplit
from catpose.score.detections import Detections
from catpose.score.oks import MIN_CONFIDENCE

#: Confident keypoints that a box is made of; fewer don't tell where an animal is.
FEWEST = 4
#: The box's sides over the keypoints' extent: fur, ears and tail lie beyond.
MARGIN = 1.2


def second_boxes(split: CocoSplit, detections: Detections) -> tuple[Boxes, int]:
    """Boxes around each picture's confident keypoints, the whole picture where there are too few of them.

    Args:
        split: whole pictures, one box each.
        detections: of the first pass; pictures without one (unreadable ones) get no box.

    Returns:
        the boxes; of how many pictures they aren't the whole.
    """
    rows, refined = [], 0
    place_of = {image.id: place for place, image in enumerate(split.images)}
    for image_id, points, confidence in zip(
        detections.image_id.tolist(), detections.keypoints, detections.confidence, strict=True
    ):
        place = place_of[image_id]
        box = keypoint_box(points[confidence > MIN_CONFIDENCE])
        refined += box is not None
        image = split.images[place]
        rows.append((place, [0, 0, image.width, image.height] if box is None else box.tolist(), 1.0))
    return Boxes.of(rows), refined


def keypoint_box(points: np.ndarray) -> np.ndarray | None:
    """(4,) x, y, width, height, px: what keypoints (n, 2) enclose, with a margin; None where they are too few."""
    if len(points) < FEWEST:
        return None
    low, extent = points.min(axis=0), np.ptp(points, axis=0)
    if extent.min() < 1:
        return None
    return np.concatenate([low - extent * (MARGIN - 1) / 2, extent * MARGIN])
