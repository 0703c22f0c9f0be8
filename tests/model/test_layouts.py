"""Published models of others, made up with their real names and shapes: what comes along, and under which keypoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from layouts import randomised
from safetensors.torch import save_file
from torch import Tensor, nn

from catpose.errors import InputError
from catpose.model.backbones.hrnet import HRNet
from catpose.model.backbones.vit import ViT
from catpose.model.head import DeconvolutionHead
from catpose.model.layouts import SUPERANIMAL_QUADRUPED
from catpose.model.pose import PoseModel
from catpose.model.weights import load_weights
from catpose.skeleton import AP10K, COCO_PERSON, skeleton_of

State = dict[str, Tensor]
slow = pytest.mark.slow
#: superanimal_quadruped.yaml's bodyparts that the conversion table or Animal-Pose's names give an AP-10K name.
QUADRUPED = {"neck_base": "neck", "tail_base": "root_of_tail"}
for _side in ("left", "right"):
    QUADRUPED |= {f"front_{_side}_thai": f"{_side}_shoulder", f"front_{_side}_knee": f"{_side}_elbow"}
    QUADRUPED |= {f"front_{_side}_paw": f"{_side}_front_paw", f"back_{_side}_thai": f"{_side}_hip"}
    QUADRUPED |= {f"back_{_side}_knee": f"{_side}_knee", f"back_{_side}_paw": f"{_side}_back_paw"}
BODYPARTS = (
    *("nose", "upper_jaw", "lower_jaw", "mouth_end_right", "mouth_end_left", "right_eye", "right_earbase"),
    *("right_earend", "right_antler_base", "right_antler_end", "left_eye", "left_earbase", "left_earend"),
    *("left_antler_base", "left_antler_end", "neck_base", "neck_end", "throat_base", "throat_end", "back_base"),
    *("back_end", "back_middle", "tail_base", "tail_end", "front_left_thai", "front_left_knee", "front_left_paw"),
    *("front_right_thai", "front_right_knee", "front_right_paw", "back_left_paw", "back_left_thai"),
    *("back_right_thai", "back_left_knee", "back_right_knee", "back_right_paw", "belly_bottom", "body_middle_right"),
    "body_middle_left",
)


def test_the_quadrupeds_keypoints_are_the_published_ones() -> None:
    assert tuple(QUADRUPED.get(name, name) for name in BODYPARTS) == SUPERANIMAL_QUADRUPED
    assert {*AP10K.names} <= {*SUPERANIMAL_QUADRUPED}


class SuperAnimal(nn.Module):
    """DeepLabCut 3's HRNet: timm's with all branches, and a deconvolution of 1x1 to 39 heatmaps."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.backbone = nn.ModuleDict({"model": timm.create_model(
            f"hrnet_w{width}", features_only=True, feature_location="", out_indices=(1, 2, 3, 4)
        )})  # fmt: skip
        head = nn.Module()
        head.deconv_layers = nn.Sequential(nn.ConvTranspose2d(width, 39, 1))
        self.heads = nn.ModuleDict({"bodypart": nn.ModuleDict({"heatmap_head": head})})

    def forward(self, picture: Tensor) -> Tensor:
        head: Any = self.heads["bodypart"]["heatmap_head"]  # type: ignore[index]
        return head.deconv_layers(self.backbone["model"](picture)[0])


@pytest.mark.slow
@pytest.mark.parametrize("width", [18, pytest.param(32, marks=slow)])
def test_superanimal(width: int, tmp_path: Path) -> None:
    """The heatmaps of the 17 are theirs, of the same picture scaled by ImageNet's mean and std."""
    published = randomised(SuperAnimal(width))
    torch.save({"model": published.state_dict(), "metadata": {"epoch": 200}}, tmp_path / "superanimal.pt")
    model = HRNet(width, weights=None).eval()  # type: ignore[arg-type]
    report = load_weights(model, str(tmp_path / "superanimal.pt"))
    assert "(DeepLabCut 3): " in report
    assert "heatmaps by name: 17 of 17 keypoints from the file's 39" in report
    crop = torch.randint(0, 256, (1, 64, 64, 3), dtype=torch.uint8)
    picture = (crop.permute(0, 3, 1, 2).float() - torch.tensor([123.675, 116.28, 103.53])[:, None, None]) / (
        torch.tensor([58.395, 57.12, 57.375])[:, None, None]
    )
    with torch.no_grad():
        ours, theirs = model(crop), published(picture)[:, [SUPERANIMAL_QUADRUPED.index(name) for name in AP10K.names]]
    torch.testing.assert_close(ours / theirs.std(), theirs / theirs.std(), rtol=0, atol=1e-4)


