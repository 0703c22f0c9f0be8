"""A diagnosis: its numbers are those of the score's own functions, joined over runs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from catpose.data.coco import read_split
from catpose.data.conditions import conditions
from catpose.run.evaluation import read_results
from catpose.score.error_kinds import ERRORS, KINDS, kinds, regained
from catpose.score.instances import Truth
from catpose.study.compare import ENOUGH, judge
from catpose.study.diagnosis import Diagnosis, diagnose, parts_of


@pytest.fixture(scope="module")
def truth(drawn: Path) -> Truth:
    return Truth.from_coco(read_split(drawn, "val").coco)


@pytest.fixture(scope="module")
def made(trained: Path, drawn: Path, truth: Truth) -> Diagnosis:
    detections = read_results(trained / "val_results.json", truth)
    split = read_split(drawn, "val")
    parts = parts_of(conditions(split), split, truth)
    return diagnose(judge("twice", [detections, detections], truth, 50), truth, parts, 50)


def test_parts_are_in_the_truths_order(drawn: Path, truth: Truth) -> None:
    split = read_split(drawn, "val")
    parts = parts_of(conditions(split), split, truth)
    on_image = np.bincount(split.image_index)[split.image_index]
    several = dict(zip(split.annotation_ids.tolist(), np.where(on_image > 1, "yes", "no").tolist(), strict=True))
    assert [several[a] for a in truth.annotation_id.tolist()] == parts["several cats"].tolist()
    assert all(len(set(values.tolist()) - {""}) > 1 for values in parts.values())


def test_two_equal_runs_are_as_one(made: Diagnosis, trained: Path, truth: Truth) -> None:
    detections = read_results(trained / "val_results.json", truth)
    one = kinds(truth, detections)
    assert made.shares.sum() == pytest.approx(1)
    assert made.shares[KINDS.index("good")] == pytest.approx((one == 0).sum() / (one >= 0).sum())
    gained = regained(truth, detections).gained
    for error in ERRORS:
        gain = made.gain(error)
        assert gain.value == pytest.approx(gained[error])
        assert gain.low <= gain.value <= gain.high


def test_every_instance_is_in_one_part_of_each_condition(made: Diagnosis, truth: Truth) -> None:
    for condition, parts in made.parts.items():
        assert sum(made.size(condition, name) for name in parts) == int((~truth.ignored).sum())
        for name in parts:
            assert np.isnan(made.part(condition, name).low) == (made.size(condition, name) < ENOUGH)


def test_the_content_is_json_without_nan(made: Diagnosis, truth: Truth) -> None:
    content = json.loads(json.dumps(made.content(truth), allow_nan=False))
    assert set(content["keypoints_by_kind"]) == set(KINDS)
    assert set(content["AP_regained"]) == set(ERRORS[:-2])  # boxes were the truth's own
    assert set(content["AP_by_condition"]) == set(made.parts)
    assert sum(content["reliability"]["count"]) == int((made.kinds >= 0).sum() / 2)
