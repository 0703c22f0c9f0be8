"""Which layer of a backbone a parameter belongs to, and the optimiser's groups that follow from it."""

from __future__ import annotations

import re
from typing import Any

from torch import nn

from catpose.errors import InputError

#: A block's name in timm's networks: `blocks.5` (ViT), `layer1.0` (ResNet), `stage3.2` (HRNet), `blocks.3.1`
#: (MobileNetV2), `stages_2.blocks.5` (ConvNeXt). What has none belongs to the block before it, a stem to none.
_BLOCK = re.compile(r"(?:model\.)?((?!conv|stem|transition)\w+(?:\.\d+)*(?:\.blocks)?(?:\.\d+)+)\.")


def layers_of(backbone: nn.Module) -> dict[str, int]:
    """Each parameter's layer: 0 for what comes before the first block, then the blocks from 1 on.

    Raises:
        InputError: no two blocks can be told from the names.
    """
    blocks: dict[str, int] = {}
    layers, layer = {}, 0
    for name, _ in backbone.named_parameters():
        block = _BLOCK.match(name)
        if block:
            layer = blocks.setdefault(block[1], len(blocks) + 1)
        layers[name] = layer
    if len(blocks) < 2:
        raise InputError("model.layer_decay: this backbone's names don't tell its layers; give 1, one rate for all")
    return layers


def is_shift_or_scale(name: str, parameter: nn.Parameter) -> bool:
    """Whether a parameter, of any shape, shifts or scales activations: a bias, a norm's, an embedding, a token.

    It is no kernel, which torch and timm call weight.
    """
    return parameter.ndim <= 1 or "weight" not in name.rsplit(".", 1)[-1]


def parameter_groups(
    model: nn.Module, lr: float, weight_decay: float, layer_decay: float, decay_all: bool
) -> list[dict[str, Any]]:
    """The optimiser's groups: one for each pair of learning rate and weight decay, the highest rate first.

    Layer l of the L in `model.backbone` (see `layers_of`) learns at `lr`·`layer_decay`^(L + 1 - l), all else at `lr`:
    Clark et al., "ELECTRA", ICLR 2020; Bao et al., "BEiT", ICLR 2022; Xu et al., "ViTPose", NeurIPS 2022.

    Args:
        decay_all: of `weight_decay`; else biases, norms' parameters, embeddings and class tokens have none.
    """
    layers = layers_of(model.get_submodule("backbone")) if layer_decay != 1 else {}
    top = max(layers.values(), default=0) + 1
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        rate = lr * layer_decay ** (top - layers.get(name.removeprefix("backbone."), top))
        decay = weight_decay if decay_all or not is_shift_or_scale(name, parameter) else 0.0
        groups.setdefault((rate, decay), []).append(parameter)
    ordered = sorted(groups.items(), key=lambda item: item[0], reverse=True)
    return [{"params": each, "lr": rate, "weight_decay": decay} for (rate, decay), each in ordered]
