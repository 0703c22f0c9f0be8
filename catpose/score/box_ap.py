"""Average precision of boxes: COCO's protocol, with intersection over union in place of OKS.

pycocotools' `COCOeval` for boxes is the reference: at most 100 detections an image and category; sizes by the
annotations' areas; a crowd is matched by the part of a detection that lies in it, any number of times, and counts for
nothing.
"""

from __future__ import annotations

import numpy as np

from catpose.instances import Instances
from catpose.score.ap import SIZES, Matches, Questions, match_by
from catpose.score.detections import BoxDetections

MAX_DETECTIONS = 100

#: Areas in px², both ends included, by what AP on them is called.
BOX_SIZES = {"AP": SIZES["AP"], "AP_S": (0.0, 32.0**2), "AP_M": SIZES["AP_M"], "AP_L": SIZES["AP_L"]}


def match_boxes(truth: Instances, detections: BoxDetections) -> Matches:
    """Match boxes by their intersection over union; all instances but crowds count, labelled or not."""

    def similar(d: np.ndarray, g: np.ndarray) -> np.ndarray:
        return overlap(detections.box[d], truth.boxes[g], truth.crowd[g])[:, None]

    sizes = np.array([*BOX_SIZES.values()])
    ignored = np.repeat(truth.crowd[None], len(sizes), axis=0)
    questions = Questions(tuple(BOX_SIZES), sizes, ignored, similar, detections.area, MAX_DETECTIONS)
    return match_by(truth, detections, questions)


def overlap(detected: np.ndarray, truth: np.ndarray, crowd: np.ndarray) -> np.ndarray:
    """Intersection over union, 0..1; over the detection's own area where the truth is a crowd.

    Args:
        detected, truth: (*n, 4), x, y, width, height. crowd: (*n,) bool. The leading shapes broadcast.
    """
    low = np.maximum(detected[..., :2], truth[..., :2])
    high = np.minimum(detected[..., 2:] + detected[..., :2], truth[..., 2:] + truth[..., :2])
    width, height = np.moveaxis(high - low, -1, 0)
    common = np.where((width > 0) & (height > 0), width * height, 0.0)
    own = detected[..., 2] * detected[..., 3]
    whole = np.where(crowd, own, own + truth[..., 2] * truth[..., 3] - common)
    return np.divide(common, whole, out=np.zeros_like(common), where=common > 0)
