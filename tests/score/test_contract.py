"""A score carries its contract, and two contracts are never subtracted."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cases import random_case

from catpose.errors import InputError
from catpose.score.contract import Contract, Score
from catpose.score.instances import Detections, Truth
from catpose.skeleton import SIGMAS

COCO, RESULTS = random_case(6, n_categories=1)
TRUTH = Truth.from_coco(COCO)
CONTRACT = Contract.of(
    TRUTH,
    Detections.from_results([], TRUTH),
    split="val",
    split_hash="0123abcd",
    box_source="ground truth",
    flip_test=True,
)


def test_it_says_what_an_ap_means():
    assert CONTRACT.sigmas == SIGMAS
    assert "truth: " in CONTRACT.area_rule
    assert "detections: extent" in CONTRACT.area_rule
    assert "0.2" in CONTRACT.score_rule
    assert "0.9" in CONTRACT.score_rule


def test_round_trip(tmp_path: Path):
    score = Score({"AP": np.float64(1) / 3, "AP_M": math.nan}, CONTRACT)
    score.write(tmp_path / "score.json")
    again = Score.read(tmp_path / "score.json")
    assert again.contract == CONTRACT
    assert again.values["AP"] == 1 / 3
    assert math.isnan(again.values["AP_M"])
    assert "NaN" not in (tmp_path / "score.json").read_text()
    assert [path.name for path in tmp_path.iterdir()] == ["score.json"]


def test_difference_of_equal_contracts():
    difference = Score({"AP": 0.5, "AR": 0.6, "n": 3}, CONTRACT) - Score({"AP": 0.25, "AR": math.nan}, CONTRACT)
    assert difference["AP"] == 0.25
    assert math.isnan(difference["AR"])
    assert difference.keys() == {"AP", "AR"}


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
    ],
)
def test_difference_of_two_contracts(key: str, value: Any):
    other = Score({"AP": 0.5}, dataclasses.replace(CONTRACT, **{key: value}))
    with pytest.raises(InputError, match=key):
        Score({"AP": 0.5}, CONTRACT) - other


@pytest.mark.parametrize(
    "text", ["", "[]", '{"AP": 0.5}', '{"score": {"AP": 0.5}, "contract": {"split": "val"}}', None]
)
def test_no_score_in_the_file(text: str | None, tmp_path: Path):
    path = tmp_path / "score.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(InputError, match=r"score\.json") as error:
        Score.read(path)
    assert "\n" not in str(error.value)
