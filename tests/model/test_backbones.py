"""Every backbone, because it exists: shapes, gradients, names, a step down; and the published sizes."""

from __future__ import annotations

import importlib
import pkgutil
import subprocess
import sys

import pytest
import timm
import torch

import catpose.model.backbones
from catpose.errors import InputError
from catpose.model.backbones.hrnet import HRNet
from catpose.model.backbones.mobilenet import MobileNetV2
from catpose.model.backbones.pyramid import FeaturePyramid
from catpose.model.backbones.resnest import ResNeSt
from catpose.model.backbones.resnet import ResNet
from catpose.model.backbones.timm_backbone import TimmBackbone
from catpose.model.backbones.vit import ViT
from catpose.model.pose import PoseModel

for module in pkgutil.iter_modules(catpose.model.backbones.__path__):
    importlib.import_module(f"catpose.model.backbones.{module.name}")
EVERY = [backbone for backbone in PoseModel.__subclasses__() if backbone.__module__.startswith("catpose.")]
REQUIRED = {TimmBackbone: {"name": "resnet18"}}

VARIANTS = [  # what the classes' defaults leave out
    (ViT, {"name": "vit_small_patch16_dinov3.lvd1689m"}),
    (ViT, {"name": "vit_tiny_patch16_224"}),
    (TimmBackbone, {"name": "convnext_atto"}),
    (TimmBackbone, {"name": "mobilenetv3_small_100", "head_channels": 16}),
    (TimmBackbone, {"name": "xcit_nano_12_p16_224"}),
    (TimmBackbone, {"name": "regnety_002"}),
    (MobileNetV2, {"head_channels": 64}),
]
CASES = [(backbone, REQUIRED.get(backbone, {})) for backbone in EVERY] + VARIANTS
#: Whose training takes tenths of seconds.
QUICK = (FeaturePyramid, MobileNetV2, TimmBackbone)
MARKED = [
    pytest.param(case, marks=[] if case[0] in QUICK and case not in VARIANTS else pytest.mark.slow) for case in CASES
]


def build(backbone, **arguments):
    torch.manual_seed(0)
    return backbone(**arguments, weights=None)


def crops(n, width, height, seed=0):
    return torch.randint(0, 256, (n, height, width, 3), generator=torch.Generator().manual_seed(seed)).to(torch.uint8)


def batch(n=2, size=64):
    points = torch.rand(n, 17, 2, generator=torch.Generator().manual_seed(1)) * (size - 1)
    return {"crop": crops(n, size, size), "keypoints_crop": points, "visibility": torch.full((n, 17), 2)}


IDS = ["-".join([backbone.__name__, *map(str, arguments.values())]) for backbone, arguments in CASES]
every_backbone = pytest.mark.parametrize(("backbone", "arguments"), CASES, ids=IDS)


@pytest.fixture(scope="module", params=MARKED, ids=IDS)
def built(request):
    """Each backbone with its arguments, and the model, which stays as it is."""
    backbone, arguments = request.param
    return backbone, arguments, build(backbone, **arguments).eval()


