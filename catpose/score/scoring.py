"""The poses of a model as detections: scored, and one of near-duplicates kept."""

from __future__ import annotations

import numpy as np

from catpose.geometry import crop_area
from catpose.instances import Instances
from catpose.score.detections import Detections
from catpose.score.oks import instance_score, oks_nms


def scored(truth: Instances, index: np.ndarray, detected: np.ndarray, input_size: tuple[int, int] | None) -> Detections:
    """Detections (M, K, 3) from the boxes of the instances `index` (M,), scored, and one of near-duplicates kept.

    Args:
        input_size: width and height of the crops, px, whose areas `oks_nms` is to take; None: the boxes'.
    """
    keypoints, confidence = detected[..., :2], detected[..., 2]
    boxes = truth.boxes[index]
    score = instance_score(confidence)
    area = boxes[:, 2] * boxes[:, 3] if input_size is None else crop_area(boxes, input_size)
    image_id, category_id = truth.image_id[index], truth.category_id[index]
    keep = np.ones(len(index), dtype=bool)
    _, starts, sizes = np.unique(image_id, return_index=True, return_counts=True)  # an image's rows are neighbours
    for start, size in zip(starts[sizes > 1], sizes[sizes > 1], strict=True):
        image = slice(start, start + size)
        keep[image] = oks_nms(keypoints[image], score[image], area[image], truth.sigmas)
    return Detections(
        image_id[keep],
        category_id[keep],
        keypoints[keep],
        confidence[keep],
        score[keep],
        truth.ids[index][keep],
    )
