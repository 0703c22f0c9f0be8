"""Labels that may be wrong: planted errors come first, sound labels are left alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from skeletons import FLIP, KEYPOINTS

from catpose.instances import Instances
from catpose.score.detections import Detections
from catpose.score.label_issues import LabelIssue, first_of_each, label_issues

N = 60
FACE = (0, 1, 2)


def case(seed: int = 0) -> tuple[Instances, Detections]:
    """60 cats of 100 px, two on every third image, found to a px or two by a model of varied confidence."""
    rng = np.random.default_rng(seed)
    image_id = np.sort(np.concatenate([np.arange(45), np.arange(0, 45, 3)]))
    first = np.concatenate([[True], image_id[1:] != image_id[:-1]])
    corner = np.where(first[:, None], [20.0, 30.0], [180.0, 40.0])
    across = np.array([0.34, 0.16, 0.25, 0.3, 0.9, 0.35, 0.4, 0.4, 0.2, 0.15, 0.15, 0.8, 0.85, 0.9, 0.65, 0.6, 0.55])
    down = np.array([0.1, 0.1, 0.2, 0.35, 0.4, 0.5, 0.7, 0.95, 0.5, 0.7, 0.95, 0.5, 0.7, 0.95, 0.5, 0.7, 0.95])
    pose = np.stack([across, down], axis=1) * 100
    keypoints = corner[:, None] + pose + rng.normal(0, 1, (N, 17, 2))
    truth = Instances(
        image_ids=np.arange(45), category_ids=np.array([1]), ids=np.arange(100, 100 + N), image_index=image_id,
        category_index=np.zeros(N, np.int64), boxes=np.concatenate([corner, np.full((N, 2), 100.0)], axis=1),
        areas=np.full(N, 1e4), crowd=np.zeros(N, bool), keypoints=keypoints, visibility=np.full((N, 17), 2),
        ignored=np.zeros(N, bool),
    )  # fmt: skip
    detections = Detections(
        image_id=image_id, category_id=np.ones(N, np.int64), keypoints=keypoints + rng.normal(0, 1, (N, 17, 2)),
        confidence=rng.uniform(0.3, 0.9, (N, 17)), score=np.ones(N), annotation_id=truth.ids,
    )  # fmt: skip
    return truth, detections


def sure_of(detections: Detections, row: int, keypoints: tuple[int, ...] = tuple(range(17))) -> Detections:
    confidence = detections.confidence.copy()
    confidence[row, list(keypoints)] = 0.88
    return replace(detections, confidence=confidence)


def relabelled(truth: Instances, row: int, keypoints: tuple[int, ...], places: np.ndarray) -> Instances:
    points = truth.keypoints.copy()
    points[row, list(keypoints)] = places
    return replace(truth, keypoints=points)


def unlabelled(truth: Instances, row: int, keypoints: tuple[int, ...]) -> Instances:
    visibility, points = truth.visibility.copy(), truth.keypoints.copy()
    visibility[row, list(keypoints)], points[row, list(keypoints)] = 0, np.nan
    return replace(truth, visibility=visibility, keypoints=points)


def test_sound_labels_are_left_alone() -> None:
    assert label_issues(*case()) == []


@pytest.mark.parametrize("keypoints", [(0, 1), (7, 10), tuple(k for k in range(17) if FLIP[k] != k)])
def test_left_and_right_exchanged(keypoints: tuple[int, ...]) -> None:
    truth, detections = case()
    other = truth.keypoints[7, [FLIP[k] for k in keypoints]]
    found = label_issues(relabelled(truth, 7, keypoints, other), sure_of(detections, 7))
    assert (found[0].row, found[0].kind, found[0].annotation_id) == (7, "left and right", 107)
    assert set(found[0].keypoints) <= set(keypoints)
    assert {FLIP[k] for k in found[0].keypoints} == set(found[0].keypoints)
    assert found[0].suspicion > 0.5
    assert found[0].reason.startswith("left and right ")
    assert found[0].reason.endswith(" look exchanged")
    if keypoints == (0, 1):
        assert found[0].reason == "left and right eye look exchanged"


def test_more_pairs_exchanged_are_more_suspicious() -> None:
    truth, detections = case()
    values = []
    for pairs in ((0,), (0, 7), (0, 7, 11)):
        keypoints = tuple(k for pair in pairs for k in (pair, FLIP[pair]))
        wrong = relabelled(truth, 7, keypoints, truth.keypoints[7, [FLIP[k] for k in keypoints]])
        values.append(label_issues(wrong, detections)[0].suspicion)
    assert values == sorted(values)
    assert values[0] < values[2] <= 1


def test_a_label_on_another_animal() -> None:
    truth, detections = case()
    row = int(np.flatnonzero(np.bincount(truth.image_id)[truth.image_id] == 2)[0])
    wrong = relabelled(truth, row, (4,), truth.keypoints[row + 1, 4])
    found = label_issues(wrong, sure_of(sure_of(detections, row), row + 1))
    assert (found[0].row, found[0].kind, found[0].keypoints) == (row, "another animal", (4,))
    assert found[0].reason == "root of tail lies where another animal's is predicted"
    alone = int(np.flatnonzero(np.bincount(truth.image_id)[truth.image_id] == 1)[0])
    wrong = relabelled(truth, alone, (4,), truth.keypoints[row + 1, 4])
    assert label_issues(wrong, sure_of(detections, alone))[0].kind == "far off"


def test_a_label_far_off() -> None:
    truth, detections = case()
    inside = truth.keypoints[11, 2] + (0, 60)
    first = label_issues(relabelled(truth, 11, (2,), inside), sure_of(detections, 11, (2,)))[0]
    assert (first.row, first.kind, first.keypoints) == (11, "far off", (2,))
    assert first.reason in [f"nose {n}% of the box from the prediction" for n in range(55, 66)]
    outside = truth.keypoints[11, 2] + (0, 160)
    first = label_issues(relabelled(truth, 11, (2,), outside), sure_of(detections, 11, (2,)))[0]
    assert first.reason.endswith("% of the box from the prediction, outside the box")


def test_a_box_of_no_size() -> None:
    """Its area is the annotation's; how far off a label is can only be said in pixels."""
    truth, detections = case()
    box = truth.boxes.copy()
    box[7, 2:] = 0
    truth = relabelled(replace(truth, boxes=box), 7, (4,), truth.keypoints[7, 4] + [30.0, 40.0])
    assert " 50 px from" in first_of_each(label_issues(truth, sure_of(detections, 7)))[0].reason


