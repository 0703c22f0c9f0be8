"""Pictures wait for their batch in memory: how many of them at once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from made_up import data_set

from catpose import read_split
from catpose.run import prediction
from catpose.skeleton import AP10K


class Counting:
    """Finds everything at the crop's brightness, and notes its batches."""

    skeleton, input_size, n_threads, calibration = AP10K, (32, 32), 0, None

    def __init__(self) -> None:
        self.batches: list[int] = []

    def __call__(self, crops: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        self.batches.append(len(crops))
        points = np.tile(crops.mean(axis=(1, 2), dtype=np.float32)[:, None, :2] / 8, (1, 17, 1))
        return points, np.full((len(crops), 17), 0.5, np.float32)


@pytest.mark.parametrize(("pictures", "batches"), [(0, [1, 1, 2, 1, 1, 2]), (1.5, [2, 3, 3]), (99, [4, 4])])
def test_a_batch_has_no_more_pictures_than_memory_should_hold(
    pictures: float, batches: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    split = read_split(data_set(tmp_path / "cats", (6, 1, 1)), "train")
    assert np.bincount(split.image_index).tolist() == [1, 1, 2, 1, 1, 2]
    plain, bounded = Counting(), Counting()
    expected = prediction.detect(plain, split, 4)
    monkeypatch.setattr(prediction, "MOST_HELD", pictures * 96 * 80 * 4)
    found = prediction.detect(bounded, split, 4)
    assert (plain.batches, bounded.batches) == ([4, 4], batches)
    assert np.array_equal(found.keypoints, expected.keypoints)
