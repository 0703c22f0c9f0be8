"""Several checkpoints as one model: the mean of heatmaps, whatever the sizes; what doesn't go together is refused."""

from __future__ import annotations

import dataclasses
import functools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from refused import exit_code
from torch import Tensor

from catpose import InputError, load, predict
from catpose.model.codec import Codec, MSRAHeatmap, UDPHeatmap
from catpose.model.pose import PoseModel
from catpose.run.ensemble import Ensemble, resized
from catpose.run.network import Network
from catpose.skeleton import AP10K, Skeleton

command = functools.partial(exit_code, predict.main)
MIRRORED = dataclasses.replace(AP10K, names=AP10K.names[::-1], flip_pairs=(), limbs=(), upper=(), lower=())
PLACES = np.random.default_rng(0).uniform(0.2, 0.8, (3, 17, 2)).astype(np.float32)


class Sees(PoseModel):
    """Finds each keypoint at the same share of the crop's width and height, whatever the crop's size."""

    def __init__(self, places: np.ndarray, height: float, codec: Codec, skeleton: Skeleton = AP10K) -> None:
        super().__init__(
            torch.nn.Identity(), torch.nn.Identity(), codec=codec, weights=None, flip_test=False, skeleton=skeleton
        )
        self.places, self.height = torch.from_numpy(places), height

    def forward(self, crop: Tensor) -> Tensor:
        height, width = crop.shape[1:3]
        points = self.places[: len(crop)] * torch.tensor([width - 1.0, height - 1.0])
        seen = torch.full(points.shape[:2], 2)
        return self.height * self.codec.encode(points, seen, (width, height), (width // 4, height // 4))[0]


def network(
    size: tuple[int, int] = (128, 128), places: np.ndarray = PLACES, height: float = 1.0, codec: Codec | None = None
) -> tuple[Path, Network]:
    return Path(f"{size[0]}.ckpt"), Network(Sees(places, height, codec or UDPHeatmap(sigma=1.5)), size, "cpu")


@pytest.mark.parametrize(
    "sizes", [[(128, 128)] * 2, [(128, 128), (192, 192)], [(256, 192), (128, 96), (192, 144)]], ids=str
)
def test_models_that_agree_find_what_each_finds(sizes: list[tuple[int, int]]) -> None:
    ensemble = Ensemble([network(size) for size in sizes])
    width, height = ensemble.input_size
    assert (width, height) == max(sizes)
    keypoints, confidence = ensemble(np.zeros((3, height, width, 3), np.uint8))
    np.testing.assert_allclose(keypoints, PLACES * [width - 1, height - 1], atol=0.4)
    assert (confidence > 0.75).all()  # a coarse map's peak lies between its pixels


def test_one_among_equals_counts_as_often_as_it_stands() -> None:
    elsewhere = np.roll(PLACES, 5, axis=1)
    (_, one), (_, other) = network(height=0.8), network(places=elsewhere)
    crops = np.zeros((3, 128, 128, 3), np.uint8)
    twice = Ensemble([(Path("a"), one), (Path("b"), other), (Path("c"), one)])(crops)
    mean = (2 * one.model(torch.from_numpy(crops)) + other.model(torch.from_numpy(crops))) / 3
    keypoints, confidence = one.model.codec.decode(mean, (128, 128))
    np.testing.assert_allclose(twice[0], keypoints.numpy(), atol=1e-4)
    np.testing.assert_allclose(twice[1], confidence.numpy(), atol=1e-6)


def test_a_picture_keeps_its_corners_where_it_is_resized() -> None:
    rows = torch.linspace(0, 1, 33)[None, None, :, None] + torch.linspace(0, 2, 65)
    np.testing.assert_allclose(resized(rows, (65, 33))[..., 16, ::16], rows[..., 8, ::32], atol=0.02)
    for corner in ((0, 0), (0, -1), (-1, 0), (-1, -1)):
        assert resized(rows, (99, 129))[..., corner[0], corner[1]] == pytest.approx(
            rows[..., corner[0], corner[1]].item()
        )


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (network((128, 96)), "same proportions"),
        (network(codec=MSRAHeatmap()), "heatmaps of UDPHeatmap alone"),
        ((Path("b"), Network(Sees(PLACES, 1, UDPHeatmap(), MIRRORED), (128, 128), "cpu")), "keypoints are others"),
    ],
    ids=["crops", "codec", "keypoints"],
)
def test_what_does_not_go_together_is_refused(other: tuple[Path, Network], said: str) -> None:
    with pytest.raises(InputError, match=said):
        Ensemble([network(), other])


