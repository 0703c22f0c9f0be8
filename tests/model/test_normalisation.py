"""Pictures are scaled as the backbone's weights were trained: timm is asked, checkpoints keep it, files bring it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
import torchvision
from huggingface_hub import constants
from layouts import PoseHighResolutionNet, PoseResNet, as_mmpose
from safetensors.torch import save_file
from torch import nn

from catpose.errors import InputError
from catpose.model.backbones.hrnet import HRNet
from catpose.model.backbones.mobilenet import MobileNetV2
from catpose.model.backbones.pyramid import FeaturePyramid
from catpose.model.backbones.resnest import ResNeSt
from catpose.model.backbones.resnet import ResNet
from catpose.model.backbones.timm_backbone import TimmBackbone
from catpose.model.backbones.vit import ViT
from catpose.model.head import DeconvolutionHead
from catpose.model.pose import PoseModel
from catpose.model.weights import load_weights

Scale = tuple[tuple[float, ...], tuple[float, ...]]
IMAGENETS: Scale = ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
NOBODYS: Scale = ((10.0, 20.0, 30.0), (40.0, 50.0, 60.0))


class Own(PoseModel):
    """A backbone of one's own, with or without a `pretrained_cfg`."""

    def __init__(self, backbone: nn.Module, weights: str | None = None) -> None:
        super().__init__(backbone, DeconvolutionHead(4, 4), weights=weights)


def own(config: Any = None) -> PoseModel:
    backbone = nn.Conv2d(3, 4, 4, stride=4)
    if config is not None:
        backbone.pretrained_cfg = config
    return Own(backbone)


def scale_of(model: PoseModel) -> Scale:
    return tuple(model.mean.flatten().tolist()), tuple(model.std.flatten().tolist())  # type: ignore[return-value]


def timms(name: str) -> Scale:
    config = timm.get_pretrained_cfg(name)
    return tuple(255 * v for v in config.mean), tuple(255 * v for v in config.std)  # type: ignore[return-value]


def assert_scaled(model: PoseModel, expected: Scale) -> None:
    np.testing.assert_allclose(scale_of(model), expected, rtol=1e-6)
    assert model.mean.shape == model.std.shape == (1, 3, 1, 1)
    assert model.mean.dtype == model.std.dtype == torch.float32


# Whose they are


@pytest.mark.parametrize("step", [10, pytest.param(1, marks=pytest.mark.slow)])
def test_of_every_name_that_timm_has_weights_for_they_are_timms(step: int) -> None:
    names = timm.list_pretrained()
    assert len(names) > 1000
    for name in names[::step]:
        np.testing.assert_allclose(scale_of(own(timm.get_pretrained_cfg(name).to_dict())), timms(name), rtol=1e-6)
    assert len({timms(name) for name in names}) >= 4, "all want the same, so that this shows nothing"


@pytest.mark.one_in(3)
@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: FeaturePyramid("tf_efficientnet_lite0", weights=None), "tf_efficientnet_lite0.in1k"),
        (lambda: FeaturePyramid(weights=None), "mobilenetv2_100.ra_in1k"),
        (lambda: FeaturePyramid("mobilenetv3_large_100.miil_in21k", weights=None), "mobilenetv3_large_100.miil_in21k"),
        (lambda: FeaturePyramid("mobilenetv3_large_100.ra_in1k", weights=None), "mobilenetv3_large_100.ra_in1k"),
        (lambda: TimmBackbone("mobilevitv2_050", weights=None), "mobilevitv2_050.cvnets_in1k"),
        (lambda: TimmBackbone("test_vit", weights=None), "test_vit.r160_in1k"),
        (lambda: TimmBackbone("mobilenetv2_035", weights=None), "mobilenetv2_100.ra_in1k"),  # has no weights
        (lambda: ViT("vit_xsmall_patch16_clip_224", weights=None), "vit_xsmall_patch16_clip_224.tinyclip_yfcc15m"),
        (lambda: ViT("vit_tiny_patch16_224", weights=None), "vit_tiny_patch16_224.augreg_in21k_ft_in1k"),
        (lambda: ViT(weights=None), "vit_small_patch14_dinov2.lvd142m"),
        (lambda: HRNet(18, weights=None), "hrnet_w18.ms_in1k"),
        (lambda: ResNet(weights=None), "resnet50.tv_in1k"),
        (lambda: ResNeSt(weights=None), "resnest50d.in1k"),
        (lambda: MobileNetV2(weights=None), "mobilenetv2_100.ra_in1k"),
        (lambda: Own(nn.Sequential(timm.create_model("test_vit"))), "test_vit.r160_in1k"),
    ],
)
def test_of_every_way_to_build_a_backbone_they_are_timms(make: Callable[[], PoseModel], name: str) -> None:
    assert_scaled(make(), timms(name))


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (None, IMAGENETS),
        ({}, IMAGENETS),
        ("none of timm's", IMAGENETS),
        ({"mean": (0.1, 0.2, 0.3), "std": [0.2, 0.2, 0.4]}, ((25.5, 51.0, 76.5), (51.0, 51.0, 102.0))),
        ({"mean": np.zeros(3), "std": np.ones(3)}, ((0.0, 0.0, 0.0), (255.0, 255.0, 255.0))),
        ({"mean": None, "std": (1.0, 1.0, 1.0)}, (IMAGENETS[0], (255.0, 255.0, 255.0))),
    ],
)
def test_a_backbone_of_ones_own_may_say_them_and_else_has_imagenets(config: Any, expected: Scale) -> None:
    assert_scaled(own(config), expected)


