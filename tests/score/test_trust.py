"""Calibrated confidences: made-up models whose probabilities are known, and what may be in a file."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import numpy as np
import pytest

from catpose.errors import InputError
from catpose.instances import Instances
from catpose.score.calibration import calibration_error
from catpose.score.detections import Detections
from catpose.score.trust import HELD, Trust, learn

SIDE = 100.0


def model(n: int, seed: int, known: float = 1.0) -> tuple[Instances, Detections, np.ndarray]:
    """An instance on each of n pictures, its detection, and each keypoint's true probability of being correct (n, 17).

    Peaks are half as high as the probability, as a network's are; how far off a keypoint is grows with its number.

    Args:
        known: the part of keypoints that is labelled.
    """
    rng = np.random.default_rng(seed)
    probability = rng.beta(2, 1, (n, 17))
    right = rng.random((n, 17)) < probability
    points = np.zeros((n, 17, 3))
    points[..., :2] = 50.0
    points[..., 2] = 2 * (rng.random((n, 17)) < known)
    off = np.where(right, 0.5 * rng.random((n, 17)), 20 + np.arange(17) * rng.random((n, 17)))
    found = np.stack([50.0 + off, np.full((n, 17), 50.0), probability / 2], axis=-1)
    common = [{"image_id": i + 1, "category_id": 1} for i in range(n)]
    annotations: list[dict[str, Any]] = [
        each | {"id": i + 1, "bbox": [0, 0, SIDE, SIDE / 2], "keypoints": points[i].ravel().tolist()}
        for i, each in enumerate(common)
    ]
    results = [
        each | {"annotation_id": i + 1, "score": 0.5, "keypoints": found[i].ravel().tolist()}
        for i, each in enumerate(common)
    ]
    images = [{"id": i + 1} for i in range(n)]
    truth = Instances.from_coco({"images": images, "categories": [{"id": 1}], "annotations": annotations})
    return truth, Detections.from_results(results, truth), probability


@pytest.mark.parametrize("seed", range(3))
def test_a_thousand_keypoints_make_a_map_near_the_true_probabilities(seed: int) -> None:
    truth, detections, _ = model(60, seed)
    learnt = learn(truth, detections)
    assert learnt.n == 60 * 17
    assert learnt.error_before == pytest.approx(float(calibration_error(truth, detections)), abs=1e-12)
    assert learnt.error_before > 0.25
    assert learnt.error_after < 0.08
    _, others, probability = model(500, seed + 10)
    apart = np.abs(learnt.trust.probabilities(others.confidence) - probability)
    assert apart.mean() < 0.05


def test_the_error_after_is_that_on_other_pictures() -> None:
    """Nearly: the maps of the five parts err in different ways, which evens out a little."""
    after, elsewhere = [], []
    for seed in range(8):
        learnt = learn(*model(60, seed)[:2])
        truth, others, _ = model(300, seed + 20)
        probabilities = learnt.trust.probabilities(others.confidence)
        elsewhere.append(float(calibration_error(truth, dataclasses.replace(others, confidence=probabilities))))
        after.append(learnt.error_after)
    assert np.mean(after) == pytest.approx(np.mean(elsewhere), abs=0.015)


def test_confidences_that_are_the_probabilities_stay_as_they_are() -> None:
    truth, detections, _ = model(600, 0)
    doubled = dataclasses.replace(detections, confidence=2 * detections.confidence)
    trust = learn(truth, doubled).trust
    places = np.linspace(0.25, 0.9, 20)
    np.testing.assert_allclose(trust.probabilities(places), places, atol=0.06)


@pytest.mark.parametrize("known", [1.0, 0.1])
def test_the_radius_holds_nine_tenths_of_other_errors(known: float) -> None:
    """With a tenth of the labels each keypoint has too few of its own."""
    held = []
    for seed in range(10):
        learnt = learn(*model(100, seed, known)[:2])
        assert 0.85 < learnt.held < 0.97
        truth, others, _ = model(300, seed + 50)
        error = np.hypot(*np.moveaxis(others.keypoints - truth.keypoints, -1, 0))
        held.append((error <= learnt.trust.radius_px(truth.boxes)).mean())
    assert np.mean(held) == pytest.approx(HELD, abs=0.02)
    assert learnt.trust.radius_px(np.array([[5, 5, 10, 30]])) == pytest.approx(30 * np.array([learnt.trust.radius]))


def test_the_map_never_falls_and_depends_on_no_order() -> None:
    truth, detections, _ = model(40, 3)
    trust = learn(truth, detections).trust
    found = trust.probabilities(np.linspace(-1, 3, 100))
    assert (np.diff(found) >= 0).all()
    assert (found > 0).all()
    assert (found < 1).all()
    shuffled = detections.subset(np.random.default_rng(0).permutation(40))
    assert learn(truth, shuffled).trust == trust


def test_one_confidence_for_all_is_one_probability() -> None:
    truth, detections, _ = model(40, 4)
    learnt = learn(truth, dataclasses.replace(detections, confidence=np.full((40, 17), 0.3)))
    assert len(learnt.trust.probability) == 1
    assert learnt.error_after < 0.1


@pytest.mark.parametrize(("n", "known"), [(4, 1.0), (5, 1.0), (60, 0.05)])
def test_too_few_labels_are_said(n: int, known: float) -> None:
    with pytest.raises(InputError, match=r"labelled keypoints on \d+ pictures are too few"):
        learn(*model(n, 0, known)[:2])


def test_a_file_keeps_every_digit() -> None:
    trust = learn(*model(40, 0)[:2]).trust
    assert Trust.from_plain(json.loads(json.dumps(trust.to_plain())), 17) == trust


@pytest.mark.parametrize(
    "change",
    [
        {"radius": [0.1] * 16},
        {"radius": [-1.0] * 17},
        {"radius": [float("nan")] * 17},
        {"confidence": [0.2, 0.2]},
        {"confidence": [0.1]},
        {"confidence": []},
        {"probability": [0.9, 0.1]},
        {"probability": [0.9, 1.1]},
        {"probability": ["a", "b"]},
        {"probability": None},
    ],
)
def test_what_is_no_calibration_is_said(change: dict[str, Any]) -> None:
    plain = {"confidence": [0.1, 0.5], "probability": [0.2, 0.9], "radius": [0.1] * 17}
    Trust.from_plain(plain, 17)
    with pytest.raises(InputError, match="calibration"):
        Trust.from_plain(plain | change, 17)
    with pytest.raises(InputError, match="calibration"):
        Trust.from_plain([], 17)
