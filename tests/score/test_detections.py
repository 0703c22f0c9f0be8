"""Reading and writing results: exact round trips, and one line for whatever is wrong."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from cases import random_case

from catpose.errors import InputError
from catpose.instances import Instances
from catpose.score.detections import Detections

COCO = random_case(6, n_categories=1)[0]
TRUTH = Instances.from_coco(COCO)
ENTRY = {"image_id": COCO["images"][0]["id"], "category_id": 1, "keypoints": [1.5, 2, 0.5] * 17, "score": 0.5}


@pytest.mark.parametrize("seed", range(30))
def test_results_survive_json_to_the_last_bit(seed: int):
    coco, results = random_case(seed)
    truth = Instances.from_coco(coco)
    detections = Detections.from_results(results, truth)
    again = Detections.from_results(json.loads(json.dumps(detections.to_results())), truth)
    for name in ("image_id", "category_id", "keypoints", "confidence", "score", "annotation_id", "area"):
        np.testing.assert_array_equal(getattr(detections, name), getattr(again, name))


def test_the_annotation_travels_along():
    results = [ENTRY | {"annotation_id": 7}, ENTRY]
    detections = Detections.from_results(results, TRUTH)
    assert detections.annotation_id.tolist() == [7, -1]
    assert detections.to_results() == results


def test_area_is_the_extent_or_the_box_given():
    keypoints = np.zeros((17, 3))
    keypoints[3, :2] = 4, 5
    entry = ENTRY | {"keypoints": keypoints.ravel().tolist()}
    assert Detections.from_results([entry], TRUTH).area.tolist() == [20]
    boxed = Detections.from_results([entry | {"bbox": [0, 0, 3, 7]}], TRUTH)
    assert boxed.area.tolist() == [21]
    assert "box" in boxed.area_rule != Detections.from_results([entry], TRUTH).area_rule
    assert boxed.to_results()[0]["bbox"] == [0, 0, 3, 7]
    assert Detections.from_results([entry, entry | {"bbox": [0, 0, 3, 7]}], TRUTH).area.tolist() == [20, 20]


def test_no_results():
    assert len(Detections.from_results([], TRUTH)) == 0
    assert Detections.from_results([], TRUTH).keypoints.shape == (0, 17, 2)


def fails(make: Callable[[], Any], *named: str) -> None:
    with pytest.raises(InputError) as error:
        make()
    text = str(error.value)
    assert "\n" not in text
    assert len(text) < 300
    for part in named:
        assert part in text


BAD_RESULTS: dict[str, tuple[Any, tuple[str, ...]]] = {
    "object": ({"annotations": []}, ("list",)),
    "no object": ([3], ("entry 0",)),
    "no image": ([{k: v for k, v in ENTRY.items() if k != "image_id"}], ("entry 0", "image_id")),
    "image of text": ([ENTRY | {"image_id": "cat\n.jpg"}], ("entry 0", "image_id", "cat")),
    "other images": ([ENTRY] + [ENTRY | {"image_id": i} for i in range(777, 790)], ("13 of 14", "777", "781", "…")),
    "huge image": ([ENTRY | {"image_id": 10**30}], ("image_id",)),
    "other category": ([ENTRY | {"category_id": 17}], ("entry 0", "category_id", "17", "[1]")),
    "no keypoints": ([ENTRY, {k: v for k, v in ENTRY.items() if k != "keypoints"}], ("entry 1", "keypoints", "51")),
    "17 pairs": ([ENTRY | {"keypoints": [1.0, 2.0] * 17}], ("keypoints", "34", "51")),
    "text": ([ENTRY | {"keypoints": "x" * 51}], ("keypoints", "51")),
    "nested": ([ENTRY | {"keypoints": [[1, 2, 3]] * 51}], ("keypoints", "[1, 2, 3]")),
    "nan": ([ENTRY | {"keypoints": [math.nan] + [1.0] * 50}], ("keypoints", "nan")),
    "infinite": ([ENTRY | {"keypoints": [1.0] * 50 + [math.inf]}], ("keypoints", "inf")),
    "beyond any picture": ([ENTRY | {"keypoints": [1e155] + [1.0] * 50}], ("keypoints", "1e+155")),
    "null": ([ENTRY | {"keypoints": [None] * 51}], ("keypoints", "None")),
    "huge": ([ENTRY | {"keypoints": [10**400] + [1.0] * 50}], ("keypoints",)),
    "no score": ([{k: v for k, v in ENTRY.items() if k != "score"}], ("score",)),
    "score of nan": ([ENTRY | {"score": math.nan}], ("score", "nan")),
    "score of truth": ([ENTRY | {"score": True}], ("score", "True")),
    "box missing": ([ENTRY | {"bbox": [0, 0, 1, 1]}, ENTRY], ("entry 1", "bbox", "4")),
    "box too short": ([ENTRY | {"bbox": [0, 0, 1]}], ("entry 0", "bbox", "4")),
}


@pytest.mark.parametrize("name", BAD_RESULTS)
def test_bad_results(name: str):
    results, named = BAD_RESULTS[name]
    fails(lambda: Detections.from_results(results, TRUTH, file="preds.json"), "preds.json", *named)


def test_a_missing_category_is_the_only_one_and_needed_with_several():
    bare = {k: v for k, v in ENTRY.items() if k != "category_id"}
    assert Detections.from_results([bare], TRUTH).category_id.tolist() == [1]
    root_beside = Instances.from_coco(COCO | {"categories": [{"id": 0}, {"id": 1}]})  # a category that nothing has
    assert Detections.from_results([bare], root_beside).category_id.tolist() == [1]
    annotations = [annotation | {"category_id": 1 + i % 2} for i, annotation in enumerate(COCO["annotations"])]
    two = Instances.from_coco(COCO | {"categories": [{"id": 1}, {"id": 2}], "annotations": annotations})
    fails(lambda: Detections.from_results([bare], two, file="preds.json"), "preds.json", "category_id", "[1, 2]")
