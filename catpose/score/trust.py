"""What a model's confidences are worth: learnt on a labelled split, kept with the model, told with its predictions.

A heatmap's peak says which keypoint is surer than which, not how sure. The map learnt here makes of it the probability
that the keypoint is correct (`catpose.score.calibration`). Scores, and so AP, go on resting on the peaks themselves.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np

from catpose.errors import InputError, one_line
from catpose.files import as_record
from catpose.instances import Instances
from catpose.score.calibration import bin_of, evidence
from catpose.score.detections import Detections
from catpose.score.distances import box_side, distances

#: Keypoints that are learnt from, at least; and in each step of the map.
FEWEST, PER_STEP, MOST_STEPS = 100, 50, 20
#: Of a keypoint's errors the radius holds this part. One with fewer errors than `OWN_RADIUS` has that of all keypoints.
HELD, OWN_RADIUS = 0.9, 20
#: Parts of the images, each judged by what is learnt on the others.
FOLDS = 5


@dataclass(frozen=True)
class Trust:
    """A confidence's probability, and how far off a keypoint may be. Its fields are plain, as files keep them."""

    confidence: tuple[float, ...]  # rising
    probability: tuple[float, ...]  # of being correct, at each of these; linear between them, constant beyond
    radius: tuple[float, ...]  # (K,): of a keypoint's errors 90 % are below, in the box's longer side

    def __post_init__(self) -> None:
        steps = np.array([self.confidence, self.probability], dtype=np.float64)
        if steps.shape[1] < 1 or not np.isfinite(steps).all() or not (np.diff(steps[0]) > 0).all():
            raise ValueError("confidences must rise")
        if not (np.diff(steps[1]) >= 0).all() or not ((steps[1] >= 0) & (steps[1] <= 1)).all():
            raise ValueError("probabilities must not fall, from 0 to 1")
        if not all(0 <= radius < np.inf for radius in self.radius):
            raise ValueError("a radius must be 0 or more")

    def probabilities(self, confidence: np.ndarray) -> np.ndarray:
        """The probability that a keypoint is correct, of confidences of any shape."""
        return np.interp(confidence, self.confidence, self.probability)

    def radius_px(self, boxes: np.ndarray) -> np.ndarray:
        """(N, K) image px: of keypoints so far from the truth in boxes (N, 4) of x, y, width, height."""
        return np.asarray(boxes, np.float64)[:, 2:].max(axis=1)[:, None] * np.array(self.radius)

    def to_plain(self) -> dict[str, Any]:
        """Lists of numbers, as JSON and a checkpoint keep them."""
        return {name: list(value) for name, value in dataclasses.asdict(self).items()}

    @classmethod
    def from_plain(cls, plain: Any, n_keypoints: int) -> Trust:
        """What `to_plain` gave.

        Raises:
            InputError: anything else, or for another number of keypoints.
        """
        try:
            trust = as_record(cls, plain)
            if len(trust.radius) != n_keypoints:
                raise ValueError(f"{len(trust.radius)} radii for {n_keypoints} keypoints")
        except ValueError as error:
            raise InputError(f"its calibration can't be read ({one_line(error)[:100]})") from None
        return trust


@dataclass(frozen=True)
class Learnt:
    """A calibration, and what it is worth on pictures that it wasn't learnt on (cross-fitted in five parts)."""

    trust: Trust
    n: int  # labelled keypoints
    error_before: float  # ECE of the confidences
    error_after: float  # and of the probabilities
    held: float  # the part of keypoints that lie within their radius; `HELD` is meant


def learn(truth: Instances, detections: Detections) -> Learnt:
    """Learn on a labelled split.

    The map is an isotonic regression (Zadrozny & Elkan 2002, Transforming Classifier Scores into Accurate Multiclass
    Probability Estimates) on steps of fifty or more keypoints, joined by lines; the radius is the split conformal
    quantile (Lei et al. 2018, Distribution-Free Predictive Inference for Regression).

    Raises:
        InputError: too few keypoints or pictures are labelled.
    """
    confidence, correct, counts = evidence(truth, detections)
    distance, side = distances(truth, detections), box_side(truth)
    counts &= np.isfinite(distance / side[:, None])
    row, keypoint = np.nonzero(counts)
    confidence, correct, distance, image = confidence[counts], correct[counts], distance[counts], truth.image_index[row]
    errors = distance / side[row]
    images = np.unique(image)
    if len(row) < FEWEST or len(images) < FOLDS:
        raise InputError(
            f"{len(row)} labelled keypoints on {len(images)} pictures are too few to calibrate confidences on;"
            f" {FEWEST} on {FOLDS} are needed, 1000 make a good map"
        )
    n_keypoints = len(truth.skeleton)
    fold = np.searchsorted(images, image) * FOLDS // len(images)  # neighbours, often copies, stay together
    probability, held = np.zeros(len(row)), np.zeros(len(row), dtype=bool)
    for part in range(FOLDS):
        judged, others = fold == part, fold != part
        trust = _fitted(confidence[others], correct[others], errors[others], keypoint[others], n_keypoints)
        probability[judged] = trust.probabilities(confidence[judged])
        radius_px = trust.radius_px(truth.boxes[row[judged]])[np.arange(judged.sum()), keypoint[judged]]
        held[judged] = distance[judged] <= radius_px
    return Learnt(
        _fitted(confidence, correct, errors, keypoint, n_keypoints),
        len(row),
        _error(confidence, correct),
        _error(probability, correct),
        float(held.mean()),
    )


def _fitted(
    confidence: np.ndarray, correct: np.ndarray, errors: np.ndarray, keypoint: np.ndarray, n_keypoints: int
) -> Trust:
    """Learnt on (n,) keypoints: confidence, correct as 0 or 1, error in box sides, which one of the skeleton it is."""
    from scipy.optimize import isotonic_regression  # half a second, which predictions save

    order = np.argsort(confidence, kind="stable")
    steps = np.array_split(order, int(np.clip(len(order) // PER_STEP, 1, MOST_STEPS)))
    means = [round(float(confidence[step].mean()), 6) for step in steps]
    places, first = np.unique(means, return_inverse=True)  # some are equal where many confidences are
    n = np.bincount(first, [len(step) for step in steps])
    right = np.bincount(first, [correct[step].sum() for step in steps])
    rate = isotonic_regression((right + 0.5) / (n + 1), weights=n).x  # never sure of what fifty can't tell
    overall = _quantile(errors)
    radius = []
    for k in range(n_keypoints):
        own = errors[keypoint == k]
        radius.append(_quantile(own) if len(own) >= OWN_RADIUS else overall)
    return Trust(tuple(places.tolist()), tuple(np.clip(rate, 0, 1).tolist()), tuple(radius))


def _quantile(errors: np.ndarray) -> float:
    """What the next error is below with a probability of `HELD` or more."""
    rank = min(int(np.ceil(HELD * (len(errors) + 1))), len(errors))
    return float(np.sort(errors)[rank - 1])


def _error(confidence: np.ndarray, correct: np.ndarray) -> float:
    """ECE of (n,) keypoints, as `calibration_error` has it."""
    return float(np.abs(np.bincount(bin_of(confidence), confidence - correct)).sum() / len(confidence))
