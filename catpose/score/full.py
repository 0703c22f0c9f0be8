"""Every metric of an evaluation, each with its bootstrap draws."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from catpose.instances import Instances
from catpose.score.ap import Matches, average_precision, match
from catpose.score.bootstrap import Bootstrap, bootstrap_ap, image_weights
from catpose.score.calibration import calibration_error
from catpose.score.detections import Detections
from catpose.score.distances import distances, means, measures

#: Metrics beside AP and distances, by name: of truth, detections and, for the draws, how often each holds each image.
METRICS: dict[str, Callable[..., np.ndarray]] = {"ECE": calibration_error}


@dataclass(frozen=True)
class Division:
    """Which of several random divisions of a pool of images a model was trained and scored on."""

    number: int
    scored_per_trained: float  # images scored for each trained on, n2/n1 in Nadeau & Bengio (2003)


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The metrics of one set of detections, fractions in 0..1 but for EPE (px), NME and NME_eyes (boxes, eye distances)
    and counts; nan where nothing counts."""

    values: dict[str, float]
    draws: Mapping[str, np.ndarray]  # (B,) float64 each; of all that isn't a count
    n_images: int  # what was drawn from: all images of the data set
    rests_on: dict[str, int]  # of all that isn't a count: the number of instances that it rests on
    first_alike: np.ndarray | None = None  # (I,) int64, of each image the first with the same detections; where known
    division: Division | None = None  # None of the data's own split


def evaluate(truth: Instances, detections: Detections, draws: int = 1000) -> Evaluation:
    """Evaluate detections, and do so again on `draws` resamples of the images.

    The resamples depend on the number of images and of draws alone. So two models evaluated on the same truth with the
    same `draws` have been looked at on the same resamples, one by one: the difference of their draws,
    `one.draws["AP"] - other.draws["AP"]`, is the paired bootstrap of their difference.

    Returns:
        in `values`
        - of `average_precision`: "AP", "AP50", "AP75", "AP_M", "AP_L", "AR", "AR50", "AR75", "AR_M", "AR_L",
          "AP/KEYPOINT", "AR/KEYPOINT", and the counts "n", "n_M", "n_L" of instances;
        - of `distances.measures`: "PCK@0.05", "PCK@0.1", "PCK@0.2" and "EPE", these also as "PCK@0.1/KEYPOINT";
          "mPCK@0.05", "mPCK@0.1", "mPCK@0.2", the means of the keypoints' own; "PCK_eyes@0.05", "PCK_eyes@0.1",
          "PCK_eyes@0.2", "PCK_eyes@0.5", "AUC", "NME", "NME_eyes"; and the count "missing", how many labelled
          keypoints weren't detected, which NME, NME_eyes and EPE leave out;
        - those of `METRICS`.

        In `draws` all of these but the counts.
    """
    weights = image_weights(len(truth.image_ids), draws)
    matches, distance = match(truth, detections), distances(truth, detections)
    measured = measures(truth, distance)
    values = average_precision(matches) | means(truth, measured)
    values |= {name: metric(truth, detections) for name, metric in METRICS.items()}
    others = means(truth, measured, weights)
    others |= {name: metric(truth, detections, weights) for name, metric in METRICS.items()}
    drawn = ChainMap(others, Bootstrap(matches, weights))  # type: ignore[arg-type]  # nothing is written to it
    numbers = {key: float(value) for key, value in values.items()} | {"missing": float(np.isinf(distance).sum())}
    rests_on = {key: _rests_on(key, truth.skeleton.names, matches, measured) for key in drawn}
    return Evaluation(numbers, drawn, len(truth.image_ids), rests_on, first_alike(truth, detections))


def evaluate_ap(truth: Instances, detections: Detections) -> Evaluation:
    """AP alone, on the resamples that `evaluate` takes: the same numbers in a twentieth of its time."""
    matches = match(truth, detections, by_keypoint=False)
    drawn = bootstrap_ap(matches, image_weights(len(truth.image_ids)))
    value, n = float(average_precision(matches)["AP"]), int(matches.instances[0].sum())
    return Evaluation({"AP": value}, {"AP": drawn}, len(truth.image_ids), {"AP": n}, first_alike(truth, detections))


def first_alike(truth: Instances, detections: Detections) -> np.ndarray:
    """Of each image the first, by its place among the truth's, with the same keypoints to a pixel: (I,) int64, its own
    where there is none, or no detection. A model gives copies of a picture the same, and no two others."""
    order = np.lexsort((detections.score, detections.image_id))
    whole = detections.keypoints[order].round() + 0.0  # no -0
    first, places = np.arange(len(truth.image_ids)), detections.image_id[order].searchsorted(truth.image_ids)
    seen: dict[bytes, int] = {}
    for i, some in enumerate(np.split(whole, places[1:])):
        if len(some):
            first[i] = seen.setdefault(some.tobytes(), i)
    return first


def _rests_on(key: str, keypoints: Sequence[str], matches: Matches, measured: dict[str, np.ndarray]) -> int:
    name, _, keypoint = key.partition("/")
    name = "EPE" if name == "ECE" else name.removeprefix("m")
    if name in measured:
        counts = ~np.isnan(measured[name])
        return int((counts[:, keypoints.index(keypoint)] if keypoint else counts.any(axis=1)).sum())
    question = f"AP{key[2:]}"  # AP50 and AP75 rest on what AP does
    q = matches.questions.index(question) if question in matches.questions else 0
    return int(matches.instances[q].sum())