def test_one_with_and_one_without_the_flip_test_are_refused() -> None:
    other = network()
    other[1].model.flip_test = True
    with pytest.raises(InputError, match="one alone has the flip test"):
        Ensemble([network(), other])


def test_the_command_gives_the_numbers_of_load(trained: Path, drawn: Path, tmp_path: Path) -> None:
    files = [trained / "last.ckpt", trained / "best.ckpt"]
    pictures, out = sorted((drawn / "images").iterdir())[:3], tmp_path / "r.json"
    given = [part for file in files for part in ("--checkpoint", file)]
    assert command(*pictures, *given, "--device", "cpu", "--out", out) == 0
    found = load(files, device="cpu").predict([str(picture) for picture in pictures])
    assert [entry for each in found for entry in each.to_coco()] == json.loads(out.read_text())


def test_an_exported_model_is_not_averaged(trained: Path, drawn: Path, tmp_path: Path) -> None:
    exported = tmp_path / "a.onnx"
    exported.write_bytes(b"")
    with pytest.raises(InputError, match="no heatmaps to average"):
        load([trained / "best.ckpt", exported])
    with pytest.raises(InputError, match="names no model"):
        load([])


def test_at_several_sizes_it_finds_what_it_finds_at_each() -> None:
    ensemble = Ensemble([network((96, 128)), network((144, 192))], (0.75, 1, 1.3))
    width, height = ensemble.input_size
    assert (width, height) == (188, 248)  # the largest, in whole px of its heatmaps
    keypoints, _ = ensemble(np.zeros((3, height, width, 3), np.uint8))
    np.testing.assert_allclose(keypoints, PLACES * [width - 1, height - 1], atol=0.4)


def test_the_command_at_several_sizes_gives_the_numbers_of_load(trained: Path, drawn: Path, tmp_path: Path) -> None:
    pictures, out = sorted((drawn / "images").iterdir())[:3], tmp_path / "r.json"
    given = ("--checkpoint", trained / "last.ckpt", "--device", "cpu", "--out", out)
    assert command(*pictures, *given, "--scales", "0.5,1,1.5") == 0
    model = load(trained / "last.ckpt", device="cpu", scales=(0.5, 1, 1.5))
    found = model.predict([str(picture) for picture in pictures])
    assert [entry for each in found for entry in each.to_coco()] == json.loads(out.read_text())
    once = load(trained / "last.ckpt", device="cpu").predict(str(pictures[0]))
    assert not np.array_equal(found[0].keypoints, once.keypoints)


@pytest.mark.parametrize("scales", [(), (0,), (float("nan"),), (1e9,), ("1",), 2, [1] * 17, (-1, 1)], ids=str)
def test_scales_that_cannot_be_are_refused(scales: Any, trained: Path) -> None:
    with pytest.raises(InputError, match=r"scales: .*from 0\.1 to 10"):
        load(trained / "last.ckpt", scales=scales)


def test_a_network_of_one_size_alone_is_refused_at_another() -> None:
    class Fixed(Sees):
        def forward(self, crop: Tensor) -> Tensor:
            assert crop.shape[1:3] == (128, 128), "Input height (96) doesn't match model (128)."
            return super().forward(crop)

    one = Network(Fixed(PLACES, 1, UDPHeatmap()), (128, 128), "cpu")
    assert one.at(1).input_size == (128, 128)
    with pytest.raises(InputError, match="crops of 96 x 96 px: Input height"):
        one.at(0.75)
    with pytest.raises(InputError, match="side of a crop"):
        one.at(0.1)
