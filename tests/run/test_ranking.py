"""Which pictures to label next: the order follows its definition, near-copies are left out."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from made_up import data_set, shaken

from catpose.data.coco import read_split
from catpose.data.coco_split import CocoSplit
from catpose.run.ranking import rank_pictures, ranking_csv
from catpose.score.detections import Detections


@pytest.fixture
def split(tmp_path: Path) -> CocoSplit:
    return read_split(data_set(tmp_path / "cats", (8, 3, 3)), "train")


def predicted(split: CocoSplit, seed: int) -> Detections:
    detections = shaken(split, 0.02, seed)
    confidence = np.random.default_rng(seed).uniform(0, 1, detections.confidence.shape)
    return replace(detections, confidence=confidence)


def places(detections: Detections) -> dict[int, np.ndarray]:
    return dict(zip(detections.annotation_id.tolist(), detections.keypoints, strict=True))


def test_the_order_is_that_of_the_definition(split: CocoSplit) -> None:
    """Beside a loop written out."""
    flipped, unflipped = predicted(split, 1), places(predicted(split, 2))
    wanted: dict[str, float] = {}
    for i in range(len(flipped)):
        row = split.rows_of(flipped.annotation_id[i : i + 1])[0]
        plain = unflipped[int(flipped.annotation_id[i])]
        total = 0.0
        for k in range(17):
            moved = np.linalg.norm(flipped.keypoints[i, k] - plain[k]) / split.boxes[row, 2:].max()
            total += (1 - flipped.confidence[i, k]) / 2 + min(moved * 10, 1) / 2
        name = split.images[split.image_index[row]].file_name
        wanted[name] = max(wanted.get(name, 0), total / 17)
    ranked, copies = rank_pictures(split, flipped, unflipped)
    assert copies == 0
    assert [each.file.name for each in ranked] == sorted(wanted, key=lambda name: -wanted[name])
    assert [each.uncertainty for each in ranked] == pytest.approx(sorted(wanted.values(), reverse=True))
    rows = list(csv.DictReader(io.StringIO(ranking_csv(ranked))))
    assert [row["rank"] for row in rows] == [str(i + 1) for i in range(len(ranked))]


def test_a_sure_model_is_uncertain_of_nothing(split: CocoSplit) -> None:
    flipped = predicted(split, 1)
    flipped = replace(flipped, confidence=np.ones_like(flipped.confidence))
    assert {each.uncertainty for each in rank_pictures(split, flipped, places(flipped))[0]} == {0.0}


def test_of_near_copies_the_most_uncertain_is_ranked(split: CocoSplit) -> None:
    flipped = predicted(split, 1)
    before, _ = rank_pictures(split, flipped, places(flipped))
    worst, other = before[0].file, before[3].file
    cv2.imwrite(str(other), cv2.GaussianBlur(cv2.imread(str(worst)), (3, 3), 0))
    ranked, copies = rank_pictures(split, flipped, places(flipped))
    assert copies == 1
    assert [each.file for each in ranked] == [each.file for each in before if each.file != other]
