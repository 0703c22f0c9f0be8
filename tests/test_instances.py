"""Annotated animals as arrays: their order, what counts, and what follows from other entries."""

from __future__ import annotations

import copy

import numpy as np
import pytest
from made_up import coco as made_up_coco

from catpose.instances import Instances

COCO = made_up_coco(range(1, 8))


def test_images_ascend_and_the_file_decides_within_an_image():
    coco = copy.deepcopy(COCO)
    coco["images"].reverse()
    truth = Instances.from_coco(coco)
    assert truth.image_ids.tolist() == list(range(1, 8))
    expected = sorted(coco["annotations"], key=lambda entry: entry["image_id"])
    assert truth.ids.tolist() == [entry["id"] for entry in expected]
    assert truth.image_id.tolist() == [entry["image_id"] for entry in expected]
    assert truth.ids[truth.by_id].tolist() == [
        entry["id"] for entry in sorted(expected, key=lambda entry: (entry["image_id"], entry["id"]))
    ]
    assert truth.ids.tolist() != truth.ids[truth.by_id].tolist()


def test_rows_are_found_by_id():
    truth = Instances.from_coco(COCO)
    assert truth.rows_of(truth.ids[::-1]).tolist() == list(range(len(truth)))[::-1]
    assert truth.rows_of(np.array([-1, truth.ids[2], 10**9])).tolist() == [-1, 2, -1]
    assert truth.rows_of(np.array([], dtype=np.int64)).dtype == np.int64


@pytest.mark.parametrize("by", ["mask", "index"])
def test_a_subset_keeps_all_images(by: str):
    truth = Instances.from_coco(COCO, area="file")
    mask = truth.image_id % 3 == 0
    some = truth.subset(mask if by == "mask" else np.flatnonzero(mask))
    assert some.ids.tolist() == truth.ids[mask].tolist()
    assert some.image_ids.tolist() == truth.image_ids.tolist()
    assert some.area_rule == "file"
    for name in ("boxes", "areas", "crowd", "keypoints", "visibility", "ignored", "labelled", "category_id"):
        np.testing.assert_array_equal(getattr(some, name), getattr(truth, name)[mask])


def test_what_a_file_leaves_out_is_filled_in():
    coco = copy.deepcopy(COCO)
    for annotation in coco["annotations"]:
        for key in ("area", "iscrowd", "num_keypoints"):
            annotation.pop(key, None)
    truth = Instances.from_coco(coco)
    coco["annotations"][0]["area"] = None
    np.testing.assert_array_equal(truth.areas, truth.boxes[:, 2] * truth.boxes[:, 3])
    assert truth.area_rule == "box"
    assert not truth.crowd.any()
    np.testing.assert_array_equal(truth.ignored, ~truth.labelled.any(axis=1))
    coco["annotations"][0] |= {"area": 123.0, "num_keypoints": "0"}
    assert Instances.from_coco(coco).area_rule == "box"
    np.testing.assert_array_equal(Instances.from_coco(coco).areas, truth.areas)
    np.testing.assert_array_equal(Instances.from_coco(coco).ignored, truth.ignored)


def test_a_label_has_any_visibility_above_zero():
    coco = copy.deepcopy(COCO)
    coco["annotations"] = coco["annotations"][:1]
    coco["annotations"][0]["keypoints"][2::3] = [0, 1, 2] + [0] * 14
    assert Instances.from_coco(coco).labelled[0].tolist() == [False, True, True] + [False] * 14
