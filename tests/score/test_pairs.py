"""Which detection belongs to which instance: against loops written from the words, on data sets full of hard cases."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from cases import random_case
from skeletons import SIGMA_ARRAY

from catpose.instances import Instances
from catpose.score.detections import Detections
from catpose.score.pairs import detection_of, owner_of, paired_alike


def hard_case(seed: int) -> tuple[Instances, Detections]:
    """Detections of which about half name an annotation: mostly of their image, some of another, some of none."""
    coco, results = random_case(seed)
    rng = np.random.default_rng(seed)
    ids = {}
    for a in coco["annotations"]:
        ids.setdefault(a["image_id"], []).append(a["id"])
    everywhere = [a["id"] for a in coco["annotations"]] + [5000, 6000]
    named = []
    for entry in results:
        some = ids.get(entry["image_id"], everywhere) if rng.random() < 0.8 else everywhere
        named.append(entry | ({"annotation_id": int(rng.choice(some))} if rng.random() < 0.5 else {}))
    truth = Instances.from_coco(coco)
    return truth, Detections.from_results(named, truth)


def oks_in_words(found: np.ndarray, truth: Instances, row: int) -> float:
    values = [
        np.exp(-((found[k] - truth.keypoints[row, k]) ** 2).sum() / (2 * truth.areas[row] * (2 * SIGMA_ARRAY[k]) ** 2))
        for k in np.flatnonzero(truth.labelled[row])
    ]
    return sum(values) / len(values)


def owner_in_words(truth: Instances, detections: Detections, m: int) -> int:
    best, at_best = -1, -1.0
    for row in range(len(truth)):
        if truth.image_id[row] != detections.image_id[m]:
            continue
        if truth.ids[row] == detections.annotation_id[m]:
            return row
        if truth.category_id[row] == detections.category_id[m] and truth.labelled[row].any():
            value = oks_in_words(detections.keypoints[m], truth, row)
            if value > at_best * (1 + 1e-9):  # rounding apart: twins are as like
                best, at_best = row, value
    return best


def test_in_words():
    kinds = dict.fromkeys(("named", "by oks", "nobody", "several", "without"), 0)
    for seed in range(150):
        truth, detections = hard_case(seed)
        owner = owner_of(truth, detections)
        assert owner.tolist() == [owner_in_words(truth, detections, m) for m in range(len(detections))]
        expected = []
        for row in range(len(truth)):
            own = [m for m in range(len(detections)) if owner[m] == row]
            expected.append(max(own, key=lambda m: (detections.score[m], -m)) if own else -1)
        found = detection_of(truth, detections)
        assert found.tolist() == expected
        assert (owner.dtype, found.dtype) == (np.int64, np.int64)
        has_name = owner >= 0
        has_name[has_name] = truth.ids[owner[has_name]] == detections.annotation_id[has_name]
        kinds["named"] += has_name.any()
        kinds["by oks"] += ((owner >= 0) & ~has_name).any()
        kinds["nobody"] += (owner < 0).any()
        kinds["several"] += len(owner[owner >= 0]) > len(np.unique(owner[owner >= 0]))
        kinds["without"] += (found < 0).any()
    assert min(kinds.values()) >= 20, kinds


@pytest.mark.parametrize("seed", range(20))
def test_the_order_of_detections_decides_between_equal_scores_only(seed: int):
    truth, detections = hard_case(seed)
    detections = dataclasses.replace(detections, score=np.random.default_rng(seed).random(len(detections)))
    order = np.random.default_rng(seed).permutation(len(detections))
    moved = dataclasses.replace(
        detections,
        **{
            name: getattr(detections, name)[order]
            for name in ("image_id", "category_id", "keypoints", "confidence", "score", "annotation_id")
        },
        box=None,
    )
    np.testing.assert_array_equal(owner_of(truth, moved), owner_of(truth, detections)[order])
    before, after = detection_of(truth, detections), detection_of(truth, moved)
    np.testing.assert_array_equal(np.where(after >= 0, order[after], -1) if len(order) else after, before)


def test_an_annotation_of_another_image_is_no_name():
    """Results numbered by somebody else: their ids are ours by chance."""
    labels = [10.0, 10.0, 2] * 17
    annotations = [
        {"id": i, "image_id": i, "category_id": 1, "bbox": [0, 0, 40, 40], "keypoints": labels} for i in (1, 2)
    ]
    coco = {"images": [{"id": 1}, {"id": 2}], "categories": [{"id": 1}], "annotations": annotations}
    truth = Instances.from_coco(coco)
    entry = {"image_id": 1, "category_id": 1, "keypoints": [10.0, 10.0, 1.0] * 17, "score": 1.0, "annotation_id": 2}
    assert owner_of(truth, Detections.from_results([entry], truth)).tolist() == [0]
    assert detection_of(truth, Detections.from_results([entry], truth)).tolist() == [0, -1]


def test_nothing_to_pair():
    coco, results = random_case(3)
    truth = Instances.from_coco(coco)
    assert (detection_of(truth, Detections.from_results([], truth)) == -1).all()
    assert owner_of(truth, Detections.from_results([], truth)).shape == (0,)
    empty = Instances.from_coco(coco | {"annotations": []})
    detections = Detections.from_results(results, empty)
    assert (owner_of(empty, detections) == -1).all()
    assert len(owner_of(empty, detections)) == len(results) > 0
    assert detection_of(empty, detections).shape == (0,)


def test_two_files_are_paired_alike_whether_or_not_one_names_its_annotations() -> None:
    truth, found = hard_case(3)
    named = dataclasses.replace(found, annotation_id=np.full(len(found), truth.ids[0]))
    nameless = dataclasses.replace(found, annotation_id=np.full(len(found), -1))
    assert paired_alike(named, named) == (named, named)
    for one, other in ((named, nameless), (nameless, named), (found, named)):
        ours, theirs = paired_alike(one, other)
        assert (detection_of(truth, ours) == detection_of(truth, nameless)).all()
        assert (detection_of(truth, theirs) == detection_of(truth, nameless)).all()
