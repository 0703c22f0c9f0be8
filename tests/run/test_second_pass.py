"""The box of a second pass: around enough confident keypoints, or none."""

from __future__ import annotations

import numpy as np
import pytest

from catpose.run.second_pass import FEWEST, MARGIN, keypoint_box


def test_it_holds_all_points_with_the_same_margin_on_each_side() -> None:
    points = np.random.default_rng(0).uniform(10, 90, (9, 2))
    x, y, width, height = keypoint_box(points)
    assert np.allclose([width, height], np.ptp(points, axis=0) * MARGIN)
    assert np.allclose([x + width / 2, y + height / 2], (points.min(0) + points.max(0)) / 2)


def test_it_moves_and_grows_with_them() -> None:
    points = np.random.default_rng(1).uniform(0, 50, (FEWEST, 2))
    assert np.allclose(keypoint_box(points * 3 + 7), keypoint_box(points) * 3 + [7, 7, 0, 0])


@pytest.mark.parametrize("points", [np.zeros((0, 2)), np.eye(2)[:1].repeat(FEWEST - 1, 0), np.ones((9, 2))])
def test_too_few_points_and_points_in_one_place_have_none(points: np.ndarray) -> None:
    assert keypoint_box(points) is None
