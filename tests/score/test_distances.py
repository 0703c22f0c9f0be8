"""PCK, PCKh, AUC, NME, EPE: against loops written from their definitions, exact hits on thresholds, identities."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from cases import random_case
from skeletons import KEYPOINTS

from catpose.instances import Instances
from catpose.score.detections import Detections
from catpose.score.distances import PER_KEYPOINT, box_side, distances, eye_distance, means, measures
from catpose.score.pairs import detection_of

NAMES = (
    "PCK@0.05",
    "PCK@0.1",
    "PCK@0.2",
    "PCK_eyes@0.05",
    "PCK_eyes@0.1",
    "PCK_eyes@0.2",
    "PCK_eyes@0.5",
    "AUC",
    "NME",
    "NME_eyes",
    "EPE",
)

MEANS = ("mPCK@0.05", "mPCK@0.1", "mPCK@0.2")


def case(seed: int) -> tuple[Instances, Detections]:
    coco, results = random_case(seed)
    truth = Instances.from_coco(coco)
    return truth, Detections.from_results(results, truth)


def in_words(truth: Instances, detections: Detections, times: np.ndarray) -> dict[str, float]:
    """Every figure, image by image, keypoint by keypoint, an image as often as `times` says."""
    sums: dict[str, list[float]] = {}
    paired = detection_of(truth, detections)
    for image, n in zip(truth.image_ids, times, strict=True):
        for row in np.flatnonzero(truth.image_id == image):
            for k in range(17):
                if not truth.labelled[row, k] or truth.ignored[row]:
                    continue
                d = math.inf
                if paired[row] >= 0:
                    d = math.dist(detections.keypoints[paired[row], k], truth.keypoints[row, k])
                here: dict[str, float] = {}
                box = max(truth.boxes[row, 2], truth.boxes[row, 3])
                here |= {f"PCK@{t}": float(d / box <= t) for t in (0.05, 0.1, 0.2)}
                here["AUC"] = 0.0 if d / box > 0.2 else (0.2 - d / box) / 0.2
                eyes = math.dist(truth.keypoints[row, 0], truth.keypoints[row, 1])
                if truth.labelled[row, 0] and truth.labelled[row, 1] and eyes > 0:
                    here |= {f"PCK_eyes@{t}": float(d / eyes <= t) for t in (0.05, 0.1, 0.2, 0.5)}
                    here |= {"NME_eyes": d / eyes} if d < math.inf else {}
                here |= {"NME": d / box, "EPE": d} if d < math.inf else {}
                here |= {f"{name}/{KEYPOINTS[k]}": v for name, v in here.items() if name in PER_KEYPOINT}
                for name, value in here.items():
                    sums.setdefault(name, []).extend([value] * n)
    result = {name: sum(values) / len(values) if values else math.nan for name, values in sums.items()}
    for name in MEANS:
        own = [result.get(f"{name[1:]}/{keypoint}", math.nan) for keypoint in KEYPOINTS]
        known = [value for value in own if not math.isnan(value)]
        result[name] = sum(known) / len(known) if known else math.nan
    return result


def test_in_words():
    """Once, and on draws, empty ones included."""
    known: dict[str, list[float]] = {}
    for seed in range(60):
        truth, detections = case(seed)
        measured = measures(truth, distances(truth, detections))
        assert set(measured) == set(NAMES)
        weights = np.random.default_rng(seed).integers(0, 3, (3, len(truth.image_ids)))
        weights[2] = 0
        once, drawn = means(truth, measured), means(truth, measured, weights)
        own = {f"{name}/{keypoint}" for name in PER_KEYPOINT for keypoint in KEYPOINTS}
        assert set(once) == {*NAMES, *MEANS, *own}
        for times, values in (
            (np.ones(len(truth.image_ids), dtype=int), once),
            *((w, {key: value[i] for key, value in drawn.items()}) for i, w in enumerate(weights)),
        ):
            expected = in_words(truth, detections, times)
            for key, value in values.items():
                assert float(value) == pytest.approx(expected.get(key, math.nan), rel=1e-9, nan_ok=True), (seed, key)
                known.setdefault(key, []).append(float(value))
    for key, found in known.items():
        some = np.array(found)
        assert np.isnan(some).any(), key
        assert len(np.unique(some[~np.isnan(some)])) > 5, key


def one(offsets: list[float], box: tuple[float, float] = (60.0, 40.0), eyes: float = 20.0, **more: object):
    """An instance with eyes apart along x, and a detection whose first keypoints are off by `offsets` px along y."""
    points = np.column_stack([np.arange(17) * 3.0, np.zeros(17), np.full(17, 2.0)])
    points[1, 0] = eyes
    annotation = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, *box], "keypoints": points.ravel().tolist()}
    coco = {"images": [{"id": 1}], "categories": [{"id": 1}], "annotations": [annotation | more]}
    found = points.copy()
    found[: len(offsets), 1] += offsets
    truth = Instances.from_coco(coco, area="file" if "area" in more else "box")
    entry = {"image_id": 1, "category_id": 1, "keypoints": found.ravel().tolist(), "score": 1.0}
    return truth, Detections.from_results([entry], truth)


def figures(truth: Instances, detections: Detections) -> dict[str, float]:
    return {key: float(v) for key, v in means(truth, measures(truth, distances(truth, detections))).items()}


@pytest.mark.parametrize("side", [10.0, 20.0, 60.0, 100.0, 140.0, 330.0])
@pytest.mark.parametrize("t", [0.05, 0.1, 0.2])
def test_a_distance_exactly_at_the_threshold_is_correct(t: float, side: float):
    exact = side * round(t * 20) / 20
    values = figures(*one([exact, np.nextafter(exact, 99) + 1e-9], box=(side, side / 2)))
    assert values[f"PCK@{t}/left_eye"] == 1
    assert values[f"PCK@{t}/right_eye"] == 0
    assert values[f"PCK@{t}"] == pytest.approx(16 / 17)


def test_the_units():
    values = figures(*one([6.0], box=(60.0, 40.0), eyes=20.0))  # a tenth of the longer side, 0.3 of the eyes' distance
    assert values["EPE/left_eye"] == 6
    assert values["EPE"] == pytest.approx(6 / 17)
    assert values["NME"] == pytest.approx(0.1 / 17)
    assert values["NME_eyes"] == pytest.approx(0.3 / 17)
    assert [values[f"PCK@{t}/left_eye"] for t in (0.05, 0.1, 0.2)] == [0, 1, 1]
    assert [values[f"PCK_eyes@{t}"] for t in (0.05, 0.1, 0.2, 0.5)] == pytest.approx([16 / 17] * 3 + [1])
    assert values["AUC"] == pytest.approx(16.5 / 17)
    assert figures(*one([6.0], box=(40.0, 60.0)))["NME"] == values["NME"]


def test_auc_is_the_area_under_the_curve():
    truth, detections = case(1)
    by_box = (distances(truth, detections) / box_side(truth)[:, None]).ravel()
    by_box = by_box[~np.isnan(by_box)]
    middles = (np.arange(100_000) + 0.5) * 0.2 / 100_000
    area = np.mean(np.searchsorted(np.sort(by_box), middles, side="right") / len(by_box))
    assert 0.05 < area < 0.95
    assert figures(truth, detections)["AUC"] == pytest.approx(area, abs=1e-5)


def test_without_detections():
    truth, _ = case(1)
    nothing = Detections.from_results([], truth)
    distance = distances(truth, nothing)
    counts = truth.labelled & ~truth.ignored[:, None]
    assert counts.any()
    assert np.isinf(distance[counts]).all()
    assert np.isnan(distance[~counts]).all()
    values = figures(truth, nothing)
    assert [values[name] for name in ("PCK@0.05", "PCK@0.1", "PCK@0.2", "AUC")] == [0.0] * 4
    assert all(math.isnan(values[name]) for name in ("NME", "NME_eyes", "EPE", "EPE/nose"))


def test_what_does_not_count():
    for change in ({"iscrowd": 1}, {"keypoints": [0.0] * 51}):
        truth, detections = one([1.0], **change)
        assert np.isnan(distances(truth, detections)).all()
        assert all(math.isnan(value) for value in figures(truth, detections).values())
    truth, detections = one([1.0], box=(0.0, 0.0), area=900.0)
    values = figures(truth, detections)
    assert math.isnan(values["PCK@0.1"])
    assert math.isnan(values["AUC"])
    assert values["EPE/left_eye"] == 1


def test_eyes_at_one_place_or_not_both_labelled():
    truth, detections = one([1.0], eyes=0.0)
    assert np.isnan(eye_distance(truth)).all()
    values = figures(truth, detections)
    assert math.isnan(values["PCK_eyes@0.5"])
    assert math.isnan(values["NME_eyes"])
    assert values["PCK@0.1"] == 1
    truth, detections = one([1.0])
    assert eye_distance(truth).tolist() == [20]
    visibility = truth.visibility.copy()
    visibility[0, 1] = 0
    assert np.isnan(eye_distance(dataclasses.replace(truth, visibility=visibility))).all()


def test_of_several_detections_the_one_of_highest_score():
    truth, near = one([1.0])
    _, far = one([50.0])
    twice = Detections(
        *(
            np.concatenate([getattr(near, f.name), getattr(far, f.name)])
            for f in dataclasses.fields(Detections)
            if f.name != "box"
        )
    )
    twice = dataclasses.replace(twice, annotation_id=np.array([1, 1]))
    assert distances(truth, dataclasses.replace(twice, score=np.array([0.6, 0.5])))[0, 0] == 1
    assert distances(truth, dataclasses.replace(twice, score=np.array([0.5, 0.6])))[0, 0] == 50


def test_no_instance_at_all():
    coco, results = random_case(1)
    truth = Instances.from_coco(coco | {"annotations": []})
    detections = Detections.from_results(results, truth)
    assert distances(truth, detections).shape == (0, 17)
    drawn = means(truth, measures(truth, distances(truth, detections)), np.ones((4, len(truth.image_ids))))
    assert all(value.shape == (4,) and np.isnan(value).all() for value in drawn.values())
