"""Calibration: made-up models whose error is known, loops from the definition, thresholds applied the long way."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
from cases import random_case
from skeletons import SIGMA_ARRAY

from catpose.instances import Instances
from catpose.score.ap import average_precision, match
from catpose.score.calibration import calibration_error, reliability, threshold_curves
from catpose.score.detections import Detections
from catpose.score.oks import instance_score
from catpose.score.pairs import detection_of


def model(confidence: np.ndarray, correct: np.ndarray) -> tuple[Instances, Detections]:
    """An instance on each image, all keypoints labelled, and its detection: (N, 17) confidences, and what is right."""
    annotations: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []
    for i, (row, right) in enumerate(zip(confidence, correct, strict=True)):
        points = np.column_stack([np.arange(17) * 5.0, np.arange(17) * 5.0, np.full(17, 2.0)])
        common = {"image_id": i + 1, "category_id": 1}
        annotations.append(common | {"id": i + 1, "bbox": [0, 0, 90, 90], "keypoints": points.ravel().tolist()})
        found = np.column_stack([points[:, :2] + np.where(right, 0, 1000)[:, None], row])
        results.append(common | {"keypoints": found.ravel().tolist(), "score": 0.5, "annotation_id": i + 1})
    images = [{"id": i + 1} for i in range(len(confidence))]
    truth = Instances.from_coco({"images": images, "categories": [{"id": 1}], "annotations": annotations})
    return truth, Detections.from_results(results, truth)


def test_confidence_that_is_the_frequency_has_no_error():
    confidence = np.tile((np.arange(10) + 0.5) / 10, 34).reshape(20, 17)  # 34 of each
    rank = np.empty((20, 17))
    for value in np.unique(confidence):
        rank[confidence == value] = np.arange(34)
    truth, detections = model(np.where(confidence == 0.25, 8 / 34, confidence), rank < 34 * confidence - 0.5)
    table = reliability(truth, detections)
    assert table.count.tolist() == [34] * 10
    np.testing.assert_allclose(table.confidence[[0, 2, 5]], [0.05, 8 / 34, 0.55])
    np.testing.assert_allclose(table.correct, [2 / 34, *np.round(34 * np.arange(1.5, 10) / 10 - 0.01) / 34], atol=1e-12)
    assert calibration_error(truth, detections) < 0.02

    rng = np.random.default_rng(0)
    confidence = rng.random((600, 17))
    assert calibration_error(*model(confidence, rng.random((600, 17)) < confidence)) < 0.02
    assert calibration_error(*model(confidence, rng.random((600, 17)) < confidence**2)) > 0.1


@pytest.mark.parametrize("value", [0.0, 0.1, 0.55, 1.0, 1.3, -0.2])
def test_constant_confidence_errs_by_its_distance_to_the_accuracy(value: float):
    correct = np.random.default_rng(0).random((30, 17)) < 0.7
    truth, detections = model(np.full((30, 17), value), correct)
    assert calibration_error(truth, detections) == pytest.approx(abs(correct.mean() - value), abs=1e-12)
    weights = np.random.default_rng(1).integers(0, 3, (5, 30))
    accuracy = weights @ correct.mean(axis=1) / weights.sum(axis=1)
    np.testing.assert_allclose(calibration_error(truth, detections, weights), abs(accuracy - value), atol=1e-12)


def test_the_ends_of_the_bins():
    values = [-1.0, 0.0, 0.1, np.nextafter(0.1, 1), 0.2, 0.3, 0.6, 0.7, np.nextafter(0.7, 1), 0.9, 0.95, 1.0, 7.0]
    confidence = np.full((1, 17), 0.45)
    confidence[0, : len(values)] = values
    table = reliability(*model(confidence, np.ones((1, 17), dtype=bool)))
    assert table.count.tolist() == [3, 2, 1, 0, 4, 1, 1, 1, 1, 3]
    assert np.isnan(table.confidence).tolist() == np.isnan(table.correct).tolist() == (table.count == 0).tolist()
    assert table.confidence[9] == pytest.approx((0.95 + 1 + 7) / 3)
    assert (table.correct[table.count > 0] == 1).all()


def test_right_is_a_similarity_of_at_least_a_half():
    truth, detections = model(np.full((1, 17), 0.5), np.ones((1, 17), dtype=bool))
    limit = 2 * SIGMA_ARRAY * np.sqrt(2 * truth.areas[0] * math.log(2))
    for factor, right in ((0.999, 1), (1.001, 0)):
        keypoints = detections.keypoints.copy()
        keypoints[0, :, 0] += factor * limit
        assert reliability(truth, dataclasses.replace(detections, keypoints=keypoints)).correct[4] == right


def error_in_words(truth: Instances, detections: Detections, times: np.ndarray) -> float:
    bins: list[list[tuple[float, bool]]] = [[] for _ in range(10)]
    paired = detection_of(truth, detections)
    for row in range(len(truth)):
        for k in np.flatnonzero(truth.labelled[row]):
            if truth.ignored[row] or paired[row] < 0:
                continue
            m = paired[row]
            confidence = float(detections.confidence[m, k])
            squared = float(((detections.keypoints[m, k] - truth.keypoints[row, k]) ** 2).sum())
            right = math.exp(-squared / (2 * truth.areas[row] * (2 * SIGMA_ARRAY[k]) ** 2)) >= 0.5
            n = times[np.flatnonzero(truth.image_ids == truth.image_id[row])[0]]
            bins[min(max(math.ceil(confidence * 10), 1), 10) - 1] += [(confidence, right)] * n
    total = sum(map(len, bins))
    gaps = [abs(np.mean([c for c, _ in b]) - np.mean([r for _, r in b])) * len(b) / total for b in bins if b]
    return float(sum(gaps)) if total else math.nan


def test_error_in_words():
    found = []
    for seed in range(60):
        coco, results = random_case(seed)
        truth = Instances.from_coco(coco)
        detections = Detections.from_results(results, truth)
        weights = np.random.default_rng(seed).integers(0, 3, (4, len(truth.image_ids)))
        drawn = calibration_error(truth, detections, weights)
        ones = np.ones(len(truth.image_ids), dtype=int)
        for value, times in ((calibration_error(truth, detections), ones), *zip(drawn, weights, strict=True)):
            expected = error_in_words(truth, detections, times)
            assert float(value) == pytest.approx(expected, abs=1e-9, nan_ok=True)
            found.append(float(value))
    assert np.isnan(found).any()
    assert np.nanstd(found) > 0.05


def test_error_is_the_one_of_the_diagram():
    for seed in range(20):
        coco, results = random_case(seed)
        truth = Instances.from_coco(coco)
        detections = Detections.from_results(results, truth)
        table, error = reliability(truth, detections), float(calibration_error(truth, detections))
        gaps = np.where(table.count > 0, table.count * abs(table.confidence - table.correct), 0)
        assert error == pytest.approx(np.nansum(gaps) / table.count.sum() if table.count.any() else np.nan, nan_ok=True)


def some_of(detections: Detections, rows: np.ndarray) -> Detections:
    names = [f.name for f in dataclasses.fields(Detections) if getattr(detections, f.name) is not None]
    return dataclasses.replace(detections, **{name: getattr(detections, name)[rows] for name in names})


def test_thresholds_the_long_way():
    spread = []
    for seed in range(12):
        coco, results = random_case(seed)
        truth = Instances.from_coco(coco)
        detections = Detections.from_results(results, truth)
        curves = threshold_curves(truth, detections)
        np.testing.assert_allclose(curves.threshold, [i / 20 for i in range(20)])
        for i in range(0, 20, 4):
            t = i / 20
            left = some_of(detections, detections.score >= t)
            matches = match(truth, left)
            assert curves.ap[i] == pytest.approx(float(average_precision(matches)["AP"]), nan_ok=True)
            true, counted, n = matches.true[0, 0].sum(), matches.counted[0, 0].sum(), (~truth.ignored).sum()
            assert curves.precision[i] == pytest.approx(true / counted if counted else np.nan, nan_ok=True)
            assert curves.recall[i] == pytest.approx(true / n if n else np.nan, nan_ok=True)
            rescored = dataclasses.replace(detections, score=instance_score(detections.confidence, t))
            expected = float(average_precision(match(truth, rescored))["AP"])
            assert curves.ap_rescored[i] == pytest.approx(expected, nan_ok=True)
        recall = curves.recall[~np.isnan(curves.recall)]
        assert (np.diff(recall) <= 0).all()
        spread.append(np.ptp(recall) if len(recall) else 0.0)
    assert np.count_nonzero(spread) >= 5  # recall does fall


def test_thresholds_of_a_known_model():
    """Four cats, two of them found, at scores 0.3 and 0.6, and one missed at 0.5."""
    truth, detections = model(np.full((4, 17), 0.5), np.array([[True] * 17, [True] * 17, [False] * 17, [False] * 17]))
    detections = some_of(dataclasses.replace(detections, score=np.array([0.3, 0.6, 0.5, 0.0])), np.arange(3))
    curves = threshold_curves(truth, detections)
    at = {round(float(t), 2): i for i, t in enumerate(curves.threshold)}
    assert curves.precision[[at[t] for t in (0.0, 0.3, 0.35, 0.5, 0.55, 0.6)]].tolist() == [
        2 / 3,
        2 / 3,
        0.5,
        0.5,
        1,
        1,
    ]
    assert curves.recall[[at[t] for t in (0.3, 0.35, 0.6, 0.65)]].tolist() == [0.5, 0.25, 0.25, 0]
    assert np.isnan(curves.precision[at[0.65] :]).all()
    assert (curves.ap[at[0.65] :] == 0).all()
    assert curves.ap[at[0.6]] == pytest.approx(26 / 101)  # recalls 0, 0.01 … 0.25


def test_nothing_to_judge():
    truth, detections = model(np.full((2, 17), 0.5), np.ones((2, 17), dtype=bool))
    nothing = some_of(detections, np.arange(0))
    assert np.isnan(calibration_error(truth, nothing))
    assert np.isnan(calibration_error(truth, nothing, np.ones((3, 2)))).tolist() == [True] * 3
    assert reliability(truth, nothing).count.sum() == 0
    curves = threshold_curves(truth, nothing)
    assert (curves.ap == 0).all()
    assert np.isnan(curves.precision).all()
    unlabelled = dataclasses.replace(truth, visibility=truth.visibility * 0, ignored=truth.ignored | True)
    assert np.isnan(calibration_error(unlabelled, detections))
    assert np.isnan(threshold_curves(unlabelled, detections).ap).all()
