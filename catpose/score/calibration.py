"""Whether confidences can be believed: reliability of the keypoints', and what thresholds on them do to the AP."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from catpose.instances import Instances
from catpose.score.ap import match
from catpose.score.bootstrap import bootstrap_ap
from catpose.score.detections import Detections
from catpose.score.error_types import NEAR_KS
from catpose.score.oks import instance_score, similarity
from catpose.score.pairs import detection_of

N_BINS = 10
#: Bin b holds confidences above b/10 up to (b+1)/10, this included; the first and the last also what lies beyond.
_EDGES = np.arange(1, N_BINS) / N_BINS
THRESHOLDS = np.arange(20) / 20


@dataclass(frozen=True, eq=False)
class Reliability:
    """The reliability diagram (Guo et al. 2017, On Calibration of Modern Neural Networks): a row for each bin."""

    count: np.ndarray  # (10,) int64, keypoints
    confidence: np.ndarray  # (10,) float64, their mean confidence; nan in an empty bin
    correct: np.ndarray  # (10,) float64, the fraction that is correct; nan in an empty bin


@dataclass(frozen=True, eq=False)
class ThresholdCurves:
    """What becomes of a model's detections with a threshold on confidence; each (20,) float64."""

    threshold: np.ndarray  # 0, 0.05 … 0.95
    ap: np.ndarray  # AP of the detections whose score is at least the threshold
    precision: np.ndarray  # of these: the part that is true at OKS 0.5, nan where none is left
    recall: np.ndarray  # of the instances: the part that they find at OKS 0.5, nan where no instance counts
    ap_rescored: np.ndarray  # AP of all detections, scored by the mean of keypoint confidences above the threshold


def reliability(truth: Instances, detections: Detections) -> Reliability:
    """Confidence against correctness of the labelled keypoints of detected instances, in ten bins of equal width.

    A keypoint is correct where its similarity to its own truth is at least 0.5, the error analysis' border (`NEAR_KS`).
    """
    confidence, correct, in_bin = _binned(truth, detections)
    count = in_bin.sum(axis=(0, 1))
    some = np.where(count > 0, count, np.nan)
    sums = (np.einsum("nk,nkb->b", each, in_bin.astype(np.float64)) for each in (confidence, correct))
    return Reliability(count, *(each / some for each in sums))


def calibration_error(truth: Instances, detections: Detections, image_weights: np.ndarray | None = None) -> np.ndarray:
    """The expected calibration error of keypoint confidence (ECE; Naeini et al. 2015, Obtaining Well Calibrated
    Probabilities Using Bayesian Binning): the mean over keypoints of how far mean confidence and fraction correct
    are apart in their bin.

    Noise makes bins differ too: with few keypoints ECE is above 0 even where confidences are the true probabilities,
    and draws, which hold more noise than the data, are on average above the value itself.

    Args:
        image_weights: how often each draw holds each image, (I,) or (draws, I), in the order of
            `Instances.image_ids`; once where none are given.

    Returns:
        float64 of shape () or (draws,), in 0..1 for confidences in 0..1; nan where no keypoint counts.
    """
    confidence, correct, in_bin = _binned(truth, detections)
    gap = np.einsum("nk,nkb->nb", confidence - correct, in_bin.astype(np.float64))
    weights = np.ones(len(truth.image_ids)) if image_weights is None else np.asarray(image_weights, dtype=np.float64)
    held = weights[..., truth.image_index]  # (..., N)
    count = held @ in_bin.sum(axis=(1, 2)).astype(np.float64)
    return np.abs(held @ gap).sum(axis=-1) / np.where(count > 0, count, np.nan)


def threshold_curves(truth: Instances, detections: Detections) -> ThresholdCurves:
    """AP, precision and recall against a threshold on the detections' scores, and AP against one on the keypoints'
    confidences within the score (`instance_score`; the project's own threshold is among them).

    Precision and recall are over all categories at once.
    """
    matches, once = match(truth, detections), np.ones((1, len(truth.image_ids)), dtype=np.int64)
    n_instances, rows = matches.instances[0].sum(), []
    for threshold in THRESHOLDS:
        # Matching goes from the best score to the worst: whom the better ones match doesn't depend on the worse.
        above = detections.score[matches.detection] >= threshold
        left = dataclasses.replace(matches, true=matches.true & above, counted=matches.counted & above)
        found, seen = left.true[0, 0].sum(), left.counted[0, 0].sum()
        precision = found / seen if seen else np.nan
        recall = found / n_instances if n_instances else np.nan
        rescored = dataclasses.replace(detections, score=instance_score(detections.confidence, threshold))
        again = bootstrap_ap(match(truth, rescored), once)[0]
        rows.append((threshold, bootstrap_ap(left, once)[0], precision, recall, again))
    return ThresholdCurves(*np.array(rows, dtype=np.float64).T)


def bin_of(confidence: np.ndarray) -> np.ndarray:
    """The bin of each confidence, 0 to 9; any shape."""
    return np.searchsorted(_EDGES, confidence, side="left")


def evidence(truth: Instances, detections: Detections) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What is known of each keypoint's confidence: itself, (N, K); whether the keypoint is correct, (N, K), 0 or 1; and
    whether it counts, (N, K) bool: labelled, of an instance that is detected and not ignored."""
    which = detection_of(truth, detections)
    known = which >= 0
    of = which[known]
    confidence, correct = np.zeros(truth.labelled.shape), np.zeros(truth.labelled.shape)
    confidence[known] = detections.confidence[of]
    similar = similarity(detections.keypoints[of], truth.keypoints[known], truth.areas[known], truth.sigmas)
    correct[known] = similar >= NEAR_KS
    return confidence, correct, truth.labelled & (known & ~truth.ignored)[:, None]


def _binned(truth: Instances, detections: Detections) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Confidence (N, K), correct (N, K) as 0 or 1, and in which bin (N, K, 10) bool, nowhere where it doesn't count."""
    confidence, correct, counts = evidence(truth, detections)
    in_bin = (bin_of(confidence)[..., None] == np.arange(N_BINS)) & counts[..., None]
    return confidence, correct, in_bin
