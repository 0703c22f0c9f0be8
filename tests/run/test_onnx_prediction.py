"""`predict` and `catpose.load` with an exported file: nothing of torch is imported, boxes and results are as ever."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from onnx_graphs import DESCRIBED, graph, save

from catpose import load
from catpose.errors import InputError
from catpose.score.trust import Trust

TRUST = Trust((50.0, 200.0), (0.1, 0.9), (0.1,) * 17)


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    """A file whose every keypoint is, twice, a crop's mean red, and so is its confidence."""
    description = dataclasses.replace(DESCRIBED, calibration=TRUST.to_plain())
    return save(graph(), tmp_path / "cat.onnx", description)


def picture(red: int) -> np.ndarray:
    return np.full((90, 120, 3), (red, 7, 7), np.uint8)


def test_keypoints_are_in_the_picture_and_have_their_probability(exported: Path) -> None:
    poses = load(exported).predict(picture(100), [[20, 10, 16, 32]])
    inside = np.array([20 / 31, 40 / 63])  # px of the picture a crop px: the box, padded, in the crop's shape
    middle = np.array([20 + 8, 10 + 16])
    np.testing.assert_allclose(
        poses.keypoints[0], np.tile(middle + inside * (100 - np.array([15.5, 31.5])), (17, 1)), atol=1e-3
    )
    assert poses.probability is not None
    assert poses.radius is not None
    np.testing.assert_allclose(poses.probability, 0.1 + 0.8 * 50 / 150, atol=1e-6)
    np.testing.assert_allclose(poses.radius, 3.2)
    (entry,) = poses.to_coco()
    assert entry["probability"] == poses.probability[0].tolist()
    assert entry["radius_px"] == poses.radius[0].tolist()


def test_a_file_without_a_calibration_has_none(tmp_path: Path) -> None:
    poses = load(save(graph(), tmp_path / "cat.onnx")).predict(picture(100), [[20, 10, 16, 32]])
    assert poses.probability is None
    assert poses.radius is None
    assert "probability" not in poses.to_coco()[0]


def test_another_device_or_calibration_is_refused(exported: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="runs on the CPU"):
        load(exported, device="gpu")
    strange = dataclasses.replace(DESCRIBED, calibration={"confidence": [0.1]})
    with pytest.raises(InputError, match=r"b\.onnx: its calibration can't be read"):
        load(save(graph(), tmp_path / "b.onnx", strange))


@pytest.mark.slow
def test_nothing_of_torch_is_imported(exported: Path, tmp_path: Path) -> None:
    for i in range(3):
        cv2.imwrite(str(tmp_path / f"{i}.png"), picture(60 * i)[..., ::-1])
    code = """
import sys
from catpose import load
from catpose.predict import main
poses = load("cat.onnx").predict(["0.png", "1.png"])
assert len(poses) == 2
main(["0.png", "1.png", "2.png", "--checkpoint", "cat.onnx", "--out", "out.json", "--overlays", "drawn"])
print(sorted({"torch", "lightning", "timm", "torchvision"} & sys.modules.keys()))
"""
    ran = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines()[-1] == "[]"
    assert len(json.loads((tmp_path / "out.json").read_text())) == 3
    assert len(list((tmp_path / "drawn").iterdir())) == 3
