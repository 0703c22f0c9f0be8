"""Exported graphs against the models that they are made of, crop by crop; each export takes seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from catpose.errors import InputError
from catpose.export import described
from catpose.model.codec import Codec, MSRAHeatmap, UDPHeatmap
from catpose.model.export import Located, quantized, to_onnx, with_description
from catpose.model.head import DeconvolutionHead
from catpose.model.onnx_file import OnnxModel
from catpose.model.pose import PoseModel
from catpose.model.simcc import SimCC

SIZE = (64, 96)  # width, height
CODECS = {
    "UDPHeatmap": UDPHeatmap(1.0),
    "MSRAHeatmap": MSRAHeatmap(1.0),
    "SimCC": SimCC(6.0, SIZE),
}


class Small(PoseModel):
    """Three convolutions, their weights so wide that heatmaps have peaks."""

    def __init__(self, **kwargs: Any) -> None:
        backbone = nn.Sequential()
        for channels in (3, 8, 8):
            backbone.extend([nn.Conv2d(channels, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.ReLU()])
        super().__init__(backbone, DeconvolutionHead(8, stride=8, channels=8), weights=None, **kwargs)
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for parameter in self.parameters():
                if parameter.dim() > 1:
                    parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
        self.eval()


class Undecided(Small):
    """What it does depends on the picture's values, which no graph can follow."""

    def features(self, picture: Tensor) -> Tensor:
        return super().features(picture if picture.sum() > 0 else -picture)


def crops(n: int) -> np.ndarray:
    """(n, height, width, 3) clouds."""
    small = np.random.default_rng(n).integers(0, 256, (n, 9, 7, 3), dtype=np.uint8)
    return np.stack([cv2.resize(each, SIZE, interpolation=cv2.INTER_CUBIC) for each in small])


def exported(model: PoseModel, proto: Any, precision: str, folder: Path) -> OnnxModel:
    file = folder / "model.onnx"
    file.write_bytes(with_description(proto, described(model, SIZE, precision)))
    return OnnxModel(file, threads=1)


def apart(model: PoseModel, onnx: OnnxModel, n: int) -> tuple[np.ndarray, np.ndarray]:
    """How far keypoints are from the model's, crop px, (n, 17), and how much higher confidences."""
    batch = crops(n)
    keypoints, confidence = onnx(batch)
    with torch.no_grad():
        theirs, sure = Located(model)(torch.from_numpy(batch))
    return np.linalg.norm(keypoints - theirs.numpy(), axis=-1), confidence - sure.numpy()


def test_every_codec_is_tried() -> None:
    every = (*Codec.__subclasses__(), *UDPHeatmap.__subclasses__())
    assert {each.__name__ for each in every if each.__module__.startswith("catpose.")} == CODECS.keys()


def test_the_graph_to_be_finds_what_the_model_predicts() -> None:
    """Located has both passes in one batch, as `poses` has not."""
    for codec in CODECS.values():
        for flip_test in (True, False):
            model = Small(codec=codec, flip_test=flip_test)
            crop = torch.from_numpy(crops(3))
            batch = {"crop": crop, "crop_to_image": torch.eye(2, 3).expand(3, 2, 3)}
            carried = {name: torch.zeros(3) for name in ("annotation_id", "image_id", "category_id", "box", "area")}
            with torch.no_grad():
                expected = model.poses(model(crop), batch | carried)
                keypoints, confidence = Located(model)(crop)
            torch.testing.assert_close(keypoints, expected["keypoints"], rtol=0, atol=1e-4)
            torch.testing.assert_close(confidence, expected["confidence"], rtol=0, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(("codec", "flip_test"), [("UDPHeatmap", True), ("MSRAHeatmap", True), ("SimCC", False)])
def test_keypoints_are_pytorchs_for_any_number_of_crops(codec: str, flip_test: bool, tmp_path: Path) -> None:
    model = Small(codec=CODECS[codec], flip_test=flip_test)
    onnx = exported(model, to_onnx(model, SIZE), "fp32", tmp_path)
    assert (onnx.skeleton, onnx.flip_test, onnx.described.codec) == (model.skeleton, flip_test, repr(CODECS[codec]))
    for n in (1, 2, 20):
        distance, difference = apart(model, onnx, n)
        assert distance.shape == (n, 17)
        assert (distance <= 0.05).mean() >= 0.99
        assert np.abs(difference).max() < 1e-3


@pytest.mark.slow
def test_half_precision_and_eight_bits_are_near(tmp_path: Path) -> None:
    model = Small(codec=CODECS["UDPHeatmap"])
    half = to_onnx(model, SIZE, "fp16")
    assert {tensor.data_type for tensor in half.graph.initializer if len(tensor.dims) == 4} >= {10}  # FLOAT16
    assert np.median(apart(model, exported(model, half, "fp16", tmp_path), 20)[0]) < 0.05
    assert next(model.parameters()).dtype == torch.float32, "the model itself is as it was"

    small = quantized(to_onnx(model, SIZE), crops(16))
    kinds = [node.op_type for node in small.graph.node]
    assert "QuantizeLinear" in kinds
    assert np.median(apart(model, exported(model, small, "int8", tmp_path), 20)[0]) < 8


@pytest.mark.slow
def test_a_network_that_no_graph_can_follow_is_said() -> None:
    with pytest.raises(InputError, match="can't be exported") as error:
        to_onnx(Undecided(codec=CODECS["UDPHeatmap"]), SIZE)
    assert "\n" not in str(error.value)