@pytest.mark.parametrize(
    "config",
    [
        {"mean": (0.5,), "std": (0.5,)},
        {"mean": (0.5,) * 4, "std": (0.5,) * 4},
        {"mean": 0.5, "std": 0.5},
        {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.0, 0.5)},
        {"mean": (0.5, 0.5, 0.5), "std": (0.5, -1.0, 0.5)},
        {"mean": (0.5, float("nan"), 0.5), "std": (0.5, 0.5, 0.5)},
        {"mean": (0.5, 0.5, 0.5), "std": (0.5, float("inf"), 0.5)},
        {"mean": ("a", "b", "c"), "std": (0.5, 0.5, 0.5)},
        {"mean": (), "std": ()},
    ],
)
def test_values_that_are_none_of_three_channels_are_one_line(config: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="pretrained_cfg; three numbers each") as caught:
        own({"architecture": "grey_net", "tag": "in1k", **config})
    assert "grey_net.in1k" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_backbone_sees_pictures_so_scaled() -> None:
    crop = torch.randint(0, 256, (2, 32, 32, 3), dtype=torch.uint8)
    config = {"mean": (0.1, 0.2, 0.3), "std": (0.4, 0.5, 0.6)}
    model, seen = own(config), []
    model.backbone.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    model(crop)
    expected = (crop.double() / 255 - torch.tensor(config["mean"])) / torch.tensor(config["std"])
    torch.testing.assert_close(seen[0], expected.permute(0, 3, 1, 2).float())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_of_the_network_leave_them_as_they_are(dtype: torch.dtype) -> None:
    crop = torch.randint(0, 256, (2, 32, 32, 3), dtype=torch.uint8)
    model, seen = own(), []
    model.backbone.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        model(crop)
        model.to(dtype)(crop)
    assert_scaled(model, IMAGENETS)
    assert seen[1].dtype == dtype == model.backbone.weight.dtype
    assert torch.equal(seen[1], seen[0].to(dtype))


# Checkpoints


def test_a_checkpoint_keeps_them() -> None:
    model = own({"mean": (0.1, 0.2, 0.3), "std": (0.4, 0.5, 0.6)})
    again = own()
    again.load_state_dict(model.state_dict())
    assert scale_of(again) == scale_of(model)


def test_a_checkpoint_of_0_1_0_was_trained_with_imagenets_whatever_its_backbone() -> None:
    model = TimmBackbone("test_vit", head_channels=8, weights=None)
    old = {name: value for name, value in model.state_dict().items() if name not in ("mean", "std")}
    model.load_state_dict(old)
    assert_scaled(model, IMAGENETS)


def test_a_part_of_a_state_changes_what_is_in_it_and_no_more() -> None:
    model = TimmBackbone("test_vit", head_channels=8, weights=None)
    part = {name: value for name, value in model.state_dict().items() if name.startswith("backbone.")}
    model.load_state_dict(part, strict=False)
    assert_scaled(model, timms("test_vit.r160_in1k"))


