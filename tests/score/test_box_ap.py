"""AP and AR of boxes: pycocotools is the reference, on small data sets full of hard cases."""

from __future__ import annotations

import numpy as np
import pytest
from cases import assert_agrees, random_boxes
from pycocotools import mask

from catpose.instances import Instances
from catpose.score.ap import average_precision
from catpose.score.bootstrap import Bootstrap
from catpose.score.box_ap import match_boxes, overlap
from catpose.score.cocoeval import cocoeval_boxes
from catpose.score.detections import BoxDetections


def compare(seeds: range) -> None:
    for seed in seeds:
        coco, results = random_boxes(seed)
        truth = Instances.from_coco(coco, "file")
        matches = match_boxes(truth, BoxDetections.from_results(results, truth))
        reference = cocoeval_boxes(coco, results, "file")
        assert_agrees(average_precision(matches), reference, tolerance=1e-15)
        once = Bootstrap(matches, np.ones((1, len(truth.image_ids)), dtype=np.int64))
        assert_agrees({key: value[0] for key, value in once.items()}, reference, tolerance=1e-12)


def test_random_data_sets() -> None:
    compare(range(50))


@pytest.mark.slow
def test_hundreds_of_data_sets() -> None:
    compare(range(1000, 1600))


def test_the_random_data_sets_are_what_they_claim() -> None:
    """Each kind of hard case comes up, and the values span the range, or agreement would mean little."""
    values, kinds = [], dict.fromkeys(("tie", "crowd", "beyond 100", "small", "no size"), 0)
    for seed in range(60):
        coco, results = random_boxes(seed)
        scores = [entry["score"] for entry in results]
        per_image = [sum(entry["image_id"] == image["id"] for entry in results) for image in coco["images"]]
        kinds["tie"] += len(set(scores)) < len(scores)
        kinds["crowd"] += any(a["iscrowd"] for a in coco["annotations"])
        kinds["beyond 100"] += max(per_image, default=0) > 100
        kinds["small"] += any(a["area"] <= 1024 for a in coco["annotations"])
        kinds["no size"] += any(0 in entry["bbox"][2:] for entry in results)
        truth = Instances.from_coco(coco, "file")
        values.append(average_precision(match_boxes(truth, BoxDetections.from_results(results, truth)))["AP"])
    assert min(kinds.values()) > 1, kinds
    low, middle, high = np.nanquantile(values, [0.1, 0.5, 0.9])
    assert low < 0.05 < 0.1 < middle < 0.3 < high


def test_overlaps_are_those_of_pycocotools_to_the_last_digit() -> None:
    rng = np.random.default_rng(0)
    detected, truth = rng.random((200, 4)) * 50, rng.random((150, 4)) * 50
    crowd = rng.random(150) < 0.3
    ours = overlap(detected[:, None], truth[None], crowd)
    np.testing.assert_array_equal(ours, mask.iou(detected, truth, crowd.astype(int).tolist()))
