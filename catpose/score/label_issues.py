"""Labels that may be wrong: where a trained model is sure of something else.

A model that never saw a label has no reason to repeat its error, so where the two disagree most one of them is wrong,
which is worth a look. How sure a model is can't be told from its confidence alone, which for a paw is half that for an
eye: here it is the share of the labelled keypoints of the same name that it finds, about where they are labelled, with
a lower confidence. So it is never sure of a keypoint that it mostly misses.

Fit of a prediction and a label is the keypoint's `similarity` by twice its sigma, 0.5 at a distance where people, of
whom sigma tells, hardly ever put it; whether left and right are exchanged is told by sigma itself, since eyes and paws
are often close. Model and label are held against each other after Northcutt et al., "Confident
Learning", JAIR 2021, in the sense that only what the model is sure of by its own standard is believed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from catpose.instances import Instances
from catpose.score.detections import Detections
from catpose.score.oks import similarity
from catpose.score.pairs import detection_of
from catpose.skeleton import Skeleton, without_side
from catpose.text import listed

_NEAR = 0.5  # fit from which a keypoint counts as found
_LEAST = 0.1  # a suspicion below this is not worth a person's time
#: A label that is absent is often meant so (hidden, cut off), which a wrong place never is.
_MISSING_COUNTS = 0.3


@dataclass(frozen=True, eq=False)
class LabelIssue:
    """Some labels of an instance, and why they may be wrong."""

    row: int  # of the instance in the Instances
    detection: int  # of the prediction in the Detections
    annotation_id: int
    image_id: int
    suspicion: float  # 0..1, how much and how surely the model disagrees
    keypoints: tuple[int, ...]
    kind: str  # "left and right", "another animal", "far off", "not labelled"
    reason: str  # one line for people


def label_issues(truth: Instances, detections: Detections) -> list[LabelIssue]:
    """Possible errors of labels, the most suspicious first; an instance may be there once for each kind.

    Four kinds, each keypoint in one at most:

    - "left and right": the two labels of a pair, exchanged, fit better by more than half
    - "another animal": the label fits what was predicted for another animal of the picture, not what was for its own
    - "far off": the label is elsewhere than the prediction
    - "not labelled": the model is sure of a keypoint without a label; counts less

    The suspicion is the gain in fit if the model is right, times how sure the model is. Pairs that are exchanged add up
    as independent witnesses do, 1 - (1 - a)(1 - b)…; of other keypoints, which fail together, the most suspicious
    counts.
    """
    detection = detection_of(truth, detections)
    rows = np.flatnonzero((detection >= 0) & ~truth.ignored)
    detection = detection[rows]
    predicted, labelled = detections.keypoints[detection], truth.labelled[rows]
    fit = np.where(labelled, _fit(predicted, truth.keypoints[rows], truth.areas[rows], truth.sigmas), np.nan)
    sure = _sureness(detections.confidence[detection], fit)
    found = []
    skeleton = truth.skeleton
    for n, row in enumerate(rows):
        free = labelled[n].copy()
        points, area = truth.keypoints[row], truth.areas[row]
        mates = [m for m in np.flatnonzero(truth.image_id[rows] == truth.image_id[row]) if m != n]
        for kind, suspicion, keypoints, reason in (
            *_exchanged(predicted[n], points, area, sure[n], free, skeleton),
            *_another(predicted[mates], points, area, fit[n], sure[n], free, sure[mates], skeleton),
            *_far(predicted[n], points, truth.boxes[row], fit[n], sure[n], free, skeleton),
            *_missing(sure[n], labelled[n], skeleton),
        ):
            if suspicion >= _LEAST:
                ids = int(truth.ids[row]), int(truth.image_id[row])
                found.append(
                    LabelIssue(int(row), int(detection[n]), *ids, float(suspicion), tuple(keypoints), kind, reason)
                )
    return sorted(found, key=lambda issue: (-issue.suspicion, issue.annotation_id))


def first_of_each(label_issues: Sequence[LabelIssue]) -> list[LabelIssue]:
    """Of each instance the first, in the same order."""
    first: dict[int, LabelIssue] = {}
    for issue in label_issues:
        first.setdefault(issue.row, issue)
    return list(first.values())


_Found = Iterator[tuple[str, float, list[int], str]]


def _exchanged(
    predicted: np.ndarray, points: np.ndarray, area: float, sure: np.ndarray, free: np.ndarray, skeleton: Skeleton
) -> _Found:
    """What is found is struck from `free`, here and in the functions after it."""
    own, other = (
        similarity(places, points, np.array(area), np.array(skeleton.sigmas))
        for places in (predicted, predicted[list(skeleton.flip)])
    )
    gain = np.where(free, other - own, np.nan)
    pairs = [pair for pair in skeleton.flip_pairs if free[list(pair)].any() and np.nanmean(gain[list(pair)]) > _NEAR]
    keypoints = [k for pair in pairs for k in pair if free[k]]
    if keypoints:
        free[keypoints] = False
        each = [np.nanmean(gain[list(pair)] * sure[list(pair)[::-1]]) for pair in pairs]
        suspicion = float(1 - np.prod(1 - np.array(each)))
        names = _listed([without_side(skeleton.names[a]) for a, _ in pairs])
        yield "left and right", suspicion, keypoints, f"left and right {names} look exchanged"


def _another(
    others: np.ndarray, points: np.ndarray, area: float, fit: np.ndarray, sure: np.ndarray, free: np.ndarray,
    others_sure: np.ndarray, skeleton: Skeleton,
) -> _Found:  # fmt: skip
    if not len(others):
        return
    to_others = _fit(others, points, np.full(len(others), area), np.array(skeleton.sigmas))
    gain = np.where(free, to_others - fit, 0.0)
    mate = np.argmax(gain, axis=0)
    gain, theirs = (np.take_along_axis(values, mate[None], axis=0)[0] for values in (gain, others_sure))
    keypoints = np.flatnonzero(gain > _NEAR).tolist()
    if keypoints:
        free[keypoints] = False
        suspicion = float((gain * np.minimum(sure, theirs))[keypoints].max())
        verb = "lies" if len(keypoints) == 1 else "lie"
        yield (
            "another animal",
            suspicion,
            keypoints,
            f"{_names(keypoints, skeleton)} {verb} where another animal's is predicted",
        )


def _far(
    predicted: np.ndarray, points: np.ndarray, box: np.ndarray, fit: np.ndarray, sure: np.ndarray, free: np.ndarray,
    skeleton: Skeleton,
) -> _Found:  # fmt: skip
    suspicion = np.where(free & (fit < _NEAR), (1 - np.nan_to_num(fit)) * sure, 0.0)
    keypoints = [int(k) for k in np.argsort(-suspicion, kind="stable") if suspicion[k] >= _LEAST]
    if keypoints:
        far, side = np.hypot(*(predicted - points)[keypoints].T).max(), box[2:].max()
        outside = (points[keypoints] < box[:2]).any() or (points[keypoints] > box[:2] + box[2:]).any()
        distance = f"{far / side:.0%} of the box" if side > 0 else f"{far:.0f} px"
        reason = f"{_names(keypoints, skeleton)} {'up to ' if len(keypoints) > 1 else ''}{distance} from the prediction"
        reason += ", outside the box" if outside else ""
        yield "far off", float(suspicion[keypoints[0]]), keypoints, reason


def _missing(sure: np.ndarray, labelled: np.ndarray, skeleton: Skeleton) -> _Found:
    suspicion = np.where(labelled, 0.0, sure * _MISSING_COUNTS)
    keypoints = [int(k) for k in np.argsort(-suspicion, kind="stable") if suspicion[k] >= 0.8 * _MISSING_COUNTS]
    if keypoints:
        yield "not labelled", float(suspicion[keypoints[0]]), keypoints, f"{_names(keypoints, skeleton)} not labelled"


def _sureness(confidence: np.ndarray, fit: np.ndarray) -> np.ndarray:
    """(N, K) in 0..1: of the labelled keypoints of that name the share that is found with a lower confidence."""
    sure = np.zeros_like(confidence)
    for k in range(confidence.shape[1]):
        right = np.sort(confidence[fit[:, k] > _NEAR, k])  # nan is not
        sure[:, k] = np.searchsorted(right, confidence[:, k]) / (np.isfinite(fit[:, k]).sum() + 1)
    return sure


def _fit(predicted: np.ndarray, points: np.ndarray, area: np.ndarray, sigmas: np.ndarray) -> np.ndarray:
    return similarity(predicted, np.broadcast_to(points, predicted.shape), area, 2 * sigmas)


def _names(keypoints: list[int], skeleton: Skeleton) -> str:
    return _listed([skeleton.names[k] for k in keypoints])


def _listed(names: list[str]) -> str:
    return listed([name.replace("_", " ") for name in names], most=len(names))
