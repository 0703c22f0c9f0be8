"""The COCOeval reference leaves things alone and is quiet; values that differ from it are refused."""

from __future__ import annotations

import copy
import math

import pytest
from cases import random_case

from catpose.instances import Instances
from catpose.score.ap import average_precision, match
from catpose.score.cocoeval import cocoeval, require_agreement
from catpose.score.detections import Detections


def test_quiet_and_leaves_its_input_alone(capsys: pytest.CaptureFixture[str]):
    coco, results = random_case(3)
    before = copy.deepcopy((coco, results))
    cocoeval(coco, results)
    assert (coco, results) == before
    assert capsys.readouterr() == ("", "")


def test_an_annotation_with_the_id_zero_counts_like_any_other():
    coco, results = random_case(6)
    coco["annotations"] = [a | {"id": i} for i, a in enumerate(coco["annotations"])]
    truth = Instances.from_coco(coco)
    ours = average_precision(match(truth, Detections.from_results(results, truth)))
    require_agreement(ours, cocoeval(coco, results))


def test_results_with_segmentations_and_captions_are_still_keypoints():
    coco, results = random_case(6)
    more = [entry | {"segmentation": [], "caption": "a cat"} for entry in results]
    assert str(cocoeval(coco, more)) == str(cocoeval(coco, results))


def test_disagreement_is_a_bug_of_ours():
    reference = {"AP": 0.5, "AP_M": math.nan, "AR": 0.7}
    require_agreement({"AP": 0.5 + 1e-10, "AP_M": math.nan, "AR": 0.7, "n": 3}, reference)
    for wrong in ({"AP": 0.5 + 1e-8}, {"AP_M": 0.5}, {"AR": math.nan}, {"AR": 0.6}):
        with pytest.raises(RuntimeError, match=next(iter(wrong))):
            require_agreement(reference | wrong, reference)
    with pytest.raises(RuntimeError, match="AR"):
        require_agreement({"AP": 0.5, "AP_M": math.nan}, reference)
