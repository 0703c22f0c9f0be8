"""A diagnosis: its numbers are those of the score's own functions, joined over runs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from made_up import shaken

from catpose.analysis.compare import ENOUGH, judge
from catpose.analysis.diagnosis import Diagnosis, diagnose, parts_of
from catpose.data.coco import read_split
from catpose.data.coco_split import CocoSplit
from catpose.data.slices import conditions
from catpose.score.detections import Detections
from catpose.score.error_types import ERRORS, KINDS, kinds, regained


@pytest.fixture(scope="module")
def truth(drawn: Path) -> CocoSplit:
    return read_split(drawn, "val")


@pytest.fixture(scope="module")
def detections(truth: CocoSplit) -> Detections:
    return shaken(truth, 0.08, 0)


@pytest.fixture(scope="module")
def made(detections: Detections, truth: CocoSplit) -> Diagnosis:
    return diagnose(judge("twice", [detections, detections], truth, 50), truth, parts_of(conditions(truth)), 50)


def test_every_part_parts(truth: CocoSplit) -> None:
    parts = parts_of(conditions(truth))
    on_image = np.bincount(truth.image_index)[truth.image_index]
    assert parts["several cats"].tolist() == np.where(on_image > 1, "yes", "no").tolist()
    assert all(len(set(values.tolist()) - {""}) > 1 for values in parts.values())


def test_two_equal_runs_are_as_one(made: Diagnosis, detections: Detections, truth: CocoSplit) -> None:
    one = kinds(truth, detections)
    assert made.shares.sum() == pytest.approx(1)
    assert made.shares[KINDS.index("good")] == pytest.approx((one == 0).sum() / (one >= 0).sum())
    gained = regained(truth, detections).gained
    for error in ERRORS:
        gain = made.gain(error)
        assert gain.value == pytest.approx(gained[error])
        assert gain.low <= gain.value <= gain.high


def test_every_instance_is_in_one_part_of_each_condition(made: Diagnosis, truth: CocoSplit) -> None:
    for condition, parts in made.parts.items():
        assert sum(made.size(condition, name) for name in parts) == int((~truth.ignored).sum())
        for name in parts:
            assert np.isnan(made.part(condition, name).low) == (made.size(condition, name) < ENOUGH)


def test_the_content_is_json_without_nan(made: Diagnosis, truth: CocoSplit) -> None:
    content = json.loads(json.dumps(made.content(truth), allow_nan=False))
    assert set(content["keypoints_by_kind"]) == set(KINDS)
    assert set(content["AP_regained"]) == set(ERRORS[:-2])  # boxes were the truth's own
    assert set(content["AP_by_condition"]) == set(made.parts)
    assert sum(content["reliability"]["count"]) == int((made.kinds >= 0).sum() / 2)