def test_heatmaps_are_a_quarter_of_any_crop_and_the_same_again(built):
    _, _, model = built
    with torch.no_grad():
        for width, height in ((64, 96), (96, 64)):
            heatmaps = model(crops(1, width, height))
            assert heatmaps.shape == (1, 17, height // 4, width // 4)
            assert heatmaps.isfinite().all()
        assert torch.equal(heatmaps, model(crops(1, 96, 64)))


@pytest.mark.parametrize("case", MARKED, ids=IDS)
def test_every_parameter_gets_a_gradient_and_a_few_steps_lower_the_loss(case):
    """Without a gradient for each, training on several devices stops."""
    backbone, arguments = case
    model = build(backbone, **arguments).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    losses = []
    for _ in range(4):
        loss = model.loss(model(batch()["crop"]), batch())
        optimizer.zero_grad()
        loss.backward()
        assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


def test_a_state_dict_is_backbone_head_and_scale_of_pictures_and_fills_another_model(built):
    backbone, arguments, model = built
    state = model.state_dict()
    assert {name.split(".")[0] for name in state} == {"backbone", "head", "mean", "std"}
    torch.manual_seed(1)
    other = backbone(**arguments, weights=None).eval()
    with torch.no_grad():
        assert not all(torch.equal(value, state[name]) for name, value in other.state_dict().items())
        other.load_state_dict(state)
        assert torch.equal(other(crops(1, 64, 64)), model(crops(1, 64, 64)))


@pytest.mark.one_in(3)
@pytest.mark.parametrize("backbone", [ResNet, ResNeSt, HRNet, ViT, MobileNetV2])
def test_the_backbones_names_are_timms(backbone):
    """So that timm's files fit without renaming."""
    with torch.device("meta"):
        model = build(backbone)
        names = set(timm.create_model(model.timm_name, pretrained=False).state_dict())
    assert {name.removeprefix("backbone.") for name in model.state_dict() if name.startswith("backbone.")} <= names


@pytest.mark.one_in(3)
@pytest.mark.parametrize(
    ("backbone", "arguments", "millions"),  # multiply–adds: tests/cost/test_metrics.py
    [
        (ResNet, {"depth": 50}, 34.00),
        (ResNet, {"depth": 101}, 52.99),
        (ResNet, {"depth": 152}, 68.64),
        (ResNeSt, {"depth": 50}, 35.93),
        (ResNeSt, {"depth": 101}, 56.72),
        (HRNet, {"width": 32}, 28.54),
        (HRNet, {"width": 48}, 63.60),
        (ViT, {"name": "vit_small_patch16_224"}, 24.32),
        (ViT, {"name": "vit_small_patch14_dinov2"}, 24.32),
        (ViT, {"name": "vit_base_patch16_224.mae"}, 90.04),
    ],
)
def test_parameters_are_as_published(backbone, arguments, millions):
    with torch.device("meta"):
        model = backbone(**arguments, weights=None)
    assert round(sum(p.numel() for p in model.parameters()) / 1e6, 2) == millions


def test_the_widest_mobilenet_has_movenet_thunders_maps_and_no_weights_of_timms():
    model = build(FeaturePyramid, name="mobilenetv2_175", head_channels=8)
    assert model.backbone.feature_info.channels() == [40, 56, 168, 560]
    assert build(MobileNetV2, width_percent=175).timm_name == model.timm_name == "mobilenetv2_175"
    with pytest.raises(InputError, match=r"^model\.weights=imagenet: [^\n]*$"):
        FeaturePyramid("mobilenetv2_175")


def test_hrnet_is_the_pure_branch_at_stride_4():
    """The same network wired by hand from timm's whole one: its last stage's first branch, no incre modules."""
    model = build(HRNet, width=18).eval()
    whole = timm.create_model("hrnet_w18", pretrained=False).eval()
    state = {name.removeprefix("backbone."): t for name, t in model.state_dict().items() if "backbone." in name}
    missing = whole.load_state_dict(state, strict=False)
    assert missing.unexpected_keys == []
    picture = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        x = whole.act2(whole.bn2(whole.conv2(whole.act1(whole.bn1(whole.conv1(picture))))))
        expected = model.head.final(whole.stages(x)[0])
        torch.testing.assert_close(model.head(model.features(picture)), expected)


def test_vit_is_the_normalised_tokens_as_a_map():
    model = build(ViT, name="vit_tiny_patch16_224", drop_path_rate=0.0).eval()
    picture = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        tokens = model.backbone.forward_features(picture)[:, 1:]  # without the class token
        torch.testing.assert_close(model.features(picture), tokens.transpose(1, 2).reshape(2, -1, 4, 6))


@pytest.mark.parametrize(
    ("backbone", "arguments", "words"),
    [
        (TimmBackbone, {"name": "resnet51"}, r"model\.name: timm has no backbone 'resnet51'\. Did you mean resnet\d+"),
        (TimmBackbone, {"name": "resnet50.nobodys"}, r"model\.name: .*resnet50.*nobodys"),
        (TimmBackbone, {"name": "resnet18", "options": {"no_such_option": 1}}, r"model\.name: .*no_such_option"),
        (TimmBackbone, {"name": "vit_small_patch14_dinov2"}, r"stride 14 .*patch"),
        (ViT, {"name": "resnet18"}, r"model\.name: timm can't build resnet18"),
        (ViT, {"name": "vit_smal_patch16_224"}, r"Did you mean vit_small_patch16_224"),
        (ResNet, {"head_channels": -1}, r"model\.head_channels"),
    ],
)
def test_what_cannot_be_built_is_one_line(backbone, arguments, words):
    with pytest.raises(InputError, match=words) as caught:
        build(backbone, **arguments)
    assert "\n" not in str(caught.value)


def test_a_crop_size_that_a_fixed_backbone_refuses_is_one_line():
    model = build(TimmBackbone, name="vit_tiny_patch16_224").eval()
    with pytest.raises(InputError, match=r"data\.input_size"):
        model(crops(1, 256, 256))
    model = build(TimmBackbone, name="vit_tiny_patch16_224", options={"img_size": [64, 96]}).eval()
    assert model(crops(1, 96, 64)).shape == (1, 17, 16, 24)


def test_a_network_of_ours_has_its_name_whichever_backbone_is_imported_first():
    code = "from catpose.model.backbones.pyramid import FeaturePyramid; FeaturePyramid('mobilenetv2_175', weights=None)"
    subprocess.run([sys.executable, "-c", code], check=True)