@pytest.mark.slow
def test_keypoints_that_ap10k_has_not_come_along_too(tmp_path: Path) -> None:
    published = randomised(SuperAnimal(18))
    torch.save({"model": published.state_dict()}, tmp_path / "superanimal.pt")
    model = HRNet(18, weights=None, skeleton=skeleton_of(("nose", "left_earend", "right_earend", "chin")))
    report = load_weights(model, str(tmp_path / "superanimal.pt"))
    assert "3 of 4 keypoints from the file's 39; at their random start: chin" in report
    weight = published.state_dict()["heads.bodypart.heatmap_head.deconv_layers.0.weight"]  # (in, out, 1, 1)
    assert torch.equal(model.head.final.weight[1], weight[:, BODYPARTS.index("left_earend")])  # type: ignore[union-attr,index]


def vitpose_plus(vit: ViT, part: int) -> State:
    """ViTMoE's names: `part` rows of each second layer are an expert's; five further heads; positions of 192 x 256."""
    state: State = {}
    generator = torch.Generator().manual_seed(3)
    for name, tensor in vit.backbone.state_dict().items():
        name = f"backbone.{name}".replace("backbone.norm.", "backbone.last_norm.")
        if ".mlp.fc2." in name:
            state[name], own = tensor[:-part], tensor[-part:]
            for i in range(6):
                other = torch.randn(own.shape, generator=generator)
                state[name.replace("fc2", f"experts.{i}")] = own if i == 3 else other
        elif "cls_token" not in name:
            state[name] = tensor
    state["backbone.pos_embed"] = torch.randn(1, 1 + 16 * 12, vit.backbone.embed_dim, generator=generator)  # type: ignore[arg-type]
    for i, prefix in enumerate(("keypoint_head", *(f"associate_keypoint_heads.{i}" for i in range(5)))):
        for name, tensor in vit.head.state_dict().items():
            name = name.replace("deconv.", "deconv_layers.").replace("final.", "final_layer.")
            if name.startswith("final_layer."):  # of as many heatmaps as the largest data
                tensor = torch.cat([tensor, torch.zeros(133 - 17, *tensor.shape[1:])]) if i == 3 else tensor
            state[f"{prefix}.{name}"] = tensor if i == 3 or not tensor.is_floating_point() else tensor + 1
    return state


def assert_same(model: PoseModel, published: PoseModel, but: tuple[str, ...]) -> None:
    for name, tensor in published.state_dict().items():
        if not name.startswith(("mean", "std", *but)) and "num_batches" not in name:
            assert torch.equal(model.state_dict()[name], tensor), name


@pytest.mark.parametrize(("name", "part"), [("test_vit", 16), pytest.param("vit_small_patch16_224", 192, marks=slow)])
def test_vitpose_plus_is_that_of_ap10k(name: str, part: int, tmp_path: Path) -> None:
    published = randomised(ViT(name, weights=None))
    assert isinstance(published, ViT)
    torch.save({"meta": {"epoch": 210}, "state_dict": vitpose_plus(published, part)}, tmp_path / "vitpose+.pth")
    model = ViT(name, weights=None)
    report = load_weights(model, str(tmp_path / "vitpose+.pth"))
    assert_same(model, published, ("backbone.cls_token", "backbone.pos_embed"))
    assert "(MMPose): " in report
    assert "another shape: backbone.pos_embed is (1, 193, " in report
    assert ("ViTPose-S has 12 heads of attention, this network 6" in report) == (name != "test_vit")


HF = {"patch_embed.proj": "embeddings.patch_embeddings.projection", "pos_embed": "embeddings.position_embeddings",
      "blocks": "encoder.layer", "attn.proj": "attention.output.dense", "norm1": "layernorm_before",
      "norm2": "layernorm_after", "last_norm": "layernorm", "keypoint_head": "head", "final_layer": "conv",
      "deconv_layers.0": "deconv1", "deconv_layers.1": "batchnorm1", "deconv_layers.3": "deconv2",
      "deconv_layers.4": "batchnorm2"}  # fmt: skip


