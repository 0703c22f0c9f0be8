"""Weights of other layouts land where they belong: tensor by tensor, and in what the whole network computes."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import timm
import torch
import torchvision
from huggingface_hub import constants
from layouts import PoseHighResolutionNet, PoseResNet, as_mmpose, randomised
from safetensors.torch import save_file
from skeletons import OTHERS
from torch import Tensor, nn

from catpose.errors import InputError
from catpose.model.backbones.hrnet import HRNet
from catpose.model.backbones.mobilenet import MobileNetV2
from catpose.model.backbones.resnest import ResNeSt
from catpose.model.backbones.resnet import ResNet
from catpose.model.backbones.timm_backbone import TimmBackbone
from catpose.model.backbones.vit import ViT
from catpose.model.head import DeconvolutionHead
from catpose.model.pose import PoseModel
from catpose.model.simcc import SimCC
from catpose.model.weights import load_weights
from catpose.skeleton import AP10K, Skeleton

State = dict[str, Tensor]
# What MMPose's checkpoints carry beside the weights: text, numpy numbers and arrays.
META = {"epoch": 210, "config": "model = dict()", "dataset_meta": {"sigmas": np.full(17, 0.05), "n": np.int64(17)}}


def small() -> PoseModel:
    """A model of two megabytes, for what doesn't depend on the architecture."""
    return TimmBackbone("hrnet_w18_small", head_channels=8, weights=None)


def official_name(ours: str) -> str:
    """Our name of a tensor to the one in the official HRNet and SimpleBaseline code, written out by hand."""
    part, name = ours.split(".", 1)
    return name if part == "backbone" else name.replace("deconv.", "deconv_layers.").replace("final.", "final_layer.")


def mmpose_name(head: str) -> Callable[[str], str]:
    return lambda ours: f"{'backbone' if ours.startswith('backbone.') else head}.{official_name(ours)}"


def assert_holds(model: nn.Module, published: State, name_of: Callable[[str], str]) -> None:
    """Every weight of `model` is the published one of that name."""
    for name, tensor in model.state_dict().items():
        if "num_batches" not in name and name not in ("mean", "std"):
            assert torch.equal(tensor, published[name_of(name)]), name


def all_there(report: str) -> bool:
    """Whether it tells of nothing that was left over on either side."""
    first, last = report.splitlines()
    return "backbone tensors" in first and last.startswith("  pictures are scaled by ")


def assert_computes(ours: Tensor, theirs: Tensor) -> None:
    scale = theirs.std()
    assert scale > 1e-3, "the independent network's output says nothing"
    torch.testing.assert_close(ours / scale, theirs / scale, rtol=0, atol=1e-4)