def test_a_label_that_is_missing() -> None:
    truth, detections = case()
    found = label_issues(unlabelled(truth, 5, (0, 2)), sure_of(detections, 5, (2,)))
    assert [(s.row, s.kind, s.keypoints) for s in found if 2 in s.keypoints] == [(5, "not labelled", (2,))]
    weak = replace(detections, confidence=np.where(np.arange(N)[:, None] == 5, 0.31, detections.confidence))
    assert label_issues(unlabelled(truth, 5, (0, 2)), weak) == []


def test_what_the_model_is_not_sure_of_is_not_suspected() -> None:
    truth, detections = case()
    wrong = relabelled(truth, 11, (2,), truth.keypoints[11, 2] + (0, 60))
    values = []
    for confidence in (0.1, 0.4, 0.6, 0.8):
        confidences = detections.confidence.copy()
        confidences[11, 2] = confidence
        found = label_issues(wrong, replace(detections, confidence=confidences))
        values.append(found[0].suspicion if found else 0.0)
    assert values[0] == 0
    assert values == sorted(values)
    assert values[1] < values[2] < values[3]


def test_nor_what_it_mostly_misses() -> None:
    truth, detections = case()
    points = detections.keypoints.copy()
    points[::2, 4] += 70
    points[1:50:2, 4] += 70
    found = label_issues(truth, replace(detections, keypoints=points))
    assert all(s.suspicion < 0.15 for s in found)


def test_the_most_suspicious_come_first_and_each_keypoint_once() -> None:
    truth, detections = case()
    rng = np.random.default_rng(1)
    points = truth.keypoints.copy()
    wrong = rng.random((N, 17)) < 0.05
    points[wrong] += rng.normal(0, 60, (int(wrong.sum()), 2))
    points[3] = points[3, list(FLIP)]
    found = label_issues(unlabelled(replace(truth, keypoints=points), 20, FACE), detections)
    values = [s.suspicion for s in found]
    assert values == sorted(values, reverse=True)
    assert 0 < values[-1] <= values[0] <= 1
    seen = [(s.row, k) for s in found for k in s.keypoints]
    assert len(seen) == len(set(seen))
    for s in found:
        labelled = s.kind != "not labelled"
        assert all((s.row != 20 or k not in FACE) == labelled for k in s.keypoints)
    planted = {*np.flatnonzero(wrong.any(axis=1)).tolist(), 3, 20}
    assert {s.row for s in found} <= planted


def test_neither_order_nor_crowds_matter() -> None:
    truth, detections = case()
    wrong = relabelled(truth, 11, (2,), truth.keypoints[11, 2] + (0, 60))
    order = np.random.default_rng(2).permutation(N)
    names = ("image_id", "category_id", "keypoints", "confidence", "score", "annotation_id")
    shuffled = replace(detections, **{name: getattr(detections, name)[order] for name in names})

    def told(found: list[LabelIssue]) -> list[tuple[int, float, str]]:
        return [(s.annotation_id, s.suspicion, s.reason) for s in found]

    assert told(label_issues(wrong, detections)) == told(label_issues(wrong, shuffled)) != []
    assert label_issues(replace(wrong, ignored=np.arange(N) == 11), detections) == []


def test_without_detections() -> None:
    truth, detections = case()
    names = ("image_id", "category_id", "keypoints", "confidence", "score", "annotation_id")
    assert label_issues(truth, replace(detections, **{name: getattr(detections, name)[:0] for name in names})) == []


def test_the_first_of_each_instance() -> None:
    def issue(row: int, suspicion: float) -> LabelIssue:
        return LabelIssue(row, row, row, 1, suspicion, (0,), "far off", KEYPOINTS[0])

    ranked = [issue(4, 0.9), issue(2, 0.8), issue(4, 0.7), issue(1, 0.6), issue(2, 0.5)]
    assert first_of_each(ranked) == [ranked[0], ranked[1], ranked[3]]