def as_transformers(state: State) -> State:
    """ViTMoE's names to those of transformers, which has query, key and value apart and COCO's head alone."""
    found: State = {}
    for name, tensor in state.items():
        for theirs, new in HF.items():
            name = name.replace(theirs, new)
        if ".attn.qkv." in name:
            for part, rows in zip(("query", "key", "value"), tensor.chunk(3), strict=True):
                found[name.replace("attn.qkv", f"attention.attention.{part}")] = rows.contiguous()
        elif not name.startswith("associate_"):
            found[name] = tensor.contiguous()
    return found


def test_vitpose_plus_of_transformers(tmp_path: Path) -> None:
    """Its backbone is AP-10K's; its heatmaps are a person's, of whom a cat has eleven keypoints by name."""
    published = randomised(ViT("test_vit", weights=None))
    assert isinstance(published, ViT)
    state = as_transformers(vitpose_plus(published, 16))
    save_file(state, tmp_path / "model.safetensors")
    model = ViT("test_vit", weights=None)
    before = model.head.final.weight.detach().clone()  # type: ignore[union-attr,operator]
    report = load_weights(model, str(tmp_path / "model.safetensors"))
    assert "(ViTPose of transformers): " in report
    assert "heatmaps by name: 11 of 17 keypoints from the file's 17; at their random start: neck, " in report
    assert_same(model, published, ("backbone.cls_token", "backbone.pos_embed", "head."))
    person, weight = list(COCO_PERSON), model.head.final.weight  # type: ignore[union-attr]
    for k, name in enumerate(AP10K.names):
        expected = state["head.conv.weight"][person.index(name)] if name in person else before[k]
        assert torch.equal(weight[k], expected), name  # type: ignore[index]


class Small(PoseModel):
    """A model of a few numbers."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(nn.Conv2d(3, 4, 4, stride=4), DeconvolutionHead(4, 4), weights=None, **kwargs)


def mmpose(names: tuple[str, ...], width: int = 4) -> dict[str, Any]:
    """A checkpoint as MMEngine saves it, with what MMPose makes of a dataset's metainfo."""
    network = randomised(nn.ModuleDict({"backbone": nn.Conv2d(3, width, 4), "head": nn.ModuleDict(
        {"final_layer": nn.Conv2d(width, len(names), 1)}
    )}))  # fmt: skip
    ids = dict(enumerate(names))
    meta = {"dataset_name": "own", "keypoint_id2name": ids, "keypoint_name2id": {name: i for i, name in ids.items()}}
    sigmas = {"dataset_keypoint_weights": np.ones(len(names), np.float32), "sigmas": np.full(len(names), 0.05)}
    return {"meta": {"epoch": 1, "dataset_meta": meta | sigmas}, "state_dict": network.state_dict()}


#: AP-10K's and Animal-Pose's keypoints as MMPose calls them (configs/_base_/datasets/ap10k.py, animalpose.py).
MMPOSE_AP10K = (
    *("L_Eye", "R_Eye", "Nose", "Neck", "Root of tail", "L_Shoulder", "L_Elbow", "L_F_Paw", "R_Shoulder", "R_Elbow"),
    *("R_F_Paw", "L_Hip", "L_Knee", "L_B_Paw", "R_Hip", "R_Knee", "R_B_Paw"),
)
MMPOSE_ANIMAL_POSE = (
    *("L_Eye", "R_Eye", "L_EarBase", "R_EarBase", "Nose", "Throat", "TailBase", "Withers", "L_F_Elbow", "R_F_Elbow"),
    *("L_B_Elbow", "R_B_Elbow", "L_F_Knee", "R_F_Knee", "L_B_Knee", "R_B_Knee", "L_F_Paw", "R_F_Paw", "L_B_Paw"),
    "R_B_Paw",
)


