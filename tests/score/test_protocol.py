"""A score carries its protocol, and what two protocols differ in is named."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cases import random_case
from skeletons import SIGMAS

from catpose.errors import InputError
from catpose.instances import Instances
from catpose.score.detections import Detections
from catpose.score.protocol import NMS_BOX, EvaluationProtocol, Score

COCO, RESULTS = random_case(6, n_categories=1)
TRUTH = Instances.from_coco(COCO)
PROTOCOL = EvaluationProtocol.of(
    TRUTH,
    Detections.from_results([], TRUTH),
    split="val",
    split_hash="0123abcd",
    box_source="ground truth",
    flip_test=True,
)


def test_it_says_what_an_ap_means():
    assert PROTOCOL.sigmas == SIGMAS
    assert "truth: " in PROTOCOL.area_rule
    assert "detections: extent" in PROTOCOL.area_rule
    assert "0.2" in PROTOCOL.score_rule
    assert "0.9" in PROTOCOL.score_rule
    assert "crop" in PROTOCOL.nms_area


def test_round_trip(tmp_path: Path):
    score = Score({"AP": np.float64(1) / 3, "AP_M": math.nan}, PROTOCOL)
    score.write(tmp_path / "score.json")
    again = Score.read(tmp_path / "score.json")
    assert again.protocol == PROTOCOL
    assert again.values["AP"] == 1 / 3
    assert math.isnan(again.values["AP_M"])
    assert "NaN" not in (tmp_path / "score.json").read_text()
    assert [path.name for path in tmp_path.iterdir()] == ["score.json"]


def test_it_says_how_many_of_the_instances_were_seen(tmp_path: Path):
    n = int((~TRUTH.ignored).sum())
    assert (PROTOCOL.seen, PROTOCOL.instances, PROTOCOL.is_partial) == (n, n, False)
    part = dataclasses.replace(PROTOCOL, seen=n - 1)
    assert part.is_partial
    Score({"AP": 0.5, "n": n - 1}, part, checkpoint={"epoch": 3, "step": 20}).write(tmp_path / "score.json")
    again = Score.read(tmp_path / "score.json")
    assert (again.protocol, again.checkpoint) == (part, {"epoch": 3, "step": 20})


def test_a_score_of_before_there_were_partial_ones_is_whole(tmp_path: Path):
    n = int((~TRUTH.ignored).sum())
    Score({"AP": 0.5, "n": n}, PROTOCOL).write(tmp_path / "score.json")
    content = json.loads((tmp_path / "score.json").read_text())
    del content["protocol"]["seen"], content["protocol"]["instances"]
    (tmp_path / "score.json").write_text(json.dumps(content))
    assert Score.read(tmp_path / "score.json").protocol == PROTOCOL


def test_equal_protocols_differ_in_nothing():
    assert PROTOCOL.differences(dataclasses.replace(PROTOCOL)) == ""


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("split", "test"),
        ("split_hash", "ffff"),
        ("area_rule", "0.53 of the box"),
        ("box_source", "a detector"),
        ("flip_test", False),
        ("flip_test", None),
        ("score_rule", "1"),
        ("sigmas", SIGMAS[::-1]),
        ("nms_area", "unknown"),
        ("seen", 1),
        ("instances", 10**6),
    ],
)
def test_what_two_protocols_differ_in_is_named(key: str, value: Any):
    differences = dataclasses.replace(PROTOCOL, **{key: value}).differences(PROTOCOL)
    assert differences.startswith(f"{key} ")
    assert " against " in differences


@pytest.mark.parametrize(
    "text", ["", "[]", '{"AP": 0.5}', '{"score": {"AP": 0.5}, "protocol": {"split": "val"}}', None]
)
def test_no_score_in_the_file(text: str | None, tmp_path: Path):
    path = tmp_path / "score.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(InputError, match=r"score\.json") as error:
        Score.read(path)
    assert "\n" not in str(error.value)


def test_a_score_of_0_1_0_is_read(tmp_path: Path) -> None:
    """It called its protocol a contract."""
    Score({"AP": 0.5}, PROTOCOL).write(tmp_path / "now.json")
    text = (tmp_path / "now.json").read_text()
    (tmp_path / "before.json").write_text(text.replace('"protocol"', '"contract"'))
    assert Score.read(tmp_path / "before.json") == Score.read(tmp_path / "now.json")
    content = json.loads(text)
    del content["protocol"]["nms_area"]
    (tmp_path / "before.json").write_text(json.dumps(content))
    assert Score.read(tmp_path / "before.json").protocol == dataclasses.replace(PROTOCOL, nms_area=NMS_BOX)
