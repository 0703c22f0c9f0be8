"""How others name and store the weights of networks that we have: rules from their names to ours, and what is stored in
parts put together.

Sources: MMPose 1.3 (mmpose/models/backbones/resnet.py, mmpose/datasets/datasets/utils.py), torchvision
(torchvision/models/mobilenetv2.py), DeepLabCut 3 (deeplabcut/pose_estimation_pytorch/models/heads/simple_head.py,
deeplabcut/modelzoo/), ViTPose (tools/model_split.py), transformers (models/vitpose/convert_vitpose_to_hf.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from catpose.skeleton import AP10K, COCO_PERSON

# Rules (pattern, replacement), applied in order, turn a layout's names into ours: `backbone.` and timm's name, or
# `head.deconv` and `head.final`. The layout that fills most of the model is taken; the first, where several do.
Rules = list[tuple[str, str]]
_HEAD: Rules = [
    (r"^(?:keypoint_)?(?:head\.)?deconv_layers\.", "head.deconv."),
    (r"^(?:keypoint_)?(?:head\.)?final_layer\.", "head.final."),
]
# Three ConvModules (Conv2d, BatchNorm2d) for the stem; no place-holder where layer1's shortcut would pool (MMPose 1.3,
# mmpose/models/backbones/resnet.py).
_DEEP_STEM: Rules = [
    (r"^backbone\.stem\.0\.conv\.", "backbone.conv1.0."),
    (r"^backbone\.stem\.0\.bn\.", "backbone.conv1.1."),
    (r"^backbone\.stem\.1\.conv\.", "backbone.conv1.3."),
    (r"^backbone\.stem\.1\.bn\.", "backbone.conv1.4."),
    (r"^backbone\.stem\.2\.conv\.", "backbone.conv1.6."),
    (r"^backbone\.stem\.2\.bn\.", "backbone.bn1."),
    (r"^backbone\.layer1\.0\.downsample\.1\.", "backbone.layer1.0.downsample.2."),
    (r"^backbone\.layer1\.0\.downsample\.0\.", "backbone.layer1.0.downsample.1."),
]
# One list of blocks for all stages, and the layers of a block by number (torchvision/models/mobilenetv2.py); the first
# block has no expansion.
_MOBILENET_BLOCKS = [(stage, i) for stage, blocks in enumerate((1, 2, 3, 4, 3, 3, 1)) for i in range(blocks)]
_MOBILENET: Rules = [
    (r"^features\.0\.0\.", "conv_stem."),
    (r"^features\.0\.1\.", "bn1."),
    *[(rf"^features\.{n}\.conv\.", f"blocks.{s}.{i}.") for n, (s, i) in enumerate(_MOBILENET_BLOCKS, start=1)],
    (r"^blocks\.0\.0\.0\.0\.", "blocks.0.0.conv_dw."),
    (r"^blocks\.0\.0\.0\.1\.", "blocks.0.0.bn1."),
    (r"^blocks\.0\.0\.1\.", "blocks.0.0.conv_pw."),
    (r"^blocks\.0\.0\.2\.", "blocks.0.0.bn2."),
    (r"^(blocks\.[1-6]\.\d)\.0\.0\.", r"\1.conv_pw."),
    (r"^(blocks\.[1-6]\.\d)\.0\.1\.", r"\1.bn1."),
    (r"^(blocks\.[1-6]\.\d)\.1\.0\.", r"\1.conv_dw."),
    (r"^(blocks\.[1-6]\.\d)\.1\.1\.", r"\1.bn2."),
    (r"^(blocks\.[1-6]\.\d)\.2\.", r"\1.conv_pwl."),
    (r"^(blocks\.[1-6]\.\d)\.3\.", r"\1.bn3."),
    (r"^", "backbone."),
]
TIMM = "timm or torchvision"
LAYOUTS: dict[str, Rules] = {
    TIMM: [(r"^", "backbone.")],
    "catpose": [],
    "official HRNet or SimpleBaseline": [*_HEAD, (r"^(?!head\.)", "backbone.")],
    "MMPose": [*_HEAD, (r"^backbone\.last_norm\.", "backbone.norm.")],
    "MMPose with a deep stem": [*_HEAD, *_DEEP_STEM],
    "torchvision MobileNetV2": _MOBILENET,
    "DeepLabCut 3": [(r"^heads\.bodypart\.heatmap_head\.deconv_layers\.0\.", "head.final.")],
    "ViTPose of transformers": [
        (r"^backbone\.embeddings\.patch_embeddings\.projection\.", "backbone.patch_embed.proj."),
        (r"^backbone\.embeddings\.position_embeddings$", "backbone.pos_embed"),
        (r"^backbone\.encoder\.layer\.", "backbone.blocks."),
        (r"\.attention\.attention\.qkv\.", ".attn.qkv."),
        (r"\.attention\.output\.dense\.", ".attn.proj."),
        (r"\.layernorm_before\.", ".norm1."),
        (r"\.layernorm_after\.", ".norm2."),
        (r"^backbone\.layernorm\.", "backbone.norm."),
        (r"^head\.deconv1\.", "head.deconv.0."),
        (r"^head\.batchnorm1\.", "head.deconv.1."),
        (r"^head\.deconv2\.", "head.deconv.3."),
        (r"^head\.batchnorm2\.", "head.deconv.4."),
        (r"^head\.conv\.", "head.final."),
    ],
}

#: SuperAnimal-Quadruped's 39 keypoints in their order (superanimal_quadruped.yaml), under AP-10K's name where
#: conversion_table_quadruped.csv has one. It leaves AP-10K's elbow open, which is Animal-Pose's front knee there.
SUPERANIMAL_QUADRUPED = (
    *("nose", "upper_jaw", "lower_jaw", "mouth_end_right", "mouth_end_left"),
    *("right_eye", "right_earbase", "right_earend", "right_antler_base", "right_antler_end"),
    *("left_eye", "left_earbase", "left_earend", "left_antler_base", "left_antler_end"),
    *("neck", "neck_end", "throat_base", "throat_end", "back_base", "back_end", "back_middle"),
    *("root_of_tail", "tail_end", "left_shoulder", "left_elbow", "left_front_paw"),
    *("right_shoulder", "right_elbow", "right_front_paw", "left_back_paw", "left_hip", "right_hip"),
    *("left_knee", "right_knee", "right_back_paw", "belly_bottom", "body_middle_right", "body_middle_left"),
)
#: ViTPose++'s experts are of COCO, AIC, MPII, AP-10K, APT-36K, COCO-WholeBody; all but COCO have an associate head.
_COCO_EXPERT, _AP10K_EXPERT = 0, 3
_AP10K_HEAD = f"associate_keypoint_heads.{_AP10K_EXPERT - 1}."
_DEEPLABCUT_HEAD = "heads.bodypart.heatmap_head.deconv_layers.0.weight"


def assembled(tensors: dict[str, Tensor], content: object) -> tuple[dict[str, Tensor], tuple[str, ...] | None]:
    """The tensors (…) of a file, of any shape, with what it keeps in parts put together; and its heatmaps' keypoints.

    Of ViTPose++ that is the network of its AP-10K expert, with AP-10K's head where the file has that.

    Args:
        content: the whole file's.

    Returns:
        the tensors; names of the keypoints in their order, None where neither the file nor its publisher tells.
    """
    tensors = _joined_attention(tensors)
    if any(".mlp.experts." in name for name in tensors):
        return _of_one_expert(tensors)
    if _DEEPLABCUT_HEAD in tensors:
        return _with_convolution(tensors)
    if any(name.startswith("backbone.encoder.layer.") for name in tensors):
        return tensors, tuple(COCO_PERSON)
    return tensors, _mmpose_keypoints(content)


def _joined_attention(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """transformers has query, key and value apart, timm one after the other in one matrix."""
    joined = {}
    for name, tensor in tensors.items():
        if ".attention.attention.query." in name and tensor.dim():
            parts = [tensors.get(name.replace(".query.", f".{part}.")) for part in ("key", "value")]
            rows = [tensor, *(part for part in parts if part is not None and part.shape == tensor.shape)]
            joined[name.replace(".query.", ".qkv.")] = torch.cat(rows)
        elif ".attention.attention." not in name:
            joined[name] = tensor
    return joined


def _of_one_expert(tensors: dict[str, Tensor]) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """ViTPose++'s second layer of each block is a part that all data share, and one that each has of its own."""
    has_ap10k = any(f".mlp.experts.{_AP10K_EXPERT}." in name for name in tensors)
    expert = _AP10K_EXPERT if has_ap10k else _COCO_EXPERT
    chosen = {}
    for name, tensor in tensors.items():
        own = tensors.get(name.replace(".mlp.fc2.", f".mlp.experts.{expert}."))
        if ".mlp.fc2." in name and own is not None and own.dim() and own.shape[1:] == tensor.shape[1:]:
            chosen[name] = torch.cat([tensor, own])
        elif ".mlp.experts." not in name and not name.startswith("associate_"):
            chosen[name] = tensor
    if f"{_AP10K_HEAD}final_layer.weight" not in tensors:
        return chosen, tuple(COCO_PERSON)
    for name, tensor in tensors.items():
        if name.startswith(_AP10K_HEAD):  # some have as many heatmaps as the largest data
            last = name.startswith(f"{_AP10K_HEAD}final_layer.")
            chosen[name.replace(_AP10K_HEAD, "keypoint_head.")] = (
                tensor[: len(AP10K)] if last and tensor.dim() else tensor
            )
    return chosen, AP10K.names


