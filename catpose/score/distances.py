"""Measures of the distance between a keypoint and its truth: PCK, AUC, NME, EPE.

Every metric is the mean, over the keypoints that count for it, of a number that each keypoint has by itself. Over all
keypoints at once, as in MPII's PCKh by HRNet's code: one that is labelled more often weighs more. MMPose's overall PCK
is the mean of the keypoints' own instead, much lower where tails and hind legs are labelled rarely and found badly: it
is here as "mPCK". A keypoint at exactly t units is correct, with us and HRNet's code; not so in MMPose.

An instance that was not detected has all its keypoints wrong in PCK and AUC. So is a keypoint without a place: at
(0, 0) with confidence 0, as a model that diverged gives it (`catpose.score.metric`), and other programs one that they
didn't find. EPE and NME have no number for these and leave them out: beside them belongs how many keypoints are
missing. Crowds and other ignored instances don't count.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from catpose.instances import Instances
from catpose.score.detections import Detections
from catpose.score.pairs import detection_of

BOX_THRESHOLDS = (0.05, 0.1, 0.2)
EYE_THRESHOLDS = (0.05, 0.1, 0.2, 0.5)
#: AUC is the area up to this threshold.
AUC_END = 0.2
#: The metrics that each keypoint has too.
PER_KEYPOINT = (*(f"PCK@{t}" for t in BOX_THRESHOLDS), "EPE")


def distances(truth: Instances, detections: Detections) -> np.ndarray:
    """(N, K) px, from each labelled keypoint to where it was detected (`detection_of`).

    nan where nothing is labelled or the instance is ignored; inf where the instance has no detection, or that one no
    place for the keypoint.
    """
    which = detection_of(truth, detections)
    known = which >= 0
    result = np.full(truth.labelled.shape, np.inf)
    found = detections.keypoints[which[known]]
    offset = found - truth.keypoints[known]
    nowhere = (found == 0).all(axis=-1) & (detections.confidence[which[known]] == 0)
    result[known] = np.where(nowhere, np.inf, np.hypot(offset[..., 0], offset[..., 1]))
    return np.where(truth.labelled & ~truth.ignored[:, None], result, np.nan)


def box_side(truth: Instances) -> np.ndarray:
    """(N,) px: the longer side of each instance's box, nan where the box is empty."""
    side = truth.boxes[:, 2:].max(axis=1, initial=0.0)
    return np.where(side > 0, side, np.nan)


def eye_distance(truth: Instances) -> np.ndarray:
    """(N,) px: from one eye of each instance to the other, nan unless both are labelled and apart.

    All nan where the skeleton has no left_eye and right_eye.
    """
    eyes = truth.skeleton.indices("left_eye", "right_eye")
    if len(eyes) < 2:
        return np.full(len(truth), np.nan)
    offset = truth.keypoints[:, eyes[0]] - truth.keypoints[:, eyes[1]]
    apart = np.hypot(offset[:, 0], offset[:, 1])
    return np.where(truth.labelled[:, eyes].all(axis=1) & (apart > 0), apart, np.nan)


def measures(truth: Instances, distance: np.ndarray) -> dict[str, np.ndarray]:
    """What each keypoint adds to each metric: (N, K), nan where it doesn't count; the metric is the mean of the rest.

    - "PCK@t", 0 or 1: at most t times the longer side of the box away (percentage of correct keypoints; Yang & Ramanan
      2013, Articulated Human Detection with Flexible Mixtures of Parts).
    - "PCK_eyes@t", 0 or 1: at most t times the distance between the eyes away; of instances with both eyes labelled.
      (PCKh, whose place it takes, has the head's size: Andriluka et al. 2014, 2D Human Pose Estimation.)
    - "AUC", 0..1: the area under PCK@t for t from 0 to 0.2, divided by 0.2. The exact one, not a sum over thresholds:
      a keypoint is correct from its own distance d on, so that the mean of max(0, 1 - d / 0.2) is the area. (MMPose's
      is another: of PCK in px, up to 30 px.)
    - "NME", "NME_eyes": the distance in these two units, of detected instances (normalised mean error).
    - "EPE": the distance in image px, of detected instances (end-point error; DeepLabCut's "RMSE" is this mean too).

    Args:
        distance: (N, K) px, from `distances`.
    """
    by_box, by_eyes = distance / box_side(truth)[:, None], distance / eye_distance(truth)[:, None]
    result = {f"PCK@{t}": _at_most(by_box, t) for t in BOX_THRESHOLDS}
    result |= {f"PCK_eyes@{t}": _at_most(by_eyes, t) for t in EYE_THRESHOLDS}
    result["AUC"] = np.maximum(0.0, 1 - by_box / AUC_END)
    for name, each in (("NME", by_box), ("NME_eyes", by_eyes), ("EPE", distance)):
        result[name] = np.where(np.isinf(each), np.nan, each)
    return result


def means(
    truth: Instances, measured: Mapping[str, np.ndarray], image_weights: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """The metrics: means of all that was measured, and by keypoint ("PCK@0.1/nose") of those in `PER_KEYPOINT`; of each
    PCK also the mean of the keypoints' own ("mPCK@0.1"), without those that nowhere count.

    Args:
        measured: (N, K) each, nan where it doesn't count.
        image_weights: how often each draw holds each image, (I,) or (draws, I), in the order of
            `Instances.image_ids`; once where none are given.

    Returns:
        float64 of shape () or (draws,); nan where nothing counts.
    """
    weights = np.ones(len(truth.image_ids)) if image_weights is None else np.asarray(image_weights, dtype=np.float64)
    held = weights[..., truth.image_index]  # (..., N)
    result: dict[str, np.ndarray] = {}
    for name, each in measured.items():
        counts = ~np.isnan(each)
        total, count = held @ np.where(counts, each, 0.0), held @ counts.astype(np.float64)  # (..., K)
        result[name] = _ratio(total.sum(axis=-1), count.sum(axis=-1))
        if name in PER_KEYPOINT:
            by_keypoint = _ratio(total, count)
            result |= {f"{name}/{keypoint}": by_keypoint[..., k] for k, keypoint in enumerate(truth.skeleton.names)}
            if name.startswith("PCK"):
                result[f"m{name}"] = _ratio(np.nansum(by_keypoint, axis=-1), (count > 0).sum(axis=-1))
    return result


def _at_most(each: np.ndarray, limit: float) -> np.ndarray:
    return np.where(np.isnan(each), np.nan, each <= limit)


def _ratio(total: np.ndarray, count: np.ndarray) -> np.ndarray:
    return total / np.where(count > 0, count, np.nan)