def test_mmposes_own_words_are_understood(tmp_path: Path) -> None:
    """In AP-10K's order a head comes as it is; of Animal-Pose's 20 keypoints, whose elbow is AP-10K's shoulder, 17."""
    content = mmpose(MMPOSE_AP10K)
    torch.save(content, tmp_path / "ap10k.pth")
    model = Small()
    assert "by name" not in load_weights(model, str(tmp_path / "ap10k.pth"))
    assert torch.equal(model.head.final.weight, content["state_dict"]["head.final_layer.weight"])  # type: ignore[union-attr,arg-type]
    content = mmpose(MMPOSE_ANIMAL_POSE)
    torch.save(content, tmp_path / "animalpose.pth")
    report = load_weights(model, str(tmp_path / "animalpose.pth"))
    assert "heatmaps by name: 17 of 17 keypoints from the file's 20" in report
    weight = content["state_dict"]["head.final_layer.weight"]
    for ours, theirs in (("left_shoulder", "L_F_Elbow"), ("right_knee", "R_B_Knee"), ("neck", "Throat")):
        row = model.head.final.weight[AP10K.names.index(ours)]  # type: ignore[union-attr,index]
        assert torch.equal(row, weight[MMPOSE_ANIMAL_POSE.index(theirs)])


def test_a_skeletons_own_words_come_before_their_meaning(tmp_path: Path) -> None:
    content = mmpose(("L_Eye", "left_eye", "R_Eye", "right_eye"))
    torch.save(content, tmp_path / "epoch_1.pth")
    model = Small(skeleton=skeleton_of(("right_eye", "left_eye")))
    load_weights(model, str(tmp_path / "epoch_1.pth"))
    expected = content["state_dict"]["head.final_layer.weight"][[3, 1]]
    assert torch.equal(model.head.final.weight, expected)  # type: ignore[union-attr,arg-type]


@pytest.mark.parametrize("names", [tuple(COCO_PERSON), AP10K.names[::-1], ("nose", "tail_tip")])
def test_mmpose_tells_its_keypoints(names: tuple[str, ...], tmp_path: Path) -> None:
    content = mmpose(names)
    torch.save(content, tmp_path / "epoch_1.pth")
    torch.manual_seed(0)
    before = Small().head.final.weight.detach()  # type: ignore[union-attr,operator]
    torch.manual_seed(0)
    model = Small()
    report = load_weights(model, str(tmp_path / "epoch_1.pth"))
    shared = [name for name in AP10K.names if name in names]
    assert f"heatmaps by name: {len(shared)} of 17 keypoints from the file's {len(names)}" in report
    weight = content["state_dict"]["head.final_layer.weight"]
    for k, name in enumerate(AP10K.names):
        ours = model.head.final.weight[k]  # type: ignore[union-attr,index]
        assert torch.equal(ours, weight[names.index(name)] if name in names else before[k]), name


def test_mmpose_of_the_same_keypoints_is_taken_as_it_is(tmp_path: Path) -> None:
    content = mmpose(AP10K.names)
    torch.save(content, tmp_path / "epoch_1.pth")
    model = Small()
    assert "by name" not in load_weights(model, str(tmp_path / "epoch_1.pth"))
    assert torch.equal(model.head.final.weight, content["state_dict"]["head.final_layer.weight"])  # type: ignore[union-attr,arg-type]


@pytest.mark.parametrize("names", [{0: "nose", 2: "chin"}, {0: 1}, ["nose"], {"0": "nose"}])
def test_damaged_names_are_no_names(names: Any, tmp_path: Path) -> None:
    content = mmpose(AP10K.names)
    content["meta"]["dataset_meta"]["keypoint_id2name"] = names
    torch.save(content, tmp_path / "epoch_1.pth")
    assert "by name" not in load_weights(Small(), str(tmp_path / "epoch_1.pth"))


def test_another_network_is_refused(tmp_path: Path) -> None:
    published = ViT("test_vit", weights=None)
    torch.save({"state_dict": vitpose_plus(published, 16)}, tmp_path / "vitpose+.pth")
    with pytest.raises(InputError, match="another network"):
        load_weights(Small(), str(tmp_path / "vitpose+.pth"))


def test_shapes_that_fit_nowhere_are_bad_input(tmp_path: Path) -> None:
    """A number in the place of each tensor that is put together."""
    state = vitpose_plus(ViT("test_vit", weights=None), 16)
    for change in (state, as_transformers(state)):
        numbers = {name: torch.tensor(1.0) for name in change}
        torch.save({"state_dict": numbers}, tmp_path / "odd.pth")
        with pytest.raises(InputError, match="another network"):
            load_weights(Small(), str(tmp_path / "odd.pth"))