def _with_convolution(tensors: dict[str, Tensor]) -> tuple[dict[str, Tensor], tuple[str, ...] | None]:
    """DeepLabCut's HRNet ends in a deconvolution of 1x1, (in, out, 1, 1), which is a convolution, (out, in, 1, 1)."""
    last = tensors[_DEEPLABCUT_HEAD]
    if last.shape[2:] != (1, 1):
        return tensors, None
    is_quadruped = last.shape[1] == len(SUPERANIMAL_QUADRUPED)
    return tensors | {_DEEPLABCUT_HEAD: last.transpose(0, 1)}, SUPERANIMAL_QUADRUPED if is_quadruped else None


def _mmpose_keypoints(content: object) -> tuple[str, ...] | None:
    """MMPose 1's checkpoints hold `meta.dataset_meta.keypoint_id2name`."""
    found: Any = content
    for key in ("meta", "dataset_meta", "keypoint_id2name"):
        found = found.get(key) if isinstance(found, Mapping) else None
    if not isinstance(found, Mapping) or not all(isinstance(name, str) for name in found.values()):
        return None
    return tuple(found[i] for i in range(len(found))) if found.keys() == {*range(len(found))} else None


def differing_heads(tensors: Mapping[str, Tensor], network: object) -> str:
    """What tensors of any shape don't tell: ViTPose's S has 12 heads of attention, timm's 6; "" for nothing."""
    ours = getattr(getattr(next(iter(getattr(network, "blocks", [])), None), "attn", None), "num_heads", 12)
    norm = tensors.get("backbone.last_norm.weight", tensors.get("backbone.layernorm.weight", torch.empty(0)))
    if norm.shape != (384,) or ours == 12:
        return ""
    return f"ViTPose-S has 12 heads of attention, this network {ours}: each block begins as another function"
