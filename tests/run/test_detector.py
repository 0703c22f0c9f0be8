"""Which of a detector's boxes are animals: classes, scores, overlap."""

from __future__ import annotations

import pytest
import torch

from catpose.run.detector import ANIMALS, LEAST_SCORE, WEIGHTS, animals


def found(*rows: tuple[str, list[float], float]) -> dict[str, torch.Tensor]:
    labels = [WEIGHTS.meta["categories"].index(name) for name, _, _ in rows]
    return {
        "boxes": torch.tensor([corners for _, corners, _ in rows]).reshape(-1, 4),
        "labels": torch.tensor(labels, dtype=torch.int64),
        "scores": torch.tensor([score for _, _, score in rows]),
    }


def test_nothing_is_found_where_there_is_nothing() -> None:
    assert animals(found()) == []


@pytest.mark.parametrize("name", ["person", "bird", "teddy bear", "couch"])
def test_other_things_are_no_animals(name: str) -> None:
    assert animals(found((name, [0.0, 0.0, 9.0, 9.0], 0.9))) == []


@pytest.mark.parametrize("name", ANIMALS)
def test_corners_become_a_box_and_unsure_ones_are_left_out(name: str) -> None:
    rows = found((name, [1.0, 2.0, 11.0, 32.0], 0.75), (name, [50.0, 50.0, 60.0, 60.0], LEAST_SCORE - 0.01))
    assert animals(rows) == [([1.0, 2.0, 10.0, 30.0], 0.75)]


def test_one_animal_under_two_classes_is_one_and_the_surest_come_first() -> None:
    one, same, other = [0.0, 0.0, 10.0, 10.0], [1.0, 0.0, 10.0, 10.0], [6.0, 0.0, 16.0, 10.0]
    rows = found(("dog", same, 0.5), ("cat", one, 0.75), ("horse", other, 0.875))
    assert [score for _, score in animals(rows)] == [0.875, 0.75]
