"""The published figures to the digit, and both counts against arithmetic written out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch.nn.functional as F
from torch import Tensor, nn

from catpose.cost.complexity import complexity, write_complexity
from catpose.cost.metrics import gmacs, params_m
from catpose.cost.record import Complexity
from catpose.cost.table import published_lines
from catpose.errors import InputError
from catpose.model.backbones.hrnet import HRNet
from catpose.model.backbones.pyramid import FeaturePyramid
from catpose.model.backbones.resnest import ResNeSt
from catpose.model.backbones.resnet import ResNet
from catpose.model.backbones.timm_backbone import TimmBackbone
from catpose.model.backbones.vit import ViT
from catpose.model.head import DeconvolutionHead
from catpose.model.pose import PoseModel
from catpose.model.stored import described_model
from catpose.page.results import read_published


class Own(PoseModel):
    """A backbone given from outside, of `channels` at stride 8."""

    def __init__(self, backbone: nn.Module, channels: int) -> None:
        super().__init__(backbone, DeconvolutionHead(channels, 8, 4), weights=None)


class Functional(nn.Module):
    """Stride 8 with `nn.functional` alone between two convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 6, kernel_size=4, stride=4)
        self.second = nn.Conv2d(6, 6, kernel_size=4, stride=4, bias=False)

    def forward(self, picture: Tensor) -> Tensor:
        return F.interpolate(self.second(F.relu(self.first(picture))), scale_factor=2.0)