PUBLISHED = {
    "official HRNet": (PoseHighResolutionNet, HRNet, lambda state: state, official_name),
    "official SimpleBaseline": (PoseResNet, ResNet, lambda state: state, official_name),
    "MMPose 1 HRNet": (
        PoseHighResolutionNet,
        HRNet,
        lambda state: {"meta": META, "state_dict": as_mmpose(state, "head")},
        mmpose_name("head"),
    ),
    "MMPose 0 ResNet": (
        PoseResNet,
        ResNet,
        lambda state: {"meta": META, "state_dict": as_mmpose(state, "keypoint_head")},
        mmpose_name("keypoint_head"),
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("layout", PUBLISHED)
def test_published_pose_checkpoint(layout: str, tmp_path: Path) -> None:
    make, pose_model, saved, name_of = PUBLISHED[layout]
    published = randomised(make())
    torch.save(saved(published.state_dict()), tmp_path / "published.pth")
    torch.manual_seed(1)
    model = pose_model(weights=None, flip_test=False).eval()
    report = load_weights(model, str(tmp_path / "published.pth"))
    assert all_there(report)
    assert layout.split(" ", 1)[0] in report

    content = torch.load(tmp_path / "published.pth", weights_only=False)  # our own file, written above
    stored = content.get("state_dict", content)
    assert_holds(model, stored, name_of)
    assert {name_of(name) for name in model.state_dict() if name not in ("mean", "std")} == set(stored)

    crop = torch.randint(0, 256, (2, 64, 96, 3), dtype=torch.uint8)
    picture = (crop.permute(0, 3, 1, 2) / 255 - torch.tensor([0.485, 0.456, 0.406])[:, None, None]) / torch.tensor(
        [0.229, 0.224, 0.225]
    )[:, None, None]
    with torch.no_grad():
        assert_computes(model(crop), published(picture))


@pytest.mark.slow
def test_independent_networks_have_the_published_sizes() -> None:
    assert sum(p.numel() for p in PoseHighResolutionNet().parameters()) == pytest.approx(28.54e6, abs=5e3)
    assert sum(p.numel() for p in PoseResNet().parameters()) == pytest.approx(34.00e6, abs=5e3)
    assert len(PoseHighResolutionNet().state_dict()) == 1754


@pytest.mark.slow
def test_torchvision_resnet(tmp_path: Path) -> None:
    published = randomised(torchvision.models.resnet50())
    torch.save(published.state_dict(), tmp_path / "resnet50.pth")
    model = ResNet(weights=None).eval()
    head = {name: tensor.clone() for name, tensor in model.head.state_dict().items()}
    report = load_weights(model, str(tmp_path / "resnet50.pth"))
    assert "not used: fc (2)" in report
    assert_holds(model.backbone, published.state_dict(), lambda name: name)
    assert all(torch.equal(tensor, head[name]) for name, tensor in model.head.state_dict().items())
    picture = torch.randn(2, 3, 64, 64)
    trunk = nn.Sequential(*list(published.children())[:-2])
    with torch.no_grad():
        assert_computes(model.features(picture), trunk(picture))


def test_torchvision_mobilenet(tmp_path: Path) -> None:
    published = randomised(torchvision.models.mobilenet_v2())
    torch.save(published.state_dict(), tmp_path / "mobilenet_v2.pth")
    model = MobileNetV2(weights=None, head_channels=8).eval()
    report = load_weights(model, str(tmp_path / "mobilenet_v2.pth"))
    assert "torchvision MobileNetV2" in report
    assert sum(t.numel() for t in model.backbone.parameters()) == sum(
        t.numel() for t in published.features[:18].parameters()
    )
    picture = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert_computes(model.features(picture), published.features[:18](picture))


@pytest.mark.slow
def test_mmpose_resnest(tmp_path: Path) -> None:
    """MMPose's ResNeSt and ResNetV1d: a stem of three ConvModules, no place-holder in layer1's shortcut."""
    model = randomised(ResNeSt(weights=None, head_channels=8))
    stem = {"conv1.0": "stem.0.conv", "conv1.1": "stem.0.bn", "conv1.3": "stem.1.conv", "conv1.4": "stem.1.bn"}
    stem |= {"conv1.6": "stem.2.conv", "bn1": "stem.2.bn"}
    shortcut = {"layer1.0.downsample.1": "layer1.0.downsample.0", "layer1.0.downsample.2": "layer1.0.downsample.1"}

    def mmpose_resnest_name(ours: str) -> str:
        name = mmpose_name("head")(ours).removeprefix("backbone.")
        module, parameter = name.rsplit(".", 1)
        module = {**stem, **shortcut}.get(module, module)
        return f"{module}.{parameter}" if ours.startswith("head.") else f"backbone.{module}.{parameter}"

    stored = {
        mmpose_resnest_name(name): tensor.clone()
        for name, tensor in model.state_dict().items()
        if name not in ("mean", "std")
    }
    torch.save({"state_dict": stored}, tmp_path / "resnest.pth")
    fresh = ResNeSt(weights=None, head_channels=8)
    assert all_there(load_weights(fresh, str(tmp_path / "resnest.pth")))
    assert_holds(fresh, stored, mmpose_resnest_name)


@pytest.mark.one_in(4)
@pytest.mark.parametrize(
    "name", ["convnext_atto", "densenet121", "swin_tiny_patch4_window7_224", "vit_tiny_patch16_224"]
)
def test_timm_names_of_feature_networks(name: str, tmp_path: Path) -> None:
    """timm flattens or wraps some networks when it takes features from them: the files have the plain names."""
    published = randomised(timm.create_model(name))
    save_file(published.state_dict(), tmp_path / "timm.safetensors")
    model = TimmBackbone(name, head_channels=8, weights=None)
    load_weights(model, str(tmp_path / "timm.safetensors"))
    stored = {key.replace(".", "_"): tensor for key, tensor in published.state_dict().items()}
    for key, tensor in model.backbone.state_dict().items():
        assert torch.equal(tensor, stored[key.removeprefix("model.").replace(".", "_")]), key


def test_transformer_of_other_patches_and_size_as_timm_loads_it(tmp_path: Path) -> None:
    """Patches of 14 px and 8 x 8 positions, for a network of 16 px and 16 x 16."""
    published = randomised(timm.create_model("test_vit", patch_size=14, img_size=112, num_classes=0))
    save_file(published.state_dict(), tmp_path / "vit.safetensors")
    model = ViT("test_vit", head_channels=8, weights=str(tmp_path / "vit.safetensors"))
    reference = timm.create_model(
        "test_vit",
        pretrained=True,
        pretrained_cfg_overlay={"file": str(tmp_path / "vit.safetensors"), "num_classes": 0},
        patch_size=16,
        img_size=256,
        num_classes=0,
    )
    assert model.backbone.pos_embed.shape[1] == 16 * 16 + 1
    assert_holds(model.backbone, reference.state_dict(), lambda name: name)


def test_original_jax_release_of_a_transformer(tmp_path: Path) -> None:
    """Google's .npz: kernels are (in, out) or (height, width, in, out), attention is kept by head."""
    vit = randomised(timm.create_model("test_vit", img_size=256, num_classes=0))
    state = {name: tensor.numpy() for name, tensor in vit.state_dict().items()}
    width, heads = vit.embed_dim, vit.blocks[0].attn.num_heads
    jax = {
        "cls": state["cls_token"],
        "embedding/kernel": state["patch_embed.proj.weight"].transpose(2, 3, 1, 0),
        "embedding/bias": state["patch_embed.proj.bias"],
        "Transformer/posembed_input/pos_embedding": state["pos_embed"],
        "Transformer/encoder_norm/scale": state["norm.weight"],
        "Transformer/encoder_norm/bias": state["norm.bias"],
    }
    for i in range(len(vit.blocks)):
        ours, theirs = f"blocks.{i}.", f"Transformer/encoderblock_{i}/"
        attention = theirs + "MultiHeadDotProductAttention_1/"
        weights = state[ours + "attn.qkv.weight"].reshape(3, heads, width // heads, width).transpose(0, 3, 1, 2)
        for name, kernel, bias in zip(
            ("query", "key", "value"), weights, state[ours + "attn.qkv.bias"].reshape(3, heads, -1), strict=True
        ):
            jax |= {f"{attention}{name}/kernel": kernel, f"{attention}{name}/bias": bias}
        jax[f"{attention}out/kernel"] = state[ours + "attn.proj.weight"].T.reshape(heads, width // heads, width)
        jax[f"{attention}out/bias"] = state[ours + "attn.proj.bias"]
        for j, layer in enumerate(("fc1", "fc2")):
            jax[f"{theirs}MlpBlock_3/Dense_{j}/kernel"] = state[f"{ours}mlp.{layer}.weight"].T
            jax[f"{theirs}MlpBlock_3/Dense_{j}/bias"] = state[f"{ours}mlp.{layer}.bias"]
        for j, layer in ((0, "norm1"), (2, "norm2")):
            jax[f"{theirs}LayerNorm_{j}/scale"] = state[f"{ours}{layer}.weight"]
            jax[f"{theirs}LayerNorm_{j}/bias"] = state[f"{ours}{layer}.bias"]
    np.savez(tmp_path / "vit.npz", **jax)
    model = ViT("test_vit", head_channels=8, weights=str(tmp_path / "vit.npz"))
    loaded = model.backbone.state_dict()
    assert all(np.array_equal(loaded[name].numpy(), state[name]) for name in state if "ls" not in name)


def test_vitpose_names_fit(tmp_path: Path) -> None:
    published = randomised(
        timm.create_model("test_vit", img_size=256, num_classes=0, class_token=False, global_pool="")
    )
    stored = {f"backbone.{name}": tensor for name, tensor in published.state_dict().items()}
    stored = {name.replace("backbone.norm.", "backbone.last_norm."): tensor for name, tensor in stored.items()}
    stored["backbone.pos_embed"] = torch.randn(1, 1 + 16 * 12, published.embed_dim)  # of crops of 192 x 256
    torch.save({"state_dict": stored}, tmp_path / "vitpose.pth")
    model = ViT("test_vit", head_channels=8, weights=None)
    positions = model.backbone.pos_embed.detach().clone()
    report = load_weights(model, str(tmp_path / "vitpose.pth"))
    assert torch.equal(model.backbone.norm.weight, stored["backbone.last_norm.weight"])
    assert torch.equal(model.backbone.pos_embed, positions)  # no square grid: not guessed at
    assert "another shape: backbone.pos_embed is (1, 193, 64), here (1, 257, 64)" in report
    assert "backbone.cls_token (1)" in report


def simcc() -> PoseModel:
    """A model whose codec has weights too."""
    return TimmBackbone("test_resnet", head_channels=8, weights=None, codec=SimCC(input_size=(64, 64)))


@pytest.mark.parametrize("make", [small, simcc, lambda: ViT("test_vit", head_channels=8, weights=None)])
def test_checkpoint_of_our_own(make: Callable[[], PoseModel], tmp_path: Path) -> None:
    """What the trainer saves, hyperparameters and optimiser state beside the weights."""
    trained = randomised(make())
    trainer = pl.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, default_root_dir=tmp_path)
    trainer.strategy.connect(trained)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    model = make()
    assert all_there(load_weights(model, str(tmp_path / "last.ckpt")))
    assert_holds(model, trained.state_dict(), lambda name: name)


@pytest.mark.one_in(4)
@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: {f"module.{name}": t for name, t in state.items()},
        lambda state: {"state_dict": {f"model.{name}": t for name, t in state.items()}, "epoch": 3},
        lambda state: {"model": {f"_orig_mod.module.{name}": t for name, t in state.items()}},
        lambda state: {"student": {}, "teacher": {f"module.{name}": t for name, t in state.items()}},
        lambda state: {"args": Namespace(lr=0.1), "best": np.float64(0.5), "model_state": state},
        lambda state: {n.replace("backbone.", "backbone.model."): t for n, t in state.items()},  # DeepLabCut's
    ],
)
def test_wrappers_are_taken_off(wrap: Callable[[State], dict[str, object]], tmp_path: Path) -> None:
    trained = randomised(small())
    torch.save(wrap(trained.state_dict()), tmp_path / "wrapped.pth")
    model = small()
    load_weights(model, str(tmp_path / "wrapped.pth"))
    assert_holds(model, trained.state_dict(), lambda name: name)


@pytest.mark.one_in(4)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_become_ours(dtype: torch.dtype, tmp_path: Path) -> None:
    stored = {n: t.to(dtype) if t.is_floating_point() else t for n, t in randomised(small()).state_dict().items()}
    save_file(stored, tmp_path / "w.safetensors")
    model = small()
    load_weights(model, str(tmp_path / "w.safetensors"))
    assert {t.dtype for t in model.parameters()} == {torch.float32}
    assert_holds(model, {name: tensor.float() for name, tensor in stored.items()}, lambda name: name)


@pytest.mark.slow
def test_partial_match_is_said(tmp_path: Path) -> None:
    published = randomised(PoseResNet(keypoints=39)).state_dict()
    published = {name: t for name, t in published.items() if not name.startswith("layer1.0.")}
    torch.save(published, tmp_path / "other.pth")
    model = ResNet(weights=None)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    report = load_weights(model, str(tmp_path / "other.pth")).splitlines()
    assert "245 of 265 backbone tensors, 15 of 17 head tensors" in report[0]
    assert report[1].strip().startswith("another shape: head.final.weight is (39, 256, 1, 1), here (17, 256, 1, 1)")
    assert report[2].strip() == "at their random start: backbone.layer1 (20), head.final (2)"
    for name, tensor in model.state_dict().items():
        kept = name.startswith(("backbone.layer1.0.", "head.final"))
        if "num_batches" not in name and name not in ("mean", "std"):
            assert torch.equal(tensor, before[name] if kept else published[official_name(name)]), name


@pytest.mark.slow
def test_deeper_network_is_said(tmp_path: Path) -> None:
    torch.save(torchvision.models.resnet101().state_dict(), tmp_path / "resnet101.pth")
    assert "not used: layer3 (255), fc (2)" in load_weights(ResNet(weights=None), str(tmp_path / "resnet101.pth"))


REFUSED: dict[str, tuple[Callable[[State], State], str]] = {
    "another network": (lambda state: torchvision.models.resnet18().state_dict(), r"fits 0% .* layer1 \("),
    "too little of it": (
        lambda state: {
            name: tensor for name, tensor in state.items() if "incre_modules" not in name and "stage4" not in name
        },
        r"fits \d\d% of the backbone",
    ),
    "other shapes": (lambda state: {name: tensor[..., None] for name, tensor in state.items()}, "fits 0%"),
    "NaN": (lambda state: {name: tensor / 0 * 0 for name, tensor in state.items()}, "NaN or infinity"),
    "infinity in half precision's cast": (
        lambda state: {n: t.double() + 1e300 if n.endswith("final.bias") else t for n, t in state.items()},
        r"head\.final\.bias holds NaN or infinity",
    ),
    "integers": (lambda state: {name: tensor.to(torch.int8) for name, tensor in state.items()}, "int8"),
    "quantised": (
        lambda state: {n: torch.quantize_per_tensor(t.float(), 0.1, 0, torch.qint8) for n, t in state.items()},
        "quantised",
    ),
    "sparse": (lambda state: {name: tensor.to_sparse() for name, tensor in state.items()}, "sparse"),
    "without values": (lambda state: {name: tensor.to("meta") for name, tensor in state.items()}, "empty"),
}


@pytest.mark.one_in(4)
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", REFUSED)
def test_unusable_weights_leave_the_model_untouched(kind: str, tmp_path: Path) -> None:
    spoil, wording = REFUSED[kind]
    model = small()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    torch.save(spoil(before), tmp_path / "bad.pth")
    with pytest.raises(InputError, match=wording) as caught:
        load_weights(model, str(tmp_path / "bad.pth"))
    assert str(tmp_path / "bad.pth") in str(caught.value)
    assert "--model.weights null" in str(caught.value) or "as .safetensors" in str(caught.value)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


class OwnBackbone(PoseModel):
    """A backbone that isn't timm's."""

    def __init__(self, weights: str | None, **kwargs: Any) -> None:
        super().__init__(nn.Conv2d(3, 4, 4, stride=4), DeconvolutionHead(4, 4), weights=weights, **kwargs)


def test_own_backbone_loads_its_own_checkpoint(tmp_path: Path) -> None:
    trained = randomised(OwnBackbone(weights=None))
    torch.save({"state_dict": trained.state_dict()}, tmp_path / "own.ckpt")
    assert_holds(OwnBackbone(str(tmp_path / "own.ckpt")), trained.state_dict(), lambda name: name)


@pytest.mark.parametrize("knows", [True, False])
@pytest.mark.parametrize("skeleton", OTHERS.values(), ids=lambda skeleton: skeleton.name)
def test_heatmaps_of_the_same_keypoints_come_along(skeleton: Skeleton, knows: bool, tmp_path: Path) -> None:
    """From AP-10K's 17, in a checkpoint that says so or in 0.1.0's, which had no others."""
    trained = randomised(OwnBackbone(weights=None))
    checkpoint = {"state_dict": trained.state_dict(), "catpose": "settings"}
    torch.save(checkpoint | ({"skeleton": AP10K.to_plain()} if knows else {}), tmp_path / "own.ckpt")
    torch.manual_seed(0)
    fresh = OwnBackbone(weights=None, skeleton=skeleton)
    torch.manual_seed(0)
    model = OwnBackbone(weights=str(tmp_path / "own.ckpt"), skeleton=skeleton)
    assert_holds(model.backbone, trained.backbone.state_dict(), lambda name: name)
    for k, name in enumerate(skeleton.names):
        k_there = AP10K.names.index(name) if name in AP10K.names else None
        expected = fresh.head.final if k_there is None else trained.head.final
        for ours, theirs in zip(model.head.final.parameters(), expected.parameters(), strict=True):
            assert torch.equal(ours[k], theirs[k if k_there is None else k_there])


@pytest.mark.parametrize(
    ("make", "wording"),
    [
        (lambda: OwnBackbone("imagenet"), "isn't one of timm's"),
        (lambda: TimmBackbone("mobilenetv2_035", weights="imagenet"), "no pretrained weights of mobilenetv2_035"),
        (lambda: ResNet(weights="a9_in1k"), r"no such file, nor tag of timm's resnet50 \(.*a1_in1k"),
        (lambda: ResNet(weights="weights/resnet50.pth"), "weights/resnet50.pth: no such file"),
        (lambda: ResNet(weights="resnet50.pth"), "resnet50.pth: no such file"),
        (lambda: OwnBackbone("w"), "w: no such file"),
    ],
)
def test_weights_that_are_nowhere(make: Callable[[], PoseModel], wording: str) -> None:
    with pytest.raises(InputError, match=wording) as caught:
        make()
    assert "\n" not in str(caught.value)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The Hugging Face hub out of reach, and its empty cache; as HF_ENDPOINT and HF_HOME set them at its import."""
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    return tmp_path


@pytest.mark.one_in(4)
@pytest.mark.parametrize("offline", [False, True])
@pytest.mark.parametrize(("weights", "tag"), [("imagenet", "tv_in1k"), ("a1_in1k", "a1_in1k")])
def test_no_network_is_one_line_at_once(
    weights: str, tag: str, offline: bool, hub: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)
    with pytest.raises(InputError) as caught:
        ResNet(weights=weights)
    assert str(caught.value).startswith(f"model.weights={weights}: timm/resnet50.{tag} can't be fetched (")
    assert str(caught.value).endswith("--model.weights FILE (a local file), or --model.weights null for a random start")
    assert "\n" not in str(caught.value)
    assert "Retrying" not in caplog.text  # left to itself, the hub's client tries for 23 s, and timm twice that


@pytest.mark.parametrize("file", ["model.safetensors", "pytorch_model.bin"])
def test_weights_in_the_hubs_cache_need_no_network(file: str, hub: Path) -> None:
    model = hub / "models--timm--mobilenetv2_100.ra_in1k"
    (model / "refs").mkdir(parents=True)
    (model / "refs" / "main").write_text("0123")
    (model / "snapshots" / "0123").mkdir(parents=True)
    published = randomised(timm.create_model("mobilenetv2_100")).state_dict()
    (save_file if file.endswith("safetensors") else torch.save)(published, model / "snapshots" / "0123" / file)
    assert_holds(MobileNetV2(head_channels=8).backbone, published, lambda name: name)


@pytest.mark.realdata
def test_real_imagenet_weights(shared: Path) -> None:
    file = shared / "weights" / "mobilenetv2_100_imagenet.safetensors"
    model = MobileNetV2(weights=str(file)).eval()
    whole = timm.create_model("mobilenetv2_100", pretrained=True, pretrained_cfg_overlay={"file": str(file)}).eval()
    picture = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(model.features(picture), whole.blocks(whole.bn1(whole.conv_stem(picture))))
    assert load_weights(model, str(file)).splitlines()[0].endswith("255 of 255 backbone tensors, 0 of 17 head tensors")
