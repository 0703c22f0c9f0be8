"""A diagnosis: its numbers are those of the score's own functions, joined over runs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from made_up import shaken

from catpose.analysis.configurations import evaluate_runs
from catpose.analysis.diagnosis import Diagnosis, diagnose, varied
from catpose.analysis.statistics import ENOUGH
from catpose.data.coco import read_split
from catpose.data.coco_split import CocoSplit
from catpose.data.slices import slices
from catpose.score.detections import Detections
from catpose.score.error_types import ERROR_TYPES, ERRORS, delta_ap, error_types


@pytest.fixture(scope="module")
def truth(drawn: Path) -> CocoSplit:
    return read_split(drawn, "val")


@pytest.fixture(scope="module")
def detections(truth: CocoSplit) -> Detections:
    return shaken(truth, 0.08, 0)


@pytest.fixture(scope="module")
def made(detections: Detections, truth: CocoSplit) -> Diagnosis:
    return diagnose(evaluate_runs("twice", [detections, detections], truth, 50), truth, varied(slices(truth)), 50)


def test_every_attribute_has_several_slices(truth: CocoSplit) -> None:
    several = varied(slices(truth))
    on_image = np.bincount(truth.image_index)[truth.image_index]
    assert several["several cats"].tolist() == np.where(on_image > 1, "yes", "no").tolist()
    assert all(len(set(values.tolist()) - {""}) > 1 for values in several.values())


def test_two_equal_runs_are_as_one(made: Diagnosis, detections: Detections, truth: CocoSplit) -> None:
    one = error_types(truth, detections)
    assert made.shares.sum() == pytest.approx(1)
    assert made.shares[ERROR_TYPES.index("good")] == pytest.approx((one == 0).sum() / (one >= 0).sum())
    values = delta_ap(truth, detections).values
    assert made.errors == ERRORS[:-2]  # boxes were the truth's own
    for error in made.errors:
        gain = made.delta_ap(error)
        assert gain.value == pytest.approx(values[error])
        assert gain.low <= gain.value <= gain.high


def test_every_instance_is_in_one_slice_of_each_attribute(made: Diagnosis, truth: CocoSplit) -> None:
    for attribute, names in made.slices.items():
        assert sum(made.size(attribute, name) for name in names) == int((~truth.ignored).sum())
        for name in names:
            assert np.isnan(made.slice_ap(attribute, name).low) == (made.size(attribute, name) < ENOUGH)


def test_the_content_is_json_without_nan(made: Diagnosis) -> None:
    content = json.loads(json.dumps(made.content(), allow_nan=False))
    assert set(content["keypoints_by_error_type"]) == set(ERROR_TYPES)
    assert set(content["delta_AP"]) == set(ERRORS[:-2])
    assert set(content["AP_by_slice"]) == set(made.slices)
    assert sum(content["reliability"]["count"]) == int((made.error_types >= 0).sum() / 2)
