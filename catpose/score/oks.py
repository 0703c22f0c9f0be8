"""Object keypoint similarity (OKS), and the two rules that turn keypoint confidences into scored detections.

OKS is COCO's (https://cocodataset.org/#keypoints-eval): the mean over an instance's labelled keypoints of
exp(-d² / (2 · area · (2σ)²)). Every formula keeps pycocotools' order of operations in float64, so that a detection
that lies exactly on a threshold falls on the same side there and here.

Keypoints are image px, x before y; areas px²; n stands for any leading shape, k for the keypoints.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float

#: Keypoints at or below this confidence don't count in an instance's score.
MIN_CONFIDENCE = 0.2
#: Of two detections more alike than this, the one with the lower score is dropped.
NMS_OKS = 0.9


def similarity(
    detected: Float[np.ndarray, "*n k 2"],
    truth: Float[np.ndarray, "*n k 2"],
    area: Float[np.ndarray, "*n"],
    sigmas: Float[np.ndarray, " k"],
) -> Float[np.ndarray, "*n k"]:
    """Each keypoint's own similarity in 0..1: exp(-d² / (2 · area · (2σ)²))."""
    return _falloff(detected - truth, area, sigmas)


def oks(
    similarities: Float[np.ndarray, "*n k"],
    labelled: Bool[np.ndarray, "*n k"],
) -> Float[np.ndarray, "*n"]:
    """OKS in 0..1: the mean of `similarity` over the labelled keypoints; nan where none is labelled."""
    count = labelled.sum(axis=-1)
    result = np.full(count.shape, np.nan)
    for c in np.unique(count[count > 0]):  # c at a time, since numpy rounds the sum of c numbers as pycocotools' does
        rows = count == c
        result[rows] = similarities[rows][labelled[rows]].reshape(-1, c).sum(axis=-1) / c
    return result


def oks_to_unlabelled(
    detected: Float[np.ndarray, "*n k 2"],
    box: Float[np.ndarray, "*n 4"],
    area: Float[np.ndarray, "*n"],
    sigmas: Float[np.ndarray, " k"],
) -> Float[np.ndarray, "*n"]:
    """pycocotools' stand-in for OKS, 0..1, where an instance has no labelled keypoint.

    Distances are to the instance's box (x, y, width, height), widened by its own size on each side: detections within
    are excused, being matched to truth that is ignored.
    """
    low = (box[..., :2] - box[..., 2:])[..., None, :]
    high = (box[..., :2] + box[..., 2:] * 2)[..., None, :]
    outside = np.maximum(0.0, low - detected) + np.maximum(0.0, detected - high)
    return np.ascontiguousarray(_falloff(outside, area, sigmas)).sum(axis=-1) / detected.shape[-2]


def _falloff(
    distance: Float[np.ndarray, "*n k 2"],
    area: Float[np.ndarray, "*n"],
    sigmas: Float[np.ndarray, " k"],
) -> Float[np.ndarray, "*n k"]:
    with np.errstate(over="ignore", under="ignore"):  # so far off that the square overflows: the similarity is 0
        squared = distance[..., 0] ** 2 + distance[..., 1] ** 2
        return np.exp(-(squared / (sigmas * 2) ** 2 / (area[..., None] + np.spacing(1)) / 2))


def instance_score(
    confidence: Float[np.ndarray, "*n k"], min_confidence: float = MIN_CONFIDENCE
) -> Float[np.ndarray, "*n"]:
    """A detection's score: the mean of its keypoint confidences above `min_confidence`, 0 where there are none.

    MMPose's `bbox_keypoint` score mode for ground-truth boxes, whose own score is 1. Reckoned in float64.
    """
    confidence = confidence.astype(np.float64)
    counts = confidence > min_confidence
    return np.where(counts, confidence, 0.0).sum(axis=-1) / np.maximum(counts.sum(axis=-1), 1)


def oks_nms(
    keypoints: Float[np.ndarray, "n k 2"],
    score: Float[np.ndarray, " n"],
    area: Float[np.ndarray, " n"],
    sigmas: Float[np.ndarray, " k"],
) -> Bool[np.ndarray, " n"]:
    """Which of one image's detections stay: the best first, each dropping those whose OKS to it is above 0.9.

    OKS here counts all keypoints and takes the mean of the two areas, as in MMPose's `oks_nms` (which HRNet's code
    brought in). Of equal scores the earlier detection comes first.

    Args:
        area: of each detection, px²: in MMPose 1.3.2 and HRNet's code that of its crop, the padded box in the shape of
            the network's input (`TopdownAffine` sets `bbox_scale`, which `CocoMetric` multiplies).
    """
    keep = np.zeros(len(score), dtype=bool)
    left = np.argsort(-score, kind="stable")
    while len(left):
        best, left = left[0], left[1:]
        keep[best] = True
        one = np.broadcast_to(keypoints[best], keypoints[left].shape)
        alike = similarity(keypoints[left], one, (area[best] + area[left]) / 2, sigmas)
        left = left[alike.sum(axis=-1) / keypoints.shape[1] <= NMS_OKS]
    return keep