# Files of weights. Into a model whose scale is nobody's, so that what the file brings shows.


def strange(model: PoseModel) -> PoseModel:
    for buffer, values in zip((model.mean, model.std), NOBODYS, strict=True):
        buffer.copy_(torch.tensor(values).view(1, 3, 1, 1))
    return model


def vit() -> PoseModel:
    return strange(ViT("test_vit", head_channels=8, weights=None))


def stripped(model: PoseModel, *, head: bool = True) -> dict[str, torch.Tensor]:
    """As 0.1.0 kept it; without the head it may be anybody's."""
    return {n: v for n, v in model.state_dict().items() if n not in ("mean", "std") and (head or "backbone." in n)}


FILES: dict[str, tuple[Callable[[], PoseModel], Callable[[], Any], Scale, str]] = {
    "a checkpoint": (vit, lambda: {"state_dict": own_scale(vit()).state_dict(), "catpose": "…"},
                     ((1.0, 2.0, 3.0), (4.0, 5.0, 6.0)), "the checkpoint's own"),
    "its tensors alone": (vit, lambda: own_scale(vit()).state_dict(),
                          ((1.0, 2.0, 3.0), (4.0, 5.0, 6.0)), "the checkpoint's own"),
    "a checkpoint of 0.1.0": (vit, lambda: {"state_dict": stripped(vit()), "catpose": "…"}, IMAGENETS, "catpose 0.1.0"),
    "somebody's backbone": (vit, lambda: {"state_dict": stripped(vit(), head=False)}, NOBODYS, "the backbone's"),
    "timm": (vit, lambda: timm.create_model("test_vit", img_size=256).state_dict(), NOBODYS, "the backbone's"),
    "official HRNet": (lambda: strange(HRNet(weights=None)), lambda: PoseHighResolutionNet().state_dict(),
                       IMAGENETS, "official HRNet"),
    "official SimpleBaseline": (lambda: strange(ResNet(weights=None)), lambda: PoseResNet().state_dict(),
                                IMAGENETS, "SimpleBaseline"),
    "MMPose": (lambda: strange(ResNet(weights=None)),
               lambda: {"meta": {}, "state_dict": as_mmpose(PoseResNet().state_dict(), "keypoint_head")},
               IMAGENETS, "MMPose"),
    "torchvision MobileNetV2": (lambda: strange(MobileNetV2(head_channels=8, weights=None)),
                                lambda: torchvision.models.mobilenet_v2().state_dict(), IMAGENETS, "torchvision"),
}  # fmt: skip


def own_scale(model: PoseModel) -> PoseModel:
    for buffer, values in ((model.mean, (1.0, 2.0, 3.0)), (model.std, (4.0, 5.0, 6.0))):
        buffer.copy_(torch.tensor(values).view(1, 3, 1, 1))
    return model


#: Of networks of a hundred megabytes.
LARGE = ("official HRNet", "official SimpleBaseline", "MMPose")


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=pytest.mark.slow if kind in LARGE else []) for kind in FILES]
)
def test_a_file_brings_its_own_where_they_are_known_and_it_is_said(kind: str, tmp_path: Path) -> None:
    make, content, expected, words = FILES[kind]
    torch.save(content(), tmp_path / "weights.pth")
    model = make()
    line = load_weights(model, str(tmp_path / "weights.pth")).splitlines()[-1]
    assert_scaled(model, expected)
    assert line.strip().startswith(f"pictures are scaled by mean {expected[0][0]:g} {expected[0][1]:g}")
    assert words in line