@pytest.mark.parametrize(
    ("model", "arguments", "flops", "params"),
    [
        (ResNet, {"depth": 50}, "7.28", "34.0"),  # the report's two, word for word
        pytest.param(ResNet, {"depth": 152}, "17.02", "68.64", marks=pytest.mark.slow),
        pytest.param(HRNet, {"width": 32}, "10.27", "28.54", marks=pytest.mark.slow),
        pytest.param(ResNet, {"depth": 101}, "12.15", "52.99", marks=pytest.mark.slow),
        pytest.param(ResNeSt, {"depth": 50}, "8.97", "35.93", marks=pytest.mark.slow),
        pytest.param(HRNet, {"width": 48}, "21.03", "63.6", marks=pytest.mark.slow),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_the_published_lines_are_reproduced(model: Any, arguments: dict, flops: str, params: str) -> None:
    counted = complexity(model(**arguments, weights=None), (256, 256))
    lines = ("Input shape: (1, 3, 256, 256)", f"Flops: {flops} GFLOPs", f"Params: {params} M")
    assert published_lines(counted) == lines


@pytest.mark.slow
@pytest.mark.parametrize("depth", [50, 152])
def test_what_the_page_has_beside_the_published_is_counted(depth: int) -> None:
    """published.yaml keeps it, since a page is made faster than a ResNet is built."""
    rows = [row for table in read_published() if table.get("complexity") for row in table["rows"]]
    (row,) = (row for row in rows if row["settings"]["model.depth"] == depth)
    counted = complexity(ResNet(depth, weights=None), tuple(row["settings"]["data.input_size"]))
    params, published, ours = (float(cell.split()[0]) for cell in row["counted"])
    assert params == round(counted.params / 1e6, 2)
    assert published == round(counted.published_macs / 1e9, 2)
    assert ours == round(counted.macs / 1e9, 2)


def test_what_fit_leaves_is_read_without_the_model(trained: Path, tmp_path: Path) -> None:
    model, settings = described_model((trained / "config.yaml").read_text(), PoseModel)
    written = Complexity.read(trained / "complexity.json")
    assert written == complexity(model, tuple(settings["data"]["input_size"]))
    (tmp_path / "complexity.json").write_text('{"width_px": -1}')
    with pytest.raises(InputError, match=r"complexity.json: is damaged .*; delete it, and the model is counted again"):
        Complexity.read(tmp_path / "complexity.json")


def test_a_model_that_cannot_be_followed_leaves_no_file(tmp_path: Path) -> None:
    model = Own(Functional(), 6)
    model.backbone.forward = lambda picture: picture.nonsense  # type: ignore[method-assign]
    write_complexity(model, (32, 64), tmp_path / "complexity.json")
    assert not [*tmp_path.iterdir()]


MODELS = [
    lambda: FeaturePyramid("test_resnet", head_channels=16, weights=None),
    lambda: TimmBackbone("test_resnet", head_channels=16, weights=None),
    lambda: FeaturePyramid("mobilenetv2_100", weights=None),
    lambda: ViT("vit_tiny_patch16_224", head_channels=16, weights=None),
    lambda: Own(Functional(), 6),
]


@pytest.mark.one_in(3)
@pytest.mark.parametrize("make", MODELS)
def test_the_parts_are_the_whole(make: Any) -> None:
    model = make()
    counted = complexity(model, (64, 96))
    for key in ("params", "macs", "published_macs"):
        assert sum(getattr(part, key) for part in counted.parts) == getattr(counted, key)
        assert all(getattr(part, key) >= 0 for part in counted.parts)
    assert counted.params == round(1e6 * params_m(model))
    assert counted.macs == round(1e9 * gmacs(model, (64, 96)))
    assert counted.published_macs == sum(counted.published_kinds.values())
    names = [part.name for part in counted.parts]
    assert len(set(names)) == len(names)
    assert "head.final" in names
    assert (counted.width_px, counted.height_px) == (64, 96)


@pytest.mark.slow
def test_the_parts_are_those_of_the_paper() -> None:
    names = [part.name for part in complexity(ResNet(50, weights=None), (64, 64)).parts]
    assert names == [
        "backbone.stem",
        *(f"backbone.layer{i}" for i in (1, 2, 3, 4)),
        *(f"head.deconvolution {i}" for i in (1, 2, 3)),
        "head.final",
    ]
    names = [part.name for part in complexity(FeaturePyramid("mobilenetv2_100", weights=None), (64, 64)).parts]
    assert names[:8] == ["backbone.stem", *(f"backbone.blocks.{i}" for i in range(7))]


def test_the_conventions_differ_by_what_is_said() -> None:
    """Where both see the same modules: ReLU, pooling and bias on one side, functional calls on the other."""
    counted = complexity(FeaturePyramid("test_resnet", head_channels=16, weights=None), (64, 96))
    more = sum(counted.published_kinds[kind] for kind in ("ReLU", "pooling", "bias"))
    assert set(counted.published_kinds) == {"convolution", "normalisation", "ReLU", "pooling", "bias"}
    assert min(counted.published_kinds.values()) > 0
    assert counted.published_macs - counted.macs == more - sum(counted.unseen.values())
    assert counted.unseen["upsample_nearest2d"] > 0
    assert {"max_pool2d", "relu", "add"} <= counted.left_out.keys()


def test_functional_calls_are_named() -> None:
    counted = complexity(Own(Functional(), 6), (32, 64))
    first, second = 3 * 16 * 6 * 8 * 16, 6 * 16 * 6 * 2 * 4  # of 8 x 16 and of 2 x 4 px
    assert counted.unseen == {"upsample_nearest2d": 6 * 4 * 8, "relu": 0, "sub": 0, "div": 0}
    assert counted.parts[0].name == "backbone"
    assert counted.parts[0].published_macs == first + second + 6 * 8 * 16  # the first's bias
    assert counted.parts[0].macs == first + second + 6 * 4 * 8
    assert counted.parts[0].params == 3 * 16 * 6 + 6 + 6 * 16 * 6
    assert counted.left_out["relu"] == 2  # one of them in the head


def test_each_kind_of_module_has_its_rule() -> None:
    backbone = nn.Sequential(
        nn.Conv2d(3, 6, kernel_size=3, padding=1, stride=2, groups=3),
        nn.GroupNorm(2, 6, affine=False),
        nn.BatchNorm2d(6),
        nn.LeakyReLU(),
        nn.AvgPool2d(4),
        nn.Upsample(scale_factor=2),
        nn.MaxPool2d(2),
        nn.GELU(),  # unknown to the convention
        nn.ConvTranspose2d(6, 5, kernel_size=1),
    )
    kinds = complexity(Own(backbone, 5), (32, 64)).published_kinds
    at2, at4, at8 = 16 * 32, 8 * 16, 4 * 8  # px at each stride
    head = 5 * 16 * 4 * at8 + 4 * 17 * at4  # a deconvolution 4x4 to 4 channels, 1x1 to 17
    assert kinds == {
        "convolution": 6 * 9 * at2 + 6 * 5 * at8 + head,
        "bias": 6 * at2 + 5 * at8 + 17 * at4,
        "normalisation": 6 * at2 + 2 * 6 * at2 + 2 * 4 * at4,
        "ReLU": 6 * at2 + 4 * at4,
        "pooling": 6 * at2 + 6 * at4,
        "upsampling": 6 * at4,
    }


def test_attention_is_named_as_unseen() -> None:
    counted = complexity(ViT("vit_tiny_patch16_224", head_channels=16, weights=None), (64, 64))
    assert counted.unseen["attention"] > 0
    assert "gelu" in counted.unseen
    assert counted.published_kinds["linear"] > 0
    assert any(part.name == "outside of these" and part.params > 0 for part in counted.parts)  # positions, class token