def test_the_original_vision_transformers_see_pictures_from_minus_1_to_1(tmp_path: Path) -> None:
    network = timm.create_model("test_vit", img_size=256, num_classes=0)
    width, heads = network.embed_dim, network.blocks[0].attn.num_heads
    attention = {f"{n}/kernel": np.zeros((width, heads, width // heads)) for n in ("query", "key", "value")}
    attention |= {f"{n}/bias": np.zeros((heads, width // heads)) for n in ("query", "key", "value")}
    attention |= {"out/kernel": np.zeros((heads, width // heads, width)), "out/bias": np.zeros(width)}
    hidden = network.blocks[0].mlp.fc1.out_features
    block = {f"MultiHeadDotProductAttention_1/{name}": value for name, value in attention.items()}
    block |= {"MlpBlock_3/Dense_0/kernel": np.zeros((width, hidden)), "MlpBlock_3/Dense_0/bias": np.zeros(hidden)}
    block |= {"MlpBlock_3/Dense_1/kernel": np.zeros((hidden, width)), "MlpBlock_3/Dense_1/bias": np.zeros(width)}
    block |= {f"LayerNorm_{i}/{name}": np.zeros(width) for i in (0, 2) for name in ("scale", "bias")}
    jax = {"cls": np.zeros((1, 1, width)), "embedding/kernel": np.zeros((16, 16, 3, width))}
    jax |= {"embedding/bias": np.zeros(width), "Transformer/posembed_input/pos_embedding": np.zeros((1, 257, width))}
    jax |= {f"Transformer/encoder_norm/{name}": np.zeros(width) for name in ("scale", "bias")}
    for i in range(len(network.blocks)):
        jax |= {f"Transformer/encoderblock_{i}/{name}": value for name, value in block.items()}
    np.savez(tmp_path / "vit.npz", **jax)
    model = vit()
    load_weights(model, str(tmp_path / "vit.npz"))
    assert_scaled(model, ((127.5,) * 3, (127.5,) * 3))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (json.dumps({"architecture": "test_vit", "pretrained_cfg": {"mean": [0, 0, 0], "std": [1, 1, 1]}}),
         ((0.0,) * 3, (255.0,) * 3)),
        (json.dumps({"model_type": "bert"}), NOBODYS),
        ("[" * 100_000, NOBODYS),
        ("no JSON", NOBODYS),
    ],
)  # fmt: skip
def test_the_config_beside_timms_files_is_asked(text: str, expected: Scale, tmp_path: Path) -> None:
    save_file(timm.create_model("test_vit", img_size=256).state_dict(), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(text)
    model = vit()
    load_weights(model, str(tmp_path / "model.safetensors"))
    assert_scaled(model, expected)


def test_another_tag_brings_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """mobilenetv3_large_100's miil_in21k wants 0 and 1, ra_in1k ImageNet's."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    snapshot = tmp_path / "models--timm--mobilenetv3_large_100.miil_in21k" / "snapshots" / "0123"
    snapshot.mkdir(parents=True)
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text("0123")
    save_file(timm.create_model("mobilenetv3_large_100").state_dict(), snapshot / "model.safetensors")
    model = TimmBackbone("mobilenetv3_large_100.ra_in1k", head_channels=8, weights="miil_in21k")
    assert_scaled(model, timms("mobilenetv3_large_100.miil_in21k"))
    assert timms("mobilenetv3_large_100.ra_in1k") != timms("mobilenetv3_large_100.miil_in21k")


@pytest.mark.parametrize(
    "spoil",
    [
        lambda state: {"std": torch.zeros(1, 3, 1, 1)},
        lambda state: {"std": -state["std"]},
        lambda state: {"mean": torch.full((1, 3, 1, 1), float("nan"))},
        lambda state: {"mean": torch.zeros(1, 1, 1, 1)},
    ],
)
def test_a_file_with_a_scale_that_cannot_be_is_refused_and_nothing_filled(spoil: Any, tmp_path: Path) -> None:
    state = own_scale(vit()).state_dict()
    torch.save(state | spoil(state), tmp_path / "w.pth")
    model = vit()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(InputError, match=r"w\.pth: its mean and std") as caught:
        load_weights(model, str(tmp_path / "w.pth"))
    assert "\n" not in str(caught.value)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("mobilenetv2_100_imagenet", "mobilenetv2_100"),
        ("mobilenetv2_100_movenet", "mobilenetv2_100"),
        ("tf_efficientnet_lite0_imagenet", "tf_efficientnet_lite0"),
        ("tf_efficientnet_lite2_imagenet", "tf_efficientnet_lite2"),
    ],
)
def test_real_weights_are_scaled_as_they_were_trained(file: str, name: str, shared: Path) -> None:
    path = shared / "weights" / f"{file}.safetensors"
    expected = ((127.5,) * 3, (127.5,) * 3) if "lite" in file else IMAGENETS
    assert_scaled(FeaturePyramid(name, head_channels=8, weights=os.fspath(path)), expected)
